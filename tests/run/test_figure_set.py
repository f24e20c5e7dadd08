"""Maps, distributions, spectra and slopes: their tables against closed forms and plain NumPy, and what is drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from scipy import stats
from small_sweep import SMALL

import gradscope as gs
from gradscope import analysis, figures, maps
from gradscope.drawing import CannotDrawError, canvas
from gradscope.figures import norm_distribution, phase_diagram, radius_lag_map, radius_length_map, saturation
from gradscope.theory import critical_radius

ONE_LOSS = {"truncation": "full", "loss_steps": "last"}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Twelve seeds, two input scales and all activations, at three radii."""
    overrides = ONE_LOSS | {
        "activation": ["tanh", "linear", "sigmoid"],
        "input_scale": [0.1, 1.0],
        "seq_len": 16,
        "seeds": 12,
        "spectral_radius": [0.5, 1.0, 2.0],
    }
    return gs.sweep(
        "spectral-radius", out=tmp_path_factory.mktemp("swept") / "out", overrides=SMALL | overrides, jobs=1
    )


@pytest.fixture(scope="module")
def extremes(tmp_path_factory):
    """Linear networks whose gradients are exactly zero, and whose states overflow in the longer sequence."""
    overrides = ONE_LOSS | {"activation": "linear", "spectral_radius": [0.0, 0.5, 1.0, 40.0], "seq_len": [20, 400]}
    return gs.sweep(
        "spectral-radius", out=tmp_path_factory.mktemp("extremes") / "out", overrides=SMALL | overrides, jobs=1
    )


def norms(results, **chosen):
    """log10 |dL/dh_t| of full-BPTT, last-step runs: run_id by lag, with their spectral radius, scale and seed."""
    part = results.select(truncation="full", loss_steps="last", **chosen)
    steps = part.timesteps.astype({"run_id": str}).pivot_table(index="run_id", columns="lag", values="log10_dh")
    about = part.runs.astype({"run_id": str}).set_index("run_id")
    return steps, about.loc[steps.index]


def drawn(ax):
    return {artist.get_gid(): artist for artist in ax.get_children() if artist.get_gid()}


def cells(ax, shape):
    return ax.collections[0].get_array().reshape(shape)


def test_what_reaches_the_first_step_of_orthogonal_networks_is_a_power_of_the_radius(orthogonal):
    table = radius_length_map.table(orthogonal)
    assert len(table) == 8
    expected = (table["seq_len"] - 1) * np.log10(table["spectral_radius"])
    np.testing.assert_allclose(table["decades"], expected, rtol=1e-9)
    low, high = np.log(0.9), np.log(1.1)
    np.testing.assert_allclose(table["boundary"], 0.9 - low * 0.2 / (high - low), rtol=1e-9)


def test_each_length_has_the_boundary_that_it_has_alone(small):
    table = radius_length_map.table(small)
    for length, own in table[table["panel"] == "linear"].groupby("seq_len"):
        alone = analysis.boundary(analysis.regimes(small.select(seq_len=int(length), activation="linear")))
        assert set(own["outcome"]) == {alone.outcome}
        np.testing.assert_array_equal(own["boundary"], alone.radius.value)
        np.testing.assert_array_equal(own["half_width"], alone.radius.half_width)


def test_the_length_map_holds_medians_and_marks_each_columns_boundary(small):
    table = radius_length_map.table(small)
    ax = figures.figure(small, "radius-length-map").axes[1]
    steps, about = norms(small, activation="tanh", seq_len=12)
    change = (steps[11] - steps[0]).groupby(about["spectral_radius"]).median()
    np.testing.assert_allclose(cells(ax, (3, 2))[:, 1], change, rtol=1e-12)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["6", "12"]
    for at, (length, own) in enumerate(table[table["panel"] == "tanh"].groupby("seq_len")):
        found = own.iloc[0]
        place = found["boundary"] if found["outcome"] == "crossing" else found["vanishing_to"]
        line = drawn(ax).get(f"boundary {length}")
        shown = [] if line is None else [list(part) for part in line.get_data()]
        assert shown == ([[at - 0.5, at + 0.5], [place, place]] if np.isfinite(place) else [])


