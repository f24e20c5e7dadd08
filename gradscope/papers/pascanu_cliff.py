"""The cliff in the error surface of a single unit.

A unit that excites itself, x_t = w sigma(x_{t-1}) + b, has one stable fixed point or two. Where the state that it
starts from lies on the border between their basins, the least change of b decides where it ends, and the error as a
function of w and b has a cliff (Doya 1993; Pascanu, Mikolov & Bengio 2013). A descent that follows the gradient there
is thrown far away; one whose gradient is clipped by its norm is not.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LightSource
from matplotlib.figure import Figure
from scipy.optimize import brentq

from gradscope.bptt import loss_gradients
from gradscope.claims import Claim
from gradscope.clips import clip_of
from gradscope.drawing import COLOURS, canvas, label_ends, legible, small
from gradscope.gradients import backprop, by_parameter
from gradscope.passes import Request, passes
from gradscope.recurrence import Parameters
from gradscope.scaled import Floats
from gradscope.schedule import Gates
from gradscope.streams import stream
from gradscope.units import one_unit, weighted
from gradscope.workspace import Workspace

SETUP = (
    "The unit, its 50 steps from x_0 = .5 and the error (sigma(x_50) - .7)^2 are the paper's. The figures are redrawn "
    "from that setup and the paper's text, as the original ones could not be seen; the laws of folds, cusp and cliff "
    "are derived from the equation. sigma(x) is the state h of an Elman network here, h_t = sigma(w h_{t-1} + b) with "
    "h_0 = sigma(.5), so that b is its bias and w its W_hh. The descents' rate is ours, their threshold of 1 that of "
    "the authors' code; their starting points are drawn, in the valley above the cliff."
)
SOURCES = ("pascanu2013difficulty", "doya1993bifurcations")
REPEATS = (
    "statistically: how far an unclipped descent is thrown depends on rounding, so that claims on descents are about "
    "many; all others repeat bit for bit"
)
SECONDS = 4.0

START, STEPS, TARGET = 0.5, 50, 0.7
H0 = 1.0 / (1.0 + np.exp(-START))
UNIT = one_unit("sigmoid")
FOLDED = (4.05, 4.1, 4.25, 4.5, 4.75, 5.0, 5.25, 5.5, 6.0, 6.5, 7.0, 8.0, 9.0, 10.0, 12.0, 15.0, 20.0)
NEAR_CUSP = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # w - 4
PAST_CUSP = (1.0, 2.0, 3.0, 3.5, 3.9, 4.0, 4.1, 4.5, 5.0, 6.0)
PLACES = (-0.5, -0.1, 0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.5)  # of b, from the lower fold, 0, to the upper one, 1
SETTLED = 3000  # steps
ON_CLIFF = tuple(np.round(np.arange(4.3, 6.01, 0.1), 1))
ASIDE = 0.05  # in b, from the cliff
RATE, THRESHOLD, DESCENT, DESCENTS = 0.1, 1.0, 500, 32
SETTLING, LOST = 50, 0.02  # the last steps of a descent, and the error above which it is not in the valley
CLIPS = {"plain": "off", "clipped": f"norm:{THRESHOLD:g}"}
SHOWN, FOLLOWED = ((5.2, 0.3), (4.85, 0.3)), 60  # descents in the figure: w, and how far above the cliff; and steps
LEAST, MOST = (4.2, -3.6), (6.2, -1.9)  # w and b of the map
AT, FROM_B, TO_B = 5.0, -3.1, -1.9  # of the bifurcation diagram; w = 5 is the paper's

PAPER = "Pascanu, Mikolov & Bengio (2013)"
EQUATION = f"{PAPER}, equation 8 and figures 3 and 6"
derived = partial(Claim, source=EQUATION, basis="derived")
CLAIMS = (
    derived(
        "Two stable fixed points are born or die, at the folds, where a step neither shrinks nor grows gradients: "
        "w sigma'(x) = 1",
        "folds.b",
        "law",
        rtol=1e-9,
    ),
    derived("The folds at w = 5", "folds.b", (((5.0, "lower"), -2.655610), ((5.0, "upper"), -2.344390)), rtol=2e-7),
    derived(
        "Up to the cusp at w = 4 no fixed point is unstable: the largest factor a step at any of them is w / 4",
        "cusp.factor",
        "law",
        rtol=1e-9,
    ),
    derived("The cusp is at b = -2", "cusp.b", ((4.0, -2.0),), rtol=1e-9),
    derived(
        "From the cusp the folds part as a cusp does: to leading order by (w - 4)^(3/2) / 3",
        "opening.width",
        "law",
        kind="limit",
        rtol=1e-3,
        where="w <= 4.01",
    ),
    derived(
        "Between the folds the unit ends in one of two states, elsewhere in the same wherever it starts",
        "attractors.number",
        "law",
        atol=1e-9,
    ),
    derived(
        "The cliff is where x_0 is itself an unstable fixed point, from w = 1 / sigma'(x_0) on",
        "cliff_end.w",
        4.2553,
        atol=5e-5,
    ),
    derived(
        "On the cliff dE/db = 2 (sigma(x_0) - .7) sigma'(x_0) (m^50 - 1) / (m - 1), m = w sigma'(x_0)",
        "cliff.dE_db",
        "dE_db_law",
        rtol=1e-9,
    ),
    derived("On the cliff dE/dw = sigma(x_0) dE/db", "cliff.dE_dw", "dE_dw_law", rtol=1e-9),
    derived("The gradient dE/db on the cliff at w = 5", "cliff.dE_db", ((5.0, -661.6828),), rtol=1e-7),
    derived(
        "A twentieth of b to the left of the cliff or to the right, the gradient is less than a hundredth as large",
        "cliff.aside",
        0.01,
        kind="qualitative",
        relation="<",
        where="w >= 5",
    ),
    derived(
        "Crossing a fold away from the cliff is harmless: there the gradient is less than a thousandth as large",
        "cliff.at_folds",
        1e-3,
        source=f"{PAPER}, section 2.2; the number is ours",
        kind="qualitative",
        relation="<",
        where="w >= 5",
    ),
    derived(
        "Without clipping, most descents jump off the cliff and are lost: they end far above the valley",
        "lost.share",
        0.5,
        source=f"{PAPER}, figure 6",
        kind="qualitative",
        relation=">",
        where="clip == 'off'",
    ),
    derived(
        "With clipping by norm none is lost",
        "lost.share",
        0.0,
        source=f"{PAPER}, figure 6 and algorithm 1",
        kind="qualitative",
        relation="<=",
        where="clip == 'norm:1'",
    ),
    Claim(
        "A clipped step is at most as long as the rate times the threshold",
        "descents.longest_clipped",
        RATE * THRESHOLD,
        f"{PAPER}, algorithm 1",
        "bound",
        relation="<=",
        rtol=1e-9,
    ),
)


def measure(seed: int) -> dict[str, pd.DataFrame]:
    """The seed draws where the descents start that claims are about; all else is the same for every seed."""
    descents = _descents(seed)
    return {
        "folds": _folds(FOLDED),
        "cusp": _cusp(),
        "opening": _opening(),
        "attractors": _attractors(),
        "cliff_end": _cliff_end(),
        "cliff": _on_cliff(),
        "descents": descents,
        "lost": _lost(descents),
        "error-surface": _relief(),
        "fixed-points": _fixed_points(),
    }


# --- the unit ---------------------------------------------------------------------------------------------------------


def _ends(w: Floats, b: Floats, starts: Floats, steps: int) -> Floats:
    """The states h (C, B) of C units after so many steps, from each of the starting states (B,)."""
    start = np.broadcast_to(starts[:, None], (len(w), len(starts), 1))
    trace = UNIT.forward(UNIT.pack(weighted(w, b)), np.zeros((len(w), steps, len(starts), 1)), start, Workspace())
    return UNIT.state(trace, steps)[..., 0].copy()


class _Slope(NamedTuple):
    """The error of C units and its gradient, each (C,)."""

    error: Floats
    dw: Floats
    db: Floats


def _slope(w: Floats, b: Floats, clip: str = "off") -> _Slope:
    """Errors, and gradients by backpropagation, clipped."""
    packed, workspace = UNIT.pack(weighted(w, b)), Workspace()
    trace = UNIT.forward(packed, np.zeros((len(w), STEPS, 1, 1)), np.full((len(w), 1, 1), H0), workspace)
    requests = [Request(STEPS, np.array([STEPS - 1]), Gates(np.ones(STEPS)))]
    y = np.full((len(w), STEPS, 1, 1), TARGET)
    (found,) = loss_gradients(UNIT, packed, trace, y, "mse", requests, passes(requests), workspace)
    gradient = by_parameter(UNIT, found.weights, found.readout)
    clipped = clip_of(clip).clip({name: gradient[name] for name in ("W_hh", "b_h")})
    return _Slope(found.loss, *(clipped[name].value().ravel() for name in ("W_hh", "b_h")))


def _held(w: float, h: Floats) -> Floats:
    """The b that holds a unit of weight w at the state h: x = w h + b, h = sigma(x)."""
    return np.log(h) - np.log1p(-h) - w * h


def _factors(w: float, h: Floats) -> Floats:
    """What a step multiplies the gradient by in units (B,) that are held at the states h, by backpropagation."""
    x = np.broadcast_to(_held(w, h)[:, None], (2, len(h), 1))  # each has its own b, as its input
    norms = backprop(UNIT, weighted(w), x, np.full((2, len(h), 1), 2.0), h0=h[:, None]).log10_dh
    return 10.0 ** (norms[0] - norms[1])


# --- folds, cusp, attractors ------------------------------------------------------------------------------------------


def _folds(weights: tuple[float, ...]) -> pd.DataFrame:
    """Where the factor of a fixed point is 1."""
    rows = []
    for w in weights:
        for fold, sign in (("lower", 1.0), ("upper", -1.0)):
            bracket = (0.5, 1.0 - 1e-6) if fold == "lower" else (1e-6, 0.5)
            h = brentq(lambda h, w=w: float(_factors(w, np.array([h]))[0]) - 1.0, *bracket, xtol=1e-14)
            rows.append((w, fold, float(_held(w, np.array([h]))[0]), float(_fold(w, sign))))
    return pd.DataFrame(rows, columns=["w", "fold", "b", "law"]).set_index(["w", "fold"])


def _fold(w: Floats | float, sign: float) -> Floats:
    """The b of a fold, from w sigma'(x) = 1: the lower one has x above 0."""
    x = 2.0 * sign * np.arctanh(np.sqrt(1.0 - 4.0 / np.asarray(w)))
    return x - w / (1.0 + np.exp(-x))


