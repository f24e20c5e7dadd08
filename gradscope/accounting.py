"""The ledger: what each truncation costs and what it is worth, from a sweep with draws of coins.

One row for each network setting, truncation and parameter; each measure with its 95 % interval over seeds. Sizes are
relative to full BPTT's gradient on the same weights and inputs (see `gradscope.estimators`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradscope import analysis
from gradscope.errors import InputError, unknown
from gradscope.estimators import COSINES, ERRORS
from gradscope.files import write_whole
from gradscope.results import Results, load
from gradscope.schedule import Tossing
from gradscope.timing import timing
from gradscope.truncations import truncation

NAME = "ledger.parquet"
SETTING = ["panel", "seq_len", "loss_steps", "spectral_radius"]  # rows of one setting can be compared
ROW = [*SETTING, "truncation", "parameter"]
BIAS, COINS, ERROR = "bias", "coin_sd", "mse"
SIZES = (BIAS, "bias_noise", COINS, "batch_sd", ERROR, *ERRORS)  # averaged as logarithms
SHARES = ("bias_cosine", *COSINES, "wrong_sign_share", "top_share")
SQUARES = (COINS, ERROR)  # averages of squares, which mean nothing where one draw in thousands decides on them
TINY = 1e-3  # draws: one is enough
FEWER = 0.9  # of the steps: what a truncation keeps that keeps fewer states than full BPTT
TOP = 0.2  # of the coins' variance in one draw: the tail is heavy


class Interval(NamedTuple):
    """A mean over seeds and the ends of its 95 % interval; not numbers for a single seed."""

    value: float
    low: float
    high: float


def mean_of(sample: NDArray[np.float64]) -> Interval:
    """Mean and 95 % interval by Student's t."""
    found = analysis.estimate(sample[~np.isnan(sample)].tolist())
    return Interval(found.value, found.value - found.half_width, found.value + found.half_width)


def geometric_mean_of(sample: NDArray[np.float64]) -> Interval:
    """Geometric mean and 95 % interval by Student's t of the logarithms; where some are zero, median and range.

    >>> print([round(number, 3) for number in geometric_mean_of(np.array([0.1, 0.1, 0.1]))])
    [0.1, 0.1, 0.1]
    """
    values = sample[~np.isnan(sample)]
    if len(values) > 1 and not (np.isfinite(values).all() and (values > 0).all()):
        return Interval(float(np.median(values)), float(values.min()), float(values.max()))
    with np.errstate(over="ignore", divide="ignore"):
        return Interval(*(float(10.0**number) for number in mean_of(np.log10(values))))


def ledger(results: Results | str | Path, *, timed: bool = False) -> pd.DataFrame:
    """The ledger of a sweep that was run with `draws`.

    Parameters
    ----------
    results : from `gs.sweep` or `gs.load`, or a sweep's folder.
    timed : also measure the time of a gradient with each truncation, now and on this machine.

    Returns
    -------
    DataFrame : a row for each of `panel` (what else is swept), `seq_len`, `loss_steps`, `spectral_radius`, `truncation`
        and `parameter` ("all" recurrent-cell parameters, or one), with

        * `bias`, `bias_cosine`, `bias_noise`, `coin_sd`, `batch_sd`, `mse` (the square of `error_rms`), `error_p50`,
          `error_p90`, `cosine_p05` ... `cosine_p95`, `wrong_sign_share`, `top_share` (of all this see
          `gradscope.estimators.measures`), each with `_low` and `_high`, the ends of its 95 % interval over `seeds`:
          geometric means of sizes, means of shares and cosines; where some sizes are exactly zero, median and range;
        * `population_bias`: root of the mean over seeds of the square of the bias of all data's gradient, which is that
          of `bias` without what chance of the draws and of the batch adds to it; zero if nothing is left;
        * `variance`: of the coins, "none" (there are none), "finite", "infinite" (in every seed without bound as
          sequences get longer), "mixed" (in some seeds), or "heavy" (in the median seed one draw holds a fifth of it):
          in the last three, averages of squares mean nothing and are left out, quantiles are there;
        * `beaten_by`, `beaten_after`: the unbiased truncation, of those that keep fewer states than full BPTT, of which
          the mean of fewest draws is nearer to the full gradient than the mean of as many of this one's, all on one
          batch; and how many draws, with `_low`, `_high`. `beaten_on_all_data`: how many updates it takes if each has a
          new batch, and the full gradient is that of all data; missing if the population bias may be zero;
        * `state_steps`, `unroll`, `learning_rate_factor`: what a gradient takes, in steps of backward passes and in
          states kept; `seconds` and `seconds_over_full`, if timed.

    Raises
    ------
    InputError : the sweep was run without draws.

    Examples
    --------
    `gs.ledger(gs.load("reports/random-vs-fixed"))`
    """
    results = load(results) if isinstance(results, str | Path) else results
    table = _ledger(results)
    if timed:
        seconds = timing(_runs(results), [*results.parameters, "input_size", "output_size"])
        return table.merge(seconds, how="left", on=["panel", "seq_len", "loss_steps", "truncation"])
    return table.copy()


