"""PyTorch with what it can share written in by hand: a graph for each truncation, weight gradients by one product.

Networks are run several at a time by batched products; inputs are projected for all steps at once. One graph for each
truncation serves its lengths and its losses (`retain_graph=True`): `chunked` detaches the state between chunks,
`random` weights what goes back by a `lerp` from the detached state. Autograd is asked for the gradients of the states
alone; those of the weights are one product of these with what the states were made of. `fixed` runs the last TAU steps
before each loss again from the detached state, many windows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradscope.bench.workload import Answer, Answers, Case, Network, Workload

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "PyTorch, work shared"
NEEDS: tuple[str, ...] = ("torch",)
TRUNCATIONS = ("full", "chunked", "random", "fixed")
NETWORKS_AT_ONCE = 6
WINDOWS_AT_ONCE = 24  # over all networks


class Stack(NamedTuple):
    """C networks and what goes into their states.

    Attributes
    ----------
    inputs : (C, T, B, m), and `drive`, W_xh x_t + b_h for all steps, (C, T, B, n).
    targets : (C, T, B, 1)
    coins : (T, C, 1, 1)
    W_hh : (C, n, n), transposed; W_hy : (C, 1, n); b_y : (C, 1, 1).
    """

    inputs: Tensor
    drive: Tensor
    targets: Tensor
    coins: Tensor
    W_hh: Tensor
    W_hy: Tensor
    b_y: Tensor


class Forward(NamedTuple):
    """What the backward passes of all truncations need.

    Attributes
    ----------
    states : (C, T, B, n)
    slope : (C, T, B, n), tanh' at each state.
    made_of : (C, T, B, n + m + 1), [h_{t-1} | x_t | 1].
    direct : (C, T, B, n), the gradient of each step's squared errors, one for each example, with respect to its state.
    """

    states: Tensor
    slope: Tensor
    made_of: Tensor
    direct: Tensor


class Gradients(NamedTuple):
    """Norms of the states' gradients (C, T, B), and the gradients [W_hh | W_xh | b_h] (C, n, n + m + 1)."""

    norms: Tensor
    weights: Tensor


def supports(workload: Workload) -> bool:
    """Whether every truncation of the workload is written here."""
    return all(case.truncation.partition(":")[0] in TRUNCATIONS for case in workload.cases)


def prepare(workload: Workload, networks: int) -> Callable[[Sequence[Network]], Answers]:  # noqa: ARG001
    """Nothing to get ready: the race sets the number of threads by OMP_NUM_THREADS, before PyTorch is imported."""

    def run(batch: Sequence[Network]) -> Answers:
        firsts = range(0, len(batch), NETWORKS_AT_ONCE)
        blocks = [stack(batch[first : first + NETWORKS_AT_ONCE]) for first in firsts]
        return [answers for block in blocks for answers in measure(block, workload.cases)]

    return run


def stack(networks: Sequence[Network]) -> Stack:
    """Put networks together and project their inputs."""
    import torch

    params = {name: np.stack([network.params[name] for network in networks]) for name in networks[0].params}
    W_xh, W_hh, b_h, W_hy, b_y = (torch.from_numpy(params[name]) for name in ("W_xh", "W_hh", "b_h", "W_hy", "b_y"))
    inputs, targets = (
        torch.from_numpy(np.stack(each)) for each in zip(*(network[1:3] for network in networks), strict=True)
    )
    coins = torch.from_numpy(np.stack([network.coins for network in networks], axis=1))
    C, T, B, m = inputs.shape
    drive = torch.baddbmm(b_h[:, None], inputs.view(C, T * B, m), W_xh.mT).view(C, T, B, -1)
    return Stack(inputs, drive, targets, coins[..., None, None], W_hh.mT.contiguous(), W_hy, b_y[..., None])


def measure(networks: Stack, cases: Sequence[Case]) -> list[dict[Case, Answer]]:
    """All cases of some networks; a truncation's graph is as long as its longest case."""
    found: dict[Case, Gradients] = {}
    forward = None
    for spec in sorted({case.truncation for case in cases}, key=lambda spec: spec != "full"):
        mine = sorted(case for case in cases if case.truncation == spec)
        if forward is not None and spec.startswith("fixed"):
            found |= by_windows(networks, forward, mine)
            continue
        states = unrolled(networks, mine[-1])
        forward = forward or look_back(networks, states)
        found |= {case: by_graph(forward, states, case) for case in mine}
    answers = {case: answers_of(found[case], found[case._replace(truncation="full")], networks) for case in cases}
    return [{case: of_all[c] for case, of_all in answers.items()} for c in range(len(networks.W_hh))]


def unrolled(networks: Stack, case: Case) -> list[Tensor]:
    """h_1 .. h_T, (C, B, n) each, with their graph. A state that depends on no other is a leaf."""
    name, _, tau = case.truncation.partition(":")
    h = networks.drive[:, 0].tanh().requires_grad_()
    states = [h]
    if name == "random":
        pi = 1 - 1 / float(tau)
        weights = (networks.coins < pi).to(h.dtype) / pi
    for t, drive in enumerate(networks.drive[:, 1 : case.seq_len].unbind(1), start=1):
        if name == "chunked" and t % int(tau) == 0:
            h = h.detach()
        elif name == "random":
            h = h.detach().lerp(h, weights[t - 1])  # the value is h's, whatever the weight
        h = drive.baddbmm(h, networks.W_hh).tanh()
        if not h.requires_grad:
            h.requires_grad_()
        states.append(h)
    return states


