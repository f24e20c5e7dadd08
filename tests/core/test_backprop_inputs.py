"""Guards what `backprop` refuses, each with the argument's name, and what it takes without being asked twice."""

import numpy as np
import pytest
from problems import assert_same, problem

import gradscope as gs

T, B, N, M, P = 9, 2, 4, 3, 3


def run(change=None, params=None, loss="mse", **options):
    """backprop of a good problem with some arguments replaced."""
    case = problem(loss=loss)
    arrays = {"x": case.x, "y": case.y, "h0": case.h0} | (change or {})
    return gs.backprop(case.cell, case.params | (params or {}), loss=loss, **arrays, **options)


def with_value(shape, value):
    array = np.zeros(shape)
    array.flat[0] = value
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((T, B))}, r"^x: shape \(9, 2\); allowed: shape \(any, any, 3\)"),
        ({"x": np.zeros((T, B, M + 1))}, r"^x: shape \(9, 2, 4\); allowed: shape \(any, any, 3\)"),
        ({"x": np.zeros((0, B, M))}, r"^x: shape \(0, 2, 3\)"),
        ({"x": np.zeros((T, 0, M))}, r"^x: shape \(9, 0, 3\)"),
        ({"x": np.zeros((T - 1, B, M))}, r"^y: shape \(9, 2, 3\); allowed: shape \(8, 2, 3\)"),
        ({"x": [[[1.0, 2.0, 3.0]], [[1.0]]]}, r"^x: "),
        ({"x": 3.0}, r"^x: shape \(\)"),
        ({"x": None}, r"^x: dtype object; allowed: real numbers"),
        ({"x": np.zeros((T, B, M), complex)}, r"^x: dtype complex128; allowed: real numbers"),
        ({"x": np.zeros((T, B, M), bool)}, r"^x: dtype bool; allowed: real numbers"),
        ({"x": np.full((T, B, M), "1")}, r"^x: dtype <U1; allowed: real numbers"),
        ({"x": with_value((T, B, M), np.nan)}, r"^x: 1 value\(s\) not finite"),
        ({"x": with_value((T, B, M), -np.inf)}, r"^x: 1 value\(s\) not finite"),
        ({"y": np.zeros((T, B))}, r"^y: shape \(9, 2\); allowed: shape \(9, 2, 3\)"),
        ({"y": np.zeros((T, B, P + 1))}, r"^y: shape \(9, 2, 4\); allowed: shape \(9, 2, 3\)"),
        ({"y": np.zeros((T, B + 1, P))}, r"^y: shape \(9, 3, 3\); allowed: shape \(9, 2, 3\)"),
        ({"y": with_value((T, B, P), np.nan)}, r"^y: 1 value\(s\) not finite"),
        ({"y": np.zeros((T, B, P), complex)}, r"^y: dtype complex128"),
        ({"h0": np.zeros(N + 1)}, r"^h0: shape \(5,\); allowed: shape \(4\)"),
        ({"h0": np.zeros((B + 1, N))}, r"^h0: shape \(3, 4\); allowed: shape \(2, 4\)"),
        ({"h0": np.zeros((1, B, N))}, r"^h0: shape \(1, 2, 4\); allowed: shape \(2, 4\)"),
        ({"h0": 0.0}, r"^h0: shape \(\); allowed: shape \(2, 4\)"),
        ({"h0": with_value((B, N), np.inf)}, r"^h0: 1 value\(s\) not finite"),
    ],
)
def test_unusable_array_is_refused(change, message):
    with pytest.raises(gs.InputError, match=message):
        run(change)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"W_hh": np.zeros((N, N + 1))}, r"^W_hh: shape \(4, 5\); allowed: shape \(4, 4\)"),
        ({"W_xh": np.zeros((M, N))}, r"^W_xh: shape \(3, 4\); allowed: shape \(4, 3\)"),
        ({"b_h": np.zeros((N, 1))}, r"^b_h: shape \(4, 1\); allowed: shape \(4\)"),
        ({"W_hy": np.zeros((N, P))}, r"^W_hy: shape \(4, 3\); allowed: shape \(3, 4\)"),
        ({"b_y": np.float64(0)}, r"^b_y: shape \(\); allowed: shape \(3\)"),
        ({"b_y": with_value(P, np.nan)}, r"^b_y: 1 value\(s\) not finite"),
        ({"W_hh": np.full((N, N), "a")}, r"^W_hh: dtype <U1; allowed: real numbers"),
        ({"W_hz": np.zeros(3)}, r"^params: missing or unknown: W_hz; allowed: W_xh, W_hh, b_h, W_hy, b_y"),
    ],
)
def test_unusable_parameter_is_refused(params, message):
    with pytest.raises(gs.InputError, match=message):
        run(params=params)