def test_a_length_map_has_zeros_below_its_scale_and_blanks_where_states_overflowed(extremes):
    table = radius_length_map.table(extremes)
    values = table.pivot_table(index="spectral_radius", columns="seq_len", values="decades", dropna=False)
    assert np.isneginf(values.loc[0.0]).all()
    assert np.isfinite(values.loc[40.0, 20])
    ax = figures.figure(extremes, "radius-length-map").axes[0]
    shown = cells(ax, (4, 2))
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), [[0, 0], [0, 0], [0, 0], [0, 1]])
    assert (shown[0] < ax.collections[0].norm.vmin).all()
    np.testing.assert_array_equal(drawn(ax)["signs $0$"].get_offsets(), [[0, 0.0], [1, 0.0]])


def test_lengths_make_no_panels_on_a_map_of_lengths(small):
    asked = figures.table_of(small.viewed(facet=["seq_len", "activation"]), "radius-length-map")
    pd.testing.assert_frame_equal(asked, figures.table_of(small, "radius-length-map"))


def test_the_rates_of_a_phase_diagram_are_medians_of_slopes(swept):
    table = phase_diagram.table(swept)
    assert list(table.columns[:3]) == ["panel", "input_scale", "spectral_radius"]
    assert set(table["panel"]) == {"tanh", "linear", "sigmoid"}
    steps, about = norms(swept, activation="tanh")
    lags = np.arange(4, 16)  # a quarter of 16 steps is transient
    slopes = pd.Series(np.polyfit(lags, np.log(10.0) * steps[lags].T, 1)[0], steps.index)
    medians = slopes.groupby([about["input_scale"], about["spectral_radius"]]).median()
    np.testing.assert_allclose(table[table["panel"] == "tanh"]["rate"], medians, rtol=1e-9)
    assert set(table["seeds"]) == {12}


def test_a_phase_diagram_marks_theorys_boundary_in_each_column(swept):
    table = phase_diagram.table(swept)
    axes = {ax.get_title(): ax for ax in figures.figure(swept, "phase-diagram").axes}
    for at, scale in enumerate([0.1, 1.0]):
        for activation in ("tanh", "linear"):
            theory = critical_radius(activation, scale)
            own = table[(table["panel"] == activation) & (table["input_scale"] == scale)]
            np.testing.assert_array_equal(own["theory"], theory)
            x, y = drawn(axes[activation])[f"theory {scale}"].get_data()
            np.testing.assert_array_equal([x, y], [[at - 0.5, at + 0.5], [theory, theory]])
    values = table[table["panel"] == "tanh"].pivot_table(index="spectral_radius", columns="input_scale", values="rate")
    np.testing.assert_array_equal(cells(axes["tanh"], (3, 2)), values)
    assert not any(gid.startswith("theory") for gid in drawn(axes["sigmoid"]))  # beyond the radii that were swept


def test_the_boundary_of_a_linear_phase_diagram_is_interpolated_over_seeds(swept):
    steps, about = norms(swept, activation="linear", input_scale=0.1)
    lags = np.arange(4, 16)
    slopes = np.polyfit(lags, np.log(10.0) * steps[lags].T, 1)[0]
    rates = pd.DataFrame({"radius": about["spectral_radius"], "seed": about["seed"], "rate": slopes}).pivot_table(
        index="radius", columns="seed", values="rate"
    )
    crossings = [
        np.interp(0.0, rates[seed], rates.index) for seed in rates
    ]  # linear networks: rates rise with the radius
    interval = stats.t.interval(0.95, len(crossings) - 1, np.mean(crossings), stats.sem(crossings))
    table = phase_diagram.table(swept)
    found = table[(table["panel"] == "linear") & (table["input_scale"] == 0.1)].iloc[0]
    low, high = found["boundary"] - found["half_width"], found["boundary"] + found["half_width"]
    np.testing.assert_allclose([low, high], interval, rtol=1e-9)
    ax = next(ax for ax in figures.figure(swept, "phase-diagram").axes if ax.get_title() == "linear")
    hatched = drawn(ax)["interval of boundary 0.1"]
    np.testing.assert_allclose([hatched.get_y(), hatched.get_y() + hatched.get_height()], interval, rtol=1e-9)


