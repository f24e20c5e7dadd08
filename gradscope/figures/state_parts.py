"""Gradients of each part of the state.

Norm of the gradient of the last step's loss with respect to the parts of the state a number of steps (the lag) earlier,
full BPTT, longest sequences: of an LSTM what is read out, h, beside the cell state c; of a stack each layer, counted
from the bottom. Lines: median over seeds; bands: 10 % to 90 % of the seeds. Thin black, of an LSTM with one forget bias
b: what the forget gate alone leaves of c, sigmoid(b) a step (Gers, Schmidhuber & Cummins 2000); what lies above it came
through the recurrent weights. Of more than three spectral radii the least, the greatest and that nearest to 1. Panels
have scales of their own.
"""

import re

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis, gating, lags
from gradscope.drawing import CannotDrawError, band_lines, grid, label_ends, last_column, looks_for, panel_of
from gradscope.results import Results
from gradscope.theory import gate_factor


def table(results: Results) -> pd.DataFrame:
    """panel, part, lag, then low, median and high of log10 of the norm over seeds; `theory` of c, from lag 0 on."""
    reach = analysis.reach(results)
    found = lags.parts(reach[reach["spectral_radius"].isin(analysis.few(reach["spectral_radius"]))])
    layered = found.groupby("run_id")["part"].transform(lambda parts: parts.str.contains("_").any())
    found = found[found["part"].str.contains("_") | ~layered]  # not what all layers have together
    found = found[found.groupby("run_id")["part"].transform("nunique") > 1]
    if found.empty or found["lag"].max() < 1:
        raise CannotDrawError(
            'needs runs with a gradient of several parts of the state: cell = "lstm" or num_layers = 2, one loss step '
            "and full truncation"
        )
    keep = results.runs.set_index(results.runs["run_id"].astype(str))
    gates = gating.biases(keep).map(gate_factor, na_action="ignore")
    found = found.assign(factor=found["run_id"].map(gates), part=found["part"].map(_words))
    line = ["panel", "spectral_radius", "part"]
    medians = analysis.quantiles(found, [*line, "lag"], "log10")
    factors = found.groupby(line, observed=True)["factor"].agg(["min", "max"]).reset_index()
    factors["factor"] = factors["min"].where((factors["min"] == factors["max"]) & (factors["part"].str[0] == "c"))
    medians = medians.merge(factors[[*line, "factor"]], on=line)
    start = medians.groupby(line, observed=True)["median"].transform("first")
    medians["theory"] = start + np.log10(medians["factor"]) * medians["lag"]
    several = len(medians["spectral_radius"].unique()) > 1
    medians["panel"] = panel_of(medians) if several else medians["panel"]
    return medians.drop(columns=["spectral_radius", "factor"])


def _words(part: str) -> str:
    """A part of the state in words: "h", "c, layer 1"."""
    return re.sub(r"_l(\d+)", r", layer \1", part)


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each network, a line for each part."""
    looks = looks_for("part", sorted(table["part"].unique(), key=lambda part: (part[0] != "h", part)))
    label = r"$\log_{10}$ of the gradient's norm"
    figure, axes = grid(table["panel"].unique(), "lag $T - t$ (steps)", label, sharey=False)
    for panel, (ax,) in axes.items():
        own = table[table["panel"] == panel]
        band_lines(ax, own, "lag", looks)
        low, high = ax.get_ylim()
        for part, line in own.dropna(subset="theory").groupby("part"):
            ax.plot(line["lag"], line["theory"], color="black", linewidth=0.5, label="_theory", gid=f"theory {part}")
        ax.set_ylim(low, high)
    alike = len(set(table.groupby("panel")["part"].agg(frozenset))) == 1
    for ax in last_column(axes) if alike else [ax for (ax,) in axes.values()]:
        label_ends(ax)
    return figure
