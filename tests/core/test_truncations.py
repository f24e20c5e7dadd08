"""Guards truncations: one suite that every member passes, the contract's table taken literally, and published laws.

A new truncation needs a line in EXAMPLES, and its definition in `oracles.reach`.
"""

import dataclasses
from math import lgamma
from statistics import NormalDist
from typing import get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import artbp_cut, decimal_gradients, naive, reach, variable_length
from problems import LOSS_STEPS, Problem, assert_agrees, assert_same, problem

import gradscope as gs
from gradscope import plugins, truncations
from gradscope.bptt import loss_gradients
from gradscope.gradients import by_parameter, log10_joint
from gradscope.passes import Request, passes
from gradscope.schedule import Gates, Tossing
from gradscope.streams import coins
from gradscope.workspace import Workspace

EXAMPLES = {  # canonical specs, each for a sequence of 9 steps
    "full": ["full"],
    "fixed": ["fixed:1", "fixed:4", "fixed:9", "fixed:30"],
    "chunked": ["chunked:1", "chunked:4", "chunked:9", "chunked:30"],
    "tbptt": ["tbptt:1:1", "tbptt:2:2", "tbptt:2:5", "tbptt:3:4", "tbptt:4:30", "tbptt:20:25"],
    "random": ["random:1.5", "random:4", "random:30"],
    "random-unweighted": ["random-unweighted:1", "random-unweighted:1.5", "random-unweighted:4"],
    "artbp": ["artbp:1.5:3", "artbp:4:6", "artbp:2.5:2.1"],
    "one-coin": ["one-coin:1.5", "one-coin:4", "one-coin:30"],
    "variable": ["variable:3:0.5:0.5", "variable:6:2:0.75", "variable:5:0:1", "variable:12:3:0", "variable:70:5:0.95"],
    "buffered": ["buffered:1", "buffered:3", "buffered:5", "buffered:30"],
}
ARGUMENTS = {  # strategies for the arguments of members that do not take every ascending list of numbers above 1
    "artbp": [st.floats(1.001, 1e6), st.floats(2.001, 1e6)],
    "variable": [st.integers(1, 10**6), st.floats(0, 1e6), st.floats(0, 1)],
}
MEMBERS = plugins.names(truncations.FAMILY)
SPECS = [spec for name in MEMBERS for spec in EXAMPLES.get(name, [])]
T = 9
LAST = np.nextafter(1.0, 0.0)  # a coin that shuts every gate
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
    ascending = [numbers[types[field.name]] for field in dataclasses.fields(member)]  # as K1 <= K2 needs
    arguments = [data.draw(one) for one in ARGUMENTS.get(name, ascending)]
    made = member(*(arguments if name in ARGUMENTS else sorted(arguments)))
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


@pytest.mark.parametrize("spec", ["one-coin:1.5", "artbp:1.5:3", "buffered:3"])
def test_different_losses_computed_together_agree_with_each_alone(spec):
    case = problem(T=21, B=3, seed=5)
    chosen = [[21], list(range(1, 22)), [2, 12, 21], [2, 7, 12, 21], [12]]
    schedule = truncations.truncation(spec).schedule(coins([0], 21))
    together = answers(case, [(steps, schedule) for steps in chosen])
    for steps, found in zip(chosen, together, strict=True):
        alone = case.backprop(truncation=spec, loss_steps=steps, reduction="sum")
        np.testing.assert_allclose(found.norms.of(found.row)[0], alone.log10_dh, rtol=0, atol=1e-12)


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
        ("buffered:0", "at least 1"),
        ("artbp:1:3", "N0 must be above 1"),
        ("artbp:0.5:3", "n0: must be at least 1"),
        ("artbp:5:2", "ALPHA must be above 2"),
        ("artbp:5:1.5", "alpha: must be at least 2"),
        ("artbp:5:inf", "alpha: must be at least 2"),
        ("one-coin:1", "TAU must be above 1"),
        ("one-coin:0.5", "at least 1"),
        ("variable:0:5:0.95", "mean: must be at least 1"),
        ("variable:7.5:5:0.95", "mean must be a whole number"),
        ("variable:70:-1:0.95", "sd: must be at least 0"),
        ("variable:70:5:1.5", "p: must be a probability, at most 1, not 1.5"),
        ("variable:70:5:-0.5", "p: must be at least 0"),
        ("variable:70:5:nan", "p: must be at least 0"),
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


@pytest.mark.parametrize("spec", ["fixed:{}", "chunked:{}", "tbptt:1:{}", "buffered:{}", "variable:{}:5:1"])
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


