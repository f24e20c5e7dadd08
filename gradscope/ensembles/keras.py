"""`keras`: Keras's default for W_hh of its SimpleRNN: Haar-distributed orthogonal matrices, spectral radius 1.

Of its LSTM and GRU only the whole kernel, (n, 4n) and (n, 3n), is orthogonal: Keras draws the gates together, and a
gate's block is a corner of a larger orthogonal matrix, with a radius of about 4^-1/2 = .5 and 3^-1/2 = .577. Here
each block is orthogonal.
"""

from dataclasses import dataclass

import numpy as np

from gradscope.ensembles.orthogonal import Orthogonal
from gradscope.scaled import Floats


@dataclass(frozen=True)
class Keras:
    """The distribution of `orthogonal`, by the framework's name."""

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """An (n, n) matrix."""
        return Orthogonal().draw(rng, n)
