"""Real data: a series or a text, from a file of the user's or from one that every installation has.

A file is read again when it changes. What can read Parquet is imported only when there is such a file.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from gradscope.errors import InputError, unknown
from gradscope.scaled import Floats

MISSING = {"", "na", "n/a", "nan", "null", "none"}  # how a missing value is written in CSV


class Source(NamedTuple):
    """Data as one array along time, normalised and as `given`, and a record of what it is and how it was normalised."""

    values: NDArray[Any]
    record: dict[str, Any]
    given: NDArray[Any]


class Table(NamedTuple):
    """The columns of a file, as they stand in it, and where each row stands."""

    columns: Mapping[str, Sequence[Any]]
    place: Callable[[int], str]


def series(file: str, column: str) -> Source:
    """A series of numbers, normalised to mean 0 and standard deviation 1.

    Parameters
    ----------
    file : CSV, Parquet, .npy or .npz; "" for the daily stock prices in matplotlib's sample data (GOOG, 2004 to 2008).
    column : name of the column (index, for a .npy matrix); "" where there is only one number column.

    Raises
    ------
    InputError : file missing, empty or unreadable; column not there, not numeric, with missing values, or constant.
    """
    if not file:
        import matplotlib

        path = Path(matplotlib.get_data_path()) / "sample_data" / "goog.npz"
        return _series(path, _stamp(path), column or "adj_close")
    return _series(Path(file), _stamp(Path(file)), column)


def text(file: str) -> Source:
    """A text as integer character codes (N,), numbered in the order of their code points.

    Parameters
    ----------
    file : any UTF-8 file; "" for the reference topics that come with CPython (`pydoc_data.topics`).

    Raises
    ------
    InputError : file missing or empty, not UTF-8, fewer than two distinct characters.
    """
    return _text(Path(file), _stamp(Path(file))) if file else _topics()


@lru_cache(maxsize=8)
def _series(path: Path, _: object, column: str) -> Source:
    content = _read(path)
    name, values = _numbers(_table(path, content), column, path)
    if values.min() == values.max():
        raise InputError(
            f"all {len(values)} values are equal to {values[0]:g}", where=str(path), hint="nothing to predict"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = float(values.mean()), float(values.std())
    if not math.isfinite(scale):
        raise InputError(f"values up to {np.abs(values).max():g} are too large to normalise", where=str(path))
    record = {
        "file": path.name,
        "sha256": sha256(content).hexdigest(),
        "column": name,
        "values": len(values),
        "normalised": "(value - mean) / standard deviation, over the whole series",
        "mean": mean,
        "standard_deviation": scale,
    }
    return Source((values - mean) / scale, record, values)


@lru_cache(maxsize=8)
def _text(path: Path, _: object) -> Source:
    content = _read(path)
    try:
        return _encode(content.decode("utf-8"), path.name, content)
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 at byte {error.start}", where=str(path)) from None


@lru_cache(maxsize=1)
def _topics() -> Source:
    from pydoc_data.topics import topics

    characters = "\n".join(topics[key] for key in sorted(topics))
    return _encode(characters, "pydoc_data.topics", characters.encode())


def _encode(characters: str, name: str, content: bytes) -> Source:
    points = np.frombuffer(characters.encode("utf-32-le"), np.uint32)
    vocabulary, codes = np.unique(points, return_inverse=True)
    if len(vocabulary) < 2:
        raise InputError("only one distinct character", where=name, hint="nothing to predict")
    record = {
        "file": name,
        "sha256": sha256(content).hexdigest(),
        "characters": len(codes),
        "vocabulary": "".join(map(chr, vocabulary)),
        "normalised": "one-hot",
    }
    return Source(codes, record, codes)


def _stamp(path: Path) -> object:
    """What changes when the file does."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise _unreadable(path, error) from None
    return found.st_mtime_ns, found.st_size


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    if not content:
        raise InputError("data file is empty", where=str(path))
    return content


def _unreadable(path: Path, error: OSError | ValueError) -> InputError:
    return InputError(f"cannot read data file: {getattr(error, 'strerror', None) or error}", where=str(path))


