"""Step losses: the value at each step and example, and its gradient with respect to the prediction.

mse is the mean over features of (yhat - y)^2, cross_entropy is -log softmax in nats: PyTorch's definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.errors import InputError
from gradscope.scaled import Floats

LossSteps = str | int | Sequence[int] | NDArray[np.int64]


def mse(yhat: Floats, y: NDArray[Any]) -> tuple[Floats, Floats]:
    """Value (...,) and gradient (..., p) of mean((yhat - y)^2) over the last axis."""
    residual = yhat - y
    return np.mean(residual * residual, axis=-1), residual * (2.0 / yhat.shape[-1])


def cross_entropy(yhat: Floats, y: NDArray[Any]) -> tuple[Floats, Floats]:
    """Value (...,) and gradient (..., p) of -log softmax(yhat)[y]; y holds integer classes (...,)."""
    p = yhat.shape[-1]
    shifted = (yhat - yhat.max(axis=-1, keepdims=True)).reshape(-1, p)
    classes = np.empty(yhat.shape[:-1], np.intp)
    classes[...] = y
    true = np.arange(classes.size), classes.reshape(-1)
    right, wrong = shifted[true], np.exp(shifted)
    wrong[true] = 0.0
    # Kept apart from the right class, whose 1 would swallow what little a confident prediction leaves to the others.
    rest = wrong.sum(axis=-1)
    total = rest + np.exp(right)
    value = np.where(right == 0.0, np.log1p(rest), np.log(total) - right)
    gradient = np.divide(wrong, total[:, None], out=wrong)
    gradient[true] = -rest / total
    return value.reshape(classes.shape), gradient.reshape(yhat.shape)


LOSSES: dict[str, Callable[[Floats, NDArray[Any]], tuple[Floats, Floats]]] = {
    "mse": mse,
    "cross_entropy": cross_entropy,
}


def select_steps(loss_steps: LossSteps, seq_len: int) -> NDArray[np.int64]:
    """The 0-based, ascending steps that "last", "all", a step or several steps (1-based) stand for.

    >>> select_steps("10,20", seq_len=20)
    array([ 9, 19])
    """
    if isinstance(loss_steps, str) and loss_steps in ("last", "all"):
        return np.arange(seq_len - 1 if loss_steps == "last" else 0, seq_len)
    allowed = f'"last", "all", or distinct whole numbers from 1 to seq_len = {seq_len}'
    try:
        steps = np.array(
            [int(step) for step in loss_steps.split(",")] if isinstance(loss_steps, str) else loss_steps, ndmin=1
        )
    except ValueError:
        raise InputError(f"{loss_steps!r} names no steps", where="loss_steps", allowed=allowed) from None
    if steps.ndim != 1 or not steps.size or steps.dtype.kind not in "iu":
        raise InputError(f"{loss_steps!r} names no steps", where="loss_steps", allowed=allowed)
    if steps.min() < 1 or steps.max() > seq_len or len(np.unique(steps)) < len(steps):
        raise InputError(f"{loss_steps!r} does not fit", where="loss_steps", allowed=allowed)
    return np.sort(steps).astype(np.int64) - 1
