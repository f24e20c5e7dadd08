"""Cut a grid of runs into blocks, shards and parts. The cut depends on the grid alone, so that results do not depend on
the workers.

A *block* is measured together. A *shard* is some blocks, about half a second of work: what a worker does at a time, and
what one file holds while the sweep runs. A *part* is some shards: what one file holds when they are done.

A plan is written down before it is carried out, and only ever grows: what a sweep is extended by is planned beside what
was planned before, so that every run is measured in the company in which it was planned, whatever happens in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from gradscope.cost import memory, seconds
from gradscope.errors import InputError
from gradscope.runs import Block, Network, Setting, digest

STATES_BYTES = 30e6  # what the states of a block may take: some of it is in the cache, and it is one piece of memory
MOST = 64  # networks of a block
FEWEST = 4  # blocks of runs that are alike, if they have as many networks: several workers have something to do
BLOCK_SECONDS = 3.0  # of work with many draws or minibatches, so that not too much is lost when it is interrupted
SHARD_SECONDS = 0.4  # of work, as predicted: enough that what is done around it does not matter
FEWEST_SHARDS = 16  # of a sweep that has so many blocks
PART_ROWS = 2**18  # rows of the timesteps table in a part's file, about 6 MB
RUN_ROWS = 8  # rows that a run weighs besides

Runs = Mapping[str, Mapping[Network, AbstractSet[Setting]]]  # kind of block -> network -> settings


@dataclass(frozen=True)
class Shard:
    """Blocks that a worker measures at a time; `key` names its file, `part` that of the part which it joins."""

    key: str
    part: str
    blocks: tuple[Block, ...]

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    @property
    def rows(self) -> int:
        """What it weighs in a part, in rows of timesteps."""
        return sum(block.steps + RUN_ROWS * len(block) for block in self.blocks)

    @property
    def memory(self) -> int:
        """Bytes that measuring it will take."""
        return max(memory(block).of(len(block.networks)) for block in self.blocks)

    def plain(self) -> dict[str, Any]:
        """The shard as lists and dictionaries, for JSON."""
        return {"key": self.key, "part": self.part, "blocks": [block.plain() for block in self.blocks]}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Shard:
        """The shard that `plain` was made from."""
        return cls(plain["key"], plain["part"], tuple(Block.of(block) for block in plain["blocks"]))


def shards(blocks: Sequence[Block], planned: Sequence[Shard] = (), max_memory: float = float("inf")) -> list[Shard]:
    """Partition the runs of a grid, those that are `planned` left out, into shards.

    Runs that share weights, inputs and forward passes stay together. A block holds as many networks as keep its states
    near the cache, and its memory below `max_memory` bytes; the networks of a seed, which throw the same coins, are
    kept together as far as that goes.

    Raises InputError if a single network takes more than `max_memory`.
    """
    left = without(_everything(blocks), planned)
    return _in_parts(_chosen(blocks, left, max_memory))


def again(blocks: Sequence[Block], failed: Runs, planned: Sequence[Shard], max_memory: float) -> list[Shard]:
    """Shards for those runs of a grid that have failed, beside what is planned: the same runs, but another key."""
    return _in_parts(_chosen(blocks, failed, max_memory), salt=f"beside {len(planned)}")


def without(runs: Runs, planned: Iterable[Shard]) -> Runs:
    """The runs that are not planned."""
    left = {kind: dict(own) for kind, own in runs.items()}
    for block in (block for shard in planned for block in shard.blocks):
        own, settings = left.get(block.kind, {}), set(block.settings)
        for network in block.networks:
            if rest := own.pop(network, settings) - settings:
                own[network] = rest
    return left


def strangers(planned: Iterable[Shard], blocks: Sequence[Block]) -> list[Shard]:
    """The shards that hold runs which are not in the grid."""
    kinds = {block.kind for block in blocks}
    networks, settings = set(blocks[0].networks), set(blocks[0].settings)  # those of every block of a grid
    return [
        shard
        for shard in planned
        if any(
            block.kind not in kinds
            or not networks.issuperset(block.networks)
            or not settings.issuperset(block.settings)
            for block in shard.blocks
        )
    ]


def _everything(blocks: Iterable[Block]) -> Runs:
    return {block.kind: dict.fromkeys(block.networks, frozenset(block.settings)) for block in blocks}


def _chosen(blocks: Sequence[Block], chosen: Runs, max_memory: float) -> Iterator[tuple[Block, ...]]:
    """The chosen runs of a grid in the bundles in which the grid is cut."""
    for bundle in _bundles([part for block in blocks for part in _cut(block, max_memory)]):
        if own := tuple(part for block in bundle for part in _products(block, chosen.get(block.kind, {}))):
            yield own


def _products(block: Block, chosen: Mapping[Network, AbstractSet[Setting]]) -> list[Block]:
    """The chosen runs of a block: networks of which the same settings are, together."""
    alike: dict[tuple[Setting, ...], list[Network]] = {}
    for network in block.networks:
        own = chosen.get(network, ())
        if settings := tuple(setting for setting in block.settings if setting in own):
            alike.setdefault(settings, []).append(network)
    return [replace(block, networks=tuple(networks), settings=settings) for settings, networks in alike.items()]


def _bundles(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Blocks in order, as many at a time as are worth a worker's while and fit in a part."""
    predicted = [seconds(block) for block in blocks]
    enough = min(SHARD_SECONDS, sum(predicted) / FEWEST_SHARDS)
    bundle: list[Block] = []
    work = rows = 0.0
    for block, one in zip(blocks, predicted, strict=True):
        own = block.steps + RUN_ROWS * len(block)
        if bundle and (work + one > enough or rows + own > PART_ROWS):
            yield bundle
            bundle, work, rows = [], 0.0, 0.0
        bundle.append(block)
        work, rows = work + one, rows + own
    if bundle:
        yield bundle


