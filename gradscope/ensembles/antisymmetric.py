"""`antisymmetric`: W = -W^T, Gaussian: imaginary eigenvalues, so that the linear flow dh/dt = W h keeps the norm of h.

Source: Chang, Chen, Haber & Chi (2019), "AntisymmetricRNN", arXiv 1902.09689, whose cell steps along that flow. Here W
is W_hh itself: a normal matrix, whose eigenvalues come in pairs +-i omega, and one that is 0 if n is odd.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradscope.scaled import Floats


@dataclass(frozen=True)
class Antisymmetric:
    """Off-diagonal entries N(0, 1/n), zeros on the diagonal; radius about 2 before the draw is rescaled."""

    least: ClassVar[int] = 2  # a single unit would have the weight 0

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """An (n, n) matrix."""
        entries = rng.standard_normal((n, n))
        return (entries - entries.T) / np.sqrt(2 * n)
