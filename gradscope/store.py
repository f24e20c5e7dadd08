"""A sweep's folder: shards while it runs, tables when it is done, and a manifest that says what they are.

Every file appears whole or not at all: it is written beside its place and moved there. A batch's shard is its timesteps
under `timesteps/` and its runs under `shards/`, the latter moved last: it is what makes the batch count as done. When
all are there the runs become one `runs.parquet`. Each run names the shard of its timesteps, so that a file that no run
names, left by a stop in between, is never read.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from gradscope.engine import Measurement
from gradscope.errors import InputError
from gradscope.files import write_whole
from gradscope.records import in_order, runs_table, timesteps_table
from gradscope.runs import Run

MANIFEST, RUNS, TIMESTEPS, SHARDS = "manifest.json", "runs.parquet", "timesteps", "shards"


class Store:
    """The folder of one sweep; `create` makes one that can be written."""

    def __init__(self, folder: Path):
        self.folder = folder

    def manifest(self) -> dict[str, Any]:
        """What the folder's sweep is; InputError if there is none."""
        try:
            content: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError("holds no sweep", where=str(self.folder), hint="run gradscope sweep first") from None
        except (OSError, ValueError) as error:
            raise InputError(f"cannot be read: {error}", where=str(self.folder / MANIFEST)) from None
        if not isinstance(content, dict) or not {"name", "hash", "grid"} <= content.keys():
            raise InputError("holds no sweep, but another program's manifest.json", where=str(self.folder))
        return content

    def write_manifest(self, content: dict[str, Any]) -> None:
        """Replace the manifest."""
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_whole(self.folder / MANIFEST, lambda path: path.write_text(text, encoding="utf-8"))

    def done(self) -> set[str]:
        """Ids of the runs that have been measured and whose timesteps are there."""
        there = self._measured_shards()
        rows = (row for table in self._run_tables(["run_id", "shard"]) for row in table.to_pylist())
        return {row["run_id"] for row in rows if row["shard"] in there}

    def is_finished(self, sweep_hash: str) -> bool:
        """Whether the folder's sweep is the one of that hash, and nothing is left to do but to look at it."""
        if not (self.folder / MANIFEST).exists() or self._shards():
            return False
        manifest = self.manifest()
        return manifest["hash"] == sweep_hash and bool(manifest.get("finished"))

    def append(self, key: str, measured: Measurement, kinds: Mapping[str, type]) -> None:
        """Add the runs of one finished batch."""
        self._write(TIMESTEPS, key, timesteps_table(measured))
        self._write(SHARDS, key, runs_table(measured, key, kinds))

    def finish(self, runs: Sequence[Run]) -> None:
        """Merge the shards' runs into the final table, in the order of the grid."""
        table = in_order(self.runs(), runs)
        write_whole(self.folder / RUNS, lambda path: pq.write_table(table, path, compression="zstd"))
        for shard in self._shards():
            shard.unlink()

    def runs(self) -> pa.Table:
        """The runs that are finished, in the order of the grid once the sweep is."""
        table = pa.concat_tables(self._run_tables(), promote_options="default")
        # A run stands here twice if a stop came between merging and removing the shards, or if its timesteps were lost
        # and it was measured again: then the row with timesteps counts, else the first.
        order = np.argsort(~table["shard"].to_pandas().isin(self._measured_shards()).to_numpy(), kind="stable")
        again = table["run_id"].to_pandas().iloc[order].duplicated().to_numpy()
        return table.take(np.sort(order[~again]))

    def timesteps(self, shards: Iterable[str], run_ids: Iterable[str] | None) -> pa.Table:
        """The timesteps of runs in these shards; of all their runs, if `run_ids` is None."""
        paths = [self.folder / TIMESTEPS / f"{shard}.parquet" for shard in shards]
        for path in paths:
            if not path.exists():
                raise InputError("is missing", where=str(path), hint="the same sweep again measures its runs again")
        wanted = None if run_ids is None else ds.field("run_id").isin(pa.array(list(run_ids), pa.string()))
        try:
            return ds.dataset(list(map(str, paths)), format="parquet").to_table(filter=wanted)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"cannot be read: {error}", where=str(self.folder / TIMESTEPS)) from None

    def _measured_shards(self) -> set[str]:
        return {path.stem for path in (self.folder / TIMESTEPS).glob("*.parquet")}

    def _shards(self) -> list[Path]:
        return sorted((self.folder / SHARDS).glob("*.parquet"))

    def _run_tables(self, columns: list[str] | None = None) -> Iterable[pa.Table]:
        merged = self.folder / RUNS
        for path in [*([merged] if merged.exists() else []), *self._shards()]:
            try:
                yield pq.read_table(path, columns=columns)
            except (OSError, pa.ArrowException) as error:
                raise InputError(f"cannot be read: {error}", where=str(path)) from None

    def _write(self, kind: str, key: str, table: pa.Table) -> None:
        (self.folder / kind).mkdir(exist_ok=True)
        path = self.folder / kind / f"{key}.parquet"
        write_whole(path, lambda place: pq.write_table(table, place, compression="zstd"))


def create(folder: Path, name: str, run_ids: set[str]) -> Store:
    """The folder for a sweep of these runs: a new one, or one that holds a part of them.

    Raises InputError if it cannot be written, or holds anything else.
    """
    store = Store(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"output folder cannot be written: {error.strerror}", where=str(folder)) from None
    if (folder / MANIFEST).exists():
        held = store.manifest()
        strangers = store.done() - run_ids
        if strangers:
            raise InputError(
                f"output folder holds another sweep ({held['name']}, {held['hash']}): "
                f"{len(strangers)} of its runs are not in this one ({name})",
                where=str(folder),
                hint="choose another folder with -o, or remove this one",
            )
    elif any(folder.iterdir()):
        raise InputError(
            "output folder is not empty and holds no sweep", where=str(folder), hint="choose another folder with -o"
        )
    return store
