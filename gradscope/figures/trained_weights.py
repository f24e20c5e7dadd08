"""Recurrent weights and saturation while a network learns.

Against the training step: spectral radius and norm of W_hh (of an lstm or gru those of the candidate's block, of a
diagonal network those of its lambda, of a stack those of the bottom layer); of cells with one activation, its mean
slope f' over units, examples and steps of a minibatch, and the share of units whose slope is below a tenth of the
greatest that the activation has, and so hardly pass a gradient on. Lines: median over seeds; bands: 10 % to 90 % of the
seeds.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradscope import courses, outcomes
from gradscope.courses import Curve
from gradscope.drawing import CannotDrawError
from gradscope.loading import Loaded

MEASURE = "training"
LINES = "truncation"  # or another parameter that is swept
ROWS = {
    "radius and norm of $W_{hh}$": {
        "spectral_radius": Curve("spectral radius", "spectral radius"),
        "spectral_norm": Curve("spectral norm", "spectral norm"),
    },
    "slope and share of units": {
        "mean_slope": Curve("mean slope $f'$", "mean slope $f'$"),
        "saturated_share": Curve("saturated", "share of units saturated"),
    },
}


def table(results: Loaded) -> pd.DataFrame:
    """panel, truncation (or another parameter), measure, step, then low, median and high over seeds."""
    found = outcomes.curves(results, [measure for row in ROWS.values() for measure in row])
    if not np.isfinite(found["median"]).any():
        raise CannotDrawError("needs runs with weights that are finite numbers")
    return found.drop(columns="seeds")


def draw(table: pd.DataFrame) -> Figure:
    """The weights above the units."""
    figure, placed = courses.draw(table, ROWS)
    for (_, measure), ax in placed.items():
        if measure.startswith("spectral"):
            courses.logarithmic(ax, courses.numbers(table).loc[table["measure"] == measure, "median"])
        if measure == "spectral_radius":
            ax.axhline(1.0, color="0.7", linewidth=0.6, zorder=0)
        elif measure == "saturated_share":
            ax.set_ylim(-0.03, 1.03)
    courses.key(figure, placed, table)
    return figure
