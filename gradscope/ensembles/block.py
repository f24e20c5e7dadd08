"""`block:BLOCKS`: networks side by side, not connected: independent Gaussian blocks on the diagonal."""

from dataclasses import dataclass

import numpy as np

from gradscope.ensembles.gaussian import Gaussian
from gradscope.errors import at_least
from gradscope.scaled import Floats


@dataclass(frozen=True)
class Block:
    """Blocks of n / BLOCKS units, the first of one more if that is not whole; the largest radius is the matrix's."""

    blocks: int

    def __post_init__(self) -> None:
        at_least(1, blocks=self.blocks)

    @property
    def least(self) -> int:
        """The smallest n."""
        return self.blocks

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """An (n, n) matrix."""
        matrix = np.zeros((n, n))
        for units in np.array_split(np.arange(n), self.blocks):
            matrix[np.ix_(units, units)] = Gaussian().draw(rng, len(units))
        return matrix
