"""What is in a sweep's folder: every file looked at and checked against its checksum. Nothing is changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from gradscope import sealed
from gradscope.files import DamagedError, read_json
from gradscope.plan import Shard
from gradscope.store import MANIFEST, PLAN, RUNS, SHARDS, TIMESTEPS, Store, checksum_fault, files

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
    planned : the shards that are written down, in their order; if no plan can be read, those that files hold.
    has_plan : whether a plan can be read.
    numerics : the versions of the numerics of what is there.
    parts : part -> the keys of its shards, for those whose files are whole.
    loose : the keys of shards that have files of their own and are in none of the parts.
    failed : key of a shard -> how many of its runs have failed.
    problems : what is not as it should be.
    """

    manifest: Mapping[str, Any] | None
    planned: tuple[Shard, ...]
    has_plan: bool
    numerics: frozenset[int]
    parts: Mapping[str, tuple[str, ...]]
    loose: frozenset[str]
    failed: Mapping[str, int]
    problems: tuple[Problem, ...]

    @cached_property
    def done(self) -> frozenset[str]:
        """The keys of the shards that are done."""
        return self.loose.union(*self.parts.values())

    @cached_property
    def lost(self) -> frozenset[str]:
        """The keys of the shards that were done, but for which a file is not as it should be."""
        return frozenset(key for problem in self.problems for key in problem.lost) - self.done


def survey(folder: Path) -> Survey:
    """Look at every file of a sweep's folder."""
    return _Surveyor(Store(folder)).survey()


class _Surveyor:
    """Collects what a survey says."""

    def __init__(self, store: Store):
        self.store = store
        self.problems: dict[Path, Problem] = {}  # one for each file
        self.parts: dict[str, tuple[str, ...]] = {}
        self.loose: dict[str, Any] = {}
        self.failed: dict[str, int] = {}
        self.numerics = set[int]()
        self.found: dict[str, Any] = {}  # the shards that files hold, as they are written down

    def survey(self) -> Survey:
        manifest, plan = self._json(MANIFEST), self._json(PLAN)
        planned = [Shard.of(plain) for plain in plan["shards"]] if plan else []
        if plan:
            self.numerics.add(plan["numerics"])
        keys: defaultdict[str, set[str]] = defaultdict(set)  # name of a file -> shards that it holds
        for shard in planned:
            keys[shard.key].add(shard.key)
            keys[shard.part].add(shard.key)
        for path in files(self.store.folder / SHARDS):
            self._look_at(path, keys if plan else None)
        loose = frozenset(self.loose).difference(*self.parts.values())
        if not plan:
            planned = [Shard.of(plain) for plain in self.found.values()]
        self._look_for_strays({shard.part for shard in planned})
        if planned:
            self._look_for_missing(manifest, plan, keys)
        if manifest and manifest["finished"] and (fault := self.store.runs_fault(manifest)):
            self._problem(self.store.folder / RUNS, fault)
        return Survey(
            manifest,
            tuple(planned),
            plan is not None,
            frozenset(self.numerics),
            self.parts,
            loose,
            self.failed,
            tuple(self.problems.values()),
        )

    def _look_at(self, path: Path, keys: Mapping[str, set[str]] | None) -> None:
        """Take in a file of shards; `keys` says what the plan knows, if there is one."""
        lost = frozenset(keys.get(path.stem, ()) if keys is not None else ())
        if path.suffix != ".shard" or (keys is not None and not lost):
            self._problem(path, _STRAY)
            return
        try:
            note = sealed.read(path).note
        except DamagedError as error:
            self._problem(path, _reason(error, path), lost)
            return
        if "timesteps" in note:
            steps = self.store.timesteps_path(path.stem)
            if fault := checksum_fault(steps, note["timesteps"]):
                self._problem(steps, fault, lost)
                self._problem(path, "its timesteps are lost", lost)
                return
            self.parts[path.stem] = tuple(plain["key"] for plain in note["shards"])
        else:
            self.loose[path.stem] = None
        self.numerics.add(note["numerics"])
        self.failed |= note["failed"]
        self.found |= {plain["key"]: plain for plain in note["shards"]}

    def _look_for_strays(self, parts: Iterable[str]) -> None:
        for path in files(self.store.folder / TIMESTEPS):
            if path.suffix != ".parquet" or path.stem not in parts:
                self._problem(path, _STRAY)

    def _look_for_missing(
        self, manifest: Mapping[str, Any] | None, plan: Mapping[str, Any] | None, keys: Mapping[str, set[str]]
    ) -> None:
        for content, name in ((manifest, MANIFEST), (plan, PLAN)):
            if content is None:
                self._problem(self.store.folder / name, "is missing")
        if manifest and manifest["finished"] and plan:
            for part in {plain["part"]: None for plain in plan["shards"]}:
                if part not in self.parts:
                    self._problem(self.store.shard_path(part), "is missing", frozenset(keys[part]))

    def _problem(self, path: Path, what: str, lost: frozenset[str] = frozenset()) -> None:
        self.problems.setdefault(path, Problem(path, what, lost))

    def _json(self, name: str) -> dict[str, Any] | None:
        try:
            return read_json(self.store.folder / name)
        except FileNotFoundError:
            return None
        except DamagedError as error:
            self._problem(self.store.folder / name, _reason(error, self.store.folder / name))
            return None


def _reason(error: DamagedError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")
