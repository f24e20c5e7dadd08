"""What an optimiser is: a map from gradients to changes of parameters. A plug-in imports this module and no other.

The parameters of C networks lie side by side in one array (C, D), so that all of them are changed at once; nothing an
optimiser does joins one entry to another.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from gradscope.errors import InputError, at_least
from gradscope.scaled import Floats

Slots = dict[str, Floats]  # what an optimiser remembers, each like the parameters (C, D)


class Optimizer(Protocol):
    """A member of the family `gradscope/optimizers`: a frozen dataclass whose fields are the spec's arguments."""

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of what it remembers; all of it is zero at first."""
        ...

    def step(self, values: Floats, gradient: Floats, slots: Slots, rate: Floats, number: int, scratch: Floats) -> None:
        """Change the parameters `values` (C, D), and the `slots`, in place; `number` counts steps from 1.

        `rate` (C, 1) are the learning rates; `gradient` and `scratch` (C, D) may be overwritten.
        """
        ...


def begin(optimizer: Optimizer, values: Floats) -> Slots:
    """What an optimiser remembers before its first step."""
    return {name: np.zeros_like(values) for name in optimizer.slots}


def fraction(**values: float) -> None:
    """Raise InputError unless every named value is at least 0 and below 1."""
    at_least(0, **values)
    for name, value in values.items():
        if value >= 1:
            raise InputError(f"{value!r}", where=name, allowed="at least 0, and below 1")
