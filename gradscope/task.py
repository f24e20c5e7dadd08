"""What a task is: where inputs and targets come from. A task plug-in imports this module, its streams and sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gradscope.scaled import Floats


class Sequences(NamedTuple):
    """A batch: inputs `x` (T, B, m); targets `y` (T, B, p), or integer classes (T, B)."""

    x: Floats
    y: NDArray[Any]


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
    def longest(self) -> float:
        """The longest seq_len that it can give; infinity if any."""
        ...

    def draw(self, seed: int, seq_len: int, batch_size: int, loss: str) -> Sequences:
        """The batch of one seed. A shorter sequence is a prefix of a longer one."""
        ...

    def record(self) -> dict[str, Any]:
        """What the data are and how they were normalised, for the manifest."""
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
