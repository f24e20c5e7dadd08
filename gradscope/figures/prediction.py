"""Prediction against truth.

The beginning of the test part of a series, which was not learnt from, in the units of the data: one step ahead, from
the true values before it; and running freely, fed its own predictions from the first step shown on. The axis is that of
the truth with half its range on both sides; predictions may leave it.
"""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from gradscope import courses
from gradscope.drawing import COLOURS, CannotDrawError, canvas, label_ends
from gradscope.history import History
from gradscope.loading import Loaded

MEASURE = "training"
PREDICTIONS = {"one_step": "one step ahead", "free_running": "running freely"}


def table(results: Loaded) -> pd.DataFrame:
    """panel (empty), t (place in the series), truth, one_step, free_running, as far as forecasts run freely."""
    if not isinstance(results, History):
        raise CannotDrawError("needs runs with forecasts, which a single training keeps")
    if results.forecast.empty:
        raise CannotDrawError("needs runs with a series to forecast: task sine or series")
    length = int(results.horizons["horizon"].max())
    found = results.forecast.head(length).reset_index(drop=True)
    found.insert(0, "panel", "")
    return found


def draw(table: pd.DataFrame) -> Figure:
    """One panel as wide as the page."""
    figure = canvas(2, 1)
    ax = figure.subplots()
    truth = table["truth"]
    ax.plot(table["t"], truth, color="0.75", linewidth=3.0, label="truth", gid="truth")
    looks: tuple[dict[str, Any], ...] = ({"linestyle": "none", "marker": ".", "markersize": 3.5}, {"linestyle": "-"})
    for (name, label), colour, look in zip(PREDICTIONS.items(), COLOURS, looks, strict=False):
        shown = courses.numbers(table, [name]).dropna(subset=name)
        ax.plot(shown["t"], shown[name], color=colour, label=label, gid=name, **look)
    margin = 0.5 * (truth.max() - truth.min())
    ax.set(xlabel="step $t$ of the series", ylabel="value", ylim=(truth.min() - margin, truth.max() + margin))
    label_ends(ax)
    return figure
