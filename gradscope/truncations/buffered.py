"""`buffered:TAU`: windows of 2 TAU - 1 steps with the loss on the last TAU, so that every loss has at least TAU steps.

Source: Aicher, Foti, Fox (2019), "Adaptively truncating backpropagation through time to control gradient bias",
arXiv 1905.07473, the windows of its code. A loss reaches TAU to 2 TAU - 1 steps, for less than two steps back a loss.
"""

from dataclasses import dataclass

from gradscope.errors import at_least
from gradscope.scaled import Floats
from gradscope.schedule import Windows


@dataclass(frozen=True)
class Buffered:
    """Windows that overlap by `tau` - 1 steps, which have no loss but in the window before: TBPTT(tau, 2 tau - 1)."""

    tau: int

    def __post_init__(self) -> None:
        at_least(1, tau=self.tau)

    def schedule(self, coins: Floats) -> Windows:
        """Windows of 2 tau - 1 steps, one for each `tau` losses."""
        return Windows(self.tau, 2 * self.tau - 1)
