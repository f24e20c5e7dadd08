"""`noise`: white Gaussian input and fixed random targets: no structure but the network's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any, ClassVar

from gradscope.errors import at_least
from gradscope.streams import stream
from gradscope.task import Sequences


@dataclass(frozen=True)
class Noise:
    """x_t ~ N(0, I); y_t ~ N(0, I), or uniform classes for cross_entropy.

    Parameters
    ----------
    input_size, output_size : m and p.
    """

    input_size: int = 16
    output_size: int = 1

    losses = ("mse", "cross_entropy")
    shortest = 1
    longest = float("inf")
    prefixes = True
    recipe: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        at_least(1, input_size=self.input_size, output_size=self.output_size)

    @property
    def sizes(self) -> tuple[int, int]:
        """m and p."""
        return self.input_size, self.output_size

    @property
    def input_power(self) -> float:
        """E |x_t|^2 = m."""
        return float(self.input_size)

    def chance(self, seq_len: int, loss: str) -> float:  # noqa: ARG002
        """The targets' variance, or log of the number of classes: nothing can be learnt of fresh noise."""
        return 1.0 if loss == "mse" else log(self.output_size)

    def draw(self, seed: int, seq_len: int, batch_size: int, loss: str) -> Sequences:
        """Inputs and targets from streams of their own."""
        x = stream(seed, "noise x").standard_normal((seq_len, batch_size, self.input_size))
        targets = stream(seed, "noise y")
        if loss == "cross_entropy":
            return Sequences(x, targets.integers(0, self.output_size, (seq_len, batch_size)))
        return Sequences(x, targets.standard_normal((seq_len, batch_size, self.output_size)))

    def record(self) -> dict[str, Any]:
        """White noise needs no normalisation."""
        return {"normalised": "drawn with mean 0 and standard deviation 1"}
