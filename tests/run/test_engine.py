"""What the engine records of a batch is what `backprop` says of each run alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradscope as gs
from gradscope.engine import measure
from gradscope.grid import resolve
from gradscope.runs import Run

RECURRENT = ("W_xh", "W_hh", "b_h")


class One(NamedTuple):
    """What is recorded of one run."""

    run: Run
    row: dict[str, Any]
    lag: np.ndarray
    log10_dh: np.ndarray
    log10_dh_std: np.ndarray
    zero_share: np.ndarray
    log10_dc: np.ndarray | None = None
    log10_dc_std: np.ndarray | None = None
    zero_share_c: np.ndarray | None = None


def each(measured):
    """A measurement, run by run."""
    ends = np.cumsum(measured.seq_len)
    steps = [
        {name: column[end - T : end] for name, column in measured.steps.items()}
        for end, T in zip(ends, measured.seq_len, strict=True)
    ]
    rows = [dict(zip(measured.columns, row, strict=True)) for row in zip(*measured.columns.values(), strict=True)]
    return [One(run, row, **step) for run, row, step in zip(measured.runs, rows, steps, strict=True)]


def alone(run, truncation=None):
    """The run's gradients, from `backprop`."""
    cell, task = run.cell(), run.task()
    x, y, _ = task.draw(run["seed"], run["seq_len"], run["batch_size"], run["loss"])
    params = cell.init(
        run["seed"], run["spectral_radius"], run["ensemble"], run["input_scale"], input_power=task.input_power
    )
    return gs.backprop(
        cell,
        params,
        x,
        y,
        loss=run["loss"],
        loss_steps=run["loss_steps"],
        reduction=run["reduction"],
        truncation=truncation or run["truncation"],
        seed=run["seed"],
    )


def grid(**values):
    small = {"hidden_size": 5, "input_size": 3, "batch_size": 4, "input_scale": 0.5}
    return resolve("test", small | values).runs


GRIDS = [
    {
        "activation": activation,
        "spectral_radius": [0.7, 1.3],
        "seq_len": [4, 9],
        "truncation": ["full", "fixed:2", "chunked:3", "tbptt:2:5", "random:3", "random-unweighted:3"],
        "loss_steps": ["last", "all", 2, [1, 3, 4]],
        "reduction": ["mean", "sum"],
        "seeds": 2,
    }
    for activation in ("tanh", "relu", "sigmoid", "linear")
] + [
    {"task": "text", "input_size": None, "hidden_size": 7, "seq_len": [3, 8], "loss_steps": ["last", "all"]},
    {"task": "noise", "loss": "cross_entropy", "output_size": 4, "truncation": ["full", "fixed:3"], "seq_len": 6},
]


@pytest.mark.parametrize("values", GRIDS, ids=lambda values: values.get("activation", values.get("task")))
def test_each_run_of_a_batch_is_recorded_as_backprop_gives_it_alone(values):
    runs = resolve(
        "test",
        {
            key: value
            for key, value in (
                {"hidden_size": 5, "input_size": 3, "batch_size": 4, "input_scale": 0.5} | values
            ).items()
            if value is not None
        },
    ).runs
    for measured in each(measure(runs)):
        run, row, expected = measured.run, measured.row, alone(measured.run)
        assert row["status"] == expected.status == "ok"
        np.testing.assert_allclose(row["loss_value"], expected.loss, rtol=1e-12)
        for name, log10 in expected.log10_params.items():
            np.testing.assert_allclose(row[f"log10_grad_{name}"], log10, rtol=1e-10, atol=1e-12, err_msg=str(run))
        live = np.isfinite(expected.log10_dh)
        np.testing.assert_allclose(measured.zero_share, 1.0 - live.mean(axis=1), atol=1e-15)
        for t in range(run["seq_len"]):
            examples = expected.log10_dh[t, live[t]]
            if examples.size:
                np.testing.assert_allclose(measured.log10_dh[t], examples.mean(), rtol=1e-10, atol=1e-12)
                np.testing.assert_allclose(measured.log10_dh_std[t], examples.std(), rtol=1e-7, atol=1e-12)
            else:
                assert measured.log10_dh[t] == -np.inf


