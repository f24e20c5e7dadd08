"""What figures of trainings share: curves against the step, a row for each kind; levels and ends that are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradscope import drawing
from gradscope.drawing import band_lines, grid, hue_of, label_ends, looks_for

STEP = "training step"
MARGIN = 0.03  # of an axis, on both sides
LARGEST = 1e100  # number that is drawn: axes that reach to the end of the floats overflow
FEW = 4  # points of a line that are hardly a line
SPAN = 10.0  # a positive quantity that spans more has a logarithmic axis
NEAR = 10.0  # times beyond an axis: a level within is worth a longer axis


class Curve(NamedTuple):
    """How a measure is called: at the end of its line, and along an axis of its own."""

    word: str
    label: str


Rows = Mapping[str, Mapping[str, Curve]]  # label of an axis -> measures that share it, where lines do not differ else
Placed = dict[tuple[str, str], Axes]  # panel and measure -> where it is drawn


def numbers(table: pd.DataFrame, columns: Sequence[str] = ("low", "median", "high")) -> pd.DataFrame:
    """A table without those numbers that cannot be drawn.

    >>> numbers(pd.DataFrame({"median": [1.0, -np.inf, 1e200]}), ["median"])["median"].tolist()
    [1.0, nan, nan]
    """
    return table.assign(**{name: table[name].where(table[name].abs() <= LARGEST) for name in columns})


def draw(table: pd.DataFrame, rows: Rows) -> tuple[Figure, Placed]:
    """The curves of a table of `outcomes.curves`; `key` then names them.

    If lines differ by a parameter, each measure has a row; else measures share rows, as is said.
    """
    hue = hue_of(table)
    words = {measure: curve for row in rows.values() for measure, curve in row.items()}
    shown = numbers(table[table["measure"].isin(words)])
    alone = hue == "measure"
    labels = list(rows) if alone else [curve.label for curve in words.values()]
    figure, axes = grid(shown["panel"].unique(), STEP, *labels)
    together = [list(row) for row in rows.values()] if alone else [[measure] for measure in words]
    last, placed = max(1.0, table["step"].max()), Placed()
    for panel, column in axes.items():
        for ax, measures in zip(column, together, strict=True):
            own = shown[(shown["panel"] == panel) & shown["measure"].isin(measures)]
            if alone:
                own = own.assign(measure=own["measure"].map({name: words[name].word for name in measures}))
            looks = looks_for(hue, own[hue] if alone else shown[hue]) if len(own) else {}
            marker = "o" if own["step"].nunique() < FEW else None
            band_lines(ax, own, "step", {value: {**look, "marker": marker} for value, look in looks.items()})
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
            ax.set_xlim(-MARGIN * last, (1 + MARGIN) * last)
            placed |= {(panel, measure): ax for measure in measures}
    return figure, placed


def key(figure: Figure, placed: Placed, table: pd.DataFrame) -> None:
    """Name the lines at their ends, when axes are as long as they are to be."""
    hue = hue_of(table)
    if hue != "measure":
        axes: dict[str, list[Axes]] = {}
        for (panel, _), ax in placed.items():
            axes.setdefault(panel, []).append(ax)
        drawing.key(figure, axes, hue, table[hue].dropna())
        return
    for ax in dict.fromkeys(placed.values()):
        if sum(not str(line.get_label()).startswith("_") for line in ax.get_lines()) > 1:
            label_ends(ax)


def logarithmic(ax: Axes, values: pd.Series) -> None:
    """A logarithmic axis for a quantity that is positive and spans a decade or more."""
    known = values[np.isfinite(values)]
    if len(known) and known.min() > 0 and known.max() > SPAN * known.min():
        ax.set_yscale("log")


def level(ax: Axes, value: float, name: str) -> None:
    """A dashed line at a level, as long as the others are, to be named at its end.

    An axis becomes longer for a level that is near; of one that is far beyond it, the name says the value.
    """
    low, high = ax.get_ylim()
    span = high - low
    near = low / NEAR <= value <= high * NEAR if ax.get_yscale() == "log" else low - span <= value <= high + span
    said = name if near else f"{name}: {value:.1g}"
    look: dict[str, Any] = {"color": "0.45", "linewidth": 0.9, "linestyle": (0, (4, 2)), "zorder": 1}
    left, right = ax.dataLim.intervalx
    ax.plot([left, right] if left < right else ax.get_xlim(), [value, value], label=said, gid=name, **look)
    if not near:
        ax.set_ylim(low, high)


def mark_ends(placed: Placed, table: pd.DataFrame) -> None:
    """A cross at the upper edge where runs diverged, a bar where they stopped early; of a single training, named."""
    hue = hue_of(table)
    looks = looks_for(hue, table[hue].dropna()) if hue != "measure" else {}
    for (panel, measure), ax in placed.items():
        for what, marker in (("diverged", "x"), ("stopped early", "|")):
            own = table[(table["panel"] == panel) & (table["measure"] == what)]
            for _, end in own.iterrows():
                colour = looks[end[hue]]["color"] if looks else "black"
                ax.plot(
                    end["step"],
                    0.97,
                    marker,
                    color=colour,
                    markersize=5,
                    transform=ax.get_xaxis_transform(),
                    label="_end",
                    clip_on=False,
                    gid=f"{what} {measure}",
                )
