"""Curves of a training: what was recorded of every step and at every look, and what sweeps keep of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.reaching import SHARES, steps_until
from gradscope.runs import Run
from gradscope.scaled import Floats
from gradscope.training import LAGS, NUMBERS, Observation, State, Step, Training, proceed

EACH = Step._fields  # what is recorded of every step
LATE = 0.1  # of the steps, over which the final loss is a mean
HISTORY = "history_"  # columns of the runs table that hold a curve begin so


@dataclass
class Curves:
    """What has been recorded of C runs so far.

    Attributes
    ----------
    steps : of every step.
    looks : of every look, the first of them before the first step.
    """

    steps: list[Step] = field(default_factory=list)
    looks: list[Observation] = field(default_factory=list)

    def add(self, recorded: Step | Observation) -> None:
        """Take in what `training.proceed` yields."""
        if isinstance(recorded, Step):
            self.steps.append(recorded)
        else:
            self.looks.append(recorded)

    def apart(self, done: NDArray[np.int64], every: int) -> list[Curves]:
        """Those of each run alone, up to its own end after so many steps.

        They are what they would be if it had learnt by itself: of looks between those due `every` so many steps it has
        none but that at its own end.
        """
        return [
            Curves(
                [Step._make(values[c : c + 1] for values in step) for step in self.steps[:end]],
                [look.of(c) for look in self.looks if look.step == end or (look.step < end and look.step % every == 0)],
            )
            for c, end in enumerate(done.tolist())
        ]

    def each(self) -> dict[str, NDArray[Any]]:
        """By name, (steps, C)."""
        return {name: np.array([getattr(step, name) for step in self.steps]) for name in EACH}

    def at_looks(self) -> dict[str, NDArray[Any]]:
        """By name (looks, C): what was seen then, and of the steps since the look before it, the mean `loss`, the
        median `log10_grad` and `log10_clipped` and the `clip_share`; nan at the first.
        """
        each = self.each()
        ends = [look.step for look in self.looks]
        summaries = {"loss": _mean, "log10_grad": _median, "log10_clipped": _median, "clipped": _mean}
        found = {
            name: np.array([how(each[name][a:b]) for a, b in zip([0, *ends], ends, strict=False)], float)
            for name, how in summaries.items()
        }
        if found["loss"].ndim == 1:  # no steps so far
            found = {
                name: np.full((len(ends), len(self.looks[0].numbers["validation_loss"])), np.nan) for name in found
            }
        found["clip_share"] = found.pop("clipped")
        return found | {name: np.array([look.numbers[name] for look in self.looks]) for name in self.looks[0].numbers}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, for a checkpoint."""
        looks = {"step": np.array([look.step for look in self.looks])}
        for kind in ("numbers", "lags"):
            for name in getattr(self.looks[0], kind):
                looks[f"{kind}.{name}"] = np.array([getattr(look, kind)[name] for look in self.looks])
        return {f"steps.{name}": array for name, array in self.each().items() if len(array)} | {
            f"looks.{name}": array for name, array in looks.items()
        }

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Curves:
        """The curves that `arrays` were made from."""
        each = [arrays[f"steps.{name}"] for name in EACH if f"steps.{name}" in arrays]
        steps = [Step(*row) for row in zip(*each, strict=True)]
        looks = [
            Observation(
                int(step),
                {name: arrays[f"looks.numbers.{name}"][i] for name in NUMBERS},
                {name: arrays[f"looks.lags.{name}"][i] for name in LAGS},
            )
            for i, step in enumerate(arrays["looks.step"])
        ]
        return cls(steps, looks)


def _mean(values: NDArray[Any]) -> Any:
    with np.errstate(over="ignore"):
        return values.mean(axis=0) if len(values) else np.full(values.shape[1:], np.nan)


def _median(values: NDArray[Any]) -> Any:
    return np.median(values, axis=0) if len(values) else np.full(values.shape[1:], np.nan)


