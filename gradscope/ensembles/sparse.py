"""`sparse[:CONNECTIVITY]`: a share of the entries, at random places, is Gaussian; the others are zero.

Source: Jaeger (2001), "The echo state approach to analysing and training recurrent neural networks": sparse reservoirs,
rescaled to their spectral radius.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscope.errors import InputError
from gradscope.scaled import Floats


@dataclass(frozen=True)
class Sparse:
    """round(CONNECTIVITY n^2) entries, at least one, are N(0, 1/(CONNECTIVITY n)): radius about 1 in large networks.

    Connections without any cycle, which small networks often draw, have spectral radius 0: they are drawn again.
    """

    connectivity: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.connectivity <= 1:
            raise InputError(f"must be above 0 and at most 1, not {self.connectivity!r}", where="connectivity")

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """An (n, n) matrix."""
        number = max(1, round(self.connectivity * n**2))
        connected = _places(rng, n, number)
        while not _has_cycle(connected):
            connected = _places(rng, n, number)
        matrix = np.zeros((n, n))
        matrix[connected] = rng.standard_normal(number) * np.sqrt(n / number)
        return matrix


def _places(rng: np.random.Generator, n: int, number: int) -> NDArray[np.bool_]:
    """So many places of an (n, n) matrix."""
    chosen = np.zeros(n * n, bool)
    chosen[rng.choice(n * n, number, replace=False)] = True
    return chosen.reshape(n, n)


def _has_cycle(connected: NDArray[np.bool_]) -> bool:
    """Whether there are paths of n steps or more."""
    paths = connected.astype(np.float64)
    for _ in range(len(connected).bit_length()):
        paths = (paths @ paths > 0).astype(np.float64)
    return bool(paths.any())