@given(T=lengths, tau=lengths)
def test_buffered_is_tbptt_with_windows_of_nearly_twice_the_length(T, tau):
    assert_identical(f"buffered:{tau}", f"tbptt:{tau}:{2 * tau - 1}", T)


@given(T=lengths, tau=lengths)
def test_every_loss_of_buffered_reaches_tau_steps_or_more(T, tau):
    steps = weights(f"buffered:{tau}", T).sum(axis=1)
    assert (np.minimum(np.arange(1, T + 1), tau) <= steps).all()
    assert (steps < 2 * tau).all()


@given(T=lengths, tau=lengths)
def test_variable_without_variation_is_chunked(T, tau):
    assert_identical(f"variable:{tau}:0:1", f"chunked:{tau}", T)


@pytest.mark.parametrize("seed", range(5))
def test_artbp_with_a_steep_power_is_random(seed):
    np.testing.assert_allclose(weights("artbp:4:1e14", 50, seed), weights("random:4", 50, seed), rtol=1e-10)


@pytest.mark.parametrize("spec", ["fixed:1", "chunked:1", "tbptt:1:1", "random-unweighted:1", "buffered:1"])
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
    return answers(case, [(case.steps(loss_steps), schedule) for schedule in schedules], C)


def answers(case, asked, C=1):
    """The same, for pairs of loss steps and schedule."""
    packed = case.cell.pack({name: np.broadcast_to(array, (C, *array.shape)) for name, array in case.params.items()})
    x, y, h0 = (np.broadcast_to(array, (C, *array.shape)) for array in (case.x, case.y, case.h0))
    requests = [Request(len(case.x), np.array(steps) - 1, schedule) for steps, schedule in asked]
    workspace = Workspace()
    trace = case.cell.forward(packed, x, h0, workspace)
    return loss_gradients(case.cell, packed, trace, y, case.loss, requests, passes(requests), workspace)


def all_coins(spec, T):
    """Coins for every pattern of T - 1 gates, open or shut, (2**(T-1), T), and the pattern's probability."""
    shut = np.indices((2,) * (T - 1)).reshape(T - 1, -1).T
    name, *arguments = spec.split(":")
    chance = np.full(shut.shape, 1 / float(arguments[0]))
    if name == "artbp":
        age = np.ones(len(shut), int)
        for t in range(T - 1):
            chance[:, t] = [artbp_cut(*map(float, arguments), steps) for steps in age]
            age = np.where(shut[:, t], 1, age + 1)
    return np.pad(shut * LAST, ((0, 0), (0, 1))), np.where(shut, chance, 1 - chance).prod(axis=1)


def mean_over_all_coins(case, spec, loss_steps):
    tossed, probability = all_coins(spec, len(case.x))
    np.testing.assert_allclose(probability.sum(), 1, rtol=1e-14)
    schedule = truncations.truncation(spec).schedule(tossed)
    assert schedule.random
    found = gradients_of(case, loss_steps, [schedule], C=len(tossed))[0].weights.value()
    return np.tensordot(probability, found, axes=1)


@pytest.mark.parametrize("loss_steps", ["last", "all", 4])
@pytest.mark.parametrize("spec", ["random:1.25", "random:4", "artbp:1.5:3", "artbp:4:6", "one-coin:1.25", "one-coin:4"])
def test_reweighted_truncation_is_unbiased_over_all_coins(spec, loss_steps):
    case = problem(T=7, seed=6)
    full = gradients_of(case, loss_steps, [Gates(np.ones(7))])[0].weights.value()[0]
    mean = mean_over_all_coins(case, spec, loss_steps)
    np.testing.assert_allclose(mean, full, rtol=1e-12, atol=1e-12 * np.abs(full).max())


@pytest.mark.parametrize("loss_steps", ["last", "all", 4])
def test_random_unweighted_underrepresents_each_lag_by_its_probability(loss_steps):
    case = problem(T=7, B=1, seed=6)
    pi, s, t = 0.75, *np.indices((7, 7))
    truth = case.ask(naive, loss_steps, "sum", np.tril(pi ** np.abs(s - t)))
    mean = mean_over_all_coins(case, "random-unweighted:4", loss_steps)
    for name, (columns, _) in case.cell.blocks().items():
        expected = np.reshape(truth.params[name].T, mean[columns].shape)
        atol = 1e-12 * np.abs(expected).max()
        np.testing.assert_allclose(mean[columns], expected, rtol=1e-12, atol=atol)


