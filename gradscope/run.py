"""Run a sweep: plan -> measure -> append. The one file that sees both the engine's side and the store's."""

from __future__ import annotations

import datetime
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

from threadpoolctl import threadpool_limits

from gradscope import plan, store
from gradscope.engine import Measurement, measure, release
from gradscope.errors import GradscopeError, InputError
from gradscope.experiment import read
from gradscope.grid import Sweep
from gradscope.results import Results, load
from gradscope.runs import NUMERICS_VERSION
from gradscope.spectral import unit_draw

AHEAD = 64  # batches handed to a caller's executor before they are waited for: enough for many workers
Progress = Callable[[int, int], None]  # (runs done, runs in all)


def sweep(
    experiment: str | Path = "spectral-radius",
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    command: str = "",
    max_memory: float | None = None,
) -> Results:
    """Run a sweep and return its results. What is already in the folder is not run again.

    Parameters
    ----------
    experiment : a shipped experiment, or a TOML file.
    out : the folder for the results; `reports/NAME` if not given.
    overrides : key -> value, list or range, on top of the experiment's.
    jobs : worker processes, each with one BLAS thread; the number of cores if not given. With 1, no process is started.
    executor : any `concurrent.futures.Executor` to use instead of own processes.
    progress : called with the number of runs done and of all runs, after each batch.
    command : how the sweep was started, for the report.
    max_memory : bytes that the measurements of all workers may take together; four fifths of the machine's memory if
        not given. Batches are cut smaller, and fewer workers started, as far as it takes.

    Raises
    ------
    InputError : anything in the experiment that cannot be, a folder that cannot be used, or a single network that takes
        more memory than there may be.

    Notes
    -----
    The tables do not depend on the number of workers, on the order in which they finish, or on interruptions.

    Examples
    --------
    `gs.sweep("spectral-radius", out="reports/small", overrides={"seeds": 2, "seq_len": 50}, jobs=2)`
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"{jobs}", where="jobs", allowed="a whole number >= 1")
    resolved = read(experiment, overrides)
    runs = resolved.runs
    limit = 0.8 * _machine_memory() if max_memory is None else max_memory
    if limit <= 0:
        raise InputError(f"{max_memory}", where="max_memory", allowed="a number of bytes > 0")
    cut = plan.batches(runs, max_memory=limit)
    folder = store.create(Path(out or Path("reports") / resolved.name), resolved.name, {run.run_id for run in runs})
    finished = folder.done()
    todo = plan.batches(runs, finished, limit) if finished else cut
    if todo or not folder.is_finished(resolved.hash):
        unit_draw.cache_clear()  # what this process drew before may have been drawn with more BLAS threads
        manifest = _manifest(resolved, command)
        folder.write_manifest(manifest | {"finished": None})
        done = len(runs) - sum(len(batch.runs) for batch in todo)
        fitting = int(limit // max((batch.memory for batch in todo), default=1))
        with _workers(executor, jobs or os.cpu_count() or 1, min(len(todo), fitting)) as workers:
            for batch, measured in _measure_all(workers, todo):
                folder.append(batch.key, measured, resolved.kinds)
                done += len(batch.runs)
                if progress:
                    progress(done, len(runs))
        folder.finish(runs)
        folder.write_manifest(manifest | {"finished": _now()})
    return load(folder.folder)


class _Workers(NamedTuple):
    """An executor, how many batches to hand out before they are waited for, threads of each, and whether to stop."""

    executor: Executor
    ahead: int
    threads: int
    stop: Event


def _measure_all(workers: _Workers, batches: Sequence[plan.Batch]) -> Iterator[tuple[plan.Batch, Measurement]]:
    """Measure batches on the workers, a few ahead of what is taken, and yield them as they finish."""
    waiting = iter(batches)
    running: dict[Future[Measurement], plan.Batch] = {}
    try:
        while not workers.stop.is_set():
            while len(running) < workers.ahead and (batch := next(waiting, None)):
                running[workers.executor.submit(measure_alone, batch.runs, workers.threads)] = batch
            if not running:
                return
            finished, _ = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
            for future in finished:
                yield running.pop(future), future.result()
    except BrokenProcessPool:
        raise GradscopeError(
            "a worker process died; what is finished is saved, and the same call goes on from there. A script must "
            'call gradscope.sweep under `if __name__ == "__main__":`, or with jobs=1'
        ) from None
    finally:
        for future in running:
            future.cancel()


def measure_alone(runs: Sequence[Any], threads: int) -> Measurement:
    """Measure a batch on one BLAS thread: the matrices are too small for more, and results must not depend on it."""
    with threadpool_limits(1):
        return measure(runs, threads)


class _Inline(Executor):
    """Runs each call where it is submitted: one job needs no process of its own."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # handed on by the future, as by any executor
            future.set_exception(error)
        return future


@contextmanager
def _workers(executor: Executor | None, jobs: int, most: int) -> Iterator[_Workers]:
    """The caller's executor, this process for one job, or processes of our own, at `most` so many."""
    asked, jobs = jobs, max(1, min(jobs, most))
    threads = asked // jobs  # what fewer batches than cores leave to each
    if executor:
        with _interrupt_deferred() as stop:
            yield _Workers(executor, AHEAD, 1, stop)
    elif jobs <= 1:
        try:
            yield _Workers(_Inline(), 1, threads, Event())
        finally:
            release()
    else:
        # Spawned, not forked: a fork copies whatever threads hold at that moment.
        processes = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
        with _interrupt_deferred() as stop, processes:
            _start(processes, jobs)
            yield _Workers(processes, jobs + 1, threads, stop)


def _start(processes: ProcessPoolExecutor, jobs: int) -> None:
    """Start the processes, one for each call, while Ctrl-C is ignored, which they inherit: it is the driver's affair.

    It is ignored by the driver too for these few hundredths of a second.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone may say so
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for _ in range(jobs):
            processes.submit(int)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _interrupt_deferred() -> Iterator[Event]:
    """Within the block Ctrl-C sets an event, and is raised at its end: executors break if it is raised anywhere."""
    stop = Event()
    if threading.current_thread() is not threading.main_thread():  # where signals do not arrive
        yield stop
        return
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
    if stop.is_set():
        raise KeyboardInterrupt


def _manifest(resolved: Sweep, command: str) -> dict[str, Any]:
    packages = ("gradscope", "numpy", "scipy", "pandas", "pyarrow", "matplotlib", "seaborn")
    return {
        "name": resolved.name,
        "hash": resolved.hash,
        "runs": len(resolved.runs),
        "grid": {key: list(values) for key, values in resolved.grid.items()},
        "data": resolved.data,
        "command": command,
        "started": _now(),
        "versions": {name: version(name) for name in packages}
        | {"numerics": NUMERICS_VERSION, "python": platform.python_version()},
        "platform": {"system": platform.platform(), "machine": platform.machine(), "cores": os.cpu_count()},
    }


def _machine_memory() -> float:
    """Bytes of the machine's memory; infinity where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
