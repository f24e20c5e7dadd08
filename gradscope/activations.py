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
    """`apply(z, out)` writes f(z); `slope(h, out)` writes f'(z) for h = f(z)."""

    apply: Callable[..., Any]
    slope: Callable[..., Any]


def _sigmoid(z: Floats, out: Floats) -> None:
    # 1/(1 + exp(-z)) keeps its digits where it is small; below z = -709 it is 0, and exp overflows on the way there.
    with np.errstate(over="ignore"):
        np.negative(z, out=out)
        np.exp(out, out=out)
    np.add(out, 1.0, out=out)
    np.reciprocal(out, out=out)


def _slope_tanh(h: Floats, out: Floats) -> None:
    np.multiply(h, h, out=out)
    np.subtract(1.0, out, out=out)


def _slope_sigmoid(h: Floats, out: Floats) -> None:
    np.subtract(1.0, h, out=out)
    np.multiply(h, out, out=out)


ACTIVATIONS = {
    "tanh": Activation(np.tanh, _slope_tanh),
    "relu": Activation(lambda z, out: np.maximum(z, 0.0, out=out), lambda h, out: np.greater(h, 0.0, out=out)),
    "sigmoid": Activation(_sigmoid, _slope_sigmoid),
    "linear": Activation(lambda z, out: np.copyto(out, z), lambda _, out: out.fill(1.0)),
}


def activation(name: str) -> Activation:
    """The activation called `name`; InputError if there is none."""
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS, where="activation")
    return ACTIVATIONS[name]
