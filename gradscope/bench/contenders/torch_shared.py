"""PyTorch with what it can share written in by hand: a graph for each truncation, weight gradients by one product.

Networks are run several at a time by batched products; inputs are projected for all steps at once. One graph for each
truncation serves its lengths and its losses (`retain_graph=True`): `chunked` detaches the state between chunks,
`random` weights what goes back by a `lerp` from the detached state. Autograd is asked for the gradients of the states
alone, and in gated cells of what their gates come from; those of the weights are products of these with what the states
were made of. `fixed`, written for the Elman network, runs the last TAU steps
before each loss again from the detached state, many windows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradscope.bench.contenders.torch_eager import CELLS, answers_of
from gradscope.bench.workload import Answer, Answers, Case, Network, Workload

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "PyTorch, work shared"
NEEDS: tuple[str, ...] = ("torch",)
TRUNCATIONS = {"elman": ("full", "chunked", "random", "fixed"), "lstm": ("full", "chunked", "random")}
TRUNCATIONS["gru"] = TRUNCATIONS["lstm"]
# Weights whose gradients are one product, for each of what they are multiplied to.
PRODUCTS = {
    "elman": (("W_hh", "W_xh", "b_h"),),
    "lstm": (("W_hh", "W_xh", "b_xh", "b_hh"),),
    "gru": (("W_hh", "b_hh"), ("W_xh", "b_xh")),
}
NETWORKS_AT_ONCE = 6
WINDOWS_AT_ONCE = 24  # over all networks


class Stack(NamedTuple):
    """C networks and what goes into their states.

    Attributes
    ----------
    name, cell : of the recurrent cell, and a step of it.
    inputs : (C, T, B, m), and `drive`, W_xh x_t and its bias for all steps, (C, T, B, W).
    targets : (C, T, B, 1)
    coins : (T, C, 1, 1)
    W_hy : (C, 1, n); b_y : (C, 1, 1).
    """

    name: str
    cell: Any
    inputs: Tensor
    drive: Tensor
    targets: Tensor
    coins: Tensor
    W_hy: Tensor
    b_y: Tensor


class Product(NamedTuple):
    """Weights whose gradients are one product, and what they are multiplied with, (C, T, B, sum of widths)."""

    names: tuple[str, ...]
    widths: list[int]
    made_of: Tensor


class Graph(NamedTuple):
    """h_1 .. h_T, (C, B, n) each, and what weights are multiplied to in each step, with their graph."""

    states: list[Tensor]
    currents: list[tuple[Tensor, ...]]


class Forward(NamedTuple):
    """What the backward passes of all truncations need.

    Attributes
    ----------
    states : (C, T, B, n)
    slope : (C, T, B, n), tanh' at each state; None in gated cells.
    products : those of weights' gradients.
    direct : (C, T, B, n), the gradient of each step's squared errors, one for each example, with respect to its state.
    """

    states: Tensor
    slope: Tensor | None
    products: list[Product]
    direct: Tensor


class Gradients(NamedTuple):
    """Norms of the states' gradients (C, T, B), and the gradients of the weights by name."""

    norms: Tensor
    weights: dict[str, Tensor]


def supports(workload: Workload) -> bool:
    """Whether the cell and every truncation of the workload are written here."""
    written = TRUNCATIONS.get(workload.cell, ())
    return all(case.truncation.partition(":")[0] in written for case in workload.cases)


def prepare(workload: Workload, networks: int) -> Callable[[Sequence[Network]], Answers]:  # noqa: ARG001
    """Nothing to get ready: the race sets the number of threads by OMP_NUM_THREADS, before PyTorch is imported."""

    def run(batch: Sequence[Network]) -> Answers:
        firsts = range(0, len(batch), NETWORKS_AT_ONCE)
        blocks = [stack(workload.cell, batch[first : first + NETWORKS_AT_ONCE]) for first in firsts]
        return [answers for block in blocks for answers in measure(block, workload.cases)]

    return run


def stack(name: str, networks: Sequence[Network]) -> Stack:
    """Put networks together and project their inputs."""
    import torch

    params = {
        key: torch.from_numpy(np.stack([network.params[key] for network in networks])) for key in networks[0].params
    }
    params["W_hh"] = params["W_hh"].mT.contiguous().mT  # its transpose is what states are multiplied with
    inputs, targets = (
        torch.from_numpy(np.stack(each)) for each in zip(*(network[1:3] for network in networks), strict=True)
    )
    coins = torch.from_numpy(np.stack([network.coins for network in networks], axis=1))
    C, T, B, m = inputs.shape
    cell = CELLS[name](params)
    drive = torch.baddbmm(cell.bias[:, None], inputs.view(C, T * B, m), params["W_xh"].mT).view(C, T, B, -1)
    return Stack(name, cell, inputs, drive, targets, coins[..., None, None], params["W_hy"], params["b_y"][..., None])


def measure(networks: Stack, cases: Sequence[Case]) -> list[dict[Case, Answer]]:
    """All cases of some networks; a truncation's graph is as long as its longest case."""
    found: dict[Case, Gradients] = {}
    forward = None
    for spec in sorted({case.truncation for case in cases}, key=lambda spec: spec != "full"):
        mine = sorted(case for case in cases if case.truncation == spec)
        if forward is not None and spec.startswith("fixed"):
            found |= by_windows(networks, forward, mine)
            continue
        graph = unrolled(networks, mine[-1])
        forward = forward or look_back(networks, graph.states)
        found |= {case: by_graph(forward, graph, case) for case in mine}
    answers = {case: answers_of(*found[case], found[case._replace(truncation="full")].weights) for case in cases}
    return [{case: of_all[c] for case, of_all in answers.items()} for c in range(len(networks.W_hy))]


