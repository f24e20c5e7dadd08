"""A small workload for the benchmark's contenders, what the oracle says of it, and how answers are held to that."""

from __future__ import annotations

import autograd
import autograd.numpy as anp
import numpy as np
from oracles import naive, reach

from gradscope.bench.workload import GRADIENTS, Answer, Case, Network, Workload

N, M, B, LENGTHS = 5, 3, 3, (6, 11)
TRUNCATIONS = ("full", "chunked:2", "chunked:5", "random:3", "fixed:4")
NETWORKS = 3
RTOL = {"float64": 1e-9, "float32": 1e-3}


def workload(dtype: str, truncations: tuple[str, ...] = TRUNCATIONS, cell: str = "elman") -> Workload:
    """Every length, loss and truncation."""
    cases = tuple(Case(T, loss, spec) for T in LENGTHS for loss in ("last", "all") for spec in truncations)
    return Workload("small", N, M, B, radii=(1.0,), seeds=NETWORKS, cases=cases, dtype=dtype, cell=cell)


def network(seed: int, workload: Workload) -> Network:
    """Random parameters, data and coins."""
    rng, dtype = np.random.default_rng(seed), workload.dtype
    shapes = workload.made().shapes()
    params = {name: (0.5 * rng.standard_normal(shape)).astype(dtype) for name, shape in shapes.items()}
    T = max(LENGTHS)
    x, y = (rng.standard_normal((T, B, size)).astype(dtype) for size in (M, 1))
    return Network(params, x, y, rng.random(T).astype(dtype))


def expected(cell: str, network: Network, cases: tuple[Case, ...]) -> dict[Case, Answer]:
    """The oracle's answers, in float64 for the network as it is."""
    oracle = Elman(network) if cell == "elman" else Gated(cell, network)
    found = {case: oracle.gradients(case) for case in cases}
    answers = {}
    for case, (dh, gradients) in found.items():
        full = found[case._replace(truncation="full")][1]
        norms = {name: float(np.linalg.norm(gradients[name])) for name in GRADIENTS[cell]}
        g, g_full = (np.concatenate([each[name].ravel() for name in GRADIENTS[cell]]) for each in (gradients, full))
        size, size_full = np.linalg.norm(g), np.linalg.norm(g_full)
        error, cosine = np.linalg.norm(g - g_full) / size_full, g @ g_full / (size * size_full)
        answers[case] = Answer(np.linalg.norm(dh, axis=-1), norms, float(error), float(cosine))
    return answers


class Elman:
    """A network in float64, by the oracle of the engine's own tests."""

    def __init__(self, network: Network):
        self.coins, self.x, self.y = network.coins, network.x.astype(float), network.y.astype(float)
        self.params = {name: array.astype(float) for name, array in network.params.items()}

    def gradients(self, case: Case) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """dL_b/dh_t (T, B, n), and the gradients of the mean over examples."""
        T, steps = case.seq_len, steps_of(case)
        weights = reach(case.truncation, T, self.coins[:T])
        data = self.x[:T], self.y[:T]
        truth = naive(self.params, *data, "tanh", "mse", steps, "mean", weights, np.zeros((B, N)))
        return truth.dh, truth.params


