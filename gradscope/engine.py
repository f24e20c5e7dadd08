"""Measure a batch of runs: everything a sweep records, from one forward pass for each network.

The runs of a batch differ in spectral radius, seed, length, truncation, loss steps and reduction only (the plan sees to
it). Networks (radius and seed) are the run axis C; lengths are prefixes of one forward pass; truncations share a
backward pass where they can (`gradscope.bptt`); reductions are scalings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.bptt import Gradient, LossGradients, loss_gradients
from gradscope.gradients import by_parameter, compare, log10_norm, overflow_status
from gradscope.losses import select_steps
from gradscope.recurrence import Cell, Packed, Trace
from gradscope.runs import Run
from gradscope.scaled import Floats
from gradscope.spectral import unit_draw
from gradscope.streams import coins
from gradscope.truncations import truncation


@dataclass(frozen=True)
class Measured:
    """What is recorded of one run.

    Attributes
    ----------
    run : the run.
    row : column of the runs table -> value.
    lag : (T,), (loss step) - t for a single-step loss, T - t otherwise.
    log10_dh, log10_dh_std : (T,), mean and standard deviation of log10 |dL_b/dh_t| over the examples that have one.
    zero_share : (T,), share of examples whose gradient is exactly zero.
    """

    run: Run
    row: dict[str, Any]
    lag: NDArray[np.int64]
    log10_dh: Floats
    log10_dh_std: Floats
    zero_share: Floats


def measure(batch: Sequence[Run]) -> list[Measured]:
    """Measure the runs of one batch, in their order."""
    networks = _Networks(batch)
    measured: dict[str, Measured] = {}
    for seq_len, loss_steps in dict.fromkeys((run["seq_len"], run["loss_steps"]) for run in batch):
        group = [run for run in batch if (run["seq_len"], run["loss_steps"]) == (seq_len, loss_steps)]
        for result in networks.measure(group, seq_len, loss_steps):
            measured[result.run.run_id] = result
    return [measured[run.run_id] for run in batch]


class _Networks:
    """The networks of a batch, run forward over its longest length."""

    def __init__(self, batch: Sequence[Run]):
        first = batch[0]
        task = first.task()
        self.loss: str = first["loss"]
        self.cell: Cell = first.cell()
        self.index = {key: c for c, key in enumerate(dict.fromkeys(_network(run) for run in batch))}
        self.seeds = [seed for seed, _ in self.index]
        longest = max(run["seq_len"] for run in batch)
        data = {seed: task.draw(seed, longest, first["batch_size"], self.loss) for seed in dict.fromkeys(self.seeds)}
        x = np.stack([data[seed].x for seed in self.seeds])
        self.y = np.stack([data[seed].y for seed in self.seeds])
        drawn = [
            self.cell.init(seed, radius, first["ensemble"], first["input_scale"], task.input_power)
            for seed, radius in self.index
        ]
        self.packed: Packed = self.cell.pack({name: np.stack([p[name] for p in drawn]) for name in drawn[0]})
        self.trace: Trace = self.cell.forward(self.packed, x, None)
        self.throws = coins(self.seeds, longest)

    def measure(self, group: Sequence[Run], seq_len: int, loss_steps: str) -> Iterator[Measured]:
        """Measure runs of one length and one choice of loss steps."""
        steps = select_steps(loss_steps, seq_len)
        specs = list(dict.fromkeys(["full", *(run["truncation"] for run in group)]))
        schedules = [truncation(spec).schedule(self.throws[:, :seq_len]) for spec in specs]
        found = loss_gradients(
            self.cell, self.packed, self.trace.upto(seq_len), self.y[:, :seq_len], self.loss, steps, schedules
        )
        lag = (steps[0] if len(steps) == 1 else seq_len - 1) - np.arange(seq_len)
        summaries = {
            spec: _Summary(self.cell, gradient, found) for spec, gradient in zip(specs, found.truncated, strict=True)
        }
        for run in group:
            c = self.index[_network(run)]
            terms = len(steps) if run["reduction"] == "mean" else 1
            summary = summaries[run["truncation"]]
            yield summary.of(run, c, terms, lag, overflow_status(int(found.overflow[c])))


def _network(run: Run) -> tuple[int, float]:
    return run["seed"], run["spectral_radius"]


class _Summary:
    """The statistics of one truncation's gradients, for all networks of a batch at once."""

    def __init__(self, cell: Cell, gradient: Gradient, found: LossGradients):
        examples = gradient.log10_dh.shape[-1]
        named = by_parameter(cell, gradient.weights, found.readout)
        self.loss = found.loss
        self.log10_grad = {name: log10_norm(part) - np.log10(examples) for name, part in named.items()}
        self.relative_error, self.cosine = compare(gradient.weights, found.truncated[0].weights)
        live = gradient.log10_dh > -np.inf
        count = live.sum(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(live, gradient.log10_dh, 0.0)
            mean = values.sum(axis=-1) / count
            self.std = np.sqrt((np.where(live, gradient.log10_dh - mean[..., None], 0.0) ** 2).sum(axis=-1) / count)
        self.log10_dh = np.where(count > 0, mean, -np.inf)
        self.zero_share = 1.0 - count / examples

    def of(self, run: Run, c: int, terms: int, lag: NDArray[np.int64], status: str) -> Measured:
        """What is recorded of `run`, network c, whose reduction divides by `terms`."""
        unit = unit_draw(run["ensemble"], run["hidden_size"], run["seed"])
        shift = -np.log10(terms)
        grads = {f"log10_grad_{name}": float(norm[c] + shift) for name, norm in self.log10_grad.items()}
        numbers = {
            "loss_value": float(self.loss[c] / terms),
            **grads,
            "log10_grad": _log10_joint(np.array(list(grads.values()))),
            "relative_error": float(self.relative_error[c]),
            "cosine": float(self.cosine[c]),
        }
        series = [self.log10_dh[c] + shift, self.std[c], self.zero_share[c]]
        if status != "ok":
            numbers = dict.fromkeys(numbers, float("nan"))
            series = [np.full_like(column, np.nan) for column in series]
        row = {
            "spectral_radius_realised": unit.spectral_radius * run["spectral_radius"],
            "spectral_norm": unit.spectral_norm * run["spectral_radius"],
            "status": status,
            **numbers,
        }
        return Measured(run, row, lag, *series)


def _log10_joint(log10_norms: Floats) -> float:
    """log10 of the norm of several parts together, from the log10 of each."""
    top = log10_norms.max()
    if not np.isfinite(top):
        return float(top)
    return float(top + 0.5 * np.log10(np.sum(10.0 ** (2.0 * (log10_norms - top)))))
