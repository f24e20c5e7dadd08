"""State gradients and weight gradients.

Loss at the last step, full BPTT, longest sequences. Top: norm of the state gradient at each lag, relative to lag 0.
Bottom: the part of the recurrent weights' gradient that comes from that lag on, relative to all of it. A state gradient
that neither vanishes nor explodes still adds up in the weights: what comes from far back stays a large part of their
gradient. Lines: median over seeds, one for each spectral radius; bands: 10 % to 90 % of the seeds.
"""

import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis, lags
from gradscope.drawing import CannotDrawError, band_lines, grid, hue_of, key, looks_for
from gradscope.results import Results

LINES = "spectral_radius"
MEASURES = {
    "state": r"$\log_{10}\,\|\partial L/\partial h_{T-k}\|\,/\,\|\partial L/\partial h_T\|$",
    "weight": r"$\log_{10}\,\|g - g_{\mathrm{lags} < k}\|\,/\,\|g\|$",
}


def table(results: Results) -> pd.DataFrame:
    """panel, spectral_radius (or another hue), lag, measure, then low, median and high over seeds."""
    found = lags.states_and_weights(results)
    counts = found.groupby("measure")["lag"].nunique()
    if counts.get("state", 0) < 2 or counts.get("weight", 0) < 3:
        raise CannotDrawError('needs runs with a gradient, loss_steps = "last", full truncation and three fixed:TAU')
    found, hue = analysis.lines(found, results, LINES)
    return analysis.quantiles(found, ["panel", hue, "lag", "measure"], "part")


def draw(table: pd.DataFrame) -> Figure:
    """States above weights, a column for each value of what else is swept."""
    hue = hue_of(table)
    looks = looks_for(hue, table[hue])
    figure, axes = grid(table["panel"].unique(), "lag $k$ (steps)", *MEASURES.values())
    for panel, column in axes.items():
        for measure, ax in zip(MEASURES, column, strict=True):
            band_lines(ax, table[(table["panel"] == panel) & (table["measure"] == measure)], "lag", looks)
        column[1].set_ylim(-6.0, 0.3)
    key(figure, axes, hue, looks)
    return figure
