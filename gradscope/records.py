"""Measurements as tables: one row a run in `runs`, one row a run and time step in `timesteps` (Arrow)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from gradscope.engine import Measured
from gradscope.runs import Run

ARROW = {int: pa.int64(), float: pa.float64(), str: pa.string()}


def runs_table(measured: Sequence[Measured], shard: str, kinds: Mapping[str, type]) -> pa.Table:
    """The runs table: `run_id`, every parameter by its name, what was measured, and the `shard` of its timesteps.

    `kinds` gives the parameters' types, so that every shard has the same ones whatever its values; a parameter that may
    be a number or a text is a text.
    """
    columns: dict[str, pa.Array] = {"run_id": pa.array([m.run.run_id for m in measured])}
    for name, kind in kinds.items():
        values = (m.run.parameters.get(name) for m in measured)
        columns[name] = pa.array([None if value is None else kind(value) for value in values], ARROW[kind])
    for name in measured[0].row:
        columns[name] = pa.array([m.row[name] for m in measured], ARROW[str if name == "status" else float])
    return pa.table(columns | {"shard": pa.array([shard] * len(measured))})


def timesteps_table(measured: Sequence[Measured]) -> pa.Table:
    """The timesteps table: `run_id`, `t` (1 .. T), `lag`, `log10_dh`, `log10_dh_std`, `zero_share`."""
    lengths = [len(m.lag) for m in measured]
    ids = pa.DictionaryArray.from_arrays(
        np.repeat(np.arange(len(measured), dtype=np.int32), lengths), [m.run.run_id for m in measured]
    )
    return pa.table(
        {
            "run_id": ids,
            "t": np.concatenate([np.arange(1, length + 1, dtype=np.int32) for length in lengths]),
            "lag": np.concatenate([m.lag for m in measured]).astype(np.int32),
            **{
                name: np.concatenate([getattr(m, name) for m in measured])
                for name in ("log10_dh", "log10_dh_std", "zero_share")
            },
        }
    )


def in_order(table: pa.Table, runs: Sequence[Run]) -> pa.Table:
    """The rows of `table` in the order of `runs`, each run's rows in their own order."""
    rank = {run.run_id: position for position, run in enumerate(runs)}
    ids = table["run_id"].to_pandas()
    return table.take(np.argsort(ids.map(rank).to_numpy(np.int64), kind="stable"))
