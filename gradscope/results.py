"""Results of a sweep as pandas tables, read only as far as they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradscope.errors import InputError, unknown
from gradscope.records import FAILED
from gradscope.store import Store


class Results:
    """The tables of a sweep, or of the part of it that `select` chose.

    Attributes
    ----------
    folder : where they are.
    manifest : the sweep as resolved, its hash, versions, platform, times.
    runs : DataFrame, a row a run; columns as in the documentation of the tables.
    timesteps : DataFrame, a row a run and time step; read when first asked for.
    whole : whether these are all of the folder's runs.
    """

    def __init__(self, store: Store, runs: pd.DataFrame, *, whole: bool = True):
        self._store = store
        self.whole = whole
        self.folder = store.folder
        self.runs = runs

    def __repr__(self) -> str:
        finished = "" if self.manifest["finished"] else ", not finished"
        return f"<{len(self.runs):,} of {self.manifest['runs']:,} runs in {self.folder}{finished}>"

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The folder's manifest."""
        return self._store.manifest()

    @property
    def parameters(self) -> list[str]:
        """The columns of `runs` that are parameters of the grid."""
        return [key for key in self.manifest["grid"] if key in self.runs]

    @property
    def failed(self) -> dict[str, int]:
        """Why runs failed -> how many did for that reason; most frequent first."""
        own = self.runs.loc[self.runs["status"] == FAILED, "message"].astype(str)
        return {str(why): int(count) for why, count in own.value_counts().items()}

    @cached_property
    def timesteps(self) -> pd.DataFrame:
        """Gradient norms at each time step of the chosen runs, in the runs' order."""
        table = self._store.timesteps(self.runs)
        rank = pd.Series(np.arange(len(self.runs)), index=self.runs["run_id"].astype(str))
        frame = table.to_pandas()
        frame["run_id"] = frame["run_id"].cat.set_categories(rank.index)
        return frame.sort_values(["run_id", "t"], kind="stable", ignore_index=True)

    def select(self, **values: Any) -> Results:
        """The results of the runs whose parameters have these values; a list or tuple means any of its members.

        Numbers match to 9 digits. Raises InputError for a column that is not there or a value that none has.

        Examples
        --------
        `results.select(spectral_radius=1.1, truncation="full").timesteps`
        """
        chosen = np.ones(len(self.runs), bool)
        for name, value in values.items():
            if name not in self.runs:
                raise unknown("column", name, self.runs.columns, where="select")
            value = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
            matches = _any_of(self.runs[name], value if isinstance(value, list | tuple) else [value])
            if not matches.any():
                present = ", ".join(map(str, pd.unique(self.runs[name])[:30]))
                raise InputError(f"no run has {name} = {value!r}", where="select", allowed=present)
            chosen &= matches
        return Results(self._store, self.runs[chosen].reset_index(drop=True), whole=False)


def load(folder: str | Path) -> Results:
    """The results in a sweep's folder.

    Parameters
    ----------
    folder : where `gradscope sweep` or `gs.sweep` wrote them.

    Raises
    ------
    InputError : no sweep there, or none of its runs is finished.

    Examples
    --------
    `gs.load("reports/spectral-radius").runs`
    """
    store = Store(Path(folder))
    runs = store.runs().to_pandas()
    if runs.empty:
        raise InputError("none of the sweep's runs is finished", where=str(folder), hint="run the sweep again")
    texts = [
        name for name in runs.columns if runs[name].dtype == object or isinstance(runs[name].dtype, pd.StringDtype)
    ]
    return Results(store, runs.astype(dict.fromkeys([name for name in texts if name != "run_id"], "category")).copy())


def _any_of(column: pd.Series, values: Sequence[Any]) -> NDArray[np.bool_]:
    """Which entries equal any of `values`; numbers to 9 digits, also those in a column of text. None: it is missing."""
    texts = column.astype(str).isin([_text(value) for value in values if value is not None]).to_numpy(bool)
    missing = column.isna().to_numpy(bool) & any(value is None for value in values)
    wanted = [float(value) for value in values if isinstance(value, int | float)]
    if not wanted:
        return (texts & column.notna().to_numpy(bool)) | missing
    numbers = pd.to_numeric(column.astype(object), errors="coerce").to_numpy(np.float64)
    close = np.any([np.isclose(numbers, value, rtol=1e-9, atol=0.0) for value in wanted], axis=0)
    return close | (texts & column.notna().to_numpy(bool)) | missing


def _text(value: Any) -> str:
    """A value as the tables hold it in columns of text; loss steps are one text, whatever their spacing."""
    steps = value if isinstance(value, list | tuple) else str(value).split(",")
    return ",".join(str(step).strip() for step in steps)
