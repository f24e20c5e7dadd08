"""Sweeps of Jacobians: columns against other ways to them, theory and predictors beside them, figures and findings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import gradscope as gs
from gradscope import analysis, figures, stability
from gradscope.activations import activation
from gradscope.drawing import CannotDrawError
from gradscope.exponents import lyapunov
from gradscope.figures import (
    largest_exponent,
    lyapunov_convergence,
    lyapunov_spectrum,
    non_normality,
    singular_values,
)
from gradscope.normality import non_normality as of_matrix
from gradscope.predictors import EXPONENT, FIELD, GATES, JACOBIAN, NORM, RADIUS, SLOPE, compared, rates
from gradscope.reporting.findings import findings
from gradscope.tasks import task
from gradscope.theory import gaussian_product, growth_rate
from gradscope.workspace import Workspace

NAMES = (
    "largest-exponent",
    "lyapunov-convergence",
    "lyapunov-spectrum",
    "non-normality",
    "predictors",
    "singular-values",
)
STATIC = {"washout": 0, "seq_len": 40, "seeds": 3, "hidden_size": 6, "batch_size": 1, "trajectories": 1}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A function that sweeps Jacobians."""

    def sweep(**overrides):
        folder = tmp_path_factory.mktemp("jacobian")
        experiment = folder / "jacobian.toml"
        experiment.write_text('[sweep]\nmeasure = "jacobian"\n', encoding="utf-8")
        return gs.sweep(experiment, folder / "out", overrides=overrides, jobs=1)

    return sweep


@pytest.fixture(scope="module")
def rotations(swept):
    """Linear networks whose W_hh is a multiple of a rotation: every rate is the log of the radius."""
    return swept(**STATIC, activation="linear", ensemble="orthogonal", spectral_radius=[0.8, 1.0, 1.2])


@pytest.fixture(scope="module")
def delays(swept):
    """Linear delay lines, whose radius is 0 and whose gradients grow by half a step until they are gone."""
    return swept(**STATIC | {"hidden_size": 60}, activation="linear", ensemble="delay-line:1.5", spectral_radius=0.0)


@pytest.fixture(scope="module")
def products(swept):
    """Linear networks with another W_hh at every step, beside those with one."""
    return swept(
        activation="linear", tied=[True, False], spectral_radius=[0.9, 1.1], hidden_size=8, seq_len=500, seeds=3,
        batch_size=1, washout=20, trajectories=1,
    )  # fmt: skip


def lines(ax):
    return {line.get_gid(): line for line in ax.get_lines() if line.get_gid()}


def network(run):
    """The cell, the parameters, the inputs of a row of runs, and the states on the first example."""
    cell = stability.cell_of(run)
    params = cell.init(int(run["seed"]), run["spectral_radius"], run["ensemble"], run["input_scale"])
    own = task(run["task"], input_size=cell.input_size, output_size=cell.output_size)
    x = own.draw(int(run["seed"]), int(run["seq_len"]), int(run["batch_size"]), "mse").x
    packed = cell.pack({name: array[None] for name, array in params.items()})
    return cell, params, x, cell.forward(packed, x[None], None, Workspace()).states[0]


def jacobians_of(cell, params, states):
    """J_t = diag(f'(h_t)) W_hh on the first example, (T, n, n)."""
    slopes = np.empty_like(states[:, 0])
    activation(cell.activation).slope(states[:, 0], out=slopes)
    return slopes[:, :, None] * params["W_hh"]


# --- columns ----------------------------------------------------------------------------------------------------------


