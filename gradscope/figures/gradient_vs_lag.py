"""How far back a loss reaches.

Norm of the gradient of the last step's loss with respect to the state a number of steps (the lag) earlier, full BPTT,
longest sequences; in a sweep without last-step losses, of the greatest single loss step. Lines: median over seeds, one
for each spectral radius; bands: 10 % to 90 % of the seeds. A straight line is exponential vanishing (down) or exploding
(up). Panels have scales of their own.
"""

import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis
from gradscope.drawing import CannotDrawError, band_lines, grid, radius_bar
from gradscope.results import Results


def table(results: Results) -> pd.DataFrame:
    """panel, spectral_radius, lag, then low, median and high of log10 |dL/dh_t| over seeds."""
    reach = analysis.reach(results)
    if reach["lag"].max() < 1 or reach.empty:
        raise CannotDrawError("needs runs with a gradient over two steps or more, one loss step and full truncation")
    return analysis.quantiles(reach, ["panel", "spectral_radius", "lag"], "log10_dh")


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each value of what else is swept."""
    radii = table["spectral_radius"].unique()
    figure, axes = grid(
        table["panel"].unique(), "lag $T - t$ (steps)", r"$\log_{10}\,\|\partial L/\partial h_t\|$", sharey=False
    )
    for panel, (ax,) in axes.items():
        band_lines(ax, table[table["panel"] == panel], "lag", radii)
    radius_bar(figure, radii)
    return figure
