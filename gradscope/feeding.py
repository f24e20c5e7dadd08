"""What networks are fed while they learn: minibatches for C runs side by side, and what is held out of training.

A task's data are windows of one long sequence, split in time, or drawn anew for every batch; a batch depends on the
seed and the number of its step alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.baselines import forecasts, horizon_errors, scores
from gradscope.batches import BATCHINGS, Batching, Normal, split, windows
from gradscope.errors import InputError
from gradscope.losses import select_steps
from gradscope.runs import AS_ASKED, Run
from gradscope.scaled import Floats
from gradscope.task import Recorded, Sequences, Task

STREAMS = 16  # in which what is held out is read side by side, at most
HELD_OUT = 20_000  # values of it that are read, at most
EXAMPLES = 256  # that are drawn to be held out, where examples are drawn
_CONTEXT = 8  # characters before a text, more than any n-gram looks back
_APART = 64  # bits: the seeds of batches begin beyond those of users


class Batch(NamedTuple):
    """Examples for C runs.

    Attributes
    ----------
    x, y : (C, T, B, m) inputs; (C, T, B, p) targets, or classes (C, T, B).
    mask : (C, T, B), true where a loss counts; None: everywhere.
    fresh : whether the state is reset before it.
    """

    x: Floats
    y: NDArray[Any]
    mask: NDArray[np.bool_] | None
    fresh: bool


class Feed:
    """What the runs of some seeds, alike in everything else but their radius, are fed.

    Raises InputError for a sequence that is shorter than one window, is constant in its training part, or has values
    that are not finite.
    """

    def __init__(self, like: Run, seeds: Sequence[int]):
        self.task: Task = like.task()
        self._seeds, self._like = tuple(seeds), like
        distinct = dict.fromkeys(seeds)
        if isinstance(self.task, Recorded):
            self._sources: dict[int, Recording | Drawing] = {
                seed: Recording.of(self.task, like, seed) for seed in distinct
            }
        else:
            self._sources = {seed: Drawing(self.task, like, seed) for seed in distinct}

    def batch(self, step: int) -> Batch:
        """The minibatch of a step, counted from 0."""
        return self._side_by_side(lambda source: source.batch(step))

    def held_out(self, part: str) -> Batch:
        """All that is held out as "validation" or "test"; of a sequence every value counts, whatever `loss_steps`."""
        return self._side_by_side(lambda source: source.held_out(part))

    def naive(self, seed: int) -> dict[str, float]:
        """The losses of naive predictions of what is held out for the test, by name: see `gradscope.baselines`."""
        return self._sources[seed].naive()

    def recording(self, seed: int) -> Recording | None:
        """The sequence that a run of a seed learns from; None for a task whose examples are drawn."""
        source = self._sources[seed]
        return source if isinstance(source, Recording) else None

    def _side_by_side(self, take: Callable[[Recording | Drawing], tuple[Sequences, bool]]) -> Batch:
        taken = {seed: take(source) for seed, source in self._sources.items()}
        fresh = next(iter(taken.values()))[1]
        parts = {seed: sequences for seed, (sequences, _) in taken.items()}
        x = self._stacked({seed: part.x for seed, part in parts.items()})
        y = self._stacked({seed: part.y for seed, part in parts.items()})
        masks = {seed: part.mask for seed, part in parts.items() if part.mask is not None}
        return Batch(x, y, self._stacked(masks) if masks else None, fresh)

    def _stacked(self, of_seed: Mapping[int, NDArray[Any]]) -> NDArray[Any]:
        """The arrays of the runs, numbers as the runs' dtype."""
        dtype = self._like["dtype"]
        arrays = {seed: a.astype(dtype, copy=False) if a.dtype.kind == "f" else a for seed, a in of_seed.items()}
        if len(arrays) == 1:
            (array,) = arrays.values()
            return np.broadcast_to(array, (len(self._seeds), *array.shape))
        return np.stack([arrays[seed] for seed in self._seeds])


def asked(sequences: Sequences, loss_steps: str) -> Sequences:
    """Sequences with the mask that `loss_steps` asks for; "task": the task's own."""
    if loss_steps == AS_ASKED:
        return sequences
    T, B, _ = sequences.x.shape
    if loss_steps == "all" and sequences.mask is None:
        return sequences
    mask = np.zeros((T, B), bool)
    mask[select_steps(loss_steps, T)] = True
    return sequences._replace(mask=mask)


