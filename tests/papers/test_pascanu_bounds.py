"""The networks of `pascanu-bounds` are those of the published initialisations, and its slopes are slopes."""

from __future__ import annotations

import numpy as np
import pytest

from gradscope.papers import pascanu_bounds as paper
from gradscope.spectral import spectral_radius


def test_smart_networks_have_so_many_connections_a_unit_and_the_radius():
    draws = [paper._drawn(seed, paper.PUBLISHED["smart tanh"])[1]["W_hh"] for seed in range(3)]
    for W_hh in draws:
        assert ((W_hh != 0).sum(axis=1) == paper.CONNECTIONS).all()
        assert spectral_radius(W_hh) == pytest.approx(paper.RADIUS, rel=1e-10)
    assert len({tuple(W_hh.ravel() != 0) for W_hh in draws}) == 3


@pytest.mark.parametrize(("name", "scale"), [("sigmoid", 0.01), ("basic tanh", 0.1)])
def test_weights_have_the_published_standard_deviation(name, scale):
    network, params = paper._drawn(0, paper.PUBLISHED[name])
    assert network.activation == name.split()[-1]
    entries = np.concatenate([params[one].ravel() for one in ("W_hh", "W_xh", "W_hy")])
    assert entries.std() == pytest.approx(scale, rel=0.05)


def test_the_rate_is_the_slope_over_the_lags_after_the_transient():
    log10 = np.log10(0.7) * np.arange(paper.STEPS)
    log10[: paper.FROM_LAG] += 1.0
    assert paper._rate(log10) == pytest.approx(np.log(0.7), rel=1e-12)
    assert paper._factor(np.log([0.5, 0.5, 0.5])) == pytest.approx((0.5, 0.0), abs=1e-15)
