"""What every figure shares: size, type, colours, panels side by side. Figure plug-ins import this and `analysis`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure

from gradscope.errors import GradscopeError

PANEL = (3.4, 2.7)  # inches: one panel at the width of a column of two
MOST_LINES = 14  # that can be told apart in one panel
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
COLOURS = tuple(sns.color_palette("colorblind")[i] for i in (0, 3, 2, 1, 4, 5, 9, 7))  # those that show on white
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


class CannotDrawError(GradscopeError):
    """The results lack what a figure shows; the message says what."""


@contextmanager
def style() -> Iterator[None]:
    """Settings under which figures are drawn and saved: the same bytes for the same numbers."""
    settings: dict[Any, Any] = sns.axes_style("ticks") | {
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "lines.linewidth": 1.2,
        "axes.linewidth": 0.6,
        "figure.constrained_layout.use": True,
        "savefig.dpi": 300,
        "svg.hashsalt": "gradscope",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
    }
    with mpl.rc_context(settings):
        yield


def grid(
    panels: Sequence[str], xlabel: str, *ylabels: str, sharey: bool = True
) -> tuple[Figure, dict[str, list[Axes]]]:
    """A figure with, for each panel, one axes for each of `ylabels`, one above the other: panel -> its axes."""
    rows, wide = len(ylabels), {1: 1, 2: 2, 4: 2}.get(len(panels), 3)
    bands = -(-len(panels) // wide)
    figure = Figure(figsize=(PANEL[0] * wide + 0.6, PANEL[1] * rows * bands))
    axes = figure.subplots(rows * bands, wide, sharex=True, sharey="row" if sharey else False, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    placed: dict[str, list[Axes]] = {}
    for i, panel in enumerate(panels):
        band, column = divmod(i, wide)
        placed[panel] = list(axes[rows * band : rows * (band + 1), column])
        for ax, ylabel in zip(placed[panel], ylabels, strict=True):
            ax.set_axis_on()
            ax.set_ylabel(ylabel if column == 0 else "")
        placed[panel][0].set_title(panel)
        placed[panel][-1].set_xlabel(xlabel)
        placed[panel][-1].tick_params(labelbottom=True)
    return figure, placed


def radius_scale(radii: Sequence[float]) -> tuple[Colormap, Normalize]:
    """Colours for spectral radii: dark at 1, blue below, red above, told apart also in grey by lightness."""
    low, high = min(*radii, 0.999), max(*radii, 1.001)
    return mpl.colormaps["managua_r"], TwoSlopeNorm(1.0, low, high)


def radius_bar(figure: Figure, radii: Sequence[float]) -> None:
    """The colour bar that goes with `radius_scale`."""
    colours, norm = radius_scale(radii)
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=figure.axes, label="spectral radius of $W_{hh}$", aspect=30)
    bar.ax.set_yscale("linear")


def band_lines(ax: Axes, table: pd.DataFrame, x: str, radii: Sequence[float]) -> None:
    """A median line and a quantile band for each spectral radius in `table`."""
    colours, norm = radius_scale(radii)
    for radius, line in table.groupby("spectral_radius"):
        shown = line[np.isfinite(line["median"])]
        colour = colours(norm(radius))
        bounded = shown[np.isfinite(shown["low"]) & np.isfinite(shown["high"])]
        ax.fill_between(bounded[x], bounded["low"], bounded["high"], color=colour, alpha=0.15, linewidth=0)
        ax.plot(shown[x], shown["median"], color=colour, gid=f"radius {radius:g}")


def looks_of(truncations: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour, dashes and marker of each truncation: a colour for each family, lighter for each member after the first.

    Full BPTT is black.
    """
    families: dict[str, list[str]] = {}
    for spec in sorted(set(truncations), key=lambda spec: (spec.split(":")[0], len(spec), spec)):
        families.setdefault(spec.split(":")[0], []).append(spec)
    colours = dict(zip((family for family in families if family != "full"), cycle(COLOURS), strict=False))
    looks: dict[str, dict[str, Any]] = {}
    for family, specs in families.items():
        for member, spec in enumerate(specs):
            light = 0.6 * member / len(specs)
            colour = tuple((1 - light) * part + light for part in colours.get(family, (0.0, 0.0, 0.0)))
            marker = MARKERS[list(families).index(family) % len(MARKERS)]
            looks[spec] = {"color": colour, "linestyle": DASHES[member % len(DASHES)], "marker": marker}
    return looks


def told_apart(truncations: Iterable[str]) -> list[str]:
    """The truncations that a figure shows: all, or, of more than can be told apart, three of each family.

    >>> told_apart(["fixed:5", "full"])
    ['fixed:5', 'full']
    """
    specs = list(dict.fromkeys(truncations))
    if len(specs) <= MOST_LINES:
        return specs
    families: dict[str, list[str]] = {}
    for spec in sorted(specs, key=lambda spec: (len(spec), spec)):
        families.setdefault(spec.split(":")[0], []).append(spec)
    return [own[at] for own in families.values() for at in sorted({0, len(own) // 2, len(own) - 1})]


def panel_of(table: pd.DataFrame) -> list[str]:
    """The panel of each row of a table, with its spectral radius."""
    labels = zip(table["panel"], table["spectral_radius"], strict=True)
    return [", ".join(filter(None, [str(panel), f"spectral radius {radius:g}"])) for panel, radius in labels]
