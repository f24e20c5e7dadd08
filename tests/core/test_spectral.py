"""Guards the spectra of recurrent matrices: every ensemble's realised radius, and what each ensemble promises."""

import numpy as np
import pytest

import gradscope as gs
from gradscope import ensembles, plugins
from gradscope.spectral import spectral_radius, unit_draw
from gradscope.streams import stream

ENSEMBLES = plugins.names(ensembles.FAMILY)
every_ensemble = pytest.mark.parametrize("ensemble", ENSEMBLES)


def draw(ensemble, n, seed=0):
    return plugins.parse(ensembles.FAMILY, ensemble).draw(stream(seed, "test"), n)


@every_ensemble
@pytest.mark.parametrize("radius", [0.0, 1e-3, 0.5, 1.0, 1.5, 40.0])
@pytest.mark.parametrize("n", [1, 2, 17, 64])
def test_realised_radius_is_the_one_asked_for(ensemble, radius, n):
    cell = gs.cell("elman", hidden_size=n, input_size=1, output_size=1)
    for seed in range(3):
        W_hh = cell.init(seed=seed, spectral_radius=radius, ensemble=ensemble)["W_hh"]
        np.testing.assert_allclose(np.abs(np.linalg.eigvals(W_hh)).max(), radius, rtol=1e-10, atol=0)


@every_ensemble
def test_unit_draw_tells_its_own_radius_and_norm(ensemble):
    found = unit_draw(ensemble, 12, 3)
    np.testing.assert_allclose(found.spectral_radius, 1, rtol=1e-12)
    np.testing.assert_allclose(found.spectral_radius, np.abs(np.linalg.eigvals(found.matrix)).max(), rtol=1e-12)
    np.testing.assert_allclose(found.spectral_norm, np.linalg.svd(found.matrix, compute_uv=False)[0], rtol=1e-12)


@every_ensemble
def test_unit_draw_cannot_be_changed_by_who_gets_it(ensemble):
    with pytest.raises(ValueError, match=r"read-only"):
        unit_draw(ensemble, 5, 0).matrix[0, 0] = 7.0


@every_ensemble
@pytest.mark.parametrize("n", [1, 6])
def test_draw_is_a_real_finite_square_matrix(ensemble, n):
    matrix = draw(ensemble, n)
    assert matrix.shape == (n, n)
    assert matrix.dtype == np.float64
    assert np.isfinite(matrix).all()


@every_ensemble
def test_draw_is_the_same_for_the_same_stream(ensemble):
    np.testing.assert_array_equal(draw(ensemble, 6, seed=2), draw(ensemble, 6, seed=2))


@pytest.mark.parametrize("ensemble", [name for name in ENSEMBLES if name != "identity"])
def test_seeds_differ(ensemble):
    assert (draw(ensemble, 6, seed=2) != draw(ensemble, 6, seed=3)).any()
    assert (unit_draw(ensemble, 6, 2).matrix != unit_draw(ensemble, 6, 3).matrix).any()


def test_scaling_leaves_the_draw_as_it_is():
    cell = gs.cell("elman", hidden_size=9, input_size=2, output_size=1)
    small, large = (cell.init(seed=4, spectral_radius=radius) for radius in (0.5, 2.0))
    np.testing.assert_allclose(large["W_hh"], 4 * small["W_hh"], rtol=1e-15)
    for name in ("W_xh", "W_hy", "b_h", "b_y"):
        np.testing.assert_array_equal(large[name], small[name])


@pytest.mark.parametrize("n", [1, 2, 40])
def test_orthogonal_is_orthogonal(n):
    Q = draw("orthogonal", n)
    np.testing.assert_allclose(Q.T @ Q, np.eye(n), atol=1e-13)


def test_orthogonal_has_no_preferred_sign():
    # QR alone favours one: Haar measure needs the sign correction (Mezzadri 2007). Entries have variance 1/n.
    corners = np.array([np.diagonal(draw("orthogonal", 4, seed)) for seed in range(400)])
    assert np.abs(corners.mean(axis=0)).max() < 4 * 0.5 / np.sqrt(400)


def test_identity_is_the_identity():
    np.testing.assert_array_equal(draw("identity", 5), np.eye(5))


@pytest.mark.parametrize(("ensemble", "variance"), [("gaussian", 1 / 50), ("uniform", 1 / 150)])
def test_independent_entries_have_their_variance(ensemble, variance):
    entries = np.concatenate([draw(ensemble, 50, seed).ravel() for seed in range(20)])
    assert abs(entries.mean()) < 4 * np.sqrt(variance / entries.size)
    np.testing.assert_allclose(entries.var(), variance, rtol=0.03)


def test_uniform_stays_in_its_interval():
    assert np.abs(draw("uniform", 50)).max() <= 1 / np.sqrt(50)


@pytest.mark.parametrize(
    ("matrix", "radius"),
    [([[0.0, 3.0], [-3.0, 0.0]], 3.0), ([[-2.0, 5.0], [0.0, 1.0]], 2.0), ([[0.0, 0.0], [7.0, 0.0]], 0.0)],
    ids=["rotation", "triangular", "nilpotent"],
)
def test_spectral_radius_of_known_matrices(matrix, radius):
    np.testing.assert_allclose(spectral_radius(np.array(matrix)), radius, rtol=1e-15)


def test_draw_without_any_radius_is_refused(monkeypatch):
    class Nothing:
        def draw(self, rng, n):  # noqa: ARG002
            return np.zeros((n, n))

    monkeypatch.setattr(plugins, "parse", lambda *_: Nothing())
    with pytest.raises(gs.InputError, match=r"'nothing' draws a matrix of spectral radius 0"):
        unit_draw("nothing", 3, 0)


@pytest.mark.parametrize(("radius", "fault"), [(-0.1, "at least 0"), (np.inf, "at least 0"), (np.nan, "at least 0")])
def test_impossible_radius_is_refused(radius, fault):
    cell = gs.cell("elman", hidden_size=3, input_size=1, output_size=1)
    with pytest.raises(gs.InputError, match=f"spectral_radius.*{fault}"):
        cell.init(seed=0, spectral_radius=radius)


def test_unknown_ensemble_is_refused_with_the_near_miss():
    cell = gs.cell("elman", hidden_size=3, input_size=1, output_size=1)
    with pytest.raises(gs.InputError, match=r"unknown ensemble 'gausian'.*gaussian.*did you mean 'gaussian'"):
        cell.init(seed=0, spectral_radius=1.0, ensemble="gausian")
