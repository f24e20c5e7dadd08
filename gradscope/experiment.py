"""An experiment: a TOML file, shipped or the user's, read into a Sweep. Every error says file, line and key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradscope.errors import InputError, unknown
from gradscope.grid import FAMILIES, Sweep, options_anywhere, resolve

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
    if overrides.keys() & FAMILIES.keys():
        # Another cell or task than the file's: the options that the file has for its own no longer apply.
        given = {key: value for key, value in given.items() if key not in options_anywhere()}
    for key, value in overrides.items():
        given[key], places[key] = value, f"--set {key}"
    name = given.pop("name", path.stem)
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"{name!r}", where=places["name"], allowed="letters, digits, '.', '_' and '-'")
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


def _parse(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The [sweep] table of a TOML file, and for each key the place where it stands."""
    try:
        content = path.read_text(encoding="utf-8")
        tables = tomllib.loads(content)
    except OSError as error:
        raise InputError(f"cannot read experiment: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 at byte {error.start}", where=str(path)) from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"TOML syntax: {error}", where=str(path)) from None

    def place(pattern: str) -> str:
        found = [number for number, line in enumerate(content.splitlines(), 1) if re.match(pattern, line)]
        return f"{path}, line {found[0]}" if found else str(path)

    for table in tables:
        if table != "sweep":
            raise unknown("table", table, ["sweep"], where=place(rf"\s*\[?\[?\s*{re.escape(table)}\b"))
    keys = tables.get("sweep")
    if not isinstance(keys, dict):
        raise InputError("no [sweep] table", where=str(path))
    written = {key: place(rf"""\s*["']?{re.escape(key)}["']?\s*=""") for key in ["name", *keys]}
    return dict(keys), {key: f"{where}, {key}" for key, where in written.items()}
