"""The phases of gradients.

Growth rate of the gradient's norm with the lag, of the last step's loss, full BPTT, longest sequences: median over
seeds, by spectral radius and a second parameter, of which the columns are equally wide. Blue: gradients vanish; red,
marked +: they explode; the scale is linear up to 0.1 nats a step and logarithmic beyond; grey, marked 0: exactly zero;
blank: no rate, since the forward states overflowed or the sequence is too short. Lines: for each column, the spectral
radius at which the rate changes sign, hatched its 95 % interval over seeds; dashed, where there is no such radius: up
to there gradients vanish in every seed. Dotted: the boundary that theory gives, of mean field (many units, white input)
or of linear networks.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis, maps
from gradscope.drawing import NAMES, CannotDrawError, grid, hue_of
from gradscope.results import Results

UPRIGHT = 6  # columns beyond which words that do not fit stand upright
LINES = "input_scale"  # the columns: by this or whatever else is swept beside the spectral radius


def table(results: Results) -> pd.DataFrame:
    """panel, the second parameter, spectral_radius, `rate` (median, nats a step), boundary and half-width, theory's.

    `rate` is -inf where gradients are exactly zero; `difference` is that of the boundary to theory.
    """
    second = analysis.beside(results, first=LINES)
    regimes = analysis.regimes(results, second) if second else analysis.regimes(results)
    known = regimes[np.isfinite(regimes["rate"]) | (regimes["state"] == "zero")]
    if second is None or known["spectral_radius"].nunique() < 3 or known[second].nunique() < 2:
        raise CannotDrawError(
            "needs runs with decay rates (one loss step, full truncation) at three spectral radii and two values of a "
            "second swept parameter, such as input_scale, hidden_size or activation"
        )
    column, cell = ["panel", second], ["panel", second, "spectral_radius"]
    known = known.assign(rate=known["rate"].where(known["state"] != "zero", -np.inf))
    medians = analysis.quantiles(known, cell, "rate").rename(columns={"median": "rate"})
    cells = regimes[cell].drop_duplicates().merge(medians[[*cell, "rate", "seeds"]], how="left", on=cell)
    cells = cells.merge(analysis.boundaries(regimes, column), how="left", on=column)
    cells = cells.merge(_theory(results, second), how="left", on=column).sort_values(cell, ignore_index=True)
    return cells.assign(difference=cells["boundary"] - cells["theory"])


def _theory(results: Results, second: str) -> pd.DataFrame:
    """The boundary that theory gives for each column, nan if it is another for each of its runs."""
    runs = analysis.told_by(analysis.networks(results), results, second)
    runs = runs.assign(theory=analysis.theoretical_boundaries(runs))
    found = runs.groupby(["panel", second], observed=True)["theory"].agg(["min", "max"])
    return found["min"].where(found["min"] == found["max"]).rename("theory").reset_index()


def draw(table: pd.DataFrame) -> Figure:
    """Heat maps side by side under one colour scale, symmetric about rate 0."""
    second = hue_of(table)
    figure, axes = grid(table["panel"].unique(), NAMES.get(second, second), NAMES["spectral_radius"])
    norm, values = maps.scale(table["rate"], 0.1), list(dict.fromkeys(table[second]))
    values = values if isinstance(values[0], str) else sorted(values)
    for panel, (ax,) in axes.items():
        image = maps.columns(ax, table[table["panel"] == panel], second, values, "rate", norm)
        if len(values) > UPRIGHT:
            for label in ax.get_xticklabels():
                label.set_rotation(90.0 if label.get_rotation() else 0.0)
    for panel, (ax,) in axes.items():
        own = table[table["panel"] == panel]
        maps.mark_columns(ax, own, second, values)
        for value, theory in own.groupby(second)["theory"].first().items():
            at = values.index(value)
            maps.segment(ax, theory, at - 0.5, at + 0.5, ":", f"theory {value}")
    maps.colour_bar(figure, image, norm, "growth rate (nats a step)")
    return figure