def _in_parts(bundles: Iterable[tuple[Block, ...]], salt: str = "") -> list[Shard]:
    """Shards of these blocks, with the names of their parts: as many in a row as fit."""
    loose = [Shard(digest([salt, *(block.key for block in blocks)]), "", blocks) for blocks in bundles]
    parts: list[list[Shard]] = []
    rows = 0
    for shard in loose:
        if not parts or rows + shard.rows > PART_ROWS:
            parts.append([])
            rows = 0
        parts[-1].append(shard)
        rows += shard.rows
    return [replace(shard, part=digest([one.key for one in part])) for part in parts for shard in part]


def _cut(block: Block, max_memory: float, fewest: int = FEWEST) -> Iterator[Block]:
    """Blocks of runs that can be measured together; at least so many, of as many networks."""
    if len(parts := _apart(block)) > 1:
        for settings in parts:
            yield from _cut(replace(block, settings=settings), max_memory, -(-fewest // len(parts)))
        return
    needed = memory(block)
    if needed.of(1) > max_memory:
        raise _too_large(block, needed.of(1), max_memory)
    width = int(max(1, min(MOST, -(-len(block.networks) // fewest), STATES_BYTES // needed.states)))
    like = block.first
    if like["draws"] or like["minibatches"] or like.of_jacobians:  # each network takes a while
        one = seconds(replace(block, networks=block.networks[:1]))
        width = int(max(1, min(width, BLOCK_SECONDS // one)))
    while needed.of(width) > max_memory:
        width -= 1
    by_seed = sorted(block.networks, key=lambda network: (network.seed, network.spectral_radius))
    for networks in _widths(by_seed, width):
        yield replace(block, networks=tuple(networks))


def _apart(block: Block) -> list[tuple[Setting, ...]]:
    """Settings that have something in common: none if they train; those of a length if a longer one has other data."""
    if block.first.trains:
        return [(setting,) for setting in block.settings]
    if block.first.task().prefixes:
        return [block.settings]
    lengths = dict.fromkeys(setting.seq_len for setting in block.settings)
    return [tuple(setting for setting in block.settings if setting.seq_len == length) for length in lengths]


def _widths(networks: Sequence[Network], width: int) -> Iterator[list[Network]]:
    """At most `width` networks at a time: parts of one seed, of nearly equal size, or several whole seeds."""
    seeds: dict[int, list[Network]] = {}
    for network in networks:
        seeds.setdefault(network.seed, []).append(network)
    waiting: list[Network] = []
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


def _too_large(block: Block, needed: float, max_memory: float) -> InputError:
    longest = max(setting.seq_len for setting in block.settings)
    sizes = f"hidden_size {block.common['hidden_size']}, batch_size {block.common['batch_size']}, seq_len {longest}"
    sizes += "".join(f", {name} {block.first[name]:,}" for name in ("draws", "minibatches") if block.first[name])
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
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"
