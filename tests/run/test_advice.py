"""Advice against closed forms, and where there must be none, beside what the published estimator returns there.

In linear networks with an orthogonal W_hh of spectral radius r, |dL/dh_{T-k}| falls as r^k exactly, so that rate,
half-life and horizons are known.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats

import gradscope as gs
from gradscope import advice, analysis
from gradscope.cli import cli
from gradscope.decay import decay_of, half_life, slows

SMALL = {"hidden_size": 6, "batch_size": 3, "input_size": 2, "seeds": 5}
ORTHOGONAL = SMALL | {"activation": "linear", "ensemble": "orthogonal", "seq_len": [20, 100]}
T = 100
LAGS = (50, 90, 99)


def published(phi, tolerance):
    """The tau of Aicher, Foti & Fox (2019), arXiv 1905.07473, from phi_k = |dL/dh_{T-k}|, and the rate beta it assumes.

    The smallest K with E(K) / (|g_K| - E(K)) <= tolerance, E(K) the sum of phi beyond K, continued by beta, and |g_K|
    that up to K; the greatest K if there is none. Beta is the slope of log phi over the later half.
    """
    steps = len(phi)
    late = np.arange(steps // 2, steps)
    beta = np.exp(np.polyfit(late, np.log(phi[late]), 1)[0])
    held = np.cumsum(phi)
    lost = held[-1] - held + phi[-1] * beta / (1.0 - beta)
    bound = np.where(held > lost, lost / (held - lost), np.inf)
    return int(np.argmax(bound <= tolerance)) + 1 if (bound <= tolerance).any() else steps, beta


def sweep_of(folder, **overrides):
    return gs.sweep("spectral-radius", out=folder / "out", overrides=ORTHOGONAL | overrides, jobs=1)


def doctored(results, spec, errors):
    """The results with these relative errors, a seed each, for one truncation."""
    runs = results.runs.sort_values("seed")
    chosen = (runs["truncation"] == spec) & (runs["loss_steps"] == "all") & (runs["seq_len"] == T)
    changed = results.select(seed=list(range(5)))
    changed.runs = runs.assign(relative_error=runs["relative_error"].mask(chosen))
    changed.runs.loc[chosen, "relative_error"] = errors
    return changed


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Advice on orthogonal linear networks at many radii; not to be changed."""
    overrides = ORTHOGONAL | {"spectral_radius": [0.0, 0.7, 0.9, 0.95, 0.99, 1.0, 1.1, 1.5]}
    out = tmp_path_factory.mktemp("advice") / "out"
    return gs.advise("spectral-radius", bias=0.1, out=out, overrides=overrides, jobs=1)


@pytest.fixture(scope="module")
def at_09(tmp_path_factory):
    """A sweep at radius 0.9 with three windows; not to be changed."""
    specs = ["full", "fixed:30", "fixed:50", "fixed:70"]
    return sweep_of(tmp_path_factory.mktemp("at_09"), spectral_radius=0.9, truncation=specs)


def at(advice, radius):
    (verdict,) = (verdict for verdict in advice.verdicts if verdict.spectral_radius == radius)
    return verdict


def has_no_number(verdict):
    numbers = [verdict.half_life, *verdict.horizon.values(), *verdict.taus.values()]
    return all(number is None for number in numbers)


# --- where gradients decay -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0.7, 0.9, 0.95])
def test_rate_half_life_and_horizon_are_those_of_a_geometric_decay(found, radius):
    verdict = at(found, radius)
    assert verdict.outcome == "decaying"
    np.testing.assert_allclose(verdict.rate.value, np.log(radius), rtol=1e-9)
    assert verdict.rate.half_width < 1e-9
    np.testing.assert_allclose(verdict.half_life, np.log(2.0) / -np.log(radius), rtol=1e-9)
    # The first k lags hold 1 - r^k.
    assert verdict.horizon == {p: int(np.ceil(np.log(1.0 - p / 100) / np.log(radius))) for p in LAGS}


