"""Guards training: its gradients are those of `backprop`, what is recorded is what happened, and nothing interrupts it.

Each claim is held against a literal loop, or against another way to the same numbers: alone or side by side, at once or
in pieces, by `gs.train` or in a sweep.
"""

from __future__ import annotations

import numpy as np
import pytest

import gradscope as gs
from gradscope import gradients, measuring
from gradscope.engine import measure
from gradscope.evaluation import forecast, horizons
from gradscope.feeding import Batch
from gradscope.grid import resolve
from gradscope.streams import stream
from gradscope.training import Observation, Step, Training, proceed
from gradscope.truncations import truncation

SMALL = {  # whatever the tasks' own recipes
    "hidden_size": 6,
    "seq_len": 9,
    "batch_size": 4,
    "steps": 12,
    "record_every": 4,
    "batching": "random",
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "clip": "norm:1",
    "loss_steps": "task",
    "dtype": "float64",
}
SPECS = [
    "full",
    "fixed:3",
    "chunked:4",
    "buffered:3",
    "tbptt:2:5",
    "random:4",
    "random-unweighted:3",
    "artbp:3:4",
    "one-coin:4",
    "variable:6:2:0.75",
]
F = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "linear": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
}


def runs_of(task="sine", **keys):
    return resolve("test", {"measure": "training", "task": task, **SMALL, **keys}).runs


def training_of(task="sine", **keys):
    return Training(runs_of(task, **keys))


def of(state, c=0):
    """The parameters of one run, copied."""
    return {name: array[c].astype(np.float64) for name, array in state.params.items()}


def coins_of(seed, step, T):
    """The coins of a step, as the documentation of the streams says: 64 steps are drawn together."""
    return stream(seed, f"training coins {step // 64}").random((T, 64))[:, step % 64]


@pytest.fixture
def gradient(monkeypatch):
    """`gs.backprop` of what a training is about to do at a step, with the coins of that step."""

    def backprop(training, state, c=0, h0=None, batch=None, **changes):
        like, batch = training.like, batch or training.feed.batch(state.number)
        T = batch.x.shape[1]
        how = {"truncation": like["truncation"], "reduction": like["reduction"], "loss": like["loss"]}
        losses = {"loss_steps": "all"} if batch.mask is None else {"mask": batch.mask[c]}
        tossed = coins_of(training.seeds[c], state.number, T)
        monkeypatch.setattr(gradients, "coins", lambda seeds, seq_len: tossed[None])
        arrays = np.asarray(batch.x[c], np.float64), np.asarray(batch.y[c])
        return gs.backprop(training.cell, of(state, c), *arrays, h0=h0, **(how | losses | changes))

    return backprop


def assert_change(before, after, expected, rtol=1e-11):
    for name, array in expected.items():
        found = before[name] - after[name]
        np.testing.assert_allclose(found, array, rtol=rtol, atol=rtol * np.abs(array).max() + 1e-15, err_msg=name)


# --- gradients are those of backprop ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("task", ["sine", "recall", "noise"])
def test_a_step_goes_along_the_gradient_of_backprop(gradient, spec, reduction, task):
    own = {"recall": {"delay": 4}, "noise": {"input_size": 3, "output_size": 5, "loss": "cross_entropy"}}
    keys = own.get(task, {}) | {"truncation": spec, "reduction": reduction, "optimizer": "sgd", "clip": "off"}
    training = training_of(task, learning_rate=0.05, seeds=[3], **keys)
    state = training.begin()
    for step in range(3):
        before, g = of(state), gradient(training, state)
        factor = 1.0
        if spec.startswith("variable"):
            factor = float(truncation(spec).learning_rate_factor(coins_of(3, step, 9)[None])[0])
        recorded = training.advance(state)
        assert_change(before, of(state), {name: 0.05 * factor * array for name, array in g.params.items()})
        np.testing.assert_allclose(recorded.loss, [g.loss], rtol=1e-12)
    assert state.number == 3


CELLS = [
    {"cell": "lstm", "forget_bias": 2.0},
    {"cell": "gru"},
    {"cell": "irnn"},
    {"cell": "diagonal", "spectral_radius": 0.9},
    {"cell": "lstm", "num_layers": 2},
    {"cell": "elman", "num_layers": 3},
]


