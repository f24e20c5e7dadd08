"""Contenders side by side: each in processes of its own, one pinned to each core, timed in turn, A B A B.

A single network, which cannot be split, is given to one process with a thread for each core. What a contender does once
(start, compile, draw the networks) is not timed. Nothing is timed before its numbers agree with gradscope's.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from gradscope import runs
from gradscope.bench.limits import products_per_second
from gradscope.bench.workload import Answer, Case, Network, Workload
from gradscope.engine import Measurement, measure
from gradscope.grid import resolve
from gradscope.plan import shards
from gradscope.scaled import Floats

OURS = "gradscope"
Key = tuple[int, float]  # seed and spectral radius of a network
_SHORT = 0.5  # seconds that a turn takes at least
_PAUSE = 0.5  # seconds before each turn, in which threads of the one before stop waiting for work
_TOLERANCE = {"float64": 1e-7, "float32": 2e-2}  # in decades and cosines, between programs
_SMALLEST = {"float64": 1e-140, "float32": 1e-17}  # norms below have squares that underflow in other programs


class Race(NamedTuple):
    """Seconds a network takes on the whole machine, for each contender and round; and who was wrong, by how much."""

    seconds: dict[str, list[float]]
    wrong: dict[str, float]


class Entry(NamedTuple):
    """A contender in a race: networks for each process, and how many of them to a call."""

    name: str
    networks: int
    at_once: int


def contender(name: str) -> Any:
    """The module of a contender other than gradscope."""
    return importlib.import_module(f"gradscope.bench.contenders.{name}")


def race(workload: Workload, entries: Sequence[Entry], rounds: int, tell: Callable[[str], None]) -> Race:
    """Time contenders on a workload, `rounds` times in turn, but for those whose numbers are others."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    alone = len(workload.radii) * workload.seeds == 1
    with ExitStack() as stack:
        teams = {}
        for entry in entries:
            tell(f"{workload.name}: {entry.name} gets ready")
            teams[entry.name] = stack.enter_context(_team(workload, entry, [cores] if alone else [[c] for c in cores]))
        apart = {}
        for entry in entries:
            tell(f"{workload.name}: {entry.name} is checked")
            apart[entry.name] = 0.0 if entry.name == OURS else _disagreement(workload, teams[entry.name])
        wrong = {name: by for name, by in apart.items() if not by < _TOLERANCE[workload.dtype]}
        entries = [entry for entry in entries if entry.name not in wrong]
        seconds: dict[str, list[float]] = {entry.name: [] for entry in entries}
        for number in range(rounds):
            for entry in entries:
                tell(f"{workload.name}: round {number + 1} of {rounds}, {entry.name}")
                time.sleep(_PAUSE)
                running = [process.submit(_run) for process in teams[entry.name]]
                slowest = max(future.result() for future in running)
                seconds[entry.name].append(slowest / (entry.networks * len(running)))
    return Race(seconds, wrong)


def peak(dtype: str) -> float:
    """Operations a second of the fastest product that was found, on all cores at once."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    with ExitStack() as stack:
        processes = [stack.enter_context(_process(_pin, [core])) for core in cores]
        return sum(future.result() for future in [p.submit(products_per_second, dtype) for p in processes])


@contextmanager
def _team(workload: Workload, entry: Entry, places: Sequence[list[int]]) -> Iterator[list[ProcessPoolExecutor]]:
    """A process for each place, ready to run its networks."""
    networks = workload.some(entry.networks * len(places))
    keys = [(seed, radius) for seed in range(networks.seeds) for radius in networks.radii]
    with ExitStack() as stack:
        team = [
            stack.enter_context(_process(_get_ready, place, entry, workload, keys[index :: len(places)]))
            for index, place in enumerate(places)
        ]
        for started in [process.submit(_run) for process in team]:  # a warm-up
            started.result()
        yield team


@contextmanager
def _process(start: Callable[..., None], *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=start, initargs=arguments) as process:
        yield process


def _disagreement(workload: Workload, team: Sequence[ProcessPoolExecutor]) -> float:
    """How far a contender's answer for the first network of its first process is from gradscope's."""
    key, answers = team[0].submit(_first).result()
    return disagreement(measure(_block(workload, [key]).runs), answers, workload.dtype)


def disagreement(found: Measurement, answers: Mapping[Case, Answer], dtype: str) -> float:
    """The largest difference between a measurement of one network and a contender's answers, in decades and cosines."""
    largest, names = 0.0, list(found.runs[0].cell().blocks())
    for case, (own, spread) in _by_case(found, names).items():
        answer = answers[case]
        apart = np.abs(own - _numbers(answer, names))
        # No example is further below the mean than this.
        lowest = own[: case.seq_len] - np.sqrt(answer.norms.shape[1] - 1) * spread
        apart[: case.seq_len][~(lowest > np.log10(_SMALLEST[dtype]))] = 0.0
        largest = max(largest, float(apart.max()))
    return largest