def _cusp() -> pd.DataFrame:
    """The steepest of many fixed points, and its b."""
    h = np.linspace(0.01, 0.99, 99)
    rows = []
    for w in PAST_CUSP:
        factors = _factors(w, h)
        steepest = int(factors.argmax())
        rows.append((w, factors[steepest], float(_held(w, h)[steepest]), w / 4.0))
    return pd.DataFrame(rows, columns=["w", "factor", "b", "law"]).set_index("w")


def _opening() -> pd.DataFrame:
    w = 4.0 + np.array(NEAR_CUSP)
    found = _folds(tuple(w))["b"]
    width = found.xs("upper", level="fold") - found.xs("lower", level="fold")
    return pd.DataFrame({"width": width, "law": (w - 4.0) ** 1.5 / 3.0})


def _attractors() -> pd.DataFrame:
    """How many states units settle in that start from h = 0, x_0 and h = 1."""
    law = _folds(FOLDED)["law"]
    lower, upper = (law.xs(fold, level="fold").to_numpy()[:, None] for fold in ("lower", "upper"))
    w, place = np.repeat(FOLDED, len(PLACES)), np.tile(PLACES, len(FOLDED))
    ends = _ends(w, (lower + (upper - lower) * PLACES).ravel(), np.array([0.0, H0, 1.0]), SETTLED)
    number = [len(np.unique(own.round(6))) for own in ends]
    inside = (place > 0.0) & (place < 1.0)
    table = pd.DataFrame({"w": w, "place": place, "number": number, "law": np.where(inside, 2, 1)})
    return table.set_index(["w", "place"])


