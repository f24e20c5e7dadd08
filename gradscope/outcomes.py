"""What trainings come to: curves over their steps, where they end, final losses, memory, and how gradients fade.

Statistics over seeds are medians and quantiles, as in `analysis`. A training that diverged stands still from there on,
and counts in no curve any more; one that stopped early counts as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gradscope import analysis
from gradscope.estimators import growth_rate
from gradscope.history import History
from gradscope.loading import Loaded
from gradscope.records import FAILED
from gradscope.results import Results

LINES = ("truncation", "clip", "spectral_radius", "learning_rate")  # by which lines differ: the first that is swept
ENDS = ("diverged", "stopped early")
LOOK = "look: "  # before the names of what was seen at a look
BINS = 250  # in which the steps of a single training are seen
MEMORY = ("recall", "copy", "adding", "temporal-order")  # tasks whose lag is under control, their chance level known
TENTH = -1.0  # decades


def swept(results: Loaded) -> list[str]:
    """The parameters that take several values, seeds left out."""
    return [name for name in results.parameters if name != "seed" and analysis.is_swept(results.runs, name)]


def hue_of(results: Loaded, across: Sequence[str] = ()) -> str | None:
    """The parameter by which lines differ: the view's, else the first of `LINES` that is swept, else the first of all.

    None if nothing is swept but seeds, tasks, of which each has panels of its own, and what figures are drawn `across`.
    """
    if results.view.hue:
        return results.view.hue
    free = [name for name in swept(results) if name not in ("task", *across, *results.view.facet)]
    return next((name for name in (*LINES, *free) if name in free), None)


def laid_out(results: Loaded, hue: str | None, across: Sequence[str] = ()) -> pd.DataFrame:
    """The runs that were trained, with the `panel` of each; what lines differ by as a number or a text.

    Of numbers that get panels, and that nobody asked for, three: of spectral radii the least, the greatest and the one
    nearest to 1, of others the least, the greatest and the one in their middle.
    """
    runs = results.runs.assign(panel=analysis.panels(results, hue, axes=("seed", *across)))
    for name in swept(results):
        if name not in (hue, *across, *results.view.facet) and pd.api.types.is_numeric_dtype(runs[name]):
            runs = runs[runs[name].isin(_three(name, runs[name])) | runs[name].isna()]
    if hue is not None and not pd.api.types.is_numeric_dtype(runs[hue]):
        runs = runs.assign(**{hue: runs[hue].astype(str)})
    return runs[runs["status"] != FAILED].astype({"run_id": str, "status": str}).reset_index(drop=True)


def _three(name: str, values: pd.Series) -> list[float]:
    known = sorted(values.dropna().unique())
    if name == "spectral_radius":
        return analysis.few(known)
    return [known[at] for at in sorted({0, len(known) // 2, len(known) - 1})] if known else []


def curves(results: Loaded, measures: Sequence[str]) -> pd.DataFrame:
    """panel, what lines differ by, measure, step, then low, median and high of columns of `history` over seeds.

    Without a parameter that lines could differ by, the measure is what they differ by. Of several seeds, at the steps
    that they were all looked at.
    """
    hue = hue_of(results)
    runs = laid_out(results, hue)
    line = ["panel", *([hue] if hue else [])]
    about = runs[["run_id", *line, "status"]].assign(last=runs["steps"], every=runs["record_every"])
    looks = results.history[["run_id", "step", *measures]].astype({"run_id": str})
    looks = looks.rename(columns={name: f"{LOOK}{name}" for name in measures})  # some are parameters' names as well
    looks = _while_going(looks.merge(about, on="run_id"))
    alone = looks.groupby(line, observed=True)["run_id"].transform("nunique") == 1
    looks = looks[alone | (looks["step"] % looks["every"] == 0) | (looks["step"] == looks["last"])]
    looks = _as_they_stand(looks, line)
    parts = [
        analysis.quantiles(looks.dropna(subset=f"{LOOK}{name}"), [*line, "step"], f"{LOOK}{name}").assign(measure=name)
        for name in measures
    ]
    found = pd.concat(parts, ignore_index=True).astype(dict.fromkeys(["step", "low", "median", "high"], float))
    return found[[*line, "measure", "step", "low", "median", "high", "seeds"]]


def _while_going(looks: pd.DataFrame) -> pd.DataFrame:
    """Looks, but for those at runs that had diverged before, which stand still beside others that go on."""
    lost = looks["status"].str.extract(rf"^{ENDS[0]} at step (\d+)$")[0].astype(float)
    return looks[~(looks["step"] > lost)]


def _as_they_stand(looks: pd.DataFrame, line: list[str]) -> pd.DataFrame:
    """Looks at runs, those at runs that stopped early carried on to the last look at any run of the line."""
    early = looks[looks["status"].str.startswith(ENDS[1])]
    final = early[early["step"] == early.groupby("run_id")["step"].transform("max")]
    later = final.merge(looks[[*line, "step"]].drop_duplicates(), on=line, suffixes=("_end", ""))
    return pd.concat([looks, later[later["step"] > later["step_end"]].drop(columns="step_end")], ignore_index=True)


def ends(results: Loaded) -> pd.DataFrame:
    """panel, what lines differ by, measure ("diverged" or "stopped early"), step, and how many `seeds` did there."""
    hue = hue_of(results)
    runs = laid_out(results, hue)
    line = ["panel", *([hue] if hue else [])]
    said = runs["status"].str.extract(rf"^({'|'.join(ENDS)}) at step (\d+)$")
    known = runs[line].assign(measure=said[0], step=said[1].astype(float)).dropna(subset="step").astype({"step": int})
    return known.groupby([*line, "measure", "step"], observed=True).size().rename("seeds").reset_index()


def naive_levels(results: Loaded) -> pd.DataFrame:
    """panel and `naive`, the test loss of the best naive prediction, median over the panel's runs."""
    runs = laid_out(results, hue_of(results))
    return runs.groupby("panel", observed=True)["naive_loss"].median().rename("naive").reset_index()


