"""The maps of `chaos` against themselves in exact arithmetic, and where its cycles are."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gradscope.papers import chaos as paper


def step(x, s):
    """The skew tent map, in whatever arithmetic."""
    return 1 - s * x if x > 0 else 1 + x / 2


def test_the_networks_are_the_maps():
    start, steps = np.array([0.15625]), 6  # short enough for sums that float64 holds exactly
    tent = paper._orbits(paper.tent(1.5), paper._states_of_tent(start), steps)[:, 0]
    skew = paper._orbits(paper.skew_tent(2.5), paper._states_of_skew_tent(start), steps)[:, 0]
    x, z = Fraction(5, 32), Fraction(5, 32)
    for t in range(steps):
        x, z = Fraction(3, 2) * min(x, 1 - x), step(z, Fraction(5, 2))
        assert tent[t].tolist() == [x, max(x - Fraction(1, 2), 0)]
        assert skew[t].tolist() == [max(z, 0), max(-z, 0)]


@pytest.mark.parametrize("s", [0.5, 1.5, 2.5, 3.5, 5.5, 7.5, 9.0])
def test_cycles_are_where_they_are_said_to_be(s):
    x = 0.3
    for _ in range(3000):
        x = step(x, s)
    orbit = [x]
    for _ in range(12):
        orbit.append(step(orbit[-1], s))
    repeats = [n for n in range(1, 5) if abs(orbit[n] - orbit[0]) < 1e-9]
    assert (repeats or [0])[0] == paper._period(s)


@pytest.mark.parametrize(("s", "slopes"), [(0.7, [0.7]), (1.6, [1.6, 0.5]), (3.2, [3.2, 0.5, 0.5])])
def test_the_exponent_of_a_cycle_is_the_mean_log_slope_along_it(s, slopes):
    assert paper._law(s, len(slopes)) == pytest.approx(np.log(slopes).mean(), rel=1e-14)
    assert np.isnan(paper._law(s, 0))


def test_averages_over_the_map_are_exact_on_a_cycle():
    mean, error = paper._average(1.5, seed=0, orbits=4, steps=400)
    assert mean == pytest.approx(np.log(0.75) / 2, rel=1e-12)
    assert error == pytest.approx(0.0, abs=1e-15)


def test_the_orbit_of_three_tenths_is_left_when_its_digits_are_used_up():
    collapse = paper._collapse()
    assert collapse.loc[collapse["x"] == 0.0, "step"].min() == 55
    assert (collapse.loc[collapse["step"] > 54, "log10"].isna()).all()
    assert set(collapse["true"]) == {0.8, 0.4}
