"""What reaches the first step.

Norm of the gradient of the last step's loss with respect to the first state, against the length of the sequence, full
BPTT. Lines: median over seeds, one for each spectral radius; bands: 10 % to 90 % of the seeds. Panels have
scales of their own.
"""

import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis
from gradscope.drawing import CannotDrawError, band_lines, grid, radius_bar
from gradscope.results import Results


def table(results: Results) -> pd.DataFrame:
    """panel, spectral_radius, seq_len, then low, median and high of log10 |dL/dh_1| over seeds."""
    reach = analysis.reach(results, longest=False)
    if reach["seq_len"].nunique() < 2:
        raise CannotDrawError("needs runs with a gradient at two lengths, loss at the last step and full truncation")
    return analysis.quantiles(reach[reach["t"] == 1], ["panel", "spectral_radius", "seq_len"], "log10_dh")


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each value of what else is swept."""
    radii = table["spectral_radius"].unique()
    figure, axes = grid(
        table["panel"].unique(),
        "sequence length $T$ (steps)",
        r"$\log_{10}\,\|\partial L/\partial h_1\|$",
        sharey=False,
    )
    for panel, (ax,) in axes.items():
        band_lines(ax, table[table["panel"] == panel], "seq_len", radii)
    radius_bar(figure, radii)
    return figure
