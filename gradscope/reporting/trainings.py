"""Findings of a sweep of trainings: what is remembered, which setting learns best, and beside naive predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from gradscope import analysis, outcomes
from gradscope.reporting.finding import MATRICES, Finding, about, holding, listed, loss_of, percent
from gradscope.results import Results
from gradscope.runs import NOT_CLIPPED

SOLVED, AT_CHANCE = 0.1, 0.9  # of chance: below, a memory task is solved; above, nothing is remembered
NAMED = 6  # truncations or clips that a sentence names


def of_trainings(results: Results) -> Iterator[Finding]:
    """What a sweep of trainings says; first, which of them diverged."""
    runs = trained(results)
    yield from _diverged(runs, outcomes.swept(results))
    yield from _remembered(results)
    yield from _best(runs, outcomes.swept(results))
    yield from _beside_naive(runs)
    yield from _clips(runs)
    yield from _radii(runs)


def trained(results: Results) -> pd.DataFrame:
    """The runs that were trained, what is swept as numbers or texts, with whether they are `lost`: diverged."""
    runs = outcomes.laid_out(results.viewed(), None, outcomes.swept(results))
    texts = [name for name in runs if isinstance(runs[name].dtype, pd.CategoricalDtype)]
    lost = runs["status"].str.startswith(outcomes.ENDS[0])
    return runs.astype(dict.fromkeys(texts, str)).assign(lost=lost)


def _diverged(runs: pd.DataFrame, swept: list[str]) -> Iterator[Finding]:
    if not runs["lost"].any():
        return
    rows = None
    if swept:
        counts = runs.groupby(swept, dropna=False)["lost"].agg(["sum", "size"]).reset_index()
        rows = counts[counts["sum"] > 0].rename(columns={"sum": "diverged", "size": "of trainings"})
    text = (
        f"{runs['lost'].sum():,} of {len(runs):,} trainings diverged; their losses are of the best parameters before."
    )
    source = "runs.parquet: status"
    yield Finding(text, "learning-curves", detail="diverged", rows=rows, source=source)


def _remembered(results: Results) -> Iterator[Finding]:
    """How far back a memory task is solved, by truncation or what else is swept."""
    runs = outcomes.memories(results).dropna(subset="ratio")
    if runs.empty:
        return
    hue = outcomes.hue_of(results, runs["across"].unique()) or "truncation"
    prefix = f"{hue} " if pd.api.types.is_numeric_dtype(runs[hue]) else ""
    runs[hue] = prefix + runs[hue].astype(str)
    for (task, panel), own in runs.groupby(["task", "panel"], observed=True):
        table = analysis.quantiles(own, [hue, "span"], "ratio")
        rows = _rows(table, [hue, "span"], "test loss / chance").rename(columns={"span": "how far back (steps)"})
        others, source = panel.removeprefix(task).removeprefix(", "), "runs.parquet: test_loss / naive_loss"
        text = about(others, _memory_words(task, hue, table))
        yield Finding(text, "memory", "memory", others, task, rows, source)


def _memory_words(task: str, hue: str, table: pd.DataFrame) -> str:
    """Up to where each line is solved, and where it is at chance; the lines of the least losses first."""
    least = table.assign(log=np.log(table["median"])).groupby(hue)["log"].mean().sort_values()
    lines = {name: table[table[hue] == name] for name in least.index[:NAMED]}
    spans, seeds = table["span"], int(table["seeds"].max())
    over = f"{spans.min()} steps" if spans.min() == spans.max() else f"{spans.min()} to {spans.max()} steps"
    solved = [
        f"{name} {holding(own['span'].to_numpy(), (own['median'] < SOLVED).to_numpy())}" for name, own in lines.items()
    ]
    lost = {name: own.loc[own["median"] > AT_CHANCE, "span"].astype(str) for name, own in lines.items()}
    stuck = [f"{name} at {', '.join(at)}" for name, at in lost.items() if len(at)]
    median = f", median over {seeds} seeds" if seeds > 1 else ""
    return (
        f"{task} over {over}: solved (test loss below {percent(100 * SOLVED)} of chance{median}), by {hue}: "
        f"{'; '.join(solved)}. At chance (above {percent(100 * AT_CHANCE)} of it): {'; '.join(stuck) or 'none'}."
    )


def _rows(table: pd.DataFrame, by: Sequence[str], what: str) -> pd.DataFrame:
    """A table of quantiles over seeds, as a page has it; other columns last."""
    names = {"median": f"{what}: median", "low": "10 % of seeds below", "high": "90 % of seeds below", "seeds": "seeds"}
    others = [name for name in table if name not in (*by, *names)]
    return table[[*by, *names, *others]].rename(columns=names)


def _best(runs: pd.DataFrame, swept: list[str]) -> Iterator[Finding]:
    """Which setting has the least test loss, of each task whose losses can be compared."""
    runs = runs[~runs["task"].isin(outcomes.MEMORY)].dropna(subset="test_loss")
    for task, own in runs.groupby("task"):
        by = [name for name in swept if name != "task" and own[name].notna().all() and len(own[name].unique()) > 1]
        if not by:
            continue
        table = analysis.quantiles(own, by, "test_loss")
        table["diverged"] = own.groupby(by)["lost"].sum().to_numpy()
        table = table.sort_values("median", kind="stable", ignore_index=True)
        yield Finding(
            _best_words(str(task), table, by),
            "final-loss",
            "outcome",
            detail=f"best {task}",
            rows=_rows(table, by, "test loss"),
            source="runs.parquet: test_loss",
        )


def _best_words(task: str, table: pd.DataFrame, by: list[str]) -> str:
    seeds = int(table["seeds"].max())
    median = f" (median over {seeds} seeds)" if seeds > 1 else ""
    stayed = table[table["diverged"] == 0]
    if stayed.empty:
        return f"{task}: trainings diverged in every setting."
    best, worst = (
        f"{loss_of(row['median'])}{{}}, with {_setting(row, by)}" for _, row in stayed.iloc[[0, -1]].iterrows()
    )
    text = f"{task}: the least test loss is {best.format(median)}"
    text += f"; the greatest {worst.format('')}." if len(stayed) > 1 else "."
    if len(stayed) < len(table):
        text += f" Left out: {len(table) - len(stayed)} of {len(table)} settings, in which trainings diverged."
    if "truncation" in by and len(by) > 1:
        each = stayed.drop_duplicates("truncation").head(NAMED)
        losses = [
            f"{spec} {loss_of(median)}" + (f" ({loss_of(low)} to {loss_of(high)})" if seeds > 1 else "")
            for spec, median, low, high in each[["truncation", "median", "low", "high"]].itertuples(index=False)
        ]
        spread = " (10 % to 90 % of the seeds)" if seeds > 1 else ""
        text += f" Each truncation at its best{spread}: {', '.join(losses)}."
    return text


def _setting(row: pd.Series, by: Sequence[str]) -> str:
    """The values of a row's parameters, in words."""
    values = {name: row[name] if isinstance(row[name], str) else f"{row[name]:g}" for name in by}
    return listed([f"{name} {value}" for name, value in values.items()])


