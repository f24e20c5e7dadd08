"""Guards Jacobians, growth rates and singular values: differences, LAPACK, many digits, and exact constructions."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import gradscope as gs
from gradscope.jacobian import Tied, Untied, jacobian, kaplan_yorke, log_norms, singular_values, spectrum
from gradscope.theory import gaussian_product
from gradscope.workspace import Workspace

CELLS = {
    **{f: {"name": "elman", "activation": f} for f in ("tanh", "relu", "sigmoid", "linear")},
    "lstm": {"name": "lstm"},
    "gru": {"name": "gru"},
    "diagonal": {"name": "diagonal"},
    "stack": {"name": "lstm", "num_layers": 2},
}


def network(kind="tanh", n=6, T=12, C=1, B=1, radius=0.9, input_scale=0.5, seed=0, **other):
    """Networks on white inputs from a random state; `other` are parameters (n, n) instead of those drawn."""
    cell = gs.cell(**CELLS[kind], hidden_size=n, input_size=n, output_size=1)
    drawn = [cell.init(seed=seed + c, spectral_radius=radius, input_scale=input_scale) | other for c in range(C)]
    rng = np.random.default_rng(seed)
    packed = cell.pack({name: np.stack([one[name] for one in drawn]) for name in drawn[0]})
    x, state0 = rng.standard_normal((C, T, B, n)), rng.standard_normal((C, B, cell.state_size))
    return Tied(cell, packed, cell.forward(packed, x * (input_scale > 0), state0 * (input_scale > 0), Workspace()))


@dataclass(frozen=True)
class Given:
    """Steps of an example whose Jacobians are given, (T, n, n), or (C, T, n, n) of several networks."""

    matrices: np.ndarray

    def __post_init__(self):
        object.__setattr__(self, "like", network("linear", self.matrices.shape[-1], T=1))
        object.__setattr__(self, "matrices", self.matrices.reshape(-1, *self.matrices.shape[-3:]))

    cell = property(lambda self: self.like.cell)
    extent = property(lambda self: (*self.matrices.shape[:2], 1))
    overflow = property(lambda self: np.zeros((len(self.matrices), 1), int))

    def at(self, t):
        return self.like.packed._replace(back=(self.matrices[:, t],)), np.ones((1, 1, 1, self.matrices.shape[-1]))


def product(steps, lag):
    """ds_T/ds_{T-lag} by plain multiplication, (C, B, S, S)."""
    T = steps.extent[1]
    found = jacobian(steps, T - 1).value()
    for t in range(T - 2, T - 1 - lag, -1):
        found = found @ jacobian(steps, t).value()
    return found


# --- one step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CELLS)
def test_jacobians_are_those_of_central_differences(kind):
    cell = gs.cell(**CELLS[kind], hidden_size=4, input_size=3, output_size=1)
    S, rng = cell.state_size, np.random.default_rng(1)
    packed = cell.pack({name: one[None] for name, one in cell.init(seed=1, spectral_radius=0.9).items()})
    x, state = rng.standard_normal((1, 1, 1, 3)), rng.standard_normal((1, 1, S))

    def after(state0):
        trace = cell.forward(packed, np.broadcast_to(x, (1, 1, len(state0), 3)), state0[None], Workspace())
        return cell.state(trace, 1)[0].copy()

    steps = 1e-6 * np.eye(S)
    expected = (after(state[0] + steps) - after(state[0] - steps)).T / 2e-6
    found = jacobian(Tied(cell, packed, cell.forward(packed, x, state, Workspace())), 0)
    np.testing.assert_allclose(found.value()[0, 0], expected, rtol=1e-7, atol=1e-9)


def test_jacobians_and_their_norms_are_those_of_each_network_example_and_step():
    steps = network(C=2, B=3)
    states, W_hh = steps.trace.states, [own[:6].T for own in steps.packed.forward[0]]
    expected = np.einsum("ctbi,cij->ctbij", 1 - states**2, np.stack(W_hh))
    for t in (0, 7):
        np.testing.assert_allclose(jacobian(steps, t).value(), expected[:, t], rtol=1e-13)
    norms = np.log(np.linalg.norm(expected[:, [0, 7]], 2, axis=(-2, -1)))
    np.testing.assert_allclose(log_norms(steps, [0, 7]), norms, rtol=0, atol=1e-13)


@pytest.mark.parametrize("radius", [1e-300, 1e-30, 1e30])
def test_norms_and_singular_values_are_exact_where_weights_are_very_small_or_large(radius):
    one, same = (network("linear", 5, T=50, radius=r, input_scale=0) for r in (1.0, radius))
    decades = np.log10(radius)
    np.testing.assert_allclose(log_norms(same, [3]), log_norms(one, [3]) + decades * np.log(10), rtol=1e-13)
    lags = np.array([1, 2, 50])
    expected = singular_values(one, lags) + decades * lags[:, None, None]
    np.testing.assert_allclose(singular_values(same, lags), expected, rtol=0, atol=1e-10)


def test_the_norm_of_a_zero_jacobian_is_zero():
    assert (log_norms(network("linear", radius=0.0), [0, 1]) == -np.inf).all()


# --- singular values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CELLS)
def test_singular_values_at_small_lags_are_lapacks(kind):
    steps, lags = network(kind, C=2, B=2, radius=0.95), [1, 2, 3, 7]
    found = 10.0 ** singular_values(steps, lags)
    for number, lag in enumerate(lags):
        expected = np.linalg.svd(product(steps, lag), compute_uv=False)
        np.testing.assert_allclose(found[:, number], expected, rtol=1e-10, atol=1e-13 * expected.max())


def test_singular_values_of_one_network_are_the_same_in_company_and_at_other_lags():
    together, alone = network(C=3, B=2, T=40), network(C=1, B=2, T=40)
    all_lags = singular_values(together, range(1, 40))
    np.testing.assert_allclose(all_lags[1:2], singular_values(network(C=3, B=2, T=40), range(1, 40))[1:2])
    few = singular_values(together, [39, 5])
    np.testing.assert_allclose(few, all_lags[:, [38, 4]], rtol=0, atol=1e-9)
    assert alone.extent == (1, 40, 2)


def many_digits(matrices, digits):
    """log10 of the singular values of a product, by one-sided Jacobi rotations in decimal arithmetic."""
    with localcontext(Context(prec=digits, Emin=-(10**9), Emax=10**9)):
        factors = [[[Decimal(float(entry)) for entry in row] for row in matrix] for matrix in matrices]
        rows = factors[0]
        for factor in factors[1:]:
            rows = [[sum(map(Decimal.__mul__, row, column)) for column in zip(*factor, strict=True)] for row in rows]
        pairs = [(p, q) for q in range(len(rows)) for p in range(q)]
        for p, q in pairs * 30:
            a, b, c = (sum(map(Decimal.__mul__, rows[i], rows[j])) for i, j in ((p, p), (q, q), (p, q)))
            if c == 0 or abs(c) < Decimal(10) ** -40 * (a * b).sqrt():
                continue
            zeta = (b - a) / (2 * c)
            t = (1 if zeta >= 0 else -1) / (abs(zeta) + (1 + zeta * zeta).sqrt())
            cos = 1 / (1 + t * t).sqrt()
            rows[p], rows[q] = (
                [cos * (u - t * v) for u, v in zip(rows[p], rows[q], strict=True)],
                [cos * (v + t * u) for u, v in zip(rows[p], rows[q], strict=True)],
            )
        return sorted((float(sum(u * u for u in row).log10() / 2) for row in rows), reverse=True)


def independent(rng):
    return rng.standard_normal((200, 4, 4))


def nearly_diagonal(rng):
    return np.diag([0.3, 0.7, 1.0, 2.0]) + 1e-9 * rng.standard_normal((200, 4, 4))


def unequal_rows(rng):
    return 10.0 ** rng.uniform(-9, 0, (60, 4, 1)) * rng.standard_normal((60, 4, 4))


def unequal_columns(rng):
    return 10.0 ** rng.uniform(-9, 0, (60, 1, 4)) * rng.standard_normal((60, 4, 4))


@pytest.mark.parametrize("drawn", [independent, nearly_diagonal, unequal_rows, unequal_columns])
def test_singular_values_are_those_of_arithmetic_with_many_digits(drawn):
    # Conditions of single factors are about 1e3, or 1e9 only by unequal scales; of the products, up to 1e-250 : 1.
    matrices = drawn(np.random.default_rng(0))
    T = len(matrices)
    lags = [1, 3, 20, T]
    found = singular_values(Given(matrices), lags)[0, :, 0]
    for lag, values in zip(lags, found, strict=True):
        expected = many_digits(matrices[::-1][:lag], digits=900)
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-10)
    assert found[-1, 0] - found[-1, -1] > 50


@pytest.mark.parametrize("rate", [-12.0, 12.0])
def test_values_of_known_products_are_exact_beyond_any_range_of_numbers(rate):
    # U_t diag(exp(a_i)) U_{t-1}^T, telescoping: after k steps exp(k a_i), from 1e-5000 to 1e+5000 and 1e600 apart.
    rng, T = np.random.default_rng(0), 1000
    rates = rate + np.array([0.7, 0.3, 0.1, 0.0, 0.0, -0.2, -0.7])
    turns = [np.linalg.qr(rng.standard_normal((7, 7)))[0] for _ in range(T + 1)]
    steps = Given(np.stack([(new * np.exp(rates)) @ old.T for new, old in zip(turns[1:], turns, strict=False)]))
    lags = [1, 30, T]
    found = singular_values(steps, lags)[0, :, 0]
    np.testing.assert_allclose(found, np.outer(lags, rates) / np.log(10), rtol=0, atol=1e-9)
    assert abs(found).max() > 4900
    assert found[-1, 0] - found[-1, -1] > 600


def test_values_of_diagonal_jacobians_are_exact_in_whatever_order_units_grow():
    rng = np.random.default_rng(0)
    logs = rng.uniform(-3, 3, (500, 9))
    found = singular_values(Given(np.exp(logs)[:, None] * np.eye(9)), [1, 77, 500])[0, :, 0]
    for lag, values in zip([1, 77, 500], found, strict=True):
        expected = -np.sort(-logs[-lag:].sum(axis=0)) / np.log(10)
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("seed", [0, 135, 185])  # others than the first have rows that a step takes nearly to zero
def test_a_nilpotent_matrix_loses_a_dimension_at_each_step(seed):
    matrix = np.triu(np.random.default_rng(seed).standard_normal((8, 8)), 1)
    found = singular_values(network("linear", 8, T=30, input_scale=0, W_hh=matrix), range(1, 11))[0, :, 0]
    assert np.isfinite(found).sum(axis=1).tolist() == [7, 6, 5, 4, 3, 2, 1, 0, 0, 0]
    for power in (2, 4):
        expected = np.linalg.svd(np.linalg.matrix_power(matrix, power), compute_uv=False)[: 8 - power]
        np.testing.assert_allclose(10 ** found[power - 1, : 8 - power], expected, rtol=1e-9)


def test_a_delay_line_keeps_its_exact_zeros():
    n, alpha = 100, 1.05
    steps = network("linear", n, T=n + 5, input_scale=0, W_hh=alpha * np.eye(n, k=-1))
    lags = [1, 50, n - 1, n, n + 5]
    for lag, values in zip(lags, singular_values(steps, lags)[0, :, 0], strict=True):
        left = max(0, n - lag)
        np.testing.assert_allclose(values[:left], lag * np.log10(alpha), rtol=0, atol=1e-12)
        assert (values[left:] == -np.inf).all()
    # The root mean square over random directions, published: 8.09 is the mean norm at lag 50.
    rms = np.sqrt((10 ** (2 * singular_values(steps, [50])[0, 0, 0])).mean())
    np.testing.assert_allclose(rms, alpha**50 * np.sqrt(0.5), rtol=1e-12)
    assert (spectrum(steps, n, 1, 1).rates == -np.inf).all()
    short = network("linear", n, T=52, input_scale=0, W_hh=alpha * np.eye(n, k=-1))
    rates = spectrum(short, n, 1, 1).rates[0, 0]
    assert np.isfinite(rates).sum() == n - 51
    assert rates[0] <= np.log(alpha) + 1e-12


def test_a_matrix_of_low_rank_has_as_many_values():
    rng = np.random.default_rng(0)
    steps = network(n=10, T=40, W_hh=rng.standard_normal((10, 3)) @ rng.standard_normal((3, 10)) / 5)
    assert (np.isfinite(singular_values(steps, [1, 2, 17, 40])).sum(axis=-1) == 3).all()
    assert np.isfinite(spectrum(steps, 10, 4, 4).rates).sum() == 3


def test_inactive_units_take_their_dimensions_away_and_no_others():
    steps = network("relu", n=20, T=60, radius=1.3, B=2)
    active = (steps.trace.states > 0).sum(axis=-1)[0, ::-1]
    lags = [1, 2, 5]
    found = singular_values(steps, lags)
    for number, lag in enumerate(lags):
        expected = np.linalg.svd(product(steps, lag), compute_uv=False)
        np.testing.assert_allclose(10 ** found[:, number], expected, rtol=1e-9, atol=1e-14 * expected.max())
        assert (np.isfinite(found[0, number]).sum(axis=-1) <= active[:lag].min(axis=0)).all()
    assert (np.isfinite(found[0, 0]).sum(axis=-1) == active[0]).all()
    rates = spectrum(steps, 20, 5, 5).rates[0]
    assert (np.isfinite(rates).sum(axis=-1) <= active[:-5].min(axis=0)).all()
    assert np.isfinite(rates[:, 0]).all()


@pytest.mark.parametrize("radius", [0.5, 1.0, 1.7])
def test_orthogonal_linear_networks_are_flat(radius):
    cell_matrix = radius * np.linalg.qr(np.random.default_rng(3).standard_normal((9, 9)))[0]
    steps = network("linear", 9, T=300, input_scale=0, W_hh=cell_matrix)
    found = singular_values(steps, [1, 300])[0, :, 0]
    np.testing.assert_allclose(found, np.array([[1], [300]]) * np.log10(radius) * np.ones(9), rtol=0, atol=1e-11)
    np.testing.assert_allclose(spectrum(steps, 9, 10, 10).rates, np.log(radius), rtol=0, atol=1e-12)


# --- exponents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in CELLS if kind != "relu"])
def test_exponents_add_up_to_the_log_of_the_determinant(kind):
    steps = network(kind, n=6, T=80, C=2, B=2)
    washout, warmup = 7, 11
    inside = range(washout, 80 - warmup)
    expected = np.mean([np.linalg.slogdet(jacobian(steps, t).value())[1] for t in inside], axis=0)
    rates = spectrum(steps, steps.cell.state_size, washout, warmup).rates
    np.testing.assert_allclose(rates.sum(axis=-1), expected, rtol=1e-9, atol=1e-9)
    assert (np.diff(rates, axis=-1) <= 0).all()


def test_strongly_saturated_units_keep_the_determinant_exact():
    # Slopes down to 1e-40 in the same step: the smallest exponents are far below the rounding of the largest.
    steps = network("sigmoid", n=8, T=60, input_scale=40.0)
    expected = np.mean([np.linalg.slogdet(jacobian(steps, t).value())[1] for t in range(5, 55)])
    rates = spectrum(steps, 8, 5, 5).rates[0, 0]
    np.testing.assert_allclose(rates.sum(), expected, rtol=1e-10)
    assert rates[0] - rates[-1] > np.log(1e8)


def by_forward_perturbations(steps, k, washout, warmup):
    """Exponents as textbooks have them (Benettin et al. 1980): perturbations of the state, step by step."""
    S, (_, T, _) = steps.cell.state_size, steps.extent
    Q, total = np.eye(S)[:, :k], np.zeros(k)
    for t in range(T - warmup):
        Q, R = np.linalg.qr(jacobian(steps, t).value()[0, 0] @ Q)
        total += np.log(np.abs(np.diag(R))) * (t >= washout)
    return total / (T - warmup - washout)


@pytest.mark.parametrize(("kind", "radius"), [("tanh", 1.8), ("lstm", 0.9), ("gru", 2.0)])
def test_adjoints_have_the_exponents_of_perturbations(kind, radius):
    steps = network(kind, n=8, T=3000, radius=radius)
    expected = by_forward_perturbations(steps, 5, 100, 100)
    np.testing.assert_allclose(spectrum(steps, 5, 100, 100).rates[0, 0], expected, rtol=0, atol=0.01)


def test_a_linear_network_has_the_moduli_of_its_eigenvalues():
    rng = np.random.default_rng(0)
    moduli = np.linspace(1.1, 0.2, 12)
    vectors = rng.standard_normal((12, 12))
    real = vectors @ np.diag(moduli * rng.choice([-1, 1], 12)) @ np.linalg.inv(vectors)
    found = spectrum(network("linear", 12, T=1500, input_scale=0, W_hh=real), 12, 0, 700).rates[0, 0]
    np.testing.assert_allclose(found, np.log(moduli), rtol=0, atol=1e-9)
    drawn = rng.standard_normal((12, 12))  # with complex pairs, whose two rates swing about their mean
    moduli = np.sort(np.abs(np.linalg.eigvals(drawn)))[::-1]
    found = spectrum(network("linear", 12, T=6000, input_scale=0, W_hh=drawn), 12, 0, 1000).rates[0, 0]
    np.testing.assert_allclose(found, np.log(moduli), rtol=0, atol=1e-3)


@pytest.mark.parametrize("radius", [1e-30, 1e30])
def test_rates_are_exact_where_weights_are_very_small_or_large(radius):
    one, same = (network("linear", 5, T=200, radius=r, input_scale=0) for r in (1.0, radius))
    shift = np.log(radius)
    np.testing.assert_allclose(spectrum(same, 5, 9, 9).rates - shift, spectrum(one, 5, 9, 9).rates, rtol=0, atol=1e-9)


def test_fewer_exponents_are_the_first_of_more():
    steps = network(n=20, T=200, radius=1.5)
    few, many = (spectrum(steps, k, 20, 20) for k in (3, 20))
    order = np.sort(few.rates), np.sort(many.rates[..., :3])
    np.testing.assert_allclose(*order, rtol=0, atol=1e-3)
    assert few.steps.tolist() == many.steps.tolist()


def test_growth_is_recorded_on_the_way():
    steps = network(n=5, T=100, radius=1.5)
    growth = spectrum(steps, 5, 10, 20, points=7)
    assert growth.steps[-1] == 70
    assert len(growth.steps) == 7
    later = spectrum(steps, 5, 80 - int(growth.steps[2]), 20)
    np.testing.assert_allclose(growth.logs[0, 2, 0].sum(), later.logs[0, -1, 0].sum(), rtol=1e-10)
    assert spectrum(steps, 5, 70, 20).steps.tolist() == list(range(1, 11))


def test_without_recurrence_all_growth_is_minus_infinity():
    growth = spectrum(network(radius=0.0, B=2), 6, 2, 2)
    assert (growth.rates == -np.inf).all()
    assert np.isnan(growth.error()[0]).all()


def test_there_are_no_numbers_where_states_overflow():
    steps = network("linear", 4, T=400, C=2, radius=9.0)
    steps.trace.overflow[1] = 0
    assert (steps.overflow[0] > 0).all()
    for found in (spectrum(steps, 4, 4, 4).rates, singular_values(steps, [1, 2])):
        assert np.isnan(found[0]).all()
        assert np.isfinite(found[1]).all()


def test_the_standard_error_holds_what_it_says():
    # The leading exponent of products of independent Gaussian matrices, in 1000 repetitions.
    rng, n, T, C = np.random.default_rng(0), 3, 320, 1000
    law = gaussian_product(n, 1.0)
    growth = spectrum(Given(rng.standard_normal((C, T, n, n)) / np.sqrt(n)), 1, 0, 10)
    error, freedom = (found[:, 0] for found in growth.error())
    inside = np.abs(growth.rates[:, 0, 0] - law.exponents[0]) <= error * stats.t.ppf(0.975, freedom)
    assert 0.93 <= inside.mean() <= 0.97
    np.testing.assert_allclose(np.mean(error), np.sqrt(law.variances[0] / 310), rtol=0.05)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_exponents_of_gaussian_products_and_their_variances_are_newmans(scale):
    C, T, n = 100, 400, 5
    matrices = np.random.default_rng(0).standard_normal((C, T + 20, n, n)) * scale / np.sqrt(n)
    growth, law = spectrum(Given(matrices), n, 0, 20, points=20), gaussian_product(n, scale)
    means = growth.rates.mean(axis=(0, 1))
    assert (np.abs(means - law.exponents) <= 3.5 * np.sqrt(law.variances / (C * T))).all()
    lengths = np.diff(growth.steps, prepend=0)[:, None]
    increments = np.diff(growth.logs[:, :, 0], axis=1, prepend=0.0)
    variances = ((increments - lengths * law.exponents) ** 2 / lengths).mean(axis=(0, 1))
    np.testing.assert_allclose(variances, law.variances, rtol=0.1)  # of 2000 increments: 3 %


def test_the_standard_error_sees_that_neighbouring_times_are_alike():
    # Scalar steps exp(z_t), z_t = .9 z_{t-1} + noise: the mean of T has variance 1 / (.1^2 T), 19 times the naive one.
    z = np.random.default_rng(0).standard_normal((200, 2000))
    for t in range(1, 2000):
        z[:, t] += 0.9 * z[:, t - 1]
    error, freedom = spectrum(Given(np.exp(z)[..., None, None]), 1, 0, 0).error()
    np.testing.assert_allclose(np.sqrt((error**2).mean()), 10 / np.sqrt(2000), rtol=0.15)
    assert (freedom >= 7).all()


@pytest.mark.parametrize(
    ("exponents", "size", "dimension"),
    [
        ([-0.1, -0.2, -3.0], 3, 0.0),
        ([0.5, 0.1, 0.0], 3, 3.0),
        ([0.9, 0.0, -14.57], 3, 2 + 0.9 / 14.57),  # Lorenz
        ([0.4, -0.4, -1.0], 3, 2.0),
        ([0.4, -np.inf], 2, 1.0),
        ([-np.inf, -np.inf], 2, 0.0),
        ([0.5, -0.1], 3, np.nan),
        ([0.5, -0.7], 3, 1 + 0.5 / 0.7),
        ([np.nan, np.nan], 2, np.nan),
    ],
)
def test_kaplan_yorke_dimensions(exponents, size, dimension):
    np.testing.assert_allclose(kaplan_yorke(np.array(exponents), size), dimension, rtol=1e-14)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), radius=st.floats(0.0, 5.0), n=st.integers(1, 7))
def test_no_exponent_is_beyond_the_mean_norm(seed, radius, n):
    steps = network(n=n, T=30, radius=radius, seed=seed)
    bound = log_norms(steps, range(3, 27)).mean(axis=1)
    assert (spectrum(steps, n, 3, 3).rates <= bound[..., None] + 1e-10).all()


# --- another W_hh at every step ---------------------------------------------------------------------------------------


def untied(kind="linear", n=6, T=40, scale=(1.0,), seeds=(0,), ensemble="gaussian", B=1):
    cell = gs.cell(**CELLS[kind], hidden_size=n, input_size=2, output_size=1)
    drawn = [cell.init(seed=seed, spectral_radius=1.0) for seed in seeds]
    params = {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}
    x = np.random.default_rng(0).standard_normal((len(seeds), T, B, 2))
    return Untied(cell, params, x, None, ensemble, scale, seeds)


def test_untied_steps_follow_their_own_forward_pass():
    steps = untied("tanh", B=2)
    state = np.zeros((2, 6))
    for t in range(40):
        packed, local = steps.at(t)
        W_hh, W_xh = packed.back[0][0], steps.params["W_xh"][0]
        state = np.tanh(state @ W_hh.T + steps.x[0, t] @ W_xh.T)
        np.testing.assert_allclose(local[0, 0], 1 - state**2, rtol=1e-11)
        np.testing.assert_allclose(jacobian(steps, t).value()[0, 1], np.diag(1 - state[1] ** 2) @ W_hh, rtol=1e-10)


def test_untied_weights_differ_by_step_and_seed_and_scale_and_are_drawn_alike_again():
    steps = untied(scale=(1.0, 2.0, 1.0), seeds=(0, 0, 1))
    first, second = steps.at(3)[0].back[0], steps.at(4)[0].back[0]
    np.testing.assert_allclose(2 * first[0], first[1], rtol=1e-15)
    assert (first[0] != second[0]).all()
    assert (first[0] != first[2]).all()
    np.testing.assert_array_equal(first, steps.at(3)[0].back[0])


def test_untied_linear_steps_overflow_as_tied_ones_do():
    steps = untied(T=400, scale=(20.0,))
    assert steps.overflow[0, 0] > 100
    assert np.isnan(spectrum(steps, 2, 4, 4).rates).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "lstm"}, "tied: .*a cell with one W_hh"),
        ({"ensemble": "gausian"}, "unknown ensemble 'gausian'"),
        ({"scale": (-1.0,)}, "scale: must be at least 0"),
    ],
)
def test_impossible_untied_steps_are_refused(options, message):
    with pytest.raises(gs.InputError, match=message):
        untied(**options)