# --- the cliff --------------------------------------------------------------------------------------------------------


def _cliff(w: Floats | float) -> Floats:
    """The b at which x_0 is a fixed point."""
    return np.asarray(START - w * H0)


def _cliff_end() -> pd.DataFrame:
    """Where a step at the fixed point x_0 neither shrinks nor grows the gradient."""
    w = brentq(lambda w: float(_factors(w, np.array([H0]))[0]) - 1.0, 1.0, 10.0)
    return pd.DataFrame({"w": [w]}, index=pd.Index([START], name="x_0"))


def _on_cliff() -> pd.DataFrame:
    """The gradient on the cliff, from `backprop` and by the law; in parts of it, those beside it and at the folds."""
    w = np.array(ON_CLIFF)
    found = [_gradient(one, float(_cliff(one))) for one in w]
    dE_db, dE_dw = (np.array([gradient[name].item() for gradient in found]) for name in ("b_h", "W_hh"))
    m = w * H0 * (1.0 - H0)
    law = 2.0 * (H0 - TARGET) * H0 * (1.0 - H0) * (m**STEPS - 1.0) / (m - 1.0)
    beside = np.maximum(*(np.abs(_slope(w, _cliff(w) + side).db) for side in (-ASIDE, ASIDE)))
    at_folds = np.maximum(*(np.abs(_slope(w, _fold(w, sign)).db) for sign in (-1.0, 1.0)))
    columns = {"dE_db": dE_db, "dE_db_law": law, "dE_dw": dE_dw, "dE_dw_law": H0 * law, "beside": beside}
    parts = {"aside": beside / np.abs(dE_db), "at_folds": at_folds / np.abs(dE_db)}
    return pd.DataFrame(columns | parts, index=pd.Index(w, name="w"))


