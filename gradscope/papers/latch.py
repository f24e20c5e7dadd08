"""What latches a bit makes gradients vanish.

A unit that excites itself, x_t = tanh(w x_{t-1} + u_t) with w above 1, has two stable states, and so holds a bit until
an input strong enough comes. Where it is sure to hold it, every step multiplies gradients by less than 1: what is
stored robustly cannot be learnt from far away (Bengio, Simard & Frasconi 1994).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import brentq

from gradscope.claims import Claim
from gradscope.drawing import COLOURS, DASHES, MARKERS, canvas, label_ends, small
from gradscope.forecasting import answers
from gradscope.gradients import backprop
from gradscope.paper import EXACTLY
from gradscope.scaled import Floats
from gradscope.streams import stream
from gradscope.theory import half_life
from gradscope.units import one_unit, weighted
from gradscope.workspace import Workspace

SETUP = (
    "The one-unit network of the paper, with inputs that are added before the tanh. The paper was not at hand: that "
    "there is an input below which no sign changes, and above which it does after some steps, is known from memory and "
    "from others who quote it, and the figures are drawn from the equations. Fixed points come from 10,000 steps "
    "without input; the switching input is the smallest constant one under which the unit, from its negative state, is "
    "positive within 65,536 steps, which is above the limit by pi^2 / (x_0 steps^2), less than 3e-8; latched units get "
    "inputs of either sign, 0.999 of the switching input in size, each for a random time. Weights are ours, but for "
    "w = 1.25."
)
SOURCES = ("bengio1994learning",)
REPEATS = EXACTLY
SECONDS = 4.0

UNIT = one_unit("tanh")
WEIGHTS = (
    *(1.01, 1.02, 1.035, 1.05, 1.075, 1.1, 1.15, 1.2, 1.25, 1.3, 1.4, 1.5, 1.6, 1.75),
    *(1.9, 2.1, 2.3, 2.5, 2.75, 3.0, 3.5, 4.0),
)
QUOTED, DRAWN = 1.25, 1.75
SETTLED, HELD, LAGS = 10_000, 2**16, 30  # steps: of settling, of a constant input, of backpropagation
CANDIDATES = 31  # inputs that are tried at once
FINEST = 1e-10  # between the largest input that does not switch and the smallest that does
EXCESSES = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
SWITCHED = (1.05, 1.25, 1.9)  # weights of units that are switched by a little more than is needed
EXAMPLES, NOISY, STRENGTH, MEAN_TIME = 50, 600, 0.999, 30  # sequences, steps, share of the switching input, steps
BLOCK = 512  # steps at a time
PATH = 80  # steps that are drawn
PANELS = (  # inputs as shares of the smallest switching one, and from where paths begin, if not from the negative state
    (0.0, "no input", (-0.01, 0.01)),
    (0.7, "input 0.7 $u^*$: kept", ()),
    (1.3, "input 1.3 $u^*$: switched", ()),
)
NAMED = (1.01, 1.05, 1.25, 1.9, 4.0)  # weights

SECTION = "Bengio, Simard & Frasconi (1994), section III"
_derived = partial(Claim, source=SECTION, basis="derived")
_never = partial(Claim, kind="bound", basis="memory", relation="<")
CLAIMS = (
    _derived("Without input the unit settles where artanh(x*) = w x*", "latching.fixed_point", "fixed_point_law",
             rtol=1e-9),
    _derived("At its stable state a step back multiplies the gradient by w (1 - x*^2)", "latching.factor", "factor_law",
             rtol=1e-9),
    _derived("A constant input switches the unit from |artanh(x_0) - w x_0| on, x_0 = (1 - 1/w)^(1/2), as the time it "
             "is given becomes long", "latching.input", "input_law", kind="limit", atol=3e-8),
    _derived("No constant input below |artanh(x_0) - w x_0| switches the unit", "latching.input", "input_law",
             kind="bound", relation=">="),
    _derived("The stable state at w = 1.25", "latching.fixed_point", ((QUOTED, 0.7104118),), rtol=1e-7),
    _derived("The factor a step at w = 1.25", "latching.factor", ((QUOTED, 0.6191439),), rtol=1e-7),
    _derived("The smallest switching input at w = 1.25", "latching.input", ((QUOTED, 0.0778052),), kind="limit",
             atol=3e-8),
    _never("Inputs below the smallest switching one never change the sign, whatever their order", "latched.highest",
           0.0, SECTION),
    _never("While the unit is latched, no step back lets a gradient grow or even keep its size", "latched.factor", 1.0,
           "Bengio, Simard & Frasconi (1994), section IV"),
    Claim("As an input u comes down to the smallest, u*, the switch takes pi / (x_0 (u - u*))^(1/2) steps",
          "switching.steps", "law", "saddle-node bifurcation, leading order", "limit", "derived", rtol=5e-4,
          where="excess < 2e-7"),
)  # fmt: skip


def measure(seed: int) -> dict[str, pd.DataFrame]:
    """The seed is that of the inputs to latched units."""
    ones = np.ones((len(WEIGHTS), 1))
    fixed = _last(WEIGHTS, ones, 0.0 * ones, SETTLED)
    factors = [_factors(w, x, np.zeros((LAGS, 1))).min() for w, (x,) in zip(WEIGHTS, fixed, strict=True)]
    latching = pd.DataFrame(
        {
            "fixed_point": fixed[:, 0],
            "fixed_point_law": [_fixed_point(w) for w in WEIGHTS],
            "factor": factors,
            "factor_law": [w * (1.0 - _fixed_point(w) ** 2) for w in WEIGHTS],
            "input": _switching_inputs(fixed),
            "input_law": [_smallest(w) for w in WEIGHTS],
            "half_life": [half_life(np.log(factor)) for factor in factors],
        },
        index=pd.Index(WEIGHTS, name="w"),
    )
    return {
        "latching": latching,
        "latched": _latched(latching["fixed_point"], seed),
        "switching": _switching(latching["fixed_point"]),
        "cobweb": _cobweb(float(latching["fixed_point"][DRAWN])),
    }


def _fixed_point(w: float) -> float:
    return float(brentq(lambda x: np.arctanh(x) - w * x, 1e-3, 1.0 - 1e-12, xtol=1e-15))


def _smallest(w: float) -> float:
    """The input at which the stable state meets the unstable one: x_0 is where the map has slope 1."""
    x_0 = np.sqrt(1.0 - 1.0 / w)
    return float(np.abs(np.arctanh(x_0) - w * x_0))


def _held(weights: Sequence[float], start: Floats, inputs: Floats, steps: int) -> Iterator[Floats]:
    """States (C, some, B), block by block, of units of C weights from states (C, B) under constant inputs (C, B)."""
    C, B = start.shape
    packed = UNIT.pack(weighted(weights))
    workspace, state = Workspace(), start[..., None]
    for lo in range(0, steps, BLOCK):
        some = min(BLOCK, steps - lo)
        x = np.broadcast_to(inputs[:, None, :, None], (C, some, B, 1))
        trace = UNIT.forward(packed, x, state, workspace)
        state = UNIT.state(trace, some).copy()
        yield trace.states[..., 0]


def _last(weights: Sequence[float], start: Floats, inputs: Floats, steps: int) -> Floats:
    """The states (C, B) after so many steps."""
    found = start
    for states in _held(weights, start, inputs, steps):
        found = states[:, -1].copy()
    return found


def _switching_inputs(fixed: Floats) -> Floats:
    """The smallest constant input (C,) that switches each unit from its negative stable state, by section."""
    units, start = np.arange(len(fixed)), np.repeat(-fixed, CANDIDATES, axis=1)
    low, high = np.zeros(len(fixed)), np.array(WEIGHTS)
    while (high - low).max() > FINEST:
        tried = np.linspace(low, high, CANDIDATES + 2, axis=1)
        stays = _last(WEIGHTS, start, tried[:, 1:-1], HELD) <= 0.0
        largest = stays.sum(axis=1)  # of those that do not switch it, counted from `low`
        low, high = tried[units, largest], tried[units, largest + 1]
    return high


def _factors(w: float, start: float, inputs: Floats) -> Floats:
    """What each step back multiplies the gradient of the last state by, (T-1, B), under inputs (T, B)."""
    x = inputs[..., None]
    log10_dh = backprop(UNIT, weighted(w), x, np.zeros_like(x), h0=np.array([start])).log10_dh
    return 10.0 ** (log10_dh[:-1] - log10_dh[1:])


def _latched(fixed: pd.Series, seed: int) -> pd.DataFrame:
    """The highest state of units that inputs should leave in their negative one, and the largest factor a step back."""
    rng, rows = stream(seed, "inputs to latched units"), []
    for w, x in fixed.items():
        turns = np.where(rng.random((NOISY, EXAMPLES)) < 1.0 / MEAN_TIME, -1.0, 1.0)
        inputs = STRENGTH * _smallest(w) * turns.cumprod(axis=0)
        states, _ = answers(UNIT, weighted(w), inputs[..., None], np.full((EXAMPLES, 1), -x))
        rows.append((w, states.max(), _factors(w, -x, inputs).max()))
    return pd.DataFrame(rows, columns=["w", "highest", "factor"]).set_index("w")


def _switching(fixed: pd.Series) -> pd.DataFrame:
    """Steps from the negative stable state to beyond the positive one, for inputs in excess of the smallest."""
    start = -np.repeat(fixed[list(SWITCHED)].to_numpy()[:, None], len(EXCESSES), axis=1)
    inputs = np.array([[_smallest(w) + excess for excess in EXCESSES] for w in SWITCHED])
    law = np.array([np.pi / np.sqrt(np.sqrt(1.0 - 1.0 / w) * np.array(EXCESSES)) for w in SWITCHED])
    steps = np.ones(inputs.shape)
    for states in _held(SWITCHED, start, inputs, int(1.2 * law.max())):
        steps += (states <= -start[:, None]).sum(axis=1)
    points = pd.MultiIndex.from_product([SWITCHED, EXCESSES], names=["w", "excess"])
    return pd.DataFrame({"steps": steps.ravel(), "law": law.ravel()}, index=points)


def _cobweb(fixed: float) -> pd.DataFrame:
    """panel, line, x, y = the next x: of a unit, the map, and states that follow each other, under inputs."""
    parts, least = [], _smallest(DRAWN)
    for share, panel, begins in PANELS:
        parts.append(_mapped(panel, "map", np.linspace(-1.0, 1.0, 201), share * least))
        for begin in begins or (-fixed,):
            path = _held([DRAWN], np.array([[begin]]), np.array([[share * least]]), PATH)
            states = np.concatenate([[begin], *(states[0, :, 0] for states in path)])
            parts.append(_mapped(panel, f"from {begin:.3g}", states, share * least))
    return pd.concat(parts, ignore_index=True)


def _mapped(panel: str, line: str, x: Floats, u: float) -> pd.DataFrame:
    y = _last([DRAWN], x[None], np.full((1, len(x)), u), 1)[0]
    return pd.DataFrame({"panel": panel, "line": line, "x": x, "y": y})


def cobweb(table: pd.DataFrame) -> Figure:
    """A bit that is kept, and one that is switched.

    The state of a unit with w = 1.75 against the state before, and paths of states from one step to the next; on the
    diagonal the state stays. Left: without input, two stable states (filled) attract what begins on either side of the
    unstable one (open). A constant input lifts the curve. Below the smallest switching input u* the negative state
    moves a little and stays (middle); above it is gone, and the state passes through the narrow channel where it was
    (right). At each stable state the curve is flatter than the diagonal: gradients vanish there.
    """
    figure = canvas(3, 1)
    panels = list(dict.fromkeys(table["panel"]))
    for ax, panel in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        own = table[table["panel"] == panel]
        ax.plot([-1, 1], [-1, 1], color="0.7", linewidth=0.8, gid="diagonal")
        for i, (line, path) in enumerate(own[own["line"] != "map"].groupby("line", sort=False)):
            stairs = np.repeat(np.append(path["x"], path["y"].iloc[-1]), 2)
            ax.plot(stairs[:-1], stairs[1:], color=COLOURS[i], linewidth=0.8, gid=line)
        curve = own[own["line"] == "map"]
        ax.plot(curve["x"], curve["y"], color="black", gid="map")
        _mark_fixed(ax, curve)
        ax.set(title=panel, xlabel="$x_{t-1}$", xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), aspect="equal")
    figure.axes[0].set_ylabel("$x_t$")
    return figure


def _mark_fixed(ax: Axes, curve: pd.DataFrame) -> None:
    """Where a curve crosses the diagonal: filled where it does so from above, which is stable, else open."""
    x, above = curve["x"].to_numpy(), (curve["y"] - curve["x"]).to_numpy()
    for i in np.flatnonzero((above[:-1] > 0) != (above[1:] > 0)):
        at = x[i] + (x[i + 1] - x[i]) * above[i] / (above[i] - above[i + 1])
        ax.plot(at, at, "o", color="black", markersize=4, markerfacecolor="black" if above[i] > 0 else "white")


def latching(table: pd.DataFrame) -> Figure:
    """The safer a bit, the faster its gradients vanish.

    A unit by its weight w on itself; points: measured, lines: laws. Left: what a step back multiplies the gradient by
    where the unit rests, w (1 - x*^2), below 1 for every w. Middle: the smallest constant input that switches the
    unit. Right: both at once, steps in which the gradient halves against the input that the unit withstands.
    """
    figure = canvas(3, 1)
    left, middle, right = figure.subplots(1, 3)
    for ax, column, name in ((left, "factor", "gradient factor a step"), (middle, "input", "smallest switching input")):
        ax.plot(table["w"], table[f"{column}_law"], color="black", linewidth=0.9, gid="law")
        ax.plot(table["w"], table[column], "o", color=COLOURS[0], markersize=3.5, gid="measured")
        ax.set(xlabel="weight $w$", ylabel=name, ylim=(0, None), xticks=[1, 2, 3, 4])
    left.axhline(1.0, color="0.6", linestyle=":", linewidth=0.9)
    left.text(4.0, 1.0, "no change", fontsize=small(), ha="right", va="bottom")
    right.plot(table["input_law"], -np.log(2.0) / np.log(table["factor_law"]), color="black", linewidth=0.9, gid="law")
    right.plot(table["input"], table["half_life"], "o", color=COLOURS[0], markersize=3.5, gid="measured")
    right.set(xlabel="smallest switching input", ylabel="half-life of gradients (steps)", xscale="log", yscale="log")
    for row in table[table["w"].isin(NAMED)].itertuples():
        right.annotate(
            f"$w$ = {row.w:g}", (row.input, row.half_life), (4, 3), textcoords="offset points", fontsize=small()
        )
    return figure


def switching(table: pd.DataFrame) -> Figure:
    """How long a switch takes.

    Steps that a unit takes from its negative stable state to beyond its positive one, under a constant input a little
    stronger than the smallest switching one, against the difference. Points: measured, for three weights; lines: pi /
    (x_0 (u - u*))^(1/2), which holds for small differences.
    """
    figure = canvas(1, 1)
    ax = figure.subplots()
    for i, (w, own) in enumerate(table.groupby("w")):
        ax.plot(own["excess"], own["law"], color=COLOURS[i], linestyle=DASHES[i], label=f"$w$ = {w:g}")
        ax.plot(own["excess"], own["steps"], MARKERS[i], color=COLOURS[i], markersize=4, label=f"_measured {w:g}")
    ax.set(xscale="log", yscale="log", xlabel="input above the smallest, $u - u^*$", ylabel="steps to switch")
    label_ends(ax)
    return figure


FIGURES = (cobweb, latching, switching)
