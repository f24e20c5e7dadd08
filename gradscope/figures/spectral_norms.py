"""Spectral radius and spectral norm.

Of the recurrent matrices, against the spectral radius asked for: the radius as realised, to which each draw is
rescaled, and the norm ‖W_hh‖, which bounds what one step does to a gradient. Lines: median over seeds; bands: 10 % to
90 % of the seeds. Dotted: 2g, the norm that large matrices of independent entries have at radius g (Yin, Bai &
Krishnaiah 1988). Horizontal: 1/gamma, gamma being the steepest slope of the activation (1/4 of sigmoid, 1 of the
others): with a norm below it, gradients vanish for sure (Pascanu, Mikolov & Bengio 2013).
"""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis
from gradscope.drawing import COLOURS, NAMES, CannotDrawError, band_lines, grid, label_ends, last_column
from gradscope.results import Results

DRAWN = {"spectral_radius_realised": "realised radius", "spectral_norm": r"norm $\|W_{hh}\|_2$"}
LARGE, BOUND = r"$2g$", r"$1/\gamma$ = "
INDEPENDENT = ("gaussian", "uniform")  # ensembles of independent entries
STEEPEST = {"tanh": 1.0, "relu": 1.0, "linear": 1.0, "sigmoid": 0.25}
MATRIX = ("cell", "ensemble", "hidden_size")  # with the radius and the seed, all that a matrix depends on


def table(results: Results) -> pd.DataFrame:
    """panel, measure, spectral_radius, then low, median and high over seeds; theory has no low and high."""
    runs = analysis.networks(results).dropna(subset=list(DRAWN))
    if runs["spectral_radius"].nunique() < 2:
        raise CannotDrawError("needs runs with matrices of two spectral radii")
    runs = runs.assign(panel=analysis.panels(results, among=MATRIX))
    draws = runs.drop_duplicates(["panel", "spectral_radius", "seed"])
    by = ["panel", "spectral_radius"]
    parts = [analysis.quantiles(draws, by, name).assign(measure=measure) for name, measure in DRAWN.items()]
    large = draws[draws["ensemble"].isin(INDEPENDENT)].drop_duplicates(by)
    parts.append(large[by].assign(measure=LARGE, median=2.0 * large["spectral_radius"]))
    slopes = analysis.activations(runs).map(STEEPEST)
    for steepest in slopes.dropna().unique():
        of_these = runs[slopes == steepest].drop_duplicates(by)
        parts.append(of_these[by].assign(measure=f"{BOUND}{1 / steepest:g}", median=1 / steepest))
    columns = ["panel", "measure", "spectral_radius", "low", "median", "high", "seeds"]
    return pd.concat(parts, ignore_index=True)[columns].sort_values(columns[:3], ignore_index=True)


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each kind of matrix."""
    figure, axes = grid(table["panel"].unique(), NAMES["spectral_radius"], "radius, norm")
    looks = {measure: _look(measure) for measure in table["measure"].unique()}
    for panel, (ax,) in axes.items():
        band_lines(ax, table[table["panel"] == panel], "spectral_radius", looks)
        ax.axline((1.0, 1.0), slope=1.0, color="grey", linewidth=0.5, zorder=0)
    alike = len(set(table.groupby("panel")["measure"].agg(frozenset))) == 1
    for ax in last_column(axes) if alike else [ax for (ax,) in axes.values()]:
        label_ends(ax)
    return figure


def _look(measure: str) -> dict[str, Any]:
    """Drawn matrices in colour, theory in black."""
    drawn = {"realised radius": (COLOURS[1], "--", "o"), DRAWN["spectral_norm"]: (COLOURS[0], "-", "s")}
    colour, dash, marker = drawn.get(measure, ("black", ":" if measure == LARGE else "-", ""))
    return {"color": colour, "linestyle": dash, "marker": marker} | ({} if marker else {"linewidth": 0.7})
