"""Guards every cell of the family: how it is made, what the engine is told of it, and laws that hold for it alone."""

from functools import partial

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import central_difference

import gradscope as gs
from gradscope import cells, plugins
from gradscope.bptt import loss_gradients
from gradscope.gates import chrono_bias
from gradscope.gradients import by_parameter
from gradscope.passes import Request, passes
from gradscope.spectral import spectral_radius
from gradscope.workspace import Workspace

SIZES = {"hidden_size": 6, "input_size": 3, "output_size": 2}
OWN = {"diagonal": "ring", "irnn": "identity"}  # ensembles of cells that have no choice
VARIANTS = {"elman": [{"activation": "relu"}], "lstm": [{"chrono": 9}], "gru": [{"chrono": 9}]}
NAMES = plugins.names(cells.FAMILY)
MEMBERS = [(name, options, depth) for name in NAMES for options in ({}, *VARIANTS.get(name, [])) for depth in (1, 3)]
IDS = [" ".join([name, *(f"{k}={v}" for k, v in options.items()), str(depth)]) for name, options, depth in MEMBERS]

every_cell = pytest.mark.parametrize("member", MEMBERS, ids=IDS)
every_name = pytest.mark.parametrize("name", NAMES)


def made(member, **sizes):
    name, options, depth = member
    return gs.cell(name, **SIZES | sizes, **options, num_layers=depth)


def drawn(cell, member, seed=0, radius=0.9, noise=0.1):
    """Initial parameters, with some noise so that biases are there too."""
    params = cell.init(seed=seed, spectral_radius=radius, ensemble=OWN.get(member[0], "gaussian"), input_scale=1.0)
    rng = np.random.default_rng(seed)
    return {name: array + noise * rng.standard_normal(array.shape) for name, array in params.items()}


def data(cell, T=7, B=3, seed=0):
    """Inputs, targets and initial states."""
    rng = np.random.default_rng(seed)
    x, y = (rng.standard_normal((T, B, size)) for size in (cell.input_size, cell.output_size))
    return x, y, rng.standard_normal((B, cell.state_size))


def together(cell, networks, x, y, start, dtype="float64", groups=1):
    """What the engine says of the last loss, summed over examples, of networks side by side: log10 norms and gradients
    (C, G, ...) of each parameter.
    """
    C = len(networks)
    params = {name: np.stack([one[name] for one in networks]).astype(dtype) for name in networks[0]}
    packed, workspace = cell.pack(params), Workspace()
    x, y, start = (np.stack([array] * C).astype(dtype) for array in (x, y, start))
    trace = cell.forward(packed, x, start, workspace)
    T = x.shape[1]
    requests = [Request(T, np.array([T - 1]), gs.truncation("full").schedule(np.zeros((1, T))))]
    (found,) = loss_gradients(cell, packed, trace, y, "mse", requests, passes(requests), workspace, groups)
    assert not found.overflow.any()
    by_name = by_parameter(cell, found.weights_by_group, found.readout_by_group)
    return found.norms.of(found.row), {name: part.value().swapaxes(-1, -2) for name, part in by_name.items()}


# --- parameters ------------------------------------------------------------------------------------------------------


@every_cell
def test_initial_parameters_have_the_cells_names_and_shapes(member):
    cell = made(member)
    params = cell.init(seed=0, spectral_radius=0.9, ensemble=OWN.get(member[0], "gaussian"))
    assert {name: array.shape for name, array in params.items()} == cell.shapes()
    assert {array.dtype for array in params.values()} == {np.dtype(np.float64)}
    assert list(params)[-2:] == ["W_hy", "b_y"]
    assert not params["b_y"].any()


def test_shapes_are_the_contracts():
    def shapes(name, **options):
        return gs.cell(name, **SIZES, **options).shapes()

    readout = {"W_hy": (2, 6), "b_y": (2,)}
    elman = {"W_xh": (6, 3), "W_hh": (6, 6), "b_h": (6,)}
    lstm = {"W_xh": (24, 3), "W_hh": (24, 6), "b_xh": (24,), "b_hh": (24,)}
    assert shapes("elman") == shapes("irnn") == elman | readout
    assert shapes("lstm") == lstm | readout
    assert shapes("gru") == {"W_xh": (18, 3), "W_hh": (18, 6), "b_xh": (18,), "b_hh": (18,)} | readout
    units = dict.fromkeys(("nu_log", "theta_log", "gamma_log"), (3,))
    assert shapes("diagonal") == units | {"W_xh": (6, 3)} | readout
    above = {"W_xh_l1": (24, 6), "W_hh_l1": (24, 6), "b_xh_l1": (24,), "b_hh_l1": (24,)}
    assert shapes("lstm", num_layers=2) == lstm | above | readout


@every_cell
def test_initial_parameters_can_be_changed_without_changing_the_next_draw(member):
    cell = made(member)
    init = partial(cell.init, seed=0, spectral_radius=0.9, ensemble=OWN.get(member[0], "gaussian"))
    first = init()
    kept = {name: array.copy() for name, array in first.items()}
    for array in first.values():
        array += 1.0
    for name, array in init().items():
        np.testing.assert_array_equal(array, kept[name])


