"""Guards what a trained network says: answers, free running, forecasts from many origins, and texts that it writes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

import gradscope as gs
from gradscope.forecasting import answers, around, free_running, origins, written

F = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "linear": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
}
SURE = 1e-4  # the chance that a test of randomness fails although all is well; the draws are always the same

every_activation = pytest.mark.parametrize("activation", sorted(F))


def network(activation="tanh", n=5, m=1, p=1, seed=0, radius=0.9):
    cell = gs.cell("elman", hidden_size=n, input_size=m, output_size=p, activation=activation)
    rng = np.random.default_rng(seed)
    params = cell.init(seed=seed, spectral_radius=radius, input_scale=1.0)
    return cell, params | {"b_h": 0.2 * rng.standard_normal(n), "b_y": rng.standard_normal(p)}


def step(params, activation, x, h):
    """One step of one example: the answer and the state after it."""
    h = F[activation](params["W_xh"] @ x + params["W_hh"] @ h + params["b_h"])
    return params["W_hy"] @ h + params["b_y"], h


# --- answers ----------------------------------------------------------------------------------------------------------


@every_activation
@pytest.mark.parametrize("started", [False, True])
def test_answers_are_a_literal_loop(activation, started):
    cell, params = network(activation, m=3, p=2)
    rng = np.random.default_rng(1)
    x, h0 = rng.standard_normal((7, 4, 3)), rng.standard_normal((4, 5)) * started
    found, h = answers(cell, params, x, h0 if started else None)
    assert found.shape == (7, 4, 2)
    for b in range(4):
        own = h0[b]
        for t in range(7):
            expected, own = step(params, activation, x[t, b], own)
            np.testing.assert_allclose(found[t, b], expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(h[b], own, rtol=1e-12, atol=1e-14)


def test_reading_in_pieces_is_reading_at_once():
    cell, params = network(m=2, p=3)
    x = np.random.default_rng(0).standard_normal((9, 3, 2))
    whole, end = answers(cell, params, x)
    first, h = answers(cell, params, x[:4])
    second, h = answers(cell, params, x[4:], h)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=1e-13)
    np.testing.assert_allclose(h, end, rtol=1e-13)


def exploding(factor):
    """A linear network with one unit: h_t = factor h_{t-1} + x_t, yhat_t = h_t + 1."""
    cell = gs.cell("elman", hidden_size=1, input_size=1, output_size=1, activation="linear")
    one = np.ones((1, 1))
    return cell, {"W_xh": one, "W_hh": factor * one, "b_h": np.zeros(1), "W_hy": one, "b_y": np.ones(1)}


def test_what_overflows_is_never_a_number():
    cell, params = exploding(1e100)
    x = np.zeros((8, 2, 1))
    x[0] = [[1.0], [0.0]]
    found, h = answers(cell, params, x)
    np.testing.assert_allclose(found[:4, 0, 0], [2.0, 1e100, 1e200, 1e300])
    assert not np.isfinite(found[4:, 0]).any()
    assert not np.isfinite(h[0]).any()
    np.testing.assert_array_equal(found[:, 1], np.ones((8, 1)))
    np.testing.assert_array_equal(h[1], [0.0])
    again, h = answers(cell, params, x, h)  # and it does not come back
    assert not np.isfinite(again[:, 0]).any()
    assert np.isfinite(again[:, 1]).all()


# --- free running -----------------------------------------------------------------------------------------------------


@every_activation
@pytest.mark.parametrize("horizon", [1, 2, 9])
def test_free_running_is_a_literal_loop(activation, horizon):
    cell, params = network(activation)
    history = np.random.default_rng(2).standard_normal((6, 3))
    found = free_running(cell, params, history, horizon)
    assert found.shape == (horizon, 3)
    for k in range(3):
        h = np.zeros(5)
        for value in history[:, k]:
            answer, h = step(params, activation, np.array([value]), h)
        for ahead in range(horizon):
            np.testing.assert_allclose(found[ahead, k], answer[0], rtol=1e-11)
            answer, h = step(params, activation, answer, h)


def test_a_network_that_knows_the_recursion_goes_on_with_it():
    # x_{t+1} = 2 cos(w) x_t - x_{t-1}: the state is (x_t, x_{t-1})
    w = 2 * np.pi / 17
    cell = gs.cell("elman", hidden_size=2, input_size=1, output_size=1, activation="linear")
    params = {"W_xh": [[1.0], [0.0]], "W_hh": [[0.0, 0.0], [1.0, 0.0]], "W_hy": [[2 * np.cos(w), -1.0]]}
    params = {name: np.array(value) for name, value in params.items()} | {"b_h": np.zeros(2), "b_y": np.zeros(1)}
    wave = np.sin(w * np.arange(400) + np.array([[0.3], [2.0]])).T
    np.testing.assert_allclose(free_running(cell, params, wave[:50], 350), wave[50:], atol=1e-9)


def test_a_forecast_that_leaves_the_range_of_numbers_stays_out_of_it():
    cell, params = exploding(1e100)
    found = free_running(cell, params, np.array([[1.0, -1e-200]]), 12)
    lost = ~np.isfinite(found)
    assert lost[-1].all()
    assert (lost[1:] >= lost[:-1]).all()
    assert lost[:, 0].argmax() < lost[:, 1].argmax()


# --- origins ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 300), st.integers(1, 200), st.integers(0, 500), st.integers(1, 70))
def test_origins_are_spread_over_all_that_can_be_had(first, horizon, more, most):
    length = first + horizon + more
    found = origins(first, length, horizon, most)
    assert found[0] == first
    assert 1 <= len(found) <= most
    assert found[-1] + horizon <= length
    steps = np.diff(found)
    assert (steps > 0).all()
    assert not len(steps) or steps.max() - steps.min() <= 1
    assert len(found) == min(most, more + 1)
    assert most == 1 or found[-1] + horizon == length


@pytest.mark.parametrize("before", [1, 4])
def test_histories_and_what_follows_them(before):
    values = np.arange(100.0, 130.0)
    starts = np.array([10, 13, 25])
    history, truth = around(values, starts, before, 5)
    for k, start in enumerate(starts):
        assert history[:, k].tolist() == values[start - before : start].tolist()
        assert truth[:, k].tolist() == values[start : start + 5].tolist()


# --- texts ------------------------------------------------------------------------------------------------------------


def remembering(logits):
    """A network whose logits depend on the class that it read last alone: logits[read], (m, m)."""
    m = len(logits)
    cell = gs.cell("elman", hidden_size=m, input_size=m, output_size=m, activation="linear")
    zeros = {"W_hh": np.zeros((m, m)), "b_h": np.zeros(m), "b_y": np.zeros(m)}
    return cell, zeros | {"W_xh": np.eye(m), "W_hy": np.array(logits, float).T}


def softmax(logits):
    weights = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_each_class_is_drawn_with_its_own_probability(temperature):
    logits = np.random.default_rng(0).standard_normal((4, 4)) + 500.0
    text = written(*remembering(logits), np.array([2]), 4000, np.random.default_rng(1), temperature)
    assert text.shape == (4000,)
    read = np.append(2, text[:-1])
    for code, probabilities in enumerate(softmax(logits / temperature)):
        drawn = np.bincount(text[read == code], minlength=4)
        assert drawn.sum() > 200
        assert chisquare(drawn, drawn.sum() * probabilities).pvalue > SURE


def test_a_draw_is_a_uniform_number_among_the_cumulated_probabilities():
    cell, params = network(m=6, p=6, n=8)
    prompt, h = np.array([1, 4, 4, 0]), np.zeros(8)
    found, uniform = written(cell, params, prompt, 50, np.random.default_rng(3)), np.random.default_rng(3)
    for code in prompt:
        logits, h = step(params, "tanh", np.eye(6)[code], h)
    for code in found:
        ends = np.cumsum(softmax(logits))
        assert code == np.sum(ends <= uniform.random())
        logits, h = step(params, "tanh", np.eye(6)[code], h)


def test_cold_texts_take_what_is_likeliest():
    logits = np.random.default_rng(5).standard_normal((7, 7))
    found = written(*remembering(logits), np.array([0]), 30, np.random.default_rng(0), temperature=1e-3)
    expected = [int(logits[0].argmax())]
    for _ in range(29):
        expected.append(int(logits[expected[-1]].argmax()))
    assert found.tolist() == expected


def test_what_is_impossible_is_never_written():
    logits = np.zeros((4, 4))
    logits[:, [0, 3]] = -1e4  # the first and the last have no weight that float64 can hold
    found = written(*remembering(logits), np.array([0]), 500, np.random.default_rng(0))
    assert set(found.tolist()) == {1, 2}


def test_same_stream_same_text():
    cell, params = network(m=6, p=6, n=8)
    one, two, other = (written(cell, params, np.array([0]), 40, np.random.default_rng(s)).tolist() for s in (0, 0, 1))
    assert one == two != other
