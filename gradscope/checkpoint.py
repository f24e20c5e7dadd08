"""Parameters, and whole trainings as they stand, in safetensors files that appear whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.errors import InputError
from gradscope.files import write_whole
from gradscope.recurrence import Cell, Parameters

NOTE = "gradscope"  # the name of the metadata that is ours
DIGEST = "sha256"  # of all arrays, in it


def write(path: Path, arrays: Mapping[str, NDArray[Any]], note: Mapping[str, Any]) -> None:
    """Write arrays by name and a note, anything that JSON can hold, into one file."""
    from safetensors.numpy import save

    note = {**note, DIGEST: digest(arrays)}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    content = save(contiguous, {NOTE: json.dumps(note)})
    write_whole(path, lambda place: place.write_bytes(content))


def digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """The SHA-256 of arrays and their names."""
    sha256 = hashlib.sha256()
    for name in sorted(arrays):
        sha256.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return sha256.hexdigest()


def read(path: Path) -> tuple[dict[str, NDArray[Any]], Any]:
    """The arrays of a safetensors file, and the note that `write` wrote with them; None if there is none.

    Raises InputError for a file that cannot be read as one, or is not as `write` wrote it.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError("no such file", where=str(path), allowed="a safetensors file")
    try:
        with safe_open(path, framework="numpy") as file:
            written = (file.metadata() or {}).get(NOTE)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            note = json.loads(written) if written else None
    except (SafetensorError, OSError, ValueError, TypeError) as error:  # TypeError: of numbers that NumPy has not
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot be read as safetensors: {reason}", where=str(path)) from None
    if isinstance(note, dict) and note.pop(DIGEST, None) != digest(arrays):
        raise InputError("damaged: its checksum differs", where=str(path))
    return arrays, note


def parameters(path: Path, cell: Cell) -> Parameters:
    """The parameters in a file, for networks of a cell.

    Raises InputError for a file that has not all of them, or has them in another shape.
    """
    arrays, _ = read(path)
    shapes = cell.shapes()
    wanted = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    for name, shape in shapes.items():
        if name not in arrays:
            raise InputError(f"has no {name}", where=str(path), allowed=wanted)
        if arrays[name].shape != shape:
            raise InputError(f"{name} has shape {arrays[name].shape}", where=str(path), allowed=wanted)
        if not np.isfinite(arrays[name]).all():
            raise InputError(f"{name} is not finite", where=str(path))
    return {name: arrays[name].astype(np.float64) for name in shapes}
