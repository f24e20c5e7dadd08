"""Guards agreement with PyTorch's autograd in float64, for networks written the way a PyTorch user writes them."""

import numpy as np
import pytest
import torch
from torch.nn import functional

import gradscope as gs
from gradscope.streams import coins

T, B, N, M, P = 13, 3, 7, 4, 3
F = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "linear": lambda z: z}
LOSS = {"mse": functional.mse_loss, "cross_entropy": functional.cross_entropy}
LOSS_STEPS = {"last": "last", "all": "all", "one": 5, "several": [3, 7, 12]}

every_activation = pytest.mark.parametrize("activation", sorted(F))
every_loss = pytest.mark.parametrize("loss", sorted(LOSS))
every_loss_steps = pytest.mark.parametrize("loss_steps", LOSS_STEPS.values(), ids=LOSS_STEPS)


class Peer:
    """One network and batch, held by PyTorch: parameters are leaves, and each state's gradient is added up in `dh`."""

    def __init__(self, activation, loss, seed=0):
        rng = np.random.default_rng(seed)
        self.cell = gs.cell("elman", hidden_size=N, input_size=M, output_size=P, activation=activation)
        params = self.cell.init(seed=seed, spectral_radius=1.1, ensemble="gaussian", input_scale=1.0)
        self.params = params | {"b_h": 0.1 * rng.standard_normal(N), "b_y": rng.standard_normal(P)}
        self.x, self.h0 = rng.standard_normal((T, B, M)), rng.standard_normal((B, N))
        self.y = rng.standard_normal((T, B, P)) if loss == "mse" else rng.integers(0, P, (T, B))
        self.activation, self.loss_name, self.loss = activation, loss, LOSS[loss]
        self.leaves = {name: torch.tensor(array, requires_grad=True) for name, array in self.params.items()}
        self.inputs, self.start, self.targets = map(torch.tensor, (self.x, self.h0, self.y))
        self.dh = torch.zeros(T, B, N, dtype=torch.float64)

    def step(self, t, h):
        """h_t from h_{t-1}; t is 1-based."""
        W_xh, W_hh, b_h = (self.leaves[name] for name in ("W_xh", "W_hh", "b_h"))
        return F[self.activation](self.inputs[t - 1] @ W_xh.T + h @ W_hh.T + b_h)

    def step_loss(self, t, h):
        return self.loss(h @ self.leaves["W_hy"].T + self.leaves["b_y"], self.targets[t - 1])

    def keep(self, t, h):
        """Add up what arrives at h_t; PyTorch's loss is a mean over the batch, L_b an example's own."""

        def arrived(gradient):
            self.dh[t - 1] += gradient * B

        h.register_hook(arrived)
        return h

    def backprop(self, **options):
        return gs.backprop(self.cell, self.params, self.x, self.y, loss=self.loss_name, h0=self.h0, **options)


def one_based(loss_steps):
    return {"last": [T], "all": list(range(1, T + 1))}.get(str(loss_steps)) or list(np.atleast_1d(loss_steps))


def by_one_loop(peer, steps, between=None):
    """One loop and one backward; `between(t, h)` is what step t+1 gets of h_t: say, h.detach() now and then."""
    h, total = peer.start, 0.0
    for t in range(1, T + 1):
        h = peer.keep(t, peer.step(t, h))
        if t in steps:
            total = total + peer.step_loss(t, h)
        h = between(t, h) if between else h
    total.backward()
    return total.item()


def by_chunks(peer, steps, tau):
    return by_one_loop(peer, steps, lambda t, h: h.detach() if t % tau == 0 else h)


class Gate(torch.autograd.Function):
    """The identity whose gradient is multiplied by `weight`."""

    @staticmethod
    def forward(ctx, h, weight):
        ctx.weight = weight
        return h.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.weight, None


def by_coins(peer, steps, tau, seed, weighted):
    pi, tossed = 1 - 1 / tau, coins([seed], T)[0]
    weight = 1 / pi if weighted else 1.0
    return by_one_loop(peer, steps, lambda t, h: Gate.apply(h, weight if tossed[t - 1] < pi else 0.0))


