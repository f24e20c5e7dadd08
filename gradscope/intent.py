"""What a sweep is going to do with a folder: which runs, and why. Nothing is changed by asking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from gradscope import plan
from gradscope.errors import InputError
from gradscope.grid import Sweep
from gradscope.plan import Shard
from gradscope.records import FAILED
from gradscope.runs import NUMERICS_VERSION, Network, Setting
from gradscope.store import Store
from gradscope.survey import Survey, survey
from gradscope.values import in_words

NEW, BEGUN, DAMAGED, FAILED_BEFORE = "new", "planned before, not done yet", "lost with damaged files", "failed before"


@dataclass(frozen=True)
class Intent:
    """What is to be done.

    Attributes
    ----------
    sweep : the sweep as resolved.
    survey : what was found in its folder.
    planned : every shard of the sweep; those that are done too.
    todo : those that are to be measured.
    reasons : why -> how many runs are to be measured for it.
    start_over : why nothing of what is there can be used; empty if it can.
    left_failed : how many runs have failed before, and are left as they are.
    refused : why the sweep cannot be run in this folder; None if it can.
    """

    sweep: Sweep
    survey: Survey
    planned: tuple[Shard, ...]
    todo: tuple[Shard, ...]
    reasons: Mapping[str, int]
    left_failed: int = 0
    start_over: str = ""
    refused: InputError | None = None

    @property
    def settled(self) -> bool:
        """Whether there is nothing to do at all."""
        manifest = self.survey.manifest
        finished = manifest and manifest["finished"] and manifest["hash"] == self.sweep.hash
        return bool(finished and not self.todo and not self.survey.problems)

    @property
    def done(self) -> int:
        """How many runs need not be measured."""
        return len(self.sweep) - sum(map(len, self.todo))


def intent(sweep: Sweep, folder: Path, max_memory: float, *, retry_failed: bool = False) -> Intent:
    """What running `sweep` in `folder` comes to, with blocks that take at most `max_memory` bytes.

    Raises InputError if a single network takes more.
    """
    Store(folder).refuse_others()
    found = survey(folder)
    stale = found.numerics - {NUMERICS_VERSION}
    if stale:
        why = f"numerics version changed, {', '.join(map(str, sorted(stale)))} to {NUMERICS_VERSION}"
        found = replace(found, parts={}, loose=frozenset(), failed={})
        return _from_nothing(sweep, found, max_memory, why, start_over=why)
    foreign = {shard.key for shard in plan.strangers(found.planned, sweep.blocks)}
    if foreign & found.done:
        why = f"parameters changed: {_changes(sweep, found)}"
        return _from_nothing(sweep, found, max_memory, why, refused=_refusal(sweep, found, folder, foreign))
    planned = [shard for shard in _own(found, sweep) if shard.key in found.done or shard.memory <= max_memory]
    if not found.has_plan:
        fresh = plan.shards(sweep.blocks, (), max_memory)
        planned = fresh if _agree(fresh, planned, found) else planned
    planned += plan.shards(sweep.blocks, planned, max_memory)
    failed = _failed(planned, folder, found)
    retried = plan.again(sweep.blocks, failed, planned, max_memory) if retry_failed else []
    todo = [shard for shard in planned if shard.key not in found.done] + retried
    reasons: Counter[str] = Counter()
    before = {shard.key for shard in found.planned} if found.has_plan else frozenset()
    again = {shard.key for shard in retried}
    for shard in todo:
        reasons[_reason(shard.key, found, before, again)] += len(shard)
    left_failed = 0 if retry_failed else sum(len(settings) for own in failed.values() for settings in own.values())
    return Intent(sweep, found, (*planned, *retried), tuple(todo), reasons, left_failed)


def _from_nothing(sweep: Sweep, found: Survey, max_memory: float, why: str, **more: Any) -> Intent:
    planned = tuple(plan.shards(sweep.blocks, (), max_memory))
    return Intent(sweep, found, planned, planned, {why: len(sweep)}, **more)


def _own(found: Survey, sweep: Sweep) -> Iterator[Shard]:
    """The shards that were planned and are of this sweep, with data files where they are now."""
    common = {block.kind: block.common for block in sweep.blocks}
    foreign = {shard.key for shard in plan.strangers(found.planned, sweep.blocks)}
    for shard in found.planned:
        if shard.key not in foreign:
            yield replace(shard, blocks=tuple(replace(block, common=common[block.kind]) for block in shard.blocks))


def _agree(fresh: Sequence[Shard], planned: Sequence[Shard], found: Survey) -> bool:
    """Whether what files hold is what is planned afresh: their shards, in the same parts."""
    places = {shard.key: shard.part for shard in fresh}
    keys: dict[str, set[str]] = {}
    for shard in fresh:
        keys.setdefault(shard.part, set()).add(shard.key)
    return all(places.get(shard.key) == shard.part for shard in planned) and all(
        set(own) == keys[part] for part, own in found.parts.items() if part in keys
    )


def _reason(key: str, found: Survey, before: Collection[str], again: Collection[str]) -> str:
    if key in again:
        return FAILED_BEFORE
    if key in found.lost:
        return DAMAGED
    return BEGUN if key in before else NEW


def _failed(planned: Sequence[Shard], folder: Path, found: Survey) -> plan.Runs:
    """The runs that have failed, and that nothing is planned for."""
    if not found.failed:
        return {}
    runs = Store(folder).runs_of([*found.parts, *sorted(found.loose)], {})
    ids = set(runs.filter(pc.equal(runs["status"], FAILED))["run_id"].to_pylist())
    failed: dict[str, dict[Network, set[Setting]]] = {}
    for block in (block for shard in planned if shard.key in found.failed for block in shard.blocks):
        for run in block.runs:
            if run.run_id in ids:
                network = Network(*(run[name] for name in Network._fields))
                setting = Setting(*(run[name] for name in Setting._fields))
                failed.setdefault(block.kind, {}).setdefault(network, set()).add(setting)
    return plan.without(failed, (shard for shard in planned if shard.key not in found.done))


def _refusal(sweep: Sweep, found: Survey, folder: Path, foreign: set[str]) -> InputError:
    strangers = sum(len(shard) for shard in found.planned if shard.key in foreign & found.done)
    held = found.manifest or {"name": "unknown", "hash": "its manifest is damaged"}
    return InputError(
        f"output folder holds another sweep ({held['name']}, {held['hash']}): up to {strangers:,} of its runs are not "
        f"in this one; changed: {_changes(sweep, found)}",
        where=str(folder),
        hint="choose another folder with -o",
    )


def _changes(sweep: Sweep, held: Survey) -> str:
    """In which keys the sweep in the folder differs from this one."""
    before = held.manifest["grid"] if held.manifest else {}
    keys = [key for key in {**before, **sweep.grid} if list(sweep.grid.get(key, ())) != before.get(key, [])]
    found = [f"{key} from {in_words(before.get(key, []))} to {in_words(sweep.grid.get(key, ()))}" for key in keys]
    return "; ".join(found) or "the data"
