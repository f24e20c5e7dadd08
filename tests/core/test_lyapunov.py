"""Guards `lyapunov`: published exponents and exact laws of networks, intervals, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradscope as gs
from gradscope.exponents import lyapunov
from gradscope.theory import gate_factor, gaussian_product, growth_rate, norm_bound
from gradscope.workspace import Workspace


def elman(W_hh, activation="tanh", b_h=None, W_xh=None):
    """A cell and its parameters."""
    n = len(W_hh)
    m = 1 if W_xh is None else W_xh.shape[1]
    cell = gs.cell("elman", hidden_size=n, input_size=m, output_size=1, activation=activation)
    params = {
        "W_xh": np.zeros((n, 1)) if W_xh is None else W_xh,
        "W_hh": np.asarray(W_hh, float),
        "b_h": np.zeros(n) if b_h is None else np.asarray(b_h, float),
        "W_hy": np.zeros((1, n)),
        "b_y": np.zeros(1),
    }
    return cell, params


def by_itself(T):
    """No input."""
    return np.zeros((T, 1, 1))


def random_network(n, g, sigma, T, seed, k=1, **options):
    """A tanh network of independent N(0, g^2/n) weights on white input, as mean field has it."""
    rng = np.random.default_rng(seed)
    W_xh = sigma * rng.standard_normal((n, n)) / np.sqrt(n) if sigma else None
    cell, params = elman(g * rng.standard_normal((n, n)) / np.sqrt(n), W_xh=W_xh)
    x = rng.standard_normal((T, 1, cell.input_size)) * (sigma > 0)
    return lyapunov(cell, params, x, k, h0=rng.standard_normal(n), **options)


# --- mean field (Sompolinsky et al. 1988; Molgedey et al. 1992; Chen et al. 2018) -------------------------------------


@pytest.mark.parametrize(
    ("g", "sigma", "rate"), [(1.5, 0, 0.065217), (2, 0, 0.154724), (3, 0, 0.310249), (0.9, 0.5, -0.3545)]
)
def test_large_random_networks_have_the_published_leading_exponents(g, sigma, rate):
    found = random_network(1000, g, sigma, T=1000, seed=0, washout=200)
    assert found.exponents[0] == pytest.approx(rate, abs=0.006)
    assert found.exponents[0] == pytest.approx(growth_rate("tanh", g, sigma), abs=0.006)


@pytest.mark.parametrize(("g", "sigma"), [(1.5, 0), (2, 0), (0.9, 0.5), (1.2, 0.3)])
def test_networks_of_300_units_have_them_within_two_hundredths(g, sigma):
    found = [random_network(300, g, sigma, T=600, seed=seed).exponents[0] for seed in range(4)]
    assert np.mean(found) == pytest.approx(growth_rate("tanh", g, sigma), abs=0.02)


def test_inputs_make_a_network_vanish_whose_radius_says_explode():
    found = random_network(300, 1.1, 0.5, T=600, seed=0)
    assert found.exponents[0] + found.half_width[0] < 0 < np.log(1.1)


# --- random matrices, another one at every step (Newman 1986) ---------------------------------------------------------


@pytest.mark.parametrize(("n", "scale"), [(1, 1.0), (5, 0.7), (12, 1.3)])
def test_products_of_gaussian_matrices_have_newmans_exponents_and_variances(n, scale):
    cell, params = elman(np.zeros((n, n)), "linear")
    T = 2000
    found = lyapunov(cell, params, by_itself(T), warmup=0, washout=0, tied=False, scale=scale)
    law = gaussian_product(n, scale)
    inside = np.abs(found.exponents - law.exponents) <= 3.5 * np.sqrt(law.variances / T)
    assert inside.all()
    np.testing.assert_allclose(found.half_width, 2.0 * np.sqrt(law.variances / T), rtol=0.35)


def test_one_matrix_for_all_steps_grows_by_its_radius_instead():
    W_hh = np.random.default_rng(0).standard_normal((12, 12)) / np.sqrt(12)
    cell, params = elman(W_hh, "linear")
    tied = lyapunov(cell, params, by_itself(4000), 1).exponents[0]
    assert tied == pytest.approx(np.log(max(abs(np.linalg.eigvals(W_hh)))), abs=2e-3)
    assert abs(tied - gaussian_product(12, 1.0).exponents[0]) > 0.05


# --- exact laws -------------------------------------------------------------------------------------------------------


def tent(mu):
    """x' = mu (relu(x) - 2 relu(x - 1/2)), its two units the two relus: Mikhaeil et al. (2022)."""
    return elman([[mu, -2 * mu], [mu, -2 * mu]], "relu", b_h=[0.0, -0.5])


