"""Spectral radius and norm of recurrent matrices, and draws whose *realised* radius is the one asked for.

The nominal scale of an ensemble and the radius of one draw differ (a Gaussian draw of n = 64 at nominal 1 has radius
1.055 +- 0.037), and with it every norm after many steps; so each draw is rescaled by its own radius.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from gradscope import ensembles, plugins
from gradscope.errors import InputError
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
    """A draw rescaled to spectral radius 1; multiply by the radius wanted. The radius and norm are those measured."""

    matrix: Floats
    spectral_radius: float
    spectral_norm: float

    def scaled(self, radius: float) -> Floats:
        """The matrix at this spectral radius."""
        return self.matrix * radius

    def realised(self, radius: float) -> tuple[float, float]:
        """Spectral radius and norm of that matrix."""
        return self.spectral_radius * radius, self.spectral_norm * radius


@lru_cache(maxsize=16)
def unit_draw(ensemble: str, n: int, seed: int) -> UnitDraw:
    """The (n, n) matrix that `ensemble` draws for `seed`, rescaled to spectral radius 1.

    Raises InputError for an unknown ensemble, or for a draw whose eigenvalues are all zero.
    """
    drawn = plugins.parse(ensembles.FAMILY, ensemble).draw(stream(seed, f"W_hh {ensemble}"), n)
    radius = spectral_radius(drawn)
    if radius == 0.0:
        raise InputError(f"ensemble {ensemble!r} draws a matrix of spectral radius 0, which cannot be rescaled")
    matrix = drawn / radius
    matrix.setflags(write=False)
    return UnitDraw(matrix, spectral_radius(matrix), spectral_norm(matrix))


def recurrent(ensemble: str, n: int, seed: int, radius: float) -> Floats:
    """The (n, n) matrix that `ensemble` draws for `seed`, at a realised spectral radius."""
    return unit_draw(ensemble, n, seed).scaled(radius)
