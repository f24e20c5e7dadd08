"""Vectors that carry their own exponent, so that a gradient of 1e-5000 is as exact as one of 1.

A `Scaled` array of vectors holds `mantissa * 2**exponent`, one integer exponent for each vector (the last axis). Only
vectors whose norm leaves 2**-32 .. 2**32 are moved, by powers of two, which is exact. The limit: entries more than some
500 powers of two (float32: 60) below the largest of their own vector may count as zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

Floats = NDArray[np.floating[Any]]

LOG10_2 = np.log10(2.0)
_LOW, _HIGH = 2.0**-64, 2.0**64  # bounds on the squared norm of a mantissa
_NOTHING = -(2**40)  # exponent of a zero vector while two are aligned


class Squares(NamedTuple):
    """Squared norms of vectors in double precision, any shape: `value * 4**exponent`."""

    value: NDArray[np.float64]
    exponent: NDArray[np.int64]

    def joint(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The 2-norm of all vectors along the last axis together: a number, and its exponent (of 2)."""
        top = np.where(self.value > 0.0, self.exponent, _NOTHING).max(axis=-1)
        top = np.where(top == _NOTHING, 0, top)
        shift = np.minimum(self.exponent - top[..., None], 0)  # above the top are zeros, whose exponents mean nothing
        return np.sqrt((self.value * np.exp2(2.0 * shift)).sum(axis=-1)), top


@dataclass(frozen=True, slots=True)
class Scaled:
    """Vectors `mantissa * 2**exponent`; changed in place by `add` and `renormalise`.

    Attributes
    ----------
    mantissa : (..., n) float64 or float32
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
        self.mantissa[...] = self.mantissa * self._power(mine - top) + other.mantissa * self._power(theirs - top)
        self.exponent[...] = top

    def minus(self, other: Scaled) -> Scaled:
        """The difference to another of the same shape."""
        if not (self.exponent.any() or other.exponent.any()):
            return Scaled(self.mantissa - other.mantissa, self.exponent)
        difference = Scaled(-other.mantissa, other.exponent.copy())
        difference.add(self)
        return difference

    def renormalise(self) -> Floats:
        """Bring every mantissa whose norm left the safe range back to order 1; return the squared norms (...,)."""
        with np.errstate(over="ignore"):
            squares = np.vecdot(self.mantissa, self.mantissa)
        outside = (squares < _LOW) | (squares > _HIGH)
        if np.count_nonzero(outside) and (vectors := self.mantissa[outside]).any():  # zeros may stay as they are
            _, shift = np.frexp(np.abs(vectors).max(axis=-1))
            vectors = np.ldexp(vectors, -shift[:, None])
            self.mantissa[outside] = vectors
            self.exponent[outside] += shift
            squares[outside] = np.vecdot(vectors, vectors)
        return squares

    def level(self) -> None:
        """Bring what is far from order 1 back to it, neighbours on the last axis by one power of two where that serves.

        Neighbours with one exponent between them can be added up as they are.
        """
        _, twice = np.frexp(np.vecdot(self.mantissa, self.mantissa).max(axis=-1, keepdims=True))
        shift = np.where(np.abs(twice) > 32, twice // 2, 0)
        np.ldexp(self.mantissa, -shift[..., None], out=self.mantissa)
        self.exponent[...] += shift
        self.renormalise()

    def aligned(self, axis: int | tuple[int, ...]) -> tuple[NDArray[np.int64], Floats]:
        """One exponent along `axis` (kept with length 1), and the mantissas (..., n) to go with it."""
        live = _live_exponents(self)
        top = live.max(axis=axis, keepdims=True)
        top[top == _NOTHING] = 0
        return top, self.mantissa * self._power(live - top)

    def split(self, axis: int) -> tuple[Scaled, Scaled | None]:
        """The vectors near the largest along `axis`, and the others, zeros in their stead; None if there are none.

        Near is what keeps all its digits if it is aligned with the largest.
        """
        reach = -np.finfo(self.mantissa.dtype).minexp // 2
        live = _live_exponents(self)
        far = (live < live.max(axis=axis, keepdims=True) - reach) & (live > _NOTHING)
        if not far.any():
            return self, None
        near = ~far[..., None]
        return Scaled(self.mantissa * near, self.exponent), Scaled(self.mantissa * ~near, self.exponent)

    def squares(self) -> Squares:
        """Squared norms (...,)."""
        with np.errstate(over="ignore"):
            found = np.vecdot(self.mantissa, self.mantissa).astype(np.float64, copy=False)
        if not ((found < _LOW) | (found > _HIGH)).any():
            return Squares(found, self.exponent)
        copy = Scaled(self.mantissa.astype(np.float64), self.exponent.copy())
        return Squares(copy.renormalise().astype(np.float64, copy=False), copy.exponent)

    def log10_norm(self) -> NDArray[np.float64]:
        """log10 of the 2-norm of each vector (...,); -inf for an exact zero."""
        return log10_of(*self.squares())

    def value(self) -> Floats:
        """The plain numbers (..., n): 0 or inf where the dtype cannot hold them; no copy if nothing has an exponent."""
        if not np.count_nonzero(self.exponent):
            return self.mantissa
        with np.errstate(over="ignore", under="ignore"):
            return np.ldexp(self.mantissa, np.clip(self.exponent, -(2**20), 2**20)[..., None].astype(np.int32))

    def _power(self, exponent: NDArray[np.int64]) -> Floats:
        return np.exp2(exponent.astype(self.mantissa.dtype))[..., None]


def zeros(shape: tuple[int, ...], dtype: DTypeLike = np.float64) -> Scaled:
    """Zero vectors; `shape` ends with their length."""
    return Scaled(np.zeros(shape, dtype), np.zeros(shape[:-1], np.int64))


def scaled(array: Floats) -> Scaled:
    """A copy of plain numbers (..., n) as scaled vectors."""
    out = Scaled(np.array(array, order="C"), np.zeros(array.shape[:-1], np.int64))
    out.renormalise()
    return out


def unit_scaled(matrices: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Matrices (C, ...) whose entries are very large or very small, brought to order 1, and their exponents (C,).

    Those of ordinary size are left as they are, with exponent 0.
    """
    ordinary = -np.finfo(matrices.dtype).minexp // 16
    axes = tuple(range(1, matrices.ndim))
    largest = np.maximum(matrices.max(axis=axes), -matrices.min(axis=axes))
    if largest.min() >= 2.0**-ordinary and largest.max() <= 2.0 ** (ordinary - 1):
        return matrices, np.zeros(len(matrices), np.int64)
    _, exponent = np.frexp(largest)
    exponent = np.where(np.abs(exponent) > ordinary, exponent, 0).astype(np.int64)
    return np.ldexp(matrices, -exponent.astype(np.int32).reshape(-1, *[1] * (matrices.ndim - 1))), exponent


def log10_of(squares: Floats, exponent: NDArray[np.int64]) -> NDArray[np.float64]:
    """log10 of norms from squared mantissa norms and exponents; -inf for zeros."""
    with np.errstate(divide="ignore"):
        found: NDArray[np.float64] = np.log10(squares, dtype=np.float64)
    found *= 0.5
    return found + exponent * LOG10_2 if np.count_nonzero(exponent) else found


def _live_exponents(vectors: Scaled) -> NDArray[np.int64]:
    return np.where(vectors.mantissa.any(axis=-1), vectors.exponent, _NOTHING)