class Gated:
    """The same of a gated cell: every loss goes back alone, by HIPS autograd step by step, weighted at every step."""

    def __init__(self, cell: str, network: Network):
        self.coins, y = network.coins, network.y.astype(float)
        params = {name: array.astype(float) for name, array in network.params.items()}
        step, parts = STEPS[cell]
        state = np.zeros((B, parts * N))
        self.back, self.rows = [], []  # of each step; of each loss, what arrives at each state up to it, the last first
        for t, x in enumerate(network.x.astype(float)):
            back, state = autograd.make_vjp(lambda own, before, x=x: step(own, x, before), (0, 1))(params, state)
            self.back.append(back)
            residual = state[:, :N] @ params["W_hy"].T + params["b_y"] - y[t]
            row = [np.pad(2 * residual @ params["W_hy"], ((0, 0), (0, (parts - 1) * N)))]
            for earlier in reversed(self.back[1:]):
                row.append(earlier(row[-1])[1])
            self.rows.append(row[::-1])

    def gradients(self, case: Case) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """dL_b/dh_t (T, B, n), and the gradients of the mean over examples."""
        T, steps = case.seq_len, steps_of(case)
        weights = reach(case.truncation, T, self.coins[:T]) / len(steps)
        adjoints = [sum(weights[s - 1, t] * self.rows[s - 1][t] for s in steps if s > t) for t in range(T)]
        parts = [back(adjoint)[0] for back, adjoint in zip(self.back, adjoints, strict=False) if np.ndim(adjoint)]
        return np.stack(adjoints)[..., :N], {name: sum(part[name] for part in parts) / B for name in parts[0]}


def steps_of(case: Case) -> list[int]:
    """The steps with a loss, 1-based."""
    return [case.seq_len] if case.loss_steps == "last" else list(range(1, case.seq_len + 1))


def lstm_step(params, x, state):
    h, c = state[:, :N], state[:, N:]
    z = x @ params["W_xh"].T + params["b_xh"] + h @ params["W_hh"].T + params["b_hh"]
    i, f, o = (sigma(z[:, k * N : (k + 1) * N]) for k in (0, 1, 3))
    c = f * c + i * anp.tanh(z[:, 2 * N : 3 * N])
    return anp.concatenate([o * anp.tanh(c), c], axis=1)


def gru_step(params, x, h):
    driven, passed = x @ params["W_xh"].T + params["b_xh"], h @ params["W_hh"].T + params["b_hh"]
    r, z = (sigma(driven[:, k * N : (k + 1) * N] + passed[:, k * N : (k + 1) * N]) for k in (0, 1))
    candidate = anp.tanh(driven[:, 2 * N :] + r * passed[:, 2 * N :])
    return (1 - z) * candidate + z * h


def sigma(z):
    return 1 / (1 + anp.exp(-z))


STEPS = {"lstm": (lstm_step, 2), "gru": (gru_step, 1)}


def assert_agrees(contender, workload: Workload, disagreements: list[float]) -> None:
    """A contender's answers are the oracle's for several networks at once, and for others in a second call."""
    assert contender.supports(workload)
    run = contender.prepare(workload, NETWORKS)
    for first in (0, NETWORKS):
        networks = [network(first + seed, workload) for seed in range(NETWORKS)]
        found = run(networks)
        assert len(found) == NETWORKS
        for each, answers in zip(networks, found, strict=True):
            assert set(answers) == set(workload.cases)
            truth = expected(workload.cell, each, workload.cases)
            for case, answer in answers.items():
                _compare(answer, truth[case], RTOL[workload.dtype], disagreements)


def _compare(found: Answer, expected: Answer, rtol: float, disagreements: list[float]) -> None:
    atol = 1e-6 * rtol * expected.norms.max()
    assert found.norms.shape == expected.norms.shape
    np.testing.assert_allclose(found.norms, expected.norms, rtol=rtol, atol=atol)
    np.testing.assert_array_equal(found.norms == 0, expected.norms == 0)
    assert set(found.gradients) == set(expected.gradients)
    for name, norm in expected.gradients.items():
        np.testing.assert_allclose(found.gradients[name], norm, rtol=rtol, err_msg=name)
    np.testing.assert_allclose(found.relative_error, expected.relative_error, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(found.cosine, expected.cosine, rtol=rtol)
    if rtol < 1e-6:  # the summary is about float64
        large = expected.norms > 1e-6 * expected.norms.max()
        disagreements.append(np.abs(found.norms[large] / expected.norms[large] - 1).max())
        disagreements += [abs(found.gradients[name] / norm - 1) for name, norm in expected.gradients.items()]
