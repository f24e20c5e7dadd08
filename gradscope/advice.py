"""Which truncation length will do: the smallest tau whose bias is below a tolerance with confidence, or why none is.

The bias of a truncation that tosses no coins is its relative error to full BPTT, read from all-steps runs, as training
does. How far gradients reach is read from last-step, full-BPTT runs. A number that the runs cannot support is None:
where gradients do not decay, where the sequence ends before they have decayed, where seeds disagree, where there is
one seed.

The mass beyond the sequence is bounded as Aicher, Foti & Fox (2019, arXiv 1905.07473) do (`gradscope.decay`). Their
estimator takes the rate as it comes and returns a tau whatever it is; here it is the upper end of its interval, and
where that is not below zero there is no tau.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from gradscope import analysis, experiment, plugins, tasks, truncations
from gradscope.analysis import Estimate
from gradscope.decay import SLOWER, Decay, decay_of, half_life, horizons, slows
from gradscope.errors import InputError, unknown
from gradscope.grid import Grid
from gradscope.progress import Progress
from gradscope.results import Results, load
from gradscope.run import sweep
from gradscope.runs import ADDED
from gradscope.scaled import Floats
from gradscope.schedule import Gates, Tossing, Windows
from gradscope.task import Problem
from gradscope.values import in_words

WINDOWS = ("fixed", "chunked", "buffered")  # strategies that are measured
ROUND = (1, 1.5, 2, 3, 5, 7)  # of each decade of taus
NONE = "-"  # in the table, for no number
SHARES = (50, 90, 99)  # per cent of the gradient that a horizon holds
REASONS = 6  # that are printed
SEEDS = 5  # at least, in a sweep of our own
BEYOND = 0.1  # of the tolerance: what the lags beyond the sequence may hold
FAR = 2.0  # times the tolerance: above it, a seed contradicts an interval that ends below the tolerance

DO = {
    "decaying": "truncate at the tau given, or at any longer one.",
    "slowly decaying": "use full BPTT; a tau holds at this sequence length only: measure at the one you train.",
    "not decaying": "no tau will do: use full BPTT and clip, or lower the spectral radius until gradients decay.",
    "mixed over seeds": "it depends on the draw: measure the network you train, or lower the spectral radius.",
    "too short to tell": "measure again with sequences twice as long, --set seq_len={twice}, or with more seeds.",
}
NO_TAU = "but no tau measured is below the tolerance with confidence: measure longer taus, or more seeds."
ONE_SEED = "one seed says nothing about another draw: measure at least {seeds} seeds, --set seeds={seeds}."


class Verdict(NamedTuple):
    """What to do at one spectral radius of one panel, and what that is read from.

    Attributes
    ----------
    panel : values of what else is swept, in words; empty if nothing is.
    spectral_radius : nominal.
    outcome : "decaying", "slowly decaying" (only near the sequence's length, or ever more slowly), "not decaying",
        "mixed over seeds" or "too short to tell".
    do : what to do about it.
    rate : of ln |dL/dh| against lag, nats a step, mean over seeds; None if no seed has one.
    half_life : steps in which the gradient halves; None where that is not supported.
    horizon : per cent -> how many lags, from 0 on, hold that much of the sum of |dL/dh| over all lags, those beyond the
        sequence too; median over seeds; None where that is not supported.
    taus : strategy -> the smallest tau measured from which on the bias is below the tolerance with confidence; None
        if there is none.
    reasons : why what is None is None, and what a tau depends on.
    """

    panel: str
    spectral_radius: float
    outcome: str
    do: str
    rate: Estimate | None
    half_life: float | None
    horizon: dict[int, int | None]
    taus: dict[str, int | None]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Advice:
    """Which tau will do.

    Attributes
    ----------
    bias : the tolerance: relative error of the recurrent gradient to that of full BPTT.
    seq_len : steps of the sequences that were measured.
    verdicts : one for each panel and spectral radius.
    curves : DataFrame, a row for each panel, spectral_radius, strategy and tau: `bias` (median over seeds), `upper`
        (the upper end of the one-sided 95 % interval of its geometric mean, Student's t on log10 bias), `highest` and
        `seeds`.
    notes : what was added to the experiment, and what was left out.
    folder : where the runs are.
    """

    bias: float
    seq_len: int
    verdicts: tuple[Verdict, ...]
    curves: pd.DataFrame
    notes: tuple[str, ...]
    folder: Path

    @property
    def table(self) -> pd.DataFrame:
        """The verdicts in words, a row each, indexed by panel and spectral radius."""
        return pd.DataFrame(
            [self._words(verdict) for verdict in self.verdicts],
            index=pd.MultiIndex.from_tuples(
                [(verdict.panel, f"{verdict.spectral_radius:g}") for verdict in self.verdicts],
                names=["panel", "radius"],
            ),
        )

    @property
    def lines(self) -> list[str]:
        """What to do, for each outcome that occurs, and what the table's marks mean."""
        about = dict.fromkeys(f"{verdict.outcome}: {verdict.do}" for verdict in self.verdicts)
        lines = [*about, "50 %, 90 %, 99 %: lags that hold so much of the gradient; half-life: in steps."]
        cells = {cell for row in self.table.to_numpy() for cell in row}
        if any(cell.endswith("*") for cell in cells):
            lines.append(f"* reaches over half of the {self.seq_len} steps: holds at this length only.")
        if NONE in cells:
            lines.append(f"{NONE} no number that these runs support; --json gives all reasons.")
        return [*lines, *self._without_tau(), *self.notes]

    def _without_tau(self) -> list[str]:
        """Why there is no tau where gradients decay, for some of the verdicts."""
        found = [
            f"{', '.join(filter(None, [verdict.panel, f'{verdict.spectral_radius:g}']))}: {reason}"
            for verdict in self.verdicts
            if verdict.outcome in ("decaying", "slowly decaying") and None in verdict.taus.values()
            for reason in verdict.reasons
        ]
        return found[:REASONS] + [f"{len(found) - REASONS} more reasons in --json"] * (len(found) > REASONS)

    def __str__(self) -> str:
        return "\n".join([self.title, "", self.table.to_string(), "", *self.lines])

    @property
    def title(self) -> str:
        """What the taus are, in a line."""
        return f"smallest tau with a bias below {self.bias:.4g} (95 % confidence), sequences of {self.seq_len} steps"

    def to_json(self) -> str:
        """Everything as JSON; null where there is no number.

        >>> nothing = pd.DataFrame({"tau": [4], "upper": [np.nan]})
        >>> Advice(0.1, 50, (), nothing, (), Path("reports/mine")).to_json().splitlines()[1]
        '  "bias": 0.1,'
        """
        plain = {
            "bias": self.bias,
            "seq_len": self.seq_len,
            "folder": str(self.folder),
            "notes": self.notes,
            "verdicts": [
                verdict._asdict() | {"rate": verdict.rate and verdict.rate._asdict()} for verdict in self.verdicts
            ],
            "curves": self.curves.to_dict("records"),
        }
        return json.dumps(_without_nan(plain), indent=2, allow_nan=False, ensure_ascii=False)

    def _words(self, verdict: Verdict) -> dict[str, str]:
        return {
            "outcome": verdict.outcome,
            **{name: self._tau(name, tau) for name, tau in verdict.taus.items()},
            **{f"{share} %": NONE if lags is None else f"{lags}" for share, lags in verdict.horizon.items()},
            "half-life": NONE if verdict.half_life is None else f"{verdict.half_life:.3g}",
        }

    def _tau(self, name: str, tau: int | None) -> str:
        return NONE if tau is None else f"{tau}*" if window(f"{name}:{tau}") > self.seq_len / 2 else f"{tau}"


def advise(
    source: Results | str | Path = "spectral-radius",
    bias: float = 0.1,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    command: str = "",
) -> Advice:
    """Which tau keeps the bias of a truncation below `bias`, for each spectral radius; or why none does.

    Parameters
    ----------
    source : results, or a sweep's folder, which are read as they are; or a shipped experiment or TOML file, of which
        the longest sequences are measured with full BPTT and a range of taus, unless `overrides` sets its truncations.
    bias : the tolerance, a relative error between 0 and 1.
    out : the folder for what an experiment's runs give, resumed if it is there; `reports/advise-NAME` if not given.
    overrides, jobs, progress, command : as for `sweep`; for experiments only.

    Raises
    ------
    InputError : a tolerance outside (0, 1); results that are not finished, or without the runs that are needed; and
        what `sweep` raises it for.

    Notes
    -----
    A tau qualifies if for it, and every greater one that was measured, the upper end of the one-sided 95 % interval
    over seeds is below the tolerance, and no seed is far above it. Windows from the sequence's length on are full BPTT.

    Examples
    --------
    `gs.advise("sine", bias=0.05).verdicts[0].taus`
    """
    if isinstance(bias, bool) or not isinstance(bias, Real) or not 0.0 < bias < 1.0:
        raise InputError(f"{bias!r}", where="bias", allowed="a number above 0 and below 1")
    if isinstance(source, Results):
        return _read(source, bias, overrides, out)
    if str(source) not in experiment.names() and Path(source).is_dir():
        return _read(load(source), bias, overrides, out)
    if str(source) not in experiment.names() and Path(source).suffix != ".toml":
        raise unknown("folder or experiment", str(source), experiment.names())
    overrides = {**(overrides or {}), **ADDED}
    resolved = experiment.read(source, overrides)
    chosen, notes = _chosen(resolved.grid, overrides)
    folder = Path(out or Path("reports") / f"advise-{resolved.name}")
    return _advice(sweep(source, folder, chosen, jobs, progress=progress, command=command), bias, notes)


# --- what is measured, or read ---------------------------------------------------------------------------------------


def taus(seq_len: int) -> list[int]:
    """Round numbers in about equal ratios, below `seq_len`.

    >>> taus(100)
    [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70]
    """
    found = {10**decade * tau for decade in range(len(str(seq_len))) for tau in ROUND}
    return [int(tau) for tau in sorted(found) if tau % 1 == 0 and tau < seq_len]


def strategy(spec: str) -> tuple[str, int] | None:
    """Name and tau of a truncation that has a tau and tosses no coins, else None.

    >>> strategy("fixed:20"), strategy("tbptt:5:20"), strategy("random:20")
    (('fixed', 20), ('tbptt:5', 20), None)
    """
    name, _, tau = spec.rpartition(":")
    return (name, int(tau)) if name and not isinstance(truncations.truncation(spec), Tossing) else None


def window(spec: str) -> int:
    """The most steps that a truncation with a tau sends a loss back through.

    >>> window("chunked:20"), window("buffered:20")
    (20, 39)
    """
    schedule = truncations.truncation(spec).schedule(np.zeros((1, 1)))
    return schedule.k2 if isinstance(schedule, Windows) else int(spec.rpartition(":")[2])


def _chosen(grid: Grid, overrides: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The overrides with which an experiment of this grid is measured, and what is to be said about them."""
    for name in grid["task"]:
        if issubclass(plugins.find(tasks.FAMILY, name), Problem):
            raise InputError(f"{name} is a problem of its own", where="task", allowed="tasks for networks")
    seq_len, seeds, notes = max(grid["seq_len"]), list(grid["seed"]), []
    specs = list(grid["truncation"])
    if "full" not in specs:
        specs.insert(0, "full")
        notes.append("full BPTT was added to the truncations: it is what bias is measured against.")
    if "truncation" not in overrides:
        windows = [f"{name}:{tau}" for name in WINDOWS for tau in taus(seq_len)]
        specs = ["full", *(spec for spec in windows if window(spec) < seq_len)]
    elif not any(map(strategy, specs)):
        raise InputError(
            f"{in_words(specs)}",
            where="truncation",
            allowed=f"one with a tau that tosses no coins, as {WINDOWS[0]}:20, too",
        )
    if len(seeds) < SEEDS:
        notes.append(f"{SEEDS} seeds were measured instead of {len(seeds)}.")
        seeds += [seed for seed in range(2 * SEEDS) if seed not in seeds][: SEEDS - len(seeds)]
    ours = {
        "seq_len": seq_len,
        "truncation": specs,
        "loss_steps": ["last", "all"],
        "reduction": grid["reduction"][0],
        "seeds": seeds,
    }
    return {**overrides, **ours}, notes


def _read(results: Results, bias: float, overrides: Mapping[str, Any] | None, out: str | Path | None) -> Advice:
    """Advice from what is there, if that is all that should be."""
    where = str(results.folder)
    if overrides or out:
        raise InputError("its runs are read as they are", where=where, hint="leave out what is set (--set, -o)")
    if not results.manifest["finished"]:
        raise _unfinished(results)
    specs, steps = (set(results.runs[name].astype(str)) for name in ("truncation", "loss_steps"))
    needed = {
        'truncation "full"': "full" in specs,
        "truncations with a TAU (fixed:TAU, chunked:TAU)": any(map(strategy, specs)),
        'loss_steps "all"': "all" in steps,
        'loss_steps "last"': "last" in steps or any(step.isdecimal() for step in steps),
    }
    if missing := [what for what, there in needed.items() if not there]:
        raise InputError(f"has no runs with {', '.join(missing)}", where=where, hint="add them to the sweep")
    return _advice(results, bias, [])


def _unfinished(results: Results) -> InputError:
    """The error that says what of a sweep is missing yet."""
    planned, lacking = results.manifest["runs"], []
    for key in ("truncation", "spectral_radius", "seed"):
        values = results.manifest["grid"][key]
        counts = results.runs[key].astype(str).value_counts()
        short = [value for value in values if counts.get(str(value), 0) < planned / len(values)]
        lacking.append(f"of {key} {'each' if len(short) == len(values) else in_words(short)}")
    what = f"the sweep is not finished: {planned - len(results.runs):,} of its {planned:,} runs are missing, "
    return InputError(
        what + "; ".join(lacking), where=str(results.folder), hint="the same sweep again goes on from there"
    )


# --- what it says ----------------------------------------------------------------------------------------------------


def _advice(results: Results, bias: float, notes: Sequence[str]) -> Advice:
    seq_len = int(results.runs["seq_len"].max())
    bends, regimes, reach = curves(results), analysis.regimes(results), analysis.reach(results)
    if regimes.empty:
        raise InputError("none of its full-BPTT runs with a last-step loss was measured", where=str(results.folder))
    reach = reach[reach["seq_len"] == seq_len]
    names = sorted(bends["strategy"].unique(), key=lambda name: (*(name != window for window in WINDOWS), name))
    verdicts = []
    for (panel, radius), own in regimes.groupby(["panel", "spectral_radius"], observed=True):
        here, bend = (
            table[(table["panel"] == panel) & (table["spectral_radius"] == radius)] for table in (reach, bends)
        )
        decays = [decay_of(here[here["seed"] == one.seed], one.state, one.rate) for one in own.itertuples()]
        of_strategy = {name: bend[bend["strategy"] == name] for name in names}
        verdicts.append(_verdict(str(panel), float(radius), decays, of_strategy, bias, seq_len))
    return Advice(bias, seq_len, tuple(verdicts), bends, (*notes, *_left_out(results)), results.folder)


def _left_out(results: Results) -> Iterator[str]:
    """Which of the truncations there is no tau for, and how many runs failed."""
    tossing = [
        spec for spec in results.runs["truncation"].astype(str).unique() if spec != "full" and not strategy(spec)
    ]
    if unbiased := [spec for spec in tossing if _unbiased(spec)]:
        yield f"left out: {', '.join(unbiased)} (unbiased: what it costs is variance, see gradscope ledger)."
    if biased := [spec for spec in tossing if spec not in unbiased]:
        yield f"left out: {', '.join(biased)} (a single draw of coins does not tell its bias)."
    if failed := sum(results.failed.values()):
        yield f"{failed:,} of {len(results.runs):,} runs failed and are left out."


def _unbiased(spec: str) -> bool:
    mean = truncations.expected(truncations.truncation(spec), seq_len=2)
    return isinstance(mean, Gates) and mean.entering is None and bool((mean.weights == 1.0).all())


def curves(results: Results) -> pd.DataFrame:
    """Bias against tau, as `Advice.curves` holds it, of the longest sequences."""
    errors = analysis.truncation_errors(results).dropna(subset="relative_error")
    found = {spec: strategy(spec) for spec in errors["truncation"].unique()}
    short = {spec: pair for spec, pair in found.items() if pair and window(spec) < errors["seq_len"].max()}
    errors = errors[errors["truncation"].isin(list(short))]  # longer windows are full BPTT
    errors = errors.assign(
        strategy=[short[spec][0] for spec in errors["truncation"]],
        tau=[short[spec][1] for spec in errors["truncation"]],
    )
    rows = [
        (*key, own.median(), upper_bound(own.to_numpy()), own.max(), len(own))
        for key, own in errors.groupby(["panel", "spectral_radius", "strategy", "tau"], observed=True)["relative_error"]
    ]
    columns = ["panel", "spectral_radius", "strategy", "tau", "bias", "upper", "highest", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def upper_bound(sample: Floats) -> float:
    """The upper end of the one-sided 95 % interval of the geometric mean, Student's t on the logarithms.

    Zeros, which have none, are left out, which can only raise it; 0 if all are zero, nan if fewer than two remain.

    >>> upper_bound(np.array([0.01, 0.01, 0.01]))
    0.01
    """
    if not sample.any():
        return 0.0 if len(sample) > 1 else np.nan
    logs = np.log10(sample[sample > 0.0])
    if len(logs) < 2:
        return np.nan
    half_width = stats.t.ppf(0.95, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    with np.errstate(over="ignore"):
        return float(10.0 ** (logs.mean() + half_width))


def _verdict(
    panel: str, radius: float, decays: Sequence[Decay], bends: Mapping[str, pd.DataFrame], bias: float, seq_len: int
) -> Verdict:
    """The verdict from the decay in each seed and the curve of each strategy."""
    rates = [decay.rate for decay in decays if np.isfinite(decay.rate)]
    rate = analysis.estimate(rates) if rates else None
    upper = rate.value + float(np.nan_to_num(rate.half_width)) if rate else np.nan
    found = {name: tau_of(bend, bias) for name, bend in bends.items()}
    best = min((window(f"{name}:{tau}") for name, (tau, _) in found.items() if tau), default=0)
    outcome, why = _outcome(decays, upper, bias, seq_len, best)
    do, reasons = DO[outcome].format(twice=2 * seq_len), (why,) if why else ()
    verdict = Verdict(panel, radius, outcome, do, rate, None, dict.fromkeys(SHARES), dict.fromkeys(bends), reasons)
    if outcome in ("not decaying", "mixed over seeds"):
        return verdict
    if len(decays) < 2:
        alone = ONE_SEED.format(seeds=SEEDS)
        return verdict._replace(do=do if outcome == "too short to tell" else alone, reasons=(*reasons, alone))
    if not slows(decays):
        beyond = [decay.beyond(upper) for decay in decays]
        steps = half_life(decays, rate.value, upper, seq_len) if rate else None
        verdict = verdict._replace(horizon=horizons(decays, beyond, SHARES), half_life=steps)
    if outcome == "too short to tell":
        return verdict
    return verdict._replace(
        do=do if best else NO_TAU,
        taus={name: tau for name, (tau, _) in found.items()},
        reasons=(*reasons, *_about(found, seq_len)),
    )


def _about(found: Mapping[str, tuple[int | None, str]], seq_len: int) -> Iterator[str]:
    """What is to be said about the tau of each strategy, or about why there is none."""
    for name, (tau, reason) in found.items():
        if reason:
            yield f"{name}: {reason}"
        if tau and window(f"{name}:{tau}") > seq_len / 2:
            yield f"{name}: {tau} reaches over half of the {seq_len} steps, and holds at this length only."


def _outcome(decays: Sequence[Decay], upper: float, bias: float, seq_len: int, best: int) -> tuple[str, str]:
    """The outcome and, unless it is "decaying", why. `best` is the shortest window of the taus; 0 if there are none."""
    states = [decay.state for decay in decays]
    counts = ", ".join(f"{state} in {states.count(state)}" for state in dict.fromkeys(states))
    over = f"of {len(states)} seeds" if len(states) > 1 else "of 1 seed"
    if not any(decay.decays or decay.state == "short" for decay in decays):
        return "not decaying", f"gradients are {counts} {over}."
    if any(not decay.decays and decay.state != "short" for decay in decays):
        return "mixed over seeds", f"gradients are {counts} {over}."
    if "short" in states:
        return "too short to tell", f"{seq_len} steps have too few lags for a rate."
    beyond = max(decay.beyond(upper) for decay in decays)
    if beyond == np.inf:
        what = "the upper end of the rate's interval" if upper >= 0.0 else "the rate over the later lags of a seed"
        return "too short to tell", f"{what} is not below zero: nothing bounds what lies beyond {seq_len} steps."
    if (share := beyond / (1.0 + beyond)) >= BEYOND * bias:
        what = f"lags beyond {seq_len} steps may hold {share:.2g} of the gradient"
        return "too short to tell", f"{what}; below {BEYOND * bias:.2g} a tau could be told."
    if slows(decays):
        return "slowly decaying", f"over the later lags the rate is below {SLOWER:g} of that over the earlier ones."
    if best > seq_len / 2:
        return "slowly decaying", f"no window up to half of the {seq_len} steps qualifies."
    return "decaying", ""


def tau_of(bend: pd.DataFrame, bias: float) -> tuple[int | None, str]:
    """The smallest tau of a curve that qualifies, or None, and what is to be said about it."""
    if bend.empty:
        return None, "no run has a gradient to compare with."
    bend = bend.sort_values("tau")
    below = ((bend["upper"] < bias) & (bend["highest"] <= FAR * bias)).to_numpy()
    last, seeds = bend.iloc[-1], int(bend["seeds"].iloc[-1])
    if below[-1]:
        first = len(below) - int(np.argmin(below[::-1])) if not below.all() else 0
        again = bend["tau"].to_numpy()[:first][below[:first]]
        why = f"the bias is below {bias:g} at {again[0]} too, but not at every greater tau." if len(again) else ""
        return int(bend["tau"].iloc[first]), why
    at = f"at the greatest tau, {int(last['tau'])},"
    if seeds < 2:
        return None, f"{at} there is one seed, which has no interval."
    if last["bias"] >= bias:
        return None, f"{at} the median bias is still {last['bias']:.2g}."
    return None, (
        f"heavy tails, or too few seeds: {at} the median bias is {last['bias']:.2g}, but the interval ends at "
        f"{last['upper']:.2g} and one of {seeds} seeds has {last['highest']:.2g}."
    )


def _without_nan(value: Any) -> Any:
    """`value` as JSON can hold it: null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
