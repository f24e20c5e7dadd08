"""What a truncation is: the weight with which the loss at step s counts in the gradient at step t <= s.

Every truncation is one of two shapes. `Gates` multiply what passes from step t+1 back to step t, the same for all
losses: one backward pass. `Windows` give every group of k1 losses a backward pass of its own over k2 steps:
TBPTT(k1, k2). A truncation plug-in imports this module and nothing else of gradscope but its errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gradscope.scaled import Floats


@dataclass(frozen=True)
class Gates:
    """`weights[..., t-1]` multiplies the gradient on its way from step t+1 to step t. (T,) or (C, T)."""

    weights: Floats

    def reach(self, step: int) -> Floats:
        """Weights (..., step) of the loss at `step` (1-based) on the states 1 .. step."""
        reached = np.ones((*self.weights.shape[:-1], step))
        reached[..., :-1] = np.cumprod(self.weights[..., : step - 1][..., ::-1], axis=-1)[..., ::-1]
        return reached


@dataclass(frozen=True)
class Windows:
    """TBPTT(k1, k2): at e = k1, 2 k1, ... the losses of the last k1 steps go back through the last k2 steps.

    Source: Williams & Peng (1990), "An efficient gradient-based algorithm for on-line training of recurrent network
    trajectories", BPTT(h; h') with h = k2, h' = k1.
    """

    k1: int
    k2: int

    def end(self, step: int) -> int:
        """The end (1-based) of the window that the loss at `step` belongs to; it may lie beyond the sequence."""
        return -(-step // self.k1) * self.k1

    def reach(self, step: int) -> Floats:
        """Weights (step,) of the loss at `step` (1-based) on the states 1 .. step."""
        return (np.arange(1, step + 1) > self.end(step) - self.k2).astype(np.float64)


class Truncation(Protocol):
    """A member of the family `gradscope/truncations`: a frozen dataclass whose fields are the spec's arguments."""

    def schedule(self, coins: Floats) -> Gates | Windows:
        """The schedule for `coins` (C, T), uniform in [0, 1): one for each run and step."""
        ...
