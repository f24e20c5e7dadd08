"""Parameters by PyTorch's names, and back: those of `torch.nn.RNN`, `LSTM` or `GRU` and of a `torch.nn.Linear` readout.

| here | in PyTorch |
|---|---|
| W_xh, W_hh | rnn.weight_ih_l0, rnn.weight_hh_l0 |
| b_xh, b_hh | rnn.bias_ih_l0, rnn.bias_hh_l0 |
| b_h | rnn.bias_ih_l0, rnn.bias_hh_l0 being zero; from PyTorch, the sum of both |
| W_xh_l1, ... | rnn.weight_ih_l1, ... |
| W_hy, b_y | readout.weight, readout.bias |

So the names are those of the state_dict of a module with `self.rnn` and `self.readout`; prefixes may be others. Rows
are in PyTorch's order on both sides. PyTorch itself is not needed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradscope.errors import InputError
from gradscope.gradients import check_params
from gradscope.recurrence import Cell, Parameters
from gradscope.scaled import Floats

_NAMES = {
    "W_xh": ("weight_ih",),
    "W_hh": ("weight_hh",),
    "b_xh": ("bias_ih",),
    "b_hh": ("bias_hh",),
    "b_h": ("bias_ih", "bias_hh"),
}


def to_torch(cell: Cell, params: Mapping[str, Any], rnn: str = "rnn.", readout: str = "readout.") -> Parameters:
    """Parameters as a PyTorch module's state_dict has them.

    Parameters
    ----------
    cell : Elman, irnn, LSTM or GRU, or a stack of them. An Elman network's activation is PyTorch's `nonlinearity`.
    params : name -> array, shapes as in `cell.shapes()`.
    rnn, readout : what the names of the recurrent module's and of the readout's begin with.

    Returns
    -------
    dict : PyTorch's name -> float64 array.

    Raises
    ------
    InputError : parameters that are not the cell's; a cell that PyTorch has not.

    Examples
    --------
    >>> import gradscope as gs
    >>> cell = gs.cell("lstm", hidden_size=8, input_size=3, output_size=1)
    >>> state = gs.to_torch(cell, cell.init(seed=0, spectral_radius=1.0))
    >>> {name: array.shape for name, array in state.items()}["rnn.weight_ih_l0"]
    (32, 3)
    >>> sorted(gs.to_torch(cell, cell.init(seed=0, spectral_radius=1.0), rnn=""))[:2]
    ['bias_hh_l0', 'bias_ih_l0']
    """
    arrays = check_params(cell, params)
    found: Parameters = {}
    for name, (first, *others) in _places(cell, rnn, readout).items():
        found[first] = arrays[name].copy()
        found |= {other: np.zeros_like(arrays[name]) for other in others}
    return found


def from_torch(cell: Cell, state: Mapping[str, Any], rnn: str = "rnn.", readout: str = "readout.") -> Parameters:
    """Parameters from a PyTorch module's state_dict: tensors, or arrays.

    Parameters
    ----------
    cell : that has these parameters.
    state : PyTorch's name -> tensor or array; all of the cell's, and no others.
    rnn, readout : as for `to_torch`.

    Returns
    -------
    dict : name -> float64 array, shapes as in `cell.shapes()`.

    Raises
    ------
    InputError : names that are missing or unknown, wrong shapes, values that are no finite numbers.

    Examples
    --------
    >>> import gradscope as gs
    >>> cell = gs.cell("elman", hidden_size=4, input_size=3, output_size=1)
    >>> params = cell.init(seed=0, spectral_radius=1.0)
    >>> again = gs.from_torch(cell, gs.to_torch(cell, params))
    >>> all(np.array_equal(again[name], array) for name, array in params.items())
    True
    """
    places = _places(cell, rnn, readout)
    wanted = {name: place for place, names in places.items() for name in names}
    if not isinstance(state, Mapping):
        raise InputError(f"a {type(state).__name__}", where="state", allowed="a mapping from names to tensors")
    for what, names in (("missing", wanted.keys() - state.keys()), ("unknown", state.keys() - wanted.keys())):
        if names:
            told, given = ", ".join(sorted(names)), ", ".join(map(str, state))
            hint = f"given: {given}; rnn={rnn!r} and readout={readout!r} are what names begin with"
            raise InputError(f"{what}: {told}", where="state", allowed=", ".join(wanted), hint=hint)
    shapes = cell.shapes()
    found: Parameters = {}
    for name, place in wanted.items():
        array = _array(name, state[name])
        if array.shape != shapes[place]:
            raise InputError(f"shape {array.shape}", where=name, allowed=f"shape {shapes[place]}")
        found[place] = found[place] + array if place in found else array
    return check_params(cell, found)


def _places(cell: Cell, rnn: str, readout: str) -> dict[str, tuple[str, ...]]:
    """Parameter name -> PyTorch's names of it: the value is the sum of them."""
    found: dict[str, tuple[str, ...]] = {}
    for name in cell.shapes():
        base, _, layer = name.partition("_l")
        if name in ("W_hy", "b_y"):
            found[name] = (readout + {"W_hy": "weight", "b_y": "bias"}[name],)
        elif base in _NAMES and (not layer or layer.isdecimal()):
            found[name] = tuple(f"{rnn}{own}_l{layer or 0}" for own in _NAMES[base])
        else:
            kind = type(cell).__name__.lower()
            raise InputError(f"parameter {name} of {kind}: PyTorch has no such cell", where="cell")
    return found


def _array(name: str, values: Any) -> Floats:
    """A tensor, wherever it is, or an array, as float64."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values  # half precisions that NumPy may not have
        values = values.numpy()
    given = np.asarray(values)
    if given.dtype.kind not in "fiu":
        raise InputError(f"dtype {given.dtype}", where=name, allowed="real numbers")
    return given.astype(np.float64)
