"""`identity`: W_hh is a multiple of the identity, as in the IRNN of Le, Jaitly & Hinton (2015), arXiv 1504.00941."""

from dataclasses import dataclass

import numpy as np

from gradscope.scaled import Floats


@dataclass(frozen=True)
class Identity:
    """The identity matrix; nothing is drawn."""

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """An (n, n) matrix."""
        return np.eye(n)
