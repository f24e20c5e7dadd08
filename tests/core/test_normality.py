"""Guards the measures of non-normality: closed forms, a slow direct search, and laws that may never be violated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

import gradscope as gs
from gradscope.normality import henrici, kreiss_lower_bound, non_normality, transient_peak
from gradscope.spectral import unit_draw

NORMAL = ["orthogonal", "identity", "symmetric", "antisymmetric", "keras", "non-normal:0"]
OTHERS = ["gaussian", "uniform", "sparse", "low-rank:2", "block:2", "non-normal:0.3", "non-normal:0.9"]
normal_ensembles = pytest.mark.parametrize("ensemble", NORMAL)


def delay_line(alpha, n):
    return unit_draw(f"delay-line:{alpha}", n, 0).matrix


def two(a):
    """[[0, a], [0, 0]]."""
    return np.array([[0.0, a], [0.0, 0.0]])


def norms(W, longest):
    """|W^k|_2 of k = 0 .. longest, one after the other by singular values."""
    powers = [np.eye(len(W))]
    for _ in range(longest):
        powers.append(powers[-1] @ W)
    return np.linalg.norm(powers, 2, axis=(1, 2))


# --- normal matrices -------------------------------------------------------------------------------------------------


@normal_ensembles
@pytest.mark.parametrize("n", [2, 3, 32])
@pytest.mark.parametrize("radius", [0.5, 1.0])
def test_normal_matrices_have_no_departure_no_transient_and_kreiss_constant_one(ensemble, n, radius):
    W = unit_draw(ensemble, n, 1).scaled(radius)
    assert non_normality(W) == (0.0, 1.0, (1.0, 0, 0.0))


@normal_ensembles
def test_a_normal_matrix_has_an_exact_zero_in_its_draw(ensemble):
    assert unit_draw(ensemble, 64, 0).henrici == 0.0


# --- Henrici's departure ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [1e-3, 0.1, 1.0, 1e3, 1e100])
def test_departure_of_a_triangle_in_closed_form(a):
    W = np.array([[1.0, a], [0.0, -0.5]])
    assert henrici(W) == pytest.approx(a / np.hypot(np.sqrt(1.25), a), rel=1e-9)


@pytest.mark.parametrize("departure", [0.01, 0.1, 0.5, 0.95, 0.9999])
@pytest.mark.parametrize("n", [2, 5, 32, 64])
def test_departure_of_the_ensemble_that_has_it_by_construction(departure, n):
    assert unit_draw(f"non-normal:{departure}", n, 3).henrici == pytest.approx(departure, abs=1e-12)


def test_departure_at_the_ends():
    assert henrici(np.zeros((3, 3))) == 0.0
    assert henrici(two(1e-5)) == henrici(delay_line(2.0, 9)) == 1.0


@pytest.mark.parametrize("scale", [1e-150, 1e-3, 1e150])
def test_departure_does_not_depend_on_the_scale(scale):
    W = unit_draw("gaussian", 12, 0).matrix
    assert henrici(scale * W) == pytest.approx(henrici(W), rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(2, 9), seed=st.integers(0, 999))
def test_departure_is_the_strictly_upper_part_of_the_schur_form(n, seed):
    schur = np.triu(np.random.default_rng(seed).standard_normal((n, n)))
    basis = unit_draw("orthogonal", n, seed).matrix
    departed = np.linalg.norm(np.triu(schur, 1)) / np.linalg.norm(schur)
    assert henrici(basis @ schur @ basis.T) == pytest.approx(departed, abs=1e-6)


# --- powers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.9, 1.0, 1.05, 2.0])
@pytest.mark.parametrize("n", [1, 2, 10])
def test_delay_line_grows_until_its_end_and_is_zero_from_there_on(alpha, n):
    W = delay_line(alpha, n)
    np.testing.assert_allclose(norms(W, n)[:n], alpha ** np.arange(n), rtol=1e-12)
    assert norms(W, n)[n] == 0.0
    for longest in (0, n // 2, n - 1, n, 5 * n):
        last = min(longest, n - 1) if alpha > 1 else 0
        peak = transient_peak(W, longest)
        assert peak == (pytest.approx(alpha**last), last, pytest.approx(last * np.log10(alpha)))


@pytest.mark.parametrize(("n", "alpha", "k"), [(100, 1.05, 50), (100, 1.05, 99), (20, 0.9, 7), (20, 1.0, 0)])
def test_delay_line_grows_in_the_mean_as_ganguli_huh_and_sompolinsky_say(n, alpha, k):
    # RMS over random unit vectors of |W^k v|: |W^k|_F / sqrt(n).
    power = np.linalg.matrix_power(delay_line(alpha, n), k)
    np.testing.assert_allclose(np.linalg.norm(power) / np.sqrt(n), alpha**k * np.sqrt((n - k) / n), rtol=1e-12)


def test_delay_line_has_the_published_mean_norm():
    vectors = np.random.default_rng(0).standard_normal((100, 20_000))
    vectors /= np.linalg.norm(vectors, axis=0)
    found = np.linalg.norm(np.linalg.matrix_power(delay_line(1.05, 100), 50) @ vectors, axis=0)
    assert found.mean() == pytest.approx(8.09, abs=0.01)


@pytest.mark.parametrize("a", [0.3, 1.0, 7.0])
def test_powers_of_a_jordan_block_of_radius_one_grow_to_the_end(a):
    # [[1, a], [0, 1]]^k = [[1, k a], [0, 1]], of norm (k a + sqrt(k^2 a^2 + 4)) / 2.
    peak = transient_peak(np.array([[1.0, a], [0.0, 1.0]]), 30)
    assert peak.power == 30
    assert peak.norm == pytest.approx((30 * a + np.sqrt(900 * a * a + 4)) / 2, rel=1e-12)


@pytest.mark.parametrize("ensemble", OTHERS)
@pytest.mark.parametrize("n", [3, 20])
@pytest.mark.parametrize("radius", [0.8, 1.0])
def test_peak_is_the_largest_norm_of_all(ensemble, n, radius):
    W = unit_draw(ensemble, n, 5).scaled(radius)
    every = norms(W, 60)
    peak = transient_peak(W, 60)
    assert peak.norm == pytest.approx(every.max(), rel=1e-9)
    assert peak.power == np.flatnonzero(every > every.max() * (1 - 1e-9))[0]
    assert peak.log10_norm == pytest.approx(np.log10(every.max()), abs=1e-9)


def test_peaks_beyond_the_range_of_float64_have_a_logarithm():
    assert transient_peak(two(1e300), 9) == (pytest.approx(1e300), 1, pytest.approx(300))
    huge = transient_peak(delay_line(1e200, 4), 9)
    assert huge == (np.inf, 3, pytest.approx(600))
    growing = transient_peak(4.0 * np.eye(3), 1000)
    assert growing == (np.inf, 1000, pytest.approx(1000 * np.log10(4)))


def test_no_power_at_all_is_the_identity():
    assert transient_peak(two(5.0), 0) == (1.0, 0, 0.0)
    with pytest.raises(gs.InputError, match="longest: must be at least 0"):
        transient_peak(two(5.0), -1)


# --- Kreiss constant -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [0.5, 1.0, 4.0, 40.0, 1e4])
def test_kreiss_constant_of_a_nilpotent_pair(a):
    # |(z - W)^-1| = (t + sqrt(t^2 + 4)) / 2 |z|^-1, t = a/|z|: a function of s = 1/|z| alone.
    found = minimize_scalar(
        lambda s: -(1 - s) * (a * s + np.sqrt((a * s) ** 2 + 4)) / 2, bounds=(0, 1), method="bounded"
    )
    true = max(1.0, -found.fun)
    assert true * (1 - 2e-3) <= kreiss_lower_bound(two(a)) <= true * (1 + 1e-9)


def test_kreiss_constant_of_large_nilpotent_pairs_is_a_quarter():
    assert kreiss_lower_bound(two(1e6)) == pytest.approx(1e6 / 4, rel=2e-3)


@pytest.mark.parametrize("a", [0.5, 10.0, 200.0])
def test_kreiss_constant_is_the_condition_of_an_eigenvalue_on_the_circle_if_that_is_all(a):
    # W = [[1, a], [0, -1]]: near z = 1, (|z| - 1) |(z - W)^-1| tends to the norm of the eigenvalue's projection.
    condition = np.sqrt(1 + (a / 2) ** 2)
    bound = kreiss_lower_bound(np.array([[1.0, a], [0.0, -1.0]]))
    assert condition * (1 - 1e-3) <= bound <= norms(np.array([[1.0, a], [0.0, -1.0]]), 2).max() * (1 + 1e-9)


def test_kreiss_constant_of_a_jordan_block_on_the_circle_has_no_bound():
    assert kreiss_lower_bound(np.array([[1.0, 1.0], [0.0, 1.0]])) > 5e3


def test_kreiss_constant_is_infinite_above_radius_one():
    assert kreiss_lower_bound(1.001 * np.eye(2)) == np.inf
    assert non_normality(unit_draw("gaussian", 6, 0).scaled(1.1)).kreiss_lower_bound == np.inf


@pytest.mark.parametrize(("alpha", "n"), [(1.05, 100), (1.3, 30), (2.0, 12)])
def test_kreiss_constant_of_a_delay_line_does_not_depend_on_the_angle(alpha, n):
    # Similar to e^it W by a diagonal unitary matrix: the search over |z| alone is complete.
    W = delay_line(alpha, n)

    def below(log_distance):
        distance = np.exp(log_distance)
        return -distance / np.linalg.svd((1 + distance) * np.eye(n) - W, compute_uv=False)[-1]

    true = -minimize_scalar(below, bounds=(np.log(1e-4), np.log(alpha)), method="bounded").fun
    assert true * (1 - 5e-3) <= kreiss_lower_bound(W) <= true * (1 + 1e-6)


@pytest.mark.parametrize("ensemble", OTHERS)
def test_kreiss_bound_is_near_the_best_of_a_dense_grid(ensemble):
    W = unit_draw(ensemble, 10, 2).matrix
    distances, angles = np.meshgrid(np.geomspace(1e-4, np.linalg.norm(W, 2), 40), np.linspace(0, np.pi, 120))
    z = (1 + distances) * np.exp(1j * angles)
    dense = distances / np.linalg.svd(z[..., None, None] * np.eye(10) - W, compute_uv=False)[..., -1]
    assert kreiss_lower_bound(W) > 0.97 * dense.max()


@settings(max_examples=25, deadline=None)
@given(
    ensemble=st.sampled_from(OTHERS),
    n=st.integers(2, 12),
    seed=st.integers(0, 999),
    radius=st.floats(0.3, 0.9),
)
def test_the_kreiss_matrix_theorem_holds(ensemble, n, seed, radius):
    found = non_normality(unit_draw(ensemble, n, seed).scaled(radius), longest=600)  # .9^600 has passed every peak
    sup = found.transient_peak.norm
    assert found.kreiss_lower_bound <= sup * (1 + 1e-9)
    assert sup <= np.e * n * found.kreiss_lower_bound


# --- what spectra say of gradients -----------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 8), m=st.floats(0.0, 0.9), k=st.integers(0, 60), seed=st.integers(0, 999))
def test_singular_values_near_one_bound_what_powers_do_to_a_vector(n, m, k, seed):
    # Vorontsov et al. (2017): singular values within [1 - m, 1 + m]: (1 - m)^k <= ratio <= (1 + m)^k.
    rng = np.random.default_rng(seed)
    left, right = (unit_draw("orthogonal", n, seed + shift).matrix for shift in (0, 1))
    W = left * rng.uniform(1 - m, 1 + m, n) @ right
    v = rng.standard_normal(n)
    ratio = np.linalg.norm(np.linalg.matrix_power(W.T, k) @ v) / np.linalg.norm(v)
    assert (1 - m) ** k * (1 - 1e-12) <= ratio <= (1 + m) ** k * (1 + 1e-12)
    assert transient_peak(W, k).norm <= max(1.0, (1 + m) ** k) * (1 + 1e-9)


def test_a_radius_of_zero_says_nothing_of_a_delay_line():
    draw = unit_draw("delay-line:1.05", 50, 0)
    peak = non_normality(draw.matrix).transient_peak
    assert draw.spectral_radius == 0.0
    assert peak == (pytest.approx(1.05**49), 49, pytest.approx(49 * np.log10(1.05)))


def test_growth_follows_the_departure():
    peaks = [non_normality(unit_draw(f"non-normal:{d}", 24, 0).matrix).transient_peak.norm for d in (0, 0.3, 0.6, 0.95)]
    assert peaks[0] == 1.0
    assert peaks == sorted(peaks)
    assert peaks[-1] > 10
