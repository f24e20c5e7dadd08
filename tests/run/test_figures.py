"""Figures: one conformance suite for all of them, and the drawn artists against the tables."""

from __future__ import annotations

import importlib

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from small_sweep import SMALL

import gradscope as gs
from gradscope import figures, plugins
from gradscope.drawing import CannotDrawError, style
from gradscope.gates import chrono_bias
from gradscope.reporting.findings import findings

NAMES = plugins.names(figures.FAMILY)
SWEEPS = {  # figure -> the fixture whose results it shows, if that is not `small`
    "bias-variance-cost": "costed",
    "clip-threshold": "costed",
    "credit-map": "celled",
    "half-life": "gated",
    "sensitivity": "celled",
    "state-parts": "celled",
    "cosine-distribution": "costed",
    "influence-balancing": "balancing",
    "largest-exponent": "jacobians",
    "lyapunov-convergence": "jacobians",
    "lyapunov-spectrum": "jacobians",
    "non-normality": "jacobians",
    "norm-distribution": "costed",
    "predictors": "jacobians",
    "singular-values": "jacobians",
    "states-and-weights": "costed",
    "truncation-bias": "costed",
    "final-loss": "trainings",
    "horizon-error": "training",
    "learning-curves": "trainings",
    "memory": "trainings",
    "prediction": "training",
    "reach-trained": "trainings",
    "step-lag-map": "training",
    "trained-weights": "trainings",
    "training-gradients": "trainings",
}


GATED = {
    "match": "units",
    "hidden_size": 6,
    "seq_len": 40,
    "truncation": "full",
    "loss_steps": "last",
    "batch_size": 1,
    "input_size": 1,
    "seeds": 2,
}


def module(name):
    return importlib.import_module(f"gradscope.figures.{name.replace('-', '_')}")


@pytest.fixture
def sweep(name, request):
    """The results that the figure called `name` shows."""
    return request.getfixturevalue(SWEEPS.get(name, "small"))


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    """Gated cells without inputs, at weights that are none, small, and large against what an open gate lets go."""
    biases = {"forget_bias": [0.0, 1.0, 2.0, 5.0], "update_bias": [0.0, 1.0, 2.0, 5.0]}
    keys = {"cell": ["lstm", "gru"], "ensemble": "orthogonal", "spectral_radius": [0.0, 0.01, 0.1], "input_scale": 0.0}
    return gs.sweep("cells", tmp_path_factory.mktemp("gated") / "out", GATED | biases | keys, jobs=1)


@pytest.fixture(scope="module")
def written(request, tmp_path_factory):
    """Fixture -> the folder of its figures, and what was written there."""
    folders = {fixture: tmp_path_factory.mktemp(fixture) for fixture in {"small", *SWEEPS.values()}}
    return {
        fixture: (folder, figures.write(request.getfixturevalue(fixture), folder, only=shown(fixture)))
        for fixture, folder in folders.items()
    }


def shown(fixture):
    """The figures that are tested on the results of a fixture."""
    return [name for name in NAMES if SWEEPS.get(name, "small") == fixture]


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_has_a_title_a_caption_a_table_and_a_drawing(name, sweep):
    title, _, caption = module(name).__doc__.partition("\n")
    assert title.endswith(".")
    assert len(caption.split()) > 10
    table = module(name).table(sweep)
    assert isinstance(table, pd.DataFrame)
    assert len(table)
    with style():
        assert isinstance(module(name).draw(table), Figure)


@pytest.mark.parametrize("name", NAMES)
def test_every_format_and_the_numbers_are_written(name, written, sweep):
    folder, drawn = written[SWEEPS.get(name, "small")]
    (figure,) = [figure for figure in drawn if figure.name == name]
    assert set(figure.files) == {"csv", "png", "svg", "pdf"}
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (folder / f"{name}.svg").read_bytes()
    assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    numbers = pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])
    table = module(name).table(sweep).reset_index(drop=True)
    texts = [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]
    numbers[texts] = numbers[texts].astype(object).fillna("")
    pd.testing.assert_frame_equal(numbers, table, check_dtype=False, rtol=1e-12)


def test_the_same_results_give_the_same_bytes(written, request, tmp_path):
    for fixture, (folder, drawn) in written.items():
        formats = figures.FORMATS if fixture == "small" else ["svg"]  # one of each kind is enough of PNG and PDF
        figures.write(request.getfixturevalue(fixture), tmp_path / fixture, formats, only=shown(fixture))
        for kind, path in ((kind, path) for figure in drawn for kind, path in figure.files.items()):
            if kind in ("csv", *formats):
                assert (tmp_path / fixture / path.name).read_bytes() == (folder / path.name).read_bytes()


