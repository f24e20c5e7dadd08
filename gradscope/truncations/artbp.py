"""`artbp:N0:ALPHA`: random cuts, the rarer the longer ago the last one was, and what passes is reweighted. Unbiased.

Source: Tallec & Ollivier (2017), "Unbiasing truncated backpropagation through time", arXiv 1705.08209: a segment that
has lasted `age` steps ends there with probability c = (ALPHA - 1) / ((ALPHA - 2) N0 + age), and what passes is divided
by 1 - c. Segments last N0 steps on average, and l or more with a probability that falls as l**(1 - ALPHA): with a
power, so that the weights of long lags grow with a power too, where those of `random` grow exponentially.
"""

from dataclasses import dataclass

import numpy as np

from gradscope.errors import InputError, at_least
from gradscope.scaled import Floats
from gradscope.schedule import Gates


@dataclass(frozen=True)
class Artbp:
    """Anticipated reweighted truncated backpropagation, its power-law schedule; `random:N0` as `alpha` goes to inf."""

    n0: float
    alpha: float

    def __post_init__(self) -> None:
        at_least(1, n0=self.n0)
        at_least(2, alpha=self.alpha)
        if self.n0 == 1:
            raise InputError(
                "N0 must be above 1: at 1 the first step never continues, which no weight can make unbiased"
            )
        if self.alpha == 2:
            raise InputError("ALPHA must be above 2: at 2 segments have no mean length")

    def schedule(self, coins: Floats) -> Gates:
        """Gates 1/(1-c) with probability 1-c, else 0; ages are counted from the first step, and from each cut."""
        weights = np.empty(coins.shape)
        age = np.ones(len(coins))
        for t, tossed in enumerate(coins.T):
            continues = self._continues(age)
            weights[:, t] = (tossed < continues) / continues
            age = np.where(tossed < continues, age + 1.0, 1.0)
        return Gates(weights)

    def expected(self, seq_len: int) -> Gates:
        """Full BPTT."""
        return Gates(np.ones(seq_len))

    def unbounded(self, rate: float) -> bool:
        """The mean square of the weight at lag k grows as k**(alpha - 1): less than any decay, if there is one."""
        return rate >= 0.0

    def _continues(self, age: Floats) -> Floats:
        """1 - c, with no difference of what is nearly equal."""
        scale = 1.0 / (self.alpha - 2.0)
        passing: Floats = (self.n0 - 1.0 + (age - 1.0) * scale) / (self.n0 + age * scale)
        return passing