def unrolled(networks: Stack, case: Case) -> Graph:
    """Forward over the case's steps. What depends on no state with a graph is a leaf."""
    name, _, tau = case.truncation.partition(":")
    C, _, B, _ = networks.inputs.shape
    state = (networks.drive.new_zeros(C, B, networks.W_hy.shape[-1]),) * networks.cell.parts
    graph = Graph([], [])
    if name == "random":
        pi = 1 - 1 / float(tau)
        weights = (networks.coins < pi).to(networks.drive.dtype) / pi
    for t, drive in enumerate(networks.drive[:, : case.seq_len].unbind(1)):
        if name == "chunked" and t % int(tau) == 0:
            state = tuple(part.detach() for part in state)
        elif name == "random" and t:  # the value is the state's, whatever the weight
            state = tuple(part.detach().lerp(part, weights[t - 1]) for part in state)
        currents = networks.cell.currents(drive, state[0])
        for current in currents:
            if not current.requires_grad:
                current.requires_grad_()
        state = networks.cell.state(currents, *state)
        graph.states.append(state[0])
        graph.currents.append(currents)
    return graph


def look_back(networks: Stack, states: list[Tensor]) -> Forward:
    """Keep of a graph what does not depend on the truncation."""
    import torch

    hs = torch.stack([torch.zeros_like(states[0]), *states], 1).detach()
    C, T, B, n = hs[:, 1:].shape
    inputs, targets = networks.inputs[:, :T], networks.targets[:, :T]
    of_matrices, one = {"W_hh": hs[:, :-1], "W_xh": inputs}, inputs.new_ones(C, T, B, 1)
    products = []
    for names in PRODUCTS[networks.name]:
        beside = [of_matrices.get(name, one) for name in names]
        products.append(Product(names, [part.shape[-1] for part in beside], torch.cat(beside, -1)))
    outputs = hs[:, 1:].reshape(C, T * B, n).requires_grad_()
    predictions = torch.baddbmm(networks.b_y, outputs, networks.W_hy.mT)
    errors = (predictions - targets.reshape(C, T * B, 1)).square().sum()
    (direct,) = torch.autograd.grad(errors, outputs)
    slope = 1 - hs[:, 1:].square() if networks.name == "elman" else None
    return Forward(hs[:, 1:], slope, products, direct.view(C, T, B, n))


def by_graph(forward: Forward, graph: Graph, case: Case) -> Gradients:
    """One pass back through a graph, from the last state or from all of them up to the case's length."""
    import torch

    T = case.seq_len
    every = case.loss_steps == "all"
    first = 0 if every else T - 1
    direct = forward.direct[:, first:T] / T if every else forward.direct[:, first:T]
    kinds = [graph.states[:T]]
    if forward.slope is None:
        kinds += [list(kind) for kind in zip(*graph.currents[:T], strict=True)]
    wanted = [tensor for kind in kinds for tensor in kind]
    found = torch.autograd.grad(graph.states[first:T], wanted, direct.unbind(1), retain_graph=True, allow_unused=True)
    arrived = [
        torch.stack([one for one in found[k * T : (k + 1) * T] if one is not None], 1) for k in range(len(kinds))
    ]
    return finish(forward, arrived[0], arrived[1:], T)


def finish(forward: Forward, dh: Tensor, sent: Sequence[Tensor], T: int) -> Gradients:
    """Norms and weight gradients from dL_b/dh_t of the last steps up to T, those that the loss reaches.

    `sent` is what arrives at what weights are multiplied to; without gates it follows from dL_b/dh_t.
    """
    import torch

    C, reached, B, _ = dh.shape
    steps = slice(T - reached, T)
    norms = dh.new_zeros(C, T, B)
    torch.linalg.vector_norm(dh, dim=-1, out=norms[:, steps])
    weights: dict[str, Tensor] = {}
    sent = sent if forward.slope is None else [forward.slope[:, steps] * dh]
    for (names, widths, made_of), dz in zip(forward.products, sent, strict=True):
        product = dz.flatten(1, 2).mT @ made_of[:, steps].flatten(1, 2) / B
        weights |= zip(names, product.split(widths, -1), strict=True)
    return Gradients(norms, weights)


def by_windows(networks: Stack, forward: Forward, cases: Sequence[Case]) -> dict[Case, Gradients]:
    """Sliding windows of tau steps; as they do not depend on the length, a longer one adds its own to a shorter's."""
    found = {}
    tau = int(cases[0].truncation.partition(":")[2])
    total, done = pad(forward.states, tau - 1).zero_(), 0
    for case in cases:
        T = case.seq_len
        if case.loss_steps == "all":
            add_windows(networks, forward, tau, range(done, T), total)
            found[case] = finish(forward, total[:, tau - 1 : tau - 1 + T] / T, (), T)
            done = T
        else:
            alone = forward.states.new_zeros(total.shape)
            add_windows(networks, forward, tau, range(T - 1, T), alone)
            found[case] = finish(forward, alone[:, tau - 1 : tau - 1 + T][:, -tau:], (), T)
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
            h = drive[:, a + k : b + k].flatten(1, 2).baddbmm(h, networks.cell.W_hh).tanh()
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
