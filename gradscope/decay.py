"""How the gradient of each seed goes with lag, and how much of it may lie beyond the sequence.

Source: Aicher, Foti & Fox (2019), "Adaptively truncating backpropagation through time to control gradient bias",
arXiv 1905.07473: phi_k = |dL/dh_{T-k}| below M beta^k sums to M beta^T / (1 - beta) from k = T on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from gradscope.scaled import Floats

OVERFLOW = "gone (forward overflow)"
LAGS = 8  # at least, for a rate
SLOWER = 0.5  # of the rate at first: below it, decay slows down


class Decay(NamedTuple):
    """How the gradient of one seed goes with lag.

    Attributes
    ----------
    state : "decaying", "ending" (exactly zero from some lag on), "growing", "constant", OVERFLOW or "short".
    rate, early, late : nats a step, over all lags after the transient, and over the first and second half of them.
    phi : |dL/dh| at each lag, in units of the largest.
    """

    state: str
    rate: float = np.nan
    early: float = np.nan
    late: float = np.nan
    phi: Floats = np.zeros(0)

    @property
    def decays(self) -> bool:
        """Whether less and less of the gradient is left."""
        return self.state in ("decaying", "ending")

    def beyond(self, upper: float) -> float:
        """The mass beyond the sequence, in units of that within, if the rate were `upper` or the slowest seen."""
        if self.state == "ending":
            return 0.0
        rate = max(upper, self.rate, self.late)
        if self.state != "decaying" or rate >= 0.0:
            return np.inf
        T = len(self.phi)
        late = np.arange(T // 2, T)
        bound = (self.phi[late] * np.exp(rate * (T - late))).max()  # M beta^T
        return float(bound / -np.expm1(rate) / self.phi.sum())

    def horizon(self, share: float, beyond: float) -> float:
        """How many lags hold this share of the mass, of which `beyond` times that within is outside; inf if none do."""
        if beyond == np.inf or not self.phi.any():
            return np.inf
        enough = np.cumsum(self.phi) >= (share - 1e-9) * self.phi.sum() * (1.0 + beyond)
        return int(np.argmax(enough)) + 1 if enough.any() else np.inf


def decay_of(run: pd.DataFrame, state: str, rate: float) -> Decay:
    """The decay of one seed, from its rows of `analysis.reach` and its regime."""
    if state == "overflow":
        return Decay(OVERFLOW)
    run = run.sort_values("lag")
    T = len(run)
    logs = run["log10_dh"].to_numpy()
    phi = 10.0 ** (logs - logs.max()) * (1.0 - run["zero_share"].to_numpy()) if np.isfinite(logs).any() else np.zeros(T)
    if np.isneginf(logs[-1]):
        return Decay("ending", rate, phi=phi)
    first = min(10, T // 4)
    middle = (first + T) // 2
    live = np.isfinite(logs)
    if live[first:].sum() < LAGS or min(live[first:middle].sum(), live[middle:].sum()) < 2:
        return Decay("short")
    state = {"vanishing": "decaying", "exploding": "growing"}.get(state, state)
    return Decay(state, rate, _slope(logs, first, middle), _slope(logs, middle, T), phi)


def _slope(logs: Floats, start: int, stop: int) -> float:
    lags = np.arange(start, stop)[np.isfinite(logs[start:stop])]
    return float(np.polyfit(lags, logs[lags], 1)[0] * np.log(10.0))


def slows(decays: Sequence[Decay]) -> bool:
    """Whether gradients decay ever more slowly, so that no rate says how they go on."""
    early, late = (np.array([getattr(decay, name) for decay in decays]) for name in ("early", "late"))
    if not np.isfinite(early).any():
        return False
    return bool(np.nanmedian(late) > SLOWER * min(np.nanmedian(early), 0.0))


def horizons(decays: Sequence[Decay], beyond: Sequence[float], shares: Sequence[int]) -> dict[int, int | None]:
    """For each share (per cent), the median over seeds of the lags that hold it; None if in a seed none do."""
    lags = {
        share: [decay.horizon(share / 100, outside) for decay, outside in zip(decays, beyond, strict=True)]
        for share in shares
    }
    return {share: int(np.ceil(np.median(own))) if max(own) < np.inf else None for share, own in lags.items()}


def half_life(decays: Sequence[Decay], rate: float, upper: float, seq_len: int) -> float | None:
    """Steps in which the gradient halves, if they are within the sequence and known to a factor of two.

    `rate` is the mean over seeds, `upper` the upper end of its interval.
    """
    if not upper < rate / 2 or any(decay.state == "ending" or decay.beyond(upper) == np.inf for decay in decays):
        return None
    steps = float(np.log(2.0) / -rate)
    return steps if steps < seq_len else None
