"""Spectral radius and norm of recurrent matrices, and draws whose *realised* radius is the one asked for.

The nominal scale of an ensemble and the radius of one draw differ (a Gaussian draw of n = 64 at nominal 1 has radius
1.055 +- 0.037), and with it every norm after many steps; so each draw is rescaled by its own radius. Matrices whose
radius is 0 whatever their scale (nilpotent ones: delay lines) stay as they are drawn.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from gradscope import ensembles, plugins
from gradscope.errors import InputError, at_least
from gradscope.normality import Eigenvalues, henrici
from gradscope.scaled import Floats
from gradscope.streams import stream


def spectral_radius(matrix: Floats) -> float:
    """Largest modulus of an eigenvalue of an (n, n) matrix.

    >>> round(spectral_radius(np.array([[0.0, 2.0], [-2.0, 0.0]])), 12)
    2.0
    """
    return float(np.abs(np.linalg.eigvals(matrix)).max())


def spectral_norm(matrix: Floats) -> float:
    """Largest singular value of a matrix.

    >>> spectral_norm(np.array([[0.0, 2.0], [0.0, 0.0]]))
    2.0
    """
    return float(np.linalg.norm(matrix, 2))


class UnitDraw(NamedTuple):
    """A draw at spectral radius 1, or a nilpotent matrix as drawn: read-only, and what was measured of it.

    `spectral_radius` is 1 up to rounding, or exactly 0; `henrici` is the relative departure from normality, the same at
    any scale. `spec` is the ensemble's.
    """

    matrix: Floats
    spectral_radius: float
    spectral_norm: float
    henrici: float = 0.0
    spec: str = ""

    @property
    def nilpotent(self) -> bool:
        """Whether the matrix has no scale to set: its spectral radius is 0, its own scale an argument of the spec."""
        return self.spectral_radius == 0.0

    def scaled(self, radius: float) -> Floats:
        """The matrix at this spectral radius; InputError for another one than 0 if it is nilpotent."""
        return self.matrix * self._factor(radius)

    def realised(self, radius: float) -> tuple[float, float]:
        """Spectral radius and norm of that matrix; InputError as for `scaled`."""
        factor = self._factor(radius)
        return self.spectral_radius * factor, self.spectral_norm * factor

    def _factor(self, radius: float) -> float:
        if not self.nilpotent:
            return radius
        _check_radius(self.spec, radius)
        return 1.0


@lru_cache(maxsize=32)  # an LSTM draws four a seed
def unit_draw(ensemble: str, n: int, seed: int) -> UnitDraw:
    """The (n, n) matrix that `ensemble` draws for `seed`, rescaled to spectral radius 1, unless it is nilpotent.

    The stream is that of the ensemble's name: with other arguments it gives other matrices of the same random numbers.

    Raises InputError for an unknown ensemble, one that does not exist for so few units, or a draw whose eigenvalues are
    all zero.
    """
    member = _member(ensemble, n)
    drawn = member.draw(stream(seed, f"W_hh {ensemble.partition(':')[0]}"), n)
    matrix: Floats = drawn
    eigenvalues: Eigenvalues = np.zeros(n)
    if not _nilpotent(member):
        radius = spectral_radius(drawn)
        if radius == 0.0:
            raise InputError(f"ensemble {ensemble!r} draws a matrix of spectral radius 0, which cannot be rescaled")
        matrix = drawn / radius
        eigenvalues = np.linalg.eigvals(matrix)
    matrix.setflags(write=False)
    largest = float(np.abs(eigenvalues).max())
    return UnitDraw(matrix, largest, spectral_norm(matrix), henrici(matrix, eigenvalues), ensemble)


def recurrent(ensemble: str, n: int, seed: int, radius: float) -> Floats:
    """The (n, n) matrix that `ensemble` draws for `seed`, at a realised spectral radius. Errors: those of `check`.

    >>> print(round(spectral_radius(recurrent("sparse:0.2", 16, seed=0, radius=1.1)), 10))
    1.1
    """
    return unit_draw(ensemble, n, seed).scaled(radius)


def check(ensemble: str, radius: float, n: int | None = None) -> None:
    """Raise InputError, without drawing anything, unless there are such matrices: of this radius, and of n units.

    An unknown ensemble or argument, a negative or infinite radius, one that is not 0 for a nilpotent matrix, fewer
    units than the ensemble needs (of a rank, of blocks).
    """
    at_least(0, spectral_radius=radius)
    if _nilpotent(_member(ensemble, n)):
        _check_radius(ensemble, radius)


def _member(ensemble: str, n: int | None) -> Any:
    member = plugins.parse(ensembles.FAMILY, ensemble)
    least = getattr(member, "least", 1)
    if n is not None and n < least:
        raise InputError(
            f"{n}, but ensemble {ensemble} needs at least {least}",
            where="hidden_size",
            allowed=f"a whole number >= {least}",
        )
    return member


def _nilpotent(member: Any) -> bool:
    return getattr(member, "nilpotent", False)


def _check_radius(ensemble: str, radius: float) -> None:
    """Raise InputError unless a nilpotent ensemble is asked for the radius that it has."""
    if radius != 0:
        usage = dict(zip(plugins.names(ensembles.FAMILY), plugins.usage(ensembles.FAMILY), strict=True))
        raise InputError(
            f"{radius}, but ensemble {ensemble} has spectral radius 0",
            where="spectral_radius",
            allowed="0",
            hint=f"its scale is its own argument: {usage[ensemble.partition(':')[0]]}",
        )
