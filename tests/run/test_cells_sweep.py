"""Sweeps of several cells: panels and findings that tell them apart, and figures by value against closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import gradscope as gs
from gradscope import analysis, figures, lags
from gradscope.drawing import CannotDrawError
from gradscope.figures import credit_map, phase_diagram, reach, reach_trained, sensitivity, state_parts
from gradscope.reporting.findings import findings
from gradscope.theory import critical_radius

TINY = {"hidden_size": 4, "seq_len": 8, "batch_size": 2, "seeds": 2}
SIGMOID = 1 / (1 + np.exp(-1.0))  # of the default forget bias


def swept(folder, given, **overrides):
    """A shipped experiment with other keys."""
    return gs.sweep(given, folder / "out", overrides=overrides, jobs=1)


def tiny(folder, measure="gradients", **keys):
    """A small sweep of nothing but these keys."""
    folder.mkdir(exist_ok=True)
    experiment = folder / "tiny.toml"
    experiment.write_text(f'[sweep]\nmeasure = "{measure}"\n', encoding="utf-8")
    return swept(folder, experiment, **TINY | keys)


@pytest.fixture(scope="module")
def gates(tmp_path_factory):
    """LSTMs without weights: along c gradients change by what the forget gate lets through, and h passes nothing on."""
    keys = {"cell": ["lstm", "gru"], "spectral_radius": 0.0, "input_scale": 0.0, "forget_bias": [0.0, 1.0]}
    return tiny(tmp_path_factory.mktemp("gates"), **keys, seq_len=12)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trainings of two cells; linear networks with orthogonal W_hh of spectral radius 1/2 halve gradients at first."""
    keys = {
        "cell": ["elman", "lstm"],
        "activation": "linear",
        "spectral_radius": 0.5,
        "match": "state",
        "task": "recall",
        "delay": [1, 2],
    }
    return tiny(tmp_path_factory.mktemp("trained"), "training", **keys, seq_len=12, steps=4, record_every=2)


def drawn(ax):
    return {line.get_gid(): line for line in ax.get_lines() if line.get_gid()}


# --- panels -----------------------------------------------------------------------------------------------------------


def test_panels_name_the_cell_its_options_and_its_size(celled):
    assert set(analysis.panels(celled)) == {
        "elman, 6 units",
        "lstm, forget_bias = 0, 2 units",
        "lstm, forget_bias = 2, 2 units",
        "diagonal, 14 units",
    }
    assert set(analysis.panels(celled, "cell")) == {"", "forget_bias = 0", "forget_bias = 2"}  # whose sizes differ


def test_sizes_that_are_swept_are_named_as_a_parameter(tmp_path):
    results = tiny(tmp_path, cell=["elman", "lstm"], hidden_size=[4, 8], match="state")
    assert set(analysis.panels(results)) == {
        "elman, hidden_size = 4",
        "elman, hidden_size = 8",
        "lstm, hidden_size = 2",
        "lstm, hidden_size = 4",
    }


def test_cells_of_one_size_are_not_named_by_it(gates):
    assert set(analysis.panels(gates)) == {"gru", "lstm, forget_bias = 0", "lstm, forget_bias = 1"}


# --- reach ------------------------------------------------------------------------------------------------------------


def test_half_lives_and_horizons_of_linear_networks_are_what_the_radius_gives(orthogonal):
    found = lags.reaches(orthogonal)
    assert set(found["spectral_radius"]) == {0.8, 0.9, 1.2}
    for (radius, measure), own in found.groupby(["spectral_radius", "measure"]):
        share = {"half_life": 0.5, "horizon": 0.01}[measure]
        expected = np.log(share) / np.log(radius)
        within = radius < 1 and expected <= 39
        np.testing.assert_allclose(own["steps"], expected if within else np.inf, rtol=1e-9)


def test_reach_tells_the_output_from_the_cell_state(gates):
    table = reach.table(gates).set_index(["network", "part", "panel"])["steps"]
    for bias, factor in ((0, 0.5), (1, SIGMOID)):
        network = next(name for name in table.index.get_level_values(0) if f"forget_bias = {bias}" in name)
        half, horizon = np.log(0.5) / np.log(factor), np.log(0.01) / np.log(factor)
        np.testing.assert_allclose(table[network, "c", "half-life"], half, rtol=1e-9)
        within = horizon if horizon <= 11 else np.inf
        np.testing.assert_allclose(table[network, "c", "horizon of 1 %"], within, rtol=1e-9)
        assert (table[network, "h", "half-life"] == 1.0).all()  # nothing at all is left of h a step before
    assert half == pytest.approx(2.213, abs=5e-4)  # Jozefowicz, Zaremba & Sutskever's bias of 1


