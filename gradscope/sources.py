"""Real data: a series or a text, from a file of the user's or from one that every installation has.

Reading is done by pandas, which is imported only when there is a series to read.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.errors import InputError, unknown
from gradscope.scaled import Floats


class Source(NamedTuple):
    """Data as one array along time, and a record of what it is and how it was normalised."""

    values: NDArray[Any]
    record: dict[str, Any]


@lru_cache(maxsize=8)
def series(file: str, column: str) -> Source:
    """A series of numbers, normalised to mean 0 and standard deviation 1.

    Parameters
    ----------
    file : CSV, Parquet or .npy; "" for the daily stock prices in matplotlib's sample data (GOOG, 2004 to 2008).
    column : name of the column (index, for a .npy matrix); "" where there is only one number column.

    Raises
    ------
    InputError : file missing, empty or unreadable; column not there, not numeric, with missing values, or constant.
    """
    path = Path(file) if file else _sample_stocks()
    content = _read(path)
    values = _column(_table(path), column or ("" if file else "adj_close"), path)
    mean, scale = float(values.mean()), float(values.std())
    if scale == 0.0:
        raise InputError(f"all {len(values)} values are equal to {mean:g}", where=str(path), hint="nothing to predict")
    record = {
        "file": path.name,
        "sha256": sha256(content).hexdigest(),
        "column": column or ("" if file else "adj_close"),
        "values": len(values),
        "normalised": "(value - mean) / standard deviation, over the whole series",
        "mean": mean,
        "standard_deviation": scale,
    }
    return Source((values - mean) / scale, record)


@lru_cache(maxsize=8)
def text(file: str) -> Source:
    """A text as integer character codes (N,), numbered in the order of their code points.

    Parameters
    ----------
    file : any UTF-8 file; "" for the reference topics that come with CPython (`pydoc_data.topics`).

    Raises
    ------
    InputError : file missing or empty, not UTF-8, fewer than two distinct characters.
    """
    if file:
        path = Path(file)
        content, name = _read(path), path.name
        try:
            characters = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"not UTF-8 at byte {error.start}", where=str(path)) from None
    else:
        from pydoc_data.topics import topics

        characters, name = "\n".join(topics[key] for key in sorted(topics)), "pydoc_data.topics"
        content = characters.encode()
    points = np.frombuffer(characters.encode("utf-32-le"), np.uint32)
    vocabulary, codes = np.unique(points, return_inverse=True)
    if len(vocabulary) < 2:
        raise InputError("only one distinct character", where=file, hint="nothing to predict")
    record = {
        "file": name,
        "sha256": sha256(content).hexdigest(),
        "characters": len(codes),
        "vocabulary": "".join(map(chr, vocabulary)),
        "normalised": "one-hot",
    }
    return Source(codes, record)


def _sample_stocks() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "sample_data" / "goog.npz"


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read data file: {error.strerror}", where=str(path)) from None
    if not content:
        raise InputError("data file is empty", where=str(path))
    return content


def _table(path: Path) -> Any:
    """The file as a DataFrame."""
    import pandas as pd

    try:
        match path.suffix.lower():
            case ".csv":
                return pd.read_csv(path, skipinitialspace=True)
            case ".parquet":
                return pd.read_parquet(path)
            case ".npy" | ".npz":
                array = np.load(path)
                array = array[array.files[0]] if path.suffix == ".npz" else array
                names = list(array.dtype.names or ())
                if array.ndim == 1 and not names:
                    return pd.DataFrame({"0": array})
                return pd.DataFrame({name: array[name] for name in names} if names else array).rename(columns=str)
    except (ValueError, OSError, pd.errors.ParserError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot be read as {path.suffix}: {reason}", where=str(path)) from None
    raise InputError(f"unknown kind of data file {path.suffix!r}", where=str(path), allowed=".csv, .parquet, .npy")


def _column(table: Any, column: str, path: Path) -> Floats:
    import pandas as pd

    numeric = [str(name) for name in table.columns if pd.api.types.is_numeric_dtype(table[name])]
    if column and column not in table.columns:
        raise unknown("column", column, map(str, table.columns), where=str(path))
    if not column:
        if len(numeric) > 1:
            raise InputError("several columns", where=str(path), allowed=", ".join(numeric), hint="choose with column")
        column = numeric[0] if numeric else str(table.columns[-1])
    if not len(table):
        raise InputError("no rows", where=str(path))
    numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        found = "missing or not finite" if pd.isna(table[column].iloc[bad[0]]) else repr(table[column].iloc[bad[0]])
        place = f"line {bad[0] + 2}" if path.suffix.lower() == ".csv" else f"row {bad[0]}"
        raise InputError(
            f"column {column!r}, {place}: {found}; {len(bad)} such value(s)", where=str(path), allowed="finite numbers"
        )
    return numbers
