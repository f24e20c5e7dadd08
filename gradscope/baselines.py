"""Naive predictions, beside which every score of a trained network is shown: what does not beat them learned nothing.

For a series: its last value, its value a period ago, its mean, a linear autoregression. For a text: n-grams. All are
fitted on the training part alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradscope.errors import InputError, at_least
from gradscope.scaled import Floats

Codes = NDArray[np.int64]

HIGHEST_ORDER = 20  # of the autoregression
SHORTEST = 8  # values, from which a period or an autoregression is fitted
REPEATS = 10  # periods, over which a period that is no whole number of steps is sought to become one
SIGNIFICANCE = 0.05  # chance of a period where there is none, before it must be seen twice
ALIKE = 3.0  # standard errors, within which the shorter of two lags is taken
ROUNDING = 1e-12  # of the largest value: differences that are none
LARGEST = 1e100  # value whose squares can be added up


@dataclass(frozen=True)
class Forecast:
    """A naive forecast of a series: call it with histories (W, K) and a horizon H for what follows them, (H, K).

    Attributes
    ----------
    name : what it is called beside a score.
    predict : (W, K), H -> (H, K), free running: what is predicted further ahead builds on what is predicted before.
    needs : so many values it looks back; the lag of "seasonal", the order of "linear".
    period : of "seasonal", in steps; its lag is the multiple of it, in whole steps, after which the training part
        repeats itself.
    """

    name: str
    predict: Callable[[Floats, int], Floats]
    needs: int = 1
    period: float | None = None

    def __call__(self, history: ArrayLike, horizon: int) -> Floats:
        """What follows each of K histories, (H, K).

        Parameters
        ----------
        history : (W, K), true values up to the origin; only the last `needs` count.
        horizon : H, steps.

        Raises
        ------
        InputError : histories that are not (W, K), shorter than `needs` or not finite; a horizon below 1.
        """
        past = _numbers(history, "history", ("W", "K"))
        at_least(1, horizon=horizon)
        if len(past) < self.needs:
            raise InputError(f"{len(past)} values", where="history", allowed=f"at least {self.needs} for {self.name!r}")
        return self.predict(past, horizon)


def forecasts(train: ArrayLike) -> dict[str, Forecast]:
    """The naive forecasts of a series by name, fitted on its training part (N,).

    "last value" and "mean" are always there; "seasonal" if the training part has a period, "linear" (an autoregression,
    its order chosen by AICc) from 8 values on.

    Raises
    ------
    InputError : no values, not one series, or something else than finite numbers.

    Examples
    --------
    >>> wave = np.sin(2 * np.pi * np.arange(400) / 20.5)
    >>> found = forecasts(wave[:300])
    >>> sorted(found), round(found["seasonal"].period, 2), found["seasonal"].needs, found["linear"].needs
    (['last value', 'linear', 'mean', 'seasonal'], 20.5, 41, 2)
    >>> bool(np.allclose(found["seasonal"](wave[:300, None], 100)[:, 0], wave[300:]))
    True
    """
    values = _numbers(train, "train", ("N",))
    if not len(values):
        raise InputError("no values", where="train")
    found = [Forecast("last value", _last_value), Forecast("mean", partial(_constant, value=float(values.mean())))]
    if repeated := season(values):
        found.append(Forecast("seasonal", partial(_seasonal, lag=repeated.lag), repeated.lag, repeated.period))
    if len(values) >= SHORTEST:
        weights = _autoregression(values)
        found.append(Forecast("linear", partial(_linear, weights=weights), max(1, len(weights) - 1)))
    return {forecast.name: forecast for forecast in found}


def horizon_errors(predicted: ArrayLike, true: ArrayLike) -> Floats:
    """The RMS error at each horizon, (H,), over K windows: of (H, K) against (H, K).

    What is predicted may have left the range of floats, as a free-running network that diverges does: the error is then
    infinite.

    Raises
    ------
    InputError : shapes that differ or are not (H, K), no windows, truths that are not finite.

    Examples
    --------
    >>> horizon_errors([[1.0, 1.0], [2.0, 3.0]], [[1.0, 1.0], [1.0, 2.0]])
    array([0., 1.])
    """
    truth = _numbers(true, "true", ("H", "K"))
    guess = np.asarray(predicted, np.float64)
    if guess.shape != truth.shape or not truth.shape[1]:
        raise InputError(f"{guess.shape} against {truth.shape}", where="predicted", allowed="(H, K) both, K >= 1")
    error = np.abs(np.where(np.isfinite(guess), guess, np.inf) - truth)
    largest = error.max(axis=1, initial=0.0)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)[:, None]  # so that no square overflows
    return scale[:, 0] * np.sqrt(np.mean(np.square(error / scale), axis=1))


class Season(NamedTuple):
    """How a series repeats itself.

    Attributes
    ----------
    period : in steps, to a fraction of a step.
    lag : whole steps, near a multiple of the period.
    """

    period: float
    lag: int


def season(train: ArrayLike) -> Season | None:
    """The period of a series (N,); None if it has none, or is too short to tell: some 6 periods are needed.

    A period is the lag of the first maximum of the autocorrelation, after it crossed zero, that is significant there
    and again at twice the lag; followed over up to 10 periods, it is known to a fraction of a step. The lag is the
    smallest multiple of it, in whole steps, after which the squared difference of the series to itself is the least, or
    within 3 standard errors of it: 41 for a clean wave with a period of 20.5 steps. Where the values have no period,
    their steps are searched, so that a trend does not hide one.

    The autocorrelation is 1 - (squared difference at a lag) / (sum of both mean squares), which is 1 at the period of a
    wave however few periods there are: McLeod & Wyvill (2005), "A smarter way to find pitch". Its standard error is
    Bartlett's (1946) with the correlations up to the first zero, so that slow noise and random walks have no period:
    of 1000 Gaussian ones, of 60 to 1400 steps, at most one had. A harmonic much stronger than the fundamental may be
    given as the period; the lag is right even then.

    Raises
    ------
    InputError : not one series, or something else than finite numbers.

    Examples
    --------
    >>> season(np.resize([0, 1, 2, 3, 2, 1], 100)).lag
    6
    >>> season(np.random.default_rng(0).standard_normal(400).cumsum())
    """
    values = _numbers(train, "train", ("N",))
    if len(values) < SHORTEST:
        return None
    rounding = _rounding(values)
    peaks = _repeats(values, rounding) or _repeats(np.diff(values), rounding)
    if not peaks:
        return None
    period = peaks[-1] / len(peaks)
    lags = [round(number * period) for number in range(1, len(peaks) + 1)]
    squares = [np.square(values[lag:] - values[:-lag]) for lag in lags]
    means = np.array([one.mean() for one in squares])
    variances = np.array([one.var() / len(one) for one in squares])
    least = np.argmin(means)
    near = means - means[least] <= ALIKE * np.sqrt(variances + variances[least]) + rounding**2
    return Season(period, lags[np.argmax(near)])


def _repeats(values: Floats, rounding: float) -> list[float]:
    """Lags at which a series repeats itself once, twice, ..., to a fraction of a step; at least two, or none."""
    if values.std() <= rounding:
        return []
    alike = _autocorrelation(values - values.mean())
    if not (alike <= 0).any():
        return []
    zero = int(np.argmax(alike <= 0))
    lags = np.arange(len(alike))
    deviations = NormalDist().inv_cdf(1 - SIGNIFICANCE / len(alike))
    level = deviations * np.sqrt((1 + 2 * np.square(alike[1 : zero + 1]).sum()) / (len(values) - lags))
    significant = lags[(alike > level) & (lags > zero)]
    while len(significant):
        first = significant[0]
        end = first + int(np.argmax(np.append(alike[first:], 0.0) <= 0))  # where this maximum's surroundings end
        peaks = _multiples(alike, level, int(first + np.argmax(alike[first:end])))
        if len(peaks) > 1:
            return peaks
        significant = significant[significant >= end]
    return []


def _autocorrelation(values: Floats) -> Floats:
    """At lags from 0 to N/2, each over the pairs that there are: twice the products, in parts of both squares' sum."""
    N, lags = len(values), np.arange(len(values) // 2 + 1)
    spectrum = np.fft.rfft(values, 2 * N)
    products = np.fft.irfft(np.abs(spectrum) ** 2, 2 * N)[lags]
    squares = np.concatenate([[0.0], np.cumsum(np.square(values))])
    both = squares[N - lags] + squares[N] - squares[lags]
    return 2 * products / np.where(both > 0, both, 1.0)


def _multiples(alike: Floats, level: Floats, first: int) -> list[float]:
    """The maxima near multiples of the first, while they are significant; each says better where the next one is."""
    peaks = [_vertex(alike, first)]
    while len(peaks) < REPEATS:
        known, number = peaks[-1] / len(peaks), len(peaks) + 1
        middle, around = round(number * known), max(1, round(known / 4))
        low, high = max(middle - around, 2 * number), middle + around  # no period is below two steps
        if high >= len(alike):
            break
        peak = low + int(np.argmax(alike[low : high + 1]))
        if alike[peak] <= level[peak]:
            break
        peaks.append(_vertex(alike, peak))
    return peaks


def _vertex(alike: Floats, peak: int) -> float:
    """Where the parabola through a maximum and its neighbours has its own."""
    before, top, after = alike[[peak - 1, peak, min(peak + 1, len(alike) - 1)]]
    bend = before - 2 * top + after
    return peak + (float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0)


def _autoregression(values: Floats) -> Floats:
    """[c, w_1, ..., w_p] of x_t = c + sum_i w_i x_{t-i}, by least squares; p by AICc, Hurvich & Tsai (1989).

    All orders are fitted on the same rows. In the triangle of [1, x_{t-1}, ..., x_t] the last column says what each lag
    explains that those before it do not: one decomposition has the residuals of all orders.
    """
    N, mean, highest = len(values), values.mean(), min(HIGHEST_ORDER, len(values) // 4)
    around = values - mean
    past = [around[highest - lag : N - lag] for lag in range(1, highest + 1)]
    rows, targets = np.column_stack([np.ones(N - highest), *past]), around[highest:]
    triangle = np.asarray(np.linalg.qr(np.column_stack([rows, targets]), mode="r"))
    explained = triangle[:, -1]
    residual = np.cumsum(np.square(explained[::-1]))[::-1][1:] / len(targets)  # mean square, of orders 0, 1, ...
    noise = max(_rounding(values) ** 2, np.finfo(np.float64).tiny)  # less is that of a series that obeys exactly
    fitted = np.arange(len(residual)) + 2  # weights, constant, variance
    penalty = 2 * fitted * len(targets) / (len(targets) - fitted - 1)
    order = int(np.argmin(len(targets) * np.log(np.maximum(residual, noise)) + penalty))
    weights = np.linalg.lstsq(rows[:, : order + 1], targets, rcond=None)[0]
    weights[0] += mean * (1 - weights[1:].sum())
    return weights


def _last_value(history: Floats, horizon: int) -> Floats:
    return np.repeat(history[-1:], horizon, axis=0)


def _constant(history: Floats, horizon: int, value: float) -> Floats:
    return np.full((horizon, history.shape[1]), value)


def _seasonal(history: Floats, horizon: int, lag: int) -> Floats:
    return history[len(history) - lag + np.arange(horizon) % lag]


def _linear(history: Floats, horizon: int, weights: Floats) -> Floats:
    constant, latest_first = weights[0], weights[1:]
    order = len(latest_first)
    path = np.concatenate([history[len(history) - order :], np.empty((horizon, history.shape[1]))])
    with np.errstate(over="ignore", invalid="ignore"):  # what is fitted to growth may leave the range of floats
        for t in range(order, order + horizon):
            path[t] = constant + latest_first @ path[t - order : t][::-1]
    return path[order:]


class Counts(NamedTuple):
    """What followed each context of one length. Contexts are numbers to base V, n-grams as well, all in order.

    Attributes
    ----------
    grams, gram_counts : (G,) each context with a character that followed it, and how often it did.
    contexts, totals, kinds : (C,) each context, how many characters followed it, and how many different ones.
    """

    grams: Codes
    gram_counts: Codes
    contexts: Codes
    totals: Codes
    kinds: Codes

    def smooth(self, contexts: Codes, codes: Codes, shorter: Floats, vocabulary: int) -> Floats:
        """P(code | context), from that given the context without its first character; all (M,)."""
        (count,) = _looked_up(self.grams, contexts * vocabulary + codes, self.gram_counts)
        total, kinds = _looked_up(self.contexts, contexts, self.totals, self.kinds)
        return np.where(total > 0, (count + kinds * shorter) / np.maximum(total + kinds, 1), shorter)


@dataclass(frozen=True, eq=False)
class NGram:
    """Probabilities of the next character given the `order` - 1 before it: interpolated Witten-Bell.

    P(c | h) = (count(h c) + kinds(h) P(c | h')) / (count(h) + kinds(h)): kinds(h) is how many different characters
    followed the context h, h' is h without its first character, and P is 1/V before all contexts. No probability is 0.

    Sources: Witten & Bell (1991), "The zero-frequency problem: estimating the probabilities of novel events in adaptive
    text compression"; Chen & Goodman (1998), "An empirical study of smoothing techniques for language modeling".

    Attributes
    ----------
    vocabulary : V, characters.
    levels : the counts for contexts of 0, 1, ... characters; none for the uniform distribution.
    """

    vocabulary: int
    levels: tuple[Counts, ...]

    @property
    def order(self) -> int:
        """0 is uniform, 1 a unigram, 2 a bigram, ..."""
        return len(self.levels)

    def distribution(self, context: ArrayLike = ()) -> Floats:
        """P(c | context) of every character, (V,). What a context is short of is left out."""
        before = _codes(context, "context", self.vocabulary)
        every = np.arange(self.vocabulary)
        P = np.full(self.vocabulary, 1 / self.vocabulary)
        for length, counts in enumerate(self.levels[: len(before) + 1]):
            (number,) = _contexts(np.append(before[len(before) - length :], 0), length, self.vocabulary)
            P = counts.smooth(np.full_like(every, number), every, P, self.vocabulary)
        return P

    def probabilities(self, codes: ArrayLike, context: ArrayLike = ()) -> Floats:
        """P of each character of a text (N,) given those before it; before the first ones stands `context`, if any.

        Raises
        ------
        InputError : codes that are not whole numbers from 0 to V - 1.
        """
        before, text = _codes(context, "context", self.vocabulary), _codes(codes, "codes", self.vocabulary)
        before = before[len(before) - min(len(before), max(self.order - 1, 0)) :]
        joined = np.concatenate([before, text])
        P = np.full(len(joined), 1 / self.vocabulary)
        for length, counts in enumerate(self.levels[: len(joined)]):
            contexts = _contexts(joined, length, self.vocabulary)
            P[length:] = counts.smooth(contexts, joined[length:], P[length:], self.vocabulary)
        return P[len(before) :]

    def cross_entropy(self, codes: ArrayLike, context: ArrayLike = ()) -> float:
        """Mean of -log P over a text (N,), in nats a character; `context` is what stands before it, if anything.

        Raises
        ------
        InputError : codes that are not whole numbers from 0 to V - 1, or none.
        """
        P = self.probabilities(codes, context)
        if not len(P):
            raise InputError("no characters", where="codes")
        return float(-np.log(P).mean())


def ngrams(train_codes: ArrayLike, vocabulary: int, order: int) -> NGram:
    """The n-gram model of a text (N,) of character codes from 0 to `vocabulary` - 1.

    Raises
    ------
    InputError : codes that are not whole numbers from 0 to `vocabulary` - 1; fewer than `order`; an order below 0; more
        n-grams than 64-bit numbers can tell apart.

    Examples
    --------
    >>> model = ngrams([0, 1, 0, 1, 0, 2], vocabulary=4, order=2)
    >>> model.distribution([0])  # followed by 1, 1, 2: (count + 2 P) / 5, with P = (count + 3 / 4) / 9
    array([0.16666667, 0.52222222, 0.27777778, 0.03333333])
    >>> round(model.cross_entropy([1, 0, 1, 0]), 2)
    0.57
    """
    at_least(1, vocabulary=vocabulary)
    at_least(0, order=order)
    codes = _codes(train_codes, "train_codes", vocabulary)
    if len(codes) < order:
        raise InputError(f"{len(codes)} characters", where="train_codes", allowed=f"at least the order, {order}")
    if int(vocabulary) ** order > np.iinfo(np.int64).max:
        raise InputError(f"{vocabulary}**{order} n-grams are too many to number", where="order")
    return NGram(vocabulary, tuple(_count(codes, length, vocabulary) for length in range(order)))


def scores(train: ArrayLike, test: ArrayLike, vocabulary: int, context: ArrayLike = ()) -> dict[str, float]:
    """Cross-entropy of a text by n-grams of another, in nats a character: "uniform", "unigram", "bigram", "trigram".

    Parameters
    ----------
    train, test : character codes from 0 to `vocabulary` - 1.
    context : what stands before the first character of `test`, if anything.

    Raises
    ------
    InputError : as `ngrams` and `NGram.cross_entropy`.

    Examples
    --------
    >>> found = scores([0, 1] * 50, [0, 1] * 50, vocabulary=2)
    >>> {name: round(nats, 2) for name, nats in found.items()}
    {'uniform': 0.69, 'unigram': 0.69, 'bigram': 0.02, 'trigram': 0.01}
    """
    levels = ngrams(train, vocabulary, order=3).levels
    names = ("uniform", "unigram", "bigram", "trigram")
    return {name: NGram(vocabulary, levels[:order]).cross_entropy(test, context) for order, name in enumerate(names)}


def _count(codes: Codes, length: int, vocabulary: int) -> Counts:
    """What follows the contexts of one length in a text."""
    grams, gram_counts = np.unique(
        _contexts(codes, length, vocabulary) * vocabulary + codes[length:], return_counts=True
    )
    contexts, starts, kinds = np.unique(grams // vocabulary, return_index=True, return_counts=True)
    return Counts(grams, gram_counts, contexts, np.add.reduceat(gram_counts, starts), kinds)


def _contexts(codes: Codes, length: int, vocabulary: int) -> Codes:
    """Of each character but the first `length`, the number of the `length` before it: (N - length,)."""
    number = np.zeros(len(codes) - length, np.int64)
    for first in range(length):
        number = number * vocabulary + codes[first : len(codes) - length + first]
    return number


def _looked_up(keys: Codes, wanted: Codes, *values: Codes) -> list[Codes]:
    """The values of the wanted among ascending keys; 0 where they are not."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    there = keys[place] == wanted
    return [np.where(there, value[place], 0) for value in values]


def _rounding(values: Floats) -> float:
    """The differences that are none among such values."""
    return ROUNDING * float(np.abs(values).max())


def _numbers(values: ArrayLike, where: str, axes: tuple[str, ...]) -> Floats:
    """Numbers of that many axes, or InputError."""
    found = np.asarray(values, np.float64)
    if found.ndim != len(axes):
        raise InputError(f"shape {found.shape}", where=where, allowed=f"({', '.join(axes)}{',' * (len(axes) == 1)})")
    if not (np.abs(found) <= LARGEST).all():
        raise InputError("values that are not finite or too large", where=where, allowed=f"up to {LARGEST:g} in size")
    return found


def _codes(codes: ArrayLike, where: str, vocabulary: int) -> Codes:
    """Character codes (N,), or InputError."""
    found = np.asarray(codes)
    allowed = f"whole numbers from 0 to {vocabulary - 1}, (N,)"
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
        raise InputError(f"{found.dtype} of shape {found.shape}", where=where, allowed=allowed)
    if len(found) and not (found.min() >= 0 and found.max() < vocabulary):
        raise InputError(f"codes from {found.min()} to {found.max()}", where=where, allowed=allowed)
    return found.astype(np.int64)
