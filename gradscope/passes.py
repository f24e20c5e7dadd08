"""Which backward passes answer a set of requests, and what the requests share.

A request asks for the gradients of some losses of one length under one truncation. What goes back in time is a *row*:
an adjoint that starts at some step and takes in losses on its way.

* Where every loss reaches down to the same cut (full, chunked, random, or a single loss), a request is a string of
  segments, one row at a time. Segments that start at the same step, pass through the same gates and are entered by
  losses alike are one row, as far down as the longest of them goes: `Chains`.
* Where windows overlap (TBPTT(k1, k2), k2 > k1, and so `fixed`), each group of k1 losses is a row, and what a request
  sees at a step is the sum of its rows there: for every k2 and length, of the newest so many. `Sliding`.

In both, each request sees one row, or one sum, at each step. Weight gradients are added up apart for each *usage*, the
set of requests that see the same thing, and a request's gradient is the sum over the usages that it belongs to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.scaled import Floats
from gradscope.schedule import Gates, Windows

_SPARSE = 4  # losses at fewer than one step in so many each begin a span


class Request(NamedTuple):
    """Gradients wanted: of the losses at `steps` (0-based, ascending) of the first `seq_len` steps, by `schedule`."""

    seq_len: int
    steps: NDArray[np.int64]
    schedule: Gates | Windows


class Gate(NamedTuple):
    """`row` is multiplied by `weights[..., t]`, (T,) or (C, T), on its way from step t+1 to t."""

    row: int
    weights: Floats


class Entering(NamedTuple):
    """A loss at step t goes on in `row` times `weights[..., t]`, (T,) or (C, T), and is seen at t itself as it is."""

    row: int
    weights: Floats


class Span(NamedTuple):
    """Steps lo <= t < hi (0-based) at which the same rows go back, each seen by the same requests.

    Attributes
    ----------
    lo, hi : the steps.
    usage : what each row (of `Chains`) or sum (of `Sliding`) adds its weight gradient to.
    source : where the rows stood in the span above, those that go on from it; None if they stand there still.
    born : the rows that start at step hi - 1.
    stay : how many rows, the first ones, go on below lo.
    gates : the rows that pass through gates.
    entering : the rows in which losses go on with weights of their own.
    """

    lo: int
    hi: int
    usage: tuple[int, ...]
    source: tuple[int, ...] | None = None
    born: tuple[int, ...] = ()
    stay: int = 0
    gates: tuple[Gate, ...] = ()
    entering: tuple[Entering, ...] = ()


@dataclass(frozen=True)
class Pass:
    """A backward pass.

    Attributes
    ----------
    requests : which requests it answers, as positions among all.
    spans : from the last step to the first.
    losses : (T,), the steps whose losses every row that is there takes in (`Chains`), or the newest (`Sliding`).
    row : (requests, T), the row or sum that a request sees at each step; -1 where it sees none.
    usages : (usages, requests), which of them belong to each usage.
    """

    requests: tuple[int, ...]
    spans: list[Span]
    losses: NDArray[np.bool_]
    row: NDArray[np.int64]
    usages: NDArray[np.bool_]

    @property
    def width(self) -> int:
        """The most rows or sums that are seen at a step."""
        return int(self.row.max(initial=-1)) + 1


@dataclass(frozen=True)
class Chains(Pass):
    """One row for each segment that is not part of a longer one."""


@dataclass(frozen=True)
class Sliding(Pass):
    """One row for each group of k1 losses, over `depth` steps.

    Attributes
    ----------
    k1, depth : TBPTT(k1, depth); each request's k2 is at most `depth`.
    newest : (T, sums), how many of the newest rows each sum takes in, ascending; 0 where there is no such sum.
    """

    k1: int
    depth: int
    newest: NDArray[np.int64]

    @property
    def places(self) -> int:
        """The most rows that are there at a step."""
        return self.depth // self.k1 + 1

    def rows(self, t: int) -> tuple[int, int]:
        """The first and one past the last row, counted from the first group of losses, that are there at step t."""
        groups = -(-len(self.losses) // self.k1)
        return t // self.k1, min(groups, (t + self.depth) // self.k1)


def passes(requests: Sequence[Request]) -> list[Pass]:
    """The passes that answer the requests; those whose losses agree as far as both go share one."""
    single: list[int] = []
    sliding: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    several: dict[int, list[int]] = defaultdict(list)
    families: list[NDArray[np.bool_]] = []
    for index in sorted(range(len(requests)), key=lambda k: -requests[k].seq_len):
        request = requests[index]
        if len(request.steps) == 1:
            single.append(index)
            continue
        family = _family(families, _mask(request.steps, request.seq_len))
        if _overlaps(request):
            assert isinstance(request.schedule, Windows)
            k1 = request.schedule.k1
            # A last window that is cut off at the end is a window of that length alone.
            alone = request.seq_len if request.seq_len % k1 else 0
            sliding[family, k1, alone].append(index)
        else:
            several[family].append(index)
    found: list[Pass] = []
    if single:
        longest = requests[single[0]].seq_len
        found.append(_chains(requests, single, np.zeros(longest, bool)))
    found += [_chains(requests, members, families[family]) for family, members in several.items()]
    found += [_sliding(requests, members, families[key[0]], key[1]) for key, members in sliding.items()]
    return found


def _mask(steps: NDArray[np.int64], seq_len: int) -> NDArray[np.bool_]:
    mask = np.zeros(seq_len, bool)
    mask[steps] = True
    return mask


def _family(families: list[NDArray[np.bool_]], mask: NDArray[np.bool_]) -> int:
    """The family of losses that `mask` begins like; masks come in falling order of length."""
    for family, other in enumerate(families):
        if np.array_equal(other[: len(mask)], mask):
            return family
    families.append(mask)
    return len(families) - 1


def _overlaps(request: Request) -> bool:
    """Whether the request's windows overlap, and do not all begin at the start: then it is not one row at a time."""
    schedule = request.schedule
    if not isinstance(schedule, Windows) or schedule.k1 == schedule.k2:
        return False
    return schedule.end(int(request.steps[-1]) + 1) > schedule.k2