def _gradient(w: float, b: float) -> Parameters:
    nothing, target = np.zeros((STEPS, 1, 1)), np.full((STEPS, 1, 1), TARGET)
    return backprop(UNIT, weighted(w, b), nothing, target, h0=np.full(1, H0)).params


# --- descents ---------------------------------------------------------------------------------------------------------


class _Path(NamedTuple):
    """Where descents have been: (steps + 1, C) each."""

    w: Floats
    b: Floats
    error: Floats

    @property
    def longest(self) -> Floats:
        """(C,), the longest step of each."""
        return np.hypot(np.diff(self.w, axis=0), np.diff(self.b, axis=0)).max(axis=0)

    @property
    def end(self) -> Floats:
        """(C,), the mean error of the last steps of each."""
        return self.error[-SETTLING:].mean(axis=0)


def _descend(w: Floats, b: Floats, clip: str, steps: int = DESCENT) -> _Path:
    rows = []
    for _ in range(steps + 1):
        slope = _slope(w, b, clip)
        rows.append((w, b, slope.error))
        w, b = w - RATE * slope.dw, b - RATE * slope.db
    return _Path(*np.array(rows).swapaxes(0, 1))


def _descents(seed: int) -> pd.DataFrame:
    rng = stream(seed, "starts of descents")
    w = rng.uniform(4.6, 6.2, DESCENTS)
    b = _cliff(w) + rng.uniform(0.1, 0.4, DESCENTS)
    columns: dict[str, Floats] = {"w": w, "b": b}
    for name, clip in CLIPS.items():
        path = _descend(w, b, clip)
        columns |= {f"longest_{name}": path.longest, f"end_{name}": path.end}
    return pd.DataFrame(columns).set_index(["w", "b"])


