"""min-char-rnn as it begins: its first loss, and how far its gradients reach.

The small program that many have learnt recurrent networks from sends a hundred tanh units over 25 characters at a time,
from weights of standard deviation .01. At first it knows nothing, so that its loss is 25 ln V, V being the number of
characters; and each step back divides the gradient by 10, so that of the 25 steps only the last three matter. It
learns all the same, its gradients come to reach further, and its recipe says how to check them: with clipping off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gradscope.cells import cell
from gradscope.claims import Claim
from gradscope.clipping import clip
from gradscope.drawing import COLOURS, DASHES, MARKERS, canvas, label_ends, legible, small
from gradscope.gradients import Gradients, backprop
from gradscope.grid import resolve
from gradscope.recurrence import Parameters
from gradscope.scaled import Floats
from gradscope.streams import stream
from gradscope.task import Sequences
from gradscope.tasks.text import Text
from gradscope.training import Training

SETUP = (
    "Network, scale of the weights, windows, sum of the losses, Adagrad at .1 and clipping of each entry at 5 are the "
    "program's. The text is not: the reference topics that come with CPython, so losses depend on its version. For a "
    "vocabulary of another size the codes of its characters are taken modulo that size. The program checks ten entries "
    "of each gradient, one by one; here it is a slope, in a direction of many entries. It prints its loss; the figures "
    "are ours."
)
SOURCES = ("karpathy2015minchar", "duchi2011adaptive")
REPEATS = (
    "statistically: in the first ten iterations rounding errors grow by ten decades, so that claims on what is learnt "
    "are about means; all others repeat bit for bit"
)
SECONDS = 5.0

UNITS, WINDOW, SCALE, RATE, LIMIT = 100, 25, 0.01, 0.1, 5.0
VOCABULARY = 65  # where it is not that of the whole text
VOCABULARIES, WINDOWS = (2, 10, 27, 65, 128, 256), (5, 25, 100)
WIDTHS = (25, 50, 100, 200)  # hidden sizes
DRAWS, EXAMPLES = 60, 8
REACHED, LOST = 10, 1e-3  # lags of which the mean factor is taken; of a gradient, what counts as none
TAUS = (1, 2, 3, 4, 5, 6)
CHECKED = (0.01, 0.02, 0.05, 0.08, 0.1, 0.12, 0.15)  # scales of weights
APART = 3e-4  # of the four points of a central difference
LIMITS = (0.1, 1.0, LIMIT)
SAME = 6  # iterations that are repeated by hand
LEARNERS, ITERATIONS, LATE, SMOOTH, EVERY = 3, 1200, 250, 0.02, 5
RECIPE: dict[str, Any] = {
    "measure": "training",
    "task": "text",
    "dtype": "float64",
    "hidden_size": UNITS,
    "seq_len": WINDOW,
    "batch_size": 1,
    "batching": "sequential",
    "optimizer": "adagrad",
    "learning_rate": RATE,
    "clip": f"value:{LIMIT:g}",
    "reduction": "sum",
    "spectral_radius": 0.1,
    "record_every": ITERATIONS,
    "steps": ITERATIONS,
}
PROGRAM = "Karpathy (2015), min-char-rnn.py"
CLAIMS = (
    Claim(
        "The first loss is that of a network that knows nothing, T ln V",
        "first-loss.loss",
        "law",
        f"{PROGRAM}, smooth_loss at iteration 0",
        "sampled",
        rtol=1e-3,
        precision=5e-4,
    ),
    Claim(
        "At first a step back multiplies the gradient by .01 sqrt(n), in root mean square, n being the number of units",
        "factors.factor",
        "law",
        f"{PROGRAM}, model parameters",
        "sampled",
        basis="derived",
        errors=4,
        precision=0.02,
    ),
    Claim(
        "With 100 units a step back multiplies the gradient by about .1, over ten steps",
        "factors.mean_factor",
        ((100, 0.1),),
        f"{PROGRAM}, model parameters",
        "sampled",
        basis="derived",
        rtol=0.05,
        precision=0.01,
    ),
    Claim(
        "At first 25 steps reach back about 3: there a thousandth of the gradient is left",
        "factors.reach",
        ((100, 3.0),),
        f"{PROGRAM}, seq_length",
        "sampled",
        basis="derived",
        rtol=0.05,
        precision=0.01,
    ),
    Claim(
        "Truncation after tau steps misses no more of the gradient of W_hh than a tenth to the power of tau",
        "truncated.error",
        "law",
        f"{PROGRAM}, seq_length",
        "bound",
        basis="derived",
        relation="<=",
        rtol=0.1,
    ),
    Claim(
        "Gradients pass a check by central differences, as the program recommends, with clipping off",
        "check.error",
        0.0,
        f"{PROGRAM}, gradCheck, in a direction of many entries",
        basis="derived",
        atol=1e-7,
    ),
    Claim(
        "With clipping on gradients fail the check, as soon as an entry is above 5",
        "check.changed",
        1e-3,
        f"{PROGRAM}, gradCheck",
        "qualitative",
        basis="derived",
        relation=">",
        where="largest > 6",
    ),
    Claim(
        "Clipping takes each entry to -limit .. limit",
        "clipped.apart",
        0.0,
        f"{PROGRAM}, clip to mitigate exploding gradients",
        atol=1e-12,
    ),
    Claim(
        "The first iterations are those of the program, done by hand",
        "iterations.ratio",
        1.0,
        f"{PROGRAM}, Adagrad update",
        rtol=1e-9,
    ),
    Claim(
        "After 1200 iterations the network has on average learnt more than how frequent letters are",
        "learners.loss_by_letters",
        1.0,
        PROGRAM,
        "qualitative",
        basis="derived",
        relation="<",
    ),
    Claim(
        "After 1200 iterations gradients reach further than at first, on average",
        "learners.reach",
        "first_reach",
        PROGRAM,
        "qualitative",
        basis="derived",
        relation=">",
    ),
)


def measure(seed: int) -> dict[str, pd.DataFrame]:
    """The seed draws weights and windows."""
    learners, curves, reaches = _learn(seed)
    return {
        "first-loss": _first_loss(seed),
        "factors": _factors(seed),
        "truncated": _truncated(seed),
        "check": _check(seed),
        "clipped": _clipped(seed),
        "iterations": _iterations(seed),
        "learners": learners,
        "learning": curves,
        "reach": reaches,
    }


# --- the network ------------------------------------------------------------------------------------------------------


def _weights(seed: int, vocabulary: int, units: int = UNITS, scale: float = SCALE) -> Parameters:
    rng = stream(seed, "weights of min-char-rnn")
    return {
        "W_xh": scale * rng.standard_normal((units, vocabulary)),
        "W_hh": scale * rng.standard_normal((units, units)),
        "b_h": np.zeros(units),
        "W_hy": scale * rng.standard_normal((vocabulary, units)),
        "b_y": np.zeros(vocabulary),
    }


def _window(seed: int, steps: int, examples: int, vocabulary: int) -> Sequences:
    """Windows of the text, the codes of its characters modulo the size of the vocabulary."""
    drawn = Text().draw(seed, steps, examples, "cross_entropy")
    codes = drawn.x.argmax(axis=2) % vocabulary
    return Sequences(np.eye(vocabulary)[codes], drawn.y % vocabulary)


def _gradients(params: Parameters, window: Sequences, **how: Any) -> Gradients:
    units, vocabulary = params["W_xh"].shape
    network = cell("elman", hidden_size=units, input_size=vocabulary, output_size=vocabulary)
    how = {"loss_steps": "all", "reduction": "sum"} | how
    return backprop(network, params, window.x, window.y, loss="cross_entropy", **how)


def _lags(params: Parameters, window: Sequences) -> Floats:
    """log10 of |dL/dh| of the last step's loss, (T, B), from lag 0 on, in parts of that at lag 0."""
    norms = _gradients(params, window, loss_steps="last").log10_dh[::-1]
    return norms - norms[0]