@pytest.mark.parametrize("radius", [0.7, 0.9, 0.95])
@pytest.mark.parametrize("strategy", ["fixed", "chunked", "buffered"])
def test_tau_is_the_first_from_which_on_all_are_below_the_tolerance(found, radius, strategy):
    runs = analysis.truncation_errors(gs.load(found.folder))
    below = {}
    for spec, own in runs[runs["spectral_radius"] == radius].groupby("truncation"):
        name, _, tau = spec.partition(":")
        if name == strategy:
            logs = np.log10(own["relative_error"])
            high = stats.ttest_1samp(logs, 0.0, alternative="less").confidence_interval(0.95).high
            below[int(tau)] = 10.0**high < 0.1 and own["relative_error"].max() <= 0.2
    fit = [tau for tau in below if all(holds for other, holds in below.items() if other >= tau)]
    assert at(found, radius).taus[strategy] == (min(fit) if fit else None)


def test_the_published_estimator_agrees_where_gradients_decay(found):
    for radius in (0.7, 0.9, 0.95):
        tau, beta = published(radius ** np.arange(T), 0.1)
        np.testing.assert_allclose(beta, radius, rtol=1e-9)
        assert tau == int(np.ceil(np.log(0.1 / 1.2) / np.log(radius)))  # r^K / (1 - 2 r^K) = 0.1
        # Its bound lets no lags cancel; between it and the tau that was measured lie at most two of the taus measured.
        measured = advice.taus(T)
        above = next(i for i, other in enumerate(measured) if other >= tau)
        assert abs(measured.index(at(found, radius).taus["fixed"]) - above) <= 2


def test_bias_decays_as_the_gradient_does_in_a_tanh_network(tmp_path):
    # Published for tanh, N = 50, g = 0.9: beta 0.620, and the bias decays by 0.638 a step of tau. The inputs' scale is
    # not said; 0.7 gives that beta.
    taus = range(8, 31, 2)
    tanh = {"activation": "tanh", "hidden_size": 50, "spectral_radius": 0.9, "input_scale": 0.7, "seq_len": 60}
    specs = ["full", *(f"fixed:{tau}" for tau in taus)]
    overrides = tanh | {"truncation": specs, "loss_steps": ["last", "all"], "seeds": 5}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=overrides, jobs=1)
    _, beta = published(10.0 ** analysis.reach(results).groupby("lag")["log10_dh"].mean().to_numpy(), 0.1)
    curve = advice.curves(results)
    decay = np.exp(np.polyfit(curve["tau"], np.log(curve["bias"]), 1)[0])
    np.testing.assert_allclose([beta, decay], [0.620, 0.638], atol=0.02)


def test_gradients_that_end_are_held_by_the_lags_before(found):
    verdict = at(found, 0.0)  # W_hh is zero: the loss reaches its own step alone, and nothing is truncated
    assert (verdict.outcome, verdict.rate, verdict.half_life) == ("decaying", None, None)
    assert set(verdict.horizon.values()) == set(verdict.taus.values()) == {1}


# --- where there is no tau -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("radius", "word"), [(1.0, "constant"), (1.1, "growing"), (1.5, "growing")])
def test_gradients_that_do_not_decay_have_no_tau(found, radius, word):
    verdict = at(found, radius)
    assert (verdict.outcome, verdict.reasons) == ("not decaying", (f"gradients are {word} in 5 of 5 seeds.",))
    assert has_no_number(verdict)
    np.testing.assert_allclose(verdict.rate.value, np.log(radius), atol=1e-9)


@pytest.mark.parametrize("radius", [1.01, 1.1, 1.5])
def test_the_published_estimator_says_1_or_the_maximum_where_gradients_grow(radius):
    phi = radius ** np.arange(T)
    assert published(phi, 0.1)[0] == 1  # the sum of what is beyond comes out negative
    # Norms that jitter by a hundredth, around no growth and no decay: one or the other, by the draw.
    jitter = [published(np.exp(np.random.default_rng(s).normal(0, 0.01, T)), 0.1)[0] for s in range(20)]
    assert set(jitter) == {1, T}


