"""Training raced: min-char-rnn's network on the same text, as a plain loop in NumPy and as gradscope trains it.

Source of the loop's recipe: Karpathy (2015), min-char-rnn: hidden 100, 25 steps, Adagrad 0.1, each entry clipped at 5,
weights of standard deviation .01, the state carried; the sum of the losses of 25 characters.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.grid import resolve
from gradscope.recurrence import Parameters
from gradscope.scaled import Floats
from gradscope.threads import one_blas_thread
from gradscope.training import State, Training

RECIPE: Mapping[str, Any] = {
    "measure": "training",
    "task": "text",
    "dtype": "float64",
    "hidden_size": 100,
    "seq_len": 25,
    "batch_size": 1,
    "batching": "sequential",
    "optimizer": "adagrad",
    "learning_rate": 0.1,
    "clip": "value:5",
    "reduction": "sum",
    "ensemble": "gaussian",
    "spectral_radius": 0.1,
    "input_scale": 0.01,
    "output_scale": 0.1,
    "record_every": 10**6,
    "steps": 10**6,
}
BATCHED: Mapping[str, Any] = {"measure": "training", "task": "text", "record_every": 10**6, "steps": 10**6}
TURN = 200  # iterations before it is the other's turn
AGREED = 1e-6  # relative difference of the first losses, up to which both train the same network
ALIKE = 20  # steps in which they do: later, rounding has grown
LONG = 6000  # iterations of the loop, whose loss the batched training is to reach
LAST, LAST_BATCHED = 400, 10  # steps over which that loss is a mean


def race_training(rounds: int, quick: bool, tell: Callable[[str], None]) -> dict[str, Any]:
    """Iterations a second in turn, and how much sooner a batched training reaches the loop's loss (None if quick).

    Returns
    -------
    dict : `loop`, `gradscope`: milliseconds an iteration in each round; `ratio`: the median of the rounds' ratios;
        `apart`: the largest relative difference of their first losses; `sooner`: the ratio of times to the same loss.
    """
    found: dict[str, Any] = {"loop": [], "gradscope": [], "sooner": None}
    with one_blas_thread():
        training = _training(RECIPE)
        state = training.begin()
        loop = plain_loop({name: array[0].copy() for name, array in state.params.items()}, _codes(training))
        for number in range(rounds + 1):  # the first round warms up
            tell(f"training: round {number} of {rounds}")
            theirs, loop_seconds = _timed(lambda: next(loop))
            ours, own_seconds = _timed(lambda: float(training.advance(state).loss[0]))
            if not number:
                apart = float(np.max(np.abs(np.array(ours) / np.array(theirs) - 1.0)[:ALIKE]))
            else:
                found["loop"].append(1e3 * loop_seconds / TURN)
                found["gradscope"].append(1e3 * own_seconds / TURN)
        if not quick:
            tell("training: to the same loss")
            found["sooner"] = _sooner()
    ratios = (a / b for a, b in zip(found["loop"], found["gradscope"], strict=True))
    return found | {"ratio": statistics.median(ratios), "apart": apart, "agree": apart < AGREED}


def plain_loop(params: Parameters, codes: NDArray[np.int64]) -> Iterator[float]:
    """Train on a text character by character, every vector a column, as min-char-rnn does; yields each loss."""
    steps, rate, limit = RECIPE["seq_len"], RECIPE["learning_rate"], 5.0
    weights = {name: array.reshape(len(array), -1) for name, array in params.items()}
    squares = {name: np.zeros_like(array) for name, array in weights.items()}
    start: Floats = np.zeros((len(weights["b_h"]), 1))
    at, h = 0, start
    while True:
        if at + steps + 1 > len(codes):
            at, h = 0, start
        loss, gradients, h = _gradients(weights, codes[at : at + steps], codes[at + 1 : at + steps + 1], h)
        for name, gradient in gradients.items():
            np.clip(gradient, -limit, limit, out=gradient)
            squares[name] += gradient * gradient
            weights[name] -= rate * gradient / np.sqrt(squares[name] + 1e-8)
        at += steps
        yield loss


def _gradients(
    weights: Parameters, inputs: NDArray[np.int64], targets: NDArray[np.int64], h: Floats
) -> tuple[float, Parameters, Floats]:
    """Loss, gradients and last state of one window."""
    states, codes, probabilities, loss = [h], [], [], 0.0
    for code, target in zip(inputs, targets, strict=True):
        x = np.zeros((weights["W_xh"].shape[1], 1))
        x[code] = 1.0
        h = np.tanh(np.dot(weights["W_xh"], x) + np.dot(weights["W_hh"], h) + weights["b_h"])
        scores = np.exp(np.dot(weights["W_hy"], h) + weights["b_y"])
        codes.append(x)
        states.append(h)
        probabilities.append(scores / scores.sum())
        loss -= float(np.log(probabilities[-1][target, 0]))
    found = {name: np.zeros_like(array) for name, array in weights.items()}
    onward: Floats = np.zeros_like(h)
    for t in reversed(range(len(inputs))):
        dy = np.copy(probabilities[t])
        dy[targets[t]] -= 1.0
        found["W_hy"] += np.dot(dy, states[t + 1].T)
        found["b_y"] += dy
        dz = (1.0 - states[t + 1] * states[t + 1]) * (np.dot(weights["W_hy"].T, dy) + onward)
        found["b_h"] += dz
        found["W_xh"] += np.dot(dz, codes[t].T)
        found["W_hh"] += np.dot(dz, states[t].T)
        onward = np.dot(weights["W_hh"].T, dz)
    return loss, found, states[-1]


def _training(recipe: Mapping[str, Any]) -> Training:
    return Training([resolve("bench", recipe).blocks[0].first])


def _codes(training: Training) -> NDArray[np.int64]:
    recording = training.feed.recording(training.seeds[0])
    assert recording is not None
    return recording.part("train")


def _timed(step: Callable[[], float]) -> tuple[list[float], float]:
    begun = time.perf_counter()
    losses = [step() for _ in range(TURN)]
    return losses, time.perf_counter() - begun


def _sooner() -> float:
    """The loop's time to its loss in the end, over that of a batched training to the same loss a character."""
    training = _training(RECIPE)
    params = {name: array[0].copy() for name, array in training.begin().params.items()}
    loop, begun = plain_loop(params, _codes(training)), time.perf_counter()
    losses = [next(loop) for _ in range(LONG)]
    theirs, goal = time.perf_counter() - begun, statistics.mean(losses[-LAST:]) / RECIPE["seq_len"]
    batched = _training(BATCHED)
    return theirs / _reaching(batched, batched.begin(), goal)


def _reaching(training: Training, state: State, goal: float) -> float:
    """Seconds until the mean loss of the last steps is at most `goal`."""
    recent: list[float] = []
    begun = time.perf_counter()
    while len(recent) < LAST_BATCHED or statistics.mean(recent[-LAST_BATCHED:]) > goal:
        recent.append(float(training.advance(state).loss[0]))
    return time.perf_counter() - begun