def test_missing_parameter_is_refused():
    case = problem()
    params = {name: array for name, array in case.params.items() if name != "b_h"}
    with pytest.raises(gs.InputError, match=r"^params: missing or unknown: b_h; allowed: W_xh, W_hh, b_h"):
        gs.backprop(case.cell, params, case.x, case.y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros((T, B)), r"^y: dtype float64; allowed: integer classes"),
        (np.zeros((T, B), bool), r"^y: dtype bool; allowed: integer classes"),
        (np.zeros((T, B, P), int), r"^y: shape \(9, 2, 3\); allowed: shape \(9, 2\)"),
        (np.zeros((B, T), int), r"^y: shape \(2, 9\); allowed: shape \(9, 2\)"),
        (np.full((T, B), P), r"^y: classes from 3 to 3; allowed: 0 to 2"),
        (np.full((T, B), -1), r"^y: classes from -1 to -1; allowed: 0 to 2"),
        ([[0, 1], [0]], r"^y: "),
    ],
)
def test_unusable_classes_are_refused(y, message):
    with pytest.raises(gs.InputError, match=message):
        run({"y": y}, loss="cross_entropy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "men"}, r"^reduction: unknown reduction 'men'; allowed: mean, sum; did you mean 'mean'"),
        ({"reduction": "none"}, r"^reduction: unknown reduction 'none'; allowed: mean, sum"),
        ({"truncation": "fixd:3"}, "unknown truncation 'fixd'.*did you mean 'fixed'"),
        ({"truncation": "fixed:0"}, "'fixed:0': .*at least 1.*allowed: .*fixed:TAU"),
        ({"loss_steps": "lst"}, "^loss_steps: 'lst' names no steps; allowed: .*seq_len = 9"),
        ({"loss_steps": 10}, "^loss_steps: 10 does not fit; allowed: .*seq_len = 9"),
        ({"loss_steps": [0]}, r"^loss_steps: \[0\] does not fit"),
        ({"loss_steps": []}, r"^loss_steps: \[\] names no steps"),
    ],
)
def test_unusable_option_is_refused(options, message):
    with pytest.raises(gs.InputError, match=message):
        run(**options)


def test_unknown_loss_is_refused_with_the_near_miss():
    case = problem()
    with pytest.raises(gs.InputError, match=r"^loss: unknown loss 'crossentropy'; .*did you mean 'cross_entropy'"):
        gs.backprop(case.cell, case.params, case.x, case.y, loss="crossentropy")


def test_lists_integers_and_single_precision_are_taken_as_numbers():
    case = problem()
    x, y = np.round(case.x), np.round(case.y)
    expected = run({"x": x, "y": y})
    for change in (
        {"x": x.tolist(), "y": y.tolist()},
        {"x": x.astype(int), "y": y.astype(np.int8)},
        {"x": x.astype(np.float32), "y": y.astype(np.float32)},
    ):
        assert_same(run(change), expected, rtol=0)


def test_arguments_are_left_as_they_were():
    case = problem("relu")
    before = [array.copy() for array in (case.x, case.y, case.h0, *case.params.values())]
    case.backprop(loss_steps="all", truncation="fixed:3")
    for array, kept in zip((case.x, case.y, case.h0, *case.params.values()), before, strict=True):
        np.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize("loss_steps", ["last", "all", [2, 4]])
def test_defaults_are_mse_last_step_mean_full_and_zero_start(loss_steps):
    case = problem(started=False)
    options = {} if loss_steps == "last" else {"loss_steps": loss_steps}
    spelled = {
        "loss": "mse",
        "loss_steps": loss_steps,
        "reduction": "mean",
        "truncation": "full",
        "h0": np.zeros((B, N)),
    }
    arguments = case.cell, case.params, case.x, case.y
    assert_same(gs.backprop(*arguments, **options), gs.backprop(*arguments, **spelled), rtol=0)


def test_result_is_bit_for_bit_repeatable():
    first, again = (run(loss_steps="all", truncation="random:4", seed=3) for _ in range(2))
    assert first.loss == again.loss
    np.testing.assert_array_equal(first.log10_dh, again.log10_dh)
    for name, array in first.params.items():
        np.testing.assert_array_equal(array, again.params[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truncation": None}, "^truncation: None is no text; allowed: .*fixed:TAU"),
        ({"loss": ["mse"]}, "^loss: unknown loss"),
        ({"reduction": None}, "^reduction: unknown reduction"),
        ({"params": [1]}, "^params: a list; allowed: a mapping"),
        ({"seed": -1}, "^seed: -1; allowed: a whole number >= 0"),
    ],
)
def test_arguments_of_another_type_are_refused(change, message):
    cell = gs.cell("elman", hidden_size=2, input_size=1, output_size=1)
    arguments = {"params": cell.init(seed=0, spectral_radius=1.0), "x": np.ones((3, 1, 1)), "y": np.ones((3, 1, 1))}
    with pytest.raises(gs.InputError, match=message):
        gs.backprop(cell, **(arguments | change))


@pytest.mark.parametrize("radius", ["1", None, 1j, True, float("nan")])
def test_a_radius_that_is_no_number_is_refused(radius):
    with pytest.raises(gs.InputError, match="spectral_radius: must be at least 0"):
        gs.cell("elman", hidden_size=2, input_size=1, output_size=1).init(seed=0, spectral_radius=radius)
