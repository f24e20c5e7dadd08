"""Jacobians of a cell's steps and of products of many: growth rates (Lyapunov exponents) and singular values.

All of it comes from the cell's own backward maps: the rows of J_t = ds_t/ds_{t-1} are what the unit vectors become when
they are carried back a step, and rows carried on are rows of the products M_k = ds_T/ds_{T-k} = J_T J_{T-1} ... . So
the direction is the gradient's. Products of J and of its transposes have the same singular values, and the same
exponents in the long run, as the state's own perturbations have.

Rows are made orthonormal again before any of their digits is lost: [rows] J = L [rows], L lower triangular, whose
diagonal says how fast each further dimension grows (Benettin et al. 1980; Engelken, Wolf & Abbott 2023, "Lyapunov
spectra of chaotic recurrent neural networks"). Its logarithms are added up, so nothing leaves the range of numbers.
Singular values are those of a matrix diag(exp(scale)) `rows` that the factors L^T are multiplied into, by one-sided
Jacobi rotations, which find also the smallest with all their digits (Demmel & Veselic 1992, "Jacobi's method is more
accurate than QR"), however far apart the scales are.

What counts as an exact zero: a row that a step takes to zero, or into the span of those before it, as far as float64
can tell from a Jacobian whose rows and columns have been brought to norm 1. Everything here is in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gradscope import ensembles, plugins
from gradscope.errors import InputError, at_least
from gradscope.recurrence import Cell, Packed, Trace, first_of
from gradscope.scaled import Floats, Scaled
from gradscope.streams import stream
from gradscope.workspace import Workspace

POINTS = 64  # at which growth is recorded
_EPS = float(np.finfo(np.float64).eps)
_LOST = 1e4  # so much smaller than the largest may be what is left of a row that is made orthogonal to others
_LONGEST = 64  # steps between two of them
_FAR = 1e-120, 1e120  # sizes of rows beyond which they are looked at step by step
_GRADED = 1e3  # rows or columns of a Jacobian whose norms differ by more are scaled first
_ALIKE = np.log(1e3)  # singular values within this range have all their digits from LAPACK too
_SWEEP = 8  # factors after which the rows' order is seen to
_NOTHING = -1e300  # the scale of a zero row, where it must be a number
_FURTHEST = 300.0  # beyond this difference of scales a rotation is a projection
_MOST_TURNS = 60  # of Jacobi rotations over all pairs; ten are many
_LEAST_BLOCKS = 8  # of time, for a standard error


class Steps(Protocol):
    """T steps of C networks on B examples, at whose states Jacobians are taken."""

    @property
    def cell(self) -> Cell:
        """Of all the networks."""
        ...

    @property
    def extent(self) -> tuple[int, int, int]:
        """C, T, B."""
        ...

    @property
    def overflow(self) -> NDArray[np.int64]:
        """(C, B), the first step (1-based) at which a state left the range of numbers; 0 where none did."""
        ...

    def at(self, t: int) -> tuple[Packed, Floats]:
        """The parameters at the (0-based) step t, and the local derivatives (C, 1, B, L)."""
        ...


@dataclass(frozen=True)
class Tied:
    """The steps of a forward pass, all with the same weights."""

    cell: Cell
    packed: Packed
    trace: Trace

    @property
    def extent(self) -> tuple[int, int, int]:
        """C, T, B."""
        return self.trace.extent

    @property
    def overflow(self) -> NDArray[np.int64]:
        """(C, B), as `Trace` has it."""
        return self.trace.overflow

    def at(self, t: int) -> tuple[Packed, Floats]:
        """The parameters, and the local derivatives (C, 1, B, L)."""
        return self.packed, self.cell.local(self.trace, t, t + 1)


@dataclass(frozen=True)
class Untied:
    """Steps with a fresh W_hh each, the same for all examples: the products of random matrices that theory speaks of.

    Attributes
    ----------
    cell : one whose whole state is mixed by a single W_hh (n, n).
    params : name -> (C, ...); W_hh is not used.
    x : (C, T, B, m)
    state0 : (C, B, S), or None for zero.
    ensemble : of the draws.
    scale : (C,), what the ensemble's draw is multiplied by: its nominal radius. No draw is rescaled to a realised
        radius, so gaussian entries are independent N(0, scale^2 / n), as the law has them.
    seeds : (C,)

    Raises InputError for other cells, an unknown ensemble, or a negative scale.
    """

    cell: Cell
    params: Mapping[str, Floats]
    x: Floats
    state0: Floats | None
    ensemble: str
    scale: tuple[float, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        check_untied(self.cell)
        plugins.parse(ensembles.FAMILY, self.ensemble)
        for scale in self.scale:
            at_least(0, scale=scale)

    @property
    def extent(self) -> tuple[int, int, int]:
        """C, T, B."""
        C, T, B, _ = self.x.shape
        return C, T, B

    @property
    def overflow(self) -> NDArray[np.int64]:
        """(C, B)"""
        return self._run[1]

    def at(self, t: int) -> tuple[Packed, Floats]:
        """The parameters at step t, drawn again, and the local derivatives (C, 1, B, L)."""
        return self._packed(t), self._run[0][:, t : t + 1]

    @cached_property
    def _member(self) -> Any:
        return plugins.parse(ensembles.FAMILY, self.ensemble)

    def _packed(self, t: int) -> Packed:
        n = self.cell.hidden_size
        drawn = [
            self._member.draw(stream(seed, f"W_hh {self.ensemble} at step {t}"), n) * scale
            for seed, scale in zip(self.seeds, self.scale, strict=True)
        ]
        return self.cell.pack({**self.params, "W_hh": np.stack(drawn)})

    @cached_property
    def _run(self) -> tuple[Floats, NDArray[np.int64]]:
        """Local derivatives (C, T, B, L), and the overflow, of a forward pass that goes step by step."""
        _, T, _ = self.extent
        workspace, state, local, overflow = Workspace(), self.state0, [], []
        for t in range(T):
            trace = self.cell.forward(self._packed(t), self.x[:, t : t + 1], state, workspace)
            state = self.cell.state(trace, 1).copy()
            local.append(self.cell.local(trace, 0, 1).copy())
            overflow.append(trace.overflow * (t + 1))
        return np.concatenate(local, axis=1), first_of(np.stack(overflow), axis=0)


def check_untied(cell: Cell) -> None:
    """Raise InputError for a cell whose state is not mixed by a single W_hh (n, n)."""
    n = cell.hidden_size
    if cell.shapes().get("W_hh") != (n, n) or cell.state_size != n:
        raise InputError(
            f"false, for cell {type(cell).__name__.lower()}", where="tied", allowed="a cell with one W_hh (n, n)"
        )


# --- one step ---------------------------------------------------------------------------------------------------------


def jacobian(steps: Steps, t: int) -> Scaled:
    """ds_t/ds_{t-1} at the (0-based) step t, (C, B, S, S): rows of the new state, columns of the one before.

    A `Scaled` array, as weights may be of any size: `.value()` are the plain numbers.
    """
    C, _, B = steps.extent
    S = steps.cell.state_size
    rows = np.ascontiguousarray(np.broadcast_to(np.eye(S)[:, None], (C, S, B, S)))
    found = Scaled(*_carried(steps, rows, t + 1, t))
    found.renormalise()
    return Scaled(found.mantissa.swapaxes(1, 2), found.exponent.swapaxes(1, 2))


def log_norms(steps: Steps, at: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """log |J_t|_2, the largest singular value, at some (0-based) steps: (C, len(at), B); -inf for a zero Jacobian.

    Its mean over steps is an upper bound on the leading exponent, as |J J'| <= |J| |J'|.
    """
    found = []
    for t in at:
        exponent, rows = jacobian(steps, int(t)).aligned(axis=-1)
        with np.errstate(divide="ignore"):
            largest = np.log(np.linalg.svd(rows, compute_uv=False)[..., 0])
        found.append(largest + exponent[..., 0] * np.log(2.0))
    return np.stack(found, axis=1)


def _carried(steps: Steps, rows: Floats, hi: int, lo: int) -> tuple[Floats, NDArray[np.int64]]:
    """Rows (C, K, B, S) carried back over the steps lo <= t < hi, and their exponents (C, K, B)."""
    cell, adjoint = steps.cell, rows.copy()
    exponent = np.zeros(rows.shape[:-1], np.int64)
    delta = np.empty((*rows.shape[:-1], cell.delta_size))
    for t in range(hi - 1, lo - 1, -1):
        packed, local = steps.at(t)
        cell.delta(packed, local, adjoint, delta)
        cell.carry(packed, local, delta, adjoint)
        exponent += packed.back_exponent[:, None, None]
    return adjoint, exponent


# --- orthonormal rows on their way back -------------------------------------------------------------------------------


class Factor(NamedTuple):
    """[rows] J = exp(shift) L [new rows], over some steps.

    Attributes
    ----------
    L : (C, B, K, K), lower triangular, unless a row has come to depend on others that is not among the last. The new
        rows are then fewer, and the columns of those that are no more are zero.
    shift : (C, B)
    """

    L: Floats
    shift: NDArray[np.float64]

    def logs(self) -> NDArray[np.float64]:
        """The logarithms of the diagonal, (C, B, K): by how much each further dimension has grown."""
        with np.errstate(divide="ignore"):
            diagonal = np.log(np.abs(np.diagonal(self.L, axis1=-2, axis2=-1)))
        return diagonal + self.shift[..., None]


class Flag:
    """Orthonormal rows of each network and example, carried back: the first one, two, ... span a flag of subspaces.

    Attributes
    ----------
    rows : (C, K, B, S), those that are left. Where an example has fewer than others, its last ones are zero.
    """

    def __init__(self, steps: Steps, start: Floats):
        C, _, B = steps.extent
        k, S = start.shape
        self.rows: Floats = np.ascontiguousarray(np.broadcast_to(start[:, None], (C, k, B, S)))
        self._steps, self._longest = steps, 1

    def back(self, hi: int, lo: int) -> Iterator[Factor]:
        """Take the rows back over the steps lo <= t < hi, some at a time, as many as leave all digits."""
        while hi > lo and self.rows.shape[1]:
            length = min(self._longest, hi - lo)
            rows, exponent = _carried(self._steps, self.rows, hi, hi - length)
            factor, rows, lost = self._factorised(rows, exponent[:, 0] * np.log(2.0), length)
            if lost.any() and length > 1:
                self._longest = length // 2
                continue
            if lost.any():
                self._with_care(factor, rows, lost, hi - 1)
            hi -= length
            self.rows = np.ascontiguousarray(rows[:, :, : _alive(rows)].swapaxes(1, 2))
            yield factor

    def _factorised(self, rows: Floats, shift: Floats, length: int) -> tuple[Factor, Floats, NDArray[np.bool_]]:
        """The factor of rows carried back so many steps, the new rows (C, B, K, S), and where (C, B) digits were lost.

        Sets how long to go the next time: what came near the span of others did so a little more each step.
        """
        rows = rows.swapaxes(1, 2)
        was = (self.rows != 0.0).any(axis=-1).swapaxes(1, 2)
        size = np.abs(rows).max(axis=-1)
        lost = ~(~was | ((size > _FAR[0]) & (size < _FAR[1]))).all(axis=-1)
        top = np.frexp(np.where(np.isfinite(size), size, 0.0).max(axis=-1))[1]
        rows = np.ldexp(np.where(np.isfinite(rows), rows, 0.0), -top[..., None, None])
        L, new = _lq(rows)
        diagonal = np.abs(np.diagonal(L, axis1=-2, axis2=-1))
        largest = np.linalg.norm(L, axis=-1).max(axis=-1, keepdims=True)
        with np.errstate(over="ignore"):
            near = np.divide(largest, diagonal, out=np.full(was.shape, np.inf), where=diagonal > 0.0)
        near[~was] = 1.0
        lost |= (near > _LOST).any(axis=-1)
        if not lost.any():
            a_step = np.log(near.max()) / length
            self._longest = int(np.clip(0.8 * np.log(_LOST) / max(a_step, 1e-9), 1, min(_LONGEST, length + 8)))
        new *= was[..., None]
        return Factor(L, shift + top * np.log(2.0)), new, lost

    def _with_care(self, factor: Factor, rows: Floats, lost: NDArray[np.bool_], t: int) -> None:
        """Write the factor of a single step and the new rows, where digits were lost, by scaling its Jacobian."""
        J = jacobian(self._steps, t)
        for c, b in zip(*np.nonzero(lost), strict=True):
            top, plain = J[c, b].aligned(axis=0)
            factor.L[c, b], rows[c, b] = _scaled_lq(self.rows[c, :, b], plain)
            factor.shift[c, b] = float(top[0]) * np.log(2.0)


def _alive(rows: Floats) -> int:
    """How many rows (C, B, K, S) are there in any example."""
    return int(np.flatnonzero(rows.any(axis=(0, 1, 3))).max(initial=-1)) + 1


def _lq(rows: Floats) -> tuple[Floats, Floats]:
    """L (..., K, K) and orthonormal rows (..., K, S) of rows (..., K, S), K <= S.

    Columns of zeros stay so, and rows that have an entry each, of its own column, are not rounded.
    """
    entries = rows != 0.0
    columns = entries.any(axis=-2, keepdims=True)
    if (entries.sum(axis=-1) <= 1).all() and (entries.sum(axis=-2) <= 1).all():
        return rows.sum(axis=-1, keepdims=True) * np.eye(rows.shape[-2]), entries.astype(np.float64)
    Q, R = np.linalg.qr(rows.swapaxes(-1, -2))
    return R.swapaxes(-1, -2), Q.swapaxes(-1, -2) * columns


def _scaled_lq(rows: Floats, J: Floats) -> tuple[Floats, Floats]:
    """L (K, K) and new rows (K, S) of orthonormal rows (K, S) times J (S, S), exact also where L is very small.

    J = diag(d) B diag(e), with rows and columns of B of norm about 1: the rows are factorised times d, times B, times
    e. Only of what B does can it be in doubt whether it is zero.
    """
    L, kept = np.eye(len(rows)), J.any(axis=1)
    d, B = _scaled_rows(J[kept])
    columns = B.any(axis=0)
    e, B = _scaled_rows(B[:, columns].T)
    if not kept.all():
        more, rows = _independent(rows[:, kept])
        L = L @ more
    more, rows = _graded(rows, d)
    L = L @ more
    more, rows = _independent(rows @ B.T)
    L = L @ more
    more, rows = _graded(rows, e)
    new = np.zeros((len(rows), len(J)))
    new[:, columns] = rows
    return L @ more, new


def _scaled_rows(matrix: Floats) -> tuple[Floats, Floats]:
    """Norms of a matrix's rows, none of them zero, and the rows divided by them; by the largest if they are alike."""
    top = np.abs(matrix).max(axis=1, keepdims=True, initial=0.0)
    norms = top[:, 0] * np.linalg.norm(matrix / top, axis=1)
    if norms.max(initial=0.0) <= _GRADED * norms.min(initial=np.inf):
        norms = np.full(len(norms), norms.max(initial=0.0))
    return norms, matrix / norms[:, None]


