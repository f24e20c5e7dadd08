"""Networks of one unit, that takes its input and is read out as it is: of which everything is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from gradscope.cells import cell
from gradscope.recurrence import Cell, Parameters


def one_unit(activation: str) -> Cell:
    """An Elman network of one unit, h_t = f(w h_{t-1} + x_t + b)."""
    return cell("elman", hidden_size=1, input_size=1, output_size=1, activation=activation)


def weighted(w: ArrayLike, b: ArrayLike = 0.0) -> Parameters:
    """Its parameters; those of C such networks, (C, ...), if w and b are (C,).

    >>> weighted(0.5)["W_hh"]
    array([[0.5]])
    """
    weights, biases = np.broadcast_arrays(np.asarray(w, float), np.asarray(b, float))
    one = np.ones((*weights.shape, 1, 1))
    none = np.zeros((*weights.shape, 1))
    return {"W_xh": one, "W_hh": weights[..., None, None], "b_h": biases[..., None], "W_hy": one, "b_y": none}