def by_windows(peer, steps, k1, k2):
    """Every k1 steps, the last k2 steps are run again from a detached state and the last k1 losses sent back."""
    with torch.no_grad():
        states = [peer.start]
        for t in range(1, T + 1):
            states.append(peer.step(t, states[-1]))
    value = 0.0
    for end in range(k1, T + k1, k1):
        first = max(1, end - k2 + 1)
        h, total = states[min(first - 1, T)], torch.zeros((), dtype=torch.float64)
        for t in range(first, min(end, T) + 1):
            h = peer.keep(t, peer.step(t, h))
            if t > end - k1 and t in steps:
                total = total + peer.step_loss(t, h)
        if total.requires_grad:
            total.backward()
        value += total.item()
    return value


TRUNCATIONS = {  # spec -> what PyTorch users do, for given loss steps
    "full": by_one_loop,
    "fixed:1": lambda peer, steps: by_windows(peer, steps, 1, 1),
    "fixed:4": lambda peer, steps: by_windows(peer, steps, 1, 4),
    "fixed:20": lambda peer, steps: by_windows(peer, steps, 1, 20),
    "chunked:5": lambda peer, steps: by_chunks(peer, steps, 5),
    "tbptt:3:7": lambda peer, steps: by_windows(peer, steps, 3, 7),
    "tbptt:2:2": lambda peer, steps: by_windows(peer, steps, 2, 2),
    "tbptt:5:6": lambda peer, steps: by_windows(peer, steps, 5, 6),
    "random:4": lambda peer, steps: by_coins(peer, steps, 4, 2, weighted=True),
    "random-unweighted:4": lambda peer, steps: by_coins(peer, steps, 4, 2, weighted=False),
}


def assert_agrees(g, value, dh, gradients, disagreements):
    """To 1e-9, entry by entry; `atol` is rounding at the size of an array's largest entry."""
    norms = np.linalg.norm(dh, axis=-1)
    reached = norms > 0
    disagreements += [abs(g.loss / value - 1), np.abs(10 ** g.log10_dh[reached] / norms[reached] - 1).max()]
    disagreements += [relative(g.params[name], expected) for name, expected in gradients.items()]
    np.testing.assert_allclose(g.loss, value, rtol=1e-9)
    np.testing.assert_allclose(10**g.log10_dh, norms, rtol=1e-9)
    for name, expected in gradients.items():
        atol = 1e-13 * np.abs(expected).max()
        np.testing.assert_allclose(g.params[name], expected, rtol=1e-9, atol=atol, err_msg=name)


def relative(found, expected):
    """Norm of the difference over the norm."""
    return np.linalg.norm(found - expected) / (np.linalg.norm(expected) or 1.0)


