"""Train one network, keep all that is recorded, save it on the way, and go on where it stopped."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gradscope import checkpoint
from gradscope.curves import Curves
from gradscope.errors import InputError
from gradscope.files import read_json, sha256_of, write_json
from gradscope.gradients import check_params
from gradscope.grid import Sweep, resolve
from gradscope.history import History, history_of, read, save, written_text
from gradscope.locking import LOCK, locked
from gradscope.run import now, provenance
from gradscope.runs import what_counts
from gradscope.store import CHECKPOINT, MANIFEST, TRAINING, is_training
from gradscope.threads import one_blas_thread
from gradscope.training import Observation, State, Step, Training, proceed

EVERY = 5.0  # seconds between checkpoints
SAID = 0.1  # seconds between what is said of the progress
RECENT = 100  # steps over which the loss that is said is a mean


Init = str | Path | Mapping[str, ArrayLike] | None  # parameters to begin with


class Coming(NamedTuple):
    """How far a training is: mean loss and gradient norm (log10) of the last steps, steps a second, seconds left."""

    step: int
    steps: int
    loss: float
    log10_grad: float
    validation_loss: float
    rate: float
    left: float


class InterruptedTraining(KeyboardInterrupt):
    """Ctrl-C during a training; says what is saved."""


@dataclass
class Standing:
    """A training where it stands: what a checkpoint holds."""

    training: Training
    state: State
    curves: Curves = field(default_factory=Curves)
    samples: dict[int, str] = field(default_factory=dict)


def train(
    task: str = "sine",
    out: str | Path | None = None,
    *,
    init: Init = None,
    progress: Callable[[Coming], None] | None = None,
    command: str = "",
    places: Mapping[str, str] | None = None,
    **settings: Any,
) -> History:
    """Train a network on a task, and record its gradients while it learns.

    Parameters
    ----------
    task : "sine", "series", "text", "adding", "copy", "temporal-order", "recall", "noise".
    out : folder for checkpoints and what is recorded; the same call goes on where it stopped. None: nothing is written.
    init : the parameters to begin with, by name, or a safetensors file that has them, as `model.safetensors` of
        another training.
    progress : called with a `Coming` every so often.
    command : how it was started, for the report.
    places : key -> how its user wrote it, for the errors.
    settings : keys of an experiment, one value each: `cell`, `num_layers`, `hidden_size`, `spectral_radius`,
        `ensemble`, `input_scale`, `output_scale`, `seq_len`, `batch_size`, `batching` ("random" or "sequential"),
        `truncation`, `clip`, `optimizer` ("sgd", "momentum", "adagrad", "adam"), `learning_rate`, `steps`,
        `record_every`, `patience`, `loss_steps`, `reduction`, `dtype`, `seed`, and the task's own, as `file`. Each task
        has defaults that suit it.

    Returns
    -------
    History : with `status` "diverged at step N" if it did; what was recorded until then is there.

    Raises
    ------
    InputError : what cannot be, said to stand at its key; a folder that holds another training; parameters of another
        shape.
    KeyboardInterrupt : Ctrl-C; with `out`, the same call goes on from the last checkpoint.

    Examples
    --------
    >>> import gradscope as gs
    >>> history = gs.train("sine", hidden_size=16, steps=300, seed=0)
    >>> history.status, bool(history.runs.loc[0, "validation_loss"] < 0.01)
    ('ok', True)
    """
    sweep = _one(task, settings, places or {})
    with one_blas_thread():
        standing, manifest, begun = _begun(sweep, init), _manifest(sweep, init, command), time.perf_counter()
        if out is None:
            _carry_on(standing, progress, save_at=None)
            return _told(standing, _finished(manifest, time.perf_counter() - begun))
        with locked(Path(out), _refuse_others):
            return _in_folder(Path(out), standing, manifest, progress)


def _one(task: str, settings: Mapping[str, Any], places: Mapping[str, str]) -> Sweep:
    """The sweep of the one run that is meant."""
    given = {key: [value] if key == "seed" else value for key, value in settings.items() if value is not None}
    if given.get("measure", "training") != "training":
        raise InputError(f"{given['measure']!r}", where=places.get("measure", "measure"), allowed="training")
    if "seed" in given:
        given["seeds"], places = given.pop("seed"), {"seeds": "seed", **places}
    sweep = resolve(f"train-{task}", {"measure": "training", "task": task, **given}, places)
    for key, values in sweep.grid.items():
        if len(values) > 1:
            hint = 'for several, sweep: measure = "training" in an experiment'
            raise InputError(f"{len(values)} values", where=places.get(key, key), allowed="one value", hint=hint)
    return sweep


def _begun(sweep: Sweep, init: Init) -> Standing:
    (run,) = sweep.runs
    training = Training([run])
    if init is None:
        return Standing(training, training.begin())
    if isinstance(init, Mapping):
        given = check_params(training.cell, init)
    else:
        given = checkpoint.parameters(Path(init), training.cell)
    return Standing(training, training.begin({name: array[None] for name, array in given.items()}))


def _carry_on(
    standing: Standing, progress: Callable[[Coming], None] | None, save_at: Path | None, before: float = 0.0
) -> None:
    """Train from where it stands, after so many seconds, to the end; save it every so often."""
    training, state, curves = standing.training, standing.state, standing.curves
    steps = training.like["steps"]
    begun, saved, said = (state.number, time.monotonic()), time.monotonic(), 0.0
    with _asked_to_stop() as asked:
        for recorded in proceed(training, state):
            curves.add(recorded)
            if isinstance(recorded, Observation) and (text := written_text(training, state)):
                standing.samples[state.number] = text
            clock = time.monotonic()
            if progress and state.number > begun[0] and clock - said > SAID:
                said = clock
                progress(_coming(standing, steps, (state.number - begun[0]) / max(clock - begun[1], 1e-9)))
            # Before the last look, which would not be the last of more steps.
            pausing = isinstance(recorded, Step) and (state.number == steps or clock - saved > EVERY)
            if save_at and (pausing or not state.going.any()):
                saved = clock
                _save(standing, save_at, before + clock - begun[1])
            if asked and isinstance(recorded, Step):
                if save_at:
                    _save(standing, save_at, before + clock - begun[1])
                raise KeyboardInterrupt


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """A list that is not empty any more when Ctrl-C was pressed: a step is finished first. The second stops at once."""
    asked: list[int] = []

    def hear(number: int, _: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGINT, hear)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _coming(standing: Standing, steps: int, rate: float) -> Coming:
    recent = standing.curves.steps[-RECENT:]
    loss, log10_grad = (float(np.mean([getattr(step, name)[0] for step in recent])) for name in ("loss", "log10_grad"))
    validation = float(standing.curves.looks[-1].numbers["validation_loss"][0])
    return Coming(
        standing.state.number, steps, loss, log10_grad, validation, rate, (steps - standing.state.number) / rate
    )


# --- in a folder ------------------------------------------------------------------------------------------------------


def _in_folder(
    folder: Path, standing: Standing, manifest: dict[str, Any], progress: Callable[[Coming], None] | None
) -> History:
    """Train in a folder, or go on with what is there; nothing that is done is done twice."""
    before = 0.0
    if (folder / MANIFEST).exists():
        there = read_json(folder / MANIFEST)
        _refuse_changed(folder, there, manifest)
        if there["finished"] and what_counts(there["run"]) == what_counts(manifest["run"]):
            return read(folder)
        before, manifest["started"] = there["seconds"], there["started"]
        if (folder / CHECKPOINT).exists():
            before = _restore(standing, folder / CHECKPOINT)
    write_json(folder / MANIFEST, manifest | {"seconds": before}, indent=2)
    begun = time.perf_counter()
    try:
        _carry_on(standing, progress, folder / CHECKPOINT, before)
    except KeyboardInterrupt:
        saved, steps = _saved_steps(folder / CHECKPOINT), standing.training.like["steps"]
        what = f"interrupted; {saved:,} of {steps:,} steps are saved, the same command goes on from there"
        raise InterruptedTraining(what) from None
    return save(_told(standing, _finished(manifest, before + time.perf_counter() - begun)), folder)


def _refuse_others(folder: Path) -> None:
    """Raise InputError if a folder holds anything but a training."""
    if folder.exists() and not folder.is_dir():
        raise InputError("is a file, not a folder", where=str(folder))
    kept = [path for path in folder.iterdir() if path.name != LOCK] if folder.exists() else []
    if kept and not is_training(folder):
        what = "output folder is not empty and holds no training"
        raise InputError(what, where=str(folder), hint="choose another folder with -o")


def _refuse_changed(folder: Path, there: Mapping[str, Any], meant: Mapping[str, Any]) -> None:
    """Raise InputError if a folder holds another training than is meant; more steps of the same are not another."""
    numerics = "version of the numerics"
    before, after = (
        {**what_counts(one["run"]), "init": one["init"], numerics: one["versions"]["numerics"]}
        for one in (there, meant)
    )
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    if "steps" in changed and after["steps"] > before["steps"]:
        changed.remove("steps")
    if changed:
        contents = {"data": "the data are others now", "init": "the initial parameters are others now"}
        told = ["task"] if "task" in changed else changed
        words = [contents.get(key, f"{key} was {before.get(key)!r}, now {after.get(key)!r}") for key in told]
        what = ", ".join(words)
        raise InputError(f"holds another training: {what}", where=str(folder), hint="choose another folder with -o")


def _save(standing: Standing, path: Path, seconds: float) -> None:
    state, curves = standing.state, standing.curves
    arrays = {
        "values": state.values,
        "h": state.h,
        "first": state.first,
        "done": state.done,
        "best": state.best,
        "best_loss": state.best_loss,
        "best_step": state.best_step,
        **{f"slots.{name}": array for name, array in state.slots.items()},
        **curves.arrays(),
    }
    note = {
        "number": state.number,
        "status": list(state.status),
        "seconds": seconds,
        "samples": list(standing.samples.items()),
    }
    checkpoint.write(path, arrays, note)


def _restore(standing: Standing, path: Path) -> float:
    """Take up a checkpoint; the seconds that were trained before it. InputError if it is of another shape."""
    arrays, note = checkpoint.read(path)
    state, hint = standing.state, "remove it to begin anew"
    if not isinstance(note, dict) or "number" not in note:
        raise InputError("is no checkpoint of a training", where=str(path), hint=hint)
    own = {f"slots.{name}": array for name, array in state.slots.items()}
    own |= {name: getattr(state, name) for name in ("values", "h", "first", "done", "best", "best_loss", "best_step")}
    for name, array in own.items():
        if name not in arrays or arrays[name].shape != array.shape or arrays[name].dtype != array.dtype:
            found = f"{arrays[name].dtype} {arrays[name].shape}" if name in arrays else "missing"
            what = f"a checkpoint of another shape: {name} is {found}"
            raise InputError(what, where=str(path), allowed=f"{array.dtype} {array.shape}", hint=hint)
        array[...] = arrays[name]
    state.number, state.status = note["number"], np.array(note["status"], object)
    standing.curves = Curves.of(arrays)
    standing.curves.looks = [look for look in standing.curves.looks if look.step < state.number]  # see `proceed`
    standing.samples = {int(step): text for step, text in note["samples"]}
    return float(note["seconds"])


def _saved_steps(path: Path) -> int:
    return int(checkpoint.read(path)[1]["number"]) if path.exists() else 0


def _manifest(sweep: Sweep, init: Init, command: str) -> dict[str, Any]:
    return {
        "kind": TRAINING,
        "name": sweep.name,
        "hash": sweep.hash,
        "runs": 1,
        "grid": {key: list(values) for key, values in sweep.grid.items()},
        "run": dict(sweep.runs[0].parameters),
        "init": _digest_of(init),
        "data": dict(sweep.data),
        "command": command,
        "started": now(),
        "finished": None,
        **provenance(),
    }


def _digest_of(init: Init) -> str | None:
    """The SHA-256 of given parameters, or of their file."""
    if isinstance(init, Mapping):
        return checkpoint.digest({name: np.asarray(array, np.float64) for name, array in init.items()})
    return None if init is None else sha256_of(Path(init))


def _finished(manifest: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {**manifest, "finished": now(), "seconds": seconds}


def _told(standing: Standing, manifest: Mapping[str, Any]) -> History:
    return history_of(standing.training, standing.state, standing.curves, standing.samples, manifest)
