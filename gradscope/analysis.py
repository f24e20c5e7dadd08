"""What the tables say: norms against lag, decay rates, the boundary between vanishing and exploding, truncation error.

Statistics over seeds are medians and quantiles, since norms of gradients are heavy-tailed; intervals are 95 %, from
Student's t over seeds. Vanishing and exploding are read from last-step, full-BPTT runs, where the norm at lag k is the
reach of one loss; truncation error is read from all-steps runs, as training does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from gradscope.results import Results

AXES = ("spectral_radius", "seq_len", "truncation", "loss_steps", "reduction", "seed")
QUANTILES = (0.1, 0.5, 0.9)


class Estimate(NamedTuple):
    """A mean over seeds with the half-width of its 95 % interval (nan for a single seed)."""

    value: float
    half_width: float
    seeds: int

    def __str__(self) -> str:
        if not np.isfinite(self.half_width):
            return f"{self.value:.3g}"
        digits = max(0, 1 - int(np.floor(np.log10(max(self.half_width, 1e-12)))))
        return f"{self.value:.{min(digits, 4)}f} ± {self.half_width:.{min(digits, 4)}f}"


def estimate(sample: Sequence[float]) -> Estimate:
    """Mean and 95 % Student t interval.

    >>> print(estimate([1.0, 1.1, 1.2]))
    1.10 ± 0.25
    """
    values = np.asarray(sample, float)
    count = len(values)
    if count < 2:
        return Estimate(float(values.mean()) if count else np.nan, np.nan, count)
    half_width = stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count)
    return Estimate(float(values.mean()), float(half_width), count)


def panels(results: Results) -> pd.Series:
    """For each run, its values of the swept parameters that are on no axis of the figures, in words."""
    runs = results.runs
    label = pd.Series("", index=runs.index)
    for name in results.parameters:
        if name not in AXES and len(runs[name].unique()) > 1:
            words = runs[name].astype(str)
            if pd.api.types.is_numeric_dtype(runs[name]):
                words = f"{name} = " + words
            label = label.where(label == "", label + ", ") + words
    return label


def reach(results: Results, *, longest: bool = True) -> pd.DataFrame:
    """log10 |dL/dh_t| of each last-step, full-BPTT run at each lag, with `panel`, `spectral_radius`, `seed`, `seq_len`.

    Runs of the greatest length only, unless `longest` is false; empty if the sweep has no such runs.
    """
    runs = results.runs
    chosen = (runs["loss_steps"] == "last") & (runs["truncation"] == "full") & (runs["status"] == "ok")
    chosen &= runs["reduction"] == runs["reduction"].iloc[0]
    if longest and chosen.any():
        chosen &= runs["seq_len"] == runs.loc[chosen, "seq_len"].max()
    if not chosen.any():
        return pd.DataFrame(columns=["panel", "spectral_radius", "seed", "seq_len", "lag", "log10_dh"])
    ids = list(runs.loc[chosen, "run_id"])
    steps = results.select(run_id=ids).timesteps if not chosen.all() else results.timesteps
    about = runs.assign(panel=panels(results))[chosen][["run_id", "panel", "spectral_radius", "seed", "seq_len"]]
    return steps.astype({"run_id": str}).merge(about.astype({"run_id": str}), on="run_id")


def quantiles(table: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """`low`, `median` and `high` (10 %, 50 %, 90 %) of a column over seeds, and how many `seeds`, for each group."""
    grouped = table.groupby(by, observed=True, sort=True)[column]
    # Interpolating between -inf and a number is undefined; the nearest of the two is exact.
    bands = grouped.quantile(list(QUANTILES), interpolation="nearest").unstack()  # noqa: PD010
    bands.columns = ["low", "median", "high"]
    return bands.assign(seeds=grouped.count()).reset_index()


def decay_rates(table: pd.DataFrame) -> pd.DataFrame:
    """The slope of ln |dL/dh| against lag, nats a step, for each panel, spectral radius and seed of a `reach` table.

    Least squares over the lags after the transient (from a quarter of the length, at most 10 steps); exact zeros are
    left out. Negative: vanishing; positive: exploding.
    """
    fitted = table[table["lag"] >= np.minimum(10, table["seq_len"] // 4)]
    fitted = fitted[np.isfinite(fitted["log10_dh"])]
    rows = []
    for key, run in fitted.groupby(["panel", "spectral_radius", "seed"], observed=True):
        if len(run) >= 3:
            slope = np.polyfit(run["lag"], run["log10_dh"], 1)[0] * np.log(10.0)
            rows.append((*key, slope))
    return pd.DataFrame(rows, columns=["panel", "spectral_radius", "seed", "rate"])


class Boundary(NamedTuple):
    """Where the decay rate changes sign along the spectral radius.

    Attributes
    ----------
    outcome : "crossing" (every seed has exactly one), "vanishing", "exploding" (no seed has any), or "mixed".
    radius : the crossing over seeds; for "mixed" the smallest of any seed, without interval; else nan.
    """

    outcome: str
    radius: Estimate


def boundaries(rates: pd.DataFrame) -> dict[str, Boundary]:
    """Panel -> its boundary between vanishing and exploding, from a table of `decay_rates`.

    For each seed, crossings are interpolated linearly between neighbouring radii.
    """
    found = {}
    for panel, group in rates.groupby("panel", observed=True):
        crossings = [_crossings(seed.sort_values("spectral_radius")) for _, seed in group.groupby("seed")]
        everywhere = [radius for points in crossings for radius in points]
        if all(len(points) == 1 for points in crossings):
            found[str(panel)] = Boundary("crossing", estimate(everywhere))
        elif everywhere or group["rate"].lt(0).any() != group["rate"].lt(0).all():
            lowest = min(everywhere, default=float(group["spectral_radius"].min()))
            found[str(panel)] = Boundary("mixed", Estimate(lowest, np.nan, len(crossings)))
        else:
            outcome = "vanishing" if group["rate"].iloc[0] < 0 else "exploding"
            found[str(panel)] = Boundary(outcome, Estimate(np.nan, np.nan, len(crossings)))
    return found


def truncation_errors(results: Results) -> pd.DataFrame:
    """Relative error and cosine to full BPTT of each all-steps run of the greatest length, one row a run."""
    runs = results.runs
    chosen = (runs["loss_steps"] == "all") & (runs["truncation"] != "full") & (runs["status"] == "ok")
    chosen &= runs["reduction"] == runs["reduction"].iloc[0]
    if chosen.any():
        chosen &= runs["seq_len"] == runs.loc[chosen, "seq_len"].max()
    columns = ["panel", "truncation", "spectral_radius", "seed", "seq_len", "relative_error", "cosine"]
    return runs.assign(panel=panels(results))[chosen][columns].astype({"truncation": str}).reset_index(drop=True)


def _crossings(rates: pd.DataFrame) -> list[float]:
    radius, rate = rates["spectral_radius"].to_numpy(), rates["rate"].to_numpy()
    up = np.flatnonzero((rate[:-1] < 0) != (rate[1:] < 0))
    return [float(radius[i] - rate[i] * (radius[i + 1] - radius[i]) / (rate[i + 1] - rate[i])) for i in up]
