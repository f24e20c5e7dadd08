"""The law that `meanfield` is held to, by expansions; its medians and crossings."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from gradscope.papers import meanfield as paper


@pytest.mark.parametrize("eps", [1e-2, 1e-3])
def test_just_beyond_1_the_rate_is_that_of_its_expansion(eps):
    # E tanh^2 = D - 2 D^2 + 17/3 D^3 and E sech^4 = 1 - 2 D + 7 D^2: at g = 1 + eps D is eps, the rate 2/3 eps^2.
    assert paper.rate_by_quadrature(1.0 + eps, 0.0) == pytest.approx(2 / 3 * eps**2, rel=5 * eps)


@pytest.mark.parametrize("D", [1e-6, 1e-3])
def test_small_variances_have_the_moments_of_the_series(D):
    assert paper._value(D) == pytest.approx(D - 2 * D**2 + 17 / 3 * D**3, rel=30 * D**3 + 1e-12)
    assert paper._slope(D) == pytest.approx(1 - 2 * D + 7 * D**2, rel=40 * D**3 + 1e-12)


def test_large_variances_have_those_of_a_sign():
    # 1 - tanh^2 and its square integrate to 2 and 4/3, times the density at 0, 1 / sqrt(2 pi D).
    density = 1.0 / np.sqrt(2.0 * np.pi * 1e8)
    assert 1.0 - paper._value(1e8) == pytest.approx(2.0 * density, rel=1e-6)
    assert paper._slope(1e8) == pytest.approx(4.0 / 3.0 * density, rel=1e-6)


def test_the_gauss_hermite_rule_is_exact_for_polynomials_up_to_its_degree():
    # E z^2k = 1 3 5 ... (2k - 1)
    assert len(paper.RULE[0]) == 201
    assert paper._mean_of_nodes(lambda v: v**8, 4.0) == pytest.approx(4.0**4 * 105, rel=1e-12)


@pytest.mark.parametrize("sigma_u", [0.01, 0.3, 2.0])
def test_the_rate_is_0_at_the_critical_radius(sigma_u):
    assert paper.rate_by_quadrature(paper.radius_by_quadrature(sigma_u), sigma_u) == pytest.approx(0.0, abs=1e-12)


def test_intervals_of_medians_hold_them_with_96_percent():
    number = paper.DRAWS
    median, low, high, error = paper._median(np.arange(float(number))[::-1])
    assert median == (number - 1) / 2
    # The true median is above so many values, low + 1 at least and high at most.
    assert binom.cdf(high, number, 0.5) - binom.cdf(low, number, 0.5) == pytest.approx(0.96, abs=0.002)
    assert error == pytest.approx((high - low) / 2 / 1.96)


@pytest.mark.parametrize("shift", [-0.04, 0.0, 0.03])
def test_crossings_are_where_lines_through_two_rates_are_0(shift):
    points = {
        (scale, g): 0.3 * (g - law - shift) * np.ones(paper.DRAWS)
        for scale, radii in paper.SMALL_AT.items()
        for law in [paper.radius_by_quadrature(scale)]
        for g in radii
    }
    found = paper._crossings(points)
    np.testing.assert_allclose(found["radius"] - found["quadrature"], shift, atol=1e-9)
    assert list(found.index) == [scale for scale in paper.SMALL_AT if scale]