def _lost(descents: pd.DataFrame) -> pd.DataFrame:
    share = {clip: float((descents[f"end_{name}"] > LOST).mean()) for name, clip in CLIPS.items()}
    return pd.DataFrame({"share": share}).rename_axis("clip")


# --- figures ----------------------------------------------------------------------------------------------------------


def _relief() -> pd.DataFrame:
    """The error on a mesh that is fine at the cliff, and paths of descents on it: part, line, w, b, error."""
    w, side = np.linspace(LEAST[0], MOST[0], 61), np.linspace(0.0, 1.0, 41) ** 2
    edge = _cliff(w)[:, None]
    b = np.concatenate([edge - (edge - LEAST[1]) * side[:0:-1], edge + (MOST[1] - edge) * side], axis=1)
    w = np.broadcast_to(w[:, None], b.shape)
    error = _ends(w.ravel(), b.ravel(), np.array([H0]), STEPS).ravel()
    line = np.broadcast_to(np.arange(len(w))[:, None], b.shape)
    columns = {"line": line.ravel(), "w": w.ravel(), "b": b.ravel(), "error": (error - TARGET) ** 2}
    parts = [pd.DataFrame(columns).assign(part="surface")]
    start, above = np.array(SHOWN).T
    for name, clip in CLIPS.items():
        path = _descend(start, _cliff(start) + above, clip, FOLLOWED)
        parts += [_path_on_map(path, number).assign(part=name, line=number) for number in range(len(SHOWN))]
    return pd.concat(parts, ignore_index=True)[["part", "line", "w", "b", "error"]]


def _path_on_map(path: _Path, number: int) -> pd.DataFrame:
    """A path as far as it stays on the map; of the step that leaves it, the part that is on it."""
    points = np.stack([values[:, number] for values in path], axis=1)
    inside = ((points[:, :2] >= LEAST) & (points[:, :2] <= MOST)).all(axis=1)
    if not inside.all():
        last = int(inside.argmin())
        here, there = points[last - 1], points[last]
        room = np.where(there > here, np.append(MOST, np.inf), np.append(LEAST, -np.inf)) - here
        points[last] = here + (room / (there - here)).min() * (there - here)
        points = points[: last + 1]
    return pd.DataFrame(points, columns=path._fields)


def _fixed_points() -> pd.DataFrame:
    """Fixed points and final states at one w: kind, b, x.

    "stable" and "unstable" ones lie on the curve b = x - w sigma(x); units have "settled" there from far below and
    above; the unit that starts from x_0 is after 50 steps at "x_50".
    """
    h = np.linspace(0.02, 0.98, 961)
    b, x = _held(AT, h), np.log(h) - np.log1p(-h)
    kind = np.where(AT * h * (1.0 - h) < 1.0, np.where(h < 0.5, "stable, low", "stable, high"), "unstable")
    curve = pd.DataFrame({"kind": kind, "b": b, "x": x})[(b > FROM_B) & (b < TO_B)]
    parts = [curve]
    for name, number, starts, steps in (("settled", 25, [0.0, 1.0], SETTLED), ("x_50", 97, [H0], STEPS)):
        b = np.linspace(FROM_B, TO_B, number)
        ends = _ends(np.full(number, AT), b, np.array(starts), steps)
        ends = np.log(ends) - np.log1p(-ends)
        parts.append(pd.DataFrame({"kind": name, "b": np.repeat(b, len(starts)), "x": ends.ravel()}))
    return pd.concat(parts, ignore_index=True)


