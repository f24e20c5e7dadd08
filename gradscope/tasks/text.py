"""`text`: the next character of a text, one-hot, with cross-entropy: the character-level language model's setting."""

from dataclasses import dataclass
from typing import Any

import numpy as np

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

    def draw(self, seed: int, seq_len: int, batch_size: int, loss: str) -> Sequences:  # noqa: ARG002
        """Windows of the text."""
        windows = excerpts(self.source.values, stream(seed, "starts"), seq_len, batch_size)
        one_hot = np.zeros((seq_len, batch_size, self.sizes[0]))
        np.put_along_axis(one_hot, windows[:-1, :, None], 1.0, axis=-1)
        return Sequences(one_hot, windows[1:])

    def record(self) -> dict[str, Any]:
        """The file and its vocabulary."""
        return self.source.record