def _own(seed: int) -> range:
    """The seeds of the networks of a seed of the reproduction."""
    return range(DRAWS * seed, DRAWS * (seed + 1))


def _mean(values: Floats) -> tuple[float, float]:
    """Mean and standard error over networks."""
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


# --- as it begins -----------------------------------------------------------------------------------------------------


def _first_loss(seed: int) -> pd.DataFrame:
    rows = []
    for vocabulary in VOCABULARIES:
        for steps in WINDOWS:
            losses = [
                _gradients(_weights(own, vocabulary), _window(own, steps, 1, vocabulary)).loss for own in _own(seed)
            ]
            rows.append((vocabulary, steps, *_mean(np.array(losses)), steps * np.log(vocabulary)))
    columns = ["vocabulary", "steps", "loss", "loss_error", "law"]
    return pd.DataFrame(rows, columns=columns).set_index(["vocabulary", "steps"])


def _factors(seed: int) -> pd.DataFrame:
    """By the number of units: the factor of the first step back in root mean square, the geometric mean of those of
    several steps, and the lag at which what is left of the gradient counts as none.
    """
    vocabulary, rows = VOCABULARY, []
    for units in WIDTHS:
        lags = [
            _lags(_weights(own, vocabulary, units), _window(own, WINDOW, EXAMPLES, vocabulary)) for own in _own(seed)
        ]
        square, error = _mean(np.array([(10.0 ** (2.0 * one[1])).mean() for one in lags]))
        mean, mean_error = _mean(np.array([one[REACHED].mean() / REACHED for one in lags]))
        reach = _mean(np.array([_reach(one.mean(axis=1)) for one in lags]))
        factor = square**0.5
        several = (10.0**mean, np.log(10.0) * 10.0**mean * mean_error)
        rows.append((units, factor, 0.5 * error / factor, SCALE * units**0.5, *several, *reach))
    columns = ["units", "factor", "factor_error", "law", "mean_factor", "mean_factor_error", "reach", "reach_error"]
    return pd.DataFrame(rows, columns=columns).set_index("units")


