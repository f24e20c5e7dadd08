"""The grid of a sweep: every key checked and completed with its default, and the runs that are its product.

What may be swept: the keys of `BASE`, and the options (dataclass fields) of the cells and tasks that are chosen.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

from gradscope import cells, clips, ensembles, feeding, optimizers, plugins, tasks, truncations
from gradscope.batches import BATCHINGS
from gradscope.errors import InputError, unknown
from gradscope.gradients import REDUCTIONS
from gradscope.jacobian import check_untied
from gradscope.losses import LOSSES, select_steps
from gradscope.matching import COSTS, matched
from gradscope.recurrence import Cell
from gradscope.runs import ADDED, AS_ASKED, DTYPES, NOT_CLIPPED, SHARED, Block, Network, Run, Setting, digest
from gradscope.task import Problem, Recorded
from gradscope.values import Count, NotNegative, Positive, Seed, Size, Steps, distinct, kind_of, seeds_of, values_of

# The keys that every run has, with their types and defaults. `loss` defaults to the task's own.
BASE: dict[str, tuple[Any, Any]] = {
    "cell": (str, "elman"),
    "num_layers": (Size, 1),
    "match": (str, "units"),
    "ensemble": (str, "gaussian"),
    "hidden_size": (Size, 64),
    "spectral_radius": (NotNegative, 1.0),
    "seq_len": (Size, 100),
    "truncation": (str, "full"),
    "task": (str, "noise"),
    "input_scale": (NotNegative, 0.1),
    "loss": (str, None),
    "loss_steps": (Steps, "last"),
    "reduction": (str, "mean"),
    "clip": (str, NOT_CLIPPED),
    "batch_size": (Size, 16),
    "draws": (Count, 0),
    "minibatches": (Count, 0),
    "dtype": (str, "float64"),
    "seed": (Seed, 0),
}
MEASURES = ("gradients", "jacobian", "training")  # of the network as it is drawn, and more of it, or while it learns
# The keys that a run has besides if Jacobians are measured too.
JACOBIAN: dict[str, tuple[Any, Any]] = {
    "measure": (str, "jacobian"),
    "exponents": (Count, 0),
    "trajectories": (Size, 4),
    "washout": (Count, 50),
    "tied": (bool, True),
}
LONG = 300  # the default length of sequences on which Jacobians are measured
# The keys that a training has besides, and those that say what is measured of gradients, which it has not.
TRAINING: dict[str, tuple[Any, Any]] = {
    "measure": (str, "training"),
    "batching": (str, "random"),
    "optimizer": (str, "adam"),
    "learning_rate": (Positive, 1e-3),
    "steps": (Size, 2000),
    "record_every": (Size, 100),
    "patience": (Count, 0),
    "output_scale": (NotNegative, 1.0),
}
NOT_OF_TRAINING = ("draws", "minibatches")
# The defaults in which trainings differ: a network that is to learn begins well initialised, and clipped.
TRAINED: dict[str, Any] = {
    "ensemble": "orthogonal",
    "input_scale": 1.0,
    "seq_len": 50,
    "batch_size": 32,
    "loss_steps": AS_ASKED,
    "clip": "norm:1",
}
MEASURED = {"gradients": {}, "jacobian": JACOBIAN, "training": TRAINING}  # keys besides those of BASE
FAMILIES = {"cell": cells.FAMILY, "task": tasks.FAMILY}  # keys whose choice brings options of its own
SIZES = ("input_size", "output_size")  # decided by the task; an option only of tasks that leave it open
CANONICAL: dict[str, Callable[[Any], Any]] = {  # checks values, and gives one thing one spelling
    "ensemble": lambda spec: plugins.spec_of(plugins.parse(ensembles.FAMILY, spec)),
    "truncation": lambda spec: plugins.spec_of(truncations.truncation(spec)),
    "reduction": lambda name: _one_of("reduction", name, REDUCTIONS),
    "clip": lambda spec: plugins.spec_of(clips.clip_of(spec)),
    "draws": lambda number: _several("draws", number),
    "minibatches": lambda number: _several("minibatches", number),
    "loss": lambda name: name and _one_of("loss", name, LOSSES),
    "loss_steps": lambda steps: _steps_text(steps),
    "dtype": lambda name: _one_of("dtype", name, DTYPES),
    "optimizer": lambda spec: plugins.spec_of(optimizers.optimizer(spec)),
    "batching": lambda name: _one_of("batching", name, BATCHINGS),
    "match": lambda name: _one_of("match", name, COSTS),
}
MINIBATCHES = 100  # on which clips are measured, if the experiment does not say
SCALES = ("spectral_radius", "input_scale", "output_scale", "learning_rate")
FLOAT32 = (1e-30, 1e30)  # scales that leave float32 room for the spread of what is scaled

Grid = Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Sweep:
    """A sweep as resolved.

    Attributes
    ----------
    name : of the experiment.
    grid : key -> its values in canonical form; the runs are their product.
    data : task -> what its data are and how they were normalised.
    kinds : parameter of a run -> int, float or str (a parameter that may be a number or a text is a text).
    notes : what was added to what was given, for the user to know.
    """

    name: str
    grid: Grid
    data: Mapping[str, Mapping[str, Any]]
    kinds: Mapping[str, type]
    notes: tuple[str, ...] = ()

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The grid as products, none twice; their runs hold only the options that apply to them."""
        return tuple(_blocks(self.grid))

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs, in the order of the grid's keys and values."""
        ranks = {key: {repr(value): rank for rank, value in enumerate(values)} for key, values in self.grid.items()}

        def place(run: Run) -> list[int]:
            return [rank.get(repr(run.parameters.get(key)), 0) for key, rank in ranks.items()]

        return tuple(sorted((run for block in self.blocks for run in block.runs), key=place))

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits that name this grid."""
        return digest([block.key for block in self.blocks])


def resolve(name: str, given: Mapping[str, Any], places: Mapping[str, str] | None = None) -> Sweep:
    """Check every value of `given` (key -> value, list or range) and complete it with the defaults.

    `places` says where each key stands, for the errors.

    >>> sweep = resolve("small", {"spectral_radius": {"start": 0.5, "stop": 1.5, "num": 3}, "seeds": 2})
    >>> len(sweep.runs)
    6
    """
    at = _Places(places or {})
    values = dict(given)
    chosen = {
        key: {choice: _find(key, choice, at) for choice in values_of(values.get(key, BASE[key][1]), str, at[key])}
        for key in FAMILIES
    }
    measure = _measure(values, at)
    trains = measure == "training"
    known = _keys(measure, list(chosen["task"].values()))
    known |= dict(option for named in chosen.values() for plugin in named.values() for option in _fields(plugin))
    own = _own(chosen["task"])
    if own and measure != MEASURES[0]:
        what = f"task {next(iter(chosen['task']))} has measurements of its own"
        raise InputError(what, where=at["measure"], hint="remove it")
    known |= {key: (known[key][0], value) for key, value in own.items() if key in known}
    fixed = {key: values_of(values.pop(key), int, at[key]) for key in SIZES if key in values and key not in known}
    for key in values:
        if key not in (known.keys() | {"seeds"}) - {"seed"}:
            raise _not_a_key(key, known, at[key])
    if "seeds" in values:
        values["seed"], at["seed"] = seeds_of(values.pop("seeds"), at["seeds"]), at["seeds"]
    grid = {
        key: values_of(values[key], kind, at[key]) if key in values else (default,)
        for key, (kind, default) in known.items()
    }
    for key, canonical in CANONICAL.items():
        if key not in grid:
            continue
        with at.errors(key):
            grid[key] = distinct([canonical(value) for value in grid[key]], at[key])
    _check_own(grid, own, at)
    notes = () if trains else tuple(_completed(grid, at, given))
    _check_scales(grid, at)
    _check_ensembles(grid, at, given)
    data = dict(_check_tasks(grid, chosen["task"], fixed, at))
    _check_cells(grid, at)
    for loss_steps, seq_len in itertools.product(grid["loss_steps"], grid["seq_len"]):
        if not (trains and loss_steps == AS_ASKED):
            with at.errors("loss_steps"):
                select_steps(loss_steps, seq_len)
    if trains:
        _check_feeds(grid, at)
    kinds = {key: kind_of(kind, grid[key]) for key, (kind, _) in known.items()}
    from_files = {"data": str} if any("sha256" in record for record in data.values()) else {}
    return Sweep(name, grid, data, kinds | dict.fromkeys(SIZES, int) | from_files, notes)


def measure_of(grid: Mapping[str, Sequence[Any]]) -> str:
    """What is measured in a grid: one of MEASURES."""
    found: str = grid.get("measure", MEASURES)[0]
    return found


def options_of(key: str) -> dict[str, set[str]]:
    """The options of each cell (`key` "cell") or task ("task") that there is."""
    family = FAMILIES[key]
    return {name: {option for option, _ in _fields(plugins.find(family, name))} for name in plugins.names(family)}


def _measure(values: dict[str, Any], at: _Places) -> str:
    """What is measured: the key is taken out of `values`."""
    (found, *others) = values_of(values.pop("measure", MEASURES[0]), str, at["measure"])
    if others:
        raise InputError("several values", where=at["measure"], allowed=" or ".join(MEASURES), hint="sweep them apart")
    with at.errors("measure"):
        return _one_of("measure", found, MEASURES)


def _keys(measure: str, chosen: Sequence[type]) -> dict[str, tuple[Any, Any]]:
    """The keys that every run has, with their types and defaults; of a training on one task, that task's recipe."""
    if measure != "training":
        return BASE | (JACOBIAN | {"seq_len": (Size, LONG)} if measure == "jacobian" else {})
    known = {key: value for key, value in (BASE | TRAINING).items() if key not in NOT_OF_TRAINING}
    defaults = TRAINED | (dict(chosen[0].recipe) if len(chosen) == 1 else {})  # type: ignore[attr-defined]
    return known | {key: (known[key][0], value) for key, value in defaults.items() if key in known}