@pytest.mark.parametrize("spec", ["full", "fixed:3", "random:4", "one-coin:4"])
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: "-".join(map(str, cell.values())))
def test_every_cell_goes_along_the_gradient_of_backprop(gradient, cell, spec):
    training = training_of("recall", delay=4, truncation=spec, optimizer="sgd", clip="off", learning_rate=0.05, **cell)
    state = training.begin()
    for _ in range(2):
        before, g = of(state), gradient(training, state)
        recorded = training.advance(state)
        assert_change(before, of(state), {name: 0.05 * array for name, array in g.params.items()})
        norm = np.log10(np.sqrt(sum(np.sum(array**2) for array in g.params.values())))
        np.testing.assert_allclose(recorded.log10_grad, [norm], rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: "-".join(map(str, cell.values())))
def test_the_whole_state_of_every_cell_is_carried(cell):
    """Two windows, with next to no learning between them, leave the state that one of both leaves."""
    keys = {"batching": "sequential", "batch_size": 3, "optimizer": "sgd", "clip": "off", "learning_rate": 1e-30}
    long, short = (training_of("series", seq_len=length, **keys, **cell) for length in (100, 50))
    once, twice = long.begin(), short.begin()
    long.advance(once)
    for _ in range(2):
        short.advance(twice)
    assert once.h.shape == (1, 3, long.cell.state_size)
    np.testing.assert_allclose(twice.h, once.h, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("clip", ["norm:0.02", "norm:1e9", "norm-each:0.01", "value:0.003", "value:1e9", "off"])
def test_a_step_goes_along_the_clipped_gradient_and_says_so(gradient, clip):
    training = training_of("adding", clip=clip, optimizer="sgd", learning_rate=1.0)
    state = training.begin()
    for _ in range(3):
        before, g = of(state), gradient(training, state)
        recorded = training.advance(state)
        by, _, theta = clip.partition(":")
        params = g.params
        if theta:
            params = gs.clip(g, float(theta), by=by.removesuffix("-each"), joint=by != "norm-each").params
        assert_change(before, of(state), params)
        norms = [np.log10(np.sqrt(sum(np.sum(a * a) for a in one.values()))) for one in (g.params, params)]
        np.testing.assert_allclose([recorded.log10_grad[0], recorded.log10_clipped[0]], norms, rtol=0, atol=1e-12)
        changed = any((params[name] != g.params[name]).any() for name in params)
        assert recorded.clipped.tolist() == [changed]
        assert changed == (theta not in ("", "1e9"))


@pytest.mark.parametrize("task", ["adding", "temporal-order", "copy", "series"])
def test_tasks_that_ask_for_some_steps_are_masks_of_backprop(gradient, task):
    keys = {"copy": {"seq_len": 21}, "temporal-order": {"seq_len": 12}, "series": {"loss_steps": "3,7"}}.get(task, {})
    training = training_of(task, optimizer="sgd", clip="off", learning_rate=0.1, **keys)
    state = training.begin()
    before, g = of(state), gradient(training, state)
    training.advance(state)
    assert_change(before, of(state), {name: 0.1 * array for name, array in g.params.items()})


class Fed:
    """Batches of sequences of different lengths, or of any masks."""

    def __init__(self, training):
        self._feed, self._like = training.feed, training.like
        self.task = training.feed.task

    def batch(self, step):
        batch = self._feed.batch(step)
        mask = np.random.default_rng(step).random(batch.x.shape[:3]) < 0.3
        mask[:, step % mask.shape[1]] = True
        mask[:, -1, 0] = False
        mask[:, -1, 1] = True
        return Batch(batch.x, batch.y, mask, batch.fresh)

    def __getattr__(self, name):
        return getattr(self._feed, name)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("spec", ["full", "fixed:3", "random:4"])
def test_examples_of_different_lengths_are_masked_as_in_backprop(gradient, reduction, spec):
    training = training_of(reduction=reduction, truncation=spec, optimizer="sgd", clip="off", learning_rate=0.1)
    training.feed = Fed(training)
    state = training.begin()
    for _ in range(3):
        look, g = training.observe(state), gradient(training, state)
        np.testing.assert_allclose(look.lags["log10_dh"][0], by_lag(g.log10_dh), rtol=0, atol=1e-12)
        alone = gradient(training, state, mask=None, loss_steps="last", truncation="full").log10_dh
        counted = training.feed.batch(state.number).mask[0, -1]
        np.testing.assert_allclose(look.lags["log10_reach"][0], by_lag(alone[:, counted]), rtol=0, atol=1e-12)
        before = of(state)
        recorded = training.advance(state)
        assert_change(before, of(state), {name: 0.1 * array for name, array in g.params.items()})
        np.testing.assert_allclose(recorded.loss, [g.loss], rtol=1e-12)


def test_the_state_is_carried_from_batch_to_batch_and_reset_at_the_beginning_of_a_pass(gradient):
    keys = {"batching": "sequential", "seq_len": 100, "batch_size": 3, "optimizer": "sgd", "clip": "off"}
    training = training_of("series", learning_rate=0.1, **keys)
    state = training.begin()
    passes = (839 - 1) // 3 // 100
    assert passes == 2
    h = None
    for step in range(5):
        batch = training.feed.batch(step)
        assert batch.fresh == (step % passes == 0)
        h = np.zeros((3, 6)) if batch.fresh else h
        before, g = of(state), gradient(training, state, h0=h)
        for x in batch.x[0]:
            h = np.tanh(x @ before["W_xh"].T + h @ before["W_hh"].T + before["b_h"])
        training.advance(state)
        assert_change(before, of(state), {name: 0.1 * array for name, array in g.params.items()})
        np.testing.assert_allclose(state.h[0], h, rtol=1e-12)


@pytest.mark.parametrize(
    ("optimizer", "batching"),
    [
        ("sgd", "sequential"),
        ("momentum", "random"),
        ("adagrad", "sequential"),
        ("adam", "sequential"),
        ("adam", "random"),
    ],
)
@pytest.mark.parametrize("truncation", ["full", "fixed:3", "random:4", "variable:6:2:0.75"])
def test_side_by_side_each_run_is_what_it_is_alone(optimizer, batching, truncation):
    keys = {
        "optimizer": optimizer,
        "batching": batching,
        "truncation": truncation,
        "clip": "norm:0.3",
        "learning_rate": 0.02,
    }
    keys |= {"spectral_radius": [0.7, 1.3], "seeds": 2}
    together = training_of(**keys)
    assert len(together.runs) == 4
    alone = [Training([run]) for run in together.runs]
    state, states = together.begin(), [one.begin() for one in alone]
    for _ in range(8):
        recorded, own = together.advance(state), [one.advance(s) for one, s in zip(alone, states, strict=True)]
        for name in Step._fields:
            expected = np.concatenate([getattr(one, name) for one in own])
            np.testing.assert_allclose(getattr(recorded, name), expected, rtol=0, atol=1e-11, err_msg=name)
    np.testing.assert_allclose(state.values, np.concatenate([one.values for one in states]), rtol=0, atol=1e-12)
    look, looks = together.observe(state), [one.observe(s) for one, s in zip(alone, states, strict=True)]
    for kind in ("numbers", "lags"):
        for name, found in getattr(look, kind).items():
            expected = np.concatenate([getattr(one, kind)[name] for one in looks])
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("task", ["sine", "text", "adding"])
def test_float32_is_single_precision_throughout(gradient, task):
    keys = {"seq_len": 6, "optimizer": "sgd", "clip": "off", "learning_rate": 0.1}
    training = training_of(task, dtype="float32", **keys)
    state = training.begin()
    assert {array.dtype for array in (state.values, state.h, state.best, *state.slots.values())} == {np.dtype("f4")}
    assert training.feed.batch(0).x.dtype == np.float32
    before, g = of(state), gradient(training, state)
    training.observe(state)
    recorded = training.advance(state)
    assert {array.dtype for array in (state.values, state.h, *state.slots.values())} == {np.dtype("f4")}
    assert_change(before, of(state), {name: 0.1 * array for name, array in g.params.items()}, rtol=3e-4)
    np.testing.assert_allclose(recorded.loss, [g.loss], rtol=1e-5)


def test_the_network_begins_as_its_keys_say():
    training = training_of(spectral_radius=[0.5, 1.5], seeds=2, output_scale=0.25, input_scale=0.3, ensemble="gaussian")
    state = training.begin()
    for c, run in enumerate(training.runs):
        expected = run.cell().init(run["seed"], run["spectral_radius"], "gaussian", 0.3, run.task().input_power)
        expected["W_hy"] = 0.25 * expected["W_hy"]
        for name, array in of(state, c).items():
            np.testing.assert_array_equal(array, expected[name])
    assert [(run["seed"], run["spectral_radius"]) for run in training.runs] == [(0, 0.5), (1, 0.5), (0, 1.5), (1, 1.5)]


# --- what is recorded -------------------------------------------------------------------------------------------------


def by_lag(log10_dh):
    """Means over the examples that have a gradient, from lag 0 on, of norms (T, B); -inf where none has."""
    rows = [row[np.isfinite(row)] for row in log10_dh[::-1]]
    return [row.mean() if len(row) else -np.inf for row in rows]


@pytest.mark.parametrize("spec", ["full", "fixed:3", "chunked:4", "random:4"])
@pytest.mark.parametrize(
    ("task", "reduction"), [("sine", "mean"), ("sine", "sum"), ("recall", "mean"), ("adding", "sum")]
)
def test_norms_at_every_lag_are_those_of_backprop(gradient, spec, task, reduction):
    keys = {"recall": {"delay": 2}}.get(task, {})
    training = training_of(task, truncation=spec, reduction=reduction, activation="relu", seeds=[5], **keys)
    state = training.begin()
    for _ in range(2):
        training.advance(state)
        look, g = training.observe(state), gradient(training, state)
        np.testing.assert_allclose(look.lags["log10_dh"][0], by_lag(g.log10_dh), rtol=0, atol=1e-11)
        last = gradient(training, state, mask=None, loss_steps="last", truncation="full")
        np.testing.assert_allclose(look.lags["log10_reach"][0], by_lag(last.log10_dh), rtol=0, atol=1e-11)


def test_reach_of_a_loss_before_the_end_begins_at_its_own_step(gradient):
    training = training_of(loss_steps="6")
    look = training.observe(state := training.begin())
    expected = gradient(training, state, mask=None, loss_steps=6).log10_dh[:6]
    np.testing.assert_allclose(look.lags["log10_reach"][0, :6], by_lag(expected), rtol=0, atol=1e-12)
    assert np.isnan(look.lags["log10_reach"][0, 6:]).all()
    steps = measure(runs_of(loss_steps="6", steps=1)).steps
    assert steps["lag"].tolist() == [5, 4, 3, 2, 1, 0, -1, -2, -3]
    assert np.isfinite(steps["log10_dh"][:6]).all()
    assert (steps["log10_dh"][6:] == -np.inf).all()


@pytest.mark.parametrize("activation", sorted(F))
def test_radius_norm_and_slopes_are_those_of_the_network_as_it_stands(activation):
    training = training_of(activation=activation, learning_rate=0.1, spectral_radius=[0.9, 1.2])
    state = training.begin()
    for _ in range(3):
        training.advance(state)
    look, batch = training.observe(state), training.feed.batch(3)
    for c in range(2):
        p = of(state, c)
        eigenvalues, singular = np.linalg.eigvals(p["W_hh"]), np.linalg.svd(p["W_hh"], compute_uv=False)
        np.testing.assert_allclose(look.numbers["spectral_radius"][c], np.abs(eigenvalues).max(), rtol=1e-12)
        np.testing.assert_allclose(look.numbers["spectral_norm"][c], singular[0], rtol=1e-12)
        h, slopes = np.zeros((4, 6)), []
        for x in batch.x[c]:
            z = x @ p["W_xh"].T + h @ p["W_hh"].T + p["b_h"]
            h = F[activation](z)
            slopes.append({"tanh": 1 - h**2, "sigmoid": h * (1 - h), "relu": z > 0, "linear": 1 + 0 * z}[activation])
        greatest = 0.25 if activation == "sigmoid" else 1.0
        np.testing.assert_allclose(look.numbers["mean_slope"][c], np.mean(slopes), rtol=1e-12)
        share = np.mean(np.array(slopes) < 0.1 * greatest)
        np.testing.assert_allclose(look.numbers["saturated_share"][c], share, rtol=1e-12)


def literal_loss(values, first, last, before, params, streams=1, one_hot=0):
    """The mean loss on values[first:last] in so many streams, each read after the `before` values before it."""
    own, losses = (last - first) // streams, []
    for k in range(streams):
        h = np.zeros(len(params["b_h"]))
        for t in range(first + k * own - before, first + (k + 1) * own - 1):
            x = np.eye(one_hot)[values[t]] if one_hot else values[t : t + 1]
            h = np.tanh(params["W_xh"] @ x + params["W_hh"] @ h + params["b_h"])
            if t + 1 >= first + k * own:
                yhat = params["W_hy"] @ h + params["b_y"]
                if one_hot:
                    losses.append(np.log(np.exp(yhat).sum()) - yhat[values[t + 1]])
                else:
                    losses.append((yhat[0] - values[t + 1]) ** 2)
    return np.mean(losses)


@pytest.mark.parametrize("loss_steps", ["task", "all", "last"])
@pytest.mark.parametrize(("seq_len", "streams"), [(60, 1), (9, 5)])
def test_validation_and_test_loss_are_a_literal_loop_over_a_series(loss_steps, seq_len, streams):
    training = training_of(seq_len=seq_len, loss_steps=loss_steps, noise=0.2)  # 2000 steps
    state = training.begin()
    training.advance(state)
    values = training.feed.recording(0).values
    for part, first, last in (("validation", 1600, 1800), ("test", 1800, 2000)):
        expected = literal_loss(values, first, last, seq_len, of(state), streams)
        np.testing.assert_allclose(training.loss(state.params, part), [expected], rtol=1e-10)
    look = training.observe(state)
    np.testing.assert_array_equal(look.numbers["validation_loss"], training.loss(state.params, "validation"))


def test_validation_loss_is_a_literal_loop_over_a_text(tmp_path):
    letters = np.random.default_rng(0).choice(list("abcde"), 1500)
    (tmp_path / "text").write_text("".join(letters))
    training = training_of("text", file=str(tmp_path / "text"), seq_len=6)
    state = training.begin()
    training.advance(state)
    codes = np.searchsorted(list("abcde"), letters)
    expected = literal_loss(codes, 1200, 1350, 6, of(state), streams=6, one_hot=5)
    np.testing.assert_allclose(training.loss(state.params, "validation"), [expected], rtol=1e-10)


def test_what_is_held_out_of_a_drawn_task_is_seen_in_no_batch():
    training = training_of("adding")
    batches = [training.feed.batch(step) for step in range(50)]
    held = [training.feed.held_out(part) for part in ("validation", "test", "validation")]
    np.testing.assert_array_equal(held[0].x, held[2].x)
    seen = {float(batch.x[0, 0, b, 0]) for batch in batches for b in range(4)}
    kept = [{float(value) for value in one.x[0, 0, :, 0]} for one in held[:2]]
    assert len(seen) == 200
    assert [len(one) for one in kept] == [256, 256]
    assert not seen & (kept[0] | kept[1])
    assert not kept[0] & kept[1]
    other = training_of("adding", seeds=[1]).feed.batch(0)
    assert not seen & set(other.x[0, 0, :, 0].tolist())


def test_history_holds_what_was_recorded():
    keys = {"clip": "norm:0.5", "optimizer": "sgd", "learning_rate": 0.1}
    history, training = gs.train("sine", **SMALL | keys), training_of(**keys)
    recorded = list(proceed(training, training.begin()))
    steps, looks = ([one for one in recorded if isinstance(one, kind)] for kind in (Step, Observation))
    assert history.steps["step"].tolist() == list(range(1, 13))
    for name in Step._fields:
        np.testing.assert_array_equal(history.steps[name], [getattr(step, name)[0] for step in steps])
    assert history.history["step"].tolist() == [0, 4, 8, 12]
    for name in looks[0].numbers:
        np.testing.assert_array_equal(history.history[name], [look.numbers[name][0] for look in looks])
    by_four = history.steps.groupby((history.steps["step"] - 1) // 4)
    for name, expected in {
        "loss": by_four["loss"].mean(),
        "log10_grad": by_four["log10_grad"].median(),
        "log10_clipped": by_four["log10_clipped"].median(),
        "clip_share": by_four["clipped"].mean(),
    }.items():
        np.testing.assert_allclose(history.history[name][1:], expected, rtol=1e-12)
        assert np.isnan(history.history[name][0])
    row = history.runs.iloc[0]
    np.testing.assert_allclose(row["loss_value"], history.steps["loss"][-1:].mean())
    np.testing.assert_allclose(row["log10_grad"], history.steps["log10_grad"].median())
    np.testing.assert_allclose(row["clip_share"], history.steps["clipped"].mean())
    best = history.history["validation_loss"].argmin()
    assert row["validation_loss"] == history.history["validation_loss"][best]
    assert row["best_step"] == history.history["step"][best]
    np.testing.assert_array_equal(
        row["test_loss"], training.loss({k: v[None] for k, v in history.params.items()}, "test")
    )
    assert row["naive_loss"] == history.scores.query("naive")["loss"].min()
    lags = history.lags.set_index(["step", "lag"])
    for look in looks:
        for name, values in look.lags.items():
            np.testing.assert_array_equal(lags.loc[look.step, name], values[0])


def test_forecasts_are_those_of_the_best_network_in_the_units_of_the_data(tmp_path):
    values = 1000 + 30 * np.sin(np.arange(500) / 5)
    np.save(tmp_path / "wave.npy", values)
    training = training_of("series", file=str(tmp_path / "wave.npy"))
    state = training.begin()
    params, scaled = of(state), (values - values[:400].mean()) / values[:400].std()
    table = forecast(training, params)
    np.testing.assert_array_equal(table["t"], np.arange(450, 500))
    np.testing.assert_allclose(table["truth"], values[450:], rtol=1e-12)
    h, one_step = np.zeros(6), []
    for t in range(450 - 36, 499):
        h = np.tanh(params["W_xh"] @ scaled[t : t + 1] + params["W_hh"] @ h + params["b_h"])
        one_step.append((params["W_hy"] @ h + params["b_y"])[0])
    back = np.array(one_step[35:]) * values[:400].std() + values[:400].mean()
    np.testing.assert_allclose(table["one_step"], back, rtol=1e-9)
    assert table["free_running"].notna().sum() == 25  # half of the test part: five periods are more
    np.testing.assert_allclose(table["free_running"][0], back[0], rtol=1e-9)
    errors = horizons(training, params).query("predictor == 'network'")
    assert errors["horizon"].tolist() == list(range(1, 26))
    own = [forecast_from(scaled, start, params) for start in range(450, 476)]
    rmse = np.sqrt(
        np.mean(np.square([(f - scaled[s : s + 25]) for f, s in zip(own, range(450, 476), strict=True)]), axis=0)
    )
    np.testing.assert_allclose(errors["rmse"], rmse * values[:400].std(), rtol=1e-6)
    assert set(errors["origins"]) == {26}


def forecast_from(values, start, params):
    """25 values after `start`, free running after 36 values before it."""
    h, found = np.zeros(6), []
    for t in range(start - 36, start + 25):
        x = values[t] if t < start else found[-1]
        h = np.tanh(params["W_xh"] @ [x] + params["W_hh"] @ h + params["b_h"])
        if t >= start - 1:
            found.append((params["W_hy"] @ h + params["b_y"])[0])
    return np.array(found[:25])


# --- trainings that come to an end before their last step -------------------------------------------------------------


@pytest.mark.parametrize("activation", ["linear", "relu", "tanh"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adagrad", "adam"])
@pytest.mark.parametrize(("rate", "clip"), [(1e6, "off"), (1e6, "norm:1"), (1e300, "off")])
def test_a_learning_rate_that_diverges_stops_and_says_so(activation, optimizer, rate, clip):
    keys = {"steps": 200, "optimizer": optimizer, "clip": clip, "activation": activation, "learning_rate": rate}
    history = gs.train("sine", **SMALL | keys)
    done = len(history.steps)
    assert history.status == f"diverged at step {done}"
    assert 2 <= done < 200
    assert history.history["step"].tolist() == [*range(0, done, 4), done]
    assert np.isfinite(history.steps["loss"][: done - 1]).all()
    assert all(np.isfinite(array).all() for array in history.params.values())
    row = history.runs.iloc[0]
    assert np.isfinite([row["validation_loss"], row["test_loss"]]).all()
    assert row["best_step"] < done


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("keys", "others"),
    [({"cell": "lstm"}, 1), ({"cell": "gru"}, 1), ({"cell": "lstm", "num_layers": 2}, 1), ({"cell": "diagonal"}, 0.9)],
    ids=["lstm", "gru", "stack", "diagonal"],
)
def test_parameters_beyond_what_a_cell_can_take_have_diverged(keys, others, dtype):
    how = {"optimizer": "sgd", "clip": "off", "learning_rate": 1e28, "spectral_radius": 0.9 * others}
    training = training_of(seeds=2, dtype=dtype, **keys, **how)
    state = training.begin()
    training._rate[0] = 1e-3
    before = state.values.copy()
    list(proceed(training, state))
    assert state.status.tolist() == ["ok", "diverged at step 1"]
    assert (state.values[0] != before[0]).any()
    np.testing.assert_array_equal(state.values[1], before[1])


@pytest.mark.parametrize(
    "keys",
    [
        {"output_scale": 1e200},
        {"output_scale": 1e152},
        {"input_scale": 1e200, "activation": "linear"},
        {"spectral_radius": 1e200, "activation": "linear"},
        {"spectral_radius": 1e200, "activation": "relu"},
    ],
)
def test_a_network_that_begins_beyond_all_numbers_has_diverged_at_its_first_step(keys):
    history = gs.train("sine", **SMALL | keys)
    if history.runs["loss_value"].lt(np.inf).all():  # 1e304, a number still
        assert history.status == "ok"
    else:
        assert history.status == "diverged at step 1"
        assert history.history["step"].tolist() == [0, 1]
    assert all(np.isfinite(array).all() for array in history.params.values())


def test_states_that_overflow_leave_no_number_that_is_wrong(gradient):
    training = training_of(activation="linear", optimizer="sgd", learning_rate=1e300, clip="off")
    state = training.begin()
    training.advance(state)
    g = gradient(training, state)
    assert g.status.startswith("forward overflow")
    look = training.observe(state)
    assert all(np.isnan(lags).all() for lags in look.lags.values())
    assert np.isnan([look.numbers[name][0] for name in ("validation_loss", "mean_slope", "saturated_share")]).all()
    recorded = training.advance(state)
    assert np.isnan([recorded.loss[0], recorded.log10_grad[0], recorded.log10_clipped[0]]).all()
    assert recorded.clipped.tolist() == [False]
    assert state.status.tolist() == ["diverged at step 2"]


@pytest.mark.parametrize("rate", [1e-3, 1e300])
def test_a_run_stands_still_while_others_go_on(rate):
    training = training_of(seeds=2)
    state = training.begin()
    for _ in range(3):
        training.advance(state)
    state.status[0] = "stopped early at step 3"
    kept, best = state.values.copy(), state.best[0].copy()
    training._rate[:] = rate
    for _ in range(5):  # until a look is due
        training.advance(state)
    training.observe(state)
    np.testing.assert_array_equal(state.values[0], kept[0])
    np.testing.assert_array_equal(state.best[0], best)
    assert (state.values[1] != kept[1]).any()
    assert state.done.tolist()[0] == 3


def test_the_end_of_a_run_is_no_look_at_the_others():
    training = training_of(seeds=2)  # looked at every four steps
    state = training.begin()
    training.observe(state)
    before = state.best_loss.copy()
    for _ in range(3):
        training.advance(state)
    state.status[0] = "diverged at step 3"
    look = training.observe(state)
    assert look.numbers["validation_loss"][1] < before[1]
    assert state.best_step.tolist() == [0, 0]
    np.testing.assert_array_equal(state.best_loss, before)


def test_patience_is_counted_in_looks_without_a_better_validation_loss():
    keys = SMALL | {"steps": 400, "optimizer": "sgd", "learning_rate": 3.0, "patience": 3, "noise": 0.5}
    history = gs.train("sine", **keys)
    looks = history.history
    done = int(looks["step"].iloc[-1])
    assert history.status == f"stopped early at step {done}"
    assert done < 400
    best, since = np.inf, 0
    for step, loss in zip(looks["step"], looks["validation_loss"], strict=True):
        best, since = (loss, 0) if loss < best else (best, since + 1)
        assert (since == 3) == (step == done)
    assert history.runs.loc[0, "best_step"] == done - 12
    longer = gs.train("sine", **keys | {"patience": 0, "steps": done})
    assert longer.status == "ok"
    for name in ("steps", "history"):
        columns = [column for column in longer.steps if column != "run_id"] if name == "steps" else ["step", "loss"]
        assert getattr(history, name)[columns].equals(getattr(longer, name)[columns])
    for name, array in history.params.items():  # the best network is kept, not the last
        np.testing.assert_array_equal(array, longer.params[name])


# --- in a sweep -------------------------------------------------------------------------------------------------------

SWEPT = SMALL | {
    "measure": "training",
    "task": "sine",
    "spectral_radius": [0.6, 1.2],
    "seq_len": [6, 9],
    "truncation": ["full", "random:4"],
    "seeds": 2,
}


def sweep(folder, jobs=1, **keys):
    return gs.sweep("spectral-radius", out=folder, overrides=blank() | SWEPT | keys, jobs=jobs)


def blank():
    """What of the default experiment is not meant for a training."""
    return {"activation": "tanh", "loss_steps": "task", "task": "sine", "ensemble": "orthogonal", "input_scale": 1.0}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    return sweep(tmp_path_factory.mktemp("training") / "out")


def alone(row, results, **more):
    """`gs.train` with the keys of a run of a sweep."""
    keys = {key: row[key] for key in results.manifest["grid"] if key in row and key not in ("measure", "task")}
    keys = {key: value.item() if isinstance(value, np.generic) else value for key, value in keys.items()}
    return gs.train(row["task"], **keys | more)


def assert_same_as_alone(row, results):
    history, own = alone(row, results), results.history[results.history["run_id"].astype(str) == row["run_id"]]
    expected = history.runs.iloc[0]
    assert row["run_id"] == expected["run_id"]
    assert row["status"] == history.status
    numbers = expected.index[expected.index.get_loc("status") + 1 :]
    np.testing.assert_allclose(row[numbers].astype(float), expected[numbers].astype(float), rtol=1e-9, atol=1e-12)
    columns = [column for column in history.history if column != "run_id"]
    found = own[columns].to_numpy(float)
    np.testing.assert_allclose(found, history.history[columns].to_numpy(float), rtol=1e-9, atol=1e-12)
    steps = results.timesteps[results.timesteps["run_id"].astype(str) == row["run_id"]]
    reach = history.lags.query("step == step.max()").set_index("lag")["log10_reach"]
    np.testing.assert_allclose(steps["log10_dh"], reach[steps["lag"]], rtol=1e-9, atol=1e-9)
    assert steps["t"].tolist() == list(range(1, row["seq_len"] + 1))
    assert steps["lag"].tolist() == list(range(row["seq_len"] - 1, -1, -1))


def test_a_sweep_says_what_trainings_say_alone(swept):
    assert len(swept.runs) == 16
    assert swept.runs["run_id"].is_unique
    for _, row in swept.runs.iterrows():
        assert_same_as_alone(row, swept)
    assert len(swept.history) == 16 * 4


@pytest.mark.parametrize(
    "keys",
    [
        {"learning_rate": 1.0, "optimizer": "sgd", "patience": 3, "steps": 150, "noise": 0.5},
        {"learning_rate": 0.8, "optimizer": "sgd", "clip": "off", "steps": 50, "activation": "relu"},
    ],
    ids=["stopped early", "diverged"],
)
def test_runs_that_end_early_in_a_sweep_are_as_they_are_alone(tmp_path, keys):
    results = sweep(tmp_path / "out", **{"seq_len": 9, "truncation": "full", "seeds": 3} | keys)
    assert results.runs["status"].nunique() > 2
    for _, row in results.runs.iterrows():
        assert_same_as_alone(row, results)


def test_results_do_not_depend_on_the_number_of_workers(swept, tmp_path):
    other = sweep(tmp_path / "out", jobs=2)
    assert other.runs.drop(columns=["shard", "shard_row"]).equals(swept.runs.drop(columns=["shard", "shard_row"]))
    assert other.timesteps.equals(swept.timesteps)
    assert other.history.equals(swept.history)


def test_the_history_of_chosen_runs(swept):
    chosen = swept.select(spectral_radius=1.2, truncation="random:4")
    assert list(dict.fromkeys(chosen.history["run_id"])) == list(chosen.runs["run_id"])
    assert len(chosen.history) == len(chosen.runs) * 4
    assert chosen.history["step"].tolist() == [0, 4, 8, 12] * len(chosen.runs)


def test_coins_and_data_are_the_same_in_all_settings_of_a_seed(gradient):
    full, other = training_of(), training_of(truncation="random:4", hidden_size=3, spectral_radius=0.5, optimizer="sgd")
    for step in range(70):
        np.testing.assert_array_equal(full.feed.batch(step).x, other.feed.batch(step).x)
    one, two = coins_of(0, 65, 9), coins_of(0, 66, 9)
    assert (one != two).all()
    np.testing.assert_array_equal(one[:5], coins_of(0, 65, 5))


def test_a_run_that_fails_is_a_row(tmp_path, monkeypatch):
    def fails(runs, threads):
        if any(run["seed"] == 1 and run["spectral_radius"] == 1.2 for run in runs):
            raise MemoryError("no room")
        return measure(runs, threads)

    monkeypatch.setattr(measuring, "measure", fails)
    results = sweep(tmp_path / "out", truncation="full", seq_len=6)
    failed = results.runs["status"] == "failed"
    assert failed.sum() == 1
    assert results.runs.loc[failed, ["seed", "spectral_radius"]].to_numpy().tolist() == [[1, 1.2]]
    assert results.runs.loc[failed, "message"].tolist() == ["MemoryError: no room"]
    assert set(results.history["run_id"]) == set(results.runs.loc[~failed, "run_id"])
    for _, row in results.runs[~failed].iterrows():
        assert_same_as_alone(row, results)


@pytest.mark.parametrize("key", ["draws", "minibatches"])
def test_what_is_measured_of_untrained_networks_is_no_key_of_a_training(key):
    with pytest.raises(gs.InputError, match=rf"^{key}: unknown key"):
        runs_of(**{key: 3})


def test_one_sweep_measures_one_thing():
    with pytest.raises(gs.InputError, match=r"^measure: several values; allowed: gradients or jacobian or training"):
        runs_of(measure=["training", "gradients"])
    with pytest.raises(gs.InputError, match=r"^measure: unknown measure 'trainin'.* did you mean 'training'"):
        runs_of(measure="trainin")
