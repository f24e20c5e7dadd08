"""`value:THETA`: each entry is limited to -THETA .. THETA. It turns the gradient.

Source: Karpathy (2015), min-char-rnn, with THETA = 5.
"""

from dataclasses import dataclass
from typing import ClassVar

from gradscope.scaled import Scaled
from gradscope.threshold import Gradient, bounded, positive


@dataclass(frozen=True)
class Value:
    """Element-wise clipping at `theta`: the projection onto the cube."""

    theta: float
    turns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive(theta=self.theta)

    def clip(self, gradient: Gradient) -> dict[str, Scaled]:
        """Every entry of every parameter within -`theta` .. `theta`."""
        return {name: bounded(part, self.theta) for name, part in gradient.items()}