def test_exponents_are_those_that_lyapunov_finds(jacobians):
    spectrum, convergence = jacobians.spectrum, jacobians.convergence
    for _, run in jacobians.runs.iloc[::5].iterrows():
        cell, params, x, _ = network(run)
        found = lyapunov(cell, params, x[:, : run["trajectories"]], washout=run["washout"], warmup=run["washout"])
        own = spectrum[spectrum["run_id"] == run["run_id"]]
        np.testing.assert_allclose(own["exponent"], found.exponents, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(own["index"], np.arange(1, 7))
        steps = convergence[convergence["run_id"] == run["run_id"]]
        np.testing.assert_array_equal(steps["steps"], found.steps)
        np.testing.assert_allclose(steps["exponent"], found.running[:, 0], rtol=1e-9, atol=1e-12)
        assert run["lyapunov_max"] == pytest.approx(found.exponents[0])
        assert run["lyapunov_sum"] == pytest.approx(found.exponents.sum())
        assert run["positive_exponents"] == (found.exponents > 0).sum()
        assert run["kaplan_yorke"] == pytest.approx(found.kaplan_yorke)


def test_singular_values_norms_and_non_normality_are_those_of_explicit_matrices(jacobians):
    for _, run in jacobians.runs.iloc[::5].iterrows():
        cell, params, _, states = network(run)
        J, T = jacobians_of(cell, params, states), int(run["seq_len"])
        steps = jacobians.select(run_id=run["run_id"]).timesteps.set_index("lag")
        product = np.eye(6)
        for lag in range(6):
            if lag in (1, 2, 3, 5):
                sizes = np.log10(np.linalg.svd(product, compute_uv=False))
                np.testing.assert_allclose(steps.loc[lag, "log10_sigma_max"], sizes[0], atol=1e-10)
                np.testing.assert_allclose(steps.loc[lag, "log10_sigma_median"], np.median(sizes), atol=1e-10)
                np.testing.assert_allclose(steps.loc[lag, "log10_sigma_min"], sizes[-1], atol=1e-8)
            product = product @ J[T - 1 - lag]
        assert np.isnan(steps.loc[4, "log10_sigma_max"])
        matrix = cell.drawn(run["ensemble"], int(run["seed"])).matrix
        found = of_matrix(matrix)
        assert run["kreiss"] == found.kreiss_lower_bound
        assert (run["transient_peak"], run["transient_power"]) == (
            found.transient_peak.norm,
            found.transient_peak.power,
        )
        assert run["henrici"] == pytest.approx(found.henrici, abs=1e-9)
        longest = steps["log10_sigma_max"].dropna().index.max()
        assert run["log10_condition"] == steps.loc[longest, "log10_sigma_max"] - steps.loc[longest, "log10_sigma_min"]


def test_the_mean_norm_is_that_of_explicit_jacobians(swept):
    run = swept(**STATIC | {"seeds": 1, "seq_len": 20}, spectral_radius=1.3).runs.iloc[0]
    norms = np.linalg.norm(jacobians_of(*(network(run)[place] for place in (0, 1, 3))), 2, axis=(1, 2))
    assert run["jacobian_norm"] == pytest.approx(np.log(norms).mean(), rel=1e-12)  # at all of the 20 steps


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"exponents": 7}, r"exponents: 7, but the state of cell elman has 6 numbers"),
        ({"washout": 20}, r"seq_len: 40 steps, but the first and the last 20 are left out"),
        ({"tied": False, "cell": "lstm"}, r"tied: false, for cell lstm"),
        ({"trajectories": 0}, r"trajectories: 0; allowed"),
    ],
)
def test_what_cannot_be_measured_is_refused(overrides, message, swept):
    with pytest.raises(gs.InputError, match=message):
        swept(**STATIC | overrides)


def test_a_run_does_not_know_of_longer_ones_that_overflow(swept):
    keys = {"activation": "relu", "spectral_radius": 4.0, "hidden_size": 6, "washout": 5, "batch_size": 3, "seeds": [1]}
    alone, both = swept(**keys, seq_len=40), swept(**keys, seq_len=[40, 900])
    short, long = (both.select(seq_len=length).runs.iloc[0] for length in (40, 900))
    assert (short["status"], long["status"]) == ("ok", "forward overflow at step 552")
    for name in ("lyapunov_max", "kaplan_yorke", "jacobian_norm"):
        np.testing.assert_allclose(short[name], alone.runs.iloc[0][name], rtol=1e-12)
        assert np.isnan(long[name])


