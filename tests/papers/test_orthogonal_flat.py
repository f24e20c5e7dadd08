"""The matrices and losses that `orthogonal-flat` draws are what it says."""

from __future__ import annotations

import numpy as np
import pytest

from gradscope.papers import orthogonal_flat as paper


@pytest.mark.parametrize("vectors", ["independent", "equal"])
@pytest.mark.parametrize("draw", [0, 1])
def test_singular_values_are_within_their_bounds_or_at_them(vectors, draw):
    W_hh = paper._within(0, 0.3, vectors, draw)
    found = np.linalg.svd(W_hh, compute_uv=False)
    assert found.min() >= 0.7 - 1e-12
    assert found.max() <= 1.3 + 1e-12
    assert np.allclose(np.abs(found - 1.0), 0.3) == bool(draw)
    assert np.allclose(W_hh, W_hh.T) == (vectors == "equal")


def test_ratios_are_those_of_powers_of_the_matrix():
    W_hh = paper._within(0, 0.3, "independent", 0)
    directions = paper._directions(0, paper.UNITS)
    powers = np.stack([directions @ np.linalg.matrix_power(W_hh, lag) for lag in range(9)])
    norms = np.linalg.norm(powers, axis=2)
    np.testing.assert_allclose(10.0 ** paper._ratios(0, W_hh, 9), norms / norms[0], rtol=1e-12)


def test_glorots_weights_have_variance_1_over_n():
    entries = paper._glorot(np.random.default_rng(0), 400)
    assert entries.var() == pytest.approx(1 / 400, rel=0.01)
    assert np.abs(entries).max() <= np.sqrt(3 / 400)


def test_networks_of_the_same_draw_differ_in_their_weights_alone():
    assert np.array_equal(paper._sequences(0, 3)[0], paper._sequences(0, 3)[0])
    assert not np.array_equal(paper._sequences(0, 3)[0], paper._sequences(0, 4)[0])
    assert not np.array_equal(paper._sequences(0, 3)[0], paper._sequences(1, 3)[0])
