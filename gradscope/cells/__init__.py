"""Recurrent cells, one a file."""

from __future__ import annotations

import sys
from typing import Any

from gradscope import plugins
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
    made: Cell = plugins.make(FAMILY, name, options)
    return made