def test_what_reaches_beyond_the_sequence_is_marked_and_not_given_a_number():
    seeds = {"panel": "half-life", "network": "net", "part": "h", "seed": [0, 1, 2], "seq_len": 10}
    for steps, median in (([2.0, 4.0, np.inf], 4.0), ([2.0, np.inf, np.inf], None)):
        (ax, *_) = reach.draw(pd.DataFrame(seeds | {"steps": steps})).axes
        marks = drawn(ax)
        np.testing.assert_array_equal(marks["net h seeds"].get_xdata(), np.array(steps)[np.isfinite(steps)])
        assert (marks["net h beyond"].get_xdata() > 10).all()
        assert len(marks["net h beyond"].get_xdata()) == np.isinf(steps).sum()
        assert marks["length"].get_xdata()[0] == 10
        (shown,) = marks["net h median"].get_xdata()
        assert shown == median if median else (shown > 10 and marks["net h median"].get_marker() == ">")


def test_each_network_has_a_row(celled):
    table = reach.table(celled)
    figure = reach.draw(table)
    networks = list(dict.fromkeys(table["network"]))
    assert [label.get_text().replace("\n", " ") for label in figure.axes[0].get_yticklabels()] == networks
    for ax, panel in zip(figure.axes, sorted(table["panel"].unique()), strict=False):
        for (network, part), own in table[table["panel"] == panel].groupby(["network", "part"]):
            median = drawn(ax)[f"{network} {part} median"]
            assert round(median.get_ydata()[0]) == networks.index(network)
            if np.isfinite(own["steps"]).all():
                assert median.get_xdata()[0] == own["steps"].median()


# --- credit map -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def credited(tmp_path_factory):
    """Linear networks with orthogonal W_hh: every loss's gradient halves a step."""
    keys = {
        "cell": "elman",
        "activation": "linear",
        "ensemble": "orthogonal",
        "spectral_radius": 0.5,
    }
    return tiny(tmp_path_factory.mktemp("credited"), **keys, loss_steps=["last", "all", "2", "5", "2,5"])


def test_the_credit_map_has_a_row_for_each_single_loss_step(credited):
    table = credit_map.table(credited)
    assert table.groupby("loss_step")["lag"].agg(list).to_dict() == {2: [0, 1], 5: [0, 1, 2, 3, 4], 8: list(range(8))}
    np.testing.assert_allclose(table["decades"], table["lag"] * np.log10(0.5), atol=1e-12)


def test_lags_before_the_sequence_are_blank(credited):
    table = credit_map.table(credited)
    (mesh,) = credit_map.draw(table).axes[0].collections[:1]
    shown = mesh.get_array().reshape(3, 8)
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), [[lag >= step for lag in range(8)] for step in (2, 5, 8)])
    np.testing.assert_array_equal(shown.compressed(), table.sort_values(["loss_step", "lag"])["decades"])


def test_the_credit_map_needs_three_losses(credited):
    with pytest.raises(CannotDrawError, match="three single loss steps"):
        credit_map.table(credited.select(loss_steps=["last", "2"]))


# --- parts of the state -----------------------------------------------------------------------------------------------


def test_along_the_cell_state_gradients_change_by_the_forget_gate(gates):
    table = state_parts.table(gates)
    assert set(table["panel"].str.contains("lstm")) == {True}
    c = table[table["part"] == "c"]
    np.testing.assert_allclose(c["median"], c["theory"], atol=1e-12)
    one = c[c["panel"].str.contains("forget_bias = 1")]
    np.testing.assert_allclose(np.diff(one["median"]), np.log10(SIGMOID), atol=1e-12)
    h = table[(table["part"] == "h") & (table["lag"] > 0)]
    assert np.isneginf(h["median"]).all()
    assert table.loc[table["part"] == "h", "theory"].isna().all()


def test_no_single_gate_is_drawn_where_units_have_their_own(tmp_path):
    table = state_parts.table(tiny(tmp_path, cell="lstm", chrono=8))
    assert set(table["part"]) == {"c", "h"}
    assert table["theory"].isna().all()


def test_layers_of_a_stack_are_parts(tmp_path):
    results = tiny(tmp_path, cell=["elman", "lstm"], num_layers=2)
    table = state_parts.table(results)
    parts = table.groupby(table["panel"].str.split(",").str[0])["part"].agg(set).to_dict()
    assert parts == {
        "elman": {"h, layer 0", "h, layer 1"},
        "lstm": {"c, layer 0", "c, layer 1", "h, layer 0", "h, layer 1"},
    }
    steps = results.timesteps
    own = steps[steps["run_id"].astype(str).isin(results.select(cell="elman").runs["run_id"].astype(str))]
    expected = own.groupby("lag")["log10_dh_l1"].median()
    shown = table[table["panel"].str.startswith("elman") & (table["part"] == "h, layer 1")]
    np.testing.assert_allclose(shown["median"], expected, rtol=1e-12)
    lines = drawn(state_parts.draw(table).axes[0])
    np.testing.assert_array_equal(lines["part h, layer 1"].get_ydata(), shown["median"])