# --- one row at a time ------------------------------------------------------------------------------------------------


class _Row:
    """A chain while it is found: steps top, top - 1, ... bottom, of which each user sees those down to its own."""

    def __init__(self, top: int, gate: Floats | None, entering: Floats | None):
        self.top, self.gate, self.entering, self.users = top, gate, entering, dict[int, int]()

    @property
    def bottom(self) -> int:
        return min(self.users.values())


def _chains(requests: Sequence[Request], members: Sequence[int], losses: NDArray[np.bool_]) -> Chains:
    T = max(requests[index].seq_len for index in members)
    losses = losses[:T]
    known: list[Floats] = []
    rows: dict[tuple[int, int, int], _Row] = {}
    for user, index in enumerate(members):
        bottoms, gate = _cuts(requests[index])
        through, into = _number(known, gate), _number(known, _entering(requests[index]))
        for top, bottom in _segments(bottoms, requests[index]):
            weights = (known[number] if number >= 0 else None for number in (through, into))
            row = rows.setdefault((top, through, into), _Row(top, *weights))
            row.users[user] = bottom
    seen = np.full((len(members), T), -1)
    usages = _Usages(len(members))
    spans = list(_spans(list(rows.values()), losses, seen, usages))
    return Chains(tuple(members), spans, losses, seen, usages.matrix())


def _cuts(request: Request) -> tuple[NDArray[np.int64], Floats | None]:
    """The first steps of the segments, ascending; and the weights of the gates within them, if any is not one."""
    schedule, T = request.schedule, request.seq_len
    if isinstance(schedule, Windows):
        if len(request.steps) == 1 or schedule.k1 < schedule.k2:
            return np.array([max(0, schedule.end(int(request.steps[-1]) + 1) - schedule.k2)]), None
        return np.arange(0, T, min(schedule.k1, T)), None
    weights = _of_runs(schedule.weights, T - 1)
    shut = (weights == 0.0).all(axis=0)
    bottoms = np.concatenate([[0], np.flatnonzero(shut) + 1])
    return bottoms, None if (weights[:, ~shut] == 1.0).all() else weights


def _entering(request: Request) -> Floats | None:
    """The weights with which the losses go on from their own steps, if any is not one."""
    if isinstance(request.schedule, Windows) or request.schedule.entering is None:
        return None
    weights = _of_runs(request.schedule.entering, request.seq_len)
    return None if (weights[:, request.steps] == 1.0).all() else weights


def _of_runs(weights: Floats, steps: int) -> Floats:
    """The weights of the first so many steps, (C, steps), or (1, steps) if they are the same for all runs."""
    weights = np.atleast_2d(weights)[:, :steps]
    return weights[:1] if (weights == weights[:1]).all() else weights


def _number(known: list[Floats], weights: Floats | None) -> int:
    """Which of the weights known these are, or begin like; -1 for None. Lengths come in falling order."""
    if weights is None:
        return -1
    for number, other in enumerate(known):
        if len(other) == len(weights) and np.array_equal(other[:, : weights.shape[1]], weights):
            return number
    known.append(weights)
    return len(known) - 1


