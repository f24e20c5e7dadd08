"""Guards truncations: one suite that every member passes, the contract's table taken literally, and published laws.

A new truncation needs a line in EXAMPLES, and its definition in `oracles.reach`.
"""

import dataclasses
from typing import get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import naive, reach
from problems import LOSS_STEPS, assert_agrees, assert_same, problem

import gradscope as gs
from gradscope import plugins, truncations
from gradscope.bptt import loss_gradients
from gradscope.passes import Request, passes
from gradscope.schedule import Gates
from gradscope.streams import coins
from gradscope.workspace import Workspace

EXAMPLES = {  # canonical specs, each for a sequence of 9 steps
    "full": ["full"],
    "fixed": ["fixed:1", "fixed:4", "fixed:9", "fixed:30"],
    "chunked": ["chunked:1", "chunked:4", "chunked:9", "chunked:30"],
    "tbptt": ["tbptt:1:1", "tbptt:2:2", "tbptt:2:5", "tbptt:3:4", "tbptt:4:30", "tbptt:20:25"],
    "random": ["random:1.5", "random:4", "random:30"],
    "random-unweighted": ["random-unweighted:1", "random-unweighted:1.5", "random-unweighted:4"],
}
MEMBERS = plugins.names(truncations.FAMILY)
SPECS = [spec for name in MEMBERS for spec in EXAMPLES.get(name, [])]
T = 9
PROVEN = [name for name in MEMBERS if name in EXAMPLES]

every_spec = pytest.mark.parametrize("spec", SPECS)
every_loss_steps = pytest.mark.parametrize("loss_steps", LOSS_STEPS.values(), ids=LOSS_STEPS)
lengths = st.integers(1, 12)


def weights(spec, T, seed=0):
    """What the schedule says: weights w[s-1, t-1] of the loss at step s at step t, with the coins of a seed."""
    schedule = truncations.truncation(spec).schedule(coins([seed], T))
    w = np.zeros((T, T))
    for s in range(1, T + 1):
        w[s - 1, :s] = np.reshape(schedule.reach(s), s)
    return w


# --- conformance: every member of the family -------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEMBERS)
def test_member_has_examples(name):
    assert EXAMPLES.get(name), f"give the truncation {name!r} some specs in EXAMPLES of {__file__}"


@every_spec
def test_spec_is_canonical_and_comes_back(spec):
    assert plugins.spec_of(truncations.truncation(spec)) == spec


@every_spec
def test_spelling_of_numbers_does_not_matter(spec):
    name, *arguments = spec.split(":")
    spelled = ":".join([name, *(f"0{argument}" for argument in arguments)])
    assert plugins.spec_of(truncations.truncation(spelled)) == spec


@pytest.mark.parametrize("name", MEMBERS)
@given(data=st.data())
def test_every_truncation_is_the_one_its_spec_describes(name, data):
    member = plugins.find(truncations.FAMILY, name)
    numbers = {int: st.integers(1, 10**6), float: st.floats(1.001, 1e6)}
    types = get_type_hints(member)
    arguments = [data.draw(numbers[types[field.name]]) for field in dataclasses.fields(member)]
    made = member(*sorted(arguments))  # ascending, as K1 <= K2 needs
    assert truncations.truncation(plugins.spec_of(made)) == made


@every_spec
@given(long=st.integers(1, 30), short=st.integers(1, 30), seed=st.integers(0, 5))
def test_shorter_sequence_has_the_prefix_of_a_longer_ones_schedule(spec, long, short, seed):
    short = min(short, long)
    np.testing.assert_array_equal(weights(spec, long, seed)[:short, :short], weights(spec, short, seed))


@every_spec
def test_loss_counts_in_full_at_its_own_step_and_nowhere_later(spec):
    schedule = truncations.truncation(spec).schedule(coins([0, 1, 2], T))
    for s in range(1, T + 1):
        reached = schedule.reach(s)
        assert reached.shape[-1] == s
        assert (reached[..., -1] == 1).all()


@every_spec
def test_schedule_of_a_run_does_not_depend_on_the_runs_beside_it(spec):
    member, tossed = truncations.truncation(spec), coins([5, 6, 7], T)
    for run in range(3):
        together = np.broadcast_to(member.schedule(tossed).reach(T), (3, T))[run]
        np.testing.assert_array_equal(together, np.reshape(member.schedule(tossed[[run]]).reach(T), T))


@every_spec
@every_loss_steps
@pytest.mark.parametrize("activation", ["tanh", "linear"])
def test_gradient_is_each_loss_sent_back_alone_with_the_schedules_weights(spec, loss_steps, activation):
    case = problem(activation, T=T, seed=2)
    g = case.backprop(truncation=spec, loss_steps=loss_steps, seed=3)
    assert_agrees(g, case.ask(naive, loss_steps, "mean", weights(spec, T, seed=3)), rtol=1e-11)


