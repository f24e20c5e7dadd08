"""An experiment: TOML -> Sweep. Every value is checked here, before anything runs or is written.

What may be swept: the keys of `BASE`, and the options (dataclass fields) of the cells and tasks that are chosen.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
import numpy as np
from msgspec import Meta

from gradscope import cells, ensembles, plugins, tasks, truncations
from gradscope.errors import InputError, unknown
from gradscope.gradients import REDUCTIONS
from gradscope.losses import LOSSES, select_steps
from gradscope.runs import Run, digest

Size = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[float, Meta(ge=0)]

# The keys that every run has, with their types and defaults. `loss` defaults to the task's own.
BASE: dict[str, tuple[Any, Any]] = {
    "cell": (str, "elman"),
    "ensemble": (str, "gaussian"),
    "hidden_size": (Size, 64),
    "spectral_radius": (NotNegative, 1.0),
    "seq_len": (Size, 100),
    "truncation": (str, "full"),
    "task": (str, "noise"),
    "input_scale": (NotNegative, 0.1),
    "loss": (str, None),
    "loss_steps": (str | int | list[int], "last"),
    "reduction": (str, "mean"),
    "batch_size": (Size, 16),
    "seed": (Annotated[int, Meta(ge=0)], 0),
}
FAMILIES = {"cell": cells.FAMILY, "task": tasks.FAMILY}  # keys whose choice brings options of its own
SIZES = ("input_size", "output_size")  # decided by the task; an option only of tasks that leave it open
CANONICAL = {  # keys whose values are checked and rewritten, so that one thing has one spelling
    "ensemble": lambda spec: plugins.spec_of(plugins.parse(ensembles.FAMILY, spec)),
    "truncation": lambda spec: plugins.spec_of(truncations.truncation(spec)),
    "reduction": lambda name: _one_of("reduction", name, REDUCTIONS),
    "loss": lambda name: name and _one_of("loss", name, LOSSES),
}
SHIPPED = next(
    folder
    for folder in (Path(__file__).parent / "experiments", Path(__file__).parent.parent / "experiments")
    if folder.is_dir()  # inside the wheel, or beside the package in a checkout
)


@dataclass(frozen=True)
class Sweep:
    """A sweep as resolved: its name and, for each key, the values in canonical form. The grid is their product."""

    name: str
    grid: Mapping[str, tuple[Any, ...]]
    records: Mapping[str, Mapping[str, Any]]  # task name -> what its data are

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """The grid, in the order of its keys, without duplicates; runs hold only the options that apply to them."""
        return tuple(_product(self))

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits that name this grid."""
        return digest([run.run_id for run in self.runs])


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
        given = {key: value for key, value in given.items() if key not in _options_anywhere()}
    for key, value in overrides.items():
        given[key], places[key] = value, f"--set {key}"
    name = given.pop("name", path.stem)
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
        raise InputError(f"{name!r}", where=places["name"], allowed="letters, digits, '.', '_' and '-'")
    return resolve(name, given, places)


def resolve(name: str, given: Mapping[str, Any], places: Mapping[str, str] | None = None) -> Sweep:
    """Check every value of `given` (key -> value, list or range) and complete it with the defaults.

    `places` says where each key stands, for the errors.
    """
    at = _Places(places or {})
    values = dict(given)
    plugged = {
        key: {choice: _find(family, choice, at[key]) for choice in _values(values.get(key, BASE[key][1]), str, at[key])}
        for key, family in FAMILIES.items()
    }
    known = BASE | {
        k: field for chosen in plugged.values() for plugin in chosen.values() for k, field in _fields(plugin)
    }
    fixed = {size: values.pop(size) for size in SIZES if size in values and size not in known}
    for key in values:
        if key not in (known.keys() | {"seeds"}) - {"seed"}:
            raise _not_a_key(key, known, at[key])
    if "seeds" in values:
        values["seed"] = _seeds(values.pop("seeds"), at["seeds"])
        at["seed"] = at["seeds"]
    grid = {
        key: _values(values[key], kind, at[key]) if key in values else (default,)
        for key, (kind, default) in known.items()
    }
    for key, canonical in CANONICAL.items():
        grid[key] = _distinct([_at(at[key], canonical, value) for value in grid[key]], at[key])
    records = dict(_check_tasks(grid, plugged["task"], fixed, at))
    _check_cells(grid, plugged["cell"], at)
    for loss_steps, seq_len in itertools.product(grid["loss_steps"], grid["seq_len"]):
        _at(at["loss_steps"], select_steps, loss_steps, seq_len)
    return Sweep(name, grid, records)


