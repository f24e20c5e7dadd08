"""Guards the benchmark's PyTorch peers: they answer what the oracle answers, so they do the work they are timed for."""

import bench_cases
import pytest

from gradscope.bench.contenders import torch_eager, torch_shared


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("contender", [torch_eager, torch_shared], ids=["torch_eager", "torch_shared"])
def test_answers_as_the_oracle(contender, dtype, disagreements):
    bench_cases.assert_agrees(contender, bench_cases.workload(dtype), disagreements)