@lru_cache(maxsize=4)
def _ledger(results: Results) -> pd.DataFrame:
    runs = _runs(results)
    parameters = ("all", *_parameters(runs))
    by_row = runs.groupby([name for name in ROW if name != "parameter"], observed=True, sort=False)
    by_setting = runs.groupby(SETTING, observed=True, sort=False)
    table = pd.DataFrame(
        [
            {**dict(zip(ROW, (*key, parameter), strict=True)), **_row(own, parameter)}
            for key, own in by_row
            for parameter in parameters
        ]
    )
    beaten = [
        {**dict(zip(SETTING, key, strict=True)), "parameter": parameter, **one}
        for key, own in by_setting
        for parameter in parameters
        for one in _beaten(own, parameter)
    ]
    names = [*ROW, "beaten_by", "beaten_after", "beaten_after_low", "beaten_after_high", "beaten_on_all_data"]
    return table.merge(pd.DataFrame(beaten, columns=names), how="left", on=ROW)


def write(results: Results) -> pd.DataFrame | None:
    """Write the ledger, timed, into the results' folder, and return it; nothing if the sweep was run without draws."""
    if not has_draws(results):
        return None
    table = ledger(results, timed=True)
    write_whole(results.folder / NAME, lambda place: table.to_parquet(place, index=False))
    return table


def excerpt(table: pd.DataFrame, radii: Sequence[float] = (), parameter: str = "all") -> pd.DataFrame:
    """The rows of a ledger to be read at a glance: one parameter, the longest sequences, these radii or three.

    Raises InputError for a parameter or a radius that is not there.
    """
    if parameter not in set(table["parameter"]):
        raise unknown("parameter", parameter, table["parameter"].unique(), where="parameter")
    table = table[(table["parameter"] == parameter) & (table["seq_len"] == table["seq_len"].max())]
    known = table["spectral_radius"].unique()
    for radius in radii:
        if not np.isclose(known, radius, rtol=1e-9).any():
            raise InputError(
                f"{radius:g} was not swept", where="radius", allowed=", ".join(f"{one:g}" for one in known)
            )
    chosen = np.isclose(table["spectral_radius"].to_numpy()[:, None], radii or analysis.few(known), rtol=1e-9)
    return table[chosen.any(axis=1)]


def has_draws(results: Results) -> bool:
    """Whether the results have what a ledger is made from."""
    return {"coin_sd", "error_rms", "bias_batch_sd"} <= set(results.runs.columns)


def _runs(results: Results) -> pd.DataFrame:
    if not has_draws(results):
        hint = "set draws = 200 in the experiment, or --set draws=200"
        raise InputError(
            "the sweep was run without draws of coins, or by an earlier gradscope", where=str(results.folder), hint=hint
        )
    runs = analysis.networks(results)
    runs = runs[(runs["status"] == "ok") & runs["coin_sd"].notna()]
    return runs.astype({"truncation": str, "loss_steps": str})


def _parameters(runs: pd.DataFrame) -> list[str]:
    return [name.removeprefix("coin_sd_") for name in runs.columns if name.startswith("coin_sd_")]


def _of(runs: pd.DataFrame, measure: str, parameter: str) -> NDArray[np.float64]:
    """A measure of a parameter, by seed."""
    if measure == ERROR:
        return np.square(_of(runs, "error_rms", parameter))
    return runs[measure if parameter == "all" else f"{measure}_{parameter}"].to_numpy(np.float64)


def _population_bias(runs: pd.DataFrame, parameter: str) -> Interval:
    """The square of the bias of the gradient of all data, mean over seeds.

    To that of a batch chance adds the squares of `bias_noise` and `bias_batch_sd`, on average.
    """
    chance = sum(np.square(np.nan_to_num(_of(runs, name, parameter))) for name in ("bias_noise", "bias_batch_sd"))
    return mean_of(np.square(_of(runs, BIAS, parameter)) - chance)


