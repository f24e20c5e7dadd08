"""`gaussian`: independent normal entries (the real Ginibre ensemble), eigenvalues spread over a disc."""

from dataclasses import dataclass

import numpy as np

from gradscope.scaled import Floats


@dataclass(frozen=True)
class Gaussian:
    """Independent N(0, 1/n) entries."""

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """An (n, n) matrix."""
        return rng.standard_normal((n, n)) / np.sqrt(n)