def test_a_bias_that_is_small_because_the_sequence_ends_is_not_taken_for_decay(tmp_path):
    results = sweep_of(tmp_path, spectral_radius=1.5, truncation=["full", "fixed:5", "fixed:99"])
    found = gs.advise(results, bias=0.5)
    assert (found.curves.set_index("tau")["upper"] < 0.5).to_dict() == {5: False, 99: True}
    assert has_no_number(at(found, 1.5))


def test_a_sequence_shorter_than_the_horizon_is_too_short(found):
    verdict = at(found, 0.99)
    assert verdict.outcome == "too short to tell"
    assert set(verdict.taus.values()) == {None}
    assert verdict.horizon == {50: 69, 90: None, 99: None}  # 90 % would be 230 lags of 100
    assert "may hold 0.37 of the gradient" in verdict.reasons[0]  # 0.99^100
    assert "--set seq_len=200" in verdict.do
    assert published(0.99 ** np.arange(T), 0.1)[0] == T


def test_how_much_may_lie_beyond_depends_on_the_tolerance(found):
    # 0.95^100 = 0.0059: a tenth of 0.1 is more, a tenth of 0.05 is less.
    again = gs.advise(gs.load(found.folder), bias=0.05)
    assert at(found, 0.95).outcome == "decaying"
    assert at(again, 0.95).outcome == "too short to tell"


def test_a_few_steps_are_too_short_for_a_rate(tmp_path):
    results = sweep_of(tmp_path, seq_len=8, spectral_radius=0.5, truncation=["full", "fixed:3"])
    verdict = at(gs.advise(results), 0.5)
    assert (verdict.outcome, verdict.reasons) == ("too short to tell", ("8 steps have too few lags for a rate.",))
    assert has_no_number(verdict)


def test_one_seed_has_no_number(at_09):
    verdict = at(gs.advise(at_09.select(seed=3)), 0.9)
    assert has_no_number(verdict)
    assert (verdict.outcome, verdict.rate.seeds) == ("decaying", 1)
    assert "one seed" in verdict.do
    assert published(0.9 ** np.arange(T), 0.1)[0] == 24


def test_seeds_that_disagree_are_mixed(tmp_path):
    overrides = SMALL | {"activation": "tanh", "spectral_radius": [1.2, 3.0], "seq_len": T}
    found = gs.advise("spectral-radius", out=tmp_path / "out", overrides=overrides, jobs=1)
    signs = analysis.regimes(gs.load(tmp_path / "out")).groupby("spectral_radius")["rate"].agg(lambda r: {*np.sign(r)})
    for verdict in found.verdicts:
        assert signs[verdict.spectral_radius] == {-1.0, 1.0}
        assert verdict.outcome == "mixed over seeds"
        assert has_no_number(verdict)


def test_an_interval_of_the_rate_that_reaches_zero_bounds_nothing(tmp_path):
    # Seeds 1 and 2: both decay, at rates so different that an interval over two seeds says nothing.
    overrides = SMALL | {"activation": "tanh", "spectral_radius": 0.9, "seq_len": T, "input_scale": 0.5, "seeds": 2}
    specs = {"truncation": ["full", "fixed:50"], "loss_steps": ["last", "all"]}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=overrides | specs, jobs=1)
    rate = analysis.estimate(list(analysis.regimes(results)["rate"]))
    assert rate.value < 0.0 < rate.value + rate.half_width
    verdict = at(gs.advise(results), 0.9)
    assert verdict.outcome == "too short to tell"
    assert "the upper end of the rate's interval is not below zero" in verdict.reasons[0]
    assert has_no_number(verdict)


def test_states_that_overflow_leave_no_verdict_but_that(tmp_path):
    results = sweep_of(tmp_path, spectral_radius=40.0, seq_len=400, truncation=["full", "fixed:5"])
    verdict = at(gs.advise(results), 40.0)
    assert (verdict.outcome, verdict.rate) == ("not decaying", None)
    assert verdict.reasons == ("gradients are gone (forward overflow) in 5 of 5 seeds.",)
    assert has_no_number(verdict)


