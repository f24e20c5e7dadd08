"""Where gradients vanish and where they explode.

Change of the gradient's norm from lag 0 to each lag: last step's loss, full BPTT, longest sequences, median over seeds.
Blue: vanished; red: exploded; the scale is linear up to one decade and logarithmic beyond; grey: exactly zero. Line:
the spectral radius at which the decay rate changes sign, hatched its 95 % interval over seeds; dashed, where there is
no such radius: up to there gradients vanish in every seed. Blank: no gradient, since the forward states overflowed.
"""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from gradscope import analysis
from gradscope.drawing import CannotDrawError, grid
from gradscope.results import Results


def table(results: Results) -> pd.DataFrame:
    """panel, spectral_radius, lag, `decades` (median change since lag 0), boundary and its half-width."""
    reach = analysis.reach(results)
    if reach.empty or reach["spectral_radius"].nunique() < 3:
        raise CannotDrawError("needs runs with a gradient at three spectral radii, one loss step and full truncation")
    run = ["panel", "spectral_radius", "seed"]
    start = reach.loc[reach["lag"] == 0, [*run, "log10_dh"]].rename(columns={"log10_dh": "start"})
    reach = reach.merge(start, on=run)
    reach["decades"] = np.where(np.isneginf(reach["log10_dh"]), -np.inf, reach["log10_dh"] - reach["start"])
    medians = analysis.quantiles(reach, ["panel", "spectral_radius", "lag"], "decades")
    regimes = analysis.regimes(results)
    overflowed = regimes.loc[regimes["state"] == "overflow", ["panel", "spectral_radius"]].drop_duplicates()
    medians = medians.merge(overflowed.assign(lag=0), how="outer", on=["panel", "spectral_radius", "lag"])
    found = {panel: analysis.boundary(regimes[regimes["panel"] == panel]) for panel in medians["panel"].unique()}
    return medians[["panel", "spectral_radius", "lag"]].assign(
        decades=medians["median"],
        outcome=[found[panel].outcome for panel in medians["panel"]],
        boundary=[found[panel].radius.value for panel in medians["panel"]],
        half_width=[found[panel].radius.half_width for panel in medians["panel"]],
        vanishing_to=[found[panel].vanishing_to for panel in medians["panel"]],
    )


def draw(table: pd.DataFrame) -> Figure:
    """Heat maps side by side under one colour scale, symmetric about no change."""
    figure, axes = grid(table["panel"].unique(), "lag $T - t$ (steps)", "spectral radius of $W_{hh}$")
    limit = max(1.0, table["decades"][np.isfinite(table["decades"])].abs().max())
    colours = mpl.colormaps["RdBu_r"].with_extremes(under="0.6", bad="white")
    for panel, (ax,) in axes.items():
        part = table[table["panel"] == panel]
        values = part.pivot_table(index="spectral_radius", columns="lag", values="decades", dropna=False)
        image = ax.pcolormesh(
            values.columns,
            values.index,
            np.ma.masked_invalid(values.replace(-np.inf, -10 * limit)),  # exactly zero: below the scale
            cmap=colours,
            norm=SymLogNorm(1.0, vmin=-limit, vmax=limit),
            shading="nearest",
            rasterized=True,
        )
    for panel, (ax,) in axes.items():  # when the map is whole: what is marked does not stretch it
        part = table[table["panel"] == panel]
        ax.set_ylim(ax.get_ylim())
        _mark_boundary(ax, *part[["outcome", "boundary", "half_width", "vanishing_to"]].iloc[0])
    ticks = [tick for tick in (1, 3, 10, 30, 100, 300, 1000, 3000, 10000) if tick <= limit]
    bar = figure.colorbar(
        image,
        ax=figure.axes,
        label="change since lag 0 (decades)",
        aspect=30,
        ticks=[-tick for tick in reversed(ticks)] + [0] + ticks,
        format="%g",
    )
    bar.ax.minorticks_off()
    return figure


def _mark_boundary(ax: Axes, outcome: str, boundary: float, half_width: float, vanishing_to: float) -> None:
    low, high = ax.get_ylim()
    if outcome == "crossing":
        radius, text, dash = boundary, f"boundary {analysis.Estimate(boundary, half_width, 2)}", "-"
        if half_width > 0:
            ends = np.clip([boundary - half_width, boundary + half_width], low, high)
            ax.axhspan(*ends, facecolor="none", edgecolor="black", hatch="/////", alpha=0.4, linewidth=0)
    elif outcome == "mixed" and np.isfinite(vanishing_to):
        radius, text, dash = vanishing_to, f"all seeds vanish up to {vanishing_to:g}", "--"
    else:
        return
    ax.axhline(radius, color="black", linewidth=0.8, linestyle=dash, gid="boundary")
    above = radius < (low + high) / 2
    ax.annotate(
        text,
        (0.97, radius),
        (0, 4 if above else -4),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="bottom" if above else "top",
        fontsize=7,
        path_effects=[withStroke(linewidth=2, foreground="white")],
    )
