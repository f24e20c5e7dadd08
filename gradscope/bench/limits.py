"""What the machine can do, and the least that a workload asks of it."""

from __future__ import annotations

import time

import numpy as np

from gradscope.bench.workload import Workload
from gradscope.networks import Case, requests_of
from gradscope.passes import Chains, Sliding, passes
from gradscope.scaled import Floats

# Products (stack, rows, inner, columns): a large one, and stacks of small ones as the engine has them.
PRODUCTS = ((1, 768, 768, 768), (15, 32, 64, 64), (7, 192, 64, 81))


def products_per_second(dtype: str, seconds: float = 0.5) -> float:
    """Floating-point operations a second of the fastest matrix product here, on this thread."""
    rng = np.random.default_rng(0)
    best = 0.0
    for stack, rows, inner, columns in PRODUCTS:
        a, b = (rng.standard_normal(shape).astype(dtype) for shape in ((stack, rows, inner), (stack, inner, columns)))
        best = max(best, _rate(a, b, np.empty((stack, rows, columns), dtype), seconds / len(PRODUCTS)))
    return best


def _rate(a: Floats, b: Floats, out: Floats, seconds: float) -> float:
    operations, best, end = 2.0 * a.size * b.shape[-1], 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        np.matmul(a, b, out=out)
        best = max(best, operations / (time.perf_counter() - start))
    return best


def operations(workload: Workload) -> float:
    """The operations of the matrix products that one network of a workload needs, with everything shared that can be.

    One forward pass over the longest length; a product for each distinct adjoint that goes back a step; and one for the
    weight gradient of each distinct state gradient that some case sees.
    """
    n, B, (P, W) = workload.hidden_size, workload.batch_size, workload.made().weights_shape
    cases = tuple(Case(*case) for case in workload.cases)
    carried, seen = 0, 0
    for one in passes(requests_of(cases, (0,))):
        seen += sum((span.hi - span.lo) * len(span.usage) for span in one.spans)
        if isinstance(one, Chains):
            carried += sum((span.hi - span.lo - 1) * len(span.usage) + span.stay for span in one.spans)
        elif isinstance(one, Sliding):
            carried += sum(max(0, one.rows(t - 1)[1] - one.rows(t)[0]) for t in range(1, len(one.losses)))
    weight = 2.0 * B * P * W
    return workload.longest * weight + carried * 2.0 * B * n * W + seen * weight