def _reach(log10: Floats) -> float:
    """The lag, between lags linearly, at which log10 falls to what counts as none; the last if it does not."""
    (beyond,) = np.nonzero(log10 < np.log10(LOST))
    if not len(beyond):
        return float(len(log10) - 1)
    lag = int(beyond[0])
    return float(lag - (np.log10(LOST) - log10[lag]) / (log10[lag - 1] - log10[lag]))


def _truncated(seed: int) -> pd.DataFrame:
    """What truncation misses of the gradient of W_hh, relative, in the mean over networks."""
    vocabulary, missed = VOCABULARY, []
    for own in list(_own(seed))[:EXAMPLES]:
        weights, window = _weights(own, vocabulary), _window(own, WINDOW, 1, vocabulary)
        full = _gradients(weights, window).params["W_hh"]
        short = [_gradients(weights, window, truncation=f"fixed:{tau}").params["W_hh"] for tau in TAUS]
        missed.append([np.linalg.norm(one - full) / np.linalg.norm(full) for one in short])
    found = [_mean(one) for one in np.array(missed).T]
    table = pd.DataFrame(found, columns=["error", "error_error"], index=pd.Index(TAUS, name="tau"))
    return table.assign(law=0.1 ** np.array(TAUS, float))


# --- check and clip ---------------------------------------------------------------------------------------------------


def _check(seed: int) -> pd.DataFrame:
    """How far the loss's slope in a direction is from central differences, relative; what clipping changes, relative.

    The direction changes half of a parameter's entries, each as its gradient says, so that the slope is not small.
    """
    vocabulary, rows = VOCABULARY, []
    window = _window(seed, WINDOW, 1, vocabulary)
    for scale in CHECKED:
        weights = _weights(seed, vocabulary, scale=scale)
        found = _gradients(weights, window).params
        for name, gradient in found.items():
            direction = np.sign(gradient) * (stream(seed, f"entries of {name}").random(gradient.shape) < 0.5)
            direction /= np.linalg.norm(direction)

            def loss(step: float, name: str = name, direction: Floats = direction, own: Parameters = weights) -> float:
                return _gradients({**own, name: own[name] + step * direction}, window).loss

            after = clip({name: gradient}, LIMIT, "value").params[name]
            changed = np.linalg.norm(after - gradient) / np.linalg.norm(gradient)
            error = abs((gradient * direction).sum() / _central(loss) - 1.0)
            rows.append((scale, name, error, changed, np.abs(gradient).max()))
    columns = ["scale", "parameter", "error", "changed", "largest"]
    return pd.DataFrame(rows, columns=columns).set_index(["scale", "parameter"])


