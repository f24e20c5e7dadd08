"""Guards the benchmark's PyTorch peers: they answer what the oracle answers, so they do the work they are timed for."""

import bench_cases
import pytest

from gradscope.bench.contenders import torch_eager, torch_shared

GATED = ("full", "chunked:2", "chunked:5", "random:3")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("contender", [torch_eager, torch_shared], ids=["torch_eager", "torch_shared"])
def test_answers_as_the_oracle(contender, dtype, disagreements):
    bench_cases.assert_agrees(contender, bench_cases.workload(dtype), disagreements)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("contender", [torch_eager, torch_shared], ids=["torch_eager", "torch_shared"])
def test_gated_cells_answer_as_the_oracle(contender, dtype, cell, disagreements):
    truncations = bench_cases.TRUNCATIONS if contender is torch_eager else GATED
    bench_cases.assert_agrees(contender, bench_cases.workload(dtype, truncations, cell), disagreements)


def test_says_what_it_cannot():
    assert not torch_shared.supports(bench_cases.workload("float64", cell="lstm"))  # "fixed" among the truncations
    assert not torch_eager.supports(bench_cases.workload("float64", cell="diagonal"))