class _Places(dict[str, str]):
    """Where each key stands; a key that nobody wrote stands under its own name."""

    def __missing__(self, key: str) -> str:
        return key

    @contextmanager
    def errors(self, key: str) -> Iterator[None]:
        """Errors that name a parameter, or none, are said to stand where that parameter, or `key`, was written."""
        try:
            yield
        except InputError as error:
            raise error.at(self[error.where or key]) from None


def _find(key: str, name: str, at: _Places) -> type:
    with at.errors(key):
        found: type = plugins.find(FAMILIES[key], name)
    return found


def _fields(plugin: type) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Key and (type, default) of a plug-in's options; sizes, which have no default, are not options."""
    types = get_type_hints(plugin)
    for field in dataclasses.fields(plugin):
        if field.default is not dataclasses.MISSING:
            yield field.name, (types[field.name], field.default)


def _not_a_key(key: str, known: Mapping[str, Any], where: str) -> InputError:
    options = set[str]().union(*(own for family in FAMILIES for own in options_of(family).values()))
    if key in options:
        return InputError("is an option of none of the cells and tasks chosen", where=where, hint="remove it")
    for measure, keys in MEASURED.items():
        if key in keys:
            return InputError(
                "is not a key of what is measured", where=where, hint=f'it is one of measure = "{measure}"'
            )
    return unknown("key", key, ({*known} - {"seed"}) | options | {"name", "seeds"}, where=where)


