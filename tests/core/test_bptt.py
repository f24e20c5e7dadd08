"""Guards full backpropagation through time: automatic differentiation, forward mode, differences, and closed forms."""

import numpy as np
import pytest
from oracles import by_autograd, central_difference, naive, reach, rtrl, smooth_loss
from problems import LOSS_STEPS, assert_agrees, assert_same, problem

import gradscope as gs
from gradscope.activations import ACTIVATIONS
from gradscope.bptt import loss_gradients
from gradscope.losses import LOSSES
from gradscope.passes import Request, passes
from gradscope.schedule import Gates, Windows
from gradscope.workspace import Workspace

every_activation = pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
every_loss = pytest.mark.parametrize("loss", sorted(LOSSES))
every_loss_steps = pytest.mark.parametrize("loss_steps", LOSS_STEPS.values(), ids=LOSS_STEPS)
every_reduction = pytest.mark.parametrize("reduction", ["mean", "sum"])


@every_activation
@every_loss
@every_loss_steps
@every_reduction
@pytest.mark.parametrize("started", [True, False], ids=["h0 given", "h0 zero"])
def test_agrees_with_automatic_differentiation(activation, loss, loss_steps, reduction, started):
    case = problem(activation, loss, started=started)
    g = case.backprop(loss_steps=loss_steps, reduction=reduction)
    assert_agrees(g, case.ask(by_autograd, loss_steps, reduction))


@every_activation
@every_loss
@every_loss_steps
def test_agrees_with_forward_mode(activation, loss, loss_steps):
    case = problem(activation, loss, seed=1)
    assert_agrees(case.backprop(loss_steps=loss_steps), case.ask(rtrl, loss_steps, "mean"))


@every_activation
@every_loss
def test_agrees_with_differences_in_a_random_direction(activation, loss):
    case = problem(activation, loss, seed=2)
    rng = np.random.default_rng(7)
    direction = {name: rng.standard_normal(array.shape) for name, array in case.params.items()}
    steps, still = case.steps("all"), np.zeros((*case.x.shape[:2], 1))
    expected = central_difference(
        lambda params: smooth_loss(params, still, case.x, case.y, activation, loss, steps, "mean", case.h0),
        case.params,
        direction,
    )
    g = case.backprop(loss_steps="all")
    slope = sum(np.vdot(g.params[name], direction[name]) for name in direction)
    size = sum(np.abs(g.params[name] * direction[name]).sum() for name in direction)
    np.testing.assert_allclose(slope, expected, rtol=0, atol=1e-9 * size)


@every_activation
@every_loss
def test_agrees_with_each_loss_sent_back_alone(activation, loss):
    case = problem(activation, loss, T=20, B=3, n=5, p=4, seed=3)
    assert_agrees(case.backprop(loss_steps="all"), case.ask(naive, "all", "mean", reach("full", 20)), rtol=1e-11)


@pytest.mark.parametrize("sizes", [{"n": 1, "m": 1, "p": 1, "B": 1, "T": 1}, {"n": 1}, {"p": 1}, {"B": 1}, {"T": 17}])
def test_sizes_of_one_and_lengths_around_a_block_agree_with_forward_mode(sizes):
    case = problem(seed=4, **sizes)
    assert_agrees(case.backprop(loss_steps="all"), case.ask(rtrl, "all", "mean"))


