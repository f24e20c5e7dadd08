"""Cut a grid of runs into batches. The cut depends on the grid alone, so that results do not depend on the workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from gradscope.runs import Run, digest

# Along these the engine shares work; runs of one batch are alike in everything else.
SHARED = ("spectral_radius", "seq_len", "truncation", "loss_steps", "reduction", "seed")
BATCH_BYTES = 12e6  # what the states, inputs and one adjoint of a batch may take, so that they stay near the cache


class Batch(NamedTuple):
    """Runs that are measured together; `key` names the batch's shard in the store."""

    key: str
    runs: tuple[Run, ...]


def batches(runs: Iterable[Run], finished: AbstractSet[str] = frozenset()) -> list[Batch]:
    """Partition the runs of a grid into batches, and leave out the runs that are finished.

    Runs that share weights, inputs and forward passes stay together; a batch holds as many networks (seed and spectral
    radius) as keep its working set near the cache, and at least one.
    """
    alike: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        alike.setdefault(tuple(item for item in run.parameters.items() if item[0] not in SHARED), []).append(run)
    whole = (runs for group in alike.values() for runs in _cut(group))
    todo = ([run for run in runs if run.run_id not in finished] for runs in whole)
    return [Batch(digest([run.run_id for run in runs]), tuple(runs)) for runs in todo if runs]


def _cut(group: Sequence[Run]) -> Iterable[list[Run]]:
    networks: dict[tuple[int, float], list[Run]] = {}
    for run in group:
        networks.setdefault((run["seed"], run["spectral_radius"]), []).append(run)
    cell = group[0].cell()
    steps = max(run["seq_len"] for run in group) * group[0]["batch_size"]
    network_bytes = 8.0 * steps * (2 * cell.state_size + cell.input_size + 1)
    width = int(min(64, max(1, BATCH_BYTES // network_bytes)))
    keys = sorted(networks)
    for start in range(0, len(keys), width):
        yield [run for key in keys[start : start + width] for run in networks[key]]
