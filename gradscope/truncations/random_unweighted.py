"""`random-unweighted:TAU`: each backward step continues with probability 1 - 1/TAU, unweighted. Biased."""

from dataclasses import dataclass

import numpy as np

from gradscope.errors import at_least
from gradscope.scaled import Floats
from gradscope.schedule import Gates


@dataclass(frozen=True)
class RandomUnweighted:
    """The coins of `random:TAU` without its weights: long lags are underrepresented by pi**lag."""

    tau: float

    def __post_init__(self) -> None:
        at_least(1, tau=self.tau)

    def schedule(self, coins: Floats) -> Gates:
        """Gates 1 with probability pi, else 0; one coin for each run and step."""
        return Gates((coins < 1.0 - 1.0 / self.tau).astype(np.float64))

    def expected(self, seq_len: int) -> Gates:
        """Gates of pi each."""
        return Gates(np.full(seq_len, 1.0 - 1.0 / self.tau))

    def unbounded(self, rate: float) -> bool:
        """Never: no weight is above 1."""
        return False