def _locate(experiment: str | Path) -> Path:
    text = str(experiment)
    if text in names():
        return SHIPPED / f"{text}.toml"
    path = Path(experiment)
    if path.suffix == ".toml" or "/" in text:
        return path
    raise (
        unknown("experiment", text, names())
        if not path.exists()
        else InputError(
            "not a TOML file", where=text, allowed="a file ending in .toml, or one of " + ", ".join(names())
        )
    )


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
    lines = content.splitlines()

    def place(pattern: str) -> str:
        found = [number for number, line in enumerate(lines, 1) if re.match(pattern, line)]
        return f"{path}, line {found[0]}" if found else str(path)

    for table in tables:
        if table != "sweep":
            raise unknown("table", table, ["sweep"], where=place(rf"\s*\[?\[?\s*{re.escape(table)}\b"))
    if not isinstance(tables.get("sweep"), dict):
        raise InputError("no [sweep] table", where=str(path))
    keys = tables["sweep"]
    written = {key: place(rf"""\s*["']?{re.escape(key)}["']?\s*=""") for key in ["name", *keys]}
    return dict(keys), {key: f"{where}, {key}" for key, where in written.items()}


def _one_of(kind: str, name: str, choices: Iterable[str]) -> str:
    if name not in choices:
        raise unknown(kind, name, choices)
    return name


class _Places(dict[str, str]):
    """Where each key stands; a key that nobody wrote stands under its own name."""

    def __missing__(self, key: str) -> str:
        return key


def _at(where: str, check: Callable[..., Any], *args: Any) -> Any:
    """check(*args), its errors said to stand at `where`."""
    try:
        return check(*args)
    except InputError as error:
        raise error.at(where) from None


def _find(family: ModuleType, name: str, where: str) -> type:
    found: type = _at(where, plugins.find, family, name)
    return found


def _fields(plugin: type) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Key -> (type, default) of a plug-in's options; sizes, which have no default, are not options."""
    types = get_type_hints(plugin)
    for field in dataclasses.fields(plugin):
        if field.default is not dataclasses.MISSING:
            yield field.name, (types[field.name], field.default)


def _not_a_key(key: str, known: Mapping[str, Any], where: str) -> InputError:
    if key in _options_anywhere():
        return InputError("is an option of none of the cells and tasks chosen", where=where, hint="remove it")
    return unknown("key", key, ({*known} - {"seed"}) | _options_anywhere() | {"name", "seeds"}, where=where)


def _options_anywhere() -> set[str]:
    return {
        option
        for family in FAMILIES.values()
        for name in plugins.names(family)
        for option, _ in _fields(plugins.find(family, name))
    }


def _seeds(given: Any, where: str) -> list[Any]:
    if isinstance(given, list | tuple | np.ndarray):
        return list(given)
    if type(given) is not int or given < 1:
        raise InputError(f"{given!r}", where=where, allowed="a number of seeds >= 1, or a list of seeds")
    return list(range(given))


def _values(given: Any, kind: Any, where: str) -> tuple[Any, ...]:
    """The values of one key: one, a list, or a range { start, stop, num }."""
    if isinstance(given, Mapping):
        given = _range(given, where)
    listed = given if isinstance(given, list | tuple | np.ndarray) else [given]
    if not len(listed):
        raise InputError("empty list", where=where, allowed="at least one value")
    return _distinct([_convert(value, kind, where) for value in listed], where)


def _distinct(values: list[Any], where: str) -> tuple[Any, ...]:
    for value in values:
        if values.count(value) > 1:
            raise InputError(f"{value!r} is listed twice", where=where)
    return tuple(values)


def _convert(value: Any, kind: Any, where: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    try:
        converted = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"{value!r}", where=where, allowed=_expected(error, kind)) from None
    if isinstance(converted, float) and not np.isfinite(converted):
        raise InputError(f"{value!r} is not finite", where=where, allowed="a finite number")
    if kind is BASE["loss_steps"][0]:
        return ",".join(map(str, sorted(converted))) if isinstance(converted, list) else str(converted)
    return converted