@every_spec
def test_loss_and_readout_gradient_are_those_of_full(spec):
    case = problem("relu", "cross_entropy", T=T, seed=4)
    g, full = (case.backprop(truncation=truncation, loss_steps="all") for truncation in (spec, "full"))
    np.testing.assert_allclose(g.loss, full.loss, rtol=1e-15)
    for name in ("W_hy", "b_y"):
        np.testing.assert_allclose(g.params[name], full.params[name], rtol=1e-13)


@pytest.mark.parametrize("loss_steps", ["last", "all"])
def test_truncations_computed_together_agree_with_each_alone(loss_steps):
    case = problem(T=21, B=3, seed=5)
    tossed = coins([0], 21)
    together = gradients_of(case, loss_steps, [truncations.truncation(spec).schedule(tossed) for spec in SPECS])
    for spec, found in zip(SPECS, together, strict=True):
        alone = case.backprop(truncation=spec, loss_steps=loss_steps, reduction="sum")
        np.testing.assert_allclose(found.norms.of(found.row)[0], alone.log10_dh, rtol=0, atol=1e-12, err_msg=spec)
        W_hh = found.weights.value()[0, :4].T / 3
        atol = 1e-12 * np.abs(alone.params["W_hh"]).max()
        np.testing.assert_allclose(W_hh, alone.params["W_hh"], rtol=1e-12, atol=atol, err_msg=spec)


@pytest.mark.parametrize("name", PROVEN)
def test_wrong_number_of_arguments_is_refused(name):
    spec = EXAMPLES[name][-1]
    with pytest.raises(gs.InputError, match=rf"'{spec}:7' has .* argument.*allowed: .*fixed:TAU"):
        truncations.truncation(f"{spec}:7")


@pytest.mark.parametrize("name", [name for name in PROVEN if ":" in EXAMPLES[name][0]])
@pytest.mark.parametrize("text", ["", "x", "2;3", "nan", "-inf"])
def test_argument_that_is_no_number_is_refused(name, text):
    _, *rest = EXAMPLES[name][0].split(":")
    with pytest.raises(gs.InputError, match=r"must be .*allowed: .*fixed:TAU"):
        truncations.truncation(":".join([name, text, *rest[1:]]))


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("fixed:0", "at least 1"),
        ("fixed:-3", "at least 1"),
        ("fixed:2.5", "tau must be a whole number, not '2.5'"),
        ("chunked:0", "at least 1"),
        ("tbptt:0:4", "at least 1"),
        ("tbptt:5:4", "K2 must be at least K1"),
        ("random:1", "above 1"),
        ("random:0.5", "at least 1"),
        ("random:inf", "at least 1"),
        ("random-unweighted:0.9", "at least 1"),
        ("fixd:5", "unknown truncation 'fixd'.*did you mean 'fixed'"),
        ("random_unweighted:5", "did you mean 'random-unweighted'"),
        ("", "unknown truncation ''"),
    ],
)
def test_impossible_spec_is_refused_with_what_is_possible(spec, fault):
    with pytest.raises(gs.InputError, match=fault) as caught:
        truncations.truncation(spec)
    assert all(name in str(caught.value) for name in MEMBERS)


# --- the contract's table, literally ---------------------------------------------------------------------------------


@every_spec
@pytest.mark.parametrize("length", [1, 2, 8, 9, 13])
def test_schedule_is_the_contracts_definition(spec, length):
    np.testing.assert_allclose(weights(spec, length), reach(spec, length, coins([0], length)[0]), rtol=1e-14)


@given(T=lengths, k1=lengths, more=st.integers(0, 8), last=st.booleans())
def test_tbptt_gradient_is_the_contracts_definition(T, k1, more, last):
    spec, loss_steps = f"tbptt:{k1}:{k1 + more}", "last" if last else "all"
    case = problem(T=T, n=2, seed=T)
    assert_agrees(
        case.backprop(truncation=spec, loss_steps=loss_steps),
        case.ask(naive, loss_steps, "mean", reach(spec, T)),
        rtol=1e-11,
    )


@given(T=lengths, tau=lengths, seed=st.integers(0, 1000))
def test_random_gradient_is_the_contracts_definition_for_its_coins(T, tau, seed):
    spec = f"random:{tau + 1}"
    case = problem(T=T, n=2, seed=T)
    assert_agrees(
        case.backprop(truncation=spec, loss_steps="all", seed=seed),
        case.ask(naive, "all", "mean", reach(spec, T, coins([seed], T)[0])),
        rtol=1e-11,
    )


