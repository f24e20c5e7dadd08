"""A shard measured: what a worker does, wherever it is. What goes wrong with a run is a result: a row that says so."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from gradscope import __version__, sealed
from gradscope.engine import measure
from gradscope.errors import GradscopeError, InputError
from gradscope.files import write_beside
from gradscope.networks import release
from gradscope.plan import Shard
from gradscope.records import failed_table, joined, runs_table, timesteps_table
from gradscope.runs import NUMERICS_VERSION, Block, Network, Setting
from gradscope.threads import one_blas_thread

VERSIONS = (__version__, NUMERICS_VERSION)
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
    content, failed = _sealed(shard, tables)
    written = write_beside(beside, lambda path: path.write_bytes(content)) if beside else None
    return Measured(written or content, time.perf_counter() - began, failed)


def lost_shard(shard: Shard, kinds: Kinds, message: str) -> Measured:
    """A shard of which no run could be measured."""
    content, failed = _sealed(shard, [_failed(block, message, kinds) for block in shard.blocks])
    return Measured(content, 0.0, failed)


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


def _sealed(shard: Shard, tables: Sequence[tuple[pa.Table, pa.Table]]) -> tuple[bytes, int]:
    """The tables of a shard's blocks as sealed bytes, and how many of its runs failed."""
    runs, steps = (joined(parts) for parts in zip(*tables, strict=True))
    failed = len(runs) - runs["message"].null_count
    note = {
        "shards": [shard.plain()],
        "failed": {shard.key: failed} if failed else {},
        "numerics": NUMERICS_VERSION,
    }
    return sealed.seal(note, [runs, steps]), failed


def warm_up() -> None:
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
