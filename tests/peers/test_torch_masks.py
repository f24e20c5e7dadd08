"""Guards masked losses against PyTorch's autograd: packed sequences of different lengths, and any mask."""

import numpy as np
import pytest
import torch
from test_torch import LOSS, Peer, assert_agrees, every_activation, every_loss
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

T, B, N, M, P = 13, 3, 7, 4, 3
LENGTHS = [5, 13, 1]


def masked_loss(loss, yhat, targets, mask, reduction):
    """Mean over examples of the mean, or sum, over the steps of each that count."""
    unreduced = {"mse": lambda: functional.mse_loss(yhat, targets, reduction="none").mean(dim=2)}
    unreduced["cross_entropy"] = lambda: functional.cross_entropy(yhat.movedim(2, 1), targets, reduction="none")
    values = torch.where(mask, unreduced[loss](), 0.0)
    counts = mask.sum(dim=0) if reduction == "mean" else torch.ones(B)
    return (values.sum(dim=0) / counts).mean()


@every_activation
@every_loss
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("seed", range(3))
def test_any_mask_agrees_with_autograd(activation, loss, reduction, seed, disagreements):
    peer = Peer(activation, loss, seed)
    mask = np.random.default_rng(seed).random((T, B)) < 0.3
    mask[seed, :] = True
    h, predictions = peer.start, []
    for t in range(1, T + 1):
        h = peer.keep(t, peer.step(t, h))
        predictions.append(h @ peer.leaves["W_hy"].T + peer.leaves["b_y"])
    value = masked_loss(loss, torch.stack(predictions), peer.targets, torch.tensor(mask), reduction)
    value.backward()
    gradients = {name: leaf.grad.numpy() for name, leaf in peer.leaves.items()}
    g = peer.backprop(mask=mask, reduction=reduction)
    assert_agrees(g, value.item(), peer.dh.numpy(), gradients, disagreements)


@every_loss
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("loss_steps", ["all", "last"])
def test_sequences_of_different_lengths_agree_with_packed_ones(nonlinearity, loss, loss_steps, disagreements):
    peer = Peer(nonlinearity, loss, seed=1)
    rnn = torch.nn.RNN(M, N, nonlinearity=nonlinearity, dtype=torch.float64)
    readout = torch.nn.Linear(N, P, dtype=torch.float64)
    layers = {"W_xh": rnn.weight_ih_l0, "W_hh": rnn.weight_hh_l0, "b_h": rnn.bias_hh_l0}
    layers |= {"W_hy": readout.weight, "b_y": readout.bias}
    with torch.no_grad():
        rnn.bias_ih_l0.zero_()
        for name, leaf in layers.items():
            leaf.copy_(torch.tensor(peer.params[name]))
    packed, last = rnn(pack_padded_sequence(peer.inputs, LENGTHS, enforce_sorted=False), peer.start[None])
    own = list(range(B))
    if loss_steps == "last":  # h_n of each example is the state at its own end
        targets = peer.targets[torch.tensor(LENGTHS) - 1, own]
        value = LOSS[loss](readout(last[0]), targets)
    else:
        states, _ = pad_packed_sequence(packed, total_length=T)
        parts = [LOSS[loss](readout(states[:n, b]), peer.targets[:n, b]) for b, n in enumerate(LENGTHS)]
        value = sum(parts) / B
    value.backward()
    inside = np.arange(T)[:, None] < LENGTHS
    mask = inside if loss_steps == "all" else np.arange(1, T + 1)[:, None] == LENGTHS
    peer.x[~inside] = 1e100
    g = peer.backprop(mask=mask)
    np.testing.assert_allclose(g.loss, value.item(), rtol=1e-12)
    for name, leaf in layers.items():
        expected = leaf.grad.numpy()
        disagreements.append(np.linalg.norm(g.params[name] - expected) / np.linalg.norm(expected))
        np.testing.assert_allclose(g.params[name], expected, rtol=1e-9, atol=1e-13 * np.abs(expected).max())
