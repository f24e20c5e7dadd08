"""Bias, variance and cost.

Truncations as estimators of full BPTT's gradient, recurrent-cell parameters together, losses at all steps of the
longest sequences; geometric means over seeds, sizes relative to the full gradient. Top: bias against the standard
deviation that the coins give; at 0 stands also what is less than 0.001. Bottom: root
mean square error of one gradient against the states that have to be kept; bars: 95 % interval over seeds; line: the
Pareto front, on which less error takes more states. Open: the coins' variance is infinite or heavy-tailed, so that both
are the median of the error over draws, which is on no front.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradscope import analysis
from gradscope.accounting import has_draws, ledger
from gradscope.drawing import CannotDrawError, grid, looks_of, panel_of
from gradscope.results import Results

SAME = 1.02  # times as many states are as many
LEAST = 1e-3  # of a bias or a deviation that is drawn as such


def table(results: Results) -> pd.DataFrame:
    """panel (with the spectral radius), truncation, bias, coin_sd, error with low and high, variance, unroll, front."""
    if not has_draws(results) or (results.runs["loss_steps"] == "all").sum() == 0:
        raise CannotDrawError('needs runs with a gradient, draws = 200 (or another number) and loss_steps = "all"')
    found = ledger(results)
    chosen = (found["parameter"] == "all") & (found["loss_steps"] == "all")
    found = found[chosen & (found["seq_len"] == found["seq_len"].max())]
    found = found[found["spectral_radius"].isin(analysis.few(found["spectral_radius"]))]
    found = found.sort_values(["panel", "spectral_radius"], kind="stable")
    squares = found["mse"].notna()
    errors = {
        end: np.where(squares, np.sqrt(found[f"mse{end}"]), found[f"error_p50{end}"]) for end in ("", "_low", "_high")
    }
    columns = found[["truncation", "bias", "coin_sd", "variance", "unroll"]].assign(
        error=errors[""], low=errors["_low"], high=errors["_high"]
    )
    columns.insert(0, "panel", panel_of(found))
    columns = columns[columns["error"].notna()]
    if columns.empty:
        raise CannotDrawError("needs runs with a gradient that is not zero")
    front = pd.concat([_front(own) for _, own in columns.groupby("panel", sort=False)])
    return columns.assign(front=front).reset_index(drop=True)


def _front(points: pd.DataFrame) -> pd.Series:
    """Which points no other beats both in states kept and in error; none of which the error is no mean square."""
    squares = points["coin_sd"].notna()
    points = points[squares]
    unroll, error = (points[name].to_numpy() for name in ("unroll", "error"))
    no_more = (unroll[None] <= SAME * unroll[:, None]) & (error[None] < error[:, None])
    fewer = (SAME * unroll[None] < unroll[:, None]) & (error[None] <= error[:, None])
    return pd.Series(~(no_more | fewer).any(axis=1), points.index).reindex(squares.index, fill_value=False)


def draw(table: pd.DataFrame) -> Figure:
    """A column for each spectral radius: bias and deviation above error and cost."""
    figure, axes = grid(table["panel"].unique(), "", "sd over coins (relative)", "RMS error (relative)", sharex=False)
    looks = looks_of(table["truncation"])
    for panel, (top, bottom) in axes.items():
        own = table[table["panel"] == panel]
        for row in own.itertuples():
            _point(top, bottom, row, looks[row.truncation])
        front = own[own["front"]].sort_values("unroll")
        front = front.assign(error=front["error"].clip(lower=LEAST))
        bottom.plot(front["unroll"], front["error"], color="0.6", linewidth=0.8, zorder=0, gid="front")
        top.set(
            xscale="log",
            yscale="log",
            xlabel="bias (relative)",
            xlim=_limits(table["bias"]),
            ylim=_limits(table["error"]),
        )
        bottom.set(xscale="log", yscale="log", xlabel="states kept (steps)", ylim=_limits(table["error"]))
        for axis in (top.xaxis, top.yaxis, bottom.yaxis):
            axis.set_major_formatter(lambda size, _: "0" if size < 1.5 * LEAST else f"{size:g}")
    marks = [Line2D([], [], color=look["color"], marker=look["marker"], linestyle="") for look in looks.values()]
    figure.legend(marks, list(looks), loc="outside right center", title="truncation")
    return figure


def _limits(sizes: pd.Series) -> tuple[float, float]:
    return LEAST / 2, 2.0 * max(0.5, sizes[np.isfinite(sizes)].max())


def _point(top: Axes, bottom: Axes, row: Any, look: Mapping[str, Any]) -> None:
    """One truncation, in both axes of a column."""
    names = ("truncation", "bias", "coin_sd", "unroll", "error", "low", "high")
    spec, bias, deviation, unroll, error, low, high = (getattr(row, name) for name in names)
    marks: dict[str, Any] = {"color": look["color"], "marker": look["marker"], "linestyle": "", "markersize": 5}
    marks |= {} if np.isfinite(deviation) else {"markerfacecolor": "none"}
    deviation, error = (max(size, LEAST) for size in (deviation if np.isfinite(deviation) else error, error))
    top.plot(max(bias, LEAST), deviation, label=spec, **marks)
    bottom.plot(unroll, error, label=spec, **marks)
    if np.isfinite([low, high]).all():
        bottom.vlines(unroll, max(low, LEAST), max(high, LEAST), color=look["color"], linewidth=0.8)
