"""The readout of a network: its losses, what they send back, and the gradient of the readout's own weights.

Everything is for the *sum* of the step losses, and weight gradients are summed over examples.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.losses import LOSSES
from gradscope.recurrence import Packed, Trace, by_group, first_of, outer_sum
from gradscope.scaled import Floats, Scaled, scaled, unit_scaled, zeros

Steps = NDArray[np.int64]  # 0-based, ascending


class Injection(NamedTuple):
    """What losses send back into the states.

    Attributes
    ----------
    dyhat : (C, T, B, p), the gradient with respect to the predictions; zero at steps without a loss.
    back, exponent : (C, p, n) and (C,), W_hy; its exponent is 0 for weights of ordinary size.
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
        return not (self.dyhat.exponent.any() or self.exponent.any())

    def at(self, lo: int, hi: int) -> Scaled:
        """dL/dh at the steps lo <= t < hi from their own losses alone, (C, b, B, n)."""
        part = self.dyhat[:, lo:hi]
        C, b, B, p = part.mantissa.shape
        flat = part.mantissa.reshape(C, b * B, p)
        mantissa = (flat * self.back if p == 1 else flat @ self.back).reshape(C, b, B, -1)
        return Scaled(mantissa, part.exponent + self.exponent[:, None, None])


class Readout:
    """The losses at some steps of a trace.

    Parameters
    ----------
    packed, trace : the networks and their forward pass.
    y : (C, T, B[, p]), targets.
    loss : "mse" or "cross_entropy".
    choices : the steps of each sum of losses that may be asked for.
    groups : G, of examples whose gradients are kept apart.

    Attributes
    ----------
    injection : what the losses send back.
    """

    def __init__(
        self, packed: Packed, trace: Trace, y: NDArray[Any], loss: str, choices: Iterable[Steps], groups: int = 1
    ):
        self._trace, self._groups = trace, groups
        distinct = {steps.tobytes(): steps for steps in choices}
        at = _index(np.unique(np.concatenate(list(distinct.values()))))
        C, T, B = trace.extent
        self._finite = np.ones((C, T, B), bool)
        self._value = np.zeros((C, T))
        with np.errstate(over="ignore", invalid="ignore"):
            states = trace.states[:, at]
            yhat = states.reshape(C, -1, trace.hidden_size) @ packed.W_hy.swapaxes(1, 2) + packed.b_y[:, None]
            yhat = yhat.reshape(*states.shape[:3], -1)
            finite = np.isfinite(yhat)
            self._finite[:, at] = finite.all(axis=3)
            yhat[~finite] = 0.0
            value, dyhat = LOSSES[loss](yhat, y[:, at])
            self._value[:, at] = value.mean(axis=2, dtype=np.float64)
        sent, dense = scaled(dyhat), zeros((C, T, B, dyhat.shape[-1]), dyhat.dtype)
        dense.mantissa[:, at], dense.exponent[:, at] = sent.mantissa, sent.exponent
        self.injection = Injection(dense, *unit_scaled(packed.W_hy))
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
        finite = self._finite[:, steps]
        predicted = np.where(finite.all(axis=1), 0, steps[finite.argmin(axis=1)] + 1)
        state = np.where(self._trace.overflow <= steps[-1] + 1, self._trace.overflow, 0)
        return first_of(by_group(np.stack([predicted, state], axis=1), self._groups, 2), axis=(2, 3))

    def gradient(self, steps: Steps) -> Scaled:
        """The gradient of [W_hy | b_y] for one of the choices, (C G, n+1, p), that of each group of examples apart."""
        return self._gradients[steps.tobytes()]

    def _sum(self, steps: Steps) -> Scaled:
        at = _index(steps)
        seen, sent = self._trace.inputs[:, 1:][:, at], self.injection.dyhat[:, at]  # [h_t | x_{t+1} | 1] at step t
        (C, b, B, P), G = seen.shape, self._groups
        rows, exponents, inputs = (by_group(array, G, 2) for array in (sent.mantissa, sent.exponent, seen))
        R = b * B // G
        sent = Scaled(rows.reshape(C * G, 1, R, -1), exponents.reshape(C * G, 1, R))
        total = outer_sum(inputs.reshape(C * G, R, P), sent, self._trace.wide)[:, 0]
        kept = [*range(self._trace.hidden_size), -1]
        return Scaled(total.mantissa[:, kept], total.exponent[:, kept])


def _index(steps: Steps) -> slice | Steps:
    """Steps as a slice where they are consecutive, which copies nothing."""
    return slice(steps[0], steps[-1] + 1) if len(steps) == steps[-1] + 1 - steps[0] else steps