def test_a_window_over_half_of_the_sequence_is_slow(tmp_path):
    results = sweep_of(tmp_path, spectral_radius=0.94, truncation=["full", "fixed:5", "fixed:70"])
    found = gs.advise(results)
    verdict = at(found, 0.94)
    assert (verdict.outcome, verdict.taus) == ("slowly decaying", {"fixed": 70})
    assert verdict.reasons[-1] == "fixed: 70 reaches over half of the 100 steps, and holds at this length only."
    assert "70*" in str(found)
    assert "* reaches over half of the 100 steps" in str(found)


# --- curves ----------------------------------------------------------------------------------------------------------


def test_a_curve_that_rises_again_counts_from_where_it_is_below_for_good(at_09):
    results = doctored(at_09, "fixed:50", [0.3, 0.4, 0.3, 0.4, 0.3])
    verdict = at(gs.advise(results), 0.9)
    assert verdict.taus == {"fixed": 70}
    assert "fixed: the bias is below 0.1 at 30 too, but not at every greater tau." in verdict.reasons
    assert at(gs.advise(at_09), 0.9).taus == {"fixed": 30}


HEAVY = {
    "wide interval": [1e-4, 1e-4, 1e-3, 1e-2, 5.0],
    "one seed far above": [1e-3, 1e-3, 1e-3, 1e-3, 0.3],
    "one seed is not zero": [0.0, 0.0, 0.0, 0.0, 0.01],
}


@pytest.mark.parametrize("errors", HEAVY.values(), ids=HEAVY)
def test_heavy_tails_over_seeds_have_no_tau(at_09, errors):
    verdict = at(gs.advise(doctored(at_09, "fixed:70", errors)), 0.9)
    assert np.median(errors) < 0.1
    assert verdict.taus == {"fixed": None}
    assert verdict.reasons[-1].startswith("fixed: heavy tails, or too few seeds: at the greatest tau, 70, the median ")
    assert verdict.do.startswith("but no tau measured is below the tolerance with confidence")


def test_one_seed_far_above_contradicts_an_interval_that_is_below():
    # As in the case above, but where the interval alone would do: 19 seeds at 0.001 and one at 0.5.
    errors = np.array([1e-3] * 19 + [0.5])
    assert advice.upper_bound(errors) < 0.1
    curve = pd.DataFrame({"tau": [5], "bias": [1e-3], "upper": [0.002], "highest": [0.5], "seeds": [20]})
    tau, why = advice.tau_of(curve, 0.1)
    assert tau is None
    assert "one of 20 seeds has 0.5" in why


def test_the_upper_end_is_students_on_logarithms():
    errors = np.random.default_rng(0).lognormal(-3.0, 1.0, 9)
    high = stats.ttest_1samp(np.log10(errors), 0.0, alternative="less").confidence_interval(0.95).high
    np.testing.assert_allclose(advice.upper_bound(errors), 10.0**high, rtol=1e-12)


def test_biases_of_exactly_zero_are_below_any_tolerance(at_09):
    assert advice.upper_bound(np.zeros(3)) == 0.0
    assert at(gs.advise(doctored(at_09, "fixed:30", [0.0] * 5)), 0.9).taus == {"fixed": 30}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [("fixed:20", ("fixed", 20)), ("tbptt:5:20", ("tbptt:5", 20)), ("buffered:7", ("buffered", 7)), ("full", None)],
)
def test_a_truncation_has_a_strategy_and_a_tau(spec, expected):
    assert advice.strategy(spec) == expected


# --- decay -----------------------------------------------------------------------------------------------------------


def run_of(logs):
    """The rows of one run in a table of reach, from ln |dL/dh| by lag."""
    lags = np.arange(len(logs))
    return pd.DataFrame(
        {"lag": lags, "log10_dh": np.asarray(logs) / np.log(10.0), "zero_share": np.isneginf(logs) * 1.0}
    )


def test_a_power_of_the_lag_decays_ever_more_slowly_and_an_exponential_does_not():
    lags = np.arange(200.0)
    assert slows([decay_of(run_of(-2.0 * np.log(1.0 + lags)), "vanishing", -0.03)])
    assert not slows([decay_of(run_of(-0.03 * lags), "vanishing", -0.03)])


