"""Guards every cell, alone and in stacks, against PyTorch in float64: its autograd, its own cells and its own modules.

Where PyTorch has the cell, a step is PyTorch's (`torch.lstm_cell`); the diagonal one is written with complex numbers.
"""

import numpy as np
import pytest
import torch
from test_torch import LOSS, TRUNCATIONS, B, M, N, P, T, every_loss, one_based, relative, whole_loss
from test_torch_masks import masked_loss

import gradscope as gs
from gradscope.conversion import from_torch, to_torch

SIZES = {"hidden_size": 2 * (N // 2), "input_size": M, "output_size": P}
n = SIZES["hidden_size"]
CELLS = {
    "elman": {},
    "elman relu": {"activation": "relu"},
    "irnn": {},
    "lstm": {},
    "lstm chrono": {"chrono": 10},
    "gru": {},
    "gru chrono": {"chrono": 10},
    "diagonal": {},
}
MODULES = {
    "elman": (torch.nn.RNN, {}),
    "elman relu": (torch.nn.RNN, {"nonlinearity": "relu"}),
    "irnn": (torch.nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (torch.nn.LSTM, {}),
    "gru": (torch.nn.GRU, {}),
}

every_cell = pytest.mark.parametrize("kind", CELLS)
every_module = pytest.mark.parametrize("kind", MODULES)
every_truncation = pytest.mark.parametrize("spec", TRUNCATIONS)
every_depth = pytest.mark.parametrize("depth", [1, 2, 3])


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """So small products gain nothing by threads, which wait for each other where others are at work too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rnn_step(kind, x, state, own):
    cell = torch.rnn_tanh_cell if kind == "elman" else torch.rnn_relu_cell
    h = cell(x, state, own["W_xh"], own["W_hh"], own["b_h"], torch.zeros_like(own["b_h"]))
    return {"h": h}


def lstm_step(kind, x, state, own):
    h, c = torch.lstm_cell(x, state.split(n, dim=1), own["W_xh"], own["W_hh"], own["b_xh"], own["b_hh"])
    return {"h": h, "c": c}


def gru_step(kind, x, state, own):
    return {"h": torch.gru_cell(x, state, own["W_xh"], own["W_hh"], own["b_xh"], own["b_hh"])}


def diagonal_step(kind, x, state, own):
    eigenvalue = torch.exp(torch.complex(-torch.exp(own["nu_log"]), torch.exp(own["theta_log"])))
    weights = torch.complex(*own["W_xh"].split(n // 2))
    h = torch.complex(*state.split(n // 2, dim=1))
    new = eigenvalue * h + torch.exp(own["gamma_log"]) * (x.to(torch.complex128) @ weights.T)
    return {"h": torch.cat([new.real, new.imag], dim=1)}


STEPS = {"elman": rnn_step, "irnn": rnn_step, "lstm": lstm_step, "gru": gru_step, "diagonal": diagonal_step}


class Peer:
    """A network and a batch, held by PyTorch: parameters are leaves; what arrives at the state's parts is added up.

    States are gradscope's, (B, S): the top layer first.
    """

    def __init__(self, kind, loss, depth=1, seed=0):
        rng = np.random.default_rng(seed)
        self.kind, self.name, self.depth = kind, kind.split()[0], depth
        self.cell = gs.cell(self.name, **SIZES, num_layers=depth, **CELLS[kind])
        radius, ensemble = {"diagonal": (0.95, "ring"), "irnn": (0.5, "identity")}.get(self.name, (1.1, "gaussian"))
        params = self.cell.init(seed=seed, spectral_radius=radius, ensemble=ensemble, input_scale=1.0)
        self.params = {name: array + 0.1 * rng.standard_normal(array.shape) for name, array in params.items()}
        self.x, self.h0 = rng.standard_normal((T, B, M)), rng.standard_normal((B, self.cell.state_size))
        self.y = rng.standard_normal((T, B, P)) if loss == "mse" else rng.integers(0, P, (T, B))
        self.loss_name, self.loss = loss, LOSS[loss]
        self.leaves = {name: torch.tensor(array, requires_grad=True) for name, array in self.params.items()}
        self.inputs, self.start, self.targets = map(torch.tensor, (self.x, self.h0, self.y))
        self.arrived = {}

    def step(self, t, state):
        """The state after step t (1-based) from the one before; the parts that it consists of are kept in `last`."""
        x, self.last = self.inputs[t - 1], {}
        layers = state.split(self.cell.state_size // self.depth, dim=1)
        new = []
        for layer in range(self.depth):
            suffix = f"_l{layer}" if layer else ""
            own = {name.removesuffix(suffix): leaf for name, leaf in self.leaves.items() if name.endswith(suffix)}
            parts = STEPS[self.name](self.kind, x, layers[self.depth - 1 - layer], own)
            self.last |= {f"{name}_l{layer}": part for name, part in parts.items()}
            new.insert(0, torch.cat(list(parts.values()), dim=1))
            x = parts["h"]
        return torch.cat(new, dim=1)

    def keep(self, t, state):
        """Add up what arrives at the parts; PyTorch's loss is a mean over the batch, L_b an example's own."""

        def adding(name):
            kept = self.arrived.setdefault(name, torch.zeros(T, B, n, dtype=torch.float64))

            def arrived(gradient):
                kept[t - 1] += gradient * B

            return arrived

        for name, part in self.last.items():
            part.register_hook(adding(name))
        return state

    def step_loss(self, t, state):
        return self.loss(self.predict(state), self.targets[t - 1])

    def predict(self, state):
        return state[:, :n] @ self.leaves["W_hy"].T + self.leaves["b_y"]

    def norms(self):
        """Norms of the gradients of each part of each layer and of all layers together, (T, B)."""
        apart = {name: np.linalg.norm(gradient.numpy(), axis=-1) for name, gradient in self.arrived.items()}
        together = {}
        for name, values in apart.items():
            part = name.partition("_")[0]
            together[part] = np.hypot(together.get(part, 0.0), values)
        return together | apart if self.depth > 1 else together

    def gradients(self, share=1.0):
        return {name: share * leaf.grad.numpy() for name, leaf in self.leaves.items()}

    def backprop(self, **options):
        return gs.backprop(self.cell, self.params, self.x, self.y, loss=self.loss_name, h0=self.h0, **options)


def assert_agrees(g, value, norms, gradients, disagreements):
    """To 1e-9, entry by entry; `atol` is rounding at the size of an array's largest entry."""
    assert g.status == "ok"
    np.testing.assert_allclose(g.loss, value, rtol=1e-9)
    assert set(g.log10_states) == set(norms)
    for name, expected in norms.items():
        reached = expected > 0
        disagreements.append(np.abs(10 ** g.log10_states[name][reached] / expected[reached] - 1).max())
        np.testing.assert_allclose(10 ** g.log10_states[name], expected, rtol=1e-9, err_msg=name)
    assert set(g.params) == set(gradients)
    for name, expected in gradients.items():
        disagreements.append(relative(g.params[name], expected))
        atol = 1e-13 * np.abs(expected).max()
        np.testing.assert_allclose(g.params[name], expected, rtol=1e-9, atol=atol, err_msg=name)


def check(peer, spec, loss_steps, reduction, disagreements):
    steps = one_based(loss_steps)
    value = TRUNCATIONS[spec](peer, steps)
    share = 1 / len(steps) if reduction == "mean" else 1.0
    norms = {name: share * values for name, values in peer.norms().items()}
    g = peer.backprop(loss_steps=loss_steps, truncation=spec, reduction=reduction, seed=2)
    np.testing.assert_array_equal(g.log10_dh, g.log10_states["h"])
    assert_agrees(g, share * value, norms, peer.gradients(share), disagreements)


@every_cell
@every_truncation
@pytest.mark.parametrize(("loss", "loss_steps"), [("mse", "all"), ("cross_entropy", "last")])
def test_agrees_with_autograd(kind, loss, loss_steps, spec, disagreements):
    check(Peer(kind, loss), spec, loss_steps, "mean", disagreements)


@every_cell
@every_truncation
@pytest.mark.parametrize(("depth", "loss", "loss_steps"), [(2, "cross_entropy", "all"), (3, "mse", [3, 7, 12])])
def test_stacks_agree_with_autograd(kind, depth, loss, loss_steps, spec, disagreements):
    check(Peer(kind, loss, depth, seed=1), spec, loss_steps, "sum", disagreements)


@every_cell
@every_depth
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_masks_agree_with_autograd(kind, depth, reduction, disagreements):
    loss = {"mean": "cross_entropy", "sum": "mse"}[reduction]
    peer = Peer(kind, loss, depth, seed=2)
    mask = np.random.default_rng(2).random((T, B)) < 0.3
    mask[2, :] = True
    state, predictions = peer.start, []
    for t in range(1, T + 1):
        state = peer.keep(t, peer.step(t, state))
        predictions.append(peer.predict(state))
    value = masked_loss(loss, torch.stack(predictions), peer.targets, torch.tensor(mask), reduction)
    value.backward()
    g = peer.backprop(mask=mask, reduction=reduction)
    assert_agrees(g, value.item(), peer.norms(), peer.gradients(), disagreements)


# --- PyTorch's modules, and parameters by their names ----------------------------------------------------------------


class Net(torch.nn.Module):
    """What a PyTorch user writes."""

    def __init__(self, kind, depth):
        super().__init__()
        module, options = MODULES[kind]
        self.rnn = module(M, n, num_layers=depth, dtype=torch.float64, **options)
        self.readout = torch.nn.Linear(n, P, dtype=torch.float64)

    def forward(self, x, start):
        states, _ = self.rnn(x, start)
        return self.readout(states)


def start_of(peer):
    """The initial state as PyTorch's modules take it: (layers, B, n) from the bottom up, for LSTM a pair of them."""
    layers = peer.start.split(peer.cell.state_size // peer.depth, dim=1)[::-1]
    parts = tuple(torch.stack(part) for part in zip(*(layer.split(n, dim=1) for layer in layers), strict=True))
    return parts if len(parts) > 1 else parts[0]


@every_module
@every_loss
@every_depth
def test_modules_of_torch_with_converted_parameters_agree(kind, loss, depth, disagreements):
    peer = Peer(kind, loss, depth, seed=3)
    net = Net(kind, depth)
    state = {name: torch.tensor(array) for name, array in to_torch(peer.cell, peer.params).items()}
    net.load_state_dict(state)
    value = whole_loss(loss, net(peer.inputs, start_of(peer)), peer.targets)
    value.backward()
    grads = {name: leaf.grad.numpy() for name, leaf in net.named_parameters()}
    g = peer.backprop(loss_steps="all")
    np.testing.assert_allclose(g.loss, value.item(), rtol=1e-12)
    for name, gradient in to_torch(peer.cell, g.params).items():
        if "b_h" in peer.params and "bias_hh" in name:  # the sum of both biases is one parameter here
            gradient = g.params[name.replace("rnn.bias_hh_l0", "b_h").replace("rnn.bias_hh", "b_h")]
        disagreements.append(relative(gradient, grads[name]))
        np.testing.assert_allclose(gradient, grads[name], rtol=1e-9, atol=1e-13 * np.abs(grads[name]).max())


@every_module
@every_depth
def test_parameters_of_torchs_modules_give_the_same_loss_here(kind, depth):
    torch.manual_seed(4)
    peer, net = Peer(kind, "mse", depth), Net(kind, depth)
    peer.params = from_torch(peer.cell, net.state_dict())
    with torch.no_grad():
        expected = whole_loss("mse", net(peer.inputs, start_of(peer)), peer.targets).item()
    np.testing.assert_allclose(peer.backprop(loss_steps="all").loss, expected, rtol=1e-12)


@every_module
@every_depth
def test_round_trips_lose_nothing(kind, depth):
    peer, net = Peer(kind, "mse", depth), Net(kind, depth)
    there = to_torch(peer.cell, peer.params)
    assert {name: array.shape for name, array in there.items()} == {
        name: tuple(tensor.shape) for name, tensor in net.state_dict().items()
    }
    for name, array in from_torch(peer.cell, there).items():
        np.testing.assert_array_equal(array, peer.params[name], err_msg=name)
    back = to_torch(peer.cell, from_torch(peer.cell, net.state_dict()))
    for name, tensor in net.state_dict().items():
        if "b_h" in peer.params and "bias_ih" in name:
            tensor = tensor + net.state_dict()[name.replace("_ih", "_hh")]
        if not ("b_h" in peer.params and "bias_hh" in name):
            np.testing.assert_array_equal(back[name], tensor.numpy(), err_msg=name)


def test_names_may_have_other_prefixes():
    cell = gs.cell("gru", **SIZES)
    params = cell.init(seed=0, spectral_radius=1.0)
    bare = to_torch(cell, params, rnn="", readout="head.")
    module = torch.nn.GRU(M, n, dtype=torch.float64)
    module.load_state_dict({name: torch.tensor(bare[name]) for name in module.state_dict()})
    assert {"head.weight", "head.bias"} < set(bare)
    assert set(from_torch(cell, bare, rnn="", readout="head.")) == set(params)


def test_tensors_of_other_precisions_and_with_gradients_are_taken():
    cell, net = gs.cell("lstm", **SIZES), Net("lstm", 1)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        state = {name: tensor.to(dtype).requires_grad_() for name, tensor in net.state_dict().items()}
        found = from_torch(cell, state)["W_hh"]
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, state["rnn.weight_hh_l0"].detach().double().numpy())


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: without(state, "rnn.bias_hh_l0"), r"state: missing: rnn\.bias_hh_l0; allowed: .*weight_ih_l0"),
        (lambda state: state | {"rnn.weight_ih_l1": 0}, r"state: unknown: rnn\.weight_ih_l1"),
        (lambda state: state | {"readout.bias": np.zeros(7)}, r"readout\.bias: shape \(7,\); allowed: shape \(3,\)"),
        (lambda state: state | {"readout.bias": np.full(P, np.nan)}, r"b_y: 3 value\(s\) not finite"),
        (
            lambda state: state | {"readout.bias": np.array(["a"] * P)},
            r"readout\.bias: dtype <U1; allowed: real numbers",
        ),
        (lambda state: list(state), "state: a list; allowed: a mapping"),
    ],
)
def test_state_that_is_not_the_cells_is_refused(change, message):
    cell = gs.cell("gru", **SIZES)
    with pytest.raises(gs.InputError, match=message):
        from_torch(cell, change(to_torch(cell, cell.init(seed=0, spectral_radius=1.0))))


def test_parameters_that_are_not_the_cells_are_refused():
    cell = gs.cell("gru", **SIZES)
    with pytest.raises(gs.InputError, match="params: missing or unknown: b_xh"):
        to_torch(cell, without(cell.init(seed=0, spectral_radius=1.0), "b_xh"))


@pytest.mark.parametrize("depth", [1, 2])
def test_cell_that_torch_has_not_is_refused(depth):
    cell = gs.cell("diagonal", **SIZES, num_layers=depth)
    with pytest.raises(gs.InputError, match=r"cell: .*nu_log.*PyTorch has no such cell"):
        to_torch(cell, cell.init(seed=0, spectral_radius=0.9, ensemble="ring"))
    with pytest.raises(gs.InputError, match=r"cell: .*nu_log.*PyTorch has no such cell"):
        from_torch(cell, {})