@dataclass(frozen=True)
class Recording:
    """One long sequence, split in time.

    Attributes
    ----------
    task : whose it is.
    values : (N,), normalised if they are numbers.
    normal : how; None for integer codes.
    batching : where the windows of each step start, in the training part.
    seq_len : T of a window.
    loss_steps : of a window, whose loss counts.
    """

    task: Recorded
    values: NDArray[Any]
    normal: Normal | None
    batching: Batching
    seq_len: int
    loss_steps: str

    @classmethod
    def of(cls, task: Recorded, like: Run, seed: int) -> Recording:
        """The sequence of a seed, its normalisation fitted on the training part."""
        values, normal = task.corpus(seed), None
        train = split(len(values)).train
        if values.dtype.kind == "f":
            if not np.isfinite(values).all():
                first = int(np.flatnonzero(~np.isfinite(values))[0])
                raise InputError(f"value {first} of the sequence is not finite", where=f"task {like['task']}")
            normal = Normal.of(values[train])
            values = normal.apply(values)
        batching = BATCHINGS[like["batching"]](train.stop, like["seq_len"], like["batch_size"], seed)
        return cls(task, values, normal, batching, like["seq_len"], like["loss_steps"])

    def part(self, name: str) -> NDArray[Any]:
        """The values of the "train", "validation" or "test" part."""
        found: NDArray[Any] = self.values[getattr(split(len(self.values)), name)]
        return found

    def batch(self, step: int) -> tuple[Sequences, bool]:
        """The windows of a step."""
        chosen = self.batching.at(step)
        read = self.task.encode(windows(self.values, chosen.starts, self.seq_len))
        return asked(read, self.loss_steps), chosen.fresh

    @cached_property
    def _held_out(self) -> dict[str, Sequences]:
        return {name: self._read(getattr(split(len(self.values)), name)) for name in ("validation", "test")}

    def held_out(self, part: str) -> tuple[Sequences, bool]:
        """A part, read from a state that has seen seq_len values before it, of which no loss counts."""
        return self._held_out[part], True

    def naive(self) -> dict[str, float]:
        """Losses on the values that the network is to predict in the test part, fitted on the training part."""
        train, test = self.part("train"), split(len(self.values)).test
        streams, own = self._streams(test)
        predicted = slice(test.start, test.start + streams * own)
        if self.normal is None:
            vocabulary = self.task.encode(self.values[:2, None]).x.shape[-1]
            return scores(train, self.values[predicted], vocabulary, context=self.values[: test.start][-_CONTEXT:])
        found = {}
        for name, forecast in forecasts(train).items():
            starts = np.arange(predicted.start, predicted.stop)
            history = self.values[starts + np.arange(-forecast.needs, 0)[:, None]]
            found[name] = float(horizon_errors(forecast(history, 1), self.values[predicted][None])[0] ** 2)
        return found

    def _streams(self, part: slice) -> tuple[int, int]:
        """In how many streams a part is read, and the values that each of them is to predict."""
        length = min(part.stop - part.start, HELD_OUT)
        streams = max(1, min(STREAMS, length // (4 * self.seq_len)))
        return streams, length // streams

    def _read(self, part: slice) -> Sequences:
        streams, own = self._streams(part)
        if own < 1:
            what = f"{len(self.values)} values leave none to hold out"
            raise InputError(what, where="seq_len", hint="give a longer sequence")
        before = min(self.seq_len, part.start)
        starts = part.start - before + own * np.arange(streams)
        read = self.task.encode(windows(self.values, starts, before + own - 1))
        mask = np.zeros(read.x.shape[:2], bool)
        mask[before - 1 :] = True
        return read._replace(mask=mask)


@dataclass(frozen=True)
class Drawing:
    """Examples that are drawn anew for every batch."""

    task: Task
    like: Run
    seed: int

    def batch(self, step: int) -> tuple[Sequences, bool]:
        """Examples that no other step sees."""
        return self._draw(step + 1, self.like["batch_size"]), True

    @cached_property
    def _held_out(self) -> dict[str, Sequences]:
        return {name: self._draw(-number, EXAMPLES) for number, name in enumerate(("validation", "test"), 1)}

    def held_out(self, part: str) -> tuple[Sequences, bool]:
        """The same examples at every step."""
        return self._held_out[part], True

    def naive(self) -> dict[str, float]:
        """The loss of the best prediction that does not look at the inputs, if it is known."""
        chance = self.task.chance(self.like["seq_len"], self.like["loss"])
        return {"chance": chance} if np.isfinite(chance) else {}

    def _draw(self, occasion: int, examples: int) -> Sequences:
        like = self.like
        seed = self.seed + ((2 * abs(occasion) + (occasion < 0)) << _APART)
        return asked(self.task.draw(seed, like["seq_len"], examples, like["loss"]), like["loss_steps"])
