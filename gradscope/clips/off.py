"""`off`: nothing is clipped."""

from dataclasses import dataclass
from typing import ClassVar

from gradscope.scaled import Scaled
from gradscope.threshold import Gradient


@dataclass(frozen=True)
class Off:
    """The gradient as it is."""

    turns: ClassVar[bool] = False

    def clip(self, gradient: Gradient) -> dict[str, Scaled]:
        """The gradient itself."""
        return dict(gradient)
