"""A training that was run: its tables, the network that it left, and the folder that both are kept in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradscope import checkpoint
from gradscope.curves import Curves, final
from gradscope.errors import InputError
from gradscope.evaluation import forecast, horizons, sample, scores, units
from gradscope.files import DamagedError, changed_files, read_json, sha256_of, write_json, write_whole
from gradscope.recurrence import Cell, Parameters
from gradscope.results import View
from gradscope.runs import Run
from gradscope.store import MANIFEST
from gradscope.training import State, Training

MODEL = "model.safetensors"
TABLES = ("runs", "steps", "history", "lags", "samples", "scores", "forecast", "horizons")


@dataclass(frozen=True)
class History:
    """A training: what `gs.train` returns, and `gs.load` of its folder.

    Attributes
    ----------
    runs : DataFrame of one row: every key, `status`, and what is left in the end (`curves.final`).
    steps : a row a step: `step` (from 1), `loss`, `log10_grad` and `log10_clipped` (norm before and after clipping),
        `clipped`.
    history : a row a look, every `record_every` steps: `step`, mean `loss` since the look before, `validation_loss`,
        medians of the norms, `clip_share`, of W_hh the `spectral_radius` and `spectral_norm`, `mean_slope`,
        `saturated_share`.
    lags : a row a look and lag: `log10_dh` of the training loss as it is truncated, `log10_reach` of the last loss
        under full BPTT; means over examples of log10 norms.
    samples : texts written on the way: `step`, `text`; empty but for texts.
    scores : test loss of the network and of naive predictions: `predictor`, `loss`, `naive`; the least first.
    forecast, horizons : of a series: the test part with its forecasts, and their errors by horizon.
    params : name -> array, of the network with the least validation loss.
    manifest : keys, data, versions, times; `units`, the mean and scale of a series, by which it was normalised.
    folder : where all of it is kept, or None.
    """

    manifest: Mapping[str, Any]
    runs: pd.DataFrame
    steps: pd.DataFrame
    history: pd.DataFrame
    lags: pd.DataFrame
    samples: pd.DataFrame
    scores: pd.DataFrame
    forecast: pd.DataFrame
    horizons: pd.DataFrame
    params: Parameters
    folder: Path | None = None
    whole: bool = field(default=True, repr=False)
    view: View = field(default=View(), repr=False)

    def __repr__(self) -> str:
        row = self.runs.iloc[0]
        return f"<{row['task']}: {self.status} after {len(self.steps):,} steps, test loss {row['test_loss']:.4g}>"

    @property
    def run(self) -> Run:
        """What was trained, and how."""
        return Run(self.manifest["run"])

    @property
    def cell(self) -> Cell:
        """The network's cell, for `gs.backprop` with `params`."""
        return self.run.cell()

    @property
    def status(self) -> str:
        """Either "ok", or why it ended before its last step: "diverged at step N", "stopped early at step N"."""
        return str(self.runs.iloc[0]["status"])

    @property
    def parameters(self) -> list[str]:
        """The columns of `runs` that are keys."""
        return [key for key in self.manifest["grid"] if key in self.runs]

    def where(self, condition: str) -> History:
        """Raises InputError: a single training has no parts, as the `Results` of a sweep have."""
        raise InputError(f"{condition!r}: a single training has no parts", where="where", hint="sweep trainings")

    def viewed(self, hue: str | None = None, facet: Sequence[str] = ()) -> History:
        """Itself. Raises InputError for what lines or panels are to differ by: in a single training nothing does."""
        for where, names in (("hue", [hue] if hue else []), ("facet", facet)):
            if names:
                what = f"{', '.join(names)} has one value in a single training"
                raise InputError(what, where=where, hint="sweep trainings")
        return self

    @property
    def beaten_by(self) -> list[str]:
        """The naive predictions that are no worse than the network on the test part."""
        network = float(self.runs.iloc[0]["test_loss"])
        naive = self.scores[self.scores["naive"]]
        return list(naive.loc[~(naive["loss"] > network), "predictor"])


def history_of(
    training: Training, state: State, curves: Curves, samples: Mapping[int, str], manifest: Mapping[str, Any]
) -> History:
    """The history of a training of one run, from where it stands."""
    (run,) = training.runs
    params = {name: array[0].copy() for name, array in training.by_name(state.best).items()}
    last = {name: values[0] for name, values in final(training, state, [curves]).items()}
    looks = pd.DataFrame({name: values[:, 0] for name, values in curves.at_looks().items()})
    looks.insert(0, "step", [look.step for look in curves.looks])
    steps = pd.DataFrame({name: values[:, 0] for name, values in curves.each().items()})
    steps.insert(0, "step", np.arange(1, len(steps) + 1))
    tables = {
        "runs": pd.DataFrame([{"run_id": run.run_id, **run.parameters, "status": state.status[0], **last}]),
        "steps": steps,
        "history": looks,
        "lags": _lags(curves),
        "samples": pd.DataFrame({"step": list(samples), "text": list(samples.values())}).astype({"text": str}),
        "scores": scores(training, last["test_loss"]),
        "forecast": forecast(training, params),
        "horizons": horizons(training, params),
    }
    for name in ("steps", "history", "lags"):
        tables[name].insert(0, "run_id", run.run_id)
    own = units(training)
    return History({**manifest, "units": own and own._asdict()}, **tables, params=params)


def written_text(training: Training, state: State) -> str | None:
    """What the network writes as it stands; None if it learns from no text, or has diverged."""
    params = {name: array[0] for name, array in state.params.items()}
    if not all(np.isfinite(array).all() for array in params.values()):
        return None
    return sample(training, params, state.number)


def save(history: History, folder: Path) -> History:
    """Write a history into a folder: its tables, `model.safetensors`, and the manifest last."""
    for name in TABLES:
        table: pd.DataFrame = getattr(history, name)
        write_whole(folder / f"{name}.parquet", partial(table.to_parquet, index=False))
    checkpoint.write(folder / MODEL, history.params, history.manifest["run"])
    files = [*(f"{name}.parquet" for name in TABLES), MODEL]
    manifest = {**history.manifest, "tables": {name: sha256_of(folder / name) for name in files}}
    write_json(folder / MANIFEST, manifest, indent=2)
    return read(folder)


def read(folder: Path) -> History:
    """The history in a folder. Raises InputError if there is none, it is not finished, or a file is damaged."""
    try:
        manifest = read_json(folder / MANIFEST)
    except (DamagedError, FileNotFoundError) as error:
        raise InputError(f"holds no training: {error}", where=str(folder)) from None
    if not manifest.get("finished"):
        raise InputError("the training is not finished", where=str(folder), hint="the same command goes on with it")
    for damaged in changed_files(folder, manifest["tables"]):
        raise InputError("is missing or damaged", where=str(damaged), hint="train again in another folder")
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES}
    params, _ = checkpoint.read(folder / MODEL)
    return History(manifest, **tables, params=params, folder=folder)


def _lags(curves: Curves) -> pd.DataFrame:
    parts = []
    for look in curves.looks:
        columns = {name: values[0] for name, values in look.lags.items()}
        parts.append(pd.DataFrame(columns).assign(step=look.step))
    return pd.concat(parts).rename_axis("lag").reset_index()[["step", "lag", *curves.looks[0].lags]]