def test_what_lies_beyond_is_the_rest_of_a_geometric_series():
    decay = decay_of(run_of(-0.05 * np.arange(100.0)), "vanishing", -0.05)
    np.testing.assert_allclose(decay.beyond(-0.05), 1.0 / (np.exp(5.0) - 1.0), rtol=1e-9)
    assert decay.beyond(-0.04) > decay.beyond(-0.05) == decay.beyond(-0.06)  # no faster than was seen
    assert decay.beyond(0.0) == np.inf


@pytest.mark.parametrize(("upper", "steps"), [(-0.04, np.log(2.0) / 0.05), (-0.02, None), (0.01, None)])
def test_a_half_life_is_known_to_a_factor_of_two_or_not_said(upper, steps):
    decay = decay_of(run_of(-0.05 * np.arange(100.0)), "vanishing", -0.05)
    assert half_life([decay], -0.05, upper, seq_len=100) == steps
    assert half_life([decay], -0.05, upper, seq_len=10) is None


def test_gradients_that_are_zero_from_some_lag_on_leave_nothing_beyond():
    delay_line = np.where(np.arange(100) < 30, 0.0, -np.inf)
    decay = decay_of(run_of(delay_line), "constant", 0.0)
    assert (decay.state, decay.beyond(0.0)) == ("ending", 0.0)
    assert [decay.horizon(share / 100, 0.0) for share in LAGS] == [15, 27, 30]


# --- what is measured, and what is said ------------------------------------------------------------------------------


def test_an_experiment_is_measured_at_its_longest_with_full_bptt_and_seeds_enough(tmp_path, capsys):
    toml = tmp_path / "mine.toml"
    toml.write_text(
        '[sweep]\nhidden_size = 3\nseq_len = [8, 30]\ntruncation = "fixed:4"\nseeds = [7, 1]\nbatch_size = 2\n'
    )
    found = gs.advise(toml, out=tmp_path / "out", jobs=1)
    grid = gs.load(tmp_path / "out").manifest["grid"]
    assert (grid["seq_len"], grid["seed"], grid["loss_steps"]) == ([30], [7, 1, 0, 2, 3], ["last", "all"])
    assert grid["truncation"][:4] == ["full", "fixed:1", "fixed:2", "fixed:3"]
    assert {spec.partition(":")[0] for spec in grid["truncation"]} == {"full", "fixed", "chunked", "buffered"}
    assert found.notes == (
        "full BPTT was added to the truncations: it is what bias is measured against.",
        "5 seeds were measured instead of 2.",
    )


def test_truncations_that_are_set_are_those_that_are_measured(tmp_path):
    overrides = ORTHOGONAL | {"spectral_radius": 0.9, "truncation": ["fixed:40", "random:20", "variable:10:2:0.9"]}
    found = gs.advise("spectral-radius", out=tmp_path / "out", overrides=overrides, jobs=1)
    assert at(found, 0.9).taus == {"fixed": 40}
    assert found.notes == (
        "full BPTT was added to the truncations: it is what bias is measured against.",
        "left out: random:20 (unbiased: what it costs is variance, see gradscope ledger).",
        "left out: variable:10:2:0.9 (a single draw of coins does not tell its bias).",
    )


def test_asked_again_nothing_is_measured_again(found):
    log = (found.folder / "sweep.log").read_text()
    grid = gs.load(found.folder).manifest["grid"]
    overrides = ORTHOGONAL | {"spectral_radius": grid["spectral_radius"]}
    again = gs.advise("spectral-radius", bias=0.1, out=found.folder, overrides=overrides, jobs=1)
    assert again.verdicts == found.verdicts
    assert (found.folder / "sweep.log").read_text() == log


