"""Guards the values of one key: what a range, a list and a single value stand for, and what they may not be."""

import re
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope.errors import InputError
from gradscope.values import NotNegative, Seed, Size, Steps, distinct, seeds_of, values_of

Phase = float | Literal["random"]


def between(start, stop, num):
    return {"start": start, "stop": stop, "num": num}


# --- ranges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "points"),
    [
        (between(0.5, 1.5, 21), [round(0.5 + 0.05 * k, 2) for k in range(21)]),
        (between(0.6, 1.4, 9), [0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4]),
        (between(0, 0.3, 4), [0, 0.1, 0.2, 0.3]),
        (between(1.5, 0.5, 3), [1.5, 1.0, 0.5]),
        (between(2, 2, 1), [2.0]),
        (between(0.7, 9, 1), [0.7]),
        (between(0, 1e-5, 3), [0, 5e-6, 1e-5]),
    ],
)
def test_range_gives_the_numbers_that_one_would_write(given, points):
    values = values_of(given, NotNegative, "radius")
    assert values == tuple(points)
    assert all(type(value) is float for value in values)


def test_range_of_a_size_gives_whole_numbers():
    values = values_of(between(10, 40, 4), Size, "seq_len")
    assert values == (10, 20, 30, 40)
    assert all(type(value) is int for value in values)


@given(ends=st.tuples(*[st.integers(0, 10**6)] * 2).filter(lambda ends: ends[0] != ends[1]), num=st.integers(2, 60))
def test_range_has_num_points_evenly_spaced_with_both_ends(ends, num):
    start, stop = ends[0] / 1000, ends[1] / 1000
    values = values_of(between(start, stop, num), float, "key")
    assert len(values) == num
    assert (values[0], values[-1]) == (start, stop)
    steps = np.diff(values)
    np.testing.assert_allclose(
        steps, (stop - start) / (num - 1), rtol=0, atol=1e-11 * max(start, stop)
    )  # 12 digits each


@given(start=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6), num=st.integers(2, 60))
def test_range_points_are_written_with_12_digits(start, width, num):
    values = values_of(between(start, start + width, num), float, "key")
    assert all(value == float(f"{value:.12g}") for value in values)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "missing.*start"),
        ({"start": 0.5, "stop": 1.5}, "missing.*num"),
        ({"start": 0.5, "stop": 1.5, "step": 0.1}, "unknown.*step"),
        (between(0.5, 1.5, 3) | {"endpoint": True}, "unknown.*endpoint"),
        (between(0.5, 1.5, 0), "num"),
        (between(0.5, 1.5, -3), "num"),
        (between(0.5, 1.5, 3.0), "num"),
        (between(0.5, 1.5, True), "num"),
        (between("0.5", 1.5, 3), "start"),
        (between(0.5, [1.5], 3), "stop"),
    ],
)
def test_range_that_cannot_be(given, message):
    allowed = re.escape("allowed: { start = number, stop = number, num = count }")
    with pytest.raises(InputError, match=f"^mine.toml, line 3, radius: range .*{message}.*{allowed}") as caught:
        values_of(given, NotNegative, "mine.toml, line 3, radius")
    assert "$" not in str(caught.value)  # that is how the validation library writes a path


@pytest.mark.parametrize("end", [float("inf"), float("-inf"), float("nan"), 1e308])
def test_range_with_an_end_that_cannot_be(end):
    with pytest.raises(InputError, match=r"^radius: "):
        values_of(between(-end, end, 3), NotNegative, "radius")


def test_range_of_one_number_several_times_is_refused():
    with pytest.raises(InputError, match=r"^radius: 1\.0 is listed twice"):
        values_of(between(1, 1, 3), NotNegative, "radius")


def test_range_of_a_size_between_whole_numbers_is_refused():
    with pytest.raises(InputError, match=r"^seq_len: 13\.3333333333; allowed: a whole number"):
        values_of(between(10, 20, 4), Size, "seq_len")


