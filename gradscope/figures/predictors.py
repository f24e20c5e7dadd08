"""Predictors of vanishing and exploding.

Rates, nats a step, against the spectral radius: what gradients do (black: slope of log |dL/dh| against the lag, last
step's loss, full BPTT, longest sequences) and what would have told it. Of the networks as drawn: log spectral radius;
the bound log(gamma |W_hh|), gamma being the steepest slope of the activation; the gates' log sigmoid(bias), for small
weights. Of theory: mean field, for many units and white input. Of the Jacobians: the mean of log |J|, a bound, and the
largest Lyapunov exponent. Lines: median over seeds; bands: 10 % to 90 % of the seeds. Crosses: where a predictor says
vanish, explode or neither, by its sign, and the slope's 95 % interval over seeds says otherwise; bounds say nothing
above 0.
"""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradscope.drawing import COLOURS, NAMES, CannotDrawError, band_lines, grid, label_ends, last_column, small
from gradscope.predictors import EXPONENT, FIELD, GATES, JACOBIAN, NORM, RADIUS, SLOPE, compared, rates
from gradscope.results import Results

MEASURE = "jacobian"
LOOKS: dict[str, dict[str, Any]] = {
    SLOPE: {"color": "black", "linestyle": "-", "marker": "o", "linewidth": 2.0},
    EXPONENT: {"color": COLOURS[2], "linestyle": "-", "marker": "s"},
    FIELD: {"color": COLOURS[1], "linestyle": "--", "marker": "D"},
    RADIUS: {"color": COLOURS[0], "linestyle": "--", "marker": "^"},
    GATES: {"color": COLOURS[4], "linestyle": "-.", "marker": "P"},
    JACOBIAN: {"color": COLOURS[5], "linestyle": ":", "marker": ""},
    NORM: {"color": "0.45", "linestyle": ":", "marker": ""},
}


def table(results: Results) -> pd.DataFrame:
    """panel, predictor, spectral_radius, low, median, high over seeds; then as in `predictors.compared`."""
    found = rates(results)
    if found["spectral_radius"].nunique() < 2:
        raise CannotDrawError("needs runs with a gradient at two spectral radii, one loss step and full truncation")
    return compared(found)


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each value of what else is swept."""
    figure, axes = grid(table["panel"].unique(), NAMES["spectral_radius"], "rate (nats a step)", sharey=False)
    for panel, (ax,) in axes.items():
        own = table[table["panel"] == panel]
        own = own.assign(predictor=pd.Categorical(own["predictor"], list(LOOKS)[::-1]))  # the slope last, and on top
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.axhline(0.0, color="0.6", linewidth=0.6, zorder=0, gid="zero")
        band_lines(ax, own, "spectral_radius", LOOKS)
        for predictor, wrong in own[own["wrong"]].groupby("predictor", observed=True):
            look = {"color": LOOKS[str(predictor)]["color"], "markersize": 8, "markeredgewidth": 1.8, "zorder": 4}
            ax.plot(wrong["spectral_radius"], wrong["median"], "x", label="_wrong", gid=f"wrong {predictor}", **look)
    alike = len(set(table.groupby("panel")["predictor"].agg(frozenset))) == 1
    if alike:
        for ax in last_column(axes):
            label_ends(ax)
    else:
        lines = {line.get_label(): line for (ax,) in axes.values() for line in ax.get_lines()}
        shown = [lines[name] for name in LOOKS if name in lines]
        figure.legend(handles=shown, loc="outside upper center", ncols=4, fontsize=small())
    return figure
