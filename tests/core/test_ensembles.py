"""Guards what each ensemble of recurrent matrices promises of its draws: spectrum, distribution, structure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope import ensembles, plugins
from gradscope.spectral import spectral_radius, unit_draw
from gradscope.streams import stream


def draw(ensemble, n, seed=0):
    return plugins.parse(ensembles.FAMILY, ensemble).draw(stream(seed, "test"), n)


def by_size(eigenvalues):
    return np.sort(np.abs(eigenvalues))[::-1]


# --- independent entries ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ensemble", "variance"),
    [("gaussian", 1 / 50), ("uniform", 1 / 150), ("pytorch", 1 / 150), ("sparse:1", 1 / 50), ("block:1", 1 / 50)],
)
def test_independent_entries_have_their_variance(ensemble, variance):
    entries = np.concatenate([draw(ensemble, 50, seed).ravel() for seed in range(20)])
    assert abs(entries.mean()) < 4 * np.sqrt(variance / entries.size)
    np.testing.assert_allclose(entries.var(), variance, rtol=0.03)


@pytest.mark.parametrize("ensemble", ["uniform", "pytorch"])
def test_uniform_stays_in_its_interval(ensemble):
    assert np.abs(draw(ensemble, 50)).max() <= 1 / np.sqrt(50)


@pytest.mark.parametrize(
    ("ensemble", "radius"),
    [
        ("gaussian", 1.0),
        ("pytorch", 3**-0.5),
        ("sparse:0.2", 1.0),
        ("low-rank:100", 1.0),
        ("block:2", 1.0),
        ("symmetric", 2.0),
        ("antisymmetric", 2.0),
    ],
)
def test_a_large_draw_has_about_its_nominal_radius_before_it_is_rescaled(ensemble, radius):
    assert spectral_radius(draw(ensemble, 300)) == pytest.approx(radius, rel=0.12)


# --- normal matrices -------------------------------------------------------------------------------------------------


def test_identity_is_the_identity():
    np.testing.assert_array_equal(draw("identity", 5), np.eye(5))


@pytest.mark.parametrize("ensemble", ["orthogonal", "keras"])
@pytest.mark.parametrize("n", [1, 2, 40])
def test_orthogonal_is_orthogonal(ensemble, n):
    Q = draw(ensemble, n)
    np.testing.assert_allclose(Q.T @ Q, np.eye(n), atol=1e-13)
    assert spectral_radius(Q) == pytest.approx(1.0, abs=1e-13)


@pytest.mark.parametrize("ensemble", ["orthogonal", "keras"])
def test_orthogonal_has_no_preferred_sign(ensemble):
    # QR alone favours one: Haar measure needs the sign correction (Mezzadri 2007). Entries have variance 1/n.
    corners = np.array([np.diagonal(draw(ensemble, 4, seed)) for seed in range(400)])
    assert np.abs(corners.mean(axis=0)).max() < 4 * 0.5 / np.sqrt(400)


@pytest.mark.parametrize(("gates", "radius"), [(4, 0.5), (3, 3**-0.5)])
def test_a_block_of_an_orthogonal_kernel_of_gates_has_the_radius_that_is_told_of_keras(gates, radius):
    n = 100
    kernels = [draw("orthogonal", gates * n, seed)[:n] for seed in range(5)]  # orthonormal rows, as Keras draws them
    np.testing.assert_allclose(kernels[0] @ kernels[0].T, np.eye(n), atol=1e-12)
    assert np.mean([spectral_radius(kernel[:, :n]) for kernel in kernels]) == pytest.approx(radius, rel=0.08)


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_symmetric_is_symmetric_with_a_real_spectrum(n):
    W = draw("symmetric", n)
    np.testing.assert_array_equal(W, W.T)
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(W).real), np.linalg.eigvalsh(W), atol=1e-12)


def test_symmetric_has_the_variances_of_the_gaussian_orthogonal_ensemble():
    draws = np.array([draw("symmetric", 20, seed) for seed in range(200)])
    off = draws[:, *np.triu_indices(20, 1)]
    np.testing.assert_allclose(off.var(), 1 / 20, rtol=0.05)
    np.testing.assert_allclose(draws[:, *np.diag_indices(20)].var(), 2 / 20, rtol=0.1)


@pytest.mark.parametrize("n", [2, 7, 30])
def test_antisymmetric_is_antisymmetric_with_an_imaginary_spectrum(n):
    W = draw("antisymmetric", n)
    np.testing.assert_array_equal(W, -W.T)
    eigenvalues = np.linalg.eigvals(W)
    assert np.abs(eigenvalues.real).max() < 1e-13
    np.testing.assert_allclose(by_size(eigenvalues), np.linalg.svd(W, compute_uv=False), atol=1e-13)
    assert (by_size(eigenvalues)[-1] < 1e-14) == (n % 2 == 1)


def test_antisymmetric_keeps_the_norm_of_a_linear_flow():
    W, h = draw("antisymmetric", 9), np.arange(9.0)
    assert abs(h @ W @ h) < 1e-12  # half of d|h|^2/dt


# --- sparse, low rank, blocks ----------------------------------------------------------------------------------------


@given(n=st.integers(1, 12), connectivity=st.floats(1e-6, 1.0), seed=st.integers(0, 99))
def test_sparse_has_the_number_of_entries_that_is_asked_for_and_a_radius(n, connectivity, seed):
    W = draw(f"sparse:{connectivity!r}", n, seed)
    assert np.count_nonzero(W) == max(1, round(connectivity * n * n))
    assert spectral_radius(W) > 0


def test_sparse_connects_all_places_alike_with_gaussian_weights():
    draws = np.array([draw("sparse:0.3", 10, seed) for seed in range(1000)])
    share = (draws != 0).mean(axis=0)
    assert np.abs(share - 0.3).max() < 5 * np.sqrt(0.3 * 0.7 / 1000)
    weights = draws[draws != 0] * np.sqrt(0.3 * 10)
    np.testing.assert_allclose([weights.mean(), weights.var()], [0, 1], atol=0.03)
    np.testing.assert_allclose((weights**4).mean(), 3, rtol=0.05)


@pytest.mark.parametrize("rank", [1, 2, 5, 20])
def test_low_rank_has_its_rank_and_variance(rank):
    draws = np.array([draw(f"low-rank:{rank}", 20, seed) for seed in range(50)])
    assert set(np.linalg.matrix_rank(draws)) == {rank}
    assert np.count_nonzero(by_size(np.linalg.eigvals(draws[0])) > 1e-10) == rank
    np.testing.assert_allclose((draws**2).mean(), 1 / 20, rtol=0.15)


def test_low_rank_leaves_out_draws_whose_radius_rounding_would_move():
    steepness = [np.linalg.norm(W := draw("low-rank:1", 64, seed)) / spectral_radius(W) for seed in range(200)]
    assert 100 < max(steepness) <= 300 * (1 + 1e-9)


@pytest.mark.parametrize(("blocks", "sizes"), [(1, [10]), (2, [5, 5]), (3, [4, 3, 3]), (10, [1] * 10)])
def test_blocks_stand_on_the_diagonal(blocks, sizes):
    W = draw(f"block:{blocks}", 10)
    own = np.repeat(np.arange(blocks), sizes)
    np.testing.assert_array_equal(W != 0, own[:, None] == own)


def test_blocks_are_independent_draws_whose_largest_radius_is_the_matrix():
    W = unit_draw("block:3", 12, 0).matrix
    parts = [W[lo : lo + 4, lo : lo + 4] for lo in (0, 4, 8)]
    radii = [spectral_radius(part) for part in parts]
    assert max(radii) == pytest.approx(1, abs=1e-12)
    assert min(radii) < 0.99
    variances = [
        np.mean([draw("block:3", 12, seed)[lo : lo + 4, lo : lo + 4] ** 2 for seed in range(200)]) for lo in (0, 8)
    ]
    np.testing.assert_allclose(variances, 1 / 4, rtol=0.1)


# --- non-normal ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 100])
def test_delay_line_hands_on_each_state(n):
    h = np.arange(1.0, n + 1)
    np.testing.assert_array_equal(draw("delay-line:0.5", n) @ h, 0.5 * np.concatenate([[0.0], h[:-1]]))


@pytest.mark.parametrize("departure", [0.1, 0.5, 0.95, 0.9999])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 33, 64])
def test_non_normal_has_its_departure_and_all_eigenvalues_on_the_circle(departure, n):
    W = draw(f"non-normal:{departure}", n)
    eigenvalues = np.linalg.eigvals(W)
    np.testing.assert_allclose(np.abs(eigenvalues), 1, atol=1e-10)
    departed = np.sqrt(1 - (np.abs(eigenvalues) ** 2).sum() / (W**2).sum())
    assert departed == pytest.approx(departure, abs=1e-12)
    np.testing.assert_allclose((W**2).sum(), n / (1 - departure**2), rtol=1e-10)


@pytest.mark.parametrize("n", [1, 2, 3, 16, 33])
def test_non_normal_without_departure_is_orthogonal(n):
    W = draw("non-normal:0", n)
    np.testing.assert_allclose(W @ W.T, np.eye(n), atol=1e-13)


@pytest.mark.parametrize("n", [8, 33, 64])
def test_eigenvalues_of_non_normal_keep_a_distance(n):
    eigenvalues = np.linalg.eigvals(draw("non-normal:0.5", n))
    apart = np.abs(eigenvalues[:, None] - eigenvalues) + 9 * np.eye(n)
    assert apart.min() > 1 / n


def test_non_normal_prefers_no_unit():
    # Rows' squared norms: the departure's feed-forward part is spread over all units by the random basis.
    share = np.mean([(draw("non-normal:0.9", 6, seed) ** 2).sum(axis=1) for seed in range(600)], axis=0)
    np.testing.assert_allclose(share / share.mean(), 1, atol=0.2)
