"""`text`: the next character of a text, one-hot, with cross-entropy: the character-level language model's setting."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gradscope.sources import Source
from gradscope.sources import text as read_text
from gradscope.streams import stream
from gradscope.task import Sequences, excerpts, longest_excerpt


@dataclass(frozen=True)
class Text:
    """x_t is the one-hot code of a character, y_t the index of the next, with random starts in the text's first half.

    Parameters
    ----------
    file : any UTF-8 file; the reference topics that come with CPython if not given.
    """

    file: str = ""

    losses = ("cross_entropy",)
    input_power = 1.0
    shortest = 1
    prefixes = True
    recipe: ClassVar[Mapping[str, Any]] = {
        "batching": "sequential",
        "batch_size": 32,
        "seq_len": 50,
        "hidden_size": 128,
        "clip": "norm:1",
        "learning_rate": 5e-3,
        "steps": 3000,
        "record_every": 150,
        "dtype": "float32",
    }

    @property
    def source(self) -> Source:
        """The data."""
        return read_text(self.file)

    @property
    def sizes(self) -> tuple[int, int]:
        """The size of the vocabulary, twice."""
        vocabulary = len(self.source.record["vocabulary"])
        return vocabulary, vocabulary

    @property
    def longest(self) -> float:
        """Half of the text."""
        return longest_excerpt(self.source.values)

    def chance(self, seq_len: int, loss: str) -> float:  # noqa: ARG002
        """Its baselines say more (`gradscope.baselines`)."""
        return nan

    def draw(self, seed: int, seq_len: int, batch_size: int, loss: str) -> Sequences:  # noqa: ARG002
        """Windows of the text."""
        return self.encode(excerpts(self.source.values, stream(seed, "starts"), seq_len, batch_size))

    def corpus(self, seed: int) -> NDArray[Any]:  # noqa: ARG002
        """The codes of the characters."""
        return self.source.values

    def encode(self, windows: NDArray[Any]) -> Sequences:
        """One-hot codes, and the codes that follow."""
        T, B = len(windows) - 1, windows.shape[1]
        one_hot = np.zeros((T, B, self.sizes[0]))
        one_hot[np.arange(T)[:, None], np.arange(B), windows[:-1]] = 1.0
        return Sequences(one_hot, windows[1:])

    def record(self) -> dict[str, Any]:
        """The file and its vocabulary."""
        return self.source.record
