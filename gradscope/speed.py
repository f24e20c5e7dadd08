"""How fast this machine measures: learnt from a sample before a sweep, and from the sweep itself while it runs."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from gradscope.cost import PRICES, seconds
from gradscope.engine import measure
from gradscope.runs import Block, Setting
from gradscope.threads import one_blas_thread

SAMPLES = 0.7  # seconds of measuring that calibrate a prediction
LARGEST = 256  # hidden_size of a sample: the eigenvalues of larger matrices alone take too long
FEW = 3  # networks of a sample
FEWEST_STEPS = 5  # of a training


class Speed:
    """How long blocks take a worker of this machine, learnt from what was measured; apart for blocks of each kind."""

    def __init__(self) -> None:
        self._predicted: defaultdict[str, float] = defaultdict(float)
        self._taken: defaultdict[str, float] = defaultdict(float)

    def learn(self, kind: str, predicted: float, taken: float) -> None:
        """Take in that blocks of a kind took so many seconds, for which `cost.seconds` had predicted so many."""
        self._predicted[kind] += predicted
        self._taken[kind] += taken

    def learn_of(self, blocks: Sequence[Block], taken: float) -> None:
        """Take in that these blocks took so many seconds together."""
        predicted = [seconds(block) for block in blocks]
        for block, share in zip(blocks, predicted, strict=True):
            self.learn(block.kind, share, taken * share / sum(predicted))

    def seconds(self, blocks: Iterable[Block]) -> float:
        """How long blocks will take one worker."""
        return sum(seconds(block) * self.slowness_of(block.kind) for block in blocks)

    @property
    def slowness(self) -> float:
        """Seconds here for one where the prices were measured."""
        return sum(self._taken.values()) / sum(self._predicted.values()) if self._taken else 1.0

    def slowness_of(self, kind: str) -> float:
        """The same for blocks of a kind."""
        return self._taken[kind] / self._predicted[kind] if kind in self._taken else self.slowness


def calibrated(blocks: Sequence[Block]) -> Speed:
    """The speed of this machine, from measuring small parts of these blocks for less than a second.

    Of the kinds that take longest a few networks each, their radii spread over the kind's, and shorter sequences where
    that would take too long.
    """
    kinds: dict[str, list[Block]] = {}
    for block in blocks:
        kinds.setdefault(block.kind, []).append(block)
    speed, until = Speed(), time.perf_counter() + SAMPLES
    ordered = sorted(kinds.items(), key=lambda item: -sum(map(seconds, item[1])))
    with one_blas_thread():
        for place, (kind, alike) in enumerate(ordered):
            allowed = (until - time.perf_counter()) / min(4, len(ordered) - place)
            if allowed < 0.02:
                break
            sample = _sample(alike, allowed / (2 * speed.slowness))
            size = sample.common["hidden_size"]
            try:
                for network in sample.networks:  # drawn before it is timed: draws have a price of their own
                    sample.first.cell().drawn(sample.common["ensemble"], network.seed)
                if not place and not sample.first.trains:
                    measure(replace(sample, settings=_cut_short(sample.settings, 2)).runs)  # loads what is loaded once
                began = time.perf_counter()
                measure(sample.runs)
                taken = time.perf_counter() - began
            except Exception:  # it will be a row of the tables that says why
                continue
            draws = PRICES.draws * size**3 * len({network.seed for network in sample.networks})
            speed.learn(kind, seconds(sample) - draws, taken)
    return speed


def _sample(alike: Sequence[Block], allowed: float) -> Block:
    """A part of these blocks that takes about `allowed` seconds at most."""
    networks = sorted({network for block in alike for network in block.networks})
    places = range(FEW) if len(networks) >= FEW else range(len(networks))
    few = tuple(networks[(2 * place + 1) * len(networks) // (2 * len(places))] for place in places)
    size = min(LARGEST, alike[0].common["hidden_size"])
    sample = Block({**alike[0].common, "hidden_size": size}, few, alike[0].settings)
    if sample.first.trains:
        return _few_steps(sample, allowed)
    if seconds(sample) > allowed:
        sample = replace(sample, networks=few[len(few) // 2 :][:1])
    while (longest := max(one.seq_len for one in sample.settings)) > 2 and seconds(sample) > allowed:
        sample = replace(sample, settings=_cut_short(sample.settings, max(2, longest // 2)))
    return sample


def _few_steps(sample: Block, allowed: float) -> Block:
    """The trainings of a sample with as many steps as take about `allowed` seconds, and their looks in proportion."""
    share = min(1.0, allowed / seconds(sample))
    steps = max(FEWEST_STEPS, int(share * sample.common["steps"]))
    every = max(1, int(share * sample.common["record_every"]))
    return replace(sample, common={**sample.common, "steps": steps, "record_every": every})


def _cut_short(settings: Sequence[Setting], seq_len: int) -> tuple[Setting, ...]:
    """The settings with sequences of at most so many steps, and losses that such sequences have."""
    shorter = (
        one
        if one.seq_len <= seq_len
        else one._replace(seq_len=seq_len, loss_steps=one.loss_steps if one.loss_steps in ("last", "all") else "last")
        for one in settings
    )
    return tuple(dict.fromkeys(shorter))