@every_cell
@pytest.mark.parametrize("radius", [0.3, 0.999])
@pytest.mark.parametrize("seed", range(3))
def test_realised_radius_is_the_one_asked_for(member, radius, seed):
    cell, ensemble = made(member, hidden_size=24), OWN.get(member[0], "gaussian")
    matrix = cell.recurrent(cell.init(seed=seed, spectral_radius=radius, ensemble=ensemble))
    assert matrix.shape == (24, 24)
    assert spectral_radius(matrix) == pytest.approx(radius, abs=1e-10)
    unit = cell.drawn(ensemble, seed)
    np.testing.assert_allclose(unit.scaled(radius), matrix, rtol=0, atol=1e-12)
    assert unit.realised(radius) == pytest.approx((radius, np.linalg.norm(matrix, 2)), abs=1e-10)


@pytest.mark.parametrize(("name", "blocks", "candidate"), [("lstm", 4, 2), ("gru", 3, 2)])
def test_every_block_of_a_gated_cell_has_the_radius_and_draws_of_its_own(name, blocks, candidate):
    sizes = {"hidden_size": 16, "input_size": 3, "output_size": 2}
    params, elman = (gs.cell(one, **sizes).init(seed=5, spectral_radius=1.3) for one in (name, "elman"))
    own = params["W_hh"].reshape(blocks, 16, 16)
    assert [spectral_radius(block) for block in own] == pytest.approx([1.3] * blocks, abs=1e-10)
    np.testing.assert_array_equal(own[candidate], elman["W_hh"])
    np.testing.assert_array_equal(params["W_xh"].reshape(blocks, 16, 3)[candidate], elman["W_xh"])
    np.testing.assert_array_equal(params["W_hy"], elman["W_hy"])
    for name in ("W_hh", "W_xh"):
        correlations = np.corrcoef(params[name].reshape(blocks, -1)) - np.eye(blocks)
        assert np.abs(correlations).max() < 4 / np.sqrt(params[name].size / blocks)


