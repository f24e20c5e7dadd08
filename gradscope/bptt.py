"""Backpropagation through time, truncated in any way, for many runs at once and at any magnitude.

The state gradient that a truncation yields is dL/dh_t = sum over loss steps s >= t of w(s, t) a(s, t), where a(s, t) is
the adjoint of the loss at s with respect to h_t and w(s, t) the truncation's weight (see `gradscope.schedule`).

* A loss at a single step has one adjoint, and each truncation is a weight over lag on it.
* `Gates` act on the recursion itself: all gated truncations go back together, K of them as rows of one product.
* `Windows` of the same k1 share their adjoints, whatever their k2: all windows of a sequence go back together, lag by
  lag, and each k2 is the sum up to its lag.

Everything here is for the *sum* of the step losses, and weight gradients are summed over examples; means are scalings.
Shape letters are those of `gradscope.recurrence`; K truncations, L loss steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.losses import LOSSES
from gradscope.recurrence import Cell, Packed, Trace
from gradscope.scaled import Floats, Scaled, log10_of, scaled, unit_scaled, zeros
from gradscope.schedule import Gates, Windows

BLOCK = 8  # steps whose weight gradients are one product: enough rows for BLAS, few enough to stay in cache


@dataclass(frozen=True)
class Gradient:
    """What one truncation yields: log10 norms of the state gradients (C, T, B), and the weight gradients (C, P, D)."""

    log10_dh: Floats
    weights: Scaled


@dataclass(frozen=True)
class LossGradients:
    """A loss and its gradients.

    Attributes
    ----------
    loss : (C,), summed over steps, mean over examples.
    overflow : (C,), the first step that left float64's range on the way forward to this loss; 0 where none did. Where
        it is not 0, nothing else here may be used for that run.
    truncated : one `Gradient` for each truncation.
    readout : (C, n+1, p), the gradient of [W_hy | b_y], which no truncation touches.
    """

    loss: Floats
    overflow: NDArray[np.int64]
    truncated: list[Gradient]
    readout: Scaled


class _Pass(NamedTuple):
    """What a backward pass needs: the network, what it left, and what is injected at which (0-based) loss steps."""

    cell: Cell
    packed: Packed
    trace: Trace
    injected: Scaled  # (C, L, B, S)
    steps: NDArray[np.int64]  # (L,), ascending

    @property
    def extent(self) -> tuple[int, int, int]:
        """C, T, B."""
        C, T, B, _ = self.trace.local.shape
        return C, T, B


def loss_gradients(
    cell: Cell,
    packed: Packed,
    trace: Trace,
    y: NDArray[Any],
    loss: str,
    steps: NDArray[np.int64],
    schedules: Sequence[Gates | Windows],
) -> LossGradients:
    """Loss at the (0-based, ascending) steps against y (C, T, B[, p]), and its gradient under each truncation."""
    states = trace.states[:, steps]
    C, L, B, n = states.shape
    with np.errstate(over="ignore", invalid="ignore"):
        yhat = states @ packed.W_hy.swapaxes(1, 2)[:, None] + packed.b_y[:, None, None]
        overflow = _first_overflow(trace, steps, yhat)
        yhat[overflow > 0] = 0.0
        value, dyhat = LOSSES[loss](yhat, y[:, steps])
        total = value.sum(axis=1).mean(axis=1)
    outer = scaled(dyhat)
    back, exponent = unit_scaled(packed.W_hy)
    injected = zeros((C, L, B, cell.state_size))
    injected.mantissa[..., :n] = outer.mantissa @ back[:, None]
    injected.exponent[...] = outer.exponent + exponent[:, None, None]
    injected.renormalise()
    seen = np.concatenate([states, np.ones((C, L, B, 1))], axis=-1).reshape(C, L * B, n + 1)
    rows = Scaled(outer.mantissa.reshape(C, L * B, 1, -1), outer.exponent.reshape(C, L * B, 1))
    readout = _product(seen, rows, trace.wide)
    work = _Pass(cell, packed, trace, injected, steps)
    return LossGradients(total, overflow, _backward(work, schedules), readout[:, :, 0])


def _first_overflow(trace: Trace, steps: NDArray[np.int64], yhat: Floats) -> NDArray[np.int64]:
    """The first step (1-based) at which a state, or a prediction that the loss needs, is not finite; 0 if none is."""
    finite = np.logical_and.reduce(np.isfinite(yhat), axis=(2, 3))
    predicted = np.where(finite.all(axis=1), 0, steps[finite.argmin(axis=1)] + 1)
    state = np.where(trace.overflow <= steps[-1] + 1, trace.overflow, 0)
    return np.where((state > 0) & (predicted > 0), np.minimum(state, predicted), np.maximum(state, predicted))


def _backward(work: _Pass, schedules: Sequence[Gates | Windows]) -> list[Gradient]:
    if len(work.steps) == 1:
        return _one_step(work, [schedule.reach(int(work.steps[0]) + 1) for schedule in schedules])
    found: dict[int, Gradient] = {}
    gated = [k for k, schedule in enumerate(schedules) if isinstance(schedule, Gates)]
    if gated:
        found |= zip(gated, _gated(work, [schedules[k].weights for k in gated]), strict=True)  # type: ignore[union-attr]
    windows = {k: schedule for k, schedule in enumerate(schedules) if isinstance(schedule, Windows)}
    for k1 in sorted({window.k1 for window in windows.values()}):
        depths = {k: window.k2 for k, window in windows.items() if window.k1 == k1}
        by_depth = _windowed(work, k1, sorted(set(depths.values())))
        found |= {k: by_depth[depth] for k, depth in depths.items()}
    return [found[k] for k in range(len(schedules))]


def _one_step(work: _Pass, reaches: list[Floats]) -> list[Gradient]:
    """A loss at one step: one adjoint, and for each truncation its weights (step,) or (C, step) over lag on it."""
    C, T, B = work.extent
    P, D = work.packed.forward.shape[1:]
    log10_adjoint = np.full((C, T, B), -np.inf)
    totals = [zeros((C, P, D)) for _ in reaches]
    for block in _blocks(work, np.ones((1, 1, T))):
        log10_adjoint[:, block.steps] = block.log10_dh[..., 0]
        whole = _weights(work.trace, block.steps, block.delta)
        for total, reach in zip(totals, reaches, strict=True):
            part = np.broadcast_to(reach[..., block.steps], (C, block.steps.stop - block.steps.start))
            if (part == 1.0).all():
                total.add(whole[:, :, 0])
            elif part.any():
                weighted = block.delta.mantissa * part[:, :, None, None, None]
                total.add(_weights(work.trace, block.steps, Scaled(weighted, block.delta.exponent))[:, :, 0])
    gradients = []
    for total, reach in zip(totals, reaches, strict=True):
        weight = np.zeros((C, T))
        weight[:, : reach.shape[-1]] = reach
        with np.errstate(divide="ignore"):
            gradients.append(Gradient(log10_adjoint + np.log10(weight)[:, :, None], total))
    return gradients


def _gated(work: _Pass, gates: list[Floats]) -> list[Gradient]:
    """Truncations that multiply what passes from step to step: K rows of one recursion."""
    C, T, B = work.extent
    P, D = work.packed.forward.shape[1:]
    K = len(gates)
    log10_dh = np.full((C, T, B, K), -np.inf)
    total = zeros((C, P, K, D))
    for block in _blocks(work, np.stack([np.broadcast_to(gate, (C, T)) for gate in gates], axis=1)):
        log10_dh[:, block.steps] = block.log10_dh
        total.add(_weights(work.trace, block.steps, block.delta))
    return [Gradient(log10_dh[..., k], total[:, :, k]) for k in range(K)]


def _windowed(work: _Pass, k1: int, depths: list[int]) -> dict[int, Gradient]:
    """TBPTT(k1, k2) for every k2 in `depths`: all windows in lockstep, lag by lag behind their ends."""
    cell, trace = work.cell, work.trace
    C, T, B = work.extent
    windows = -(-T // k1)
    adjoint = zeros((C, windows, B, cell.state_size))
    total = zeros((C, T, B, cell.state_size))
    dense = zeros(total.mantissa.shape)
    dense.mantissa[:, work.steps], dense.exponent[:, work.steps] = work.injected.mantissa, work.injected.exponent
    delta = np.empty((C, T, B, work.packed.forward.shape[2]))
    reached = [min(depth, windows * k1) for depth in depths]
    found: dict[int, Gradient] = {}
    # Window w ends at step (w + 1) k1 (1-based) and stands `lag` steps before it; the last starts where the data end.
    for lag in range(0 if windows > 1 else k1 - T, reached[-1]):
        first, last = lag // k1, min(windows, (T + lag) // k1)
        at = slice((first + 1) * k1 - 1 - lag, last * k1 - lag, k1)
        here = adjoint[:, first:last]
        if lag < k1:
            here.add(dense[:, at])
        here.renormalise()
        total[:, at].add(here)
        _back(work, trace.local[:, at], here, delta[:, : last - first])
        if lag + 1 in reached:
            squares = total.renormalise()
            cell.delta(trace.local, total.mantissa, out=delta)
            weights = zeros((C, *work.packed.forward.shape[1:]))
            for lo in range(0, T, BLOCK):
                steps = slice(lo, min(lo + BLOCK, T))
                part = Scaled(delta[:, steps, :, None], total.exponent[:, steps, :, None])
                weights.add(_weights(trace, steps, part)[:, :, 0])
            gradient = Gradient(log10_of(squares, total.exponent), weights)
            found |= {depth: gradient for depth, end in zip(depths, reached, strict=True) if end == lag + 1}
    return found


class _Block(NamedTuple):
    """Consecutive steps of a backward pass: `log10_dh` (C, b, B, K) and `delta` (C, b, B, K, D)."""

    steps: slice
    log10_dh: Floats
    delta: Scaled


def _blocks(work: _Pass, gates: Floats) -> Iterator[_Block]:
    """The recursion dL/dh_t = injected_t + gate_t * (adjoint carried from t+1), for gates (C, K, T), last step first.

    What is yielded is overwritten by the next block.
    """
    cell, trace = work.cell, work.trace
    C, _, B = work.extent
    K, D = gates.shape[1], work.packed.forward.shape[2]
    adjoint = zeros((C, B, K, cell.state_size))
    buffer = zeros((C, BLOCK, B, K, D))
    squares = np.empty((C, BLOCK, B, K))
    position = {int(step): index for index, step in enumerate(work.steps)}
    top = int(work.steps[-1])
    for hi in range(top + 1, 0, -BLOCK):
        lo = max(0, hi - BLOCK)
        for t in range(hi - 1, lo - 1, -1):
            if t < top:
                adjoint.mantissa[...] *= gates[:, None, :, t, None]
            if t in position:
                adjoint.add(work.injected[:, position[t], :, None])
            squares[:, t - lo] = adjoint.renormalise()
            buffer.exponent[:, t - lo] = adjoint.exponent
            delta = buffer.mantissa[:, t - lo]
            _back(work, trace.local[:, t, :, None], adjoint, delta)
        block = buffer[:, : hi - lo]
        yield _Block(slice(lo, hi), log10_of(squares[:, : hi - lo], block.exponent), block)


def _back(work: _Pass, local: Floats, adjoint: Scaled, delta: Floats) -> None:
    """Go back a step: write delta for the adjoint, and replace the adjoint by what it carries to the step before."""
    work.cell.delta(local, adjoint.mantissa, out=delta)
    work.cell.carry(work.packed, local, delta, adjoint.mantissa)
    if work.packed.back_exponent.any():
        adjoint.exponent[...] += work.packed.back_exponent[:, None, None]


def _weights(trace: Trace, steps: slice, delta: Scaled) -> Scaled:
    """Sum over `steps` and examples of [h_{t-1} | x_t | 1] delta_t^T, (C, P, K, D), for delta (C, b, B, K, D)."""
    inputs = trace.inputs[:, steps]
    C, b, B, P = inputs.shape
    K, D = delta.mantissa.shape[3:]
    rows = Scaled(delta.mantissa.reshape(C, b * B, K, D), delta.exponent.reshape(C, b * B, K))
    return _product(inputs.reshape(C, b * B, P), rows, trace.wide)


def _product(inputs: Floats, rows: Scaled, wide: bool) -> Scaled:
    """inputs^T rows, (C, P, K, D), for inputs (C, R, P) and rows (C, R, K, D) that carry exponents."""
    C, R, P = inputs.shape
    K, D = rows.mantissa.shape[2:]
    exponent = np.zeros((C, P, K), np.int64)
    mantissa = rows.mantissa
    if rows.exponent.any():
        near, far = rows.split(axis=1)
        if far is not None:
            total = _product(inputs, near, wide)
            total.add(_product(inputs, far, wide))
            return total
        top, mantissa = rows.common_exponent(axis=1)
        exponent += top
    if wide:
        _, shift = np.frexp(np.abs(inputs).max(axis=1, keepdims=True))
        inputs = np.ldexp(inputs, -shift)
        exponent += shift[:, 0, :, None]
    product = inputs.swapaxes(1, 2) @ mantissa.reshape(C, R, K * D)
    return Scaled(product.reshape(C, P, K, D), exponent)
