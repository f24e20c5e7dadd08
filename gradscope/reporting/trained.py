"""Findings of a single training: what it learnt, beside naive predictions, and what its gradients did meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from gradscope import outcomes
from gradscope.evaluation import NETWORK, PERIODS
from gradscope.history import History
from gradscope.reporting.finding import MATRICES, Finding, listed, loss_of, percent, power
from gradscope.runs import NOT_CLIPPED

LOSSES = {"mse": "mean squared error", "cross_entropy": "cross-entropy, nats"}
FLAT = 1e-4  # nats a step: a gradient that changes by less keeps its size


def of_history(history: History) -> Iterator[Finding]:
    """What a training says; first, what is wrong with it."""
    for part in (_end, _losses, _naive, _ahead, _clipped, _faded, _weights):
        yield from part(history)


def _end(history: History) -> Iterator[Finding]:
    row = history.runs.iloc[0]
    what, _, step = history.status.partition(" at step ")
    at = f"{what.capitalize()} at step {step} of {row['steps']:,}"
    if what == outcomes.ENDS[0]:
        kept = f"those of the best parameters before, after {int(row['best_step']):,} steps"
        text = f"{at}; losses are {kept}, gradients and weights as they were at the end."
    elif what == outcomes.ENDS[1]:
        text = f"{at}: the validation loss had not become less at {row['patience']} looks in a row."
    else:
        return
    yield Finding(text, "learning-curves", detail=what)


def _losses(history: History) -> Iterator[Finding]:
    row, steps = history.runs.iloc[0], len(history.steps)
    after = f"After {steps:,} step{'' if steps == 1 else 's'}"
    if not np.isfinite(row["validation_loss"]):
        yield Finding(f"{after} no loss was a finite number.", "learning-curves", "outcome", detail="losses")
        return
    bits = f", {row['test_loss'] / np.log(2.0):.3g} bits a character" if row["task"] == "text" else ""
    text = (
        f"{after} the test loss is {loss_of(row['test_loss'])} "
        f"({LOSSES[row['loss']]}{bits}), the validation loss {loss_of(row['validation_loss'])}, with the parameters "
        f"after step {int(row['best_step']):,}, which had the least validation loss."
    )
    if row["best_step"] < steps and history.status == "ok":
        text += f" Gradients and weights are told as they were after step {steps:,}."
    yield Finding(text, "learning-curves", "outcome", detail="losses")


def _naive(history: History) -> Iterator[Finding]:
    """Whether the network beats naive predictions; where it does not, that is said first."""
    naive = history.scores[history.scores["naive"]].set_index("predictor")["loss"]
    if naive.empty:
        return
    words = {name: f"{name} ({loss_of(loss)})" for name, loss in naive.items()}
    better = [words[name] for name in naive.index if name in history.beaten_by]
    beaten = [words[name] for name in naive.index if name not in history.beaten_by]
    if better and beaten:
        text = f"It does not beat {listed(better)}, only {listed(beaten)}."
    elif better:
        text = f"It does not beat any naive prediction: {listed(better)}."
    else:
        best = f"the best of them, {beaten[0]}" if len(beaten) > 1 else beaten[0]
        text = f"It beats {'every naive prediction: ' if len(beaten) > 1 else ''}{best}."
    yield Finding(text, "learning-curves", "outcome", detail="naive predictions")


def _ahead(history: History) -> Iterator[Finding]:
    """The errors of forecasts of a series that run freely."""
    table = history.horizons
    if table.empty:
        return
    last, period, origins = int(table["horizon"].max()), float(table["period"].iloc[0]), table["origins"].iloc[0]
    unit, scale = "standard deviation", history.manifest["units"]["scale"]
    if np.isfinite(period):
        unit, scale = "amplitude, √2 standard deviations", np.sqrt(2.0) * scale
    wide = 100.0 / scale * table.pivot_table("rmse", "predictor", "horizon", sort=False, dropna=False)
    errors = wide[list(spans := _spans(last, period))].set_axis(list(spans.values()), axis=1)
    errors[f"over all {last} steps"] = np.sqrt((wide**2).mean(axis=1, skipna=False))
    if not np.isfinite(errors.loc[NETWORK]).any():
        text = "Running freely, its predictions leave the range of numbers."
        yield Finding(text, "horizon-error", "outcome", "", "running freely")
        return
    said = listed([f"{percent(error)} {when}" for when, error in errors.loc[NETWORK].items()])
    text = f"Running freely, its RMS error is {said} (in % of the {unit}; {origins} origins in the test part)."
    naive = errors.drop(index=NETWORK).iloc[:, -1].dropna()
    if len(naive):
        text += f" The best naive forecast {naive.name}, {naive.idxmin()}, has {percent(naive.min())}."
    source = f"horizons.parquet: rmse, in % of the {unit}"
    yield Finding(text, "horizon-error", "outcome", "", "running freely", errors.reset_index(), source)


def _spans(last: int, period: float) -> dict[int, str]:
    """The horizons that a sentence names: one period and five, or as many as there are; else one step and all."""
    if not (np.isfinite(period) and 1 <= round(period) < last):
        return {1: "one step ahead", last: f"{last} steps ahead"}
    most = min(last, round(PERIODS * period))
    count = "five" if most == round(PERIODS * period) else f"{most / period:.2g}"
    return {round(period): f"one period ({period:.3g} steps) ahead", most: f"{count} periods ahead"}


def _clipped(history: History) -> Iterator[Finding]:
    steps, clip = history.steps, str(history.run["clip"])
    norms = steps.loc[np.isfinite(steps["log10_grad"]), "log10_grad"]
    if norms.empty:
        return
    size = f"the median norm of the gradient is {power(norms.median())}, the greatest {power(norms.max())}."
    text, count = "Gradients were not clipped", int(steps["clipped"].sum())
    if clip != NOT_CLIPPED:
        text = f"Clipped ({clip}) in {count:,} of {len(steps):,} steps, {percent(100.0 * count / len(steps))}"
    if count:
        text += f", for the last time at step {steps.loc[steps['clipped'], 'step'].max():,}"
    yield Finding(f"{text}; {size}", "training-gradients", "training", detail="clipping")


def _faded(history: History) -> Iterator[Finding]:
    """How far back the last loss reaches, before training and after it."""
    looks = outcomes.fading(history)
    known = looks[np.isfinite(looks["rate"])]
    if known.empty:
        zero = history.lags[np.isneginf(history.lags["log10_reach"])]
        if len(zero):
            text = f"The gradient of the last loss, under full BPTT, is exactly zero at lag {zero['lag'].min()}."
            yield Finding(text, "step-lag-map", "training", detail="reach")
        return
    first, last = known.iloc[0], known.iloc[-1]
    before, after = (f"{_pace(_mean_rate(look))} back ({_change(look)})" for look in (first, last))
    text = f"The gradient of the last loss, under full BPTT, {before}"
    if first["step"] == 0 and len(known) > 1:
        text += f" before training; after {int(last['step']):,} steps of it, it {after}"
    names = ["step", "rate (nats a step)", "half-life (steps)", "change (decades)"]
    rows = looks[["step", "rate", "half_life", "decades"]].set_axis(names, axis=1)
    yield Finding(f"{text}.", "step-lag-map", "training", detail="reach", rows=rows, source="lags.parquet: log10_reach")


def _mean_rate(look: pd.Series) -> float:
    """The rate, in nats a step, that goes with the change over all lags; where that is none, the fitted one."""
    known = np.isfinite(look["decades"]) and look["lags"]
    return float(look["decades"] * np.log(10.0) / look["lags"] if known else look["rate"])


def _pace(rate: float) -> str:
    """How a gradient changes from a step to the one before."""
    if abs(rate) < FLAT:
        return "keeps its size"
    return f"on average {'halves' if rate < 0 else 'doubles'} every {np.log(2.0) / abs(rate):.2g} steps"


def _change(look: pd.Series) -> str:
    """How much is left at the last lag, in words."""
    change = f"{look['decades']:+.2g} decades" if np.isfinite(look["decades"]) else "to exactly zero"
    return f"{change} over {int(look['lags'])} steps"


def _weights(history: History) -> Iterator[Finding]:
    looks = history.history.dropna(subset=["spectral_radius", "spectral_norm"])
    if looks.empty:
        return
    first, last = looks.iloc[0], looks.iloc[-1]
    matrix = MATRICES.get(str(history.run["cell"]), "W_hh") + " of the bottom layer" * (history.run["num_layers"] > 1)
    text = (
        f"The spectral radius of {matrix} went from {first['spectral_radius']:.3g} to {last['spectral_radius']:.3g}, "
        f"its spectral norm from {first['spectral_norm']:.3g} to {last['spectral_norm']:.3g}"
    )
    if np.isfinite([first["saturated_share"], last["saturated_share"]]).all():
        before, after = (percent(100.0 * look["saturated_share"]) for look in (first, last))
        text += f"; the share of saturated units from {before} to {after}"
    yield Finding(f"{text}.", "trained-weights", "training", detail="weights")