def test_a_single_step_has_exponents_and_no_singular_values(swept):
    found = swept(seq_len=1, washout=0, hidden_size=4)
    assert found.failed == {}
    assert np.isfinite(found.runs[["lyapunov_max", "lyapunov_sum", "jacobian_norm"]]).all(axis=None)
    assert found.runs["log10_condition"].isna().all()


def test_the_state_of_an_lstm_has_twice_as_many_exponents(swept):
    results = swept(**STATIC | {"seeds": 1}, cell="lstm", exponents=12)
    assert len(results.spectrum) == 12
    assert stability.spectrum(results)["share"].tolist() == [place / 12 for place in range(1, 13)]


# --- laws -------------------------------------------------------------------------------------------------------------


def test_a_rotations_rates_are_all_the_log_of_its_radius(rotations):
    law = np.log(rotations.runs["spectral_radius"])
    for name in ("lyapunov_max", "jacobian_norm"):
        np.testing.assert_allclose(rotations.runs[name], law, atol=1e-12)
    np.testing.assert_allclose(rotations.runs["lyapunov_sum"], 6 * law, atol=1e-11)
    table = rates(rotations)
    assert set(table["predictor"]) == {RADIUS, NORM, JACOBIAN, EXPONENT}  # mean field has nothing of its own to say
    np.testing.assert_allclose(table["rate"], np.log(table["spectral_radius"]), atol=1e-12)
    np.testing.assert_allclose(table["slope"], np.log(table["spectral_radius"]), atol=1e-12)
    verdicts = compared(table)
    assert not verdicts["wrong"].any()
    happens = verdicts.drop_duplicates("spectral_radius").set_index("spectral_radius")["happens"]
    assert happens.to_dict() == {0.8: "vanish", 1.0: "neither", 1.2: "explode"}
    values = stability.singular_values(rotations)
    np.testing.assert_allclose(values["log10"], values["lag"] * np.log10(values["spectral_radius"]), atol=1e-10)
    exponents = stability.spectrum(rotations)
    np.testing.assert_allclose(exponents["exponent"], exponents["theory"], atol=1e-12)
    np.testing.assert_allclose(stability.growth(rotations)["excess"], 0.0, atol=1e-10)


def test_a_delay_line_explodes_although_its_radius_is_0(delays):
    verdicts = compared(rates(delays)).set_index("predictor")
    assert verdicts["happens"].unique().tolist() == ["explode"]  # 40 steps are too few for 60 units to be emptied
    assert verdicts.loc[RADIUS, ["says", "wrong"]].tolist() == ["vanish", True]
    assert verdicts.loc[EXPONENT, ["says", "wrong"]].tolist() == ["explode", False]
    assert verdicts.loc[NORM, "median"] == pytest.approx(np.log(1.5))
    largest = stability.singular_values(delays).query("what == 'largest' and lag > 0")
    np.testing.assert_allclose(largest["log10"], largest["lag"] * np.log10(1.5), rtol=1e-12)
    assert np.isneginf(stability.singular_values(delays).query("what == 'smallest' and lag > 0")["log10"]).all()
    grown = stability.growth(delays)
    assert (grown["excess"] > 0).all()
    assert (grown["excess"] < 39 * np.log10(1.5)).all()


