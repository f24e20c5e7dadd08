"""`fixed:TAU`: a sliding window. The loss at step s reaches the states h_s ... h_{s-TAU+1} and no further."""

from dataclasses import dataclass

from gradscope.errors import at_least
from gradscope.scaled import Floats
from gradscope.schedule import Windows


@dataclass(frozen=True)
class Fixed:
    """Sliding truncation over `tau` steps: TBPTT(1, tau)."""

    tau: int

    def __post_init__(self) -> None:
        at_least(1, tau=self.tau)

    def schedule(self, coins: Floats) -> Windows:
        """A window of `tau` steps for every loss."""
        return Windows(1, self.tau)
