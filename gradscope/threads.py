"""One BLAS thread: the matrices are too small for more, and the last bits of results depend on the number."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

_lock = threading.Lock()
_inside: list[threadpool_limits] = []  # the limit that is in force, and how many blocks it is in force for
_count = 0


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within the block BLAS has one thread. The limit is the process's: the last of several such blocks ends it."""
    global _count
    with _lock:
        if not _count:
            _inside.append(threadpool_limits(1))
        _count += 1
    try:
        yield
    finally:
        with _lock:
            _count -= 1
            if not _count:
                _inside.pop().restore_original_limits()
