"""What the tables say: norms against lag, decay rates, the boundary between vanishing and exploding, truncation error.

Statistics over seeds are medians and quantiles, since norms of gradients are heavy-tailed; intervals are 95 %, from
Student's t over seeds. Vanishing and exploding are read from last-step, full-BPTT runs, where the norm at lag k is the
reach of one loss; truncation error is read from all-steps runs, as training does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from gradscope import plugins, tasks
from gradscope.estimators import growth_rate
from gradscope.influence import OPTIMUM, THETA
from gradscope.loading import Loaded
from gradscope.results import Results
from gradscope.task import Problem
from gradscope.theory import critical_radius
from gradscope.theory import growth_rate as growth_rate_of

AXES = ("spectral_radius", "seq_len", "truncation", "loss_steps", "reduction", "clip", "seed", "iterations")
QUANTILES = (0.1, 0.5, 0.9)
ACTIVATIONS = {"irnn": "relu", "diagonal": "linear"}  # of cells that leave no choice


class Estimate(NamedTuple):
    """A mean over seeds with the half-width of its 95 % interval (nan for a single seed)."""

    value: float
    half_width: float
    seeds: int

    def __str__(self) -> str:
        if not self.half_width > 0:
            return f"{self.value:.4g}"
        digits = max(0, 1 - int(np.floor(np.log10(max(self.half_width, 1e-12)))))
        return f"{self.value:.{min(digits, 4)}f} ± {self.half_width:.{min(digits, 4)}f}"


def estimate(sample: Sequence[float]) -> Estimate:
    """Mean and 95 % Student t interval.

    >>> print(estimate([1.0, 1.1, 1.2]))
    1.10 ± 0.25
    """
    values = np.asarray(sample, float)
    count = len(values)
    if count < 2:
        return Estimate(float(values.mean()) if count else np.nan, np.nan, count)
    half_width = _t(count - 1) * values.std(ddof=1) / np.sqrt(count)
    return Estimate(float(values.mean()), float(half_width), count)


@lru_cache
def _t(freedom: int) -> float:
    """Student's t of a two-sided 95 % interval."""
    return float(stats.t.ppf(0.975, freedom))


def panels(
    results: Loaded, lines: str | None = None, among: Sequence[str] | None = None, axes: Sequence[str] = AXES
) -> pd.Series:
    """For each run, its values of the swept parameters that are on none of the axes of the figures, in words.

    An option counts as swept if it takes several values within one cell and task. What the view asks for comes first,
    whether on an axis or not; the parameter by which the `lines` of a panel differ is left out, and so are, of what
    nobody asked for, all that are not `among` some. The hidden size at which cells are matched stands last, as "28
    units", if all of a panel have the same.
    """
    runs, shown = results.runs, results.view.parameters
    others = [name for name in results.parameters if name not in (*axes, *shown)]
    label = pd.Series("", index=runs.index)
    for name in (*shown, *(name for name in others if among is None or name in among)):
        if name == lines:
            continue
        if is_swept(runs, name):
            label = _and(label, _words(runs[name]).where(runs[name].notna(), ""))
    return label if "hidden_size" in (lines, *shown) else _and(label, sizes_in_words(runs, label))


def sizes_in_words(runs: pd.DataFrame, label: pd.Series) -> pd.Series:
    """The hidden sizes at which cells are matched, as "28 units"; "" if none are, or some of one label differ."""
    sizes = runs["hidden_size"]
    alone = is_swept(runs, "hidden_size") or sizes.nunique() < 2 or sizes.groupby(label).nunique().max() > 1
    return pd.Series("", runs.index) if alone else sizes.map("{:d} units".format)


def _and(label: pd.Series, words: pd.Series) -> pd.Series:
    """Labels of panels with more words, where there are any."""
    return label + np.where((label != "") & (words != ""), ", ", "") + words


def is_swept(runs: pd.DataFrame, name: str) -> bool:
    """Whether a parameter takes several values within one cell and task, of hidden sizes also within one `match`."""
    if runs[name].nunique() < 2:
        return False
    within = ("cell", "task", *(("match", "num_layers") if name == "hidden_size" else ()))
    kinds = [runs[kind] for kind in within if kind != name and kind in runs]
    return bool(runs[[name]].groupby(kinds, observed=True)[name].nunique().max() > 1)


