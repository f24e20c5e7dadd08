"""Lyapunov spectra.

Growth of gradients along each further dimension, nats a step, longest sequences: exponents in descending order, against
their index in parts of the state's size. Lines: median over seeds; bands: 10 % to 90 % of the seeds. Above 0
gradients explode along so many dimensions, below they vanish; of a tanh network with exponents above 0 the states are
chaotic. Thin black: theory, of linear networks: log |eigenvalues of W_hh|, or, if W_hh is another Gaussian one at every
step, the exponents of a product of such matrices (Newman 1986). Exponents of minus infinity are in the numbers only.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis, stability
from gradscope.drawing import CannotDrawError, band_lines, grid, hue_of, key, looks_for
from gradscope.results import Results

MEASURE = "jacobian"
LINES = "spectral_radius"


def table(results: Results) -> pd.DataFrame:
    """panel, spectral_radius (or another hue), share, then low, median, high over seeds; theory, and difference to it.

    `difference` is the median over seeds of measured minus theory.
    """
    found = stability.spectrum(results)
    if found["share"].nunique() < 2:
        raise CannotDrawError("needs runs with finite states and two exponents or more")
    if not np.isfinite(found["exponent"]).any():
        raise CannotDrawError("needs runs with an exponent that is finite: here all dimensions are lost")
    found, hue = analysis.lines(found, results, LINES)
    by = ["panel", hue, "share"]
    with np.errstate(invalid="ignore"):
        found = found.assign(difference=found["exponent"] - found["theory"])
    law = found.groupby(by, observed=True)[["theory", "difference"]].median().reset_index()
    return analysis.quantiles(found, by, "exponent").merge(law, on=by)


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each value of what else is swept."""
    hue = hue_of(table)
    looks = looks_for(hue, table[hue])
    table = table[np.isfinite(table["median"]).groupby(table["panel"]).transform("any")]
    figure, axes = grid(table["panel"].unique(), "index / state size", "exponent (nats a step)", sharey=False)
    marked = analysis.few(looks) if hue == "spectral_radius" else looks
    for panel, (ax,) in axes.items():
        own = table[table["panel"] == panel]
        ax.axhline(0.0, color="0.6", linewidth=0.6, zorder=0, gid="zero")
        band_lines(ax, own, "share", looks)
        for value, line in own[own[hue].isin(marked) & np.isfinite(own["theory"])].groupby(hue, observed=True):
            ax.plot(line["share"], line["theory"], color="black", linewidth=0.5, gid=f"theory {value}")
    key(figure, axes, hue, looks)
    return figure
