"""What a truncation is: the weight with which the loss at step s counts in the gradient at step t <= s.

Every truncation is one of two shapes. `Gates` multiply what passes from step t+1 back to step t, the same for all
losses: one backward pass. `Windows` give every group of k1 losses a backward pass of its own over k2 steps:
TBPTT(k1, k2). A truncation plug-in imports this module and nothing else of gradscope but its errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from gradscope.scaled import Floats


@dataclass(frozen=True)
class Gates:
    """What passes from a step to the one before is multiplied by weights, the same for all losses.

    Attributes
    ----------
    weights : (T,) or (C, T), `weights[..., t-1]` for what passes from step t+1 to step t.
    entering : (T,) or (C, T), `entering[..., t-1]` besides for the loss at step t itself, where it leaves step t
        backwards; None for ones. So t-1 is sent weights[t-2] J_t^T (entering[t-1] e_t + c_t), where e_t is the loss's
        own gradient at step t and c_t what came from above; the gradient at t is e_t + c_t all the same.
    """

    weights: Floats
    entering: Floats | None = None

    @property
    def random(self) -> bool:
        """Whether the runs' coins decide, so that each run has weights of its own."""
        return self.weights.ndim > 1 or (self.entering is not None and self.entering.ndim > 1)

    def reach(self, step: int) -> Floats:
        """Weights (..., step) of the loss at `step` (1-based) on the states 1 .. step.

        >>> Gates(np.array([0.5, 0.8, 1.0]), entering=np.array([1.0, 1.0, 3.0])).reach(3)
        array([1.2, 2.4, 1. ])
        """
        passed = np.cumprod(self.weights[..., : step - 1][..., ::-1], axis=-1)[..., ::-1]
        if self.entering is not None:
            passed = passed * self.entering[..., step - 1, None]
        return np.concatenate([passed, np.ones((*passed.shape[:-1], 1))], axis=-1)


@dataclass(frozen=True)
class Windows:
    """TBPTT(k1, k2): at e = k1, 2 k1, ... the losses of the last k1 steps go back through the last k2 steps.

    Source: Williams & Peng (1990), "An efficient gradient-based algorithm for on-line training of recurrent network
    trajectories", BPTT(h; h') with h = k2, h' = k1.
    """

    k1: int
    k2: int

    @property
    def random(self) -> bool:
        """Whether the runs' coins decide: windows stand where they stand."""
        return False

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


@runtime_checkable
class Tossing(Truncation, Protocol):
    """A truncation whose schedule depends on the coins."""

    def expected(self, seq_len: int) -> Gates | Windows | None:
        """The schedule whose gradient is the mean of this one's over the coins; None if no schedule has it."""
        ...

    def unbounded(self, rate: float) -> bool:
        """Whether the variance over coins has no bound as T grows, in units of the full gradient's square.

        `rate` is the growth of |dL/dh| with the lag, in nats a step: the full gradient has a bound itself where it is
        negative, and grows as exp(rate T) where it is positive.
        """
        ...


@runtime_checkable
class Rescaling(Truncation, Protocol):
    """A truncation with which the learning rate is to be rescaled."""

    def learning_rate_factor(self, coins: Floats) -> Floats:
        """What the learning rate is multiplied by, (C,), mean over steps."""
        ...