LOOKS: dict[str, dict[str, Any]] = {
    "clipped": {"color": "black", "linestyle": "-", "linewidth": 0.8},
    "plain": {"color": COLOURS[1], "linestyle": "--", "linewidth": 1.4},
}
SHADES: dict[str, Any] = {"cmap": "GnBu", "vmin": -0.05, "vmax": 0.6, "rasterized": True}  # of the error


def error_surface(table: pd.DataFrame) -> Figure:
    """A cliff in the error surface, and descents that jump off it, or do not.

    The error of a single unit after 50 steps against its weight w and bias b: as a relief, seen from the valley, and
    as a map. From each dot two descents start, of the same rate: along the gradient as it is (dashed), and with its
    norm clipped to 1 (solid). All come down to the foot of the cliff; there the gradient throws the one far off the
    map, while the other makes its way along the foot, in the 60 steps that are drawn.
    """
    figure = canvas(2, 1)
    figure.set_figheight(1.3 * figure.get_figheight())
    relief, plan = figure.add_subplot(1, 2, 1, projection="3d"), figure.add_subplot(1, 2, 2)
    surface, paths = table[table["part"] == "surface"], table[table["part"] != "surface"]
    w, b, error = (surface[name].to_numpy().reshape(surface["line"].nunique(), -1) for name in ("w", "b", "error"))
    relief.computed_zorder = False
    relief.plot_surface(b, w, error, rstride=1, cstride=1, lightsource=LightSource(200, 40), linewidth=0, **SHADES)
    plan.pcolormesh(w, b, error, shading="gouraud", **SHADES)
    for part, look in LOOKS.items():
        for _, path in paths[paths["part"] == part].groupby("line"):
            relief.plot(path["b"], path["w"], path["error"] + 0.01, **look)
            plan.plot(path["w"], path["b"], gid=part, **look)
            relief.plot(path["b"].iloc[:1], path["w"].iloc[:1], path["error"].iloc[:1] + 0.01, "ko", markersize=3)
            plan.plot(path["w"].iloc[:1], path["b"].iloc[:1], "ko", markersize=3)
            _arrow(plan, path)
    _label_map(plan)
    _look_at(relief)
    return figure


