"""The switching input of `latch` against a search for where its unit rests, and its units against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from gradscope.papers import latch as paper


@pytest.mark.parametrize("w", paper.WEIGHTS)
def test_the_smallest_switching_input_is_the_largest_that_leaves_a_negative_state_to_rest_in(w):
    """A state x rests under the input artanh(x) - w x."""
    found = minimize_scalar(lambda x: w * x - np.arctanh(x), bounds=(-1 + 1e-12, 0), method="bounded")
    assert paper._smallest(w) == pytest.approx(-found.fun, rel=1e-9, abs=1e-12)


def test_states_under_constant_inputs_are_those_of_a_loop_across_blocks(monkeypatch):
    monkeypatch.setattr(paper, "BLOCK", 3)
    weights, start = (1.2, 2.0), np.array([[0.1, -0.5, 0.9], [0.0, 0.2, -0.3]])
    inputs = np.array([[0.0, 0.3, -0.2], [0.1, 0.0, 0.4]])
    expected = [start]
    for _ in range(8):
        expected.append(np.tanh(np.array(weights)[:, None] * expected[-1] + inputs))
    parts = [part.copy() for part in paper._held(weights, start, inputs, 8)]
    found = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(found, np.stack(expected[1:], axis=1), rtol=1e-14)
    np.testing.assert_array_equal(paper._last(weights, start, inputs, 8), found[:, -1])


def test_factors_are_the_slopes_of_the_map():
    inputs = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    x, slopes = np.full(3, -0.4), []
    for u in inputs:
        x = np.tanh(1.5 * x + u)
        slopes.append(1.5 * (1 - x**2))
    np.testing.assert_allclose(paper._factors(1.5, -0.4, inputs), slopes[1:], rtol=1e-10)
