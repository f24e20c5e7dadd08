"""`symmetric`: the Gaussian orthogonal ensemble: real eigenvalues and orthogonal eigenvectors."""

from dataclasses import dataclass

import numpy as np

from gradscope.scaled import Floats


@dataclass(frozen=True)
class Symmetric:
    """W = W^T, off-diagonal entries N(0, 1/n); Wigner's semicircle on [-2, 2] before the draw is rescaled."""

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """An (n, n) matrix."""
        entries = rng.standard_normal((n, n))
        return (entries + entries.T) / np.sqrt(2 * n)
