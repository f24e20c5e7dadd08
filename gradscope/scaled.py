"""Vectors that carry their own exponent, so that a gradient of 1e-5000 is as exact as one of 1.

A `Scaled` array of vectors holds `mantissa * 2**exponent`, one integer exponent for each vector (the last axis). Almost
always every exponent is zero and the cost is one look at the norms. Only vectors whose norm leaves 2**-128 .. 2**128
are moved, by powers of two, which is exact. The limit: entries more than some 900 powers of two below the largest of
their own vector count as zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LOG10_2 = np.log10(2.0)
_LOW, _HIGH = 2.0**-256, 2.0**256  # bounds on the squared norm of a mantissa
_NOTHING = -(2**40)  # exponent of a zero vector while two are aligned


@dataclass(frozen=True, slots=True)
class Scaled:
    """Vectors `mantissa * 2**exponent`; changed in place by `add` and `renormalise`.

    Attributes
    ----------
    mantissa : (..., n) float64
    exponent : (...,) int64; that of an exactly zero vector has no meaning.
    """

    mantissa: Floats
    exponent: NDArray[np.int64]

    def __getitem__(self, index: Any) -> Scaled:
        """The vectors at `index` of the leading axes (views where NumPy gives views)."""
        return Scaled(self.mantissa[index], self.exponent[index])

    def add(self, other: Scaled) -> None:
        """Add `other`, broadcast over the leading axes, into this array."""
        if not (self.exponent.any() or other.exponent.any()):
            np.add(self.mantissa, other.mantissa, out=self.mantissa)
            return
        mine, theirs = _live_exponents(self), _live_exponents(other)
        top = np.maximum(mine, theirs)
        top[top == _NOTHING] = 0
        self.mantissa[...] = self.mantissa * _power(mine - top) + other.mantissa * _power(theirs - top)
        self.exponent[...] = top

    def renormalise(self) -> Floats:
        """Bring every mantissa whose norm left the safe range back to order 1; return the squared norms (...,)."""
        with np.errstate(over="ignore"):
            squares = np.vecdot(self.mantissa, self.mantissa)
        outside = (squares < _LOW) | (squares > _HIGH)
        if outside.any():
            vectors = self.mantissa[outside]
            _, shift = np.frexp(np.abs(vectors).max(axis=-1))
            vectors = np.ldexp(vectors, -shift[:, None])
            self.mantissa[outside] = vectors
            self.exponent[outside] += shift
            squares[outside] = np.vecdot(vectors, vectors)
        return squares

    def common_exponent(self, axis: int | tuple[int, ...]) -> tuple[NDArray[np.int64], Floats]:
        """One exponent along `axis` (kept with length 1), and the mantissas (..., n) to go with it."""
        live = _live_exponents(self)
        top = live.max(axis=axis, keepdims=True)
        top[top == _NOTHING] = 0
        return top, self.mantissa * _power(live - top)

    def split(self, axis: int) -> tuple[Scaled, Scaled | None]:
        """The vectors within 2**500 of the largest along `axis`, and the others, zeros in their stead; None if none."""
        live = _live_exponents(self)
        far = (live < live.max(axis=axis, keepdims=True) - 500) & (live > _NOTHING)
        if not far.any():
            return self, None
        near = ~far[..., None]
        return Scaled(self.mantissa * near, self.exponent), Scaled(self.mantissa * ~near, self.exponent)

    def log10_norm(self) -> Floats:
        """log10 of the 2-norm of each vector (...,); -inf for an exact zero."""
        copy = Scaled(self.mantissa.copy(), self.exponent.copy())
        return log10_of(copy.renormalise(), copy.exponent)

    def value(self) -> Floats:
        """The plain numbers (..., n): 0 or inf where float64 cannot hold them."""
        with np.errstate(over="ignore", under="ignore"):
            return np.ldexp(self.mantissa, np.clip(self.exponent, -(2**20), 2**20)[..., None].astype(np.int32))


def zeros(shape: tuple[int, ...]) -> Scaled:
    """Zero vectors; `shape` ends with their length."""
    return Scaled(np.zeros(shape), np.zeros(shape[:-1], np.int64))


def scaled(array: Floats) -> Scaled:
    """A copy of plain numbers (..., n) as scaled vectors."""
    out = Scaled(np.array(array, np.float64, order="C"), np.zeros(array.shape[:-1], np.int64))
    out.renormalise()
    return out


def unit_scaled(matrices: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Matrices (C, ...) whose entries are very large or very small, brought to order 1, and their exponents (C,).

    Those of ordinary size are left as they are, with exponent 0.
    """
    largest = np.abs(matrices).max(axis=tuple(range(1, matrices.ndim)))
    _, exponent = np.frexp(largest)
    exponent = np.where(np.abs(exponent) > 64, exponent, 0).astype(np.int64)
    if not exponent.any():
        return matrices, exponent
    return np.ldexp(matrices, -exponent.astype(np.int32).reshape(-1, *[1] * (matrices.ndim - 1))), exponent


def log10_of(squares: Floats, exponent: NDArray[np.int64]) -> Floats:
    """log10 of norms from squared mantissa norms and exponents; -inf for zeros."""
    with np.errstate(divide="ignore"):
        return 0.5 * np.log10(squares) + exponent * LOG10_2


def _live_exponents(vectors: Scaled) -> NDArray[np.int64]:
    return np.where(vectors.mantissa.any(axis=-1), vectors.exponent, _NOTHING)


def _power(exponent: NDArray[np.int64]) -> Floats:
    return np.exp2(exponent.astype(np.float64))[..., None]
