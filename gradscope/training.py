"""Training: networks that learn side by side, and what is recorded of their gradients while they do.

C runs that differ in seed and spectral radius only are trained in lockstep: one forward pass, one backward pass
(`gradscope.bptt`, as everywhere) and one step of the optimiser for all. Whatever is random depends on the seed and the
number of the step alone, so that a state is all that is needed to go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.bptt import loss_gradients
from gradscope.clipping import touched
from gradscope.clips import clip_of
from gradscope.errors import InputError
from gradscope.feeding import Batch, Feed
from gradscope.forecasting import read_out
from gradscope.gradients import by_parameter, log10_norm
from gradscope.losses import LOSSES
from gradscope.networks import drawn, network_of
from gradscope.optimizer import Optimizer, Slots, begin
from gradscope.optimizers import optimizer
from gradscope.passes import Pass, Request, passes
from gradscope.recurrence import Cell, Packed, Parameters, Trace
from gradscope.runs import Run
from gradscope.scaled import Floats, Scaled
from gradscope.schedule import Gates, Rescaling, Tossing
from gradscope.spectral import spectral_norm, spectral_radius
from gradscope.streams import stream
from gradscope.truncations import truncation
from gradscope.workspace import Workspace

HOPELESS = 1000.0  # times the loss at first, or 1 if that is less: a training that has come to this has diverged
SATURATED = 0.1  # of the activation's greatest slope: a unit that has less has all but stopped to pass gradients
_COINS = 64  # steps whose coins are thrown together
GOING = "ok"  # the status of a run that learns, or has learnt to the end
# What a look has by name, in the order of the tables.
NUMBERS = ("validation_loss", "spectral_radius", "spectral_norm", "mean_slope", "saturated_share")
LAGS = ("log10_dh", "log10_reach", "zero_share")


@dataclass
class State:
    """Where C runs stand: all that is needed to go on. It is changed in place.

    Attributes
    ----------
    number : steps done.
    values : (C, D), the parameters; `params` are views of it, by name.
    slots : what the optimiser remembers, each (C, D).
    h : (C, B, S), the states after the last batch.
    first : (C,), the loss at the first step.
    status : (C,), of each run; those that are not `GOING` stand still.
    done : (C,), the steps that each run has done.
    best, best_loss, best_step : (C, D), (C,), (C,): the parameters of the least validation loss so far.
    """

    number: int
    values: Floats
    params: Parameters
    slots: Slots
    h: Floats
    first: Floats
    status: NDArray[Any]
    done: NDArray[np.int64]
    best: Floats
    best_loss: Floats
    best_step: NDArray[np.int64]

    @property
    def going(self) -> NDArray[np.bool_]:
        """(C,), the runs that learn."""
        found: NDArray[np.bool_] = self.status == GOING
        return found

    @property
    def ended(self) -> NDArray[np.bool_]:
        """(C,), the runs that have come to their end with this step."""
        return ~self.going & (self.done == self.number)


class Step(NamedTuple):
    """What is recorded of every step, each (C,): the loss; the gradient's log10 norm before and after clipping."""

    loss: Floats
    log10_grad: Floats
    log10_clipped: Floats
    clipped: NDArray[np.bool_]


class Observation(NamedTuple):
    """What is recorded every so many steps.

    Attributes
    ----------
    step : steps done before it.
    numbers : by name (C,): `validation_loss`, of W_hh the `spectral_radius` and `spectral_norm`, of the activation the
        `mean_slope` and the `saturated_share` of units.
    lags : by name (C, T), from lag 0 on, means over examples of log10 norms of state gradients on the next batch:
        `log10_dh`, of the training loss as it is truncated, and `log10_reach`, of the last loss alone under full BPTT;
        `zero_share`, of examples in which the latter is exactly zero.
    """

    step: int
    numbers: dict[str, Floats]
    lags: dict[str, Floats]

    def of(self, c: int) -> Observation:
        """What is recorded of one of the runs."""
        numbers, lags = ({name: found[c : c + 1] for name, found in kind.items()} for kind in self[1:])
        return Observation(self.step, numbers, lags)


class Asked(NamedTuple):
    """A backward pass with its request, the weights of its losses, and what the learning rate is multiplied by."""

    request: Request
    plan: list[Pass]
    weights: Floats | None
    scale: float
    rate: Floats | float = 1.0


