"""What gates remember.

Steps back until a half of the gradient of the last step's loss is left, along the part of the state that gates keep (of
an LSTM the cell state c, of a GRU h): full BPTT, longest sequences, against the bias of the gate that keeps, or, where
biases are drawn by chrono initialisation, against the longest memory T_max. Points: median over seeds; bars: 10 % to
90 % of them. Black: what gates alone leave, sigmoid(bias) a step; of chrono initialisation with the median memory, of
1 + T_max / 2 steps. Weights that are not small against 1 - sigmoid(bias) lead away from it. Triangles at the top: more
than a half is left at the greatest lag.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from gradscope import analysis, gating, lags
from gradscope.dots import BEYOND
from gradscope.drawing import COLOURS, MARKERS, NAMES, CannotDrawError, grid, label_ends, last_column, word
from gradscope.results import Results
from gradscope.theory import half_life

LEAST = 4  # biases or longest memories, for a curve
OTHERS = [marker for marker in MARKERS if marker != "^"]  # which means beyond the sequence
WORDS = {"bias": "bias of the gate that keeps", "chrono": r"longest memory $T_{\max}$ (steps)"}


def table(results: Results) -> pd.DataFrame:
    """panel, spectral_radius, axis ("bias" or "chrono"), x, seq_len, then low, median and high over seeds; `law`."""
    own = results.runs.astype({"run_id": str, "cell": str})
    gates = [*gating.BIASES.values(), gating.CHRONO]
    own = own.assign(panel=analysis.panels(results, axes=(*analysis.AXES, *gates)), bias=gating.biases(own))
    own = own.assign(memory=gating.memories(own), part=own["cell"].map(gating.KEPT))
    if gating.CHRONO in own:
        own[gating.CHRONO] = own[gating.CHRONO].where(own[gating.CHRONO] > 0)
    axis = next((name for name in WORDS if name in own and own[name].nunique() >= LEAST), "bias")
    about = own[["run_id", "part", "panel", "memory"]].assign(axis=axis, x=own[axis]).dropna(subset="x")
    found = lags.reaches(results).query("measure == 'half_life'").drop(columns="panel")
    found = found.merge(about, on=["run_id", "part"])
    if found["x"].nunique() < LEAST:
        raise CannotDrawError(f"needs runs with {LEAST} biases of gates or {LEAST} values of chrono, one loss step")
    point = ["panel", "spectral_radius", "axis", "x", "seq_len"]
    memory = found.groupby(point, observed=True)["memory"].first()
    law = memory.map(lambda steps: half_life(np.log1p(-1.0 / steps)), na_action="ignore").rename("law")
    return analysis.quantiles(found, point, "steps").drop(columns="seeds").merge(law.reset_index(), on=point)


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each network, points for each spectral radius."""
    axis, radii = table["axis"].iloc[0], table["spectral_radius"].unique()
    figure, axes = grid(table["panel"].unique(), WORDS[axis], "half-life (steps)")
    for panel, (ax,) in axes.items():
        own = table[table["panel"] == panel]
        law = own.drop_duplicates("x")
        ax.plot(law["x"], law["law"], color="black", linewidth=0.8, label="gates alone", gid="law", zorder=0)
        for i, radius in enumerate(radii):
            _points(ax, own[own["spectral_radius"] == radius], i, word(radius))
        ax.set(yscale="log", xscale="log" if axis == "chrono" else "linear")
        for side in (ax.yaxis, *[ax.xaxis] * (axis == "chrono")):
            side.set_major_formatter(StrMethodFormatter("{x:g}"))
    for ax in last_column(axes):
        label_ends(ax, NAMES["spectral_radius"].partition(" of ")[0])
    return figure


def _points(ax: Axes, own: pd.DataFrame, i: int, label: str) -> None:
    """The half-lives of one spectral radius, the i-th: those of later ones are smaller, to be seen where all agree."""
    look: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "markersize": 6.5 / (1 + 0.5 * i), "linestyle": ""}
    inside, beyond = own[np.isfinite(own["median"])], own[np.isposinf(own["median"])]
    high = inside["high"].where(np.isfinite(inside["high"]), BEYOND * inside["seq_len"])
    ax.vlines(inside["x"], inside["low"], high, color=look["color"], linewidth=0.8)
    ax.plot(beyond["x"], BEYOND * beyond["seq_len"], "^", fillstyle="full", gid=f"{label} beyond", **look)
    ax.plot(inside["x"], inside["median"], OTHERS[i % len(OTHERS)], fillstyle="none", label=label, gid=label, **look)