def test_the_second_parameter_is_a_number_then_a_word_or_what_the_view_names(small, swept):
    assert analysis.beside(swept) == "input_scale"
    assert analysis.beside(swept, first="activation") == "activation"
    assert analysis.beside(swept.viewed(facet=["input_scale"])) == "activation"
    assert analysis.beside(swept.viewed(facet=["input_scale", "activation"])) is None
    assert analysis.beside(swept.viewed(hue="activation")) == "activation"
    assert analysis.beside(swept.viewed(hue="seed")) is None
    assert analysis.beside(small) == "activation"


def test_an_option_of_one_task_among_several_is_no_second_parameter(tmp_path):
    overrides = ONE_LOSS | {"task": ["noise", "sine"], "frequency": [0.05, 0.1], "seeds": 1}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL | overrides, jobs=1)
    table = figures.table_of(results, "phase-diagram")
    assert table.columns[1] == "activation"
    assert set(table["panel"]) == {"noise", "sine, frequency = 0.05", "sine, frequency = 0.1"}
    assert table[table["panel"].str.startswith("sine") & (table["activation"] == "tanh")]["theory"].isna().all()


def test_a_phase_diagram_of_words_has_a_column_for_each(swept):
    table = figures.table_of(swept.viewed(hue="activation"), "phase-diagram")
    assert set(table["panel"]) == {"input_scale = 0.1", "input_scale = 1"}
    ax = figures.figure(swept, "phase-diagram", hue="activation").axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == list(dict.fromkeys(table["activation"]))


def test_cells_above_zero_are_marked_and_others_are_not():
    values = pd.DataFrame([[-2.0, 0.0, 2.0], [-np.inf, np.nan, 0.5]], index=[0.5, 1.0], columns=[1, 2, 3])
    ax = canvas(1, 1).add_subplot()
    maps.heat(ax, values, maps.scale(pd.Series([-2.0, 2.0]), 1.0))
    np.testing.assert_array_equal(drawn(ax)["signs +"].get_offsets(), [[3, 0.5], [3, 1.0]])
    np.testing.assert_array_equal(drawn(ax)["signs $0$"].get_offsets(), [[1, 1.0]])


def test_signs_on_large_maps_are_few_and_show_on_their_colour():
    values = pd.DataFrame(np.linspace(-9.0, 9.0, 60 * 200).reshape(60, 200))
    ax = canvas(1, 1).add_subplot()
    image = maps.heat(ax, values, maps.scale(pd.Series([9.0]), 1.0))
    signs = drawn(ax)["signs +"]
    assert 40 <= len(signs.get_offsets()) <= 144
    luminance = np.array([0.2126, 0.7152, 0.0722])
    for (column, row), colour in zip(signs.get_offsets().astype(int), signs.get_edgecolors(), strict=True):
        below = image.cmap(image.norm(values.loc[row, column]))
        assert abs(np.dot(to_rgb(colour), luminance) - np.dot(to_rgb(below), luminance)) > 0.2


def test_a_scale_is_symmetric_about_no_change_and_sees_no_zeros():
    norm = maps.scale(pd.Series([-np.inf, np.nan, -40.0, 3.0]), 1.0)
    assert (norm.vmin, norm.vmax, norm.linthresh) == (-40.0, 40.0, 1.0)
    assert norm(0.0) == 0.5
    assert maps.scale(pd.Series([-np.inf]), 0.1).vmax == 0.1


@pytest.mark.parametrize("centres", [[0.7], [0.5, 1.0], [0.1, 0.2, 0.9]])
def test_cells_hold_their_centres_and_leave_no_gaps(centres):
    ends = maps.edges(centres)
    assert len(ends) == len(centres) + 1
    assert all(low < centre < high for low, centre, high in zip(ends, centres, ends[1:], strict=False))


