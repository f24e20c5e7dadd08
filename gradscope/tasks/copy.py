"""`copy`: random symbols, to be said again after a lag, when a delimiter asks for them.

Source: Hochreiter & Schmidhuber (1997), "Long short-term memory", in the form of Arjovsky, Shah & Bengio (2016),
arXiv 1511.06464, and its code: ten of eight symbols, T + 20 steps; ten codes for inputs, nine for targets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any, ClassVar

import numpy as np

from gradscope.errors import at_least
from gradscope.streams import stream
from gradscope.task import Sequences


@dataclass(frozen=True)
class Copy:
    """`length` random symbols, lag - 1 blanks, a delimiter, `length` blanks; the targets: blanks, then the symbols.

    So seq_len = lag + 2 length, and each symbol is asked for lag + length steps after it was shown. Inputs are one-hot,
    m = symbols + 2; a target is a symbol or the blank, whose code follows theirs, p = symbols + 1. The loss is at all
    steps.

    Parameters
    ----------
    symbols : how many different ones there are.
    length : how many are to be copied.
    """

    symbols: int = 8
    length: int = 10

    losses = ("cross_entropy",)
    input_power = 1.0
    longest = float("inf")
    prefixes = False
    recipe: ClassVar[Mapping[str, Any]] = {"seq_len": 30}

    def __post_init__(self) -> None:
        at_least(2, symbols=self.symbols)
        at_least(1, length=self.length)

    @property
    def sizes(self) -> tuple[int, int]:
        """The symbols, blank and delimiter; the symbols and blank."""
        return self.symbols + 2, self.symbols + 1

    @property
    def shortest(self) -> int:
        """That of a lag of 1."""
        return 2 * self.length + 1

    def chance(self, seq_len: int, loss: str) -> float:  # noqa: ARG002
        """`length` ln(`symbols`) / seq_len: of blanks where they are due, and then of all symbols alike."""
        return self.length * log(self.symbols) / seq_len

    def draw(self, seed: int, seq_len: int, batch_size: int, loss: str) -> Sequences:  # noqa: ARG002
        """The symbols do not depend on the lag."""
        at_least(self.shortest, seq_len=seq_len)
        blank, delimiter = self.symbols, self.symbols + 1
        shown = stream(seed, "copy").integers(0, self.symbols, (self.length, batch_size))
        codes = np.full((seq_len, batch_size), blank)
        codes[: self.length] = shown
        codes[-self.length - 1] = delimiter
        y = np.full((seq_len, batch_size), blank)
        y[-self.length :] = shown
        return Sequences(np.eye(self.symbols + 2)[codes], y)

    def record(self) -> dict[str, Any]:
        """Symbols are not normalised."""
        return {"normalised": f"one-hot codes of {self.symbols} symbols, all equally likely, a blank and a delimiter"}
