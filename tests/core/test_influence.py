"""Guards influence balancing: published numbers, a simulation by plain loops, and laws of coins enumerated by hand."""

from math import comb, inf, isclose, log10, sqrt

import numpy as np
import pytest
from oracles import reach

from gradscope import influence
from gradscope.errors import InputError
from gradscope.influence import (
    check_strategy,
    descend,
    enumerated_mean,
    law,
    log10_state_gradient,
    sign_threshold,
    sums,
)
from gradscope.schedule import Gates
from gradscope.streams import coins
from gradscope.truncations import truncation
from gradscope.truncations.random import Random

N = 23
SPECS = [
    "full",
    "chunked:1",
    "chunked:4",
    "chunked:60",
    "fixed:1",
    "fixed:7",
    "tbptt:3:5",
    "buffered:4",
    "random:3",
    "random-unweighted:4",
    "artbp:4:3",
    "one-coin:3",
]
UNROLL = {"chunked:4": 4, "chunked:60": 60, "tbptt:3:5": 3, "buffered:4": 4}  # steps between two updates, if not 1


def used(k):
    """e_1^T A^k v: A^k has binomial(k, i) / 2^k in its first row."""
    return sum((1 if i < 10 else -1) * comb(k, i) for i in range(min(k + 1, N))) / 2**k


USED = [used(k) for k in range(1000)]


def simulated(spec, loss_steps, reduction, learning_rate, updates, seed):
    """Losses and thetas of a descent, unit by unit, each loss sent back alone with the weights of the definition."""
    unroll = UNROLL.get(spec, 1)
    weights = reach(spec, updates * unroll, coins([seed], updates * unroll)[0])
    state, theta, losses, thetas = [1.0] * N, 0.5, [], []
    for end in range(unroll, updates * unroll + 1, unroll):
        loss = gradient = 0.0
        counted = range(end, end + 1) if loss_steps == "last" else range(end - unroll + 1, end + 1)
        for s in range(end - unroll + 1, end + 1):
            above = [*state[1:], 0.0]
            state = [
                (own + other) / 2 + (theta if i < 10 else -theta)
                for i, (own, other) in enumerate(zip(state, above, strict=True))
            ]
            if s in counted:
                share = len(counted) if reduction == "mean" else 1
                loss += (state[0] - 1) ** 2 / 2 / share
                gradient += (state[0] - 1) * sum(weights[s - 1, t - 1] * USED[s - t] for t in range(1, s + 1)) / share
        theta -= learning_rate * gradient
        losses.append(loss)
        thetas.append(theta)
    return losses, thetas


# --- the problem -----------------------------------------------------------------------------------------------------


def test_influences_are_binomial_sums():
    np.testing.assert_allclose(influence.influences(500), USED[:500], rtol=1e-11, atol=1e-14)


def test_sum_of_influences_is_published():
    total = sums("last")
    assert isclose(total.max(), 16.476, abs_tol=5e-4)
    assert total.argmax() + 1 == 19
    np.testing.assert_allclose(total[-1], influence.SUM, rtol=1e-14)
    np.testing.assert_allclose(total, np.cumsum(USED[: len(total)]), rtol=1e-11)


def test_optimum_is_where_the_stationary_state_meets_the_target():
    stationary = np.linalg.solve(np.eye(N) - influence.A, influence.OPTIMUM * influence.V)
    assert isclose(stationary[0], influence.TARGET, rel_tol=1e-12)
    assert isclose(influence.OPTIMUM, -1 / 6, rel_tol=1e-15)


@pytest.mark.parametrize(("loss_steps", "published"), [("last", 41), ("all", 110)])
def test_sign_thresholds_are_published(loss_steps, published):
    assert sign_threshold(loss_steps) == published
    reached = np.cumsum(USED) if loss_steps == "last" else np.cumsum(np.cumsum(USED)) / np.arange(1, 1001)
    assert reached[published - 2] > 0
    assert (reached[published - 1 :] < 0).all()


