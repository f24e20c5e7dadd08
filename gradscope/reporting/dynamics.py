"""Findings on networks as dynamical systems: the edge of chaos, predictors and where they are wrong, non-normality."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from gradscope import analysis, predictors, stability
from gradscope.drawing import CannotDrawError
from gradscope.figures import non_normality
from gradscope.predictors import (
    BOUNDS,
    EXPLODE,
    EXPONENT,
    FIELD,
    GATES,
    JACOBIAN,
    NEITHER,
    NORM,
    RADIUS,
    SLOPE,
    VANISH,
)
from gradscope.reporting.finding import Finding, about, holding, listed
from gradscope.results import Results

TOPIC = "dynamics"
RUNS = "runs.parquet: lyapunov_max, kaplan_yorke, jacobian_norm, spectral_norm"
CALLED = {
    RADIUS: "The spectral radius",
    NORM: "The norm of W_hh, as log(steepest slope of the activation times norm),",
    JACOBIAN: "The mean log norm of the Jacobians",
    FIELD: "Mean field",
    GATES: "The bias of the gates",
    EXPONENT: "The largest Lyapunov exponent",
}
PANELS = 4  # that a sentence names
EIGENVALUES, PRODUCT = "log |eigenvalues of W_hh|", "a product of Gaussian matrices"
NORMAL = 0.01  # relative departure from normality, below which a matrix is called normal
DO = {VANISH: "vanish", NEITHER: "do neither", EXPLODE: "explode"}


def of_dynamics(results: Results) -> Iterator[Finding]:
    """What the Jacobians of a sweep say; nothing of sweeps without them."""
    if stability.runs(results).empty:
        return
    yield from _exponents(results)
    yield from _predictors(results)
    yield from _products(results)
    yield from _non_normal(results)


def _exponents(results: Results) -> Iterator[Finding]:
    """Where the largest exponent of networks crosses 0, and the dimension of their attractor, for each panel.

    Not of linear networks, of which `_products` says more.
    """
    own = stability.runs(results)
    own = own[analysis.activations(own) != "linear"]
    own = own.assign(theory=stability.theoretical_rates(own, results), rate=own["lyapunov_max"])
    own = own.assign(state=np.where(own["rate"] > predictors.ROUNDING, "exploding", "vanishing"))
    own.loc[own["rate"].abs() <= predictors.ROUNDING, "state"] = "constant"
    for panel, part in own.groupby("panel", observed=True):
        if part["spectral_radius"].nunique() < 2:
            continue
        text = _crossing(part) + _dimension(part)
        yield Finding(
            about(str(panel), text),
            "largest-exponent",
            TOPIC,
            str(panel),
            "exponent",
            _exponent_rows(part),
            RUNS,
        )


def _crossing(part: pd.DataFrame) -> str:
    found, seeds = analysis.boundary(part), part["seed"].nunique()
    radii = part["spectral_radius"]
    if found.outcome == "crossing":
        interval = f" (95 % interval over {seeds} seeds)" if seeds > 1 else ""
        return f"the largest Lyapunov exponent crosses 0 at spectral radius {found.radius}{interval}."
    signs = part.groupby("spectral_radius")["rate"].agg(["min", "max"])
    above, below = (signs["min"] > predictors.ROUNDING), (signs["max"] < -predictors.ROUNDING)
    measured = signs.index.to_numpy()
    return (
        f"the largest Lyapunov exponent, spectral radii {radii.min():g} to {radii.max():g}, is below 0"
        f"{' in every seed' * (seeds > 1)} {holding(measured, below.to_numpy())}, above 0 "
        f"{holding(measured, above.to_numpy())}."
    )


def _dimension(part: pd.DataFrame) -> str:
    """The dimension of the attractor of networks with bounded states, at the greatest radius."""
    last = part[part["spectral_radius"] == part["spectral_radius"].max()]
    dimension = analysis.estimate(list(last["kaplan_yorke"].dropna()))
    unbounded = analysis.activations(last).isin(["linear", "relu"])
    if unbounded.any() or not dimension.value > 0 or not (last["rate"] > 0).all():
        return ""
    radius, size = last["spectral_radius"].iloc[0], stability.cell_of(last.iloc[0]).state_size
    return f" At {radius:g} the attractor's dimension (Kaplan & Yorke) is {dimension}, of a state of {size} numbers."


def _exponent_rows(part: pd.DataFrame) -> pd.DataFrame:
    """A row for each spectral radius."""
    rows = []
    for radius, own in part.groupby("spectral_radius"):
        with np.errstate(invalid="ignore"):
            exponent = analysis.estimate(list(own["rate"]))
            apart = (own["rate"] - own["theory"]).mean()
        rows.append(
            {
                "spectral radius": radius,
                "seeds": len(own),
                "largest exponent (nats a step)": exponent.value,
                "95 % ±": exponent.half_width,
                "theory": own["theory"].mean(),
                "measured minus theory": apart,
                "exponents above 0": own["positive_exponents"].mean(),
                "dimension": own["kaplan_yorke"].mean(),
                "condition at the longest lag (decades)": own["log10_condition"].mean(),
            }
        )
    return pd.DataFrame(rows)


def _predictors(results: Results) -> Iterator[Finding]:
    """A sentence on each predictor: in which panels and at which spectral radii it is wrong, and how far it is off."""
    table = predictors.rates(results)
    if table.empty:
        return
    compared = predictors.compared(table)
    compared = compared[compared["predictor"] != SLOPE]
    order = [name for name in predictors.PREDICTORS if (compared["predictor"] == name).any()]
    for name in order:
        own = compared[compared["predictor"] == name]
        text = _bound(name, own) if name in BOUNDS else _verdict(name, own)
        yield Finding(text, "predictors", TOPIC, detail=name, rows=_predictor_rows(own), source=RUNS + "; log10_dh")


def _verdict(name: str, own: pd.DataFrame) -> str:
    """Where a predictor is wrong, with the clearest case of each panel."""
    judged = own[own["happens"] != predictors.UNKNOWN]
    wrong = judged[judged["wrong"]]
    off = own["difference"].abs()[np.isfinite(own["difference"])]
    apart = (
        f" It is off by {off.median():.2g} nats a step in the median, at most by {off.max():.2g}." if len(off) else ""
    )
    what = CALLED[name]
    if judged.empty:
        return f"{what} cannot be judged: nowhere does the slope's interval over seeds exclude 0.{apart}"
    if wrong.empty:
        known = f"wherever the slope's interval excludes 0 ({len(judged)} of {len(own)} cases)"
        return f"{what} tells vanishing from exploding {known}.{apart}"
    parts = [_wrong_in(str(panel), part) for panel, part in wrong.groupby("panel", observed=True)]
    more = f", and in {len(parts) - PANELS} more panels" if len(parts) > PANELS else ""
    return f"{what} is wrong {'; '.join(parts[:PANELS])}{more} ({len(wrong)} of {len(judged)} cases).{apart}"


def _wrong_in(panel: str, wrong: pd.DataFrame) -> str:
    """At which spectral radii of a panel, and what happens at that where it is farthest off."""
    radii = [f"{radius:g}" for radius in wrong["spectral_radius"]]
    where = listed(radii if len(radii) <= 6 else [*radii[:3], "…", radii[-1]])
    worst = wrong.loc[wrong["difference"].abs().fillna(0.0).idxmax()]
    at = f"at {worst['spectral_radius']:g} " if len(radii) > 1 else ""
    rate = f"{worst['slope']:.2g} ± {worst['slope_half_width']:.2g} nats a step"
    does = f"gradients {DO[worst['happens']]} ({rate if np.isfinite(worst['slope']) else 'they are exactly zero'})"
    says = f"it says that they {DO[worst['says']]}" + (f" ({worst['median']:+.2g})" if worst["says"] != NEITHER else "")
    return f"{f'for {panel} ' if panel else ''}at spectral radius {where}: {at}{does}, although {says}"


def _bound(name: str, own: pd.DataFrame) -> str:
    """How often a bound says something, and how far it is from what happens."""
    vanishing = own[own["happens"] == VANISH]
    said = int((vanishing["says"] == VANISH).sum())
    broken = own[own["wrong"]]
    apart = own["difference"][np.isfinite(own["difference"])]
    said_so = f"it is below 0, and so tells that gradients vanish, in {said} of {len(vanishing)} cases in which they do"
    above = f"in the median it is {apart.median():.2g} nats a step above the slope"
    parts = [said_so] * (len(vanishing) > 0) + [above] * (len(apart) > 0)
    text = f"{CALLED[name]} bounds the rate from above{': ' * bool(parts)}{'; '.join(parts)}."
    return text + (f" It is broken in {len(broken)} cases: doubt the sweep." if len(broken) and name == NORM else "")


def _predictor_rows(own: pd.DataFrame) -> pd.DataFrame:
    names = {
        "panel": "swept",
        "spectral_radius": "spectral radius",
        "median": "predicted (nats a step)",
        "slope": "measured slope: mean",
        "slope_half_width": "95 % ± of the slope",
        "difference": "predicted minus measured",
        "half_width": "95 % ± of the difference",
        "happens": "gradients",
        "says": "said",
        "wrong": "wrong",
    }
    rows = own[[*names]].assign(wrong=own["wrong"].map({True: "wrong", False: ""}))
    rows = rows.set_axis(list(names.values()), axis=1).reset_index(drop=True)
    return rows if (own["panel"] != "").any() else rows.drop(columns="swept")


def _products(results: Results) -> Iterator[Finding]:
    """How near all exponents of linear networks are to theory."""
    found = stability.spectrum(results)
    found = found[np.isfinite(found["theory"]) & np.isfinite(found["exponent"])]
    tied = results.runs.set_index("run_id")["tied"].astype(bool)
    for law, own in found.groupby(found["run_id"].map(tied).map({True: EIGENVALUES, False: PRODUCT}), sort=False):
        off = (own["exponent"] - own["theory"]).abs()
        rows = off.groupby([own["panel"], own["spectral_radius"]], observed=True).agg(["median", "max"]).reset_index()
        text = (
            f"The Lyapunov exponents of linear networks, all {len(off):,}, are those of theory, {law}, to "
            f"{off.median():.2g} nats a step in the median and {off.max():.2g} at worst."
        )
        names = ["swept", "spectral radius", "measured and theory apart: median", "greatest (nats a step)"]
        rows = rows.set_axis(names, axis=1)
        yield Finding(text, "lyapunov-spectrum", TOPIC, detail=f"theory {law}", rows=rows, source="runs.spectrum")


def _non_normal(results: Results) -> Iterator[Finding]:
    """How much farther gradients grow in non-normal networks of one radius."""
    try:
        table = non_normality.table(results)
    except CannotDrawError:
        return
    radius = table["spectral_radius"].iloc[0]
    for panel, own in table.groupby("panel", observed=True):
        of = own.groupby("ensemble")[["henrici", "excess", "lag", "kreiss", "peak"]].median()
        normal = of.index[of["henrici"] < NORMAL]
        most = of["excess"].idxmax()
        if not of.loc[most, "excess"] > 0:
            continue
        text = (
            f"at spectral radius {radius:g} gradients of {most} grow to {10 ** of.loc[most, 'excess']:.2g} times what "
            f"the radius says, at lag {of.loc[most, 'lag']:.0f} (departure from normality "
            f"{of.loc[most, 'henrici']:.2g}; medians over seeds)"
        )
        if len(normal):
            text += f"; those of normal matrices ({listed(list(normal))}) to {10 ** of.loc[normal, 'excess'].max():.3g}"
        names = ["departure from normality", "growth (decades)", "at lag", "Kreiss bound (decades)", "peak (decades)"]
        rows = of.set_axis(names, axis=1).sort_values(names[0]).reset_index()
        source = "runs.parquet: henrici, kreiss, transient_peak; timesteps: log10_dh"
        yield Finding(about(str(panel), text + "."), "non-normality", TOPIC, str(panel), "growth", rows, source)
