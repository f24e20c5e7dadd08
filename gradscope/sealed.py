"""Tables as bytes that say whether they are as they were written: Arrow streams, and behind them their SHA-256.

This is how results travel from workers and lie in a sweep's folder until they are Parquet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from gradscope.files import DamagedError

_NOTE = b"gradscope"  # the key of the note in the first table's metadata
_DIGEST = hashlib.sha256().digest_size
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd", unify_dictionaries=True)


class Sealed(NamedTuple):
    """What was sealed: a note (anything that JSON can hold), and tables."""

    note: dict[str, Any]
    tables: list[pa.Table]


def seal(note: Mapping[str, Any], tables: Sequence[pa.Table]) -> bytes:
    """The bytes of one or several tables and a note.

    >>> unseal(seal({"by": "me"}, [pa.table({"a": [1, 2]})])).note
    {'by': 'me'}
    """
    sink = pa.BufferOutputStream()
    for place, table in enumerate(tables):
        plain = table.replace_schema_metadata(None if place else {_NOTE: json.dumps(note)})
        with pa.ipc.new_stream(sink, plain.schema, options=_OPTIONS) as stream:
            stream.write_table(plain)
    content = sink.getvalue().to_pybytes()
    return content + hashlib.sha256(content).digest()


def unseal(content: bytes) -> Sealed:
    """What `seal` made the bytes of; DamagedError if they are not the same any more."""
    body = content[:-_DIGEST]
    if not body or hashlib.sha256(body).digest() != content[-_DIGEST:]:
        raise DamagedError("its checksum differs")
    source = pa.BufferReader(pa.py_buffer(body))
    tables = []
    while source.tell() < len(body):
        with pa.ipc.open_stream(source) as stream:
            tables.append(stream.read_all())
    return Sealed(json.loads(tables[0].schema.metadata[_NOTE]), tables)


def read(path: Path) -> Sealed:
    """The content of a sealed file.

    Raises DamagedError that names it if it is not as it was written, FileNotFoundError if there is none.
    """
    try:
        return unseal(path.read_bytes())
    except DamagedError as error:
        raise DamagedError(f"{path}: damaged: {error}") from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read: {error.strerror}") from None
