"""Tables as a page shows them: numbers in few digits, columns of numbers told from columns of words."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd


class Shown(NamedTuple):
    """A table's columns with whether they hold numbers, its rows as texts, and how many rows were left out."""

    columns: list[tuple[str, bool]]
    rows: list[list[str]]
    left_out: int


def shown(table: pd.DataFrame, most: int) -> Shown:
    """The first rows of a table.

    >>> shown(pd.DataFrame({"radius": [0.5, 1.0], "rate": [-0.6931, np.nan]}), most=9).rows
    [['0.5', '-0.6931'], ['1', '']]
    """
    columns = [(str(name), pd.api.types.is_numeric_dtype(table[name])) for name in table.columns]
    rows = [[text(value) for value in row] for row in table.head(most).itertuples(index=False)]
    return Shown(columns, rows, max(0, len(table) - most))


def text(value: Any) -> str:
    """A cell's text: numbers to four digits, nothing where there is none.

    >>> text(0.123456), text(12), text(float("nan")), text(-np.inf)
    ('0.1235', '12', '', '-inf')
    """
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.4g}"
    return "" if value is None else str(value)
