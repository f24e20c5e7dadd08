"""Guards the step losses (value and gradient) and which steps `loss_steps` stands for."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradscope as gs
from gradscope.losses import cross_entropy, mse, select_steps


def plain_mse(yhat, y):
    return anp.sum(anp.mean((yhat - y) ** 2, axis=-1))


def plain_cross_entropy(yhat, y):
    return anp.sum(anp.log(anp.sum(anp.exp(yhat), axis=-1)) - anp.sum(yhat * np.eye(yhat.shape[-1])[y], axis=-1))


@given(p=st.integers(1, 5), steps=st.integers(1, 4), seed=st.integers(0, 100))
def test_mse_agrees_with_automatic_differentiation(p, steps, seed):
    yhat, y = np.random.default_rng(seed).standard_normal((2, steps, 3, p))
    value, gradient = mse(yhat, y)
    assert value.shape == (steps, 3)
    np.testing.assert_allclose(value.sum(), plain_mse(yhat, y), rtol=1e-13)
    np.testing.assert_allclose(gradient, autograd.grad(plain_mse)(yhat, y), rtol=1e-13)


@given(p=st.integers(1, 5), steps=st.integers(1, 4), seed=st.integers(0, 100))
def test_cross_entropy_agrees_with_automatic_differentiation(p, steps, seed):
    rng = np.random.default_rng(seed)
    yhat, y = 3 * rng.standard_normal((steps, 3, p)), rng.integers(0, p, (steps, 3))
    value, gradient = cross_entropy(yhat, y)
    assert value.shape == (steps, 3)
    np.testing.assert_allclose(value.sum(), plain_cross_entropy(yhat, y), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(gradient, autograd.grad(plain_cross_entropy)(yhat, y), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shift", [-1e6, 0.0, 1e6])
def test_cross_entropy_does_not_depend_on_a_common_shift(shift):
    yhat = np.array([[0.5, -1.0, 2.0]])
    for found, expected in zip(
        cross_entropy(yhat + shift, np.array([1])), cross_entropy(yhat, np.array([1])), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_cross_entropy_of_a_hopeless_prediction_is_the_margin():
    value, gradient = cross_entropy(np.array([1e5, 0.0]), np.array(1))
    assert value == 1e5
    np.testing.assert_array_equal(gradient, [1.0, -1.0])


@pytest.mark.parametrize("margin", [1.0, 15.0, 30.0, 100.0])
def test_cross_entropy_gradient_of_a_confident_right_prediction_is_exact(margin):
    # p - 1 for the true class is minus the sum of the others: 1/(1 + e^margin), however small.
    value, gradient = cross_entropy(np.array([margin, 0.0]), np.array(0))
    small = np.exp(-margin) / (1 + np.exp(-margin))
    np.testing.assert_allclose(gradient, [-small, small], rtol=1e-12)
    np.testing.assert_allclose(value, np.log1p(np.exp(-margin)), rtol=1e-12)


def test_uniform_prediction_costs_the_logarithm_of_the_classes():
    np.testing.assert_allclose(cross_entropy(np.zeros((2, 8)), np.array([0, 7]))[0], np.log(8), rtol=1e-15)


@pytest.mark.parametrize(
    ("loss_steps", "chosen"),
    [
        ("last", [9]),
        ("all", list(range(10))),
        (1, [0]),
        (10, [9]),
        ("3", [2]),
        ("3, 7", [2, 6]),
        ([7, 3], [2, 6]),
        ((1, 10), [0, 9]),
        (range(2, 9, 3), [1, 4, 7]),
        (np.array([4, 2], np.uint8), [1, 3]),
        (np.int64(5), [4]),
    ],
)
def test_steps_are_counted_from_one_and_come_in_order(loss_steps, chosen):
    found = select_steps(loss_steps, 10)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, chosen)


@pytest.mark.parametrize(
    "loss_steps",
    ["first", "", "1.5", "1,,2", 1.5, [], [1.0, 2.0], True, [True], None, [[1, 2]], [[1], [2, 3]], {"a": 1}],
)
def test_what_names_no_steps_is_refused(loss_steps):
    with pytest.raises(gs.InputError, match=r"^loss_steps: .* names no steps; allowed: .*from 1 to seq_len = 10"):
        select_steps(loss_steps, 10)


@pytest.mark.parametrize("loss_steps", [0, 11, -1, [1, 11], [0, 3], [3, 3], "3,3", "11"])
def test_steps_that_do_not_fit_are_refused(loss_steps):
    with pytest.raises(gs.InputError, match=r"^loss_steps: .* does not fit; allowed: .*from 1 to seq_len = 10"):
        select_steps(loss_steps, 10)
