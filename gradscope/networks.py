"""The networks of a batch of runs on their data, and their gradients in all cases that are asked for.

Networks (radius and seed) are the run axis C; a *case* is a length, a choice of loss steps and a truncation, and all
cases are answered together (`gradscope.bptt`): lengths are prefixes of one forward pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.bptt import Gradient, joined, loss_gradients
from gradscope.errors import InputError
from gradscope.losses import select_steps
from gradscope.passes import Pass, Request, passes
from gradscope.recurrence import BLOCK, Cell, Packed, Parameters, Trace, first_of
from gradscope.runs import Run
from gradscope.scaled import Floats
from gradscope.schedule import Gates, Tossing, Windows
from gradscope.streams import coins
from gradscope.task import Sequences, Task
from gradscope.truncations import expected, truncation
from gradscope.workspace import Workspace

WORKSPACE = Workspace()  # of this process, from batch to batch
_POOLS: dict[int, ThreadPoolExecutor] = {}
EXAMPLES = 64  # examples that go together, at least, where there are more: parts may go on threads of their own

Key = tuple[int, float]  # the seed and the spectral radius of a network


class Case(NamedTuple):
    """What a gradient is asked for; `mean` is for the mean over coins, of a truncation that throws them."""

    seq_len: int
    loss_steps: str
    truncation: str
    mean: bool = False

    @property
    def full(self) -> Case:
        """The same losses under full BPTT."""
        return self._replace(truncation="full", mean=False)

    @property
    def tosses(self) -> bool:
        """Whether the truncation throws coins."""
        return isinstance(truncation(self.truncation), Tossing)

    @property
    def steps(self) -> NDArray[np.int64]:
        """The 0-based steps whose losses count."""
        return select_steps(self.loss_steps, self.seq_len)


def case_of(run: Run) -> Case:
    """What is asked of the run's network."""
    return Case(run["seq_len"], run["loss_steps"], run["truncation"])


def network_of(run: Run) -> Key:
    """The network of a run among those of its batch."""
    return run["seed"], run["spectral_radius"]


def terms_of(run: Run) -> int:
    """What the sum of the step losses has to be divided by for the run's loss."""
    return len(case_of(run).steps) if run["reduction"] == "mean" else 1


def with_full(cases: Iterable[Case]) -> tuple[Case, ...]:
    """The cases, and those of full BPTT that they are held against."""
    cases = tuple(cases)
    return tuple(dict.fromkeys([*cases, *(case.full for case in cases)]))


def with_means(cases: Iterable[Case]) -> tuple[Case, ...]:
    """The cases, and the means over coins of those that throw them, as far as a schedule has them."""
    cases = tuple(cases)
    return tuple(dict.fromkeys([*cases, *(mean for case in cases if (mean := mean_of(case)))]))


def mean_of(case: Case) -> Case | None:
    """The case of the mean over coins: itself if it throws none; None if no schedule has that mean."""
    if not case.tosses:
        return case
    known = expected(truncation(case.truncation), case.seq_len) is not None
    return case._replace(mean=True) if known else None


class Answers(NamedTuple):
    """What networks say of all cases.

    Attributes
    ----------
    gradients : in each case.
    slopes : (C, T), the mean of f'(z_t) over examples and units at each step; nan from the first step on that left the
        range of numbers, where the cell's local derivatives are not the slopes of its n units, and if not asked for.
    """

    gradients: list[Gradient]
    slopes: NDArray[np.float64]