def test_one_matrix_has_its_eigenvalues_and_many_have_their_law(products):
    found = stability.spectrum(products).merge(products.runs[["run_id", "tied"]].astype({"run_id": str}), on="run_id")
    fresh = found[~found["tied"].astype(bool)]
    law = gaussian_product(8, 1.0)
    place = fresh["index"].astype(int) - 1
    np.testing.assert_allclose(fresh["theory"], law.exponents[place] + np.log(fresh["spectral_radius"]), rtol=1e-12)
    mean = fresh.groupby("index")[["exponent", "theory"]].mean()
    spread = np.sqrt(law.variances / 460 / 3)  # draws are the same at both radii
    assert (np.abs(mean["exponent"] - mean["theory"]) < 4 * spread).all()
    one = found[found["tied"].astype(bool)]
    assert (one["exponent"] - one["theory"]).abs().max() < 0.01
    assert set(products.runs.loc[~products.runs["tied"].astype(bool), "status"]) == {"untied"}
    tied = stability.runs(products).set_index("run_id")["tied"].astype(bool)
    assert rates(products)["run_id"].map(tied).all()  # of others there is no gradient
    assert stability.singular_values(products).query("what == 'gradient'")["run_id"].map(tied).all()


def test_bounds_hold_in_every_seed_and_at_every_lag(jacobians):
    runs = stability.runs(jacobians)
    bound = dict(zip(runs["run_id"], np.log10(runs["spectral_norm"]), strict=True))
    values = stability.singular_values(jacobians)
    rise = values["log10"] - values["lag"] * values["run_id"].map(bound)
    assert rise.max() < 1e-9
    assert (runs["jacobian_norm"] <= np.log(runs["spectral_norm"]) + 1e-12).all()
    spectrum = stability.spectrum(jacobians)
    assert (spectrum["exponent"] <= np.log(10) * spectrum["run_id"].map(bound) + 1e-12).all()
    table = compared(rates(jacobians))
    assert not table[table["predictor"].isin([NORM, JACOBIAN])]["wrong"].any()
    assert (table.loc[table["predictor"] == NORM, "difference"] > 0).all()


def test_the_gradient_lies_between_the_singular_values(swept):
    results = swept(**STATIC, activation=["tanh", "linear", "relu"], spectral_radius=[0.7, 1.5])  # of one example
    values = stability.singular_values(results).pivot_table(index=["run_id", "lag"], columns="what", values="log10")
    values = values.dropna(subset=["largest", "gradient"])
    assert len(values) == 180
    assert (values["gradient"] <= values["largest"] + 1e-9).all()
    assert (values["gradient"] >= values["smallest"].fillna(-np.inf) - 1e-9).all()


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_small_weights_leave_the_gates_alone(cell, swept):
    bias, radius = {"gru": ("update_bias", 0.0), "lstm": ("forget_bias", 1e-3)}[cell]
    results = swept(**STATIC, cell=cell, input_scale=0.0, spectral_radius=radius, **{bias: [0.0, 2.0]})
    table = rates(results)
    gates = table[table["predictor"] == GATES]
    law = -np.log1p(np.exp(-results.runs.set_index("run_id")[bias].loc[gates["run_id"]].to_numpy()))
    np.testing.assert_allclose(gates["rate"], law, rtol=1e-12)
    np.testing.assert_allclose(gates["slope"], law, rtol=2e-2 if radius else 1e-9)
    assert set(table["predictor"]) == {GATES, JACOBIAN, EXPONENT}


# --- predictors -------------------------------------------------------------------------------------------------------


def some_rates(predictor, predicted, slopes, state="vanishing", seq_len=100):
    """A table of rates at one spectral radius."""
    return pd.DataFrame(
        {
            "run_id": [str(seed) for seed in range(len(slopes))],
            "panel": "",
            "spectral_radius": 1.1,
            "seed": range(len(slopes)),
            "seq_len": seq_len,
            "slope": slopes,
            "state": state,
            "predictor": predictor,
            "rate": predicted,
        }
    )


def judged(*arguments, **options):
    return compared(some_rates(*arguments, **options)).set_index("predictor").loc[arguments[0]]


