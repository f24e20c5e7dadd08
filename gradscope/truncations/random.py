"""`random:TAU`: each backward step continues with probability pi = 1 - 1/TAU and is then weighted by 1/pi. Unbiased.

Sources: Tallec & Ollivier (2017), "Unbiasing truncated backpropagation through time" (ARTBP, constant rate); the xi_t
of "Dive into Deep Learning", backpropagation through time, used recursively.
"""

from dataclasses import dataclass
from math import log

import numpy as np

from gradscope.errors import InputError, at_least
from gradscope.scaled import Floats
from gradscope.schedule import Gates


@dataclass(frozen=True)
class Random:
    """Random truncation after `tau` steps on average, reweighted so that the expected gradient is the full one."""

    tau: float

    def __post_init__(self) -> None:
        at_least(1, tau=self.tau)
        if self.tau == 1:
            raise InputError("TAU must be above 1: at 1 no step continues, which no weight can make unbiased")

    def schedule(self, coins: Floats) -> Gates:
        """Gates 1/pi with probability pi, else 0; one coin for each run and step."""
        pi = 1.0 - 1.0 / self.tau
        return Gates((coins < pi) / pi)

    def expected(self, seq_len: int) -> Gates:
        """Full BPTT."""
        return Gates(np.ones(seq_len))

    def unbounded(self, rate: float) -> bool:
        """At lag k the mean square of the weight is pi**-k, and its product with exp(2 rate k) must vanish.

        Where gradients grow, that of the longest lag counts most, in the full gradient too.
        """
        return 2.0 * min(rate, 0.0) - log(1.0 - 1.0 / self.tau) >= 0.0