def _one_of(kind: str, name: str, choices: Iterable[str]) -> str:
    if name not in choices:
        raise unknown(kind, name, choices)
    return name


def _several(kind: str, number: int) -> int:
    """A number of samples: none, or enough for a variance."""
    if number == 1:
        raise InputError("1 says nothing of how much another would differ", where=kind, allowed="0, or at least 2")
    return number


def _completed(grid: dict[str, tuple[Any, ...]], at: _Places, given: Mapping[str, Any]) -> Iterator[str]:
    """Add to a grid what its keys need, and say so."""
    if any(grid["draws"]) and "full" not in grid["truncation"]:
        grid["truncation"] = ("full", *grid["truncation"])
        yield 'truncation "full" is added, to compare with'
    if grid["clip"] != (NOT_CLIPPED,):
        if "minibatches" not in given:
            grid["minibatches"] = (MINIBATCHES,)
            yield f"minibatches = {MINIBATCHES}: clip is measured on so many"
        elif 0 in grid["minibatches"]:
            raise InputError("0, but clip is measured on minibatches", where=at["minibatches"], allowed="at least 2")


def _steps_text(steps: str | int | list[int]) -> str:
    """Loss steps as text: "last", "all", or ascending numbers."""
    if isinstance(steps, str):
        numbers = steps.split(",")
        if not all(number.strip().isdecimal() for number in numbers):
            return steps
        steps = [int(number) for number in numbers]
    return ",".join(map(str, sorted(steps))) if isinstance(steps, list) else str(steps)


