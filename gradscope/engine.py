"""Measure a batch of runs: everything a sweep records, from one forward pass for each network.

The runs of a batch differ in spectral radius, seed, length, truncation, loss steps and reduction only (the plan sees to
it). Networks (radius and seed) are the run axis C; a *case* is a length, a choice of loss steps and a truncation, and all
cases are answered together (`gradscope.bptt`): lengths are prefixes of one forward pass, reductions are scalings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.bptt import Gradient, Norms, loss_gradients
from gradscope.chains import Pass, Request, passes
from gradscope.gradients import Contrast, by_parameter, log10_joint, overflow_status
from gradscope.losses import select_steps
from gradscope.runs import Run
from gradscope.scaled import Floats, Squares
from gradscope.spectral import unit_draw
from gradscope.streams import coins
from gradscope.truncations import truncation


@dataclass(frozen=True)
class Measurement:
    """What is recorded of the runs of a batch.

    Attributes
    ----------
    runs : (N,) of them.
    columns : of the runs table -> (N,) values.
    seq_len : (N,)
    steps : `lag`, `log10_dh`, `log10_dh_std` and `zero_share` -> the T values of each run, one run after the other. The
        lag is (loss step) - t for a single-step loss, T - t otherwise; mean and standard deviation of
        log10 |dL_b/dh_t| are over the examples that have one, `zero_share` is the share of those that are exactly zero.
    """

    runs: tuple[Run, ...]
    columns: dict[str, NDArray[Any]]
    seq_len: NDArray[np.int64]
    steps: dict[str, NDArray[Any]]


class Case(NamedTuple):
    """What a gradient is asked for."""

    seq_len: int
    loss_steps: str
    truncation: str

    @property
    def full(self) -> Case:
        """The same losses under full BPTT."""
        return self._replace(truncation="full")


def measure(batch: Sequence[Run]) -> Measurement:
    """Measure the runs of one batch, in their order."""
    networks = {key: c for c, key in enumerate(dict.fromkeys(_network(run) for run in batch))}
    asked = dict.fromkeys(_case(run) for run in batch)
    cases = {case: k for k, case in enumerate(dict.fromkeys([*asked, *(case.full for case in asked)]))}
    answers = _answer(batch[0], tuple(networks), tuple(cases))
    k = np.array([cases[_case(run)] for run in batch])
    c = np.array([networks[_network(run)] for run in batch])
    terms = np.array(
        [len(select_steps(run["loss_steps"], run["seq_len"])) if run["reduction"] == "mean" else 1 for run in batch]
    )
    overflow = np.stack([answer.overflow for answer in answers])[k, c]
    numbers = {name: values[k, c] for name, values in _table(batch[0], answers, list(cases)).items()}
    for name in numbers:
        if name.startswith("log10"):
            numbers[name] = numbers[name] - np.log10(terms)
    numbers["loss_value"] = numbers["loss_value"] / terms
    unit = [unit_draw(run["ensemble"], run["hidden_size"], run["seed"]) for run in batch]
    radius = np.array([run["spectral_radius"] for run in batch])
    columns = {
        "spectral_radius_realised": np.array([draw.spectral_radius for draw in unit]) * radius,
        "spectral_norm": np.array([draw.spectral_norm for draw in unit]) * radius,
        "status": np.array([overflow_status(int(step)) for step in overflow], object),
        **{name: np.where(overflow > 0, np.nan, values) for name, values in numbers.items()},
    }
    seq_len = np.array([run["seq_len"] for run in batch])
    steps = _timesteps(answers, list(cases), k, c)
    steps["log10_dh"] -= np.repeat(np.log10(terms), seq_len)
    for name in ("log10_dh", "log10_dh_std", "zero_share"):
        steps[name][np.repeat(overflow > 0, seq_len)] = np.nan
    return Measurement(tuple(batch), columns, seq_len, steps)


def _network(run: Run) -> tuple[int, float]:
    return run["seed"], run["spectral_radius"]


def _case(run: Run) -> Case:
    return Case(run["seq_len"], run["loss_steps"], run["truncation"])


def _answer(like: Run, networks: tuple[tuple[int, float], ...], cases: tuple[Case, ...]) -> list[Gradient]:
    """The gradients of networks (seed and spectral radius) in all cases; `like` has all that they have in common."""
    task, cell = like.task(), like.cell()
    seeds = tuple(seed for seed, _ in networks)
    longest = max(case.seq_len for case in cases)
    data = {seed: task.draw(seed, longest, like["batch_size"], like["loss"]) for seed in dict.fromkeys(seeds)}
    drawn = [
        cell.init(seed, radius, like["ensemble"], like["input_scale"], task.input_power) for seed, radius in networks
    ]
    packed = cell.pack({name: np.stack([params[name] for params in drawn]) for name in drawn[0]})
    trace = cell.forward(packed, np.stack([data[seed].x for seed in seeds]), None)
    targets = np.stack([data[seed].y for seed in seeds])
    return loss_gradients(cell, packed, trace, targets, like["loss"], *_plan(cases, seeds))


@lru_cache(maxsize=8)
def _plan(cases: tuple[Case, ...], seeds: tuple[int, ...]) -> tuple[list[Request], list[Pass]]:
    """The requests that cases are, and the passes that answer them: the same for all radii."""
    tossed = coins(seeds, max(case.seq_len for case in cases))
    requests = [
        Request(
            case.seq_len,
            select_steps(case.loss_steps, case.seq_len),
            truncation(case.truncation).schedule(tossed[:, : case.seq_len]),
        )
        for case in cases
    ]
    return requests, passes(requests)


def _table(like: Run, answers: Sequence[Gradient], cases: list[Case]) -> dict[str, Floats]:
    """What is recorded of each case's loss and parameter gradients, (cases, C), for losses summed over steps."""
    cell, examples = like.cell(), like["batch_size"]
    parts: dict[str, list[Squares]] = {}
    contrasts = []
    for case, answer in zip(cases, answers, strict=True):
        for name, part in by_parameter(cell, answer.weights, answer.readout).items():
            parts.setdefault(name, []).append(part.squares())
        contrasts.append(Contrast.of(answer.weights, answers[cases.index(case.full)].weights))
    norms = {f"log10_grad_{name}": log10_joint(_stack(part)) - np.log10(examples) for name, part in parts.items()}
    own, full, apart, product = zip(*contrasts, strict=True)
    error, cosine = Contrast(_stack(own), _stack(full), _stack(apart), np.stack(product)).compare()
    return {
        "loss_value": np.stack([answer.loss for answer in answers]),
        **norms,
        "log10_grad": _log10_joint(np.stack(list(norms.values()))),
        "relative_error": error,
        "cosine": cosine,
    }


