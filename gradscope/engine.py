"""Measure a batch of runs: everything a sweep records, from one forward pass for each network.

The runs of a batch differ in spectral radius, seed, length, truncation, loss steps, reduction and clip only (the plan
sees to it). Networks (radius and seed) are the run axis C; their gradients in all cases are found together
(`gradscope.networks`); reductions are scalings, clips are of gradients of many minibatches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.bptt import Gradient, Norms
from gradscope.curves import learnt
from gradscope.dynamics import OTHER_WEIGHTS, dynamics
from gradscope.estimators import groups_of
from gradscope.gradients import Contrast, by_parameter, compare, log10_joint, overflow_status
from gradscope.networks import Case, Networks, case_of, network_of, terms_of, with_full
from gradscope.recurrence import Cell
from gradscope.runs import Run
from gradscope.samples import asked, clipped, estimators
from gradscope.scaled import Floats, Squares
from gradscope.task import Problem

REALISED = ("spectral_radius_realised", "spectral_norm")  # columns, of W_hh


@dataclass(frozen=True)
class Measurement:
    """What is recorded of the runs of a batch.

    Attributes
    ----------
    runs : (N,) of them.
    columns : of the runs table -> (N,) values.
    seq_len : (N,)
    steps : column -> the T values of each run, one run after the other: `lag`, which is (loss step) - t for a
        single-step loss, T - t otherwise; `log10_dh` and `log10_dh_std`, mean and standard deviation of
        log10 |dL_b/dh_t| over the examples that have one, and `zero_share`, the share of those that are exactly zero;
        the same of other parts of the state, as `log10_dc`, `log10_dc_std`, `zero_share_c`.
    """

    runs: tuple[Run, ...]
    columns: dict[str, NDArray[Any]]
    seq_len: NDArray[np.int64]
    steps: dict[str, NDArray[Any]]


def measure(batch: Sequence[Run], threads: int = 1) -> Measurement:
    """Measure the runs of one batch, in their order; large numbers of examples on so many threads.

    Results do not depend on the number of threads.
    """
    like = batch[0]
    if like.trains:
        columns, steps = learnt(batch)
        return Measurement(tuple(batch), columns, np.array([run["seq_len"] for run in batch]), steps)
    if isinstance(problem := like.task(), Problem):
        columns, steps = problem.measure([run.parameters for run in batch])
        return Measurement(tuple(batch), columns, np.array([run["seq_len"] for run in batch]), steps)
    keys = tuple(sorted({network_of(run) for run in batch}))
    cases = with_full(dict.fromkeys(case_of(run) for run in batch))
    every = asked(cases) if like["draws"] else cases
    longest, examples = max(case.seq_len for case in cases), like["batch_size"]
    networks = Networks.of(like, keys, longest, examples, like["dtype"])
    answers, slopes = networks.answers(every, groups_of(examples) if like["draws"] else 1, threads)
    k = np.array([cases.index(case_of(run)) for run in batch])
    c = np.array([keys.index(network_of(run)) for run in batch])
    terms = np.array([terms_of(run) for run in batch])
    seq_len = np.array([run["seq_len"] for run in batch])
    overflow = np.stack([answer.overflow for answer in answers])[k, c]
    numbers = {name: values[k, c] for name, values in _table(networks.cell, examples, answers, cases).items()}
    for name in numbers:
        if name.startswith("log10"):
            numbers[name] = numbers[name] - np.log10(terms)
    numbers["loss_value"] = numbers["loss_value"] / terms
    numbers["mean_slope"] = slopes.cumsum(axis=1)[c, seq_len - 1] / seq_len
    drawn = [networks.cell.drawn(run["ensemble"], run["seed"]) for run in batch]
    realised = [draw.realised(run["spectral_radius"]) for draw, run in zip(drawn, batch, strict=True)]
    if like["dtype"] == "float32":
        exact = Networks.of(like, keys, longest, examples, "float64").gradients(cases, examples=1)
        numbers["float32_error"] = _error(answers, exact)[k, c]
    if like["draws"]:
        columns = estimators(networks, cases, dict(zip(every, answers, strict=True)), like["draws"])
        numbers |= {name: values[k, c] for name, values in columns.items()}
    columns = {
        **{name: np.array(values) for name, values in zip(REALISED, zip(*realised, strict=True), strict=True)},
        "henrici": np.array([draw.henrici for draw in drawn]),
        "status": np.array([overflow_status(int(step)) for step in overflow], object),
        **{name: np.where(overflow > 0, np.nan, values) for name, values in numbers.items()},
        **(clipped(batch, networks, threads) if like["minibatches"] else {}),  # other data, of which some may be finite
    }
    steps = _timesteps(networks.cell, answers, cases, k, c)
    for name, values in steps.items():
        if name in (f"log10_d{part}" for part in networks.cell.parts):
            values -= np.repeat(np.log10(terms), seq_len)
        if name != "lag":
            values[np.repeat(overflow > 0, seq_len)] = np.nan
    if like.of_jacobians:
        more, sigma = dynamics(batch, networks)
        if not like["tied"]:
            _forget_gradients(columns, steps)
        columns, steps = columns | more, steps | sigma
    return Measurement(tuple(batch), columns, seq_len, steps)


def _forget_gradients(columns: dict[str, NDArray[Any]], steps: dict[str, NDArray[Any]]) -> None:
    """Leave out what was measured of gradients: there are none of a W_hh that is another one at every step."""
    columns["status"][:] = OTHER_WEIGHTS
    for name in columns.keys() - {"status", "henrici", *REALISED}:
        columns[name] = np.full(len(columns[name]), np.nan)
    for name in steps.keys() - {"lag"}:
        steps[name][...] = np.nan


def _error(answers: Sequence[Gradient], exact: Sequence[Gradient]) -> Floats:
    """The largest relative error over time of the first example's |dL_b/dh_t|, (cases, C), against exact ones."""
    found = []
    for answer, truth in zip(answers, exact, strict=False):
        own, true = (one.norms.of(one.row)[..., 0] for one in (answer, truth))
        with np.errstate(invalid="ignore", over="ignore"):
            found.append(np.where(own == true, 0.0, np.abs(np.expm1((own - true) * np.log(10.0)))).max(axis=1))
    return np.stack(found)