# --- states and weights of diagonal networks --------------------------------------------------------------------------


def test_weight_gradients_grow_as_the_curse_of_memory_has_it():
    # Zucchet & Orvieto (2024): at lambda = .9 E(dh/dlambda)^2 = 263.88686, for unit input and gamma = 1.
    assert lags._modulus_law(0.9, 1.0, 2000) ** 2 / (1 - 0.81) == pytest.approx(263.88686, rel=1e-7)
    assert lags._modulus_law(0.9, 0.3, 2) == pytest.approx(0.3 * np.sqrt(1 - 0.81))  # of a single step before


def test_weight_gradients_are_as_large_as_white_input_makes_them(tmp_path):
    keys = {"spectral_radius": [0.5, 0.8, 0.9], "seq_len": 40, "hidden_size": 128, "seeds": 200}
    results = swept(tmp_path, "state-vs-weight", **keys)
    found = lags.sensitivities(results)
    assert (found.loc[found["measure"] == "state", "ratio"] == 1.0).all()
    for _, own in found[found["measure"] != "state"].groupby(["measure", "spectral_radius"]):
        assert np.sqrt(np.mean(own["ratio"] ** 2)) == pytest.approx(own["law"].iloc[0], rel=0.03)
    table = sensitivity.table(results)
    lines = drawn(sensitivity.draw(table).axes[0])
    modulus = table[table["measure"] == "modulus"].sort_values("distance", ascending=False)
    np.testing.assert_array_equal(lines["law modulus"].get_ydata(), modulus["law"])
    np.testing.assert_allclose(sorted(lines["law modulus"].get_xdata()), [0.1, 0.2, 0.5])
    medians = table.set_index(["measure", "spectral_radius"])["median"]
    told = " ".join(finding.text for finding in findings(results))
    assert f"from {medians['modulus', 0.5]:.2g} to {medians['modulus', 0.9]:.2g} times that by the last state" in told
    assert "by an earlier state is never more than 1 times it" in told


def test_the_method_has_the_equations_of_the_cells_that_were_swept(tmp_path):
    diagonal = tiny(tmp_path, cell="diagonal", spectral_radius=0.5)
    text = gs.report(diagonal, formats=()).read_text(encoding="utf-8")
    assert 'aria-label="h t is f of' not in text
    assert "largest |λ|" in text
    assert "transposed Jacobian" in text


def test_other_inputs_have_no_law(tmp_path):
    results = swept(tmp_path, "state-vs-weight", task="sine", seq_len=20, hidden_size=8, seeds=2)
    table = sensitivity.table(results)
    assert table.loc[table["measure"] != "state", "law"].isna().all()
    assert np.isfinite(table["median"]).all()


# --- before and after training ----------------------------------------------------------------------------------------


def test_reach_before_training_is_what_the_radius_gives(trained):
    runs = trained.select(cell="elman").runs
    np.testing.assert_allclose(runs["half_life_initial"], 1.0, rtol=1e-9)
    np.testing.assert_allclose(runs["horizon_initial"], np.log(100) / np.log(2), rtol=1e-9)
    assert (runs["half_life_trained"] != runs["half_life_initial"]).all()


def test_reach_after_training_is_that_of_the_last_look(trained):
    steps = trained.timesteps.astype({"run_id": str})
    for run in trained.runs.itertuples():
        own = steps[steps["run_id"] == str(run.run_id)].sort_values("lag")
        own = own[own["lag"] >= 0]
        decades = own["log10_dh"].to_numpy() - own["log10_dh"].to_numpy()[0]
        assert run.horizon_trained == np.inf or decades[int(np.ceil(run.horizon_trained)) :].max() <= -2


def test_the_figure_shows_both_for_each_cell_and_its_size(trained):
    table = reach_trained.table(trained)
    assert list(table["network"].unique()) == ["elman, 4 units", "lstm, 2 units"]
    assert {panel.partition(", ")[0] for panel in table["panel"]} == {"half-life", "horizon of 1 %"}
    at = table[
        (table["network"] == "elman, 4 units")
        & (table["when"] == "initial")
        & (table["panel"] == "half-life, delay = 1")
    ]
    np.testing.assert_allclose(at["steps"], 1.0, rtol=1e-9)
    ax = next(ax for ax in reach_trained.draw(table).axes if ax.get_title() == "half-life, delay = 1")
    assert drawn(ax)["elman, 4 units initial median"].get_xdata()[0] == pytest.approx(1.0)


# --- findings and reports ---------------------------------------------------------------------------------------------


