"""`one-coin:TAU`: each loss tosses one coin for all that it sends to earlier steps. Unbiased.

Source: "Dive into Deep Learning", backpropagation through time, its randomised truncation as the formula says it: the
gradient of the state before is the true one, and xi_t, 1/pi with probability pi and else 0, multiplies it once. Its
prose describes the recursion, which is `random:TAU`.
"""

from dataclasses import dataclass

import numpy as np

from gradscope.errors import InputError, at_least
from gradscope.scaled import Floats
from gradscope.schedule import Gates


@dataclass(frozen=True)
class OneCoin:
    """A loss goes back in full, times 1/pi, with probability pi = 1 - 1/tau, and else not beyond its own step."""

    tau: float

    def __post_init__(self) -> None:
        at_least(1, tau=self.tau)
        if self.tau == 1:
            raise InputError("TAU must be above 1: at 1 no loss goes back, which no weight can make unbiased")

    def schedule(self, coins: Floats) -> Gates:
        """All gates open; the loss at step t enters them with the coin of the first, from t to t-1."""
        pi = 1.0 - 1.0 / self.tau
        entering = np.ones(coins.shape)
        entering[:, 1:] = (coins[:, :-1] < pi) / pi
        return Gates(np.ones(coins.shape[1]), entering)

    def expected(self, seq_len: int) -> Gates:
        """Full BPTT."""
        return Gates(np.ones(seq_len))

    def unbounded(self, rate: float) -> bool:
        """Never: the mean square of the weight is 1/pi at all lags."""
        return False
