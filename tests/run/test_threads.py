"""One BLAS thread, in whatever order threads leave the blocks that ask for it."""

from __future__ import annotations

import numpy as np  # noqa: F401 - loads the BLAS that is asked about
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from gradscope.threads import one_blas_thread


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.parametrize("first_out", [0, 1])
def test_the_last_of_several_blocks_lifts_the_limit(first_out):
    with threadpool_limits(2):
        before = blas_threads()
        blocks = [one_blas_thread(), one_blas_thread()]
        for block in blocks:
            block.__enter__()
        assert blas_threads() == {1}
        blocks[first_out].__exit__(None, None, None)
        assert blas_threads() == {1}
        blocks[1 - first_out].__exit__(None, None, None)
        assert blas_threads() == before != {1}
