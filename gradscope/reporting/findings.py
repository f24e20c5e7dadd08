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
    """What the results say, caveats first; nothing that they do not support."""
    return [*_caveats(results), *_regimes(results), *_reach(results), *_truncation(results)]


def _caveats(results: Results) -> Iterator[Finding]:
    if not results.manifest["finished"]:
        runs, planned = len(results.runs), results.manifest["runs"]
        yield Finding(f"The sweep is not finished: this is from {runs:,} of its {planned:,} runs.")
    if len(results.runs["seed"].unique()) == 1:
        yield Finding("One seed: nothing here says how much another draw would differ.")
    status, everything = results.runs["status"].astype(str), f"{len(results.runs):,} runs"
    if count := status.str.startswith("forward overflow").sum():
        yield Finding(f"{count:,} of {everything} left float64's range on the way forward: no gradient.")
    for reason, failed in results.failed.items():
        yield Finding(f"{failed:,} of {everything} failed and are left out: {reason}.")


def _regimes(results: Results) -> Iterator[Finding]:
    for panel, own in analysis.regimes(results).groupby("panel", observed=True):
        text = _boundary_text(own) + _half_life_text(own) + _exceptions_text(own)
        if text:
            yield Finding(_about(str(panel), text.strip()), "radius-lag-map")


def _boundary_text(regimes: pd.DataFrame) -> str:
    found = analysis.boundary(regimes)
    known = regimes[regimes["state"].isin(analysis.SIGNS)]
    if (known["state"] == "zero").all():
        return ""
    radii, seeds = known["spectral_radius"], known["seed"].nunique()
    every = " in every seed" if seeds > 1 else ""
    where = f"at spectral radius {radii.min():g}"
    if len(radii.unique()) > 1:
        where = f"at every spectral radius measured, {radii.min():g} to {radii.max():g}"
    if found.outcome == "crossing":
        interval = f" (95 % interval over {seeds} seeds)" if seeds > 1 else ""
        return f"gradients vanish below spectral radius {found.radius} and explode above it{interval}."
    if found.outcome in ("vanishing", "exploding"):
        return f"gradients {'vanish' if found.outcome == 'vanishing' else 'explode'}{every} {where}."
    if found.outcome == "constant":
        return f"gradients neither vanish nor explode {where}: they change by nothing but rounding."
    if found.outcome == "unknown":
        return ""
    parts = []
    if np.isfinite(found.vanishing_to):
        parts.append(f"gradients vanish{every} up to spectral radius {found.vanishing_to:g}")
    if np.isfinite(found.exploding_from):
        parts.append(f"gradients explode{every} from spectral radius {found.exploding_from:g} on")
    for state, what in (("exploding", "grow"), ("constant", "change by nothing but rounding")):
        shares = _shares(known[~(known["spectral_radius"] >= found.exploding_from)], state)
        if shares:
            parts.append(f"seeds in which they {what}, by spectral radius: {shares}")
    text = "; ".join(parts)
    return text.replace("they", "gradients", 1) + "." if text.startswith("seeds") else text + "."


def _shares(regimes: pd.DataFrame, state: str) -> str:
    """Radius and number of seeds in a state, where there are any: "1.25: 2 of 5, 1.3: 3 of 5"."""
    seeds = regimes.assign(holds=regimes["state"] == state).groupby("spectral_radius")["holds"]
    shares = [f"{radius:g}: {int(holds.sum())} of {len(holds)}" for radius, holds in seeds if holds.any()]
    return ", ".join(shares if len(shares) <= 4 else [*shares[:2], "…", *shares[-2:]])


def _half_life_text(regimes: pd.DataFrame) -> str:
    """The half-life at the vanishing radius nearest 0.9, if the interval of its rate excludes growth."""
    vanishing = regimes.groupby("spectral_radius")["state"].agg(lambda states: (states == "vanishing").all())
    radii = vanishing.index[vanishing]
    if not len(radii):
        return ""
    radius = radii[np.abs(radii - 0.9).argmin()]
    rate = analysis.estimate(list(regimes.loc[regimes["spectral_radius"] == radius, "rate"]))
    fastest, slowest = rate.value - rate.half_width, rate.value + rate.half_width
    if slowest >= 0:
        return ""
    text = f" At spectral radius {radius:g} the gradient halves every {np.log(2) / -rate.value:.3g} steps"
    if rate.half_width > 0 and f"{fastest:.3g}" != f"{slowest:.3g}":
        text += f" (95 % interval {np.log(2) / -fastest:.3g} to {np.log(2) / -slowest:.3g})"
    return text + "."


def _exceptions_text(regimes: pd.DataFrame) -> str:
    """Where there is no rate, and why."""
    text = ""
    for state, reason in (("overflow", "the forward states overflow"), ("zero", "gradients are exactly zero")):
        radii = sorted(regimes.loc[regimes["state"] == state, "spectral_radius"].unique())
        if radii:
            where = f"{radii[0]:g}" if len(radii) == 1 else f"{radii[0]:g} to {radii[-1]:g}"
            text += f" At spectral radius {where} {reason} (in some or all seeds)."
    return text


def _reach(results: Results) -> Iterator[Finding]:
    reach = analysis.reach(results)
    first = reach[(reach["t"] == 1) & (reach["lag"] > 0)]
    medians = analysis.quantiles(first, ["panel", "seq_len", "spectral_radius"], "log10_dh")
    for (panel, seq_len), own in medians.groupby(["panel", "seq_len"], observed=True):
        if len(own) > 1:
            low, high = own.iloc[0], own.iloc[-1]
            text = (
                f"the median gradient that reaches the first of {seq_len} steps goes from {_power(low['median'])} at "
                f"spectral radius {low['spectral_radius']:g} to {_power(high['median'])} at "
                f"{high['spectral_radius']:g}."
            )
            yield Finding(_about(str(panel), text), "gradient-vs-length")


def _truncation(results: Results) -> Iterator[Finding]:
    errors = analysis.truncation_errors(results).dropna(subset="relative_error")
    order = {spec: place for place, spec in enumerate(errors["truncation"].unique())}
    medians = analysis.quantiles(errors, ["panel", "seq_len", "truncation", "spectral_radius"], "relative_error")
    for (panel, seq_len), own in medians.groupby(["panel", "seq_len"], observed=True):
        parts = [
            f"{spec} {_where(group['spectral_radius'].to_numpy(), (group['median'] < TOLERANCE).to_numpy())}"
            for spec, group in sorted(own.groupby("truncation"), key=lambda item: order[item[0]])
        ]
        text = (
            f"relative error of the recurrent gradient below {TOLERANCE:.0%} (median over seeds, losses at all "
            f"{seq_len} steps), by spectral radius: {'; '.join(parts)}."
        )
        yield Finding(_about(str(panel), text), "truncation-error")


def _where(radii: np.ndarray, holds: np.ndarray) -> str:
    """At which radii something holds, in words."""
    good = radii[holds]
    if holds.all():
        return "at all"
    if not len(good):
        return "at none"
    if holds[: len(good)].all():
        return f"up to {good[-1]:g}"
    listed = [f"{radius:g}" for radius in good]
    return "at " + ", ".join(listed if len(listed) <= 6 else [*listed[:3], "…", *listed[-2:]])


def _about(panel: str, text: str) -> str:
    return f"{panel}: {text}" if panel else text[0].upper() + text[1:]


def _power(log10: float) -> str:
    if not np.isfinite(log10):
        return "exactly 0"
    if -3 < log10 < 4:
        return f"{10**log10:.2g}"
    exponent = int(np.floor(log10))
    return f"{10 ** (log10 - exponent):.1f}e{exponent}"
