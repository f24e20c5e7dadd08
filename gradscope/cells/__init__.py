"""Recurrent cells, one a file."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from gradscope import plugins
from gradscope.errors import InputError
from gradscope.recurrence import Cell
from gradscope.stacking import Stack

FAMILY = sys.modules[__name__]


def cell(name: str, *, num_layers: int = 1, **options: Any) -> Cell:
    """A recurrent cell by name, with its sizes and options.

    Parameters
    ----------
    name : "elman", "lstm", "gru", "irnn", "diagonal".
    num_layers : of them on top of each other; see `gradscope.stacking`.
    options : `hidden_size`, `input_size`, `output_size`; for elman also `activation`, one of "tanh", "relu",
        "sigmoid", "linear"; for lstm `forget_bias` or `chrono`, for gru `update_bias` or `chrono`, for diagonal `ring`
        and `max_phase`: see the cells.

    Raises
    ------
    InputError
        Unknown name, unknown or missing option, a size or number of layers below 1.

    Examples
    --------
    >>> import gradscope as gs
    >>> cell = gs.cell("elman", hidden_size=3, input_size=2, output_size=1, activation="tanh")
    >>> cell.shapes()["W_xh"]
    (3, 2)
    >>> gs.cell("lstm", hidden_size=3, input_size=2, output_size=1, num_layers=2).shapes()["W_xh_l1"]
    (12, 3)
    """
    if not isinstance(num_layers, int | np.integer) or isinstance(num_layers, bool) or num_layers < 1:
        raise InputError(f"{num_layers!r}", where="num_layers", allowed="a whole number >= 1")
    bottom: Cell = plugins.make(FAMILY, name, options)
    if num_layers == 1:
        return bottom
    above: Cell = plugins.make(FAMILY, name, options | {"input_size": bottom.hidden_size})
    return Stack((above,) * (num_layers - 1) + (bottom,))
