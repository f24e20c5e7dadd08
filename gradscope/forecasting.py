"""What a trained network says of what it has not seen: forecasts of a series, one step ahead and free running; texts.

A free-running network is fed its own predictions: what it has learnt of the dynamics, not only of the next value.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gradscope.recurrence import Cell, Packed, Trace
from gradscope.scaled import Floats
from gradscope.workspace import Workspace

ORIGINS = 64  # from which forecasts are made, at most


def answers(cell: Cell, params: Mapping[str, Floats], x: Floats, h0: Floats | None = None) -> tuple[Floats, Floats]:
    """What a network answers to inputs x (T, B, m), (T, B, p), and the states after them, (B, S).

    `h0` (B, S) are the states before them; zero if not given. What overflows is inf or nan.
    """
    packed = cell.pack({name: array[None] for name, array in params.items()})
    trace = cell.forward(packed, x[None], None if h0 is None else h0[None], Workspace())
    return read_out(packed, trace)[0], np.where(trace.overflow[0, :, None] > 0, np.nan, cell.state(trace, len(x))[0])


def read_out(packed: Packed, trace: Trace) -> Floats:
    """What networks answer, (C, T, B, p); nan from the first step on whose state has left the range of numbers."""
    with np.errstate(over="ignore", invalid="ignore"):
        found: Floats = trace.states @ packed.W_hy.swapaxes(1, 2)[:, None] + packed.b_y[:, None, None]
    if trace.overflow.any():
        first = trace.overflow[:, None]
        found[(first > 0) & (np.arange(1, trace.extent[1] + 1)[:, None] >= first)] = np.nan
    return found


def free_running(cell: Cell, params: Mapping[str, Floats], history: Floats, horizon: int) -> Floats:
    """Forecasts (H, K) of the `horizon` values after each of K histories (W, K), of a network fed its own answers.

    Examples
    --------
    >>> import gradscope as gs
    >>> cell = gs.cell("elman", hidden_size=1, input_size=1, output_size=1, activation="linear")
    >>> halves = {"W_xh": np.eye(1), "W_hh": np.zeros((1, 1)), "b_h": np.zeros(1)}
    >>> params = halves | {"W_hy": 0.5 * np.eye(1), "b_y": np.zeros(1)}  # the next value is half of the last
    >>> free_running(cell, params, np.array([[3.0], [8.0]]), horizon=3).ravel()
    array([4., 2., 1.])
    """
    found = np.empty((horizon, history.shape[1]))
    answer, h = answers(cell, params, history[..., None])
    for step in range(horizon):
        found[step] = answer[-1, :, 0]
        answer, h = answers(cell, params, answer[-1:], h)
    return found


def origins(first: int, length: int, horizon: int, most: int = ORIGINS) -> NDArray[np.int64]:
    """Evenly spaced steps, at most so many, after each of which `horizon` values are known, from `first` on.

    >>> origins(first=10, length=20, horizon=4, most=3)
    array([10, 13, 16])
    """
    last = length - horizon
    return np.unique(np.linspace(first, last, min(most, max(1, last - first + 1))).astype(np.int64))


def around(values: Floats, starts: NDArray[np.int64], before: int, horizon: int) -> tuple[Floats, Floats]:
    """The `before` values before each origin, (W, K), and the `horizon` values from there on, (H, K)."""
    histories = values[starts + np.arange(-before, 0)[:, None]]
    return histories, values[starts + np.arange(horizon)[:, None]]


def written(
    cell: Cell,
    params: Mapping[str, Floats],
    prompt: NDArray[np.int64],
    length: int,
    rng: np.random.Generator,
    temperature: float = 1.0,
) -> NDArray[np.int64]:
    """Classes (length,) that a network draws one by one, each with its own probability given those before it.

    Parameters
    ----------
    prompt : (W,) classes that it reads first.
    temperature : by which the logits are divided; below 1, what is likely becomes more so.

    Source: Graves (2013), "Generating sequences with recurrent neural networks", arXiv 1308.0850.
    """
    m = cell.input_size
    logits, h = answers(cell, params, np.eye(m)[prompt][:, None])
    found = np.empty(length, np.int64)
    for step in range(length):
        scores = logits[-1, 0] / temperature
        weights = np.exp(scores - scores.max())
        total = weights.cumsum()
        found[step] = min(int(np.searchsorted(total, rng.random() * total[-1], side="right")), m - 1)
        logits, h = answers(cell, params, np.eye(m)[found[step]][None, None], h)
    return found
