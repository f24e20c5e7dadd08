"""Guards the benchmark's JAX peers: they answer what the oracle answers, so they do the work they are timed for."""

import bench_cases
import pytest

from gradscope.bench.contenders import jax_map, jax_shared

TRUNCATIONS = ("full", "chunked:2", "chunked:5", "random:3")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("contender", [jax_shared, jax_map], ids=["jax_shared", "jax_map"])
def test_answers_as_the_oracle(contender, dtype, disagreements):
    bench_cases.assert_agrees(contender, bench_cases.workload(dtype, TRUNCATIONS), disagreements)


@pytest.mark.parametrize("contender", [jax_shared, jax_map], ids=["jax_shared", "jax_map"])
def test_says_what_it_cannot(contender):
    assert not contender.supports(bench_cases.workload("float64", TRUNCATIONS, "lstm"))
    assert not contender.supports(bench_cases.workload("float64"))  # "fixed" among the truncations
