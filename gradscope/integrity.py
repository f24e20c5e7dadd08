"""Check a sweep's folder: every file against its checksum, and the tables against each other."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from gradscope import sealed
from gradscope.records import rows_of
from gradscope.store import RUNS, Store
from gradscope.survey import Survey, survey


class Verdict(NamedTuple):
    """What is wrong with a folder (nothing, if `problems` is empty), and how many runs it holds."""

    problems: tuple[str, ...]
    runs: int


def verify(folder: str | Path) -> Verdict:
    """Check a sweep's folder. Nothing is changed.

    Raises InputError if it holds no sweep.

    Examples
    --------
    `gs.verify("reports/spectral-radius").problems`
    """
    store = Store(Path(folder))
    store.refuse_others()
    found = survey(store.folder)
    problems = [str(problem) for problem in found.problems]
    if found.manifest is None and not problems:
        store.manifest()  # says that there is none
    if found.manifest is None or problems:
        return Verdict(tuple(problems), 0)
    runs = store.runs_of(store.kept(), found.manifest["grid"])
    if not found.manifest["finished"]:
        problems.append(f"{folder}: not finished: {len(runs):,} of {found.manifest['runs']:,} runs are done")
    else:
        problems += _disagreements(store, found)
        if len(runs) != found.manifest["runs"]:
            problems.append(f"{folder}: {len(runs):,} runs, but the sweep has {found.manifest['runs']:,}")
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
