"""`tbptt:K1:K2`: every K1 steps, the last K1 losses are sent back through the last K2 steps.

Source: Williams & Peng (1990), BPTT(h; h') with h = K2, h' = K1.
"""

from dataclasses import dataclass

from gradscope.errors import InputError, at_least
from gradscope.scaled import Floats
from gradscope.schedule import Windows


@dataclass(frozen=True)
class Tbptt:
    """TBPTT(k1, k2), k2 >= k1."""

    k1: int
    k2: int

    def __post_init__(self) -> None:
        at_least(1, k1=self.k1, k2=self.k2)
        if self.k2 < self.k1:
            raise InputError(f"K2 must be at least K1, and {self.k2} < {self.k1}")

    def schedule(self, coins: Floats) -> Windows:
        """Windows of `k2` steps, one for each `k1` losses."""
        return Windows(self.k1, self.k2)
