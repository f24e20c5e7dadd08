"""A truncated gradient as an estimator of the full one: its bias, its variance, its direction, and what it costs.

What is compared is the gradient of the recurrent-cell parameters, all together and each alone, on the same weights,
inputs and coins. Distances are relative: in parts of the norm of full BPTT's gradient.

* Bias: of the mean over coins, which is exact where a schedule has that mean as its gradient, else the draws' mean. It
  is held against the full gradient of the same batch; how much of it is chance of that batch, groups of examples say.
* Variance: that of the coins, the batch being given, from the draws; and that of the minibatch, of the mean over coins,
  from groups of its examples. Their sum is the variance of the estimator (the law of total variance).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.recurrence import Cell
from gradscope.scaled import Floats, Scaled, Squares
from gradscope.schedule import Gates, Windows

MOST_GROUPS = 8  # of examples, for the variance of the minibatch
COSINES = {"cosine_p05": 0.05, "cosine_p25": 0.25, "cosine_p50": 0.5, "cosine_p75": 0.75, "cosine_p95": 0.95}
ERRORS = {"error_p50": 0.5, "error_p90": 0.9}
ROUNDING = 1e-13  # a relative size that is none
_FAR = 200  # powers of two from 1, up to which numbers are left in their own units


def groups_of(examples: int) -> int:
    """Into how many groups of equal size the examples of a batch fall, for the variance between them.

    >>> groups_of(32), groups_of(6), groups_of(11)
    (8, 6, 11)
    """
    found = max(groups for groups in range(1, min(MOST_GROUPS, examples) + 1) if examples % groups == 0)
    return found if found > 1 else examples


def measures(
    cell: Cell, full_by_group: Scaled, mean_by_group: Scaled, known: bool, draws: Iterable[Scaled]
) -> dict[str, float]:
    """What the draws of an estimator say of it, by column: `bias` is of all parameters, `bias_W_hh` of one.

    Parameters
    ----------
    full_by_group : (G, P, D), full BPTT's gradient of groups of examples.
    mean_by_group : (G, P, D), the mean over coins, if that is `known`; else of the run's own coins.
    draws : (some, P, D) at a time; a single one if no coins are thrown.

    Returns
    -------
    dict : for each parameter, and for all,
        `bias` |E g - g_full| / |g_full|, `bias_cosine` that of E g and g_full, `bias_noise` what the bias of so many
        draws is on average if it is zero (0 where the mean is known), `bias_batch_sd` what that of one batch is on
        average if it is zero over all data; `coin_sd`, `batch_sd` square roots of the variances; `error_rms`,
        `error_p50`, `error_p90` root mean square and quantiles over draws of |g - g_full| / |g_full|; `cosine_p05` ...
        `cosine_p95` those of the cosine of g and g_full; `wrong_sign_share` of the draws with a negative one;
        `top_share` the part of the coins' variance that the largest draw holds. nan where the full gradient is zero.

    Gradients more than 1e150 times the full one are infinitely far.
    """
    unit = _unit(full_by_group)
    by_group, full = _in_units(mean_by_group, unit), _in_units(full_by_group, unit)
    truth = full.sum(axis=0)
    center = by_group.sum(axis=0) if known else truth
    total, seen = np.zeros_like(truth), []
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for drawn in draws:
            found = _in_units(drawn, unit)
            total += found.sum(axis=0)
            seen.append(_sums(cell, found, truth, center))
        sums = _Sums(*(np.concatenate(parts) for parts in zip(*seen, strict=True)))
        if not known:
            center = total / len(sums.own)
        middle, batch = _sums(cell, center[None], truth, truth), _batch_variance(cell, by_group)
        size, apart = _products(cell, truth[None], truth[None]), _batch_variance(cell, by_group - full)
        blocks = range(len(cell.blocks()))
        columns: dict[str, float] = {}
        for own, suffix in [(list(blocks), ""), *(([block], f"_{name}") for block, name in enumerate(cell.blocks()))]:
            of, of_mean = (_Sums(*(part[:, own].sum(axis=1) for part in one)) for one in (sums, middle))
            summary = _summary(of, of_mean, size[:, own].sum(), known)
            summary |= {
                "batch_sd": _relative(batch[own].sum(), size[:, own].sum()),
                "bias_batch_sd": _relative(apart[own].sum(), size[:, own].sum()),
            }
            columns |= {name + suffix: float(value) for name, value in summary.items()}
    return columns


class _Sums(NamedTuple):
    """Of gradients, for each parameter, (N, blocks): |g|^2, g . g_full, |g - g_full|^2 and |g - E g|^2."""

    own: Floats
    product: Floats
    apart: Floats
    spread: Floats


def _sums(cell: Cell, found: Floats, full: Floats, mean: Floats) -> _Sums:
    apart = found - full
    squares = _products(cell, apart, apart)
    spread = apart if mean is full else found - mean
    return _Sums(
        own=_products(cell, found, found),
        product=_products(cell, found, np.broadcast_to(full, found.shape)),
        apart=squares,
        spread=squares if mean is full else _products(cell, spread, spread),
    )


def _products(cell: Cell, a: Floats, b: Floats) -> Floats:
    """Inner products of gradients (N, P, D), for each parameter, (N, blocks)."""
    return np.stack([np.vecdot(a[:, *at], b[:, *at]).sum(axis=1) for at in cell.blocks().values()], axis=1)


def _summary(seen: _Sums, middle: _Sums, size: np.float64, known: bool) -> dict[str, np.float64]:
    """The columns of some parameters, from sums (N,), those of the mean (1,) and |g_full|^2."""
    N = len(seen.own)
    bias, spread = _relative(middle.apart[0], size), _relative(seen.spread.mean(), size)
    deviation = spread
    if not known:  # the spread was about the full gradient
        deviation = np.sqrt(max(spread**2 - bias**2, 0.0) * N / max(1, N - 1))
    cosine = seen.product / np.sqrt(seen.own * (size or np.nan))
    error = np.sqrt(seen.apart / (size or np.nan))
    columns = {
        "bias": bias,
        "bias_cosine": (middle.product / np.sqrt(middle.own * (size or np.nan)))[0],
        "bias_noise": np.float64(0.0) if known else deviation / np.sqrt(N),
        "coin_sd": deviation,
        "error_rms": np.hypot(bias, deviation) if known else spread,
        "wrong_sign_share": (cosine < 0).mean() if size else np.float64(np.nan),
        "top_share": seen.spread.max() / seen.spread.sum() if seen.spread.any() else np.float64(0.0),
    }
    columns |= {name: np.quantile(error, level, method="lower") for name, level in ERRORS.items()}
    live = cosine[~np.isnan(cosine)]
    return columns | {name: np.quantile(live, level) if live.size else np.nan for name, level in COSINES.items()}


def _relative(square: np.float64, size: np.float64) -> np.float64:
    """The root of a square in units of |g_full|^2; nothing but rounding is none, nan if the full gradient is zero."""
    found = np.sqrt(square / (size or np.nan))
    return np.float64(0.0) if found < ROUNDING else found


def _batch_variance(cell: Cell, by_group: Floats) -> Floats:
    """The variance (blocks,) of a batch's gradient, from those (G, P, D) of its groups; nan of one group."""
    G = len(by_group)
    if G == 1:
        return np.full(len(cell.blocks()), np.nan)
    apart = G * by_group - by_group.sum(axis=0)
    return _products(cell, apart, apart).sum(axis=0) / (G * (G - 1))


