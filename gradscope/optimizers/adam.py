"""`adam[:BETA1:BETA2:EPSILON]`: steps along a mean of gradients, over the root of a mean of squares, both corrected.

Source: Kingma & Ba (2015), "Adam: a method for stochastic optimization", arXiv 1412.6980, algorithm 1.
"""

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from gradscope.errors import InputError, at_least
from gradscope.optimizer import Slots, fraction
from gradscope.scaled import Floats


@dataclass(frozen=True)
class Adam:
    """w -= rate (m / (1 - beta1^k)) / (sqrt(v / (1 - beta2^k)) + epsilon) at step k."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    slots: ClassVar[tuple[str, ...]] = ("mean", "square")

    def __post_init__(self) -> None:
        fraction(beta1=self.beta1, beta2=self.beta2)
        at_least(0, epsilon=self.epsilon)
        if self.epsilon == 0:
            raise InputError("EPSILON must be above 0: gradients of 0 would be divided by it")

    def step(self, values: Floats, gradient: Floats, slots: Slots, rate: Floats, number: int, scratch: Floats) -> None:
        """M = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, and the step along m / sqrt(v)."""
        mean, square = slots["mean"], slots["square"]
        np.subtract(gradient, mean, out=scratch)
        scratch *= 1.0 - self.beta1
        mean += scratch
        np.multiply(gradient, gradient, out=gradient)
        np.subtract(gradient, square, out=scratch)
        scratch *= 1.0 - self.beta2
        square += scratch
        np.sqrt(square, out=gradient)
        gradient *= 1.0 / sqrt(1.0 - self.beta2**number)
        gradient += self.epsilon
        np.divide(mean, gradient, out=gradient)
        gradient *= rate / (1.0 - self.beta1**number)
        values -= gradient
