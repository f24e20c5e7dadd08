"""A sweep's folder as it can be read: what lies where, whether it is whole, and the tables in it.

Every file carries a checksum. A shard's file, `shards/KEY.shard`, holds its runs and their timesteps: once it is there,
the shard is done. When all shards of a part are, its timesteps become `timesteps/PART.parquet` and its runs
`shards/PART.shard`, which also holds the checksum of the former and is moved in last; then the shards' own files go. In
the end the runs of all parts are `runs.parquet`, of which the manifest has the checksum. So what is done can be told
from the files alone, wherever the writing stopped (`gradscope.writer` writes).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gradscope import sealed
from gradscope.errors import InputError
from gradscope.files import DamagedError, read_json, sha256_of
from gradscope.records import in_order, joined, one_of_each, rows_of, timesteps_table

MANIFEST, PLAN, RUNS, TIMESTEPS, SHARDS = "manifest.json", "plan.json", "runs.parquet", "timesteps", "shards"
LOG = "sweep.log"
CHECKPOINT = "checkpoint.safetensors"  # of a training
TRAINING = "training"  # the kind of a folder that holds a single training, in its manifest
FORMAT = 2  # of the folder
TRIES = 5  # of reading what is being written
MENDED = "the same sweep again sets it aside and measures what is lost with it"


def is_training(folder: Path) -> bool:
    """Whether a folder holds a single training, finished or not."""
    try:
        return read_json(folder / MANIFEST).get("kind") == TRAINING
    except (DamagedError, FileNotFoundError):
        return False


class Store:
    """The folder of one sweep."""

    def __init__(self, folder: Path):
        self.folder = folder

    def manifest(self) -> dict[str, Any]:
        """What the folder's sweep is; InputError if there is none."""
        self.refuse_others()
        try:
            return read_json(self.folder / MANIFEST)
        except DamagedError as error:
            raise InputError(str(error), hint=MENDED) from None
        except FileNotFoundError:
            if (self.folder / PLAN).exists():
                raise InputError("is missing", where=str(self.folder / MANIFEST), hint=MENDED) from None
            what = "holds no sweep" if self.folder.exists() else "no such folder"
            raise InputError(what, where=str(self.folder), hint="run gradscope sweep first") from None

    @property
    def is_ours(self) -> bool:
        """Whether the folder holds what only a sweep writes."""
        return (self.folder / PLAN).exists() or (self.folder / LOG).exists()

    def refuse_others(self) -> None:
        """Raise InputError if the folder is a file, or its manifest another version's or another program's."""
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError("is a file, not a folder", where=str(self.folder))
        try:
            content = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, ValueError) as error:
            if not self.is_ours:
                raise InputError(f"cannot be read: {error}", where=str(self.folder / MANIFEST)) from None
            return  # damaged
        if isinstance(content, dict) and content.get("kind") == TRAINING:
            hint = "gradscope report and gradscope figures take it; or choose another folder"
            raise InputError("holds a training, not a sweep", where=str(self.folder), hint=hint)
        # Either of two keys may be damaged.
        if not isinstance(content, dict) or not ("checksum" in content or content.get("format") == FORMAT):
            what = "holds no sweep of this gradscope, but the manifest.json of another version or program"
            raise InputError(what, where=str(self.folder), hint="choose another folder")

    def runs(self) -> pa.Table:
        """The runs that are finished, in the order of the grid.

        `shard` names the file of a run's timesteps, and `shard_row` is the row with which they begin. Raises InputError
        for a damaged file.
        """
        for _ in range(TRIES):
            manifest = self.manifest()
            if manifest["finished"]:
                if fault := self.runs_fault(manifest):
                    raise InputError(fault, where=str(self.folder / RUNS), hint=MENDED)
                return pq.read_table(self.folder / RUNS)
            with _as_input_errors(), contextlib.suppress(FileNotFoundError):  # put together meanwhile: look again
                return self.runs_of(self.kept(), manifest["grid"])
        raise InputError("is being written", where=str(self.folder), hint="try again")

    def runs_of(self, names: Iterable[str], grid: Mapping[str, Any]) -> pa.Table:
        """The runs in the files of these parts and shards, in the order of `grid`.

        A run that failed and was measured again stands there once. Raises DamagedError for a damaged file.
        """
        tables = [_located(self.shard_path(name)) for name in names]
        if not tables:
            return pa.table({"run_id": pa.array([], pa.string())})
        return in_order(one_of_each(joined(tables)), grid)

    def kept(self) -> list[str]:
        """The names of the files of shards that count, in the order of the plan: parts, and what is in none yet.

        Raises DamagedError if there is no plan, or a damaged one.
        """
        try:
            shards = read_json(self.folder / PLAN)["shards"]
        except FileNotFoundError:
            raise DamagedError(f"{self.folder / PLAN}: is missing") from None
        there = {path.stem for path in files(self.folder / SHARDS)}
        names = (shard["part"] if shard["part"] in there else shard["key"] for shard in shards)
        return [name for name in dict.fromkeys(names) if name in there]

    def timesteps(self, runs: pd.DataFrame) -> pa.Table:
        """The timesteps of these rows of the runs table, shard by shard; no more is read than they need.

        Raises InputError for a damaged or missing file.
        """
        counts = rows_of(
            pa.Table.from_pandas(runs[["seq_len", "status"]].astype({"status": str}), preserve_index=False)
        )
        tables = [timesteps_table(None)]
        with _as_input_errors():
            for shard, at in runs.groupby("shard", observed=True, sort=False).indices.items():
                tables.append(self._timesteps_of(str(shard), runs["shard_row"].to_numpy()[at], counts[at]))
        return joined(tables)

    def timesteps_path(self, part: str) -> Path:
        """The file of a part's timesteps."""
        return self.folder / TIMESTEPS / f"{part}.parquet"

    def shard_path(self, key: str) -> Path:
        """The file of a shard, or of a part's runs."""
        return self.folder / SHARDS / f"{key}.shard"

    def _timesteps_of(self, name: str, first: np.ndarray[Any, Any], counts: np.ndarray[Any, Any]) -> pa.Table:
        """Rows first .. first + counts - 1 of the timesteps in the file of a part or a shard."""
        rows = np.repeat(first - np.concatenate([[0], counts.cumsum()[:-1]]), counts) + np.arange(counts.sum())
        path, steps = self.shard_path(name), self.timesteps_path(name)
        if not path.exists():
            if name in {shard["key"] for shard in read_json(self.folder / PLAN)["shards"]}:
                raise InputError("the sweep has gone on since these results were loaded", hint="load them again")
            raise DamagedError(f"{path}: is missing")
        stamps = (*_stamp(path), *(_stamp(steps) if steps.exists() else ()))
        if not _checked_part(self, name, *stamps):
            return sealed.read(path).tables[1].take(rows)
        with pq.ParquetFile(self.timesteps_path(name)) as file:
            sizes = np.array([file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)])
            starts = np.concatenate([[0], sizes.cumsum()])
            group = np.searchsorted(starts, rows, side="right") - 1
            needed = np.unique(group)
            begins = np.zeros(len(sizes), np.int64)
            begins[needed] = np.concatenate([[0], sizes[needed].cumsum()[:-1]])
            return file.read_row_groups(needed.tolist()).take(rows - starts[group] + begins[group])

    def runs_fault(self, manifest: Mapping[str, Any]) -> str:
        """What is wrong with the final table of runs; nothing, if that is."""
        return checksum_fault(self.folder / RUNS, manifest["tables"][RUNS])


