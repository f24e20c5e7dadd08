"""Figures, one a file: `table(results)` says what is drawn, `draw(table)` draws it, the docstring is title and caption.

A figure whose lines differ by a parameter names it in `LINES`; the results' view can choose another, but for the one
that they are drawn `ACROSS`. One of trainings says so, `MEASURE = "training"`; the others are of gradients of networks
as they are drawn. `write` saves each as PNG, SVG and PDF together with a CSV of exactly what is drawn, and
`figures.json`, which says how they were drawn.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from gradscope import __version__, drawing, plugins
from gradscope.drawing import CannotDrawError
from gradscope.errors import unknown
from gradscope.files import DamagedError, read_json, write_json, write_whole
from gradscope.grid import MEASURES
from gradscope.loading import Loaded, measured
from gradscope.outlook import MOST_PANELS

FAMILY = sys.modules[__name__]
FORMATS = ("png", "svg", "pdf")
logging.getLogger("fontTools").setLevel(logging.ERROR)  # of the fonts' dates, in each PDF, nothing can be done
RECORD = "figures.json"
# Dates and versions would make equal figures differ in their bytes.
_METADATA = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}


class Drawn(NamedTuple):
    """A figure that was written, or why it could not be: then `files` is empty and `reason` says it.

    `alt` says in words what is drawn, for those who do not see it.
    """

    name: str
    title: str
    caption: str
    files: dict[str, Path]
    reason: str = ""
    alt: str = ""


def names(of: Loaded | None = None) -> tuple[str, ...]:
    """The names of all figures, or of those of what some results hold: gradients, or trainings."""
    found = plugins.names(FAMILY)
    return found if of is None else tuple(name for name in found if _measure(_module(name)) in measured(of))


def figure(
    results: Loaded,
    name: str,
    *,
    hue: str | None = None,
    facet: Sequence[str] = (),
    style: str = "plain",
    latex: bool = False,
) -> Figure:
    """Draw one figure of some results, to go on with.

    Parameters
    ----------
    results : from `gs.sweep`, `gs.train` or `gs.load`, or a part of a sweep's (`select`, `where`).
    name : of the figure, as "gradient-vs-lag".
    hue : the swept parameter by which lines of a panel differ, instead of the figure's own.
    facet : swept parameters that get a panel for each value, though the figure has none for them.
    style : the venue at whose size and type it is drawn: "plain", "neurips", "icml", "iclr", "jmlr", "pnas", "nature".
    latex : set text with LaTeX, which has to be installed.

    Returns
    -------
    matplotlib.figure.Figure : for `savefig`, or to change; its axes hold the lines by name (`get_gid`).

    Raises
    ------
    InputError : unknown figure, parameter or style.
    CannotDrawError : the results lack what the figure shows; the message says what.

    Examples
    --------
    `gs.figure(results.where("spectral_radius < 1.2"), "gradient-vs-lag", hue="seq_len").savefig("lag.pdf")`; within
    `gs.style(NAME)`, if it was drawn for a venue, so that it has that one's fonts.
    """
    shown = results.viewed(hue, facet) if hue or facet else results
    table = table_of(shown, name)
    with drawing.style(style, latex):
        drawn: Figure = _module(name).draw(table)
        return drawn


def table_of(results: Loaded, name: str) -> pd.DataFrame:
    """The numbers of a figure.

    Raises InputError for an unknown figure, CannotDrawError if the results lack what it shows.
    """
    module = _module(name)
    if results.view.hue and not hasattr(module, "LINES"):
        raise CannotDrawError(f"has no lines that could differ by {results.view.hue}")
    if results.view.hue and results.view.hue == getattr(module, "ACROSS", None):
        raise CannotDrawError(f"is drawn against {results.view.hue}, by which its lines cannot differ as well")
    if _measure(module) not in measured(results):
        raise CannotDrawError(f'needs runs with measure = "{_measure(module)}"')
    table: pd.DataFrame = module.table(results)
    return table.reset_index(drop=True)


def write(
    results: Loaded,
    folder: Path,
    formats: Sequence[str] = FORMATS,
    *,
    only: Sequence[str] = (),
    style: str = "plain",
    latex: bool = False,
    dpi: int = 300,
) -> list[Drawn]:
    """Write every figure that the results allow, or some only, into `folder`, as `NAME.FORMAT` and `NAME.csv`.

    `dpi` is of PNG, and of what is dense in SVG and PDF. Raises InputError for an unknown format, figure or style.
    """
    for kind in formats:
        if kind not in FORMATS:
            raise unknown("format", kind, FORMATS)
    for name in only:
        _module(name)
    folder.mkdir(parents=True, exist_ok=True)
    with drawing.style(style, latex, dpi):
        drawn = [_write(name, results, folder, formats) for name in only or names(results)]
    how = {
        "style": style,
        "latex": latex,
        "dpi": dpi,
        "view": results.view._asdict() | {"facet": list(results.view.facet)},
        "formats": list(formats),
        "versions": versions(),
    }
    before = {name: record for name, record in recorded(folder).items() if (folder / f"{name}.csv").exists()}
    write_json(folder / RECORD, {"figures": before | {one.name: how for one in drawn if one.files}}, indent=1)
    return drawn


def recorded(folder: Path) -> dict[str, Any]:
    """How each figure in a folder was drawn, by its name."""
    try:
        found: dict[str, Any] = read_json(folder / RECORD)["figures"]
    except (FileNotFoundError, DamagedError):
        return {}
    return found


def versions() -> dict[str, str]:
    """What the bytes of a figure depend on besides its numbers."""
    return {"gradscope": __version__, "matplotlib": mpl.__version__}


def _module(name: str) -> ModuleType:
    if name not in names():
        raise unknown("figure", name, names())
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def _measure(module: ModuleType) -> str:
    """What a figure is of: see `loading.measured`."""
    return str(getattr(module, "MEASURE", MEASURES[0]))


def _write(name: str, results: Loaded, folder: Path, formats: Sequence[str]) -> Drawn:
    module = _module(name)
    said = Drawn(name, *told(module), {})
    try:
        table = table_of(results, name)
    except CannotDrawError as error:
        return said._replace(reason=str(error))
    if (panels := table["panel"].nunique()) > MOST_PANELS:
        _write_table(table, folder / f"{name}.csv")
        return said._replace(reason=f"{panels} panels are more than can be seen; their numbers are in {name}.csv")
    return save(said, table, module.draw, folder, formats)


def save(
    said: Drawn, table: pd.DataFrame, draw: Callable[[pd.DataFrame], Figure], folder: Path, formats: Sequence[str]
) -> Drawn:
    """Draw a table and write both into a folder, as NAME.csv and, in the style that is set, NAME.FORMAT."""
    files = {kind: folder / f"{said.name}.{kind}" for kind in ("csv", *formats)}
    _write_table(table, files["csv"])
    drawn = draw(table)
    # Laid out once: each format's own fonts would move things a little, and the first would move the next.
    drawn.draw_without_rendering()
    drawn.set_layout_engine("none")
    for kind in formats:
        write_whole(files[kind], partial(drawn.savefig, format=kind, metadata=_METADATA[kind]))
    return said._replace(files=files, alt=in_words(table))


def told(documented: Any) -> tuple[str, str]:
    """Title and text of a docstring: its first line, and the rest as one line."""
    title, _, text = (part.strip() for part in str(documented.__doc__).partition("\n"))
    return title.rstrip("."), " ".join(text.split())


def _write_table(table: pd.DataFrame, path: Path) -> None:
    write_whole(path, lambda place: table.to_csv(place, index=False))


def in_words(table: pd.DataFrame) -> str:
    """What a table holds: the panels, and of each column its values or its range.

    >>> in_words(pd.DataFrame({"panel": ["a", "b"], "lag": [0, 9], "median": [-1.0, 2.5]}))
    '2 panels: a; b. lag from 0 to 9. median from -1 to 2.5.'
    """
    parts = []
    for name in table:
        values = pd.unique(table[name].dropna())
        if name == "panel":
            words = [str(value) for value in values if value != ""]
            parts += [f"{len(words)} panels: {'; '.join(words)}." if len(words) > 1 else f"{'; '.join(words)}."][
                : len(words)
            ]
        elif not pd.api.types.is_numeric_dtype(table[name]):
            parts.append(
                f"{name}: {', '.join(map(str, values))}." if len(values) <= 14 else f"{len(values)} values of {name}."
            )
        elif len(values):
            low, high = values.min(), values.max()
            parts.append(f"{name} {low:.3g}." if low == high else f"{name} from {low:.3g} to {high:.3g}.")
    return " ".join(parts)