@dataclass(frozen=True)
class Networks:
    """Networks, and the examples that they are run on.

    Attributes
    ----------
    keys : (C,) of them: seed and spectral radius.
    cell, packed : their parameters.
    data : seed -> inputs and targets of all its networks.
    loss, dtype : "mse" or "cross_entropy"; "float64" or "float32".
    """

    keys: tuple[Key, ...]
    cell: Cell
    packed: Packed
    data: Mapping[int, Sequences]
    loss: str
    dtype: str

    @classmethod
    def of(cls, like: Run, keys: Sequence[Key], seq_len: int, examples: int, dtype: str) -> Networks:
        """The networks of a batch of runs; `like` has all that these have in common."""
        task, cell = like.task(), like.cell()
        data = {seed: _data(like, task, seed, seq_len, examples) for seed in dict.fromkeys(seed for seed, _ in keys)}
        params = {name: array.astype(dtype, copy=False) for name, array in drawn(like, keys).items()}
        return cls(tuple(keys), cell, cell.pack(params), data, like["loss"], dtype)

    @property
    def seeds(self) -> tuple[int, ...]:
        """(C,) seeds."""
        return tuple(seed for seed, _ in self.keys)

    @property
    def examples(self) -> int:
        """B."""
        return next(iter(self.data.values())).x.shape[1]

    def some(self, keys: slice) -> Networks:
        """Some of the networks."""
        chosen = self.keys[keys]
        data = {seed: self.data[seed] for seed, _ in chosen}
        return Networks(chosen, self.cell, self.packed.of(keys), data, self.loss, self.dtype)

    def data_of(self, examples: slice) -> tuple[Floats, NDArray[Any]]:
        """The inputs and targets of some of the examples, (C, ...)."""
        x, y = (
            _side_by_side({seed: array[:, examples] for seed, array in arrays.items()}, self.seeds, self.dtype)
            for arrays in (
                {seed: own.x for seed, own in self.data.items()},
                {seed: own.y for seed, own in self.data.items()},
            )
        )
        return x, y

    def forward(self, examples: slice = slice(None), workspace: Workspace = WORKSPACE) -> tuple[Trace, NDArray[Any]]:
        """The forward pass over some of the examples, which lives in the workspace, and the targets."""
        x, y = self.data_of(examples)
        return self.cell.forward(self.packed, x, None, workspace), y

    def gradients(
        self, cases: tuple[Case, ...], groups: int = 1, threads: int = 1, examples: int | None = None
    ) -> list[Gradient]:
        """The gradients in all cases of all examples, or the first; large numbers of examples on so many threads.

        Those of weights are of `groups` groups of neighbouring examples apart.
        """
        return self.answers(cases, groups, threads, examples, slopes=False).gradients

    def answers(
        self,
        cases: tuple[Case, ...],
        groups: int = 1,
        threads: int = 1,
        examples: int | None = None,
        slopes: bool = True,
    ) -> Answers:
        """The same, and the slopes of the activation on the way."""
        requests, plan = plan_of(cases, self.seeds)
        B = examples or self.examples
        cuts = _cuts(B, groups)

        def answer(part: slice) -> tuple[list[Gradient], Floats]:
            trace, y = self.forward(part)
            own = max(1, groups * (part.stop - part.start) // B)
            found = loss_gradients(self.cell, self.packed, trace, y, self.loss, requests, plan, WORKSPACE, own)
            return found, _slopes(self.cell, trace) if slopes else np.full(trace.extent[:2], np.nan)

        parts = [slice(a, b) for a, b in pairwise(cuts)]
        found = map(answer, parts) if threads == 1 or len(parts) == 1 else _threads(threads).map(answer, parts)
        gradients, sums = zip(*found, strict=True)
        together = joined(gradients, [part.stop - part.start for part in parts], apart=groups > 1)
        return Answers(together, sum(sums) / (B * self.cell.hidden_size))


def drawn(like: Run, keys: Sequence[Key]) -> Parameters:
    """The parameters of networks as they are drawn, (C, ...); `like` has all that these have in common."""
    cell, power = like.cell(), like.task().input_power
    each = [cell.init(seed, radius, like["ensemble"], like["input_scale"], power) for seed, radius in keys]
    return {name: np.stack([one[name] for one in each]) for name in each[0]}


def _cuts(examples: int, groups: int) -> list[int]:
    """Where examples are cut in parts that go together: about `EXAMPLES` or more, and none within a group."""
    parts = max(1, examples // EXAMPLES)
    if groups == 1:
        return np.linspace(0, examples, parts + 1).astype(int).tolist()
    return (np.linspace(0, groups, min(parts, groups) + 1).astype(int) * (examples // groups)).tolist()


def _slopes(cell: Cell, trace: Trace) -> NDArray[np.float64]:
    """The sum of f'(z_t) over examples and units, (C, T); not a number where `Answers.slopes` is not."""
    C, T, _ = trace.extent
    found = np.empty((C, T))
    for lo in range(0, T, BLOCK):
        hi = min(lo + BLOCK, T)
        local = cell.local(trace, lo, hi)
        if local.shape[-1] != trace.hidden_size:  # not the slope of a single activation
            return np.full((C, T), np.nan)
        found[:, lo:hi] = local.sum(axis=(2, 3), dtype=np.float64)
    overflow = first_of(trace.overflow, axis=1)[:, None]
    found[(overflow > 0) & (np.arange(1, T + 1) >= overflow)] = np.nan
    return found


def _data(like: Run, task: Task, seed: int, seq_len: int, examples: int) -> Sequences:
    """The inputs and targets of a seed.

    Raises InputError if they are not finite, or of a file that is not any more what it was when the run was planned.
    """
    if "data" in like.parameters and not task.record()["sha256"].startswith(like["data"]):
        raise InputError(
            "the file has changed since the sweep was planned", where=like.parameters.get("file") or "data"
        )
    drawn = task.draw(seed, seq_len, examples, like["loss"])
    for name, values in (("x", drawn.x), ("y", drawn.y)):
        if not np.isfinite(values).all():
            raise InputError(f"{name} of seed {seed} is not finite", where=f"task {like['task']}")
    return drawn


def _side_by_side(of_seed: Mapping[int, NDArray[Any]], seeds: Sequence[int], dtype: str) -> NDArray[Any]:
    """The data of networks of these seeds, (C, ...), numbers as `dtype`; not to be changed."""
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
    return [Request(case.seq_len, case.steps, _schedule(case, tossed[:, : case.seq_len])) for case in cases]


def _schedule(case: Case, tossed: Floats) -> Gates | Windows:
    member = truncation(case.truncation)
    mean = expected(member, case.seq_len) if case.mean else None
    return member.schedule(tossed) if mean is None else mean
