"""Guards rows that go back alone, a long block at a time, as in small networks: there calls cost more than numbers."""

import numpy as np
import pytest
from oracles import log10_norm, naive, reach
from problems import assert_agrees, problem

import gradscope as gs
from gradscope.bptt import loss_gradients
from gradscope.passes import Request, passes
from gradscope.streams import coins
from gradscope.truncations import truncation
from gradscope.workspace import Workspace

T = 70  # more than two blocks of one example
SPECS = ["full", "chunked:1", "chunked:5", "chunked:40", "fixed:4", "tbptt:2:5", "random:1.5", "random:4", "random:30"]
LOSS_STEPS = {"last": "last", "all": "all", "few": [3, 20, 21, 64], "most": [t for t in range(2, 66) if t % 7]}


@pytest.mark.parametrize("loss_steps", LOSS_STEPS.values(), ids=LOSS_STEPS)
@pytest.mark.parametrize("spec", [*SPECS, "artbp:4:6", "one-coin:4", "variable:6:2:0.75"])
def test_one_example_over_several_blocks_is_each_loss_sent_back_alone(spec, loss_steps):
    case = problem(T=T, B=1, seed=3)
    w = reach(spec, T, coins([2], T)[0])
    assert_agrees(case.backprop(truncation=spec, loss_steps=loss_steps, seed=2), case.ask(naive, loss_steps, "mean", w))


def gradients(cases, spec, seeds, examples=slice(None)):
    """The gradients of all losses of networks that are computed together, each with coins of its own."""
    cell = cases[0].cell
    packed = cell.pack({name: np.stack([case.params[name] for case in cases]) for name in cases[0].params})
    x, y = (np.stack([getattr(case, name)[:, examples] for case in cases]) for name in ("x", "y"))
    h0 = np.stack([case.h0[examples] for case in cases])
    requests = [Request(T, np.arange(T), truncation(spec).schedule(coins(seeds, T)))]
    workspace = Workspace()
    trace = cell.forward(packed, x, h0, workspace)
    (found,) = loss_gradients(cell, packed, trace, y, "cross_entropy", requests, passes(requests), workspace)
    return found


@pytest.mark.parametrize("spec", SPECS)
def test_a_network_and_an_example_alone_have_the_gradients_that_they_have_among_others(spec):
    cases, seeds = [problem(loss="cross_entropy", T=T, B=3, seed=seed) for seed in range(4)], [5, 6, 7, 8]
    together = gradients(cases, spec, seeds)
    for run, case in enumerate(cases):
        parts = [gradients([case], spec, seeds[run : run + 1], slice(b, b + 1)) for b in range(3)]
        for name in ("weights", "readout"):
            whole = getattr(together, name).value()[run]
            alone = sum(getattr(part, name).value()[0] for part in parts)
            np.testing.assert_allclose(alone, whole, rtol=1e-11, atol=1e-13 * np.abs(whole).max())
        log10_dh = np.concatenate([part.norms.of(part.row)[0] for part in parts], axis=-1)
        np.testing.assert_allclose(log10_dh, together.norms.of(together.row)[run], rtol=0, atol=1e-11)


@pytest.mark.parametrize("spec", SPECS)
def test_lengths_that_are_computed_together_have_the_gradients_of_each_alone(spec):
    case, lengths = problem(T=T, B=1, seed=4), [T, 61, 33]
    packed = case.cell.pack({name: array[None] for name, array in case.params.items()})

    def answers(lengths):
        workspace, schedule = Workspace(), truncation(spec).schedule
        requests = [Request(length, np.arange(length), schedule(coins([0], length))) for length in lengths]
        trace = case.cell.forward(packed, case.x[None], case.h0[None], workspace)
        return loss_gradients(case.cell, packed, trace, case.y[None], "mse", requests, passes(requests), workspace)

    for length, found in zip(lengths, answers(lengths), strict=True):
        (alone,) = answers([length])
        np.testing.assert_allclose(found.norms.of(found.row), alone.norms.of(alone.row), rtol=0, atol=1e-11)
        whole = alone.weights.value()
        np.testing.assert_allclose(found.weights.value(), whole, rtol=1e-11, atol=1e-13 * np.abs(whole).max())


