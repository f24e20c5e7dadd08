"""Activations f and their derivatives, the latter as a function of the output h = f(z)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradscope.errors import unknown
from gradscope.scaled import Floats


@dataclass(frozen=True)
class Activation:
    """`apply(z, out)` writes f(z); `slope(h)` is f'(z) for h = f(z); `bounded`: |f| <= 1, so states cannot overflow."""

    apply: Callable[..., Any]
    slope: Callable[[Floats], Floats]
    bounded: bool


def _sigmoid(z: Floats, out: Floats) -> None:
    # 1/(1 + exp(-z)) keeps its digits where it is small; below z = -709 it is 0, and exp overflows on the way there.
    with np.errstate(over="ignore"):
        np.negative(z, out=out)
        np.exp(out, out=out)
    np.add(out, 1.0, out=out)
    np.reciprocal(out, out=out)


ACTIVATIONS = {
    "tanh": Activation(np.tanh, lambda h: 1.0 - h * h, bounded=True),
    "relu": Activation(
        lambda z, out: np.maximum(z, 0.0, out=out), lambda h: (h > 0.0).astype(np.float64), bounded=False
    ),
    "sigmoid": Activation(_sigmoid, lambda h: h * (1.0 - h), bounded=True),
    "linear": Activation(lambda z, out: np.copyto(out, z), np.ones_like, bounded=False),
}


def activation(name: str) -> Activation:
    """The activation called `name`; InputError if there is none."""
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS, where="activation")
    return ACTIVATIONS[name]