def _unit(gradient: Scaled) -> int:
    """The power of two that is about a gradient's norm; 0 if that is not far from 1."""
    squares = gradient.squares()
    norm, exponent = Squares(squares.value.ravel(), squares.exponent.ravel()).joint()
    power = int(exponent + np.frexp(norm)[1])
    return power if abs(power) > _FAR and norm > 0.0 else 0


def _in_units(gradient: Scaled, unit: int) -> Floats:
    """Plain numbers, in units of 2**unit."""
    if not gradient.exponent.any() and unit == 0:
        return gradient.mantissa
    return Scaled(gradient.mantissa, gradient.exponent - unit).value()


class Work(NamedTuple):
    """What a truncation takes of each run or draw, (N,), without any sharing.

    Attributes
    ----------
    state_steps : steps of all its backward passes together.
    unroll : steps of the longest of them: states that have to be kept.
    """

    state_steps: NDArray[np.int64]
    unroll: NDArray[np.int64]


def work(schedule: Gates | Windows, steps: NDArray[np.int64], seq_len: int) -> Work:
    """What the losses at some (0-based) steps take under a schedule, for each of its rows of coins."""
    if isinstance(schedule, Windows):
        ends = {schedule.end(int(step) + 1): int(step) + 1 for step in steps}  # of each window, its last loss
        lengths = np.array([last - max(0, end - schedule.k2) for end, last in ends.items()])
        return Work(np.array([lengths.sum()]), np.array([lengths.max()]))
    shut = np.atleast_2d(schedule.weights == 0.0)
    kept = np.zeros((1, seq_len), bool) if schedule.entering is None else np.atleast_2d(schedule.entering == 0.0)
    losses = np.zeros(seq_len, bool)
    losses[steps] = True
    length = np.zeros(max(len(shut), len(kept)), np.int64)  # of the backward pass that comes to a step, with that step
    total, longest = np.zeros_like(length), np.zeros_like(length)
    going = np.zeros(len(length), bool)
    for t in range(seq_len - 1, -1, -1):
        length = np.where(going, length + 1, int(losses[t]))
        total += length > 0
        longest = np.maximum(longest, length)
        going = (going | (losses[t] & ~kept[:, t])) & ~shut[:, t - 1]
    return Work(total, longest)


def growth_rate(lag: NDArray[np.int64], log10_dh: Floats) -> float:
    """The growth of |dL/dh| with the lag, in nats a step, negative where it vanishes; nan of fewer than three lags.

    Least squares over the lags after the transient (from a quarter of them, at most 10); exact zeros are left out.
    """
    fitted = (lag >= min(10, len(lag) // 4)) & np.isfinite(log10_dh)
    if fitted.sum() < 3:
        return float("nan")
    return float(np.polyfit(lag[fitted], log10_dh[fitted], 1)[0] * np.log(10.0))
