"""What chance is on tasks that test memory.

A network that scores no better than the best answer without the inputs has remembered nothing, so the adding, copy and
temporal-order problems are reported beside that level: 1/6, 10 ln 8 / (T + 20), and ln 4 with 75 % of errors. Here it
is measured, by fitting the best such answer to what the tasks draw, and so is what a memory of the last few steps is
worth. The level of the copy problem takes for granted that the time is known: to a network without memory it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import log
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gradscope import tasks
from gradscope.claims import Claim
from gradscope.drawing import COLOURS, DASHES, MARKERS, canvas, label_ends
from gradscope.learning import train
from gradscope.losses import LOSSES
from gradscope.paper import EXACTLY
from gradscope.scaled import Floats
from gradscope.streams import stream
from gradscope.tasks.temporal_order import DISTRACTORS

SETUP = (
    "The tasks as gradscope draws them, in the forms of Arjovsky, Shah & Bengio (2016) and Pascanu, Mikolov & Bengio "
    "(2013). Answers are fitted on half of the examples and scored on the other half: frequencies of the classes, or "
    "least squares, given what an answer may look at, which is the number of the step, the input of the step, or the "
    "inputs of the last so many steps. Laws of the latter two are elementary, derived here. No figure is redrawn."
)
SOURCES = ("arjovsky2016unitary", "le2015simple", "pascanu2013difficulty", "hochreiter1997long")
REPEATS = EXACTLY
SECONDS = 5.0

ADDING, COPY, ORDER = "adding", "copy", "temporal-order"
LENGTHS = {  # of sequences, in steps
    ADDING: (2, 5, 10, 20, 50, 100, 200, 400),
    COPY: (21, 25, 30, 50, 120, 220, 520, 1020),
    ORDER: (10, 20, 35, 50, 57, 100, 200, 400),
}
COPIED, SYMBOLS = 10, 8  # of the copy problem
CLASSES = 4  # of temporal order: XX, XY, YX, YY
WINDOWED = 50  # steps of the sequences that are answered from their last few
STEP, INPUT = "step", "input"  # what an answer looks at
BATCH, BATCHES, FEWER = 1000, 40, 16  # examples; FEWER batches of sequences longer than
LONGER = 200
WINDOWS = range(WINDOWED + 1)
TITLES = {
    ADDING: ("adding", "mean squared error"),
    COPY: ("copy", "cross-entropy (nats)"),
    ORDER: ("temporal order", "share of wrong answers"),
}
Codes = NDArray[np.int64]
Looks = int | str  # at the inputs of so many last steps and the number of the step, or at STEP or INPUT alone

ARJOVSKY = "Arjovsky, Shah & Bengio (2016), section 4: the baseline of the {} problem"
PASCANU = "Pascanu, Mikolov & Bengio (2013), the temporal-order problem: four classes, equally likely"
DERIVED = "elementary, of the task as it is drawn"
_published = partial(Claim, kind="sampled")
_derived = partial(Claim, expected="law", source=DERIVED, kind="sampled", basis="derived")
AT = 'task == "{}" and sees == "{}"'
CLAIMS = (
    _published("Adding: without the inputs, the least squared error is 1/6", "chance.loss", 1.0 / 6.0,
               ARJOVSKY.format("adding"), errors=4.0, precision=0.015, where=AT.format(ADDING, STEP)),
    _published("Copy: without the inputs, the least cross-entropy is 10 ln 8 / (T + 20), T + 20 steps in all",
               "chance.loss", "law", ARJOVSKY.format("copying memory"), rtol=2e-3, precision=5e-4,
               where=AT.format(COPY, STEP)),
    _published("Temporal order: without the inputs, the least cross-entropy is ln 4", "chance.loss", log(4.0), PASCANU,
               basis="derived", rtol=2e-3, precision=5e-4, where=AT.format(ORDER, STEP)),
    _published("Temporal order: without the inputs, 75 % of the answers are wrong", "chance.wrong", "wrong_law",
               PASCANU, basis="derived", errors=4.0, precision=0.01, where=AT.format(ORDER, STEP)),
    Claim("What a training reports as chance are these levels", "chance.reported", "law",
          f"{ARJOVSKY.format('adding')}, and of the copying memory problem; {PASCANU}", basis="derived", rtol=1e-12,
          where='sees == "step"'),
    _derived("Adding: the input of the last step is worth something in short sequences only, where it may be marked",
             "chance.loss", errors=4.0, precision=0.02, where=AT.format(ADDING, INPUT)),
    _derived("Copy: an answer to each input by itself costs (T + 9) H / (T + 20), H the entropy of what a blank asks "
             "for", "chance.loss", rtol=2e-3, precision=5e-4, where=AT.format(COPY, INPUT)),
    _derived("Temporal order: the input of the last step is worth nothing", "chance.loss", rtol=2e-3, precision=5e-4,
             where=AT.format(ORDER, INPUT)),
    _derived("Adding: the inputs of the last k of T steps leave 1/6 (1 - k/T)", "windows.loss", atol=1e-9, errors=4.0,
             precision=0.15, where='task == "adding"'),
    _derived("Copy: no inputs are worth anything until they are all that came after the symbol, and the symbol",
             "windows.loss", rtol=2e-3, atol=1e-9, precision=5e-4, where='task == "copy"'),
    _derived("Temporal order: each of the two symbols, once it is within the last k steps, is worth ln 2",
             "windows.loss", rtol=2e-3, atol=1e-9, errors=4.0, precision=0.05, where='task == "temporal-order"'),
)  # fmt: skip


def measure(seed: int) -> dict[str, pd.DataFrame]:
    """Examples are those of the seed."""
    return {"chance": _chance(seed), "windows": _windows(seed)}


def _chance(seed: int) -> pd.DataFrame:
    """Scores of the best answers that look at the number of the step, or at the input of the step and nothing else."""
    rows = {}
    for name, T in ((name, T) for name, lengths in LENGTHS.items() for T in lengths):
        reported = train(name, seq_len=T, hidden_size=1, batch_size=1, steps=1).scores.set_index("predictor")["loss"]
        laws: dict[Looks, float] = {STEP: _left(name, T, 0), INPUT: _left_without_time(name, T)}
        for sees, score in _scores(name, T, list(laws), seed).items():
            law = {"law": laws[sees], "wrong_law": 1.0 - 1.0 / CLASSES if name == ORDER else np.nan}
            rows[name, T, sees] = score._asdict() | law | {"reported": reported["chance"]}
    return pd.DataFrame(list(rows.values()), pd.MultiIndex.from_tuples(rows, names=["task", "seq_len", "sees"]))


def _windows(seed: int) -> pd.DataFrame:
    """Scores of the best answers that look at the inputs of the last so many steps, and at the number of the step."""
    rows = {}
    for name in LENGTHS:
        scores = _scores(name, WINDOWED, WINDOWS, seed)
        for window in WINDOWS:
            rows[name, window] = scores[window]._asdict() | {"law": _left(name, WINDOWED, window)}
    return pd.DataFrame(list(rows.values()), pd.MultiIndex.from_tuples(rows, names=["task", "window"]))


# --- laws -------------------------------------------------------------------------------------------------------------


def _left(name: str, T: int, window: int) -> float:
    """The least loss, if the number of the step is known, and the inputs of the last `window` steps."""
    if name == COPY:  # what is asked for was shown T - 10 steps before
        return 0.0 if window > T - COPIED else COPIED * log(SYMBOLS) / T
    if name == ADDING:
        worth, places = 1.0 / 12.0, [range(T // 2), range(T // 2, T)]
    else:
        worth, places = log(2.0), [range(-(-part * T // 10) - 1, -(-(part + 1) * T // 10) - 1) for part in (1, 4)]
    return float(worth * sum(np.mean([t < T - window for t in steps]) for steps in places))


def _left_without_time(name: str, T: int) -> float:
    """The least loss of an answer to each input by itself, the same at every step."""
    if name != COPY:
        return _left(name, T, 1)
    blanks = T - COPIED - 1  # all but the symbols and the delimiter, which ask for a blank
    asked = COPIED / blanks
    entropy = asked * log(SYMBOLS / asked) - ((1.0 - asked) * log(1.0 - asked) if asked < 1.0 else 0.0)
    return blanks * entropy / T


# --- measured ---------------------------------------------------------------------------------------------------------


class _Score(NamedTuple):
    """Means over examples, with standard errors; answers to be added are never right or wrong."""

    loss: float
    loss_error: float
    wrong: float
    wrong_error: float

    @classmethod
    def of(cls, scored: NDArray[np.float64]) -> _Score:
        """From loss and error of each example, (2, N)."""
        mean, error = scored.mean(axis=1), scored.std(axis=1) / np.sqrt(scored.shape[1])
        return cls(mean[0], error[0], mean[1], error[1])


class _Line:
    """The answer that is linear in what is seen, by least squares."""

    def __init__(self) -> None:
        self._squares, self._products = np.zeros((3, 3)), np.zeros(3)

    def fit(self, seen: Floats, y: Floats) -> None:
        """Take in some examples, (B, 3) and (B,)."""
        self._squares += seen.T @ seen
        self._products += seen.T @ y

    def score(self, seen: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Loss of each example, and no errors."""
        answer = seen @ np.linalg.lstsq(self._squares, self._products, rcond=1e-9)[0]
        return LOSSES["mse"](answer[:, None], y[:, None])[0], np.full(len(y), np.nan)


