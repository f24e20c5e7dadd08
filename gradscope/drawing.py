"""What every figure shares: size, type, colours, panels side by side, labels. Figures import this and `analysis`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize, TwoSlopeNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from scipy.optimize import isotonic_regression

from gradscope.errors import GradscopeError
from gradscope.venues import Venue, venue

LABELLED = 7  # lines at most that are labelled at their ends; more have a colour bar, where their hue is a number
MOST_LINES = 14  # that can be told apart in one panel
NEARLY = 0.8  # of a panel's width: from there on a line ends at its right edge, or nearly
NARROW = 6.0  # inches: a page on which two panels go side by side, not three
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
COLOURS = tuple(sns.color_palette("colorblind")[i] for i in (0, 3, 2, 1, 4, 5, 9, 7))  # those that show on white
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
NAMES = {  # of parameters, as figures have them
    "spectral_radius": "spectral radius of $W_{hh}$",
    "seq_len": "sequence length $T$ (steps)",
    "hidden_size": "hidden size $n$ (units)",
    "input_scale": r"input scale $\sigma_u$",
    "batch_size": "batch size $B$ (examples)",
}
_VENUE: ContextVar[Venue] = ContextVar("venue")


class CannotDrawError(GradscopeError):
    """The results lack what a figure shows; the message says what."""


@contextmanager
def style(name: str = "plain", latex: bool = False, dpi: int = 300) -> Iterator[None]:
    """Settings under which figures are drawn and saved for a venue: the same bytes for the same numbers.

    Parameters
    ----------
    name : "plain", "neurips", "icml", "iclr", "jmlr", "pnas" or "nature".
    latex : set text with LaTeX, which has to be installed.
    dpi : of PNG, and of what is dense in SVG and PDF.

    Raises
    ------
    InputError : unknown venue; no LaTeX on this machine.

    Examples
    --------
    Fonts are looked up when a figure is saved, so that what is changed and saved is so within it:

    >>> with style("icml"):
    ...     print(float(mpl.rcParams["font.size"]))
    8.0
    """
    chosen = venue(name, latex)
    settings: dict[Any, Any] = sns.axes_style("ticks") | {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "lines.linewidth": 1.1,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "savefig.dpi": dpi,
        "svg.hashsalt": "gradscope",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
    }
    token = _VENUE.set(chosen)
    try:
        with mpl.rc_context(settings | chosen.settings | {"figure.constrained_layout.use": True}):
            yield
    finally:
        _VENUE.reset(token)


def canvas(columns: int, rows: int) -> Figure:
    """An empty figure at its final width, for so many panels side by side and above one another."""
    page = _VENUE.get(venue("plain"))
    width = page.column if columns == 1 else page.page
    return Figure(figsize=(width, rows * float(np.clip(0.8 * width / columns, 1.6, 2.4)) + 0.2))


def small() -> float:
    """Points: the size of type for labels within a panel."""
    return FontProperties(size=mpl.rcParams["xtick.labelsize"]).get_size_in_points()


def grid(
    panels: Sequence[str], xlabel: str, *ylabels: str, sharex: bool = True, sharey: bool = True
) -> tuple[Figure, dict[str, list[Axes]]]:
    """A figure with, for each panel, one axes for each of `ylabels`, one above the other: panel -> its axes.

    Panels stand in alphabetical order, numbers in them in order of size.
    """
    panels = sorted(panels, key=_alphabetical)
    most = 2 if _VENUE.get(venue("plain")).page < NARROW else 3
    rows, wide = len(ylabels), {1: 1, 2: 2, 4: 2}.get(len(panels), most)
    bands = -(-len(panels) // wide)
    figure = canvas(wide, rows * bands)
    axes = figure.subplots(rows * bands, wide, sharex=sharex, sharey="row" if sharey else False, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    placed: dict[str, list[Axes]] = {}
    for i, panel in enumerate(panels):
        band, column = divmod(i, wide)
        placed[panel] = list(axes[rows * band : rows * (band + 1), column])
        for ax, ylabel in zip(placed[panel], ylabels, strict=True):
            ax.set_axis_on()
            ax.set_ylabel(ylabel if column == 0 else "")
        placed[panel][0].set_title(_wrapped(panel, figure.get_figwidth() / wide))
        placed[panel][-1].set_xlabel(xlabel)
        placed[panel][-1].tick_params(labelbottom=True)
    return figure, placed


def _alphabetical(title: str) -> list[Any]:
    """What to sort titles by, so that numbers in them are in order of size."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", title)
    return [float(part) if i % 2 else part for i, part in enumerate(parts)]


