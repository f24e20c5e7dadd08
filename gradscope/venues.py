"""Where a figure is to be printed: widths, type sizes and fonts of venues, so that it is drawn at its final size.

Conferences' and JMLR's come from `tueplots`; widths of PNAS (8.7 and 17.8 cm) and Nature (89 and 183 mm, type of 5 to
7 points) from their instructions for authors. Fonts are those that come with matplotlib, so that figures are the same
on every machine; LaTeX, on request, brings its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

from tueplots import bundles

from gradscope.errors import InputError, unknown

CM = 1 / 2.54  # inches
SERIF = {"font.family": "serif", "font.serif": ["STIXGeneral"], "mathtext.fontset": "stix"}


class Venue(NamedTuple):
    """A venue.

    Attributes
    ----------
    column, page : widths in inches of a figure of one panel, and of several side by side.
    settings : of matplotlib.
    """

    column: float
    page: float
    settings: dict[str, Any]


def _sized(points: float, small: float) -> dict[str, Any]:
    """Type of two sizes: for labels and titles, and for ticks and legends."""
    large = dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), points)
    return large | dict.fromkeys(("legend.fontsize", "xtick.labelsize", "ytick.labelsize"), small)


def _of_bundle(settings: dict[str, Any], column: float | None = None) -> Venue:
    """A venue of tueplots; where it has one column only, a figure of one panel takes three fifths of it."""
    page = settings.pop("figure.figsize")[0]
    return Venue(column or 0.6 * page, page, settings)


def _icml() -> Venue:
    column = bundles.icml2024(column="half")["figure.figsize"][0]
    return _of_bundle(bundles.icml2024(column="full"), column)


VENUES: dict[str, Callable[[], Venue]] = {
    "iclr": lambda: _of_bundle(bundles.iclr2024()),
    "icml": _icml,
    "jmlr": lambda: _of_bundle(bundles.jmlr2001()),
    "nature": lambda: Venue(8.9 * CM, 18.3 * CM, _sized(7, 6)),
    "neurips": lambda: _of_bundle(bundles.neurips2024()),
    "plain": lambda: Venue(3.4, 7.0, _sized(8, 7)),
    "pnas": lambda: Venue(8.7 * CM, 17.8 * CM, _sized(8, 7)),
}


def venue(name: str, latex: bool = False) -> Venue:
    """The venue called `name`, with type set by LaTeX if asked for.

    Raises
    ------
    InputError : unknown venue; no LaTeX on this machine.

    Examples
    --------
    >>> round(venue("nature").column, 2)
    3.5
    """
    if name not in VENUES:
        raise unknown("style", name, VENUES, where="style")
    found = VENUES[name]()
    if latex and not shutil.which("latex"):
        raise InputError("latex is not installed", where="latex", hint="leave it out: mathtext needs nothing")
    fonts = SERIF if found.settings.get("font.family") == "serif" and not latex else {}
    return found._replace(settings=found.settings | fonts | {"text.usetex": latex})