def _table(path: Path, content: bytes) -> Table:
    readers = {".csv": _csv, ".parquet": _parquet, ".npy": _npy, ".npz": _npz}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise InputError(f"unknown kind of data file {suffix!r}", where=str(path), allowed=".csv, .parquet, .npy, .npz")
    try:
        table = readers[suffix](content)
    except (ValueError, EOFError, OSError, csv.Error) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"cannot be read as {suffix}: {reason}", where=str(path)) from None
    if not len(next(iter(table.columns.values()), ())):
        raise InputError("no rows" if table.columns else "no columns", where=str(path))
    return table


def _csv(content: bytes) -> Table:
    """Numbers become floats, missing values nan; other texts stay. A row counts from the line on which it ends."""
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), skipinitialspace=True, strict=True)
    rows, lines = [], []
    for row in reader:
        if row:
            rows.append(row)
            lines.append(reader.line_num)
    if not rows:
        raise ValueError("No columns")
    header, *rows = rows
    if rows and all(isinstance(_number(name), float) for name in header):
        raise ValueError("the first line must name the columns, and holds only numbers")
    for row, line in zip(rows, lines[1:], strict=True):
        if len(row) > len(header):
            raise ValueError(f"line {line} has {len(row)} values, the header {len(header)}")
        row += [""] * (len(header) - len(row))
    columns = {name: [_number(row[i]) for row in rows] for i, name in enumerate(header)}
    return Table(columns, lambda row: f"line {lines[row + 1]}")


def _number(written: str) -> float | str:
    if written.strip().lower() in MISSING:
        return math.nan
    try:
        return written if "_" in written else float(written)
    except ValueError:
        return written


def _npy(content: bytes) -> Table:
    """A vector, a structured vector, or a matrix whose columns are named by their index."""
    if not content.startswith(b"\x93NUMPY"):
        raise ValueError("not an array, or one that would have to be unpickled (allow_pickle)")
    return _of_array(np.load(io.BytesIO(content)))


def _npz(content: bytes) -> Table:
    """An archive of one array."""
    try:
        with np.load(io.BytesIO(content)) as archive:
            if len(archive.files) != 1:
                raise ValueError(f"{len(archive.files)} arrays, not one")
            return _of_array(archive[archive.files[0]])
    except BadZipFile as error:
        raise ValueError(str(error)) from None


def _of_array(array: NDArray[Any]) -> Table:
    columns: dict[str, Any] = {name: array[name] for name in array.dtype.names or ()}
    if not columns and array.ndim not in (1, 2):
        raise ValueError(f"{array.ndim} dimensions, not 1 or 2")
    if not columns:
        columns = {str(i): column for i, column in enumerate(np.atleast_2d(array.T))}
    return Table(columns, lambda row: f"row {row}")


def _parquet(content: bytes) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(content))
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None
    columns = {
        name: [math.nan if value is None else value for value in table[name].to_pylist()]
        for name in table.column_names
        if not name.startswith("__index_level_")  # which pandas adds
    }
    return Table(columns, lambda row: f"row {row}")


def _numbers(table: Table, column: str, path: Path) -> tuple[str, Floats]:
    """The chosen column's name and values; without a choice, the only column of numbers."""
    if column and column not in table.columns:
        raise unknown("column", column, table.columns, where=str(path))
    if not column:
        numeric = [name for name, values in table.columns.items() if not _not_numbers(values)]
        if len(numeric) > 1:
            raise InputError("several columns", where=str(path), allowed=", ".join(numeric), hint="choose with column")
        column = numeric[0] if numeric else list(table.columns)[-1]
    values = table.columns[column]
    bad = _not_numbers(values) or [i for i, value in enumerate(values) if not math.isfinite(value)]
    if bad:
        first = values[bad[0]]
        found = "missing" if first != first else str(first) if isinstance(first, float) else repr(_plain(first))
        raise InputError(
            f"column {column!r}, {table.place(bad[0])}: {found}; {len(bad)} such value(s)",
            where=str(path),
            allowed="finite numbers",
        )
    return column, np.array(values, np.float64)


def _not_numbers(values: Sequence[Any]) -> list[int]:
    """Where a column holds something else than numbers."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiu":
        return []
    return [i for i, value in enumerate(values) if isinstance(value, bool) or not isinstance(value, int | float)]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
