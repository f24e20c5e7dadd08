"""What a benchmark asks: gradients of networks with one mse output, at several lengths and truncations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from gradscope.cells import cell
from gradscope.grid import resolve
from gradscope.recurrence import Cell, Parameters
from gradscope.scaled import Floats
from gradscope.streams import coins


class Case(NamedTuple):
    """One run: a length, "last" or "all" loss steps (their mean), and a truncation's spec."""

    seq_len: int
    loss_steps: str
    truncation: str


@dataclass(frozen=True)
class Workload:
    """Networks of one size, all of them measured in every case; every case's `full` twin is a case too."""

    name: str
    hidden_size: int
    input_size: int
    batch_size: int
    radii: tuple[float, ...]
    seeds: int
    cases: tuple[Case, ...]
    dtype: str = "float64"
    cell: str = "elman"

    @property
    def longest(self) -> int:
        """The longest length."""
        return max(case.seq_len for case in self.cases)

    def grid(self) -> dict[str, Any]:
        """The workload as the keys of an experiment."""
        lengths, losses, truncations = ([*dict.fromkeys(case[part] for case in self.cases)] for part in range(3))
        return {
            "task": "noise",
            "cell": self.cell,
            "hidden_size": self.hidden_size,
            "input_size": self.input_size,
            "output_size": 1,
            "batch_size": self.batch_size,
            "spectral_radius": list(self.radii),
            "seeds": self.seeds,
            "seq_len": lengths,
            "loss_steps": losses,
            "truncation": truncations,
            "dtype": self.dtype,
        }

    def made(self) -> Cell:
        """The cell."""
        sizes = {"hidden_size": self.hidden_size, "input_size": self.input_size, "output_size": 1}
        return cell(self.cell, **sizes)

    def network(self, seed: int, radius: float) -> Network:
        """One of the networks, the same as a sweep over `grid` draws."""
        run = resolve(self.name, self.grid() | {"seeds": [seed], "spectral_radius": radius}).blocks[0].first
        task = run.task()
        params = run.cell().init(seed, radius, run["ensemble"], run["input_scale"], task.input_power)
        x, y, _ = task.draw(seed, self.longest, self.batch_size, run["loss"])
        return Network(
            params={name: array.astype(self.dtype) for name, array in params.items()},
            x=x.astype(self.dtype),
            y=y.astype(self.dtype),
            coins=coins([seed], self.longest)[0],
        )

    def blank(self) -> Network:
        """A network and data of zeros, to compile for."""
        m, B, T = self.input_size, self.batch_size, self.longest
        params = {name: np.zeros(shape, self.dtype) for name, shape in self.made().shapes().items()}
        return Network(params, *(np.zeros(shape, self.dtype) for shape in ((T, B, m), (T, B, 1), (T,))))

    def some(self, networks: int) -> Workload:
        """The same with as many networks, of radii spread over the range."""
        seeds = -(-networks // len(self.radii))
        radii = np.array(self.radii)[np.linspace(0, len(self.radii) - 1, networks // seeds).round().astype(int)]
        return replace(self, radii=tuple(radii.tolist()), seeds=seeds)


class Network(NamedTuple):
    """A network and its data, in the workload's dtype.

    Attributes
    ----------
    params : those of the cell, with W_hy (1, n), b_y (1,).
    x, y : (T, B, m) and (T, B, 1), T the longest length; shorter lengths are prefixes.
    coins : (T,); a `random:TAU` pass goes on from step t+1 to t, weighted by 1/pi, if coins[t-1] < pi = 1 - 1/TAU.
    """

    params: Parameters
    x: Floats
    y: Floats
    coins: Floats


_GATED = ("W_xh", "W_hh", "b_xh", "b_hh")
# The parameters of each cell whose gradients are compared.
GRADIENTS = {"elman": ("W_xh", "W_hh", "b_h"), "lstm": _GATED, "gru": _GATED}


class Answer(NamedTuple):
    """What is wanted of one network in one case.

    Attributes
    ----------
    norms : (T, B), the norm of each example's own dL_b/dh_t.
    gradients : name -> norm of the gradient of the mean over examples, for the cell's `GRADIENTS`.
    relative_error, cosine : against the same case under `full`, over all of these together.
    """

    norms: Floats
    gradients: dict[str, float]
    relative_error: float
    cosine: float


Answers = list[dict[Case, Answer]]  # one for each network


def _cases(lengths: Sequence[int], losses: Sequence[str], truncations: Sequence[str]) -> tuple[Case, ...]:
    return tuple(Case(*values) for values in product(lengths, losses, truncations))


RADII = tuple((0.5 + 0.05 * np.arange(21)).round(2).tolist())
CHUNKED = _cases((25, 50, 100, 200), ("last", "all"), ("full", *(f"chunked:{t}" for t in (5, 10, 20, 50)), "random:20"))
SLIDING = _cases((25, 50, 100, 200), ("all",), ("full", *(f"fixed:{t}" for t in (5, 10, 20, 50))))
WORKLOADS = {
    one.name: one
    for one in (
        Workload("W1", 64, 16, 32, RADII, 5, CHUNKED),
        Workload("W1-float32", 64, 16, 32, RADII, 5, CHUNKED, "float32"),
        Workload("W1-lstm", 64, 16, 32, RADII, 5, CHUNKED, cell="lstm"),
        Workload("W1-gru", 64, 16, 32, RADII, 5, CHUNKED, cell="gru"),
        Workload("W1s", 64, 16, 32, RADII, 5, SLIDING),
        Workload("W2", 256, 16, 128, (1.0,), 1, _cases((256,), ("all",), ("full",)), "float32"),
        Workload("n512", 512, 16, 32, RADII, 1, CHUNKED),
        Workload("T200", 64, 16, 32, RADII, 1, _cases((200,), ("last", "all"), ("full", "chunked:20"))),
        Workload("T1600", 64, 16, 32, RADII, 1, _cases((1600,), ("last", "all"), ("full", "chunked:20"))),
    )
}
