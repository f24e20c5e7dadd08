"""Saturation.

Mean slope f' of the activation, over units, examples and steps of the longest sequences, against the spectral radius:
1 where units are in their linear range (of sigmoid, 1/4), 0 where they are saturated or, of relu, silent. Each step
back multiplies the gradient by the slopes. Lines: median over seeds; bands: 10 % to 90 % of the seeds.
"""

import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis
from gradscope.drawing import NAMES, CannotDrawError, band_lines, grid, hue_of, key, looks_for
from gradscope.results import Results

LINES = "activation"  # or whatever else is swept beside the spectral radius


def table(results: Results) -> pd.DataFrame:
    """panel, activation (or another parameter), spectral_radius, then low, median and high of f' over seeds."""
    runs = analysis.longest(analysis.networks(results), results)
    if "mean_slope" not in runs:
        raise CannotDrawError("needs runs measured with this version, which adds mean_slope")
    runs = runs.dropna(subset=["mean_slope"])
    if runs["spectral_radius"].nunique() < 2:
        raise CannotDrawError("needs runs with finite states at two spectral radii")
    alike = LINES in runs and runs[LINES].notna().all()
    hue = analysis.beside(results, first=LINES) or (LINES if alike else "cell")
    by = ["panel", hue, "spectral_radius"]
    each = analysis.told_by(runs, results, hue).drop_duplicates([*by, "seed", "seq_len"])  # whatever the truncation
    return analysis.quantiles(each, by, "mean_slope")


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each value of what else is swept; all of the range that slopes have."""
    hue = hue_of(table)
    looks = looks_for(hue, table[hue])
    figure, axes = grid(table["panel"].unique(), NAMES["spectral_radius"], "mean slope $f'$")
    for panel, (ax,) in axes.items():
        band_lines(ax, table[table["panel"] == panel], "spectral_radius", looks)
        ax.set_ylim(-0.02, 1.02)
    key(figure, axes, hue, looks)
    return figure
