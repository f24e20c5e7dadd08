"""Guards the spectra of recurrent matrices: what every ensemble is held to, the realised radius above all."""

import numpy as np
import pytest

import gradscope as gs
from gradscope import ensembles, plugins
from gradscope.normality import henrici
from gradscope.spectral import check, recurrent, spectral_radius, unit_draw
from gradscope.streams import stream

EXAMPLES = {  # of members that need arguments, or that have more to show with them
    "block": ["block:1", "block:3"],
    "delay-line": ["delay-line", "delay-line:1.05"],
    "low-rank": ["low-rank:1", "low-rank:2"],
    "non-normal": ["non-normal:0", "non-normal:0.5", "non-normal:0.95", "non-normal:0.9999"],
    "sparse": ["sparse", "sparse:0.02", "sparse:1"],
}
ENSEMBLES = [spec for name in plugins.names(ensembles.FAMILY) for spec in EXAMPLES.get(name, [name])]
MEMBERS = {spec: plugins.parse(ensembles.FAMILY, spec) for spec in ENSEMBLES}
NILPOTENT = [spec for spec, member in MEMBERS.items() if getattr(member, "nilpotent", False)]
NOTHING_DRAWN = ["identity", *NILPOTENT]
every_ensemble = pytest.mark.parametrize("ensemble", ENSEMBLES)
every_scalable = pytest.mark.parametrize("ensemble", [spec for spec in ENSEMBLES if spec not in NILPOTENT])
every_nilpotent = pytest.mark.parametrize("ensemble", NILPOTENT)


def draw(ensemble, n, seed=0):
    return plugins.parse(ensembles.FAMILY, ensemble).draw(stream(seed, "test"), n)


def fewest(ensemble):
    return getattr(MEMBERS[ensemble], "least", 1)


@every_scalable
@pytest.mark.parametrize("radius", [0.0, 1e-3, 0.5, 1.0, 1.5, 40.0])
@pytest.mark.parametrize("n", [1, 2, 17, 64])
def test_realised_radius_is_the_one_asked_for(ensemble, radius, n):
    n = max(n, fewest(ensemble))
    cell = gs.cell("elman", hidden_size=n, input_size=1, output_size=1)
    for seed in range(3):
        W_hh = cell.init(seed=seed, spectral_radius=radius, ensemble=ensemble)["W_hh"]
        np.testing.assert_allclose(np.abs(np.linalg.eigvals(W_hh)).max(), radius, rtol=1e-10, atol=0)


@every_scalable
def test_unit_draw_tells_its_own_radius_and_norm(ensemble):
    found = unit_draw(ensemble, 12, 3)
    np.testing.assert_allclose(found.spectral_radius, 1, rtol=1e-12)
    np.testing.assert_allclose(found.spectral_radius, np.abs(np.linalg.eigvals(found.matrix)).max(), rtol=1e-12)
    np.testing.assert_allclose(found.spectral_norm, np.linalg.svd(found.matrix, compute_uv=False)[0], rtol=1e-12)


@every_scalable
def test_a_scaled_draw_has_the_radius_norm_and_departure_that_are_told(ensemble):
    found = unit_draw(ensemble, 12, 3)
    matrix, (radius, norm) = found.scaled(1.3), found.realised(1.3)
    np.testing.assert_array_equal(matrix, recurrent(ensemble, 12, 3, 1.3))
    np.testing.assert_allclose(radius, np.abs(np.linalg.eigvals(matrix)).max(), rtol=1e-10)
    np.testing.assert_allclose(norm, np.linalg.svd(matrix, compute_uv=False)[0], rtol=1e-12)
    assert found.henrici == pytest.approx(henrici(matrix), abs=1e-12)
    assert not found.nilpotent
    check(ensemble, 1.3, 12)


@every_nilpotent
def test_a_nilpotent_draw_keeps_its_own_scale(ensemble):
    found, drawn = unit_draw(ensemble, 12, 3), draw(ensemble, 12)
    assert found.nilpotent
    np.testing.assert_array_equal(found.matrix, drawn)
    np.testing.assert_array_equal(recurrent(ensemble, 12, 3, 0.0), drawn)
    np.testing.assert_array_equal(found.scaled(0.0), drawn)
    assert not np.linalg.matrix_power(drawn, 12).any()
    assert np.linalg.matrix_power(drawn, 11).any()
    assert found.realised(0.0) == (0.0, pytest.approx(np.linalg.svd(drawn, compute_uv=False)[0]))
    assert found.henrici == 1.0
    check(ensemble, 0.0, 12)


@every_nilpotent
@pytest.mark.parametrize(
    "ask",
    [
        lambda ensemble: check(ensemble, 0.9),
        lambda ensemble: recurrent(ensemble, 4, 0, 0.9),
        lambda ensemble: unit_draw(ensemble, 4, 0).scaled(0.9),
        lambda ensemble: unit_draw(ensemble, 4, 0).realised(0.9),
    ],
    ids=["check", "recurrent", "scaled", "realised"],
)
def test_a_nilpotent_ensemble_at_another_radius_is_refused(ensemble, ask):
    told = f"^spectral_radius: 0.9, but ensemble {ensemble} has spectral radius 0; allowed: 0; .* argument: delay-line"
    with pytest.raises(gs.InputError, match=told):
        ask(ensemble)


