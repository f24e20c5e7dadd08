"""`non-normal:DEPARTURE`: W = Q (D + N) Q^T, whose relative departure from normality (Henrici 1962) is DEPARTURE.

D is normal with all eigenvalues on the unit circle, N is strictly block upper triangular, Q orthogonal: a real Schur
form in a random basis, as in nnRNN (Kerg et al. 2019, arXiv 1905.12080). So |W|_F^2 = n + |N|_F^2, and the departure
sqrt(|W|_F^2 - sum |lambda|^2) / |W|_F = |N|_F / |W|_F is as asked, exactly. N leads from the lower half of the
dimensions to the upper half.
"""

from dataclasses import dataclass

import numpy as np

from gradscope.ensembles.orthogonal import Orthogonal
from gradscope.errors import InputError
from gradscope.scaled import Floats

_LARGEST = 0.9999  # above, rounding moves the eigenvalues by 1e-11 and more


@dataclass(frozen=True)
class NonNormal:
    """Eigenvalues of modulus 1, spread over the circle, and feed-forward couplings between two halves: |W^k| grows.

    Why halves: in a triangle that is full, growth and the eigenvalues' sensitivity to rounding are exponential in n,
    and the matrix in float64 does not have the eigenvalues that it was made from (departure .95, random phases: the
    radius is off by 3e-7 for n = 64, by 3e-3 for n = 128). Between halves both are bounded by the couplings and the
    distance of eigenvalues, and the realised radius is exact to 1e-11 (measured up to n = 256).
    """

    departure: float

    def __post_init__(self) -> None:
        if not 0 <= self.departure <= _LARGEST:
            raise InputError(f"must be at least 0 and at most {_LARGEST}, not {self.departure!r}", where="departure")

    @property
    def least(self) -> int:
        """The smallest n: a single unit has nothing to lead to."""
        return 2 if self.departure else 1

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """An (n, n) matrix."""
        basis = Orthogonal().draw(rng, n)
        upper = n // 2
        pairs = np.array([upper // 2, (n - upper) // 2])
        phases = rng.permutation(_spread(rng, pairs.sum()))
        schur = np.zeros((n, n))
        schur[:upper, :upper] = _rotations(phases[: pairs[0]], upper, -1.0)
        schur[upper:, upper:] = _rotations(phases[pairs[0] :], n - upper, 1.0)
        couplings = rng.standard_normal((upper, n - upper))
        size = np.sqrt(n) * self.departure / np.sqrt(1.0 - self.departure**2)
        schur[:upper, upper:] = couplings * (size / (np.linalg.norm(couplings) or 1.0))
        return basis @ schur @ basis.T


def _spread(rng: np.random.Generator, number: int) -> Floats:
    """So many phases between 0 and pi, no two closer than half their mean distance."""
    return (np.arange(number) + rng.uniform(0.25, 0.75, number)) * (np.pi / max(number, 1))


def _rotations(phases: Floats, size: int, single: float) -> Floats:
    """Rotations of pairs of dimensions, (size, size); an odd one out has the eigenvalue `single`."""
    matrix = np.eye(size) * single
    even, odd = np.arange(0, 2 * len(phases), 2), np.arange(1, 2 * len(phases), 2)
    matrix[even, even] = matrix[odd, odd] = np.cos(phases)
    matrix[odd, even] = np.sin(phases)
    matrix[even, odd] = -matrix[odd, even]
    return matrix