def thresholds(results: Loaded) -> pd.DataFrame:
    """panel, what lines differ by, and log10 of the `threshold` of a clip by norm; missing of others."""
    hue = hue_of(results)
    runs = laid_out(results, hue)
    spec = runs["clip"].astype(str).str.extract(r"^norm:(.+)$")[0].astype(float)
    line = ["panel", *([hue] if hue else [])]
    return runs.assign(threshold=np.log10(spec))[[*line, "threshold"]].drop_duplicates(line, ignore_index=True)


def binned(history: History) -> pd.DataFrame:
    """The norms at the steps of a training, in at most `BINS` bins: panel, measure, step (the middle), and quantiles.

    Low, median and high of `log10_grad` and `log10_clipped` over the steps of a bin; as measure "clipped" the share of
    steps that were clipped, of the bins in which there are such.
    """
    steps = history.steps
    width = -(-len(steps) // BINS)
    bins = steps.assign(bin=(steps["step"] - 1) // width)
    parts = [analysis.quantiles(bins, ["bin"], name).assign(measure=name) for name in ("log10_grad", "log10_clipped")]
    share = bins.groupby("bin")["clipped"].mean().reset_index(name="median")
    parts.append(share[share["median"] > 0].assign(measure="clipped"))
    found = pd.concat(parts, ignore_index=True)
    found = found.assign(panel="", step=found["bin"].map(bins.groupby("bin")["step"].mean()))
    return found[["panel", "measure", "step", "low", "median", "high"]]


def axis_of(results: Results) -> str | None:
    """The parameter against which final losses are shown; None if none is swept that says how a network is trained.

    The spectral radius or the learning rate, else the first other number, else the first word; truncations only if
    nothing else is swept. How far back memory tasks reach is shown by `memories`.
    """
    taken = {*results.view.facet, results.view.hue, "cell", "task"}
    if set(results.runs["task"]) <= set(MEMORY):
        taken |= {"delay", "seq_len", "length"}
    free = [name for name in swept(results) if name not in taken]
    if free == ["truncation"] != swept(results):
        return None
    numbers = [name for name in free if pd.api.types.is_numeric_dtype(results.runs[name])]
    words = sorted((name for name in free if name not in numbers), key="truncation".__eq__)
    return next((name for name in ("spectral_radius", "learning_rate", *numbers, *words) if name in free), None)


def memories(results: Results) -> pd.DataFrame:
    """The trainings of memory tasks: `panel`, `span` and `ratio`, of the test loss to chance, with the columns of runs.

    The span is how far back something must be remembered, in steps: of recall its delay; of copy its lag, from the last
    symbol shown to the first one asked for, seq_len - 2 length; of adding the delay, if several are swept, else the
    seq_len within which both values lie; of temporal-order seq_len.
    """
    parts = [_memory(results, task) for task in MEMORY if (results.runs["task"] == task).any()]
    return pd.concat(parts, ignore_index=True) if parts else results.runs[:0].assign(panel="", span=0, ratio=0.0)


def _memory(results: Results, task: str) -> pd.DataFrame:
    several = len(results.runs["task"].unique()) > 1 and "task" not in results.view.parameters
    part = results.select(task=task)
    by_delay = task == "recall" or (task == "adding" and len(part.runs["delay"].unique()) > 1)
    across = ["delay" if by_delay else "seq_len"]
    runs = laid_out(part, hue_of(part, across), across)
    span = runs[across[0]] - (2 * runs["length"] if task == "copy" else 0)
    panel = task + np.where(runs["panel"] == "", "", ", ") + runs["panel"] if several else runs["panel"]
    return runs.assign(
        panel=panel, span=span.astype(int), ratio=runs["test_loss"] / runs["naive_loss"], across=across[0]
    )


def fading(history: History) -> pd.DataFrame:
    """How the gradient of the last loss fades with the lag under full BPTT, a row a look.

    `lags` (the last one), `rate` in nats a step, over the lags after the transient, the `half_life` that it gives where
    it is below zero, and `decades`, the change from lag 0 to the last.
    """
    rows = []
    for step, look in history.lags.dropna(subset="log10_reach").groupby("step"):
        lag, reach = look["lag"].to_numpy(), look["log10_reach"].to_numpy(float)
        rate = growth_rate(lag, reach)
        decades = reach[-1] - reach[0] if np.isfinite(reach[0]) else np.nan
        rows.append((int(step), int(lag[-1]), rate, np.log(2.0) / -rate if rate < 0 else np.nan, float(decades)))
    return pd.DataFrame(rows, columns=["step", "lags", "rate", "half_life", "decades"]).astype({"rate": float})


def by_lag(history: History) -> pd.DataFrame:
    """Norms of state gradients while a network learns: measure, step, lag, `decades`, `tenth`.

    `decades` is the change of the norm since the least lag that has a gradient, -inf where it is exactly zero; `tenth`
    the least lag from which on at most a tenth of it is left, missing where there is none.
    """
    parts = [
        _since_the_first(own, measure)
        for measure in ("log10_reach", "log10_dh")
        for _, own in history.lags.groupby("step")
    ]
    return pd.concat(parts, ignore_index=True)


def _since_the_first(look: pd.DataFrame, measure: str) -> pd.DataFrame:
    norms = look[measure].to_numpy(float)
    live = np.flatnonzero(np.isfinite(norms))
    first = norms[live[0]] if len(live) else np.nan
    decades = np.where(np.isneginf(norms), -np.inf, norms - first)
    beyond = np.arange(len(norms)) > (live[0] if len(live) else len(norms))
    small = beyond & ~(decades > TENTH) & ~np.isnan(decades)
    lasting = np.flatnonzero(beyond & ~small & ~np.isnan(decades))
    after = np.flatnonzero(small & (np.arange(len(norms)) > (lasting[-1] if len(lasting) else -1)))
    tenth = look["lag"].to_numpy()[after[0]] if len(after) else np.nan
    return look[["step", "lag"]].assign(measure=measure, decades=decades, tenth=tenth)