# --- values and lists ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kind", "values"),
    [
        (5, Size, (5,)),
        ([50, 25], Size, (50, 25)),
        (1, NotNegative, (1.0,)),
        (0, NotNegative, (0.0,)),
        ([1.5, 0.5, 1], NotNegative, (1.5, 0.5, 1.0)),
        ("tanh", str, ("tanh",)),
        (("tanh", "relu"), str, ("tanh", "relu")),
        (["last", 3, [1, 2]], Steps, ("last", 3, [1, 2])),
        ([0, "random", 1.5], Phase, (0.0, "random", 1.5)),
        (np.float64(1.5), NotNegative, (1.5,)),
        (np.int32(7), Size, (7,)),
        (np.array([0.5, 1.0]), NotNegative, (0.5, 1.0)),
        (np.array(1.5), NotNegative, (1.5,)),
    ],
)
def test_values_become_python_values_of_the_kind_in_the_given_order(given, kind, values):
    found = values_of(given, kind, "key")
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_zero_has_no_sign():
    # A run's id is the hash of its values as text, where 0.0 and -0.0 differ though the runs are the same.
    assert str(values_of([-0.0], NotNegative, "radius")[0]) == "0.0"


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (0, Size, "0; allowed: a whole number >= 1"),
        (-3, Size, "-3; allowed: a whole number >= 1"),
        (2.0, Size, r"2\.0; allowed: a whole number"),
        ("5", Size, "'5'; allowed: a whole number"),
        (True, Size, "True; allowed: a whole number"),
        (None, Size, "None; allowed: a whole number"),
        ([5, [6]], Size, r"\[6\]; allowed: a whole number"),
        ([5, {"start": 1}], Size, "allowed: a whole number"),
        (2**63, Size, "allowed: a whole number"),
        (10**30, Size, "allowed: a whole number"),
        (-1, NotNegative, "-1; allowed: a number >= 0"),
        ([1.0, -1e-9], NotNegative, "-1e-09; allowed: a number >= 0"),
        (float("nan"), NotNegative, "nan.*allowed: a .*number"),
        (float("inf"), NotNegative, "inf is not finite; allowed: a finite number"),
        pytest.param(10**400, NotNegative, "allowed: a", id="beyond float"),
        ("1.0", NotNegative, r"'1\.0'; allowed: a number"),
        (False, NotNegative, "False; allowed: a number"),
        (float("nan"), float, "nan is not finite; allowed: a finite number"),
        (3, str, "3; allowed: text"),
        (-1, Seed, "-1; allowed: a whole number >= 0"),
        (2**63, Seed, "allowed: a whole number"),
        (1.5, Steps, r"1\.5; allowed: .*whole number.*text.*list"),
        ([[1, "2"]], Steps, r"\[1, '2'\]; allowed: "),
        ("randm", Phase, "'randm'; allowed: .*'random'"),
        ("randm", Phase, "'randm'; allowed: .*a number"),
        ([], Size, "empty list; allowed: at least one value"),
        (np.array([]), NotNegative, "empty list; allowed: at least one value"),
        ([5, 6, 5], Size, "5 is listed twice"),
        ([1, 0.5, 1.0], NotNegative, r"1\.0 is listed twice"),
        ([[1, 2], [1, 2]], Steps, r"\[1, 2\] is listed twice"),
    ],
)
def test_value_that_cannot_be(given, kind, message):
    with pytest.raises(InputError, match=f"^mine.toml, line 3, key: .*{message}"):
        values_of(given, kind, "mine.toml, line 3, key")


def test_where_value_and_allowed_can_be_read_from_the_error():
    with pytest.raises(InputError, match="listed") as caught:
        distinct(["a", "b", "a"], "here")
    assert (caught.value.where, caught.value.what) == ("here", "'a' is listed twice")


# --- seeds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        (1, [0]),
        (5, [0, 1, 2, 3, 4]),
        ([7, 2], [7, 2]),
        ((3,), [3]),
        (np.arange(3), [0, 1, 2]),
        (np.int64(3), [0, 1, 2]),
    ],
)
def test_seeds_are_counted_from_0_or_listed(given, seeds):
    assert seeds_of(given, "seeds") == seeds


@pytest.mark.parametrize("given", [0, -1, 2.0, "3", True, None, between(0, 4, 5)])
def test_number_of_seeds_that_cannot_be(given):
    with pytest.raises(
        InputError, match=f"^seeds: {re.escape(repr(given))}; allowed: .*seeds >= 1, or a list of seeds"
    ):
        seeds_of(given, "seeds")
