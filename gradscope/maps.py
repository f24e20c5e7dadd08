"""What heat maps share: colours about no change, signs that need no colour; the boundary in spectral radii."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from gradscope.drawing import small, word

TICKS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
GROWS, ZERO = "+", "$0$"  # signs of cells, as matplotlib's markers
SIGNS = 12  # at most, along each side of a map
DARK = 0.36  # distance from the middle of the scale, at which black no longer shows


def scale(values: pd.Series, linear: float) -> SymLogNorm:
    """A scale symmetric about 0: linear as far as is said, logarithmic beyond."""
    limit = float(max([linear, *values[np.isfinite(values)].abs()]))
    return SymLogNorm(linear, vmin=-limit, vmax=limit)


def edges(centres: Sequence[float]) -> NDArray[np.float64]:
    """Where the cells around ascending numbers end: half-way to the next one.

    >>> edges([1, 2, 4]).tolist()
    [0.5, 1.5, 3.0, 5.0]
    """
    at = np.asarray(centres, float)
    steps = np.diff(at) if len(at) > 1 else np.ones(1)
    between = at[:-1] + np.diff(at) / 2
    return np.concatenate([at[:1] - steps[0] / 2, between, at[-1:] + steps[-1] / 2])


def heat(ax: Axes, values: pd.DataFrame, norm: SymLogNorm, missing: str = "white") -> QuadMesh:
    """A cell for each number along the axis upwards (the rows) and along the other one (the columns).

    Blue: below zero. Red: above, and marked + for those who see no colour. Grey, marked 0: -inf, of a gradient that is
    exactly zero. Blank, or of another colour: missing.
    """
    shown = values.to_numpy(float)
    zero = np.isneginf(shown)
    image = ax.pcolormesh(
        edges(values.columns),
        edges(values.index),
        np.ma.masked_invalid(np.where(zero, 10.0 * (norm.vmin or 0.0), shown)),
        cmap=mpl.colormaps["RdBu_r"].with_extremes(under="0.7", bad=missing),
        norm=norm,
        rasterized=True,
    )
    _signs(ax, values, shown > 0, GROWS, np.where(norm(shown) > 0.5 + DARK, "white", "black"))
    _signs(ax, values, zero, ZERO, np.full(shown.shape, "black"))
    return image


def _signs(ax: Axes, values: pd.DataFrame, holds: NDArray[np.bool_], marker: str, colours: NDArray[np.str_]) -> None:
    """Mark the cells where something holds; of many neighbouring ones every so manieth."""
    rows, columns = (-(-size // SIGNS) for size in values.shape)
    chosen = np.zeros_like(holds)
    chosen[rows // 2 :: rows, columns // 2 :: columns] = True
    i, j = np.nonzero(holds & chosen)
    upwards, across = values.index.to_numpy(float), values.columns.to_numpy(float)
    size, line = {GROWS: (7, 0.5), ZERO: (14, 0.1)}[marker]
    look = {"s": size, "linewidths": line, "c": colours[i, j].tolist(), "marker": marker}
    ax.scatter(across[j], upwards[i], gid=f"signs {marker}", **look)


def columns(
    ax: Axes, table: pd.DataFrame, column: str, values: Sequence[Any], measure: str, norm: SymLogNorm
) -> QuadMesh:
    """A map with a column of cells, all equally wide, for each of the values of a parameter."""
    wide = table.pivot_table(index="spectral_radius", columns=column, values=measure, dropna=False)
    image = heat(ax, wide.reindex(columns=values).set_axis(range(len(values)), axis=1), norm)
    _name_columns(ax, values)
    return image


def _name_columns(ax: Axes, values: Sequence[Any]) -> None:
    """Ticks of a map's columns; where there is no room for all, words are turned, and of numbers some left out."""
    labels = [word(value) for value in values]
    width = 72.0 * ax.get_window_extent().width / ax.figure.dpi
    letter = 0.75 * small()  # with what colour bar and labels will take of the width
    times = int(np.ceil(len(values) * (1 + max(map(len, labels))) * letter / width))
    every = 1 if isinstance(values[0], str) else times
    ax.set_xticks(range(0, len(values), every), labels[::every], rotation=30.0 if times > every else 0.0)


def mark_boundary(ax: Axes, found: pd.Series, left: float, right: float, name: str = "boundary") -> None:
    """The boundary across a map or one of its columns, hatched its interval; dashed, up to where all seeds vanish.

    `found` has the columns of `analysis.boundaries`.
    """
    radius, half_width = found["boundary"], found["half_width"]
    if half_width > 0:
        low, high = np.clip([radius - half_width, radius + half_width], *ax.get_ylim())
        patch = Rectangle((left, low), right - left, high - low, gid=f"interval of {name}")
        patch.set(facecolor="none", edgecolor="black", hatch="/////", alpha=0.4, linewidth=0)
        ax.add_patch(patch)
    if found["outcome"] == "crossing":
        segment(ax, radius, left, right, "-", name)
    elif found["outcome"] == "mixed":
        segment(ax, found["vanishing_to"], left, right, "--", name)


def mark_columns(ax: Axes, table: pd.DataFrame, column: str, values: Sequence[Any]) -> None:
    """The boundary of each column, on a map that is whole: what is marked does not stretch it."""
    ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())
    for _, found in table.drop_duplicates(column).iterrows():
        at = values.index(found[column])
        mark_boundary(ax, found, at - 0.5, at + 0.5, f"boundary {found[column]}")


def segment(ax: Axes, radius: float, left: float, right: float, dash: str, name: str) -> None:
    """A spectral radius across a map or one of its columns; nothing where it is not on the map."""
    low, high = ax.get_ylim()
    if low <= radius <= high:
        halo = [withStroke(linewidth=2, foreground="white", alpha=0.7)]
        ax.plot([left, right], [radius, radius], dash, color="black", linewidth=0.9, path_effects=halo, gid=name)


def colour_bar(figure: Figure, image: QuadMesh, norm: SymLogNorm, label: str) -> None:
    """The bar beside all panels, with ticks at round numbers."""
    ticks = [tick for tick in TICKS if norm.linthresh <= tick <= (norm.vmax or 0.0)]
    bar = figure.colorbar(
        image,
        ax=figure.axes,
        label=label,
        aspect=30,
        ticks=[*(-tick for tick in reversed(ticks)), 0, *ticks],
        format="%g",
    )
    bar.ax.minorticks_off()
