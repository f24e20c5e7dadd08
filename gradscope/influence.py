"""Influence balancing: one parameter whose influence on the loss, cut off too early, has the wrong sign.

s_{t+1} = A s_t + theta v with A = I/2 + superdiagonal/2 (n = 23), v = +1 on the first 10 units and -1 on the other 13,
loss (s^1 - 1)^2 / 2. The parameter's use k steps back counts e_1^T A^k v, so a gradient that reaches K steps is the
derivative of the loss by s^1 times C_K, the sum of the first K of these: positive up to K = 40, at most 16.5 (K = 19),
and -6 in the limit. Gradient descent that truncates too early goes the wrong way at any learning rate.

Sources: Tallec & Ollivier (2017), "Unbiased online recurrent optimization", arXiv 1702.05043, and "Unbiasing truncated
backpropagation through time", arXiv 1705.08209; the setup as in Vicol, Metz & Sohl-Dickstein (2021), "Unbiased
gradient estimation in unrolled computation graphs with persistent evolution strategies", arXiv 2112.13835.

An *update*: the network goes on by an *unroll*, its state carried over; then theta takes one step of gradient descent.
An unroll is TAU steps for `chunked:TAU`, K1 for `tbptt:K1:K2`. Where gradients are carried forward (`full`, which is
real-time recurrent learning, and `random`) or every loss has a window of its own (`fixed`), it is one step. Its losses
are that of its last step ("last") or those of all its steps ("all"), taken together by mean or sum.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope import plugins, truncations
from gradscope.errors import InputError
from gradscope.scaled import Floats
from gradscope.schedule import Gates, Tossing, Windows
from gradscope.streams import coins
from gradscope.truncations import truncation
from gradscope.truncations.chunked import Chunked
from gradscope.truncations.full import Full

UNITS, POSITIVE = 23, 10
A = np.eye(UNITS) / 2 + np.eye(UNITS, k=1) / 2
V = np.where(np.arange(UNITS) < POSITIVE, 1.0, -1.0)
THETA, TARGET = 0.5, 1.0  # at the start; what s^1 should be
RATE = np.log(0.5)  # nats a step by which influences fall in the end
SUM = -6.0  # of all influences
OPTIMUM = TARGET / SUM  # of theta
HORIZON = 500  # lags: influences from there on are below the last bit of their sum, -6
LONGEST = 10_000  # steps of an unroll
AGES = 10_000  # steps since the last cut; `artbp` goes further once in a while, where nothing changes any more
BITS = 54  # of a probability
MOST = 1_000_000  # updates
SHARED = 4096  # updates that are computed at least: the runs of a curve, which end after fewer, share them

CONVENTIONS = {"last": "loss at the last step of each unroll", "all": "loss at every step"}  # loss_steps, in words

Strategy = Windows | Tossing


class Law(NamedTuple):
    """What an update multiplies the derivative of its loss by, over the coins; of several losses, their mean.

    Attributes
    ----------
    mean : -6 if the gradient is unbiased.
    deviation : standard deviation; 0 without coins, infinite for reweighted ones with pi <= 1/4.
    right : probability that it has the sign of -6.
    """

    mean: float
    deviation: float
    right: float


class Descent(NamedTuple):
    """What each update saw and did, (N,) each; from where float64's range is left on, not finite.

    Attributes
    ----------
    loss : of its unroll, before theta is changed.
    gradient : of that loss, truncated.
    full : the same, not truncated.
    theta : after the update.
    """

    loss: Floats
    gradient: Floats
    full: Floats
    theta: Floats


def influences(lags: int = HORIZON) -> Floats:
    """e_1^T A^k v for k = 0 .. `lags` - 1.

    >>> influences(3)
    array([1., 1., 1.])
    """
    return _readings(lags) @ V


def sums(loss_steps: str, longest: int = HORIZON) -> Floats:
    """What chunks of K = 1 .. `longest` steps multiply the derivative of their loss by.

    C_K with the loss of the last step ("last"), the mean of C_1 .. C_K with those of all steps ("all").

    >>> c = sums("last")
    >>> print(f"{c.max():.3f} at K = {c.argmax() + 1}, {c[-1]:.3f} in the limit")
    16.476 at K = 19, -6.000 in the limit
    """
    reached = np.cumsum(influences(longest))
    return reached if loss_steps == "last" else np.cumsum(reached) / np.arange(1, longest + 1)


def sign_threshold(loss_steps: str) -> int:
    """The length of chunks from which on the gradient has the right sign, at this and every greater length.

    >>> sign_threshold("last"), sign_threshold("all")
    (41, 110)
    """
    return int(np.flatnonzero(sums(loss_steps) >= 0).max()) + 2


@lru_cache(maxsize=256)
def law(spec: str, loss_steps: str) -> Law:
    """Mean, deviation and probability of the right sign of what a strategy's updates multiply by, after the beginning.

    Coins are enumerated by the steps l since their last cut: C has one value for each, with a probability in proportion
    to that of a segment to last l steps.

    >>> found = law("random:16", "last")
    >>> print(f"{found.mean:.1f} +- {found.deviation:.0f}, right in {found.right:.0%} of draws")
    -6.0 +- 54, right in 15% of draws
    """
    strategy = _strategy(spec)
    if isinstance(strategy, Windows):
        back = np.arange(1 if loss_steps == "last" else strategy.k1)
        mean = float(_reaching(strategy.k2 - back).mean())
        return Law(mean, 0.0, float(mean < 0))
    passing = _gates(strategy.schedule(np.zeros((1, AGES))))
    reached, probability = _outcomes(passing, _said(strategy, passing))
    (*_, mean) = _carried(_gates(strategy.expected(HORIZON)))
    bounded = not strategy.unbounded(RATE)
    deviation = float(np.linalg.norm(np.sqrt(probability) * (reached - mean))) if bounded else np.inf
    return Law(mean, deviation, float(probability[reached < 0].sum()))


@lru_cache(maxsize=256)
def enumerated_mean(spec: str) -> float:
    """The mean of what an update multiplies by, from coins and weights alone: -6 only if they belong together.

    Unlike that of `law`, whatever the strategy says of itself. The probability to go on is that of the coins that it
    lets pass; from lag 500 on it is taken to be in inverse proportion to the weights.

    >>> print(f"{enumerated_mean('random:16'):.9f}, {enumerated_mean('random-unweighted:16'):.3f}")
    -6.000000000, 7.746
    """
    strategy = _strategy(spec)
    if isinstance(strategy, Windows):
        return law(spec, "last").mean
    passing, continues = _gates(strategy.schedule(np.zeros((1, AGES)))), _seen(strategy)
    if passing.entering is None:
        weights = passing.weights[0, HORIZON - 1 :]
        later = continues[-1] * np.divide(weights[0], weights, out=np.zeros(len(weights)), where=weights > 0)
        continues = np.concatenate([continues[:-1], later])
    reached, probability = _outcomes(passing, continues)
    return float(probability @ reached)


def descend(spec: str, loss_steps: str, reduction: str, learning_rate: float, updates: int, seed: int) -> Descent:
    """Gradient descent on theta by a truncation strategy; the coins are those of the seed.

    InputError for a strategy that this problem cannot be run by.

    >>> print(f"{descend('chunked:1', 'last', 'mean', 1e-4, updates=3000, seed=0).loss[-1]:.4f}")
    186.0987
    """
    thrown = 0 if isinstance(_strategy(spec), Windows) else seed
    computed = max(SHARED, 1 << (updates - 1).bit_length())
    found = _descend(spec, loss_steps, reduction, learning_rate, computed, thrown)
    return Descent(*(values[:updates] for values in found))


def check_strategy(spec: str) -> None:
    """Raise InputError, which lists the strategies that there are, if a truncation is none of them."""
    _strategy(spec)


def log10_state_gradient(lags: int) -> Floats:
    """log10 of |e_1^T A^k|, the gradient of s^1 with respect to the state k steps before, for k = 0 .. `lags` - 1.

    Its entries are binomial(k, i) / 2^k, i < n.

    >>> print(log10_state_gradient(3).round(6))
    [ 0.       -0.150515 -0.212984]
    """
    k = np.arange(lags, dtype=np.float64)
    entries = np.ones((UNITS, lags))
    for i in range(1, UNITS):
        entries[i] = entries[i - 1] * np.maximum(k - i + 1, 0.0) / i
    return 0.5 * np.log10(np.sum(entries**2, axis=0)) - k * np.log10(2.0)


def _strategy(spec: str) -> Strategy:
    """When theta is updated, and by what: windows of k1 steps, or a step at a time with coins."""
    found = truncation(spec)
    if isinstance(found, Full):
        return Windows(1, HORIZON)
    if isinstance(found, Tossing) and found.expected(1) is not None:
        return found
    windows = Windows(found.tau, found.tau) if isinstance(found, Chunked) else found.schedule(coins([0], 1))
    if not isinstance(windows, Windows):
        own = spec.partition(":")[0]
        allowed = ", ".join(usage for usage in plugins.usage(truncations.FAMILY) if usage.partition(":")[0] != own)
        raise InputError(f"{spec!r} does not say when a parameter is updated", where="truncation", allowed=allowed)
    if windows.k1 > LONGEST:
        raise InputError(f"{spec!r}", where="truncation", allowed=f"at most {LONGEST} steps between two updates")
    return windows


def _outcomes(passing: Gates, continues: Floats) -> tuple[Floats, Floats]:
    """What a loss may be multiplied by, with which probability; given that to go on at each step after a cut."""
    if passing.entering is not None:
        here, (*_, everything) = V[0], _carried(passing)
        return np.array([everything, here]), np.array([continues[0], 1.0 - continues[0]])
    lasts = np.cumprod(np.concatenate([[1.0], continues[:-1]]))
    lasts = lasts[lasts > 0]  # in float64
    reached = np.fromiter(itertools.islice(_carried(passing), len(lasts)), float)
    return reached, lasts / lasts.sum()


def _said(strategy: Tossing, passing: Gates) -> Floats:
    """The probability to go on at each step after a cut, by what the strategy says of its mean."""
    if passing.entering is not None:
        return np.array([1.0 / passing.entering[0, -1]])
    weights, expected = passing.weights[0], _gates(strategy.expected(AGES)).weights
    return np.divide(expected, weights, out=np.zeros(AGES), where=weights > 0)


def _seen(strategy: Tossing) -> Floats:
    """The probability to go on at each of the first steps after a cut, (HORIZON,): the least coin that cuts there.

    Found by bisection, of all at once: run l tosses 0 at all steps but the l-th, so that it is cut there or nowhere.
    """
    passes, cuts = np.zeros(HORIZON), np.ones(HORIZON)
    for _ in range(BITS):
        coin = 0.5 * (passes + cuts)
        gates = _gates(strategy.schedule(np.diag(coin)))
        gate = np.diagonal(gates.weights) if gates.entering is None else np.append(gates.entering.diagonal(1), 0.0)
        passes, cuts = np.where(gate > 0.0, coin, passes), np.where(gate > 0.0, cuts, coin)
    return cuts


@lru_cache(maxsize=256)
def _descend(spec: str, loss_steps: str, reduction: str, learning_rate: float, updates: int, seed: int) -> Descent:
    state, theta = np.ones(UNITS), THETA
    seen = np.empty((updates, 4))
    which = slice(-1, None) if loss_steps == "last" else slice(None)
    with np.errstate(over="ignore", invalid="ignore"):
        for update, (reached, influence) in enumerate(_unrolls(_strategy(spec), updates, seed)):
            readings, from_theta, power, added = _unroll(len(reached))
            error = readings[which] @ state + theta * from_theta[which] - TARGET
            share = len(error) if reduction == "mean" else 1
            gradient, full = float(error @ reached[which]) / share, float(error @ influence[which]) / share
            state = power @ state + theta * added
            theta = theta - learning_rate * gradient
            seen[update] = 0.5 * float(error @ error) / share, gradient, full, theta
    return Descent(*seen.T)


def _unrolls(strategy: Strategy, updates: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """For each update, what the derivatives of its unroll's losses are multiplied by: truncated, and in truth."""
    if isinstance(strategy, Windows):
        back = np.arange(strategy.k1 - 1, -1, -1)
        for end in range(strategy.k1, (updates + 1) * strategy.k1, strategy.k1):
            yield _reaching(np.minimum(end, strategy.k2) - back), _reaching(end - back)
    else:
        gates = _gates(strategy.schedule(coins([seed], updates)))
        for step, reached in enumerate(_carried(gates), start=1):
            yield np.array([reached]), _reaching(np.array([step]))