def checksum_fault(path: Path, sha256: str) -> str:
    """What is wrong with a file that should have this checksum; nothing, if that is."""
    try:
        return "" if sha256_of(path) == sha256 else "damaged: its checksum differs"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def files(folder: Path) -> Iterator[Path]:
    """What is in a folder, sorted, but for hidden files, as those that are being written; none if there is none."""
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if not path.name.startswith("."))


@contextmanager
def _as_input_errors() -> Iterator[None]:
    """Within the block, damage is an error of the folder's."""
    try:
        yield
    except DamagedError as error:
        raise InputError(str(error), hint=MENDED) from None


def _located(path: Path) -> pa.Table:
    """The runs in the file of a part or a shard, with `shard` and `shard_row`."""
    runs = sealed.read(path).tables[0].replace_schema_metadata(None)
    ends = rows_of(runs).cumsum()
    begins = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    return runs.append_column("shard", pa.array([path.stem] * len(runs), pa.string())).append_column(
        "shard_row", pa.array(begins)
    )


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when a file does."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=4096)
def _checked_part(store: Store, part: str, *_: int) -> bool:
    """Whether a name is that of a part, whose timesteps are then sound; DamagedError if they are not."""
    note = sealed.read(store.shard_path(part)).note
    if "timesteps" in note and (fault := checksum_fault(store.timesteps_path(part), note["timesteps"])):
        raise DamagedError(f"{store.timesteps_path(part)}: {fault}")
    return "timesteps" in note