def _independent(rows: Floats) -> tuple[Floats, Floats]:
    """L and new rows of rows (K, any) that come from vectors of norm 1: as many as are independent, then zeros."""
    rounding = 4.0 * max(rows.shape) * _EPS
    kept = np.flatnonzero(rows.any(axis=1))
    while True:
        triangle, Q = _lq(rows[kept])
        small = np.abs(np.diagonal(triangle)) <= rounding
        first = int(np.argmax(small)) if small.any() else len(Q)
        Q, rest = Q[:first], rows[kept[first:]]
        if (np.linalg.norm(rest - rest @ Q.T @ Q, axis=1) <= rounding).all():
            break
        kept = np.delete(kept, first)  # those after it are not in the span of those before
    L, new = np.zeros((len(rows), len(rows))), np.zeros_like(rows)
    L[:, :first], new[:first] = rows @ Q.T, Q
    L[kept[:first], :first] = triangle[:first, :first]
    return L, new


def _graded(rows: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """L and new rows of orthonormal rows (K, any) times weights of their columns, which may be very unequal.

    Householder's reflections keep the digits of small columns if the large ones come first (Cox & Higham 1998).
    """
    if weights.size and (weights == weights[0]).all():
        return weights[0] * np.eye(len(rows)), rows
    alive = _alive(rows[None, None])
    order = np.argsort(-weights, kind="stable")
    L, new = np.zeros((len(rows), len(rows))), np.zeros_like(rows)
    L[:alive, :alive], found = _lq((rows[:alive] * weights)[:, order])
    new[:alive, order] = found
    return L, new


# --- exponents --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Growth:
    """How rows have grown on their way back.

    Attributes
    ----------
    steps : (M,), numbers of steps, ascending.
    logs : (C, M, B, K), the growth of each further dimension over so many steps, in nats; -inf once it is zero, nan
        where states left the range of numbers. Ordered by the last, in descending order.
    """

    steps: NDArray[np.int64]
    logs: NDArray[np.float64]

    @property
    def rates(self) -> NDArray[np.float64]:
        """Growth in nats a step over all steps, (C, B, K): the finite-time exponents."""
        return self.logs[:, -1] / self.steps[-1]

    def error(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The standard error of the rates' mean over examples, (C, K), and its degrees of freedom.

        From blocks of time (batch means). They are doubled in length while neighbours are correlated, as long as 8
        are left: growth has a memory, and a random matrix that all examples share moves all of them together, so
        neither steps nor examples are independent draws. nan where the growth is not finite or blocks are too few.
        """
        with np.errstate(invalid="ignore"):
            grown = np.diff(self.logs.mean(axis=2), axis=1, prepend=0.0)
        lengths = np.diff(self.steps, prepend=0).astype(np.float64)
        shape = (len(grown), grown.shape[-1])
        error, freedom, open_ = np.full(shape, np.nan), np.ones(shape, np.int64), np.ones(shape, bool)
        while (blocks := len(lengths)) >= _LEAST_BLOCKS and open_.any():
            rates = grown / lengths[:, None]
            with np.errstate(invalid="ignore", divide="ignore"):
                apart = rates - (grown.sum(axis=1) / lengths.sum())[:, None]
                squares = (apart**2).sum(axis=1)
                correlation = np.abs((apart[:, 1:] * apart[:, :-1]).sum(axis=1) / squares)
            error[open_] = np.sqrt(squares / (blocks * (blocks - 1)))[open_]
            freedom[open_] = blocks - 1
            open_ &= correlation > 2.0 / np.sqrt(blocks)
            pairs = blocks // 2  # of an odd number, the first goes with the second
            starts = np.arange(pairs) * 2 + np.where(np.arange(pairs) > 0, blocks % 2, 0)
            grown, lengths = np.add.reduceat(grown, starts, axis=1), np.add.reduceat(lengths, starts)
        return error, freedom


def spectrum(steps: Steps, k: int, washout: int, warmup: int, seed: int = 0, points: int = POINTS) -> Growth:
    """The growth of k dimensions, back from the last step but `warmup` to the first but `washout`.

    Parameters
    ----------
    k : how many, 1 to S.
    washout : first steps that are left out, in which states have not settled.
    warmup : last steps, over which rows turn into the directions that they then grow in, and are not measured.
    seed : of the directions in which rows start.
    points : how many times growth is recorded, at most.
    """
    C, T, B = steps.extent
    top = T - warmup
    # In random directions, the same for all, so that those that come to depend on others are the last.
    start = _lq(stream(seed, "rows of a flag").standard_normal((k, steps.cell.state_size)))[1]
    flag, total = Flag(steps, start), np.zeros((C, B, k))
    _add(total, flag, T, top)
    total[np.isfinite(total)] = 0.0
    marks = np.unique(np.linspace(0, top - washout, min(points, top - washout) + 1).astype(np.int64))
    logs = np.empty((C, len(marks) - 1, B, k))
    for number, (start, end) in enumerate(pairwise(marks.tolist())):
        _add(total, flag, top - start, top - end)
        logs[:, number] = total
    logs[np.broadcast_to((steps.overflow > 0)[:, None, :, None], logs.shape)] = np.nan
    order = np.argsort(-logs[:, -1:], axis=-1, kind="stable")
    return Growth(marks[1:], np.take_along_axis(logs, order, axis=-1))


def _add(total: NDArray[np.float64], flag: Flag, hi: int, lo: int) -> None:
    """Add the growth over the steps lo <= t < hi to (C, B, k)."""
    for factor in flag.back(hi, lo):
        logs = factor.logs()
        total[..., : logs.shape[-1]] += logs
        total[..., logs.shape[-1] :] = -np.inf
    total[..., flag.rows.shape[1] :] = -np.inf


def kaplan_yorke(exponents: NDArray[np.float64], state_size: int) -> float:
    """The dimension of the attractor by Kaplan & Yorke (1979), from exponents in descending order.

    j + (sum of the first j) / |the next|, for the largest j for which the sum is not negative. 0 if already the first
    is negative, `state_size` if no sum is. Not a number if the exponents given are too few to tell, or not numbers.

    >>> kaplan_yorke(np.array([0.5, 0.0, -1.0]), 3), kaplan_yorke(np.array([-0.1, -0.2]), 2)
    (2.5, 0.0)
    """
    sums = np.cumsum(exponents)
    if np.isnan(sums).any():
        return float("nan")
    negative = np.flatnonzero(sums < 0.0)
    if not negative.size:
        return float(state_size) if len(exponents) == state_size else float("nan")
    j = int(negative[0])
    return j + float(sums[j - 1] / -exponents[j]) if j else 0.0


# --- singular values --------------------------------------------------------------------------------------------------


def singular_values(steps: Steps, lags: Sequence[int]) -> NDArray[np.float64]:
    """log10 of the singular values of ds_T/ds_{T-k} at some lags k >= 1, (C, lags, B, S), in descending order.

    -inf for exact zeros, nan where states left the range of numbers. The condition number is the first over the last.

    They are those of Jacobians that differ from the given ones by rounding, and so have all digits that these
    determine.
    """
    C, T, B = steps.extent
    S = steps.cell.state_size
    flag, found = Flag(steps, np.eye(S)), np.full((C, len(lags), B, S), -np.inf)
    scaled, before, number = _Rows(np.zeros((C, B, S)), np.broadcast_to(np.eye(S), (C, B, S, S))), 0, 0
    for place in np.argsort(lags, kind="stable"):
        lag = int(lags[place])
        for factor in flag.back(T - before, T - lag):
            scaled, number = scaled.times(factor).first(flag.rows.shape[1]), number + 1
            if number % _SWEEP == 0:
                scaled, flag.rows = scaled.ordered(flag.rows)
        scaled, flag.rows = scaled.ordered(flag.rows)
        values = scaled.singular()
        found[:, place, :, : values.shape[-1]] = values / np.log(10.0)
        before = lag
    found[np.broadcast_to((steps.overflow > 0)[:, None, :, None], found.shape)] = np.nan
    return found


class _Rows(NamedTuple):
    """X = diag(exp(scale)) unit, such that M^T = [rows of the flag]^T X V with V^T V = 1, which is not kept.

    Attributes
    ----------
    scale : (C, B, K), natural logarithms of the norms of X's rows, -inf for zero.
    unit : (C, B, K, any), rows of norm 1, or zero.
    """

    scale: NDArray[np.float64]
    unit: Floats

    @classmethod
    def of(cls, scale: NDArray[np.float64], rows: Floats) -> _Rows:
        """Rows of any norm, times exp(scale)."""
        top = np.abs(rows).max(axis=-1, initial=0.0)
        rows = rows / np.where(top > 0.0, top, 1.0)[..., None]
        norm = np.linalg.norm(rows, axis=-1)
        with np.errstate(divide="ignore"):
            scale = np.where(norm > 0.0, scale + np.log(top) + np.log(norm), -np.inf)
        return cls(scale, rows / np.where(norm > 0.0, norm, 1.0)[..., None])

    def first(self, k: int) -> _Rows:
        """Without the last rows, which are zero."""
        return _Rows(self.scale[..., :k], self.unit[..., :k, :])

    def times(self, factor: Factor) -> _Rows:
        """exp(shift) L^T X."""
        upper, scale = factor.L.swapaxes(-1, -2), _finite(self.scale)
        top = np.where(upper != 0.0, scale[..., None, :], _NOTHING).max(axis=-1)
        weights = upper * np.exp(np.minimum(scale[..., None, :] - top[..., None], 0.0))
        return self.of(np.where(top > _NOTHING, top + factor.shift[..., None], -np.inf), weights @ self.unit)

    def ordered(self, flag: Floats) -> tuple[_Rows, Floats]:
        """X and the flag's rows (C, K, B, S), turned so that X is nearly diagonal, and its scales descend.

        X = Y V with Y lower triangular, and Y = Q Z with Z upper triangular: the singular values of Z are those of X,
        and its rows are the nearer to orthogonal the further its scales lie apart (two steps of the QR iteration).
        """
        order = np.argsort(-self.scale, axis=-1, kind="stable")
        scale = np.take_along_axis(_finite(self.scale), order, axis=-1)
        unit = np.take_along_axis(self.unit, order[..., None], axis=-2)
        columns = np.argsort(
            -np.linalg.norm(unit, axis=-2), axis=-1, kind="stable"
        )  # large ones first, as in `_graded`
        unit = np.take_along_axis(unit, columns[..., None, :], axis=-1)
        lower, _ = _lq(unit)
        apart = np.minimum(scale[..., :, None] - scale[..., None, :], 0.0)
        Q, R = np.linalg.qr(lower * np.exp(apart))
        rows = np.take_along_axis(flag.swapaxes(1, 2), order[..., None], axis=-2)
        turned = np.ascontiguousarray((Q.swapaxes(-1, -2) @ rows).swapaxes(1, 2))
        return self.of(scale, R * np.exp(np.minimum(apart.swapaxes(-1, -2), 0.0))), turned

    def singular(self) -> NDArray[np.float64]:
        """Natural logarithms of the singular values, (C, B, K), in descending order."""
        C, B, K = self.scale.shape
        if K == 0:
            return self.scale
        scale, unit = self.scale.reshape(C * B, K), self.unit.reshape(C * B, K, -1)
        top = scale.max(axis=-1, keepdims=True)
        if np.isfinite(top).all() and (scale > top - _ALIKE).all():
            found = top + np.log(np.linalg.svd(np.exp(scale - top)[..., None] * unit, compute_uv=False))
        else:
            found = _rotated(_finite(scale), unit.copy())
            found[found <= _NOTHING / 2] = -np.inf
        return -np.sort(-found, axis=-1).reshape(C, B, K)


def _finite(scale: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(scale, _NOTHING)


def _rotated(scale: NDArray[np.float64], unit: Floats) -> NDArray[np.float64]:
    """Natural logarithms of the singular values of N matrices diag(exp(scale)) unit, (N, K), in no order.

    One-sided Jacobi: pairs of rows are turned until all are orthogonal. All pairs of a round of a tournament are turned
    at once. `unit` (N, K, any) is overwritten.
    """
    K, enough = scale.shape[-1], 4.0 * unit.shape[-1] * _EPS
    rounds = _tournament(K)
    for _ in range(_MOST_TURNS):
        worst = 0.0
        for p, q in rounds:
            a, b = unit[:, p], unit[:, q]
            cosine = np.vecdot(a, b)
            largest = float(np.abs(cosine).max(initial=0.0))
            worst = max(worst, largest)
            if largest <= enough:
                continue
            apart = np.clip(scale[:, q] - scale[:, p], -_FURTHEST, _FURTHEST)
            lever = np.sinh(apart)  # (|x_q|^2 - |x_p|^2) / (2 |x_p| |x_q|)
            length = np.abs(lever) + np.hypot(cosine, lever)
            turn = np.where(lever < 0.0, -cosine, cosine)
            tangent = np.divide(turn, length, out=np.zeros_like(cosine), where=length > 0.0)
            log_cosine = -0.5 * np.log1p(tangent**2)
            for index, new in (
                (p, a - (tangent * np.exp(apart))[..., None] * b),
                (q, b + (tangent * np.exp(-apart))[..., None] * a),
            ):
                norm = np.sqrt(np.vecdot(new, new))
                zero = norm == 0.0
                norm[zero] = 1.0
                unit[:, index] = new / norm[..., None]
                scale[:, index] = np.where(zero, _NOTHING, scale[:, index] + np.log(norm) + log_cosine)
        if worst <= enough:
            break
    return scale


def _tournament(players: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rounds of pairs in which everybody meets everybody once."""
    circle = list(range(players + players % 2))
    rounds = []
    for _ in range(len(circle) - 1):
        half = len(circle) // 2
        pairs = zip(circle[:half], circle[: half - 1 : -1], strict=True)
        met = np.array([sorted(pair) for pair in pairs if max(pair) < players], np.int64).reshape(-1, 2)
        rounds.append((met[:, 0], met[:, 1]))
        circle[1:] = circle[-1:] + circle[1:-1]
    return rounds