def test_many_columns_have_fewer_ticks_and_long_words_are_turned():
    radii = pd.DataFrame({"spectral_radius": [0.5, 1.0]})
    for values, labels, turned in ((range(100), 100, 0.0), (["gaussian " * 2 + str(i) for i in range(6)], 6, 30.0)):
        ax = canvas(1, 1).add_subplot()
        table = radii.merge(pd.DataFrame({"second": list(values)}), how="cross").assign(rate=1.0)
        maps.columns(ax, table, "second", list(values), "rate", maps.scale(table["rate"], 0.1))
        shown = ax.get_xticklabels()
        assert (len(shown) < 20) if labels == 100 else (len(shown) == labels)
        assert {label.get_rotation() for label in shown} == {turned}


def test_a_map_of_a_single_radius_in_one_of_its_panels_is_drawn_whole(small):
    ragged = small.where("activation == 'linear' or spectral_radius == 1.0")
    figure = figures.figure(ragged, "radius-lag-map")
    table = radius_lag_map.table(ragged)
    one = next(ax for ax in figure.axes if ax.get_title() == "tanh")
    np.testing.assert_array_equal(cells(one, (1, 12))[0], table[table["panel"] == "tanh"]["decades"])
    np.testing.assert_array_equal(one.collections[0].get_coordinates()[:, 0, 1], [0.5, 1.5])


def test_a_ridge_has_its_seeds_their_moments_and_their_normal_curve(swept):
    shown = swept.select(activation="tanh", input_scale=0.1)
    table = norm_distribution.table(shown)
    steps, about = norms(shown)
    change = steps[15] - steps[0]
    ax = figures.figure(shown, "norm-distribution").axes[0]
    for base, (radius, own) in enumerate(table.groupby("spectral_radius")):
        sample = change[about["spectral_radius"] == radius].sort_values().to_numpy()
        seeds, fit, kernel = (own[own["what"] == what] for what in ("seed", "fit", "kernel"))
        np.testing.assert_allclose(seeds["decades"], sample, rtol=1e-12)
        np.testing.assert_allclose(own["mean"], np.mean(sample), rtol=1e-12)
        np.testing.assert_allclose(own["sd"], np.std(sample, ddof=1), rtol=1e-12)
        assert set(zip(own["seeds"], own["zeros"], strict=True)) == {(12, 0)}
        deviation = (fit["decades"] - np.mean(sample)) / np.std(sample, ddof=1)
        expected = np.exp(-0.5 * deviation**2) / np.sqrt(2 * np.pi) / np.std(sample, ddof=1)
        np.testing.assert_allclose(fit["density"], expected, rtol=1e-9)
        assert np.trapezoid(kernel["density"], kernel["decades"]) == pytest.approx(1.0, abs=0.05)
        dots = drawn(ax)[f"seeds {base}"]
        np.testing.assert_allclose(dots.get_xdata(), sample - np.mean(sample), atol=1e-9)
        assert set(dots.get_ydata()) == {base - 0.1}
        said = ax.texts[base].get_text().replace("\N{MINUS SIGN}", "-").split("\n")
        assert said[0] == f"{np.mean(sample):.1f} ± {np.std(sample, ddof=1):.2g}"


WEIGHTS = [148, 154, 158, 160, 161, 162, 166, 170, 182, 195, 236]  # of men: Shapiro & Wilk (1965), W = 0.79, p < 0.01


def reach_of(sample, panel=""):
    """A table of `analysis.reach`: two lags a seed, the norm at lag 0 being 1."""
    rows = [
        {"run_id": f"{seed}", "t": t, "lag": 2 - t, "log10_dh": value if t == 1 else 0.0, "seed": seed}
        for seed, value in enumerate(sample)
        for t in (1, 2)
    ]
    return pd.DataFrame(rows).assign(panel=panel, spectral_radius=1.0, seq_len=2)


