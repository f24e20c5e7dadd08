"""Check a sweep's folder: every file against its checksum, and the tables against each other."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from gradscope import checkpoint, sealed
from gradscope.errors import InputError
from gradscope.files import changed_files, read_json
from gradscope.records import rows_of
from gradscope.store import CHECKPOINT, MANIFEST, RUNS, Store, is_training
from gradscope.survey import Survey, survey


class Verdict(NamedTuple):
    """What is wrong with a folder, and how many runs it holds.

    Attributes
    ----------
    problems : what is damaged, missing or stray; nothing, if that is empty.
    runs : that are there.
    unfinished : how far the sweep has come, in words; empty if it is finished.
    """

    problems: tuple[str, ...]
    runs: int
    unfinished: str = ""

    @property
    def ok(self) -> bool:
        """Whether the sweep is finished, and nothing is wrong with it."""
        return not self.problems and not self.unfinished


def verify(folder: str | Path) -> Verdict:
    """Check the folder of a sweep, or of a training. Nothing is changed.

    Raises InputError if it holds neither.

    Examples
    --------
    `gs.verify("reports/spectral-radius").ok`
    """
    if is_training(Path(folder)):
        return _verify_training(Path(folder))
    store = Store(Path(folder))
    store.refuse_others()
    found = survey(store.folder)
    problems = [str(problem) for problem in found.problems]
    if found.manifest is None and not problems:
        store.manifest()  # says that there is none
    if found.manifest is None or problems:
        return Verdict(tuple(problems), 0)
    runs = store.runs_of(store.kept(), found.manifest["grid"])
    total = found.manifest["runs"]
    if not found.manifest["finished"]:
        said = f"{len(runs):,} of {total:,} runs are done"
        return Verdict((), len(runs), said if len(runs) < total else f"{said}, but not yet in the final table")
    problems += _disagreements(store, found)
    if len(runs) != total:
        problems.append(f"{folder}: {len(runs):,} runs, but the sweep has {total:,}")
    if not pq.read_table(store.folder / RUNS).to_pandas().equals(runs.to_pandas()):  # NaN is equal to NaN
        problems.append(f"{store.folder / RUNS}: holds other runs than the shards")
    return Verdict(tuple(problems), len(runs))


def _disagreements(store: Store, found: Survey) -> list[str]:
    """Timesteps that are not those of the runs beside them."""
    wrong = []
    for part in found.parts:
        runs = sealed.read(store.shard_path(part)).tables[0]
        path = store.timesteps_path(part)
        steps = pq.read_table(path, columns=["run_id", "t"])
        counts = rows_of(runs)
        ids = np.repeat(runs["run_id"].to_numpy(), counts)
        t = np.concatenate([np.arange(1, count + 1) for count in counts]) if len(counts) else np.zeros(0)
        if not (np.array_equal(steps["run_id"].to_pandas().astype(str), ids) and np.array_equal(steps["t"], t)):
            wrong.append(f"{path}: holds other steps than its runs have")
    return wrong


def _verify_training(folder: Path) -> Verdict:
    manifest = read_json(folder / MANIFEST)
    if not manifest["finished"]:
        return Verdict((), 0, "the training has not come to its end")
    damaged = changed_files(folder, manifest["tables"])
    problems = [f"{path}: missing, or not as it was written" for path in damaged]
    try:
        checkpoint.read(folder / CHECKPOINT)
    except InputError as error:
        problems.append(f"{error}; the training cannot be continued")
    return Verdict(tuple(problems), 1)