def test_findings_say_what_is_equal_and_how_far_each_reaches(celled, trained):
    told = [finding.text for finding in findings(celled)]
    assert told[0] == (
        "Cells are compared at equal cost: their number of parameters is about that of an Elman network of 6 units. "
        "So many units they have: elman 6, lstm 2, diagonal 14."
    )
    reached = [text for text in told if text.startswith("At spectral radius 0.5 at most half")]
    assert len(reached) == 1
    assert "elman, 6 units: " in reached[0]
    assert "c of lstm, forget_bias = 2, 2 units: " in reached[0]
    texts = [finding.text for finding in findings(trained)]
    delays = [
        text.partition(":")[0] for text in texts if "half of the last loss's gradient at lag 0 is left goes" in text
    ]
    assert delays == ["delay = 1", "delay = 2"]
    radii = trained.runs.groupby("cell", observed=True)["trained_radius"].median()
    (weights,) = [text for text in texts if text.startswith("The spectral radius went")]
    assert f"elman from 0.5 to {radii['elman']:.3g}; lstm from 0.5 to {radii['lstm']:.3g}." in weights
    assert "Of lstm it is that of the candidate's block of W_hh." in weights


def test_at_one_spectral_radius_findings_name_truncations(tmp_path):
    keys = {"truncation": ["full", "fixed:1", "fixed:6"], "loss_steps": ["last", "all"], "seeds": 3}
    results = tiny(tmp_path, **keys, spectral_radius=0.1)
    told = " ".join(finding.text for finding in findings(results))
    assert "at spectral radius 0.1: under fixed:6; not under fixed:1." in told
    assert "There the gradient halves every" in told


@pytest.mark.parametrize("cell", ["lstm", "gru", "diagonal", "irnn"])
def test_a_sweep_of_one_cell_without_an_activation_has_a_report(cell, tmp_path):
    keys = {"cell": cell, "spectral_radius": [0.5, 0.7, 0.9], "loss_steps": ["last", "all"]}
    results = tiny(tmp_path, **keys, truncation=["full", "fixed:2"])
    drawings = {one.name: one for one in figures.write(results, tmp_path / "figures", formats=[])}
    assert drawings["gradient-vs-lag"].files
    assert "nan" not in " ".join(finding.text for finding in findings(results))
    rates = analysis.theoretical_rates(results)
    if cell == "diagonal":
        np.testing.assert_allclose(rates, np.log(results.runs["spectral_radius"]))
    else:
        assert rates.isna().all()


# --- shipped experiments, small ---------------------------------------------------------------------------------------


def test_the_boundary_against_input_strength_is_tabulated_beside_mean_field(tmp_path):
    keys = {"ensemble": "orthogonal", "hidden_size": 48, "spectral_radius": [1.0, 1.4, 1.8, 2.2], "seq_len": 60}
    results = swept(tmp_path, "input-criticality", **keys | {"input_scale": [0.1, 0.5], "batch_size": 2, "seeds": 2})
    table = phase_diagram.table(results).drop_duplicates("input_scale")
    np.testing.assert_allclose(table["theory"], [critical_radius("tanh", scale, "orthogonal") for scale in (0.1, 0.5)])
    np.testing.assert_array_equal(table["difference"], table["boundary"] - table["theory"])
    assert (table["difference"].abs() < 0.15).all()  # of so few units


@pytest.mark.parametrize(
    ("name", "keys", "shows"),
    [
        (
            "cells",
            TINY | {"seq_len": 10, "loss_steps": ["last", "all", "3", "6"]},
            ["credit-map", "reach", "state-parts"],
        ),
        ("cells-trained", TINY | {"delay": [1, 2], "steps": 2, "record_every": 1}, ["reach-trained", "memory"]),
        ("state-vs-weight", {"seq_len": 20, "hidden_size": 8, "seeds": 2}, ["sensitivity"]),
    ],
)
def test_shipped_experiments_show_what_they_are_for(name, keys, shows, tmp_path):
    results = swept(tmp_path, name, **keys)
    drawings = {
        one.name: one for one in figures.write(results, tmp_path / "figures", formats=["png"], only=shows, dpi=50)
    }
    assert {figure: one.reason for figure, one in drawings.items()} == dict.fromkeys(shows, "")


def test_gradients_that_fall_before_they_grow_are_not_just_said_to_explode(tmp_path):
    """An LSTM that keeps nearly all begins with c = 0, and grows into it: near the beginning gradients are larger."""
    keys = {"hidden_size": 16, "seq_len": 100, "spectral_radius": 0.95, "batch_size": 8}
    for bias, turns in ((5.0, True), (0.0, False)):
        results = tiny(tmp_path / str(bias), cell="lstm", forget_bias=bias, **TINY | keys)
        text = " ".join(one.text for one in findings(results) if one.topic == "regimes")
        assert ("explode" in text) == ("they fall first" in text) == turns