def _words(values: pd.Series) -> pd.Series:
    """The values of a parameter as panels have them: "full", "hidden_size = 64", "not tied"."""
    if pd.api.types.is_bool_dtype(values):
        return pd.Series(np.where(values, str(values.name), f"not {values.name}"), values.index)
    if pd.api.types.is_numeric_dtype(values):
        return f"{values.name} = " + values.map("{:g}".format)
    return values.astype(str) if values.name not in ("loss_steps", "clip") else f"{values.name} " + values.astype(str)


def lines(table: pd.DataFrame, results: Results, own: str) -> tuple[pd.DataFrame, str]:
    """A table of runs' rows for a figure in which lines differ by `own`, or by the view's hue; and which of them it is.

    Where it is another, `own` has panels of its own: of spectral radii the least, the greatest and that nearest to 1.
    """
    hue = results.view.hue
    if hue is None:
        return table, own
    if own == "spectral_radius" != hue:
        table = table[table[own].isin(few(table[own]))]
    runs = results.runs.assign(panel=panels(results, hue)).astype({"run_id": str}).set_index("run_id")
    chosen = table["run_id"].astype(str)
    table = table.assign(**{"panel": chosen.map(runs["panel"]), hue: chosen.map(runs[hue])})
    if own not in results.view.parameters and len(table[own].unique()) > 1:
        words = _words(table[own])
        table = table.assign(panel=table["panel"].where(table["panel"] == "", table["panel"] + ", ") + words)
    return table, hue


def few(radii: Iterable[float], most: int = 3) -> list[float]:
    """The least, the greatest and the radius nearest to 1, of radii of which each can have a panel of its own.

    Where there may be more, those farthest from these.

    >>> few([0.5, 0.9, 1.2, 1.5])
    [0.5, 0.9, 1.5]
    >>> few([0.5, 0.75, 0.9, 1.2, 1.5], 4)
    [0.5, 0.9, 1.2, 1.5]
    """
    known = sorted(set(radii))
    if not known:
        return []
    chosen = {known[0], min(known, key=lambda radius: abs(radius - 1.0)), known[-1]}
    while len(chosen) < min(most, len(known)):
        chosen.add(max(known, key=lambda radius: min(abs(radius - other) for other in chosen)))
    return sorted(chosen)


def beside(results: Results, first: str = "") -> str | None:
    """The parameter that a figure has beside the spectral radius: the view's hue, or one that is swept; None without.

    `first` if that is swept; of the others that are on no axis of the figures and have no panels of their own by the
    view, the first number, and after all numbers the first word.
    """
    if results.view.hue:
        return results.view.hue if results.view.hue not in ("spectral_radius", "seed") else None
    taken = {*AXES, *results.view.facet, "cell", "task"}
    runs = _of_networks(results)
    whole = [name for name in results.parameters if runs[name].notna().all()]  # not an option of one task among several
    swept = [name for name in whole if name not in taken and is_swept(runs, name)]
    order = {name: (name != first, not pd.api.types.is_numeric_dtype(runs[name])) for name in swept}
    return min(swept, key=order.__getitem__, default=None)


def told_by(table: pd.DataFrame, results: Results, parameter: str) -> pd.DataFrame:
    """A table of runs' rows with a column for a parameter, for whose values there are no panels any more."""
    if parameter in _varying(results.runs, [parameter]):
        facets = _varying(results.runs, results.view.facet)
        table, _ = lines(table, results.viewed(parameter, [name for name in facets if name != parameter]), parameter)
    else:
        table = table.assign(**{parameter: results.runs[parameter].iloc[0]})
    own = table[parameter]
    if pd.api.types.is_bool_dtype(own):
        return table.assign(**{parameter: _words(own)})
    return table.assign(**{parameter: own if pd.api.types.is_numeric_dtype(own) else own.astype(str)})


def _varying(runs: pd.DataFrame, names: Iterable[str]) -> list[str]:
    """Those of some columns that have several values."""
    counts = runs[list(names)].nunique()
    return list(counts.index[counts > 1])


def networks(results: Results) -> pd.DataFrame:
    """The runs in which a network meets a task, with their `panel`; of several reductions and clips the first.

    A problem's runs have an analysis of their own.
    """
    runs = _of_networks(results)
    for name in ("reduction", "clip"):
        if name in runs and name not in results.view.parameters:
            runs = runs[runs[name] == results.runs[name].iloc[0]]
    return runs


def longest(runs: pd.DataFrame, results: Results) -> pd.DataFrame:
    """The runs of the greatest length; all, if the view asks for lengths."""
    return runs if "seq_len" in results.view.parameters else runs[runs["seq_len"] == runs["seq_len"].max()]