def test_differences_have_students_interval_over_seeds():
    slopes, predicted = np.array([-0.1, -0.12, -0.11]), np.array([0.2, 0.3, 0.1])
    found = judged(RADIUS, predicted, slopes)
    low, high = stats.t.interval(0.95, 2, (predicted - slopes).mean(), stats.sem(predicted - slopes))
    assert found["difference"] == pytest.approx((predicted - slopes).mean())
    assert found["half_width"] == pytest.approx((high - low) / 2)
    assert found["median"] == 0.2
    assert found["slope"] == pytest.approx(-0.11)
    assert found[["happens", "says", "wrong"]].tolist() == ["vanish", "explode", True]


@pytest.mark.parametrize(
    ("arguments", "options", "verdict"),
    [
        ((RADIUS, 0.1, [-0.1, 0.2, -0.1]), {}, ["not known", "explode", False]),  # the interval holds 0
        ((RADIUS, 0.1, [-0.1]), {}, ["not known", "explode", False]),  # there is no interval
        ((NORM, 0.1, [-0.1, -0.1, -0.11]), {}, ["vanish", "not known", False]),  # bounds say nothing above 0
        ((NORM, -0.1, [0.1, 0.1, 0.11]), {"state": "exploding"}, ["explode", "vanish", True]),
        ((RADIUS, 0.0, [-0.1, -0.1, -0.11]), {}, ["vanish", "neither", True]),
        ((RADIUS, 0.0, [-0.001, -0.001, -0.0011]), {}, ["vanish", "neither", False]),  # by a tenth in all 100 steps
        ((RADIUS, 1e-9, [1e-16, 0.0, 0.0]), {"state": "constant"}, ["neither", "neither", False]),
        ((EXPONENT, 0.1, [1e-16, 0.0, 0.0]), {"state": "constant"}, ["neither", "explode", True]),
        ((EXPONENT, -np.inf, [np.nan] * 3), {"state": "zero"}, ["vanish", "vanish", False]),
        ((RADIUS, 0.1, [np.nan] * 3), {"state": "zero"}, ["vanish", "explode", True]),
        ((RADIUS, 0.1, [-0.1, np.nan]), {"state": ["vanishing", "overflow"]}, ["not known", "explode", False]),
    ],
)  # fmt: skip
def test_a_predictor_is_wrong_where_the_slope_is_known_to_be_otherwise(arguments, options, verdict):
    assert judged(*arguments, **options)[["happens", "says", "wrong"]].tolist() == verdict


def test_at_radius_1_1_with_inputs_tanh_networks_vanish_although_the_radius_says_explode(jacobians):
    table = compared(rates(jacobians)).set_index(["panel", "predictor", "spectral_radius"])
    own = table.loc["orthogonal, tanh"]
    assert own.loc[(RADIUS, 1.1), ["happens", "says", "wrong"]].tolist() == ["vanish", "explode", True]
    assert not own.loc[FIELD, "wrong"].any()
    assert not own.loc[EXPONENT, "wrong"].any()
    np.testing.assert_allclose(own.loc[(FIELD, 1.1), "median"], growth_rate("tanh", 1.1, 0.5))
    slopes = analysis.regimes(jacobians).query("panel == 'orthogonal, tanh' and spectral_radius == 1.1")["rate"]
    assert own.loc[(RADIUS, 1.1), "slope"] == pytest.approx(slopes.mean())
    assert own.loc[(SLOPE, 1.1), "median"] == pytest.approx(slopes.median())
    assert own.loc[(RADIUS, 1.1), "difference"] == pytest.approx(np.log(1.1) - slopes.mean())


# --- figures ----------------------------------------------------------------------------------------------------------


