"""Rows on their way back in time: one pass over the trace of some networks, a block of steps at a time.

A block is short enough that what is worked on stays in the cache. Within it the exponents of the rows stand still; they
are seen to between blocks, and only where a norm has come near the end of its range. Where digits may have been lost
within a block, `OutOfRangeError` is raised, and the pass has to be made again with care: a step at a time.

Everything is for the *sum* of the step losses, and weight gradients are summed over examples. Shape letters are those
of `gradscope.recurrence`; b steps of a block, G sums, U usages (see `gradscope.passes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gradscope.passes import Chains, Pass, Sliding, Span
from gradscope.readout import Injection
from gradscope.recurrence import SMALL_PRODUCT, Cell, Packed, Trace, by_group, length, outer_sum
from gradscope.scaled import Floats, Scaled, log10_of, zeros
from gradscope.workspace import Workspace

_BLOCK = 8  # steps of a block, at most
_FEW_ROWS = 32  # or as many as have so few rows, in float64, whose range is wide: calls would be most of the time
_BLOCK_ROWS = 512  # rows that are enough for a large product (steps by examples)
_SLIDING_BYTES = 200e3  # of overlapping windows' rows that go back a step together


class OutOfRangeError(Exception):
    """A norm left the range of its numbers within a block, and digits may be lost."""


@dataclass(frozen=True)
class Work:
    """Some of the networks, their forward pass and their losses."""

    runs: slice
    cell: Cell
    packed: Packed
    trace: Trace
    injection: Injection

    def of(self, runs: slice) -> Work:
        """The same for some of the networks."""
        return Work(runs, self.cell, self.packed.of(runs), self.trace.of(runs), self.injection.of(runs))

    def own(self, weights: Floats) -> Floats:
        """The runs' own among weights (C, T) of all runs; or (1, T), where they are the same for all."""
        return weights if len(weights) == 1 else weights[self.runs]

    @cached_property
    def smallest_factor(self) -> float:
        """No vector is multiplied by less in a step: the smallest of local factors and of weights, zeros left out.

        A state of several parts or layers passes through several of them.
        """
        factors = (self.cell.local(self.trace, t, t + 1) for t in range(self.trace.extent[1]))
        smallest, passed = min(_smallest(part) for part in factors), self.cell.state_size // self.cell.hidden_size
        return float((smallest * min(map(_smallest, self.packed.all_back), default=1.0)) ** passed)

    def well_in_range(self, squares: Floats) -> bool:
        """Whether squared norms are far from the ends of their range; OutOfRangeError if digits may have been lost."""
        limits = np.finfo(squares.dtype)
        low, high = squares.min(initial=1.0), squares.max(initial=1.0)
        if low == 0.0:
            low = squares.min(initial=1.0, where=squares != 0.0)
            # A zero may be an underflow, if a step can take the square before it so far: that in this block, or, at its
            # beginning, the last of the block before, which is well in range.
            before = float(min(low, 2.0 ** (0.4 * limits.minexp)))
            if self.smallest_factor * before**0.5 <= 2.0 ** (0.5 * (limits.minexp - limits.nmant)):
                raise OutOfRangeError
        if low > 2.0 ** (0.4 * limits.minexp) and high < 2.0 ** (0.4 * limits.maxexp):
            return True
        if not (low > 2.0 ** (0.95 * limits.minexp) and high < 2.0 ** (0.95 * limits.maxexp)):
            raise OutOfRangeError
        return False


def _smallest(values: Floats) -> np.float64:
    """The smallest magnitude but for zeros; 1 if there is none."""
    return np.float64(np.min(np.abs(values), initial=1.0, where=values != 0.0))


