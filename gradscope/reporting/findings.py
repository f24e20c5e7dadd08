"""Findings in words: each sentence is computed from the tables, with its interval and the figure that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from gradscope import analysis
from gradscope.results import Results

TOLERANCE = 0.1  # relative error up to which a truncation is said to be good enough


class Finding(NamedTuple):
    """A sentence, and the name of the figure that shows it ("" for none)."""

    text: str
    figure: str = ""


def findings(results: Results) -> list[Finding]:
    """What the results say, most important first; nothing that they do not support."""
    return [*_boundary(results), *_reach(results), *_truncation(results), *_caveats(results)]


def _boundary(results: Results) -> Iterator[Finding]:
    reach = analysis.reach(results)
    if reach.empty:
        return
    rates = analysis.decay_rates(reach)
    for panel, (outcome, radius) in analysis.boundaries(rates).items():
        own = rates[rates["panel"] == panel]
        low, high = own["spectral_radius"].min(), own["spectral_radius"].max()
        if outcome == "crossing":
            text = f"gradients vanish below spectral radius {radius} and explode above it"
            text += f" (95 % interval over {radius.seeds} seeds)." if radius.seeds > 1 else "."
        elif outcome == "mixed":
            top = own[own["spectral_radius"] == high]
            text = f"at spectral radius {high:g} gradients grow in {int((top['rate'] >= 0).sum())} of {len(top)} seeds"
            text += f"; below {radius.value:.3g} they vanish in every seed." if radius.value > low else "."
        else:
            what = "vanish" if outcome == "vanishing" else "explode"
            text = f"gradients {what} at every spectral radius swept, {low:g} to {high:g}."
        yield Finding(_about(panel, text + _half_life(own)), "radius-lag-map")


def _half_life(rates: pd.DataFrame) -> str:
    """A sentence on the half-life at the radius nearest 0.9, if gradients decay there in every seed."""
    radii = rates["spectral_radius"].unique()
    radius = radii[np.abs(radii - 0.9).argmin()]
    decay = rates.loc[rates["spectral_radius"] == radius, "rate"]
    if not (decay < 0).all():
        return ""
    half_life = analysis.estimate(list(np.log(2.0) / -decay))
    return f" At spectral radius {radius:g} the gradient halves every {half_life} steps."


def _reach(results: Results) -> Iterator[Finding]:
    reach = analysis.reach(results)
    first = reach[reach["t"] == 1] if not reach.empty else reach
    for panel, own in first.groupby("panel", observed=True):
        medians = own.groupby("spectral_radius")["log10_dh"].median()
        if len(medians) > 1:
            text = (
                f"the median gradient that reaches the first of {own['seq_len'].iloc[0]} steps goes from "
                f"{_power(medians.iloc[0])} at spectral radius {medians.index[0]:g} to {_power(medians.iloc[-1])} at "
                f"{medians.index[-1]:g}."
            )
            yield Finding(_about(str(panel), text), "gradient-vs-length")


def _truncation(results: Results) -> Iterator[Finding]:
    errors = analysis.truncation_errors(results)
    for panel, own in errors.groupby("panel", observed=True):
        parts = []
        for truncation, group in own.groupby("truncation", observed=True, sort=False):
            medians = group.groupby("spectral_radius")["relative_error"].median()
            failing = medians[~(medians < TOLERANCE)]
            good = medians.index if failing.empty else medians.index[medians.index < failing.index[0]]
            parts.append(f"{truncation} up to {good.max():g}" if len(good) else f"{truncation} nowhere")
        text = (
            f"median relative error of the recurrent gradient below {TOLERANCE:.0%} (losses at all "
            f"{own['seq_len'].iloc[0]} steps), by spectral radius: {'; '.join(parts)}."
        )
        yield Finding(_about(str(panel), text), "truncation-error")


def _caveats(results: Results) -> Iterator[Finding]:
    if not results.manifest["finished"]:
        runs, planned = len(results.runs), results.manifest["runs"]
        yield Finding(f"The sweep is not finished: this is from {runs:,} of its {planned:,} runs.")
    if len(results.runs["seed"].unique()) == 1:
        yield Finding("One seed: nothing here says how much another draw would differ.")
    failed = results.runs[results.runs["status"] != "ok"]
    if len(failed):
        text = f"{len(failed):,} of {len(results.runs):,} runs left float64's range on the way forward: no gradient."
        yield Finding(text)


def _about(panel: str, text: str) -> str:
    sentence = text[0].upper() + text[1:]
    return f"{panel}: {text}" if panel else sentence


def _power(log10: float) -> str:
    if not np.isfinite(log10):
        return "exactly 0"
    return f"{10**log10:.2g}" if -3 < log10 < 4 else f"1e{log10:.0f}"