class _Frequencies:
    """The answer that gives each class its frequency, among examples of which the same is seen."""

    def __init__(self, cases: int, classes: int):
        self._counts = np.zeros((cases, classes))

    def fit(self, seen: Codes, y: Codes) -> None:
        """Take in some examples, both (steps, B)."""
        cases, classes = self._counts.shape
        self._counts += np.bincount((seen * classes + y).ravel(), minlength=cases * classes).reshape(cases, classes)

    def score(self, seen: Codes, y: Codes) -> tuple[Floats, Floats]:
        """Of each example the mean loss over steps, and the share of them that is answered wrongly."""
        cases, classes = self._counts.shape
        with np.errstate(divide="ignore"):
            logits = np.log(self._counts)
        logits[self._counts.sum(axis=1) == 0] = 0.0  # what was never seen
        answers = np.broadcast_to(logits[:, None], (cases, classes, classes))
        value, _ = LOSSES["cross_entropy"](answers, np.broadcast_to(np.arange(classes), (cases, classes)))
        wrong = np.arange(classes) != self._counts.argmax(axis=1)[:, None]
        return value[seen, y].mean(axis=0), wrong[seen, y].mean(axis=0)


def _scores(name: str, T: int, looks: Sequence[Looks], seed: int) -> dict[Looks, _Score]:
    """Of the best answers that look at the number of the step, at its input, or at the inputs of so many steps."""
    task, batches = tasks.task(name), BATCHES if T <= LONGER else FEWER
    answers: dict[Looks, _Line | _Frequencies] = {
        look: _Line() if name == ADDING else _Frequencies(T + SYMBOLS + 2, task.sizes[1]) for look in looks
    }
    scored: dict[Looks, list[NDArray[np.float64]]] = {look: [] for look in looks}
    for number, one in enumerate(stream(seed, f"{name}, {T} steps").integers(2**62, size=batches).tolist()):
        x, y, _ = task.draw(one, T, BATCH, task.losses[0])
        shown = x if name == ADDING else x.argmax(axis=2)
        for look, answer in answers.items():
            seen, asked = SEEN[name](shown, y, look)
            if number < batches // 2:
                answer.fit(seen, asked)
            else:
                scored[look].append(np.stack(answer.score(seen, asked)))
    return {look: _Score.of(np.concatenate(parts, axis=1)) for look, parts in scored.items()}


