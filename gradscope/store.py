"""A sweep's folder as it can be read: what lies where, whether it is whole, and the tables in it.

Every file carries a checksum. A shard's file, `shards/KEY.shard`, holds its runs and their timesteps: once it is there,
the shard is done. When all shards of a part are, its timesteps become `timesteps/PART.parquet` and its runs
`shards/PART.shard`, which also holds the checksum of the former and is moved in last; then the shards' own files go. In
the end the runs of all parts are `runs.parquet`, of which the manifest has the checksum. So what is done can be told
from the files alone, wherever the writing stopped (`gradscope.writer` writes).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gradscope import sealed
from gradscope.errors import InputError
from gradscope.files import TEMPORARY, DamagedError, read_json, sha256_of
from gradscope.plan import Shard
from gradscope.records import in_order, joined, last_of_each, rows_of, timesteps_table

MANIFEST, PLAN, RUNS, TIMESTEPS, SHARDS = "manifest.json", "plan.json", "runs.parquet", "timesteps", "shards"
FORMAT = 2  # of the folder
MENDED = "the same sweep again sets it aside and measures what is lost with it"
_STRAY = "belongs to no shard of this sweep"


class Problem(NamedTuple):
    """A file that is not as it should be: what is wrong with it, and the keys of the shards that are lost with it."""

    path: Path
    what: str
    lost: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True)
class Survey:
    """What is in a sweep's folder.

    Attributes
    ----------
    manifest : what the sweep is; None if there is none, or a damaged one.
    numerics : the version of the numerics for which it was planned; None if no plan can be read.
    planned : the shards that are written down, in their order; if no plan can be read, those that files hold.
    parts : part -> its shards, for those whose files are whole.
    loose : shards that have files of their own and are in none of the parts.
    failed : key of a shard -> how many of its runs have failed.
    problems : what is not as it should be.
    """

    manifest: Mapping[str, Any] | None
    numerics: int | None
    planned: tuple[Shard, ...]
    parts: Mapping[str, tuple[Shard, ...]]
    loose: tuple[Shard, ...]
    failed: Mapping[str, int]
    problems: tuple[Problem, ...]

    @property
    def done(self) -> frozenset[str]:
        """The keys of the shards that are done."""
        return frozenset(shard.key for shards in [*self.parts.values(), self.loose] for shard in shards)

    @property
    def lost(self) -> frozenset[str]:
        """The keys of the shards that were done, but for which a file is not as it should be."""
        return frozenset(key for problem in self.problems for key in problem.lost) - self.done


class Store:
    """The folder of one sweep."""

    def __init__(self, folder: Path):
        self.folder = folder

    def manifest(self) -> dict[str, Any]:
        """What the folder's sweep is; InputError if there is none."""
        self.refuse_others()
        with _as_input_errors():
            content = self._json(MANIFEST)
        if content is None:
            raise InputError("holds no sweep", where=str(self.folder), hint="run gradscope sweep first")
        return content

    def refuse_others(self) -> None:
        """Raise InputError if the folder's manifest is of another version of gradscope, or of another program."""
        try:
            content = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            if not (self.folder / PLAN).exists():
                raise InputError(f"cannot be read: {error}", where=str(self.folder / MANIFEST)) from None
            return  # damaged
        if not isinstance(content, dict) or not content.keys() & {"checksum", "format"}:
            what = "holds no sweep of this gradscope, but the manifest.json of another version or program"
            raise InputError(what, where=str(self.folder), hint="choose another folder")

    def survey(self) -> Survey:
        """Look at every file, and check it. Nothing is changed."""
        problems = list[Problem]()
        manifest, plan = (self._json(name, problems) for name in (MANIFEST, PLAN))
        planned = _planned(plan)
        parts, loose, failed = dict[str, tuple[Shard, ...]](), list[Shard](), dict[str, int]()
        for path in files(self.folder / SHARDS):
            lost = frozenset(shard.key for shard in planned if path.stem in (shard.key, shard.part))
            try:
                note = sealed.read(path).note
            except DamagedError as error:
                problems.append(_damaged(path, error, lost))
                continue
            shards = tuple(Shard.of(plain) for plain in note["shards"])
            if path.suffix != ".shard" or (planned and not lost):
                problems.append(Problem(path, _STRAY))
            elif "timesteps" not in note:
                failed |= note["failed"]
                loose += shards
            elif fault := self._fault(path.stem, note["timesteps"]):
                problems.append(Problem(self.timesteps_path(path.stem), fault, lost))
                problems.append(Problem(path, "its timesteps are lost"))
            else:
                failed |= note["failed"]
                parts[path.stem] = shards
        known = {shard.part for shards in [planned, loose, *parts.values()] for shard in shards}
        for path in files(self.folder / TIMESTEPS):
            if path.suffix != ".parquet" or path.stem not in known:
                problems.append(Problem(path, _STRAY))
        if manifest and manifest["finished"]:
            named = {key for problem in problems for key in problem.lost}
            for part in dict.fromkeys(shard.part for shard in planned if shard.key not in named):
                if part not in parts:
                    lost = frozenset(shard.key for shard in planned if shard.part == part)
                    problems.append(Problem(self.shard_path(part), "is missing", lost))
            if fault := self._runs_fault(manifest):
                problems.append(Problem(self.folder / RUNS, fault))
        held = {shard.key for shards in parts.values() for shard in shards}
        own = tuple(shard for shard in loose if shard.key not in held)
        everything = tuple(planned) or tuple(shard for shards in [*parts.values(), own] for shard in shards)
        return Survey(
            manifest, plan["numerics"] if plan else None, everything, parts, own, failed, tuple(dict.fromkeys(problems))
        )

    def runs(self) -> pa.Table:
        """The runs that are finished, in the order of the grid.

        `shard` names the file of a run's timesteps, and `shard_row` is the row with which they begin. Raises InputError
        for a damaged file.
        """
        manifest = self.manifest()
        if manifest["finished"]:
            if fault := self._runs_fault(manifest):
                raise InputError(fault, where=str(self.folder / RUNS), hint=MENDED)
            return pq.read_table(self.folder / RUNS)
        with _as_input_errors():
            return self.runs_so_far(manifest["grid"])

    def runs_so_far(self, grid: Mapping[str, Any]) -> pa.Table:
        """The runs in the files of parts and shards, in the order of `grid`. Raises DamagedError for a damaged file."""
        place = {name: i for i, shard in enumerate(_planned(self._json(PLAN))) for name in (shard.part, shard.key)}
        kept = sorted(files(self.folder / SHARDS), key=lambda path: place.get(path.stem, -1))
        notes = {path: _note(path, *_stamp(path)) for path in kept}
        in_parts = {one["key"] for note in notes.values() if "timesteps" in note for one in note["shards"]}
        tables = [_located(path) for path in kept if "timesteps" in notes[path] or path.stem not in in_parts]
        if not tables:
            return pa.table({"run_id": pa.array([], pa.string())})
        return in_order(last_of_each(joined(tables)), grid)

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

    def _json(self, name: str, problems: list[Problem] | None = None) -> dict[str, Any] | None:
        """What is in a file of the folder; None if there is none. Damage joins `problems`, or is raised if None."""
        try:
            return read_json(self.folder / name)
        except FileNotFoundError:
            return None
        except DamagedError as error:
            if problems is None:
                raise
            problems.append(_damaged(self.folder / name, error))
            return None

    def _timesteps_of(self, name: str, first: np.ndarray[Any, Any], counts: np.ndarray[Any, Any]) -> pa.Table:
        """Rows first .. first + counts - 1 of the timesteps in the file of a part or a shard."""
        rows = np.repeat(first - np.concatenate([[0], counts.cumsum()[:-1]]), counts) + np.arange(counts.sum())
        path = self.shard_path(name)
        if not path.exists():
            raise DamagedError(f"{path}: is missing")
        note = _note(path, *_stamp(path))
        if "timesteps" not in note:
            return sealed.read(path).tables[1].take(rows)
        if fault := self._fault(name, note["timesteps"]):
            raise DamagedError(f"{self.timesteps_path(name)}: {fault}")
        with pq.ParquetFile(self.timesteps_path(name)) as file:
            sizes = np.array([file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)])
            starts = np.concatenate([[0], sizes.cumsum()])
            group = np.searchsorted(starts, rows, side="right") - 1
            needed = np.unique(group)
            begins = np.zeros(len(sizes), np.int64)
            begins[needed] = np.concatenate([[0], sizes[needed].cumsum()[:-1]])
            return file.read_row_groups(needed.tolist()).take(rows - starts[group] + begins[group])

    def _fault(self, part: str, sha256: str) -> str:
        """What is wrong with the file of a part's timesteps; nothing, if that is."""
        path = self.timesteps_path(part)
        if not path.exists():
            return "is missing"
        return "" if _sha256(path, *_stamp(path)) == sha256 else "damaged: its checksum differs"

    def _runs_fault(self, manifest: Mapping[str, Any]) -> str:
        path = self.folder / RUNS
        if not path.exists():
            return "is missing"
        return "" if sha256_of(path) == manifest["tables"][RUNS] else "damaged: its checksum differs"


def files(folder: Path) -> Iterator[Path]:
    """The files in a folder, sorted, but for those that are being written; none if there is no such folder."""
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if not TEMPORARY.fullmatch(path.name))


@contextmanager
def _as_input_errors() -> Iterator[None]:
    """Within the block, damage is an error of the folder's."""
    try:
        yield
    except DamagedError as error:
        raise InputError(str(error), hint=MENDED) from None


def _planned(plan: Mapping[str, Any] | None) -> list[Shard]:
    return [Shard.of(plain) for plain in plan["shards"]] if plan else []


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
def _sha256(path: Path, *_: int) -> str:
    return sha256_of(path)


@lru_cache(maxsize=4096)
def _note(path: Path, *_: int) -> dict[str, Any]:
    return sealed.read(path).note


def _damaged(path: Path, error: DamagedError, lost: frozenset[str] = frozenset()) -> Problem:
    return Problem(path, str(error).removeprefix(f"{path}: "), lost)