@pytest.mark.parametrize(
    "name", [name for name in NAMES if SWEEPS.get(name) not in ("training", "trainings", "jacobians")]
)
def test_what_cannot_be_drawn_says_what_it_needs(name, small):
    needs = {
        "bias-variance-cost": ({}, "draws = 200"),
        "clip-threshold": ({}, "minibatches, and three thresholds"),
        "cosine-distribution": ({}, "draws = 200"),
        "credit-map": ({}, "three single loss steps"),
        "half-life": ({}, "4 biases of gates or 4 values of chrono"),
        "reach": ({"activation": "tanh"}, "networks that differ in more than their radius"),
        "sensitivity": ({}, 'cell = "diagonal", ring = 1'),
        "state-parts": ({}, 'cell = "lstm" or num_layers = 2'),
        "lag-profile": ({"truncation": "full"}, "two truncations"),
        "norm-distribution": ({}, "three seeds"),
        "phase-diagram": ({"activation": "tanh"}, "a second swept parameter"),
        "radius-length-map": ({"seq_len": 12}, "two lengths"),
        "saturation": ({"spectral_radius": 1.0}, "two spectral radii"),
        "spectral-norms": ({"spectral_radius": 1.0}, "two spectral radii"),
        "states-and-weights": ({}, "three fixed:TAU"),
        "truncation-bias": ({}, "three TAU"),
        "gradient-vs-lag": ({"loss_steps": "all"}, "one loss step and full truncation"),
        "gradient-vs-length": ({"seq_len": 12}, "at two lengths"),
        "influence-balancing": ({}, 'task = "influence-balancing"'),
        "radius-lag-map": ({"spectral_radius": 1.0}, "three spectral radii"),
        "truncation-error": ({"loss_steps": "last"}, 'loss_steps = "all"'),
    }
    lacking, reason = needs[name]
    with pytest.raises(CannotDrawError, match=f"^needs runs with .*{reason}"):
        module(name).table(small.select(**lacking))


@pytest.mark.parametrize(
    ("name", "given", "reason"),
    [
        ("final-loss", "training", "several values of a parameter"),
        ("horizon-error", "trainings", "forecasts, which a single training keeps"),
        ("learning-curves", "small", 'measure = "training"'),
        ("lyapunov-spectrum", "small", 'measure = "jacobian"'),
        ("memory", "training", "several delays or lengths"),
        ("predictors", "trainings", 'measure = "jacobian"'),
        ("prediction", "trainings", "forecasts, which a single training keeps"),
        ("reach-trained", "small", 'measure = "training"'),
        ("reach-trained", "training", "several values of a parameter"),
        ("radius-lag-map", "training", 'measure = "gradients"'),
        ("step-lag-map", "trainings", "norms at every lag while they learn"),
        ("trained-weights", "small", 'measure = "training"'),
        ("training-gradients", "small", 'measure = "training"'),
        ("truncation-error", "trainings", 'measure = "gradients"'),
    ],
)
def test_figures_of_gradients_and_of_trainings_say_what_they_need(name, given, reason, request):
    with pytest.raises(CannotDrawError, match=f"^needs runs with {reason}"):
        figures.table_of(request.getfixturevalue(given), name)


def test_results_have_figures_of_what_they_measured_only(small, training, trainings, jacobians):
    assert figures.names(training) == figures.names(trainings)
    assert set(figures.names(jacobians)).isdisjoint(figures.names(training))
    assert set(figures.names(small)) < set(figures.names(jacobians))  # of which the gradients are measured too
    assert {*figures.names(jacobians), *figures.names(training)} == set(figures.names())


ODD = {
    "one step": {"seq_len": 1},
    "two steps": {"seq_len": 2},
    "silent relu": {"activation": "relu", "input_scale": 0.0},
    "one relu unit": {"activation": "relu", "hidden_size": 1},
    "overflow": {"activation": "linear", "spectral_radius": [0.5, 1.0, 40.0], "seq_len": [20, 400]},
    "nothing but overflow": {"activation": "linear", "spectral_radius": [40.0, 50.0, 60.0], "seq_len": 400},
    "identity": {"ensemble": "identity", "activation": ["linear", "tanh"]},
    "one radius": {"spectral_radius": 1.0},
    "radius 0": {"spectral_radius": [0.0, 0.5, 1.0]},
    "one seed": {"seeds": 1},
    "two seeds": {"seeds": 2},
    "several tasks": {"task": ["noise", "sine", "series"], "phase": [0.0, "random"]},
    "eight panels": {
        "ensemble": ["gaussian", "orthogonal", "identity", "uniform"],
        "activation": "tanh",
        "hidden_size": [2, 3],
    },
    "sum": {"reduction": "sum"},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_odd_sweeps_have_figures_findings_and_a_report(odd, tmp_path):
    usual = {"spectral_radius": [0.5, 1.0, 1.5], "seeds": 3, "seq_len": [4, 8], "truncation": ["full", "fixed:3"]}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL | usual | odd, jobs=1)
    text = gs.report(results, formats=()).read_text(encoding="utf-8")
    assert "nan" not in " ".join(finding.text for finding in findings(results))
    assert text.rstrip().endswith("</html>")