@pytest.mark.parametrize("k", [0, 1, 5, 22, 23, 60, 2000])
def test_state_gradient_is_the_norm_of_a_row_of_binomials(k):
    square = sum(comb(k, i) ** 2 for i in range(N))
    assert isclose(log10_state_gradient(k + 1)[-1], log10(square) / 2 - k * log10(2), rel_tol=1e-12, abs_tol=1e-13)


# --- descent ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "published", "rtol"),
    [("chunked:1", 186.0987, 1e-6), ("chunked:10", 3.0973e15, 1e-5), ("full", 1.28e-16, 1e-2)],
)
def test_final_losses_are_published(spec, published, rtol):
    found = descend(spec, "last", "mean", 1e-4, updates=3000, seed=0)
    np.testing.assert_allclose(found.loss[-1], published, rtol=rtol)


def test_full_truncation_is_real_time_recurrent_learning():
    state, carried, theta = np.ones(N), np.zeros(N), 0.5
    found = descend("full", "all", "mean", 1e-4, updates=3000, seed=0)
    for update in range(3000):
        carried = influence.A @ carried + influence.V
        state = influence.A @ state + theta * influence.V
        theta -= 1e-4 * (state[0] - 1) * carried[0]
        assert isclose(found.theta[update], theta, rel_tol=1e-10)
    np.testing.assert_array_equal(found.gradient, found.full)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("loss_steps", ["last", "all"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_descent_is_the_one_of_plain_loops(spec, loss_steps, reduction):
    updates = 3 if spec == "chunked:60" else 25
    found = descend(spec, loss_steps, reduction, 0.01, updates, seed=2)
    losses, thetas = simulated(spec, loss_steps, reduction, 0.01, updates, seed=2)
    np.testing.assert_allclose(found.theta, thetas, rtol=1e-10)
    np.testing.assert_allclose(found.loss, losses, rtol=1e-9, atol=1e-14)


def test_gradient_on_record_is_the_step_that_theta_takes():
    found = descend("random:5", "last", "mean", 0.01, updates=50, seed=1)
    np.testing.assert_allclose(-np.diff(found.theta) / 0.01, found.gradient[1:], rtol=1e-8)


def test_shorter_descent_is_the_beginning_of_a_longer_one():
    short, long = (descend("random:5", "last", "mean", 1e-4, updates, seed=1) for updates in (700, 9000))
    for few, many in zip(short, long, strict=True):
        np.testing.assert_array_equal(few, many[:700])


def test_seeds_throw_their_own_coins_and_matter_to_nothing_else():
    for spec, same in (("random:5", False), ("chunked:5", True)):
        first, second = (descend(spec, "last", "mean", 1e-4, 100, seed).theta for seed in (0, 1))
        assert np.array_equal(first, second) == same


def test_beyond_float64_nothing_is_finite_and_nothing_warns():
    found = descend("chunked:10", "last", "mean", 0.1, updates=3000, seed=0)
    finite = np.isfinite(found).all(axis=0)
    assert finite[0]
    assert not finite[finite.argmin() :].any()


# --- coins -----------------------------------------------------------------------------------------------------------


def enumerated(pi, weighted):
    """Mean, deviation and probability of the right sign, from where the first cut may lie."""
    reached = mean = square = right = 0.0
    for lag in range(1000):
        reached += USED[lag] / (pi**lag if weighted else 1.0)
        probability = (1 - pi) * pi**lag
        mean += probability * reached
        square += probability * reached**2
        right += probability * (reached < 0)
    return mean, sqrt(square - mean**2), right


@pytest.mark.parametrize("tau", [4, 16, 30.0])
@pytest.mark.parametrize("name", ["random", "random-unweighted"])
def test_law_is_that_of_the_first_cut(name, tau):
    found = law(f"{name}:{tau:g}", "last")
    np.testing.assert_allclose(found, enumerated(1 - 1 / tau, name == "random"), rtol=1e-8)


def test_unbiased_estimator_at_15_16_is_as_published():
    mean, deviation, right = law("random:16", "last")
    assert isclose(mean, -6, rel_tol=1e-12)
    assert round(deviation) == 54
    assert round(right, 2) == 0.15


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_mean_is_another_if_weights_do_not_belong_to_the_coins(share, monkeypatch):
    class Misweighted(Random):
        def schedule(self, coins):
            return Gates(share * super().schedule(coins).weights)

    monkeypatch.setattr(influence, "_strategy", lambda spec: Misweighted(16.0))
    mean = enumerated_mean.__wrapped__("misweighted")
    assert isclose(mean, sum(share**k * use for k, use in enumerate(USED)), rel_tol=1e-9)


@pytest.mark.parametrize(("name", "pi"), [("random:8", 0.875), ("random-unweighted:8", 0.875), ("one-coin:8", 0.875)])
def test_steps_pass_with_the_probability_of_the_definition(name, pi):
    np.testing.assert_array_equal(influence._seen(truncation(name))[:-1], pi)


def test_steps_of_artbp_pass_with_the_probability_of_its_law():
    age = np.arange(1, influence.HORIZON + 1)
    np.testing.assert_allclose(influence._seen(truncation("artbp:4:3")), 1 - 2 / (4 + age), rtol=1e-15)


@pytest.mark.parametrize(
    "spec", ["random:4", "random:64", "random-unweighted:16", "one-coin:16", "artbp:16:6", "chunked:7"]
)
def test_what_strategies_say_of_their_mean_is_what_coins_give(spec):
    assert isclose(enumerated_mean(spec), law(spec, "last").mean, rel_tol=1e-9)


def test_law_of_one_coin_is_d2ls():
    mean, deviation, right = law("one-coin:10", "all")
    assert isclose(mean, -6, rel_tol=1e-12)
    assert isclose(deviation, sqrt(1 / 0.9 - 1) * 7, rel_tol=1e-12)  # of the sum without its first term, -7
    assert isclose(right, 0.9, rel_tol=1e-12)


def test_law_of_artbp_is_that_of_its_segments():
    n0, alpha = 16, 6
    lasts, square, right, carried = 1.0, 0.0, 0.0, np.zeros(N)
    for age in range(1, 5000):
        carried = influence.A @ carried + influence.V
        square, right = square + lasts / n0 * carried[0] ** 2, right + lasts / n0 * (carried[0] < 0)
        continues = 1 - (alpha - 1) / ((alpha - 2) * n0 + age)
        lasts, carried = lasts * continues, carried / continues
    found = law(f"artbp:{n0}:{alpha}", "last")
    np.testing.assert_allclose(found, [-6, sqrt(square - 36), right], rtol=1e-6)


@pytest.mark.parametrize(("tau", "bounded"), [(1.3, False), (1.5, True)])
def test_infinite_variance_is_said(tau, bounded):
    assert (law(f"random:{tau}", "last").deviation < inf) == bounded


@pytest.mark.parametrize("loss_steps", ["last", "all"])
@pytest.mark.parametrize("K", [1, 10, 40, 41, 109, 110, 200])
def test_law_of_chunks_is_their_sum(loss_steps, K):
    mean, deviation, right = law(f"chunked:{K}", loss_steps)
    assert isclose(mean, sums(loss_steps)[K - 1], rel_tol=1e-12)
    assert deviation == 0
    assert right == (sign_threshold(loss_steps) <= K)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "variable:70:5:0.95",
            "^truncation: 'variable:70:5:0.95' does not say when .*allowed: (?!.*variable).*chunked",
        ),
        ("chunked:20000", "^truncation: 'chunked:20000'; allowed: at most 10000 steps between two updates"),
        ("chunkd:3", "unknown truncation 'chunkd'.*did you mean 'chunked'"),
    ],
)
def test_strategies_that_cannot_be_are_refused(spec, message):
    with pytest.raises(InputError, match=message):
        check_strategy(spec)
