"""How far back a loss reaches.

Norm of the gradient of the last step's loss with respect to the state a number of steps (the lag) earlier, full BPTT,
longest sequences; in a sweep without last-step losses, of the greatest single loss step. Lines: median over seeds, one
for each spectral radius; bands: 10 % to 90 % of the seeds. A straight line is exponential vanishing (down) or exploding
(up). Thin black, for the least, the greatest and the spectral radius nearest to 1: the slope that theory gives after
the transient, of linear networks their spectral radius a step, of others that of mean field (many units, white input).
Panels have scales of their own.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis
from gradscope.drawing import CannotDrawError, band_lines, grid, hue_of, key, looks_for
from gradscope.results import Results

LINES = "spectral_radius"


def table(results: Results) -> pd.DataFrame:
    """panel, spectral_radius (or another hue), lag, then low, median and high of log10 |dL/dh_t| over seeds.

    `theory` goes through the median at the end of the transient; missing before, and where there is no theory.
    """
    reach = analysis.reach(results)
    if reach["lag"].max() < 1 or reach.empty:
        raise CannotDrawError("needs runs with a gradient over two steps or more, one loss step and full truncation")
    reach, hue = analysis.lines(reach, results, LINES)
    line = ["panel", hue]
    medians = analysis.quantiles(reach, [*line, "lag"], "log10_dh")
    rates = reach["run_id"].map(analysis.theoretical_rates(results).set_axis(results.runs["run_id"].astype(str)))
    known = rates.groupby([reach[name] for name in line], observed=True).agg(["min", "max"]).reset_index()
    medians = medians.merge(known.assign(rate=known["min"].where(known["min"] == known["max"])), on=line)
    transient = medians["lag"] < np.minimum(10, medians.groupby(line, observed=True)["lag"].transform("max") // 4)
    settled = medians[~transient].groupby(line, observed=True)[["lag", "median"]].transform("first")
    medians["theory"] = settled["median"] + medians["rate"] / np.log(10.0) * (medians["lag"] - settled["lag"])
    if "truncation" in results.view.parameters:  # theory is of full BPTT
        medians["theory"] = np.nan
    return medians.drop(columns=["min", "max", "rate"])


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each value of what else is swept."""
    hue = hue_of(table)
    looks = looks_for(hue, table[hue])
    figure, axes = grid(
        table["panel"].unique(), "lag $T - t$ (steps)", r"$\log_{10}\,\|\partial L/\partial h_t\|$", sharey=False
    )
    for panel, (ax,) in axes.items():
        own = table[table["panel"] == panel]
        band_lines(ax, own, "lag", looks)
        marked = analysis.few(looks) if hue == "spectral_radius" else looks
        for value, line in own[own[hue].isin(marked) & np.isfinite(own["theory"])].groupby(hue, observed=True):
            ax.plot(line["lag"], line["theory"], color="black", linewidth=0.5, gid=f"theory {value}")
    key(figure, axes, hue, looks)
    return figure
