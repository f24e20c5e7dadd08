"""Figures as users ask for them: other lines and panels, some runs only, a venue's size; drawn again and checked."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from matplotlib.colors import to_rgb
from small_sweep import SMALL

import gradscope as gs
from gradscope import drawing, figures, redrawing, venues
from gradscope.cli import cli
from gradscope.drawing import CannotDrawError


def drawn_lines(ax):
    return {line.get_gid(): line for line in ax.get_lines() if line.get_gid()}


def full_last(results, **others):
    """log10 |dL/dh_t| of last-step, full-BPTT runs, with their parameters."""
    chosen = results.select(truncation="full", loss_steps="last", **others)
    return chosen.timesteps.astype({"run_id": str}).merge(chosen.runs.astype({"run_id": str}), on="run_id")


def test_another_hue_has_its_own_lines_and_the_radius_has_panels(small):
    figure = gs.figure(small, "gradient-vs-lag", hue="seq_len")
    assert [ax.get_title() for ax in figure.axes[:6]] == [
        f"{activation}, spectral_radius = {radius:g}" for activation in ("linear", "tanh") for radius in (0.5, 1.0, 1.5)
    ]
    for seq_len in (6, 12):
        own = full_last(small, activation="linear", spectral_radius=1.5, seq_len=seq_len)
        line = drawn_lines(figure.axes[2])[f"seq_len {seq_len}"]
        np.testing.assert_allclose(line.get_ydata(), own.groupby("lag")["log10_dh"].median(), rtol=1e-12)


def test_a_facet_has_panels_for_what_the_figure_would_leave_out(small):
    figure = gs.figure(small.select(activation="tanh"), "gradient-vs-lag", facet=["seq_len"])
    assert [ax.get_title() for ax in figure.axes[:2]] == ["seq_len = 6", "seq_len = 12"]
    own = full_last(small, activation="tanh", spectral_radius=1.0, seq_len=6)
    line = drawn_lines(figure.axes[0])["spectral_radius 1"]
    np.testing.assert_allclose(line.get_ydata(), own.groupby("lag")["log10_dh"].median(), rtol=1e-12)


def test_a_facet_may_be_the_truncation_the_seed_or_what_makes_panels_anyway(small):
    by_truncation = figures.table_of(small.viewed(facet=["truncation"]), "gradient-vs-lag")
    assert set(by_truncation["panel"]) == {
        f"{spec}, {activation}"
        for spec in ("full", "fixed:3", "chunked:4", "random:4")
        for activation in ("tanh", "linear")
    }
    by_seed = figures.table_of(small.viewed(facet=["seed", "activation"]), "gradient-vs-lag")
    assert set(by_seed["panel"]) == {f"seed = {seed}, {f}" for seed in (0, 1) for f in ("tanh", "linear")}
    np.testing.assert_array_equal(by_seed["low"], by_seed["high"])


def test_truncation_errors_may_be_told_apart_by_activation(small):
    table = figures.table_of(small.viewed(hue="activation"), "truncation-error")
    assert list(table.columns[:2]) == ["panel", "activation"]
    assert set(table["panel"]) == {"fixed:3", "chunked:4", "random:4"}
    chosen = small.select(truncation="fixed:3", loss_steps="all", seq_len=12, activation="tanh", spectral_radius=1.5)
    row = table[
        (table["panel"] == "fixed:3")
        & (table["measure"] == "cosine")
        & (table["activation"] == "tanh")
        & (table["spectral_radius"] == 1.5)
    ]
    assert row["median"].item() == pytest.approx(chosen.runs["cosine"].median(), rel=1e-12)


@pytest.mark.parametrize("name", [name for name in figures.names() if not hasattr(figures._module(name), "LINES")])
def test_a_figure_without_lines_of_that_kind_says_so(name, small):
    with pytest.raises(CannotDrawError, match="has no lines that could differ by seq_len"):
        gs.figure(small, name, hue="seq_len")


def test_a_condition_chooses_runs(small):
    chosen = small.where("spectral_radius < 1.2 and truncation == 'full'")
    assert set(chosen.runs["spectral_radius"]) == {0.5, 1.0}
    assert set(chosen.runs["truncation"]) == {"full"}
    assert len(chosen.where("seq_len == 6").runs) == len(chosen.runs) / 2
    assert (
        chosen.where("seq_len == 6").view.where == "(spectral_radius < 1.2 and truncation == 'full') and (seq_len == 6)"
    )


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("radius < 1", r"'radius < 1': name 'radius' is not defined; allowed: a condition on run_id, cell"),
        ("spectral_radius <", r"'spectral_radius <': "),
        ("spectral_radius * 2", r"'spectral_radius \* 2' is no condition"),
        ("spectral_radius > 9", r"'spectral_radius > 9' holds for none of the 192 rows"),
        ("@__builtins__", r"'@__builtins__' is no condition"),
        ("", r"'': "),
    ],
)
def test_what_is_no_condition_is_refused(condition, why, small):
    with pytest.raises(gs.InputError, match=f"^where: {why}"):
        small.where(condition)


@pytest.mark.parametrize(
    ("view", "why"),
    [
        ({"hue": "radius"}, "hue: radius is no parameter; allowed: .*spectral_radius"),
        ({"facet": ["hidden_size"]}, "facet: hidden_size has one value; allowed: .*truncation"),
    ],
)
def test_what_cannot_be_a_hue_or_a_facet_is_refused(view, why, small):
    with pytest.raises(gs.InputError, match=why):
        gs.figure(small, "gradient-vs-lag", **view)


@pytest.mark.parametrize("name", venues.VENUES)
def test_a_figure_has_its_final_width_and_type_at_each_venue(name, small):
    venue = venues.venue(name)
    one = gs.figure(small.select(activation="tanh"), "gradient-vs-lag", style=name)
    two = gs.figure(small, "gradient-vs-lag", style=name)
    assert one.get_figwidth() == venue.column
    assert two.get_figwidth() == venue.page
    assert one.axes[0].xaxis.label.get_size() == venue.settings["axes.labelsize"]
    assert one.axes[0].xaxis.get_ticklabels()[0].get_size() == venue.settings["xtick.labelsize"]


def test_widths_are_those_of_the_venues():
    millimetres = {name: tuple(round(25.4 * width) for width in venues.venue(name)[:2]) for name in ("nature", "pnas")}
    assert millimetres == {"nature": (89, 183), "pnas": (87, 178)}
    assert venues.venue("icml")[:2] == (3.25, 6.75)
    assert venues.venue("neurips").page == venues.venue("iclr").page == 5.5
    assert venues.venue("jmlr").page == 6.0


def test_what_cannot_be_a_style_is_refused(small, monkeypatch):
    with pytest.raises(gs.InputError, match=r"style: unknown style 'neurip'; allowed: .*; did you mean 'neurips'"):
        gs.figure(small, "gradient-vs-lag", style="neurip")
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(gs.InputError, match="latex: latex is not installed"):
        gs.figure(small, "gradient-vs-lag", latex=True)


def test_lines_can_be_told_apart_without_colour():
    specs = ["full", *(f"{kind}:{tau}" for kind in ("fixed", "chunked", "random", "buffered") for tau in (5, 10, 20))]
    looks = drawing.looks_of(specs)
    assert len({(str(look["linestyle"]), look["marker"]) for look in looks.values()}) == len(specs)
    words = drawing.looks_for("activation", ["tanh", "relu", "linear", "sigmoid"])
    assert len({(str(look["linestyle"]), look["marker"]) for look in words.values()}) == 4
    numbers = drawing.looks_for("seq_len", [25, 50, 100, 200])
    assert len({str(look["linestyle"]) for look in numbers.values()}) == 4
    radii = drawing.looks_for("spectral_radius", [0.5, 1.0, 1.5])
    assert radii[0.5]["linestyle"] != radii[1.5]["linestyle"]


@pytest.mark.parametrize(
    ("hue", "values"), [("seq_len", [25, 50, 100, 200]), ("input_scale", np.geomspace(0.01, 1, 9))]
)
def test_colours_of_numbers_get_darker_all_the_way(hue, values):
    colours = [to_rgb(look["color"]) for look in drawing.looks_for(hue, values).values()]
    grey = np.array(colours) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(grey) < 0).all()


@pytest.mark.parametrize("colour", ["white", "yellow", "0.9", "C0", "black"])
def test_text_is_dark_enough_on_white(colour):
    def luminance(rgb):  # of WCAG 2
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    assert 1.05 / (luminance(drawing.legible(colour)) + 0.05) >= 4.5
    assert drawing.legible("black") == (0.0, 0.0, 0.0)


def test_labels_at_the_ends_of_lines_do_not_lie_on_each_other(small):
    figure = gs.figure(small.select(activation="tanh"), "truncation-error")
    figure.draw_without_rendering()
    for ax in figure.axes:
        boxes = sorted((text.get_window_extent() for text in ax.texts if text.get_text()), key=lambda box: box.y0)
        assert len(boxes) == 3
        assert all(lower.y1 <= upper.y0 + 1 for lower, upper in pairwise(boxes))


def test_the_theoretical_slope_of_linear_networks_is_their_radius(small):
    table = figures.table_of(small, "gradient-vs-lag")
    linear = table[(table["panel"] == "linear") & (table["lag"] >= 2)]
    for radius, line in linear.groupby("spectral_radius"):
        start = line[line["lag"] == 2]["median"].item()
        np.testing.assert_allclose(line["theory"], start + np.log10(radius) * (line["lag"] - 2), rtol=1e-12)
    drawn = drawn_lines(gs.figure(small, "gradient-vs-lag").axes[0])["theory 0.5"]
    np.testing.assert_array_equal(drawn.get_ydata(), linear[linear["spectral_radius"] == 0.5]["theory"])


def test_words_for_those_who_do_not_see_are_of_the_table(small, tmp_path):
    (figure,) = figures.write(small, tmp_path, ["svg"], only=["gradient-vs-length"])
    table = pd.read_csv(figure.files["csv"])
    assert figure.alt.startswith("2 panels: linear; tanh. spectral_radius from 0.5 to 1.5. seq_len from 6 to 12. ")
    assert f"median from {table['median'].min():.3g} to {table['median'].max():.3g}." in figure.alt


@pytest.fixture
def written(small, tmp_path):
    """A folder with two figures, drawn in two ways."""
    figures.write(small.where("seq_len == 12").viewed(hue="truncation"), tmp_path, ["svg"], only=["truncation-error"])
    figures.write(small, tmp_path, ["png", "pdf"], only=["gradient-vs-lag"], style="icml")
    return tmp_path


def test_figures_that_are_as_their_results_give_them_pass(small, written):
    assert redrawing.check(small, written) == (["truncation-error", "gradient-vs-lag"], [])


def test_other_numbers_are_said_before_other_bytes(small, written):
    path = written / "gradient-vs-lag.csv"
    table = pd.read_csv(path, keep_default_na=False)
    table.loc[[2, 5], "median"] = [7.0, 8.0]
    table.to_csv(path, index=False)
    (written / "gradient-vs-lag.png").write_bytes(b"")
    _, (found,) = redrawing.check(small, written)
    assert found.name == "gradient-vs-lag"
    assert found.what.startswith("numbers differ: median in 2 of 72 rows, by up to ")
    assert found.matters


def test_rows_that_are_gone_are_said(small, written):
    path = written / "gradient-vs-lag.csv"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    _, (found,) = redrawing.check(small, written)
    assert "71 rows of panel, spectral_radius" in found.what


def test_other_bytes_of_the_same_numbers_are_said(small, written):
    for kind in ("png", "pdf"):
        (written / f"gradient-vs-lag.{kind}").write_bytes(b"changed")
    _, (found,) = redrawing.check(small, written)
    assert found == ("gradient-vs-lag", "the same numbers, other bytes: png, pdf", True)


def test_a_missing_file_is_said(small, written):
    (written / "gradient-vs-lag.png").unlink()
    _, (found,) = redrawing.check(small, written)
    assert found.what == "gradient-vs-lag.png missing"


def test_bytes_may_differ_between_versions_numbers_may_not(small, written, monkeypatch):
    (written / "truncation-error.svg").write_bytes(b"changed")
    monkeypatch.setattr(figures, "versions", lambda: {"gradscope": "9.9", "matplotlib": "9.9"})
    _, (found,) = redrawing.check(small, written)
    assert not found.matters
    assert found.what.endswith("now gradscope 9.9, matplotlib 9.9)")


def test_a_selection_that_is_not_in_words_cannot_be_drawn_again(small, tmp_path):
    figures.write(small.select(seq_len=12), tmp_path, ["svg"], only=["gradient-vs-lag"])
    _, (found,) = redrawing.check(small, tmp_path)
    assert not found.matters
    assert "a selection that is not written down" in found.what


def test_a_folder_without_figures_cannot_be_checked(small, tmp_path):
    with pytest.raises(gs.InputError, match="holds no figures that could be checked"):
        redrawing.check(small, tmp_path)


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_the_command_line_draws_and_checks(small, tmp_path):
    place = ["-o", tmp_path]
    options = ["--only", "gradient-vs-lag", "--where", "seq_len == 12", "--hue", "activation", "--style", "nature"]
    result = run("figures", small.folder, *options, "--format", "svg", *place)
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {"gradient-vs-lag.csv", "gradient-vs-lag.svg", "figures.json"}
    how = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["figures"]["gradient-vs-lag"]
    assert how["style"] == "nature"
    assert how["view"] == {"hue": "activation", "facet": [], "where": "seq_len == 12"}
    assert "1 of 1 figures" in run("figures", small.folder, "--check", *place).output
    (tmp_path / "gradient-vs-lag.svg").write_bytes(b"")
    assert run("figures", small.folder, "--check", *place).exit_code == 1


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            ["--only", "gradient-vs-lags"],
            "unknown figure 'gradient-vs-lags'; allowed: .*; did you mean 'gradient-vs-lag'",
        ),
        (["--only", "influence-balancing"], "influence-balancing: cannot be drawn: needs runs with"),
        (["--check", "--hue", "seq_len"], "--check: goes without --hue"),
        (["--style", "word"], "unknown style 'word'"),
        (["--where", "nothing > 1"], "name 'nothing' is not defined"),
    ],
)
def test_the_command_line_refuses_what_cannot_be(options, why, small, tmp_path):
    with pytest.raises(gs.InputError, match=why):
        CliRunner().invoke(
            cli,
            ["figures", str(small.folder), "-o", str(tmp_path), *options],
            catch_exceptions=False,
            standalone_mode=False,
        )


@pytest.mark.parametrize(("name", "hue"), [("gradient-vs-length", "seq_len"), ("truncation-error", "spectral_radius")])
def test_what_lines_are_drawn_against_cannot_tell_them_apart(name, hue, small):
    with pytest.raises(CannotDrawError, match=f"is drawn against {hue}"):
        gs.figure(small, name, hue=hue)


@pytest.mark.parametrize("facet", ["truncation", "seq_len"])
def test_every_figure_can_be_asked_for_lengths_as_lines_and_for_facets(facet, small, tmp_path):
    """As README does."""
    view = {"hue": "seq_len", "facet": "truncation"} if facet == "truncation" else {"facet": facet}
    drawn = figures.write(small.viewed(**view), tmp_path, formats=[])
    assert "gradient-vs-lag" in {figure.name for figure in drawn if figure.files}


def test_a_parameter_is_a_hue_or_a_facet(small):
    with pytest.raises(gs.InputError, match="seq_len cannot tell both lines and panels apart"):
        small.viewed(hue="seq_len", facet=["seq_len"])


def test_truncated_gradients_have_no_theory(small):
    assert figures.table_of(small.viewed(facet=["truncation"]), "gradient-vs-lag")["theory"].isna().all()


def test_truncations_that_reach_over_the_whole_sequence_have_no_bias(tmp_path):
    overrides = SMALL | {"seq_len": 4, "truncation": ["full", "fixed:4", "fixed:5", "fixed:6"], "loss_steps": "all"}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=overrides, jobs=1)
    with pytest.raises(CannotDrawError, match="every TAU reaches over the whole sequence"):
        figures.table_of(results, "truncation-bias")
    assert gs.report(results, formats=()).is_file()
