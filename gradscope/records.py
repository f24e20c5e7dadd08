"""Measurements as tables: one row a run in `runs`, one row a run and time step in `timesteps` (Arrow)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from gradscope.engine import Measurement
from gradscope.runs import Run

ARROW = {int: pa.int64(), float: pa.float64(), str: pa.string()}


def runs_table(measured: Measurement, shard: str, kinds: Mapping[str, type]) -> pa.Table:
    """The runs table: `run_id`, every parameter by its name, what was measured, and the `shard` of its timesteps.

    `kinds` gives the parameters' types, so that every shard has the same ones whatever its values; a parameter that may
    be a number or a text is a text.
    """
    runs = measured.runs
    columns: dict[str, pa.Array] = {"run_id": pa.array([run.run_id for run in runs])}
    for name, kind in kinds.items():
        values = (run.parameters.get(name) for run in runs)
        columns[name] = pa.array([None if value is None else kind(value) for value in values], ARROW[kind])
    for name, column in measured.columns.items():
        columns[name] = pa.array(column, ARROW[str if name == "status" else float])
    return pa.table(columns | {"shard": pa.array([shard] * len(runs))})


def timesteps_table(measured: Measurement) -> pa.Table:
    """The timesteps table: `run_id`, `t` (1 .. T), `lag`, `log10_dh`, `log10_dh_std`, `zero_share`."""
    runs = np.arange(len(measured.runs), dtype=np.int32)
    ids = pa.DictionaryArray.from_arrays(np.repeat(runs, measured.seq_len), [run.run_id for run in measured.runs])
    t = np.concatenate([np.arange(1, length + 1, dtype=np.int32) for length in measured.seq_len])
    steps = measured.steps | {"lag": measured.steps["lag"].astype(np.int32)}
    return pa.table({"run_id": ids, "t": t, **steps})


def in_order(table: pa.Table, runs: Sequence[Run]) -> pa.Table:
    """The rows of `table` in the order of `runs`, each run's rows in their own order."""
    rank = {run.run_id: position for position, run in enumerate(runs)}
    ids = table["run_id"].to_pandas()
    return table.take(np.argsort(ids.map(rank).to_numpy(np.int64), kind="stable"))
