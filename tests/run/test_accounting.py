"""The ledger: its numbers are those of the runs, intervals are Student's t, infinite variance is not averaged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_sweep import SMALL

import gradscope as gs
from gradscope.accounting import NAME, geometric_mean_of, mean_of
from gradscope.reporting.findings import findings


def sweep(folder, **overrides):
    usual = {"activation": "linear", "ensemble": "orthogonal", "seq_len": 30, "loss_steps": "all", "draws": 40}
    return gs.sweep("spectral-radius", out=folder / "out", overrides=SMALL | usual | {"seeds": 4} | overrides, jobs=1)


@pytest.fixture(scope="module")
def decaying(tmp_path_factory):
    """Orthogonal linear networks: the state gradient changes by the spectral radius at each step, exactly."""
    truncations = ["full", "fixed:3", "chunked:5", "random:5", "random-unweighted:5", "artbp:5:4", "one-coin:5"]
    folder = tmp_path_factory.mktemp("decaying")
    return sweep(folder, spectral_radius=[0.5, 0.85, 0.9, 1.1], truncation=[*truncations, "variable:6:1:0.9"])


def row(table, truncation, radius=0.5, parameter="all"):
    chosen = (table["truncation"] == truncation) & (table["spectral_radius"] == radius)
    (found,) = table[chosen & (table["parameter"] == parameter)].to_dict("records")
    return found


@pytest.fixture(scope="module")
def table(decaying):
    return gs.ledger(decaying)


def test_there_is_a_row_for_each_truncation_radius_and_parameter(table):
    assert len(table) == 8 * 4 * 4
    assert not table.duplicated(["truncation", "spectral_radius", "parameter"]).any()
    assert set(table["parameter"]) == {"all", "W_xh", "W_hh", "b_h"}
    assert set(table["seeds"]) == {4}
    assert set(table["draws"]) == {40}


@pytest.mark.parametrize("parameter", ["all", "W_hh"])
@pytest.mark.parametrize("truncation", ["fixed:3", "random-unweighted:5", "variable:6:1:0.9"])
def test_sizes_are_geometric_means_over_seeds_with_their_interval(table, decaying, truncation, parameter):
    runs = decaying.select(truncation=truncation, spectral_radius=0.5).runs
    logs = np.log10(runs["bias" if parameter == "all" else f"bias_{parameter}"])
    found = row(table, truncation, parameter=parameter)
    low, high = stats.t.interval(0.95, 3, logs.mean(), stats.sem(logs))
    np.testing.assert_allclose(
        [found["bias"], found["bias_low"], found["bias_high"]], 10 ** np.array([logs.mean(), low, high]), rtol=1e-9
    )


def test_the_mean_square_error_is_squared_bias_and_variance(table, decaying):
    runs = decaying.select(truncation="random-unweighted:5", spectral_radius=0.5).runs
    logs = np.log10(runs["bias"] ** 2 + runs["coin_sd"] ** 2)  # its mean over coins is known
    np.testing.assert_allclose(row(table, "random-unweighted:5")["mse"], 10 ** logs.mean(), rtol=1e-9)


def test_shares_are_means_over_seeds(table, decaying):
    runs = decaying.select(truncation="random:5", spectral_radius=0.85).runs
    low, high = stats.t.interval(0.95, 3, runs["cosine_p50"].mean(), stats.sem(runs["cosine_p50"]))
    found = row(table, "random:5", 0.85)
    np.testing.assert_allclose(
        [found["cosine_p50"], found["cosine_p50_low"], found["cosine_p50_high"]],
        [runs["cosine_p50"].mean(), low, high],
        rtol=1e-9,
    )


@pytest.mark.parametrize(
    ("truncation", "radius", "variance"),
    [
        ("fixed:3", 0.9, "none"),
        ("random:5", 0.5, "finite"),
        ("random:5", 0.85, "finite"),  # .85^2 = .7225 < pi = .8
        ("random:5", 0.9, "infinite"),  # .9^2 = .81 > .8
        ("random:5", 1.1, "infinite"),
        ("artbp:5:4", 0.9, "finite"),
        ("artbp:5:4", 1.1, "infinite"),
        ("one-coin:5", 0.9, "finite"),
        ("one-coin:5", 1.1, "finite"),
        ("variable:6:1:0.9", 1.1, "finite"),
        ("random-unweighted:5", 0.9, "finite"),
        ("random-unweighted:5", 1.1, "finite"),
    ],
)
def test_variance_is_infinite_exactly_where_the_square_of_the_decay_is_pi_or_more(table, truncation, radius, variance):
    found = row(table, truncation, radius)
    assert found["variance"] == variance
    assert np.isnan(found["coin_sd"]) == np.isnan(found["mse"]) == (variance == "infinite")
    assert np.isfinite(found["error_p90"])  # quantiles there are
    assert np.isfinite(found["top_share"])


def changed(results, **columns):
    """The ledger of the results with other columns of their runs."""
    runs = results.runs.copy()
    for name, change in columns.items():
        runs[name] = change(runs)
    return gs.ledger(type(results)(results._store, runs, results._curves))


def test_seeds_of_which_some_have_no_bound_are_not_averaged(decaying):
    found = changed(decaying, rate=lambda runs: runs["rate"] + 0.3 * (runs["seed"] - 1.5))
    assert row(found, "random:5", 0.9)["variance"] == "mixed"
    assert np.isnan(row(found, "random:5", 0.9)["mse"])
    assert row(found, "fixed:3", 0.9)["variance"] == "none"


def test_a_draw_that_holds_a_fifth_of_the_variance_is_not_averaged(decaying):
    found = changed(decaying, top_share=lambda runs: np.where(runs["spectral_radius"] == 0.5, 0.3, 0.1))
    assert row(found, "random:5", 0.5)["variance"] == "heavy"
    assert np.isnan(row(found, "random:5", 0.5)["coin_sd"])
    assert row(found, "random:5", 0.5)["top_share"] == pytest.approx(0.3)
    assert row(found, "random:5", 0.85)["variance"] == "finite"


def test_chance_of_a_batch_accounts_for_the_bias_that_larger_batches_do_not_have(tmp_path):
    """The square of the bias with 8 examples is, on average, that with 2,048 and what groups of the 8 say is chance."""
    one = {"activation": "tanh", "ensemble": "gaussian", "hidden_size": 8, "spectral_radius": 1.0, "draws": 2}
    one |= {"truncation": ["full", "fixed:4"], "input_scale": 0.5, "seeds": 60}
    few, many = (sweep(tmp_path / str(examples), batch_size=examples, **one) for examples in (8, 2048))
    few, many = (results.select(truncation="fixed:4").runs.set_index("seed") for results in (few, many))
    explained = few["bias_batch_sd"] ** 2 + many["bias"] ** 2
    ratio = np.exp(np.log(few["bias"] ** 2 / explained).mean())
    assert 0.7 < ratio < 1.4
    assert np.median(few["bias"]) > 2 * np.median(many["bias"])


def pair(results, parameter="all"):
    """Runs of fixed:3, and of what beats it, at radius .85, by seed; and the ledger's row."""
    found = row(gs.ledger(results), "fixed:3", 0.85)
    assert found["beaten_by"] in ("random:5", "artbp:5:4")  # one-coin keeps all states, as full BPTT does
    specs = ("fixed:3", found["beaten_by"])
    return found, *(results.select(truncation=spec, spectral_radius=0.85).runs.set_index("seed") for spec in specs)


