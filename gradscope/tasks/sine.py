"""`sine`: the next value of a sampled sine wave."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gradscope.errors import at_least, finite
from gradscope.streams import stream
from gradscope.task import Sequences


@dataclass(frozen=True)
class Sine:
    """x_t = sqrt(2) sin(2 pi frequency t + phase) + noise, y_t = x_{t+1}: unit variance but for the noise.

    Parameters
    ----------
    frequency : cycles a step.
    phase : radians; "random" draws one for each example.
    noise : standard deviation of the white noise added to each value.
    """

    frequency: float = 0.05
    phase: float | Literal["random"] = "random"
    noise: float = 0.0

    losses = ("mse",)
    sizes = (1, 1)
    longest = float("inf")

    def __post_init__(self) -> None:
        finite(frequency=self.frequency, phase=0.0 if self.phase == "random" else self.phase)
        at_least(0, noise=self.noise)

    @property
    def input_power(self) -> float:
        """E x_t^2 = 1 + noise^2."""
        return 1.0 + self.noise**2

    def draw(self, seed: int, seq_len: int, batch_size: int, loss: str) -> Sequences:  # noqa: ARG002
        """A wave for each example."""
        phase = stream(seed, "sine phase").uniform(0, 2 * np.pi, batch_size) if self.phase == "random" else self.phase
        clean = np.sin(2 * np.pi * self.frequency * np.arange(1, seq_len + 2)[:, None] + phase)
        noise = stream(seed, "sine noise").standard_normal((seq_len + 1, batch_size)) * self.noise
        wave = np.sqrt(2.0) * np.broadcast_to(clean, noise.shape) + noise
        return Sequences(wave[:-1, :, None], wave[1:, :, None])

    def record(self) -> dict[str, Any]:
        """How the wave was normalised."""
        return {"normalised": "amplitude sqrt(2), so that the clean wave has standard deviation 1"}