def test_a_figure_that_cannot_be_drawn_is_reported_and_the_others_are_written(small, tmp_path):
    drawn = {figure.name: figure for figure in figures.write(small.select(loss_steps="last"), tmp_path, ["png"])}
    assert "loss_steps" in drawn["truncation-error"].reason
    assert not drawn["truncation-error"].files
    assert drawn["gradient-vs-lag"].files


def test_an_unknown_format_is_refused(small, tmp_path):
    with pytest.raises(gs.InputError, match="unknown format 'gif'; allowed: pdf, png, svg"):
        figures.write(small, tmp_path, ["gif"])


def lines(ax):
    return {line.get_gid(): line for line in ax.get_lines() if line.get_gid()}


@pytest.mark.parametrize(("name", "x"), [("gradient-vs-lag", "lag"), ("gradient-vs-length", "seq_len")])
def test_the_lines_are_the_tables_medians(name, x, small):
    table = module(name).table(small)
    figure = module(name).draw(table)
    for ax, panel in zip(figure.axes, table["panel"].unique(), strict=False):
        assert ax.get_title() == panel
        for radius, group in table[table["panel"] == panel].groupby("spectral_radius"):
            line = lines(ax)[f"spectral_radius {radius:g}"]
            np.testing.assert_array_equal(line.get_xdata(), group[x])
            np.testing.assert_array_equal(line.get_ydata(), group["median"])


def test_half_lives_are_those_of_the_gates_where_weights_are_none_and_beyond_where_they_are_not_small(gated):
    table = module("half-life").table(gated)
    assert list(table["panel"].unique()) == ["gru", "lstm"]
    law = np.log(0.5) / -np.logaddexp(0.0, -table["x"])
    np.testing.assert_allclose(table["law"], law, rtol=1e-9)
    none = table[(table["spectral_radius"] == 0) & (table["x"] < 5)]
    for column in ("low", "median", "high"):
        np.testing.assert_allclose(none[column], none["law"], rtol=1e-9)
    figure = module("half-life").draw(table)
    for ax, panel in zip(figure.axes, ["gru", "lstm"], strict=True):
        own = table[(table["panel"] == panel) & (table["spectral_radius"] == 0.1)]
        np.testing.assert_array_equal(lines(ax)["law"].get_ydata(), table[table["panel"] == panel]["law"].unique())
        np.testing.assert_array_equal(lines(ax)["0.1"].get_ydata(), own["median"][:3])
        assert list(lines(ax)["0.1 beyond"].get_xdata()) == [5.0]  # 103 steps without weights, of which there are 40


def test_half_lives_against_the_longest_memory_have_the_law_of_the_median(tmp_path):
    keys = {"cell": "gru", "chrono": [4, 8, 16, 32], "spectral_radius": 0.0, "input_scale": 0.0, "hidden_size": 1}
    table = module("half-life").table(gs.sweep("cells", tmp_path / "out", GATED | keys | {"seeds": 9}, jobs=1))
    assert list(table["axis"].unique()) == ["chrono"]
    assert list(table["x"]) == [4, 8, 16, 32]
    np.testing.assert_allclose(table["law"], np.log(0.5) / np.log1p(-1 / (1 + table["x"] / 2)), rtol=1e-9)
    memories = [1 + np.exp(chrono_bias(seed, 1, 16)[0]) for seed in range(9)]
    expected = np.log(0.5) / np.log1p(-1 / np.median(memories))
    assert table.loc[table["x"] == 16, "median"].item() == pytest.approx(expected, rel=1e-9)
    ax = module("half-life").draw(table).axes[0]
    assert ax.get_xscale() == "log"


