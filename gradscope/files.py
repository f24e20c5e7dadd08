"""Files that appear whole or not at all, outlive a loss of power, and tell whether they are as they were written."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gradscope.errors import GradscopeError

TEMPORARY = re.compile(r"\..+\.\d+\.part")  # the name of a file that is being written


class DamagedError(GradscopeError):
    """A file is not as it was written."""


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write` with a temporary path beside `path`, then move what it wrote into place.

    When this returns, the file is on the disk under its name, also after a loss of power. Raises GradscopeError if that
    fails; what stood at `path` before still does then.
    """
    move_in(write_beside(path, write), path)


def write_beside(path: Path, write: Callable[[Path], Any]) -> Path:
    """Call `write` with a temporary path beside `path`, have what it wrote on the disk, and return the former.

    Raises GradscopeError if that fails; nothing is left then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            _sync(file.fileno())
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _cannot_write(path, error) from None
        raise
    return temporary


def move_in(temporary: Path, path: Path) -> None:
    """Move a file that `write_beside` wrote to its place, for good. Raises GradscopeError if that fails."""
    try:
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> GradscopeError:
    return GradscopeError(f"{path}: cannot be written: {error.strerror or error}")


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)


def _sync(descriptor: int) -> None:
    """Have what was written on the disk itself, not in its cache: macOS needs to be asked for that."""
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def changed_files(folder: Path, digests: Mapping[str, str]) -> list[Path]:
    """Those files of a folder that are missing, or have another SHA-256 than is said of them."""
    files = [folder / name for name in digests]
    return [path for path in files if not path.exists() or sha256_of(path) != digests[path.name]]


def write_json(path: Path, content: dict[str, Any], indent: int | None = None) -> None:
    """Write `content` with a `checksum` of itself."""
    text = json.dumps(content | {"checksum": _checksum(content)}, indent=indent, ensure_ascii=False) + "\n"
    write_whole(path, lambda place: place.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote, without the checksum.

    Raises DamagedError if it is not that, FileNotFoundError if there is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path}: cannot be read: {error}") from None
    if not isinstance(content, dict) or content.pop("checksum", None) != _checksum(content):
        raise DamagedError(f"{path}: damaged: its checksum differs")
    return content


def _checksum(content: dict[str, Any]) -> str:
    sha256 = hashlib.sha256()
    for piece in json.JSONEncoder(sort_keys=True).iterencode(content):
        sha256.update(piece.encode())
    return sha256.hexdigest()