@every_ensemble
def test_unit_draw_cannot_be_changed_by_who_gets_it(ensemble):
    with pytest.raises(ValueError, match=r"read-only"):
        unit_draw(ensemble, 5, 0).matrix[0, 0] = 7.0


@every_ensemble
def test_what_cells_get_is_theirs_to_change(ensemble):
    matrix = recurrent(ensemble, 5, 0, 0.0)
    matrix[0, 0] = 7.0
    assert unit_draw(ensemble, 5, 0).matrix[0, 0] != 7.0


@every_ensemble
@pytest.mark.parametrize("n", [1, 6])
def test_draw_is_a_real_finite_square_matrix(ensemble, n):
    n = max(n, fewest(ensemble))
    matrix = draw(ensemble, n)
    assert matrix.shape == (n, n)
    assert matrix.dtype == np.float64
    assert np.isfinite(matrix).all()


@every_ensemble
def test_draw_is_the_same_for_the_same_stream(ensemble):
    np.testing.assert_array_equal(draw(ensemble, 6, seed=2), draw(ensemble, 6, seed=2))


@every_ensemble
def test_too_few_units_are_refused(ensemble):
    n = fewest(ensemble)
    unit_draw(ensemble, n, 0)
    check(ensemble, 0.0, n)
    for ask in (lambda: unit_draw(ensemble, n - 1, 0), lambda: check(ensemble, 0.0, n - 1)):
        with pytest.raises(gs.InputError, match=rf"^hidden_size: {n - 1}, but ensemble {ensemble} needs .* >= {n}$"):
            ask()


def test_other_arguments_are_other_matrices_of_the_same_random_numbers():
    half, most = (unit_draw(f"non-normal:{departure}", 8, 2) for departure in (0.0, 0.9))
    np.testing.assert_allclose(np.trace(half.matrix), np.trace(most.matrix), rtol=1e-10)  # the same eigenvalues
    np.testing.assert_array_equal(unit_draw("sparse", 8, 2).matrix, unit_draw("sparse:0.1", 8, 2).matrix)


@pytest.mark.parametrize("ensemble", [spec for spec in ENSEMBLES if spec not in NOTHING_DRAWN])
def test_seeds_differ(ensemble):
    assert (draw(ensemble, 6, seed=2) != draw(ensemble, 6, seed=3)).any()
    assert (unit_draw(ensemble, 6, 2).matrix != unit_draw(ensemble, 6, 3).matrix).any()


def test_scaling_leaves_the_draw_as_it_is():
    cell = gs.cell("elman", hidden_size=9, input_size=2, output_size=1)
    small, large = (cell.init(seed=4, spectral_radius=radius) for radius in (0.5, 2.0))
    np.testing.assert_allclose(large["W_hh"], 4 * small["W_hh"], rtol=1e-15)
    for name in ("W_xh", "W_hy", "b_h", "b_y"):
        np.testing.assert_array_equal(large[name], small[name])


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


@pytest.mark.parametrize(("radius", "fault"), [(-0.1, "at least 0"), (np.inf, "at least 0"), (np.nan, "at least 0")])
def test_an_impossible_radius_is_refused_without_a_draw(radius, fault):
    with pytest.raises(gs.InputError, match=f"^spectral_radius: must be {fault}"):
        check("gaussian", radius)


@pytest.mark.parametrize(
    ("ensemble", "fault"),
    [
        ("gausian", "unknown ensemble 'gausian'"),
        ("low-rank", "low-rank takes 1"),
        ("low-rank:1.5", "rank must be a whole number"),
        ("low-rank:0", "rank: must be at least 1, not 0"),
        ("block:0", "blocks: must be at least 1, not 0"),
        ("sparse:0", "connectivity: must be above 0 and at most 1, not 0.0"),
        ("sparse:1.1", "connectivity: must be above 0 and at most 1, not 1.1"),
        ("sparse:nan", "connectivity: must be above 0 and at most 1, not nan"),
        ("delay-line:0", "alpha: must be above 0, not 0.0"),
        ("delay-line:-2", "alpha: must be above 0, not -2.0"),
        ("delay-line:inf", "alpha: inf is not finite"),
        ("non-normal:1", "departure: must be at least 0 and at most 0.9999, not 1.0"),
        ("non-normal:-0.1", "departure: must be at least 0 and at most 0.9999, not -0.1"),
        ("non-normal:nan", "departure: must be at least 0 and at most 0.9999, not nan"),
    ],
)
def test_unusable_specs_are_refused_without_a_draw(ensemble, fault):
    with pytest.raises(gs.InputError, match=f"{fault}.*; allowed: .*delay-line.*low-rank"):
        check(ensemble, 0.0)


def test_unknown_ensemble_is_refused_with_the_near_miss():
    cell = gs.cell("elman", hidden_size=3, input_size=1, output_size=1)
    with pytest.raises(gs.InputError, match=r"unknown ensemble 'gausian'.*gaussian.*did you mean 'gaussian'"):
        cell.init(seed=0, spectral_radius=1.0, ensemble="gausian")
