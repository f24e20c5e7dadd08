"""NumPy as one writes it by hand: one loop forward and one backward for each run, after Karpathy's min-char-rnn.

Every network and every case is run by itself. `fixed:TAU` has a forward loop in common and a backward loop of TAU steps
for each step's loss.

Source: A. Karpathy (2015), min-char-rnn.py, https://gist.github.com/karpathy/d4dee566867f8291f086
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gradscope.bench.workload import Answer, Answers, Case, Network, Workload
from gradscope.recurrence import Parameters
from gradscope.scaled import Floats

TITLE = "NumPy, a loop for each run (min-char-rnn)"
NEEDS: tuple[str, ...] = ()
TRUNCATIONS = ("full", "chunked", "random", "fixed")


def supports(workload: Workload) -> bool:
    """Whether every truncation of the workload is written here."""
    return all(case.truncation.partition(":")[0] in TRUNCATIONS for case in workload.cases)


def prepare(workload: Workload, networks: int) -> Callable[[Sequence[Network]], Answers]:  # noqa: ARG001
    """Nothing to get ready."""

    def run(batch: Sequence[Network]) -> Answers:
        return [measure(network, workload.cases) for network in batch]

    return run


def measure(network: Network, cases: Sequence[Case]) -> dict[Case, Answer]:
    """All cases of a network, one after the other."""
    runs = {case: gradients_of(network, case) for case in cases}
    answers = {}
    for case, (dh, gradients) in runs.items():
        full = runs[case._replace(truncation="full")][1]
        norms = {name: float(np.linalg.norm(gradient)) for name, gradient in gradients.items()}
        answers[case] = Answer(np.linalg.norm(dh, axis=-1), norms, *compared(gradients, full))
    return answers


def gradients_of(network: Network, case: Case) -> tuple[Floats, Parameters]:
    """Each example's dL_b/dh_t, (T, B, n), and the gradients of the mean over examples."""
    name, _, tau = case.truncation.partition(":")
    x, y = network.x[: case.seq_len], network.y[: case.seq_len]
    hs = forward(network.params, x)
    douts = readout(network.params, hs, y, case.loss_steps)
    if name == "fixed":
        return windows(network.params, x, hs, douts, int(tau))
    return backward(network.params, x, hs, douts, gates(case, network.coins))


def forward(params: Parameters, x: Floats) -> Floats:
    """h_0 .. h_T, (T+1, B, n)."""
    T, B, _ = x.shape
    hs = np.zeros((T + 1, B, len(params["b_h"])), x.dtype)
    for t in range(T):
        hs[t + 1] = np.tanh(x[t] @ params["W_xh"].T + hs[t] @ params["W_hh"].T + params["b_h"])
    return hs


def readout(params: Parameters, hs: Floats, y: Floats, loss_steps: str) -> Floats:
    """What reaches each state from its own step's loss, (T, B, n), for examples' own losses."""
    dys = 2 * (hs[1:] @ params["W_hy"].T + params["b_y"] - y)
    if loss_steps == "all":
        return dys @ params["W_hy"] / len(y)
    dys[:-1] = 0
    return dys @ params["W_hy"]


def gates(case: Case, coins: Floats) -> list[float]:
    """What multiplies the gradient on its way back from step t+1 to step t, for t = 1 .. T."""
    name, _, tau = case.truncation.partition(":")
    if name == "chunked":
        return [float(t % int(tau) != 0) for t in range(1, case.seq_len + 1)]
    if name == "random":
        pi = 1 - 1 / float(tau)
        return [1 / pi if coin < pi else 0.0 for coin in coins[: case.seq_len]]
    return [1.0] * case.seq_len


def backward(
    params: Parameters, x: Floats, hs: Floats, douts: Floats, weights: Sequence[float]
) -> tuple[Floats, Parameters]:
    """One loop back over all steps."""
    T, B, _ = x.shape
    gradients = zeros_like(params)
    dhs = np.empty_like(douts)
    dhnext = np.zeros_like(hs[0])
    for t in reversed(range(T)):
        dhs[t] = douts[t] + weights[t] * dhnext
        dhnext = step_back(params, x[t], hs[t], hs[t + 1], dhs[t], gradients)
    return dhs, {name: gradient / B for name, gradient in gradients.items()}


def windows(params: Parameters, x: Floats, hs: Floats, douts: Floats, tau: int) -> tuple[Floats, Parameters]:
    """A loop back over the last tau steps for each step that has a loss."""
    T, B, _ = x.shape
    gradients = zeros_like(params)
    dhs = np.zeros_like(douts)
    for s in range(T):
        if not douts[s].any():
            continue
        dh = douts[s]
        for t in range(s, max(s - tau, -1), -1):
            dhs[t] += dh
            dh = step_back(params, x[t], hs[t], hs[t + 1], dh, gradients)
    return dhs, {name: gradient / B for name, gradient in gradients.items()}


def step_back(params: Parameters, x: Floats, before: Floats, h: Floats, dh: Floats, gradients: Parameters) -> Floats:
    """Add one step's part to the gradients, summed over examples; return what reaches the state before."""
    dz = (1 - h * h) * dh
    gradients["W_xh"] += dz.T @ x
    gradients["W_hh"] += dz.T @ before
    gradients["b_h"] += dz.sum(axis=0)
    return dz @ params["W_hh"]


def zeros_like(params: Parameters) -> Parameters:
    """Gradients of zero for W_xh, W_hh and b_h."""
    return {name: np.zeros_like(params[name]) for name in ("W_xh", "W_hh", "b_h")}


def compared(gradients: Parameters, full: Parameters) -> tuple[float, float]:
    """Relative error and cosine of all gradients together."""
    g, g_full = (np.concatenate([gradient.ravel() for gradient in each.values()]) for each in (gradients, full))
    size, size_full = np.linalg.norm(g), np.linalg.norm(g_full)
    return float(np.linalg.norm(g - g_full) / size_full), float(g @ g_full / (size * size_full))
