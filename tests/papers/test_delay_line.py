"""The laws of `delay-line` by other means, and its averages of norms at any magnitude."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from gradscope.papers import delay_line as paper


@pytest.mark.parametrize(("alpha", "units", "lag"), [(1.05, 100, 50), (0.9, 7, 1), (1.3, 10, 9)])
def test_the_mean_norm_is_that_of_a_beta_distribution(alpha, units, lag):
    left = beta((units - lag) / 2, lag / 2).expect(np.sqrt)
    assert paper._mean_law(alpha, units, lag) == pytest.approx(alpha**lag * left, rel=1e-6)


@given(alpha=st.floats(0.1, 3.0), units=st.integers(2, 40), data=st.data())
def test_the_root_mean_square_is_that_of_the_matrix_power(alpha, units, data):
    lag = data.draw(st.integers(0, units + 2))
    power = np.linalg.matrix_power(np.diag(np.full(units - 1, alpha), -1), lag)
    assert paper._rms_law(alpha, units, lag) == pytest.approx(np.linalg.norm(power) / np.sqrt(units), rel=1e-12)


def test_root_mean_squares_are_exact_far_from_1():
    log10 = np.array([[-400.0, -400.0], [300.0, -np.inf], [-np.inf, -np.inf], [0.0, np.log10(7.0)]])
    found = paper._log10_rms(log10)
    np.testing.assert_allclose(found[[0, 1, 3]], [-400.0, 300.0 - 0.5 * np.log10(2.0), np.log10(5.0)], rtol=1e-14)
    assert np.isneginf(found[2])


def test_losses_send_back_the_directions_asked_for():
    directions = np.array([[3.0, 0.0, 4.0], [0.0, 1.0, 0.0]])
    norms = 10.0 ** paper._log10_norms(paper._line(2.0, 3), directions, 3)
    np.testing.assert_allclose(norms, [[5.0, 1.0], [8.0, 2.0], [16.0, 0.0]], rtol=1e-13)
