"""Measurements as tables: one row a run in `runs`, one row a run and time step in `timesteps` (Arrow)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gradscope.engine import Measurement
from gradscope.runs import ADDED, Run

ARROW = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
FAILED = "failed"  # the status of runs that could not be measured; their `message` says why
# What every run is measured for; the norms of gradients, by parameter, join them.
_MEASURED = ("spectral_radius_realised", "spectral_norm", "loss_value", "log10_grad", "relative_error", "cosine")
_STEPS = {"run_id": pa.dictionary(pa.int32(), pa.string()), "t": pa.int32(), "lag": pa.int32()}
_NORMS = ("log10_dh", "log10_dh_std", "zero_share")


def runs_table(measured: Measurement, kinds: Mapping[str, type]) -> pa.Table:
    """The runs table: `run_id`, every parameter by its name, `status`, `message`, and what was measured.

    `kinds` gives the parameters' types, so that every table has the same ones whatever its values; a parameter that may
    be a number or a text is a text.
    """
    columns = _parameters(measured.runs, kinds)
    columns["status"] = pa.array(measured.columns["status"], pa.string())
    columns["message"] = pa.nulls(len(measured.runs), pa.string())
    names = [*_MEASURED, *(name for name in measured.columns if name not in (*_MEASURED, "status"))]
    return pa.table(columns | {name: _measured(measured.columns[name]) for name in names})


def _measured(values: np.ndarray[Any, Any]) -> pa.Array:
    """A column of numbers, or of curves."""
    return pa.array(values, pa.list_(pa.float64()) if values.dtype == object else pa.float64())


def failed_table(runs: Sequence[Run], message: str, kinds: Mapping[str, type]) -> pa.Table:
    """The runs table of runs that could not be measured."""
    columns = _parameters(runs, kinds)
    columns["status"] = pa.array([FAILED] * len(runs))
    columns["message"] = pa.array([message] * len(runs))
    return pa.table(columns | {name: pa.nulls(len(runs), pa.float64()) for name in _MEASURED})


def timesteps_table(measured: Measurement | None) -> pa.Table:
    """The timesteps table: `run_id`, `t` (1 .. T), `lag`, `log10_dh`, ...; empty, if None."""
    others = [name for name in measured.steps if name not in (*_STEPS, *_NORMS)] if measured else []
    schema = pa.schema([*_STEPS.items(), *((name, pa.float64()) for name in (*_NORMS, *others))])
    if measured is None:
        return schema.empty_table()
    runs = np.arange(len(measured.runs), dtype=np.int32)
    ids = pa.DictionaryArray.from_arrays(np.repeat(runs, measured.seq_len), [run.run_id for run in measured.runs])
    t = np.concatenate([np.arange(1, length + 1, dtype=np.int32) for length in measured.seq_len])
    steps = measured.steps | {"lag": measured.steps["lag"].astype(np.int32)}
    return pa.table({"run_id": ids, "t": t, **steps}, schema)


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of the same kind as one; a column that some have not is empty there, but for keys that came later.

    A parameter that may be a number or a text is a text as soon as any table has one.
    """
    types = [{field.name: field.type for field in table.schema} for table in tables]
    texts = {name for own in types for name, kind in own.items() if kind == pa.string()}
    table = pa.concat_tables([_as_texts(table, texts) for table in tables], promote_options="default")
    for name in ADDED.keys() & {*table.column_names}:  # tables from before a key was there
        filled = pc.fill_null(table[name], pa.scalar(ADDED[name], table[name].type))
        table = table.set_column(table.column_names.index(name), name, filled)
    return table.unify_dictionaries()


def _as_texts(table: pa.Table, names: Set[str]) -> pa.Table:
    """A table in which columns of numbers with these names are texts, written as `_parameters` does."""
    for place, field in enumerate(table.schema):
        if field.name in names and pa.types.is_floating(field.type):
            words = [None if value is None else str(value) for value in table[field.name].to_pylist()]
            table = table.set_column(place, field.name, pa.array(words, pa.string()))
    return table


def rows_of(runs: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How many rows of timesteps each run has."""
    lengths = runs["seq_len"].to_numpy()
    return np.where(pc.equal(runs["status"], FAILED).to_numpy(), 0, lengths)


def in_order(runs: pa.Table, grid: Mapping[str, Sequence[Any]]) -> pa.Table:
    """The runs in the order of a grid's keys and values."""
    ranks = []
    for name, values in grid.items():
        if len(values) > 1 and name in runs.column_names:
            kind = runs.schema.field(name).type
            ordered = pa.array([str(value) if kind == pa.string() else value for value in values], kind)
            ranks.append(pc.fill_null(pc.index_in(runs[name], ordered), 0).to_numpy())
    return runs.take(np.lexsort(ranks[::-1])) if ranks else runs


def one_of_each(runs: pa.Table) -> pa.Table:
    """The runs without those rows that others of the same run replace: a good one, or the last of those that failed."""
    ids = runs["run_id"].to_pandas()
    if ids.is_unique:
        return runs
    good = pc.not_equal(runs["status"], FAILED).to_numpy()
    order = np.argsort(good, kind="stable")
    last = ~ids.iloc[order].duplicated(keep="last").to_numpy()
    return runs.take(np.sort(order[last]))


def _parameters(runs: Sequence[Run], kinds: Mapping[str, type]) -> dict[str, pa.Array]:
    columns: dict[str, pa.Array] = {"run_id": pa.array([run.run_id for run in runs])}
    for name, kind in kinds.items():
        values = (run.parameters.get(name) for run in runs)
        columns[name] = pa.array([None if value is None else kind(value) for value in values], ARROW[kind])
    return columns
