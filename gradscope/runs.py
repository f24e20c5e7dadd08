"""A run: one point of a sweep's grid, identified by the hash of its parameters."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from gradscope import cells, plugins, tasks
from gradscope.recurrence import Cell
from gradscope.task import Task

DTYPES = ("float64", "float32")
NUMERICS_VERSION = 1  # raised whenever results change by more than rounding: old results are then not reused


@dataclass(frozen=True)
class Run:
    """The parameters of one run, by name, in canonical form (numbers and strings).

    >>> Run({"seed": 0, "seq_len": 10}).run_id == Run({"seq_len": 10, "seed": 0}).run_id
    True
    """

    parameters: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]

    @cached_property
    def run_id(self) -> str:
        """16 hexadecimal digits that depend on the parameters and the version of the numerics alone.

        Where `data`, the hash of a file, is among them, the file's path does not count.
        """
        names = self.parameters.keys() - ({"file"} if "data" in self.parameters else set())
        return digest([NUMERICS_VERSION, {name: self.parameters[name] for name in names}])

    def task(self) -> Task:
        """The run's task, with its options."""
        name = self["task"]
        return tasks.task(name, **self._options(plugins.find(tasks.FAMILY, name)))

    def cell(self) -> Cell:
        """The run's cell, with the sizes that its task fixes."""
        name = self["cell"]
        input_size, output_size = self.task().sizes
        sizes = {"input_size": input_size, "output_size": output_size}
        return cells.cell(name, **self._options(plugins.find(cells.FAMILY, name)) | sizes)

    def _options(self, plugin: type) -> dict[str, Any]:
        names = (field.name for field in dataclasses.fields(plugin))
        return {name: self[name] for name in names if name in self.parameters}


def digest(content: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of `content` as canonical JSON (sorted keys, shortest numbers)."""
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
