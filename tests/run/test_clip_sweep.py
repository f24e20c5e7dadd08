"""Clips in a sweep: what is recorded of each is what clipping every minibatch's gradient alone gives."""

from __future__ import annotations

import numpy as np
import pytest

import gradscope as gs
from gradscope.engine import measure
from gradscope.gradients import backprop
from gradscope.grid import resolve
from gradscope.reporting.findings import findings

VALUES = {
    "hidden_size": 5,
    "input_size": 3,
    "batch_size": 4,
    "input_scale": 0.5,
    "seq_len": 9,
    "loss_steps": "all",
    "minibatches": 6,
    "clip": ["off", "norm:0.3", "norm-each:0.1", "value:0.05"],
}


def recorded(**values):
    runs = resolve("test", VALUES | values).runs
    columns = measure(runs).columns
    return [(run, {name: column[i] for name, column in columns.items()}) for i, run in enumerate(runs)]


def minibatch_gradients(run):
    """The gradient of each minibatch, by `backprop`."""
    cell, task, B = run.cell(), run.task(), run["batch_size"]
    x, y, _ = task.draw(run["seed"], run["seq_len"], B * run["minibatches"], run["loss"])
    params = cell.init(run["seed"], run["spectral_radius"], run["ensemble"], run["input_scale"], task.input_power)
    how = {name: run[name] for name in ("loss", "loss_steps", "reduction", "truncation")}
    for part in np.split(np.arange(x.shape[1]), run["minibatches"]):
        yield backprop(cell, params, x[:, part], y[:, part], seed=run["seed"], **how).params


def vector(gradient):
    return np.concatenate([np.ravel(array) for array in gradient.values()])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("truncation", ["full", "fixed:3", "random:3"])
def test_each_clip_is_that_of_each_minibatch(reduction, truncation):
    for run, row in recorded(reduction=reduction, truncation=truncation, spectral_radius=[0.9, 1.3], seeds=2):
        gradients = list(minibatch_gradients(run))
        kind, _, theta = run["clip"].partition(":")
        how = {"norm": {"by": "norm"}, "norm-each": {"by": "norm", "joint": False}, "value": {"by": "value"}}
        clipped = (
            [gs.clip(g, float(theta), **how[kind]) for g in gradients]
            if theta
            else [gs.clip(g, 1e9) for g in gradients]
        )
        norms = np.array([np.linalg.norm(vector(g)) for g in gradients])
        np.testing.assert_allclose(row["log10_norm_p50"], np.quantile(np.log10(norms), 0.5), rtol=1e-9)
        np.testing.assert_allclose(row["log10_norm_p90"], np.quantile(np.log10(norms), 0.9), rtol=1e-9)
        np.testing.assert_allclose(row["clip_share"], np.mean([one.clipped for one in clipped]))
        np.testing.assert_allclose(row["clip_kept"], np.quantile([one.kept for one in clipped], 0.5), rtol=1e-9)
        np.testing.assert_allclose(
            row["clip_angle"], np.quantile([one.angle for one in clipped], 0.5), rtol=1e-6, atol=1e-6
        )
        mean, mean_clipped = (
            np.mean([vector(g) for g in gradients], 0),
            np.mean([vector(one.params) for one in clipped], 0),
        )
        bias = np.linalg.norm(mean_clipped - mean) / np.linalg.norm(mean)
        np.testing.assert_allclose(row["clip_bias"], bias, rtol=1e-8, atol=1e-12)
        assert row["nonfinite_share"] == 0


def test_a_sum_over_steps_has_thresholds_as_many_times_as_large():
    (of_mean,), (of_sum,) = (recorded(clip="norm:1", reduction=reduction) for reduction in ("mean", "sum"))
    np.testing.assert_allclose(of_sum[1]["log10_norm_p90"] - of_mean[1]["log10_norm_p90"], np.log10(9), rtol=1e-9)


def test_clips_and_minibatches_change_no_other_column():
    ((_, plain),) = recorded(clip="off", minibatches=0)
    for _, row in recorded():
        assert set(plain) < set(row)
        for name, value in plain.items():
            if name != "status":
                np.testing.assert_allclose(row[name], value, rtol=1e-12, atol=1e-15, err_msg=name)


def test_large_batches_are_clipped_minibatch_by_minibatch_on_any_number_of_threads():
    runs = resolve("test", VALUES | {"batch_size": 24, "minibatches": 9, "clip": ["norm:0.2", "value:0.05"]}).runs
    one, two = (measure(runs, threads).columns for threads in (1, 2))
    for name in ("clip_share", "clip_bias", "log10_norm_p50", "clip_angle"):
        np.testing.assert_array_equal(one[name], two[name])
    norms = [np.linalg.norm(vector(g)) for g in minibatch_gradients(runs[0])]
    np.testing.assert_allclose(one["log10_norm_p50"][0], np.log10(np.quantile(norms, 0.5)), rtol=1e-9)


def test_minibatches_that_overflow_are_counted_apart_and_the_others_are_measured():
    """States grow as 1.5**T: at some length some minibatches leave float64's range, and others do not."""
    orthogonal = {"activation": "linear", "ensemble": "orthogonal", "spectral_radius": 1.5, "loss_steps": "last"}
    sizes = {"hidden_size": 3, "input_size": 1, "batch_size": 1, "minibatches": 30, "clip": ["off", "norm:1"]}
    shares = []
    for seq_len in (1745, 1754, 1758):
        for run, row in recorded(**orthogonal, **sizes, seq_len=seq_len):
            cell, task = run.cell(), run.task()
            x, y, _ = task.draw(0, seq_len, 30, "mse")
            params = cell.init(0, 1.5, "orthogonal", run["input_scale"], task.input_power)
            overflowed = [
                backprop(cell, params, x[:, [example]], y[:, [example]]).status != "ok" for example in range(30)
            ]
            np.testing.assert_allclose(row["nonfinite_share"], np.mean(overflowed), atol=1e-12)
            assert np.isfinite(row["clip_share"]) == (not all(overflowed))
            shares.append(np.mean(overflowed))
    assert any(0 < share < 1 for share in shares)


def test_without_a_finite_step_there_is_nothing_to_clip():
    for _, row in recorded(activation="linear", spectral_radius=1e40, seq_len=20, clip=["off", "norm:1"]):
        assert row["status"].startswith("forward overflow")
        assert row["nonfinite_share"] == 1
        assert np.isnan(row["clip_share"])


def test_the_report_recommends_a_threshold(costed, tmp_path):
    texts = [finding.text for finding in findings(costed) if finding.figure == "clip-threshold"]
    assert len(texts) == 3
    for text in texts:
        assert "norm of all parameters, loss a mean over steps" in text
        assert (
            "clips one step in ten and keeps every direction (for a sum over the 12 steps, " in text or "heavy" in text
        )


def test_a_heavy_tail_gets_no_threshold(costed):
    runs = costed.runs.copy()
    runs["log10_norm_p90"] = runs["log10_norm_p50"] + 4.0
    heavy = type(costed)(costed._store, runs, costed._curves)
    texts = [finding.text for finding in findings(heavy) if finding.figure == "clip-threshold"]
    assert all("the tail spans 4.0 decades: no threshold serves all steps" in text for text in texts)
