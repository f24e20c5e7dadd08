"""How far back a gradient reaches, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope.reaching import SHARES, steps_until

LAGS = np.arange(400)


@given(rate=st.floats(0.02, 3.0), start=st.floats(-300.0, 300.0), share=st.floats(0.005, 0.95))
def test_of_an_exponential_it_is_what_the_rate_gives(rate, start, share):
    expected = np.log(share) / -rate
    norms = start - rate * LAGS / np.log(10.0)
    if expected < LAGS[-1]:
        assert steps_until(share, norms) == pytest.approx(expected, rel=1e-9)
    else:
        assert steps_until(share, norms) == np.inf


@given(st.lists(st.floats(-20.0, 20.0), min_size=2, max_size=30), st.sampled_from(list(SHARES.values())))
def test_at_lags_beyond_it_less_is_left_and_just_before_it_more(norms, share):
    found, decades = steps_until(share, norms), np.array(norms) - norms[0]
    if found == np.inf:
        assert decades[-1] > np.log10(share)
    else:
        assert decades[int(np.ceil(found - 1e-9)) :].max() <= np.log10(share) + 1e-12
        assert decades[: int(found) + 1].max() > np.log10(share)


def test_what_comes_back_farther_off_counts():
    assert steps_until(0.5, [0.0, -5.0, -5.0, 0.0, -1.0]) == pytest.approx(3 + np.log10(2.0))
    assert steps_until(0.5, [0.0, -5.0, -5.0, 0.0]) == np.inf


def test_a_gradient_that_ends_reaches_to_where_it_is_zero():
    assert steps_until(0.01, [1.0, 0.5, 0.0, -np.inf, -np.inf]) == 3.0


@pytest.mark.parametrize("norms", [[], [-np.inf, -np.inf], [np.nan, 1.0], [np.inf, 0.0]])
def test_without_a_gradient_at_lag_0_there_is_none(norms):
    assert np.isnan(steps_until(0.5, norms))


def test_lags_beyond_the_last_loss_do_not_count():
    assert steps_until(0.5, [0.0, -0.1, np.nan, np.nan]) == np.inf
    assert steps_until(0.5, [0.0, -1.0, np.nan, np.nan]) == pytest.approx(np.log10(2.0))