def _own(chosen: Mapping[str, type]) -> dict[str, Any]:
    """The keys that the problem chosen as the task settles itself, with their values; none for tasks that are none."""
    return {
        key: value
        for plugin in chosen.values()
        if issubclass(plugin, Problem)
        for key, value in {**ADDED, **plugin.fixed()}.items()
    }


def _check_own(grid: Grid, own: Mapping[str, Any], at: _Places) -> None:
    """Refuse other values of what a problem settles itself, and tasks beside it."""
    if own and len(grid["task"]) > 1:
        raise InputError("a problem of its own among other tasks", where=at["task"], hint="sweep it alone")
    for key, value in own.items():
        if grid[key] != (value,):
            given, task = ", ".join(map(str, grid[key])), grid["task"][0]
            raise InputError(f"{given}, but task {task} has {value}", where=at[key], hint="remove the key")


def _choices(grid: Grid, plugin: type) -> Iterator[dict[str, Any]]:
    """Every combination of a plug-in's options in the grid."""
    keys = [key for key, _ in _fields(plugin)]
    for values in itertools.product(*(grid[key] for key in keys)):
        yield dict(zip(keys, values, strict=True))


def _check_scales(grid: Grid, at: _Places) -> None:
    """Refuse scales that float32 cannot hold, if it is asked for."""
    low, high = FLOAT32
    for key in SCALES if "float32" in grid["dtype"] else ():
        for value in grid.get(key, ()):
            if value and not low <= value <= high:
                allowed = f"0, or {low:g} to {high:g} with dtype float32"
                raise InputError(
                    f"{value:g} needs float64", where=at[key], allowed=allowed, hint='set dtype = "float64"'
                )


def own_ensembles(names: Iterable[str]) -> dict[str, str | None]:
    """The ensembles of cells that have one of their own, by the cells' names; None for those that take any."""
    return {name: getattr(plugins.find(cells.FAMILY, name), "own_ensemble", None) for name in names}


def _check_ensembles(grid: Grid, at: _Places, given: Mapping[str, Any]) -> None:
    """Refuse an ensemble for cells of which each has its own."""
    own = own_ensembles(grid["cell"])
    if "ensemble" in given and all(own.values()) and set(grid["ensemble"]) != set(own.values()):
        what = f"{', '.join(grid['ensemble'])} for cell {', '.join(own)}"
        raise InputError(
            what, where=at["ensemble"], allowed=", ".join(filter(None, own.values())), hint="remove the key"
        )


def _check_cells(grid: Grid, at: _Places) -> None:
    """Make every cell, and refuse spectral radii that its ensemble cannot have."""
    for point in _points(grid):
        with at.errors("cell"):
            own = _complete(point)
            cell = Run(point | own).cell()
            for radius in grid["spectral_radius"]:
                cell.check(own["ensemble"], radius)
            if measure_of(grid) == "jacobian":
                _check_jacobians(point, cell, min(grid["seq_len"]))


def _check_jacobians(point: Mapping[str, Any], cell: Cell, shortest: int) -> None:
    """Refuse exponents that the cell has not, lengths that leave no step to measure, and weights that are no W_hh."""
    if point["exponents"] > cell.state_size:
        what = f"{point['exponents']}, but the state of cell {point['cell']} has {cell.state_size} numbers"
        raise InputError(what, where="exponents", allowed=f"at most {cell.state_size}, or 0 for all")
    if shortest <= 2 * point["washout"]:
        what = f"{shortest} steps, but the first and the last {point['washout']} are left out"
        raise InputError(what, where="seq_len", allowed="more than twice the washout", hint="lower washout")
    if point["batch_size"] < point["trajectories"] != JACOBIAN["trajectories"][1]:  # that is at most so many
        what = f"{point['trajectories']}, but there are {point['batch_size']} examples"
        raise InputError(what, where="trajectories", allowed=f"at most the batch_size, {point['batch_size']}")
    if not point["tied"]:
        check_untied(cell)


