"""What truncations leave at each lag, and weight gradients beside state gradients: closed forms and a published law."""

from __future__ import annotations

import numpy as np
import pytest
from small_sweep import SMALL

import gradscope as gs
from gradscope import lags
from gradscope.lags import mean_weights

T = 40


@pytest.mark.parametrize("loss_steps", ["all", "last"])
@pytest.mark.parametrize("spec", ["full", "random:7", "artbp:7:4", "one-coin:7"])
def test_unbiased_truncations_leave_everything_on_average(spec, loss_steps):
    np.testing.assert_allclose(mean_weights(spec, T, loss_steps), np.ones(T), rtol=1e-14)


def test_unweighted_coins_leave_pi_to_the_lag():
    np.testing.assert_allclose(mean_weights("random-unweighted:4", T), 0.75 ** np.arange(T), rtol=1e-13)


@pytest.mark.parametrize("spec", ["fixed:5", "chunked:8", "buffered:4", "tbptt:4:10"])
def test_windows_leave_the_share_of_losses_that_reach_so_far(spec):
    schedule = gs.truncation(spec).schedule(np.zeros((1, T)))
    expected = [
        np.mean([np.ravel(schedule.reach(step))[step - 1 - lag] for step in range(lag + 1, T + 1)]) for lag in range(T)
    ]
    np.testing.assert_allclose(mean_weights(spec, T), expected, rtol=1e-14)


def test_chunks_of_tau_fall_linearly_in_a_long_sequence():
    found = mean_weights("chunked:8", 8000)
    np.testing.assert_allclose(found[:8], 1 - np.arange(8) / 8, atol=2e-3)
    assert not found[8:].any()


def test_variable_chunks_fall_as_their_lengths_are_drawn():
    found = mean_weights("variable:10:0:1", 500)
    np.testing.assert_allclose(found[:10], 1 - np.arange(10) / 10, atol=2e-2)


@pytest.fixture(scope="module")
def orthogonal(tmp_path_factory):
    """State gradients that change by the spectral radius at each step, exactly."""
    overrides = SMALL | {
        "activation": "linear",
        "ensemble": "orthogonal",
        "spectral_radius": [0.8, 1.0],
        "seq_len": 20,
        "loss_steps": ["last", "all"],
        "truncation": ["full", "fixed:4", "fixed:8", "fixed:12", "random-unweighted:4"],
    }
    return gs.sweep("spectral-radius", out=tmp_path_factory.mktemp("lags") / "out", overrides=overrides, jobs=1)


def test_the_expected_norm_is_the_full_one_times_the_mean_weight(orthogonal):
    found = lags.expected_norms(orthogonal)
    own = found[(found["truncation"] == "random-unweighted:4") & (found["spectral_radius"] == 0.8)].sort_values("lag")
    change = own["median"].to_numpy() - own["median"].iloc[0]
    np.testing.assert_allclose(change, np.arange(20) * np.log10(0.75 * 0.8), rtol=1e-9)


def test_states_change_by_the_radius_and_weights_by_what_the_last_steps_miss(orthogonal):
    rows = lags.states_and_weights(orthogonal)
    by = ["measure", "spectral_radius", "lag"]
    found = rows.groupby(by)["part"].median().rename("median").reset_index()
    states = found[(found["measure"] == "state") & (found["spectral_radius"] == 0.8)].sort_values("lag")
    np.testing.assert_allclose(states["median"], np.arange(20) * np.log10(0.8), atol=1e-9)
    weights = found[(found["measure"] == "weight") & (found["spectral_radius"] == 1.0)].sort_values("lag")
    assert list(weights["lag"]) == [4, 8, 12]
    runs = orthogonal.select(truncation="fixed:8", spectral_radius=1.0, loss_steps="last").runs
    expected = np.log10(runs["relative_error"]).median()
    np.testing.assert_allclose(weights.loc[weights["lag"] == 8, "median"], expected, rtol=1e-9)


@pytest.mark.parametrize("radius", [0.9, 0.8])
def test_weight_gradients_grow_where_state_gradients_do_not(radius):
    """Zucchet & Orvieto 2024: h' = lambda h + x, white x: E h^2 = 1/(1 - l^2), E (dh/dl)^2 = (1 + l^2)/(1 - l^2)^3."""
    draws, length = 4000, 200
    rng = np.random.default_rng(0)
    cell = gs.cell("elman", hidden_size=1, input_size=1, output_size=1, activation="linear")
    params = {"W_xh": [[1.0]], "W_hh": [[radius]], "b_h": [0.0], "W_hy": [[1.0]], "b_y": [0.0]}
    x = rng.standard_normal((length, draws, 1))
    h = np.zeros(draws)
    derivative = np.zeros(draws)
    for step in x[:, :, 0]:
        derivative, h = h + radius * derivative, radius * h + step
    np.testing.assert_allclose(np.mean(h**2), 1 / (1 - radius**2), rtol=0.05)
    np.testing.assert_allclose(np.mean(derivative**2), (1 + radius**2) / (1 - radius**2) ** 3, rtol=0.1)
    for example in range(
        3
    ):  # gradscope's weight gradient is that derivative: (yhat - y)^2 has slope 1 at y = yhat - 1/2
        own = x[:, example : example + 1]
        y = np.full((length, 1, 1), h[example] - 0.5)
        g = gs.backprop(cell, params, own, y, loss_steps="last")
        np.testing.assert_allclose(g.params["W_hh"][0, 0], derivative[example], rtol=1e-9)
        np.testing.assert_allclose(g.log10_dh[:, 0], np.arange(length)[::-1] * np.log10(radius), atol=1e-9)