def _arrow(ax: Axes, path: pd.DataFrame) -> None:
    """The head of an arrow where a path ends that is thrown off the map."""
    (w, b), (to_w, to_b) = path[["w", "b"]].to_numpy()[-2:]
    if np.hypot(to_w - w, to_b - b) > 2.0 * RATE * THRESHOLD:
        look = {"arrowstyle": "-|>", "color": LOOKS["plain"]["color"], "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (to_w, to_b), (0.1 * w + 0.9 * to_w, 0.1 * b + 0.9 * to_b), arrowprops=look)


def _label_map(ax: Axes) -> None:
    (w_min, b_min), (w_max, b_max) = LEAST, MOST
    ax.set(xlim=(w_min, w_max), ylim=(b_min, b_max), xlabel="weight $w$", ylabel="bias $b$")
    text: dict[str, Any] = {"fontsize": small(), "ha": "center", "va": "center"}
    ax.text(5.75, float(_cliff(5.75)) - 0.07, "cliff", rotation=np.degrees(np.arctan(-H0)), transform_rotates_text=True,
            rotation_mode="anchor", color="white", **text)  # fmt: skip
    ax.text(4.9, -3.2, "plateau, error up to .5", color="white", **text)
    ax.text(5.75, -2.6, "valley", **text)
    ax.text(5.42, -2.0, "gradient as it is", color=legible(LOOKS["plain"]["color"]), **text | {"ha": "left"})
    ax.text(4.83, -2.68, "norm clipped", **text | {"ha": "right"})


def _look_at(relief: Any) -> None:
    """The relief from the valley, with few ticks."""
    (w_min, b_min), (w_max, b_max) = LEAST, MOST
    relief.set(xlim=(b_min, b_max), ylim=(w_min, w_max), zlim=(0.0, 0.5), xlabel="bias $b$", ylabel="weight $w$")
    relief.set(xticks=(-3.5, -3.0, -2.5, -2.0), yticks=(4.5, 5.0, 5.5, 6.0), zticks=(0.0, 0.2, 0.4))
    relief.text2D(1.0, 0.72, "error $E$", transform=relief.transAxes, ha="right")
    relief.tick_params(pad=-2)
    for axis in (relief.xaxis, relief.yaxis, relief.zaxis):
        axis.set_pane_color((1.0, 1.0, 1.0, 0.0))
        axis.labelpad = -4
    relief.grid(False)
    relief.set_box_aspect((1.0, 1.15, 0.75), zoom=1.05)
    relief.view_init(elev=32, azim=-30)


def fixed_points(table: pd.DataFrame) -> Figure:
    """Where a unit can settle, and where it is after 50 steps.

    Fixed points of a unit with w = 5 against its bias b: stable ones (solid) and the unstable one between them
    (dashed), which are born and die in folds. Circles: where units have settled that start from far below and above.
    Dots: where the unit that starts from x_0 = .5 is after 50 steps. It changes sides where x_0 meets the unstable
    fixed point, not at a fold: there is the cliff.
    """
    figure = canvas(1, 1)
    figure.set_figheight(1.25 * figure.get_figheight())
    ax = figure.subplots()
    kinds = dict(tuple(table.groupby("kind", sort=False)))
    for kind, dash in (("stable, low", "-"), ("stable, high", "-"), ("unstable", "--")):
        ax.plot(kinds[kind]["b"], kinds[kind]["x"], color="black", linestyle=dash, linewidth=1.0, zorder=1)
    settled, after = kinds["settled"], kinds["x_50"]
    ax.plot(settled["b"], settled["x"], "o", markersize=3.5, markerfacecolor="white", color=COLOURS[0])
    ax.plot(after["b"], after["x"], ".", markersize=2.5, color=COLOURS[1])
    ax.axhline(START, color="0.6", linewidth=0.6, zorder=0)
    ax.axvline(float(_cliff(AT)), color="0.6", linewidth=0.6, zorder=0)
    ax.set(xlim=(FROM_B, TO_B), xlabel="bias $b$", ylabel="state $x$")
    text: dict[str, Any] = {"fontsize": small(), "va": "center"}
    ax.text(TO_B, START + 0.2, "$x_0$", ha="right", color="0.4", **text)
    ax.text(float(_cliff(AT)) + 0.02, -2.6, "cliff", color="0.4", **text)
    ax.text(-2.3, -1.4, "settled", color=legible(COLOURS[0]), **text)
    ax.text(-2.58, 1.1, "$x_{50}$ from $x_0$", color=legible(COLOURS[1]), **text)
    ax.text(-2.49, 0.12, "unstable", **text)
    return figure


def cliff(table: pd.DataFrame) -> Figure:
    """The gradient on the cliff.

    dE/db of a single unit after 50 steps against its weight w, on the cliff, where the state stays on an unstable fixed
    point (dots: by backpropagation; line: the law), and a twentieth of b aside of it, the greater of both sides
    (crosses). Within the width of a line the gradient changes by orders of magnitude.
    """
    figure = canvas(1, 1)
    ax = figure.subplots()
    ax.plot(table["w"], -table["dE_db_law"], color="black", label="law")
    ax.plot(table["w"], -table["dE_db"], "o", color=COLOURS[0], markersize=4, label="on the cliff")
    ax.plot(table["w"], table["beside"], "x", color=COLOURS[1], markersize=4, label=f"{ASIDE:g} aside")
    ax.set(xlabel="weight $w$", ylabel="$|dE/db|$", yscale="log")
    label_ends(ax)
    return figure


FIGURES = (error_surface, fixed_points, cliff)