def test_error_and_cosine_are_those_of_all_recurrent_parameters_together():
    runs = grid(seq_len=8, truncation=["fixed:2", "chunked:3", "random:3"], loss_steps="all", seeds=3)
    for measured in each(measure(runs)):
        g, full = (
            np.concatenate([found.params[name].ravel() for name in RECURRENT])
            for found in (alone(measured.run), alone(measured.run, "full"))
        )
        error = np.linalg.norm(g - full) / np.linalg.norm(full)
        cosine = g @ full / np.linalg.norm(g) / np.linalg.norm(full)
        np.testing.assert_allclose(measured.row["relative_error"], error, rtol=1e-9)
        np.testing.assert_allclose(measured.row["cosine"], cosine, rtol=1e-9)


def test_the_joint_norm_is_that_of_all_parameters():
    for measured in each(measure(grid(seq_len=5, loss_steps="all"))):
        total = np.concatenate([array.ravel() for array in alone(measured.run).params.values()])
        np.testing.assert_allclose(measured.row["log10_grad"], np.log10(np.linalg.norm(total)), rtol=1e-10)


@given(
    radii=st.lists(st.floats(0.1, 2.0), min_size=1, max_size=3, unique=True),
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=3, unique=True),
    taus=st.lists(st.integers(1, 25), min_size=1, max_size=3, unique=True),
    seeds=st.lists(st.integers(0, 9), min_size=1, max_size=2, unique=True),
    activation=st.sampled_from(["tanh", "relu", "linear"]),
)
def test_shared_or_alone_results_agree_to_rounding(radii, lengths, taus, seeds, activation):
    specs = [f"{kind}:{tau}" for kind in ("fixed", "chunked", "tbptt:2", "random-unweighted") for tau in taus]
    specs = ["full", *(spec for spec in specs if spec != "tbptt:2:1"), *(f"random:{tau + 1}" for tau in taus)]
    runs = grid(
        spectral_radius=radii,
        seq_len=lengths,
        truncation=specs,
        seeds=seeds,
        activation=activation,
        loss_steps=["last", "all"] if min(lengths) < 3 else ["last", "all", [1, 3]],
    )
    for together in each(measure(runs))[:: max(1, len(runs) // 10)]:
        (single,) = each(measure([together.run]))
        for name, value in single.row.items():
            if isinstance(value, float):
                np.testing.assert_allclose(together.row[name], value, rtol=1e-12, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(together.log10_dh, single.log10_dh, rtol=1e-12, atol=1e-12)


def test_a_run_that_overflows_is_said_and_leaves_its_neighbours_alone():
    runs = grid(activation="linear", spectral_radius=[0.5, 40.0], seq_len=[100, 400], loss_steps=["last", "all"])
    for measured in each(measure(runs)):
        explodes = measured.run["spectral_radius"] == 40.0 and measured.run["seq_len"] == 400
        names = [name for name in measured.row if name.startswith("log10_grad") or name in ("relative_error", "cosine")]
        numbers = [measured.row[name] for name in names]
        if explodes:
            assert np.isnan(measured.row["loss_value"])
            assert measured.row["status"].startswith("forward overflow at step 1")
            assert np.isnan(numbers).all()
            assert np.isnan(measured.log10_dh).all()
        else:
            assert measured.row["status"] == "ok"
            assert np.isfinite(numbers).all()


def test_lag_counts_back_from_a_single_loss_step_and_else_from_the_last():
    lags = {
        m.run["loss_steps"]: list(m.lag) for m in each(measure(grid(seq_len=4, loss_steps=["last", "all", 3, [2, 3]])))
    }
    assert lags == {"last": [3, 2, 1, 0], "all": [3, 2, 1, 0], "3": [2, 1, 0, -1], "2,3": [3, 2, 1, 0]}


def test_the_realised_radius_and_the_norm_are_those_of_the_matrix_used():
    for measured in each(measure(grid(seq_len=2, spectral_radius=[0.3, 1.7], seeds=2))):
        run = measured.run
        W = run.cell().init(run["seed"], run["spectral_radius"])["W_hh"]
        np.testing.assert_allclose(
            measured.row["spectral_radius_realised"], np.abs(np.linalg.eigvals(W)).max(), rtol=1e-10
        )
        np.testing.assert_allclose(measured.row["spectral_norm"], np.linalg.norm(W, 2), rtol=1e-10)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_many_examples_go_in_parts_whose_threads_change_nothing(dtype):
    runs = grid(batch_size=150, seq_len=[5, 9], truncation=["full", "fixed:3", "random:3"], loss_steps=["last", "all"],
                spectral_radius=[0.8, 1.2], dtype=dtype)  # fmt: skip
    one, two = measure(runs), measure(runs, threads=2)
    for name, column in (one.columns | one.steps).items():
        np.testing.assert_array_equal(column, (two.columns | two.steps)[name], err_msg=name)
    if dtype == "float64":
        for measured in each(one):
            expected = alone(measured.run)
            np.testing.assert_allclose(measured.row["loss_value"], expected.loss, rtol=1e-12)
            for name, log10 in expected.log10_params.items():
                np.testing.assert_allclose(measured.row[f"log10_grad_{name}"], log10, rtol=1e-10, atol=1e-12)
            live = np.isfinite(expected.log10_dh)
            np.testing.assert_allclose(measured.zero_share, 1.0 - live.mean(axis=1), atol=1e-15)


def test_overflow_in_one_part_of_the_examples_is_the_runs():
    runs = grid(batch_size=130, activation="linear", spectral_radius=40.0, seq_len=400, input_scale=1.0)
    (found,) = each(measure(runs))
    assert found.row["status"] == alone(runs[0]).status != "ok"


# --- float32 ---------------------------------------------------------------------------------------------------------

SPECS = ["full", "fixed:5", "chunked:7", "random:5"]


def test_float32_agrees_with_float64_as_far_as_it_says():
    values = {
        "spectral_radius": [0.5, 0.9, 1.2],
        "seq_len": [10, 60],
        "truncation": SPECS,
        "loss_steps": ["last", "all"],
    }
    pair = [each(measure(grid(**values, batch_size=1, dtype=dtype))) for dtype in ("float32", "float64")]
    for rough, exact in zip(*pair, strict=True):
        assert "float32_error" not in exact.row
        live = np.isfinite(exact.log10_dh)
        np.testing.assert_array_equal(np.isfinite(rough.log10_dh), live)
        error = np.abs(10 ** (rough.log10_dh[live] - exact.log10_dh[live]) - 1).max()
        np.testing.assert_allclose(rough.row["float32_error"], error, rtol=1e-6)
        assert 0 < error < 1e-4
        for name in ("log10_grad_W_hh", "log10_grad_W_xh", "log10_grad", "loss_value"):
            np.testing.assert_allclose(rough.row[name], exact.row[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("radius", [0.5, 2.0])
@pytest.mark.parametrize("spec", ["full", "chunked:3000", "fixed:2900"])
def test_float32_norms_go_as_far_as_those_of_float64(radius, spec):
    runs = grid(
        activation="linear", ensemble="orthogonal", spectral_radius=radius, input_scale=0, seq_len=3000,
        truncation=spec, dtype="float32", batch_size=2,
    )  # fmt: skip
    (found,) = each(measure(runs))
    reached = found.lag < int(spec.partition(":")[2] or 3000)
    expected = np.where(reached, found.log10_dh[-1] + found.lag * np.log10(radius), -np.inf)
    np.testing.assert_allclose(found.log10_dh, expected, rtol=1e-6, atol=1e-4)
    assert found.row["float32_error"] < 1e-3


def test_float32_gradients_are_computed_in_float32():
    rough, exact = (each(measure(grid(seq_len=20, dtype=dtype)))[0] for dtype in ("float32", "float64"))
    assert 1e-9 < abs(rough.row["log10_grad_W_hh"] - exact.row["log10_grad_W_hh"]) < 1e-5


def test_float32_states_that_overflow_are_said_where_float32_ends():
    runs = grid(activation="linear", spectral_radius=40.0, seq_len=100, input_scale=1.0, dtype="float32")
    (found,) = each(measure(runs))
    assert found.row["status"].startswith("forward overflow at step 2")
    assert np.isnan(found.row["float32_error"])


def test_losses_at_the_end_of_float32s_range_are_no_warning():
    values = {"activation": "linear", "dtype": "float32", "spectral_radius": 1.8, "hidden_size": 8, "loss_steps": "all"}
    measured = measure(resolve("test", values | {"seq_len": list(range(100, 140))}).runs)
    losses = np.array([one.row["loss_value"] for one in each(measured)])
    ok = np.array([one.row["status"] == "ok" for one in each(measured)])
    assert (losses[ok] > 1e35).any()
    assert not np.isnan(losses[ok]).any()


# --- saturation ------------------------------------------------------------------------------------------------------

PLAIN = {  # f, and f' as a function of z
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: 0.25 / np.cosh(z / 2) ** 2),
    "relu": (lambda z: np.maximum(z, 0.0), lambda z: (z > 0).astype(float)),
    "linear": (lambda z: z, np.ones_like),
}


def slopes_alone(run):
    """f'(z_t) of the run, (T, B, n), step by step."""
    f, slope = PLAIN[run["activation"]]
    x, _, _ = run.task().draw(run["seed"], run["seq_len"], run["batch_size"], run["loss"])
    params = run.cell().init(
        run["seed"], run["spectral_radius"], run["ensemble"], run["input_scale"], run.task().input_power
    )
    h, found = np.zeros((run["batch_size"], run["hidden_size"])), []
    for inputs in x:
        z = inputs @ params["W_xh"].T + h @ params["W_hh"].T + params["b_h"]
        found.append(slope(z))
        h = f(z)
    return np.array(found)


@pytest.mark.parametrize("activation", sorted(PLAIN))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_mean_slope_is_that_of_a_plain_loop_over_the_runs_own_steps(activation, dtype):
    runs = grid(activation=activation, spectral_radius=[0.6, 1.8], seq_len=[1, 4, 13], seeds=2, dtype=dtype,
                loss_steps=["last", "all", 1], truncation=["full", "random:3"])  # fmt: skip
    for measured in each(measure(runs)):
        expected = slopes_alone(measured.run).mean()
        np.testing.assert_allclose(measured.row["mean_slope"], expected, rtol=1e-12 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_mean_slope_of_linear_networks_is_exactly_1(dtype):
    runs = grid(activation="linear", batch_size=150, hidden_size=7, seq_len=[3, 11, 49], dtype=dtype)
    assert measure(runs).columns["mean_slope"].tolist() == [1.0, 1.0, 1.0]


def test_saturated_units_have_small_slopes():
    runs = grid(input_scale=[0.01, 1.0, 100.0], seq_len=20)
    small, ordinary, large = (each(measure([run]))[0].row["mean_slope"] for run in runs)
    assert small > 0.99 > ordinary > 0.1 > large > 0


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_mean_slope_does_not_depend_on_how_examples_are_cut(activation):
    values = {"activation": activation, "seq_len": [5, 9], "batch_size": 150}
    runs, drawn = grid(**values), grid(**values, draws=3, truncation="random:3", minibatches=2)
    one, two = (measure(runs, threads=threads).columns["mean_slope"] for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one, [slopes_alone(run).mean() for run in runs], rtol=1e-12)
    for measured in each(measure(drawn)):
        np.testing.assert_allclose(measured.row["mean_slope"], slopes_alone(measured.run).mean(), rtol=1e-12)


def test_a_run_whose_states_overflow_has_no_mean_slope_even_where_its_loss_comes_before():
    runs = grid(
        activation="relu", ensemble="identity", spectral_radius=40.0, seq_len=[100, 400], loss_steps=["last", 3]
    )
    found = {(one.run["seq_len"], one.run["loss_steps"]): one.row for one in each(measure(runs))}
    assert {key: row["status"] == "ok" for key, row in found.items()} == {
        (100, "last"): True, (100, "3"): True, (400, "last"): False, (400, "3"): True,
    }  # fmt: skip
    assert {key: np.isnan(row["mean_slope"]) for key, row in found.items()} == {
        (100, "last"): False, (100, "3"): False, (400, "last"): True, (400, "3"): True,
    }  # fmt: skip


def test_a_cell_without_a_slope_for_each_unit_has_no_mean_slope():
    (gated,) = each(measure(grid(cell="lstm", seq_len=6)))
    assert np.isnan(gated.row["mean_slope"])


def test_problems_have_no_mean_slope():
    runs = resolve("test", {"task": "influence-balancing", "seq_len": 5, "iterations": 3}).runs
    assert "mean_slope" not in measure(runs).columns