def test_the_tent_map_explodes_by_ln_mu_and_has_one_dimension():
    cell, params = tent(1.5)
    found = lyapunov(cell, params, by_itself(1000), h0=np.array([0.3, 0.0]))
    assert found.exponents[0] == pytest.approx(np.log(1.5), abs=1e-12)
    assert found.exponents[1] == -np.inf
    assert found.half_width[0] == pytest.approx(0.0, abs=1e-12)
    assert found.kaplan_yorke == 1.0


def test_gradients_vanish_on_a_stable_cycle():
    cell, params = elman([[0.0, -4.0], [1.0, 0.0]], "tanh", b_h=[1.0, 0.0])
    found = lyapunov(cell, params, by_itself(2000), h0=np.array([0.1, -0.2]))
    trace = cell.forward(cell.pack({k: v[None] for k, v in params.items()}), by_itself(500)[None], None, Workspace())
    tail = trace.states[0, -12:, 0]
    assert np.abs(tail[-1] - tail[:-1]).min() < 1e-9  # it comes back
    assert np.abs(tail[-1] - tail[-2]).max() > 0.1  # and is no fixed point
    assert found.exponents[0] < -0.01


def test_a_latch_has_the_multiplier_of_its_fixed_point():
    # Bengio, Simard & Frasconi (1994): x = tanh(1.25 x) at .7104118, w (1 - x^2) = .6191439.
    cell, params = elman([[1.25]])
    found = lyapunov(cell, params, by_itself(400), h0=np.array([0.5]), washout=100)
    assert found.exponents[0] == pytest.approx(np.log(0.6191439), abs=1e-7)
    assert found.finite_time.shape == (1, 1)
    assert found.kaplan_yorke == 0.0


@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 8), radius=st.floats(1e-30, 1e30), seed=st.integers(0, 1000))
def test_orthogonal_linear_networks_have_all_exponents_at_the_radius(n, radius, seed):
    W_hh = radius * np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    found = lyapunov(*elman(W_hh, "linear"), by_itself(60))
    np.testing.assert_allclose(found.exponents, np.log(radius), rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    activation=st.sampled_from(["tanh", "relu", "sigmoid", "linear"]),
    n=st.integers(1, 6),
    size=st.floats(0, 3),
    seed=st.integers(0, 10**6),
)
def test_no_exponent_is_beyond_the_norm_bound(activation, n, size, seed):
    # Pascanu, Mikolov & Bengio (2013): an inequality that may never be violated.
    rng = np.random.default_rng(seed)
    W_hh = size * rng.standard_normal((n, n))
    cell, params = elman(W_hh, activation, W_xh=rng.standard_normal((n, 2)))
    found = lyapunov(cell, params, rng.standard_normal((15, 2, 2)))
    bound = norm_bound(activation, float(np.linalg.norm(W_hh, 2)))
    assert (found.finite_time <= bound + 1e-12).all()


@pytest.mark.parametrize("bias", [0.0, 1.0, 2.0, 5.0])
def test_an_lstm_of_small_weights_forgets_by_its_gate(bias):
    cell = gs.cell("lstm", hidden_size=5, input_size=2, output_size=1, forget_bias=bias)
    params = cell.init(seed=0, spectral_radius=1e-8, input_scale=1e-8)
    found = lyapunov(cell, params, np.random.default_rng(0).standard_normal((60, 2, 2)))
    np.testing.assert_allclose(found.exponents[:5], np.log(gate_factor(bias)), rtol=0, atol=1e-7)
    assert (found.exponents[5:] < np.log(1e-7)).all()
    assert np.isfinite(found.exponents).all()


@pytest.mark.parametrize("bias", [0.0, 2.0])
def test_a_gru_of_small_weights_keeps_by_its_update_gate(bias):
    cell = gs.cell("gru", hidden_size=5, input_size=2, output_size=1)
    params = cell.init(seed=0, spectral_radius=1e-8, input_scale=1e-8)
    params["b_xh"][5:10] = bias
    params["b_hh"][:] = 0.0
    found = lyapunov(cell, params, np.random.default_rng(0).standard_normal((60, 2, 2)))
    np.testing.assert_allclose(found.exponents, np.log(gate_factor(bias)), rtol=0, atol=1e-7)


def test_a_diagonal_cell_has_the_moduli_of_its_units_in_pairs():
    cell = gs.cell("diagonal", hidden_size=8, input_size=2, output_size=1)
    params = cell.init(seed=0, spectral_radius=0.9)
    found = lyapunov(cell, params, np.ones((800, 1, 2)), warmup=400)
    moduli = np.sort(np.exp(-np.exp(params["nu_log"])))[::-1]
    np.testing.assert_allclose(found.exponents, np.repeat(np.log(moduli), 2), rtol=0, atol=2e-3)


# --- what it returns --------------------------------------------------------------------------------------------------


def test_the_result_says_how_it_came_about():
    found = random_network(20, 1.5, 0.3, T=500, seed=0, k=6, washout=40, warmup=60)
    assert found.exponents.shape == found.half_width.shape == (6,)
    assert found.finite_time.shape == (1, 6)
    assert found.steps[-1] == 400
    assert found.running.shape == (len(found.steps), 6)
    np.testing.assert_array_equal(found.running[-1], found.exponents)
    assert found.status == "ok"
    assert (found.half_width > 0).all()


