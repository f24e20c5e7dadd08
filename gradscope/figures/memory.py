"""How far back a network remembers.

Test loss of memory tasks against how far back something must be remembered: of recall its delay; of copy its lag; of
adding the least lag, if several are swept, else the length of the sequence, within which all of it lies; of temporal
order that length. In units of chance (dashed), the loss of the best prediction that does not look at the inputs. Lines:
median over seeds, for each truncation or what else is swept; bands, or bars of a single span: 10 % to 90 % of the
seeds.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from gradscope import analysis, courses, outcomes
from gradscope.drawing import CannotDrawError, band_lines, grid, hue_of, key, looks_for
from gradscope.history import History
from gradscope.loading import Loaded

MEASURE = "training"
LINES = "truncation"  # or another parameter that is swept
FEW = 6  # spans, of which each has its tick


def table(results: Loaded) -> pd.DataFrame:
    """panel, truncation (or another parameter), span (steps), then low, median and high of test loss / chance."""
    if isinstance(results, History):
        raise CannotDrawError("needs runs with several delays or lengths, or truncations: a sweep of trainings")
    runs = outcomes.memories(results).dropna(subset="ratio")
    if runs.empty:
        raise CannotDrawError(f"needs runs with a memory task: {', '.join(outcomes.MEMORY)}")
    hue = outcomes.hue_of(results, runs["across"].unique()) or LINES
    if hue in runs["across"].unique():
        raise CannotDrawError(f"is drawn against {hue}, by which its lines cannot differ as well")
    if runs.groupby("panel")["span"].nunique().max() < 2 and runs[hue].nunique() < 2:
        raise CannotDrawError("needs runs with two delays, lengths or truncations")
    return analysis.quantiles(
        runs.astype({hue: str}) if runs[hue].dtype == "category" else runs, ["panel", hue, "span"], "ratio"
    )


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each task and value of what else is swept."""
    hue = hue_of(table)
    looks = looks_for(hue, table[hue])
    looks = {value: {"marker": "o", **look} for value, look in looks.items()}
    shown, spans = courses.numbers(table), sorted(set(table["span"]))
    figure, axes = grid(table["panel"].unique(), "how far back (steps)", "test loss / chance")
    for panel, (ax,) in axes.items():
        own = shown[shown["panel"] == panel]
        band_lines(ax, own, "span", looks)
        for _, point in own[own.groupby(hue)["span"].transform("nunique") == 1].iterrows():  # of which there is no band
            ax.vlines(point["span"], point["low"], point["high"], color=looks[point[hue]]["color"], linewidth=0.8)
        courses.logarithmic(ax, shown["median"])
        ax.xaxis.set_major_locator(FixedLocator(spans) if len(spans) <= FEW else MaxNLocator(5, integer=True))
    for (ax,) in axes.values():  # when all lines are there, which share an axis
        courses.level(ax, 1.0, "chance")
    key(figure, axes, hue, looks)
    return figure
