"""What reaches the first step.

Norm of the gradient of the last step's loss with respect to the first state, against the length of the sequence, full
BPTT. Lines: median over seeds, one for each spectral radius; bands: 10 % to 90 % of the seeds. Panels have
scales of their own.
"""

import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis
from gradscope.drawing import NAMES, CannotDrawError, band_lines, grid, hue_of, key, looks_for
from gradscope.results import Results

LINES, ACROSS = "spectral_radius", "seq_len"


def table(results: Results) -> pd.DataFrame:
    """panel, spectral_radius (or another hue), seq_len, then low, median and high of log10 |dL/dh_1| over seeds."""
    reach = analysis.reach(results, lengths=True)
    if reach["seq_len"].nunique() < 2:
        raise CannotDrawError("needs runs with a gradient at two lengths, loss at the last step and full truncation")
    first, hue = analysis.lines(reach[reach["t"] == 1], results, LINES)
    return analysis.quantiles(first, ["panel", hue, "seq_len"], "log10_dh")


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each value of what else is swept."""
    hue, label = hue_of(table), r"$\log_{10}\,\|\partial L/\partial h_1\|$"
    looks = looks_for(hue, table[hue])
    figure, axes = grid(table["panel"].unique(), NAMES["seq_len"], label, sharey=False)
    for panel, (ax,) in axes.items():
        band_lines(ax, table[table["panel"] == panel], "seq_len", looks)
    key(figure, axes, hue, looks)
    return figure
