"""`chunked:TAU`: the sequence is cut in chunks of TAU steps, the state carried over each cut, the gradient not.

What framework code usually does (detach between chunks). On average over a chunk a loss reaches (TAU + 1)/2 steps.
"""

from dataclasses import dataclass

import numpy as np

from gradscope.errors import at_least
from gradscope.scaled import Floats
from gradscope.schedule import Gates


@dataclass(frozen=True)
class Chunked:
    """Chunks of `tau` steps from t = 1 on: TBPTT(tau, tau)."""

    tau: int

    def __post_init__(self) -> None:
        at_least(1, tau=self.tau)

    def schedule(self, coins: Floats) -> Gates:
        """Gates shut at the end of each chunk."""
        seq_len = coins.shape[-1]
        return Gates((np.arange(1, seq_len + 1) % min(self.tau, seq_len + 1) != 0).astype(np.float64))
