"""The sign of a truncated gradient, and where descent along it leads.

Influence balancing (Tallec & Ollivier 2017): one parameter, descent by each truncation strategy. First: what chunks of
K steps multiply the derivative of their loss by, against K, for a loss at the last step of each chunk and for a loss at
every step; above zero (grey) the gradient has the wrong sign. Dots: the chunks that were run; diamonds: the shortest
from which on the sign is right. Others: the loss that the last of so many updates saw, median and 10 % to 90 % of the
seeds. Strategies that update at each step have one loss an update, so that both conventions are the same for them.
"""

from collections.abc import Iterable
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradscope import analysis, influence
from gradscope.drawing import COLOURS, DASHES, CannotDrawError, canvas, label_ends, small
from gradscope.influence import CONVENTIONS
from gradscope.results import Results

SUMS = "sum of influences"
LONGEST = 200  # chunks in the panel of sums


def table(results: Results) -> pd.DataFrame:
    """panel, loss_steps, truncation ("chunked" for the curves of sums), x (K, or updates), then low, median and high.

    Of sums the value itself, of losses log10 over seeds.
    """
    runs = analysis.descents(results)
    if runs.empty:
        raise CannotDrawError('needs runs with task = "influence-balancing"')
    curves = analysis.quantiles(runs, ["panel", "loss_steps", "truncation", "iterations"], "log10_loss")
    curves = curves.sort_values(["panel", "loss_steps"], ascending=[True, False], kind="stable")  # "last", "all"
    words = curves["loss_steps"].map(CONVENTIONS)
    curves["panel"] = words + np.where(curves["panel"] == "", "", ", ") + curves["panel"]
    columns = ["panel", "loss_steps", "truncation", "x", "low", "median", "high"]
    return pd.concat([_sums(runs), curves.rename(columns={"iterations": "x"})[columns]], ignore_index=True)


def draw(table: pd.DataFrame) -> Figure:
    """The sums, and a panel of losses for each convention and value of what else is swept."""
    losses = table[table["panel"] != SUMS]
    panels, looks = losses["panel"].unique(), _looks(losses["truncation"].unique())
    wide = min(2, 1 + len(panels))
    bands = -(-(1 + len(panels)) // wide)
    figure = canvas(wide, bands)
    first, *others = figure.subplots(bands, wide, squeeze=False).flat
    _draw_sums(first, table[table["panel"] == SUMS])
    limits = losses["low"].min() - 1.0, losses["high"].max() + 1.0
    for ax, panel in zip(others, panels, strict=False):
        ax.set(title=panel, ylim=limits)
        _draw_losses(ax, losses[losses["panel"] == panel], looks)
    for ax in others[len(panels) :]:
        ax.set_axis_off()
    return figure


def _sums(runs: pd.DataFrame) -> pd.DataFrame:
    """The curves of sums, and the points on them that are the chunks among the runs."""
    longest = np.arange(1, LONGEST + 1)
    curves = [
        pd.DataFrame(
            {"loss_steps": steps, "truncation": "chunked", "x": longest, "median": influence.sums(steps, LONGEST)}
        )
        for steps in CONVENTIONS
    ]
    points = runs[runs["truncation"].str.startswith("chunked:")].drop_duplicates(["loss_steps", "truncation"])
    points = points.assign(x=points["truncation"].str.removeprefix("chunked:").astype(int), median=points["influence"])
    both = pd.concat([*curves, points[["loss_steps", "truncation", "x", "median"]]])
    return both.assign(panel=SUMS, low=both["median"], high=both["median"])


def _draw_sums(ax: Axes, table: pd.DataFrame) -> None:
    colours = dict(zip(CONVENTIONS, COLOURS, strict=False))
    top = table["median"].max() + 3.0
    ax.axhspan(0.0, top, color="0.93", linewidth=0)
    ax.text(LONGEST, top - 0.6, "wrong sign", ha="right", va="top", fontsize=small(), color="0.4")
    for steps, dash in zip(CONVENTIONS, DASHES, strict=False):
        own = table[table["loss_steps"] == steps]
        curve, points = own[own["truncation"] == "chunked"], own[own["truncation"] != "chunked"]
        ax.plot(curve["x"], curve["median"], color=colours[steps], linestyle=dash, gid=f"sum {steps}")
        ax.plot(points["x"], points["median"], "o", color=colours[steps], markersize=3, gid=f"chunks {steps}")
        threshold = influence.sign_threshold(steps)
        ax.plot(threshold, 0.0, "D", color=colours[steps], fillstyle="none", markersize=4, gid=f"threshold {steps}")
        ax.annotate(
            f"{'at the last step' if steps == 'last' else 'at every step'}:\nright sign from {threshold} on",
            (0.32, 0.75 if steps == "last" else 0.6),
            xycoords="axes fraction",
            fontsize=small(),
            color=colours[steps],
        )
    ax.set(title=SUMS, xlabel="steps $K$ of a chunk", xlim=(0, LONGEST * 1.02), ylim=(-8.0, top))
    ax.set_ylabel("$C_K$, or mean of $C_1$ to $C_K$")


def _draw_losses(ax: Axes, table: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    for spec, look in looks.items():
        line = table[table["truncation"] == spec]
        ax.fill_between(line["x"], line["low"], line["high"], color=look["color"], alpha=0.12, linewidth=0)
        ax.plot(line["x"], line["median"], label=spec, gid=spec, **look)
    ax.set(xlabel="updates", ylabel=r"$\log_{10}$ loss", xlim=(0, table["x"].max()))
    label_ends(ax)


def _looks(specs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """A colour for each family of strategies, black for `full`, and a dash for each member."""
    families: dict[str, list[str]] = {}
    for spec in sorted(specs, key=lambda spec: (spec.split(":")[0], len(spec), spec)):
        families.setdefault(spec.partition(":")[0], []).append(spec)
    others = [name for name in families if name != "full"]
    colours = dict(zip(others, cycle(COLOURS), strict=False)) | {"full": (0.0, 0.0, 0.0)}
    return {
        spec: {"color": colours[name], "linestyle": DASHES[i % len(DASHES)]}
        for name, members in families.items()
        for i, spec in enumerate(members)
    }