def learnt(batch: Sequence[Run]) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """What a sweep records of trainings: `columns` and `steps` of an `engine.Measurement`, in the runs' order.

    Runs of one setting learn side by side. `timesteps` hold the reach of the last loss after training; a column that
    begins with `history_` holds a curve, each entry of it an array.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, run in enumerate(batch):
        setting = tuple(run[name] for name in ("seq_len", "truncation", "loss_steps", "reduction", "clip"))
        groups.setdefault(setting, []).append(i)
    columns: dict[str, list[Any]] = {}
    steps: list[dict[str, NDArray[Any]]] = [{} for _ in batch]
    for members in groups.values():
        own, reach = _trained([batch[i] for i in members])
        for name, values in own.items():
            column = columns.setdefault(name, [None] * len(batch))
            for i, value in zip(members, values, strict=True):
                column[i] = value
        for i, lags in zip(members, reach, strict=True):
            steps[i] = lags
    return {name: _column(values) for name, values in columns.items()}, {
        name: np.concatenate([own[name] for own in steps]) for name in steps[0]
    }


def _column(values: list[Any]) -> NDArray[Any]:
    if not isinstance(values[0], np.ndarray):
        return np.array(values, object if isinstance(values[0], str) else float)
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _trained(runs: Sequence[Run]) -> tuple[dict[str, Any], list[dict[str, NDArray[Any]]]]:
    """The columns and the reach, after training, of runs that learn side by side."""
    training = Training(runs)
    state, curves = training.begin(), Curves()
    for recorded in proceed(training, state):
        curves.add(recorded)
    own = curves.apart(state.done, training.like["record_every"])
    return _columns(training, state, own), [_reach(one.looks[-1]) for one in own]


def _columns(training: Training, state: State, curves: Sequence[Curves]) -> dict[str, Any]:
    runs, looks = training.runs, [one.at_looks() for one in curves]
    realised = [training.cell.drawn(run["ensemble"], run["seed"]).realised(run["spectral_radius"]) for run in runs]
    missing = np.full(len(runs), np.nan)
    curve = {f"{HISTORY}{name}": [own[name][:, 0] for own in looks] for name in looks[0]}
    return {
        "spectral_radius_realised": [radius for radius, _ in realised],
        "spectral_norm": [norm for _, norm in realised],
        "status": list(state.status),
        "relative_error": missing,
        "cosine": missing,
        **final(training, state, curves),
        f"{HISTORY}step": [np.array([look.step for look in own.looks], float) for own in curves],
        **curve,
    }


def final(training: Training, state: State, curves: Sequence[Curves]) -> dict[str, Floats]:
    """What is left of a training in the end, each (C,), with the curves of each run `apart`.

    `loss_value` is the mean loss of the last tenth of the steps; `log10_grad` and `log10_clipped` are medians over all
    steps; `validation_loss` and `test_loss` are those of the parameters of the best validation loss, found after
    `best_step` steps; `naive_loss` is the least test loss of naive predictions. `half_life_initial`, `horizon_initial`
    and those that end in `_trained` say how far the last loss reaches before the first step and after the last one: in
    how many steps a half, or a hundredth, of its gradient is left (`reaching.steps_until`), inf beyond the sequence.
    """
    each, looks = [own.each() for own in curves], [own.looks[-1].numbers for own in curves]
    last = {name: np.concatenate([look[name] for look in looks]) for name in looks[0]}
    late = [own["loss"][-max(1, int(LATE * len(own["loss"]))) :] for own in each]
    naive = {seed: min(training.feed.naive(seed).values(), default=np.nan) for seed in training.seeds}
    with np.errstate(over="ignore", invalid="ignore"):
        return {
            "loss_value": np.array([loss.mean() for loss in late]),
            "log10_grad": np.array([np.median(own["log10_grad"]) for own in each]),
            "log10_clipped": np.array([np.median(own["log10_clipped"]) for own in each]),
            "clip_share": np.array([own["clipped"].mean() for own in each]),
            "validation_loss": np.where(np.isfinite(state.best_loss), state.best_loss, np.nan),
            "test_loss": training.loss(training.by_name(state.best), "test"),
            "best_step": state.best_step.astype(float),
            "naive_loss": np.array([naive[seed] for seed in training.seeds]),
            "trained_radius": last["spectral_radius"],
            "trained_norm": last["spectral_norm"],
            "mean_slope": last["mean_slope"],
            "saturated_share": last["saturated_share"],
            **_reaches(curves),
        }


def _reaches(curves: Sequence[Curves]) -> dict[str, Floats]:
    """How far the last loss reaches, at the first and at the last look, each (C,)."""
    return {
        f"{name}_{when}": np.array([steps_until(share, own.looks[at].lags["log10_reach"][0]) for own in curves])
        for name, share in SHARES.items()
        for when, at in (("initial", 0), ("trained", -1))
    }


def _reach(look: Observation) -> dict[str, NDArray[Any]]:
    """The timesteps of a run: the norms of the last loss's state gradients, from t = 1 on; none after that loss."""
    (reach,) = look.lags["log10_reach"]
    last = (np.count_nonzero(~np.isnan(reach)) or len(reach)) - 1
    lag = last - np.arange(len(reach))
    log10 = np.where(lag < 0, -np.inf, reach[lag])
    return {
        "lag": lag,
        "log10_dh": log10,
        "log10_dh_std": np.full(len(reach), np.nan),
        "zero_share": np.where(lag < 0, 1.0, look.lags["zero_share"][0][lag]),
    }