def test_the_spectrum_has_a_line_for_each_radius_and_theory_beneath(jacobians):
    table = lyapunov_spectrum.table(jacobians)
    for ax, panel in zip(lyapunov_spectrum.draw(table).axes, table["panel"].unique(), strict=True):
        own = table[table["panel"] == panel]
        for radius, line in own.groupby("spectral_radius"):
            drawn = lines(ax)[f"spectral_radius {radius:g}"]
            np.testing.assert_array_equal(drawn.get_xdata(), np.arange(1, 7) / 6)
            np.testing.assert_array_equal(drawn.get_ydata(), line["median"])
            assert (f"theory {radius}" in lines(ax)) == ("linear" in panel)
        assert lines(ax)["zero"].get_ydata()[0] == 0.0
    raw = jacobians.spectrum.merge(jacobians.runs.astype({"run_id": str}), on="run_id")
    chosen = raw[(raw["activation"] == "tanh") & (raw["ensemble"] == "gaussian") & (raw["spectral_radius"] == 1.5)]
    shown = table[(table["panel"] == "gaussian, tanh") & (table["spectral_radius"] == 1.5)]
    np.testing.assert_allclose(shown["median"], chosen.groupby("index")["exponent"].median(), rtol=1e-12)


def test_the_view_chooses_the_lines_of_spectra(jacobians):
    table = figures.table_of(jacobians.viewed(hue="ensemble"), "lyapunov-spectrum")
    assert list(table.columns[:3]) == ["panel", "ensemble", "share"]
    assert set(table["ensemble"]) == {"gaussian", "orthogonal"}


def test_convergence_ends_in_the_exponent_with_its_interval(jacobians):
    table = lyapunov_convergence.table(jacobians)
    runs = jacobians.runs
    own = runs[(runs["activation"] == "tanh") & (runs["ensemble"] == "gaussian") & (runs["spectral_radius"] == 1.5)]
    end = table[(table["panel"] == "gaussian, tanh") & (table["spectral_radius"] == 1.5)].iloc[-1]
    assert end["steps"] == 40
    assert end["median"] == pytest.approx(own["lyapunov_max"].median())
    halves = own["lyapunov_max_error"] * stats.t.ppf(0.975, own["lyapunov_max_freedom"])
    assert end["half_width"] == pytest.approx(halves.median())
    ax = {ax.get_title(): ax for ax in lyapunov_convergence.draw(table).axes}["gaussian, tanh"]
    (bar,) = [one for one in ax.containers if one.lines[0].get_gid() == "interval spectral_radius 1.5"]
    low, high = bar.lines[2][0].get_segments()[0][:, 1]
    np.testing.assert_allclose((high - low) / 2, end["half_width"])


def test_singular_values_have_panels_of_their_own_for_three_radii(jacobians):
    table = singular_values.table(jacobians)
    assert table["panel"].nunique() == 12
    ax = {ax.get_title().replace("\n", " "): ax for ax in singular_values.draw(table).axes}[
        "gaussian, tanh, spectral radius 1.5"
    ]
    own = table[table["panel"] == "gaussian, tanh, spectral radius 1.5"]
    for what, line in own.groupby("what"):
        (drawn,) = [one for one in ax.get_lines() if one.get_label() == what]
        np.testing.assert_array_equal(drawn.get_ydata(), line["median"])
    assert own[own["what"] == "gradient"]["lag"].tolist() == list(range(60))
    assert own[own["what"] == "largest"]["lag"].tolist() == [0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50]


def test_predictors_are_crossed_out_where_they_are_wrong(jacobians):
    table = figures.table_of(jacobians, "predictors")
    axes = {ax.get_title(): ax for ax in figures.figure(jacobians, "predictors").axes}
    crosses = 0
    for panel, own in table.groupby("panel"):
        for predictor, line in own.groupby("predictor"):
            drawn = lines(axes[panel])[f"predictor {predictor}"]
            np.testing.assert_array_equal(drawn.get_ydata(), line["median"])
            wrong = line[line["wrong"]]
            crosses += len(wrong)
            shown = lines(axes[panel]).get(f"wrong {predictor}")
            assert (list(shown.get_xdata()) if shown else []) == wrong["spectral_radius"].tolist()
    assert crosses > 0


