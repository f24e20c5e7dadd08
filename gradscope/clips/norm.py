"""`norm:THETA`: a gradient whose norm over all parameters is above THETA is scaled down to that norm.

It is the projection onto the ball of radius THETA: the direction is kept. Source: Pascanu, Mikolov, Bengio (2013), "On
the difficulty of training recurrent neural networks", arXiv 1211.5063, algorithm 1.
"""

from dataclasses import dataclass
from typing import ClassVar

from gradscope.scaled import Scaled
from gradscope.threshold import Gradient, positive, projected


@dataclass(frozen=True)
class Norm:
    """g becomes g theta / |g| where |g| > `theta`, the norm being that of all parameters together."""

    theta: float
    turns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        positive(theta=self.theta)

    def clip(self, gradient: Gradient) -> dict[str, Scaled]:
        """The projection of the whole gradient."""
        return projected(gradient, self.theta)