def test_json_has_everything_and_no_nan(found):
    def refuse(constant):
        raise AssertionError(constant)

    plain = json.loads(found.to_json(), parse_constant=refuse)
    assert list(plain) == ["bias", "seq_len", "folder", "notes", "verdicts", "curves"]
    for read, verdict in zip(plain["verdicts"], found.verdicts, strict=True):
        assert read["taus"] == verdict.taus
        assert read["horizon"] == {str(share): lags for share, lags in verdict.horizon.items()}
        assert (read["rate"] or {}).get("value") == (verdict.rate.value if verdict.rate else None)
    assert len(plain["curves"]) == len(found.curves)


def test_what_to_do_is_said_once_for_each_outcome_that_occurs(found):
    lines = str(found).splitlines()
    for outcome in ("decaying", "too short to tell", "not decaying"):
        assert len([line for line in lines if line.startswith(f"{outcome}: ")]) == 1
    assert len(found.table) == len(found.verdicts)


def test_the_command_prints_the_table_and_json_prints_json_alone(found):
    shown = CliRunner().invoke(cli, ["advise", str(found.folder)])
    assert (shown.exit_code, shown.stderr) == (0, "")
    cells = [line.split() for line in shown.stdout.splitlines()]
    assert ["0.7", "decaying", *map(str, at(found, 0.7).taus.values()), "2", "7", "13", "1.94"] in cells
    printed = CliRunner().invoke(cli, ["advise", str(found.folder), "--json", "--bias", "0.1"])
    assert (printed.exit_code, printed.stderr) == (0, "")
    assert json.loads(printed.stdout) == json.loads(found.to_json())


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [0.0, 1.0, -0.1, 2, np.nan, np.inf, "0.1", True])
def test_a_tolerance_that_cannot_be_is_refused_before_anything_runs(tmp_path, bias):
    with pytest.raises(gs.InputError, match=r"^bias: .*; allowed: a number above 0 and below 1"):
        gs.advise("spectral-radius", bias=bias, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


NEEDED = {
    "full": ({"truncation": "fixed:5"}, 'out: has no runs with truncation "full"; add them to the sweep'),
    "taus": ({"truncation": ["full", "random:5"]}, "has no runs with truncations with a TAU"),
    "all": ({"loss_steps": "last"}, 'has no runs with loss_steps "all"; add'),
    "last": ({"loss_steps": ["all", [2, 3]]}, 'has no runs with loss_steps "last"; add'),
}


@pytest.mark.parametrize(("overrides", "message"), NEEDED.values(), ids=NEEDED)
def test_a_folder_without_what_is_needed_says_what_to_add(tmp_path, overrides, message):
    results = sweep_of(tmp_path, **{"seq_len": 20, "truncation": ["full", "fixed:5"], "seeds": 2} | overrides)
    with pytest.raises(gs.InputError, match=message):
        gs.advise(results.folder)


def test_a_sweep_that_is_not_finished_says_what_is_missing(tmp_path):
    def stop(state):
        if state.done > 0:
            raise KeyboardInterrupt

    overrides = ORTHOGONAL | {"spectral_radius": [0.5, 0.9], "hidden_size": [6, 7], "truncation": ["full", "fixed:5"]}
    with pytest.raises(KeyboardInterrupt, match="interrupted"):
        gs.sweep("spectral-radius", out=tmp_path / "out", overrides=overrides, jobs=1, progress=stop)
    message = (
        r"out: the sweep is not finished: \d+ of its 160 runs are missing, of truncation each; of spectral_radius .*; "
        "of seed .*; the same sweep again goes on from there"
    )
    with pytest.raises(gs.InputError, match=message):
        gs.advise(tmp_path / "out")


def test_what_is_set_is_not_silently_left_out_for_a_folder(at_09):
    with pytest.raises(gs.InputError, match=r"out: its runs are read as they are; leave out what is set \(--set, -o\)"):
        gs.advise(at_09.folder, overrides={"seeds": 9})


def test_truncations_without_a_tau_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(
        gs.InputError,
        match=r"^truncation: full, random:5; allowed: one with a tau that tosses no coins, as fixed:20, too",
    ):
        gs.advise("sine", out=tmp_path / "out", overrides={"truncation": "random:5"})
    assert not (tmp_path / "out").exists()
