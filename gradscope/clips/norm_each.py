"""`norm-each:THETA`: each parameter's gradient whose norm is above THETA is scaled down to that norm.

Each keeps its direction; all of them together do not, as soon as some are clipped and others are not.
"""

from dataclasses import dataclass
from typing import ClassVar

from gradscope.scaled import Scaled
from gradscope.threshold import Gradient, positive, projected


@dataclass(frozen=True)
class NormEach:
    """Each parameter alone projected onto the ball of radius `theta`."""

    theta: float
    turns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive(theta=self.theta)

    def clip(self, gradient: Gradient) -> dict[str, Scaled]:
        """The projection of each parameter's gradient."""
        return {name: projected({name: part}, self.theta)[name] for name, part in gradient.items()}
