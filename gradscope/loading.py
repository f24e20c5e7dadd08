"""What lies in a folder: the results of a sweep, or the history of a training."""

from __future__ import annotations

from pathlib import Path

from gradscope import grid, results
from gradscope.history import History, read
from gradscope.results import Results
from gradscope.store import is_training

Loaded = Results | History


def load(folder: str | Path) -> Loaded:
    """The results in a sweep's folder, or the history in that of a training.

    Parameters
    ----------
    folder : where `gradscope sweep` or `gs.sweep`, `gradscope train` or `gs.train` wrote them.

    Raises
    ------
    InputError : neither of them there; none of the sweep's runs is finished, or the training is not; a damaged file.

    Examples
    --------
    `gs.load("reports/spectral-radius").runs`
    """
    place = Path(folder)
    return read(place) if is_training(place) else results.load(place)


def measure_of(loaded: Loaded) -> str:
    """What was measured: "gradients" of networks as they are drawn, "jacobian" if those too, or "training"."""
    return grid.measure_of(loaded.manifest["grid"])


def measured(loaded: Loaded) -> tuple[str, ...]:
    """All that was measured: gradients beside Jacobians."""
    found = measure_of(loaded)
    return (grid.MEASURES[0], found) if found == "jacobian" else (found,)