def _row(runs: pd.DataFrame, parameter: str) -> dict[str, object]:
    """The row of a truncation, from its runs, one a seed."""
    variance = _variance(runs, parameter)
    found: dict[str, object] = {"seeds": len(runs), "draws": int(runs["draws"].max()), "variance": variance}
    for measure in (*SIZES, *SHARES):
        sample = _of(runs, measure, parameter)
        if variance in ("infinite", "mixed", "heavy") and measure in SQUARES:
            sample = np.full(len(sample), np.nan)
        interval = geometric_mean_of(sample) if measure in SIZES else _within(mean_of(sample), measure)
        found |= dict(zip((measure, f"{measure}_low", f"{measure}_high"), interval, strict=True))
    population = (float(np.sqrt(max(square, 0.0))) for square in _population_bias(runs, parameter))
    found |= dict(zip(("population_bias", "population_bias_low", "population_bias_high"), population, strict=True))
    return found | {name: runs[name].mean() for name in ("state_steps", "unroll", "learning_rate_factor")}


def _within(interval: Interval, measure: str) -> Interval:
    """The interval of a share or a cosine, none of it outside of what there can be."""
    low = 0.0 if measure.endswith("share") else -1.0
    return Interval(*(float(np.clip(number, low, 1.0)) for number in interval))


def _variance(runs: pd.DataFrame, parameter: str) -> str:
    """What can be said of the variance of the coins."""
    member = truncation(str(runs["truncation"].iloc[0]))
    if not isinstance(member, Tossing):
        return "none"
    unbounded = [member.unbounded(rate) for rate in runs["rate"]]  # a rate that is none, of too few lags, has a bound
    if any(unbounded):
        return "infinite" if all(unbounded) else "mixed"
    return "heavy" if np.median(_of(runs, "top_share", parameter)) > TOP else "finite"


def _beaten(runs: pd.DataFrame, parameter: str) -> list[dict[str, object]]:
    """By which unbiased truncation each biased one of a setting is beaten, and after how many updates."""
    by_truncation = {str(spec): own.set_index("seed") for spec, own in runs.groupby("truncation", sort=False)}
    rivals = {spec: own for spec, own in by_truncation.items() if _is_rival(own, parameter)}
    found: list[dict[str, object]] = []
    for spec, own in by_truncation.items():
        needed = {other: geometric_mean_of(_updates(own, rival, parameter)) for other, rival in rivals.items()}
        needed = {other: _whole(interval) for other, interval in needed.items() if np.isfinite(interval.value)}
        if needed:
            best = min(needed, key=lambda other: needed[other].value)
            names = ("beaten_after", "beaten_after_low", "beaten_after_high")
            of = {"truncation": spec, "beaten_by": best, **dict(zip(names, needed[best], strict=True))}
            found.append(of | {"beaten_on_all_data": _updates_on_all_data(own, rivals[best], parameter)})
    return found


def _whole(interval: Interval) -> Interval:
    """Numbers of draws: whole, and at least one."""
    return Interval(*(float(max(np.ceil(number), 1.0)) if np.isfinite(number) else number for number in interval))


def _is_rival(runs: pd.DataFrame, parameter: str) -> bool:
    """Whether a truncation throws coins, is unbiased, of finite variance, and keeps fewer states than full BPTT."""
    exact = (_of(runs, BIAS, parameter) == 0).all() and (_of(runs, "bias_noise", parameter) == 0).all()
    fewer = runs["unroll"].mean() < FEWER * runs["seq_len"].max()
    return bool(exact and fewer and _variance(runs, parameter) == "finite")


def _updates(biased: pd.DataFrame, unbiased: pd.DataFrame, parameter: str) -> NDArray[np.float64]:
    """How many draws of an unbiased gradient have a mean as near to the full one as that of as many of a biased one's.

    By seed, and no whole numbers, all on one batch: of N draws the mean square error is V/N, against bias^2 + V'/N. nan
    where a bias is not told from what it is by chance of the draws.
    """
    seeds = biased.index.intersection(unbiased.index)
    bias, noise = (_of(biased.loc[seeds], name, parameter) for name in (BIAS, "bias_noise"))
    excess = np.subtract(*(np.square(_of(own.loc[seeds], COINS, parameter)) for own in (unbiased, biased)))
    with np.errstate(invalid="ignore", divide="ignore"):
        needed = np.maximum(excess / (bias**2 - noise**2), TINY)
    return np.where(bias > 2.0 * noise, needed, np.nan)


def _updates_on_all_data(biased: pd.DataFrame, unbiased: pd.DataFrame, parameter: str) -> float:
    """The same of updates that each have a new batch, against the full gradient of all data; mean over seeds.

    nan where the interval of the population bias does not exclude zero.
    """
    seeds = biased.index.intersection(unbiased.index)
    variances = [
        np.square(_of(own.loc[seeds], COINS, parameter)) + np.square(_of(own.loc[seeds], "batch_sd", parameter))
        for own in (unbiased, biased)
    ]
    square = _population_bias(biased.loc[seeds], parameter)
    if not square.low > 0:
        return np.nan
    return float(max(np.ceil((variances[0] - variances[1]).mean() / square.value), 1.0))