def test_the_p_value_is_that_of_shapiro_and_wilk(small, monkeypatch):
    monkeypatch.setattr(analysis, "reach", lambda results: reach_of(np.array(WEIGHTS, float)))
    (p_value,) = norm_distribution.table(small)["p_value"].unique()
    assert p_value == pytest.approx(0.0067, rel=0.01)


@pytest.mark.parametrize(
    ("sample", "what", "said"),
    [
        ([-1.0, 0.0, 1.0], {"seed", "fit"}, "0.0 ± 1"),
        ([2.0] * 12, {"seed"}, "2.0 ± 0"),
        ([-np.inf, -1.0, 0.0, 1.0], {"seed", "fit"}, "0.0 ± 1\n1 of 4 zero"),
        ([-np.inf, -np.inf, 3.0], {"seed"}, "2 of 3 zero"),
        ([*np.zeros(19), 50.0], {"seed", "fit", "kernel"}, "2.5 ± 11\np < 0.001"),
    ],
)
def test_a_ridge_says_what_its_seeds_support(sample, what, said, small, monkeypatch):
    monkeypatch.setattr(analysis, "reach", lambda results: reach_of(sample))
    table = norm_distribution.table(small)
    assert set(table["what"]) == what
    ax = norm_distribution.draw(table).axes[0]
    assert ax.texts[0].get_text() == said
    live = np.isfinite(sample).sum() if len(what) > 1 or said == "2.0 ± 0" else 0
    assert len(drawn(ax)["seeds 0"].get_xdata()) == live


def test_ridges_are_few_and_keep_the_radius_nearest_to_1():
    radii = np.linspace(0.5, 1.5, 21)
    np.testing.assert_allclose(analysis.few(radii, 5), [0.5, 0.75, 1.0, 1.25, 1.5])
    assert analysis.few([0.5, 1.0], 5) == [0.5, 1.0]
    assert analysis.few([], 5) == []


def test_ridges_may_be_of_another_parameter(swept):
    table = figures.table_of(swept.viewed(hue="activation"), "norm-distribution")
    assert list(table.columns[:2]) == ["panel", "activation"]
    assert set(table["activation"]) == {"tanh", "linear", "sigmoid"}
    assert "input_scale = 0.1, spectral_radius = 0.5" in set(table["panel"])


def test_norms_are_those_of_the_matrices(swept):
    table = figures.table_of(swept, "spectral-norms")
    matrices = [
        gs.cell("elman", hidden_size=6, input_size=2, output_size=1).init(seed=seed, spectral_radius=2.0)["W_hh"]
        for seed in range(12)
    ]
    largest = [np.sqrt(np.linalg.eigvalsh(matrix.T @ matrix)[-1]) for matrix in matrices]
    at_two = table[table["spectral_radius"] == 2.0].set_index("measure")
    np.testing.assert_allclose(
        at_two.loc[r"norm $\|W_{hh}\|_2$", ["low", "median", "high"]].to_numpy(float),
        np.quantile(largest, [0.1, 0.5, 0.9]),
        rtol=1e-9,
    )
    np.testing.assert_allclose(at_two.loc["realised radius", "median"], 2.0, rtol=1e-9)
    assert at_two.loc["$2g$", "median"] == 4.0
    assert at_two["seeds"].dropna().to_list() == [12, 12]


def test_the_bound_is_one_over_the_steepest_slope(swept):
    z = np.linspace(-1.0, 1.0, 2001)
    steepest = {"sigmoid": np.gradient(1.0 / (1.0 + np.exp(-z)), z).max(), "tanh": np.gradient(np.tanh(z), z).max()}
    for activation, slope in steepest.items():
        table = figures.table_of(swept.select(activation=activation), "spectral-norms")
        bound = table[table["measure"].str.contains("gamma")]["median"]
        np.testing.assert_allclose(bound, 1.0 / slope, rtol=1e-5)
    lines = {line.get_gid(): line for line in figures.figure(swept, "spectral-norms").axes[0].get_lines()}
    for bound in (1, 4):
        np.testing.assert_array_equal(lines[rf"measure $1/\gamma$ = {bound}"].get_ydata(), bound)