def _gates(schedule: Gates | Windows | None) -> Gates:
    """The schedule, which for the strategies that toss coins is one of gates."""
    if not isinstance(schedule, Gates):
        raise TypeError(f"{schedule} has no gates")
    return schedule


def _carried(gates: Gates) -> Iterator[float]:
    """What the loss at each step is multiplied by, the influence ds/dtheta carried forward through the gates."""
    weights = np.atleast_2d(gates.weights)[0]
    entering = np.ones(len(weights)) if gates.entering is None else gates.entering[0]
    before = np.zeros(UNITS)
    for gate, enters in zip(weights, entering, strict=True):
        yield float(V[0] + enters * before[0])
        before = gate * (A @ (before + V))


def _reaching(lengths: NDArray[np.int64]) -> Floats:
    """C_K for each of the lengths K."""
    return _sums()[np.minimum(lengths, HORIZON) - 1]


@lru_cache(maxsize=1)
def _sums() -> Floats:
    return sums("last")


@lru_cache(maxsize=64)
def _unroll(length: int) -> tuple[Floats, Floats, Floats, Floats]:
    """How s^1 at each step of an unroll, and the state at its end, depend on the state before it and on theta."""
    steps = np.arange(1, length + 1)
    added = np.linalg.solve(np.eye(UNITS) - A, V - np.linalg.matrix_power(A, length) @ V)
    return _readings(length + 1)[1:], _reaching(steps), np.linalg.matrix_power(A, length), added


@lru_cache(maxsize=64)
def _readings(number: int) -> Floats:
    """e_1^T A^k for k = 0 .. `number` - 1, (number, n)."""
    rows = np.empty((number, UNITS))
    row = np.eye(UNITS)[0]
    for k in range(number):
        rows[k] = row
        row = row @ A
    return rows
