"""Guards optimisers: one suite that every member passes, definitions in plain loops over single numbers, and refusals.

A new optimiser needs a line in EXAMPLES, and its definition, taken literally, in DEFINITIONS.
"""

import dataclasses
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradscope as gs
from gradscope import optimizers, plugins
from gradscope.optimizer import begin
from gradscope.optimizers import optimizer

EXAMPLES = {  # canonical specs
    "sgd": ["sgd"],
    "momentum": ["momentum", "momentum:0", "momentum:0.5", "momentum:0.99"],
    "adagrad": ["adagrad", "adagrad:1e-12", "adagrad:0.1"],
    "adam": ["adam", "adam:0", "adam:0.5:0.9", "adam:0.9:0", "adam:0.9:0.999:0.001"],
}
MEMBERS = plugins.names(optimizers.FAMILY)
SPECS = [spec for name in MEMBERS for spec in EXAMPLES.get(name, [])]
C, D, STEPS = 3, 5, 30

every_spec = pytest.mark.parametrize("spec", SPECS)
numbers = st.floats(-1e3, 1e3).map(lambda v: round(v, 6))


# --- definitions, of a single number and its gradients ----------------------------------------------------------------


def sgd(w, gradients, rate):
    for g in gradients:
        w = w - rate * g
    return w


def momentum(w, gradients, rate, mu=0.9):
    v = 0.0
    for g in gradients:
        v = mu * v + g
        w = w - rate * v
    return w


def adagrad(w, gradients, rate, epsilon=1e-8):
    """As min-char-rnn: epsilon stands below the root."""
    mem = 0.0
    for g in gradients:
        mem = mem + g * g
        w = w - rate * g / sqrt(mem + epsilon)
    return w


