"""A small workload for the benchmark's contenders, what the oracle says of it, and how answers are held to that."""

from __future__ import annotations

import numpy as np
from oracles import RECURRENT, naive, reach

from gradscope.bench.workload import Answer, Case, Network, Workload

N, M, B, LENGTHS = 5, 3, 3, (6, 11)
TRUNCATIONS = ("full", "chunked:2", "chunked:5", "random:3", "fixed:4")
NETWORKS = 3
RTOL = {"float64": 1e-9, "float32": 1e-3}


def workload(dtype: str, truncations: tuple[str, ...] = TRUNCATIONS) -> Workload:
    """Every length, loss and truncation."""
    cases = tuple(Case(T, loss, spec) for T in LENGTHS for loss in ("last", "all") for spec in truncations)
    return Workload("small", N, M, B, radii=(1.0,), seeds=NETWORKS, cases=cases, dtype=dtype)


def network(seed: int, dtype: str) -> Network:
    """Random parameters, data and coins."""
    rng = np.random.default_rng(seed)
    shapes = {"W_xh": (N, M), "W_hh": (N, N), "b_h": (N,), "W_hy": (1, N), "b_y": (1,)}
    params = {name: (0.5 * rng.standard_normal(shape)).astype(dtype) for name, shape in shapes.items()}
    T = max(LENGTHS)
    x, y = (rng.standard_normal((T, B, size)).astype(dtype) for size in (M, 1))
    return Network(params, x, y, rng.random(T).astype(dtype))


def expected(network: Network, case: Case) -> Answer:
    """The oracle's answer, in float64 for the network as it is."""
    full = gradients_of(network, case._replace(truncation="full"))[1]
    dh, gradients = gradients_of(network, case)
    norms = {name: float(np.linalg.norm(gradients[name])) for name in RECURRENT}
    g, g_full = (np.concatenate([each[name].ravel() for name in RECURRENT]) for each in (gradients, full))
    size, size_full = np.linalg.norm(g), np.linalg.norm(g_full)
    error, cosine = np.linalg.norm(g - g_full) / size_full, g @ g_full / (size * size_full)
    return Answer(np.linalg.norm(dh, axis=-1), norms, float(error), float(cosine))


def gradients_of(network: Network, case: Case) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    T = case.seq_len
    params = {name: array.astype(float) for name, array in network.params.items()}
    x, y = network.x[:T].astype(float), network.y[:T].astype(float)
    steps = [T] if case.loss_steps == "last" else list(range(1, T + 1))
    weights = reach(case.truncation, T, network.coins[:T])
    truth = naive(params, x, y, "tanh", "mse", steps, "mean", weights, np.zeros((B, N)))
    return truth.dh, truth.params


def assert_agrees(contender, workload: Workload, disagreements: list[float]) -> None:
    """A contender's answers are the oracle's for several networks at once, and for others in a second call."""
    assert contender.supports(workload)
    run = contender.prepare(workload, NETWORKS)
    for first in (0, NETWORKS):
        networks = [network(first + seed, workload.dtype) for seed in range(NETWORKS)]
        found = run(networks)
        assert len(found) == NETWORKS
        for each, answers in zip(networks, found, strict=True):
            assert set(answers) == set(workload.cases)
            for case, answer in answers.items():
                _compare(answer, expected(each, case), RTOL[workload.dtype], disagreements)


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
