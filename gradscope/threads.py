"""One BLAS thread: the matrices are too small for more, and the last bits of results depend on the number."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

_lock = threading.Lock()
_limits: list[threadpool_limits] = []  # of the blocks that threads are in


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within the block BLAS has one thread. The limit is the process's: the last of several such blocks lifts it."""
    with _lock:
        _limits.append(threadpool_limits(1))  # the first of them knows what was before
    try:
        yield
    finally:
        with _lock:
            if len(_limits) > 1:
                _limits.pop()
            else:
                _limits.pop().restore_original_limits()