@every_name
@pytest.mark.parametrize("options", [{}, {"input_power": 0.5}])
@pytest.mark.parametrize("scale", [0.0, 0.1, 2.0])
def test_input_scale_is_the_spread_of_the_input_current(name, scale, options):
    cell = gs.cell(name, hidden_size=400, input_size=25, output_size=1)
    ensemble = OWN.get(name, "identity")
    W_xh = cell.init(seed=0, spectral_radius=0.9, ensemble=ensemble, input_scale=scale, **options)["W_xh"]
    x = np.random.default_rng(0).standard_normal((400, 25)) * np.sqrt(options.get("input_power", 25) / 25)
    for rows in np.split(W_xh, len(W_xh) // 400):
        np.testing.assert_allclose((x @ rows.T).std(), scale, rtol=0.05)


@every_name
def test_readout_has_variance_one_over_n(name):
    cell = gs.cell(name, hidden_size=400, input_size=1, output_size=50)
    W_hy = cell.init(seed=0, spectral_radius=0.9, ensemble=OWN.get(name, "identity"))["W_hy"]
    np.testing.assert_allclose(W_hy.var(), 1 / 400, rtol=0.05)


# --- what the engine is told -----------------------------------------------------------------------------------------


@every_cell
def test_parameters_tile_what_the_products_fill(member):
    cell = made(member)
    blocks, shapes = cell.blocks(), cell.shapes()
    assert set(blocks) | {"W_hy", "b_y"} == set(shapes)
    used, filled = (np.zeros(cell.weights_shape, int) for _ in range(2))
    for name, (rows, columns) in blocks.items():
        used[rows, columns] += 1
        assert used[rows, columns].size == np.prod(shapes[name])
    for rows, columns in cell.products:
        filled[rows, : columns.stop - (columns.start or 0)] += 1
        assert columns.stop <= cell.delta_size
    assert used.max() == filled.max() == 1
    assert (used <= filled).all()
    unused = {"diagonal": (used < filled).any()}.get(member[0], False)
    assert (used == filled).all() or unused


@every_cell
def test_sizes_are_those_of_what_is_given(member):
    cell = made(member)
    x, _, start = data(cell)
    params = {name: array[None] for name, array in drawn(cell, member).items()}
    packed = cell.pack(params)
    trace = cell.forward(packed, x[None], start[None], Workspace())
    assert trace.extent == (1, 7, 3)
    assert trace.inputs.shape == (1, 8, 3, cell.weights_shape[0])
    assert trace.states.shape == (1, 7, 3, cell.hidden_size)
    local = cell.local(trace, 2, 5)
    assert local.shape == (1, 3, 3, cell.local_size)
    adjoint, delta = np.ones((1, 4, 3, cell.state_size)), np.empty((1, 4, 3, cell.delta_size))
    cell.delta(packed, local[:, 0, None], adjoint, delta)
    onward = np.empty_like(adjoint)
    cell.carry(packed, local[:, 0, None], delta, adjoint, onward)
    cell.carry(packed, local[:, 0, None], delta, adjoint)
    np.testing.assert_array_equal(adjoint, onward)
    for columns in cell.parts["h"]:
        assert cell.state(trace, 3)[..., columns].shape == (1, 3, cell.hidden_size)
    np.testing.assert_array_equal(cell.state(trace, 0), start[None])
    np.testing.assert_array_equal(cell.state(trace, 3)[..., : cell.hidden_size], trace.states[:, 2])


@every_cell
def test_single_row_of_a_single_network_needs_no_axes_of_its_own(member):
    cell = made(member)
    x, _, start = data(cell)
    packed = cell.pack({name: array[None] for name, array in drawn(cell, member).items()})
    local = cell.local(cell.forward(packed, x[None], start[None], Workspace()), 2, 3)[:, 0, None]
    adjoint = np.random.default_rng(1).standard_normal((1, 1, 3, cell.state_size))
    single, delta = adjoint[0, 0].copy(), np.empty((1, 1, 3, cell.delta_size))
    sent, previous, onward = delta[0, 0].copy(), single.copy(), adjoint.copy()
    cell.delta(packed, local, adjoint, delta)
    cell.carry(packed, local, delta, adjoint, onward)
    cell.delta(packed.of(0), local[0, 0], single, sent)
    cell.carry(packed.of(0), local[0, 0], sent, single, previous)
    for found, expected in ((single, adjoint), (sent, delta), (previous, onward)):
        np.testing.assert_allclose(found, expected[0, 0], rtol=1e-13, atol=1e-15)


@every_cell
def test_state_is_all_that_the_future_needs(member):
    cell = made(member)
    x, _, start = data(cell)
    packed = cell.pack({name: array[None] for name, array in drawn(cell, member).items()})
    whole = cell.forward(packed, x[None], start[None], Workspace())
    middle = cell.state(cell.forward(packed, x[None, :4], start[None], Workspace()), 4).copy()
    rest = cell.forward(packed, x[None, 4:], middle, Workspace())
    np.testing.assert_allclose(rest.states, whole.states[:, 4:], rtol=1e-13)
    np.testing.assert_allclose(cell.state(rest, 3), cell.state(whole, 7), rtol=1e-13)
    np.testing.assert_array_equal(cell.state(whole.until(4), 4), middle)
    from_zero = cell.forward(packed, x[None], None, Workspace()).states
    np.testing.assert_array_equal(from_zero, cell.forward(packed, x[None], 0 * start[None], Workspace()).states)


# --- gradients -------------------------------------------------------------------------------------------------------


@every_cell
@pytest.mark.parametrize("seed", range(3))
def test_gradients_agree_with_central_differences(member, seed):
    cell = made(member)
    x, y, h0 = data(cell, seed=seed)
    params = drawn(cell, member, seed)

    def backprop(own):
        return gs.backprop(cell, own, x, y, h0=h0, loss_steps="all")

    rng = np.random.default_rng(seed)
    direction = {name: rng.standard_normal(array.shape) for name, array in params.items()}
    found = backprop(params).params
    slope = sum(np.vdot(found[name], direction[name]) for name in params)
    assert slope == pytest.approx(central_difference(lambda own: backprop(own).loss, params, direction), rel=1e-7)
    for name in params:  # each by itself, as a wrong one may be small beside the others
        alone = {other: direction[other] * (other == name) for other in params}
        difference = central_difference(lambda own: backprop(own).loss, params, alone)
        assert np.vdot(found[name], direction[name]) == pytest.approx(difference, rel=1e-6, abs=1e-9), name


@every_cell
def test_state_gradient_agrees_with_central_differences(member):
    """What the state after the first step is worth: the rest of the sequence, started from it."""
    cell = made(member)
    x, y, h0 = data(cell, B=1)
    params = drawn(cell, member)
    trace = cell.forward(
        cell.pack({name: array[None] for name, array in params.items()}), x[None], h0[None], Workspace()
    )
    state = {"state": cell.state(trace, 1)[0]}
    n = cell.hidden_size
    slopes = [
        central_difference(
            lambda own: gs.backprop(cell, params, x[1:], y[1:], h0=own["state"]).loss, state, {"state": e}
        )
        for e in np.eye(n, cell.state_size)[:, None]  # of h, which nothing else of the same step depends on
    ]
    g = gs.backprop(cell, params, x, y, h0=h0)
    top = f"h_l{member[2] - 1}" if member[2] > 1 else "h"
    assert 10 ** g.log10_states[top][0, 0] == pytest.approx(np.linalg.norm(slopes), rel=1e-8)


@every_cell
def test_networks_side_by_side_are_each_as_if_alone(member):
    cell = made(member)
    x, y, h0 = data(cell)
    networks = [drawn(cell, member, seed) for seed in range(3)]
    norms, gradients = together(cell, networks, x, y, h0)
    for c, params in enumerate(networks):
        g = gs.backprop(cell, params, x, y, h0=h0)
        np.testing.assert_allclose(norms[c], g.log10_dh, rtol=0, atol=1e-12)
        for name, gradient in gradients.items():
            expected = g.params[name].reshape(gradient.shape[-2:]) * 3  # examples
            np.testing.assert_allclose(gradient[c, 0], expected, rtol=1e-11, atol=1e-14, err_msg=name)


@every_cell
def test_single_precision_is_right_to_its_digits(member):
    cell = made(member)
    x, y, h0 = data(cell, T=40)
    params = {name: array.astype(np.float32).astype(float) for name, array in drawn(cell, member).items()}
    (norms, gradients), (exact, expected) = (
        together(cell, [params], *(array.astype(np.float32) for array in (x, y, h0)), dtype)
        for dtype in ("float32", "float64")
    )
    assert {gradient.dtype for gradient in gradients.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(norms, exact, rtol=0, atol=1e-4)
    for name, gradient in gradients.items():
        assert np.linalg.norm(gradient - expected[name]) < 1e-4 * np.linalg.norm(expected[name]), name


# --- published numbers, section by section ---------------------------------------------------------------------------


def adding_problem(seed, T=201, B=10):
    rng = np.random.default_rng(seed)
    x = np.zeros((T, B, 2))
    x[..., 0] = rng.random((T, B))
    for half in (0, T // 2):
        x[rng.integers(half, half + T // 2, B), np.arange(B), 1] = 1.0
    return x, x.prod(axis=2).sum(axis=0)[None, :, None].repeat(T, axis=0)


def log10_ratio(cell, W_hh, seed):
    """log10 of |dL/dh| at lag 200 over that at lag 0 in the adding problem, mean over examples; W_xh is U(-1, 1)."""
    n, rng = cell.hidden_size, np.random.default_rng(seed)
    params = cell.init(seed=seed, spectral_radius=1.0, ensemble="identity")
    params |= {"W_xh": rng.uniform(-1.0, 1.0, (n, 2)), "W_hh": W_hh(rng, n)}
    log10_dh = gs.backprop(cell, params, *adding_problem(seed)).log10_dh
    return (log10_dh[0] - log10_dh[-1]).mean()


def orthogonal(rng, n):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def glorot(rng, n):
    return rng.uniform(-1.0, 1.0, (n, n)) * np.sqrt(6 / (2 * n))


def test_orthogonal_flat():
    """Section 8 of published results: Arjovsky et al. 2016, Le et al. 2015; n = 128, lag 200, at initialisation."""
    sizes = {"hidden_size": 128, "input_size": 2, "output_size": 1}
    irnn, tanh, relu, linear = (
        gs.cell("irnn", **sizes),
        *(gs.cell("elman", activation=one, **sizes) for one in ("tanh", "relu", "linear")),
    )
    found = [
        [log10_ratio(irnn, lambda _, n: np.eye(n), seed) for seed in range(12)],
        [log10_ratio(tanh, glorot, seed) for seed in range(12)],
        [log10_ratio(relu, orthogonal, seed) for seed in range(12)],
        [log10_ratio(linear, orthogonal, seed) for seed in range(2)],
    ]
    identity, saturating, dying, flat = (np.array(values) for values in found)
    assert flat == pytest.approx(0.0, abs=1e-11)
    assert (10**identity).mean() == pytest.approx(np.sqrt(0.5), abs=0.03)  # half the units are active, and stay so
    assert 0.55 < (10**identity).min() < 0.74 < (10**identity).max()
    assert saturating.mean() == pytest.approx(-16, abs=2)
    assert dying.mean() == pytest.approx(-32, abs=2)


def real_unit(eigenvalue):
    """A diagonal cell of one unit whose lambda is real, gamma = 1, that reads x and is read out as it is."""
    cell = gs.cell("diagonal", hidden_size=2, input_size=1, output_size=1)
    params = {
        "nu_log": np.log(-np.log([eigenvalue])),
        "theta_log": np.array([-40.0]),
        "gamma_log": np.zeros(1),
        "W_xh": np.array([[1.0], [0.0]]),
        "W_hy": np.array([[1.0, 0.0]]),
        "b_y": np.zeros(1),
    }
    return cell, params


def slopes_of_state(eigenvalue, x):
    """h_T and dh_T / dlambda of each example of x (T, B, 1), by the gradient of a loss whose slope is 1."""
    cell, params = real_unit(eigenvalue)
    B = x.shape[1]
    h = cell.forward(cell.pack({name: array[None] for name, array in params.items()}), x[None], None, Workspace())
    last = h.states[0, -1, :, :1]
    y = np.broadcast_to(last - 0.5, (len(x), B, 1))
    norms, gradients = together(cell, [params], x, y, np.zeros((B, 2)), groups=B)
    decay = -np.log(eigenvalue)
    return last[:, 0], gradients["nu_log"][0, :, 0, 0] / (-decay * eigenvalue), norms[0]


@pytest.mark.parametrize("eigenvalue", [0.5, 0.9, 0.95])
def test_curse_of_memory_exactly(eigenvalue):
    """Section 9, Zucchet & Orvieto 2024: by an impulse at each lag, whose squares add up to those of white inputs."""
    T = 300
    h, slopes, norms = slopes_of_state(eigenvalue, np.eye(T)[..., None])
    assert h @ h == pytest.approx(1 / (1 - eigenvalue**2), rel=1e-10)
    assert slopes @ slopes == pytest.approx((1 + eigenvalue**2) / (1 - eigenvalue**2) ** 3, rel=1e-9)
    np.testing.assert_allclose(norms, np.log10(eigenvalue) * (T - 1 - np.arange(T))[:, None] + 0 * norms, atol=1e-10)
    if eigenvalue == 0.9:
        assert (h @ h, slopes @ slopes) == pytest.approx((5.263158, 263.88686), rel=1e-6)


def test_curse_of_memory_by_white_noise():
    h, slopes, _ = slopes_of_state(0.9, np.random.default_rng(0).standard_normal((100, 6000, 1)))
    assert (h @ h / 6000, slopes @ slopes / 6000) == pytest.approx((5.263158, 263.88686), rel=0.05)


def test_state_gradients_stay_bounded_where_weight_gradients_diverge():
    x = np.random.default_rng(1).standard_normal((2000, 200, 1))
    spread = []
    for eigenvalue in (0.5, 0.9, 0.99):
        _, slopes, norms = slopes_of_state(eigenvalue, x)
        assert norms.max() < 1e-12  # log10 of at most 1
        spread.append(np.sqrt(slopes @ slopes / 200))
    assert spread[1] > 10 * spread[0]
    assert spread[2] > 10 * spread[1]


GATES = {0.0: 0.5, 1.0: 0.731059, 2.0: 0.880797, 5.0: 0.993307}


@pytest.mark.parametrize(("bias", "factor"), GATES.items())
@pytest.mark.parametrize(("name", "option", "part"), [("lstm", "forget_bias", "c"), ("gru", "update_bias", "h")])
def test_gate_sets_what_a_gradient_is_multiplied_by(name, option, part, bias, factor):
    """Section 10, Gers et al. 2000, Jozefowicz et al. 2015; far beyond the range of numbers."""
    cell = gs.cell(name, hidden_size=6, input_size=3, output_size=2, **{option: bias})
    params = cell.init(seed=0, spectral_radius=0.0, input_scale=0.0)
    T = 3000
    g = gs.backprop(cell, params, np.zeros((T, 2, 3)), np.ones((T, 2, 2)))
    per_step = 10 ** -(np.diff(g.log10_states[part][: T - 1], axis=0))
    np.testing.assert_allclose(per_step, 1 / (1 + np.exp(-bias)), rtol=1e-11)
    np.testing.assert_allclose(per_step, factor, rtol=1e-6)
    if bias == 1.0:
        assert np.log(0.5) / np.log(per_step.mean()) == pytest.approx(2.213, abs=5e-4)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_gate_sets_it_to_first_order_where_weights_are_small(name):
    cell = gs.cell(name, hidden_size=32, input_size=3, output_size=2)
    params = cell.init(seed=0, spectral_radius=0.01, input_scale=0.01)
    x, y, _ = data(cell, T=60)
    part = gs.backprop(cell, params, x, y).log10_states["c" if name == "lstm" else "h"]
    factor = 10 ** ((part[0] - part[-2]) / 58)
    np.testing.assert_allclose(factor, {"lstm": 0.731059, "gru": 0.5}[name], rtol=0.02)


@pytest.mark.parametrize("radius", [0.5, 40.0])
@pytest.mark.parametrize(("name", "part"), [("lstm", "c"), ("gru", "h")])
def test_gradients_at_a_resting_network_of_any_size(name, part, radius):
    """At rest gates are constants: a step multiplies by sigmoid(1) + radius/4 (LSTM), 1/2 + radius/4 (GRU)."""
    cell = gs.cell(name, **SIZES)
    params = cell.init(seed=0, spectral_radius=radius, ensemble="identity")
    T = 2000
    norms = gs.backprop(cell, params, np.zeros((T, 2, 3)), np.ones((T, 2, 2))).log10_states[part]
    per_step = {"lstm": 1 / (1 + np.exp(-1.0)), "gru": 0.5}[name] + radius / 4
    np.testing.assert_allclose(np.diff(norms, axis=0), -np.log10(per_step), rtol=1e-9)


@pytest.mark.parametrize("T_max", [2, 20, 1000])
def test_chrono_biases_are_logarithms_of_uniform_times(T_max):
    """Section 10, Tallec & Ollivier 2018: mean memory 1 + T_max / 2."""
    n = 4000
    biases = chrono_bias(0, n, T_max)
    memory = 1 / (1 - 1 / (1 + np.exp(-biases)))  # 1 / (1 - share kept a step)
    assert memory.mean() == pytest.approx(1 + T_max / 2, rel=0.02)
    uniform = 1 + (T_max - 2) * (np.arange(n) + 0.5) / n
    apart = np.abs(np.sort(np.exp(biases)) - uniform).max()
    assert apart <= 1.63 / np.sqrt(n) * (T_max - 2)  # Kolmogorov and Smirnov, 1 %


def test_chrono_biases_are_those_of_the_gates_that_keep():
    kept, zeros = chrono_bias(7, 6, 50), np.zeros(6)
    for name, blocks in (("lstm", [-kept, kept, zeros, zeros]), ("gru", [zeros, kept, zeros])):
        params = gs.cell(name, **SIZES, chrono=50).init(seed=7, spectral_radius=1.0)
        np.testing.assert_array_equal(params["b_xh"], np.concatenate(blocks))
        assert not params["b_hh"].any()


def test_chrono_times_are_the_same_draws_for_every_longest_one():
    short, long = (np.exp(chrono_bias(0, 6, T_max)) for T_max in (10, 102))
    np.testing.assert_allclose((short - 1) / 8, (long - 1) / 100, rtol=1e-12)


# --- cells by themselves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ring", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("radius", [0.3, 0.9, 0.9999])
def test_ring_is_drawn_as_published(ring, radius):
    """Orvieto et al. 2023, lemma 3.2: |lambda|^2 uniform between the squares of the radii."""
    units, phase = 2000, 1.0
    cell = gs.cell("diagonal", hidden_size=2 * units, input_size=1, output_size=1, ring=ring, max_phase=phase)
    params = cell.init(seed=0, spectral_radius=radius)
    modulus, angle = np.exp(-np.exp(params["nu_log"])), np.exp(params["theta_log"])
    assert modulus.max() == pytest.approx(radius, abs=1e-12)
    for values, low, high in ((modulus**2, (ring * radius) ** 2, radius**2), (angle, 0.0, phase)):
        expected = low + (high - low) * (np.arange(units) + 0.5) / units
        assert np.abs(np.sort(values) - expected).max() <= 1.63 / np.sqrt(units) * (high - low) + 1e-12
    np.testing.assert_allclose(np.exp(params["gamma_log"]) ** 2, 1 - modulus**2, rtol=1e-10)


@given(radius=st.floats(0.05, 0.999), ring=st.floats(0.0, 1.0), seed=st.integers(0, 99))
def test_gradients_of_the_diagonal_cell_shrink_between_its_radii(radius, ring, seed):
    cell = gs.cell("diagonal", **SIZES, ring=ring)
    params = cell.init(seed=seed, spectral_radius=radius, input_scale=1.0)
    x, y, h0 = data(cell, T=20, seed=seed)
    log10_dh = gs.backprop(cell, params, x, y, h0=h0).log10_dh
    per_step = -np.diff(log10_dh, axis=0)
    assert per_step.max() <= np.log10(radius) + 1e-9
    assert per_step.min() >= np.log10(np.exp(-np.exp(params["nu_log"])).min()) - 1e-9


def test_diagonal_cell_is_an_elman_network_with_its_matrix():
    cell, linear = gs.cell("diagonal", **SIZES), gs.cell("elman", **SIZES, activation="linear")
    params = cell.init(seed=0, spectral_radius=0.9, input_scale=1.0)
    gamma = np.tile(np.exp(params["gamma_log"]), 2)[:, None]
    same = {"W_hh": cell.recurrent(params), "W_xh": gamma * params["W_xh"], "b_h": np.zeros(6)}
    same |= {name: params[name] for name in ("W_hy", "b_y")}
    x, y, h0 = data(cell, T=30)
    own, other = (gs.backprop(one, p, x, y, h0=h0, loss_steps="all") for one, p in ((cell, params), (linear, same)))
    assert own.loss == pytest.approx(other.loss, rel=1e-12)
    np.testing.assert_allclose(own.log10_dh, other.log10_dh, rtol=0, atol=1e-12)
    np.testing.assert_allclose(own.params["W_xh"], gamma * other.params["W_xh"], rtol=1e-10)


def test_irnn_is_an_elman_network():
    sizes = {"hidden_size": 6, "input_size": 3, "output_size": 2}
    irnn, elman = gs.cell("irnn", **sizes), gs.cell("elman", **sizes, activation="relu")
    params = irnn.init(seed=0, spectral_radius=0.9, input_scale=0.5)
    for name, array in elman.init(seed=0, spectral_radius=0.9, ensemble="identity", input_scale=0.5).items():
        np.testing.assert_array_equal(array, params[name])
    np.testing.assert_array_equal(params["W_hh"], 0.9 * np.eye(6))
    x, y, h0 = data(irnn)
    for spec in ("full", "fixed:3", "chunked:2"):
        own, other = (gs.backprop(one, params, x, y, h0=h0, truncation=spec) for one in (irnn, elman))
        np.testing.assert_array_equal(own.log10_dh, other.log10_dh)


def gru_step(params, x, h):
    r, z, q = anp.split(params["W_hh"] @ h + params["b_hh"], 3)
    x_r, x_z, x_n = anp.split(params["W_xh"] @ x + params["b_xh"], 3)
    r, z = 1 / (1 + anp.exp(-r - x_r)), 1 / (1 + anp.exp(-z - x_z))
    return (1 - z) * anp.tanh(x_n + r * q) + z * h


def lstm_step(params, x, state):
    h, c = anp.split(state, 2)
    i, f, g, o = anp.split(params["W_hh"] @ h + params["b_hh"] + params["W_xh"] @ x + params["b_xh"], 4)
    i, f, o = (1 / (1 + anp.exp(-gate)) for gate in (i, f, o))
    c = f * c + i * anp.tanh(g)
    return anp.concatenate([o * anp.tanh(c), c])


@pytest.mark.parametrize(("name", "step"), [("gru", gru_step), ("lstm", lstm_step)])
@pytest.mark.parametrize("radius", [0.2, 60.0])
def test_gated_gradients_are_products_of_jacobians(name, step, radius):
    """The Jacobians of single steps by automatic differentiation, multiplied with the size of the vector set apart."""
    cell = gs.cell(name, hidden_size=3, input_size=2, output_size=1)
    T = 200 if radius > 1 else 500
    params = cell.init(seed=1, spectral_radius=radius, input_scale=1e-8)
    if radius < 1:
        params["b_xh"][3:6] = -6.0  # what is kept is little
    x = np.random.default_rng(0).standard_normal((T, 1, 2))
    trace = cell.forward(cell.pack({name: array[None] for name, array in params.items()}), x[None], None, Workspace())
    states = [cell.state(trace, t)[0, 0] for t in range(T + 1)]
    np.testing.assert_allclose(states[8], step(params, x[7, 0], states[7]), rtol=1e-12)
    y = np.full((T, 1, 1), 1.0)
    adjoint = np.zeros(cell.state_size)
    adjoint[:3] = 2 * (params["W_hy"] @ states[-1][:3] - 1.0)[0] * params["W_hy"][0]
    expected, size = [], 0.0
    for t in range(T, 0, -1):
        expected.append(np.log10(np.linalg.norm(adjoint[:3])) + size)
        if t > 1:
            adjoint = adjoint @ autograd.jacobian(step, 2)(params, x[t - 1, 0], states[t - 1])
            norm = np.linalg.norm(adjoint)
            adjoint, size = adjoint / norm, size + np.log10(norm)
    log10_dh = gs.backprop(cell, params, x, y).log10_dh[::-1, 0]
    np.testing.assert_allclose(log10_dh, expected, rtol=0, atol=1e-9)


# --- what cannot be --------------------------------------------------------------------------------------------------


@every_name
@pytest.mark.parametrize("size", sorted(SIZES))
@pytest.mark.parametrize("value", [0, -1, 2.0, "3", True, None])
def test_size_that_is_no_whole_number_is_refused(name, size, value):
    with pytest.raises(gs.InputError, match=rf"^{size}: .*whole number >= 1"):
        gs.cell(name, **SIZES | {size: value})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("elman", {"hiden_size": 3}, "unknown option of cell elman: 'hiden_size'; allowed: .*mean 'hidden_size'"),
        ("elman", {"activation": "gelu"}, "unknown activation 'gelu'; allowed: linear, relu, sigmoid, tanh"),
        ("irnn", {"activation": "relu"}, "unknown option of cell irnn: 'activation'"),
        ("gru", {"update_bias": 1.0, "chrono": 10}, "update_bias: 1.0 beside chrono.*leave out one of them"),
        ("lstm", {"forget_bias": 0.0, "chrono": 10}, "forget_bias: 0.0 beside chrono.*leave out one of them"),
        ("gru", {"update_bias": np.inf}, "update_bias: inf is not finite; allowed: a finite number"),
        ("lstm", {"forget_bias": "1"}, "forget_bias: 1 is not finite; allowed: a finite number"),
        ("lstm", {"chrono": 1}, "chrono: 1; allowed: 0, or the longest memory in steps, a whole number >= 2"),
        ("gru", {"chrono": 10.0}, "chrono: 10.0; allowed: 0, or the longest memory"),
        ("gru", {"chrono": True}, "chrono: True; allowed: 0, or the longest memory"),
        ("diagonal", {"hidden_size": 7}, "hidden_size: 7; allowed: an even number"),
        ("diagonal", {"ring": 1.5}, "ring: 1.5; allowed: 0 to 1"),
        ("diagonal", {"ring": -0.5}, "ring: must be at least 0, not -0.5"),
        ("diagonal", {"max_phase": 0.0}, "max_phase: 0.0; allowed: a number > 0, at most 2 pi"),
        ("diagonal", {"max_phase": 6.3}, "max_phase: 6.3; allowed: a number > 0, at most 2 pi"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(gs.InputError, match=message):
        gs.cell(name, **SIZES | options)


@every_name
def test_missing_sizes_are_refused(name):
    with pytest.raises(gs.InputError, match=f"cell {name} needs input_size, output_size"):
        gs.cell(name, hidden_size=3)


@every_cell
def test_what_cannot_be_drawn_is_refused_as_check_does(member):
    cell, ensemble = made(member), OWN.get(member[0], "gaussian")
    wrong = [("nonsense", 0.5), (ensemble, -1.0), (ensemble, np.inf), (ensemble, "1")]
    if member[0] in OWN:
        wrong.append(("gaussian", 0.5))
    if member[0] == "diagonal":
        wrong += [(ensemble, 0.0), (ensemble, 1.0), (ensemble, 1.1)]
    for name, radius in wrong:
        for refuse in (cell.check, lambda name, radius: cell.init(0, radius, name)):
            with pytest.raises(gs.InputError, match=r"ensemble|spectral_radius"):
                refuse(name, radius)
    cell.check(ensemble, 0.5)
    with pytest.raises(gs.InputError, match=r"input_scale.*at least 0"):
        cell.init(seed=0, spectral_radius=0.5, ensemble=ensemble, input_scale=-1.0)


def test_radius_and_ensemble_of_the_diagonal_cell_say_why():
    cell = gs.cell("diagonal", **SIZES)
    with pytest.raises(gs.InputError, match=r"spectral_radius: 1\.1, .* is stable, \|lambda\| < 1; allowed: .* < 1"):
        cell.init(seed=0, spectral_radius=1.1)
    with pytest.raises(gs.InputError, match="ensemble: 'gaussian' for cell diagonal; allowed: ring"):
        cell.init(seed=0, spectral_radius=0.5, ensemble="gaussian")


@pytest.mark.parametrize(
    ("name", "value"), [("nu_log", 5.0), ("nu_log", -50.0), ("theta_log", 50.0), ("gamma_log", 50.0)]
)
def test_parameters_of_the_diagonal_cell_beyond_the_range_of_their_exponentials_are_refused(name, value):
    cell = gs.cell("diagonal", **SIZES)
    params = cell.init(seed=0, spectral_radius=0.5)
    params[name][1] = value
    with pytest.raises(gs.InputError, match=rf"{name}: from .* to .*; allowed: -40 to 40?"):
        gs.backprop(cell, params, *data(cell)[:2])


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_recurrent_weights_of_a_gated_cell_beyond_ordinary_size_are_refused(name):
    cell = gs.cell(name, **SIZES)
    params = cell.init(seed=0, spectral_radius=1e30)
    with pytest.raises(gs.InputError, match=r"W_hh: entries up to .*e\+\d+; allowed: .*1e19"):
        gs.backprop(cell, params, *data(cell)[:2])


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_weights_of_a_thousand_are_no_trouble_in_single_precision(name):
    cell = gs.cell(name, **SIZES)
    params = cell.init(seed=0, spectral_radius=2000.0, input_scale=1.0)
    assert np.abs(params["W_hh"]).max() > 1000.0
    x, y, h0 = data(cell, T=3)
    arrays = [array.astype(np.float32) for array in (1e-4 * x, y, 0.0 * h0)]  # so small that no gate is saturated
    params = {name: array.astype(np.float32).astype(float) for name, array in params.items()}
    norms, exact = (together(cell, [params], *arrays, dtype)[0] for dtype in ("float32", "float64"))
    assert np.isfinite(exact).all()
    np.testing.assert_allclose(norms, exact, rtol=0, atol=1e-4)
    assert exact[0, 0].max() > exact[0, -1].max() + 2.0
    with pytest.raises(gs.InputError, match=r"W_hh: entries up to .*; allowed: up to 1e6 in float32"):
        together(cell, [params | {"W_hh": 1e6 * params["W_hh"]}], *arrays, "float32")


@pytest.mark.parametrize(("dtype", "below", "above"), [("float64", 1e-100, 1e-101), ("float32", 2e-3, 0.1)])
def test_layers_of_a_stack_may_have_weights_of_other_sizes(dtype, below, above):
    cell = gs.cell("elman", hidden_size=1, input_size=1, output_size=1, num_layers=2, activation="linear")
    params = cell.init(seed=0, spectral_radius=1.0)
    params["W_hh"][:], params["W_hh_l1"][:] = below, above
    x, y, h0 = data(cell, T=12, B=2)
    h0[:], y[-1] = 0.0, 1.0
    params["W_hy"][:] = params["W_xh_l1"][:] = 1.0
    params["W_xh"][:] = 0.0  # so that the prediction is 0
    lag = np.arange(11, -1, -1)[:, None]
    packed = cell.pack({name: array[None].astype(dtype) for name, array in params.items()})
    workspace = Workspace()
    trace = cell.forward(packed, x[None].astype(dtype), None, workspace)
    requests = [Request(12, np.array([11]), gs.truncation("full").schedule(np.zeros((1, 12))))]
    (found,) = loss_gradients(cell, packed, trace, y[None].astype(dtype), "mse", requests, passes(requests), workspace)
    norms = {part: found.norms.of(found.row, place)[0] for place, part in enumerate(cell.parts)}
    upper = np.log10(2.0) + lag * np.log10(above)
    share = below / above  # the sum over where the gradient goes down: above^i below^(lag - i)
    lower = upper + np.log10((1 - share ** (lag + 1.0)) / (1 - share))
    if share > 1:
        lower = np.log10(2.0) + lag * np.log10(below) + np.log10((1 - share ** -(lag + 1.0)) / (1 - 1 / share))
    atol = 1e-10 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(norms["h_l1"], np.broadcast_to(upper, (12, 2)), rtol=0, atol=atol)
    np.testing.assert_allclose(norms["h_l0"], np.broadcast_to(lower, (12, 2)), rtol=0, atol=atol)


def test_what_no_gradient_passes_through_may_be_of_any_size_in_a_stack():
    cell = gs.cell("lstm", **SIZES, num_layers=2)
    params = cell.init(seed=0, spectral_radius=0.5)
    x, y, _ = data(cell)
    small = gs.backprop(cell, params, 1e25 * x, y)
    large = gs.backprop(cell, params | {"W_xh": 1e25 * params["W_xh"]}, x, y)
    np.testing.assert_allclose(large.log10_dh, small.log10_dh, rtol=0, atol=1e-12)
    with pytest.raises(gs.InputError, match=r"W_xh_l1: entries up to .*; allowed: up to 1e19"):
        gs.backprop(cell, params | {"W_xh_l1": 1e25 * params["W_xh_l1"]}, x, y)


@pytest.mark.parametrize("name", ["diagonal", "gru"])
def test_state_beyond_the_range_of_numbers_is_told_and_never_counted(name):
    cell = gs.cell(name, **SIZES)
    params = cell.init(seed=0, spectral_radius=0.5, input_scale=1e10)
    x, y, h0 = data(cell, B=2)
    if name == "diagonal":
        x[4, 0] = 1e300
        first = 5
    else:
        h0[0], first = 1e300, 1
        params["W_hh"] *= 1e10
    g = gs.backprop(cell, params, x, y, h0=h0)
    assert g.status == f"forward overflow at step {first}"
    assert np.isnan(g.loss)
    if name == "diagonal":  # losses before it, and examples that it does not meet, are as they are
        mask = np.zeros((7, 2), bool)
        mask[3, 0] = mask[6, 1] = True
        found = gs.backprop(cell, params, x, y, h0=h0, mask=mask)
        x[4, 0] = 0.0
        expected = gs.backprop(cell, params, x, y, h0=h0, mask=mask)
        assert found.status == expected.status == "ok"
        np.testing.assert_array_equal(found.log10_dh, expected.log10_dh)
        for parameter, gradient in expected.params.items():
            np.testing.assert_allclose(found.params[parameter], gradient, rtol=1e-12, atol=0, err_msg=parameter)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_gates_saturated_by_an_input_beyond_all_range_are_limits(name):
    cell = gs.cell(name, **SIZES | {"input_size": 1})
    params = cell.init(seed=0, spectral_radius=0.9, input_scale=1.0)
    x, y, _ = data(cell, B=1)
    found = []
    for huge in (1e300, 1e100):
        x[3] = huge
        g = gs.backprop(cell, params | {"W_xh": 1e10 * params["W_xh"]}, x, y)
        assert g.status == "ok"
        found.append(g)
    for name, gradient in found[0].params.items():
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient, found[1].params[name])
