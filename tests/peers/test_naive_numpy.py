"""Guards the benchmark's NumPy peer: it answers what the oracle answers, so it does the work it is timed for."""

import bench_cases
import pytest

from gradscope.bench.contenders import naive_numpy


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_answers_as_the_oracle(dtype, cell, disagreements):
    bench_cases.assert_agrees(naive_numpy, bench_cases.workload(dtype, cell=cell), disagreements)


def test_says_what_it_cannot():
    assert not naive_numpy.supports(bench_cases.workload("float64", ("full", "tbptt:2:4")))
    assert not naive_numpy.supports(bench_cases.workload("float64", cell="diagonal"))