def _segments(bottoms: NDArray[np.int64], request: Request) -> Iterator[tuple[int, int]]:
    """Top and bottom of each segment that has a loss; the top is its last loss."""
    ends = np.append(bottoms[1:], request.seq_len)
    losses = np.concatenate([[-1], request.steps])  # -1: none so far
    for top, bottom in zip(losses[np.searchsorted(request.steps, ends)].tolist(), bottoms.tolist(), strict=True):
        if top >= bottom:
            yield top, bottom


class _Usages:
    """Sets of users, numbered as they come up."""

    def __init__(self, users: int):
        self.users, self.known = users, dict[tuple[int, ...], int]()

    def number(self, users: Iterable[int]) -> int:
        return self.known.setdefault(tuple(sorted(users)), len(self.known))

    def matrix(self) -> NDArray[np.bool_]:
        matrix = np.zeros((len(self.known), self.users), bool)
        for users, number in self.known.items():
            matrix[number, list(users)] = True
        return matrix


def _spans(rows: list[_Row], losses: NDArray[np.bool_], seen: NDArray[np.int64], usages: _Usages) -> Iterator[Span]:
    """The spans between the steps where a row starts, or a user of one ends; fills in what is `seen`.

    Rows are in the order of their bottoms, so that those that end stand last.
    """
    starting = defaultdict(list)
    for row in rows:
        starting[row.top].append(row)
    edges = {0, *(row.top + 1 for row in rows), *(bottom for row in rows for bottom in row.users.values())}
    if losses.sum() * _SPARSE < len(losses):
        edges |= set((np.flatnonzero(losses) + 1).tolist())
    before: list[_Row] = []
    for hi, lo in pairwise(sorted(edges, reverse=True)):
        going_on = [row for row in before if row.bottom < hi]
        now = sorted(going_on + starting[hi - 1], key=lambda row: row.bottom)
        if now:
            usage = []
            for position, row in enumerate(now):
                users = [user for user, bottom in row.users.items() if bottom <= lo]
                seen[users, lo:hi] = position
                usage.append(usages.number(users))
            yield Span(
                lo,
                hi,
                tuple(usage),
                None
                if now[: len(going_on)] == going_on
                else tuple(before.index(row) for row in now if row in going_on),
                tuple(position for position, row in enumerate(now) if row.top == hi - 1),
                sum(row.bottom < lo for row in now),
                tuple(Gate(position, row.gate) for position, row in enumerate(now) if row.gate is not None),
                tuple(Entering(position, row.entering) for position, row in enumerate(now) if row.entering is not None),
            )
        before = now


# --- windows that overlap ---------------------------------------------------------------------------------------------


def _sliding(requests: Sequence[Request], members: Sequence[int], losses: NDArray[np.bool_], k1: int) -> Sliding:
    lengths = np.array([requests[index].seq_len for index in members])[:, None]
    T = int(lengths.max())
    groups = -(-T // k1)
    depths = [min(requests[index].schedule.k2, groups * k1) for index in members]  # type: ignore[union-attr]
    t = np.arange(T)
    newest = np.minimum((t + np.array(depths)[:, None]) // k1, -(-lengths // k1)) - t // k1
    newest[t >= lengths] = 0
    row = np.full(newest.shape, -1)
    sums = np.zeros((T, len(members)), np.int64)
    # Requests that take in equally many rows at a step see the same sum there; sums stand in ascending order.
    ranked = np.sort(newest, axis=0)
    distinct = np.diff(ranked, axis=0, prepend=0) > 0
    rank = np.cumsum(distinct, axis=0) - 1
    for place in range(len(members)):
        at = np.flatnonzero(distinct[place])
        sums[at, rank[place, at]] = ranked[place, at]
        same = newest[:, at] == ranked[place, at]
        row[:, at] = np.where(same, rank[place, at], row[:, at])
    usages = _Usages(len(members))
    edges = np.flatnonzero((np.diff(row, axis=1) != 0).any(axis=0)) + 1
    spans = []
    for hi, lo in pairwise([T, *edges[::-1].tolist(), 0]):
        users = row[:, lo]
        usage = tuple(usages.number(np.flatnonzero(users == seen).tolist()) for seen in range(users.max() + 1))
        spans.append(Span(lo, hi, usage))
    width = int(row.max()) + 1
    return Sliding(
        tuple(members), spans, losses[:T], row, usages.matrix(), k1=k1, depth=max(depths), newest=sums[:, :width]
    )
