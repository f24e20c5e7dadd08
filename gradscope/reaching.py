"""How far back a gradient reaches: the lag at which a half, or a hundredth, of what there is at lag 0 is left."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

SHARES = {"half_life": 0.5, "horizon": 0.01}  # of the norm at lag 0


def steps_until(share: float, log10_norms: ArrayLike) -> float:
    """The lag from which on at most this share of the norm at lag 0 is left, in steps.

    It is that of the last crossing, so what is small at first and large again farther back counts; between the two lags
    around it norms are taken to be exponential. Of an exponential decay that is log(share) / rate, for a half the
    half-life that a fitted rate gives.

    Parameters
    ----------
    share : between 0 and 1.
    log10_norms : at lags 0, 1, ...; -inf where the gradient is exactly zero, nan from the lag on where there is none.

    Returns
    -------
    float : inf if more is left at the greatest lag, so that it lies beyond the sequence; nan without a gradient at lag
        0. Where the gradient becomes exactly zero before less is left, the first lag at which it is.

    Examples
    --------
    >>> print(round(steps_until(0.25, np.log10([8.0, 4.0, 2.0, 1.0])), 6))
    2.0
    >>> steps_until(0.01, np.log10([8.0, 4.0, 2.0, 1.0]))
    inf
    """
    norms = np.asarray(log10_norms, float)
    norms = norms[: np.argmax(np.isnan(norms))] if np.isnan(norms).any() else norms
    if not len(norms) or not np.isfinite(norms[0]):
        return float("nan")
    decades, level = norms - norms[0], np.log10(share)
    last = int(np.flatnonzero(decades > level)[-1])
    if last == len(decades) - 1:
        return float("inf")
    above, below = decades[last : last + 2]
    return float(last + (1.0 if np.isneginf(below) else (above - level) / (above - below)))
