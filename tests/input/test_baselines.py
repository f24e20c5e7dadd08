"""Guards the naive predictions: closed forms on waves and recurrences, Witten-Bell by its definition, known entropy."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from gradscope.baselines import Forecast, forecasts, horizon_errors, ngrams, scores, season
from gradscope.errors import InputError

AMPLITUDE = np.sqrt(2)
NAMES = ["uniform", "unigram", "bigram", "trigram"]


def wave(period, steps, phase=0.3):
    """A sine whose standard deviation is 1."""
    return AMPLITUDE * np.sin(2 * np.pi * np.arange(steps) / period + phase)


def windows(series, history, horizon, origins):
    """Histories (W, K) and what follows them (H, K), at the first so many origins."""
    cut = np.lib.stride_tricks.sliding_window_view(series, history + horizon)[:origins].T
    return cut[:history], cut[history:]


def noise(seed, steps):
    return np.random.default_rng(seed).standard_normal(steps)


def recurrence(weights, start, steps, constant=0.0, shocks=None):
    """x_t = constant + sum_i weights[i] x_{t-1-i} + shock, by its definition."""
    series = list(start)
    for t in range(len(start), steps):
        shock = 0.0 if shocks is None else shocks[t]
        series.append(constant + sum(w * series[t - 1 - i] for i, w in enumerate(weights)) + shock)
    return np.array(series)


# Forecasts of series


@pytest.mark.parametrize("period", [8, 20, 33])
def test_errors_on_a_wave_are_those_of_closed_forms(period):
    # x_{t+h} - x_t = 2 A sin(pi h / period) cos(...), whose mean square over whole periods of origins is half of A^2's.
    found = forecasts(wave(period, 20 * period))
    history, true = windows(wave(period, 7 * period), period, 3 * period, origins=2 * period)
    h = np.arange(1, 3 * period + 1)
    expected = {
        "last value": np.sqrt(2) * AMPLITUDE * np.abs(np.sin(np.pi * h / period)),
        "mean": np.full(3 * period, AMPLITUDE / np.sqrt(2)),
        "seasonal": np.zeros(3 * period),
        "linear": np.zeros(3 * period),
    }
    assert found.keys() == expected.keys()
    for name, errors in expected.items():
        np.testing.assert_allclose(horizon_errors(found[name](history, len(h)), true), errors, atol=1e-10)


def test_a_lag_of_whole_steps_errs_by_the_phase_it_misses():
    # The training part is too short for a multiple of 12.3 that is nearer to whole steps: a lag of 12, then of 24, ...
    seasonal = forecasts(wave(12.3, 75))["seasonal"]
    assert seasonal.needs == 12
    assert seasonal.period == pytest.approx(12.3, abs=0.02)
    history, true = windows(wave(12.3, 12 + 36 + 123 * 4), 12, 36, origins=123 * 4)
    lag = np.repeat([12, 24, 36], 12)
    expected = np.sqrt(2) * AMPLITUDE * np.abs(np.sin(np.pi * lag / 12.3))
    np.testing.assert_allclose(horizon_errors(seasonal(history, 36), true), expected, rtol=1e-10)


@given(
    radius=st.floats(0.9, 1.0),
    angle=st.floats(0.3, 2.8),
    root=st.floats(-0.95, 0.95),
    constant=st.floats(-2, 2),
    order=st.sampled_from([1, 2, 3]),
)
def test_a_linear_recurrence_is_predicted_exactly(radius, angle, root, constant, order):
    pair = [2 * radius * np.cos(angle), -(radius**2)]
    weights = [[root], pair, [pair[0] + root, pair[1] - root * pair[0], -root * pair[1]]][order - 1]
    series = recurrence(weights, [1.0, -0.5, 0.7][:order], 90, constant)
    linear = forecasts(series[:60])["linear"]
    assert linear.needs <= order
    np.testing.assert_allclose(linear(series[:60, None], 30)[:, 0], series[60:], atol=1e-8 * np.abs(series).max())


def test_fibonacci_numbers_go_on_to_grow():
    series = recurrence([1, 1], [1, 1], 60)
    np.testing.assert_allclose(forecasts(series[:30])["linear"](series[:30, None], 30)[:, 0], series[30:], rtol=1e-6)


def test_forecasts_of_growth_leave_the_range_of_floats_without_a_warning():
    linear = forecasts(2.0 ** np.arange(40))["linear"]
    predicted = linear([[1.0]] * linear.needs, 2000)
    assert horizon_errors(predicted, np.zeros((2000, 1)))[-1] == np.inf


def test_an_autoregression_errs_by_the_noise_that_has_come_since():
    # AR(1): the h-step error of the true coefficient is sigma sqrt((1 - phi^2h) / (1 - phi^2)).
    phi, N = 0.8, 40_000
    series = recurrence([phi], [0.0], 2 * N, shocks=noise(1, 2 * N))
    linear = forecasts(series[:N])["linear"]
    history, true = windows(series[N:], linear.needs, 12, origins=N)
    h = np.arange(1, 13)
    # An RMS over N errors, correlated over some 2 / (1 - phi) steps, is known to sqrt(10 / 2 N) = 1.1 %.
    expected = np.sqrt((1 - phi ** (2 * h)) / (1 - phi**2))
    np.testing.assert_allclose(horizon_errors(linear(history, 12), true), expected, rtol=0.03)


@pytest.mark.parametrize(
    ("weights", "N"), [([0.5], 30), ([0.2, -0.6], 200), ([0.0, 0.0, 0.7], 400), ([], 9), ([], 24), ([], 100)]
)
@pytest.mark.parametrize("seed", range(5))
def test_the_autoregression_has_the_least_aicc_of_separate_fits(weights, N, seed):
    series = recurrence(weights, noise(seed + 50, len(weights)), N, constant=3.0, shocks=noise(seed, N))
    highest, criterion, next_value = min(20, N // 4), [], []
    for order in range(highest + 1):
        rows = np.array([[1.0, *series[t - order : t][::-1]] for t in range(highest, N + 1)])
        predicted = rows @ np.linalg.lstsq(rows[:-1], series[highest:], rcond=None)[0]
        n, k = N - highest, order + 2
        square = np.mean((series[highest:] - predicted[:-1]) ** 2)
        criterion.append(n * np.log(square) + 2 * k + 2 * k * (k + 1) / (n - k - 1))
        next_value.append(predicted[-1])
    linear, best = forecasts(series)["linear"], np.argmin(criterion)
    assert linear.needs == max(1, best)
    np.testing.assert_allclose(linear(series[:, None], 1)[0, 0], next_value[best], rtol=1e-10)


@pytest.mark.parametrize("series", [wave(20, 300), wave(7.3, 300) + noise(2, 300), noise(3, 300).cumsum()], ids=str)
def test_free_running_is_one_step_ahead_again_and_again(series):
    for forecast in forecasts(series).values():
        history, _ = windows(series, 150, 1, origins=5)
        grown = history
        for _ in range(40):
            grown = np.concatenate([grown, forecast(grown, 1)])
        np.testing.assert_allclose(forecast(history, 40), grown[150:], atol=1e-12 * np.abs(series).max())


def test_windows_are_predicted_alike_alone_and_from_no_more_than_is_needed():
    series = wave(20, 300) + 0.3 * noise(0, 300)
    for forecast in forecasts(series).values():
        history, _ = windows(series, 200, 1, origins=7)
        together = forecast(history, 30)
        assert together.shape == (30, 7)
        for k in range(7):
            alone = forecast(history[-forecast.needs :, k : k + 1], 30)[:, 0]
            np.testing.assert_allclose(alone, together[:, k], rtol=1e-12, atol=1e-14)


def test_forecasts_do_not_change_their_history_and_travel_between_processes():
    series = wave(20, 300)
    history = series[:100, None].copy()
    for name, forecast in forecasts(series).items():
        assert isinstance(forecast, Forecast)
        assert forecast.name == name
        predicted = forecast(history, 3)
        predicted[:] = np.nan
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(forecast))(history, 3), forecast(history, 3))
    np.testing.assert_array_equal(history[:, 0], series[:100])


@given(value=st.floats(-1e12, 1e12), length=st.integers(1, 60))
def test_a_constant_series_has_no_season_and_stays_as_it_is(value, length):
    found = forecasts(np.full(length, value))
    assert found.keys() == {"last value", "mean"} | ({"linear"} if length >= 8 else set())
    for forecast in found.values():
        np.testing.assert_allclose(forecast(np.full((30, 2), value), 9), value, rtol=1e-12)


@pytest.mark.parametrize(("length", "names"), [(1, 2), (7, 2), (8, 3), (20, 3)])
def test_short_series_have_the_forecasts_that_can_be_fitted(length, names):
    found = forecasts(noise(4, length))
    assert len(found) == names
    assert all(np.isfinite(forecast(np.ones((6, 1)), 2)).all() for forecast in found.values())


@pytest.mark.parametrize(
    ("train", "fault"),
    [
        ([], "train: no values"),
        ([[1.0, 2.0]], r"train: shape \(1, 2\); allowed: \(N,\)"),
        ([1.0, np.nan], "train: values that are not finite"),
        ([1.0, 1e200], "train: .*too large"),
    ],
)
def test_training_parts_that_cannot_be_used_are_refused(train, fault):
    with pytest.raises(InputError, match=fault):
        forecasts(train)


@pytest.mark.parametrize(
    ("history", "horizon", "fault"),
    [
        (np.ones((19, 2)), 1, "history: 19 values; allowed: at least 20 for 'seasonal'"),
        (np.ones(20), 1, r"history: shape \(20,\); allowed: \(W, K\)"),
        (np.full((20, 2), np.inf), 1, "history: values that are not finite"),
        (np.ones((20, 2)), 0, "horizon: must be at least 1"),
    ],
)
def test_histories_that_cannot_be_used_are_refused(history, horizon, fault):
    with pytest.raises(InputError, match=fault):
        forecasts(wave(20, 200))["seasonal"](history, horizon)


# Errors at horizons


@given(H=st.integers(1, 4), K=st.integers(1, 5), seed=st.integers(0, 99))
def test_horizon_errors_are_root_mean_squares(H, K, seed):
    predicted, true = np.random.default_rng(seed).standard_normal((2, H, K))
    expected = [np.sqrt(sum((predicted[h, k] - true[h, k]) ** 2 for k in range(K)) / K) for h in range(H)]
    np.testing.assert_allclose(horizon_errors(predicted, true), expected, rtol=1e-12)


def test_errors_of_predictions_that_diverge_are_large_or_infinite_never_missing():
    predicted = np.array([[1e200, 1e200], [1.7e308, 0.0], [np.inf, 0.0], [np.nan, 0.0], [0.0, 0.0]])
    errors = horizon_errors(predicted, np.zeros((5, 2)))
    np.testing.assert_allclose(errors, [1e200, 1.7e308 / np.sqrt(2), np.inf, np.inf, 0.0])


@pytest.mark.parametrize(
    ("predicted", "true", "fault"),
    [
        (np.ones((2, 3)), np.ones((2, 1)), r"predicted: \(2, 3\) against \(2, 1\)"),
        (np.ones((2, 0)), np.ones((2, 0)), "K >= 1"),
        (np.ones((2, 1)), np.full((2, 1), np.nan), "true: values that are not finite"),
        (np.ones(2), np.ones(2), r"true: shape \(2,\); allowed: \(H, K\)"),
    ],
)
def test_errors_that_have_no_meaning_are_refused(predicted, true, fault):
    with pytest.raises(InputError, match=fault):
        horizon_errors(predicted, true)


# The period


@given(period=st.floats(5, 40), phase=st.floats(0, 6.3), level=st.floats(-100, 100), scale=st.floats(1e-6, 1e6))
def test_the_period_of_a_wave_is_found_and_repeated_in_whole_steps(period, phase, level, scale):
    found = season(scale * (level + wave(period, 400, phase)))
    assert found.period == pytest.approx(period, rel=2e-3)
    assert abs(found.lag - period * round(found.lag / period)) <= 0.5 + 400 / 2 * 2e-3


@pytest.mark.parametrize(("period", "lag"), [(20, 20), (20.5, 41), (6.25, 25), (2, 2), (2.5, 5), (12.3, 123)])
def test_a_clean_wave_repeats_itself_exactly_after_the_lag(period, lag):
    assert season(wave(period, 500)).lag == lag


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0])
def test_noise_hides_no_period_and_lengthens_no_lag(sigma):
    found = [season(wave(20, 400, phase=seed) + sigma * noise(seed, 400)) for seed in range(40)]
    np.testing.assert_allclose([one.period for one in found], 20, atol=0.25 * sigma)
    assert np.mean([one.lag == 20 for one in found]) >= 0.9


def test_long_periods_are_followed_from_a_first_maximum_that_is_off():
    found = [season(wave(100, 2000, phase=seed) + 2 * noise(seed, 2000)) for seed in range(20)]
    np.testing.assert_allclose([one.period for one in found], 100, atol=2)


@pytest.mark.parametrize("seed", [536, 873, 1444, 2670, 3554])
def test_waves_near_two_steps_are_not_followed_below(seed):
    # Maxima two steps apart, of which the first is repeated only later: found by search.
    rng, t = np.random.default_rng(seed), np.arange(240)
    periods = np.concatenate([rng.uniform(2, 3.2, 2), rng.uniform(3, 9, 2)])
    waves = sum(rng.normal() * np.sin(2 * np.pi * t / period + rng.uniform(0, 6)) for period in periods)
    assert season(waves + 0.2 * rng.normal(size=240)).lag >= 2


def test_the_lag_is_longer_where_that_is_better_beyond_noise():
    # At 20 or 21 of 20.5 steps the clean wave misses 2 |sin(pi / 41)| = 0.15 of its amplitude, at 41 nothing.
    assert all(season(wave(20.5, 600) + 0.02 * noise(seed, 600)).lag == 41 for seed in range(20))


@given(
    pattern=st.lists(st.integers(-2, 2), min_size=1, max_size=12),
    length=st.integers(0, 80),
    changes=st.lists(st.tuples(st.integers(0, 79), st.integers(-9, 9)), max_size=4),
)
def test_whatever_the_series_a_lag_is_one_that_it_has(pattern, length, changes):
    series = np.resize(np.array(pattern, float), 80)
    for place, change in changes:
        series[place] += change
    found = season(series[:length])
    assert found is None or (2 <= found.lag <= length // 2 and found.period >= 1.75)


@given(pattern=st.lists(st.integers(-9, 9), min_size=2, max_size=12), offset=st.floats(-1e3, 1e3))
def test_what_repeats_itself_exactly_is_predicted_exactly(pattern, offset):
    series = np.resize(np.array(pattern, float) + offset, 200)
    seasonal = forecasts(series[:150]).get("seasonal")
    if len(set(pattern)) == 1:
        assert seasonal is None
    else:
        np.testing.assert_array_equal(seasonal(series[:150, None], 50)[:, 0], series[150:])


@pytest.mark.parametrize("seed", range(5))
def test_waves_that_are_no_sines_a_trend_and_a_strong_harmonic_are_seen_through(seed):
    t, little = np.arange(480), 0.1 * noise(seed, 480)
    assert season((t % 24 == 0) + 0.3 * little).lag % 24 == 0
    assert season((t % 7) + little).lag % 7 == 0
    assert season(wave(20, 480) + 0.05 * t + little).period == pytest.approx(20, abs=0.2)
    assert season(wave(20, 480) + little.cumsum()).period == pytest.approx(20, abs=0.2)
    assert season(wave(20, 480) + 1.5 * wave(10, 480, 1.0) + little).lag % 20 == 0


def test_several_waves_repeat_themselves_when_all_do():
    # 0.05 + 0.0125 cycles a step: 4 and 1 in 80 steps.
    assert season(wave(20, 800) + wave(80, 800, 1.0)).lag == 80


def without_period(kind, seed, steps):
    shocks = noise(seed, steps)
    return {
        "white": shocks,
        "random walk": shocks.cumsum(),
        "drifting": (shocks + 0.2).cumsum(),
        "smooth": shocks.cumsum().cumsum(),
        "slow": recurrence([0.95], [0.0], steps, shocks=shocks),
        "differenced": np.diff(shocks),
        "heavy-tailed": np.random.default_rng(seed).standard_t(3, steps).cumsum(),
    }[kind]


@pytest.mark.parametrize("kind", ["white", "random walk", "drifting", "smooth", "slow", "differenced", "heavy-tailed"])
def test_noise_and_random_walks_have_no_period(kind):
    # Of 1000 of each, at most one has a period at these lengths.
    for steps, seeds in ((60, 100), (300, 100)):
        assert sum(season(without_period(kind, seed, steps)) is not None for seed in range(seeds)) <= 1


@pytest.mark.parametrize(
    "series",
    [np.arange(500) * 0.1, 1e9 + np.zeros(100), np.exp(np.arange(100) / 10), [1.0, 2.0] * 3, [], wave(20, 60)],
    ids=["line", "constant", "growth", "six values", "nothing", "three periods"],
)
def test_lines_growth_and_short_series_have_no_period(series):
    assert season(series) is None


# Text


def witten_bell(train, vocabulary, order):
    """P(character, context) by its definition, from dictionaries."""
    grams = Counter(tuple(train[i : i + n]) for n in range(1, order + 1) for i in range(len(train) - n + 1))

    def probability(character, context):
        if order == 0:
            return 1 / vocabulary
        lower = probability(character, context[1:]) if context else 1 / vocabulary
        followers = [grams[(*context, c)] for c in range(vocabulary) if (*context, c) in grams]
        if not followers:
            return lower
        kinds = len(followers)
        return (grams[(*context, character)] + kinds * lower) / (sum(followers) + kinds)

    return lambda character, context: probability(character, tuple(context[max(0, len(context) - order + 1) :]))


texts = st.integers(1, 3).flatmap(
    lambda V: st.tuples(st.just(V), st.lists(st.integers(0, V - 1), min_size=4, max_size=40))
)


@given(text=texts, order=st.integers(0, 4), length=st.integers(0, 5), seed=st.integers(0, 99))
def test_probabilities_are_those_of_the_literal_definition(text, order, length, seed):
    V, train = text
    model, P = ngrams(train, V, order), witten_bell(train, V, order)
    rng = np.random.default_rng(seed)
    context, test = rng.integers(0, V, length), rng.integers(0, V, 12)
    joined = [*context, *test]
    expected = [P(joined[t], joined[:t]) for t in range(length, length + 12)]
    np.testing.assert_allclose(model.probabilities(test, context), expected, rtol=1e-12)
    assert model.cross_entropy(test, context) == pytest.approx(-np.mean(np.log(expected)), rel=1e-12, abs=1e-15)


@given(text=texts, order=st.integers(0, 4), unused=st.integers(0, 2))
def test_every_context_seen_or_not_has_a_distribution_without_zeros(text, order, unused):
    V, train = text[0] + unused, text[1]
    model = ngrams(train, V, order)
    for length in range(order + 1):
        for context in product(range(V), repeat=min(length, 3)):
            P = model.distribution(context)
            assert P.min() > 0
            assert P.sum() == pytest.approx(1, abs=1e-12)
            each = [model.probabilities([c], context)[0] for c in range(V)]
            np.testing.assert_allclose(P, each, rtol=1e-14)


@given(text=texts, order=st.integers(0, 4), cut=st.integers(0, 40))
def test_a_text_read_in_two_parts_has_the_probabilities_of_the_whole(text, order, cut):
    V, codes = text
    model = ngrams(codes[::-1], V, order)
    parts = model.probabilities(codes[:cut]), model.probabilities(codes[cut:], context=codes[:cut])
    np.testing.assert_array_equal(np.concatenate(parts), model.probabilities(codes))


@given(V=st.integers(1, 500), seed=st.integers(0, 9))
def test_without_counts_every_character_takes_log_v(V, seed):
    codes = np.random.default_rng(seed).integers(0, V, 50)
    assert ngrams(codes, V, 0).cross_entropy(codes) == pytest.approx(np.log(V), abs=1e-12)


@pytest.mark.parametrize("N", [100, 10_000, 300_000])
def test_a_unigram_of_its_own_text_takes_the_entropy_of_its_counts(N):
    # With t kinds P is at least count / (N + t): at most log(1 + t / N) more than the entropy, and never less.
    codes = np.minimum(np.random.default_rng(0).geometric(0.1, N), 50) - 1
    counts = np.bincount(codes, minlength=50)
    excess = ngrams(codes, 50, 1).cross_entropy(codes) - entropy(counts)
    assert 0 <= excess <= np.log1p(np.count_nonzero(counts) / N)


def chain(depth, V, steps, seed):
    """A text in which each character depends on so many before it, and log P of each by the law that drew it."""
    rng = np.random.default_rng(seed)
    law = rng.dirichlet(np.full(V, 0.5), V**depth)
    edges, uniform = law.cumsum(axis=1), rng.random(steps)
    codes, logs, state = np.zeros(steps, np.int64), np.zeros(steps), 0
    for t in range(steps):
        codes[t] = min(np.searchsorted(edges[state], uniform[t]), V - 1)
        logs[t] = np.log(law[state, codes[t]])
        state = (state * V + codes[t]) % V**depth
    return codes, logs, law


def entropy_rate(law):
    """Of a chain of depth 1: that of its rows, weighted by the stationary distribution."""
    values, vectors = np.linalg.eig(law.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    return stationary / stationary.sum() @ entropy(law, axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_a_bigram_takes_the_entropy_rate_of_a_markov_chain(seed):
    V, N = 6, 60_000
    codes, logs, law = chain(1, V, 2 * N, seed)
    found = scores(codes[:N], codes[N:], V, context=codes[:N])
    assert list(found) == NAMES
    # Fitting k free probabilities costs k / 2N nats on another text; twice that leaves room for the smoothing's own.
    against_the_law = found["bigram"] + logs[N:].mean()
    assert 0 < against_the_law < 2 * V * (V - 1) / (2 * N)
    blocks = logs[N:].reshape(60, -1).mean(axis=1)  # long beside the chain's memory
    assert found["bigram"] == pytest.approx(entropy_rate(law), abs=4 * blocks.std() / np.sqrt(60) + against_the_law)
    assert found["uniform"] > found["unigram"] > found["bigram"]
    assert 0 < found["trigram"] - found["bigram"] < 2 * V**3 / (2 * N)  # more to learn, and nothing to gain


def test_the_order_that_generated_a_text_predicts_it_best():
    codes, logs, _ = chain(2, 5, 80_000, seed=7)
    found = scores(codes[:40_000], codes[40_000:], 5)
    assert sorted(found, key=found.get, reverse=True) == NAMES
    assert found["trigram"] == pytest.approx(-logs[40_000:].mean(), abs=2 * 5**3 / 80_000)


def test_scores_are_those_of_each_model():
    train, test = np.random.default_rng(1).integers(0, 5, (2, 300))
    expected = {name: ngrams(train, 5, order).cross_entropy(test) for order, name in enumerate(NAMES)}
    assert scores(train, test, 5) == expected


def test_a_large_vocabulary_needs_no_dense_table():
    codes = np.random.default_rng(0).integers(0, 100_000, 2000)
    model = ngrams(codes, 100_000, 3)
    assert model.distribution(codes[:2]).sum() == pytest.approx(1)
    assert model.distribution(codes[:2])[codes[2]] > 0.4


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda: ngrams([0, 1], 2, 3), "train_codes: 2 characters; allowed: at least the order, 3"),
        (lambda: ngrams([0, 2], 2, 1), "train_codes: codes from 0 to 2; allowed: whole numbers from 0 to 1"),
        (lambda: ngrams([-1, 1], 2, 1), "train_codes: codes from -1 to 1"),
        (lambda: ngrams([0.0, 1.0], 2, 1), "train_codes: float64 of shape"),
        (lambda: ngrams([[0, 1]], 2, 1), r"train_codes: int64 of shape \(1, 2\)"),
        (lambda: ngrams([0, 1], 0, 1), "vocabulary: must be at least 1"),
        (lambda: ngrams([0, 1], 2, -1), "order: must be at least 0"),
        (lambda: ngrams(np.arange(9), 1000, 7), r"order: 1000\*\*7 n-grams are too many"),
        (lambda: ngrams([0, 1], 2, 1).cross_entropy([]), "codes: no characters"),
        (lambda: ngrams([0, 1], 2, 1).cross_entropy([2]), "codes: codes from 2 to 2"),
        (lambda: ngrams([0, 1], 2, 1).distribution([5]), "context: codes from 5 to 5"),
        (lambda: scores([0, 1], [0, 1], 2), "train_codes: 2 characters"),
    ],
)
def test_texts_that_cannot_be_used_are_refused(call, fault):
    with pytest.raises(InputError, match=fault):
        call()