def _of_networks(results: Results) -> pd.DataFrame:
    problems = [name for name in plugins.names(tasks.FAMILY) if issubclass(plugins.find(tasks.FAMILY, name), Problem)]
    runs = results.runs[~results.runs["task"].isin(problems)].copy()
    return runs.assign(panel=panels(results))


def reach(results: Results, *, lengths: bool = False, every_loss: bool = False) -> pd.DataFrame:
    """log10 |dL/dh_t| of each full-BPTT run with a single loss step, at each lag from 0 on.

    Columns are those of the timesteps, `panel`, `spectral_radius`, `seed` and `seq_len`. The loss step is the last, or,
    in a sweep without it, the greatest that was swept; with `every_loss` all of them. Runs of the greatest length only,
    unless all `lengths` are asked for; empty if the sweep has no such runs.
    """
    runs = _reach_runs(results, every_loss)
    runs = runs[runs["status"] == "ok"]
    if not lengths:
        runs = longest(runs, results)
    if runs.empty:
        numbers = ["t", "lag", "log10_dh", "spectral_radius", "seed", "seq_len"]
        return pd.DataFrame(columns=["run_id", "panel", *numbers]).astype(dict.fromkeys(numbers, float))
    steps = results.select(run_id=list(runs["run_id"])).timesteps
    about = runs[["run_id", "panel", "spectral_radius", "seed", "seq_len"]]
    return steps[steps["lag"] >= 0].astype({"run_id": str}).merge(about.astype({"run_id": str}), on="run_id")


def _reach_runs(results: Results, every_loss: bool = False) -> pd.DataFrame:
    runs = networks(results)
    if "truncation" not in results.view.parameters:
        runs = runs[runs["truncation"] == "full"]
    steps = runs["loss_steps"].astype(str)
    if every_loss:
        return runs[steps.str.isdecimal() | (steps == "last")]
    if "loss_steps" in results.view.parameters:
        return runs
    if not (steps == "last").any():
        single = steps[steps.str.isdecimal()]
        return runs[steps == max(single, key=int)] if len(single) else runs[:0]
    return runs[steps == "last"]


def changes(reach: pd.DataFrame) -> pd.DataFrame:
    """A table of `reach` with `decades`, the change of the norm since lag 0; -inf where it is exactly zero."""
    start = reach.loc[reach["lag"] == 0, ["run_id", "log10_dh"]].rename(columns={"log10_dh": "start"})
    known = reach.merge(start, on="run_id")
    decades = np.where(np.isneginf(known["log10_dh"]), -np.inf, known["log10_dh"] - known["start"])
    return known.drop(columns="start").assign(decades=decades)


