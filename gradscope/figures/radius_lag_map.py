"""Where gradients vanish and where they explode.

Change of the gradient's norm from lag 0 to each lag: last step's loss, full BPTT, longest sequences, median over seeds.
Blue: vanished; red, marked +: exploded; the scale is linear up to one decade and logarithmic beyond; grey, marked 0:
exactly zero. Line: the spectral radius at which the decay rate changes sign, hatched its 95 % interval over seeds;
dashed, where there is no such radius: up to there gradients vanish in every seed. Blank: no gradient, since the forward
states overflowed.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from gradscope import analysis, maps
from gradscope.drawing import NAMES, CannotDrawError, grid, small
from gradscope.results import Results


def table(results: Results) -> pd.DataFrame:
    """panel, spectral_radius, lag, `decades` (median change since lag 0), boundary and its half-width."""
    reach = analysis.reach(results)
    if reach.empty or reach["spectral_radius"].nunique() < 3:
        raise CannotDrawError("needs runs with a gradient at three spectral radii, one loss step and full truncation")
    cell = ["panel", "spectral_radius", "lag"]
    medians = analysis.quantiles(analysis.changes(reach), cell, "decades").rename(columns={"median": "decades"})
    regimes = analysis.regimes(results)
    overflowed = regimes.loc[regimes["state"] == "overflow", ["panel", "spectral_radius"]].drop_duplicates()
    medians = medians.merge(overflowed.assign(lag=0), how="outer", on=cell)
    return medians[[*cell, "decades"]].merge(analysis.boundaries(regimes, ["panel"]), how="left", on="panel")


def draw(table: pd.DataFrame) -> Figure:
    """Heat maps side by side under one colour scale, symmetric about no change."""
    figure, axes = grid(table["panel"].unique(), "lag $T - t$ (steps)", NAMES["spectral_radius"])
    norm = maps.scale(table["decades"], 1.0)
    for panel, (ax,) in axes.items():
        own = table[table["panel"] == panel]
        image = maps.heat(
            ax, own.pivot_table(index="spectral_radius", columns="lag", values="decades", dropna=False), norm
        )
    for panel, (ax,) in axes.items():  # when the map is whole: what is marked does not stretch it
        ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())
        found = table[table["panel"] == panel].iloc[0]
        maps.mark_boundary(ax, found, *ax.get_xlim())
        _say_boundary(ax, found)
    maps.colour_bar(figure, image, norm, "change since lag 0 (decades)")
    return figure


def _say_boundary(ax: Axes, found: pd.Series) -> None:
    if found["outcome"] == "crossing":
        radius = found["boundary"]
        text = f"boundary {analysis.Estimate(radius, found['half_width'], 2)}"
    elif found["outcome"] == "mixed" and np.isfinite(found["vanishing_to"]):
        radius = found["vanishing_to"]
        text = f"all seeds vanish up to {radius:g}"
    else:
        return
    low, high = ax.get_ylim()
    above = radius < (low + high) / 2
    ax.annotate(
        text,
        (0.97, radius),
        (0, 4 if above else -4),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="bottom" if above else "top",
        fontsize=small(),
        path_effects=[withStroke(linewidth=2, foreground="white")],
    )