def _beside_naive(runs: pd.DataFrame) -> Iterator[Finding]:
    """How many trainings beat the best naive prediction, of each task."""
    for task, own in runs.dropna(subset="naive_loss").groupby("task"):
        beat, what = int((own["test_loss"] < own["naive_loss"]).sum()), "the best naive prediction"
        if task in outcomes.MEMORY:
            what = "chance"
        some = f"{beat:,} of {len(own):,} trainings beat"
        said = {0: f"none of {len(own):,} trainings beats", len(own): f"all {len(own):,} trainings beat"}.get(
            beat, some
        )
        text = f"{task}: {said} {what} (test loss {loss_of(own['naive_loss'].median())})."
        yield Finding(text, "final-loss", "outcome", detail=f"naive {task}")


def _clips(runs: pd.DataFrame) -> Iterator[Finding]:
    """What share of the steps each clip changes, and how many trainings diverged under it."""
    if set(runs["clip"]) == {NOT_CLIPPED}:
        return
    each = runs.groupby("clip", sort=False)
    table = each["clip_share"].agg(["median", "min", "max"]).join(each["lost"].agg(["sum", "size"])).reset_index()
    table.columns = ["clip", "share of steps clipped: median", "least", "greatest", "diverged", "trainings"]
    parts = [
        f"{spec} {_shares(median, least, greatest)}, {lost} of {count} trainings diverged"
        for spec, median, least, greatest, lost, count in table.head(NAMED).itertuples(index=False)
    ]
    text = f"Steps that are clipped, median and range over trainings: {'; '.join(parts)}."
    yield Finding(text, "training-gradients", "clipping", rows=table, source="runs.parquet: clip_share, status")


def _shares(median: float, least: float, greatest: float) -> str:
    among = f" ({percent(100 * least)} to {percent(100 * greatest)})" if least != greatest else ""
    return percent(100 * median) + among


def _radii(runs: pd.DataFrame) -> Iterator[Finding]:
    """The spectral radius after training, by what it was before; that of each cell, where there are several."""
    runs = runs[~runs["lost"]].dropna(subset="trained_radius")
    if runs.empty:
        return
    by = ["cell", "spectral_radius"]
    table = runs.groupby(by)["trained_radius"].agg(["median", "min", "max", "size"]).reset_index()
    table.columns = ["cell", "before", "after: median", "least", "greatest", "trainings"]
    cells = list(runs["cell"].unique())
    went = {cell: _went(table[table["cell"] == cell]) for cell in cells}
    over = "(medians over the trainings that did not diverge)"
    text = f"The spectral radius of {MATRICES.get(cells[0], 'W_hh')} went {went[cells[0]]} {over}."
    if len(cells) > 1:
        text = f"The spectral radius went {over}: {'; '.join(f'{cell} {words}' for cell, words in went.items())}."
        for matrix in dict.fromkeys(MATRICES[cell] for cell in cells if cell in MATRICES):
            text += f" Of {listed([cell for cell in cells if MATRICES.get(cell) == matrix])} it is that of {matrix}."
    else:
        table = table.drop(columns="cell")
    yield Finding(
        text, "trained-weights", "training", detail="weights", rows=table, source="runs.parquet: trained_radius"
    )


def _went(table: pd.DataFrame) -> str:
    """From which radius to which, of the least, the middle and the greatest before training."""
    shown = table.iloc[sorted({0, len(table) // 2, len(table) - 1})]
    pairs = zip(shown["before"], shown["after: median"], strict=True)
    return listed([f"from {before:g} to {after:.3g}" for before, after in pairs])
