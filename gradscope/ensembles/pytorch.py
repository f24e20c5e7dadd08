"""`pytorch`: PyTorch's default for W_hh in RNN, LSTM and GRU: entries uniform on [-1/sqrt(n), 1/sqrt(n)].

Before it is rescaled, such a draw has a spectral radius of about 3^-1/2 = .577, in each gate's block too.
"""

from dataclasses import dataclass

import numpy as np

from gradscope.ensembles.uniform import Uniform
from gradscope.scaled import Floats


@dataclass(frozen=True)
class Pytorch:
    """The distribution of `uniform`, by the framework's name."""

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """An (n, n) matrix."""
        return Uniform().draw(rng, n)
