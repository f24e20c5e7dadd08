"""Who measures: the caller's executor, this process, or worker processes of our own; and what stops them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context
from os import _exit
from threading import Event
from typing import Any

from gradscope.errors import GradscopeError
from gradscope.measuring import warm_up
from gradscope.networks import release

AHEAD = 64  # shards handed to a caller's executor before they are waited for: enough for many workers
UNGUARDED = (
    "worker processes died as they started: killed, or out of memory, of which --jobs 1 takes less; "
    'or a script calls gradscope outside of `if __name__ == "__main__":`'
)


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
            self._first = [self._executor.submit(warm_up) for _ in range(self._number)]  # starts one process each
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