@every_spec
def test_expected_schedule_is_the_mean_over_coins_or_the_schedule_itself(spec):
    member = truncations.truncation(spec)
    expected = truncations.expected(member, 7)
    if not isinstance(member, Tossing):
        assert not expected.random
        np.testing.assert_array_equal(expected.reach(7), np.reshape(member.schedule(coins([3], 7)).reach(7), 7))
    elif expected is not None:
        tossed, probability = all_coins(spec, 7)
        for s in range(1, 8):
            mean = probability @ member.schedule(tossed).reach(s)
            np.testing.assert_allclose(np.reshape(expected.reach(s), s), mean, rtol=1e-12)


def test_lengths_of_variable_chunks_are_distributed_as_published():
    # A chunk begins at step b with probability u_b; the loss at s reaches t if one that begins by t lasts beyond s.
    mean, sd, p, steps, N = 12, 2, 0.75, 24, 20_000
    normals = [(p, NormalDist(mean, sd)), (1 - p, NormalDist(mean / 2, sd))]
    beyond = np.array([sum(q * (1 - one.cdf(k + 1)) if k >= 5 else q for q, one in normals) for k in range(steps + 1)])
    u = np.zeros(steps)
    for b in range(steps):
        u[b] = 1.0 if b == 0 else sum(u[a] * (beyond[b - a - 1] - beyond[b - a]) for a in range(b))
    schedule = truncations.truncation(f"variable:{mean}:{sd}:{p}").schedule(coins(range(N), steps))
    for s in (5, 6, 13, 24):
        found = schedule.reach(s).mean(axis=0)
        expected = np.array([sum(u[b] * beyond[s - 1 - b] for b in range(t)) for t in range(1, s + 1)])
        assert (np.abs(found - expected) <= 4 * np.sqrt(expected * (1 - expected) / N) + 1e-12).all()


@pytest.mark.parametrize("spec", EXAMPLES["variable"])
def test_learning_rate_factor_is_that_of_each_steps_chunk(spec):
    mean, *_ = arguments = [float(text) for text in spec.split(":")[1:]]
    tossed = coins(range(5), 40)
    expected = []
    for run in tossed:
        factors = []
        while len(factors) < 40:
            length = variable_length(*arguments, run[len(factors)])
            factors += [length / mean] * length
        expected.append(np.mean(factors[:40]))
    np.testing.assert_allclose(truncations.truncation(spec).learning_rate_factor(tossed), expected, rtol=1e-14)


def survival(n0, alpha, steps):
    """The probability that a segment of ARTBP lasts beyond 1, 2, ... steps: what gates weigh, if all are open."""
    weights = truncations.truncation(f"artbp:{n0}:{alpha}").schedule(np.zeros((1, steps))).weights[0]
    return 1 / np.cumprod(weights)


@pytest.mark.parametrize(("n0", "alpha"), [(10, 6), (50, 8), (2, 5), (1.5, 7.5)])
def test_artbp_segments_have_the_published_mean_length(n0, alpha):
    np.testing.assert_allclose(1 + survival(n0, alpha, 20_000).sum(), n0, rtol=1e-8)


@pytest.mark.parametrize(("n0", "alpha"), [(10, 6), (50, 2.5), (1.5, 3)])
def test_artbp_segments_last_with_the_closed_form_probability_which_is_a_power_law(n0, alpha):
    # prod_{age <= k} (A + age - (alpha - 1)) / (A + age) with A = (alpha - 2) n0, as a ratio of gamma functions.
    A, beta = (alpha - 2) * n0, alpha - 1
    k = np.array([1, 10, 1000, 10_000])
    log = np.array([lgamma(A + 1) - lgamma(A + 1 - beta) + lgamma(A + 1 - beta + j) - lgamma(A + 1 + j) for j in k])
    found = survival(n0, alpha, 20_000)
    np.testing.assert_allclose(found[k - 1], np.exp(log), rtol=1e-9)
    np.testing.assert_allclose(found[19_999] / found[9_999], 2.0**-beta, rtol=0.03)


# --- whether the variance has a bound ---------------------------------------------------------------------------------


def relative_variances(spec, rate, lengths):
    """Variance over coins of a scalar linear network's dL_T/db_h, in units of its full value's square, exactly.

    Weights of lag k are w_k with mean 1 (or less) and second moments of all pairs, from all patterns of cuts.
    """
    found = []
    for T in lengths:
        tossed, probability = all_coins(spec, T)
        w = truncations.truncation(spec).schedule(tossed).reach(T)[:, ::-1]
        sums = w @ np.exp(rate * np.arange(T))
        full = np.exp(rate * np.arange(T)).sum()
        found.append(probability @ (sums - probability @ sums) ** 2 / full**2)
    return np.array(found)


