"""Guards the random streams: one for each seed and purpose, none depending on another, nor on how much is drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope.streams import coins, stream

seeds = st.integers(0, 2**32)


@given(seed=seeds, purpose=st.sampled_from(["x", "W_hh gaussian", "coins", ""]))
def test_same_seed_and_purpose_give_the_same_numbers(seed, purpose):
    np.testing.assert_array_equal(stream(seed, purpose).random(5), stream(seed, purpose).random(5))


@given(seed=seeds)
def test_purposes_and_seeds_give_different_numbers(seed):
    purposes = ("W_hh gaussian", "W_hh orthogonal", "W_xh", "W_hy", "coins", "x", "y", "")
    drawn = [stream(s, purpose).random() for s in (seed, seed + 1) for purpose in purposes]
    assert len(set(drawn)) == len(drawn)


def test_drawing_from_one_stream_leaves_the_others_alone():
    alone = stream(3, "y").random(4)
    first, second = stream(3, "x"), stream(3, "y")
    first.random(1000)
    np.testing.assert_array_equal(second.random(4), alone)


def test_streams_are_uncorrelated():
    N = 20_000
    a, b, c = (stream(*key).standard_normal(N) for key in ((0, "x"), (0, "y"), (1, "x")))
    for correlation in (a @ b / N, a @ c / N, b @ c / N):
        assert abs(correlation) < 4 / np.sqrt(N)


@given(seed=seeds, short=st.integers(1, 40), more=st.integers(0, 40))
def test_coins_of_a_shorter_sequence_are_a_prefix(seed, short, more):
    np.testing.assert_array_equal(coins([seed], short + more)[:, :short], coins([seed], short))


def test_coins_of_a_seed_do_not_depend_on_the_seeds_beside_it():
    together = coins([7, 2, 9], 11)
    assert together.shape == (3, 11)
    for row, seed in zip(together, (7, 2, 9), strict=True):
        np.testing.assert_array_equal(row, coins([seed], 11)[0])


def test_coins_are_uniform():
    tossed = coins(range(50), 400)
    assert 0 <= tossed.min() < tossed.max() < 1
    for pi in (0.1, 0.5, 0.9):
        assert abs((tossed < pi).mean() - pi) < 4 * np.sqrt(pi * (1 - pi) / tossed.size)


@pytest.mark.parametrize(
    ("seed", "purpose", "first"), [(0, "x", 0.23447714344812975), (1, "coins", 0.7955583480162002)]
)
def test_numbers_are_those_of_earlier_releases(seed, purpose, first):
    # All stored results rest on them: a change here is a new version of the numerics.
    assert stream(seed, purpose).random() == first
