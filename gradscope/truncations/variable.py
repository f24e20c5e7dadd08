"""`variable:MEAN:SD:P`: chunks of random length, as language models are trained. Unweighted, so biased.

Source: Merity, Keskar, Socher (2017), "Regularizing and optimizing LSTM language models", arXiv 1708.02182, and its
code: a length is drawn from the normal distribution around MEAN with probability P, and else around MEAN/2, with
standard deviation SD, is cut off to a whole number, and is no less than 5. There MEAN = 70, SD = 5, P = 0.95.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from gradscope.errors import InputError, at_least
from gradscope.scaled import Floats
from gradscope.schedule import Gates

_LEAST = 5  # steps of a chunk, unless MEAN is less
_EDGE = 2.0**-53  # as near to 0 and 1 as uniform numbers come


@dataclass(frozen=True)
class Variable:
    """Chunks whose lengths are drawn around `mean`, or now and then around half of it."""

    mean: int
    sd: float
    p: float

    def __post_init__(self) -> None:
        at_least(1, mean=self.mean)
        at_least(0, sd=self.sd, p=self.p)
        if self.p > 1:
            raise InputError(f"must be a probability, at most 1, not {self.p!r}", where="p")

    def schedule(self, coins: Floats) -> Gates:
        """Gates shut at the end of each chunk; the coin of a chunk's first step decides on its length."""
        weights = np.ones(coins.shape)
        for t, (begins, _) in enumerate(self._chunks(coins)):
            if t > 0:
                weights[begins, t - 1] = 0.0
        return Gates(weights)

    def learning_rate_factor(self, coins: Floats) -> Floats:
        """What the learning rate of a step's chunk is multiplied by, length (as drawn) / mean; (C,), mean over steps.

        With losses that are means over a chunk this lets all steps count alike.

        >>> from gradscope.truncations import truncation
        >>> truncation("variable:10:0:0.5").learning_rate_factor(np.full((1, 20), 0.7))
        array([0.5])
        """
        lengths = np.stack([length for _, length in self._chunks(coins)], axis=1)
        factor: Floats = lengths.mean(axis=1) / self.mean
        return factor

    def expected(self, seq_len: int) -> None:
        """None: the probability that no cut lies between two steps is no product over the gates between them."""

    def unbounded(self, rate: float) -> bool:
        """Never: no weight is above 1."""
        return False

    def _chunks(self, coins: Floats) -> Iterator[tuple[NDArray[np.bool_], Floats]]:
        """For each step: whether a chunk begins there, and the length of the chunk that it belongs to, both (C,)."""
        length, left = np.zeros((2, len(coins)))
        for tossed in coins.T:
            begins = left == 0.0
            length[begins] = self._lengths(tossed[begins])
            left = np.where(begins, length, left) - 1.0
            yield begins, length.copy()

    def _lengths(self, coins: Floats) -> Floats:
        """Whole numbers, as floats: no MEAN is too large."""
        whole = coins < self.p
        center = np.where(whole, float(self.mean), self.mean / 2)
        again = np.where(whole, coins, coins - self.p) / np.where(whole, self.p, 1.0 - self.p)  # uniform once more
        normal = [NormalDist().inv_cdf(u) for u in np.clip(again, _EDGE, 1.0 - _EDGE).tolist()]
        return np.maximum(np.trunc(center + self.sd * np.array(normal)), min(_LEAST, self.mean))
