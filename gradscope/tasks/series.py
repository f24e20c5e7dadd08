"""`series`: the next value of a real series, from a file or from the stock prices in matplotlib's sample data."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import Any, ClassVar

from numpy.typing import NDArray

from gradscope.sources import Source
from gradscope.sources import series as read_series
from gradscope.streams import stream
from gradscope.task import Sequences, excerpts, longest_excerpt


@dataclass(frozen=True)
class Series:
    """x_t = v_{s+t}, y_t = v_{s+t+1} for the normalised series v, with random starts s in its first half.

    Parameters
    ----------
    file : CSV, Parquet or .npy; the daily stock prices in matplotlib's sample data if not given.
    column : which column of the file.

    The series is normalised as a whole; where it drifts, the windows that a run sees need not have unit variance.
    """

    file: str = ""
    column: str = ""

    losses = ("mse",)
    sizes = (1, 1)
    input_power = 1.0
    shortest = 1
    prefixes = True
    recipe: ClassVar[Mapping[str, Any]] = {"batching": "sequential", "batch_size": 8, "seq_len": 20}

    @property
    def source(self) -> Source:
        """The data."""
        return read_series(self.file, self.column)

    @property
    def longest(self) -> float:
        """Half of the series."""
        return longest_excerpt(self.source.values)

    def chance(self, seq_len: int, loss: str) -> float:  # noqa: ARG002
        """Its baselines say more (`gradscope.baselines`)."""
        return nan

    def draw(self, seed: int, seq_len: int, batch_size: int, loss: str) -> Sequences:  # noqa: ARG002
        """Windows of the series."""
        return self.encode(excerpts(self.source.values, stream(seed, "starts"), seq_len, batch_size))

    def corpus(self, seed: int) -> NDArray[Any]:  # noqa: ARG002
        """The series, as it stands in the file."""
        return self.source.given

    def encode(self, windows: NDArray[Any]) -> Sequences:
        """The next value."""
        return Sequences(windows[:-1, :, None], windows[1:, :, None])

    def record(self) -> dict[str, Any]:
        """The file and its normalisation."""
        return self.source.record
