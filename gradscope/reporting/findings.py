"""Findings in words: each sentence is computed from the tables, with its interval and the figure that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from gradscope import analysis
from gradscope.accounting import FEWER, has_draws, ledger
from gradscope.clipping import QUANTILES, WIDEST, steps_for
from gradscope.drawing import told_apart
from gradscope.influence import CONVENTIONS, SUM, sign_threshold
from gradscope.results import Results

UNBOUNDED = {  # of the coins' variance
    "infinite": "has no bound",
    "mixed": "has no bound in some seeds",
    "heavy": "is mostly that of single draws",
}
TOLERANCE = 0.1  # relative error up to which a truncation is said to be good enough


class Finding(NamedTuple):
    """A sentence, and the name of the figure that shows it ("" for none)."""

    text: str
    figure: str = ""


def findings(results: Results) -> list[Finding]:
    """What the results say, caveats first; nothing that they do not support."""
    parts = (_caveats, _regimes, _reach, _truncation, _ledger, _clips, _descents)
    return [finding for part in parts for finding in part(results)]


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
    errors = errors[errors["truncation"].isin(told_apart(errors["truncation"]))]
    order = {spec: place for place, spec in enumerate(errors["truncation"].unique())}
    medians = analysis.quantiles(errors, ["panel", "seq_len", "truncation", "spectral_radius"], "relative_error")
    for (panel, seq_len), own in medians.groupby(["panel", "seq_len"], observed=True):
        parts = [
            f"{spec} {_where(group['spectral_radius'].to_numpy(), (group['median'] < TOLERANCE).to_numpy())}"
            for spec, group in sorted(own.groupby("truncation"), key=lambda item: order[item[0]])
        ]
        text = (
            f"relative error of the recurrent gradient below {TOLERANCE:.0%} (median over seeds, losses at all "
            f"{seq_len} steps; with coins, of a single draw), by spectral radius: {'; '.join(parts)}."
        )
        yield Finding(_about(str(panel), text), "truncation-error")


def _ledger(results: Results) -> Iterator[Finding]:
    if not has_draws(results):
        return
    table = ledger(results)
    table = table[(table["parameter"] == "all") & (table["seq_len"] == table["seq_len"].max())]
    table = table[
        table["loss_steps"] == ("all" if (table["loss_steps"] == "all").any() else table["loss_steps"].iloc[0])
    ]
    for panel, own in table.groupby("panel", sort=False):
        radius = min(own["spectral_radius"].unique(), key=lambda value: abs(value - 1.0))
        if text := _nearest(own[own["spectral_radius"] == radius]):
            yield Finding(_about(str(panel), f"at spectral radius {radius:g}, {text}."), "bias-variance-cost")
        radii = own["spectral_radius"].unique()
        unsaid = own[own["variance"].isin(UNBOUNDED)]
        for (spec, variance), rows in unsaid.groupby(["truncation", "variance"], sort=False):
            where = _where(radii, np.isin(radii, rows["spectral_radius"]))
            text = f"the variance of {spec} {UNBOUNDED[variance]}, by spectral radius: {where}; no average is given."
            yield Finding(_about(str(panel), text), "bias-variance-cost")
        wrong = own[(own["wrong_sign_share"] > 0) & (own["variance"] != "none")].nlargest(3, "wrong_sign_share")
        if len(wrong):
            shares = (
                f"{row.wrong_sign_share:.1%} of {row.truncation} at {row.spectral_radius:g}"
                for row in wrong.itertuples()
            )
            text = (
                f"most draws of coins against the full gradient's direction, by spectral radius: {', '.join(shares)}."
            )
            yield Finding(_about(str(panel), text), "cosine-distribution")


def _nearest(rows: pd.DataFrame) -> str:
    """Which truncation of those that keep fewer states than full BPTT comes nearest to it, and what comes nearer."""
    rows = rows[(rows["unroll"] < FEWER * rows["seq_len"]) & rows["mse"].notna()]
    if rows.empty:
        return ""
    best = next(rows.nsmallest(1, "mse").itertuples())
    error, low, high = (np.sqrt(getattr(best, name)) for name in ("mse", "mse_low", "mse_high"))
    interval = f" (95 % interval {low:.2g} to {high:.2g})" if np.isfinite(low) else ""
    text = (
        f"of the truncations that keep fewer states {best.truncation} is nearest to full BPTT of the same batch: its "
        f"error is {error:.2g} of the gradient's norm{interval}"
    )
    if isinstance(best.beaten_by, str):
        updates, other = np.ceil(best.beaten_after), best.beaten_by
        text += f"; on the same batch, the mean of {updates:.3g} or more draws of {other}, without bias, is nearer"
        if best.beaten_on_all_data > 0:
            text += f"; on all data, that of {best.beaten_on_all_data:.3g} updates with a new batch each"
    return text


def _clips(results: Results) -> Iterator[Finding]:
    runs = analysis.clips(results)
    for (panel, radius), own in runs.groupby(["panel", "spectral_radius"], sort=True):
        seeds = own.drop_duplicates("seed")
        said = ", ".join(f"{words} above {_power(norm)}" for words, norm in _norms(seeds))
        how = f"norm of all parameters, loss a {own['reduction'].iloc[0]} over steps"
        of = f"medians over seeds of {own['minibatches'].max()} steps each"
        text = f"at spectral radius {radius:g} {said} ({how}, {of}){_threshold(own, seeds)}"
        if missing := seeds["nonfinite_share"].mean():
            text += f"; {missing:.0%} of the steps have no finite gradient and are counted apart"
        yield Finding(_about(str(panel), f"{text}."), "clip-threshold")


def _norms(seeds: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Quantiles of log10 of the norms before clipping, medians over seeds, and which share of the steps is above."""
    words = {"p50": "half of the steps have a gradient", "p90": "one in ten", "p99": "one in a hundred"}
    steps = (seeds["minibatches"] * (1.0 - seeds["nonfinite_share"])).min()
    for name, level in QUANTILES.items():
        if steps >= steps_for(1.0 - level):
            yield words[name], float(seeds[f"log10_norm_{name}"].median())


