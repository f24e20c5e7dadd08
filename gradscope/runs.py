"""A run: one point of a sweep's grid, identified by the hash of its parameters; and blocks of them.

A block is a product, so that a hundred million runs can be planned, sent about and written down without being listed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, NamedTuple

from gradscope import cells, plugins, tasks
from gradscope.recurrence import Cell
from gradscope.task import Task

DTYPES = ("float64", "float32")
NUMERICS_VERSION = 2  # raised whenever results change by more than rounding: old results are then set aside
NOT_CLIPPED = "off"
AS_ASKED = "task"  # loss steps, of a training: those that the task asks for
# Keys that came later: with these values they change nothing, and do not count for the run id.
ADDED = {"draws": 0, "minibatches": 0, "clip": NOT_CLIPPED, "num_layers": 1, "match": "units"}


@dataclass(frozen=True)
class Run:
    """The parameters of one run, by name, in canonical form (numbers and strings).

    >>> Run({"seed": 0, "seq_len": 10}).run_id == Run({"seq_len": 10, "seed": 0}).run_id
    True
    """

    parameters: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name] if name in self.parameters else ADDED[name]

    @cached_property
    def run_id(self) -> str:
        """16 hexadecimal digits that depend on the parameters and the version of the numerics alone.

        Where `data`, the hash of a file, is among them, the file's path does not count; nor does what adds nothing.
        """
        return digest([NUMERICS_VERSION, what_counts(self.parameters)])

    @property
    def trains(self) -> bool:
        """Whether what is measured is a training, not gradients of the network as it is drawn."""
        return self.parameters.get("measure") == "training"

    @property
    def of_jacobians(self) -> bool:
        """Whether the products of the network's Jacobians are measured besides its gradients."""
        return self.parameters.get("measure") == "jacobian"

    def task(self) -> Task:
        """The run's task, with its options."""
        name = self["task"]
        return tasks.task(name, **self._options(plugins.find(tasks.FAMILY, name)))

    def cell(self) -> Cell:
        """The run's cell, with the sizes that its task fixes."""
        name = self["cell"]
        input_size, output_size = self.task().sizes
        sizes = {"input_size": input_size, "output_size": output_size, "num_layers": self["num_layers"]}
        return cells.cell(name, **self._options(plugins.find(cells.FAMILY, name)) | sizes)

    def _options(self, plugin: type) -> dict[str, Any]:
        names = (field.name for field in dataclasses.fields(plugin))
        return {name: self[name] for name in names if name in self.parameters}


class Network(NamedTuple):
    """What tells a network from others of its block."""

    spectral_radius: float
    seed: int


class Setting(NamedTuple):
    """What is asked of a network."""

    seq_len: int
    truncation: str
    loss_steps: str
    reduction: str
    clip: str = NOT_CLIPPED


SHARED = Network._fields + Setting._fields  # runs of one block are alike in everything else


@dataclass(frozen=True)
class Block:
    """All of these networks in all of these settings; `common` holds the parameters in which they are alike."""

    common: Mapping[str, Any]
    networks: tuple[Network, ...]
    settings: tuple[Setting, ...]

    def __len__(self) -> int:
        return len(self.networks) * len(self.settings)

    @property
    def first(self) -> Run:
        """One of the runs, for what they have in common."""
        return Run({**self.common, **self.networks[0]._asdict(), **self.settings[0]._asdict()})

    @property
    def steps(self) -> int:
        """Time steps of all runs together."""
        return len(self.networks) * sum(setting.seq_len for setting in self.settings)

    @cached_property
    def kind(self) -> str:
        """16 hexadecimal digits of what the runs have in common, and of the version of the numerics."""
        return digest([NUMERICS_VERSION, what_counts(self.common)])

    @property
    def key(self) -> str:
        """16 hexadecimal digits that name these runs in this company."""
        settings = [[setting._asdict()[name] for name in what_counts(setting._asdict())] for setting in self.settings]
        return digest([self.kind, self.networks, settings])

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs, in the order of radius, setting and seed."""
        by_radius: dict[float, list[Network]] = {}
        for network in self.networks:
            by_radius.setdefault(network.spectral_radius, []).append(network)
        return tuple(
            Run({**self.common, **network._asdict(), **setting._asdict()})
            for networks in by_radius.values()
            for setting in self.settings
            for network in networks
        )

    def plain(self) -> dict[str, Any]:
        """The block as lists and dictionaries, for JSON."""
        return {"common": dict(self.common), "networks": self.networks, "settings": self.settings}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Block:
        """The block that `plain` was made from."""
        networks = tuple(Network(*network) for network in plain["networks"])
        return cls(dict(plain["common"]), networks, tuple(Setting(*setting) for setting in plain["settings"]))


def what_counts(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters without a file's path, where `data`, the hash of its content, is among them; and see `ADDED`."""
    return {
        name: value
        for name, value in parameters.items()
        if not (name == "file" and "data" in parameters) and not (name in ADDED and ADDED[name] == value)
    }


def digest(content: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of `content` as canonical JSON (sorted keys, shortest numbers)."""
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
