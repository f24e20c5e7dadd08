"""Shards given to workers, and taken back as they finish.

A worker that dies takes nothing with it but the shards that were being measured, which are measured again, one at a
time; one that dies of the same shard twice, with nothing else going on, has failed of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from pathlib import Path

from gradscope.crew import Crew
from gradscope.errors import GradscopeError
from gradscope.measuring import VERSIONS, Kinds, Measured, lost_shard, measure_shard
from gradscope.plan import Shard

DEATHS = 2  # of workers that measured nothing but one shard, until that is what they died of


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
                    why = "its worker process died, twice: killed, or out of memory"
                    yield given_up, lost_shard(given_up, kinds, why)
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
