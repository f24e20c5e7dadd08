"""Many coin draws of a truncated gradient at once: what they share is one forward pass, its slopes and its losses.

Where all open gates are alike, draws also share *segments*, the steps between two cuts: those that end at one step go
back as one row, as far as the longest of them, and each draw's gradient is the sum of its segments'. Else the draws
go back side by side, as columns of one product a step. Shape letters are those of `gradscope.recurrence`, with N draws.

Everything is for the *sum* of the step losses, and weight gradients are summed over examples.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.bptt import loss_gradients
from gradscope.passes import Request, passes
from gradscope.readout import Readout, Steps
from gradscope.recurrence import SMALL_PRODUCT, Cell, Packed, Trace, length
from gradscope.scaled import Floats, Scaled
from gradscope.schedule import Gates
from gradscope.workspace import Workspace

_BLOCK_BYTES = 4e6  # of the rows of a block of steps, whose weight gradients are one product
FEWEST = 8  # draws that go together, if there is room
SHARED_ENTRIES = 2_000_000  # of the gradients of draws that share segments


def drawn_gradients(
    cell: Cell, packed: Packed, trace: Trace, y: NDArray[Any], loss: str, steps: Steps, schedule: Gates
) -> Iterator[Scaled]:
    """The gradients of the recurrent weights under each of N draws of a schedule's coins, (some, P, W) at a time.

    Parameters
    ----------
    packed, trace, y : a single network (C = 1), its forward pass, and its targets (1, T, B[, p]).
    loss, steps : "mse" or "cross_entropy", and the 0-based steps whose losses count.
    schedule : gates of which the weights, or what enters, are those of N draws, (N, T).

    Each draw is exact at any magnitude: where one leaves the range of its numbers, it is made again with exponents.
    """
    T = schedule.weights.shape[-1]
    injection = Readout(cell, packed, trace, y, loss, [steps]).injection
    losses = np.zeros(T, bool)
    losses[steps] = True
    plain = injection.plain and not packed.back_exponent.any() and not trace.wide
    together = _sharing if _alike(schedule) else _side_by_side
    for part in _parts(cell, trace, schedule, together is _sharing):
        found = together(cell, packed, trace, injection.at(0, T).mantissa, losses, part) if plain else None
        if found is None or not np.isfinite(found).all():
            yield _one_by_one(cell, packed, trace, y, loss, steps, part)
        else:
            yield Scaled(found, np.zeros(found.shape[:2], np.int64))


def _alike(schedule: Gates) -> bool:
    """Whether all gates that are open let the same part through."""
    weights = schedule.weights
    return schedule.entering is None and bool(((weights == 0.0) | (weights == weights.max())).all())


def _width(B: int, size: int, sharing: bool) -> int:
    """How many draws go together, for gradients of this size."""
    most = max(1, SHARED_ENTRIES // size)
    return most if sharing else min(most, max(FEWEST, SMALL_PRODUCT // (B * size)))


def bytes_of_draws(B: int, draws: int, T: int, weights: int, D: int) -> float:
    """What so many draws of one network take, at most, in double precision: a part of them, and the coins of all."""
    width = min(draws, _width(B, weights, sharing=True))
    along = 4 * width * B * D + 2 * T * B * (weights // D + D)
    return 2 * _BLOCK_BYTES + 8.0 * (6 * width * weights + along) + 16.0 * draws * T


def _parts(cell: Cell, trace: Trace, schedule: Gates, sharing: bool) -> Iterator[Gates]:
    """Some draws at a time: as many as may have a gradient each; without sharing, as make a product that is quick."""
    size = prod(cell.weights_shape)
    width = _width(trace.extent[2], size, sharing)
    weights, entering = schedule.weights, schedule.entering
    if entering is not None:
        weights, entering = np.broadcast_arrays(weights, entering)
    for first in range(0, len(weights), width):
        part = slice(first, first + width)
        yield Gates(weights[part], None if entering is None else entering[part])


def _side_by_side(
    cell: Cell, packed: Packed, trace: Trace, injected: Floats, losses: NDArray[np.bool_], schedule: Gates
) -> Floats:
    """The gradients (N, P, W) of some draws; not finite where a draw left the range of numbers."""
    T, N = len(losses), len(schedule.weights)
    (_, _, B, P), D, dtype = trace.inputs.shape, cell.delta_size, trace.inputs.dtype
    gates = schedule.weights.astype(dtype)
    entering = None if schedule.entering is None else schedule.entering.astype(dtype)
    rows = np.zeros((1, B, N, cell.state_size), dtype)
    block = int(max(1, _BLOCK_BYTES // (B * N * D * dtype.itemsize)))
    delta = np.empty((block, 1, B, N, D), dtype)
    sums = [np.zeros((length(at), N * length(columns)), dtype) for at, columns in cell.products]
    with np.errstate(over="ignore", invalid="ignore"):
        for hi in range(T, 0, -block):
            lo = max(0, hi - block)
            local = cell.local(trace, lo, hi)
            for t in range(hi - 1, lo - 1, -1):
                own, slopes = injected[:, t, :, None], local[:, t - lo, :, None]
                onward = rows + own * entering[:, t, None] if losses[t] and entering is not None else None
                if losses[t]:
                    rows += own
                sent = delta[t - lo]
                cell.delta(packed, slopes, rows, out=sent)
                if t == 0:
                    break
                if onward is not None:
                    rows, sent = onward, np.empty_like(sent)
                    cell.delta(packed, slopes, rows, out=sent)
                cell.carry(packed, slopes, sent, rows)
                rows *= gates[:, t - 1, None]
            seen, used = trace.inputs[0, lo:hi].reshape(-1, P), delta[: hi - lo]
            for (at, columns), total in zip(cell.products, sums, strict=True):
                total += seen[:, at].T @ used[..., columns].reshape(len(seen), -1)
    gradients = np.zeros((N, *cell.weights_shape), dtype)
    for (at, columns), total in zip(cell.products, sums, strict=True):
        width = length(columns)
        gradients[:, at, :width] = total.reshape(-1, N, width).swapaxes(0, 1)
    return gradients


class _Segments(NamedTuple):
    """The steps between two cuts that have a loss, of all draws, each distinct one once; by their last loss and length.

    Attributes
    ----------
    top, depth : (segments,), the 0-based step of the last loss, ascending, and how many steps there are below it, and
        with it, ascending within a top.
    draws : (segments,), those that have the segment.
    """

    top: NDArray[np.int64]
    depth: NDArray[np.int64]
    draws: list[NDArray[np.int64]]

    @classmethod
    def of(cls, schedule: Gates, losses: NDArray[np.bool_]) -> _Segments:
        """The segments of draws whose gates are open or shut."""
        N, T = len(schedule.weights), len(losses)
        draw, cut = np.nonzero(schedule.weights[:, : T - 1] == 0.0)  # between steps cut and cut + 1
        draw, cut = np.append(draw, np.arange(N)), np.append(cut, np.full(N, T - 1))
        order = np.lexsort((cut, draw))
        draw, cut = draw[order], cut[order]
        bottom = np.where(np.diff(draw, prepend=-1) != 0, 0, np.append(0, cut[:-1] + 1))
        top = np.maximum.accumulate(np.where(losses, np.arange(T), -1))[cut]
        live = top >= bottom
        key, which = np.unique(top[live] * (T + 1) + (top - bottom + 1)[live], return_inverse=True)
        by_segment = np.split(draw[live][np.argsort(which, kind="stable")], np.cumsum(np.bincount(which))[:-1])
        return cls(key // (T + 1), key % (T + 1), by_segment)


def _sharing(
    cell: Cell, packed: Packed, trace: Trace, injected: Floats, losses: NDArray[np.bool_], schedule: Gates
) -> Floats:
    """The gradients (N, P, W) of draws whose open gates are alike; not finite where one left the range of numbers."""
    segments, gate = _Segments.of(schedule, losses), float(schedule.weights.max())
    T, (_, _, B, P), D, dtype = len(losses), trace.inputs.shape, cell.delta_size, trace.inputs.dtype
    first = np.flatnonzero(np.diff(segments.top, prepend=-1))  # of each row: a top, down to its deepest segment
    last = np.append(first[1:], len(segments.top))
    deepest = segments.depth[last - 1]
    back = np.ascontiguousarray(trace.inputs[0, T - 1 :: -1])  # the last step first
    slopes, own = cell.local(trace, 0, T)[0], injected[0]
    gradients = np.zeros((len(schedule.weights), *cell.weights_shape), dtype)
    running = np.zeros(cell.weights_shape, dtype)
    products = [(at, columns, np.empty((length(at), length(columns)), dtype)) for at, columns in cell.products]
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in _deepest_first(deepest, B * D * dtype.itemsize):
            delta = _rows_back(cell, packed, slopes, own, gate, segments.top[first[rows]], deepest[rows])
            for row, begin, end in zip(delta, first[rows], last[rows], strict=True):
                seen, upto = back[T - 1 - segments.top[begin] :], 0
                for segment in range(begin, end):
                    depth = segments.depth[segment]
                    inputs, sent = seen[upto:depth].reshape(-1, P), row[upto:depth].reshape(-1, D)
                    for at, columns, product in products:
                        sums = running[at, : product.shape[1]]
                        np.matmul(inputs[:, at].T, sent[:, columns], out=product if upto else sums)
                        if upto:
                            np.add(sums, product, out=sums)
                    upto = depth
                    for draw in segments.draws[segment]:
                        gradients[draw] += running
    return gradients


def _deepest_first(deepest: NDArray[np.int64], row_bytes: int) -> Iterator[NDArray[np.int64]]:
    """Rows that go back together, about alike in depth."""
    order = np.argsort(-deepest, kind="stable")
    while len(order):
        some = int(max(1, _BLOCK_BYTES // (deepest[order[0]] * row_bytes)))
        yield order[:some]
        order = order[some:]


def _rows_back(
    cell: Cell,
    packed: Packed,
    slopes: Floats,
    own: Floats,
    gate: float,
    top: NDArray[np.int64],
    depth: NDArray[np.int64],
) -> Floats:
    """What rows send to the weights, (rows, lags, B, D), lag by lag, from their tops; `depth` is in falling order."""
    B, D = slopes.shape[1], cell.delta_size
    delta = np.empty((len(top), depth[0], B, D), slopes.dtype)
    rows = np.zeros((len(top), B, cell.state_size), slopes.dtype)
    going = np.searchsorted(-depth, -np.arange(depth[0] + 1))  # rows that have a step at each lag
    for lag in range(depth[0]):
        here, on = going[lag], going[lag + 1]
        at = top[:here] - lag
        rows[:here] += own[at]
        local = slopes[at].reshape(1, 1, here * B, -1)
        sent = np.empty((1, 1, here * B, D), slopes.dtype)
        cell.delta(packed, local, rows[:here].reshape(1, 1, here * B, -1), out=sent)
        delta[:here, lag] = sent.reshape(here, B, D)
        if on:
            part = slice(on * B)
            cell.carry(packed, local[:, :, part], sent[:, :, part], rows[:on].reshape(1, 1, on * B, -1))
            rows[:on] *= gate
    return delta


def _one_by_one(
    cell: Cell, packed: Packed, trace: Trace, y: NDArray[Any], loss: str, steps: Steps, schedule: Gates
) -> Scaled:
    """The gradients (N, P, W) of some draws, each as a network of its own."""
    N, T = schedule.weights.shape
    copies = np.zeros(N, np.int64)
    requests = [Request(T, steps, schedule)]
    (found,) = loss_gradients(
        cell, packed.of(copies), trace.of(copies), y[copies], loss, requests, passes(requests), Workspace()
    )
    return found.weights
