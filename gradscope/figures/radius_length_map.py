"""What reaches the first step, by length.

Change of the gradient's norm from the last state to the first, by the sequence's length: last step's loss, full BPTT,
median over seeds. Columns are equally wide. Blue: vanished; red, marked +: exploded; the scale is linear up to one
decade and logarithmic beyond; grey, marked 0: exactly zero; blank: no gradient, since the forward states overflowed.
Lines: for each length, the spectral radius at which the decay rate changes sign, hatched its 95 % interval over seeds;
dashed, where there is no such radius: up to there gradients vanish in every seed. None: all vanish, all explode, or the
sequence is too short for a rate.
"""

import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis, maps
from gradscope.drawing import NAMES, CannotDrawError, grid
from gradscope.results import Results


def table(results: Results) -> pd.DataFrame:
    """panel, seq_len, spectral_radius, `decades` (median over seeds), boundary of that length and its half-width."""
    reach = analysis.reach(results, lengths=True)
    if reach["spectral_radius"].nunique() < 3 or reach["seq_len"].nunique() < 2:
        raise CannotDrawError(
            "needs runs with a gradient at three spectral radii and two lengths, one loss step and full truncation"
        )
    column = ["panel", "seq_len"]
    first = analysis.told_by(analysis.changes(reach).query("t == 1"), results, "seq_len")
    medians = analysis.quantiles(first, [*column, "spectral_radius"], "decades").rename(columns={"median": "decades"})
    regimes = analysis.regimes(results, "seq_len")
    cells = regimes[[*column, "spectral_radius"]].drop_duplicates()
    medians = cells.merge(medians, how="left").sort_values([*column, "spectral_radius"], ignore_index=True)
    found = analysis.boundaries(regimes, column)
    return medians[[*column, "spectral_radius", "decades", "seeds"]].merge(found, how="left", on=column)


def draw(table: pd.DataFrame) -> Figure:
    """Heat maps side by side under one colour scale, symmetric about no change."""
    figure, axes = grid(table["panel"].unique(), NAMES["seq_len"], NAMES["spectral_radius"])
    norm, lengths = maps.scale(table["decades"], 1.0), sorted(table["seq_len"].unique())
    for panel, (ax,) in axes.items():
        image = maps.columns(ax, table[table["panel"] == panel], "seq_len", lengths, "decades", norm)
    for panel, (ax,) in axes.items():
        maps.mark_columns(ax, table[table["panel"] == panel], "seq_len", lengths)
    maps.colour_bar(figure, image, norm, "change over the sequence (decades)")
    return figure
