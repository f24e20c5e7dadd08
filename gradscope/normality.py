"""How far a matrix is from normal, and how much its powers grow although no eigenvalue is above 1.

A normal matrix has |W^k|_2 = rho^k: its spectral radius says all. Others may grow a long way before they decay.
Sources: Henrici (1962), "Bounds for iterates, inverses, spectral variation and fields of values of non-normal
matrices"; Trefethen & Embree (2005), "Spectra and Pseudospectra".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.errors import at_least
from gradscope.scaled import LOG10_2, Floats, unit_scaled

Eigenvalues = NDArray[np.inexact[Any]]

_EPS = float(np.finfo(np.float64).eps)
_BEYOND = 1e-10  # a radius above 1 by no more than this is 1, and rounding
_NEAREST = 1e-4  # |z| - 1 of the points nearest to the unit circle
_DISTANCES, _EVEN, _NEAR_EIGENVALUES = 6, 16, 24  # of the first grid: of |z| - 1, and two kinds of angles
_CLIMBS, _ROUNDS = 3, 8  # from the best angles; each round looks at a point and its 8 neighbours
_AROUND = np.array([(i, j) for i in (0, -1, 1) for j in (0, -1, 1)])
_RISE = 1e-9  # norms closer to each other than this, relative, are alike


class Peak(NamedTuple):
    """The largest norm of a power: |W^power|_2, inf if beyond float64's range, and its log10, which always exists."""

    norm: float
    power: int
    log10_norm: float


class NonNormality(NamedTuple):
    """Measures of non-normality: those of a normal matrix of spectral radius <= 1 are 0, 1 and (1, 0, 0)."""

    henrici: float
    kreiss_lower_bound: float
    transient_peak: Peak


def non_normality(W: Floats, longest: int | None = None) -> NonNormality:
    """`henrici`, `kreiss_lower_bound` and `transient_peak` of an (n, n) matrix, powers up to `longest` (2 n).

    >>> non_normality(np.array([[0.0, 1.0], [-1.0, 0.0]]))
    NonNormality(henrici=0.0, kreiss_lower_bound=1.0, transient_peak=Peak(norm=1.0, power=0, log10_norm=0.0))
    """
    eigenvalues = np.linalg.eigvals(W)
    peak = transient_peak(W, 2 * len(W) if longest is None else longest)
    return NonNormality(henrici(W, eigenvalues), kreiss_lower_bound(W, eigenvalues), peak)


def henrici(W: Floats, eigenvalues: Eigenvalues | None = None) -> float:
    """Relative departure from normality, sqrt(|W|_F^2 - sum |lambda|^2) / |W|_F, in [0, 1] (Henrici 1962).

    0 for normal matrices, 1 for nilpotent ones. The difference cancels: where it is within the rounding of the
    eigenvalues, 4 n 2^-52 of |W|_F^2, it is 0. So departures below some 2e-7 (n = 64) are given as 0, all others are
    exact to 1e-7 at worst, and to 1e-12 from 0.01 on.

    >>> round(henrici(np.array([[0.8, 0.6], [0.0, 0.8]])), 6)  # .6 / sqrt(.64 + .64 + .36)
    0.468521
    """
    largest = np.abs(W).max()
    if largest == 0.0:
        return 0.0
    found = np.linalg.eigvals(W) if eigenvalues is None else eigenvalues
    departed = 1.0 - float(np.square(np.abs(found / largest) / np.linalg.norm(W / largest)).sum())
    return float(np.sqrt(departed)) if departed > 4 * len(W) * _EPS else 0.0


