"""`momentum[:MU]`: gradient descent with momentum, v = mu v + g, w -= rate v.

Source: Polyak (1964), "Some methods of speeding up the convergence of iteration methods"; in this form, in which the
rate does not enter the velocity, PyTorch's SGD.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradscope.optimizer import Slots, fraction
from gradscope.scaled import Floats


@dataclass(frozen=True)
class Momentum:
    """Steps along a velocity that forgets with `mu`."""

    mu: float = 0.9
    slots: ClassVar[tuple[str, ...]] = ("velocity",)

    def __post_init__(self) -> None:
        fraction(mu=self.mu)

    def step(self, values: Floats, gradient: Floats, slots: Slots, rate: Floats, number: int, scratch: Floats) -> None:
        """V = mu v + g; w -= rate v."""
        velocity = slots["velocity"]
        velocity *= self.mu
        velocity += gradient
        values -= np.multiply(velocity, rate, out=scratch)
