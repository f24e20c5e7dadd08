"""What the steps back make of a gradient.

Singular values of the product of Jacobians ds_T/ds_{T-k}, the state's s, against the lag k, on the first example, and
the norm of the gradient of the last step's loss, full BPTT, relative to lag 0, mean over examples; longest sequences,
median over seeds. Whatever the loss, its gradient changes by no more than the largest singular value and, where the
state is h alone, by no less than the smallest. The distance between these is the condition number, in decades: how much
more of one direction is left than of another. Vectors in most directions follow the median. Where the smallest ends, it
is exactly zero from there on. Of more than three spectral radii the least, the greatest and that nearest to 1, or, if
much else is swept, that one alone. Panels have scales of their own.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis, stability
from gradscope.drawing import COLOURS, CannotDrawError, band_lines, grid, label_ends, last_column, panel_of
from gradscope.results import Results
from gradscope.stability import GRADIENT, SINGULAR

MEASURE = "jacobian"
MOST = 12  # panels
LEAST = 0.5  # decades on both sides of 0: less is not told from rounding
LOOKS: dict[str, dict[str, Any]] = {
    SINGULAR["max"]: {"color": COLOURS[1], "linestyle": "-", "marker": "^"},
    SINGULAR["median"]: {"color": COLOURS[2], "linestyle": "--", "marker": "o"},
    SINGULAR["min"]: {"color": COLOURS[0], "linestyle": "-", "marker": "v"},
    GRADIENT: {"color": "black", "linestyle": "-", "linewidth": 1.6, "zorder": 3},
}


def table(results: Results) -> pd.DataFrame:
    """panel (with the spectral radius), what, lag, then low, median and high of log10 over seeds."""
    found = stability.singular_values(results)
    if found["lag"].nunique() < 3:
        raise CannotDrawError("needs runs with finite states and singular values at two lags or more")
    found = found[found["spectral_radius"].isin(_shown(found))]
    if "spectral_radius" not in results.view.parameters and len(results.runs["spectral_radius"].unique()) > 1:
        found = found.assign(panel=panel_of(found))
    return analysis.quantiles(found, ["panel", "what", "lag"], "log10")


def _shown(found: pd.DataFrame) -> list[float]:
    """The spectral radii that have panels: three, or, where there would be too many panels, that nearest to 1."""
    radii = analysis.few(found["spectral_radius"])
    return (
        radii if found["panel"].nunique() * len(radii) <= MOST else [min(radii, key=lambda radius: abs(radius - 1.0))]
    )


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each network."""
    figure, axes = grid(table["panel"].unique(), "lag $k$ (steps)", "change (decades)", sharey=False)
    for panel, (ax,) in axes.items():
        own = table[table["panel"] == panel]
        own = own.assign(what=pd.Categorical(own["what"], list(LOOKS)))
        ax.axhline(0.0, color="0.6", linewidth=0.6, zorder=0, gid="zero")
        band_lines(ax, own[np.isfinite(own["median"])], "lag", LOOKS)
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, -LEAST), max(high, LEAST))
    for ax in last_column(axes):
        label_ends(ax)
    return figure
