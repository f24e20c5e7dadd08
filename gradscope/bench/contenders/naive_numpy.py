"""NumPy as one writes it by hand: one loop forward and one backward for each run, after Karpathy's min-char-rnn.

Every network and every case is run by itself. `fixed:TAU` has a forward loop in common and a backward loop of TAU steps
for each step's loss.

Source: A. Karpathy (2015), min-char-rnn.py, https://gist.github.com/karpathy/d4dee566867f8291f086
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from gradscope.bench.workload import GRADIENTS, Answer, Answers, Case, Network, Workload
from gradscope.recurrence import Parameters
from gradscope.scaled import Floats

TITLE = "NumPy, a loop for each run (min-char-rnn)"
NEEDS: tuple[str, ...] = ()
TRUNCATIONS = ("full", "chunked", "random", "fixed")
State = tuple[Floats, ...]  # h, (B, n), and what else goes on from step to step; or gradients with respect to these


class Forward(NamedTuple):
    """What a loop forward leaves: the states' parts, (T+1, B, n) each, h first; what each step keeps, (T, B, ...)."""

    states: State
    kept: State = ()


def supports(workload: Workload) -> bool:
    """Whether the cell and every truncation of the workload are written here."""
    written = all(case.truncation.partition(":")[0] in TRUNCATIONS for case in workload.cases)
    return workload.cell in CELLS and written


def prepare(workload: Workload, networks: int) -> Callable[[Sequence[Network]], Answers]:  # noqa: ARG001
    """Nothing to get ready."""

    def run(batch: Sequence[Network]) -> Answers:
        return [measure(workload.cell, network, workload.cases) for network in batch]

    return run


def measure(cell: str, network: Network, cases: Sequence[Case]) -> dict[Case, Answer]:
    """All cases of a network, one after the other."""
    runs = {case: gradients_of(cell, network, case) for case in cases}
    answers = {}
    for case, (dh, gradients) in runs.items():
        full = runs[case._replace(truncation="full")][1]
        norms = {name: float(np.linalg.norm(gradient)) for name, gradient in gradients.items()}
        answers[case] = Answer(np.linalg.norm(dh, axis=-1), norms, *compared(gradients, full))
    return answers


def gradients_of(cell: str, network: Network, case: Case) -> tuple[Floats, Parameters]:
    """Each example's dL_b/dh_t, (T, B, n), and the gradients of the mean over examples."""
    forward, step_back = CELLS[cell]
    name, _, tau = case.truncation.partition(":")
    x, y = network.x[: case.seq_len], network.y[: case.seq_len]
    run = forward(network.params, x)
    douts = readout(network.params, run.states[0], y, case.loss_steps)
    gradients = {name: np.zeros_like(network.params[name]) for name in GRADIENTS[cell]}
    back, nothing = partial(step_back, network.params, x, run, gradients), [np.zeros_like(s[0]) for s in run.states]
    if name == "fixed":
        dhs = windows(back, douts, nothing, int(tau))
    else:
        dhs = backward(back, douts, nothing, gates(case, network.coins))
    return dhs, {name: gradient / x.shape[1] for name, gradient in gradients.items()}


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


