"""Bias against the truncation length.

Distance of the gradient truncated at TAU steps from that of full BPTT on the same run, relative to the latter, over all
recurrent-cell parameters together, for losses at all steps of the longest sequences; strategies that throw no coins.
Lines: median over seeds, one for each spectral radius; bands: 10 % to 90 % of the seeds. Thin line: a bias of 10 %.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from gradscope import analysis
from gradscope.advice import strategy
from gradscope.drawing import CannotDrawError, band_lines, grid, hue_of, key, looks_for
from gradscope.results import Results

LINES = "spectral_radius"


def table(results: Results) -> pd.DataFrame:
    """panel (with the strategy), spectral_radius (or another hue), tau; low, median, high of log10 bias over seeds."""
    errors = analysis.truncation_errors(results).dropna(subset="relative_error")
    read = {spec: found for spec in errors["truncation"].unique() if (found := strategy(spec))}
    errors, hue = analysis.lines(errors[errors["truncation"].isin(read)], results, LINES)
    errors = errors.assign(
        panel=[", ".join(filter(None, [row.panel, f"{read[row.truncation][0]}:TAU"])) for row in errors.itertuples()],
        tau=[read[spec][1] for spec in errors["truncation"]],
    )
    counts = errors.groupby("panel")["tau"].nunique()
    errors = errors[errors["panel"].isin(counts.index[counts >= 3])]
    if errors.empty:
        raise CannotDrawError(
            'needs runs with a gradient, loss_steps = "all" and three TAU of fixed, chunked or buffered'
        )
    with np.errstate(divide="ignore"):
        errors["bias"] = np.log10(errors["relative_error"])
    if not np.isfinite(errors["bias"]).any():
        raise CannotDrawError("needs runs with a bias: every TAU reaches over the whole sequence")
    return analysis.quantiles(errors, ["panel", hue, "tau"], "bias")


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each strategy, and for each value of what else is swept."""
    hue = hue_of(table)
    looks = looks_for(hue, table[hue])
    figure, axes = grid(
        table["panel"].unique(), "TAU (steps)", r"$\log_{10}\,\|g - g_{\mathrm{full}}\|/\|g_{\mathrm{full}}\|$"
    )
    lowest = table.loc[np.isfinite(table["median"]), "median"].min()
    for panel, (ax,) in axes.items():
        band_lines(ax, table[table["panel"] == panel], "tau", looks)
        ax.axhline(-1.0, color="grey", linewidth=0.6)
        ax.set(xscale="log", ylim=(max(-6.0, lowest - 0.3), max(0.3, table["median"].max() + 0.1)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    key(figure, axes, hue, looks)
    return figure
