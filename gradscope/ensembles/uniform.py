"""`uniform`: independent entries, uniform on a symmetric interval, as most frameworks initialise by default."""

from dataclasses import dataclass

import numpy as np

from gradscope.scaled import Floats


@dataclass(frozen=True)
class Uniform:
    """Independent entries, uniform on [-1/sqrt(n), 1/sqrt(n)]."""

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """An (n, n) matrix."""
        return rng.uniform(-1.0, 1.0, (n, n)) / np.sqrt(n)
