"""Guards the theory of gradient growth: published numbers, integrals by another method, limits, and a simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import polygamma

import gradscope as gs
from gradscope.activations import activation as find
from gradscope.theory import (
    chrono_memory,
    critical_radius,
    gate_factor,
    gaussian_product,
    growth_rate,
    half_life,
    norm_bound,
)

VALUE = {"tanh": np.tanh, "sigmoid": lambda z: 0.5 + 0.5 * np.tanh(z / 2)}
SLOPE = {"tanh": lambda z: np.cosh(z) ** -2.0, "sigmoid": lambda z: 0.25 * np.cosh(z / 2) ** -2.0}


def mean_square(f, D):
    """E[f(sqrt(D) z)^2] by adaptive quadrature."""
    return quad(lambda z: f(np.sqrt(D) * z) ** 2 * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), -12, 12, epsabs=1e-13)[0]


def by_iteration(activation, g, sigma, steps=300):
    """The rate, with D by repeating the map from above."""
    D = g**2 + sigma**2
    for _ in range(steps):
        D = g**2 * mean_square(VALUE[activation], D) + sigma**2
    return 0.5 * np.log(g**2 * mean_square(SLOPE[activation], D))


@pytest.mark.parametrize(("g", "rate"), [(1.5, 0.065217), (2.0, 0.154724), (3.0, 0.310249)])
def test_autonomous_tanh_networks_have_the_published_rates(g, rate):
    assert growth_rate("tanh", g, 0.0) == pytest.approx(rate, abs=6e-7)


def test_a_driven_tanh_network_has_the_published_rate():
    assert growth_rate("tanh", 0.9, 0.5) == pytest.approx(-0.3545, abs=5e-5)


@pytest.mark.parametrize(("sigma", "g"), [(0.0, 1.0), (0.1, 1.19), (0.5, 1.55), (1.0, 1.86)])
def test_input_moves_the_critical_radius_as_published(sigma, g):
    assert critical_radius("tanh", sigma) == pytest.approx(g, abs=5e-3)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
@pytest.mark.parametrize(("g", "sigma"), [(0.3, 0.1), (0.9, 0.5), (1.3, 0.1), (2.0, 0.0), (4.0, 1.0), (12.0, 0.3)])
def test_bounded_activations_agree_with_quadrature_and_iteration(activation, g, sigma):
    assert growth_rate(activation, g, sigma) == pytest.approx(by_iteration(activation, g, sigma), abs=1e-9)


@pytest.mark.parametrize("g", [1e4, 1e8, 1e16])
def test_saturated_networks_have_the_limit_in_which_only_units_near_zero_count(g):
    # sqrt(D) = g, and E[f'^2] is the integral of f'^2, 4/3 and 1/6, times the density at 0; sigmoid: D = g^2 / 2.
    density = 1 / np.sqrt(2 * np.pi)
    assert growth_rate("tanh", g, 0.1) == pytest.approx(0.5 * np.log(g * density * 4 / 3), abs=1 / g + 1e-13)
    half = np.sqrt(0.5)
    assert growth_rate("sigmoid", g, 0.1) == pytest.approx(0.5 * np.log(g * density / 6 / half), abs=2 / g + 1e-13)


@given(g=st.floats(1e-6, 1.0))
def test_without_input_a_tanh_network_below_1_dies_out_and_is_linear(g):
    assert growth_rate("tanh", g, 0.0) == pytest.approx(np.log(g), abs=1e-12)


@given(g=st.floats(1e-6, 0.9))
def test_little_input_leaves_a_tanh_network_linear(g):
    assert growth_rate("tanh", g, 1e-7) == pytest.approx(np.log(g), abs=1e-12)


@pytest.mark.parametrize("eps", [1e-2, 1e-3])
def test_just_beyond_1_an_autonomous_tanh_network_grows_by_its_expansion(eps):
    # E tanh^2 = D - 2 D^2 + 17/3 D^3 and E sech^4 = 1 - 2 D + 7 D^2: at g = 1 + eps D is eps, the rate 2/3 eps^2.
    assert growth_rate("tanh", 1 + eps, 0.0) == pytest.approx(2 / 3 * eps**2, rel=5 * eps)


@given(g=st.floats(1e-3, 1e3), sigma=st.floats(0, 10))
def test_half_of_the_units_of_a_relu_network_are_active(g, sigma):
    assert growth_rate("relu", g, sigma) == pytest.approx(np.log(g / np.sqrt(2)), abs=1e-12)


@pytest.mark.parametrize("ensemble", ["gaussian", "identity", "orthogonal", "uniform"])
@pytest.mark.parametrize("task", ["noise", "sine", "text"])
def test_linear_networks_grow_by_their_spectral_radius(ensemble, task):
    assert growth_rate("linear", 0.9, 0.3, ensemble, task) == pytest.approx(np.log(0.9), abs=1e-15)
    assert growth_rate("linear", 0.0, 0.3, ensemble, task) == -np.inf
    assert critical_radius("linear", 0.3, ensemble, task) == 1.0


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
def test_there_is_no_rate_without_recurrence_and_no_theory_elsewhere(activation):
    assert growth_rate(activation, 0.0) == -np.inf
    for elsewhere in ({"ensemble": "identity"}, {"task": "sine"}, {"task": "series"}):
        assert np.isnan(growth_rate(activation, 0.9, **elsewhere))
        assert np.isnan(critical_radius(activation, **elsewhere))


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
@given(sigma=st.floats(1e-3, 20))
def test_the_rate_is_zero_at_the_critical_radius_and_changes_sign_there(activation, sigma):
    g = critical_radius(activation, sigma)
    assert growth_rate(activation, g, sigma) == pytest.approx(0, abs=1e-9)
    assert growth_rate(activation, 0.99 * g, sigma) < 0 < growth_rate(activation, 1.01 * g, sigma)


@pytest.mark.parametrize(("values", "fault"), [((-1.0, 0.1), "spectral_radius"), ((1.0, np.inf), "input_scale")])
def test_impossible_numbers_are_refused(values, fault):
    with pytest.raises(gs.InputError, match=f"{fault}: must be at least 0"):
        growth_rate("tanh", *values)


def test_unknown_activation_is_refused():
    with pytest.raises(gs.InputError, match=r"unknown activation 'tahn'.*'tanh'"):
        growth_rate("tahn", 1.0)
    with pytest.raises(gs.InputError, match=r"unknown activation 'tahn'.*'tanh'"):
        critical_radius("tahn")


def measured_rate(activation, g, sigma, W_hh, seed):
    """The slope of log |dL_T/dh_t| over lags 10 to 60, of one network by gradscope."""
    n, T, B = len(W_hh), 80, 4
    cell = gs.cell("elman", hidden_size=n, input_size=n, output_size=1, activation=activation)
    params = cell.init(seed=seed, spectral_radius=g, ensemble="orthogonal", input_scale=sigma) | {"W_hh": W_hh}
    rng = np.random.default_rng(seed)
    found = gs.backprop(cell, params, rng.standard_normal((T, B, n)), rng.standard_normal((T, B, 1)))
    lags = np.arange(10, 61)
    return np.polyfit(lags, found.log10_dh[T - 1 - lags].mean(axis=1) * np.log(10), 1)[0]


@pytest.mark.parametrize(
    ("activation", "g", "sigma"),
    [("tanh", 0.9, 0.5), ("tanh", 1.5, 0.1), ("tanh", 2.5, 1.0), ("sigmoid", 4.0, 0.5), ("relu", 1.0, 0.5)],
)
def test_networks_of_300_units_grow_as_predicted(activation, g, sigma):
    # Orthogonal W_hh at the realised radius g, and independent N(0, g^2/n) entries, as the theory has them.
    n, seeds = 300, range(4)
    cell = gs.cell("elman", hidden_size=n, input_size=n, output_size=1, activation=activation)
    orthogonal = [cell.init(seed=seed, spectral_radius=g, ensemble="orthogonal")["W_hh"] for seed in seeds]
    independent = [g * np.random.default_rng(seed).standard_normal((n, n)) / np.sqrt(n) for seed in seeds]
    for ensemble, draws in (("orthogonal", orthogonal), ("gaussian", independent)):
        rates = [measured_rate(activation, g, sigma, W_hh, seed) for seed, W_hh in zip(seeds, draws, strict=True)]
        assert np.mean(rates) == pytest.approx(growth_rate(activation, g, sigma, ensemble), abs=0.02)


# --- exact laws -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 64, 1001])
def test_exponents_of_gaussian_products_are_newmans_formula(n):
    found = gaussian_product(n, 0.7)
    halves = (n - np.arange(1, n + 1) + 1) / 2
    expected = 0.5 * (np.log(2 * 0.7**2 / n) + polygamma(0, halves))
    np.testing.assert_allclose(found.exponents, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.variances, polygamma(1, halves) / 4, rtol=1e-10)


def test_gaussian_products_have_the_mean_field_rate_at_the_top_and_are_nothing_at_scale_zero():
    assert gaussian_product(4000, 1.3).exponents[0] == pytest.approx(growth_rate("linear", 1.3), abs=1e-3)
    assert (gaussian_product(3, 0.0).exponents == -np.inf).all()


@pytest.mark.parametrize(("activation", "steepest"), [("tanh", 1), ("relu", 1), ("linear", 1), ("sigmoid", 0.25)])
@given(norm=st.floats(1e-300, 1e300))
def test_the_norm_bound_is_that_of_the_steepest_slope(activation, steepest, norm):
    assert norm_bound(activation, norm) == pytest.approx(np.log(steepest) + np.log(norm), rel=1e-12, abs=1e-12)
    assert norm_bound(activation, 0.0) == -np.inf


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "linear"])
def test_no_activation_is_steeper_than_the_norm_bound_says(activation):
    z = np.linspace(-30, 30, 100001)
    f = find(activation)
    h, slope = np.empty_like(z), np.empty_like(z)
    f.apply(z, h)
    f.slope(h, slope)
    assert np.log(slope.max()) <= norm_bound(activation, 1.0) + 1e-15
    assert norm_bound(activation, 1.0) == pytest.approx(np.log(slope.max()), abs=1e-6)


@pytest.mark.parametrize(("bias", "factor"), [(0, 0.5), (1, 0.731059), (2, 0.880797), (5, 0.993307)])
def test_gates_keep_what_is_published(bias, factor):
    assert gate_factor(bias) == pytest.approx(factor, abs=5e-7)


def test_gates_keep_their_digits_far_out():
    assert gate_factor(-700.0) == pytest.approx(np.exp(-700.0), rel=1e-13)
    assert gate_factor(-800.0) == 0.0
    assert gate_factor(800.0) == 1.0


def test_half_lives():
    assert half_life(np.log(gate_factor(1.0))) == pytest.approx(2.213, abs=5e-4)  # published
    assert half_life(-np.inf) == 0.0
    assert half_life(0.0) == half_life(0.1) == np.inf


def test_chrono_initialisation_remembers_half_of_its_longest_on_average():
    biases = np.log(np.random.default_rng(0).uniform(1, 99, 20000))
    steps = np.array([1 / (1 - gate_factor(bias)) for bias in biases])
    assert steps.mean() == pytest.approx(chrono_memory(100), rel=0.01)


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (lambda: gaussian_product(0, 1.0), "hidden_size: 0; allowed: a whole number >= 1"),
        (lambda: gaussian_product(2.0, 1.0), "hidden_size: 2.0"),
        (lambda: gaussian_product(2, -1.0), "scale: must be at least 0"),
        (lambda: norm_bound("tahn", 1.0), "unknown activation 'tahn'"),
        (lambda: norm_bound("tanh", np.inf), "spectral_norm: must be at least 0"),
        (lambda: gate_factor(np.nan), "bias: nan is not finite"),
        (lambda: chrono_memory(1.5), "longest: must be at least 2"),
    ],
)
def test_laws_refuse_impossible_numbers(law, message):
    with pytest.raises(gs.InputError, match=message):
        law()


def test_there_is_no_rate_of_a_nilpotent_matrix():
    assert np.isnan(growth_rate("linear", 0.0, ensemble="delay-line:2"))
    assert np.isneginf(growth_rate("linear", 0.0, ensemble="gaussian"))


def test_the_defaults_of_frameworks_have_the_law_of_what_they_are():
    for framework, ensemble in (("pytorch", "uniform"), ("keras", "orthogonal")):
        assert growth_rate("tanh", 1.3, ensemble=framework) == growth_rate("tanh", 1.3, ensemble=ensemble)