def _central(f: Callable[[float], float]) -> float:
    """f'(0) from four points, to the fourth order."""
    return (8.0 * (f(APART) - f(-APART)) - (f(2.0 * APART) - f(-2.0 * APART))) / (12.0 * APART)


def _clipped(seed: int) -> pd.DataFrame:
    """The largest difference of `gs.clip` to NumPy's, over all entries."""
    vocabulary, rows = VOCABULARY, []
    for scale in CHECKED:
        gradient = _gradients(_weights(seed, vocabulary, scale=scale), _window(seed, WINDOW, 1, vocabulary)).params
        for limit in LIMITS:
            found = clip(gradient, limit, "value").params
            apart = max(np.abs(found[name] - np.clip(one, -limit, limit)).max() for name, one in gradient.items())
            rows.append((scale, limit, apart))
    return pd.DataFrame(rows, columns=["scale", "limit", "apart"]).set_index(["scale", "limit"])


# --- as it learns -----------------------------------------------------------------------------------------------------


def _training(seed: int) -> tuple[Training, Parameters]:
    """A training of some networks side by side, and the weights that they begin with, (C, ...)."""
    seeds = range(LEARNERS * seed, LEARNERS * (seed + 1))
    training = Training(resolve("min-char-rnn", RECIPE | {"seeds": list(seeds)}).blocks[0].runs)
    drawn = [_weights(own, training.cell.input_size) for own in training.seeds]
    return training, {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}


def _codes(training: Training) -> NDArray[np.int64]:
    """The text that is learnt from."""
    recording = training.feed.recording(training.seeds[0])
    assert recording is not None
    return recording.part("train")


def _iterations(seed: int) -> pd.DataFrame:
    training, weights = _training(seed)
    state = training.begin(weights)
    losses = [float(training.advance(state).loss[0]) for _ in range(SAME)]
    by_hand = _by_hand({name: one[0].copy() for name, one in weights.items()}, _codes(training))
    law = [loss for loss, _ in zip(by_hand, range(SAME), strict=False)]
    return pd.DataFrame({"ratio": np.array(losses) / law}, index=pd.RangeIndex(SAME, name="iteration"))


def _by_hand(weights: Parameters, codes: NDArray[np.int64]) -> Iterator[float]:
    """The program's loop, with the gradients of `backprop`: yields the loss of each iteration."""
    memory = {name: np.zeros_like(array) for name, array in weights.items()}
    h, coded = np.zeros(UNITS), np.eye(len(weights["b_y"]))
    for at in range(0, len(codes) - WINDOW, WINDOW):
        x = coded[codes[at : at + WINDOW]]
        found = _gradients(weights, Sequences(x[:, None], codes[at + 1 : at + WINDOW + 1, None]), h0=h)
        yield found.loss
        for one in x:
            h = np.tanh(weights["W_xh"] @ one + weights["W_hh"] @ h + weights["b_h"])
        for name, gradient in found.params.items():
            entries = np.clip(gradient, -LIMIT, LIMIT)
            memory[name] += entries**2
            weights[name] -= RATE * entries / np.sqrt(memory[name] + 1e-8)


