"""Guards agreement of the optimisers with torch.optim, step for step."""

import numpy as np
import pytest
import torch

from gradscope.optimizer import begin
from gradscope.optimizers import optimizer

PEERS = {
    "sgd": lambda leaves, rate: torch.optim.SGD(leaves, lr=rate),
    "momentum": lambda leaves, rate: torch.optim.SGD(leaves, lr=rate, momentum=0.9),
    "momentum:0.5": lambda leaves, rate: torch.optim.SGD(leaves, lr=rate, momentum=0.5),
    "adam": lambda leaves, rate: torch.optim.Adam(leaves, lr=rate),
    "adam:0.8:0.9:0.0001": lambda leaves, rate: torch.optim.Adam(leaves, lr=rate, betas=(0.8, 0.9), eps=1e-4),
    # PyTorch's epsilon stands beside the root; without one to speak of, it is the same.
    "adagrad:1e-300": lambda leaves, rate: torch.optim.Adagrad(leaves, lr=rate, eps=1e-150),
}


@pytest.mark.parametrize("spec", PEERS)
@pytest.mark.parametrize("rate", [1e-3, 0.3])
def test_agrees_with_torch_optim(spec, rate, disagreements):
    rng = np.random.default_rng(0)
    values, gradients = rng.standard_normal((4, 6)), rng.standard_normal((100, 4, 6)) * 10.0 ** rng.integers(-3, 3)
    leaf = torch.tensor(values, requires_grad=True)
    peer, member, slots = PEERS[spec]([leaf], rate), optimizer(spec), begin(optimizer(spec), values)
    for number, gradient in enumerate(gradients, 1):
        leaf.grad = torch.tensor(gradient)
        peer.step()
        member.step(values, gradient.copy(), slots, np.full((4, 1), rate), number, np.empty_like(values))
        expected = leaf.detach().numpy()
        disagreements.append(np.linalg.norm(values - expected) / np.linalg.norm(expected))
        np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-13)
