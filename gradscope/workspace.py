"""Memory that is used again and again: the first touch of new memory costs more than much of what is computed on it."""

from __future__ import annotations

import threading
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Workspace(threading.local):
    """Arrays by name, each thread its own. An array is good until the same name is asked for again.

    >>> workspace = Workspace()
    >>> first = workspace.array("states", (2, 3), float)
    >>> first.base is workspace.array("states", (3, 2), float).base
    True
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], NDArray[Any]] = {}
        self._within: dict[str, Workspace] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array whose content is whatever was there before; zeros the first time."""
        size, key = prod(shape), (name, np.dtype(dtype).str)
        if key not in self._kept or self._kept[key].size < size:
            self._kept.pop(key, None)
            self._kept[key] = np.zeros(size, dtype)
        return self._kept[key][:size].reshape(shape)

    def within(self, name: str) -> Workspace:
        """A workspace within this one, the same whenever it is asked for."""
        return self._within.setdefault(name, Workspace())

    def clear(self) -> None:
        """Give the memory back."""
        self._kept.clear()
        self._within.clear()