def adam(w, gradients, rate, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Algorithm 1 of arXiv 1412.6980."""
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w = w - rate * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + epsilon)
    return w


DEFINITIONS = {"sgd": sgd, "momentum": momentum, "adagrad": adagrad, "adam": adam}


def definition(spec):
    name, *arguments = spec.split(":")
    return lambda *case: DEFINITIONS[name](*case, *map(float, arguments))


def taken(spec, values, gradients, rate, dtype=np.float64):
    """The parameters after all steps, and the slots."""
    member, values = optimizer(spec), np.array(values, dtype)
    slots = begin(member, values)
    rate = np.broadcast_to(np.array(rate, dtype), (len(values), 1))
    for number, gradient in enumerate(gradients, 1):
        member.step(values, np.array(gradient, dtype), slots, rate, number, np.empty_like(gradient))
    return values, slots


def problem(seed=0, steps=STEPS):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((C, D)), rng.standard_normal((steps, C, D)) * rng.lognormal(0, 2, (1, C, D))


# --- conformance ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEMBERS)
def test_every_member_is_proven(name):
    assert EXAMPLES[name]
    assert name in DEFINITIONS


@every_spec
def test_spec_is_canonical(spec):
    member = optimizer(spec)
    assert plugins.spec_of(member) == spec
    assert dataclasses.is_dataclass(member)
    assert member == optimizer(spec)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign"):
        member.slots = ()


@every_spec
def test_definition_taken_literally(spec):
    values, gradients = problem()
    found, _ = taken(spec, values, gradients, 0.1)
    for c, d in np.ndindex(C, D):
        expected = definition(spec)(values[c, d], gradients[:, c, d], 0.1)
        np.testing.assert_allclose(found[c, d], expected, rtol=1e-12, atol=1e-13)


@given(st.sampled_from(SPECS), numbers, st.lists(numbers, min_size=1, max_size=12), st.floats(1e-4, 10))
def test_definition_taken_literally_of_any_gradients(spec, w, gradients, rate):
    found, _ = taken(spec, [[w]], np.reshape(gradients, (-1, 1, 1)), rate)
    expected = definition(spec)(w, gradients, rate)
    size = abs(w) + rate * sum(map(abs, gradients)) + rate * len(gradients)
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-11, atol=1e-11 * size)


@every_spec
def test_changes_are_in_place(spec):
    values, gradients = problem()
    member, own = optimizer(spec), values.copy()
    slots = begin(member, own)
    assert set(slots) == set(member.slots)
    assert all(slot.shape == own.shape and not slot.any() for slot in slots.values())
    before = dict(slots)
    assert member.step(own, gradients[0].copy(), slots, np.full((C, 1), 0.1), 1, np.empty_like(own)) is None
    assert not np.array_equal(own, values)
    assert slots.keys() == before.keys()
    assert all(slots[name] is slot for name, slot in before.items())


@every_spec
def test_no_entry_depends_on_another(spec):
    values, gradients = problem()
    whole, _ = taken(spec, values, gradients, 0.1)
    for c in range(C):
        for part in (slice(0, 2), slice(2, D)):
            alone, _ = taken(spec, values[c : c + 1, part], gradients[:, c : c + 1, part], 0.1)
            np.testing.assert_array_equal(whole[c : c + 1, part], alone)


@every_spec
def test_each_run_has_its_own_rate(spec):
    values, gradients = problem()
    rates = np.array([[0.0], [0.01], [1.0]])
    found, _ = taken(spec, values, gradients, rates)
    np.testing.assert_array_equal(found[0], values[0])
    for c in range(C):
        alone, _ = taken(spec, values[c : c + 1], gradients[:, c : c + 1], rates[c])
        np.testing.assert_array_equal(found[c : c + 1], alone)


@every_spec
def test_a_gradient_that_has_always_been_zero_changes_nothing(spec):
    values, gradients = problem()
    gradients[:, 1, 2] = 0.0
    found, _ = taken(spec, values, gradients, 0.1)
    assert found[1, 2] == values[1, 2]
    assert np.isfinite(found).all()


@every_spec
def test_float32_stays_float32(spec):
    values, gradients = problem()
    found, slots = taken(spec, values, gradients, 0.1, np.float32)
    assert {array.dtype for array in (found, *slots.values())} == {np.dtype(np.float32)}
    first = taken(spec, values, gradients[:1], 0.1, np.float32)[0]
    np.testing.assert_allclose(first, taken(spec, values, gradients[:1], 0.1)[0], rtol=1e-5, atol=1e-6)


@every_spec
def test_goes_on_from_its_slots(spec):
    values, gradients = problem()
    member, whole = optimizer(spec), taken(spec, values, gradients, 0.1)[0]
    half, slots = taken(spec, values, gradients[: STEPS // 2], 0.1)
    slots = {name: slot.copy() for name, slot in slots.items()}
    for number in range(STEPS // 2, STEPS):
        member.step(half, gradients[number].copy(), slots, np.full((C, 1), 0.1), number + 1, np.empty_like(half))
    np.testing.assert_array_equal(half, whole)


@pytest.mark.parametrize("name", MEMBERS)
def test_descends_a_bowl(name):
    values, curvature = problem()[0], np.array([1.0, 2.0, 0.5, 1.5, 1.0])
    member, own = optimizer(name), problem()[0]
    slots = begin(member, own)
    for number in range(1, 2001):
        member.step(own, curvature * own, slots, np.full((C, 1), 0.05), number, np.empty_like(own))
    assert np.square(own).sum() < 0.05 * np.square(values).sum()


@pytest.mark.parametrize("spec", ["adam", "adagrad:1e-300", "adam:0.5:0.5:1e-300"])
def test_first_step_of_what_normalises_is_the_rate(spec):
    values, gradients = problem()
    found, _ = taken(spec, values, 1e3 * gradients[:1], 0.1)
    np.testing.assert_allclose(found, values - 0.1 * np.sign(gradients[0]), rtol=1e-5)


# --- specs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("momentum:0.9", "momentum"),
        ("momentum:.90", "momentum"),
        ("momentum:0.50", "momentum:0.5"),
        ("adagrad:1e-8", "adagrad"),
        ("adagrad:0.00000001", "adagrad"),
        ("adam:0.9:0.999:1e-8", "adam"),
        ("adam:0.9:0.99:1e-8", "adam:0.9:0.99"),
        ("adam:0.8", "adam:0.8"),
    ],
)
def test_one_thing_has_one_spelling(written, canonical):
    assert plugins.spec_of(optimizer(written)) == canonical


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("adamm", r"unknown optimizer 'adamm'; allowed: adagrad, adam, momentum, sgd; did you mean 'adam'\?"),
        ("", r"unknown optimizer ''"),
        ("Adam", r"unknown optimizer 'Adam'"),
        ("sgd:0.1", r"'sgd:0.1' has 1 argument\(s\), sgd takes 0; allowed: .*adam\[:BETA1\]\[:BETA2\]\[:EPSILON\]"),
        ("momentum:", r"'momentum:': mu must be a number, not ''"),
        ("momentum:a", r"'momentum:a': mu must be a number, not 'a'"),
        ("momentum:0.9:0.9", r"has 2 argument\(s\), momentum takes 0 to 1"),
        ("momentum:1", r"'momentum:1': mu: 1.0; allowed: at least 0, and below 1"),
        ("momentum:-0.1", r"'momentum:-0.1': mu: must be at least 0, not -0.1"),
        ("momentum:nan", r"mu: must be at least 0, not nan"),
        ("adagrad:-1e-8", r"epsilon: must be at least 0, not -1e-08"),
        ("adagrad:inf", r"epsilon: must be at least 0, not inf"),
        ("adagrad:0", r"EPSILON must be above 0: gradients of 0 would be divided by it"),
        ("adam:1", r"beta1: 1.0; allowed: at least 0, and below 1"),
        ("adam:0.9:1", r"beta2: 1.0; allowed: at least 0, and below 1"),
        ("adam:0.9:0.999:0", r"EPSILON must be above 0"),
        (3, r"optimizer: 3 is no text; allowed: adagrad"),
        (None, r"optimizer: None is no text"),
    ],
)
def test_unusable_spec_is_refused(spec, message):
    with pytest.raises(gs.InputError, match=message):
        optimizer(spec)