def _by_case(found: Measurement, names: Sequence[str]) -> dict[Case, tuple[Floats, Floats]]:
    """Of each case: mean log10 norms at each step, then those of gradients, error and cosine; and the steps' spread."""
    ends = np.cumsum(found.seq_len)
    wanted = [*(f"log10_grad_{name}" for name in names), "relative_error", "cosine"]
    columns = np.stack([found.columns[name].astype(np.float64) for name in wanted], axis=1)
    return {
        Case(run["seq_len"], run["loss_steps"], run["truncation"]): (
            np.concatenate([found.steps["log10_dh"][end - run["seq_len"] : end], row]),
            found.steps["log10_dh_std"][end - run["seq_len"] : end],
        )
        for run, end, row in zip(found.runs, ends, columns, strict=True)
    }


def _numbers(answer: Answer, names: Sequence[str]) -> Floats:
    """The same of a contender's answer."""
    with np.errstate(divide="ignore"):
        norms = np.log10(answer.norms.astype(np.float64))
        gradients = np.log10([answer.gradients[name] for name in names])
    norms[~np.isfinite(norms)] = -1e4
    return np.concatenate([norms.mean(axis=1), gradients, [answer.relative_error, answer.cosine]])


def _block(workload: Workload, keys: Sequence[Key]) -> runs.Block:
    (block,) = resolve(workload.name, workload.grid()).blocks
    return replace(block, networks=tuple(runs.Network(radius, seed) for seed, radius in keys))


# --- in the processes -------------------------------------------------------------------------------------------------

_ready: dict[str, Any] = {}


def _pin(cores: list[int]) -> None:
    """Keep this process to some cores, with a thread for each."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    os.environ["OMP_NUM_THREADS"] = str(len(cores))
    if len(cores) == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    _ready["limits"] = threadpool_limits(len(cores))  # for BLAS


def _get_ready(cores: list[int], entry: Entry, workload: Workload, keys: list[Key]) -> None:
    _pin(cores)
    _ready["key"] = keys[0]
    if entry.name == OURS:
        _ready["limits"] = threadpool_limits(1)  # its threads are its own
        cut = [block.runs for shard in shards([_block(workload, keys)]) for block in shard.blocks]
        _ready["run"] = lambda: [measure(runs, threads=len(cores)) for runs in cut]
        return
    networks = [workload.network(*key) for key in keys]
    calls: list[list[Network]] = [networks[i : i + entry.at_once] for i in range(0, len(networks), entry.at_once)]
    answer = contender(entry.name).prepare(workload, entry.at_once)
    _ready["run"] = lambda: [one for call in calls for one in answer(call)]


def _run() -> float:
    """Seconds for all networks of this process; the mean over repetitions where once is too short to be timed."""
    start, times = time.perf_counter(), 0
    while not times or time.perf_counter() - start < _SHORT:
        _ready["answers"] = _ready["run"]()
        times += 1
    return (time.perf_counter() - start) / times


def _first() -> tuple[Key, dict[Case, Answer]]:
    return _ready["key"], _ready["answers"][0]