def _expected(error: msgspec.ValidationError, kind: Any) -> str:
    """What a type allows, in a user's words."""
    words = {"int": "a whole number", "float": "a number", "str": "text", "array": "a list", " | ": " or "}
    found = re.match("Expected (.*?)(, got .*)?$", str(error))
    if not found:  # a text that is none of those that a Literal lists
        return " or ".join(repr(choice) for part in get_args(kind) for choice in get_args(part))
    return re.sub(r"\b(int|float|str|array)\b| \| ", lambda word: words[word[0]], found[1].replace("`", ""))


class _Range(msgspec.Struct, forbid_unknown_fields=True):
    start: float
    stop: float
    num: Annotated[int, Meta(ge=1)]


def _range(given: Mapping[str, Any], where: str) -> list[float]:
    try:
        span = msgspec.convert(dict(given), _Range)
    except msgspec.ValidationError as error:
        raise InputError(f"range {dict(given)!r}: {error}", where=where, allowed="{ start, stop, num }") from None
    # 12 digits, so that a value can be written down and found again: 1.15, not 1.1500000000000001.
    points = [float(f"{point:.12g}") for point in np.linspace(span.start, span.stop, span.num)]
    return [int(point) if point.is_integer() and abs(point) < 2**53 else point for point in points]


def _choices(grid: Mapping[str, tuple[Any, ...]], plugin: type) -> Iterator[dict[str, Any]]:
    """Every combination of a plug-in's options in the grid."""
    keys = [key for key, _ in _fields(plugin)]
    for values in itertools.product(*(grid[key] for key in keys)):
        yield dict(zip(keys, values, strict=True))


def _check_cells(grid: Mapping[str, tuple[Any, ...]], chosen: Mapping[str, type], at: _Places) -> None:
    sizes = {"hidden_size": 1, "input_size": 1, "output_size": 1}
    for name, plugin in chosen.items():
        for options in _choices(grid, plugin):
            try:
                cells.cell(name, **sizes, **options)
            except InputError as error:
                raise error.at(at[error.where or "cell"]) from None


def _check_tasks(
    grid: dict[str, tuple[Any, ...]], chosen: Mapping[str, type], fixed: Mapping[str, Any], at: _Places
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Make every task, read its data, and hold losses, lengths and sizes against it; yield task, record of its data.

    `fixed` holds the sizes that were given although every task that is chosen has its own: they must be those.
    """
    for name, plugin in chosen.items():
        for options in _choices(grid, plugin):
            try:
                task = tasks.task(name, **options)
                record = task.record()
            except InputError as error:
                raise error.at(at[error.where or "task"]) from None
            for key, size in zip(SIZES, task.sizes, strict=True):
                if fixed.get(key, size) != size:
                    raise InputError(
                        f"{fixed[key]!r}, but task {name} has {size}", where=at[key], hint="remove the key"
                    )
            for loss in grid["loss"]:
                if loss not in (None, *task.losses):
                    raise unknown(f"loss for task {name}", loss, task.losses, where=at["loss"])
            if max(grid["seq_len"]) > task.longest:
                raise InputError(
                    f"{max(grid['seq_len'])} steps are more than task {name} has data for",
                    where=at["seq_len"],
                    allowed=f"at most {task.longest:g}, half of its data",
                )
            yield name, record


def _product(sweep: Sweep) -> Iterator[Run]:
    """The runs of a grid; each holds only the options that apply to it, so that none stands there twice."""
    completed: dict[tuple[Any, ...], dict[str, Any]] = {}
    seen = set()
    for values in itertools.product(*sweep.grid.values()):
        point = dict(zip(sweep.grid, values, strict=True))
        choice = tuple(value for key, value in point.items() if key in FAMILIES or key not in BASE or key == "loss")
        if choice not in completed:
            completed[choice] = _complete(point)
        run = Run({key: value for key, value in point.items() if key in BASE} | completed[choice])
        if run.run_id not in seen:
            seen.add(run.run_id)
            yield run


def _complete(point: Mapping[str, Any]) -> dict[str, Any]:
    """What the cell and the task of a grid point add to its run: their options, the sizes, the loss, the data."""
    own = {key for name, family in FAMILIES.items() for key, _ in _fields(plugins.find(family, point[name]))}
    options = {key: value for key, value in point.items() if key in own}
    task = Run({"task": point["task"], **options}).task()
    sizes = dict(zip(SIZES, task.sizes, strict=True))
    data = {"data": task.record()["sha256"][:16]} if "sha256" in task.record() else {}
    return {"loss": point["loss"] or task.losses[0], **options, **sizes, **data}