def _learn(seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Networks in the end, on average, their losses on the way, and how far gradients reach at first and in the end."""
    training, weights = _training(seed)
    state = training.begin(weights)
    steps = [training.advance(state) for _ in range(ITERATIONS)]
    losses = np.array([step.loss for step in steps])
    vocabulary = training.cell.input_size
    counts = np.bincount(_codes(training), minlength=vocabulary)
    share = counts[counts > 0] / counts.sum()
    letters = -WINDOW * float(share @ np.log(share))
    window = _window(seed, WINDOW, 4 * EXAMPLES, vocabulary)
    rows, reaches = [], []
    for number in range(LEARNERS):
        far = {}
        for when, params in (("at first", weights), ("in the end", state.params)):
            lags = np.median(_lags({name: one[number] for name, one in params.items()}, window), axis=1)
            reaches.append(pd.DataFrame({"network": number, "when": when, "lag": np.arange(WINDOW), "log10": lags}))
            far[when] = _reach(lags)
        rows.append((losses[-LATE:, number].mean() / letters, *far.values()))
    table = pd.DataFrame(rows, columns=["loss_by_letters", "first_reach", "reach"]).mean().to_frame().T
    table.index = pd.Index([LEARNERS], name="networks")
    smooth = pd.DataFrame(losses).ewm(alpha=SMOOTH).mean()[::EVERY]
    curves = smooth.rename_axis("iteration").reset_index().melt("iteration", var_name="network", value_name="loss")
    curves = curves.assign(nothing=WINDOW * np.log(vocabulary), letters=letters)
    return table, curves, pd.concat(reaches, ignore_index=True)


# --- figures ----------------------------------------------------------------------------------------------------------


def first_loss(table: pd.DataFrame) -> Figure:
    """The loss of a network that knows nothing.

    The first loss of min-char-rnn, summed over 5, 25 and 100 characters, against the number of characters that there
    are: means over 60 networks, whose intervals are smaller than the dots, and T ln V (lines).
    """
    figure = canvas(1, 1)
    ax = figure.subplots()
    for steps, colour, dash, marker in zip(WINDOWS, COLOURS, DASHES, MARKERS, strict=False):
        own = table[table["steps"] == steps]
        ax.plot(own["vocabulary"], own["law"], color=colour, linestyle=dash, label=f"$T$ = {steps}")
        ax.plot(own["vocabulary"], own["loss"], marker, color=colour, markersize=3.5)
    ax.set(xscale="log", xlabel="characters $V$", ylabel="first loss (nats)")
    label_ends(ax)
    return figure


def reach(table: pd.DataFrame) -> Figure:
    """How far the 25 steps of min-char-rnn reach.

    The gradient of the last character's loss by the state, against the lag, in parts of that at lag 0: medians over 32
    windows of a text, for three networks, at first (circles), where every step divides it by 10 (line), and after 1200
    iterations (dashed). Dotted: where a thousandth is left.
    """
    figure = canvas(1, 1)
    figure.set_figheight(1.15 * figure.get_figheight())
    ax = figure.subplots()
    lags = np.arange(WINDOW)
    ax.plot(lags, -lags, color="black", linewidth=0.8)
    for (when, _), own in table.groupby(["when", "network"], sort=False):
        look = {"color": COLOURS[0], "marker": "o", "linestyle": "", "markersize": 3.5}
        if when == "in the end":
            look = {"color": COLOURS[1], "marker": "s", "linestyle": "--", "markersize": 2.5}
        ax.plot(own["lag"], own["log10"], **look)
    ax.axhline(np.log10(LOST), color="0.5", linestyle=":", linewidth=0.8)
    ax.set(xlim=(-0.5, WINDOW - 0.5), ylim=(-15.0, 1.0), xlabel="lag (steps)")
    ax.set_ylabel(r"$\log_{10}$ of $|\partial L/\partial h_t|$ in parts of lag 0")
    ax.text(7.5, -9.5, "at first", color=legible(COLOURS[0]), fontsize=small(), ha="right")
    ax.text(15.0, -2.0, f"after {ITERATIONS} iterations", color=legible(COLOURS[1]), fontsize=small(), ha="center")
    return figure


def learning(table: pd.DataFrame) -> Figure:
    """It learns all the same.

    The loss of 25 characters while three networks learn as min-char-rnn does, smoothed over some fifty iterations: from
    that of knowing nothing, 25 ln V, and past a bump that Adagrad's long first steps make, to below that of knowing how
    frequent letters are.
    """
    figure = canvas(1, 1)
    ax = figure.subplots()
    for (_, own), colour, dash in zip(table.groupby("network"), COLOURS, DASHES, strict=False):
        ax.plot(own["iteration"], own["loss"], color=colour, linestyle=dash, linewidth=0.9)
    text: dict[str, Any] = {"fontsize": small(), "va": "bottom", "ha": "right"}
    for name, words in (("nothing", "nothing known: 25 ln $V$"), ("letters", "letters' frequencies known")):
        level = float(table[name].iloc[0])
        ax.axhline(level, color="black", linestyle=":", linewidth=0.8)
        ax.text(ITERATIONS, level, words, **text)
    ax.set(xlim=(0, ITERATIONS), xlabel="iteration", ylabel="loss of 25 characters (nats)")
    return figure


FIGURES = (first_loss, reach, learning)