def _seen_of_adding(x: Floats, y: Floats, look: Looks) -> tuple[Floats, Floats]:
    """1, how many of the values are marked, and their sum; and the sum that is asked for."""
    values, marks = x[len(x) - _window(look) :].transpose(2, 0, 1)
    seen = [np.ones(x.shape[1]), marks.sum(axis=0), (values * marks).sum(axis=0)]
    return np.stack(seen, axis=1), y[-1, :, 0]


def _seen_of_copy(codes: Codes, y: Codes, look: Looks) -> tuple[Codes, Codes]:
    """The number of each step, or, with a symbol within the window, which one it is; or the input alone."""
    if look == INPUT:
        return codes, y
    T = len(codes)
    seen = np.repeat(np.arange(T)[:, None], codes.shape[1], axis=1)
    if _window(look) > T - COPIED:
        seen[-COPIED:] = T + codes[:COPIED]
    return seen, y


def _seen_of_order(codes: Codes, y: Codes, look: Looks) -> tuple[Codes, Codes]:
    """Which of the two symbols the window holds: of each X, Y or none."""
    T = len(codes)
    symbols = np.maximum(codes - (DISTRACTORS - 1), 0)  # 1 and 2, and 0 for distractors
    symbols[: T - _window(look)] = 0
    between = 3 * T // 10
    return 3 * symbols[:between].max(axis=0) + symbols[between:].max(axis=0)[None], y[-1:]