def test_the_largest_exponent_stands_above_the_dimension_with_mean_field_beneath(jacobians):
    table = largest_exponent.table(jacobians)
    assert list(table.columns[:4]) == ["panel", "ensemble", "measure", "spectral_radius"]
    own = table[(table["panel"] == "tanh") & (table["ensemble"] == "gaussian")]
    exponents = own[own["measure"] == "exponent"].set_index("spectral_radius")
    runs = jacobians.runs[(jacobians.runs["activation"] == "tanh") & (jacobians.runs["ensemble"] == "gaussian")]
    medians = runs.groupby("spectral_radius")[["lyapunov_max", "kaplan_yorke"]].median()
    np.testing.assert_allclose(exponents["median"], medians["lyapunov_max"])
    law = [growth_rate("tanh", radius, 0.5) for radius in exponents.index]
    np.testing.assert_allclose(exponents["theory"], law)
    np.testing.assert_allclose(exponents["difference"], medians["lyapunov_max"] - law)
    np.testing.assert_allclose(own[own["measure"] == "dimension"]["median"], medians["kaplan_yorke"] / 6)
    ax = {ax.get_title(): ax for ax in largest_exponent.draw(table).axes}["tanh"]
    np.testing.assert_allclose(lines(ax)["theory gaussian"].get_ydata(), law)


def test_lines_of_tied_weights_and_others_are_named(products):
    table = figures.table_of(products.viewed(hue="tied"), "largest-exponent")
    assert set(table["tied"]) == {"tied", "not tied"}


def test_networks_all_of_whose_dimensions_are_lost_have_no_spectrum(swept):
    lost = swept(**STATIC | {"seq_len": 40}, activation="linear", ensemble="delay-line", spectral_radius=0.0)
    with pytest.raises(CannotDrawError, match=r"^needs runs with an exponent that is finite"):
        figures.table_of(lost, "lyapunov-spectrum")


def test_non_normal_matrices_let_gradients_grow_beyond_their_radius(swept):
    names = ["orthogonal", "symmetric", "non-normal:0.9", "block:2"]
    results = swept(**STATIC | {"hidden_size": 16}, activation="linear", ensemble=names, spectral_radius=[0.7, 1.1])
    table = non_normality.table(results)
    assert table["spectral_radius"].unique().tolist() == [1.1]
    medians = table.groupby("ensemble")[["henrici", "excess", "peak"]].median()
    np.testing.assert_allclose(medians.loc["non-normal:0.9", "henrici"], 0.9)
    np.testing.assert_allclose(medians.loc[["orthogonal", "symmetric"], "excess"], 0.0, atol=1e-9)
    assert medians["excess"].idxmax() == "non-normal:0.9"
    assert (table["excess"] <= table["peak"] + 1e-9).all()
    assert (table["kreiss"] <= table["peak"] + 1e-9).all()
    left, right = non_normality.draw(table).axes
    order = [label.get_text() for label in left.get_yticklabels()]
    assert order[0] == "non-normal:0.9"
    assert {"symmetric", "orthogonal"} == set(order[-2:])
    np.testing.assert_array_equal(sorted(lines(right)["excess"].get_xdata()), sorted(table["excess"]))
    (told,) = [one.text for one in findings(results) if one.detail == "growth"]
    assert told.startswith("At spectral radius 1.1 gradients of non-normal:0.9 grow to ")
    assert "those of normal matrices (orthogonal and symmetric) to 1." in told


@pytest.mark.parametrize(
    ("name", "lacking", "reason"),
    [
        ("predictors", {"spectral_radius": 0.9}, "two spectral radii"),
        ("predictors", {"tied": False}, "a gradient"),
        ("largest-exponent", {"spectral_radius": 0.9}, "two spectral radii"),
        ("non-normality", {}, "W_hh of two ensembles"),
    ],
)
def test_figures_say_what_they_need(name, lacking, reason, products):
    with pytest.raises(CannotDrawError, match=f"^needs runs with .*{reason}"):
        figures.table_of(products.select(**lacking), name)


