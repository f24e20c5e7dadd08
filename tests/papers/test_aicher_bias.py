"""What `aicher-bias` is measured with: its estimator against the sums that it stands for, M against gradients."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import gradscope as gs
from gradscope.papers import aicher_bias as paper


def literally(phi, tolerance=paper.TOLERANCE):
    """The estimator by its sums, for phi that decays: nothing vectorised."""
    slope = np.polyfit(range(len(phi)), np.log(phi), 1)[0]
    beta, tau = np.exp(slope), paper.FROM
    beyond = [
        sum(phi[K : tau + 1]) + phi[tau] / (1 - beta) if tau > K else phi[tau] * beta ** (K - tau) / (1 - beta)
        for K in range(len(phi) + 1)
    ]
    least = max(sum(phi[: K + 1]) - beyond[K] for K in range(len(phi)))
    return next((K for K in range(1, len(phi) + 1) if beyond[K] <= tolerance * least), len(phi))


@pytest.mark.parametrize("beta", [0.2, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999])
def test_the_estimator_is_the_least_bound_within_the_tolerance(beta):
    rng = np.random.default_rng(0)
    for phi in (beta ** np.arange(60.0), beta ** np.arange(60.0) * np.exp(rng.normal(0, 0.1, 60))):
        assert paper._estimate(phi) == literally(phi)


def test_the_estimator_of_what_grows_knows_no_unit():
    phi = 1.1 ** np.arange(60.0)
    assert [paper._estimate(phi * scale) for scale in (1e-3, 1e3)] == [60, 1]


def test_no_weights_move_the_state_by_more_than_the_bound():
    # Of a loss that is <v, h_t>, the gradient by the weights at step t alone is v dh_t/dW.
    model, v = paper._drawn(0.9, 0), np.random.default_rng(0).standard_normal(paper.UNITS)
    params = model.params | {"W_hy": v[None] / np.linalg.norm(v)}
    for t in (1, 50, 100):
        for b in range(3):
            data = model.data._replace(x=model.data.x[:t, b : b + 1], y=np.zeros((t, 1, 1)))
            found = gs.backprop(model.network, params, data.x, data.y)
            own = model._replace(params=params, data=data).gradient("fixed:1")
            assert np.linalg.norm(own) <= model.largest() * 10 ** found.log10_dh[-1, 0] * (1 + 1e-12)


def test_a_loss_in_other_units_has_so_many_times_the_gradient():
    model = paper._drawn(0.9, 0)
    np.testing.assert_allclose(model.scaled(1e6).phi(), 1e6 * model.phi(), rtol=1e-12)
    np.testing.assert_allclose(model.scaled(1e6).gradient(), 1e6 * model.gradient(), rtol=1e-9)


def test_decays_are_those_of_the_means_and_have_errors_of_a_mean():
    # Of networks that all decay alike, but differ in size, the decay is that of each.
    taus, sizes = np.array([8, 10, 20]), np.array([1.0, 3.0, 0.2])[:, None]
    found = paper._ratios(taus, sizes * 0.6**taus, sizes * 0.7**taus)
    np.testing.assert_allclose(found, [0.6, 0.7, 0.7 / 0.6], rtol=1e-12)
    runs = pd.DataFrame({"tau": np.tile(taus, 3), "network": np.repeat(range(3), 3), "radius": 0.9})
    alike = runs.assign(phi=(sizes * 0.6**taus).ravel(), bias=(sizes * 0.7**taus).ravel())
    np.testing.assert_allclose(paper._decays(alike)[["beta_error", "ratio_error"]], 0.0, atol=1e-12)


def test_the_error_of_a_decay_is_that_of_many_repetitions():
    rng, taus = np.random.default_rng(0), np.array([8, 16, 24])

    def decay(networks=30):
        noise = np.exp(rng.normal(0.0, 0.3, (networks, 3)))
        runs = pd.DataFrame({"tau": np.tile(taus, networks), "network": np.repeat(range(networks), 3), "radius": 0.9})
        own = noise * 0.6**taus
        return paper._decays(runs.assign(phi=own.ravel(), bias=own.ravel())).iloc[0]

    found = pd.DataFrame([decay() for _ in range(60)])
    assert found["beta_error"].mean() == pytest.approx(found["beta"].std(), rel=0.25)
