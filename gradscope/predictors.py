"""Predictors of vanishing and exploding, side by side with what gradients do, and where each is wrong.

What gradients do is the slope of log |dL/dh| against the lag. Predictors are rates in nats a step too: what is known of
a network before anything is measured (spectral radius, norm of W_hh, gates' bias), what theory makes of it, and what
its Jacobians say. Two of them are bounds: below 0 gradients must vanish; above 0 they say nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from gradscope import analysis, gating, stability
from gradscope.results import Results
from gradscope.stability import NETWORK
from gradscope.theory import norm_bound

SLOPE = "measured slope"
RADIUS, NORM, JACOBIAN = "spectral radius", "norm of W_hh", "mean norm of Jacobians"
FIELD, GATES, EXPONENT = "mean field", "gates", "Lyapunov exponent"
PREDICTORS = (RADIUS, NORM, JACOBIAN, FIELD, GATES, EXPONENT)
BOUNDS = (NORM, JACOBIAN)
VANISH, NEITHER, EXPLODE, UNKNOWN = "vanish", "neither", "explode", "not known"
_WORDS = {-1: VANISH, 0: NEITHER, 1: EXPLODE}
ROUNDING = 1e-6  # nats a step, up to which a rate is none


def rates(results: Results) -> pd.DataFrame:
    """What each predictor says of each network: run_id, panel, spectral_radius, seed, slope, ..., predictor, rate.

    `slope` and `state` are those of `analysis.regimes`, of the last step's loss under full BPTT. Only predictors that
    there are for a cell; only runs that have a gradient.
    """
    own = stability.runs(results)
    about = ["run_id", *NETWORK, "seq_len", "slope", "state"]
    if own.empty:
        return pd.DataFrame(columns=[*about, "predictor", "rate"])
    own = own.assign(**_predicted(own, results))
    slopes = analysis.regimes(results).rename(columns={"rate": "slope"})
    table = own.merge(slopes, on=NETWORK).melt(about, list(PREDICTORS), "predictor", "rate")
    return table.dropna(subset="rate").reset_index(drop=True)


def _predicted(own: pd.DataFrame, results: Results) -> dict[str, pd.Series]:
    """Predictor -> its rate for each run, nan where there is none."""
    activation = analysis.activations(own)
    alone = activation.notna()  # W_hh alone takes the state on
    named = zip(activation.where(alone, "linear"), own["spectral_norm"], strict=True)
    norms = [norm_bound(name, norm) for name, norm in named]
    with np.errstate(divide="ignore"):
        radius = np.log(own["spectral_radius_realised"])
    return {
        RADIUS: radius.where(alone),
        NORM: pd.Series(norms, own.index).where(alone),
        JACOBIAN: own["jacobian_norm"],
        FIELD: stability.theoretical_rates(own, results).where(activation != "linear"),
        GATES: np.log(gating.factors(own)),
        EXPONENT: own["lyapunov_max"],
    }


class Verdict(NamedTuple):
    """What gradients do, or are said to do: "vanish", "neither", "explode" or "not known"; and the rate, over seeds."""

    word: str
    rate: analysis.Estimate


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """Each predictor beside the slope, a row for each panel, predictor and spectral radius of a table of `rates`.

    Columns: panel, predictor, spectral_radius; low, median and high of the predicted rate over seeds; `difference` to
    the slope of the same network, mean over seeds, with the `half_width` of its 95 % interval; `slope` and
    `slope_half_width` likewise; what gradients do (`happens`), what the predictor `says`, and whether that is `wrong`.
    Rows of the "measured slope" itself have no difference.
    """
    by = ["panel", "predictor", "spectral_radius"]
    known = table.assign(rate=table["rate"].astype(float))
    slopes = known.drop_duplicates(NETWORK).assign(predictor=SLOPE)
    slopes = slopes.assign(rate=slopes["slope"])
    bands = analysis.quantiles(pd.concat([known, slopes]), by, "rate")
    rows = []
    for key, own in pd.concat([known, slopes]).groupby(by, observed=True):
        happens = verdict(own)
        row = dict(zip(by, key, strict=True)) | {
            "slope": happens.rate.value,
            "slope_half_width": happens.rate.half_width,
            "happens": happens.word,
        }
        if key[1] != SLOPE:
            apart = analysis.estimate(_differences(own))
            says = said(own)
            row |= {"difference": apart.value, "half_width": apart.half_width, "says": says}
            row["wrong"] = _wrong(says, happens, float(own["seq_len"].max()))
        rows.append(row)
    columns = [*by, "low", "median", "high", "seeds", "difference", "half_width"]
    columns += ["slope", "slope_half_width", "happens", "says", "wrong"]
    found = bands.merge(
        pd.DataFrame(rows, columns=[name for name in columns if name not in bands or name in by]), on=by
    )
    return found[columns].assign(wrong=found["wrong"].eq(True), says=found["says"].fillna(""))


def _differences(own: pd.DataFrame) -> list[float]:
    """Predicted rates minus slopes, where both are numbers."""
    apart = own["rate"] - own["slope"]
    return list(apart[np.isfinite(apart)])


def verdict(own: pd.DataFrame) -> Verdict:
    """What the gradients of the networks of one panel and radius do, if the 95 % interval over seeds says it."""
    rate = analysis.estimate(list(own["slope"].dropna()))
    states = set(own["state"])
    if states == {"constant"}:
        return Verdict(NEITHER, rate)
    if states == {"zero"}:
        return Verdict(VANISH, rate)
    if not states <= {"vanishing", "exploding", "constant"} or not abs(rate.value) > rate.half_width:
        return Verdict(UNKNOWN, rate)
    return Verdict(VANISH if rate.value < 0 else EXPLODE, rate)


def said(own: pd.DataFrame) -> str:
    """What a predictor says of the networks of one panel and radius: by the sign of its mean over seeds."""
    mean = float(own["rate"].mean())
    sign = 0 if abs(mean) < ROUNDING else int(np.sign(mean))
    return UNKNOWN if sign >= 0 and own["predictor"].iloc[0] in BOUNDS else _WORDS[sign]


def _wrong(says: str, happens: Verdict, seq_len: float) -> bool:
    """Whether a prediction is wrong; not where gradients change by less than a factor of e over the whole sequence.

    That much a transient does. But where they are exactly constant, whoever says else is wrong.
    """
    if UNKNOWN in (says, happens.word) or says == happens.word:
        return False
    return happens.word == NEITHER or not abs(happens.rate.value) * seq_len <= 1.0