def test_linear_network_has_the_published_closed_form():
    # d2l.ai, "Backpropagation through time": dL/dh_t = sum_{i=t..T} (W_hh^T)^(T-i) W_qh^T dL/do_{T+t-i}.
    case = problem("linear", T=30, B=1, n=6, started=False, seed=5)
    params = case.params | {"b_h": np.zeros(6), "b_y": np.zeros(3)}
    T, W, Q, x, y = 30, params["W_hh"], params["W_hy"], case.x[:, 0], case.y[:, 0]
    h = [np.zeros(6)]
    for t in range(T):
        h.append(params["W_xh"] @ x[t] + W @ h[-1])
    do = [None] + [2 / 3 * (Q @ h[t] - y[t - 1]) / T for t in range(1, T + 1)]
    power = [np.linalg.matrix_power(W.T, k) for k in range(T)]
    dh = [None] + [sum(power[T - i] @ Q.T @ do[T + t - i] for i in range(t, T + 1)) for t in range(1, T + 1)]
    expected = {
        "W_hh": sum(np.outer(dh[t], h[t - 1]) for t in range(1, T + 1)),
        "W_xh": sum(np.outer(dh[t], x[t - 1]) for t in range(1, T + 1)),
        "W_hy": sum(np.outer(do[t], h[t]) for t in range(1, T + 1)),
    }
    g = gs.backprop(case.cell, params, case.x, case.y, loss_steps="all")
    np.testing.assert_allclose(10 ** g.log10_dh[:, 0], np.linalg.norm(dh[1:], axis=1), rtol=1e-12)
    for name, gradient in expected.items():
        atol = 1e-12 * np.abs(gradient).max()
        np.testing.assert_allclose(g.params[name], gradient, rtol=1e-12, atol=atol, err_msg=name)


def test_orthogonal_linear_gradients_keep_their_norm_at_every_lag():
    cell = gs.cell("elman", hidden_size=32, input_size=2, output_size=3, activation="linear")
    params = cell.init(seed=0, spectral_radius=1.0, ensemble="orthogonal")
    rng = np.random.default_rng(0)
    g = gs.backprop(cell, params, rng.standard_normal((200, 4, 2)), rng.standard_normal((200, 4, 3)))
    np.testing.assert_allclose(g.log10_dh, np.broadcast_to(g.log10_dh[-1], (200, 4)), rtol=0, atol=1e-12)


def delay_line_norms(directions, alpha, T):
    """|dL/dh| at lags 0 .. T-1 for unit gradients at the last step, (T, B); W_hh is alpha on the subdiagonal."""
    B, n = directions.shape
    cell = gs.cell("elman", hidden_size=n, input_size=1, output_size=n, activation="linear")
    params = cell.init(seed=0, spectral_radius=1.0) | {"W_hh": alpha * np.eye(n, k=-1), "W_hy": np.eye(n)}
    targets = np.broadcast_to(-directions * n / 2, (T, B, n))  # yhat = 0, so the gradient of mse is -2 y / n
    return gs.backprop(cell, params, np.zeros((T, B, 1)), targets).log10_dh[::-1]


def test_delay_line_grows_by_the_published_law_and_then_is_exactly_zero():
    # RMS norm over all directions alpha^k sqrt((N-k)/N), though the spectral radius is 0; the basis is the exact mean.
    N, alpha = 100, 1.05
    log10_norms = delay_line_norms(np.eye(N), alpha, T=N + 10)
    k = np.arange(N)
    rms = np.sqrt(np.mean(10 ** (2 * log10_norms[:N]), axis=1))
    np.testing.assert_allclose(rms, alpha**k * np.sqrt((N - k) / N), rtol=1e-12)
    assert (log10_norms[N:] == -np.inf).all()


def test_delay_line_has_the_published_mean_norm():
    directions = np.random.default_rng(0).standard_normal((500, 100))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    norms = 10 ** delay_line_norms(directions, 1.05, T=51)[50]
    assert abs(norms.mean() - 8.09) < 4 * norms.std() / np.sqrt(500) + 0.005


def test_states_after_the_last_loss_have_no_gradient():
    g = problem().backprop(loss_steps=[2, 4])
    assert (g.log10_dh[4:] == -np.inf).all()
    assert np.isfinite(g.log10_dh[:4]).all()


def test_one_initial_state_serves_all_examples():
    case = problem(B=3, started=False)
    h0 = np.array([0.1, -0.2, 0.3, 0.4])
    arguments = case.cell, case.params, case.x, case.y
    assert_same(gs.backprop(*arguments, h0=h0), gs.backprop(*arguments, h0=np.tile(h0, (3, 1))), rtol=1e-15)


def test_examples_are_averaged_in_parameter_gradients_and_apart_in_state_gradients():
    case = problem(B=3)
    together = case.backprop(loss_steps="all")
    alone = [
        case._replace(x=case.x[:, [b]], y=case.y[:, [b]], h0=case.h0[[b]]).backprop(loss_steps="all") for b in range(3)
    ]
    np.testing.assert_allclose(together.log10_dh, np.hstack([g.log10_dh for g in alone]), rtol=0, atol=1e-13)
    for name in case.params:
        mean = np.mean([g.params[name] for g in alone], axis=0)
        np.testing.assert_allclose(together.params[name], mean, rtol=1e-10, atol=1e-14)


