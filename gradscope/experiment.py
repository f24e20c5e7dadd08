"""An experiment: a TOML file, shipped or the user's, read into a Sweep. Every error says file, line and key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradscope.errors import InputError, unknown
from gradscope.grid import FAMILIES, Sweep, options_of, own_ensembles, resolve

TABLES = ("sweep", "paper", "claims")  # the last two in the files of papers, of which a sweep takes no notice
SHIPPED = next(
    folder
    for folder in (Path(__file__).parent / "experiments", Path(__file__).parent.parent / "experiments")
    if folder.is_dir()  # inside the wheel, or beside the package in a checkout
)


def names() -> list[str]:
    """The experiments that are shipped."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def read(experiment: str | Path, overrides: Mapping[str, Any] | None = None) -> Sweep:
    """The sweep that a shipped experiment's name or a TOML file describes, with values set on top of it.

    Raises InputError, saying file, line and key, for anything in it that cannot be.
    """
    path = _locate(experiment)
    given, places = _parse(path)
    overrides = dict(overrides or {})
    for key in FAMILIES.keys() & overrides.keys():
        given = _without_options_of_others(given, key, overrides[key])
    given = _beside(path, given)
    for key, value in overrides.items():
        given[key], places[key] = value, f"--set {key}"
    name = given.pop("name", path.stem)
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"{name!r}", where=places.get("name", str(path)), allowed="letters, digits, '.', '_' and '-'")
    return resolve(name, given, places)


def _locate(experiment: str | Path) -> Path:
    text, path = str(experiment), Path(experiment)
    if text in names():
        return SHIPPED / f"{text}.toml"
    if path.suffix == ".toml":
        return path
    if path.exists():
        raise InputError("not a TOML file", where=text, allowed=f"FILE.toml, or one of {', '.join(names())}")
    raise unknown("experiment", text, names())


def _beside(path: Path, given: dict[str, Any]) -> dict[str, Any]:
    """`given` with data files that an experiment names by a relative path looked for beside the experiment."""
    files = given.get("file")
    if isinstance(files, str):
        return given | {"file": str(path.parent / files) if files else ""}
    if isinstance(files, list):
        return given | {"file": [str(path.parent / file) if isinstance(file, str) and file else file for file in files]}
    return given


def _without_options_of_others(given: dict[str, Any], key: str, choice: Any) -> dict[str, Any]:
    """`given` for another cell or task than the file's: without what none of the chosen has."""
    options = options_of(key)
    chosen = choice if isinstance(choice, list | tuple) else [choice]
    kept = set[str]().union(*(options.get(name, set()) for name in chosen if isinstance(name, str)))
    dropped = set[str]().union(*options.values()) - kept
    if key == "cell" and all(own_ensembles(name for name in chosen if name in options).values()):
        dropped.add("ensemble")
    return {name: value for name, value in given.items() if name not in dropped}


def tables(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; InputError if it cannot be read."""
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """The tables of a TOML file, and its text."""
    try:
        content = path.read_text(encoding="utf-8-sig")
        return tomllib.loads(content), content
    except OSError as error:
        raise InputError(f"cannot read experiment: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 at byte {error.start}", where=str(path)) from None
    except tomllib.TOMLDecodeError as error:
        reason = str(error).replace("at end of document", f"at the end, line {len(content.splitlines())}")
        raise InputError(f"TOML syntax: {reason}", where=str(path)) from None


def _parse(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The [sweep] table of a TOML file, and the places where its keys stand."""
    found, content = _read(path)
    lines = _lines(content)
    for table, value in found.items():
        if table not in TABLES:
            where = f"{path}, line {lines[table,]}"
            if not isinstance(value, dict | list) or (isinstance(value, list) and not isinstance(value[0], dict)):
                raise InputError(f"key {table!r} stands outside the table", where=where, hint="write it below [sweep]")
            raise unknown("table", table, ["sweep"], where=where)
    keys = found.get("sweep")
    if not isinstance(keys, dict):
        raise InputError("no [sweep] table", where=str(path))
    return dict(keys), {key: f"{path}, line {lines['sweep', key]}, {key}" for key in keys}


def _lines(content: str) -> dict[tuple[str, ...], int]:
    """The line on which each table, and each key of each table, begins.

    TOML readers do not tell. But a document cut before a statement is a document; what is new in it, against the one
    cut before the last statement, began there. Only a line that holds "=", or begins with "[", can begin a statement.
    """
    found: dict[tuple[str, ...], int] = {}
    lines = content.split("\n")
    begun = 0
    for cut in [i for i, line in enumerate(lines) if "=" in line or line.lstrip().startswith("[")] + [len(lines)]:
        try:
            tables = tomllib.loads("\n".join(lines[:cut]))
        except tomllib.TOMLDecodeError:
            continue  # within a statement of several lines
        for table, keys in tables.items():
            for path in [(table,), *((table, key) for key in (keys if isinstance(keys, dict) else ()))]:
                found.setdefault(path, begun + 1)
        begun = cut
    return found