def look_back(networks: Stack, states: list[Tensor]) -> Forward:
    """Keep of a graph what does not depend on the truncation."""
    import torch

    hs = torch.stack([torch.zeros_like(states[0]), *states], 1).detach()
    C, T, B, n = hs[:, 1:].shape
    inputs, targets = networks.inputs[:, :T], networks.targets[:, :T]
    made_of = torch.cat([hs[:, :-1], inputs, inputs.new_ones(C, T, B, 1)], -1)
    outputs = hs[:, 1:].reshape(C, T * B, n).requires_grad_()
    predictions = torch.baddbmm(networks.b_y, outputs, networks.W_hy.mT)
    errors = (predictions - targets.reshape(C, T * B, 1)).square().sum()
    (direct,) = torch.autograd.grad(errors, outputs)
    return Forward(hs[:, 1:], 1 - hs[:, 1:].square(), made_of, direct.view(C, T, B, n))


def by_graph(forward: Forward, states: list[Tensor], case: Case) -> Gradients:
    """One pass back through a graph, from the last state or from all of them up to the case's length."""
    import torch

    T = case.seq_len
    every = case.loss_steps == "all"
    first = 0 if every else T - 1
    direct = forward.direct[:, first:T] / T if every else forward.direct[:, first:T]
    arrived = torch.autograd.grad(states[first:T], states[:T], direct.unbind(1), retain_graph=True, allow_unused=True)
    reached = [dh for dh in arrived if dh is not None]
    return finish(forward, torch.stack(reached, 1), T)


def finish(forward: Forward, dh: Tensor, T: int) -> Gradients:
    """Norms and weight gradients from dL_b/dh_t of the last steps up to T, those that the loss reaches."""
    import torch

    C, reached, B, _ = dh.shape
    norms = dh.new_zeros(C, T, B)
    torch.linalg.vector_norm(dh, dim=-1, out=norms[:, T - reached :])
    dz = (forward.slope[:, T - reached : T] * dh).flatten(1, 2)
    return Gradients(norms, dz.mT @ forward.made_of[:, T - reached : T].flatten(1, 2) / B)


def by_windows(networks: Stack, forward: Forward, cases: Sequence[Case]) -> dict[Case, Gradients]:
    """Sliding windows of tau steps; as they do not depend on the length, a longer one adds its own to a shorter's."""
    found = {}
    tau = int(cases[0].truncation.partition(":")[2])
    total, done = pad(forward.states, tau - 1).zero_(), 0
    for case in cases:
        T = case.seq_len
        if case.loss_steps == "all":
            add_windows(networks, forward, tau, range(done, T), total)
            found[case] = finish(forward, total[:, tau - 1 : tau - 1 + T] / T, T)
            done = T
        else:
            alone = forward.states.new_zeros(total.shape)
            add_windows(networks, forward, tau, range(T - 1, T), alone)
            found[case] = finish(forward, alone[:, tau - 1 : tau - 1 + T][:, -tau:], T)
    return found


def add_windows(networks: Stack, forward: Forward, tau: int, losses: range, total: Tensor) -> None:
    """Send the loss at each of these steps back through the last tau; `total` begins at step 2 - tau."""
    import torch

    before, drive = pad(forward.states, tau), pad(networks.drive, tau - 1)  # with drive 0, the state stays 0 until h_1
    C, _, B, n = before.shape
    at_once = max(1, WINDOWS_AT_ONCE // C)
    for a in range(losses.start, losses.stop, at_once):
        b = min(a + at_once, losses.stop)
        late = max(0, tau - b)  # none of these windows reaches farther back
        h = before[:, a + late : b + late].flatten(1, 2)
        states = []
        for k in range(late, tau):
            h = drive[:, a + k : b + k].flatten(1, 2).baddbmm(h, networks.W_hh).tanh()
            states.append(h if h.requires_grad else h.requires_grad_())
            h = states[-1]
        arrived = torch.autograd.grad(h, states, forward.direct[:, a:b].flatten(1, 2))
        for k, dh in enumerate(arrived, start=late):
            total[:, a + k : b + k] += dh.view(C, b - a, B, n)


def pad(steps: Tensor, zeros: int) -> Tensor:
    """Zero steps before the first."""
    C, _, B, n = steps.shape
    import torch

    return torch.cat([steps.new_zeros(C, zeros, B, n), steps], 1)


def answers_of(gradients: Gradients, full: Gradients, networks: Stack) -> list[Answer]:
    """Answers of all networks in one case."""
    import torch

    n, m = networks.W_hh.shape[-1], networks.inputs.shape[-1]
    g, g_full = gradients.weights.flatten(1), full.weights.flatten(1)
    size, size_full = g.norm(dim=1), g_full.norm(dim=1)
    error = (g - g_full).norm(dim=1) / size_full
    cosine = torch.linalg.vecdot(g, g_full) / (size * size_full)
    parts = zip(("W_hh", "W_xh", "b_h"), gradients.weights.split([n, m, 1], -1), strict=True)
    norms = {name: part.flatten(1).norm(dim=1).tolist() for name, part in parts}
    return [
        Answer(dh, {name: norms[name][c] for name in ("W_xh", "W_hh", "b_h")}, *compared)
        for c, (dh, *compared) in enumerate(zip(gradients.norms.numpy(), error.tolist(), cosine.tolist(), strict=True))
    ]
