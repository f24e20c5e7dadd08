"""Figures, one a file: `table(results)` says what is drawn, `draw(table)` draws it, the docstring is title and caption.

`write` saves each as PNG, SVG and PDF together with a CSV of exactly what is drawn.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gradscope import plugins
from gradscope.drawing import CannotDrawError, style
from gradscope.errors import unknown
from gradscope.files import write_whole
from gradscope.outlook import MOST_PANELS
from gradscope.results import Results

FAMILY = sys.modules[__name__]
FORMATS = ("png", "svg", "pdf")
# Dates and versions would make equal figures differ in their bytes.
_METADATA = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}


class Drawn(NamedTuple):
    """A figure that was written, or why it could not be: then `files` is empty and `reason` says it."""

    name: str
    title: str
    caption: str
    files: dict[str, Path]
    reason: str = ""


def write(results: Results, folder: Path, formats: Sequence[str] = FORMATS) -> list[Drawn]:
    """Write every figure that the results allow into `folder`, as `NAME.FORMAT` and `NAME.csv`."""
    for kind in formats:
        if kind not in FORMATS:
            raise unknown("format", kind, FORMATS)
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(name, results, folder, formats) for name in plugins.names(FAMILY)]


def _write(name: str, results: Results, folder: Path, formats: Sequence[str]) -> Drawn:
    figure = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    title, _, caption = (part.strip() for part in str(figure.__doc__).partition("\n"))
    try:
        table = figure.table(results)
    except CannotDrawError as error:
        return Drawn(name, title.rstrip("."), " ".join(caption.split()), {}, str(error))
    files = {kind: folder / f"{name}.{kind}" for kind in ("csv", *formats)}
    write_whole(files["csv"], lambda path: table.to_csv(path, index=False))
    if (panels := table["panel"].nunique()) > MOST_PANELS:
        reason = f"{panels} panels are more than can be seen; their numbers are in {name}.csv"
        return Drawn(name, title.rstrip("."), " ".join(caption.split()), {}, reason)
    with style():
        drawn = figure.draw(table)
        # Laid out once: each format's own fonts would move things a little, and the first would move the next.
        drawn.draw_without_rendering()
        drawn.set_layout_engine("none")
        for kind in formats:
            write_whole(files[kind], partial(drawn.savefig, format=kind, metadata=_METADATA[kind]))
    return Drawn(name, title.rstrip("."), " ".join(caption.split()), files)