def assert_identical(spec, other, T, loss_steps=("last", "all", "several")):
    case = problem(T=T, n=3, seed=T)
    for name in loss_steps:
        steps = {"several": sorted({1, (T + 1) // 2, T})}.get(name, name)
        assert_same(*(case.backprop(truncation=truncation, loss_steps=steps) for truncation in (spec, other)))


@given(T=lengths, beyond=st.integers(0, 5))
def test_fixed_over_the_whole_sequence_is_full(T, beyond):
    assert_identical(f"fixed:{T + beyond}", "full", T)


@given(T=lengths, beyond=st.integers(0, 5))
def test_one_chunk_is_full(T, beyond):
    assert_identical(f"chunked:{T + beyond}", "full", T)


@pytest.mark.parametrize("spec", ["fixed:{}", "chunked:{}", "tbptt:1:{}"])
def test_tau_far_beyond_every_sequence_is_full(spec):
    assert_identical(spec.format(10**20), "full", T=8)


@given(T=lengths, k1=lengths, beyond=st.integers(0, 5))
def test_tbptt_whose_windows_all_begin_at_the_start_is_full(T, k1, beyond):
    assert_identical(f"tbptt:{k1}:{T + k1 - 1 + beyond}", "full", T)


@given(T=lengths, tau=lengths)
def test_chunked_is_tbptt_of_equal_lengths(T, tau):
    assert_identical(f"chunked:{tau}", f"tbptt:{tau}:{tau}", T)


@given(T=lengths, tau=lengths)
def test_fixed_is_tbptt_at_every_step(T, tau):
    assert_identical(f"fixed:{tau}", f"tbptt:1:{tau}", T)


@pytest.mark.parametrize("spec", ["fixed:1", "chunked:1", "tbptt:1:1", "random-unweighted:1"])
def test_one_step_sees_no_recurrence(spec):
    assert_identical(spec, "fixed:1", T=8)


def test_random_and_unweighted_throw_the_same_coins():
    assert ((weights("random:3", 30, seed=2) > 0) == weights("random-unweighted:3", 30, seed=2)).all()


def test_coins_are_the_seeds_and_shared_by_the_batch():
    case = problem(T=12, B=3)
    g = [case.backprop(truncation="random:4", loss_steps="last", seed=seed).log10_dh for seed in (1, 1, 5)]
    np.testing.assert_array_equal(g[0], g[1])
    reached = np.isfinite(g[0])
    assert 1 < reached[:, 0].sum() != np.isfinite(g[2])[:, 0].sum()
    assert (reached == reached[:, :1]).all()


# --- expectations over all coins -------------------------------------------------------------------------------------


def gradients_of(case, loss_steps, schedules, C=1):
    """The same network C times in one batch of runs, under schedules that may have C rows of coins."""
    packed = case.cell.pack({name: np.broadcast_to(array, (C, *array.shape)) for name, array in case.params.items()})
    x, y, h0 = (np.broadcast_to(array, (C, *array.shape)) for array in (case.x, case.y, case.h0))
    requests = [Request(len(case.x), np.array(case.steps(loss_steps)) - 1, schedule) for schedule in schedules]
    workspace = Workspace()
    trace = case.cell.forward(packed, x, h0, workspace)
    return loss_gradients(case.cell, packed, trace, y, case.loss, requests, passes(requests), workspace)


def all_coins(T, pi):
    """Coins for every pattern of T - 1 backward steps, (2**(T-1), T), and the pattern's probability."""
    shut = np.indices((2,) * (T - 1)).reshape(T - 1, -1).T
    return np.pad(shut * 0.999, ((0, 0), (0, 1))), np.prod(np.where(shut, 1 - pi, pi), axis=1)


def mean_over_all_coins(case, spec, loss_steps, pi):
    tossed, probability = all_coins(len(case.x), pi)
    np.testing.assert_allclose(probability.sum(), 1, rtol=1e-14)
    schedule = truncations.truncation(spec).schedule(tossed)
    found = gradients_of(case, loss_steps, [schedule], C=len(tossed))[0].weights.value()
    return np.tensordot(probability, found, axes=1)


@pytest.mark.parametrize("loss_steps", ["last", "all", 4])
@pytest.mark.parametrize("tau", [1.25, 4])
def test_random_is_unbiased_over_all_coins(loss_steps, tau):
    case = problem(T=7, seed=6)
    full = gradients_of(case, loss_steps, [Gates(np.ones(7))])[0].weights.value()[0]
    mean = mean_over_all_coins(case, f"random:{tau}", loss_steps, pi=1 - 1 / tau)
    np.testing.assert_allclose(mean, full, rtol=1e-12, atol=1e-12 * np.abs(full).max())


@pytest.mark.parametrize("loss_steps", ["last", "all", 4])
def test_random_unweighted_underrepresents_each_lag_by_its_probability(loss_steps):
    case = problem(T=7, B=1, seed=6)
    pi, s, t = 0.75, *np.indices((7, 7))
    truth = case.ask(naive, loss_steps, "sum", np.tril(pi ** np.abs(s - t)))
    mean = mean_over_all_coins(case, "random-unweighted:4", loss_steps, pi)
    for name, (columns, _) in case.cell.blocks().items():
        expected = np.reshape(truth.params[name].T, mean[columns].shape)
        atol = 1e-12 * np.abs(expected).max()
        np.testing.assert_allclose(mean[columns], expected, rtol=1e-12, atol=atol)


# --- the scalar linear network: published mean and variance ----------------------------------------------------------


def scalar_estimates(w, spec, tossed):
    """dL_T/db_h of h_t = w h_{t-1} + b_h for each row of coins, where dL_T/dh_T = 1. In full it is m = 1/(1-w)."""
    params = {name: np.array(value) for name, value in {"W_xh": [[1.0]], "W_hh": [[w]], "b_h": [0.0]}.items()}
    params |= {"W_hy": np.array([[1.0]]), "b_y": np.array([0.0])}
    T = tossed.shape[1]
    case = problem("linear", T=T, B=1, n=1, m=1, p=1)
    case = case._replace(params=params, x=np.zeros((T, 1, 1)), y=np.full((T, 1, 1), -0.5), h0=np.zeros((1, 1)))
    schedule = truncations.truncation(spec).schedule(tossed)
    return gradients_of(case, "last", [schedule], C=len(tossed))[0].weights.value()[:, 2, 0]


def exact_moments(w, tau, T, family="random"):
    """Mean and variance over all coins: only the first one that stops matters, so there are T patterns."""
    pi = 1 - 1 / tau
    stops_after = np.arange(T)
    lag = np.arange(T - 1)[::-1]  # the coin of the step from t+1 to t is thrown at lag T-1-t
    tossed = np.pad(0.9999 * (lag == stops_after[:, None]), ((0, 0), (0, 1)))
    probability = pi**stops_after * np.where(stops_after < T - 1, 1 - pi, 1)
    found = scalar_estimates(w, f"{family}:{tau}", tossed)
    mean = probability @ found
    return mean, probability @ (found - mean) ** 2


@pytest.mark.parametrize(("w", "tau"), [(0.9, 10), (0.5, 10), (0.5, 2), (-0.7, 3)])
def test_scalar_linear_estimator_has_the_published_variance(w, tau):
    m, pi = 1 / (1 - w), 1 - 1 / tau
    mean, variance = exact_moments(w, tau, T=400)
    np.testing.assert_allclose(mean, m, rtol=1e-11)
    np.testing.assert_allclose(variance, (w * m) ** 2 * (1 / pi - 1) / (1 - w * w / pi), rtol=1e-10)


def test_variance_at_nine_tenths_is_the_published_90():
    np.testing.assert_allclose(exact_moments(0.9, 10, T=400)[1], 90, rtol=1e-10)


@pytest.mark.parametrize(("tau", "finite"), [(5, False), (5.5, True)])
def test_variance_is_infinite_exactly_if_w_squared_reaches_pi(tau, finite):
    # w = 0.9: w^2 = 0.81 is above pi = 0.8 and below pi = 0.818; each further step multiplies the tail by w^2 / pi.
    variances = [exact_moments(0.9, tau, T)[1] for T in (200, 300, 400)]
    growth = (variances[2] - variances[1]) / (variances[1] - variances[0])
    np.testing.assert_allclose(growth, (0.81 / (1 - 1 / tau)) ** 100, rtol=0.01)
    assert (growth < 1) == finite


@pytest.mark.parametrize(("w", "tau"), [(0.9, 10), (0.5, 2), (-0.7, 3)])
def test_scalar_linear_unweighted_estimator_has_the_published_mean(w, tau):
    mean, _ = exact_moments(w, tau, T=300, family="random-unweighted")
    np.testing.assert_allclose(mean, 1 / (1 - (1 - 1 / tau) * w), rtol=1e-12)


def test_published_moments_hold_for_the_coins_that_seeds_throw():
    w, pi, N = 0.5, 0.9, 40_000
    tossed = coins(range(N), 24)
    found = scalar_estimates(w, "random:10", tossed)
    variance = (w / (1 - w)) ** 2 * (1 / pi - 1) / (1 - w * w / pi)
    assert abs(found.mean() - 2) < 4 * found.std() / np.sqrt(N)
    np.testing.assert_allclose(found.var(), variance, rtol=0.03)
    biased = scalar_estimates(w, "random-unweighted:10", tossed)
    assert abs(biased.mean() - 1 / (1 - pi * w)) < 4 * biased.std() / np.sqrt(N)
