"""The time of one gradient with each truncation of a sweep, measured now and on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from gradscope.gradients import backprop
from gradscope.runs import Run
from gradscope.threads import one_blas_thread

SETTING = ["panel", "seq_len", "loss_steps"]
ROUNDS = 5


def timing(runs: pd.DataFrame, parameters: Sequence[str]) -> pd.DataFrame:
    """The time of one gradient with each truncation, on one BLAS thread; all in turn, medians of several rounds.

    `runs` has the columns `parameters` and `SETTING`; returned are the latter, truncation, `seconds`, and
    `seconds_over_full`, in units of full BPTT's.
    """
    rows = []
    for key, own in runs.groupby(SETTING, observed=True, sort=False):
        first = own.drop_duplicates("truncation")
        seconds = _medians({str(row["truncation"]): _gradient(row, parameters) for _, row in first.iterrows()})
        for spec, taken in seconds.items():
            about = {**dict(zip(SETTING, key, strict=True)), "truncation": spec}
            rows.append({**about, "seconds": taken, "seconds_over_full": taken / seconds.get("full", np.nan)})
    return pd.DataFrame(rows)


def _gradient(row: pd.Series, parameters: Sequence[str]) -> Callable[[], object]:
    """A call that finds the gradient of a run, whose network and data are drawn beforehand."""
    run = Run({name: row[name] for name in [*parameters, "input_size", "output_size"] if pd.notna(row.get(name))})
    task, cell = run.task(), run.cell()
    x, y, _ = task.draw(int(run["seed"]), int(run["seq_len"]), int(run["batch_size"]), run["loss"])
    params = cell.init(
        int(run["seed"]), run["spectral_radius"], run["ensemble"], run["input_scale"], input_power=task.input_power
    )
    how = {name: str(run[name]) for name in ("loss", "loss_steps", "reduction", "truncation")}
    return lambda: backprop(cell, params, x, y, seed=int(run["seed"]), **how)


def _medians(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    with one_blas_thread():
        for _ in range(ROUNDS):
            for name, call in calls.items():
                began = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(taken)) for name, taken in seconds.items()}
