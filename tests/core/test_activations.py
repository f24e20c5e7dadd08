"""Guards the activations: value, derivative, and accuracy where they saturate."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradscope as gs
from gradscope.activations import ACTIVATIONS, activation

PLAIN = {
    "tanh": anp.tanh,
    "relu": lambda z: anp.maximum(z, 0.0),
    "sigmoid": lambda z: 1 / (1 + anp.exp(-z)),
    "linear": lambda z: 1.0 * z,
}


def applied(name, z):
    z = np.asarray(z, float)
    out = np.full_like(z, np.nan)
    activation(name).apply(z, out=out)
    return out


def slope(name, h):
    out = np.full_like(h, np.nan)
    activation(name).slope(h, out=out)
    return out


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@given(z=st.floats(-5, 5).filter(bool))
def test_value_and_slope_agree_with_automatic_differentiation(name, z):
    h = applied(name, [z])
    np.testing.assert_allclose(h[0], PLAIN[name](z), rtol=1e-13)
    np.testing.assert_allclose(slope(name, h)[0], autograd.grad(PLAIN[name])(z), rtol=1e-11)


@pytest.mark.parametrize("z", [-5.0, -20.0, -30.0, -40.0, -200.0])
def test_sigmoid_keeps_its_digits_where_it_is_small(z):
    # exp(z) / (1 + exp(z)): small, not zero, and its slope is nearly the same number.
    h, small = applied("sigmoid", [z]), np.exp(z)
    np.testing.assert_allclose(h, [small / (1 + small)], rtol=1e-12)
    np.testing.assert_allclose(slope("sigmoid", h), [small / (1 + small) ** 2], rtol=1e-12)


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_bounded_activations_take_any_number(name):
    h = applied(name, [-1e308, -800.0, 800.0, 1e308])
    np.testing.assert_allclose(h, [-1.0, -1.0, 1.0, 1.0] if name == "tanh" else [0.0, 0.0, 1.0, 1.0], atol=1e-300)


def test_relu_at_zero_has_slope_zero():
    assert slope("relu", applied("relu", [0.0, -0.0])).tolist() == [0.0, 0.0]


def test_unknown_activation_is_refused_with_the_near_miss():
    with pytest.raises(gs.InputError, match=r"unknown activation 'tahn'.*allowed: linear, relu, sigmoid, tanh.*'tanh'"):
        activation("tahn")
