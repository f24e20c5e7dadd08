"""Conditions on the rows of a table, in pandas' words: "spectral_radius < 1.2 and truncation == 'full'"."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradscope.errors import InputError


def holding(table: pd.DataFrame, condition: str) -> NDArray[np.bool_]:
    """For which rows a condition on columns and index levels holds.

    Raises InputError for what is no condition on them, or holds for no row.

    >>> holding(pd.DataFrame({"lag": [0, 5]}), "lag > 1").tolist()
    [False, True]
    """
    try:
        chosen = table.eval(condition, engine="python")
    except Exception as error:
        names = [*(name for name in table.index.names if name), *(name for name in table if table[name].notna().any())]
        example = "as spectral_radius < 1.2 and truncation == 'full'"
        allowed = f"a condition on {', '.join(map(str, names))}, {example}"
        raise InputError(f"{condition!r}: {error}", where="where", allowed=allowed) from None
    if not (isinstance(chosen, pd.Series) and pd.api.types.is_bool_dtype(chosen)):
        raise InputError(f"{condition!r} is no condition", where="where", allowed="a comparison, as seq_len == 50")
    if not chosen.any():
        raise InputError(f"{condition!r} holds for none of the {len(table):,} rows", where="where")
    return chosen.to_numpy(bool)