def test_draws_until_the_unbiased_is_nearer_solve_its_equation(decaying):
    """N is the least whole number at which V/N <= bias^2, all on one batch; that over seeds, geometric mean."""
    found, biased, unbiased = pair(decaying)
    bias, deviation = (np.exp(np.log(of).mean()) for of in (biased["bias"], unbiased["coin_sd"]))
    assert found["beaten_after"] == next(draws for draws in range(1, 10_000) if deviation**2 / draws <= bias**2)
    assert found["beaten_after_low"] <= found["beaten_after"] <= found["beaten_after_high"]


def test_updates_on_all_data_count_the_batch_and_what_its_chance_adds_to_the_bias(decaying):
    runs = decaying.runs.assign(bias_batch_sd=decaying.runs["bias"] / 10)
    quiet = type(decaying)(decaying._store, runs, decaying._curves)
    found, biased, unbiased = pair(quiet)
    square = (biased["bias"] ** 2 * 0.99).mean()
    excess = (unbiased["coin_sd"] ** 2 + unbiased["batch_sd"] ** 2 - biased["batch_sd"] ** 2).mean()
    assert found["beaten_on_all_data"] == max(1, np.ceil(excess / square))
    np.testing.assert_allclose(found["population_bias"], np.sqrt(square), rtol=1e-9)