def _check_tasks(
    grid: Grid, chosen: Mapping[str, type], fixed: Grid, at: _Places
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Make every task, read its data, and hold losses, lengths and sizes against it; yield task and its data's record.

    `fixed` holds the sizes that were given although every task that is chosen has its own: they must be those.
    """
    longest = max(grid["seq_len"])
    for name, plugin in chosen.items():
        for options in _choices(grid, plugin):
            with at.errors("task"):
                task = tasks.task(name, **options)
                record = task.record()
            for key, size in zip(SIZES, task.sizes, strict=True):
                if fixed.get(key, (size,)) != (size,):
                    what = f"{', '.join(map(str, fixed[key]))}, but task {name} has {size}"
                    raise InputError(what, where=at[key], hint="remove the key")
            for loss in grid["loss"]:
                if loss not in (None, *task.losses):
                    raise unknown(f"loss for task {name}", loss, task.losses, where=at["loss"])
            if "cross_entropy" in grid["loss"] and task.sizes[1] < 2:
                raise InputError(f"{task.sizes[1]}", where=at["output_size"], allowed=">= 2 classes for cross_entropy")
            if isinstance(task, Problem):
                with at.errors("task"):
                    task.check(grid)
            if min(grid["seq_len"]) < task.shortest:
                what = f"{min(grid['seq_len'])} steps are too few for task {name}"
                raise InputError(what, where=at["seq_len"], allowed=f"at least {task.shortest}")
            trains = measure_of(grid) == "training"
            if trains and isinstance(task, Recorded):
                pass  # what windows have to fit into is the training part: see `_check_feeds`
            elif longest > task.longest:
                what = f"{longest} steps are more than task {name} has data for"
                raise InputError(what, where=at["seq_len"], allowed=f"at most {task.longest:g}, half of its data")
            if trains and "mean" in record:  # of the whole series, which training does not see
                others = {key: value for key, value in record.items() if key not in ("mean", "standard_deviation")}
                record = others | {
                    "normalised": "to mean 0 and standard deviation 1 of the training part, the first 80 %"
                }
            yield " ".join(filter(None, [name, record.get("file"), record.get("column")])), record


def _check_feeds(grid: Grid, at: _Places) -> None:
    """Refuse trainings whose data are too short for one batch, or cannot be learnt from."""
    for block in _blocks(grid):
        for setting in {setting.seq_len: setting for setting in block.settings}.values():
            run = Run({**block.common, **block.networks[0]._asdict(), **setting._asdict()})
            if run["batching"] != "random" and not isinstance(run.task(), Recorded):
                what = f"{run['batching']}, but examples of task {run['task']} are drawn anew"
                raise InputError(what, where=at["batching"], allowed="random")
            with at.errors("task"):
                feeding.Feed(run, [run["seed"]]).held_out("validation")


def _blocks(grid: Grid) -> Iterator[Block]:
    """The runs of a grid; each holds only the options that apply to it, so that none stands there twice."""
    networks = tuple(itertools.starmap(Network, itertools.product(*(grid[key] for key in Network._fields))))
    settings = tuple(itertools.starmap(Setting, itertools.product(*(grid[key] for key in Setting._fields))))
    own = BASE | (MEASURED[measure_of(grid)])
    seen = set()
    for point in _points(grid):
        block = Block({key: value for key, value in point.items() if key in own} | _complete(point), networks, settings)
        if block.kind not in seen:
            seen.add(block.kind)
            yield block


def _points(grid: Grid) -> Iterator[dict[str, Any]]:
    """Every combination of what is alike in the runs of a block."""
    alike = {key: values for key, values in grid.items() if key not in SHARED}
    for values in itertools.product(*alike.values()):
        yield dict(zip(alike, values, strict=True))


def _complete(point: Mapping[str, Any]) -> dict[str, Any]:
    """What the cell and the task of a grid point add to its run: their options, the sizes, the loss, the data.

    The cell's own ensemble, if it has one, and the hidden size at which it is matched take the place of what is given.
    """
    own = {key for name, family in FAMILIES.items() for key, _ in _fields(plugins.find(family, point[name]))}
    options = {key: value for key, value in point.items() if key in own}
    task = Run({"task": point["task"], **options}).task()
    sizes = dict(zip(SIZES, task.sizes, strict=True))
    data = {"data": task.record()["sha256"][:16]} if "sha256" in task.record() else {}
    like = {**point, **options}
    size = matched(point["match"], point["hidden_size"], lambda n: Run(like | {"hidden_size": n}).cell())
    ensemble = own_ensembles([point["cell"]])[point["cell"]] or point["ensemble"]
    found = {"hidden_size": size, "ensemble": ensemble, "loss": point["loss"] or task.losses[0]}
    return found | options | sizes | data
