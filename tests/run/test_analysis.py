"""The analysis against closed forms: slopes of known lines, boundaries at known places, orthogonal networks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gradscope import analysis


def rates(**by_seed):
    """A table of decay rates: panel "" and, for each seed, rates at the radii 1, 2, 3, ..."""
    rows = [("", radius, seed, rate) for seed, values in by_seed.items() for radius, rate in enumerate(values, 1)]
    return pd.DataFrame(rows, columns=["panel", "spectral_radius", "seed", "rate"]).astype({"spectral_radius": float})


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
    assert analysis.decay_rates(line(0.2, length=2)).empty


def test_orthogonal_linear_networks_change_by_the_radius_at_each_step(orthogonal):
    found = analysis.decay_rates(analysis.reach(orthogonal))
    np.testing.assert_allclose(found["rate"], np.log(found["spectral_radius"]), rtol=1e-9)


def test_the_boundary_of_orthogonal_linear_networks_is_where_the_rate_is_interpolated_to_zero(orthogonal):
    (boundary,) = analysis.boundaries(analysis.decay_rates(analysis.reach(orthogonal))).values()
    low, high = np.log(0.9), np.log(1.1)
    assert boundary.outcome == "crossing"
    np.testing.assert_allclose(boundary.radius.value, 0.9 - low * 0.2 / (high - low), rtol=1e-9)
    assert boundary.radius.half_width < 1e-9


@pytest.mark.parametrize(
    ("table", "outcome", "radius"),
    [
        (rates(a=[-1, 1], b=[-1, 3]), "crossing", (1.5 + 1.25) / 2),
        (rates(a=[-1, -2], b=[-1, -3]), "vanishing", np.nan),
        (rates(a=[1, 2], b=[1, 3]), "exploding", np.nan),
        (rates(a=[-1, 1], b=[-1, -3]), "mixed", 1.5),
        (rates(a=[-1, 1, -1], b=[-1, -3, 1]), "mixed", 1.5),
        (rates(a=[-1, -1], b=[1, 1]), "mixed", 1.0),
    ],
    ids=["crossing", "vanishing", "exploding", "one seed never crosses", "crosses twice", "seeds disagree"],
)
def test_the_outcome_of_a_boundary_is_named(table, outcome, radius):
    (found,) = analysis.boundaries(table).values()
    assert found.outcome == outcome
    np.testing.assert_allclose(found.radius.value, radius, equal_nan=True)
    assert np.isfinite(found.radius.half_width) == (outcome == "crossing")


def test_the_interval_is_students():
    sample = np.random.default_rng(0).normal(size=7)
    low, high = stats.t.interval(0.95, 6, sample.mean(), stats.sem(sample))
    found = analysis.estimate(sample)
    np.testing.assert_allclose([found.value - found.half_width, found.value + found.half_width], [low, high])


def test_one_seed_has_no_interval():
    assert np.isnan(analysis.estimate([1.0]).half_width)
    assert str(analysis.estimate([1.234])) == "1.23"


@pytest.mark.parametrize(
    ("estimate", "text"),
    [((1.0017, 0.0014), "1.0017 ± 0.0014"), ((6.478, 0.84), "6.48 ± 0.84"), ((512.3, 40.0), "512 ± 40")],
)
def test_an_estimate_is_written_to_the_digits_that_its_interval_supports(estimate, text):
    assert str(analysis.Estimate(*estimate, seeds=5)) == text


def test_quantiles_over_seeds_are_exact_where_some_gradients_are_zero():
    table = pd.DataFrame({"lag": 0, "log10_dh": [-np.inf, -3.0, -2.0, -1.0, 0.0]})
    (row,) = analysis.quantiles(table, ["lag"], "log10_dh").to_dict("records")
    assert (row["low"], row["median"], row["high"], row["seeds"]) == (-np.inf, -2.0, 0.0, 5)


def test_reach_reads_last_step_full_runs_of_the_greatest_length(small):
    reach = analysis.reach(small)
    chosen = small.runs.query("loss_steps == 'last' and truncation == 'full' and seq_len == 12")
    assert set(reach["run_id"]) == set(chosen["run_id"])
    assert len(reach) == 12 * len(chosen)
    assert set(analysis.reach(small, longest=False)["seq_len"]) == {6, 12}
    assert analysis.reach(small.select(truncation="fixed:3")).empty


def test_truncation_errors_read_all_steps_runs_of_the_greatest_length(small):
    errors = analysis.truncation_errors(small)
    chosen = small.runs.query("loss_steps == 'all' and truncation != 'full' and seq_len == 12")
    assert sorted(errors["relative_error"]) == sorted(chosen["relative_error"])


def test_panels_name_what_is_swept_beside_the_axes(small):
    assert set(analysis.panels(small)) == {"tanh", "linear"}
    assert set(analysis.panels(small.select(activation="tanh"))) == {""}
