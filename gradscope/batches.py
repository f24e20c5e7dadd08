"""Minibatches of windows of one long sequence: which part is for what, and where each step's windows start.

A batch is a function of the number of its step alone, so that a training goes on after an interruption as if there had
been none, and trainings that differ in anything else see the same data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gradscope.errors import InputError
from gradscope.scaled import Floats
from gradscope.streams import stream

VALIDATION, TEST = 0.1, 0.1  # shares of a sequence
_TOGETHER = 64  # steps whose starts are drawn together


class Split(NamedTuple):
    """The parts of a sequence, in the order of time."""

    train: slice
    validation: slice
    test: slice


def split(length: int) -> Split:
    """The first 80 % of a sequence for training, then 10 % for validation, then 10 % for the test.

    >>> split(1000)
    Split(train=slice(0, 800, None), validation=slice(800, 900, None), test=slice(900, 1000, None))
    """
    validation, test = (int(share * length) for share in (VALIDATION, TEST))
    train = length - validation - test
    return Split(slice(0, train), slice(train, train + validation), slice(train + validation, length))


class Normal(NamedTuple):
    """(value - mean) / scale, fitted on a training part alone."""

    mean: float
    scale: float

    @classmethod
    def of(cls, train: Floats) -> Normal:
        """The normalisation that gives the training part mean 0 and standard deviation 1.

        Raises InputError for a constant one, or values whose squares are no numbers.
        """
        largest = float(np.abs(train).max())
        with np.errstate(over="ignore", invalid="ignore"):
            mean, scale = float(train.mean()), float(train.std())
        if not scale < np.inf:
            raise InputError(f"values up to {largest:g} are too large to normalise")
        if not scale > 1e-12 * largest:
            raise InputError("the training part, the first 80 %, is constant", hint="nothing to learn")
        return cls(mean, scale)

    def apply(self, values: Floats) -> Floats:
        """Values in units of the training part's standard deviation."""
        return (values - self.mean) / self.scale

    def undone(self, values: Floats) -> Floats:
        """The values that `apply` made these from."""
        return values * self.scale + self.mean


class Windows(NamedTuple):
    """Where a batch's windows start, (B,); `fresh` if they do not go on where the last batch's ended."""

    starts: NDArray[np.int64]
    fresh: bool


class Batching(Protocol):
    """Where the windows of each step start, in a sequence of `length` values of which a window takes seq_len + 1."""

    def at(self, step: int) -> Windows:
        """The windows of a step, counted from 0."""
        ...

    def __iter__(self) -> Iterator[Windows]:
        """The windows of all steps, without end."""
        ...


@dataclass(frozen=True)
class RandomSampling:
    """Windows that start anywhere, each drawn anew; the state is reset before every batch.

    Raises InputError for a sequence shorter than one window.

    Examples
    --------
    >>> batching = RandomSampling(length=100, seq_len=10, batch_size=3, seed=0)
    >>> batching.at(7).starts.shape, batching.at(7).fresh
    ((3,), True)
    """

    length: int
    seq_len: int
    batch_size: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.length <= self.seq_len:
            what = f"{self.length} values for training are fewer than one window of {self.seq_len} + 1"
            raise InputError(what, where="seq_len", allowed=f"at most {self.length - 1}")

    def at(self, step: int) -> Windows:
        """B starts, uniform over all that fit."""
        drawn = _starts(self.seed, step // _TOGETHER, self.length - self.seq_len, self.batch_size)
        return Windows(drawn[step % _TOGETHER], fresh=True)

    def __iter__(self) -> Iterator[Windows]:
        """The windows of all steps."""
        return map(self.at, count())


@lru_cache(maxsize=64)
def _starts(seed: int, block: int, places: int, batch_size: int) -> NDArray[np.int64]:
    """The starts of a block of steps, (steps, B); fewer examples are the first of more."""
    drawn = stream(seed, f"training starts {block}").random((batch_size, _TOGETHER))
    starts = (drawn * places).astype(np.int64).T
    starts.setflags(write=False)  # it is kept
    return starts


@dataclass(frozen=True)
class SequentialPartitioning:
    """The sequence cut in B parts of equal length, read side by side: a batch goes on where the last one ended.

    So the state is carried from batch to batch, and reset when the parts have come to their end. What is left at the
    ends, less than a window of each part and less than B values, is not read. Raises InputError for a sequence in which
    a part is shorter than one window.

    Examples
    --------
    >>> batching = SequentialPartitioning(length=101, seq_len=10, batch_size=2)
    >>> [(windows.starts.tolist(), windows.fresh) for _, windows in zip(range(6), batching)]
    [([0, 50], True), ([10, 60], False), ([20, 70], False), ([30, 80], False), ([40, 90], False), ([0, 50], True)]
    """

    length: int
    seq_len: int
    batch_size: int
    seed: int = 0  # nothing is drawn

    def __post_init__(self) -> None:
        if self.batches < 1:
            what = f"{self.length} values in {self.batch_size} parts are fewer than one window of {self.seq_len} + 1"
            hint = 'or a smaller batch_size (they are read side by side), or batching = "random"'
            most = (self.length - 1) // self.batch_size
            raise InputError(what, where="seq_len", allowed=f"at most {most}" if most else "", hint=hint)

    @property
    def batches(self) -> int:
        """Batches in one pass over the sequence."""
        return (self.length - 1) // self.batch_size // self.seq_len

    def at(self, step: int) -> Windows:
        """The next window of each part."""
        part, number = (self.length - 1) // self.batch_size, step % self.batches
        return Windows(part * np.arange(self.batch_size) + number * self.seq_len, fresh=number == 0)

    def __iter__(self) -> Iterator[Windows]:
        """The windows of all steps."""
        return map(self.at, count())


BATCHINGS: dict[str, type[RandomSampling] | type[SequentialPartitioning]] = {
    "random": RandomSampling,
    "sequential": SequentialPartitioning,
}


def windows(values: NDArray[np.generic], starts: NDArray[np.int64], seq_len: int) -> NDArray[np.generic]:
    """The values of windows, (T+1, B)."""
    return values[starts + np.arange(seq_len + 1)[:, None]]
