"""Results of a sweep as pandas tables, read only as far as they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from gradscope.conditions import holding
from gradscope.curves import HISTORY
from gradscope.dynamics import CONVERGENCE, SPECTRUM
from gradscope.errors import InputError, unknown
from gradscope.records import FAILED
from gradscope.store import Store


class View(NamedTuple):
    """How figures lay results out.

    Attributes
    ----------
    hue : the parameter by which lines of one panel differ; None: the figure's own.
    facet : parameters that get a panel for each value, though the figure would take one of them or put them on an axis.
    where : the condition that chose the runs; "" for all, None for a selection that is not in words.
    """

    hue: str | None = None
    facet: tuple[str, ...] = ()
    where: str | None = ""

    @property
    def parameters(self) -> tuple[str, ...]:
        """All parameters that are named, facets first."""
        return tuple(dict.fromkeys((*self.facet, *([self.hue] if self.hue else []))))


class Results:
    """The tables of a sweep, or of the part of it that `select` chose.

    Attributes
    ----------
    folder : where they are.
    manifest : the sweep as resolved, its hash, versions, platform, times.
    runs : DataFrame, a row a run; columns as in the documentation of the tables.
    timesteps : DataFrame, a row a run and time step; read when first asked for.
    history : DataFrame, of trainings: a row a run and look at it while it learnt.
    spectrum, convergence : DataFrames, of Jacobians: a row a run and exponent, or estimate of the leading one.
    whole : whether these are all of the folder's runs.
    view : how figures lay them out.
    """

    def __init__(
        self, store: Store, runs: pd.DataFrame, curves: pa.Table, *, whole: bool = True, view: View | None = None
    ):
        self._store, self._curves = store, curves
        self.whole = whole
        self.view = view or View()
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

    @cached_property
    def history(self) -> pd.DataFrame:
        """The chosen trainings while they learnt, a row a look: `run_id`, `step`, and those of `Curves.at_looks`.

        Empty for a sweep that trains nothing.
        """
        return self._unfolded(HISTORY)

    @cached_property
    def spectrum(self) -> pd.DataFrame:
        """Lyapunov exponents of the chosen runs, a row an exponent: `run_id`, `index` (1, ...), `exponent`, `error`.

        In nats a step, descending, with the standard error. Empty for a sweep that measures no Jacobians.
        """
        return self._unfolded(SPECTRUM)

    @cached_property
    def convergence(self) -> pd.DataFrame:
        """The leading exponent from ever more steps, a row an estimate: `run_id`, `steps`, `exponent`."""
        return self._unfolded(CONVERGENCE)

    def _unfolded(self, prefix: str) -> pd.DataFrame:
        """The list columns that begin with a prefix, a row an entry: `run_id` and the rest of their names."""
        columns = [name for name in self._curves.column_names if name.startswith(prefix)]
        frame = self._curves.select(["run_id", *columns]).to_pandas().set_index("run_id")
        frame = frame.reindex(self.runs["run_id"].astype(str))
        frame = frame.dropna(how="all").explode(columns).astype(float) if columns else frame.iloc[:0]
        return frame.rename(columns=lambda name: name.removeprefix(prefix)).reset_index()

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
        return self._part(chosen, None)

    def where(self, condition: str) -> Results:
        """The results of the runs for which a condition on their columns holds, in pandas' words.

        Raises InputError for what is no condition on the columns of `runs`, or holds for none of them.

        Examples
        --------
        `results.where("spectral_radius < 1.2 and truncation == 'full'")`
        """
        chosen = holding(self.runs, condition)
        before = self.view.where
        return self._part(chosen, f"({before}) and ({condition})" if before else condition)

    def viewed(self, hue: str | None = None, facet: Sequence[str] = ()) -> Results:
        """The same results, laid out otherwise in figures: see `View`.

        Raises InputError for what is no parameter, or has one value only.

        Examples
        --------
        `gs.figure(results.viewed(hue="seq_len"), "gradient-vs-lag")`
        """
        facet = [facet] if isinstance(facet, str) else list(facet)
        if hue in facet:
            raise InputError(f"{hue} cannot tell both lines and panels apart", where="hue and facet")
        for where, name in [("hue", hue)] * (hue is not None) + [("facet", name) for name in facet]:
            varying = [key for key in self.parameters if len(self.runs[key].dropna().unique()) > 1]
            if name not in varying:
                what = "has one value" if name in self.parameters else "is no parameter"
                raise InputError(f"{name} {what}", where=where, allowed=", ".join(varying))
        view = self.view._replace(hue=hue, facet=tuple(facet))
        return Results(self._store, self.runs, self._curves, whole=self.whole, view=view)

    def _part(self, chosen: NDArray[np.bool_], where: str | None) -> Results:
        runs = self.runs[chosen].reset_index(drop=True)
        return Results(self._store, runs, self._curves, whole=False, view=self.view._replace(where=where))


def load(folder: str | Path) -> Results:
    """The results in a sweep's folder.

    Parameters
    ----------
    folder : where `gradscope sweep` or `gs.sweep` wrote them.

    Raises
    ------
    InputError : no sweep there, or none of its runs is finished; a single training.

    Examples
    --------
    `gs.load("reports/spectral-radius").runs`
    """
    store = Store(Path(folder))
    table = store.runs()
    curves = [field.name for field in table.schema if pa.types.is_list(field.type)]
    runs = table.drop_columns(curves).to_pandas()
    if runs.empty:
        raise InputError("none of the sweep's runs is finished", where=str(folder), hint="run the sweep again")
    texts = [
        name for name in runs.columns if runs[name].dtype == object or isinstance(runs[name].dtype, pd.StringDtype)
    ]
    runs = runs.astype(dict.fromkeys([name for name in texts if name != "run_id"], "category")).copy()
    return Results(store, runs, table.select(["run_id", *curves]))


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