def _stack(rows: Sequence[Squares]) -> Squares:
    return Squares(np.stack([part.value for part in rows]), np.stack([part.exponent for part in rows]))


def _timesteps(
    answers: Sequence[Gradient], cases: list[Case], k: NDArray[np.int64], c: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """The columns of the timesteps table of runs, of case k and network c, for losses summed over steps."""
    lags = [_lag(case) for case in cases]
    summaries = {id(norms): _over_examples(norms) for norms in {id(a.norms): a.norms for a in answers}.values()}
    columns: dict[str, NDArray[Any]] = {"lag": np.concatenate([lags[case] for case in k])}
    nothing = {"log10_dh": -np.inf, "log10_dh_std": np.nan, "zero_share": 1.0}
    for name, empty in nothing.items():
        found = []
        for answer in answers:
            values = summaries[id(answer.norms)][name][:, np.arange(len(answer.row)), answer.row]
            found.append(np.where(answer.row < 0, empty, values))
        columns[name] = np.concatenate([found[case][run] for case, run in zip(k, c, strict=True)])
    return columns


def _lag(case: Case) -> NDArray[np.int64]:
    steps = select_steps(case.loss_steps, case.seq_len)
    return (steps[0] if len(steps) == 1 else case.seq_len - 1) - np.arange(case.seq_len)


def _over_examples(norms: Norms) -> dict[str, Floats]:
    """Mean and standard deviation over the examples that have a gradient, and the share of those that have none."""
    live = norms.log10 > -np.inf
    count = live.sum(axis=-1)
    values = norms.log10 if live.all() else np.where(live, norms.log10, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = values.sum(axis=-1) / count
        apart = values - mean[..., None]
        apart[~live] = 0.0
        std = np.sqrt(np.vecdot(apart, apart) / count)
    return {
        "log10_dh": np.where(count > 0, mean, -np.inf),
        "log10_dh_std": std,
        "zero_share": 1.0 - count / live.shape[-1],
    }


def _log10_joint(log10_norms: Floats) -> Floats:
    """log10 of the norm of several parts together, from the log10 of each (parts, ...)."""
    top = log10_norms.max(axis=0)
    base = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return base + 0.5 * np.log10(np.sum(10.0 ** (2.0 * (log10_norms - base)), axis=0))