def _threshold(own: pd.DataFrame, seeds: pd.DataFrame) -> str:
    """The threshold that is recommended, or why none is."""
    found = [norm for _, norm in _norms(seeds)]
    if len(found) < 2:
        return f"; of fewer than {steps_for(0.1)} steps no threshold is recommended"
    if found[-1] - found[0] > WIDEST:
        return f"; the tail spans {found[-1] - found[0]:.1f} decades: no threshold serves all steps"
    text = f"; clipping by norm at {_power(found[1])} clips one step in ten and keeps every direction"
    T = int(own["seq_len"].max())
    if own["reduction"].iloc[0] == "mean" and str(own["loss_steps"].iloc[0]) == "all":
        text += f" (for a sum over the {T} steps, {_power(found[1] + np.log10(T))})"
    return text


def _descents(results: Results) -> Iterator[Finding]:
    runs = analysis.descents(results)
    for (panel, steps), own in runs.groupby(["panel", "loss_steps"], sort=False):
        last = own[own["iterations"] == own["iterations"].max()]
        text = (
            f"influence balancing, {CONVENTIONS[str(steps)]}: the gradient of a chunk has the right sign from "
            f"{sign_threshold(str(steps))} steps on. After {last['iterations'].max():,} updates theta is "
            f"{'; '.join(_outcomes(last.groupby('truncation', sort=False)['nearer'].mean()))}."
        )
        yield Finding(_about(str(panel), text), "influence-balancing")
    coins = runs[runs["influence_sd"] > 0].drop_duplicates("truncation")
    parts = [
        f"{spec} {mean:.3g} ± {deviation:.3g} with the right sign in {right:.0%} of draws"
        for spec, mean, deviation, right in zip(
            *(coins[name] for name in ("truncation", "influence", "influence_sd", "right_sign_share")), strict=True
        )
    ]
    if parts:
        text = (
            f"The sum of influences is {SUM:g}; over coins (mean ± standard deviation): {'; '.join(parts)}. "
            "Without bias descent can diverge all the same, where the deviation is too large for the learning rate."
        )
        yield Finding(text, "influence-balancing")


def _outcomes(share: pd.Series) -> Iterator[str]:
    """Under which strategies theta is nearer to its optimum than at the start, from the share of seeds where it is."""
    some = [f"{spec} ({value:.0%})" for spec, value in share.items() if 0 < value < 1]
    for words, specs in (
        ("nearer to its optimum than at the start under", share.index[share == 1]),
        ("nearer in some of the seeds under", some),
        ("farther from its optimum under", share.index[share == 0]),
    ):
        if len(specs):
            yield f"{words} {', '.join(specs)}"


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
        return f"{float(f'{10**log10:.2g}'):g}"
    exponent = int(np.floor(log10))
    return f"{10 ** (log10 - exponent):.1f}e{exponent}"
