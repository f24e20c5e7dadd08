"""Claims: which numbers hold, which fail, which are not decided; and that no claim can hold for want of numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope.claims import COLUMNS, FAILS, HOLDS, NUMBERS, UNDECIDED, Claim, judge, summary
from gradscope.errors import GradscopeError, InputError

NAN = float("nan")
INF = float("inf")


def claim(expected=1.0, quantity="t.x", **more):
    return Claim("x is as said", quantity, expected, "Nobody (1900)", **{"rtol": 1e-9} | more)


def table(values, error=None, **more):
    columns = {"x": values, **({} if error is None else {"x_error": error}), **more}
    index = pd.Index(np.arange(len(values)) / 2, name="w")
    return {"t": pd.DataFrame(columns, index=index, dtype=float)}


def verdicts(one, tables):
    return judge([one], tables)["verdict"].tolist()


@pytest.mark.parametrize(
    ("relation", "measured", "expected", "good"),
    [
        ("=", 1 + 1e-10, 1.0, True),
        ("=", 1 + 1e-8, 1.0, False),
        ("=", -INF, -INF, True),
        ("=", INF, -INF, False),
        ("=", INF, 1.0, False),
        ("=", NAN, 1.0, False),
        ("=", 1.0, NAN, False),
        ("<=", 0.0, 1.0, True),
        ("<=", 1 + 1e-10, 1.0, True),
        ("<=", 1 + 1e-8, 1.0, False),
        ("<=", -INF, 1.0, True),
        ("<=", NAN, 1.0, False),
        (">=", 2.0, 1.0, True),
        (">=", 1 - 1e-10, 1.0, True),
        (">=", 1 - 1e-8, 1.0, False),
        (">=", -INF, 1.0, False),
    ],
)
def test_verdicts(relation, measured, expected, good):
    assert verdicts(claim(expected, relation=relation), table([measured])) == [HOLDS if good else FAILS]


@pytest.mark.parametrize(("relation", "good"), [("<", [True, False, False]), (">", [False, False, True])])
def test_strict_relations_have_no_tolerance(relation, good):
    one = claim(1.0, relation=relation, rtol=0.0, kind="qualitative")
    assert verdicts(one, table([0.9, 1.0, 1.1])) == [HOLDS if held else FAILS for held in good]


@given(
    measured=st.floats(-1e6, 1e6),
    expected=st.floats(-1e6, 1e6),
    rtol=st.floats(1e-12, 0.5),
    atol=st.floats(0.0, 10.0),
)
def test_an_equality_holds_as_numpy_says(measured, expected, rtol, atol):
    close = bool(np.isclose(measured, expected, rtol=rtol, atol=atol))
    assert verdicts(claim(expected, rtol=rtol, atol=atol), table([measured])) == [HOLDS if close else FAILS]


def test_a_sampled_claim_is_as_near_as_its_standard_error_says():
    one = claim(10.0, kind="sampled", rtol=0.0, errors=4.0, precision=0.05)
    found = judge([one], table([10.0, 11.9, 12.1, 10.0, 10.0], error=[0.5, 0.5, 0.5, 0.6, NAN]))
    assert found["verdict"].tolist() == [HOLDS, HOLDS, FAILS, UNDECIDED, UNDECIDED]
    np.testing.assert_allclose(found["low"][:2], [10 - 0.98, 11.9 - 0.98])
    np.testing.assert_allclose(found["high"][:2], [10 + 0.98, 11.9 + 0.98])
    assert found["tolerance"][0] == "4 standard errors; standard error at most 5 %"


def test_the_limit_of_a_standard_error_is_absolute_where_0_is_expected():
    one = claim(0.0, kind="sampled", rtol=0.0, atol=0.5, precision=0.06)
    assert one.tolerance == "\u00b1 0.5; standard error at most 0.06"
    assert verdicts(one, table([0.1, 0.1], error=[0.05, 0.07])) == [HOLDS, UNDECIDED]


def test_an_interval_that_is_given_is_the_interval():
    found = judge([claim()], table([1.0], error=[0.1], x_low=[0.5], x_high=[1.5]))
    assert found[["low", "high"]].to_numpy().tolist() == [[0.5, 1.5]]


def test_an_interval_alone_says_how_sure_it_is():
    one = claim(1.0, kind="sampled", rtol=0.1, precision=0.06)
    found = judge([one], table([1.0, 1.0, 1.0], x_low=[0.9, 0.8, NAN], x_high=[1.1, 1.2, NAN]))
    assert found["verdict"].tolist() == [HOLDS, UNDECIDED, UNDECIDED]  # standard errors of .051 and .102


def test_exact_numbers_have_no_interval():
    assert judge([claim()], table([1.0]))[["low", "high"]].isna().all(axis=None)


def test_expected_may_be_a_column_or_points():
    law = table([1.0, 2.0, 3.0], law=[1.0, 2.0, 4.0])
    assert verdicts(claim("law"), law) == [HOLDS, HOLDS, FAILS]
    found = judge([claim(((1.0, 3.0), (0.5, 7.0)))], law)
    assert found["point"].tolist() == ["w = 1", "w = 0.5"]
    assert found["expected"].tolist() == [3.0, 7.0]
    assert found["verdict"].tolist() == [HOLDS, FAILS]


def test_points_of_several_parameters():
    index = pd.MultiIndex.from_tuples([("full", 5), ("fixed:5", 5)], names=["truncation", "seq_len"])
    tables = {"t": pd.DataFrame({"x": [1.0, 2.0]}, index=index)}
    found = judge([claim(((("fixed:5", 5), 2.0),))], tables)
    assert found[["point", "verdict"]].to_numpy().tolist() == [["truncation = fixed:5, seq_len = 5", HOLDS]]


def test_points_are_told_apart_however_small_they_are():
    tables = {"t": pd.DataFrame({"x": [1.0, 2.0]}, pd.Index([1e-9, 5e-9], name="excess"))}
    assert judge([claim(((5e-9, 2.0),))], tables)["point"].tolist() == ["excess = 5e-09"]


def test_texts_are_no_numbers():
    with pytest.raises(GradscopeError, match=r"t\.x is no number"):
        judge([claim()], {"t": pd.DataFrame({"x": ["1"]})})


def test_a_table_without_rows_was_not_measured():
    with pytest.raises(GradscopeError, match="was not measured"):
        judge([claim()], table([]))


def test_a_condition_chooses_rows():
    assert verdicts(claim(where="w > 0.4"), table([5.0, 1.0, 2.0])) == [HOLDS, FAILS]


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (claim(quantity="other.x"), "other.x was not measured"),
        (claim(quantity="t.y"), "t.y was not measured"),
        (claim("law"), "t.law was not computed"),
        (claim(where="w > 9"), "x is as said: where: 'w > 9' holds for none of the 2 rows"),
        (claim(((9.0, 1.0),)), "0 rows of t.x are at 9"),
        (claim((("w", 1.0),)), "0 rows of t.x are at w"),
        (claim(where="w =="), "x is as said: where: 'w =='"),
        (claim(where="speed > 1"), "name 'speed' is not defined.*allowed: a condition on w, x"),
        (claim(where="'w'"), "'w' is no condition|\"'w'\" is no condition"),
        (claim(kind="sampled", errors=4.0, precision=0.1), "t.x has no standard error, x_error"),
        (claim((((0.5, 1), 1.0),)), r"0 rows of t.x are at \(0.5, 1\)"),
    ],
)
def test_no_claim_holds_for_want_of_numbers(one, message):
    with pytest.raises(GradscopeError, match=message):
        judge([one], table([1.0, 1.0]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "lawful"}, "unknown kind 'lawful'.*did you mean 'law'"),
        ({"basis": "hearsay"}, "unknown basis 'hearsay'"),
        ({"relation": "~"}, "unknown relation '~'"),
        ({"rtol": 0.0}, "a law without a tolerance"),
        ({"atol": -1.0}, "atol = -1.0; allowed: a number from 0 on"),
        ({"rtol": INF}, "rtol = inf; allowed: a number from 0 on"),
        ({"rtol": 0.0, "kind": "limit"}, "a law without a tolerance"),
        ({"errors": 4.0, "kind": "sampled"}, "no limit to the standard error"),
        ({"rtol": 0.03, "kind": "sampled"}, "no limit to the standard error"),
        ({"relation": "<"}, "< with a tolerance"),
        ({"quantity": "x"}, "'x'; allowed: TABLE.COLUMN"),
    ],
)
def test_claims_that_say_nothing_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        claim(**wrong)


def test_a_summary_shows_the_point_nearest_to_failing():
    tables = table([1.0, 1.0 + 5e-10, 1.0], y=[0.1, 0.7, 0.2], z=[9.0, 9.0, 1.0])
    three = [
        claim(),
        Claim("y is below 1", "t.y", 1.0, "Nobody (1900)", relation="<"),
        Claim("z is 9", "t.z", 9.0, "Nobody (1900)", rtol=1e-9),
    ]
    found = summary(judge(three, tables))
    assert found["point"].tolist() == ["w = 0.5", "w = 0.5", "w = 1"]
    assert found["verdict"].tolist() == [HOLDS, HOLDS, FAILS]
    assert found[["held", "points"]].to_numpy().tolist() == [[3, 3], [3, 3], [2, 3]]


def test_a_bound_is_nearest_where_it_is_highest():
    tables = table([0.1, -3.0, 0.6], law=[1.0, 1.0, 1.0])
    found = summary(judge([claim("law", relation="<=", kind="bound")], tables))
    assert found["point"].tolist() == ["w = 1"]


def test_undecided_is_not_held():
    one = claim(1.0, kind="sampled", rtol=0.0, errors=4.0, precision=0.01)
    (row,) = summary(judge([one], table([1.0, 1.0], error=[0.001, 0.5]))).itertuples()
    assert (row.verdict, row.held, row.points, row.point) == (UNDECIDED, 1, 2, "w = 0.5")


def test_the_columns_are_those_that_are_written():
    found = judge([claim()], table([1.0]))
    assert tuple(found) == COLUMNS
    assert all(pd.api.types.is_numeric_dtype(found[name]) for name in NUMBERS)