@pytest.mark.parametrize("power", [-700, 400])
@pytest.mark.parametrize("spec", SPECS)
def test_gradients_go_with_the_square_of_the_readouts_scale(spec, power):
    # yhat - y is `scale` times what it was, and dL/dh = W_hy^T dL/dyhat as many times again.
    case, scale = problem(T=T, B=1, seed=6), 2.0**power
    readout = {name: scale * case.params[name] for name in ("W_hy", "b_y")}
    scaled = case._replace(params=case.params | readout, y=scale * case.y)
    g, other = (one.backprop(truncation=spec, loss_steps="all") for one in (case, scaled))
    decades = power * np.log10(2)
    np.testing.assert_allclose(other.log10_dh, g.log10_dh + 2 * decades, rtol=1e-13, atol=1e-11)
    for name, log10 in g.log10_params.items():
        np.testing.assert_allclose(
            other.log10_params[name], log10 + decades * (1 if name in readout else 2), rtol=1e-12
        )


@pytest.mark.parametrize("examples", [1, 2, 9])
@pytest.mark.parametrize(
    ("dtype", "w"),
    [(np.float64, w) for w in (1e-200, 1e-30, 1e-12, 1e-4, 0.5, 1.0, 1e4, 1e12, 1e30, 1e200)]
    + [(np.float32, w) for w in (1e-30, 1e-6, 1e-2, 0.125, 0.5, 1.0, 8.0, 1e2, 1e6, 1e30)],
)
def test_scalar_linear_gradient_is_a_power_of_the_weight_at_any_magnitude(examples, dtype, w):
    # States are 0 and the prediction is 1 away from the target: dL/dh_t = 2 w^(T - t).
    cell = gs.cell("elman", hidden_size=1, input_size=1, output_size=1, activation="linear")
    params = {"W_xh": [[1.0]], "W_hh": [[w]], "b_h": [0.0], "W_hy": [[1.0]], "b_y": [0.0]}
    packed = cell.pack({name: np.array([value], dtype) for name, value in params.items()})
    x, y = np.zeros((1, T, examples, 1), dtype), -np.ones((1, T, examples, 1), dtype)
    requests = [Request(T, np.array([T - 1]), truncation("full").schedule(np.ones((1, T))))]
    workspace = Workspace()
    trace = cell.forward(packed, x, None, workspace)
    (found,) = loss_gradients(cell, packed, trace, y, "mse", requests, passes(requests), workspace)
    exact = log10_norm([2]) + np.log10(float(dtype(w))) * np.arange(T)[::-1]
    rounding = 1e-13 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(
        found.norms.of(found.row)[0], np.broadcast_to(exact[:, None], (T, examples)), rtol=1e-14, atol=rounding
    )


def test_finite_predictions_whose_sum_leaves_float64_are_no_overflow():
    cell = gs.cell("elman", hidden_size=1, input_size=1, output_size=2)
    params = {"W_xh": np.zeros((1, 1)), "W_hh": np.zeros((1, 1)), "b_h": np.array([50.0]), "b_y": np.zeros(2)}
    g = gs.backprop(
        cell,
        params | {"W_hy": np.full((2, 1), 1.5e308)},
        np.zeros((5, 1, 1)),
        np.zeros((5, 1), int),
        loss="cross_entropy",
    )
    assert g.status == "ok"
    np.testing.assert_allclose(g.loss, np.log(2), rtol=1e-15)


@pytest.mark.parametrize("truncation", ["full", "chunked:350", "fixed:300"])
def test_a_layer_far_below_the_others_is_right_or_said_not_to_be_known(truncation):
    """The adjoint of the top layer does not depend on those below it: by itself it has an exponent of its own."""
    cell = gs.cell("elman", hidden_size=4, input_size=2, output_size=1, num_layers=2)
    params = cell.init(seed=0, spectral_radius=0.9, input_scale=1.0)
    params["W_hh_l1"] *= 0.05
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((350, 2, 2)), rng.standard_normal((350, 2, 1))
    both = gs.backprop(cell, params, x, y, truncation=truncation)
    trace = cell.forward(cell.pack({name: array[None] for name, array in params.items()}), x[None], None, Workspace())
    top = gs.cell("elman", hidden_size=4, input_size=4, output_size=1)
    own = {name: params.get(f"{name}_l1", params[name]) for name in top.shapes()}
    alone = gs.backprop(top, own, trace.layers[1].states[0], y, truncation=truncation)
    found, truth = both.log10_states["h_l1"], alone.log10_dh
    known = ~np.isnan(found)
    np.testing.assert_allclose(found[known], truth[known], rtol=0, atol=1e-9)
    assert known[-80:].all()
    assert not known[:60][np.isfinite(truth[:60])].any()
    assert np.isfinite(both.log10_dh).all() or truncation.startswith("fixed")
    assert np.isfinite(both.log10_states["h_l0"]).all() or truncation.startswith("fixed")