@every_activation
@every_loss
@every_loss_steps
@pytest.mark.parametrize("spec", TRUNCATIONS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_agrees_with_autograd(activation, loss, loss_steps, spec, reduction, disagreements):
    peer = Peer(activation, loss)
    steps = one_based(loss_steps)
    value = TRUNCATIONS[spec](peer, steps)
    share = 1 / len(steps) if reduction == "mean" else 1.0
    gradients = {name: share * leaf.grad.numpy() for name, leaf in peer.leaves.items() if leaf.grad is not None}
    g = peer.backprop(loss_steps=loss_steps, truncation=spec, reduction=reduction, seed=2)
    assert set(gradients) == set(peer.params)
    assert_agrees(g, share * value, share * peer.dh.numpy(), gradients, disagreements)


@every_loss
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_agrees_with_the_layers_of_torch_nn(nonlinearity, loss, disagreements):
    peer = Peer(nonlinearity, loss, seed=1)
    rnn = torch.nn.RNN(M, N, nonlinearity=nonlinearity, dtype=torch.float64)
    readout = torch.nn.Linear(N, P, dtype=torch.float64)
    layers = {"W_xh": rnn.weight_ih_l0, "W_hh": rnn.weight_hh_l0, "b_h": rnn.bias_hh_l0}
    layers |= {"W_hy": readout.weight, "b_y": readout.bias}
    with torch.no_grad():
        rnn.bias_ih_l0.zero_()
        for name, leaf in layers.items():
            leaf.copy_(torch.tensor(peer.params[name]))
    states, _ = rnn(peer.inputs, peer.start[None])
    value = whole_loss(loss, readout(states), peer.targets)
    value.backward()
    gradients = {name: leaf.grad.numpy() for name, leaf in layers.items()}
    by_one_loop(peer, one_based("all"))
    assert_agrees(peer.backprop(loss_steps="all"), value.item(), peer.dh.numpy() / T, gradients, disagreements)


def whole_loss(loss, yhat, targets):
    """torch.nn.functional with default arguments over all steps and examples at once."""
    if loss == "mse":
        return functional.mse_loss(yhat, targets)
    return functional.cross_entropy(yhat.reshape(-1, yhat.shape[-1]), targets.reshape(-1))


@every_activation
@every_loss
def test_mean_over_all_steps_is_the_functional_loss_with_default_arguments(activation, loss):
    peer = Peer(activation, loss, seed=3)
    with torch.no_grad():
        h, predictions = peer.start, []
        for t in range(1, T + 1):
            h = peer.step(t, h)
            predictions.append(h @ peer.leaves["W_hy"].T + peer.leaves["b_y"])
        expected = whole_loss(loss, torch.stack(predictions), peer.targets).item()
    np.testing.assert_allclose(peer.backprop(loss_steps="all", reduction="mean").loss, expected, rtol=1e-12)


def test_agrees_where_sigmoids_are_nearly_off(disagreements):
    peer = Peer("sigmoid", "mse", seed=4)
    peer.params["b_h"] -= 25.0
    with torch.no_grad():
        peer.leaves["b_h"] -= 25.0
    value = by_one_loop(peer, [T])
    gradients = {name: leaf.grad.numpy() for name, leaf in peer.leaves.items()}
    assert_agrees(peer.backprop(), value, peer.dh.numpy(), gradients, disagreements)


def clipped_by_torch(gradients, clip):
    """Gradients after one of torch.nn.utils' functions, which work in place on leaves."""
    leaves = [torch.zeros(array.shape, dtype=torch.float64) for array in gradients.values()]
    for leaf, array in zip(leaves, gradients.values(), strict=True):
        leaf.grad = torch.tensor(array)
    norm = clip(leaves)
    return {name: leaf.grad.numpy() for name, leaf in zip(gradients, leaves, strict=True)}, norm


@pytest.mark.parametrize("share", [1e-3, 0.5, 0.999, 2.0])
def test_clip_by_norm_agrees_with_torch(share, disagreements):
    g = Peer("tanh", "mse").backprop(loss_steps="all")
    norm = np.sqrt(sum(np.sum(array**2) for array in g.params.values()))
    expected, seen = clipped_by_torch(g.params, lambda leaves: torch.nn.utils.clip_grad_norm_(leaves, share * norm))
    found = gs.clip(g, share * norm)
    np.testing.assert_allclose(10**found.log10_norm, seen.item(), rtol=1e-12)
    for name, array in expected.items():
        own = found.params[name] if share > 1 else found.params[name] / (1 + 1e-6 / norm)  # its norm is norm + 1e-6
        disagreements.append(relative(own, array))
        np.testing.assert_allclose(own, array, rtol=1e-12, err_msg=name)
    assert found.clipped == (share < 1)


@pytest.mark.parametrize("threshold", [1e-4, 0.01, 0.1, 100.0])
def test_clip_by_value_agrees_with_torch(threshold, disagreements):
    g = Peer("relu", "cross_entropy").backprop(loss_steps="all")
    expected, _ = clipped_by_torch(g.params, lambda leaves: torch.nn.utils.clip_grad_value_(leaves, threshold))
    found = gs.clip(g, threshold, by="value")
    for name, array in expected.items():
        disagreements.append(relative(found.params[name], array))
        np.testing.assert_array_equal(found.params[name], array, err_msg=name)


@pytest.mark.parametrize("threshold", [1e-3, 0.1])
def test_clip_of_each_parameter_alone_agrees_with_torch(threshold, disagreements):
    g = Peer("tanh", "mse", seed=5).backprop(loss_steps="all")
    found = gs.clip(g, threshold, joint=False)
    for name, array in g.params.items():
        expected, norm = clipped_by_torch({name: array}, lambda leaf: torch.nn.utils.clip_grad_norm_(leaf, threshold))
        own = found.params[name] / (1 + 1e-6 / norm.item()) if norm > threshold else found.params[name]
        disagreements.append(relative(own, expected[name]))
        np.testing.assert_allclose(own, expected[name], rtol=1e-12, err_msg=name)
