"""Guards `backprop(mask=...)`: sequences of different lengths in one batch, padded, each as if it were alone.

A new truncation needs a line in SPECS: masks are held against its literal definition in `oracles.reach`.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import decimal_gradients, naive_example, reach
from problems import LOSS_STEPS, assert_same, problem

import gradscope as gs
from gradscope import plugins, truncations
from gradscope.gradients import masked
from gradscope.streams import coins

SPECS = [
    "full",
    "fixed:1",
    "fixed:3",
    "chunked:4",
    "buffered:3",
    "tbptt:2:5",
    "random:4",
    "random-unweighted:3",
    "artbp:3:4",
    "one-coin:4",
    "variable:6:2:0.75",
]
T, LENGTHS = 9, [3, 9, 1, 6]
B = len(LENGTHS)
INSIDE = np.arange(T)[:, None] < LENGTHS
LAST = np.arange(1, T + 1)[:, None] == LENGTHS
MASKS = {"all": INSIDE, "last": LAST}

every_spec = pytest.mark.parametrize("spec", SPECS)
every_reduction = pytest.mark.parametrize("reduction", ["mean", "sum"])
every_loss = pytest.mark.parametrize("loss", ["mse", "cross_entropy"])


def test_every_truncation_is_here():
    assert {spec.partition(":")[0] for spec in SPECS} == set(plugins.names(truncations.FAMILY))


def alone(case, b, length, **options):
    """`backprop` of one example by itself, at its own length."""
    one = case._replace(x=case.x[:length, b : b + 1], y=case.y[:length, b : b + 1], h0=case.h0[b : b + 1])
    return one.backprop(**options)


def assert_is_mean_of(g, parts, lengths=LENGTHS):
    """A masked batch says of each example what it says alone, and nothing of the steps after its end."""
    assert g.status == "ok"
    np.testing.assert_allclose(g.loss, np.mean([part.loss for part in parts]), rtol=1e-12)
    for b, (part, length) in enumerate(zip(parts, lengths, strict=True)):
        np.testing.assert_allclose(g.log10_dh[:length, b], part.log10_dh[:, 0], rtol=0, atol=1e-12)
        assert (g.log10_dh[length:, b] == -np.inf).all()
    for name, found in g.params.items():
        expected = np.mean([part.params[name] for part in parts], axis=0)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max(), err_msg=name)
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(g.log10_params[name], np.log10(np.linalg.norm(expected)), rtol=0, atol=1e-12)


# --- different lengths ------------------------------------------------------------------------------------------------


@every_spec
@every_reduction
@every_loss
@pytest.mark.parametrize("loss_steps", MASKS)
def test_each_example_is_as_if_it_were_alone(spec, reduction, loss, loss_steps):
    case = problem(loss=loss, T=T, B=B)
    how = {"truncation": spec, "reduction": reduction, "seed": 3}
    parts = [alone(case, b, length, loss_steps=loss_steps, **how) for b, length in enumerate(LENGTHS)]
    assert_is_mean_of(case.backprop(mask=MASKS[loss_steps], **how), parts)


@every_spec
@every_reduction
@pytest.mark.parametrize("loss_steps", LOSS_STEPS.values(), ids=LOSS_STEPS)
def test_the_same_mask_for_all_is_loss_steps(spec, reduction, loss_steps):
    case = problem(B=3)
    mask = np.zeros((T, 3), bool)
    mask[np.array(case.steps(loss_steps)) - 1] = True
    how = {"truncation": spec, "reduction": reduction, "seed": 1}
    assert_same(case.backprop(mask=mask, **how), case.backprop(loss_steps=loss_steps, **how))


def masks(T, B):
    """Any mask in which every example has a loss."""
    column = st.lists(st.booleans(), min_size=T, max_size=T).filter(any)
    return st.lists(column, min_size=B, max_size=B).map(lambda columns: np.array(columns).T)


@given(st.data(), st.sampled_from(SPECS), st.sampled_from(["mean", "sum"]), st.sampled_from(["mse", "cross_entropy"]))
def test_any_mask_is_the_literal_definition_example_by_example(data, spec, reduction, loss):
    T, B = data.draw(st.integers(1, 8), "T"), data.draw(st.integers(1, 4), "B")
    mask, seed = data.draw(masks(T, B), "mask"), data.draw(st.integers(0, 5), "seed")
    case = problem(loss=loss, T=T, B=B, activation=data.draw(st.sampled_from(["tanh", "relu", "sigmoid"]), "f"))
    g = case.backprop(mask=mask, truncation=spec, reduction=reduction, seed=seed)
    w, total = reach(spec, T, coins([seed], T)[0]), dict.fromkeys(case.params, 0.0)
    value = 0.0
    for b in range(B):
        steps = (np.flatnonzero(mask[:, b]) + 1).tolist()
        share = 1 / len(steps) if reduction == "mean" else 1.0
        arguments = (case.x[:, b], case.y[:, b], case.activation, loss, steps, share, w, case.h0[b])
        own, dh, gradients = naive_example(case.params, *arguments)
        value += own / B
        total = {name: total[name] + array / B for name, array in gradients.items()}
        np.testing.assert_allclose(10 ** g.log10_dh[:, b], np.linalg.norm(dh, axis=-1), rtol=1e-9)
    np.testing.assert_allclose(g.loss, value, rtol=1e-11)
    for name, expected in total.items():
        atol = 1e-12 * np.abs(expected).max()
        np.testing.assert_allclose(g.params[name], expected, rtol=1e-9, atol=atol, err_msg=name)


@pytest.mark.parametrize("steps", [[5], [2, 3, 9], list(range(1, 10))])
@pytest.mark.parametrize("radius", [1e-60, 1e30])
def test_norms_are_exact_at_any_magnitude(steps, radius):
    case = problem("linear", T=T, B=1)
    params = case.params | {"W_hh": radius * case.params["W_hh"]}
    mask = np.isin(np.arange(1, T + 1), steps)[:, None]
    g = case._replace(params=params).backprop(mask=mask, reduction="sum")
    log10_dh, log10_params = decimal_gradients(params, case.x, case.y, "linear", steps, case.h0[0])
    np.testing.assert_allclose(g.log10_dh[:, 0], log10_dh, rtol=1e-12, atol=1e-9)
    for name, expected in log10_params.items():
        np.testing.assert_allclose(g.log10_params[name], expected, rtol=1e-12, atol=1e-9, err_msg=name)


def test_mask_may_be_a_list():
    case = problem(T=2, B=2)
    assert_same(case.backprop(mask=[[True, False], [True, True]]), case.backprop(mask=np.array([[1, 0], [1, 1]], bool)))


def test_weights_of_a_mask():
    mask = np.array([[0, 0, 0], [1, 0, 1], [1, 1, 0], [0, 0, 0]], bool)
    steps, weights = masked(mask, "mean")
    assert steps.tolist() == [1, 2]
    np.testing.assert_array_equal(weights, [[[0, 0, 0], [0.5, 0, 1], [0.5, 1, 0], [0, 0, 0]]])
    np.testing.assert_array_equal(masked(mask, "sum")[1], mask[None])


# --- padding ----------------------------------------------------------------------------------------------------------


def padded(case, x, y):
    """The same batch with other padding."""
    return case._replace(
        x=np.where(INSIDE[..., None], case.x, x).astype(float), y=np.where(INSIDE[..., None], case.y, y).astype(float)
    )


@every_spec
@pytest.mark.parametrize("loss_steps", MASKS)
@pytest.mark.parametrize(
    ("activation", "x", "y"),
    [("tanh", 7.0, -3.0), ("tanh", 1e300, 1e100), ("relu", 1e100, -1e100), ("linear", -1e120, 0.0)],
)
def test_what_the_padding_holds_does_not_matter(spec, loss_steps, activation, x, y):
    case = problem(activation, T=T, B=B)
    how = {"mask": MASKS[loss_steps], "truncation": spec, "seed": 3}
    assert_same(padded(case, x, y).backprop(**how), case.backprop(**how))


@every_reduction
@pytest.mark.parametrize(
    ("activation", "x", "y"), [("tanh", 0.0, 1e300), ("linear", 1e200, 0.0), ("relu", 1e300, -1e300)]
)
def test_padding_whose_loss_would_overflow_does_not_matter(activation, x, y, reduction):
    case = problem(activation, T=T, B=B)
    how = {"mask": INSIDE, "reduction": reduction}
    assert_same(padded(case, x, y).backprop(**how), case.backprop(**how))


@pytest.mark.parametrize("classes", [0, 1, 2])
def test_what_class_the_padding_has_does_not_matter(classes):
    case = problem(loss="cross_entropy", T=T, B=B)
    other = case._replace(y=np.where(INSIDE, case.y, classes))
    assert_same(other.backprop(mask=INSIDE), case.backprop(mask=INSIDE))


def growing(T, lengths, factor):
    """A linear network whose states grow by `factor` a step."""
    case = problem("linear", T=T, B=len(lengths), started=False)
    W_hh, _ = np.linalg.qr(case.params["W_hh"])
    return case._replace(params=case.params | {"W_hh": factor * W_hh, "b_h": np.zeros(len(W_hh))})


@every_reduction
@pytest.mark.parametrize("spec", ["full", "fixed:2", "chunked:2", "random:4"])
@pytest.mark.parametrize("loss_steps", ["all", "last"])
def test_states_that_overflow_after_the_end_of_an_example_do_not_matter(spec, loss_steps, reduction):
    lengths = [3, 5, 4]
    case = growing(40, lengths, 1e15)  # leaves the range of floats some 20 steps later
    mask = np.arange(40)[:, None] < lengths
    if loss_steps == "last":
        mask[:-1] &= ~mask[1:]
    how = {"truncation": spec, "reduction": reduction, "seed": 2}
    parts = [alone(case, b, length, loss_steps=loss_steps, **how) for b, length in enumerate(lengths)]
    assert_is_mean_of(case.backprop(mask=mask, **how), parts, lengths)
    assert case.backprop(mask=np.ones((40, 3), bool), **how).status == alone(case, 0, 40).status != "ok"


def test_status_says_the_first_overflow_that_counts():
    case = growing(40, [1, 1], 1e15)
    first = int(alone(case, 0, 40).status.split()[-1])
    case.x[:, 1] *= 1e-60  # its states leave the range of floats later
    second = int(alone(case, 1, 40).status.split()[-1])
    assert first < second
    for length, expected in {first - 1: second, first: first}.items():
        g = case.backprop(mask=np.arange(40)[:, None] < [length, 40])
        assert g.status == f"forward overflow at step {expected}"
        assert np.isnan(g.loss)
        assert np.isnan(g.log10_dh).all()
    assert case.backprop(mask=np.arange(40)[:, None] < [first - 1, second - 1]).status == "ok"


def test_predictions_that_overflow_count_only_where_they_are_asked_for():
    case = growing(6, [1, 1], 1e15)
    case.params["W_hy"] *= 1e240  # at the fifth step states are about 1e60
    mask = np.ones((6, 2), bool)
    assert case.backprop(mask=mask, reduction="sum").status == "forward overflow at step 6"
    mask[5] = False
    assert case.backprop(mask=mask, reduction="sum").status == "ok"
    case.x[:, 1] *= 1e-30  # whose predictions stay in range
    mask[5, 1] = True
    assert case.backprop(mask=mask, reduction="sum").status == "ok"
    mask[5] = [True, False]
    assert case.backprop(mask=mask, reduction="sum").status == "forward overflow at step 6"


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((9, 2), 2), r"^mask: dtype int64; allowed: booleans, or 0 and 1"),
        (np.full((9, 2), 0.5), r"^mask: dtype float64; allowed: booleans, or 0 and 1"),
        (np.ones((8, 2), bool), r"^mask: shape \(8, 2\); allowed: shape \(9, 2\)"),
        (np.ones((2, 9), bool), r"^mask: shape \(2, 9\); allowed: shape \(9, 2\)"),
        (np.ones(9, bool), r"^mask: shape \(9,\); allowed: shape \(9, 2\)"),
        (True, r"^mask: shape \(\); allowed: shape \(9, 2\)"),
        ([[True, True], [True]], r"^mask: rows of different lengths; allowed: an array"),
        (np.array([[False, True]] * 9), r"^mask: example 0 has no loss; allowed: at least one step for each example"),
        (np.array([[True, False]] * 9), r"^mask: example 1 has no loss; allowed: at least one step for each example"),
    ],
)
def test_unusable_mask_is_refused(mask, message):
    with pytest.raises(gs.InputError, match=message):
        problem().backprop(mask=mask)


@pytest.mark.parametrize("loss_steps", ["all", 3, [2, 5], np.array([2, 5])])
def test_loss_steps_beside_a_mask_are_refused(loss_steps):
    with pytest.raises(gs.InputError, match=r"^loss_steps: .* beside a mask; leave out one of them"):
        problem().backprop(mask=np.ones((9, 2), bool), loss_steps=loss_steps)


def test_zeros_and_ones_are_a_mask_and_targets_that_do_not_count_may_be_missing():
    case = problem()
    mask = np.zeros((9, 2), bool)
    mask[[2, 5], [0, 1]] = True
    y = np.where(mask[..., None], case.y, np.nan)
    one = case.backprop(mask=mask)
    other = gs.backprop(case.cell, case.params, case.x, y, loss=case.loss, h0=case.h0, mask=mask.astype(float))
    assert one.loss == other.loss
    for name in case.params:
        np.testing.assert_array_equal(one.params[name], other.params[name])