def _window(look: Looks) -> int:
    return look if isinstance(look, int) else {STEP: 0, INPUT: 1}[look]


SEEN: dict[str, Callable[[Any, Any, Looks], tuple[Any, Any]]] = {
    ADDING: _seen_of_adding,
    COPY: _seen_of_copy,
    ORDER: _seen_of_order,
}


# --- figures ----------------------------------------------------------------------------------------------------------


def chance(table: pd.DataFrame) -> Figure:
    """What chance is, by the length of the sequences.

    Mean loss, and errors, of the best answers that look at the number of the step alone (filled, the published level)
    and at the input of the step alone (open). Points: fitted and scored on examples, bars of two standard errors;
    lines: laws. In the copy problem an answer that does not know the time has to allow for a symbol at every blank.
    """
    figure = canvas(3, 1)
    for ax, (name, (title, unit)) in zip(figure.subplots(1, 3), TITLES.items(), strict=True):
        own, column, law = table[table["task"] == name], "loss", "law"
        if name == ORDER:
            column, law = "wrong", "wrong_law"
        for i, (sees, label) in enumerate(((STEP, "time alone"), (INPUT, "input alone"))):
            line = own[own["sees"] == sees]
            ax.plot(line["seq_len"], line[law], DASHES[i], color=COLOURS[i], label=label)
            look = {"color": COLOURS[i], "markersize": 4, "markerfacecolor": "white" if i else COLOURS[i]}
            ax.errorbar(
                line["seq_len"], line[column], 2 * line[f"{column}_error"], fmt=MARKERS[i], label="_scored", **look
            )
        ax.set(xscale="log", xlabel="sequence length (steps)", ylabel=unit, title=title)
        ax.set(yscale="log") if name == COPY else ax.set(ylim=(0, 1.2 * own[law].max()))
    label_ends(figure.axes[1])
    return figure


def windows(table: pd.DataFrame) -> Figure:
    """What a memory of the last steps is worth.

    Loss of the best answers that know the inputs of the last k of 50 steps, in parts of chance, which is that of k = 0.
    Points: fitted and scored on examples, every third k, bars of two standard errors; lines: laws. A network that
    remembers no more than k steps can do no better.
    """
    figure = canvas(1, 1)
    ax = figure.subplots()
    for i, (name, own) in enumerate(table.groupby("task", sort=False)):
        level, shown = own["law"].iloc[0], own[own["window"] % 3 == 0]
        loss, error = shown["loss"] / level, 2 * shown["loss_error"] / level
        ax.plot(own["window"], own["law"] / level, color=COLOURS[i], linestyle=DASHES[i], label=TITLES[name][0])
        look = {"color": COLOURS[i], "markersize": 3.5, "label": f"_{name}, scored"}
        ax.errorbar(shown["window"], loss, error, fmt=MARKERS[i], **look)
    ax.set(xlabel="known inputs $k$ (last steps)", ylabel="least loss / chance", ylim=(-0.03, 1.05))
    label_ends(ax)
    return figure


FIGURES = (chance, windows)
