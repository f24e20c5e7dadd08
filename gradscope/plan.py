"""Cut a grid of runs into batches. The cut depends on the grid alone, so that results do not depend on the workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import NamedTuple

from gradscope.engine import case_of, memory, network_of
from gradscope.errors import InputError
from gradscope.runs import Run, digest

# Along these the engine shares work; runs of one batch are alike in everything else.
SHARED = ("spectral_radius", "seq_len", "truncation", "loss_steps", "reduction", "seed")
STATES_BYTES = 30e6  # what the states of a batch may take: some of it is in the cache, and it is one piece of memory
MOST = 64  # networks of a batch
FEWEST = 4  # batches of a group that has as many networks: several workers have something to do


class Batch(NamedTuple):
    """Runs that are measured together; `key` names the batch's shard in the store, `memory` is what they will take."""

    key: str
    runs: tuple[Run, ...]
    memory: int


def batches(
    runs: Iterable[Run], finished: AbstractSet[str] = frozenset(), max_memory: float = float("inf")
) -> list[Batch]:
    """Partition the runs of a grid into batches, and leave out the runs that are finished.

    Runs that share weights, inputs and forward passes stay together. A batch holds as many networks (seed and spectral
    radius) as keep its states near the cache, and its memory below `max_memory` bytes; the networks of a seed, which
    throw the same coins, are kept together as far as that goes.

    Raises InputError if a single network takes more than `max_memory`.
    """
    alike: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        alike.setdefault(tuple(item for item in run.parameters.items() if item[0] not in SHARED), []).append(run)
    found = []
    for group in alike.values():
        for part, size in _cut(group, max_memory):
            todo = [run for run in part if run.run_id not in finished]
            if todo:
                found.append(Batch(digest([run.run_id for run in todo]), tuple(todo), size))
    return found


def _cut(group: Sequence[Run], max_memory: float) -> Iterator[tuple[list[Run], int]]:
    """The runs of each batch of a group of runs that can be measured together, and the bytes it takes."""
    networks: dict[tuple[int, float], list[Run]] = {}
    for run in group:
        networks.setdefault(network_of(run), []).append(run)
    needed = memory(group[0], sorted({case_of(run) for run in group}))
    if needed.of(1) > max_memory:
        raise _too_large(group, needed.of(1), max_memory)
    width = int(max(1, min(MOST, -(-len(networks) // FEWEST), STATES_BYTES // needed.states)))
    while needed.of(width) > max_memory:
        width -= 1
    for keys in _widths(sorted(networks), width):
        yield [run for key in keys for run in networks[key]], needed.of(len(keys))


def _widths(keys: list[tuple[int, float]], width: int) -> Iterator[list[tuple[int, float]]]:
    """At most `width` keys at a time: parts of one seed, of nearly equal size, or several whole seeds."""
    seeds: dict[int, list[tuple[int, float]]] = {}
    for key in keys:
        seeds.setdefault(key[0], []).append(key)
    waiting: list[tuple[int, float]] = []
    for own in seeds.values():
        if waiting and len(waiting) + len(own) > width:
            yield waiting
            waiting = []
        parts = -(-len(own) // width)
        cuts = [len(own) * part // parts for part in range(parts + 1)]
        *full, rest = (own[a:b] for a, b in pairwise(cuts))
        yield from full
        waiting += rest
        if full:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _too_large(group: Sequence[Run], needed: float, max_memory: float) -> InputError:
    run = group[0]
    longest = max(run["seq_len"] for run in group)
    sizes = f"hidden_size {run['hidden_size']}, batch_size {run['batch_size']}, seq_len {longest}"
    return InputError(
        f"one network of {sizes} needs {in_bytes(needed)}",
        where="memory",
        allowed=f"at most {in_bytes(max_memory)}",
        hint="lower one of the sizes, or raise max_memory",
    )


def in_bytes(size: float) -> str:
    """A number of bytes in words.

    >>> in_bytes(3 * 2**29)
    '1.5 GiB'
    """
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"