def _wrapped(title: str, width: float) -> str:
    """A title on as many lines as it needs at a width in inches."""
    letters = int(72.0 * width / (0.6 * mpl.rcParams["font.size"]))
    return "\n".join(textwrap.wrap(title, letters))


def hue_of(table: pd.DataFrame) -> str:
    """The parameter by which the lines of a table differ: its column after `panel`."""
    return str(table.columns[list(table.columns).index("panel") + 1])


def radius_scale(radii: Sequence[float]) -> tuple[Colormap, Normalize]:
    """Colours for spectral radii: dark at 1, blue below, red above."""
    low, high = min(*radii, 0.999), max(*radii, 1.001)
    colours = mpl.colormaps["managua_r"](np.linspace(0.1, 0.9, 256))  # without the ends, which are light on white
    return ListedColormap(colours), TwoSlopeNorm(1.0, low, high)


def _scale(hue: str, values: Sequence[float]) -> tuple[Colormap, Normalize]:
    """Colours for the values of a number."""
    if hue == "spectral_radius":
        return radius_scale(values)
    low, high = min(values), max(values)
    logarithmic = low > 0 and high > 10 * low
    return mpl.colormaps["crest"], (LogNorm if logarithmic else Normalize)(low, high + (high == low))


def looks_for(hue: str, values: Iterable[Any]) -> dict[Any, dict[str, Any]]:
    """How the line of each value of a parameter looks: colours of a scale for numbers, told apart also by their dashes.

    Spectral radii above 1 are dashed.
    """
    values = list(dict.fromkeys(values))
    if hue == "truncation":
        return looks_of(values)
    if not all(isinstance(value, int | float | np.number) for value in values):
        kinds = zip(cycle(COLOURS), cycle(DASHES), cycle(MARKERS), strict=True)
        return {
            value: {"color": colour, "linestyle": dash, "marker": marker}
            for value, (colour, dash, marker) in zip(values, kinds, strict=False)
        }
    colours, norm = _scale(hue, values)
    dashes = {
        value: DASHES[i % len(DASHES) if len(values) <= LABELLED else 0] for i, value in enumerate(sorted(values))
    }
    if hue == "spectral_radius":
        dashes = {value: (0, (4, 1)) if value > 1 else "-" for value in values}
    return {value: {"color": colours(norm(value)), "linestyle": dashes[value]} for value in values}


def band_lines(ax: Axes, table: pd.DataFrame, x: str, looks: Mapping[Any, Mapping[str, Any]]) -> None:
    """A median line and a quantile band for each value of the table's hue, labelled with it."""
    hue = hue_of(table)
    for value, line in table.groupby(hue, observed=True):
        shown = line[np.isfinite(line["median"])]
        bounded = shown[np.isfinite(shown["low"]) & np.isfinite(shown["high"])]
        look = dict(looks[value])
        ax.fill_between(bounded[x], bounded["low"], bounded["high"], color=look["color"], alpha=0.15, linewidth=0)
        every = max(1, len(shown) // 6)
        ax.plot(
            shown[x], shown["median"], label=word(value), gid=named(hue, value), markersize=3, markevery=every, **look
        )


def named(hue: str, value: Hashable) -> str:
    """The name of a line: "spectral_radius 0.9"."""
    return f"{hue} {word(value)}"


def word(value: Any) -> str:
    """A value of a parameter, as labels have it."""
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)


