"""`orthogonal`: uniform (Haar) over the orthogonal group: all singular values and eigenvalue moduli are equal.

Source: Mezzadri (2007), "How to generate random matrices from the classical compact groups" (the sign correction).
"""

from dataclasses import dataclass

import numpy as np

from gradscope.scaled import Floats


@dataclass(frozen=True)
class Orthogonal:
    """Haar-distributed orthogonal matrices."""

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """An (n, n) matrix."""
        q, r = np.linalg.qr(rng.standard_normal((n, n)))
        return q * np.sign(np.diagonal(r))
