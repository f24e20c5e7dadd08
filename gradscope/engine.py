"""Measure a batch of runs: everything a sweep records, from one forward pass for each network.

The runs of a batch differ in spectral radius, seed, length, truncation, loss steps and reduction only (the plan sees to
it). Networks (radius and seed) are the run axis C; a *case* is a length, a choice of loss steps and a truncation, and
all cases are answered together (`gradscope.bptt`): lengths are prefixes of one forward pass, reductions are scalings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.bptt import Gradient, Norms, joined, loss_gradients
from gradscope.errors import InputError
from gradscope.gradients import Contrast, by_parameter, compare, log10_joint, overflow_status
from gradscope.losses import select_steps
from gradscope.passes import Pass, Request, passes
from gradscope.runs import Run
from gradscope.scaled import Floats, Squares
from gradscope.spectral import unit_draw
from gradscope.streams import coins
from gradscope.task import Sequences, Task
from gradscope.truncations import truncation
from gradscope.workspace import Workspace

WORKSPACE = Workspace()  # of this process, from batch to batch
_POOLS: dict[int, ThreadPoolExecutor] = {}
EXAMPLES = 64  # examples that go together, at least, where there are more: parts may go on threads of their own


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


def measure(batch: Sequence[Run], threads: int = 1) -> Measurement:
    """Measure the runs of one batch, in their order; large numbers of examples on so many threads.

    Results do not depend on the number of threads.
    """
    networks = {key: c for c, key in enumerate(sorted({network_of(run) for run in batch}))}
    cases = {case: k for k, case in enumerate(with_full(dict.fromkeys(case_of(run) for run in batch)))}
    answers = _answer(batch[0], tuple(networks), tuple(cases), batch[0]["dtype"], threads=threads)
    k = np.array([cases[case_of(run)] for run in batch])
    c = np.array([networks[network_of(run)] for run in batch])
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
    if batch[0]["dtype"] == "float32":
        exact = _answer(batch[0], tuple(networks), tuple(cases), "float64", examples=1)
        numbers["float32_error"] = _error(answers, exact)[k, c]
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


def network_of(run: Run) -> tuple[int, float]:
    """The network of a run among those of its batch: its seed and spectral radius."""
    return run["seed"], run["spectral_radius"]


def case_of(run: Run) -> Case:
    """What is asked of the run's network."""
    return Case(run["seq_len"], run["loss_steps"], run["truncation"])


def with_full(cases: Iterable[Case]) -> tuple[Case, ...]:
    """The cases, and those of full BPTT that they are held against."""
    cases = tuple(cases)
    return tuple(dict.fromkeys([*cases, *(case.full for case in cases)]))


def _answer(
    like: Run,
    networks: tuple[tuple[int, float], ...],
    cases: tuple[Case, ...],
    dtype: str,
    examples: int | None = None,
    threads: int = 1,
) -> list[Gradient]:
    """The gradients of networks (seed and spectral radius) in all cases, of the first examples or all.

    `like` has all that the runs have in common.
    """
    task, cell = like.task(), like.cell()
    seeds = tuple(seed for seed, _ in networks)
    longest = max(case.seq_len for case in cases)
    data = {seed: _data(like, task, seed, longest) for seed in dict.fromkeys(seeds)}
    drawn = [
        cell.init(seed, radius, like["ensemble"], like["input_scale"], task.input_power) for seed, radius in networks
    ]
    params = {name: np.stack([one[name] for one in drawn]).astype(dtype, copy=False) for name in drawn[0]}
    packed, plan = cell.pack(params), plan_of(cases, seeds)

    def answer(part: slice) -> list[Gradient]:
        x, y = (_for_networks({seed: data[seed][which][:, part] for seed in seeds}, seeds, dtype) for which in (0, 1))
        trace = cell.forward(packed, x, None, WORKSPACE)
        return loss_gradients(cell, packed, trace, y, like["loss"], *plan, WORKSPACE)

    B = examples or like["batch_size"]
    cuts = np.linspace(0, B, max(1, B // EXAMPLES) + 1).astype(int).tolist()
    parts = [slice(a, b) for a, b in pairwise(cuts)]
    answers = map(answer, parts) if threads == 1 or len(parts) == 1 else _threads(threads).map(answer, parts)
    return joined(list(answers), [part.stop - part.start for part in parts])


def _data(like: Run, task: Task, seed: int, seq_len: int) -> Sequences:
    """The inputs and targets of a seed.

    Raises InputError if they are not finite, or of a file that is not any more what it was when the run was planned.
    """
    if "data" in like.parameters and not task.record()["sha256"].startswith(like["data"]):
        raise InputError(
            "the file has changed since the sweep was planned", where=like.parameters.get("file") or "data"
        )
    drawn = task.draw(seed, seq_len, like["batch_size"], like["loss"])
    for name, values in drawn._asdict().items():
        if not np.isfinite(values).all():
            raise InputError(f"{name} of seed {seed} is not finite", where=f"task {like['task']}")
    return drawn


def _for_networks(of_seed: Mapping[int, NDArray[Any]], seeds: Sequence[int], dtype: str) -> NDArray[Any]:
    """The data of networks of these seeds side by side, (C, ...), numbers as `dtype`; not to be changed."""
    arrays = {seed: a.astype(dtype, copy=False) if a.dtype.kind == "f" else a for seed, a in of_seed.items()}
    if len(arrays) == 1:
        return np.broadcast_to(arrays[seeds[0]], (len(seeds), *arrays[seeds[0]].shape))
    return np.stack([arrays[seed] for seed in seeds])


def _threads(number: int) -> ThreadPoolExecutor:
    """So many threads, which keep their workspaces from batch to batch."""
    if number not in _POOLS:
        _POOLS[number] = ThreadPoolExecutor(number)
    return _POOLS[number]


def release() -> None:
    """Give back the memory and the threads that are kept from batch to batch."""
    WORKSPACE.clear()
    while _POOLS:
        _POOLS.popitem()[1].shutdown()


@lru_cache(maxsize=16)
def plan_of(cases: tuple[Case, ...], seeds: tuple[int, ...]) -> tuple[list[Request], list[Pass]]:
    """The requests that cases are, and the passes that answer them: the same for all radii."""
    requests = requests_of(cases, seeds)
    return requests, passes(requests)


def requests_of(cases: Sequence[Case], seeds: Sequence[int]) -> list[Request]:
    """What is asked of networks of these seeds, which throw their coins."""
    tossed = coins(seeds, max(case.seq_len for case in cases))
    return [
        Request(
            case.seq_len,
            select_steps(case.loss_steps, case.seq_len),
            truncation(case.truncation).schedule(tossed[:, : case.seq_len]),
        )
        for case in cases
    ]


def _error(answers: Sequence[Gradient], exact: Sequence[Gradient]) -> Floats:
    """The largest relative error over time of the first example's |dL_b/dh_t|, (cases, C), against exact ones."""
    found = []
    for answer, truth in zip(answers, exact, strict=True):
        own, true = (one.norms.of(one.row)[..., 0] for one in (answer, truth))
        with np.errstate(invalid="ignore", over="ignore"):
            found.append(np.where(own == true, 0.0, np.abs(np.expm1((own - true) * np.log(10.0)))).max(axis=1))
    return np.stack(found)


def _table(like: Run, answers: Sequence[Gradient], cases: list[Case]) -> dict[str, Floats]:
    """What is recorded of each case's loss and parameter gradients, (cases, C), for losses summed over steps."""
    cell, examples = like.cell(), like["batch_size"]
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
