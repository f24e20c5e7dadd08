"""How far a sweep has come, and how long it will take yet."""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gradscope.cost import seconds
from gradscope.crew import Crew
from gradscope.grid import Sweep
from gradscope.intent import Intent
from gradscope.measuring import Measured
from gradscope.plan import Shard
from gradscope.speed import Speed
from gradscope.writer import Writer

FINISHED = 4e-6  # seconds for a run in the final table


class Progress(NamedTuple):
    """How far a sweep has come.

    Attributes
    ----------
    done, total : runs.
    failed : runs that failed in this call.
    rate : runs a second in this call.
    left : seconds; None until something can be said.
    now : parameters of what was measured last.
    note : what is out of the ordinary, said once.
    """

    done: int
    total: int
    failed: int = 0
    rate: float = 0.0
    left: float | None = None
    now: str = ""
    note: str = ""


def samples_first(todo: Sequence[Shard]) -> list[Shard]:
    """The shards, a tenth of them first that are of as many kinds as possible: so the time left can soon be told."""
    kinds: dict[str, list[Shard]] = {}
    for shard in todo:
        kinds.setdefault(shard.blocks[0].kind, []).append(shard)
    spread = {(one := own[len(own) * share // 4]).key: one for share in (2, 1, 3) for own in kinds.values()}
    samples = dict(itertools.islice(spread.items(), max(2, len(todo) // 10)))
    return [*samples.values(), *(shard for shard in todo if shard.key not in samples)]


class Watch:
    """Keeps count of what is done, for whoever wants to know and for the log."""

    def __init__(self, meant: Intent, writer: Writer, progress: Callable[[Progress], None] | None):
        self._meant, self._writer, self._progress = meant, writer, progress
        self._begun, self._speed = math.inf, Speed()
        self._ahead: defaultdict[str, float] = defaultdict(float)  # kind -> predicted seconds of what is not done
        for block in (block for shard in meant.todo for block in shard.blocks):
            self._ahead[block.kind] += seconds(block)
        self._worked, self._ran = 0.0, 0
        self.failed = 0
        self._last = Progress(meant.done, len(meant.sweep))

    def begin(self) -> None:
        """Say what is done already."""
        self._tell(self._last)

    def saw(self, shard: Shard, measured: Measured, crew: Crew) -> None:
        """Take in a shard that is done."""
        for block in shard.blocks:
            self._ahead[block.kind] -= seconds(block)
        if measured.failed < len(shard):
            self._speed.learn_of(shard.blocks, measured.seconds)
        self._worked += measured.seconds
        self._ran += len(shard)
        self.failed += measured.failed
        now = time.monotonic()
        self._begun = min(self._begun, now - measured.seconds)  # when the workers were there
        elapsed = max(1e-3, now - self._begun)
        workers = crew.workers or max(1.0, self._worked / elapsed)
        ahead = max(0.0, sum(one * self._speed.slowness_of(kind) for kind, one in self._ahead.items()))
        under_way = min(ahead, max(0.0, elapsed * workers - self._worked))  # of shards that are being measured
        done, what = self.runs, _words(shard, self._meant.sweep)
        failed = f", {measured.failed:,} FAILED" if measured.failed else ""
        self._writer.log(
            f"{done:,} runs done; {shard.key}: {len(shard):,} runs in {measured.seconds:.2f} s{failed}; {what}"
        )
        total = len(self._meant.sweep)
        left = (ahead - under_way) / workers + FINISHED * total if done < total else 0.0
        self._tell(Progress(done, total, self.failed, self._ran / elapsed, left, what))

    def say(self, text: str) -> None:
        """Note what is out of the ordinary, in the log and for whoever wants to know."""
        self._writer.log(text)
        self._tell(self._last._replace(note=text))

    @property
    def runs(self) -> int:
        """How many runs are done."""
        return self._meant.done + self._ran

    @property
    def done(self) -> str:
        """How much is done, in words."""
        return f"{self.runs:,} of {len(self._meant.sweep):,} runs"

    def _tell(self, progress: Progress) -> None:
        self._last = progress._replace(note="")
        if self._progress:
            self._progress(progress)


def _words(shard: Shard, sweep: Sweep) -> str:
    """The parameters of a shard, as far as they differ within the sweep and not within the shard."""
    first = shard.blocks[0]
    points = {**first.common, "seed": None, "spectral_radius": None}
    words = [
        f"{key} {points[key]}" for key, values in sweep.grid.items() if len(values) > 1 and points.get(key) is not None
    ]
    for key in ("spectral_radius", "seed"):
        values = sorted({getattr(network, key) for network in first.networks})
        if len(sweep.grid[key]) > 1:
            words.append(f"{key} {values[0]:g}" + (f" to {values[-1]:g}" if len(values) > 1 else ""))
    return ", ".join(words)
