"""Guards the training of a character model against min-char-rnn (Karpathy 2015), rewritten here from its description.

The reference is an independent naive loop: one character at a time, one batch of one, no engine.
"""

from __future__ import annotations

import numpy as np
import pytest

import gradscope as gs
from gradscope import checkpoint
from gradscope.grid import resolve
from gradscope.sources import text
from gradscope.training import Training

HIDDEN, STEPS, RATE, BOUND, EPSILON = 100, 25, 0.1, 5.0, 1e-8
NAMES = ("W_xh", "W_hh", "b_h", "W_hy", "b_y")
ITERATIONS = 700
SETTINGS = {
    "hidden_size": HIDDEN,
    "batch_size": 1,
    "seq_len": STEPS,
    "batching": "sequential",
    "optimizer": "adagrad",
    "learning_rate": RATE,
    "clip": f"value:{BOUND:g}",
    "reduction": "sum",
    "loss_steps": "all",
    "dtype": "float64",
}


class Reference:
    """A network of 100 units that reads a text (N,) again and again, 25 characters at a time."""

    def __init__(self, codes, vocabulary, begin):
        self.codes, self.vocabulary = codes, vocabulary
        self.params = {name: array.copy() for name, array in begin.items()}
        self.memory = {name: np.zeros_like(array) for name, array in begin.items()}
        self.place, self.carried = 0, np.zeros(HIDDEN)

    def iterate(self):
        """One iteration; the loss is the sum over its 25 characters."""
        if self.place + STEPS + 1 > len(self.codes):  # the end of the text: from the beginning, with an empty mind
            self.place, self.carried = 0, np.zeros(HIDDEN)
        Wxh, Whh, bh, Why, by = (self.params[name] for name in NAMES)
        read = self.codes[self.place : self.place + STEPS]
        due = self.codes[self.place + 1 : self.place + STEPS + 1]
        hidden, likely, loss = [self.carried], [], 0.0
        for character, following in zip(read, due, strict=True):
            one = np.zeros(self.vocabulary)
            one[character] = 1.0
            hidden.append(np.tanh(Wxh @ one + Whh @ hidden[-1] + bh))
            scores = Why @ hidden[-1] + by
            likely.append(np.exp(scores) / np.exp(scores).sum())
            loss -= np.log(likely[-1][following])
        sums = {name: np.zeros_like(array) for name, array in self.params.items()}
        later = np.zeros(HIDDEN)
        for t in reversed(range(STEPS)):
            wrong = likely[t].copy()
            wrong[due[t]] -= 1.0
            sums["W_hy"] += np.outer(wrong, hidden[t + 1])
            sums["b_y"] += wrong
            inside = (1.0 - hidden[t + 1] ** 2) * (Why.T @ wrong + later)
            sums["W_xh"][:, read[t]] += inside
            sums["W_hh"] += np.outer(inside, hidden[t])
            sums["b_h"] += inside
            later = Whh.T @ inside
        for name in NAMES:
            gradient = np.clip(sums[name], -BOUND, BOUND)
            self.memory[name] += gradient * gradient
            self.params[name] -= RATE * gradient / np.sqrt(self.memory[name] + EPSILON)
        self.place, self.carried = self.place + STEPS, hidden[-1]
        return loss


def smoothed(losses, vocabulary):
    """As min-char-rnn prints it."""
    found = np.log(vocabulary) * STEPS
    for loss in losses:
        found = 0.999 * found + 0.001 * loss
    return found


def small_random(vocabulary, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"W_xh": (HIDDEN, vocabulary), "W_hh": (HIDDEN, HIDDEN), "W_hy": (vocabulary, HIDDEN)}
    weights = {name: 0.01 * rng.standard_normal(shape) for name, shape in shapes.items()}
    return weights | {"b_h": np.zeros(HIDDEN), "b_y": np.zeros(vocabulary)}


@pytest.fixture(scope="module")
def source():
    """The training part of the text, and its vocabulary's size."""
    found = text("")
    return found.values[: len(found.values) - 2 * (len(found.values) // 10)], len(found.record["vocabulary"])


@pytest.fixture(scope="module")
def begin(source, tmp_path_factory):
    """Parameters to begin with, and the file that holds them."""
    params = small_random(source[1])
    path = tmp_path_factory.mktemp("text") / "begin.safetensors"
    checkpoint.write(path, params, {})
    return params, path


@pytest.fixture(scope="module")
def expected(source, begin):
    """The losses of min-char-rnn, and how a training does that takes up its state every 20 iterations.

    Both are the same map, but a chaotic one: rounding grows tenfold in 8 iterations, until nothing is left of 16
    digits. So whoever wants to see that they are the same at every iteration must not let it grow.
    """
    reference = Reference(*source, begin[0])
    (run,) = resolve("text", {"measure": "training", "task": "text", **SETTINGS}).runs
    training = Training([run])
    state = training.begin({name: array[None] for name, array in begin[0].items()})
    losses, own = [], []
    for number in range(ITERATIONS):
        if number % 20 == 0:
            for name, array in training.by_name(state.values).items():
                array[0] = reference.params[name]
            for name, array in training.by_name(state.slots["squares"]).items():
                array[0] = reference.memory[name]
            state.h[0, 0] = reference.carried
        losses.append(reference.iterate())
        if number < 400:
            own.append(training.advance(state).loss[0])
    return np.array(losses), np.array(own)


def test_every_iteration_is_that_of_min_char_rnn(expected):
    losses, own = expected
    np.testing.assert_allclose(own, losses[: len(own)], rtol=1e-9)


def test_losses_and_smoothed_loss_are_those_of_min_char_rnn(source, begin, expected):
    losses, _ = expected
    history = gs.train("text", init=begin[1], steps=ITERATIONS, record_every=ITERATIONS, **SETTINGS)
    found = history.steps["loss"].to_numpy()
    np.testing.assert_allclose(found[:60], losses[:60], rtol=1e-6)
    np.testing.assert_allclose(smoothed(found, source[1]), smoothed(losses, source[1]), rtol=0.02)
    assert smoothed(losses, source[1]) < 0.9 * np.log(source[1]) * STEPS  # it has learnt something
    assert history.steps["clipped"].any()


def test_its_own_small_weights_do_as_well(source, expected):
    like_it = {"ensemble": "gaussian", "spectral_radius": 0.1, "input_scale": 0.01, "output_scale": 0.1}
    history = gs.train("text", steps=ITERATIONS, record_every=ITERATIONS, **SETTINGS, **like_it)
    found = smoothed(history.steps["loss"], source[1])
    np.testing.assert_allclose(found, smoothed(expected[0], source[1]), rtol=0.02)


def test_at_the_end_of_the_text_it_begins_anew(tmp_path):
    letters = np.random.default_rng(0).choice(list("abc "), 260)
    (tmp_path / "short").write_text("".join(letters))
    params, codes = small_random(4, seed=1), np.searchsorted([" ", "a", "b", "c"], letters)
    checkpoint.write(tmp_path / "begin", params, {})
    reference = Reference(codes[:208], 4, params)  # 8 windows in a pass
    losses = [reference.iterate() for _ in range(20)]
    keys = SETTINGS | {"file": str(tmp_path / "short"), "init": tmp_path / "begin", "record_every": 20}
    history = gs.train("text", steps=20, **keys)
    np.testing.assert_allclose(history.steps["loss"], losses, rtol=1e-6)
    assert reference.place == 4 * STEPS
