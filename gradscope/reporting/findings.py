"""Findings in words: each sentence is computed from the tables, with its interval, its figure and its rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from gradscope import advice, analysis
from gradscope.accounting import FEWER, has_draws, ledger
from gradscope.clipping import QUANTILES, WIDEST, steps_for
from gradscope.dynamics import OTHER_WEIGHTS
from gradscope.history import History
from gradscope.influence import CONVENTIONS, SUM, sign_threshold
from gradscope.loading import Loaded, measure_of
from gradscope.records import FAILED
from gradscope.reporting import compared
from gradscope.reporting.dynamics import of_dynamics
from gradscope.reporting.finding import Finding, about, holding, listed, power
from gradscope.reporting.trained import of_history
from gradscope.reporting.trainings import of_trainings
from gradscope.results import Results

STATES = {  # of `analysis.regimes`, as columns say them
    "vanishing": "vanish in",
    "exploding": "grow in",
    "constant": "constant in",
    "zero": "zero in",
    "overflow": "overflow in",
    "short": "too short in",
}
UNBOUNDED = {  # of the coins' variance
    "infinite": "has no bound",
    "mixed": "has no bound in some seeds",
    "heavy": "is mostly that of single draws",
}
TOLERANCE = 0.1  # relative error up to which a truncation is said to be good enough
SMALL = f"{100 * TOLERANCE:g} %"
LISTED = 6  # truncations that a sentence names
DECADES = "log10 of the norm"


def findings(results: Loaded) -> list[Finding]:
    """What a sweep, or a single training, says, caveats first; nothing that it does not support."""
    if isinstance(results, History):
        return list(of_history(results))
    if measure_of(results) == "training":
        found = (_caveats, compared.at_equal_cost, of_trainings, compared.reaches_trained)
        return [finding for part in found for finding in part(results)]
    own = (compared.at_equal_cost, compared.reaches, compared.boundaries, compared.states_and_moduli, _regimes)
    parts = (_caveats, *own, _reach, of_dynamics, _bias, _single_draws, _ledger, _clips, _descents)
    return [finding for part in parts for finding in part(results)]


def _caveats(results: Results) -> Iterator[Finding]:
    if not results.manifest["finished"]:
        runs, planned = len(results.runs), results.manifest["runs"]
        yield Finding(
            f"The sweep is not finished: this is from {runs:,} of its {planned:,} runs.", detail="not finished"
        )
    if len(results.runs["seed"].unique()) == 1:
        yield Finding("One seed: nothing here says how much another draw would differ.", detail="one seed")
    status, everything = results.runs["status"].astype(str), f"{len(results.runs):,} runs"
    overflowed = status.str.startswith("forward overflow")
    if count := overflowed.sum():
        yield Finding(
            f"{count:,} of {everything} left float64's range on the way forward: no gradient.",
            detail="overflow",
            rows=_by_panel(results, overflowed),
            source="runs.parquet: status",
        )
    if count := (status == OTHER_WEIGHTS).sum():
        yield Finding(
            f"{count:,} of {everything} have other weights at every step: they have exponents and singular values, but "
            "no gradient of a loss, and are left out where gradients are told of.",
            detail="untied",
            rows=_by_panel(results, status == OTHER_WEIGHTS),
            source="runs.parquet: status",
        )
    for reason, failed in results.failed.items():
        these = (status == FAILED) & (results.runs["message"].astype(str) == reason)
        yield Finding(
            f"{failed:,} of {everything} failed and are left out: {reason}.",
            detail=f"failed {reason}",
            rows=_by_panel(results, these),
            source="runs.parquet: status, message",
        )


def _by_panel(results: Results, chosen: pd.Series) -> pd.DataFrame:
    """How many of the runs are chosen, where any is: by panel and spectral radius."""
    by = [analysis.panels(results).rename("swept"), results.runs["spectral_radius"].rename("spectral radius")]
    counts = chosen.groupby(by, observed=True).agg(["sum", "size"]).reset_index()
    return counts[counts["sum"] > 0].rename(columns={"sum": "these runs", "size": "of runs"}).reset_index(drop=True)


def _regimes(results: Results) -> Iterator[Finding]:
    runs = analysis.networks(results)
    for panel, own in analysis.regimes(results).groupby("panel", observed=True):
        level = _level(runs, str(panel))
        text = (_boundary_text(own) + _half_life_text(own) + _exceptions_text(own)).strip()
        text += _turning_text(results, str(panel), own)
        if text:
            yield Finding(
                about(str(panel), text[0].lower() + text[1:], level),
                "radius-lag-map",
                "regimes",
                str(panel),
                rows=rates(own),
                source="timesteps: log10_dh against lag; last-step losses, full BPTT, longest sequences",
            )


def _level(runs: pd.DataFrame, panel: str) -> str:
    """The input level, if there is one only, of a panel of networks in which the boundary depends on it."""
    scales = runs["input_scale"].unique()
    bent = (analysis.activations(runs[runs["panel"] == panel]) != "linear").any()
    return f"input scale {scales[0]:g}" if bent and len(scales) == 1 else ""


def rates(regimes: pd.DataFrame) -> pd.DataFrame:
    """The decay rates of one panel of `analysis.regimes`, a row for each spectral radius.

    Seeds in each state, the mean rate over those that have one, in nats a step, with the ends of its 95 % interval, and
    the half-life in steps, where the interval is below zero.
    """
    rows = []
    for radius, own in regimes.groupby("spectral_radius"):
        rate = analysis.estimate(list(own["rate"].dropna()))
        low, high = rate.value - rate.half_width, rate.value + rate.half_width
        vanishes = rate.value < 0 and not high >= 0
        half_life = np.log(2.0) / -rate.value if vanishes else np.nan
        states = own["state"].value_counts().to_dict()
        rows.append((radius, len(own), states, rate.value, low, high, half_life))
    names = ["spectral radius", "seeds", "states", "rate (nats a step)", "95 % from", "95 % to", "half-life (steps)"]
    table = pd.DataFrame(rows, columns=names)
    for place, state in enumerate(state for state in STATES if any(state in found for found in table["states"])):
        table.insert(2 + place, STATES[state], [found.get(state, 0) for found in table["states"]])
    return table.drop(columns="states")


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
    where = f"At spectral radius {radius:g}" if len(regimes["spectral_radius"].unique()) > 1 else "There"
    text = f" {where} the gradient halves every {np.log(2) / -rate.value:.3g} steps"
    if rate.half_width > 0 and f"{fastest:.3g}" != f"{slowest:.3g}":
        text += f" (95 % interval {np.log(2) / -fastest:.3g} to {np.log(2) / -slowest:.3g})"
    return text + "."


def _turning_text(results: Results, panel: str, regimes: pd.DataFrame) -> str:
    """Where gradients that are said to grow are less than half of what they are at lag 0 at most lags."""
    if "exploding" not in set(regimes["state"]) or set(results.runs["cell"]) == {"elman"}:
        return ""
    table = analysis.changes(analysis.reach(results))
    table = table[table["panel"] == panel]
    halved = table.groupby(["spectral_radius", "seed"])["decades"].median() < np.log10(0.5)
    grown = regimes[regimes["state"] == "exploding"].set_index(["spectral_radius", "seed"]).index
    radii = sorted({radius for radius, seed in grown if halved.get((radius, seed), False)})
    if not radii:
        return ""
    where = f"{radii[0]:g}" if len(radii) == 1 else f"{radii[0]:g} to {radii[-1]:g}"
    return (
        f" But at spectral radius {where} they fall first: at most lags less than half of what there is at lag 0 is "
        "left, and what grows is near the beginning of the sequence, where states have not settled."
    )


def _exceptions_text(regimes: pd.DataFrame) -> str:
    """Where there is no rate, and why."""
    text = ""
    for state, reason in (("overflow", "the forward states overflow"), ("zero", "gradients come to be exactly zero")):
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
                f"the median gradient that reaches the first of {seq_len} steps goes from {power(low['median'])} at "
                f"spectral radius {low['spectral_radius']:g} to {power(high['median'])} at "
                f"{high['spectral_radius']:g}."
            )
            names = ["spectral radius", f"{DECADES}: median", "10 % of seeds below", "90 % of seeds below", "seeds"]
            rows = own[["spectral_radius", "median", "low", "high", "seeds"]].set_axis(names, axis=1)
            yield Finding(
                about(str(panel), text),
                "gradient-vs-length",
                "reach",
                str(panel),
                rows=rows.reset_index(drop=True),
                source="timesteps: log10_dh at t = 1; last-step losses, full BPTT",
            )


def _bias(results: Results) -> Iterator[Finding]:
    """Up to which radius truncations that toss no coins are good enough, in every one of its seeds or nearly so."""
    curves, seq_len = advice.curves(results), results.runs["seq_len"].max()
    curves = curves.assign(truncation=curves["strategy"] + ":" + curves["tau"].astype(str))
    for panel, own in curves.groupby("panel", observed=True, sort=True):
        seeds = int(own["seeds"].max())
        good = own["upper"] < TOLERANCE if seeds > 1 else own["bias"] < TOLERANCE
        own = own.assign(good=good & (own["highest"] <= advice.FAR * TOLERANCE))
        rows = pd.DataFrame([_reach_of(spec, bend) for spec, bend in own.groupby("truncation", sort=False)])
        named = _named(own)
        parts = [f"{row[0]} {row[1]}" for row in rows.itertuples(index=False) if row[0] in named]
        radii = own["spectral_radius"].unique()
        where = ", by spectral radius"
        if len(radii) == 1:
            parts, where = list(_good_or_not(own)), f" at spectral radius {radii[0]:g}"
        how = f"with 95 % confidence over {seeds} seeds" if seeds > 1 else "in the one seed measured, without interval"
        rest = len(rows) - len(parts) if len(radii) > 1 else 0
        text = (
            f"the bias of the recurrent gradient stays below {SMALL} ({how}; losses at all {seq_len} "
            f"steps){where}: {'; '.join(parts)}{f'; {rest} more in the rows' if rest else ''}."
        )
        yield Finding(
            about(str(panel), text),
            "truncation-error",
            "bias",
            str(panel),
            rows=rows,
            source="runs.parquet: relative_error of the all-steps runs of the longest sequences",
        )


def _good_or_not(curves: pd.DataFrame) -> Iterator[str]:
    """Which truncations are good enough at the one spectral radius that there is, and which are not."""
    for words, specs in (("", curves[curves["good"]]), ("not ", curves[~curves["good"]])):
        if len(specs):
            yield f"{words}under {listed(list(specs['truncation']))}"


def _reach_of(truncation: str, bend: pd.DataFrame) -> dict[str, object]:
    """Where a truncation is good enough, and what its bias is nearest to radius 1."""
    bend = bend.sort_values("spectral_radius")
    radii = bend["spectral_radius"].to_numpy()
    near = bend.iloc[int(np.abs(radii - 1.0).argmin())]
    where = f"at radius {near['spectral_radius']:g}"
    return {
        "truncation": truncation,
        f"bias below {SMALL}": holding(radii, bend["good"].to_numpy()),
        "median below it": holding(radii, (bend["bias"] < TOLERANCE).to_numpy()),
        f"bias {where}: median": near["bias"],
        "95 % confidence it is below": near["upper"],
        "greatest of seeds": near["highest"],
        "seeds": near["seeds"],
    }


def _named(curves: pd.DataFrame) -> list[str]:
    """The truncations that a sentence names: all if they are few, else the longest of each strategy."""
    if curves["truncation"].nunique() <= LISTED:
        return list(curves["truncation"].unique())
    return list(curves.loc[curves.groupby("strategy")["tau"].idxmax(), "truncation"])


def _single_draws(results: Results) -> Iterator[Finding]:
    """How near single draws of truncations that toss coins are; a sweep with draws says more than that."""
    errors = analysis.truncation_errors(results).dropna(subset="relative_error")
    errors = errors[[advice.strategy(spec) is None for spec in errors["truncation"]]]
    if has_draws(results) or errors.empty:
        return
    medians = analysis.quantiles(errors, ["panel", "truncation", "spectral_radius"], "relative_error")
    for panel, own in medians.groupby("panel", observed=True):
        parts = [
            f"{spec} {holding(group['spectral_radius'].to_numpy(), (group['median'] < TOLERANCE).to_numpy())}"
            for spec, group in own.groupby("truncation", sort=False)
        ]
        text = (
            f"a single draw of coins is within {SMALL} of full BPTT's gradient (median over seeds), by spectral "
            f"radius: {'; '.join(parts)}. One draw does not tell bias from spread: set draws for that."
        )
        names = ["truncation", "spectral radius", "relative error: median", "10 % of seeds", "90 % of seeds", "seeds"]
        rows = own[["truncation", "spectral_radius", "median", "low", "high", "seeds"]].set_axis(names, axis=1)
        yield Finding(
            about(str(panel), text),
            "truncation-error",
            "bias",
            str(panel),
            "single draws",
            rows.reset_index(drop=True),
            "runs.parquet: relative_error of the all-steps runs of the longest sequences",
        )


def _ledger(results: Results) -> Iterator[Finding]:
    if not has_draws(results):
        return
    table = ledger(results)
    table = table[(table["parameter"] == "all") & (table["seq_len"] == table["seq_len"].max())]
    steps = "all" if (table["loss_steps"] == "all").any() else table["loss_steps"].iloc[0]
    for panel, own in table[table["loss_steps"] == steps].groupby("panel", sort=False):
        found = [*_estimators(own), *_unbounded(own), *_wrong_signs(own)]
        for finding in found:
            yield finding._replace(
                text=about(str(panel), finding.text),
                topic="coins",
                panel=str(panel),
                source='ledger.parquet: parameter "all", longest sequences',
            )


def _estimators(own: pd.DataFrame) -> Iterator[Finding]:
    """Which truncation is the nearest to full BPTT, of a panel of the ledger."""
    radius = min(own["spectral_radius"].unique(), key=lambda value: abs(value - 1.0))
    here = own[own["spectral_radius"] == radius]
    if not (text := _nearest(here)):
        return
    names = {
        "truncation": "truncation",
        "bias": "bias",
        "coin_sd": "sd over coins",
        "error": "error (root mean square)",
        "error_low": "95 % from",
        "error_high": "95 % to",
        "unroll": "states kept (steps)",
        "beaten_by": "beaten by",
        "beaten_after": "draws on the same batch",
        "beaten_on_all_data": "updates on all data",
    }
    errors = {f"error{end}": np.sqrt(here[f"mse{end}"]) for end in ("", "_low", "_high")}
    rows = here.assign(**errors).sort_values("error")[[*names]].set_axis(list(names.values()), axis=1)
    yield Finding(
        f"at spectral radius {radius:g}, {text}.",
        "bias-variance-cost",
        detail="nearest",
        rows=rows.reset_index(drop=True),
    )


def _unbounded(own: pd.DataFrame) -> Iterator[Finding]:
    """Where the variance of the coins is no number to speak of."""
    radii = own["spectral_radius"].unique()
    unsaid = own[own["variance"].isin(UNBOUNDED)]
    names = {
        "spectral_radius": "spectral radius",
        "variance": "variance",
        "top_share": "share of the greatest draw",
        "error_p50": "error: median",
        "error_p90": "error: 90 % quantile",
    }
    for (spec, variance), rows in unsaid.groupby(["truncation", "variance"], sort=False):
        where = holding(radii, np.isin(radii, rows["spectral_radius"]))
        yield Finding(
            f"the variance of {spec} {UNBOUNDED[variance]}, by spectral radius: {where}; no average is given.",
            "bias-variance-cost",
            detail=f"variance {spec} {variance}",
            rows=rows[[*names]].set_axis(list(names.values()), axis=1).reset_index(drop=True),
        )


def _wrong_signs(own: pd.DataFrame) -> Iterator[Finding]:
    """Which truncations point most often against the full gradient."""
    wrong = own[(own["wrong_sign_share"] > 0) & (own["variance"] != "none")].sort_values(
        "wrong_sign_share", ascending=False, kind="stable"
    )
    if wrong.empty:
        return
    shares = (
        f"{row.wrong_sign_share:.1%} of {row.truncation} at {row.spectral_radius:g}"
        for row in wrong.head(3).itertuples()
    )
    names = {
        "truncation": "truncation",
        "spectral_radius": "spectral radius",
        "wrong_sign_share": "share of draws with the wrong sign",
        "wrong_sign_share_low": "95 % from",
        "wrong_sign_share_high": "95 % to",
        "cosine_p50": "median cosine",
    }
    yield Finding(
        f"most draws of coins against the full gradient's direction, by spectral radius: {', '.join(shares)}.",
        "cosine-distribution",
        detail="wrong sign",
        rows=wrong[[*names]].set_axis(list(names.values()), axis=1).reset_index(drop=True),
    )


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
        said = ", ".join(f"{words} above {power(norm)}" for words, norm in _norms(seeds))
        how = f"norm of all parameters, loss a {own['reduction'].iloc[0]} over steps"
        of = f"medians over seeds of {own['minibatches'].max()} steps each"
        text = f"at spectral radius {radius:g} {said} ({how}, {of}){_threshold(own, seeds)}"
        if missing := seeds["nonfinite_share"].mean():
            text += f"; {missing:.0%} of the steps have no finite gradient and are counted apart"
        yield Finding(
            about(str(panel), f"{text}."),
            "clip-threshold",
            "clipping",
            str(panel),
            f"radius {radius:g}",
            _clip_rows(seeds),
            "runs.parquet: log10_norm_*, nonfinite_share",
        )


def _clip_rows(seeds: pd.DataFrame) -> pd.DataFrame:
    """The norms before clipping, a row a seed."""
    table = seeds[["seed", "minibatches", "nonfinite_share"]].rename(columns={"nonfinite_share": "share not finite"})
    for name, level in QUANTILES.items():
        table[f"norm: {100 * level:g} % quantile (log10)"] = seeds[f"log10_norm_{name}"]
    return table.reset_index(drop=True)


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
    text = f"; clipping by norm at {power(found[1])} clips one step in ten and keeps every direction"
    T = int(own["seq_len"].max())
    if own["reduction"].iloc[0] == "mean" and str(own["loss_steps"].iloc[0]) == "all":
        text += f" (for a sum over the {T} steps, {power(found[1] + np.log10(T))})"
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
        yield Finding(
            about(str(panel), text),
            "influence-balancing",
            "balancing",
            str(panel),
            f"loss {steps}",
            _descent_rows(last),
            "runs.parquet: theta, loss_value after the last update",
        )
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
        names = ["truncation", "influence: mean", "standard deviation", "share of draws with the right sign"]
        rows = coins[["truncation", "influence", "influence_sd", "right_sign_share"]].set_axis(names, axis=1)
        yield Finding(
            text,
            "influence-balancing",
            "balancing",
            detail="coins",
            rows=rows.reset_index(drop=True),
            source="runs.parquet: influence, influence_sd, right_sign_share",
        )


def _descent_rows(last: pd.DataFrame) -> pd.DataFrame:
    """Where theta is after the last update, over seeds, a row for each strategy."""
    strategies = last.groupby("truncation", sort=False)
    return pd.DataFrame(
        {
            "theta: median": strategies["theta"].median(),
            "log10 loss: median": strategies["log10_loss"].median(),
            "share of seeds nearer": strategies["nearer"].mean(),
            "seeds": strategies.size(),
        }
    ).reset_index()


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