def kreiss_lower_bound(W: Floats, eigenvalues: Eigenvalues | None = None) -> float:
    """A lower bound on the Kreiss constant K = sup over |z| > 1 of (|z| - 1) / sigma_min(z I - W).

    Kreiss's matrix theorem: K <= sup_k |W^k|_2 <= e n K (Trefethen & Embree 2005, chapter 18). K is 1 for normal
    matrices of spectral radius <= 1, at least 1 for all, and inf if the spectral radius is above 1.

    Any points z give a lower bound. These are: a grid, even in the angle and in log(|z| - 1) from 1e-4 to |W|_2 (or 1);
    the directions of the largest eigenvalues; and climbs from the three best angles. As W is real, half a plane
    is enough. What rounding may have taken from sigma_min is added to it, so that the bound is one in float64 too.

    >>> print(round(kreiss_lower_bound(np.array([[0.0, 40.0], [0.0, 0.0]])), 2))  # nearly 40 / 4, at |z| = 2
    10.02
    """
    found = np.linalg.eigvals(W) if eigenvalues is None else eigenvalues
    if np.abs(found).max() > 1.0 + _BEYOND:
        return np.inf
    distances = np.geomspace(_NEAREST, max(1.0, float(np.linalg.norm(W, 2))), _DISTANCES)
    angles = _angles(found)
    ratios = np.array([_ratios(W, distances, angle) for angle in angles])  # one by one, as they are large
    nearest = ratios.argmax(axis=1)
    best = np.argsort(ratios.max(axis=1))[-_CLIMBS:]
    starts = zip(distances[nearest[best]], angles[best], strict=True)
    return max(1.0, *(_climb(W, distance, angle, distances[-1]) for distance, angle in starts))


def transient_peak(W: Floats, longest: int) -> Peak:
    """The largest |W^k|_2 of 0 <= k <= longest, and the first such k (norms that agree to 1e-9 are alike).

    Powers carry their own exponent, so none is out of range. If k is `longest`, longer powers may be larger.

    >>> transient_peak(np.diag([2.0, 2.0, 2.0], -1), 10)  # a delay line: 2^k until k = n = 4, then 0
    Peak(norm=8.0, power=3, log10_norm=0.9030899869919435)
    """
    at_least(0, longest=longest)
    peak, at, exponent = 1.0, 0, 0  # |W^at|_2 = peak * 2**exponent
    base, base_exponent = unit_scaled(W[None])
    power: Floats = np.eye(len(W))[None]
    own = 0
    for k in range(1, int(longest) + 1):
        power, shift = unit_scaled(power @ base)
        own += int(shift[0] + base_exponent[0])
        size = float(np.linalg.norm(power))  # not below the 2-norm, and cheaper
        if size == 0.0:
            break
        least = peak * 2.0 ** min(max(exponent - own, -1000), 1000) * (1.0 + _RISE)
        if size > least and (norm := _norm(power[0])) > least:
            peak, at, exponent = norm, k, own
    log10 = float(np.log10(peak) + exponent * LOG10_2)
    with np.errstate(over="ignore"):
        return Peak(float(np.ldexp(peak, exponent)), at, log10)


def _angles(eigenvalues: Eigenvalues) -> Floats:
    """Angles of the grid, (angles,), between 0 and pi."""
    upper = eigenvalues[eigenvalues.imag >= 0.0]
    largest = upper[np.argsort(-np.abs(upper))[:_NEAR_EIGENVALUES]]
    return np.concatenate([np.linspace(0.0, np.pi, _EVEN), np.angle(largest)])


def _climb(W: Floats, distance: float, angle: float, farthest: float) -> float:
    """The ratio after climbing from a point: to the best of 8 neighbours, to nearer ones where none is better."""
    ratio, step = 0.0, 0.5  # a step of log(|z| - 1), and of the angle, in units of the distance
    for _ in range(_ROUNDS):
        distances = np.clip(distance * np.exp(step * _AROUND[:, 0]), _NEAREST, farthest)
        angles = angle + step * _AROUND[:, 1] * min(distance, 1.0)
        ratios = _ratios(W, distances, angles)
        best = int(ratios.argmax())
        if ratios[best] > ratio:
            distance, angle, ratio = distances[best], angles[best], ratios[best]
        else:
            step /= 2.0
    return float(ratio)


def _ratios(W: Floats, distances: Floats, angles: Floats | float) -> Floats:
    """(|z| - 1) / sigma_min(z I - W), or a little less, at points z; distance and angle broadcast."""
    z = (1.0 + distances) * np.exp(1j * angles)
    values = np.linalg.svd(z[..., None, None] * np.eye(len(W)) - W, compute_uv=False)
    rounding = 2 * len(W) * _EPS * (1.0 + distances + values[..., 0])  # of z, of the difference, and of its values
    return distances / (values[..., -1] + rounding)


def _norm(matrix: Floats) -> float:
    """The 2-norm, by the eigenvalues of the Gram matrix: three times faster than by singular values."""
    return float(np.sqrt(np.linalg.eigvalsh(matrix.T @ matrix)[-1]))
