"""Recurrent cells, one a file."""

from __future__ import annotations

import sys
from typing import Any

from gradscope import plugins
from gradscope.errors import InputError
from gradscope.recurrence import Cell

FAMILY = sys.modules[__name__]


def cell(name: str, **options: Any) -> Cell:
    """A recurrent cell by name, with its sizes and options.

    Parameters
    ----------
    name : "elman".
    options : `hidden_size`, `input_size`, `output_size`; for elman also `activation`, one of "tanh", "relu",
        "sigmoid", "linear".

    Raises
    ------
    InputError
        Unknown name, unknown or missing option, a size below 1.

    Examples
    --------
    >>> import gradscope as gs
    >>> cell = gs.cell("elman", hidden_size=3, input_size=2, output_size=1, activation="tanh")
    >>> cell.shapes()["W_xh"]
    (3, 2)
    """
    kind = plugins.find(FAMILY, name)
    allowed = kind.__dataclass_fields__
    for option in options:
        if option not in allowed:
            raise InputError(f"cell {name!r} has no option {option!r}", allowed=", ".join(allowed))
    try:
        made: Cell = kind(**options)
    except TypeError:
        missing = sorted(
            key for key in ("hidden_size", "input_size", "output_size") if key in allowed and key not in options
        )
        raise InputError(f"cell {name!r} needs {', '.join(missing)}") from None
    return made
