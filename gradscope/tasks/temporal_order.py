"""`temporal-order`: which of two symbols came first and which second, among distractors, long ago.

Source: Hochreiter & Schmidhuber (1997), "Long short-term memory", experiment 6a; with the places of Pascanu, Mikolov &
Bengio (2013), arXiv 1211.5063, as its text has them (its code, and the experiment of 1997, show the second symbol T/10
steps later).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any, ClassVar

import numpy as np

from gradscope.errors import at_least
from gradscope.streams import stream
from gradscope.task import Sequences

DISTRACTORS = 4  # whose codes are 0 to 3; those of X and Y are 4 and 5


@dataclass(frozen=True)
class TemporalOrder:
    """Four distractors at random, one-hot, but X or Y at steps T/10 <= t < 2T/10 and 4T/10 <= t < 5T/10, also random.

    The class of the pair, XX, XY, YX or YY, is asked for at the last step; it stands at every step, for a sweep whose
    losses are elsewhere.
    """

    losses = ("cross_entropy",)
    sizes = (DISTRACTORS + 2, 4)
    input_power = 1.0
    shortest = 10
    longest = float("inf")
    prefixes = False
    recipe: ClassVar[Mapping[str, Any]] = {"seq_len": 50}

    def chance(self, seq_len: int, loss: str) -> float:  # noqa: ARG002
        """The entropy of four equally likely classes, ln 4; 75 % of guesses are wrong."""
        return log(4)

    def draw(self, seed: int, seq_len: int, batch_size: int, loss: str) -> Sequences:  # noqa: ARG002
        """Distractors, and places and symbols of the pair, from streams of their own."""
        at_least(self.shortest, seq_len=seq_len)
        places, examples = stream(seed, "temporal order places"), np.arange(batch_size)
        first, second = stream(seed, "temporal order pair").integers(0, 2, (2, batch_size))
        codes = stream(seed, "temporal order distractors").integers(0, DISTRACTORS, (seq_len, batch_size))
        for tenth, symbol in ((1, first), (4, second)):
            low, high = (-(-part * seq_len // 10) for part in (tenth, tenth + 1))  # rounded up
            codes[places.integers(low, high, batch_size) - 1, examples] = DISTRACTORS + symbol
        mask = np.zeros((seq_len, batch_size), bool)
        mask[-1] = True
        return Sequences(np.eye(DISTRACTORS + 2)[codes], np.tile(2 * first + second, (seq_len, 1)), mask)

    def record(self) -> dict[str, Any]:
        """Symbols are not normalised."""
        return {"normalised": "one-hot codes of six symbols; the four classes are equally likely"}
