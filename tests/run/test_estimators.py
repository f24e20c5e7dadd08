"""Truncated gradients as estimators: what is recorded of them against gradients found one by one, and closed laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import naive
from test_engine import alone

import gradscope as gs
from gradscope import truncations
from gradscope.engine import measure
from gradscope.estimators import groups_of, work
from gradscope.gradients import backprop
from gradscope.grid import resolve
from gradscope.streams import coin_draws

RECURRENT = ("W_xh", "W_hh", "b_h")
SMALL = {"hidden_size": 5, "input_size": 3, "batch_size": 4, "input_scale": 0.5, "seq_len": 9, "loss_steps": "all"}
TOSSING = ["random:3", "random-unweighted:4", "one-coin:3", "artbp:4:3", "variable:5:1:0.8"]
NOT_TOSSING = ["fixed:3", "chunked:4", "buffered:2", "tbptt:2:5"]


def measured(**values):
    runs = resolve("test", SMALL | {"draws": 6} | values).runs
    columns = measure(runs).columns
    return [(run, {name: column[i] for name, column in columns.items()}) for i, run in enumerate(runs)]


def vector(gradients, names=RECURRENT):
    return np.concatenate([np.ravel(gradients.params[name]) for name in names])


def every_draw(run, draws, monkeypatch):
    """The gradient of each draw of coins, by `backprop` with those coins."""
    tossed = coin_draws(run["seed"], draws, run["seq_len"])
    found = []
    for own in tossed:
        monkeypatch.setattr("gradscope.gradients.coins", lambda seeds, T, own=own: own[None, :T])
        found.append(alone(run))
    return found


@pytest.mark.parametrize("spec", TOSSING)
@pytest.mark.parametrize("parameter", ["", "W_hh", "W_xh", "b_h"])
def test_the_columns_are_the_statistics_of_the_draws(spec, parameter, monkeypatch):
    names, suffix = ([parameter], f"_{parameter}") if parameter else (RECURRENT, "")
    ((run, row),) = [one for one in measured(truncation=spec, draws=30) if one[0]["truncation"] == spec]
    g = np.stack([vector(one, names) for one in every_draw(run, 30, monkeypatch)])
    full = vector(alone(run, "full"), names)
    size = np.linalg.norm(full)
    error = np.linalg.norm(g - full, axis=1) / size
    cosine = g @ full / np.linalg.norm(g, axis=1) / size
    np.testing.assert_allclose(row[f"error_p50{suffix}"], np.quantile(error, 0.5, method="lower"), rtol=1e-9)
    np.testing.assert_allclose(row[f"cosine_p25{suffix}"], np.quantile(cosine, 0.25), rtol=1e-9)
    np.testing.assert_allclose(row[f"wrong_sign_share{suffix}"], (cosine < 0).mean())
    lags = np.abs(np.subtract.outer(np.arange(9), np.arange(9)))
    known = spec != "variable:5:1:0.8"
    mean = full if known else g.mean(axis=0)
    if spec == "random-unweighted:4":
        mean = _weighted(run, np.tril(0.75**lags), names)
    spread = np.square(np.linalg.norm(g - mean, axis=1))
    np.testing.assert_allclose(row[f"coin_sd{suffix}"], np.sqrt(spread.sum() / (30 - (not known))) / size, rtol=1e-7)
    np.testing.assert_allclose(row[f"bias{suffix}"], np.linalg.norm(mean - full) / size, rtol=1e-9, atol=1e-12)
    noise = 0.0 if known else row[f"coin_sd{suffix}"] / np.sqrt(30)
    np.testing.assert_allclose(row[f"bias_noise{suffix}"], noise, rtol=1e-9)
    if not known:  # the largest draw is the one farthest from the full gradient
        spread = np.square(error)
    np.testing.assert_allclose(row[f"top_share{suffix}"], spread.max() / spread.sum(), rtol=1e-7)


def _weighted(run, weights, names):
    """The gradient in which the loss at step s counts with weights[s-1, t-1] at step t: a sum over single losses."""
    cell, task = run.cell(), run.task()
    x, y, _ = task.draw(run["seed"], run["seq_len"], run["batch_size"], run["loss"])
    params = cell.init(run["seed"], run["spectral_radius"], run["ensemble"], run["input_scale"], task.input_power)
    h0 = np.zeros((run["batch_size"], run["hidden_size"]))
    steps = list(range(1, run["seq_len"] + 1))
    truth = naive(params, x, y, run["activation"], run["loss"], steps, run["reduction"], weights, h0)
    return np.concatenate([np.ravel(truth.params[name]) for name in names])


@pytest.mark.parametrize("spec", NOT_TOSSING)
def test_without_coins_the_bias_is_the_error_and_there_is_no_variance(spec):
    ((run, row),) = [one for one in measured(truncation=spec) if one[0]["truncation"] == spec]
    np.testing.assert_allclose(row["bias"], row["relative_error"], rtol=1e-9)
    np.testing.assert_allclose([row["error_p50"], row["error_p90"]], row["relative_error"], rtol=1e-9)
    np.testing.assert_allclose(row["bias_cosine"], row["cosine"], rtol=1e-9)
    np.testing.assert_allclose([row["cosine_p05"], row["cosine_p95"]], row["cosine"], rtol=1e-9)
    assert row["coin_sd"] == row["wrong_sign_share"] == row["bias_noise"] == row["top_share"] == 0
    assert run["draws"] == 6


@pytest.mark.parametrize(("examples", "groups"), [(4, 4), (16, 8), (6, 6), (11, 11), (22, 2)])
@pytest.mark.parametrize("spec", ["full", "fixed:3"])
def test_the_variance_of_the_minibatch_is_that_between_its_groups(examples, groups, spec):
    ((run, row),) = [one for one in measured(truncation=spec, batch_size=examples) if one[0]["truncation"] == spec]
    cell, task = run.cell(), run.task()
    x, y, _ = task.draw(run["seed"], 9, examples, run["loss"])
    params = cell.init(run["seed"], 1.0, run["ensemble"], run["input_scale"], task.input_power)
    parts = [
        vector(backprop(cell, params, x[:, part], y[:, part], loss_steps="all", truncation=spec))
        for part in np.split(np.arange(examples), groups)
    ]
    variance = np.var(parts, axis=0, ddof=1).sum() / groups
    full = np.linalg.norm(vector(alone(run, "full")))
    np.testing.assert_allclose(row["batch_sd"], np.sqrt(variance) / full, rtol=1e-9)


def test_one_example_says_nothing_of_the_variance_of_the_minibatch():
    assert all(np.isnan(row["batch_sd"]) for _, row in measured(batch_size=1, truncation=["full", "random:3"]))


def test_draws_change_no_other_column():
    values = SMALL | {"truncation": ["full", *NOT_TOSSING, *TOSSING], "seeds": 2, "spectral_radius": [0.9, 1.2]}
    plain, drawn = (measure(resolve("test", values | {"draws": draws}).runs) for draws in (0, 5))
    assert set(plain.columns) < set(drawn.columns)
    for name, column in plain.columns.items():
        if name != "status":
            np.testing.assert_allclose(drawn.columns[name], column, rtol=1e-12, atol=1e-15, err_msg=name)
    for name, column in plain.steps.items():
        np.testing.assert_allclose(drawn.steps[name], column, rtol=1e-12, atol=1e-15, err_msg=name)


def test_networks_measured_together_and_alone_are_the_same():
    together = measured(truncation=TOSSING, seeds=2, spectral_radius=[0.9, 1.2])
    for run, row in together[::3]:
        (other,) = (
            found
            for one, found in measured(
                truncation=run["truncation"], seeds=[run["seed"]], spectral_radius=run["spectral_radius"]
            )
            if one["truncation"] == run["truncation"]
        )
        for name, value in other.items():
            if name != "status":
                np.testing.assert_allclose(row[name], value, rtol=1e-9, atol=1e-12, err_msg=f"{name} {run}")


def test_a_full_gradient_of_zero_leaves_nothing_to_compare_with():
    for run, row in measured(activation="relu", input_scale=0.0, truncation=["full", "fixed:2", "random:3"]):
        assert np.isnan([row["bias_W_hh"], row["coin_sd_W_hh"], row["wrong_sign_share_W_hh"]]).all(), run


def test_states_that_overflow_have_no_estimators():
    values = {"activation": "linear", "spectral_radius": 1e40, "seq_len": 20, "truncation": ["full", "random:3"]}
    for _, row in measured(**values):
        assert row["status"].startswith("forward overflow")
        assert np.isnan([row["bias"], row["coin_sd"], row["cosine_p50"]]).all()


def test_gradients_far_beyond_range_are_compared_all_the_same():
    values = {"activation": "linear", "ensemble": "orthogonal", "seq_len": 400, "loss_steps": "last", "draws": 40}
    for run, row in measured(**values, spectral_radius=0.05, truncation=["full", "random:3", "fixed:3"]):
        if run["truncation"] == "fixed:3":
            np.testing.assert_allclose(row["bias"], row["relative_error"], rtol=1e-9)
        assert np.isfinite([row["bias"], row["coin_sd"], row["cosine_p50"]]).all()


# --- what it takes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "loss_steps", "state_steps", "unroll"),
    [
        ("full", "all", 9, 9),
        ("full", "last", 9, 9),
        ("full", [4], 4, 4),
        ("fixed:3", "all", 1 + 2 + 7 * 3, 3),
        ("fixed:3", "last", 3, 3),
        ("chunked:4", "all", 9, 4),
        ("chunked:4", "last", 1, 1),
        ("tbptt:2:5", "all", 2 + 4 + 5 + 5 + 4, 5),
        ("buffered:3", "all", 3 + 5 + 5, 5),
        ("one-coin:3", "all", 9, 9),
    ],
)
def test_the_steps_of_all_backward_passes_are_counted(spec, loss_steps, state_steps, unroll):
    schedule = truncations.truncation(spec).schedule(np.full((1, 9), 0.5))
    steps = (
        np.arange(9)
        if loss_steps == "all"
        else np.array([8] if loss_steps == "last" else loss_steps) - (loss_steps not in ("all", "last"))
    )
    taken = work(schedule, np.atleast_1d(steps), 9)
    assert (taken.state_steps.tolist(), taken.unroll.tolist()) == ([state_steps], [unroll])


@given(st.integers(2, 30), st.floats(1.5, 20), st.integers(0, 99), st.booleans())
def test_coins_cut_the_work_where_they_fall(T, tau, seed, last):
    tossed = coin_draws(seed, 3, T)
    schedule = truncations.truncation(f"random:{tau}").schedule(tossed)
    taken = work(schedule, np.array([T - 1]) if last else np.arange(T), T)
    for draw in range(3):
        reached = [schedule.reach(s)[draw] > 0 for s in ([T] if last else range(1, T + 1))]
        covered = np.zeros(T, bool)
        for one in reached:
            covered[: len(one)] |= one
        assert taken.state_steps[draw] == covered.sum()
        assert taken.unroll[draw] == max(one.sum() for one in reached)


@given(st.integers(1, 500))
def test_groups_are_equal_and_at_most_eight_unless_examples_cannot_be_divided(examples):
    groups = groups_of(examples)
    assert examples % groups == 0
    assert groups <= 8 or groups == examples
    assert groups > 1 or examples == 1


# --- published laws ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("w", "tau"), [(0.5, 4), (0.7, 10)])
@pytest.mark.parametrize("spec", ["random", "one-coin"])
def test_the_variance_of_coins_is_the_published_one(w, tau, spec):
    """The bias of a scalar linear network: dL/db_h is 1/(1 - w) times dL/dh_T, whatever the inputs."""
    pi = 1 - 1 / tau
    scalar = {"activation": "linear", "ensemble": "identity", "hidden_size": 1, "spectral_radius": w}
    found = measured(**scalar, seq_len=200, loss_steps="last", truncation=f"{spec}:{tau}", draws=4000)
    ((_, row),) = [one for one in found if one[0]["truncation"] != "full"]
    variance = w**2 * (1 / pi - 1) / ((1 - w * w / pi) if spec == "random" else 1)
    np.testing.assert_allclose(row["coin_sd_b_h"] ** 2, variance, rtol=0.15)
    assert row["bias_b_h"] == 0


def test_a_spec_that_throws_no_coins_needs_no_draws_and_full_is_added_and_said():
    sweep = resolve("test", SMALL | {"draws": 3, "truncation": "random:3"})
    assert {run["truncation"] for run in sweep.runs} == {"full", "random:3"}
    assert sweep.notes == ('truncation "full" is added, to compare with',)
    assert resolve("test", SMALL | {"truncation": "random:3"}).notes == ()


def test_a_single_draw_is_refused():
    with pytest.raises(
        gs.InputError, match="draws: 1 says nothing of how much another would differ; allowed: 0, or at"
    ):
        resolve("test", {"draws": 1})
