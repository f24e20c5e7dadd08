"""Where gradients vanish and explode while a network learns.

Change of the norm of state gradients since the least lag that has one, against the training step and the lag; means
over the examples of a minibatch. Left: of the last loss alone under full BPTT, how far back the network passes
gradients on; right: of the loss that is trained on, as it is truncated, to which all losses add that reach a state.
Blue: less; red, marked +: more; the scale is linear up to one decade and logarithmic beyond; grey, marked 0: exactly
zero. Line: the lag from which on less than a tenth is left.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from gradscope import courses, maps, outcomes
from gradscope.drawing import CannotDrawError, grid
from gradscope.history import History
from gradscope.loading import Loaded

MEASURE = "training"


def table(results: Loaded) -> pd.DataFrame:
    """panel, step, lag, `decades` (change of the norm) and `tenth` (the lag beyond which less is left)."""
    if not isinstance(results, History):
        raise CannotDrawError("needs runs with norms at every lag while they learn, which a single training keeps")
    found = outcomes.by_lag(results)
    if found["lag"].max() < 1:
        raise CannotDrawError("needs runs with a gradient over two steps or more")
    words = {"log10_reach": "last loss alone, full BPTT", "log10_dh": f"training loss, {results.run['truncation']}"}
    found.insert(0, "panel", found["measure"].map(words))
    return found[["panel", "step", "lag", "decades", "tenth"]]


def draw(table: pd.DataFrame) -> Figure:
    """Heat maps side by side under one colour scale, symmetric about no change."""
    figure, axes = grid(table["panel"].unique(), courses.STEP, "lag (steps)")
    norm = maps.scale(table["decades"], 1.0)
    for panel, (ax,) in axes.items():
        own = table[table["panel"] == panel]
        cells = own.pivot_table(index="lag", columns="step", values="decades", dropna=False)
        image = maps.heat(ax, cells, norm)
        ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())
        ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        left = own.drop_duplicates("step")
        halo = [withStroke(linewidth=2, foreground="white", alpha=0.7)]
        ax.plot(left["step"], left["tenth"], color="black", linewidth=0.9, path_effects=halo, gid="a tenth")
    maps.colour_bar(figure, image, norm, "change of the norm (decades)")
    return figure
