"""What figures of points share: a row for each network, seeds and their median, marks for what lies beyond."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from gradscope.drawing import COLOURS, grid, small

MEASURES = {"half_life": "half-life", "horizon": "horizon of 1 %"}  # of `reaching.SHARES`, as panels have them
MOST = 24  # networks that have a row
ROW = 0.3  # inches
APART = 0.3  # of a row, the kinds of points in it
BEYOND = 1.25  # times the sequence's length, where what lies beyond it is marked
LETTERS = 22  # of a network's name, on one line
LOOKS = (("o", "full"), ("D", "none"))  # markers of the first and the second kind, and how they are filled


def draw(table: pd.DataFrame, kind: str, words: dict[str, str]) -> Figure:
    """A panel for each measure and value of what else is swept, a row for each network.

    `table` has panel, network, the `kind` of points (its values in `words`), seed, steps (inf: beyond the sequence) and
    seq_len. Small: seeds; large: their median.
    """
    rows = list(dict.fromkeys(table["network"]))
    figure, axes = grid(table["panel"].unique(), "lag (steps)", "")
    figure.set_figheight(
        figure.get_figheight() + _more(len(rows)) * len({ax[0].get_position().y0 for ax in axes.values()})
    )
    kinds = [name for name in words if (table[kind] == name).any()]
    edge = BEYOND * float(table["seq_len"].max())
    for panel, (ax,) in axes.items():
        own = table[table["panel"] == panel]
        ax.axvline(own["seq_len"].max(), color="0.6", linewidth=0.8, linestyle=(0, (4, 2)), gid="length", zorder=0)
        for network, points in own.groupby("network", observed=True):
            there = [name for name in kinds if (points[kind] == name).any()]
            for i, name in enumerate(there):
                at = rows.index(network) + APART * (i - 0.5 * (len(there) - 1))
                steps = points.loc[points[kind] == name, "steps"].dropna()
                _points(ax, steps, at, edge, kinds.index(name), f"{network} {name}")
        ax.set(xscale="log", ylim=(len(rows) - 0.5, -0.5), yticks=range(len(rows)))
        ax.set_yticklabels(["\n".join(textwrap.wrap(row, LETTERS)) for row in rows])
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    handles = [_mark(i, words[name]) for i, name in enumerate(kinds)] if len(kinds) > 1 else []
    if np.isposinf(table["steps"]).any():
        handles.append(Line2D([], [], marker=">", color="0.3", linestyle="", markersize=5, label="beyond the sequence"))
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=small())
    return figure


def _more(rows: int) -> float:
    """Inches of height that a panel needs beyond the usual ones."""
    return max(0.0, ROW * rows - 1.5)


def _points(ax: Axes, steps: pd.Series, at: float, edge: float, i: int, name: str) -> None:
    """The seeds of one network and their median; at the edge, pointing beyond it, what is not in the sequence."""
    if steps.empty:
        return
    colour, (marker, fill) = COLOURS[i], LOOKS[i % 2]
    inside, outside = steps[np.isfinite(steps)], steps[np.isposinf(steps)]
    small_ones: dict[str, Any] = {
        "color": colour,
        "linestyle": "",
        "markersize": 2.5,
        "alpha": 0.6,
        "markeredgewidth": 0,
    }
    ax.plot(inside, np.full(len(inside), at), "o", gid=f"{name} seeds", **small_ones)
    ax.plot(np.full(len(outside), edge), np.full(len(outside), at), ">", gid=f"{name} beyond", **small_ones)
    median = steps.quantile(interpolation="higher") if len(outside) else steps.median()
    shown, sign = (median, marker) if np.isfinite(median) else (edge, ">")
    ax.plot([shown], [at], sign, color=colour, markersize=6, fillstyle=fill, gid=f"{name} median")


def _mark(i: int, label: str) -> Line2D:
    marker, fill = LOOKS[i % 2]
    return Line2D([], [], marker=marker, color=COLOURS[i], fillstyle=fill, linestyle="", markersize=6, label=label)  # type: ignore[arg-type]
