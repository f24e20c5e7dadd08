"""From vanishing to chaos.

Top: the largest Lyapunov exponent, nats a step, against the spectral radius, longest sequences: below 0 gradients
vanish, above 0 they explode, and bounded states (of tanh networks) are chaotic. Bottom: the dimension of what the
states move on, if they are bounded, by Kaplan & Yorke (1979), in parts of the state's size: 0 where all exponents are
below 0. Lines: median over seeds; bands: 10 % to 90 % of the seeds. Thin black: theory, mean field (many units, white
input; Molgedey, Schuchhardt & Schuster 1992), below which finite networks lie; of linear networks the log of the
spectral radius, or, if W_hh is another Gaussian one at every step, the largest exponent of a product of such matrices
(Newman 1986).
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis, stability
from gradscope.drawing import NAMES, CannotDrawError, band_lines, grid, hue_of, key, looks_for
from gradscope.results import Results

MEASURE = "jacobian"
LINES = "input_scale"  # or whatever else is swept beside the spectral radius
ROWS = {"exponent": "largest exponent\n(nats a step)", "dimension": "dimension / state size"}


def table(results: Results) -> pd.DataFrame:
    """panel, input_scale (or another parameter), measure, spectral_radius, low, median, high over seeds; theory.

    `measure` is "exponent" or "dimension"; `theory` and the `difference` to it are of the exponent, medians over seeds.
    """
    own = stability.runs(results)
    if own["spectral_radius"].nunique() < 2:
        raise CannotDrawError("needs runs with finite states at two spectral radii")
    hue = analysis.beside(results, first=LINES) or ("cell" if len(own["cell"].unique()) > 1 else LINES)
    size = np.array([stability.cell_of(run).state_size for _, run in own.iterrows()])
    own = own.assign(theory=stability.theoretical_rates(own, results), dimension=own["kaplan_yorke"] / size)
    with np.errstate(invalid="ignore"):
        own = own.assign(exponent=own["lyapunov_max"], difference=own["lyapunov_max"] - own["theory"])
    own = analysis.told_by(own, results, hue)
    by = ["panel", hue, "spectral_radius"]
    parts = [
        analysis.quantiles(own.dropna(subset=measure), by, measure).assign(measure=measure)
        for measure in ROWS
        if own[measure].notna().any()
    ]
    law = own.groupby(by, observed=True)[["theory", "difference"]].median().reset_index().assign(measure="exponent")
    found = pd.concat(parts, ignore_index=True).merge(law, on=[*by, "measure"], how="left")
    columns = ["panel", hue, "measure", "spectral_radius"]
    return found[[*columns, *(name for name in found if name not in columns)]].sort_values(columns, ignore_index=True)


def draw(table: pd.DataFrame) -> Figure:
    """The exponent above the dimension, if any is above 0, a column for each value of what else is swept."""
    hue = hue_of(table)
    looks = looks_for(hue, table[hue])
    shown = [name for name in ROWS if name == "exponent" or (table.loc[table["measure"] == name, "high"] > 0).any()]
    figure, axes = grid(table["panel"].unique(), NAMES["spectral_radius"], *(ROWS[name] for name in shown))
    for panel, column in axes.items():
        for measure, ax in zip(shown, column, strict=True):
            own = table[(table["panel"] == panel) & (table["measure"] == measure)]
            ax.axhline(0.0, color="0.6", linewidth=0.6, zorder=0, gid="zero")
            band_lines(ax, own, "spectral_radius", looks)
            if measure == "dimension":
                top = max(ax.get_ylim()[1], 0.1)
                ax.set_ylim(-0.03 * top, top)
            for value, line in own[np.isfinite(own["theory"])].groupby(hue, observed=True):
                ax.plot(line["spectral_radius"], line["theory"], color="black", linewidth=0.5, gid=f"theory {value}")
    key(figure, axes, hue, looks)
    return figure
