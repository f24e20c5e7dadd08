"""What a clip is: a map that takes gradients back to a threshold. A clip plug-in imports this module and no other.

A gradient is held by parameter: name -> vectors (..., rows, columns) with one exponent a row. Every index of the
leading axes is a gradient of its own, and its size may be anything: no norm overflows before the clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import frexp, ldexp
from numbers import Real
from sys import float_info
from typing import Any, Protocol

import numpy as np

from gradscope.errors import InputError
from gradscope.scaled import Floats, Scaled, Squares

Gradient = Mapping[str, Scaled]

_FAR = 32  # powers of two from 1, up to which a threshold needs no exponent


class Clip(Protocol):
    """A member of the family `gradscope/clips`: a frozen dataclass whose fields are the spec's arguments."""

    @property
    def turns(self) -> bool:
        """Whether the clipped gradient, over all parameters, may point elsewhere than the gradient."""
        ...

    def clip(self, gradient: Gradient) -> dict[str, Scaled]:
        """The clipped gradient of one that is finite. Rows that are not clipped stay as they are, to the last bit."""
        ...


def positive(**values: Any) -> None:
    """Raise InputError unless every named value is a finite number above 0."""
    for name, value in values.items():
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not number or not 0 < value <= float_info.max:
            raise InputError(f"must be a finite number above 0, not {value!r}", where=name)


def squares_of(gradient: Gradient) -> Squares:
    """Squared norms of the rows of all parameters, side by side: (..., rows)."""
    values, exponents = zip(*(part.squares() for part in gradient.values()), strict=True)
    return Squares(np.concatenate(values, axis=-1), np.concatenate(exponents, axis=-1))


def projected(gradient: Gradient, theta: float) -> dict[str, Scaled]:
    """The nearest gradient whose norm, over all the parameters given, is at most `theta`: it keeps its direction."""
    fraction, power = _with_exponent(theta)
    norm, exponent = squares_of(gradient).joint()
    above = _in_units(norm[..., None], exponent, power)[..., 0] > fraction
    if not above.any():
        return dict(gradient)
    factor = fraction / np.where(above, norm, fraction)
    shift = np.where(above, power - exponent, 0)
    return {
        name: Scaled(
            part.mantissa * factor[..., None, None].astype(part.mantissa.dtype), part.exponent + shift[..., None]
        )
        for name, part in gradient.items()
    }


def bounded(part: Scaled, theta: float) -> Scaled:
    """Each entry of a parameter's gradient, taken to `theta` or -`theta` where it lies beyond."""
    fraction, power = _with_exponent(theta)
    entries = _in_units(part.mantissa, part.exponent, power)
    if entries.max() <= fraction and entries.min() >= -fraction:  # not so where any is not a number
        return part
    within = np.clip(entries, -fraction, fraction)
    touched = (entries != within).any(axis=-1)
    return Scaled(np.where(touched[..., None], within, part.mantissa), np.where(touched, power, part.exponent))


def _with_exponent(theta: float) -> tuple[float, int]:
    """A threshold as fraction * 2**power; power is 0 unless the threshold is far from 1."""
    _, power = frexp(theta)
    power = power if abs(power) > _FAR else 0
    return ldexp(theta, -power), power


def _in_units(mantissa: Floats, exponent: Any, power: int) -> Floats:
    """Plain numbers in units of 2**power: 0 or inf where they are too far from it."""
    return Scaled(mantissa, exponent - power).value() if power or exponent.any() else mantissa