def test_states_that_leave_the_range_of_numbers_have_no_figures(swept):
    results = swept(**STATIC | {"seq_len": 250}, activation="linear", spectral_radius=[50.0, 60.0])
    for name in NAMES:
        with pytest.raises(CannotDrawError, match=r"^needs runs"):
            figures.table_of(results, name)
    assert not [one for one in findings(results) if one.topic == "dynamics"]


LOSSES = {"loss_steps": ["last", "all"], "truncation": ["full", "fixed:3"], "clip": ["off", "norm:1"]}
ODD = {
    "one radius, one seed": {"spectral_radius": 1.0, "seeds": 1},
    "untied alone": {"tied": False, "seeds": 2},
    "three steps": {"seq_len": 3, "ensemble": ["gaussian", "orthogonal"], "seeds": 2},
    "one step": {"seq_len": 1, "seeds": 2},
    "silent, of one unit": {"activation": "relu", "input_scale": 0.0, "hidden_size": 1, "seeds": 2},
    "nilpotent": {"ensemble": "delay-line", "spectral_radius": 0.0, "seeds": 1},
    "all cells": {"cell": ["elman", "lstm", "gru", "irnn", "diagonal"], "spectral_radius": [0.5, 0.9], "seeds": 1},
    "stacks, one exponent": {"num_layers": [1, 2], "exponents": 1, "cell": "lstm", "chrono": 10, "seeds": 1},
    "losses and lengths": LOSSES | {"seq_len": [20, 40], "seeds": 2},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_odd_sweeps_have_figures_and_findings(odd, swept, tmp_path):
    usual = {"spectral_radius": [0.5, 1.5], "hidden_size": 4, "seq_len": 20, "input_size": 2, "minibatches": 2}
    usual = usual if "clip" in odd else usual | {"minibatches": 0}
    results = swept(**STATIC | usual | odd)
    drawn = {one.name: one for one in figures.write(results, tmp_path, ["svg"], only=NAMES)}
    assert all(one.files or one.reason.startswith("needs runs") for one in drawn.values())
    assert "nan" not in " ".join(one.text for one in findings(results) if one.topic == "dynamics")


# --- findings ---------------------------------------------------------------------------------------------------------


def test_findings_say_where_chaos_begins_and_which_predictor_is_wrong(jacobians):
    told = {(one.detail, one.panel): one for one in findings(jacobians) if one.topic == "dynamics"}
    radius = told[RADIUS, ""]
    assert "for orthogonal, tanh at spectral radius 1.1" in radius.text
    assert "gradients vanish (-0." in radius.text
    assert "although it says that they explode (+0." in radius.text
    assert (
        radius.rows["wrong"].tolist().count("wrong")
        == compared(rates(jacobians)).query("predictor == @RADIUS")["wrong"].sum()
    )
    assert "cases in which they do" in told[NORM, ""].text
    crossing = told["exponent", "orthogonal, tanh"]
    exponents = analysis.estimate(
        list(stability.runs(jacobians).query("panel == 'orthogonal, tanh' and spectral_radius == 1.5")["lyapunov_max"])
    )
    np.testing.assert_allclose(crossing.rows["largest exponent (nats a step)"].iloc[-1], exponents.value)
    assert "largest Lyapunov exponent" in crossing.text
    (theory,) = [one for (detail, _), one in told.items() if detail.startswith("theory")]
    assert "are those of theory, log |eigenvalues of W_hh|" in theory.text


def test_a_report_shows_jacobians(jacobians, monkeypatch):
    shown = ("predictors", "lyapunov-spectrum", "lyapunov-convergence")
    monkeypatch.setattr(figures, "names", lambda *_: shown)
    text = gs.report(jacobians, formats=()).read_text(encoding="utf-8")
    assert "Networks as dynamical systems" in text
    for title in ("Lyapunov spectra", "Predictors of vanishing and exploding", "Convergence of the leading exponent"):
        assert title in text
    assert "nan" not in " ".join(one.text for one in findings(jacobians))