def test_orthogonal_matrices_have_the_norm_of_their_radius_and_no_line_of_large_matrices(orthogonal):
    table = figures.table_of(orthogonal, "spectral-norms")
    norm = table[table["measure"].str.startswith("norm")]
    np.testing.assert_allclose(norm[["low", "median", "high"]], norm[["spectral_radius"] * 3], rtol=1e-9)
    assert "$2g$" not in set(table["measure"])


def test_what_matrices_do_not_depend_on_makes_no_panels(swept):
    assert set(figures.table_of(swept, "spectral-norms")["panel"]) == {""}
    faceted = figures.table_of(swept.viewed(facet=["activation"]), "spectral-norms")
    assert set(faceted["panel"]) == {"tanh", "linear", "sigmoid"}


def test_slopes_are_medians_over_networks_each_counted_once(small):
    table = saturation.table(small)
    assert list(table.columns[:3]) == ["panel", "activation", "spectral_radius"]
    assert set(table["seeds"]) == {2}  # not times truncations and losses
    runs = small.runs[small.runs["seq_len"] == 12].drop_duplicates(["activation", "spectral_radius", "seed"])
    medians = runs.groupby(["activation", "spectral_radius"], observed=True)["mean_slope"].median().sort_index()
    np.testing.assert_allclose(table["median"], medians, rtol=1e-12)
    ax = figures.figure(small, "saturation").axes[0]
    line = next(line for line in ax.get_lines() if line.get_gid() == "activation linear")
    np.testing.assert_array_equal(line.get_data(), [[0.5, 1.0, 1.5], [1.0, 1.0, 1.0]])
    low, high = ax.get_ylim()
    assert low < 0 < 1 < high


def test_slopes_of_one_activation_are_told_apart_by_what_else_is_swept(swept):
    table = saturation.table(swept.select(activation="tanh"))
    assert list(table.columns[:2]) == ["panel", "input_scale"]
    wide = table.pivot_table(index="spectral_radius", columns="input_scale", values="median")
    assert (wide[1.0] < wide[0.1]).all()
    alone = saturation.table(swept.select(activation="tanh", input_scale=0.1))
    assert set(alone["activation"]) == {"tanh"}
    np.testing.assert_array_equal(alone["median"], wide[0.1])


def test_slopes_are_missing_in_folders_of_earlier_versions(small):
    earlier = small.select(seq_len=12)
    earlier.runs = earlier.runs.drop(columns="mean_slope")
    with pytest.raises(CannotDrawError, match="needs runs measured with this version, which adds mean_slope"):
        saturation.table(earlier)


@pytest.mark.parametrize(
    ("name", "lacking", "reason"),
    [
        ("radius-length-map", {"spectral_radius": [0.5, 1.0]}, "three spectral radii and two lengths"),
        ("radius-length-map", {"loss_steps": "all"}, "one loss step and full truncation"),
        ("phase-diagram", {"spectral_radius": [0.5, 1.0]}, "three spectral radii and two values"),
        ("phase-diagram", {"truncation": "fixed:3"}, "one loss step, full truncation"),
        ("norm-distribution", {"loss_steps": "all"}, "one loss step and full truncation"),
        ("norm-distribution", {"seed": 0}, "three seeds"),
        ("spectral-norms", {"spectral_radius": 1.0}, "two spectral radii"),
        ("saturation", {"spectral_radius": 1.0}, "two spectral radii"),
    ],
)
def test_what_is_lacking_is_said(name, lacking, reason, small):
    with pytest.raises(CannotDrawError, match=f"^needs runs .*{reason}"):
        figures.table_of(small.select(**lacking), name)


@pytest.mark.parametrize("hue", ["spectral_radius", "seed"])
def test_a_phase_diagram_has_no_columns_of_radii_or_seeds(hue, swept):
    with pytest.raises(CannotDrawError, match="a second swept parameter"):
        figures.table_of(swept.viewed(hue=hue), "phase-diagram")
