"""PyTorch in eager mode as its users write it: a loop over the steps for each run, `detach`, `retain_grad`, `backward`.

`torch.nn.RNN` gives no gradients of the states, hence the loop. Networks are run several at a time by batched products,
which is quicker than one by one. `chunked` detaches the state between chunks, `random` weights what goes back by a
hook; `fixed` runs the last TAU steps before each loss again from the detached state and sends that loss back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradscope.bench.workload import GRADIENTS, Answer, Answers, Case, Network, Workload

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "PyTorch, eager"
NEEDS: tuple[str, ...] = ("torch",)
TRUNCATIONS = ("full", "chunked", "random", "fixed")


def supports(workload: Workload) -> bool:
    """Whether the cell and every truncation of the workload are written here."""
    written = all(case.truncation.partition(":")[0] in TRUNCATIONS for case in workload.cases)
    return workload.cell in CELLS and written


def prepare(workload: Workload, networks: int) -> Callable[[Sequence[Network]], Answers]:  # noqa: ARG001
    """Nothing to get ready: the race sets the number of threads by OMP_NUM_THREADS, before PyTorch is imported."""

    def run(batch: Sequence[Network]) -> Answers:
        found = {case: Run(workload.cell, batch, case).gradients() for case in workload.cases}
        answers = {case: answers_of(*own, found[case._replace(truncation="full")][1]) for case, own in found.items()}
        return [{case: of_all[c] for case, of_all in answers.items()} for c in range(len(batch))]

    return run


class Run:
    """One case of C networks: parameters as leaves, and dL_b/dh_t (C, T, B, n) as it arrives."""

    def __init__(self, cell: str, networks: Sequence[Network], case: Case):
        import torch

        def leaf(name: str) -> Tensor:
            return torch.from_numpy(np.stack([network.params[name] for network in networks])).requires_grad_()

        self.case = case
        self.leaves = {name: leaf(name) for name in GRADIENTS[cell]}
        self.cell = CELLS[cell](self.leaves)
        self.W_hy, self.b_y = (leaf(name).detach() for name in ("W_hy", "b_y"))
        self.x = torch.from_numpy(np.stack([network.x[: case.seq_len] for network in networks]))
        self.y = torch.from_numpy(np.stack([network.y[: case.seq_len] for network in networks]))
        self.coins = torch.from_numpy(np.stack([network.coins for network in networks]))
        self.start = (self.x.new_zeros(len(networks), self.x.shape[2], self.W_hy.shape[2]),) * self.cell.parts

    def gradients(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Norms of the states' gradients (C, T, B), and the gradients of the mean over examples by name."""
        import torch

        B = self.x.shape[2]
        dh = self.by_windows() if self.case.truncation.startswith("fixed") else self.by_one_loop()
        return torch.linalg.vector_norm(dh, dim=-1), {name: leaf.grad / B for name, leaf in self.leaves.items()}

    def drive(self) -> Tensor:
        """W_xh x_t and the bias for all steps, (C, T, B, W): one product, in the graph."""
        C, T, B, m = self.x.shape
        product = self.cell.bias[:, None].baddbmm(self.x.view(C, T * B, m), self.leaves["W_xh"].mT)
        return product.view(C, T, B, -1)

    def step(self, drive: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The state after a step."""
        after: tuple[Tensor, ...] = self.cell.state(self.cell.currents(drive, state[0]), *state)
        return after

    def step_loss(self, t: int, h: Tensor) -> Tensor:
        """The loss at step t (0-based), summed over networks and examples."""
        residual = self.b_y[:, None].baddbmm(h, self.W_hy.mT) - self.y[:, t]
        terms = self.case.seq_len if self.case.loss_steps == "all" else 1
        return residual.square().sum() / terms

    def by_one_loop(self) -> Tensor:
        """Forward, one backward for all losses."""
        import torch

        name, _, tau = self.case.truncation.partition(":")
        T = self.case.seq_len
        states: list[Tensor] = []
        total: Any = 0.0
        state = self.start
        for t, drive in enumerate(self.drive().unbind(1)):
            if name == "chunked" and t % int(tau) == 0:
                state = tuple(part.detach() for part in state)
            elif name == "random" and t:
                state = tuple(gated(part, self.coins[:, t - 1], float(tau)) for part in state)
            state = self.step(drive, state)
            h = state[0]
            h.retain_grad()
            states.append(h)
            if self.case.loss_steps == "all" or t == T - 1:
                total = total + self.step_loss(t, h)
        total.backward()
        return torch.stack([torch.zeros_like(h) if h.grad is None else h.grad for h in states], 1)

    def by_windows(self) -> Tensor:
        """For each loss, the last TAU steps once more from the detached state."""
        import torch

        T, tau = self.case.seq_len, int(self.case.truncation.partition(":")[2])
        with torch.no_grad():
            before = [self.start]
            for drive in self.drive().unbind(1):
                before.append(self.step(drive, before[-1]))
        dh = self.x.new_zeros(*self.x.shape[:3], self.W_hy.shape[2])
        for s in range(T) if self.case.loss_steps == "all" else [T - 1]:
            first = max(0, s - tau + 1)
            state, states, W_xh = before[first], [], self.leaves["W_xh"].mT
            for t in range(first, s + 1):
                state = self.step(self.cell.bias[:, None].baddbmm(self.x[:, t], W_xh), state)
                state[0].retain_grad()
                states.append(state[0])
            self.step_loss(s, states[-1]).backward()
            dh[:, first : s + 1] += torch.stack([h.grad for h in states], 1)
        return dh


class Elman:
    """h = tanh(drive + W_hh h); `bias` is what the drive consists of beside W_xh x."""

    parts = 1  # of the state

    def __init__(self, params: Mapping[str, Tensor]):
        self.W_hh, self.bias = params["W_hh"].mT, params["b_h"]

    def currents(self, drive: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """What weights are multiplied to, (C, B, .) each."""
        return (drive.baddbmm(h, self.W_hh),)

    def state(self, currents: tuple[Tensor, ...], h: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG002
        """The state after a step, from that before."""
        return (currents[0].tanh(),)


class Lstm:
    """c = f c + i g, h = o tanh(c), the gates by one product.

    Milliseconds for 200 steps of W1-lstm on one core, back included: 45, and one by one by `torch.lstm_cell` 56.
    """

    parts = 2

    def __init__(self, params: Mapping[str, Tensor]):
        self.W_hh, self.bias = params["W_hh"].mT, params["b_xh"] + params["b_hh"]
        n = self.W_hh.shape[1]
        self.sizes = [2 * n, n, n]

    def currents(self, drive: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """What weights are multiplied to, (C, B, .) each."""
        return (drive.baddbmm(h, self.W_hh),)

    def state(self, currents: tuple[Tensor, ...], h: Tensor, c: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG002
        """The state after a step, from that before."""
        gates, g, o = currents[0].split(self.sizes, -1)
        i, f = gates.sigmoid().chunk(2, -1)
        c = (f * c).addcmul(i, g.tanh())
        return o.sigmoid() * c.tanh(), c


class Gru:
    """h = (1 - z) k + z h, k = tanh(drive + r (W_hh h + b_hh)), the gates by one product.

    Milliseconds as for `Lstm`: 30, and one by one by `torch.gru_cell` 47.
    """

    parts = 1

    def __init__(self, params: Mapping[str, Tensor]):
        self.W_hh, self.bias, self.b_hh = params["W_hh"].mT, params["b_xh"], params["b_hh"][:, None]
        n = self.W_hh.shape[1]
        self.sizes = [2 * n, n]

    def currents(self, drive: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """What weights are multiplied to, (C, B, .) each: W_hh, and W_xh."""
        return self.b_hh.baddbmm(h, self.W_hh), drive

    def state(self, currents: tuple[Tensor, ...], h: Tensor) -> tuple[Tensor, ...]:
        """The state after a step, from that before."""
        (gates, passed), (gates_drive, k_drive) = (current.split(self.sizes, -1) for current in currents)
        r, z = (gates_drive + gates).sigmoid().chunk(2, -1)
        return (k_drive.addcmul(r, passed).tanh().lerp(h, z),)


CELLS: dict[str, Any] = {"elman": Elman, "lstm": Lstm, "gru": Gru}


def gated(h: Tensor, coins: Tensor, tau: float) -> Tensor:
    """The state as it is; what goes back through it is weighted by 1/pi, or nothing, by each network's coin."""
    pi = 1 - 1 / tau
    weight = ((coins < pi).to(h.dtype) / pi)[:, None, None]
    passed = h.view_as(h)
    if passed.requires_grad:
        passed.register_hook(lambda gradient: gradient * weight)
    return passed


def answers_of(norms: Tensor, gradients: dict[str, Tensor], full: dict[str, Tensor]) -> list[Answer]:
    """Answers of all networks in one case."""
    import torch

    g, g_full = (torch.cat([gradient.flatten(1) for gradient in each.values()], 1) for each in (gradients, full))
    size, size_full = g.norm(dim=1), g_full.norm(dim=1)
    error, cosine = (g - g_full).norm(dim=1) / size_full, torch.linalg.vecdot(g, g_full) / (size * size_full)
    parts = {name: gradient.flatten(1).norm(dim=1).tolist() for name, gradient in gradients.items()}
    return [
        Answer(dh, {name: part[c] for name, part in parts.items()}, *compared)
        for c, (dh, *compared) in enumerate(zip(norms.numpy(), error.tolist(), cosine.tolist(), strict=True))
    ]
