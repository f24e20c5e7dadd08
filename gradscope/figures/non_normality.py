"""What the spectral radius does not tell.

Networks of one spectral radius, that nearest to 1, a row an ensemble, a point a seed. Left: how far W_hh is from
normal, the relative departure of Henrici (1962), 0 for normal matrices. Right, in decades: the most by which the norm
of the gradient (last step's loss, full BPTT, longest sequences) is above what it was at lag 0 times radius^lag; and, of
W_hh at spectral radius 1, the largest norm of a power, which the gradient of a linear network does not exceed, and a
lower bound on that (of the Kreiss constant; Trefethen & Embree 2005). Normal matrices are at 0.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis, stability
from gradscope.drawing import COLOURS, CannotDrawError, canvas, small
from gradscope.results import Results

MEASURE = "jacobian"
ROW = 0.23  # inches
DEPARTURE = "departure from normality"
LOOKS: dict[str, tuple[str, dict[str, Any]]] = {  # columns in decades, what the legend says of them, how they look
    "excess": ("gradient", {"marker": "o", "color": COLOURS[0], "markersize": 4, "markeredgewidth": 0}),
    "kreiss": ("Kreiss bound", {"marker": "|", "color": "black", "markersize": 7}),
    "peak": (r"largest $\|W^k\|$", {"marker": "^", "color": COLOURS[1], "markersize": 5, "markerfacecolor": "none"}),
}


def table(results: Results) -> pd.DataFrame:
    """panel, ensemble, spectral_radius, seed, henrici; excess and its lag; kreiss and peak. In decades but henrici."""
    found = stability.growth(results)
    radii = found["spectral_radius"].unique()
    if len(radii):
        found = found[found["spectral_radius"] == min(radii, key=lambda radius: abs(radius - 1.0))]
        found = analysis.told_by(found, results, "ensemble")
        found = found[found.groupby("panel")["ensemble"].transform("nunique") > 1]
    if found.empty:
        raise CannotDrawError("needs runs with a gradient and W_hh of two ensembles, one loss step and full truncation")
    columns = ["panel", "ensemble", "spectral_radius", "seed", "henrici", "excess", "lag", "kreiss", "peak"]
    return found[columns].sort_values(columns[:4], ignore_index=True)


def draw(table: pd.DataFrame) -> Figure:
    """The departure beside the growth, for each value of what else is swept; the most normal ensembles on top."""
    order = table.groupby("ensemble")["henrici"].median().sort_values(kind="stable", ascending=False).index.tolist()
    panels = list(dict.fromkeys(table["panel"]))
    figure = canvas(2, len(panels))
    figure.set_figheight(len(panels) * (ROW * len(order) + 0.9))
    axes = figure.subplots(len(panels), 2, sharey=True, sharex="col", squeeze=False)
    for panel, (left, right) in zip(panels, axes, strict=True):
        own = table[table["panel"] == panel]
        rows = own["ensemble"].map(order.index)
        left.plot(own["henrici"], rows, "o", color="0.3", markersize=4, markeredgewidth=0, alpha=0.7, gid="henrici")
        for place, (column, (label, look)) in enumerate(LOOKS.items()):
            shown = np.isfinite(own[column])
            at = rows[shown] + 0.22 * (1 - place)
            right.plot(own.loc[shown, column], at, linestyle="none", alpha=0.8, label=label, gid=column, **look)
        left.set_yticks(range(len(order)), order)
        left.set(ylim=(-0.6, len(order) - 0.4), title=panel)
        for ax in (left, right):
            ax.grid(visible=True, axis="y", color="0.9", linewidth=0.6)
            ax.set_axisbelow(True)
    _label(axes[-1])
    figure.legend(*right.get_legend_handles_labels(), loc="outside upper right", ncols=3, fontsize=small())
    return figure


def _label(axes: np.ndarray[Any, Any]) -> None:
    left, right = axes
    left.set(xlabel=DEPARTURE, xlim=(-0.03, 1.03))
    right.set_xlabel("growth beyond the radius (decades)")
    right.set_xlim(left=min(-0.05, right.get_xlim()[0]))