class Training:
    """Runs that are alike in everything but seed and spectral radius, and learn side by side.

    Raises InputError for data from which the runs cannot learn: see `gradscope.feeding.Feed`.
    """

    def __init__(self, runs: Sequence[Run]):
        like = runs[0]
        self.runs, self.like = tuple(runs), like
        self.seeds, self.radii = zip(*map(network_of, runs), strict=True)
        self.cell: Cell = like.cell()
        self.feed = Feed(like, self.seeds)
        self.optimizer: Optimizer = optimizer(like["optimizer"])
        self.clip, self.truncation = clip_of(like["clip"]), truncation(like["truncation"])
        self._tossing = self.truncation if isinstance(self.truncation, Tossing) else None
        self._flat = np.empty((len(runs), sum(map(prod, self.cell.shapes().values()))), like["dtype"])
        self._parts, self._scratch = self.by_name(self._flat), np.empty_like(self._flat)
        self._rate = np.full((len(runs), 1), like["learning_rate"], like["dtype"])
        self._workspace = Workspace()
        self._plans: dict[bytes, tuple[Request, list[Pass]]] = {}

    def begin(self, params: Mapping[str, Floats] | None = None) -> State:
        """The state before the first step: as the runs' keys say, or from parameters (C, ...) that are given."""
        like, C = self.like, len(self.runs)
        given = self._drawn() if params is None else params
        values = np.concatenate([given[name].reshape(C, -1) for name in self.cell.shapes()], axis=1)
        values = np.ascontiguousarray(values.astype(like["dtype"]))
        h = np.zeros((C, like["batch_size"], self.cell.state_size), like["dtype"])
        empty = np.full(C, np.nan)
        return State(
            number=0,
            values=values,
            params=self.by_name(values),
            slots=begin(self.optimizer, values),
            h=h,
            first=empty.copy(),
            status=np.full(C, GOING, object),
            done=np.zeros(C, np.int64),
            best=values.copy(),
            best_loss=np.full(C, np.inf),
            best_step=np.zeros(C, np.int64),
        )

    def by_name(self, values: Floats) -> Parameters:
        """Parameters (C, D) as views by name, (C, ...)."""
        found, begin = {}, 0
        for name, shape in self.cell.shapes().items():
            size = prod(shape)
            found[name] = values[:, begin : begin + size].reshape(len(values), *shape)
            begin += size
        return found

    def advance(self, state: State) -> Step:
        """One step of every run that is still going."""
        batch = self.feed.batch(state.number)
        asked = self._asked(batch, state.number)
        packed, trace = self._forward(state, batch)
        (found,) = loss_gradients(
            self.cell,
            packed,
            trace,
            batch.y,
            self.like["loss"],
            [asked.request],
            asked.plan,
            self._workspace,
            weights=asked.weights,
        )
        sums = by_parameter(self.cell, found.weights, found.readout)
        factor = asked.scale / trace.extent[2]
        gradient = sums if factor == 1.0 else {name: _times(part, factor) for name, part in sums.items()}
        log10 = log10_norm(found.weights, found.readout) + np.log10(factor)
        clipped = self.clip.clip(gradient)
        changed = touched(gradient, clipped)
        log10_clipped = log10_norm(*clipped.values()) if changed.any() else log10
        loss, beyond = found.loss * asked.scale, found.overflow > 0
        if beyond.any():  # states that have left the range of numbers have no loss, and no gradient
            loss, log10, log10_clipped = (np.where(beyond, np.nan, one) for one in (loss, log10, log10_clipped))
            changed = changed & ~beyond
        state.done[state.going] += 1
        self._stop_hopeless(state, loss, log10)
        state.h = self.cell.state(trace, trace.extent[1]).copy()
        self._update(state, clipped, asked.rate)
        state.number += 1
        return Step(loss, log10, log10_clipped, changed)

    def observe(self, state: State) -> Observation:
        """Look at every run; keep those parameters that are the best so far."""
        batch = self.feed.batch(state.number)
        asked = self._asked(batch, state.number)
        packed, trace = self._forward(state, batch)
        last = int(asked.request.steps[-1])
        reach = Request(trace.extent[1], np.array([last]), Gates(np.ones(trace.extent[1])))
        requests, how = [asked.request, reach], (self.cell, packed, trace, batch.y, self.like["loss"])
        own, alone = loss_gradients(*how, requests, passes(requests), self._workspace, weights=asked.weights)
        reached = alone.norms.of(alone.row)[:, : last + 1]
        if asked.weights is not None:
            counts = asked.weights[:, last].astype(np.float64)
            reached -= np.log10(np.where(counts > 0, counts, 1.0))[:, None]
        lags = {
            "log10_dh": _by_lag(own.norms.of(own.row) + np.log10(asked.scale)),
            "log10_reach": _by_lag(reached, trace.extent[1]),
            "zero_share": _lagged(np.isneginf(reached).mean(axis=2), trace.extent[1]),
        }
        for norms, found in zip(lags.values(), (own, alone, alone), strict=True):
            norms[found.overflow > 0] = np.nan
        every = [{name: one[c] for name, one in state.params.items()} for c in range(len(self.runs))]
        W_hh = [self.cell.recurrent(params).astype(np.float64) for params in every]
        numbers = self._slopes(trace) | {
            "validation_loss": self.loss(state.params, "validation"),
            "spectral_radius": np.array([_of_finite(spectral_radius, one) for one in W_hh]),
            "spectral_norm": np.array([_of_finite(spectral_norm, one) for one in W_hh]),
        }
        if self.due(state):
            better = state.going & (numbers["validation_loss"] < state.best_loss)
            state.best[better], state.best_step[better] = state.values[better], state.number
            state.best_loss[better] = numbers["validation_loss"][better]
            self._stop_patient(state)
        return Observation(state.number, {name: numbers[name] for name in NUMBERS}, lags)

    def due(self, state: State) -> bool:
        """Whether runs that are going are looked at now: before the first step, every so many, and at the end."""
        return state.number % self.like["record_every"] == 0 or state.number == self.like["steps"]

    def loss(self, params: Mapping[str, Floats], part: str) -> Floats:
        """The mean loss (C,) on what is held out as "validation" or "test"; nan where it is not finite."""
        batch = self.feed.held_out(part)
        predicted = self.predict(params, batch)
        with np.errstate(over="ignore", invalid="ignore"):
            values, _ = LOSSES[self.like["loss"]](predicted, batch.y)
            counts = np.ones(values.shape) if batch.mask is None else batch.mask
            mean = np.where(counts, values, 0.0).sum(axis=(1, 2), dtype=np.float64) / counts.sum(axis=(1, 2))
        found: Floats = np.where(np.isfinite(mean), mean, np.nan)
        return found

    def predict(self, params: Mapping[str, Floats], batch: Batch) -> Floats:
        """What networks answer, (C, T, B, p)."""
        packed = self.cell.pack(params)
        return read_out(packed, self.cell.forward(packed, batch.x, None, self._workspace))

    def _drawn(self) -> Parameters:
        params = drawn(self.like, list(zip(self.seeds, self.radii, strict=True)))
        params["W_hy"] *= self.like["output_scale"]
        return params

    def _forward(self, state: State, batch: Batch) -> tuple[Packed, Trace]:
        packed = self.cell.pack(state.params)
        return packed, self.cell.forward(packed, batch.x, None if batch.fresh else state.h, self._workspace)

    def _asked(self, batch: Batch, number: int) -> Asked:
        """What a step asks of its batch: the gradient of the sum of the losses that count, times `scale`."""
        T, mean = batch.x.shape[1], self.like["reduction"] == "mean"
        steps, weights, scale = np.arange(T), None, 1.0 / T if mean else 1.0
        if batch.mask is not None:
            steps = np.flatnonzero(batch.mask.any(axis=(0, 2)))
            counts = batch.mask.sum(axis=1, keepdims=True)
            scale = 1.0
            if (counts == len(steps)).all():
                scale = 1.0 / len(steps) if mean else 1.0
            else:
                weights = (batch.mask / counts if mean else batch.mask).astype(batch.x.dtype)
        if (member := self._tossing) is not None:
            tossed = np.stack([_coins(seed, number // _COINS, T)[number % _COINS] for seed in self.seeds])
            rate = member.learning_rate_factor(tossed)[:, None] if isinstance(member, Rescaling) else 1.0
            request = Request(T, steps, member.schedule(tossed))
            return Asked(request, passes([request]), weights, scale, rate)
        key = steps.tobytes()
        if key not in self._plans:
            request = Request(T, steps, self.truncation.schedule(np.zeros((1, T))))
            self._plans[key] = request, passes([request])
        return Asked(*self._plans[key], weights, scale)

    def _update(self, state: State, gradient: Mapping[str, Scaled], rate: Floats | float) -> None:
        for name, view in self._parts.items():
            view[...] = gradient[name].value().swapaxes(-1, -2).reshape(view.shape)
        still, before = ~state.going, state.values.copy()
        self._flat[still] = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            self.optimizer.step(
                state.values, self._flat, state.slots, self._rate * rate, state.number + 1, self._scratch
            )
        state.values[still] = before[still]
        for c in self._unfit(state):
            state.values[c], state.status[c] = before[c], f"diverged at step {state.number + 1}"

    def _unfit(self, state: State) -> list[int]:
        """The runs whose parameters are beyond what their cell can take."""
        try:
            self.cell.pack(state.params)
            return []
        except InputError:
            return [c for c in np.flatnonzero(state.going).tolist() if not self._fits(state.values[c : c + 1])]

    def _fits(self, values: Floats) -> bool:
        try:
            self.cell.pack(self.by_name(values))
        except InputError:
            return False
        return True

    def _stop_hopeless(self, state: State, loss: Floats, log10: Floats) -> None:
        """Let those runs stand still that have diverged: their loss or gradient is no number, or the loss hopeless."""
        if state.number == 0:
            state.first = np.array(loss, np.float64)
        fine = (loss / HOPELESS <= np.maximum(state.first, 1.0)) & (loss < np.inf) & (log10 < np.inf)
        if not fine.all():
            state.status[~fine & state.going] = f"diverged at step {state.number + 1}"

    def _stop_patient(self, state: State) -> None:
        """Let those runs stand still whose validation loss has not become less for long enough."""
        patience = self.like["patience"] * self.like["record_every"]
        if patience:
            enough = state.going & (state.number - state.best_step >= patience)
            state.status[enough] = f"stopped early at step {state.number}"

    def _slopes(self, trace: Trace) -> dict[str, Floats]:
        """The mean slope of the activation over steps, examples and units, and the share that is hardly any.

        Neither is known of states that have left the range of numbers.
        """
        slopes = self.cell.local(trace, 0, trace.extent[1])
        if slopes.shape[-1] != self.cell.hidden_size:
            return {name: np.full(len(self.runs), np.nan) for name in ("mean_slope", "saturated_share")}
        flat, whole = slopes.reshape(len(self.runs), -1), (trace.overflow == 0).all(axis=1)
        return {
            "mean_slope": np.where(whole, flat.mean(axis=1, dtype=np.float64), np.nan),
            "saturated_share": np.where(whole, (flat < SATURATED * self._steepest).mean(axis=1), np.nan),
        }

    @cached_property
    def _steepest(self) -> float:
        """The slope at 0, the greatest there is of all activations."""
        silent = self.cell.pack({name: np.zeros((1, *shape)) for name, shape in self.cell.shapes().items()})
        trace = self.cell.forward(silent, np.zeros((1, 1, 1, self.cell.input_size)), None, Workspace())
        return float(self.cell.local(trace, 0, 1).max()) or 1.0


def proceed(training: Training, state: State) -> Iterator[Step | Observation]:
    """All that is recorded of a training from where it stands to the end, or until no run is going any more.

    It is looked at whenever that is due (`Training.due`) and when a run has come to its end, also where it begins: who
    goes on takes up a state that has not been looked at.
    """
    while True:
        if training.due(state) or state.ended.any():
            yield training.observe(state)
        if state.number >= training.like["steps"] or not state.going.any():
            return
        yield training.advance(state)


@lru_cache(maxsize=256)
def _coins(seed: int, block: int, seq_len: int) -> Floats:
    """The coins of a block of steps, (steps, T). A shorter sequence has a prefix of a longer."""
    return stream(seed, f"training coins {block}").random((seq_len, _COINS)).T


def _times(part: Scaled, factor: float) -> Scaled:
    return Scaled(part.mantissa * part.mantissa.dtype.type(factor), part.exponent)


def _by_lag(log10: Floats, lags: int | None = None) -> Floats:
    """Norms (C, T, B) as means over those examples that have one, (C, lags), from lag 0 on; nan beyond."""
    live = log10 > -np.inf
    count = live.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(count > 0, np.where(live, log10, 0.0).sum(axis=2) / count, -np.inf)
    return _lagged(mean, lags or mean.shape[1])


def _lagged(values: Floats, lags: int) -> Floats:
    """Values (C, T) by step as values (C, lags) from lag 0 on; nan beyond."""
    return np.pad(values[:, ::-1], [(0, 0), (0, lags - values.shape[1])], constant_values=np.nan)


def _of_finite(measure: Any, matrix: Floats) -> float:
    return float(measure(matrix)) if np.isfinite(matrix).all() else float("nan")
