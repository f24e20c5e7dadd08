"""Figures drawn again from their folder's tables, and held against those that are there: numbers first, then bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gradscope import figures
from gradscope.errors import InputError, unknown
from gradscope.loading import Loaded

ROUNDING = 1e-9  # relative: numbers that differ by less are the same


class Difference(NamedTuple):
    """What is not as a figure's results give it now.

    Attributes
    ----------
    name : of the figure.
    what : in words.
    matters : False where other versions drew the figure, of which the bytes may differ but not the numbers.
    """

    name: str
    what: str
    matters: bool = True


def check(results: Loaded, folder: Path, only: Sequence[str] = ()) -> tuple[list[str], list[Difference]]:
    """Draw the figures in a folder again, as they were drawn, and say which were held against what and what differs.

    Raises InputError if the folder has no figures, or not those that are asked for.
    """
    records = figures.recorded(folder)
    if not records:
        raise InputError(
            "holds no figures that could be checked", where=str(folder), hint="gradscope figures draws them"
        )
    for name in only:
        if name not in records:
            raise unknown("figure", name, records, where=str(folder))
    chosen = [name for name in records if name in only or not only]
    with tempfile.TemporaryDirectory() as place:
        found = [_differences(name, records[name], results, folder, Path(place)) for name in chosen]
    return chosen, [difference for own in found for difference in own]


def _differences(name: str, record: dict[str, Any], results: Loaded, folder: Path, place: Path) -> list[Difference]:
    view = record["view"]
    if view["where"] is None:
        return [Difference(name, "was drawn from a selection that is not written down", matters=False)]
    shown = results.where(view["where"]) if view["where"] else results
    shown = shown.viewed(view["hue"], view["facet"])
    (drawn,) = figures.write(
        shown, place, record["formats"], only=[name], style=record["style"], latex=record["latex"], dpi=record["dpi"]
    )
    if not drawn.files:
        return [Difference(name, f"cannot be drawn any more: {drawn.reason}")]
    missing = [path.name for path in drawn.files.values() if not (folder / path.name).is_file()]
    if missing:
        return [Difference(name, f"{', '.join(missing)} missing")]
    if numbers := _numbers(folder / drawn.files["csv"].name, drawn.files["csv"]):
        return [Difference(name, f"numbers differ: {numbers}")]
    others = [kind for kind, path in drawn.files.items() if path.read_bytes() != (folder / path.name).read_bytes()]
    if not others:
        return []
    then, now = (
        ", ".join(f"{key} {own}" for key, own in sorted(of.items())) for of in (record["versions"], figures.versions())
    )
    since = f" (drawn with {then}; now {now})" if then != now else ""
    return [Difference(name, f"the same numbers, other bytes: {', '.join(others)}{since}", matters=then == now)]


def _numbers(before: Path, after: Path) -> str:
    """Where two tables differ, in words; nothing if they do not."""
    old, new = (pd.read_csv(path, keep_default_na=False, na_values=[""]) for path in (before, after))
    if list(old) != list(new) or len(old) != len(new):
        return f"{len(old)} rows of {', '.join(old)} became {len(new)} rows of {', '.join(new)}"
    parts = []
    for name in old:
        if not (pd.api.types.is_numeric_dtype(old[name]) and pd.api.types.is_numeric_dtype(new[name])):
            apart = (old[name].fillna("") != new[name].fillna("")).to_numpy()
            size = ""
        else:
            one, other = (table[name].to_numpy(float) for table in (old, new))
            apart = ~np.isclose(one, other, rtol=ROUNDING, atol=0.0, equal_nan=True)
            live = apart & np.isfinite(one) & np.isfinite(other)
            size = f", by up to {np.abs(one - other)[live].max():.2g}" if live.any() else ""
        if apart.any():
            parts.append(f"{name} in {apart.sum()} of {len(old)} rows{size}")
    return "; ".join(parts)
