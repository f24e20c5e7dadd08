"""What is left of the loss.

Test loss of the network where its validation loss was least, against a parameter that is swept. Lines, or marks where
the parameter is a word: median over seeds, for each truncation or what else is swept; bands or bars: 10 % to 90 % of
the seeds. Dashed: the best naive prediction. Crosses: settings in which a seed diverged; what is shown of it is the
best that it had before.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradscope import analysis, courses, outcomes
from gradscope.drawing import (
    NAMES,
    CannotDrawError,
    band_lines,
    grid,
    hue_of,
    key,
    label_ends,
    last_column,
    looks_for,
    named,
    word,
)
from gradscope.history import History
from gradscope.loading import Loaded

MEASURE = "training"
LINES = "truncation"  # or another parameter that is swept
WIDE = 0.5  # of the distance between words, in which marks stand beside each other
DECADES = 30.0  # a parameter that spans more has a logarithmic axis


def table(results: Loaded) -> pd.DataFrame:
    """panel, what lines differ by, the parameter, then low, median and high over seeds, `diverged` (seeds), `naive`."""
    if isinstance(results, History):
        raise CannotDrawError("needs runs with several values of a parameter: a sweep of trainings")
    across = outcomes.axis_of(results)
    if across is None:
        raise CannotDrawError("needs runs with two values of a parameter that says how a network is trained")
    hue = outcomes.hue_of(results, [across]) or ("loss" if across == LINES else LINES)
    if hue == across:
        raise CannotDrawError(f"is drawn against {hue}, by which its lines cannot differ as well")
    runs = outcomes.laid_out(results, hue, [across])
    texts = [name for name in (hue, across) if not pd.api.types.is_numeric_dtype(runs[name])]
    runs = runs.astype(dict.fromkeys(texts, str))
    by = ["panel", hue, across]
    lost = runs["status"].str.startswith("diverged").groupby([runs[name] for name in by]).sum().rename("diverged")
    naive = runs.groupby("panel")["naive_loss"].median().rename("naive")
    found = analysis.quantiles(runs.dropna(subset="test_loss"), by, "test_loss")
    return found.merge(lost.reset_index(), on=by).merge(naive.reset_index(), on="panel")


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each value of what else is swept."""
    hue, across = hue_of(table), str(table.columns[2])
    looks = looks_for(hue, table[hue])
    figure, axes = grid(table["panel"].unique(), NAMES.get(across, across.replace("_", " ")), "test loss")
    shown = courses.numbers(table)
    words = not pd.api.types.is_numeric_dtype(table[across])
    for panel, (ax,) in axes.items():
        own = shown[shown["panel"] == panel]
        if words:
            own = _marks(ax, own, list(dict.fromkeys(table[across])), looks)
        else:
            band_lines(ax, own, across, {value: {"marker": "o", **look} for value, look in looks.items()})
            if own[across].min() > 0 and own[across].max() > DECADES * own[across].min():
                ax.set_xscale("log")
        courses.logarithmic(ax, shown["median"])
        lost = own[own["diverged"] > 0]
        for value, line in lost.groupby(hue, observed=True):
            colour = looks[value]["color"]
            ax.plot(
                line[across], line["median"], "x", color=colour, markersize=7, label="_lost", gid=f"diverged {value}"
            )
    for panel, (ax,) in axes.items():  # when all lines are there, which share an axis
        for level in table.loc[table["panel"] == panel, "naive"].dropna().unique():
            courses.level(ax, level, "best naive")
    if len(looks) > 1:
        key(figure, axes, hue, looks)
    else:  # only the level has a name
        for ax in last_column(axes):
            label_ends(ax)
    return figure


def _marks(ax: Axes, table: pd.DataFrame, words: list[str], looks: dict[Any, dict[str, Any]]) -> pd.DataFrame:
    """Marks with bars above each word, those of several lines beside each other; the table with their places."""
    hue, across = hue_of(table), str(table.columns[2])
    values = list(looks)
    beside = WIDE * (np.arange(len(values)) / max(1, len(values) - 1) - 0.5) if len(values) > 1 else np.zeros(1)
    placed = table.assign(
        **{across: table[across].map(words.index) + table[hue].map(dict(zip(values, beside, strict=True)))}
    )
    for value, own in placed.groupby(hue, observed=True):
        bars = [own["median"] - own["low"], own["high"] - own["median"]]
        look = {"color": looks[value]["color"], "marker": looks[value].get("marker", "o"), "markersize": 4}
        marks = ax.errorbar(own[across], own["median"], bars, linestyle="none", linewidth=0.8, **look).lines[0]
        marks.set(gid=named(hue, value), label=word(value) if len(values) > 1 else "_alone")
    turned: dict[str, Any] = {"rotation": 30.0, "ha": "right"} if sum(map(len, words)) > 24 else {}
    ax.set_xticks(range(len(words)), words, **turned)
    ax.set_xlim(-0.6, len(words) - 0.4)
    return placed
