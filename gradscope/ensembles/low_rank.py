"""`low-rank:RANK`: a product of two Gaussian factors, so that the recurrence lives in RANK dimensions.

Source: Mastrogiuseppe & Ostojic (2018), "Linking connectivity, dynamics, and computations in low-rank recurrent neural
networks", arXiv 1711.09672; here without their full-rank random part.
"""

from dataclasses import dataclass

import numpy as np

from gradscope.errors import at_least
from gradscope.scaled import Floats

_STEEPEST = 300.0  # |W|_F in units of the spectral radius: above, rounding moves the radius by 1e-10 and more


@dataclass(frozen=True)
class LowRank:
    """W = U V^T, U and V (n, RANK): entries of variance 1/n, n - RANK eigenvalues 0.

    Factors that are all but orthogonal to each other (rank 1, n = 64: one draw in fifty) have a radius that rounding
    would move: they are drawn again.
    """

    rank: int

    def __post_init__(self) -> None:
        at_least(1, rank=self.rank)

    @property
    def least(self) -> int:
        """The smallest n."""
        return self.rank

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """An (n, n) matrix."""
        steepness = np.inf
        while steepness > _STEEPEST:
            left, right = rng.standard_normal((2, n, self.rank))
            matrix = left @ right.T
            steepness = np.linalg.norm(matrix) / np.abs(np.linalg.eigvals(right.T @ left)).max()
        return matrix / np.sqrt(n * self.rank)
