"""Which states each loss gives credit to.

Change of the gradient's norm since lag 0, for the loss at each of the steps that were swept, full BPTT, longest
sequences: median over seeds. Blue: vanished; red, marked +: exploded; the scale is linear up to one decade and
logarithmic beyond; grey, marked 0: exactly zero; light grey: before the sequence begins. Where rows are alike, how far
a loss reaches does not depend on where in the sequence it is. Of more than three spectral radii the least, the greatest
and that nearest to 1.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradscope import analysis, lags, maps
from gradscope.drawing import CannotDrawError, grid, panel_of, small
from gradscope.results import Results

BEFORE = "0.92"  # colour of lags before the sequence begins


def table(results: Results) -> pd.DataFrame:
    """panel (with the spectral radius, if several are swept), loss_step, lag and `decades` (median since lag 0)."""
    found = lags.credit(results)
    if found["loss_step"].nunique() < 3:
        raise CannotDrawError("needs runs with a gradient at three single loss steps, as loss_steps = [10, 20, 30]")
    found = found[found["spectral_radius"].isin(analysis.few(found["spectral_radius"]))]
    cell = ["panel", "spectral_radius", "loss_step", "lag"]
    medians = analysis.quantiles(found, cell, "decades").rename(columns={"median": "decades"})
    several = len(medians["spectral_radius"].unique()) > 1
    return medians.assign(panel=panel_of(medians) if several else medians["panel"])[["panel", *cell[2:], "decades"]]


def draw(table: pd.DataFrame) -> Figure:
    """Heat maps side by side under one colour scale, symmetric about no change."""
    figure, axes = grid(table["panel"].unique(), "lag $k$ (steps)", "loss at step $s$")
    norm = maps.scale(table["decades"], 1.0)
    for panel, (ax,) in axes.items():
        own = table[table["panel"] == panel]
        wide = own.pivot_table(index="loss_step", columns="lag", values="decades", dropna=False)
        image = maps.heat(ax, wide, norm, BEFORE)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.text(0.97, 0.05, "before the sequence", transform=ax.transAxes, ha="right", fontsize=small(), color="0.3")
    maps.colour_bar(figure, image, norm, r"$\log_{10}\,\|\partial L_s/\partial h_{s-k}\|$ since lag 0 (decades)")
    return figure
