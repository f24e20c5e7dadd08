"""The analysis against closed forms: slopes of known lines, boundaries at known places, orthogonal networks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_sweep import SMALL

import gradscope as gs
from gradscope import analysis


def regimes(**by_seed):
    """Regimes of one panel: for each seed, rates at the radii 1, 2, 3, ..., or the name of a state without a rate."""
    states = {-1: "vanishing", 0: "constant", 1: "exploding"}
    rows = []
    for seed, rates in by_seed.items():
        for radius, rate in enumerate(rates, 1):
            if isinstance(rate, str):
                rows.append((float(radius), seed, np.nan, rate))
            else:
                rows.append((float(radius), seed, rate, states[np.sign(rate)]))
    return pd.DataFrame(rows, columns=["spectral_radius", "seed", "rate", "state"])


def line(slope, length=41):
    lag = np.arange(length)
    table = pd.DataFrame({"lag": lag, "log10_dh": slope * lag / np.log(10.0)})
    return table.assign(panel="", spectral_radius=1.0, seed=0, seq_len=length)


def test_the_rate_is_the_slope_in_nats_a_step():
    np.testing.assert_allclose(analysis.decay_rates(line(-0.37))["rate"], -0.37, rtol=1e-12)


def test_the_transient_and_exact_zeros_do_not_count():
    table = line(0.2)
    table.loc[table["lag"] < 10, "log10_dh"] += 7.0
    table.loc[table["lag"] > 30, "log10_dh"] = -np.inf
    np.testing.assert_allclose(analysis.decay_rates(table)["rate"], 0.2, rtol=1e-12)


def test_a_run_with_too_few_lags_has_no_rate():
    (run,) = analysis.decay_rates(line(0.2, length=2)).to_dict("records")
    assert (run["state"], np.isnan(run["rate"])) == ("short", True)


@pytest.mark.parametrize(("slope", "state"), [(-0.1, "vanishing"), (0.1, "exploding"), (1e-12, "constant")])
def test_a_rate_has_a_name_and_rounding_has_its_own(slope, state):
    assert list(analysis.decay_rates(line(slope))["state"]) == [state]


def test_gradients_that_are_exactly_zero_after_the_transient_are_zero():
    table = line(0.2)
    table.loc[table["lag"] >= 10, "log10_dh"] = -np.inf
    assert list(analysis.decay_rates(table)["state"]) == ["zero"]


def test_growth_that_ends_in_zeros_is_no_explosion():
    table = line(0.2, length=100)
    table.loc[table["lag"] > 30, "log10_dh"] = -np.inf  # as in a delay line of 31 units
    (run,) = analysis.decay_rates(table).to_dict("records")
    assert (run["state"], np.isnan(run["rate"])) == ("zero", True)


def test_orthogonal_linear_networks_change_by_the_radius_at_each_step(orthogonal):
    found = analysis.decay_rates(analysis.reach(orthogonal))
    np.testing.assert_allclose(found["rate"], np.log(found["spectral_radius"]), rtol=1e-9)


def test_the_boundary_of_orthogonal_linear_networks_is_where_the_rate_is_interpolated_to_zero(orthogonal):
    boundary = analysis.boundary(analysis.regimes(orthogonal))
    low, high = np.log(0.9), np.log(1.1)
    assert boundary.outcome == "crossing"
    np.testing.assert_allclose(boundary.radius.value, 0.9 - low * 0.2 / (high - low), rtol=1e-9)
    assert boundary.radius.half_width < 1e-9


NAN = np.nan
BOUNDARIES = {
    "crossing": (regimes(a=[-1, 1], b=[-1, 3]), ("crossing", (1.5 + 1.25) / 2, 1, 2)),
    "crossing at a radius": (regimes(a=[-1, 0, 1], b=[-2, 0, 2]), ("crossing", 2.0, 1, 3)),
    "vanishing": (regimes(a=[-1, -2], b=[-1, -3]), ("vanishing", NAN, 2, NAN)),
    "exploding": (regimes(a=[1, 2], b=[1, 3]), ("exploding", NAN, NAN, 1)),
    "constant": (regimes(a=[0, 0], b=[0, 0]), ("constant", NAN, NAN, NAN)),
    "one seed never crosses": (regimes(a=[-1, 1], b=[-1, -3]), ("mixed", NAN, 1, NAN)),
    "one seed crosses twice": (regimes(a=[-1, 1, -1], b=[-1, -3, 1]), ("mixed", NAN, 1, NAN)),
    "one seed explodes at once": (regimes(a=[-1, -1, 1], b=[1, 2, 3]), ("mixed", NAN, NAN, 3)),
    "the wrong way round": (regimes(a=[1, -1], b=[2, -2]), ("mixed", NAN, NAN, NAN)),
    "zero, then exploding": (regimes(a=["zero", -1, 1]), ("crossing", 2.5, 2, 3)),
    "zero next to exploding": (regimes(a=["zero", 1]), ("mixed", NAN, 1, 2)),
    "overflow above": (regimes(a=[-1, -1, "overflow"]), ("vanishing", NAN, 2, NAN)),
    "overflow only": (regimes(a=["overflow", "short"]), ("unknown", NAN, NAN, NAN)),
}


@pytest.mark.parametrize(("table", "expected"), BOUNDARIES.values(), ids=BOUNDARIES)
def test_what_happens_along_the_radius_is_named(table, expected):
    found = analysis.boundary(table)
    assert found.outcome == expected[0]
    np.testing.assert_allclose([found.radius.value, found.vanishing_to, found.exploding_from], expected[1:])


def test_the_interval_is_students():
    sample = np.random.default_rng(0).normal(size=7)
    low, high = stats.t.interval(0.95, 6, sample.mean(), stats.sem(sample))
    found = analysis.estimate(sample)
    np.testing.assert_allclose([found.value - found.half_width, found.value + found.half_width], [low, high])


def test_one_seed_has_no_interval():
    assert np.isnan(analysis.estimate([1.0]).half_width)
    assert str(analysis.estimate([1.234])) == "1.234"


@pytest.mark.parametrize(
    ("estimate", "text"),
    [((1.0017, 0.0014), "1.0017 ± 0.0014"), ((6.478, 0.84), "6.48 ± 0.84"), ((512.3, 40.0), "512 ± 40")],
)
def test_an_estimate_is_written_to_the_digits_that_its_interval_supports(estimate, text):
    assert str(analysis.Estimate(*estimate, seeds=5)) == text


@pytest.mark.parametrize("seeds", [1, 2, 5, 8])
def test_quantiles_are_interpolated_between_seeds(seeds):
    sample = np.random.default_rng(seeds).normal(size=seeds)
    (row,) = analysis.quantiles(pd.DataFrame({"lag": 0, "value": sample}), ["lag"], "value").to_dict("records")
    np.testing.assert_allclose([row["low"], row["median"], row["high"]], np.quantile(sample, [0.1, 0.5, 0.9]))
    assert row["seeds"] == seeds


def test_between_a_gradient_of_exactly_zero_and_another_the_quantile_is_the_zero():
    table = pd.DataFrame({"lag": 0, "log10_dh": [-np.inf, -3.0, -2.0, -1.0, 0.0]})
    (row,) = analysis.quantiles(table, ["lag"], "log10_dh").to_dict("records")
    np.testing.assert_allclose([row["low"], row["median"], row["high"]], [-np.inf, -2.0, -0.4])


def test_quantiles_of_nothing_are_nothing():
    assert analysis.quantiles(pd.DataFrame({"lag": [], "value": []}), ["lag"], "value").empty


def test_reach_reads_last_step_full_runs_of_the_greatest_length(small):
    reach = analysis.reach(small)
    chosen = small.runs.query("loss_steps == 'last' and truncation == 'full' and seq_len == 12")
    assert set(reach["run_id"]) == set(chosen["run_id"])
    assert len(reach) == 12 * len(chosen)
    assert set(analysis.reach(small, lengths=True)["seq_len"]) == {6, 12}
    assert analysis.reach(small.select(truncation="fixed:3")).empty


def test_truncation_errors_read_all_steps_runs_of_the_greatest_length(small):
    errors = analysis.truncation_errors(small)
    chosen = small.runs.query("loss_steps == 'all' and truncation != 'full' and seq_len == 12")
    assert sorted(errors["relative_error"]) == sorted(chosen["relative_error"])


def test_panels_name_what_is_swept_beside_the_axes(small):
    assert set(analysis.panels(small)) == {"tanh", "linear"}
    assert set(analysis.panels(small.select(activation="tanh"))) == {""}


def test_a_single_loss_step_that_is_not_the_last_is_read_too(tmp_path):
    steps = {"loss_steps": [2, 4, [1, 3]], "seeds": 1, "activation": "tanh"}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL | steps, jobs=1)
    reach = analysis.reach(results)
    assert set(reach["lag"]) == {0, 1, 2, 3}
    assert set(reach["run_id"]) <= set(results.select(loss_steps="4").runs["run_id"])


def test_panels_of_several_tasks_name_what_varies_within_each(tmp_path):
    tasks = {"task": ["noise", "sine"], "frequency": [0.1, 0.2], "seeds": 1, "activation": "tanh", "seq_len": 6}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL | tasks, jobs=1)
    assert set(analysis.panels(results)) == {"noise", "sine, frequency = 0.1", "sine, frequency = 0.2"}


def test_radii_that_overflow_and_radii_that_are_zero_have_their_regimes(tmp_path):
    extremes = {"activation": "linear", "spectral_radius": [0.0, 0.5, 40.0], "seq_len": [20, 400], "seeds": 1}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL | extremes, jobs=1)
    found = analysis.regimes(results).set_index("spectral_radius")["state"]
    assert found.to_dict() == {0.0: "zero", 0.5: "vanishing", 40.0: "overflow"}