def _table(cell: Cell, examples: int, answers: Sequence[Gradient], cases: Sequence[Case]) -> dict[str, Floats]:
    """What is recorded of each case's loss and parameter gradients, (cases, C), for losses summed over steps."""
    answers = answers[: len(cases)]
    squares: dict[str, list[Squares]] = {}
    for answer in answers:
        for name, part in by_parameter(cell, answer.weights, answer.readout).items():
            squares.setdefault(name, []).append(part.squares())
    stacked = {name: _joined(np.stack, parts) for name, parts in squares.items()}
    norms = {f"log10_grad_{name}": log10_joint(part) - np.log10(examples) for name, part in stacked.items()}
    full = [cases.index(case.full) for case in cases]
    contrasts = [
        Contrast.of(answer.weights, answers[other].weights) for answer, other in zip(answers, full, strict=True)
    ]
    apart, products, exponents = zip(*contrasts, strict=True)
    contrast = Contrast(_joined(np.stack, apart), np.stack(products), np.stack(exponents))
    own = _joined(partial(np.concatenate, axis=-1), [stacked[name] for name in cell.blocks()])
    error, cosine = compare(own, Squares(own.value[full], own.exponent[full]), contrast)
    return {
        "loss_value": np.stack([answer.loss for answer in answers]),
        **norms,
        "log10_grad": _log10_joint(np.stack(list(norms.values()))),
        "relative_error": error,
        "cosine": cosine,
    }


def _joined(how: Callable[[list[NDArray[Any]]], NDArray[Any]], parts: Sequence[Squares]) -> Squares:
    return Squares(how([part.value for part in parts]), how([part.exponent for part in parts]))


def _timesteps(
    cell: Cell, answers: Sequence[Gradient], cases: Sequence[Case], k: NDArray[np.int64], c: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """The columns of the timesteps table of runs, of case k and network c, for losses summed over steps."""
    answers = answers[: len(cases)]
    lags = [_lag(case) for case in cases]
    summaries = {id(norms): _over_examples(norms) for norms in {id(a.norms): a.norms for a in answers}.values()}
    columns: dict[str, NDArray[Any]] = {"lag": np.concatenate([lags[case] for case in k])}
    nothing = {"log10_d{}": -np.inf, "log10_d{}_std": np.nan, "zero_share_{}": 1.0}
    for (part, of), (pattern, empty) in product(enumerate(cell.parts), nothing.items()):
        found = []
        for answer in answers:
            values = summaries[id(answer.norms)][pattern][part][:, np.arange(len(answer.row)), answer.row]
            found.append(np.where(answer.row < 0, empty, values))
        name = pattern.format(of).removesuffix("_h" if pattern.startswith("zero") else "")
        columns[name] = np.concatenate([found[case][run] for case, run in zip(k, c, strict=True)])
    return columns


def _lag(case: Case) -> NDArray[np.int64]:
    steps = case.steps
    return (steps[0] if len(steps) == 1 else case.seq_len - 1) - np.arange(case.seq_len)


def _over_examples(norms: Norms) -> dict[str, Floats]:
    """Mean and standard deviation over the examples that have a gradient, and the share of those that have none.

    Not numbers where that of any example is not known (see `rows.forget_lost`).

    Each (parts, C, T, K), by the pattern of their columns' names.
    """
    live = norms.log10 > -np.inf
    count = live.sum(axis=-1)
    values = norms.log10 if live.all() else np.where(live, norms.log10, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = values.sum(axis=-1) / count
        apart = values - mean[..., None]
        apart[~live] = 0.0
        std = np.sqrt(np.vecdot(apart, apart) / count)
    known = np.where(np.isnan(norms.log10).any(axis=-1), np.nan, 0.0)
    return {
        "log10_d{}": np.where(count > 0, mean, -np.inf) + known,
        "log10_d{}_std": std + known,
        "zero_share_{}": 1.0 - count / live.shape[-1] + known,
    }


def _log10_joint(log10_norms: Floats) -> Floats:
    """log10 of the norm of several parts together, from the log10 of each (parts, ...)."""
    top = log10_norms.max(axis=0)
    base = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return base + 0.5 * np.log10(np.sum(10.0 ** (2.0 * (log10_norms - base)), axis=0))
