"""Writing a sweep's folder: one writer at a time; small files that appear whole, and are put together when they can."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from gradscope import sealed
from gradscope.errors import InputError
from gradscope.files import TEMPORARY, move_in, sha256_of, sync_folder, write_json, write_whole
from gradscope.locking import LOCK, locked
from gradscope.plan import Shard
from gradscope.records import joined
from gradscope.runs import NUMERICS_VERSION
from gradscope.store import FORMAT, LOG, MANIFEST, PLAN, RUNS, SHARDS, TIMESTEPS, Store, files
from gradscope.survey import Problem, Survey

ASIDE = "set-aside"
ROW_GROUP = 2**14  # rows of timesteps that are read together, at least


@contextmanager
def writing(folder: Path) -> Iterator[Writer]:
    """The writer of a folder, which is made if there is none; there is one at a time.

    Raises InputError if it cannot be written, if another process writes it, or if it holds anything but a sweep.
    """
    with locked(folder, _refuse_others):
        yield Writer(folder)


def refuse_unwritable(folder: Path) -> None:
    """Raise the InputError with which `writing` would begin, if it would. Nothing is made."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise InputError("output folder cannot be written", where=str(folder))
    if (folder / LOCK).exists():
        with locked(folder, _refuse_others):
            pass
    _refuse_others(folder)


def _refuse_others(folder: Path) -> None:
    """Raise InputError if a folder holds anything but a sweep."""
    store = Store(folder)
    store.refuse_others()
    if not (folder / MANIFEST).exists() and not store.is_ours and any(files(folder)):
        what = "output folder is not empty and holds no sweep"
        raise InputError(what, where=str(folder), hint="choose another folder with -o")


class Writer:
    """Writes a sweep's folder."""

    def __init__(self, folder: Path):
        self.store = Store(folder)
        self.folder = folder
        self._missing: dict[str, set[str]] = {}  # part -> the keys of its shards that are not done
        self._shards: dict[str, list[Shard]] = {}

    def write_manifest(self, content: Mapping[str, Any]) -> None:
        """Replace the manifest."""
        write_json(self.folder / MANIFEST, {"format": FORMAT, **content}, indent=2)

    def write_plan(self, shards: Sequence[Shard]) -> None:
        """Replace the plan."""
        plain = [shard.plain() for shard in shards]
        write_json(self.folder / PLAN, {"format": FORMAT, "numerics": NUMERICS_VERSION, "shards": plain})

    def begin(self, planned: Iterable[Shard], survey: Survey) -> None:
        """Go on from what is done: remove what a stop has left behind, and put together what can be."""
        self._clear()
        for key in (key for keys in survey.parts.values() for key in keys):
            self.store.shard_path(key).unlink(missing_ok=True)
        done = survey.done
        for shard in planned:
            if shard.part not in survey.parts:
                self._shards.setdefault(shard.part, []).append(shard)
                self._missing.setdefault(shard.part, set())
                if shard.key not in done:
                    self._missing[shard.part].add(shard.key)
        for part in [part for part, missing in self._missing.items() if not missing]:
            self._put_together(part)

    def log(self, text: str) -> None:
        """Write a line to the log; a full disk is not the log's to report."""
        with contextlib.suppress(OSError), (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{datetime.datetime.now(datetime.UTC).isoformat(timespec='milliseconds')} {text}\n")

    def append(self, shard: Shard, content: bytes | Path) -> None:
        """Add a shard that is done: sealed bytes, or the file beside its place to which the worker wrote them."""
        path = self.store.shard_path(shard.key)
        if isinstance(content, Path):
            move_in(content, path)
        else:
            write_whole(path, lambda place: place.write_bytes(content))
        self._missing[shard.part].discard(shard.key)
        if not self._missing[shard.part]:
            self._put_together(shard.part)

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Write the final table of runs, and the manifest that says so."""
        self._clear()
        table = self.store.runs_of(self.store.kept(), manifest["grid"])
        write_whole(self.folder / RUNS, lambda path: pq.write_table(table, path, compression="zstd"))
        self.write_manifest({**manifest, "tables": {RUNS: sha256_of(self.folder / RUNS)}})

    def set_aside(self, problems: Sequence[Problem]) -> Path | None:
        """Move what is not as it should be out of the way, and return where it is; nothing is deleted."""
        return self._aside([problem.path for problem in problems])

    def start_over(self) -> Path | None:
        """Move everything that was measured out of the way, and return where it is."""
        return self._aside([self.folder / name for name in (SHARDS, TIMESTEPS, RUNS, PLAN)])

    def _clear(self) -> None:
        """Make the folders, and remove files of which the writing was not finished."""
        for folder in (self.folder, self.folder / SHARDS, self.folder / TIMESTEPS):
            folder.mkdir(exist_ok=True)
            for path in folder.iterdir():
                if TEMPORARY.fullmatch(path.name):
                    path.unlink(missing_ok=True)
        sync_folder(self.folder)

    def _aside(self, paths: Sequence[Path]) -> Path | None:
        paths = [path for path in paths if path.exists()]
        if not paths:
            return None
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        aside = self.folder / ASIDE / stamp
        for path in paths:
            place = aside / path.relative_to(self.folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
            for folder in (place.parent, aside, aside.parent, self.folder, path.parent):
                sync_folder(folder)
        return aside

    def _put_together(self, part: str) -> None:
        """Make a part of its shards: first the timesteps, then the runs, which say so; then the shards may go."""
        shards = self._shards.pop(part)
        kept = [sealed.read(self.store.shard_path(shard.key)) for shard in shards]
        steps = joined([one.tables[1] for one in kept])
        where = self.store.timesteps_path(part)
        names = ["run_id", "t", "lag"]  # of columns whose values repeat
        write_whole(
            where,
            lambda path: pq.write_table(
                steps, path, compression="zstd", row_group_size=ROW_GROUP, use_dictionary=names, store_schema=True
            ),
        )
        note = {
            "shards": [shard.plain() for shard in shards],
            "failed": {key: count for one in kept for key, count in one.note["failed"].items()},
            "numerics": NUMERICS_VERSION,
            "timesteps": sha256_of(where),
        }
        content = sealed.seal(note, [joined([one.tables[0].replace_schema_metadata(None) for one in kept])])
        write_whole(self.store.shard_path(part), lambda path: path.write_bytes(content))
        for shard in shards:
            self.store.shard_path(shard.key).unlink()
        del self._missing[part]