@pytest.mark.parametrize(
    ("spec", "rate", "unbounded"),
    [
        ("random:2", -0.2, True),  # exp(-.4) > 1/2
        ("random:2", -0.5, False),  # exp(-1) < 1/2
        ("random:2", 0.3, True),
        ("random-unweighted:2", -0.2, False),
        ("random-unweighted:2", 0.3, False),
        ("one-coin:2", -0.2, False),
        ("one-coin:2", 0.3, False),
        ("artbp:3:4", -0.2, False),
        ("artbp:3:4", 0.3, True),
    ],
)
def test_variance_grows_without_bound_where_it_is_said_to(spec, rate, unbounded):
    """Relative variances at 4, 8, 12, 16 steps: ever larger steps, or ever smaller ones; ARTBP's grow as a power."""
    assert truncations.truncation(spec).unbounded(rate) == unbounded
    if spec.startswith("artbp"):
        return
    steps = np.diff(relative_variances(spec, rate, [4, 8, 12, 16]))
    assert (steps[-1] > 0.9 * steps[-2] > 0) == unbounded


@pytest.mark.parametrize(("spec", "rate"), [("random:5", np.log(0.8) / 2), ("random:4", np.log(0.75) / 2)])
def test_the_boundary_is_where_the_square_of_the_decay_is_pi(spec, rate):
    member = truncations.truncation(spec)
    assert [member.unbounded(rate + shift) for shift in (-1e-9, 1e-9)] == [False, True]


def test_mean_square_of_artbps_weights_grows_without_bound_but_by_less_than_any_rate():
    squares = 1 / survival(10, 3, 20_000)  # 1/P with probability P
    growth = np.log(squares[[199, 1999, 19_999]] / squares[[99, 999, 9999]]) / [100, 1000, 10_000]
    member = truncations.truncation("artbp:10:3")
    assert [member.unbounded(rate) for rate in (-1e-6, 0.0, 0.1)] == [False, True, True]
    assert squares[-1] > 1e5
    assert (np.diff(growth) < 0).all()
    assert growth[-1] < 1e-3


def test_no_chunk_of_variable_lengths_goes_on_for_ever():
    member = truncations.truncation("variable:6:2:1")
    assert not member.unbounded(1.0)
    assert (member.schedule(np.full((1, 60), LAST)).reach(23)[:, 0] == 0).all()  # 6 + 8.3 * 2 < 23


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


@pytest.mark.parametrize(("w", "tau"), [(0.9, 10), (0.5, 10), (0.5, 2), (-0.7, 3)])
def test_scalar_linear_one_coin_estimator_has_the_published_variance(w, tau):
    m, pi = 1 / (1 - w), 1 - 1 / tau
    mean, variance = exact_moments(w, tau, T=400, family="one-coin")
    np.testing.assert_allclose(mean, m, rtol=1e-11)
    np.testing.assert_allclose(variance, (w * m) ** 2 * (1 / pi - 1), rtol=1e-10)


def test_one_coin_variance_at_nine_tenths_is_the_published_9():
    np.testing.assert_allclose(exact_moments(0.9, 10, T=400, family="one-coin")[1], 9, rtol=1e-10)


@pytest.mark.parametrize(("tau", "finite"), [(5, False), (5.5, True)])
def test_variance_is_infinite_exactly_if_w_squared_reaches_pi(tau, finite):
    # w = 0.9: w^2 = 0.81 is above pi = 0.8 and below pi = 0.818; each further step multiplies the tail by w^2 / pi.
    variances = [exact_moments(0.9, tau, T)[1] for T in (200, 300, 400)]
    growth = (variances[2] - variances[1]) / (variances[1] - variances[0])
    np.testing.assert_allclose(growth, (0.81 / (1 - 1 / tau)) ** 100, rtol=0.01)
    assert (growth < 1) == finite


@pytest.mark.parametrize("spec", ["artbp:10:6", "artbp:3:4", "one-coin:3"])
def test_unbiased_estimators_have_the_full_mean_for_the_coins_that_seeds_throw(spec):
    found = scalar_estimates(0.8, spec, coins(range(10_000), 60))
    assert abs(found.mean() - (1 - 0.8**60) / 0.2) < 4 * found.std() / 100


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


# --- losses that go on with weights of their own, at any magnitude ---------------------------------------------------


