"""The readout of a network: its losses, what they send back, and the gradient of the readout's own weights.

Everything is for the *sum* of the step losses, and weight gradients are summed over examples.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.losses import LOSSES
from gradscope.recurrence import Cell, Packed, Trace, by_group, first_of, outer_sum
from gradscope.scaled import Floats, Scaled, scaled, unit_scaled, zeros

Steps = NDArray[np.int64]  # 0-based, ascending


class Injection(NamedTuple):
    """What losses send back into the states.

    Attributes
    ----------
    dyhat : (C, T, B, p), the gradient with respect to the predictions; zero at steps without a loss.
    back, exponent : (C, p, S) and (C,), W_hy, and zeros for what is not read out of the state; the exponent is 0 for
        weights of ordinary size.
    """

    dyhat: Scaled
    back: Floats
    exponent: NDArray[np.int64]

    def of(self, runs: slice) -> Injection:
        """The same of some of the runs."""
        return Injection(self.dyhat[runs], self.back[runs], self.exponent[runs])

    @property
    def plain(self) -> bool:
        """Whether nothing has an exponent."""
        return not (np.count_nonzero(self.dyhat.exponent) or np.count_nonzero(self.exponent))

    def at(self, lo: int, hi: int) -> Scaled:
        """dL/dstate at the steps lo <= t < hi from their own losses alone, (C, b, B, S)."""
        part = self.dyhat[:, lo:hi]
        C, b, B, p = part.mantissa.shape
        flat = part.mantissa.reshape(C, b * B, p)
        mantissa = (flat * self.back if p == 1 else flat @ self.back).reshape(C, b, B, -1)
        return Scaled(mantissa, part.exponent + self.exponent[:, None, None])


class Readout:
    """The losses at some steps of a trace.

    Parameters
    ----------
    cell, packed, trace : the networks and their forward pass.
    y : (C, T, B[, p]), targets.
    loss : "mse" or "cross_entropy".
    choices : the steps of each sum of losses that may be asked for.
    groups : G, of examples whose gradients are kept apart.
    weights : (C, T, B), by which each loss is multiplied; 0 for steps that do not count. All 1 if not given.

    Attributes
    ----------
    injection : what the losses send back.
    """

    def __init__(
        self,
        cell: Cell,
        packed: Packed,
        trace: Trace,
        y: NDArray[Any],
        loss: str,
        choices: Iterable[Steps],
        groups: int = 1,
        weights: Floats | None = None,
    ):
        self._trace, self._groups, self._weights = trace, groups, weights
        distinct = {steps.tobytes(): steps for steps in choices}
        wanted = list(distinct.values())
        at = _index(wanted[0] if len(wanted) == 1 else np.unique(np.concatenate(wanted)))
        C, T, B = trace.extent
        self._beyond, self._value = np.zeros((C, T, B), bool), np.zeros((C, T))
        with np.errstate(over="ignore", invalid="ignore"):
            states = trace.states[:, at]
            yhat = states.reshape(C, -1, trace.hidden_size) @ packed.W_hy.swapaxes(1, 2)
            yhat += packed.b_y[:, None]
            yhat = yhat.reshape(*states.shape[:3], -1)
            if not np.isfinite(yhat.sum()):  # quicker than to look at each
                finite = np.isfinite(yhat)
                self._beyond[:, at] = ~finite.all(axis=3)
                yhat[~finite] = 0.0
            value, dyhat = LOSSES[loss](yhat, y[:, at])
            if weights is not None:  # what does not count may be infinite
                own = weights[:, at]
                value = np.where(own != 0.0, value * own, value.dtype.type(0))
                dyhat = np.where(own[..., None] != 0.0, dyhat * own[..., None], dyhat.dtype.type(0))
            if not np.isfinite(dyhat.sum()):
                lost = ~np.isfinite(dyhat).all(axis=3)
                self._beyond[:, at] |= lost
                value[lost], dyhat[lost] = 0.0, 0.0
            self._value[:, at] = value.sum(axis=2, dtype=np.float64) / B
        sent = scaled(dyhat)
        if states.shape[1] < T:
            dense = zeros((C, T, B, dyhat.shape[-1]), dyhat.dtype)
            dense.mantissa[:, at], dense.exponent[:, at] = sent.mantissa, sent.exponent
            sent = dense
        back, exponent = unit_scaled(packed.W_hy)
        unread = cell.state_size - cell.hidden_size
        self.injection = Injection(sent, np.pad(back, [(0, 0), (0, 0), (0, unread)]) if unread else back, exponent)
        self._gradients: dict[bytes, Scaled] = {}
        shorter = np.array([], np.int64)
        for key, steps in sorted(distinct.items(), key=lambda item: len(item[1])):
            # Losses that begin like the ones before have their gradient, and more.
            known = len(shorter) if len(shorter) and np.array_equal(steps[: len(shorter)], shorter) else 0
            self._gradients[key] = self._sum(steps[known:])
            if known:
                self._gradients[key].add(self._gradients[shorter.tobytes()])
            shorter = steps

    def loss(self, steps: Steps) -> Floats:
        """The sum of the losses at the steps, mean over examples, (C,)."""
        return self._value[:, steps].sum(axis=1)

    def overflow(self, steps: Steps) -> NDArray[np.int64]:
        """The first step (1-based) with a state, or a prediction that is needed, beyond range, (C, G); 0 if none is."""
        if not (np.count_nonzero(self._beyond) or np.count_nonzero(self._trace.overflow)):
            return np.zeros((len(self._beyond), self._groups), np.int64)
        beyond, last = self._beyond[:, steps], steps[-1] + 1
        if self._weights is not None:
            counts = self._weights[:, steps] != 0.0
            beyond, last = beyond & counts, steps[counts.shape[1] - 1 - counts[:, ::-1].argmax(axis=1)] + 1
        predicted = np.where(beyond.any(axis=1), steps[beyond.argmax(axis=1)] + 1, 0)
        state = np.where(self._trace.overflow <= last, self._trace.overflow, 0)
        return first_of(by_group(np.stack([predicted, state], axis=1), self._groups, 2), axis=(2, 3))

    def gradient(self, steps: Steps) -> Scaled:
        """The gradient of [W_hy | b_y] for one of the choices, (C G, n+1, p), that of each group of examples apart."""
        return self._gradients[steps.tobytes()]

    def _sum(self, steps: Steps) -> Scaled:
        at, n, G = _index(steps), self._trace.hidden_size, self._groups
        seen, sent = self._trace.inputs[:, 1:][:, at], self.injection.dyhat[:, at]  # [h_t | x_{t+1} | 1] at step t
        rows, exponents, inputs = (by_group(array, G, 2) for array in (sent.mantissa, sent.exponent, seen))
        C, _, b, B, p = rows.shape
        rows, inputs = rows.reshape(C * G, b * B, p), inputs.reshape(C * G, b * B, -1)
        if self._trace.wide or np.count_nonzero(exponents):
            sent = Scaled(rows[:, None], exponents.reshape(C * G, 1, b * B))
            total, kept = outer_sum(inputs, sent, self._trace.wide)[:, 0], [*range(n), -1]
            return Scaled(total.mantissa[:, kept], total.exponent[:, kept])
        sums = np.empty((C * G, n + 1, p), rows.dtype)
        np.matmul(inputs[..., :n].swapaxes(1, 2), rows, out=sums[:, :n])
        np.matmul(np.ones(b * B, rows.dtype), rows, out=sums[:, n])
        return Scaled(sums, np.zeros((C * G, n + 1), np.int64))


def _index(steps: Steps) -> slice | Steps:
    """Steps as a slice where they are consecutive, which copies nothing."""
    return slice(steps[0], steps[-1] + 1) if len(steps) == steps[-1] + 1 - steps[0] else steps
