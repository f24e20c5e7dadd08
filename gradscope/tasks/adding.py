"""`adding`: the sum of the two values of a sequence that are marked, one in each half.

Source: Hochreiter & Schmidhuber (1997), "Long short-term memory", experiment 4; in the form of Le, Jaitly & Hinton
(2015), arXiv 1504.00941, and Arjovsky, Shah & Bengio (2016), arXiv 1511.06464: values in [0, 1), one length for all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradscope.errors import at_least
from gradscope.streams import stream
from gradscope.task import Sequences


@dataclass(frozen=True)
class Adding:
    """x_t = (v_t, marker), v_t uniform in [0, 1); the marker is 1 at a random step of each half, else 0.

    The first half is the steps 1 to (T - delay) // 2. The sum of the marked values is asked for at the last step; it
    stands at every step, for a sweep whose losses are elsewhere.

    Parameters
    ----------
    delay : the last so many steps have no marker: the least lag over which something has to be remembered.
    """

    delay: int = 0

    losses = ("mse",)
    sizes = (2, 1)
    longest = float("inf")
    prefixes = False
    recipe: ClassVar[Mapping[str, Any]] = {"seq_len": 50}

    def __post_init__(self) -> None:
        at_least(0, delay=self.delay)

    @property
    def shortest(self) -> int:
        """Two steps can be marked."""
        return self.delay + 2

    @property
    def input_power(self) -> float:
        """E v_t^2 = 1/3; the markers, 2 / T more, are left out, so that weights do not depend on the length."""
        return 1.0 / 3.0

    def chance(self, seq_len: int, loss: str) -> float:  # noqa: ARG002
        """1/6, the variance of the sum of two values: of always saying 1."""
        return 1.0 / 6.0

    def draw(self, seed: int, seq_len: int, batch_size: int, loss: str) -> Sequences:  # noqa: ARG002
        """Values and markers from streams of their own."""
        at_least(self.shortest, seq_len=seq_len)
        end, examples, places = seq_len - self.delay, np.arange(batch_size), stream(seed, "adding markers")
        x = np.zeros((seq_len, batch_size, 2))
        x[..., 0] = stream(seed, "adding values").random((seq_len, batch_size))
        x[places.integers(0, end // 2, batch_size), examples, 1] = 1.0
        x[places.integers(end // 2, end, batch_size), examples, 1] = 1.0
        total = x.prod(axis=2).sum(axis=0)
        mask = np.zeros((seq_len, batch_size), bool)
        mask[-1] = True
        return Sequences(x, np.tile(total[:, None], (seq_len, 1, 1)), mask)

    def record(self) -> dict[str, Any]:
        """The values are as published."""
        return {"normalised": "values uniform in [0, 1), markers 0 and 1, targets their sum: as published"}
