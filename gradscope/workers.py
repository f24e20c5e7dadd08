"""Shards measured by workers: in this process, in processes of our own, or by any `concurrent.futures.Executor`.

A worker gives back sealed bytes. What goes wrong with a run is a result: a row that says so. A worker that dies takes
nothing with it but the shards that were being measured, which are measured again, one at a time; one that dies of the
same shard twice, with nothing else going on, has failed of it.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context
from os import _exit
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import pyarrow as pa

from gradscope import __version__, sealed
from gradscope.engine import measure, release
from gradscope.errors import GradscopeError, InputError
from gradscope.files import write_beside
from gradscope.plan import Shard
from gradscope.records import failed_table, joined, runs_table, timesteps_table
from gradscope.runs import NUMERICS_VERSION, Block, Network, Setting
from gradscope.threads import one_blas_thread

AHEAD = 64  # shards handed to a caller's executor before they are waited for: enough for many workers
DEATHS = 2  # of workers that measured nothing but one shard, until that is what they died of
VERSIONS = (__version__, NUMERICS_VERSION)
UNGUARDED = (
    "worker processes died as they started: killed, or out of memory, of which --jobs 1 takes less; "
    'or a script calls gradscope.sweep outside of `if __name__ == "__main__":`'
)
Kinds = Mapping[str, type]


class Measured(NamedTuple):
    """A shard's tables, sealed, or the file that they are in; the seconds they took; how many of its runs failed."""

    content: bytes | Path
    seconds: float
    failed: int


def measure_shard(
    shard: Shard, kinds: Kinds, versions: tuple[str, int], threads: int = 1, beside: Path | None = None
) -> Measured:
    """Measure a shard, on one BLAS thread; large numbers of examples on so many threads.

    The tables are returned, or, where driver and worker share a disk, written to a file `beside` their place: a worker
    that is killed while it sends a long answer would leave a process pool waiting for the rest of it for ever.
    `versions` are those of the caller, which a worker elsewhere must have too; GradscopeError if it has not.
    """
    if versions != VERSIONS:
        (there, _), (here, _) = versions, VERSIONS
        raise GradscopeError(f"a worker has gradscope {here}, the sweep is of {there}: install the same on both")
    began = time.perf_counter()
    with one_blas_thread():
        tables = [found for block in shard.blocks for found in _tables(block, kinds, threads)]
    measured = _sealed(shard, tables, began)
    if beside is None:
        return measured
    return measured._replace(content=write_beside(beside, lambda path: path.write_bytes(bytes(measured.content))))


def lost_shard(shard: Shard, kinds: Kinds, message: str) -> Measured:
    """A shard of which no run could be measured."""
    began = time.perf_counter()
    return _sealed(shard, [_failed(block, message, kinds) for block in shard.blocks], began)


def _tables(block: Block, kinds: Kinds, threads: int) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The tables of a block's runs and timesteps. If it fails, those of its halves: what does not fail is measured."""
    try:
        measured = measure(block.runs, threads)
    except Exception as error:
        release()  # there may not be enough memory
        halves = _halves(block)
        if not halves:
            said = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            yield _failed(block, " ".join(said.split()), kinds)
        for half in halves:
            yield from _tables(half, kinds, threads)
    else:
        yield runs_table(measured, kinds), timesteps_table(measured)


def _halves(block: Block) -> list[Block]:
    """Half of the networks each, or half of the settings of a single network; nothing for a single run."""
    for name in ("networks", "settings"):
        members = getattr(block, name)
        if len(members) > 1:
            middle = len(members) // 2
            return [replace(block, **{name: members[:middle]}), replace(block, **{name: members[middle:]})]
    return []


def _failed(block: Block, message: str, kinds: Kinds) -> tuple[pa.Table, pa.Table]:
    return failed_table(block.runs, message, kinds), timesteps_table(None)


def _sealed(shard: Shard, tables: Sequence[tuple[pa.Table, pa.Table]], began: float) -> Measured:
    runs, steps = (joined(parts) for parts in zip(*tables, strict=True))
    failed = runs["message"].length() - runs["message"].null_count
    note = {
        "shards": [shard.plain()],
        "failed": {shard.key: failed} if failed else {},
        "numerics": NUMERICS_VERSION,
    }
    return Measured(sealed.seal(note, [runs, steps]), time.perf_counter() - began, failed)


# --- who measures -----------------------------------------------------------------------------------------------------