def silent(W_hh, T, losses, readout=1.0):
    """Two units with zero input, whose states are zero, slopes one, and residuals as given: {step: residual}."""
    params = {"W_xh": np.ones((2, 1)), "W_hh": W_hh, "b_h": np.zeros(2), "b_y": np.zeros(1)}
    params["W_hy"] = readout * np.array([[0.6, -0.3]])
    y = np.zeros((T, 1, 1))
    for step, residual in losses.items():
        y[step - 1] = residual
    return Problem(params, np.zeros((T, 1, 1)), y, "tanh", "mse", np.zeros((1, 2)))


def assert_exact(case, steps, entering, gates=None):
    """Norms of a network whose losses go on with weights of their own are those of 60 digits, beside plain requests."""
    T = len(case.x)
    schedule = Gates(np.ones(T) if gates is None else gates, entering)
    found, plain = gradients_of(case, steps, [schedule, Gates(np.ones(T))])
    w = np.zeros((T, T))
    for s in range(1, T + 1):
        w[s - 1, :s] = schedule.reach(s)
    for one, weighted in ((found, w), (plain, None)):
        log10_dh, log10_params = decimal_gradients(case.params, case.x, case.y, "tanh", steps, case.h0[0], weighted)
        np.testing.assert_allclose(one.norms.of(one.row)[0, :, 0], log10_dh, rtol=1e-12, atol=1e-11)
        for name, part in by_parameter(case.cell, one.weights, one.readout).items():
            np.testing.assert_allclose(log10_joint(part.squares())[0], log10_params[name], rtol=1e-12, atol=1e-11)
    return log10_dh


ENTERING = np.tile([0.0, 1.25, 0.0, 2.5, 1.0, 0.5, 1e-3], 60)
ROTATION = np.array([[0.0, 2.0], [0.5, 0.0]])


@pytest.mark.parametrize("steps", [[300], [299], [1, 2, 150, 300], range(1, 61)], ids=["last", "one", "several", "all"])
@pytest.mark.parametrize("factor", [1e-3, 0.05, 0.9, 20.0])
def test_losses_with_weights_of_their_own_are_exact_at_any_magnitude(steps, factor):
    T = max(steps)
    assert_exact(silent(factor * ROTATION, T, dict.fromkeys(steps, 1.0)), list(steps), ENTERING[:T])


@pytest.mark.parametrize("shut", [150, 300])
@pytest.mark.parametrize("factor", [0.05, 20.0])
@pytest.mark.parametrize("at_150", [1e-200, 1.0, 1e200])
def test_what_passes_a_loss_that_goes_no_further_keeps_its_digits(shut, factor, at_150):
    # At step 150 what comes from above is 1e-195 or 1e195, and is all there is below if this loss does not go on.
    case = silent(factor * ROTATION, 300, {150: at_150, 300: 1.0})
    entering = np.ones(300)
    entering[shut - 1] = 0.0
    assert_exact(case, [150, 300], entering)


def test_what_passes_many_losses_that_go_no_further_keeps_its_digits():
    # Below the losses there is only what the last one sent, 1e-330 of what was seen beside it on its way.
    case = silent(1e-3 * ROTATION, 130, dict.fromkeys(range(20, 131), 1.0))
    entering = np.zeros(130)
    entering[-1] = 1.0
    assert_exact(case, list(range(20, 131)), entering)


@pytest.mark.parametrize("loss_steps", [[300], [7, 150, 300], range(1, 61)], ids=["last", "several", "all"])
@pytest.mark.parametrize("radius", [0.05, 0.5, 1.0])
def test_weights_of_their_own_and_gates_together_are_exact_in_a_tanh_network(radius, loss_steps):
    T = max(loss_steps)
    case = problem(T=T, B=1, n=3, m=2, p=2)
    case.params["W_hh"] *= radius
    assert_exact(case, list(loss_steps), ENTERING[:T], gates=np.resize([1.0, 1.5, 0.75], T))


@pytest.mark.parametrize(("readout", "residual"), [(1e150, 1e200), (1e-150, 1e-200)])
def test_losses_with_weights_of_their_own_may_inject_beyond_float64(readout, residual):
    case = silent(0.7 * ROTATION, 8, {3: residual, 8: residual}, readout)
    assert_exact(case, [3, 8], ENTERING[:8])


@pytest.mark.parametrize("weight", [1e-290, 1e290])
def test_recurrent_weights_near_the_ends_of_float64_are_exact_with_weights_of_their_own(weight):
    case = silent(weight * np.array([[0.3, 0.7], [-0.6, 0.2]]), 6, {4: 1.0, 6: 1.0})
    assert_exact(case, [4, 6], np.array([1.0, 1.0, 1.0, 0.0, 1.0, 2.5]))
