"""The moments of `random-truncation` against all patterns of coins, gone through in a loop, and against recursions."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope.papers import random_truncation as paper

WEIGHTS = st.floats(-0.95, 0.95)
PROBABILITIES = st.floats(0.05, 0.99)


def all_patterns(family, w, pi, T):
    """Mean, variance and fourth central moment of the estimator, over all 2**(T-1) patterns of coins."""
    found = []
    for coins in product((True, False), repeat=T - 1):  # of lag 0, 1, ...
        probability = np.prod([pi if heads else 1 - pi for heads in coins])
        if family == "one-coin":
            z = 1 + (coins[0] / pi) * sum(w**k for k in range(1, T))
        else:
            z, passed = 1.0, 1.0
            for lag, heads in enumerate(coins):
                passed *= heads / (pi if family == "random" else 1.0)
                z += passed * w ** (lag + 1)
        found.append((probability, z))
    p, z = np.array(found).T
    mean = p @ z
    return mean, p @ (z - mean) ** 2, p @ (z - mean) ** 4


@pytest.mark.parametrize("family", paper.FAMILIES)
@pytest.mark.parametrize(("w", "pi"), [(0.9, 0.75), (-0.7, 0.5), (0.5, 0.9)])
def test_sums_over_where_it_ends_are_sums_over_all_coins(family, w, pi):
    np.testing.assert_allclose(paper._moments(family, w, pi, 8), all_patterns(family, w, pi, 8), rtol=1e-10)


@given(w=WEIGHTS, pi=PROBABILITIES, T=st.integers(2, 30))
def test_the_variance_over_some_steps_follows_its_recursion(w, pi, T):
    """z_T = 1 + xi w z_{T-1}: Var z_T = (w^2/pi) Var z_{T-1} + w^2 (1/pi - 1) m_{T-1}^2."""
    variance, m = 0.0, 1.0
    for _ in range(T - 1):
        variance, m = w * w / pi * variance + w * w * (1 / pi - 1) * m * m, 1 + w * m
    assert paper._law_of_length(w, pi, T) == pytest.approx(variance, rel=1e-9, abs=1e-300)


@given(w=WEIGHTS, pi=PROBABILITIES)
def test_the_limit_is_a_fixed_point_of_the_recursion_or_infinite(w, pi):
    m, variance = paper._law("random", w, pi)
    assert m == pytest.approx(1 + w * m)
    if w * w < 0.99 * pi:
        assert variance == pytest.approx(w * w / pi * variance + w * w * (1 / pi - 1) * m * m, rel=1e-9, abs=1e-300)
    assert np.isinf(variance) == (w * w >= pi)


@pytest.mark.parametrize(("n0", "alpha"), paper.SCHEDULES)
def test_the_patterns_of_artbps_cuts_are_all_there_are(n0, alpha):
    shut = np.indices((2,) * 6).reshape(6, -1).T.astype(float)
    assert paper._probability(shut, n0, alpha).sum() == pytest.approx(1.0, rel=1e-14)
