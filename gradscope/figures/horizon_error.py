"""Error against horizon.

Root mean square error of forecasts of the test part against how many steps ahead they are, over the same origins for
all, in the units of the data. Black: the network, running freely, fed its own predictions. Coloured: naive predictions.
A logarithmic axis ends two decades below the network's least error; naive predictions that are better than that, as of
a series without noise, are named there.
"""

import pandas as pd
from matplotlib.figure import Figure

from gradscope import courses
from gradscope.drawing import COLOURS, DASHES, CannotDrawError, grid, label_ends
from gradscope.history import History
from gradscope.loading import Loaded

MEASURE = "training"
FLOOR = 100.0  # times below the network's least error, where the axis ends


def table(results: Loaded) -> pd.DataFrame:
    """panel (from how many origins), predictor, naive, horizon and rmse."""
    if not isinstance(results, History):
        raise CannotDrawError("needs runs with forecasts, which a single training keeps")
    found = results.horizons
    if found.empty or found["rmse"].isna().all():
        raise CannotDrawError("needs runs with a series to forecast: task sine or series")
    panel = found["origins"].map("forecasts from {:,} origins".format)
    return found.assign(panel=panel)[["panel", "predictor", "naive", "horizon", "rmse"]]


def draw(table: pd.DataFrame) -> Figure:
    """The network's line and those of naive predictions."""
    (panel,) = table["panel"].unique()
    figure, axes = grid([panel], "horizon (steps ahead)", "RMS error")
    (ax,) = axes[panel]
    naive = table.loc[table["naive"], "predictor"].unique()
    looks = {name: {"color": COLOURS[1:][i % 7], "linestyle": DASHES[1:][i % 5]} for i, name in enumerate(naive)}
    for name, own in table.groupby("predictor", sort=False):
        look = looks.get(str(name), {"color": "black", "linewidth": 1.6, "zorder": 3})
        shown = courses.numbers(own, ["rmse"]).dropna(subset="rmse")
        ax.plot(shown["horizon"], shown["rmse"], label=str(name), gid=str(name), **look)
    ax.margins(x=0.02)
    known = courses.numbers(table, ["rmse"])
    own = known.loc[~table["naive"] & (table["rmse"] > 0), "rmse"].dropna()
    floor = own.min() / FLOOR if len(own) else 0.0
    courses.logarithmic(ax, known.loc[known["rmse"] > floor, "rmse"].dropna())
    if ax.get_yscale() == "log" and len(own):
        ax.set_ylim(bottom=max(ax.get_ylim()[0], floor))
    label_ends(ax)
    return figure