def quantiles(table: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """`low`, `median` and `high` (10 %, 50 %, 90 %) of a column over seeds, and how many `seeds`, for each group.

    Interpolated linearly between seeds; where one neighbour is -inf (a gradient of exactly zero), the lower of the two.
    """
    if table.empty:
        return pd.DataFrame(columns=[*by, "low", "median", "high", "seeds"])
    grouped = table.groupby(by, observed=True, sort=True)[column]
    levels = list(QUANTILES)
    with np.errstate(invalid="ignore"):
        bands = grouped.quantile(levels)
    bands = bands.where(bands.notna(), grouped.quantile(levels, interpolation="lower")).unstack()  # noqa: PD010
    bands.columns = ["low", "median", "high"]
    return bands.assign(seeds=grouped.count()).reset_index()


def decay_rates(table: pd.DataFrame, along: str | None = None) -> pd.DataFrame:
    """The slope of ln |dL/dh| against lag, nats a step, for each panel, spectral radius and seed of a `reach` table.

    And for each value of `along`, if that is the name of a column. Least squares over the lags after the transient
    (from a quarter of the length, at most 10 steps); exact zeros are left out. `state` says what the rate means:
    "vanishing" (negative), "exploding" (positive), "constant" (zero, but for rounding), "zero" (every gradient after
    the transient is exactly zero, or most are and the others grow, as in a delay line) or "short" (too few lags).
    """
    rows = []
    by = ["panel", *([along] if along else []), "spectral_radius", "seed"]
    for key, run in table.groupby(by, observed=True):
        fitted = run[run["lag"] >= min(10, len(run) // 4)]
        live = fitted[np.isfinite(fitted["log10_dh"])]
        if len(live) < 3:
            rows.append((*key, np.nan, "zero" if len(fitted) >= 3 and live.empty else "short"))
            continue
        rate = growth_rate(run["lag"].to_numpy(), run["log10_dh"].to_numpy())
        if rate > 0 and len(live) < len(fitted) / 2:
            rows.append((*key, np.nan, "zero"))
            continue
        constant = abs(rate) * np.ptp(live["lag"]) < 1e-6
        rows.append((*key, rate, "constant" if constant else "vanishing" if rate < 0 else "exploding"))
    return pd.DataFrame(rows, columns=[*by, "rate", "state"]).astype({"rate": float})


def regimes(results: Results, along: str | None = None) -> pd.DataFrame:
    """The `decay_rates` of a sweep's longest runs, with those whose forward states overflowed as state "overflow".

    With `along`, for each value of that parameter, in a column of its own and in no panel; of seq_len, for all lengths.
    """
    runs = _reach_runs(results)
    if along != "seq_len":
        runs = longest(runs, results)
    overflowed = runs[runs["status"].astype(str).str.startswith("forward overflow")]
    # Where the longest all overflowed, `reach` would go on to shorter ones, of which nothing is said here.
    table = reach(results, lengths=along == "seq_len")
    table = table[table["seq_len"].isin(runs["seq_len"])]
    if along:
        table, overflowed = (told_by(part, results, along) for part in (table, overflowed))
    measured = decay_rates(table, along)
    overflowed = overflowed[[name for name in measured if name in overflowed]].assign(rate=np.nan, state="overflow")
    if overflowed.empty or measured.empty:
        return measured if overflowed.empty else overflowed
    return pd.concat([measured, overflowed], ignore_index=True)


class Boundary(NamedTuple):
    """What happens along the spectral radius.

    Attributes
    ----------
    outcome : "crossing" (in every seed gradients vanish up to a radius and explode above it), "vanishing", "exploding",
        "constant" (at every radius, in every seed), "mixed", or "unknown" (no rates).
    radius : the crossing over seeds; nan for other outcomes.
    vanishing_to : the largest radius up to which gradients vanish in every seed; nan if there is none.
    exploding_from : the smallest radius from which on they explode in every seed; nan if there is none.
    """

    outcome: str
    radius: Estimate
    vanishing_to: float
    exploding_from: float


SIGNS = {"vanishing": -1, "zero": -1, "constant": 0, "exploding": 1}


def boundary(table: pd.DataFrame) -> Boundary:
    """The boundary between vanishing and exploding, from the `regimes` of one panel.

    For each seed, the crossing is interpolated linearly between neighbouring radii. Radii at which states overflowed,
    or sequences were too short, count neither way.
    """
    known = table[table["state"].isin(SIGNS)].sort_values("spectral_radius")
    known = known.assign(sign=known["state"].map(SIGNS).astype(int))
    if known.empty:
        return Boundary("unknown", estimate([]), np.nan, np.nan)
    by_radius = known.groupby("spectral_radius")["sign"]
    to = _last_of_run(by_radius.max() == -1)
    since = _last_of_run((by_radius.min() == 1)[::-1])
    crossings = [_crossing(seed) for _, seed in known.groupby("seed")]
    if all(np.isfinite(crossings)):
        return Boundary("crossing", estimate(crossings), to, since)
    states = {-1: "vanishing", 0: "constant", 1: "exploding"}
    signs = set(known["sign"])
    return Boundary(states[signs.pop()] if len(signs) == 1 else "mixed", estimate([]), to, since)


def boundaries(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The `boundary` of each group of `regimes`, one row a group, and the `half_width` of its interval."""
    rows = []
    for key, own in table.groupby(by, observed=True):
        found = boundary(own)
        rows.append((*key, found.outcome, found.radius.value, found.radius.half_width, found.vanishing_to))
    return pd.DataFrame(rows, columns=[*by, "outcome", "boundary", "half_width", "vanishing_to"])


def theoretical_rates(results: Results) -> pd.Series:
    """For each run, the growth of |dL/dh| with the lag that theory gives (`gradscope.theory`), nats a step, or nan."""
    names = ["activation", "spectral_radius", "input_scale", "ensemble", "task"]
    known = results.runs.assign(activation=activations(results.runs))[names].dropna()
    rates = [growth_rate_of(*values) for values in zip(*(known[name].tolist() for name in names), strict=True)]
    return pd.Series(rates, known.index, float).reindex(results.runs.index)


def theoretical_boundaries(runs: pd.DataFrame) -> pd.Series:
    """For each run, the spectral radius at which theory has neither vanishing nor exploding gradients, or nan."""
    names = ["activation", "input_scale", "ensemble", "task"]
    known = runs.assign(activation=activations(runs))[names].dropna()
    radii = [critical_radius(*values) for values in zip(*(known[name].tolist() for name in names), strict=True)]
    return pd.Series(radii, known.index, float).reindex(runs.index)


def activations(runs: pd.DataFrame) -> pd.Series:
    """The activation of each run's recurrence, the key's or the cell's own; None with gates, and in stacks."""
    own = runs["activation"].astype(object) if "activation" in runs else pd.Series(None, runs.index, object)
    own = own.where(own.notna(), runs["cell"].astype(str).map(ACTIVATIONS))
    return own.where(runs["num_layers"] == 1, None) if "num_layers" in runs else own


def truncation_errors(results: Results) -> pd.DataFrame:
    """Relative error and cosine to full BPTT of each all-steps run of the greatest length, one row a run."""
    runs = networks(results)
    chosen = (runs["loss_steps"] == "all") & (runs["truncation"] != "full") & (runs["status"] == "ok")
    runs = longest(runs[chosen], results)
    columns = ["run_id", "panel", "truncation", "spectral_radius", "seed", "seq_len", "relative_error", "cosine"]
    return runs[columns].astype({"truncation": str}).reset_index(drop=True)


def clips(results: Results) -> pd.DataFrame:
    """Runs that were measured on minibatches and clipped, one row a run, with the `kind` and `threshold` of their clip.

    Those of the greatest length, with losses at all steps if there are such; of several truncations and reductions the
    first.
    """
    runs = _of_networks(results)
    if "clip_share" not in runs:
        return runs[:0].assign(kind="", threshold=np.nan)
    runs = runs[runs["clip"].astype(str).str.contains(":") & runs["clip_share"].notna()]
    for name in ("truncation", "reduction"):
        runs = runs[runs[name] == results.runs[name].iloc[0]]
    if (runs["loss_steps"] == "all").any():
        runs = runs[runs["loss_steps"] == "all"]
    runs = longest(runs, results)
    spec = runs["clip"].astype(str).str.split(":")
    return runs.assign(kind=spec.str[0], threshold=spec.str[1].astype(float)).reset_index(drop=True)


def descents(results: Results) -> pd.DataFrame:
    """Runs of influence balancing, one row a run: where each strategy's descent stands after so many updates.

    `log10_loss` and `theta` are missing where they have left float64's range; `nearer` says whether theta is nearer to
    its optimum than it was at the start.
    """
    runs = results.runs.assign(panel=panels(results))
    runs = runs[runs["task"] == "influence-balancing"]
    columns = ["panel", "loss_steps", "truncation", "seed", "iterations"]
    measured = ["log10_loss", "theta", "nearer", "influence", "influence_sd", "right_sign_share"]
    if runs.empty:
        return pd.DataFrame(columns=[*columns, *measured])
    with np.errstate(divide="ignore"):
        log10_loss = np.log10(runs["loss_value"])
    nearer = (runs["theta"] - OPTIMUM).abs() < abs(THETA - OPTIMUM)
    runs = runs.astype({"truncation": str, "loss_steps": str}).assign(log10_loss=log10_loss, nearer=nearer)
    return runs[[*columns, *measured]].reset_index(drop=True)


def _last_of_run(holds: pd.Series) -> float:
    """The last index up to which `holds` is true from its beginning on; nan if it does not begin so."""
    length = len(holds) if holds.all() else int(np.argmin(holds.to_numpy()))
    return float(holds.index[length - 1]) if length else np.nan


def _crossing(seed: pd.DataFrame) -> float:
    """The radius at which one seed goes from vanishing to exploding; nan unless it does so once and for all."""
    radius, rate, sign = (seed[name].to_numpy() for name in ("spectral_radius", "rate", "sign"))
    if sign[0] != -1 or sign[-1] != 1 or (np.diff(sign) < 0).any():
        return np.nan
    if (sign == 0).any():
        return float(radius[sign == 0].mean())
    i = int(np.argmax(sign == 1)) - 1
    if not np.isfinite(rate[i]):  # exactly zero before
        return np.nan
    return float(radius[i] - rate[i] * (radius[i + 1] - radius[i]) / (rate[i + 1] - rate[i]))
