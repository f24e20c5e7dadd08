"""What a task is: where inputs and targets come from. A task plug-in imports this module, its streams and sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gradscope.scaled import Floats


class Sequences(NamedTuple):
    """A batch of sequences; of shorter ones, what follows their end is padding that `mask` leaves out.

    Attributes
    ----------
    x : (T, B, m), inputs; zeros at steps that have none.
    y : (T, B, p), targets, or integer classes (T, B); anything at steps that have none.
    mask : (T, B), true at the steps of each example whose loss counts; None: at all of them.
    """

    x: Floats
    y: NDArray[Any]
    mask: NDArray[np.bool_] | None = None


class Task(Protocol):
    """A member of the family `gradscope/tasks`: a frozen dataclass whose fields are the task's options."""

    @property
    def losses(self) -> tuple[str, ...]:
        """The losses that fit its targets; the first is the default."""
        ...

    @property
    def sizes(self) -> tuple[int, int]:
        """input_size m and output_size p."""
        ...

    @property
    def input_power(self) -> float:
        """Mean of |x_t|^2."""
        ...

    @property
    def shortest(self) -> int:
        """The shortest seq_len in which it has a meaning."""
        ...

    @property
    def longest(self) -> float:
        """The longest seq_len that it can give; infinity if any."""
        ...

    @property
    def prefixes(self) -> bool:
        """Whether a shorter sequence is a prefix of a longer one of the same seed."""
        ...

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How a network is trained on it by default: keys of an experiment, where others than the general ones."""
        ...

    def chance(self, seq_len: int, loss: str) -> float:
        """The least mean loss of a prediction that does not look at the inputs; nan where it is not known."""
        ...

    def draw(self, seed: int, seq_len: int, batch_size: int, loss: str) -> Sequences:
        """The batch of one seed; where `prefixes`, a shorter sequence is a prefix of a longer one."""
        ...

    def record(self) -> dict[str, Any]:
        """What the data are and how they were normalised, for the manifest."""
        ...


@runtime_checkable
class Recorded(Protocol):
    """What a task has besides if its data are windows of one long sequence, which training splits in time."""

    def corpus(self, seed: int) -> NDArray[Any]:
        """The sequence, (N,): numbers, which training normalises, or integer codes, which it takes as they are."""
        ...

    def encode(self, windows: NDArray[Any]) -> Sequences:
        """Windows of it, (T+1, B), as inputs and what they should answer: the next value."""
        ...

    def record(self) -> dict[str, Any]:
        """What the data are, as of any task."""
        ...


@runtime_checkable
class Problem(Protocol):
    """What a task has besides if it is a problem of its own: no cell is run on it, it measures its runs itself."""

    @classmethod
    def fixed(cls) -> Mapping[str, Any]:
        """The keys of an experiment that are the problem's own, or mean nothing to it, with their one value."""
        ...

    def check(self, grid: Mapping[str, Sequence[Any]]) -> None:
        """Raise InputError, said to stand at its key, for values of a grid that the problem cannot be run by."""
        ...

    def measure(self, runs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """What is recorded of runs, from their parameters: `columns` and `steps` of an `engine.Measurement`."""
        ...


def excerpts(values: NDArray[Any], rng: np.random.Generator, seq_len: int, batch_size: int) -> NDArray[Any]:
    """`batch_size` windows of `seq_len` + 1 values, (T+1, B).

    They start at random in the first half, so that starts do not depend on the length: shorter windows are prefixes of
    longer ones.
    """
    starts = rng.integers(0, (len(values) + 1) // 2, size=batch_size)
    return values[starts + np.arange(seq_len + 1)[:, None]]


def longest_excerpt(values: NDArray[Any]) -> int:
    """The longest seq_len for which every window of `excerpts` fits."""
    return len(values) // 2
