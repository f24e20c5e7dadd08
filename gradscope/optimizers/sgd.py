"""`sgd`: gradient descent, w -= rate g."""

from dataclasses import dataclass
from typing import ClassVar

from gradscope.optimizer import Slots
from gradscope.scaled import Floats


@dataclass(frozen=True)
class Sgd:
    """Steps along the gradient."""

    slots: ClassVar[tuple[str, ...]] = ()

    def step(self, values: Floats, gradient: Floats, slots: Slots, rate: Floats, number: int, scratch: Floats) -> None:
        """W -= rate g."""
        gradient *= rate
        values -= gradient
