"""Convergence of the leading exponent.

The largest Lyapunov exponent as found from ever more steps, longest sequences, without the washout at both ends. Lines:
median over seeds; bands: 10 % to 90 % of the seeds. Bars at the end: the 95 % interval of a single network (median over
seeds), from blocks of time. An interval that holds 0 does not tell growth from decay; a band that is wider than it
says that networks differ. Panels have scales of their own.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradscope import analysis, stability
from gradscope.drawing import CannotDrawError, band_lines, grid, hue_of, key, looks_for, named
from gradscope.results import Results

MEASURE = "jacobian"
LINES = "spectral_radius"
EARLY = 10  # of the recorded numbers of steps one in so many are the first, by which axes are not stretched


def table(results: Results) -> pd.DataFrame:
    """panel, spectral_radius (or another hue), steps, low, median and high over seeds; half_width of the last."""
    found = stability.convergence(results)
    found = found[np.isfinite(found["exponent"])]
    if found["steps"].nunique() < 2:
        raise CannotDrawError("needs runs with finite exponents from two steps or more")
    found, hue = analysis.lines(found, results, LINES)
    by = ["panel", hue, "steps"]
    intervals = found.groupby(by, observed=True)["half_width"].median().reset_index()
    return analysis.quantiles(found, by, "exponent").merge(intervals, on=by)


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each value of what else is swept."""
    hue = hue_of(table)
    looks = looks_for(hue, table[hue])
    figure, axes = grid(table["panel"].unique(), "steps", "largest exponent (nats a step)", sharey=False)
    for panel, (ax,) in axes.items():
        own = table[table["panel"] == panel]
        ax.axhline(0.0, color="0.6", linewidth=0.6, zorder=0, gid="zero")
        band_lines(ax, own, "steps", looks)
        for value, end in own.dropna(subset="half_width").groupby(hue, observed=True):
            ax.errorbar(
                end["steps"],
                end["median"],
                end["half_width"],
                color=looks[value]["color"],
                capsize=2,
                linewidth=0.8,
                gid=f"interval {named(hue, value)}",
            )
        _frame(ax, own)
    key(figure, axes, hue, looks)
    return figure


def _frame(ax: Axes, own: pd.DataFrame) -> None:
    """Leave the first estimates, which are wild, partly beyond the axis."""
    settled = own[own["steps"] >= own["steps"].max() / EARLY]
    low, high = (settled["low"].min(), settled["high"].max())
    margin = 0.08 * (high - low) or 0.05
    ax.set_ylim(min(low - margin, 0.0 - margin / 4), max(high + margin, margin / 4))