def test_order_of_loss_steps_does_not_matter():
    case = problem()
    assert_same(case.backprop(loss_steps=[7, 2, 5]), case.backprop(loss_steps=np.array([2, 5, 7])), rtol=0)


# --- many runs at once -----------------------------------------------------------------------------------------------


def three_runs():
    """A tame linear network, one whose states come near the end of float64's range, and one that leaves it."""
    cases = [problem("linear", T=600, B=2, seed=seed) for seed in range(3)]
    for case, radius in zip(cases, (0.9, 3.0, 4.0), strict=True):
        case.params["W_hh"] *= radius
    return cases


def of_runs(cases, steps, seq_len=600, forward_to=None):
    """loss_gradients of networks that are computed together, under three schedules."""
    schedules = [Gates(np.ones(seq_len)), Gates(np.arange(seq_len) % 7 / 5), Windows(3, 8)]
    requests = [Request(seq_len, np.array(steps) - 1, schedule) for schedule in schedules]
    cell = cases[0].cell
    packed = cell.pack({name: np.stack([case.params[name] for case in cases]) for name in cases[0].params})
    x, y, h0 = (np.stack([getattr(case, name) for case in cases]) for name in ("x", "y", "h0"))
    workspace = Workspace()
    trace = cell.forward(packed, x[:, : forward_to or seq_len], h0, workspace)
    return loss_gradients(
        cell, packed, trace, y[:, : forward_to or seq_len], "mse", requests, passes(requests), workspace
    )


def assert_same_run(found, run, alone, rtol=1e-12):
    for mine, other in zip(found, alone, strict=True):
        np.testing.assert_array_equal(mine.overflow[run], other.overflow[0])
        if mine.overflow[run]:
            continue
        np.testing.assert_allclose(mine.loss[run], other.loss[0], rtol=rtol)
        np.testing.assert_allclose(mine.norms.of(mine.row)[run], other.norms.of(other.row)[0], rtol=rtol, atol=rtol)
        for part, whole in ((mine.weights, other.weights), (mine.readout, other.readout)):
            np.testing.assert_allclose(part[run].log10_norm(), whole[0].log10_norm(), rtol=rtol, atol=1e-11)


@pytest.mark.parametrize("steps", [[600], [500], [2, 300, 500], [2, 300, 600]], ids=str)
def test_runs_computed_together_agree_with_each_alone(steps):
    cases = three_runs()
    together = of_runs(cases, steps)
    assert together[0].overflow[0] == together[0].overflow[1] == 0
    assert (together[0].overflow[2] > 0) == (steps[-1] == 600)
    for run, case in enumerate(cases):
        assert_same_run(together, run, of_runs([case], steps))


@pytest.mark.parametrize("seq_len", [500, 540])
def test_shorter_sequence_is_a_prefix_of_the_same_forward_pass(seq_len):
    cases, steps = three_runs(), [2, 300, seq_len]
    prefix, short = of_runs(cases, steps, seq_len, forward_to=600), of_runs(cases, steps, seq_len)
    assert (prefix[0].overflow[2] > 0) == (seq_len == 540)
    for run in range(3):
        for mine, other in zip(prefix, short, strict=True):
            np.testing.assert_array_equal(mine.overflow[run], other.overflow[run])
            if not other.overflow[run]:
                np.testing.assert_allclose(mine.loss[run], other.loss[run], rtol=1e-14)
                log10_dh = (one.norms.of(one.row)[run] for one in (mine, other))
                np.testing.assert_allclose(*log10_dh, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("seq_len", [500, 540, 600])
def test_overflow_beyond_a_prefix_is_not_its_own(seq_len):
    prefix, short = (of_runs(three_runs(), [seq_len], seq_len, forward_to) for forward_to in (600, None))
    assert prefix[0].overflow[2] == short[0].overflow[2]
    assert (short[0].overflow[2] == 0) == (seq_len == 500)
