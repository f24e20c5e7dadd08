"""`recall`: white noise, to be said again after a delay: what a network must remember is under control.

Source: the delayed recall by which Jaeger (2001), "Short term memory in echo state networks", measures memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradscope.errors import at_least
from gradscope.streams import stream
from gradscope.task import Sequences


@dataclass(frozen=True)
class Recall:
    """x_t ~ N(0, 1), white; y_t = x_{t - delay}, asked for from step delay + 1 on, and 0 before.

    Parameters
    ----------
    delay : in steps; 0 asks for the input itself.
    """

    delay: int = 10

    losses = ("mse",)
    sizes = (1, 1)
    input_power = 1.0
    longest = float("inf")
    prefixes = True
    recipe: ClassVar[Mapping[str, Any]] = {"seq_len": 30}

    def __post_init__(self) -> None:
        at_least(0, delay=self.delay)

    @property
    def shortest(self) -> int:
        """One step is asked for."""
        return self.delay + 1

    def chance(self, seq_len: int, loss: str) -> float:  # noqa: ARG002
        """The variance of the noise: of always saying 0."""
        return 1.0

    def draw(self, seed: int, seq_len: int, batch_size: int, loss: str) -> Sequences:  # noqa: ARG002
        """The noise does not depend on the delay."""
        at_least(self.shortest, seq_len=seq_len)
        x = stream(seed, "recall").standard_normal((seq_len, batch_size, 1))
        y, mask = np.zeros_like(x), np.zeros((seq_len, batch_size), bool)
        y[self.delay :], mask[self.delay :] = x[: seq_len - self.delay], True
        return Sequences(x, y, mask)

    def record(self) -> dict[str, Any]:
        """White noise needs no normalisation."""
        return {"normalised": "drawn with mean 0 and standard deviation 1"}
