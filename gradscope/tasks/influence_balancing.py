"""`influence-balancing`: a problem of its own, gradient descent on one parameter by each truncation strategy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gradscope import influence
from gradscope.errors import InputError, at_least
from gradscope.spectral import spectral_radius
from gradscope.task import Sequences


@dataclass(frozen=True)
class InfluenceBalancing:
    """Gradient descent on theta of `gradscope.influence`, a linear network with x_t = 1 and y_t = 1.

    A run is the optimiser after so many updates; `truncation` is its strategy, `loss_steps` says where in an unroll the
    losses are: "last" or "all". `seq_len` is how many lags of the state gradient are recorded.

    Parameters
    ----------
    learning_rate : of gradient descent, the same throughout.
    iterations : updates of theta.

    Recorded besides what every run is: `theta`; and of what the updates multiply the loss's derivative by, over coins,
    its mean `influence` (-6 if unbiased), standard deviation `influence_sd` and the probability `right_sign_share` that
    it has the sign of the full one. `loss_value` is what the last update saw, half of the mean squared error; gradients
    are those of that update. Where theta, the state or the loss has left float64's range, these are missing, and the
    status says at which update it did.
    """

    learning_rate: float = 1e-4
    iterations: int = 3000

    losses = ("mse",)
    sizes = (1, 1)
    input_power = 1.0
    shortest = 1
    longest = float("inf")
    prefixes = True
    recipe: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        at_least(0, learning_rate=self.learning_rate)
        at_least(1, iterations=self.iterations)
        if self.iterations > influence.MOST:
            raise InputError(f"{self.iterations}", where="iterations", allowed=f"at most {influence.MOST:,}")

    @classmethod
    def fixed(cls) -> Mapping[str, Any]:
        """The network is the problem's own; `ensemble` means nothing."""
        return {
            "cell": "elman",
            "activation": "linear",
            "ensemble": "gaussian",
            "hidden_size": influence.UNITS,
            "spectral_radius": 0.5,
            "input_scale": influence.THETA,
            "batch_size": 1,
            "dtype": "float64",
        }

    def check(self, grid: Mapping[str, Sequence[Any]]) -> None:
        """Every truncation must say when theta is updated; the losses are the last or all of an unroll."""
        for spec in grid["truncation"]:
            influence.check_strategy(spec)
        for steps in grid["loss_steps"]:
            if steps not in ("last", "all"):
                raise InputError(f"{steps!r}", where="loss_steps", allowed='"last" or "all" of the steps of an unroll')

    def chance(self, seq_len: int, loss: str) -> float:  # noqa: ARG002
        """There is nothing to predict from."""
        return nan

    def draw(self, seed: int, seq_len: int, batch_size: int, loss: str) -> Sequences:  # noqa: ARG002
        """Ones."""
        return Sequences(np.ones((seq_len, batch_size, 1)), np.ones((seq_len, batch_size, 1)))

    def record(self) -> dict[str, Any]:
        """Nothing is normalised."""
        return {"normalised": "input and target are constant 1"}

    def measure(self, runs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Each run's descent and its strategy's law; the state gradient, that of s^1 itself, is the same for all."""
        rows = [self._row(run) for run in runs]
        columns = {
            name: np.array([row[name] for row in rows], object if name == "status" else float) for name in rows[0]
        }
        lag = np.concatenate([np.arange(run["seq_len"])[::-1] for run in runs])
        steps = {"lag": lag, "log10_dh": influence.log10_state_gradient(lag.max() + 1)[lag]}
        return columns, steps | {name: np.zeros(len(lag)) for name in ("log10_dh_std", "zero_share")}

    def _row(self, run: Mapping[str, Any]) -> dict[str, Any]:
        strategy = run["truncation"], run["loss_steps"]
        found = influence.descend(*strategy, run["reduction"], self.learning_rate, self.iterations, run["seed"])
        law = influence.law(*strategy)
        network = {
            "spectral_radius_realised": spectral_radius(influence.A),
            "spectral_norm": np.linalg.norm(influence.A, 2),
        }
        finite = np.isfinite(found).all(axis=0)
        numbers = _last(found) if finite.all() else dict.fromkeys(_last(found), np.nan)
        return {
            **network,
            "status": "ok" if finite.all() else f"overflow at update {finite.argmin() + 1}",
            **numbers,
            "influence": law.mean,
            "influence_sd": law.deviation,
            "right_sign_share": law.right,
        }


def _last(found: influence.Descent) -> dict[str, float]:
    """What the last update of a descent saw and did."""
    loss, gradient, full, theta = (float(values[-1]) for values in found)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        size = np.log10(np.abs(gradient))
        error = np.abs(gradient - full) / np.abs(full) if gradient != full else 0.0
        cosine = np.sign(gradient) * np.sign(full) if gradient and full else np.nan
    return {
        "loss_value": loss,
        "log10_grad": size,
        "relative_error": error,
        "cosine": cosine,
        "log10_grad_theta": size,
        "theta": theta,
    }
