"""PyTorch in eager mode as its users write it: a loop over the steps for each run, `detach`, `retain_grad`, `backward`.

`torch.nn.RNN` gives no gradients of the states, hence the loop. Networks are run several at a time by batched products,
which is quicker than one by one. `chunked` detaches the state between chunks, `random` weights what goes back by a
hook; `fixed` runs the last TAU steps before each loss again from the detached state and sends that loss back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradscope.bench.workload import GRADIENTS, Answer, Answers, Case, Network, Workload

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "PyTorch, eager"
NEEDS: tuple[str, ...] = ("torch",)
TRUNCATIONS = ("full", "chunked", "random", "fixed")


def supports(workload: Workload) -> bool:
    """Whether every truncation of the workload is written here."""
    return all(case.truncation.partition(":")[0] in TRUNCATIONS for case in workload.cases)


def prepare(workload: Workload, networks: int) -> Callable[[Sequence[Network]], Answers]:  # noqa: ARG001
    """Nothing to get ready: the race sets the number of threads by OMP_NUM_THREADS, before PyTorch is imported."""

    def run(batch: Sequence[Network]) -> Answers:
        found = {case: Run(batch, case).gradients() for case in workload.cases}
        answers = {case: answers_of(*own, found[case._replace(truncation="full")][1]) for case, own in found.items()}
        return [{case: of_all[c] for case, of_all in answers.items()} for c in range(len(batch))]

    return run


class Run:
    """One case of C networks: parameters as leaves, and dL_b/dh_t (C, T, B, n) as it arrives."""

    def __init__(self, networks: Sequence[Network], case: Case):
        import torch

        def leaf(name: str) -> Tensor:
            return torch.from_numpy(np.stack([network.params[name] for network in networks])).requires_grad_()

        self.case = case
        self.leaves = {name: leaf(name) for name in GRADIENTS}
        self.W_hy, self.b_y = (leaf(name).detach() for name in ("W_hy", "b_y"))
        self.x = torch.from_numpy(np.stack([network.x[: case.seq_len] for network in networks]))
        self.y = torch.from_numpy(np.stack([network.y[: case.seq_len] for network in networks]))
        self.coins = torch.from_numpy(np.stack([network.coins for network in networks]))

    def gradients(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Norms of the states' gradients (C, T, B), and the gradients of the mean over examples by name."""
        import torch

        B = self.x.shape[2]
        dh = self.by_windows() if self.case.truncation.startswith("fixed") else self.by_one_loop()
        return torch.linalg.vector_norm(dh, dim=-1), {name: leaf.grad / B for name, leaf in self.leaves.items()}

    def drive(self) -> Tensor:
        """W_xh x_t + b_h for all steps, (C, T, B, n): one product, in the graph."""
        C, T, B, m = self.x.shape
        product = self.leaves["b_h"][:, None].baddbmm(self.x.view(C, T * B, m), self.leaves["W_xh"].mT)
        return product.view(C, T, B, -1)

    def step_loss(self, t: int, h: Tensor) -> Tensor:
        """The loss at step t (0-based), summed over networks and examples."""
        residual = self.b_y[:, None].baddbmm(h, self.W_hy.mT) - self.y[:, t]
        terms = self.case.seq_len if self.case.loss_steps == "all" else 1
        return residual.square().sum() / terms

    def by_one_loop(self) -> Tensor:
        """Forward, one backward for all losses."""
        import torch

        name, _, tau = self.case.truncation.partition(":")
        T, W_hh = self.case.seq_len, self.leaves["W_hh"].mT
        states: list[Tensor] = []
        total: Any = 0.0
        h = torch.zeros_like(self.drive()[:, 0])
        for t, drive in enumerate(self.drive().unbind(1)):
            if name == "chunked" and t % int(tau) == 0:
                h = h.detach()
            elif name == "random" and t:
                h = gated(h, self.coins[:, t - 1], float(tau))
            h = drive.baddbmm(h, W_hh).tanh()
            h.retain_grad()
            states.append(h)
            if self.case.loss_steps == "all" or t == T - 1:
                total = total + self.step_loss(t, h)
        total.backward()
        return torch.stack([torch.zeros_like(h) if h.grad is None else h.grad for h in states], 1)

    def by_windows(self) -> Tensor:
        """For each loss, the last TAU steps once more from the detached state."""
        import torch

        T, tau, W_hh = self.case.seq_len, int(self.case.truncation.partition(":")[2]), self.leaves["W_hh"].mT
        with torch.no_grad():
            drives = self.drive()
            before = [torch.zeros_like(drives[:, 0])]
            for drive in drives.unbind(1):
                before.append(drive.baddbmm(before[-1], W_hh).tanh())
        dh = torch.zeros_like(drives)
        for s in range(T) if self.case.loss_steps == "all" else [T - 1]:
            first = max(0, s - tau + 1)
            h, states, W_xh = before[first], [], self.leaves["W_xh"].mT
            for t in range(first, s + 1):
                h = (self.leaves["b_h"][:, None].baddbmm(self.x[:, t], W_xh).baddbmm(h, W_hh)).tanh()
                h.retain_grad()
                states.append(h)
            self.step_loss(s, h).backward()
            dh[:, first : s + 1] += torch.stack([h.grad for h in states], 1)
        return dh


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

    g, g_full = (torch.cat([each[name].flatten(1) for name in GRADIENTS], 1) for each in (gradients, full))
    size, size_full = g.norm(dim=1), g_full.norm(dim=1)
    error, cosine = (g - g_full).norm(dim=1) / size_full, torch.linalg.vecdot(g, g_full) / (size * size_full)
    parts = {name: gradients[name].flatten(1).norm(dim=1).tolist() for name in GRADIENTS}
    return [
        Answer(dh, {name: parts[name][c] for name in GRADIENTS}, *compared)
        for c, (dh, *compared) in enumerate(zip(norms.numpy(), error.tolist(), cosine.tolist(), strict=True))
    ]