def test_a_bias_that_may_be_chance_is_not_said_to_be_one_of_all_data(decaying):
    found = row(changed(decaying, bias_batch_sd=lambda runs: runs["bias"]), "fixed:3", 0.85)
    assert found["population_bias"] == pytest.approx(0, abs=1e-8)
    assert np.isnan(found["beaten_on_all_data"])
    assert found["bias"] > 0


def test_what_has_no_bias_is_not_beaten(table):
    for truncation in ("full", "random:5", "artbp:5:4", "one-coin:5"):
        found = row(table, truncation, 0.85)
        assert pd.isna(found["beaten_by"])
        assert found["bias"] < 1e-12
    assert row(table, "variable:6:1:0.9", 0.85)["bias_noise"] > 0


def test_infinite_variance_beats_nothing(table):
    assert pd.isna(row(table, "fixed:3", 1.1)["beaten_by"])


def test_work_is_counted_for_each_truncation(table):
    assert (row(table, "full")["state_steps"], row(table, "full")["unroll"]) == (30, 30)
    assert (row(table, "fixed:3")["state_steps"], row(table, "fixed:3")["unroll"]) == (87, 3)
    assert (row(table, "chunked:5")["state_steps"], row(table, "chunked:5")["unroll"]) == (30, 5)
    assert 5 < row(table, "random:5")["unroll"] < 30
    assert row(table, "variable:6:1:0.9")["learning_rate_factor"] == pytest.approx(0.9, abs=0.1)
    assert row(table, "random:5")["learning_rate_factor"] == 1


def test_timing_has_every_truncation_and_full_as_its_unit(decaying):
    timed = gs.ledger(decaying, timed=True)
    assert (timed["seconds"] > 0).all()
    assert set(timed.loc[timed["truncation"] == "full", "seconds_over_full"]) == {1.0}


def test_the_report_writes_the_ledger_and_says_where_variance_is_infinite(decaying):
    page = gs.report(decaying, formats=()).read_text(encoding="utf-8")
    written = pd.read_parquet(decaying.folder / NAME)
    assert list(written["truncation"]) == list(gs.ledger(decaying)["truncation"])
    assert "The variance of random:5 has no bound, by spectral radius: at 0.9, 1.1; no average is given" in page
    assert any("is nearest to full BPTT" in finding.text for finding in findings(decaying))
    assert gs.verify(decaying.folder).ok


def test_a_folder_will_do(decaying):
    pd.testing.assert_frame_equal(gs.ledger(decaying.folder), gs.ledger(decaying))


def test_a_selection_without_full_has_a_ledger_too(decaying):
    found = gs.ledger(decaying.select(truncation="random:5"), timed=True)
    assert set(found["truncation"]) == {"random:5"}
    assert found["seconds_over_full"].isna().all()


@pytest.mark.parametrize(
    "odd", [{"spectral_radius": 1.0}, {"seq_len": 1}, {"seeds": 1}, {"draws": 2}, {"loss_steps": "last"}]
)
def test_odd_sweeps_have_a_ledger_figures_and_a_report(tmp_path, odd):
    page = gs.report(sweep(tmp_path, **({"spectral_radius": [0.9, 1.1], "seeds": 2} | odd)), formats=())
    assert page.read_text(encoding="utf-8").rstrip().endswith("</html>")


def test_a_sweep_without_draws_has_no_ledger(small):
    with pytest.raises(
        gs.InputError, match="run without draws of coins, or by an earlier gradscope; set draws = 200 in the experiment"
    ):
        gs.ledger(small)


def test_one_seed_has_no_interval():
    assert mean_of(np.array([2.0])).value == 2.0
    assert np.isnan(mean_of(np.array([2.0])).low)
    assert np.isnan(geometric_mean_of(np.array([2.0])).high)
    assert np.isnan(mean_of(np.array([np.nan])).value)
    assert np.isnan(geometric_mean_of(np.array([0.0])).low)


def test_zeros_have_a_median_and_a_range():
    assert geometric_mean_of(np.array([0.0, 0.0, 0.1, np.nan])) == (0.0, 0.0, 0.1)
    assert geometric_mean_of(np.array([0.0, 0.0])) == (0.0, 0.0, 0.0)
    assert geometric_mean_of(np.array([1.0, 2.0, np.inf])) == (2.0, 1.0, np.inf)
