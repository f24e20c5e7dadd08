"""`adagrad[:EPSILON]`: each entry's rate falls with its gradients so far, s += g^2, w -= rate g / sqrt(s + epsilon).

Source: Duchi, Hazan, Singer (2011), "Adaptive subgradient methods for online learning and stochastic optimization";
with epsilon below the root, as in min-char-rnn (Karpathy 2015).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradscope.errors import InputError, at_least
from gradscope.optimizer import Slots
from gradscope.scaled import Floats


@dataclass(frozen=True)
class Adagrad:
    """Steps divided by the root of the sum of squares so far."""

    epsilon: float = 1e-8
    slots: ClassVar[tuple[str, ...]] = ("squares",)

    def __post_init__(self) -> None:
        at_least(0, epsilon=self.epsilon)
        if self.epsilon == 0:
            raise InputError("EPSILON must be above 0: gradients of 0 would be divided by it")

    def step(self, values: Floats, gradient: Floats, slots: Slots, rate: Floats, number: int, scratch: Floats) -> None:
        """S += g^2; w -= rate g / sqrt(s + epsilon)."""
        squares = slots["squares"]
        squares += np.multiply(gradient, gradient, out=scratch)
        np.add(squares, self.epsilon, out=scratch)
        np.sqrt(scratch, out=scratch)
        np.divide(gradient, scratch, out=gradient)
        gradient *= rate
        values -= gradient