def test_exponents_are_the_mean_over_examples_and_each_is_as_alone():
    rng = np.random.default_rng(0)
    cell, params = elman(rng.standard_normal((8, 8)) / 2, W_xh=rng.standard_normal((8, 3)))
    x = rng.standard_normal((300, 4, 3))
    found = lyapunov(cell, params, x)
    np.testing.assert_allclose(found.exponents, found.finite_time.mean(axis=0), rtol=1e-12)
    for b in range(4):
        np.testing.assert_allclose(lyapunov(cell, params, x[:, [b]]).exponents, found.finite_time[b], rtol=1e-8)


def test_intervals_hold_exponents_of_other_inputs():
    rng = np.random.default_rng(0)
    cell, params = elman(0.5 * rng.standard_normal((10, 10)), W_xh=rng.standard_normal((10, 2)))
    truth = lyapunov(cell, params, rng.standard_normal((3000, 8, 2)), 3).exponents
    for examples in (1, 4):
        found = [lyapunov(cell, params, rng.standard_normal((400, examples, 2)), 3) for _ in range(40)]
        inside = [np.abs(one.exponents - truth) <= one.half_width for one in found]
        assert np.mean(inside) >= 0.9


def test_examples_that_are_all_alike_do_not_narrow_the_interval():
    rng = np.random.default_rng(0)
    cell, params = elman(0.5 * rng.standard_normal((10, 10)), W_xh=rng.standard_normal((10, 2)))
    x = rng.standard_normal((400, 1, 2))
    one, many = (lyapunov(cell, params, np.repeat(x, B, axis=1), 2) for B in (1, 9))
    np.testing.assert_allclose(many.half_width, one.half_width, rtol=1e-6)


def test_a_start_of_one_example_is_that_of_all():
    rng = np.random.default_rng(0)
    cell, params = elman(1.5 * rng.standard_normal((4, 4)))
    h0 = rng.standard_normal(4)
    one, both = (lyapunov(cell, params, np.zeros((50, 2, 1)), h0=start) for start in (h0, np.tile(h0, (2, 1))))
    np.testing.assert_array_equal(one.exponents, both.exponents)


def test_few_steps_have_an_exponent_and_no_interval():
    found = lyapunov(*elman(np.eye(3) * 0.5, "linear"), by_itself(3), washout=1, warmup=1)
    np.testing.assert_allclose(found.exponents, np.log(0.5), rtol=1e-14)
    assert np.isnan(found.half_width).all()


def test_there_are_no_exponents_where_states_overflow():
    cell, params = elman(np.eye(2) * 100.0, "linear")
    found = lyapunov(cell, params, by_itself(400), h0=np.ones(2))
    assert found.status == "forward overflow at step 155"
    for rates in (found.exponents, found.half_width, found.finite_time, found.running):
        assert np.isnan(rates).all()
    assert np.isnan(found.kaplan_yorke)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 4}, "k: 4 exponents of a state of 3.*more exponents than units"),
        ({"k": 0}, "k: 0; allowed: a whole number from 1 to 3"),
        ({"k": 1.5}, r"k: 1.5; allowed: a whole number from 1 to 3"),
        ({"k": True}, "k: True; allowed"),
        ({"h0": np.zeros((2, 3))}, r"h0: shape \(2, 3\); allowed: shape \(1, 3\)"),
        ({"washout": -1}, "washout: must be at least 0"),
        ({"warmup": 2.5}, "warmup: 2.5; allowed: a whole number"),
        ({"washout": 10, "warmup": 10}, "x: 20 step.*leave out 20; allowed: at least 21 steps"),
        ({"x": np.zeros((20, 1))}, r"x: shape \(20, 1\)"),
        ({"x": np.full((20, 1, 1), np.nan)}, "x: 20 value.*not finite"),
        ({"params": {}}, "params: missing or unknown"),
        ({"tied": False}, "scale: is needed where W_hh is not tied"),
        ({"tied": False, "scale": -1.0}, "scale: must be at least 0"),
        ({"tied": False, "scale": 1.0, "ensemble": "gausian"}, "unknown ensemble"),
    ],
)
def test_impossible_requests_are_refused(options, message):
    cell, params = elman(np.eye(3))
    with pytest.raises(gs.InputError, match=message):
        lyapunov(cell, **{"params": params, "x": by_itself(20)} | options)


def test_examples_that_are_all_the_same_have_no_interval():
    cell = gs.cell("elman", hidden_size=4, input_size=1, output_size=1)
    found = gs.lyapunov(cell, cell.init(seed=0, spectral_radius=1.5), np.zeros((6, 3, 1)), h0=np.ones(4), k=2)
    assert np.isnan(found.half_width).all()
