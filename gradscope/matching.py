"""Cells at equal cost: the hidden size at which a cell is as large, or as slow, as an Elman network of another size.

A gated cell has three or four times the parameters of an Elman network with as many units, and takes that much longer a
step. What a comparison at equal hidden sizes shows is in part that difference.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from gradscope.cells import cell
from gradscope.errors import InputError, unknown
from gradscope.recurrence import Cell

LARGEST = 2**16  # units


def parameters(one: Cell) -> int:
    """Numbers that are learnt, those of the readout too."""
    return sum(prod(shape) for shape in one.shapes().values())


def multiplications(one: Cell) -> int:
    """Multiplications of a step forward and back of one example: of the weights' products, and one by one."""
    matrices = sum(prod(shape) for shape in one.shapes().values() if len(shape) == 2)
    return 3 * matrices + one.local_size + one.delta_size


# What is made equal, by the value of the key `match`.
COSTS: dict[str, Callable[[Cell], int]] = {
    "units": lambda one: one.hidden_size,
    "parameters": parameters,
    "state": lambda one: one.state_size,
    "time": multiplications,
}


def matched(match: str, hidden_size: int, make: Callable[[int], Cell]) -> int:
    """The hidden size at which a cell costs about what an Elman network of `hidden_size` does, by one of `COSTS`.

    Parameters
    ----------
    match : "units" (the same hidden size), "parameters", "state" (numbers that are carried from step to step), or
        "time" (multiplications a step, which time is made of; seconds depend on the machine).
    make : the cell of a hidden size.

    Returns
    -------
    int : the nearest; of a cell of complex units, which are two numbers each, the nearest even one.

    Examples
    --------
    >>> sizes = {"input_size": 1, "output_size": 1}
    >>> matched("parameters", 64, lambda n: cell("lstm", hidden_size=n, **sizes))
    31
    >>> matched("state", 64, lambda n: cell("lstm", hidden_size=n, **sizes))
    32
    """
    if match not in COSTS:
        raise unknown("match", match, COSTS, where="match")
    if match == "units":
        return hidden_size
    cost, like, step = COSTS[match], make(2), 1
    wanted = cost(cell("elman", hidden_size=hidden_size, input_size=like.input_size, output_size=like.output_size))
    try:
        make(1)
    except InputError:
        step = 2
    low, high = 1, LARGEST // step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(make(middle * step)) <= wanted else (low, middle)
    return step * min((low, high), key=lambda size: abs(cost(make(size * step)) - wanted))
