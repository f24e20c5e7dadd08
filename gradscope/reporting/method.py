"""What the methods of a sweep or a training are, in the words of the plug-ins themselves."""

from __future__ import annotations

import importlib
from typing import Any

from gradscope import cells, clips, ensembles, optimizers, tasks, truncations

FAMILIES = {
    "cell": cells,
    "ensemble": ensembles,
    "task": tasks,
    "truncation": truncations,
    "clip": clips,
    "optimizer": optimizers,
}


def definitions(grid: dict[str, list[Any]]) -> dict[str, list[str]]:
    """Family -> the first paragraph of each of its plug-ins that a grid holds, code between backticks.

    >>> definitions({"truncation": ["full"]})["truncation"]
    ['`full`: full backpropagation through time. Every loss reaches every earlier state.']
    """
    swept = {
        key: dict.fromkeys(name for value in grid.get(key, []) if (name := str(value).partition(":")[0]) != "off")
        for key in FAMILIES
    }
    return {key: [_about(FAMILIES[key].__name__, name) for name in names] for key, names in swept.items() if names}


def _about(family: str, name: str) -> str:
    module = importlib.import_module(f"{family}.{name.replace('-', '_')}")
    first, _, _ = str(module.__doc__).partition("\n\n")
    return " ".join(first.split())
