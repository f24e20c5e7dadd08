"""One writer at a time of a folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gradscope.errors import InputError
from gradscope.files import sync_folder

LOCK = ".lock"


@contextmanager
def locked(folder: Path, refuse: Callable[[Path], None]) -> Iterator[None]:
    """Hold a folder, which is made if there is none; no other process holds it meanwhile.

    `refuse` raises for a folder that is not to be written to. Raises InputError if it cannot be written, or another
    process holds it.
    """
    # A lock of the operating system: it is gone when the process is, however that ends.
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            sync_folder(folder.parent)
        refuse(folder)
        lock.acquire()
        with tempfile.TemporaryFile(dir=folder):
            pass
    except Timeout:
        hint = "wait for it, or choose another folder with -o"
        raise InputError("another process is writing to this folder", where=str(folder), hint=hint) from None
    except OSError as error:
        raise InputError(f"output folder cannot be written: {error.strerror}", where=str(folder)) from None
    with lock:
        lock.release()  # one of two: it is held until the end of the block
        yield
