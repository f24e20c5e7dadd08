"""`sine`: the next value of a sampled sine wave."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from gradscope.errors import InputError, at_least, finite
from gradscope.scaled import Floats
from gradscope.streams import stream
from gradscope.task import Sequences


@dataclass(frozen=True)
class Sine:
    """x_t = sqrt(2) sin(2 pi frequency t + phase) + noise, y_t = x_{t+1}: unit variance but for the noise.

    Parameters
    ----------
    frequency : cycles a step; several, as "0.05+0.013", for a sum of waves of equal amplitude and unit variance.
    phase : radians; "random" draws one for each example and wave.
    noise : standard deviation of the white noise added to each value.
    """

    frequency: float | str = 0.05
    phase: float | Literal["random"] = "random"
    noise: float = 0.0

    losses = ("mse",)
    sizes = (1, 1)
    shortest = 1
    longest = float("inf")
    prefixes = True
    # The state is carried, so that what is learnt is the wave, not how to begin: then it runs freely for long.
    recipe: ClassVar[Mapping[str, Any]] = {
        "batching": "sequential",
        "batch_size": 8,
        "hidden_size": 32,
        "spectral_radius": 0.9,
        "input_scale": 0.5,
    }
    length = 2000  # steps of the wave that a network is trained on

    def __post_init__(self) -> None:
        for frequency in self.frequencies:
            finite(frequency=frequency)
        finite(phase=0.0 if self.phase == "random" else self.phase)
        at_least(0, noise=self.noise)

    @property
    def input_power(self) -> float:
        """E x_t^2 = 1 + noise^2."""
        return 1.0 + self.noise**2

    @property
    def frequencies(self) -> list[float]:
        """Of the waves that are added up, in cycles a step."""
        try:
            return [float(part) for part in str(self.frequency).split("+")]
        except ValueError:
            allowed = "a number, or several as 0.05+0.013"
            raise InputError(f"{self.frequency!r}", where="frequency", allowed=allowed) from None

    def chance(self, seq_len: int, loss: str) -> float:  # noqa: ARG002
        """Its baselines say more (`gradscope.baselines`)."""
        return nan

    def draw(self, seed: int, seq_len: int, batch_size: int, loss: str) -> Sequences:  # noqa: ARG002
        """A wave for each example."""
        return self.encode(self._waves(seed, seq_len + 1, batch_size))

    def corpus(self, seed: int) -> NDArray[Any]:
        """One wave."""
        return self._waves(seed, self.length, 1)[:, 0]

    def encode(self, windows: NDArray[Any]) -> Sequences:
        """The next value."""
        return Sequences(windows[:-1, :, None], windows[1:, :, None])

    def _waves(self, seed: int, steps: int, waves: int) -> Floats:
        """(steps, waves), from t = 1 on."""
        phases, frequencies = stream(seed, "sine phase"), self.frequencies
        clean = np.zeros((steps, waves))
        for frequency in frequencies:
            phase = phases.uniform(0, 2 * np.pi, waves) if self.phase == "random" else self.phase
            clean += np.sin(2 * np.pi * frequency * np.arange(1, steps + 1)[:, None] + phase)
        noise = stream(seed, "sine noise").standard_normal((steps, waves)) * self.noise
        return np.sqrt(2.0 / len(frequencies)) * clean + noise

    def record(self) -> dict[str, Any]:
        """How the wave was normalised."""
        return {"normalised": "amplitude sqrt(2), so that the clean wave has standard deviation 1"}
