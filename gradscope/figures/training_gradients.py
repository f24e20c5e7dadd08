"""Gradients while a network learns, and where they are clipped.

Norm of the loss's gradient with respect to all parameters together, against the training step, before and after it is
clipped; below, the share of the steps since the look before that were clipped. Of a single training: median and 10 %
to 90 % of the steps of each of at most 250 bins; ticks at the lower edge: bins in which steps were clipped. Of a sweep:
medians since the look before, over seeds; bands: 10 % to 90 % of the seeds. Dotted: the threshold, of a clip by norm.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradscope import courses, outcomes
from gradscope.courses import Curve
from gradscope.drawing import CannotDrawError, hue_of, looks_for
from gradscope.history import History
from gradscope.loading import Loaded

MEASURE = "training"
LINES = "truncation"  # or another parameter that is swept
NORMS = {
    "log10_grad": Curve("before clipping", r"$\log_{10}\,\|g\|$ before clipping"),
    "log10_clipped": Curve("after clipping", r"$\log_{10}\,\|g\|$ after clipping"),
}
ROWS = {
    r"$\log_{10}\,\|g\|$": NORMS,
    "share of steps clipped": {"clip_share": Curve("clipped", "share of steps clipped")},
}


def table(results: Loaded) -> pd.DataFrame:
    """panel, truncation (or another parameter), measure, step, low, median and high, and the `threshold` (log10).

    Measures are "log10_grad", "log10_clipped", "clip_share", and, of a single training, "clipped", the share of the
    steps of each bin that has such.
    """
    found = outcomes.curves(results, [*NORMS, "clip_share"]).drop(columns="seeds")
    if isinstance(results, History):
        found = pd.concat([outcomes.binned(results), found[found["measure"] == "clip_share"]])
    if not np.isfinite(found.loc[found["measure"] == "log10_grad", "median"]).any():
        raise CannotDrawError("needs runs with a gradient")
    levels = outcomes.thresholds(results)
    return found.merge(levels, on=[name for name in levels if name != "threshold"])


def draw(table: pd.DataFrame) -> Figure:
    """Norms above the share of steps that are clipped."""
    figure, placed = courses.draw(table, ROWS)
    hue = hue_of(table)
    looks = looks_for(hue, table[hue].dropna())
    for (panel, measure), ax in placed.items():
        own = table[table["panel"] == panel]
        if measure == "clip_share":
            ax.set_ylim(-0.03, 1.03)
            continue
        for _, line in own.dropna(subset="threshold").drop_duplicates("threshold").iterrows():
            colour = looks[line[hue]]["color"] if hue == "clip" else "0.4"
            ax.axhline(line["threshold"], color=colour, linewidth=0.8, linestyle=":", gid="threshold")
        if measure == "log10_grad":
            _draw_events(ax, own.loc[own["measure"] == "clipped", "step"])
    courses.key(figure, placed, table)
    return figure


def _draw_events(ax: Axes, steps: pd.Series) -> None:
    """Ticks at the lower edge where steps were clipped."""
    look: dict[str, Any] = {
        "color": "black",
        "markersize": 4,
        "markeredgewidth": 0.5,
        "transform": ax.get_xaxis_transform(),
    }
    ax.plot(steps, np.full(len(steps), 0.015), "|", label="_clipped", gid="clipped", **look)