@dataclass
class Crew:
    """Who measures, and how.

    Attributes
    ----------
    executor : takes the calls.
    workers : how many it has; 0 if that is not known.
    ahead : shards that it is handed before they are waited for.
    threads : of each worker, for large numbers of examples.
    shares_disk : whether workers can write where the driver does.
    stop : whether to stop.
    renew : puts another executor in the place of a broken one, or raises GradscopeError.
    """

    executor: Executor
    workers: int
    ahead: int
    threads: int
    shares_disk: bool
    stop: Event
    renew: Callable[[], Executor]


class _Queue:
    """Shards that are to be measured, and those of which a worker may have died."""

    def __init__(self, shards: Sequence[Shard]):
        self._waiting, self._suspects = deque(shards), deque[Shard]()
        self._deaths: dict[str, int] = {}  # of workers that measured nothing but this suspect

    def __bool__(self) -> bool:
        return bool(self._waiting or self._suspects)

    def take(self, running: Collection[Shard], ahead: int) -> Shard | None:
        """The next shard that may be handed out beside those that are running; None if none may."""
        # A suspect is measured while nothing else is, so that it is known who is to blame.
        alone = self._suspects or any(shard.key in self._deaths for shard in running)
        if not self or len(running) >= (1 if alone else ahead):
            return None
        return (self._suspects or self._waiting).popleft()

    def put_back(self, shard: Shard) -> None:
        """Take a shard back that could not be handed out."""
        (self._suspects if shard.key in self._deaths else self._waiting).appendleft(shard)

    def died(self, shards: Sequence[Shard]) -> Shard | None:
        """Take in that a worker died of one of these shards; the shard that is given up, if one is."""
        for shard in shards:
            self._deaths.setdefault(shard.key, 0)
        if len(shards) == 1:
            self._deaths[shards[0].key] += 1
            if self._deaths[shards[0].key] >= DEATHS:
                return shards[0]
        self._suspects.extendleft(reversed(shards))
        return None


def measure_all(
    crew: Crew, shards: Sequence[Shard], kinds: Kinds, place: Callable[[str], Path], say: Callable[[str], None]
) -> Iterator[tuple[Shard, Measured]]:
    """Measure shards, and yield them as they finish.

    `place` says where the file of a key will be; `say` is told of workers that die.

    Raises GradscopeError if the executor cannot go on; what was yielded stays good.
    """
    queue, running = _Queue(shards), dict[Future[Measured], Shard]()
    try:
        while (queue or running) and not crew.stop.is_set():
            broken = not _hand_out(crew, queue, running, kinds, place)
            done, _ = wait(running, timeout=0 if broken else 0.1, return_when=FIRST_COMPLETED)
            for future in done:
                measured = _result(future, running[future], kinds)
                if measured is None:
                    broken = True
                else:
                    yield running.pop(future), measured
            if broken and not crew.stop.is_set():
                crew.executor = crew.renew()
                keys = ", ".join(shard.key for shard in running.values())
                say(f"a worker process died; measured again: {keys or 'nothing'}")
                given_up = queue.died(list(running.values())) if running else None
                running.clear()
                if given_up:
                    yield (
                        given_up,
                        lost_shard(given_up, kinds, "its worker process died, twice: killed, or out of memory"),
                    )
    finally:
        for future in running:
            future.cancel()


def _hand_out(
    crew: Crew, queue: _Queue, running: dict[Future[Measured], Shard], kinds: Kinds, place: Callable[[str], Path]
) -> bool:
    """Give the executor as many shards as it should have; whether it took them: it does not if a worker died."""
    while shard := queue.take(running.values(), crew.ahead):
        beside = place(shard.key).absolute() if crew.shares_disk else None
        try:
            running[crew.executor.submit(measure_shard, shard, kinds, VERSIONS, crew.threads, beside)] = shard
        except BrokenExecutor:
            queue.put_back(shard)
            return False
        except RuntimeError as error:  # it has been shut down
            raise _gave_up(error) from error
    return True


def _result(future: Future[Measured], shard: Shard, kinds: Kinds) -> Measured | None:
    """What a future brings; None if a worker died."""
    try:
        return future.result()
    except BrokenExecutor:
        return None
    except Exception as error:
        if type(error).__name__ == "KilledWorker":  # Dask's, of a task of which workers die again and again
            return lost_shard(shard, kinds, "workers died while they measured it")
        raise _gave_up(error) from error


