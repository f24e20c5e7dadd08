"""Backpropagation through time, truncated in any way, for many runs at once and at any magnitude.

The forward pass has left its trace, `gradscope.readout` says what each loss injects, `gradscope.passes` which rows
(adjoints) go back and who sees them, `gradscope.rows` takes them back; here it is put together, and requests answered.

Everything is for the *sum* of the step losses, and weight gradients are summed over examples; means are scalings.
Shape letters are those of `gradscope.recurrence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.passes import Chains, Pass, Request
from gradscope.readout import Readout
from gradscope.recurrence import Cell, Packed, Trace, first_of
from gradscope.rows import OutOfRangeError, Seen, Work, bytes_at_work, chains, sliding
from gradscope.scaled import Floats, Scaled
from gradscope.workspace import Workspace

PART_BYTES = 2.5e6  # of a block of the rows of those runs that go back together


class Norms(NamedTuple):
    """What a pass saw: log10 of the norms of K rows or sums at each step, (parts, C, T, K, B), those of each part of
    the state apart. Many rows are there at some steps only.
    """

    log10: NDArray[np.float64]

    def of(self, row: NDArray[np.int64], part: int = 0) -> NDArray[np.float64]:
        """log10 |dL_b/dh_t|, (C, len(row), B), where `row` is seen at each step; -inf where none is (-1)."""
        found = self.log10[part][:, np.arange(len(row)), row]
        found[:, row < 0] = -np.inf
        return found


@dataclass(frozen=True)
class Gradient:
    """The answer to a request.

    Attributes
    ----------
    loss : (C,), summed over steps, mean over examples.
    overflow_by_group : (C, G), the first step that left the range of numbers on the way forward to this loss; 0 where
        none did. Where it is not 0, nothing else here may be used for that run and group of examples.
    norms, row : what the request's pass saw, and which of its rows the request sees at each step (T,).
    weights_by_group : (C, G, P, W), the gradient of the recurrent weights, that of each group of examples apart.
    readout_by_group : (C, G, n+1, p), the gradient of [W_hy | b_y], which no truncation touches.
    """

    loss: Floats
    overflow_by_group: NDArray[np.int64]
    norms: Norms
    row: NDArray[np.int64]
    weights_by_group: Scaled
    readout_by_group: Scaled

    @property
    def overflow(self) -> NDArray[np.int64]:
        """(C,), the first step of all examples."""
        return first_of(self.overflow_by_group, axis=1)

    @cached_property
    def weights(self) -> Scaled:
        """(C, P, W), the gradient of the recurrent weights."""
        return _over_groups(self.weights_by_group)

    @cached_property
    def readout(self) -> Scaled:
        """(C, n+1, p), the gradient of [W_hy | b_y]."""
        return _over_groups(self.readout_by_group)


def loss_gradients(
    cell: Cell,
    packed: Packed,
    trace: Trace,
    y: NDArray[Any],
    loss: str,
    requests: Sequence[Request],
    plan: Sequence[Pass],
    workspace: Workspace,
    groups: int = 1,
    weights: Floats | None = None,
) -> list[Gradient]:
    """Answer requests on the losses against y (C, T, B[, p]), by `plan`, the passes that `passes.passes` gives them.

    Weight gradients are of `groups` groups of neighbouring examples, of which B must be a multiple, apart. Each loss
    counts `weights` (C, T, B) times, or once.
    """
    readout = Readout(cell, packed, trace, y, loss, [request.steps for request in requests], groups, weights)
    everything = [Seen(one, cell, trace, workspace, str(number), groups) for number, one in enumerate(plan)]
    C = trace.extent[0]
    whole = Work(slice(0, C), cell, packed, trace, readout.injection)
    at_work = sum(bytes_at_work(one, trace.extent[2], cell.state_size, prod(cell.weights_shape)) for one in plan)
    width = int(max(1, PART_BYTES // (at_work * trace.inputs.itemsize / 8)))
    if width >= C:
        _go_back(whole, everything)
    else:
        for first in range(0, C, width):
            runs = slice(first, first + width)
            _go_back(whole.of(runs), [seen.of(runs) for seen in everything])
    found: dict[int, Gradient] = {}
    for one, seen in zip(plan, everything, strict=True):
        norms = Norms(seen.log10_norms())
        for member, index in enumerate(one.requests):
            steps = requests[index].steps
            found[index] = Gradient(
                loss=readout.loss(steps),
                overflow_by_group=readout.overflow(steps),
                norms=norms,
                row=one.row[member, : requests[index].seq_len],
                weights_by_group=_by_group(
                    _sum([seen.sums[usage] for usage in one.usages[:, member].nonzero()[0]]), groups
                ),
                readout_by_group=_by_group(readout.gradient(steps), groups),
            )
    return [found[index] for index in range(len(requests))]


def joined(parts: Sequence[Sequence[Gradient]], examples: Sequence[int], apart: bool = False) -> list[Gradient]:
    """The answers for a batch from those for parts of its examples, so many each; their groups stay `apart`, or not."""
    if len(parts) == 1:
        return list(parts[0])
    share = np.array(examples) / sum(examples)
    found = []
    norms: dict[int, Norms] = {}
    for answers in zip(*parts, strict=True):
        key = id(answers[0].norms)
        if key not in norms:
            norms[key] = Norms(np.concatenate([answer.norms.log10 for answer in answers], axis=-1))
        overflow = np.concatenate([answer.overflow_by_group for answer in answers], axis=1)
        found.append(
            Gradient(
                loss=share @ np.stack([answer.loss for answer in answers]),
                overflow_by_group=overflow if apart else first_of(overflow, axis=1)[:, None],
                norms=norms[key],
                row=answers[0].row,
                weights_by_group=_side_by_side([answer.weights_by_group for answer in answers], apart),
                readout_by_group=_side_by_side([answer.readout_by_group for answer in answers], apart),
            )
        )
    return found


def _sum(parts: Sequence[Scaled]) -> Scaled:
    """The sum of some vectors, renormalised."""
    total = Scaled(parts[0].mantissa.copy(), parts[0].exponent.copy())
    for part in parts[1:]:
        total.add(part)
    total.renormalise()
    return total


def _over_groups(by_group: Scaled) -> Scaled:
    """The sum (C, ...) over the groups of (C, G, ...)."""
    groups = by_group.mantissa.shape[1]
    return by_group[:, 0] if groups == 1 else _sum([by_group[:, group] for group in range(groups)])


def _by_group(rows: Scaled, groups: int) -> Scaled:
    """(C G, ...) as (C, G, ...)."""
    mantissa, exponent = rows.mantissa, rows.exponent
    return Scaled(mantissa.reshape(-1, groups, *mantissa.shape[1:]), exponent.reshape(-1, groups, *exponent.shape[1:]))


def _side_by_side(parts: Sequence[Scaled], apart: bool) -> Scaled:
    """The groups of several batches as those of one, or as one group."""
    if not apart:
        return _sum(parts)
    return Scaled(
        *(np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("mantissa", "exponent"))
    )


def _go_back(work: Work, everything: Sequence[Seen]) -> None:
    """Take passes back in time, always the one that is latest: so all read the trace while it is in the cache."""
    careful = bool(np.count_nonzero(work.packed.back_exponent))
    with np.errstate(over="ignore", invalid="ignore"):
        going = [_Going(work, seen, careful) for seen in everything]
        while latest := max((one for one in going if one.at > 0), key=lambda one: one.at, default=None):
            try:
                latest.at = next(latest.steps, 0)
            except OutOfRangeError:  # rare; then it goes back once more
                latest.seen.begun.clear()
                going[going.index(latest)] = _Going(work, latest.seen, careful=True)


class _Going:
    """A pass on its way: `steps` yields the step that it has come to. If `careful`, a block is a single step."""

    def __init__(self, work: Work, seen: Seen, careful: bool):
        self.seen, self.at = seen, len(seen.plan.losses)
        go = chains if isinstance(seen.plan, Chains) else sliding
        self.steps = go(work, seen.plan, seen, careful)  # type: ignore[arg-type]
