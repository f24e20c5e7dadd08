"""Figures of trainings: their tables against the training's own and against closed forms, and what is drawn of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

import gradscope as gs
from gradscope import courses, figures, outcomes
from gradscope.drawing import CannotDrawError, canvas
from gradscope.figures import (
    final_loss,
    horizon_error,
    learning_curves,
    memory,
    prediction,
    step_lag_map,
    trained_weights,
    training_gradients,
)

TINY = {"hidden_size": 4, "batch_size": 2, "steps": 4, "record_every": 2}


@pytest.fixture(scope="module")
def linear():
    """Linear networks with orthogonal W_hh of spectral radius 1/2, whose last loss halves with each lag at first."""
    keys = {"activation": "linear", "ensemble": "orthogonal", "spectral_radius": 0.5, "seq_len": 12}
    return gs.train("sine", **TINY | keys)


@pytest.fixture(scope="module")
def clipped(tmp_path_factory):
    """Trainings that differ in their clip; not to be changed."""
    return swept(tmp_path_factory.mktemp("clipped"), task="sine", clip=["off", "norm:0.01", "value:0.01"], seq_len=6)


def swept(folder, **overrides):
    """A sweep of tiny trainings."""
    experiment = folder / "tiny.toml"
    experiment.write_text('[sweep]\nname = "tiny"\nmeasure = "training"\n', encoding="utf-8")
    return gs.sweep(experiment, folder / "out", overrides=TINY | overrides, jobs=1)


def drawn(ax):
    return {artist.get_gid(): artist for artist in ax.get_children() if artist.get_gid()}


def finite(values):
    return np.asarray(values)[np.isfinite(values)]


# --- learning curves --------------------------------------------------------------------------------------------------


def test_the_learning_curves_of_a_training_are_its_history(training):
    table = learning_curves.table(training)
    for name, word in (("loss", "training"), ("validation_loss", "validation")):
        looks = training.history.dropna(subset=name)
        own = table[table["measure"] == name]
        np.testing.assert_array_equal(own["step"], looks["step"])
        np.testing.assert_array_equal(own["median"], looks[name])
        line = drawn(learning_curves.draw(table).axes[0])[f"measure {word}"]
        np.testing.assert_array_equal(line.get_ydata(), looks[name])
    naive = training.scores[training.scores["naive"]]
    np.testing.assert_array_equal(table["naive"], naive["loss"].min())


def test_a_naive_prediction_far_below_the_curves_is_named_at_the_edge(training):
    table = learning_curves.table(training)
    ax = learning_curves.draw(table).axes[0]
    assert ax.get_yscale() == "log"
    assert table["naive"].max() < 1e-20 < ax.get_ylim()[0]
    assert f"best naive: {table['naive'].iloc[0]:.1g}" in [text.get_text() for text in ax.texts]
    near = learning_curves.draw(table.assign(naive=0.5)).axes[0]
    assert "best naive" in [text.get_text() for text in near.texts]
    assert set(drawn(near)["best naive"].get_ydata()) == {0.5}


def test_curves_of_a_sweep_are_medians_over_those_seeds_that_still_go_on(trainings):
    table = learning_curves.table(trainings)
    assert list(table.columns[:2]) == ["panel", "truncation"]
    going = trainings.runs[trainings.runs["status"] == "ok"].astype({"run_id": str})
    losses = trainings.history.astype({"run_id": str}).merge(going, on="run_id")
    chosen = losses[(losses["learning_rate"] == 0.1) & (losses["delay"] == 3)]
    own = table[
        (table["panel"] == "learning_rate = 0.1, delay = 3") & (table["measure"] == "validation_loss")
    ].set_index(["truncation", "step"])
    for (truncation, step), seeds in chosen.groupby(["truncation", "step"], observed=True):
        expected = np.quantile(seeds["validation_loss_x"], [0.1, 0.5, 0.9])
        np.testing.assert_allclose(own.loc[(truncation, step), ["low", "median", "high"]].astype(float), expected)
        assert own.loc[(truncation, step), "seeds"] == 3


def test_what_diverged_is_marked_where_it_did_and_counts_no_more(trainings):
    table = learning_curves.table(trainings)
    lost = table[table["measure"] == "diverged"]
    steps = trainings.runs["status"].astype(str).str.extract(r"^diverged at step (\d+)$")[0].dropna().astype(int)
    assert len(steps) > 6
    assert lost["seeds"].sum() == len(steps)
    assert set(lost["step"]) == set(steps)
    assert lost["panel"].str.contains("learning_rate = 10000").all()
    late = table[table["panel"].isin(lost["panel"]) & (table["step"] > steps.max()) & table["median"].notna()]
    survivors = trainings.runs[(trainings.runs["learning_rate"] == 1e4) & (trainings.runs["status"] == "ok")]
    assert late["seeds"].fillna(0).sum() == 2 * 2 * len(survivors)  # losses of both kinds, at two looks
    figure = learning_curves.draw(table)
    crosses = [
        line.get_xdata()[0] for ax in figure.axes for line in ax.get_lines() if line.get_gid() == "diverged loss"
    ]
    assert sorted(crosses) == sorted(lost["step"])


def test_what_stopped_early_counts_as_it_stands():
    looks = pd.DataFrame(
        {
            "panel": "",
            "run_id": ["a", "a", "b", "b", "b"],
            "step": [0, 2, 0, 2, 4],
            "status": ["stopped early at step 2"] * 2 + ["ok"] * 3,
            "loss": [5.0, 3.0, 5.0, 4.0, 1.0],
        }
    )
    carried = outcomes._as_they_stand(looks, ["panel"])
    assert carried[carried["step"] == 4].set_index("run_id")["loss"].to_dict() == {"a": 3.0, "b": 1.0}
    assert len(carried) == 6


def test_an_early_stop_is_marked():
    keys = TINY | {"optimizer": "sgd", "learning_rate": 1e-9, "steps": 40, "patience": 2, "seq_len": 6}
    history = gs.train("noise", **keys)
    assert history.status.startswith("stopped early")
    table = learning_curves.table(history)
    assert table.loc[table["measure"] == "stopped early", "step"].tolist() == [len(history.steps)]
    mark = drawn(learning_curves.draw(table).axes[0])["stopped early loss"]
    assert mark.get_xdata()[0] == len(history.steps)


# --- gradients and weights --------------------------------------------------------------------------------------------


def test_norms_of_a_training_are_quantiles_over_its_steps_and_its_clipping_events_are_ticks(training, monkeypatch):
    monkeypatch.setattr(outcomes, "BINS", 15)
    table = training_gradients.table(training)
    bins, middle = np.arange(120).reshape(15, 8), 4.5 + 8 * np.arange(15)
    for name in ("log10_grad", "log10_clipped"):
        own = table[table["measure"] == name]
        expected = np.quantile(training.steps[name].to_numpy()[bins], [0.1, 0.5, 0.9], axis=1)
        np.testing.assert_allclose(own[["low", "median", "high"]].to_numpy().T, expected, rtol=1e-12)
        np.testing.assert_array_equal(own["step"], middle)
    share = training.steps["clipped"].to_numpy()[bins].mean(axis=1)
    assert 0 < (share > 0).sum() < 15
    upper, lower = training_gradients.draw(table).axes
    np.testing.assert_array_equal(drawn(upper)["clipped"].get_xdata(), middle[share > 0])
    assert drawn(upper)["threshold"].get_ydata()[0] == 0.0  # log10 of 1
    looks = training.history.dropna(subset="clip_share")
    np.testing.assert_array_equal(drawn(lower)["measure clipped"].get_ydata(), looks["clip_share"])


def test_a_threshold_is_shown_of_a_clip_by_norm_alone(clipped):
    table = training_gradients.table(clipped)
    found = table.groupby("clip")["threshold"].first()
    assert found["norm:0.01"] == pytest.approx(-2.0)
    assert found[["off", "value:0.01"]].isna().all()
    after = table[(table["measure"] == "log10_clipped") & (table["clip"] == "norm:0.01")]
    np.testing.assert_allclose(after["median"], -2.0, atol=1e-12)
    before, after, _ = training_gradients.draw(table).axes
    assert "threshold" in drawn(before)
    assert drawn(after)["threshold"].get_ydata()[0] == pytest.approx(-2.0)


def test_the_weights_of_a_training_are_its_history(training):
    table = trained_weights.table(training)
    upper, lower = trained_weights.draw(table).axes
    for ax, column, word in (
        (upper, "spectral_radius", "spectral radius"),
        (upper, "spectral_norm", "spectral norm"),
        (lower, "mean_slope", "mean slope $f'$"),
        (lower, "saturated_share", "saturated"),
    ):
        np.testing.assert_array_equal(drawn(ax)[f"measure {word}"].get_ydata(), training.history[column])


# --- norms by step and lag --------------------------------------------------------------------------------------------


def test_the_reach_of_an_orthogonal_linear_network_is_a_power_of_its_radius(linear):
    table = step_lag_map.table(linear)
    start = table[(table["panel"] == "last loss alone, full BPTT") & (table["step"] == 0)]
    np.testing.assert_allclose(start["decades"], np.arange(12) * np.log10(0.5), atol=1e-12)
    assert set(start["tenth"]) == {4.0}  # 1/16 is the first power of 1/2 below a tenth
    fading = outcomes.fading(linear).iloc[0]
    assert fading["half_life"] == pytest.approx(1.0, rel=1e-9)
    assert (fading["lags"], fading["decades"]) == (11, pytest.approx(11 * np.log10(0.5)))


def test_the_map_of_steps_and_lags_holds_the_tables_values_under_its_axes(linear):
    table = step_lag_map.table(linear)
    figure = step_lag_map.draw(table)
    for ax, panel in zip(figure.axes, ("last loss alone, full BPTT", "training loss, full"), strict=False):
        own = table[table["panel"] == panel]
        wide = own.pivot_table(index="lag", columns="step", values="decades")
        np.testing.assert_array_equal(ax.collections[0].get_array().reshape(wide.shape), wide)
        left = own.drop_duplicates("step")
        np.testing.assert_array_equal(drawn(ax)["a tenth"].get_xdata(), left["step"])
        np.testing.assert_array_equal(drawn(ax)["a tenth"].get_ydata(), left["tenth"])


def test_what_a_truncation_cuts_off_is_exactly_zero():
    history = gs.train("adding", **TINY | {"seq_len": 10, "truncation": "fixed:4"})
    table = step_lag_map.table(history)
    own = table[(table["panel"] == "training loss, fixed:4") & (table["step"] == 0)].set_index("lag")["decades"]
    assert np.isfinite(own[:4]).all()
    assert np.isneginf(own[4:]).all()
    mesh = step_lag_map.draw(table).axes[1].collections[0]
    assert (mesh.get_array().reshape(10, -1)[4:] < mesh.norm.vmin).all()


def look_at(norms):
    """One look, at so many lags."""
    return pd.DataFrame({"step": 0, "lag": np.arange(len(norms)), "log10_dh": norms})


@pytest.mark.parametrize(
    ("norms", "decades", "tenth"),
    [
        ([0.0, -0.5, -1.5], [0.0, -0.5, -1.5], 2.0),
        ([0.0, -0.5, -0.9], [0.0, -0.5, -0.9], np.nan),
        ([0.0, -2.0, 0.5, -1.0], [0.0, -2.0, 0.5, -1.0], 3.0),  # from there on, and not before
        ([-np.inf, 2.0, 1.5, 0.5], [-np.inf, 0.0, -0.5, -1.5], 3.0),  # the loss is a step before the last
        ([1.0, -np.inf, -np.inf], [0.0, -np.inf, -np.inf], 1.0),
        ([1.0, 0.5, np.nan], [0.0, -0.5, np.nan], np.nan),
        ([np.nan, np.nan], [np.nan, np.nan], np.nan),
    ],
)
def test_norms_are_held_against_the_least_lag_that_has_one(norms, decades, tenth):
    found = outcomes._since_the_first(look_at(norms), "log10_dh")
    np.testing.assert_array_equal(found["decades"], decades)
    np.testing.assert_array_equal(found["tenth"], np.full(len(norms), tenth))


# --- forecasts --------------------------------------------------------------------------------------------------------


def test_the_truth_that_predictions_are_shown_against_is_the_wave(training):
    table = prediction.table(training)
    assert len(table) == training.horizons["horizon"].max() == 100
    x, turn = table["truth"].to_numpy(), 2 * np.pi * 0.05
    np.testing.assert_allclose(x[2:], 2 * np.cos(turn) * x[1:-1] - x[:-2], atol=1e-9)
    assert table["one_step"].iloc[0] == table["free_running"].iloc[0]  # from the same true values
    ax = prediction.draw(table).axes[0]
    for name in ("truth", "one_step", "free_running"):
        np.testing.assert_array_equal(drawn(ax)[name].get_ydata(), table[name])
        np.testing.assert_array_equal(drawn(ax)[name].get_xdata(), table["t"])


def test_predictions_beyond_the_range_of_numbers_leave_the_axis_to_the_truth(training):
    table = prediction.table(training)
    table["free_running"] = np.geomspace(1.0, 1e300, len(table))
    table.loc[50:, "free_running"] = np.inf
    ax = prediction.draw(table).axes[0]
    low, high = table["truth"].min(), table["truth"].max()
    np.testing.assert_allclose(ax.get_ylim(), [1.5 * low - 0.5 * high, 1.5 * high - 0.5 * low])


def test_errors_by_horizon_are_those_of_the_training_and_the_axis_ends_below_the_network(training):
    table = horizon_error.table(training)
    assert set(table["panel"]) == {"forecasts from 64 origins"}
    ax = horizon_error.draw(table).axes[0]
    for name, own in training.horizons.groupby("predictor"):
        np.testing.assert_array_equal(drawn(ax)[name].get_ydata(), own["rmse"])
    network = table.loc[~table["naive"], "rmse"].min()
    assert ax.get_ylim()[0] == pytest.approx(network / 100.0)
    assert {text.get_text() for text in ax.texts} == set(table["predictor"])


@pytest.mark.parametrize("name", ["prediction", "horizon-error"])
def test_what_is_no_series_has_no_forecasts(name):
    history = gs.train("recall", **TINY | {"seq_len": 6, "delay": 2})
    with pytest.raises(CannotDrawError, match=r"^needs runs with a series to forecast"):
        figures.table_of(history, name)


# --- memory and final losses ------------------------------------------------------------------------------------------


def test_memory_is_the_test_loss_over_chance_by_delay(trainings):
    table = memory.table(trainings)
    runs = trainings.runs[trainings.runs["learning_rate"] == 0.1]
    own = table[table["panel"] == "learning_rate = 0.1"].set_index(["truncation", "span"])
    for (truncation, delay), seeds in runs.groupby(["truncation", "delay"], observed=True):
        assert own.loc[(truncation, delay), "median"] == pytest.approx(seeds["test_loss"].median())  # chance is 1
    axes = {ax.get_title().replace("\n", " "): ax for ax in memory.draw(table).axes}
    ax = axes["learning_rate = 0.1"]
    np.testing.assert_array_equal(drawn(ax)["truncation full"].get_ydata(), own.loc["full", "median"])
    assert set(drawn(ax)["chance"].get_ydata()) == {1.0}


@pytest.mark.parametrize(
    ("keys", "spans", "chance"),
    [
        ({"task": "copy", "symbols": 3, "length": 2, "seq_len": [5, 7]}, {1, 3}, 2 * np.log(3) / np.array([5, 7])),
        ({"task": "adding", "seq_len": [6, 8]}, {6, 8}, np.full(2, 1 / 6)),
        ({"task": "adding", "seq_len": 8, "delay": [0, 4]}, {0, 4}, np.full(2, 1 / 6)),
        ({"task": "temporal-order", "seq_len": [10, 20]}, {10, 20}, np.full(2, np.log(4))),
    ],
)
def test_each_memory_task_says_how_far_back_it_reaches_and_what_chance_is(keys, spans, chance, tmp_path):
    results = swept(tmp_path, **keys)
    table = memory.table(results)
    assert set(table["span"]) == spans
    np.testing.assert_allclose(table["median"], results.runs["test_loss"] / chance)


def test_a_single_span_has_a_mark_with_a_bar_for_each_truncation(tmp_path):
    results = swept(tmp_path, task="recall", delay=2, seq_len=6, truncation=["full", "fixed:2"], seeds=2)
    table = memory.table(results)
    assert table["span"].tolist() == [2, 2]
    ax = memory.draw(table).axes[0]
    assert list(ax.get_xticks()) == [2]
    bars = [bar.get_segments()[0] for bar in ax.collections if isinstance(bar, LineCollection)]
    np.testing.assert_allclose(np.array(bars)[:, :, 1], table[["low", "high"]])


def test_memory_may_be_told_apart_by_another_parameter_but_not_by_what_it_is_drawn_against(trainings):
    table = memory.table(trainings.viewed("learning_rate"))
    assert list(table.columns[:3]) == ["panel", "learning_rate", "span"]
    with pytest.raises(CannotDrawError, match="is drawn against delay"):
        memory.table(trainings.viewed("delay"))


def test_one_setting_has_no_figure_of_memory_or_final_losses(tmp_path):
    results = swept(tmp_path, task="recall", seq_len=6, delay=2, seeds=2)
    needs = {"memory": "two delays, lengths or truncations", "final-loss": "two values of a parameter that says"}
    for name, reason in needs.items():
        with pytest.raises(CannotDrawError, match=f"^needs runs with {reason}"):
            figures.table_of(results, name)
    drawn_all = figures.write(results, tmp_path / "figures", ["png"])
    assert [one.name for one in drawn_all if one.files] == ["learning-curves", "trained-weights", "training-gradients"]


def test_final_losses_are_medians_over_seeds_with_crosses_where_some_diverged(trainings):
    table = final_loss.table(trainings)
    assert list(table.columns[:3]) == ["panel", "truncation", "learning_rate"]
    runs = trainings.runs[trainings.runs["delay"] == 3]
    own = table[table["panel"] == "delay = 3"].set_index(["truncation", "learning_rate"])
    for key, seeds in runs.groupby(["truncation", "learning_rate"], observed=True):
        assert own.loc[key, "median"] == pytest.approx(seeds["test_loss"].median())
        assert own.loc[key, "diverged"] == seeds["status"].astype(str).str.startswith("diverged").sum()
    axes = {ax.get_title().replace("\n", " "): ax for ax in final_loss.draw(table).axes}
    line = drawn(axes["delay = 3"])["truncation full"]
    np.testing.assert_array_equal(line.get_ydata(), own.loc["full", "median"])
    lost = own.loc["full"][own.loc["full", "diverged"] > 0]
    np.testing.assert_array_equal(drawn(axes["delay = 3"])["diverged full"].get_xdata(), lost.index)


def test_a_parameter_that_is_a_word_has_a_mark_for_each_value(clipped):
    table = final_loss.table(clipped)
    assert set(table["clip"]) == {"off", "norm:0.01", "value:0.01"}
    ax = final_loss.draw(table).axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == list(dict.fromkeys(table["clip"]))
    marks = drawn(ax)["truncation full"]
    np.testing.assert_array_equal(marks.get_ydata(), table["median"])
    np.testing.assert_array_equal(marks.get_xdata(), [0, 1, 2])


def test_panels_show_at_most_three_values_of_a_number(tmp_path):
    results = swept(
        tmp_path, task="sine", seq_len=[3, 4, 5, 6], spectral_radius=[0.2, 0.5, 0.9, 1.4], truncation="full"
    )
    panels = set(outcomes.laid_out(results, "spectral_radius")["panel"])
    assert panels == {"seq_len = 3", "seq_len = 5", "seq_len = 6"}
    radii = {panel.partition(",")[0] for panel in outcomes.laid_out(results, "seq_len")["panel"]}
    assert radii == {f"spectral_radius = {radius}" for radius in (0.2, 0.9, 1.4)}
    asked = results.viewed("spectral_radius", ["seq_len"])
    assert set(outcomes.laid_out(asked, "spectral_radius")["panel"]) == {
        f"seq_len = {length}" for length in (3, 4, 5, 6)
    }


def test_a_single_training_has_nothing_that_lines_or_panels_could_differ_by(training):
    assert training.viewed() is training
    for view in ({"hue": "clip"}, {"facet": ["seed"]}):
        with pytest.raises(gs.InputError, match="has one value in a single training"):
            gs.figure(training, "learning-curves", **view)
    with pytest.raises(gs.InputError, match=r"^where: 'seed == 0': a single training has no parts"):
        training.where("seed == 0")


@pytest.mark.parametrize(
    ("value", "said"), [(0.5, "naive"), (30.0, "naive"), (1e-9, "naive: 1e-09"), (1e9, "naive: 1e+09")]
)
def test_a_level_near_an_axis_lengthens_it_and_one_far_away_does_not(value, said):
    ax = canvas(1, 1).subplots()
    ax.plot([0, 10], [1.0, 20.0])
    ax.set_yscale("log")
    before = ax.get_ylim()
    courses.level(ax, value, "naive")
    (line,) = [line for line in ax.get_lines() if line.get_gid() == "naive"]
    assert line.get_label() == said
    low, high = ax.get_ylim()
    assert (low <= value <= high) == (said == "naive")
    assert said == "naive" or (low, high) == before


def test_figures_of_a_training_are_checked_like_those_of_a_sweep(training, tmp_path):
    from gradscope.redrawing import check

    figures.write(training, tmp_path, ["png"], only=["learning-curves"])
    assert check(training, tmp_path) == (["learning-curves"], [])
    changed = tmp_path / "learning-curves.csv"
    changed.write_text(changed.read_text(encoding="utf-8").replace("validation_loss", "other", 1), encoding="utf-8")
    (difference,) = check(training, tmp_path)[1]
    assert "numbers differ: measure in 1 of" in difference.what
