"""The catalogue of papers, one a file: a module of this folder, or a TOML file of `experiments/papers`.

A module's docstring is title and description. It holds SETUP, SOURCES, REPEATS, SECONDS and CLAIMS (see `paper.Paper`),
`measure(seed)`, which returns tables by name, and FIGURES, functions that each draw the table of their own name (with
hyphens) and whose docstring is title and caption.

A TOML file has these as keys of [paper] (with `title`, `about` and, by name, the `figures` of the sweep), a [sweep]
like any experiment's, and [[claims]] on the tables of `quantities`. [paper.views.FIGURE] says `where`,
`hue` and `facet` of a figure that is not of all runs, or not laid out as usual.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

import msgspec
import pandas as pd
from matplotlib.figure import Figure

from gradscope import drawing, experiment, figures, plugins, quantities
from gradscope.claims import Claim, Tables
from gradscope.errors import InputError, unknown
from gradscope.figures import Drawn
from gradscope.paper import Measured, Paper
from gradscope.results import Results
from gradscope.run import sweep

FAMILY = sys.modules[__name__]
SWEPT = experiment.SHIPPED / "papers"
SEEDS_APART = 1000  # between the runs' seeds of one seed of a reproduction and those of the next
T = TypeVar("T")


class Shown(msgspec.Struct, forbid_unknown_fields=True):
    """How a figure lays a sweep out: `Results.where`, `Results.viewed`; and what it says, if not its own caption."""

    where: str = ""
    hue: str | None = None
    facet: tuple[str, ...] = ()
    caption: str = ""


class Described(msgspec.Struct):
    """The [paper] table of a TOML file; `views` by the names of the figures that are not laid out as usual."""

    title: str
    about: str
    setup: str
    sources: tuple[str, ...]
    repeats: str
    seconds: float
    figures: tuple[str, ...]
    views: dict[str, Shown] = {}


def names() -> list[str]:
    """The papers of the catalogue."""
    return sorted([*plugins.names(FAMILY), *(path.stem for path in SWEPT.glob("*.toml"))])


def find(name: str) -> Paper:
    """The paper of that name; InputError with the near miss if there is none, or if its file cannot be."""
    if name not in names():
        raise unknown("paper", str(name), names())
    path = SWEPT / f"{name}.toml"
    try:
        return _swept(name, path) if path.is_file() else _computed(name)
    except InputError as error:
        raise error if str(path) in error.where else error.at(f"{name}: {error.where}") from None


def _computed(name: str) -> Paper:
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    title, about = figures.told(module)
    return Paper(
        name,
        title,
        about,
        module.SETUP,
        module.SOURCES,
        module.REPEATS,
        module.SECONDS,
        module.CLAIMS,
        lambda seed, _: _measured(module, seed),
    )


def _measured(module: ModuleType, seed: int) -> Measured:
    tables = module.measure(seed)
    return Measured(tables, partial(_draw, module.FIGURES, tables))


def _draw(
    drawers: Sequence[Callable[[pd.DataFrame], Figure]], tables: Tables, folder: Path, formats: Sequence[str]
) -> list[Drawn]:
    with drawing.style():
        found = []
        for draw in drawers:
            name = draw.__name__.replace("_", "-")
            table = tables[name].reset_index() if tables[name].index.names != [None] else tables[name]
            title, caption = figures.told(draw)
            found.append(figures.save(Drawn(name, title, caption, {}), table, draw, folder, formats))
        return found


def _swept(name: str, path: Path) -> Paper:
    found, claims = described(path), claimed(path)
    return Paper(
        name,
        found.title,
        found.about,
        found.setup,
        found.sources,
        found.repeats,
        found.seconds,
        claims,
        lambda seed, folder: _run(path, found, claims, seed, folder),
    )


def described(path: Path) -> Described:
    """The [paper] table of a TOML file; InputError, with file and key, for one that says less, more or otherwise."""
    where = f"{path}, [paper]"
    found = _made(Described, experiment.tables(path).get("paper", {}), where)
    if not found.figures:
        raise InputError("no figures", where=where)
    for shown in found.figures:
        if shown not in figures.names():
            raise unknown("figure", shown, figures.names(), where=f"{where}, figures")
    for view in found.views:
        if view not in found.figures:
            raise unknown("figure", view, found.figures, where=f"{where}, views")
    return found


def claimed(path: Path) -> tuple[Claim, ...]:
    """The [[claims]] of a TOML file; InputError, with file, number and key, for one that cannot be."""
    given = experiment.tables(path).get("claims", [])
    if not (given and isinstance(given, list)):
        raise InputError("no [[claims]]", where=str(path))
    return tuple(_claim(one, f"{path}, [[claims]] {number}") for number, one in enumerate(given, start=1))


def _claim(given: Any, where: str) -> Claim:
    found = _made(Claim, _tupled(given, where), where)
    table = found.quantity.partition(".")[0]
    if table not in quantities.TABLES:
        raise unknown("table", table, quantities.TABLES, where=f"{where}, quantity")
    return found


def _tupled(claim: Any, where: str) -> Any:
    """A claim of a TOML file; its expected points, [[POINT..., VALUE], ...], as `Claim` has them."""
    if not (isinstance(claim, dict) and isinstance(claim.get("expected"), list)):
        return claim
    points = claim["expected"]
    if not points or not all(isinstance(point, list) and len(point) > 1 for point in points):
        raise InputError(f"{points!r}", where=f"{where}, expected", allowed="a list of [POINT..., VALUE]")
    return claim | {"expected": tuple((tuple(at) if len(at) > 1 else at[0], value) for *at, value in points)}


def _made(kind: Callable[..., T], given: Any, where: str) -> T:
    """A Struct or dataclass of the keys of a TOML table, texts as one line.

    Raises InputError, said to stand at `where`, for an unknown key, one that is missing, or another type.
    """
    if not isinstance(given, dict):
        raise InputError(f"{given!r}", where=where, allowed="a table")
    own = {key.name: key.required for key in msgspec.inspect.type_info(kind).fields}  # type: ignore[attr-defined]
    for key in given:
        if key not in own:
            raise unknown("key", key, own, where=where)
    for key, required in own.items():
        if required and key not in given:
            needed = ", ".join(name for name, needs in own.items() if needs)
            raise InputError(f"has no {key}", where=where, allowed=f"a table with {needed}")
    types, values = get_type_hints(kind), {}
    for key, value in given.items():
        try:
            values[key] = msgspec.convert(_line(value), types[key])
        except msgspec.ValidationError as error:
            raise InputError(str(error), where=f"{where}, {key}") from None
    try:
        return kind(**values)
    except InputError as error:
        raise error.at(f"{where}, {error.where}") from None


def _line(value: Any) -> Any:
    """A value of a TOML file, texts that stand on several lines as one."""
    if isinstance(value, dict):
        return {key: _line(own) for key, own in value.items()}
    return " ".join(value.split()) if isinstance(value, str) else value


def _run(path: Path, found: Described, claims: Sequence[Claim], seed: int, folder: Path) -> Measured:
    own = experiment.read(path).grid["seed"]
    results = sweep(path, folder, {"seeds": [one + SEEDS_APART * seed for one in own]}, jobs=1)
    needed = dict.fromkeys(claim.quantity.partition(".")[0] for claim in claims)
    tables = {name: quantities.TABLES[name](results) for name in needed}

    def draw(place: Path, formats: Sequence[str]) -> list[Drawn]:
        drawn = []
        for name in found.figures:
            view = found.views.get(name, Shown())
            (one,) = figures.write(_laid_out(results, view), place, formats, only=[name])
            drawn.append(one._replace(caption=view.caption or one.caption))
        return drawn

    return Measured(tables, draw)


def _laid_out(results: Results, view: Shown) -> Results:
    shown = results.where(view.where) if view.where else results
    return shown.viewed(view.hue, view.facet) if view.hue or view.facet else shown
