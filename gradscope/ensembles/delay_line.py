"""`delay-line[:ALPHA]`: ALPHA on the subdiagonal: each unit hands its state on to the next one, the last one drops it.

Sources: Ganguli, Huh & Sompolinsky (2008), "Memory traces in dynamical systems"; Kerg et al. (2019), nnRNN, arXiv
1905.12080. All eigenvalues are 0, yet gradients change as ALPHA^k, and are exactly 0 from lag n on: spectral radius
alone does not predict them.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradscope.errors import InputError, finite
from gradscope.scaled import Floats


@dataclass(frozen=True)
class DelayLine:
    """A nilpotent matrix, at its own scale; nothing is drawn. Its only spectral radius is 0."""

    nilpotent: ClassVar[bool] = True

    alpha: float = 1.0

    def __post_init__(self) -> None:
        finite(alpha=self.alpha)
        if self.alpha <= 0:
            raise InputError(f"must be above 0, not {self.alpha!r}", where="alpha")

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """An (n, n) matrix."""
        return np.diag(np.full(n - 1, self.alpha), -1)