class Seen:
    """What a pass has seen so far of some runs.

    Attributes
    ----------
    plan : the pass.
    squares : (parts, C, T, K, B), squared norms of the mantissas of its K rows or sums, those of each part of the state
        apart; what somebody left where none was.
    sums : (U, C G, P, W), the weight gradients of its usages, those of G groups of examples apart; of those in `begun`.
    """

    def __init__(self, plan: Pass, cell: Cell, trace: Trace, workspace: Workspace, name: str, groups: int = 1):
        C, _, B, _ = trace.inputs.shape
        dtype = trace.inputs.dtype
        self.plan, self._inputs, self._wide, self._groups = plan, trace.inputs, trace.wide, groups
        self._products, self._scattered = cell.products, _scattered(cell)
        shape = (len(cell.parts), C, len(plan.losses), plan.width, B)
        self.squares = workspace.array(f"squares {name}", shape, dtype)
        self._exponents: list[NDArray[np.int64]] = []  # of the squares' mantissas, for all runs, once there is one
        self._runs = slice(None)
        sums = workspace.array(f"sums {name}", (len(plan.usages), C * groups, *cell.weights_shape), dtype)
        self.sums = Scaled(sums, np.zeros(sums.shape[:-1], np.int64))
        self.begun = set[int]()
        self._whole = self

    def of(self, runs: slice) -> Seen:
        """The same for some of the runs: what is added there is seen here."""
        part = copy(self)
        part._inputs, part._runs, part.squares = self._inputs[runs], runs, self.squares[:, runs]
        own = slice(runs.start * self._groups, runs.stop * self._groups)
        part._whole, part.sums, part.begun = self, self.sums[:, own], set()
        return part

    def add(self, span: Span, lo: int, hi: int, delta: Floats, exponent: NDArray[np.int64] | None) -> None:
        """Take in a block: delta (C, K, b, B, D), with exponents (C, K, b, B) unless all are zero."""
        C, K, b, B, D = delta.shape
        G = self._groups
        inputs = by_group(self._inputs[:, lo:hi], G, 2).reshape(C * G, b * B // G, -1)
        rows = by_group(delta, G, 3).reshape(C * G, K, b * B // G, D)
        exponents = None
        if exponent is not None or self._wide:
            exponent = np.zeros((C, K, b, B), np.int64) if exponent is None else exponent
            exponents = by_group(exponent, G, 3).reshape(C * G, K, b * B // G)
        for usage in span.usage if self._scattered else ():
            if usage not in self.begun:
                self.sums.mantissa[usage], self.sums.exponent[usage] = 0.0, 0
        for at, columns in self._products:
            self._add_product(span, inputs[..., at], rows[..., columns], exponents, at)
        self.begun.update(span.usage)
        if exponent is not None and not self._exponents:
            self._exponents.append(np.zeros(self._whole.squares.shape[1:], np.int64))
        if self._exponents:
            found = 0 if exponent is None else exponent.swapaxes(1, 2)
            self._exponents[0][self._runs, lo:hi, :K] = found

    def _add_product(
        self, span: Span, inputs: Floats, rows: Floats, exponents: NDArray[np.int64] | None, at: slice
    ) -> None:
        """Add inputs^T rows, for rows (C G, K, R, D) with exponents (C G, K, R) if any, `at` its rows of the sums."""
        width = rows.shape[-1]
        if exponents is None:
            product = np.empty((len(inputs), inputs.shape[2], width), rows.dtype)
            for position, usage in enumerate(span.usage):
                new = usage not in self.begun
                part = self.sums[usage, :, at]
                own = part.mantissa[..., :width]
                np.matmul(inputs.swapaxes(1, 2), rows[:, position], out=own if new else product)
                if new:
                    part.exponent[...] = 0
                else:
                    np.add(own, product, out=own)
            return
        parts = outer_sum(inputs, Scaled(rows, exponents), self._wide)
        for position, usage in enumerate(span.usage):
            part = self.sums[usage, :, at]
            if usage not in self.begun:
                part.mantissa[...], part.exponent[...] = 0.0, 0
            Scaled(part.mantissa[..., :width], part.exponent).add(parts[:, position])

    def log10_norms(self) -> NDArray[np.float64]:
        """log10 of the norms, (parts, C, T, K, B)."""
        return log10_of(self.squares, self._exponents[0] if self._exponents else np.zeros((), np.int64))


def _scattered(cell: Cell) -> bool:
    """Whether the cell's products leave some of its weights' gradient zero."""
    P, W = cell.weights_shape
    return sum(length(rows) * length(columns) for rows, columns in cell.products) < P * W


def norms_of_parts(cell: Cell, adjoints: Floats, out: Floats) -> None:
    """Write the squared norms of the parts of adjoints (..., S) to `out` (parts, ...)."""
    for squares, (first, *more) in zip(out, cell.parts.values(), strict=True):
        np.vecdot(adjoints[..., first], adjoints[..., first], out=squares)
        for columns in more:
            squares += np.vecdot(adjoints[..., columns], adjoints[..., columns])


def forget_lost(squares: Floats, lost: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Put nan in the stead of squared norms of parts (parts, C, K, B) whose digits are lost.

    The parts of a state share an exponent. One that is so much smaller than the others that its square is at the end of
    its range is not known from there on: a zero may be an underflow where a step before, as `lost` (parts, C, 1, B)
    says, digits were lost. Which were lost at this step is returned. A state of one part has the exponent to itself.
    """
    if len(squares) == 1:
        return lost
    tiny = squares < 2.0 ** (0.9 * np.finfo(squares.dtype).minexp)
    gone = tiny & ((squares > 0.0) | lost)
    squares[gone] = np.nan
    found: NDArray[np.bool_] = gone.any(axis=2, keepdims=True)
    return found


class Piece(NamedTuple):
    """Steps lo <= t < hi of a span."""

    span: Span
    lo: int
    hi: int

    @property
    def starts(self) -> bool:
        """Whether rows start at its last step."""
        return self.hi == self.span.hi and bool(self.span.born)


class Block(NamedTuple):
    """Steps that go back together, and what is worked on there.

    Attributes
    ----------
    pieces : neighbours, the last step first.
    local : (C, b, B, L), the cell's local derivatives.
    injected : (C, b, B, S), what the losses inject; None if no row takes any of it in.
    adjoint : (b, C, 1, B, S), room for a lone row at each step.
    delta, squares : (C, K, b, B, D) and (parts, C, b, K, B), to be found.
    """

    pieces: Sequence[Piece]
    local: Floats
    injected: Scaled | None
    adjoint: Floats
    delta: Floats
    squares: Floats


def _pieces(plan: Pass, longest: int) -> Iterator[Piece]:
    """The spans of a pass, cut in pieces of so many steps at most."""
    for span in plan.spans:
        for hi in range(span.hi, span.lo, -longest):
            yield Piece(span, max(span.lo, hi - longest), hi)


def _lone(span: Span) -> bool:
    """Whether a span has a single row, which losses enter as they are."""
    return len(span.usage) == 1 and not span.entering


def _together(pieces: Iterable[Piece], longest: int) -> Iterator[list[Piece]]:
    """The pieces of a block at a time: short spans of lone rows that are seen alike are one block."""
    block: list[Piece] = []
    for piece in pieces:
        if block:
            above = block[-1]
            alike = _lone(piece.span) and piece.span.usage == above.span.usage
            if not alike or piece.hi != above.lo or block[0].hi - piece.lo > longest:
                yield block
                block = []
        block.append(piece)
    yield block


def chains(work: Work, plan: Chains, seen: Seen, careful: bool) -> Iterator[int]:
    """Rows that are each seen by themselves: full, chunked, random truncation, and single losses."""
    cell, packed, trace, width = work.cell, work.packed, work.trace, plan.width
    (C, _, B), dtype = trace.extent, trace.inputs.dtype
    longest = 1 if careful else _block(B, prod(cell.weights_shape), dtype)
    adjoint = zeros((C, width, B, cell.state_size), dtype)
    lone = np.empty((longest, C, 1, B, cell.state_size), dtype)
    delta = np.empty((C, width, longest, B, cell.delta_size), dtype)
    plain = not careful and work.injection.plain  # no exponents so far
    lost = np.zeros((len(cell.parts), C, 1, B), bool)
    for together in _together(_pieces(plan, longest), longest):
        for pieces in [together] if plain else [[piece] for piece in together]:
            span, lo, hi = pieces[0].span, pieces[-1].lo, pieces[0].hi
            K = len(span.usage)
            rows = adjoint[:, :K]
            if hi == span.hi:
                _rearrange(rows, span, adjoint)
            taken = np.count_nonzero(plan.losses[lo:hi]) or any(piece.starts for piece in pieces)
            injected = work.injection.at(lo, hi) if taken else None
            local, squares = cell.local(trace, lo, hi), seen.squares[:, :, lo:hi, :K]
            block = Block(pieces, local, injected, lone[: hi - lo], delta[:, :K, : hi - lo], squares)
            onward: dict[int, Scaled] = {}
            if plain and _lone(span):
                _one_row(work, plan, block, rows.mantissa)
            else:
                onward = _rows(work, plan, block, rows, plain, careful)
            in_range = not careful and work.well_in_range(squares)
            exponent = None if plain else np.broadcast_to(rows.exponent[:, :, None], (C, K, hi - lo, B))
            seen.add(span, lo, hi, block.delta, exponent)
            if careful:
                lost = forget_lost(squares[:, :, 0], lost)
                for row, vectors in onward.items():
                    rows.exponent[:, [row]] = vectors.exponent
            if not in_range:
                rows.exponent[...] += packed.back_exponent[:, None, None]
                rows.level()
                plain = plain and not rows.exponent.any()
            yield lo


def _one_row(work: Work, plan: Chains, block: Block, row: Floats) -> None:
    """Take a lone row (C, 1, B, S) without exponents through a block.

    In a small network most of the time is that of the calls: what can be done for all steps at once is done once.
    """
    cell, packed, hi = work.cell, work.packed, block.pieces[0].hi
    # All for the last step first; arrays (b, C, 1, B, ·).
    takes = plan.losses[block.pieces[-1].lo : hi][::-1].tolist()
    local, delta = block.local.swapaxes(0, 1)[::-1, :, None], block.delta.transpose(2, 0, 1, 3, 4)[::-1]
    injected = block.injected.mantissa.swapaxes(0, 1)[::-1, :, None] if block.injected else block.adjoint  # never taken
    arrays = [injected, block.adjoint, local, delta]
    if single := len(row) == 1:  # as in `multiply`
        packed, row, arrays = packed.of(0), row[0, 0], [array[:, 0, 0] for array in arrays]
    steps = zip(*arrays, strict=True)
    for piece in block.pieces:
        span, passing = piece.span, None
        if piece.starts:
            row[...], takes[hi - piece.hi] = 0.0, True
        if span.gates:
            passing = work.own(span.gates[0].weights).T[:, :, None, None, None]
            passing = passing[:, 0, 0] if single else passing
        last = -1 if span.stay else span.lo
        for t in range(piece.hi - 1, piece.lo - 1, -1):
            own, here, slopes, sent = next(steps)
            if takes[hi - 1 - t]:
                np.add(row, own, here)
            else:
                here[...] = row
            cell.delta(packed, slopes, here, sent)
            if t == last:
                break
            cell.carry(packed, slopes, sent, here, row)
            if passing is not None:
                row *= passing[t - 1]
    norms_of_parts(cell, block.adjoint, block.squares.swapaxes(1, 2)[:, ::-1])


def _rows(work: Work, plan: Chains, block: Block, rows: Scaled, plain: bool, careful: bool) -> dict[int, Scaled]:
    """Take rows (C, K, B, S) through a block; what `_onward` says at its first step."""
    cell, local, injected = work.cell, block.local, block.injected
    ((span, lo, hi),) = block.pieces
    for t in range(hi - 1, lo - 1, -1):
        at = t - lo
        onward: dict[int, Scaled] = {}
        if injected:
            taking = _taking(plan, span, t)
            onward = _onward(work, span, t, rows, injected[:, None, at], taking)
            for part in taking:
                _inject(rows[:, part], injected[:, None, at], plain, fixed=t < hi - 1)
        cell.delta(work.packed, local[:, at, None], rows.mantissa, out=block.delta[:, :, at])
        norms_of_parts(cell, rows.mantissa, block.squares[:, :, at])
        stay = span.stay if t == span.lo else len(span.usage)
        if stay:
            passed = block.delta[:, :stay, at]
            if onward:
                _replace(work, rows, onward, careful)
                passed = passed.copy()
                for row in range(stay):
                    if row in onward:
                        one = slice(row, row + 1)
                        cell.delta(work.packed, local[:, at, None], rows.mantissa[:, one], out=passed[:, one])
            cell.carry(work.packed, local[:, at, None], passed, rows.mantissa[:, :stay])
        for row, weights in span.gates:
            if row < stay:
                rows.mantissa[:, row] *= work.own(weights)[:, t - 1, None, None]
    return onward


def _taking(plan: Chains, span: Span, t: int) -> list[slice]:
    """The rows that take in the loss at step t: all, or those that it starts."""
    if plan.losses[t]:
        return [slice(None)]
    return [slice(row, row + 1) for row in span.born] if t == span.hi - 1 else []


def _onward(work: Work, span: Span, t: int, rows: Scaled, injected: Scaled, taking: list[slice]) -> dict[int, Scaled]:
    """What goes on from step t in those rows that losses enter with weights of their own, (C, 1, B, S), by row.

    It is found before they take in the loss: of what they are then, a small vector has lost its digits.
    """
    found = {}
    for row, weights in span.entering:
        if any(row in range(rows.mantissa.shape[1])[part] for part in taking):
            own = work.own(weights)[:, t, None, None, None]
            found[row] = rows[:, [row]]  # a copy
            found[row].add(Scaled(injected.mantissa * own.astype(injected.mantissa.dtype), injected.exponent))
    return found


def _replace(work: Work, rows: Scaled, onward: dict[int, Scaled], careful: bool) -> None:
    """Put what goes on in the rows' stead, to go with the rows' exponents unless `careful`.

    Raises OutOfRangeError if digits may be lost.
    """
    for row, vectors in onward.items():
        mantissa = vectors.mantissa
        if not careful:
            apart = np.where(mantissa.any(axis=-1), vectors.exponent - rows.exponent[:, [row]], 0)
            if apart.any():
                if np.abs(apart).max() > 0.2 * np.finfo(mantissa.dtype).maxexp:
                    raise OutOfRangeError
                mantissa = mantissa * np.exp2(apart.astype(mantissa.dtype))[..., None]
            work.well_in_range(np.vecdot(mantissa, mantissa))
        rows.mantissa[:, [row]] = mantissa


def _rearrange(rows: Scaled, span: Span, before: Scaled) -> None:
    """Put the rows of the span above where they stand in this one, and zeros where rows are born."""
    if span.source is not None:
        kept = [row for row in range(len(span.usage)) if row not in span.born]
        source = list(span.source)
        rows.mantissa[:, kept], rows.exponent[:, kept] = before.mantissa[:, source], before.exponent[:, source]
    for row in span.born:
        rows.mantissa[:, row], rows.exponent[:, row] = 0.0, 0


def _inject(rows: Scaled, injected: Scaled, plain: bool, fixed: bool) -> None:
    """Add what a step's losses inject, (C, 1, B, S); `fixed` exponents of the rows stay as they are."""
    if plain:
        np.add(rows.mantissa, injected.mantissa, out=rows.mantissa)
    elif fixed:
        apart = (injected.exponent - rows.exponent).astype(rows.mantissa.dtype)
        rows.mantissa[...] += injected.mantissa * np.exp2(apart)[..., None]
    else:
        rows.add(injected)


def sliding(work: Work, plan: Sliding, seen: Seen, careful: bool) -> Iterator[int]:
    """Rows that are seen in sums, the newest so many of them: a window for each group of losses, all side by side.

    Row w, the w-th group's, has its place at w modulo the number of places: none has to be moved.
    """
    cell, packed, trace = work.cell, work.packed, work.trace
    (C, _, B), S, dtype = trace.extent, cell.state_size, trace.inputs.dtype
    block = 1 if careful else _block(B, prod(cell.weights_shape), dtype)
    places = plan.places
    adjoint, sums = zeros((C, places, B, S), dtype), zeros((C, plan.width, B, S), dtype)
    delta = np.empty((C, plan.width, block, B, cell.delta_size), dtype)
    step = int(max(1, _SLIDING_BYTES // adjoint.mantissa[:, 0].nbytes))
    scratch = np.empty((C, step, B, cell.delta_size), dtype)
    plain = not careful and work.injection.plain
    lost = np.zeros((len(cell.parts), C, 1, B), bool)
    for span, lo, hi in _pieces(plan, block):
        G = len(span.usage)
        done = delta[:, :G, : hi - lo]
        exponent = np.empty((C, G, hi - lo, B), np.int64)
        local, injected = cell.local(trace, lo, hi), work.injection.at(lo, hi)
        for t in range(hi - 1, lo - 1, -1):
            first, _ = plan.rows(t)
            newest = adjoint[:, first % places, None]
            if t == min((first + 1) * plan.k1, len(plan.losses)) - 1:
                newest.mantissa[...], newest.exponent[...] = 0.0, 0
            if plan.losses[t]:
                _inject(newest, injected[:, None, t - lo], plain, fixed=False)
            upto = first
            for g, count in enumerate(plan.newest[t, :G].tolist()):
                _add_up(adjoint, upto, first + count, sums[:, g], sums[:, g - 1] if g else None, plain)
                upto = first + count
            part = sums[:, :G]
            if not plain:
                part.renormalise()
            exponent[:, :, t - lo] = part.exponent
            cell.delta(packed, local[:, t - lo, None], part.mantissa, out=done[:, :, t - lo])
            norms_of_parts(cell, part.mantissa, seen.squares[:, :, t, :G])
            if careful:
                lost = forget_lost(seen.squares[:, :, t, :G], lost)
            for a, b in _runs(first, plan.rows(t - 1)[1] if t else first, places):
                for begin in range(a, b, step):
                    rows = adjoint.mantissa[:, begin : min(begin + step, b)]
                    used = scratch[:, : rows.shape[1]]
                    cell.delta(packed, local[:, t - lo, None], rows, out=used)
                    cell.carry(packed, local[:, t - lo, None], used, rows)
        seen.add(span, lo, hi, done, None if plain else exponent)
        squares = np.vecdot(adjoint.mantissa, adjoint.mantissa)
        if careful or not (work.well_in_range(squares) & work.well_in_range(seen.squares[:, :, lo:hi, :G])):
            adjoint.exponent[...] += packed.back_exponent[:, None, None]
            adjoint.level()
            plain = plain and not adjoint.exponent.any()
        yield lo


def _runs(first: int, end: int, places: int) -> list[tuple[int, int]]:
    """The places of rows first .. end - 1, as one or two runs of neighbours."""
    if first >= end:
        return []
    a, b = first % places, (end - 1) % places + 1
    return [(a, b)] if a < b else [(a, places), (0, b)]


def _add_up(adjoint: Scaled, first: int, end: int, out: Scaled, start: Scaled | None, plain: bool) -> None:
    """The sum of rows first .. end - 1, and of `start`, into `out` (C, B, S)."""
    places = adjoint.mantissa.shape[1]
    runs = _runs(first, end, places)
    if plain:
        np.add.reduce(adjoint.mantissa[:, slice(*runs[0])], axis=1, out=out.mantissa)
        for run in runs[1:]:
            out.mantissa[...] += adjoint.mantissa[:, slice(*run)].sum(axis=1)
        if start:
            out.mantissa[...] += start.mantissa
        return
    top, aligned = adjoint[:, np.arange(first, end) % places].aligned(axis=1)
    out.mantissa[...], out.exponent[...] = aligned.sum(axis=1), top[:, 0]
    if start:
        out.add(start)


def _block(examples: int, matrix_size: int, dtype: DTypeLike = np.float64) -> int:
    """Steps of a block: the weight gradients' product stays one for BLAS's faster kernel, or is a long one."""
    small = SMALL_PRODUCT // matrix_size
    most = max(_BLOCK, _FEW_ROWS // examples) if dtype == np.float64 else _BLOCK
    return min(most, max(1, (small if small > 100 else _BLOCK_ROWS) // examples))


def bytes_at_work(plan: Pass, examples: int, state_size: int, matrix_size: int) -> float:
    """What the rows of one run that a pass works on take, in double precision, on average over time."""
    rows = sum((span.hi - span.lo) * len(span.usage) for span in plan.spans) / len(plan.losses)
    rows *= _block(examples, matrix_size)
    if isinstance(plan, Sliding):
        rows += plan.places
    return 8.0 * rows * examples * state_size