def backward(back: Callable[..., State], douts: Floats, onward: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """One loop back over all steps."""
    dhs = np.empty_like(douts)
    for t in reversed(range(len(douts))):
        dh, *others = (weights[t] * part for part in onward)
        dhs[t] = douts[t] + dh
        onward = back(t, dhs[t], *others)
    return dhs


def windows(back: Callable[..., State], douts: Floats, nothing: Sequence[Floats], tau: int) -> Floats:
    """A loop back over the last tau steps for each step that has a loss."""
    dhs = np.zeros_like(douts)
    for s in range(len(douts)):
        if not douts[s].any():
            continue
        state = (douts[s], *nothing[1:])
        for t in range(s, max(s - tau, -1), -1):
            dhs[t] += state[0]
            state = back(t, *state)
    return dhs


# --- cells: a loop forward, and one step's part of the gradients, summed over examples, and of what reaches its past --


def elman(params: Parameters, x: Floats) -> Forward:
    """h = tanh(W_xh x + W_hh h + b_h)."""
    T, B, _ = x.shape
    hs = np.zeros((T + 1, B, len(params["b_h"])), x.dtype)
    for t in range(T):
        hs[t + 1] = np.tanh(x[t] @ params["W_xh"].T + hs[t] @ params["W_hh"].T + params["b_h"])
    return Forward((hs,))


def elman_back(params: Parameters, x: Floats, run: Forward, gradients: Parameters, t: int, dh: Floats) -> State:
    """From dL/dh_t."""
    (hs,) = run.states
    dz = (1 - hs[t + 1] * hs[t + 1]) * dh
    gradients["W_xh"] += dz.T @ x[t]
    gradients["W_hh"] += dz.T @ hs[t]
    gradients["b_h"] += dz.sum(axis=0)
    return (dz @ params["W_hh"],)


def lstm(params: Parameters, x: Floats) -> Forward:
    """c = f c + i g, h = o tanh(c); keeps i, f, g and o."""
    T, B, _ = x.shape
    n = params["W_hh"].shape[1]
    hs, cs = np.zeros((T + 1, B, n), x.dtype), np.zeros((T + 1, B, n), x.dtype)
    gates, bias = np.empty((T, B, 4 * n), x.dtype), params["b_xh"] + params["b_hh"]
    for t in range(T):
        z = x[t] @ params["W_xh"].T + hs[t] @ params["W_hh"].T + bias
        gates[t] = sigmoid(z)
        gates[t, :, 2 * n : 3 * n] = np.tanh(z[:, 2 * n : 3 * n])
        i, f, g, o = np.split(gates[t], 4, axis=1)
        cs[t + 1] = f * cs[t] + i * g
        hs[t + 1] = o * np.tanh(cs[t + 1])
    return Forward((hs, cs), (gates,))


def lstm_back(
    params: Parameters, x: Floats, run: Forward, gradients: Parameters, t: int, dh: Floats, dc: Floats
) -> State:
    """From dL/dh_t, and what reaches c_t from the step after."""
    (hs, cs), (gates,) = run
    i, f, g, o = np.split(gates[t], 4, axis=1)
    squashed = np.tanh(cs[t + 1])
    dc = dc + dh * o * (1 - squashed * squashed)
    di, df, dg, do = dc * g * i * (1 - i), dc * cs[t] * f * (1 - f), dc * i * (1 - g * g), dh * squashed * o * (1 - o)
    dz = np.concatenate([di, df, dg, do], axis=1)
    gradients["W_xh"] += dz.T @ x[t]
    gradients["W_hh"] += dz.T @ hs[t]
    gradients["b_xh"] += dz.sum(axis=0)
    gradients["b_hh"] += dz.sum(axis=0)
    return dz @ params["W_hh"], dc * f


def gru(params: Parameters, x: Floats) -> Forward:
    """h = (1 - z) k + z h, k = tanh(W_xh x + b_xh + r (W_hh h + b_hh)); keeps r, z, the latter factor and k."""
    T, B, _ = x.shape
    n = params["W_hh"].shape[1]
    hs, gates = np.zeros((T + 1, B, n), x.dtype), np.empty((T, B, 4 * n), x.dtype)
    for t in range(T):
        driven = x[t] @ params["W_xh"].T + params["b_xh"]
        passed = hs[t] @ params["W_hh"].T + params["b_hh"]
        r, z = np.split(sigmoid(driven[:, : 2 * n] + passed[:, : 2 * n]), 2, axis=1)
        candidate = np.tanh(driven[:, 2 * n :] + r * passed[:, 2 * n :])
        gates[t] = np.concatenate([r, z, passed[:, 2 * n :], candidate], axis=1)
        hs[t + 1] = (1 - z) * candidate + z * hs[t]
    return Forward((hs,), (gates,))


def gru_back(params: Parameters, x: Floats, run: Forward, gradients: Parameters, t: int, dh: Floats) -> State:
    """From dL/dh_t."""
    (hs,), (gates,) = run
    r, z, q, candidate = np.split(gates[t], 4, axis=1)
    dk = dh * (1 - z) * (1 - candidate * candidate)
    dr, dz = dk * q * r * (1 - r), dh * (hs[t] - candidate) * z * (1 - z)
    by_x, by_h = np.concatenate([dr, dz, dk], axis=1), np.concatenate([dr, dz, dk * r], axis=1)
    gradients["W_xh"] += by_x.T @ x[t]
    gradients["W_hh"] += by_h.T @ hs[t]
    gradients["b_xh"] += by_x.sum(axis=0)
    gradients["b_hh"] += by_h.sum(axis=0)
    return (by_h @ params["W_hh"] + dh * z,)


def sigmoid(z: Floats) -> Floats:
    """1 / (1 + exp(-z))."""
    return 1 / (1 + np.exp(-z))


CELLS: dict[str, tuple[Callable[..., Forward], Callable[..., State]]] = {
    "elman": (elman, elman_back),
    "lstm": (lstm, lstm_back),
    "gru": (gru, gru_back),
}


def compared(gradients: Parameters, full: Parameters) -> tuple[float, float]:
    """Relative error and cosine of all gradients together."""
    g, g_full = (np.concatenate([gradient.ravel() for gradient in each.values()]) for each in (gradients, full))
    size, size_full = np.linalg.norm(g), np.linalg.norm(g_full)
    return float(np.linalg.norm(g - g_full) / size_full), float(g @ g_full / (size * size_full))