def _gave_up(error: Exception) -> GradscopeError:
    if isinstance(error, GradscopeError):
        return error
    said = f"the executor failed ({': '.join(filter(None, [type(error).__name__, str(error)]))})"
    return GradscopeError(said)


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
def crew_of(executor: Executor | None, cores: int, jobs: int, most: int) -> Iterator[Crew]:
    """Who measures: the caller's executor, this process for one job, or processes of our own.

    `cores` are the executor's; 0 if they are not known. No more than `most` processes are started. Ctrl-C, and what a
    scheduler sends to end a job, end the block with KeyboardInterrupt, soon.
    """
    processes = max(1, min(jobs, most))
    threads = jobs // processes  # what fewer shards than cores leave to each
    if executor:
        with _stopped_by_signals() as stop:
            yield Crew(executor, cores, 2 * cores + 2 if cores else AHEAD, 1, False, stop, _cannot_renew)
    elif processes == 1:
        with _stopped_by_signals(at_once=True) as stop:
            try:
                yield Crew(_Inline(), 1, 1, threads, False, stop, _cannot_renew)
            finally:
                release()
    else:
        with _stopped_by_signals() as stop, _Processes(processes, stop) as own:
            yield Crew(own.start(), processes, processes + 1, threads, True, stop, own.start)


def _cannot_renew() -> Executor:
    raise GradscopeError("the executor broke")


class _Processes:
    """Worker processes of our own, started anew as often as they break, and gone at the end of the block.

    Each holds the reading end of a pipe. When its writing end is closed, or this process is gone, the worker goes.
    """

    def __init__(self, number: int, stop: Event):
        self._number, self._stop = number, stop
        self._executor: ProcessPoolExecutor | None = None
        self._first: list[Future[None]] = []
        self._leash: connection.Connection | None = None

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *failed: object) -> None:
        if self._stop.is_set() or failed[0]:
            self._let_go()
        self._end()

    def start(self) -> Executor:
        """Start processes; GradscopeError if those that were started before never did anything."""
        if self._executor:
            if not any(future.done() and not future.exception() for future in self._first):
                raise GradscopeError(UNGUARDED)
            self._let_go()
            self._end()
        context = get_context("spawn")  # not forked: a fork copies whatever threads hold at that moment
        held, self._leash = context.Pipe(duplex=False)
        self._executor = ProcessPoolExecutor(self._number, context, _on_a_leash, (held,))
        with _interrupt_ignored():  # which they inherit: it is the driver's affair
            self._first = [self._executor.submit(_warm_up) for _ in range(self._number)]  # starts one process each
        self._held = held
        return self._executor

    def _let_go(self) -> None:
        if self._leash:
            self._leash.close()

    def _end(self) -> None:
        if self._executor:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._held.close()
            self._let_go()
            self._executor = None


def _warm_up() -> None:
    """Measure next to nothing, which loads what is loaded once."""
    common = {
        "cell": "elman",
        "task": "noise",
        "ensemble": "gaussian",
        "hidden_size": 2,
        "input_scale": 0.1,
        "loss": "mse",
    }
    settings = tuple(Setting(2, "full", steps, "mean") for steps in ("last", "all"))
    block = Block(common | {"batch_size": 1, "dtype": "float64"}, (Network(1.0, 0),), settings)
    measure_shard(Shard("", "", (block,)), {}, VERSIONS)


def _on_a_leash(held: connection.Connection) -> None:
    """Let this worker process end as soon as the pipe does."""

    def watch() -> None:
        try:
            held.recv()
        except (EOFError, OSError):
            _exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _interrupt_ignored() -> Iterator[None]:
    """Within the block, some hundredths of a second, Ctrl-C is ignored."""
    if threading.current_thread() is not threading.main_thread():  # which alone may say so
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _stopped_by_signals(*, at_once: bool = False) -> Iterator[Event]:
    """Within the block Ctrl-C and its like set an event, and are raised at its end: executors break if it is anywhere.

    They are raised where they arrive if `at_once`.
    """
    stop = Event()
    if threading.current_thread() is not threading.main_thread():  # where signals do not arrive
        yield stop
        return

    def heard(*_: object) -> None:
        stop.set()
        if at_once:
            raise KeyboardInterrupt

    names = ("SIGINT", "SIGTERM", "SIGHUP")  # the last of which not every system has
    before = {number: signal.signal(number, heard) for name in names if (number := getattr(signal, name, None))}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.is_set():
        raise KeyboardInterrupt
