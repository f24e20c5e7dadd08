"""States stay bounded, weights do not.

Gradients of the last step's loss in diagonal networks whose units all forget alike, |lambda| being the spectral radius,
against 1 - |lambda|, in units of the last state's: the greatest of all state gradients; that of |lambda|, over all
units; and that of nu_log = log(-log |lambda|), which is learnt in its place. As |lambda| goes to 1, that of |lambda|
grows without bound, though no state gradient ever grows (the curse of memory); the parametrisation takes that back.
Lines: median over seeds; bands: 10 % to 90 % of the seeds. Thin black: the root mean square that white input gives,
exact for the sequence's length.
"""

import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis, lags
from gradscope.drawing import CannotDrawError, band_lines, grid, label_ends, last_column, looks_for
from gradscope.results import Results

WORDS = {"state": "largest of states", "modulus": r"of $|\lambda|$", "nu_log": r"of $\nu_{\log}$"}


def table(results: Results) -> pd.DataFrame:
    """panel, measure, spectral_radius, `distance` (1 - radius), low, median and high of the ratio over seeds, `law`."""
    found = lags.sensitivities(results)
    if found["spectral_radius"].nunique() < 3:
        raise CannotDrawError(
            'needs runs with cell = "diagonal", ring = 1, batch_size = 1, loss_steps = "last" at three spectral radii'
        )
    point = ["panel", "measure", "spectral_radius"]
    medians = analysis.quantiles(found, point, "ratio")
    medians.insert(3, "distance", 1.0 - medians["spectral_radius"])
    law = found.groupby(point, observed=True)["law"].agg(["min", "max"])
    law = law["min"].where(law["min"] == law["max"]).rename("law").reset_index()
    return medians.merge(law, on=point)


def draw(table: pd.DataFrame) -> Figure:
    """Radii approach 1 to the right."""
    looks = looks_for("measure", WORDS.values())
    figure, axes = grid(
        table["panel"].unique(), r"$1 - |\lambda|$", r"norm of the gradient / $\|\partial L/\partial h_T\|$"
    )
    for panel, (ax,) in axes.items():
        own = table[table["panel"] == panel].sort_values("distance", ascending=False)
        band_lines(ax, own.assign(measure=own["measure"].map(WORDS)), "distance", looks)
        for measure, line in own.dropna(subset="law").groupby("measure"):
            ax.plot(line["distance"], line["law"], color="black", linewidth=0.5, label="_law", gid=f"law {measure}")
        ax.set(xscale="log", yscale="log")
        ax.set_xlim(own["distance"].max() * 1.1, own["distance"].min() / 1.1)
    for ax in last_column(axes):
        label_ends(ax)
    return figure