def test_the_heat_map_holds_the_tables_values_and_marks_the_boundary(orthogonal):
    table = module("radius-lag-map").table(orthogonal)
    ax = module("radius-lag-map").draw(table).axes[0]
    (mesh,) = ax.collections[:1]
    wide = table.pivot_table(index="spectral_radius", columns="lag", values="decades")
    np.testing.assert_array_equal(mesh.get_array().reshape(wide.shape), wide)
    np.testing.assert_allclose(wide.loc[0.8], np.arange(40) * np.log10(0.8), atol=1e-9)
    np.testing.assert_array_equal(lines(ax)["boundary"].get_ydata(), table["boundary"].iloc[0])


def test_the_heat_map_tells_zero_from_missing(tmp_path):
    extremes = {"activation": "linear", "spectral_radius": [0.0, 0.5, 1.0, 40.0], "seq_len": [20, 400], "seeds": 1}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL | extremes, jobs=1)
    table = module("radius-lag-map").table(results)
    mesh = module("radius-lag-map").draw(table).axes[0].collections[0]
    zero, vanishing, flat, missing = mesh.get_array().reshape(4, -1)[:, 1:]
    assert (zero < mesh.norm.vmin).all()
    assert not np.ma.getmaskarray(vanishing).any()
    assert not np.ma.getmaskarray(flat).any()
    assert np.ma.getmaskarray(missing).all()


def test_the_influence_figure_shows_sums_thresholds_and_each_descent(balancing):
    table = module("influence-balancing").table(balancing)
    sums, last, every = module("influence-balancing").draw(table).axes[:3]
    for steps, threshold, of_hundred in (("last", 41, -6.0), ("all", 110, 0.58)):
        assert lines(sums)[f"threshold {steps}"].get_xdata()[0] == threshold
        curve = lines(sums)[f"sum {steps}"].get_ydata()
        assert curve[threshold - 2] > 0 > curve[threshold - 1]
        points = dict(zip(*lines(sums)[f"chunks {steps}"].get_data(), strict=True))
        np.testing.assert_allclose(points[100], of_hundred, rtol=1e-6)
    for ax, steps in ((last, "last"), (every, "all")):
        assert {text.get_text() for text in ax.texts} == set(balancing.runs["truncation"])
        for spec in balancing.runs["truncation"].unique():
            own = balancing.select(truncation=spec, loss_steps=steps).runs
            medians = np.log10(own.groupby("iterations")["loss_value"].median())  # of three seeds: one of them
            np.testing.assert_allclose(lines(ax)[spec].get_ydata(), medians, rtol=1e-12)


def test_the_influence_figure_has_panels_for_what_else_is_swept(tmp_path):
    overrides = {"learning_rate": [1e-5, 1e-4], "iterations": [1, 10], "truncation": "chunked:2", "seeds": 1}
    results = gs.sweep("influence-balancing", tmp_path / "out", overrides=overrides, jobs=1)
    table = module("influence-balancing").table(results)
    assert list(table["panel"].unique()) == [
        "sum of influences",
        "loss at the last step of each unroll, learning_rate = 0.0001",
        "loss at every step, learning_rate = 0.0001",
        "loss at the last step of each unroll, learning_rate = 1e-05",
        "loss at every step, learning_rate = 1e-05",
    ]
    assert [ax.get_title() for ax in module("influence-balancing").draw(table).axes][:5] == list(
        table["panel"].unique()
    )


def test_other_figures_and_findings_leave_problems_alone(balancing, tmp_path):
    drawn = figures.write(balancing, tmp_path, formats=[])
    assert [figure.name for figure in drawn if figure.files] == ["influence-balancing"]
    told = [finding.text for finding in findings(balancing)]
    assert len(told) == 3
    assert told[0].startswith(
        "Influence balancing, loss at the last step of each unroll: the gradient of a chunk has the right sign from 41 "
        "steps on. After 3,000 updates theta is nearer to its optimum than at the start under full, chunked:100"
    )
    assert "farther from its optimum under chunked:10" in told[0]
    assert "the right sign from 110 steps on" in told[1]
    assert "farther from its optimum under chunked:10, chunked:100" in told[1]
    assert "random:16 -6 ± 54.2 with the right sign in 15% of draws" in told[2]


def test_the_truncation_figure_has_a_line_for_each_truncation_and_measure(small):
    table = module("truncation-error").table(small)
    figure = module("truncation-error").draw(table)
    for ax, measure in zip(figure.axes[::2][:2], ["relative_error", "cosine"], strict=True):
        for line in (line for line in ax.get_lines() if not line.get_label().startswith("_")):
            panel = figure.axes[0].get_title()
            chosen = table[
                (table["truncation"] == line.get_label()) & (table["measure"] == measure) & (table["panel"] == panel)
            ]
            np.testing.assert_array_equal(line.get_ydata(), chosen["median"])