def key(figure: Figure, axes: Mapping[str, Sequence[Axes]], hue: str, values: Iterable[Any]) -> None:
    """What tells which line is which: labels at the ends of those in the last column, or a colour bar."""
    values = list(dict.fromkeys(values))
    if len(values) > LABELLED and not isinstance(values[0], str):
        colours, norm = _scale(hue, values)
        bar = figure.colorbar(ScalarMappable(norm, colours), ax=figure.axes, label=NAMES.get(hue, hue), aspect=30)
        if hue == "spectral_radius":
            bar.ax.set_yscale("linear")
        return
    for i, ax in enumerate(last_column(axes)):
        label_ends(ax, "" if i or hue == "truncation" else NAMES.get(hue, hue).partition(" of ")[0])


def last_column(axes: Mapping[str, Sequence[Axes]]) -> list[Axes]:
    """The axes that have no other to their right."""
    own = [ax for column in axes.values() for ax in column]
    rightmost = max(ax.get_position().x1 for ax in own)
    ends = [ax for ax in own if ax.get_position().x1 > rightmost - 0.01]
    return ends if axes and own[-1] in ends else [*ends, *list(axes.values())[-1]]


def label_ends(ax: Axes, header: str = "") -> None:
    """Write each line's label where it ends, in its colour; where two would meet, both move aside."""
    lines = [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")]
    last = [np.asarray(line.get_xydata())[-1:] for line in lines]
    lines = [line for line, point in zip(lines, last, strict=True) if len(point)]
    if not lines:
        return
    ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())
    ends = (ax.transData + ax.transAxes.inverted()).transform(np.concatenate(last))
    order = np.argsort(ends[:, 1], kind="stable")
    least = 1.2 * small() * mpl.rcParams["figure.dpi"] / 72.0 / ax.bbox.height
    places = spread(ends[order, 1], least, 1.0 - least * bool(header))
    text: dict[str, Any] = {"fontsize": small(), "va": "center", "xycoords": "axes fraction", "annotation_clip": False}
    for i, place in zip(order, places, strict=True):
        colour = legible(lines[i].get_color())
        dash = "-" if ends[i, 0] > NEARLY else ":"  # what crosses the panel is not to be taken for a line
        leader = {
            "arrowstyle": "-",
            "linestyle": dash,
            "color": colour,
            "linewidth": 0.5,
            "shrinkA": 0,
            "shrinkB": 1,
            "relpos": (0, 0.5),
        }
        end = (max(ends[i, 0], 0.0), np.clip(ends[i, 1], 0.0, 1.0))
        ax.annotate(str(lines[i].get_label()), end, (1.05, place), color=colour, arrowprops=leader, **text)
    if header:
        ax.annotate(header, (1.05, places[-1] + least), fontsize=small(), va="center", xycoords="axes fraction")


def legible(colour: Any) -> tuple[float, ...]:
    """A colour, as dark as text on white has to be: a contrast of 4.5 (WCAG 2, 1.4.3)."""
    rgb = np.array(to_rgb(colour))
    while _luminance(rgb) > 1.05 / 4.5 - 0.05:
        rgb = 0.95 * rgb
    return tuple(rgb.tolist())


def _luminance(rgb: np.ndarray[Any, Any]) -> float:
    """Relative luminance of an sRGB colour (WCAG 2)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def spread(places: np.ndarray[Any, Any], least: float, top: float = 1.0) -> np.ndarray[Any, Any]:
    """Ascending places moved as little as will do (least squares) to be so far apart, and between 0 and `top`.

    Where there is no room for that, they overhang on both sides.

    >>> spread(np.array([0.0, 0.1, 0.5]), 0.2).round(3).tolist()
    [0.0, 0.2, 0.5]
    """
    steps = least * np.arange(len(places))
    room = top - steps[-1]
    return np.clip(isotonic_regression(places - steps).x, min(0.0, room / 2), max(room, room / 2)) + steps


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
            light = 0.5 * member / len(specs)
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
