"""A Dask cluster as an executor: workers that are there, and have the same gradscope."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from gradscope.errors import InputError
from gradscope.measuring import VERSIONS

_ADDRESS = re.compile(r"(tcp|tls|ucx|wss?)://[^/\s]+:\d+")
_WHERE = "--executor"


@contextmanager
def connected(executor: Executor | str | None) -> Iterator[tuple[Executor | None, int]]:
    """A caller's executor as it is; for an address the cluster's there, and the number of its threads.

    Raises InputError if the address cannot be, nobody answers there, there are no workers, or one of them has not the
    same gradscope.
    """
    if not isinstance(executor, str):
        yield executor, 0
        return
    if not _ADDRESS.fullmatch(executor):
        raise InputError(f"{executor!r}", where=_WHERE, allowed="tcp://HOST:PORT, the address of a Dask scheduler")
    try:
        from distributed import Client
    except ImportError:
        raise InputError("a cluster needs Dask", where=_WHERE, hint="pip install 'gradscope[cluster]'") from None
    log = logging.getLogger("distributed")
    level = log.level
    log.setLevel(logging.CRITICAL)  # what goes wrong is said in our words
    try:
        try:
            client = Client(executor, timeout=10, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(f"no Dask scheduler answers at {executor} ({error})", where=_WHERE) from None
        with client:
            cores = sum(client.nthreads().values())
            if not cores:
                raise InputError(f"the Dask cluster at {executor} has no workers", where=_WHERE, hint="start some")
            for worker, versions in client.run(_versions).items():
                if versions != VERSIONS:
                    there = f"gradscope {versions[0]}" if versions else "no gradscope"
                    what = f"worker {worker} has {there}, the sweep is of {VERSIONS[0]}"
                    raise InputError(what, where=_WHERE, hint="install the same on both")
            yield client.get_executor(), cores
    finally:
        log.setLevel(level)


def _versions() -> tuple[str, int] | None:
    """The versions of the process that runs this; None if it has no gradscope."""
    try:
        from gradscope.measuring import VERSIONS as OWN
    except ImportError:
        return None
    return OWN
