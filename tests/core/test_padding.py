"""Sequences of any lengths in one batch: the same losses and gradients as of each example by itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradscope as gs

m, p = 2, 3
CELL = gs.cell("elman", hidden_size=4, input_size=m, output_size=p)
FORMS = {  # -> lengths of inputs and answers of an example, from two random numbers
    "one-to-one": lambda T, U: (1, 1),
    "one-to-many": lambda T, U: (1, U),
    "many-to-one": lambda T, U: (T, 1),
    "in-step": lambda T, U: (T, T),
    "delayed": lambda T, U: (T, U),
}


def alone(params, x, y, form, loss):
    """The gradients of one example, its inputs and losses placed by the words of the definition."""
    T, U = len(x), len(y)
    first = {"many-to-one": T, "delayed": T + 1}.get(form, 1)  # 1-based step of the first answer
    length = max(T, first + U - 1)
    inputs, targets = np.zeros((length, 1, m)), np.zeros((length, 1, *y.shape[1:]), y.dtype)
    inputs[:T, 0], targets[first - 1 : first - 1 + U, 0] = x, y
    steps = list(range(first, first + U))
    return gs.backprop(CELL, params, inputs, targets, loss=loss, loss_steps=steps), length


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("form", FORMS)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 5)), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_a_padded_batch_has_the_losses_and_gradients_of_its_examples(form, loss, lengths, seed):
    rng = np.random.default_rng(seed)
    params = CELL.init(seed=seed % 1000, spectral_radius=1.1, input_scale=0.5)
    sizes = [FORMS[form](T, U) for T, U in lengths]
    inputs = [rng.standard_normal((T, m)) for T, _ in sizes]
    targets = [rng.standard_normal((U, p)) if loss == "mse" else rng.integers(0, p, U) for _, U in sizes]
    x, y, mask = gs.arrange(inputs, targets, form)
    found = gs.backprop(CELL, params, x, y, loss=loss, mask=mask)
    each = [alone(params, x, y, form, loss) for x, y in zip(inputs, targets, strict=True)]
    np.testing.assert_allclose(found.loss, np.mean([one.loss for one, _ in each]), rtol=1e-12)
    for name in params:
        mean = np.mean([one.params[name] for one, _ in each], axis=0)
        np.testing.assert_allclose(found.params[name], mean, rtol=1e-9, atol=1e-13)
    for b, (one, length) in enumerate(each):
        np.testing.assert_allclose(found.log10_dh[:length, b], one.log10_dh[:, 0], atol=1e-10)
        assert (found.log10_dh[length:, b] == -np.inf).all()


def test_one_step_and_one_class_need_no_axis_of_their_own():
    x, y, mask = gs.arrange([np.ones(2), np.zeros(2)], [1, 0], "one-to-one")
    assert (x.shape, y.tolist(), mask.tolist()) == ((1, 2, 2), [[1, 0]], [[True, True]])
    x, y, mask = gs.arrange([np.ones((3, 1))], [[4.0, 5.0]], "many-to-one")
    assert (y[:, 0].tolist(), mask[:, 0].tolist()) == ([[0, 0], [0, 0], [4, 5]], [False, False, True])


@pytest.mark.parametrize(
    ("inputs", "targets", "form", "message"),
    [
        ([np.ones((2, 1))], [np.ones((2, 1))], "in-stp", "form: unknown form 'in-stp'.*did you mean 'in-step'"),
        ([np.ones((2, 1))], [np.ones((3, 1))], "in-step", r"targets\[0\]: 3 steps; allowed: 2, as its inputs"),
        ([np.ones((2, 1))], [np.ones((1, 1))], "one-to-many", r"inputs\[0\]: 2 steps; allowed: one, with form"),
        ([np.ones((2, 1))], [np.ones((2, 1))], "many-to-one", r"targets\[0\]: 2 steps; allowed: one, with form"),
        ([np.ones((2, 1)), np.ones((2, 2))], [[1.0], [1.0]], "many-to-one", r"inputs\[1\]: float64 \(2,\) a step, but"),
        ([np.ones((2, 1))] * 2, [np.array([1]), np.array([1.0])], "many-to-one", r"targets\[1\]: float64"),
        ([], [], "in-step", "inputs, targets: 0 inputs, 0 targets; allowed: as many of each, at least one"),
        ([np.ones((2, 1))], [], "in-step", "1 inputs, 0 targets"),
        ([np.ones((0, 1))], [np.ones((1, 1))], "many-to-one", r"inputs\[0\]: float64 \(0, 1\)"),
        ([np.array([["a"]])], [np.ones((1, 1))], "many-to-one", r"inputs\[0\]: <U1"),
        ([[[1.0], [1.0, 2.0]]], [np.ones((1, 1))], "many-to-one", r"inputs\[0\]: rows of different lengths"),
    ],
)
def test_examples_that_do_not_go_with_the_form(inputs, targets, form, message):
    with pytest.raises(gs.InputError, match=message):
        gs.arrange(inputs, targets, form)
