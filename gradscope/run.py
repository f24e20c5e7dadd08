"""Run a sweep: plan -> measure -> append. The one file that sees both the engine's side and the store's."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gradscope.cluster import connected
from gradscope.crew import Crew, crew_of
from gradscope.errors import GradscopeError, InputError
from gradscope.experiment import read
from gradscope.grid import Sweep
from gradscope.intent import Intent, intent
from gradscope.outlook import Outlook, check_room, fitting, machine_cores, machine_memory, outlook
from gradscope.progress import Progress, Watch, samples_first
from gradscope.results import Results, load
from gradscope.runs import NUMERICS_VERSION
from gradscope.spectral import unit_draw
from gradscope.survey import survey
from gradscope.workers import measure_all
from gradscope.writer import Writer, refuse_unwritable, writing


class InterruptedSweep(KeyboardInterrupt):
    """Ctrl-C during a sweep; says what is saved."""


def sweep(
    experiment: str | Path = "spectral-radius",
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    executor: Executor | str | None = None,
    progress: Callable[[Progress], None] | None = None,
    command: str = "",
    max_memory: float | None = None,
    retry_failed: bool = False,
) -> Results:
    """Run a sweep and return its results. What is already in the folder is not run again.

    Parameters
    ----------
    experiment : a shipped experiment, or a TOML file.
    out : the folder for the results; `reports/NAME` if not given.
    overrides : key -> value, list or range, on top of the experiment's.
    jobs : worker processes, each with one BLAS thread; the number of cores if not given. With 1, no process is started.
    executor : any `concurrent.futures.Executor` to use instead of own processes, or the address of a Dask scheduler,
        tcp://HOST:PORT.
    progress : called with a `Progress` at the start and whenever some runs are done.
    command : how the sweep was started, for the report.
    max_memory : bytes that the measurements of all workers may take together; four fifths of the machine's memory if
        not given. Blocks are cut smaller, and fewer workers started, as far as it takes.
    retry_failed : measure runs again that failed before.

    Raises
    ------
    InputError : anything in the experiment that cannot be, a folder that cannot be used or is being written by another
        sweep, too little room on the disk, or a single network that takes more memory than there may be.
    GradscopeError : the sweep could not go on; what is finished is saved.
    KeyboardInterrupt : Ctrl-C; what is finished is saved.

    Notes
    -----
    A run that cannot be measured is a row of the tables, with `status` "failed" and a `message`; the others go on.
    The tables do not depend on the number of workers, on the order in which they finish, or on interruptions.

    Examples
    --------
    `gs.sweep("spectral-radius", out="reports/small", overrides={"seeds": 2, "seq_len": 50}, jobs=2)`
    """
    resolved = read(experiment, overrides)
    folder, jobs, limit = _checked(resolved, out, jobs, max_memory)
    with connected(executor) as (given, cores):
        early = None
        if not folder.exists():  # what cannot be is refused before anything is made
            early = _startable(intent(resolved, folder, limit, retry_failed=retry_failed), folder)
        with writing(folder) as writer:
            if early and early.survey == survey(folder):
                meant = early
            else:
                meant = _startable(intent(resolved, folder, limit, retry_failed=retry_failed), folder)
            if not meant.settled:
                unit_draw.cache_clear()  # what this process drew before may have been drawn with more BLAS threads
                with crew_of(given, cores, jobs, fitting(meant, jobs, limit)) as crew:
                    _carry_out(meant, writer, crew, command, Watch(meant, writer, progress))
    return load(folder)


def _carry_out(meant: Intent, writer: Writer, crew: Crew, command: str, watch: Watch) -> None:
    """Do what is meant. Whatever ends it, what is finished stays, and the log says what it was."""
    manifest = _manifest(meant, command)
    try:
        _make_ready(meant, writer, manifest, watch)
        who = f"process {os.getpid()} on {platform.node()}, {crew.workers or 'some'} workers"
        writer.log(f"gradscope {version('gradscope')}, {who}: {command or 'gradscope.sweep()'}")
        watch.begin()
        todo = samples_first(meant.todo)
        for shard, measured in measure_all(crew, todo, meant.sweep.kinds, writer.store.shard_path, watch.say):
            writer.append(shard, measured.content)
            watch.saw(shard, measured, crew)
        if crew.stop.is_set():
            raise KeyboardInterrupt
        writer.finish(manifest | {"finished": now()})
        writer.log(f"finished: {len(meant.sweep):,} runs, {watch.failed:,} failed in this call")
    except KeyboardInterrupt:
        writer.log(f"interrupted: {watch.done}")
        look = f"; gradscope report {writer.folder} shows what is there" if watch.runs else ""
        said = f"interrupted; {watch.done} are saved in {writer.folder}; the same command goes on from here{look}"
        raise InterruptedSweep(said) from None
    except GradscopeError as error:
        writer.log(f"stopped: {error}")
        raise GradscopeError(f"{error}; what is finished is saved, and the same command goes on from there") from None


def preview(
    experiment: str | Path = "spectral-radius",
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    max_memory: float | None = None,
    retry_failed: bool = False,
) -> tuple[Intent, Outlook, Path]:
    """What `sweep` with these arguments would do, what that would take, and the folder. Only samples are run.

    Examples
    --------
    `preview("spectral-radius", overrides={"seeds": 50})[1].seconds`

    Raises
    ------
    InputError : what `sweep` would not start with, but for too little room or memory, which the outlook tells.
    """
    resolved = read(experiment, overrides)
    folder, jobs, limit = _checked(resolved, out, jobs, max_memory)
    meant = intent(resolved, folder, limit, retry_failed=retry_failed)
    if meant.refused:
        raise meant.refused
    refuse_unwritable(folder)
    return meant, outlook(meant, folder, jobs, limit), folder


def _checked(
    resolved: Sweep, out: str | Path | None, jobs: int | None, max_memory: float | None
) -> tuple[Path, int, float]:
    """The folder, the number of processes and the bytes that there may be."""
    if jobs is not None and not (type(jobs) is int and jobs >= 1):
        raise InputError(f"{jobs!r}", where="jobs", allowed="a whole number >= 1")
    if max_memory is not None and not (isinstance(max_memory, int | float) and max_memory > 0):
        raise InputError(f"{max_memory!r}", where="max_memory", allowed="a number of bytes > 0")
    limit = 0.8 * machine_memory() if max_memory is None else max_memory
    return Path(out or Path("reports") / resolved.name), jobs or machine_cores(), limit


def _startable(meant: Intent, folder: Path) -> Intent:
    """The intent, if it can be carried out; else its InputError."""
    if meant.refused:
        raise meant.refused
    check_room(meant, folder)
    return meant


def _make_ready(meant: Intent, writer: Writer, manifest: Mapping[str, Any], watch: Watch) -> None:
    """Put out of the way what cannot be used, and write down what is going to be done."""
    writer.log("begun")  # the folder is known by its log
    for note in meant.sweep.notes:
        watch.say(note)
    if meant.start_over:
        watch.say(f"{meant.start_over}: what was measured before is set aside in {writer.start_over()}")
    for problem in meant.survey.problems:
        watch.say(f"{'set aside: ' if problem.path.exists() else ''}{problem}")
    writer.set_aside(meant.survey.problems)
    writer.write_manifest(manifest)
    writer.write_plan(meant.planned)
    writer.begin(meant.planned, meant.survey)
    reasons = ", ".join(f"{count:,} {why}" for why, count in meant.reasons.items())
    writer.log(f"{meant.done:,} of {len(meant.sweep):,} runs done, to do: {reasons or 'nothing'}")


def _manifest(meant: Intent, command: str) -> dict[str, Any]:
    resolved, before = meant.sweep, meant.survey.manifest or {}
    return {
        "name": resolved.name,
        "hash": resolved.hash,
        "runs": len(resolved),
        "grid": {key: list(values) for key, values in resolved.grid.items()},
        "data": resolved.data,
        "command": command,
        "started": before.get("started") or now(),
        "finished": None,
        **provenance(),
    }


def provenance() -> dict[str, Any]:
    """The versions and the machine with which something is measured, for manifests."""
    packages = ("gradscope", "numpy", "scipy", "pandas", "pyarrow", "matplotlib", "seaborn")
    versions = {name: version(name) for name in packages}
    return {
        "versions": versions | {"numerics": NUMERICS_VERSION, "python": platform.python_version()},
        "platform": {"system": platform.platform(), "machine": platform.machine(), "cores": os.cpu_count()},
    }


def now() -> str:
    """The time, in ISO format."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
