"""Gradients explode on a chaotic attractor, and vanish on a stable cycle.

Gradients and small changes of the state are multiplied by the same Jacobians, so gradients grow at the Lyapunov
exponent of the orbit that a network is on: those of networks on stable fixed points and cycles stay bounded, those of
chaotic ones always diverge, whatever the architecture (Mikhaeil, Monfared & Durstewitz 2022). So chaotic data cannot be
learnt without exploding gradients. Two ReLU units are enough to see all of it, with exponents that are known exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradscope.cells import cell
from gradscope.claims import NORMAL, Claim
from gradscope.drawing import COLOURS, DASHES, canvas, label_ends, legible, small
from gradscope.exponents import lyapunov
from gradscope.gradients import backprop
from gradscope.recurrence import Cell, Parameters
from gradscope.scaled import Floats
from gradscope.streams import stream
from gradscope.workspace import Workspace

SETUP = (
    "The paper's theorems are about any network; its figures and trained networks are not redrawn. Here the theorems "
    "are held to maps of which everything is known, written as networks of two ReLU units: the tent map, whose slope "
    "is mu everywhere, and the skew tent map, of slope 1/2 on the left and -s on the right, which as s grows goes from "
    "a fixed point to cycles of 2, 3 and 4 steps, with chaos between them. Random tanh networks stand for all others."
)
SOURCES = ("mikhaeil2022difficulty", "monfared2020existence")
REPEATS = (
    "statistically: chaotic orbits are others wherever sums are rounded otherwise, so claims are on averages over time"
)
SECONDS = 5.0
LEFT = 0.5  # slope of the skew tent map on the left
MUS = tuple(np.round(np.concatenate([np.arange(0.5, 0.96, 0.05), np.arange(1.05, 1.96, 0.05)]), 2).tolist())
FIXED = (0.1, 0.3, 0.5, 0.7, 0.9)
CYCLES = {2: (1.1, 1.3, 1.5, 1.7, 1.9), 3: (3.1, 3.3, 3.5, 3.7, 3.9), 4: (7.2, 7.4, 7.6, 7.8)}
CHAOS = (2.2, 2.4, 2.6, 2.8, 4.3, 4.7, 5.2, 5.7, 6.2, 6.7)
PLACES = (0.65, "fixed"), (1.5, "cycle of 2"), (2.5, "chaos"), (3.5, "cycle of 3"), (5.5, "chaos"), (7.5, "cycle of 4")
SHOWN = {"fixed point": 0.7, "cycle of 2": 1.6, "cycle of 3": 3.5, "chaos": 2.5}  # s
SWEPT = tuple(np.round(np.arange(0.325, 8.0, 0.05), 3).tolist())
FINELY = np.linspace(0.3, 8.0, 900)
RADII = (0.5, 0.7, 0.9, 1.5, 2.0, 2.5, 3.0, 4.0)
UNITS = 100
STARTS, SETTLED, LAGS = 8, 300, 600  # orbits; steps that are left out, and steps measured, whole cycles of 2, 3 and 4
LAST = 12  # steps at the end that are left out
WATCHED = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # lags
COLLAPSES = (0.1, 0.2, 0.3, 0.6, 0.7, 0.9, 1 / 3, 2 / 3, 2.0**-0.5)
PAPER = "Mikhaeil, Monfared & Durstewitz (2022)"
MAPS = "Monfared & Durstewitz (2020)"
_exactly = partial(Claim, source=PAPER, basis="derived", rtol=1e-9)
CLAIMS = (
    _exactly("The exponent of the tent map is log mu", "tent.exponent", "law"),
    _exactly("The exponent of the tent map at mu = 3/2", "tent.exponent", ((1.5, 0.4054651081),)),
    _exactly("On the tent map the log of the gradient grows linearly: k steps further back, it is mu^k times as large",
             "lags.log10_ratio", "law"),
    _exactly("On a stable cycle of n steps the exponent is log(s / 2^(n-1)) / n", "cycles.exponent", "law",
             source=MAPS),
    Claim("On stable fixed points and cycles gradients vanish", "cycles.growth", 0.0, PAPER, "qualitative",
          relation="<"),
    Claim("On chaotic orbits gradients explode", "orbits.growth", 0.0, PAPER, "qualitative", relation=">"),
    _exactly("Gradients grow at the Lyapunov exponent of their orbit", "orbits.growth", "exponent"),
    Claim("The exponent of a chaotic orbit is the average of log|slope| over the map's own orbits", "orbits.exponent",
          "average", PAPER, "sampled", "derived", errors=4.0, precision=0.15),
    Claim("In tanh networks of 100 units gradients grow at the Lyapunov exponent too, whether it is below or above 0: "
          "over 600 steps within 0.01", "tanh-networks.growth", "exponent", PAPER, "limit", "derived", atol=0.01),
    _exactly("At mu = 2 the tent map is at 0 one step after the last binary digit of its start, as each step shifts "
             "one out", "collapses.step", "law"),
    _exactly("At mu = 2 the tent map from 0.3 is at 0 at step 55", "collapses.step", ((0.3, 55.0),)),
    _exactly("At mu = 2 the gradient doubles a step until the map is at 0 (log10 of it, at the last such step)",
             "collapses.log10_before", "doubled"),
    _exactly("Once the tent map at mu = 2 is at 0, its gradient is exactly 0 at every lag",
             "collapses.zero_share", 1.0),
)  # fmt: skip


def measure(seed: int) -> dict[str, pd.DataFrame]:
    """Exponents and gradients of all maps; another seed starts them elsewhere, and draws other tanh networks."""
    starts = stream(seed, "chaos starts").uniform(0.05, 0.95, STARTS)
    orbits = _skew_tents(CHAOS, starts)
    orbits["average"], orbits["average_error"] = zip(*(_average(s, seed) for s in CHAOS), strict=True)
    orbits["exponent_error"] = np.hypot(orbits["exponent_error"], orbits.pop("average_error"))
    cycles = _cycles(starts)
    return {
        "tent": _tents(starts),
        "lags": _tent_lags(starts),
        "cycles": cycles,
        "orbits": orbits,
        "tanh-networks": _tanh_networks(seed),
        "collapses": _collapses(seed),
        "routes-to-chaos": _routes(starts),
        "gradient-vs-lag": _gradient_vs_lag(starts, seed),
        "collapse": _collapse(),
    }


# --- maps as networks -------------------------------------------------------------------------------------------------


def _relu(W_hh: Iterable[Iterable[float]], b_h: Iterable[float]) -> tuple[Cell, Parameters]:
    """Two ReLU units by themselves."""
    own = cell("elman", hidden_size=2, input_size=1, output_size=1, activation="relu")
    weights = {"W_hh": np.array(W_hh), "b_h": np.array(b_h)}
    return own, weights | {"W_xh": np.zeros((2, 1)), "W_hy": np.ones((1, 2)), "b_y": np.zeros(1)}


def tent(mu: float) -> tuple[Cell, Parameters]:
    """x' = mu min(x, 1 - x): units relu(x) and relu(x - 1/2), x' = mu (relu(x) - 2 relu(x - 1/2))."""
    return _relu([[mu, -2.0 * mu]] * 2, [0.0, -0.5])


def skew_tent(s: float) -> tuple[Cell, Parameters]:
    """x' = 1 + x/2 if x < 0, else 1 - s x: units relu(x) and relu(-x)."""
    return _relu([[-s, -LEFT], [s, LEFT]], [1.0, -1.0])


def _states_of_tent(x: Floats) -> Floats:
    """(B, 2) from (B,)."""
    return np.stack([x, np.maximum(x - 0.5, 0.0)], axis=1)


def _states_of_skew_tent(x: Floats) -> Floats:
    return np.stack([np.maximum(x, 0.0), np.maximum(-x, 0.0)], axis=1)


def _by_itself(steps: int, examples: int) -> Floats:
    return np.zeros((steps, examples, 1))


def _orbits(network: tuple[Cell, Parameters], start: Floats, steps: int) -> Floats:
    """(T, B, n), the states."""
    own, params = network
    packed = own.pack({name: array[None] for name, array in params.items()})
    return own.forward(packed, _by_itself(steps, len(start))[None], start[None], Workspace()).states[0]


def _log_norms(network: tuple[Cell, Parameters], start: Floats, steps: int) -> Floats:
    """(T, B), log |dL/dh| of the last step's loss, by lag; nats."""
    own, params = network
    targets = np.full((steps, len(start), 1), -1.0)  # that no orbit meets
    log10_dh = backprop(own, params, _by_itself(steps, len(start)), targets, h0=start).log10_dh
    return np.log(10.0) * log10_dh[::-1]


# --- what is measured -------------------------------------------------------------------------------------------------


def _exponents(network: tuple[Cell, Parameters], start: Floats) -> tuple[float, float, float]:
    """Largest exponent, its standard error, and the growth of gradients over the same steps; means over orbits."""
    steps = SETTLED + LAGS + LAST
    own, params = network
    found = lyapunov(own, params, _by_itself(steps, len(start)), 1, h0=start, washout=SETTLED, warmup=LAST)
    norms = _log_norms(network, start, steps)
    growth = (norms[LAST + LAGS] - norms[LAST]).mean() / LAGS
    return float(found.exponents[0]), float(found.half_width[0]) / NORMAL, float(growth)


def _tents(starts: Floats) -> pd.DataFrame:
    rows = [(mu, _exponents(tent(mu), _states_of_tent(starts))[0], np.log(mu)) for mu in MUS]
    return pd.DataFrame(rows, columns=["mu", "exponent", "law"]).set_index("mu")


def _tent_lags(starts: Floats) -> pd.DataFrame:
    """From lag 1 on, where the gradient lies in the direction in which the two units are one number."""
    rows = []
    for mu in MUS:
        norms = _log_norms(tent(mu), _states_of_tent(starts), WATCHED[-1] + 2)
        ratios = (norms[1:] - norms[1]) / np.log(10.0)
        for lag in WATCHED:
            furthest = ratios[lag][np.abs(ratios[lag] - lag * np.log10(mu)).argmax()]
            rows.append((mu, lag, furthest, lag * np.log10(mu)))
    return pd.DataFrame(rows, columns=["mu", "lag", "log10_ratio", "law"]).set_index(["mu", "lag"])


def _skew_tents(slopes: Iterable[float], starts: Floats) -> pd.DataFrame:
    rows = [(s, *_exponents(skew_tent(s), _states_of_skew_tent(starts))) for s in slopes]
    return pd.DataFrame(rows, columns=["s", "exponent", "exponent_error", "growth"]).set_index("s")


def _cycles(starts: Floats) -> pd.DataFrame:
    """Of n steps on a cycle one is on the right: orbits start near it, as chaotic transients elsewhere can be long."""
    rows = []
    for n, slopes in {1: FIXED, **CYCLES}.items():
        for s in slopes:
            on_the_right = sum(LEFT**k for k in range(n)) / (1.0 + s * LEFT ** (n - 1))
            near = _states_of_skew_tent(on_the_right * (1.0 + 0.01 * (starts - 0.5)))
            exponent, _, growth = _exponents(skew_tent(s), near)
            rows.append((s, n, exponent, growth, _law(s, n)))
    return pd.DataFrame(rows, columns=["s", "period", "exponent", "growth", "law"]).set_index(["s", "period"])


def _average(s: float, seed: int, orbits: int = 200, steps: int = 2000) -> tuple[float, float]:
    """The mean of log|slope| over orbits of the map itself, and its standard error."""
    x = stream(seed, f"chaos average {s}").uniform(0.05, 0.95, orbits)
    right = np.zeros(orbits)
    for step in range(SETTLED + steps):
        right += (x > 0.0) * (step >= SETTLED)
        x = np.where(x > 0.0, 1.0 - s * x, 1.0 + LEFT * x)
    rates = np.log(LEFT) + right / steps * np.log(s / LEFT)
    return float(rates.mean()), float(rates.std(ddof=1) / np.sqrt(orbits))


def _tanh_network(seed: int, g: float) -> tuple[Cell, Parameters]:
    """100 tanh units by themselves, independent N(0, g^2/n) weights."""
    own = cell("elman", hidden_size=UNITS, input_size=1, output_size=1, activation="tanh")
    weights = stream(seed, "chaos W_hh").standard_normal((UNITS, UNITS)) / np.sqrt(UNITS)
    params = {"W_xh": np.zeros((UNITS, 1)), "W_hh": g * weights, "b_h": np.zeros(UNITS)}
    readout = stream(seed, "chaos W_hy").standard_normal((1, UNITS)) / np.sqrt(UNITS)
    return own, params | {"W_hy": readout, "b_y": np.zeros(1)}


def _tanh_networks(seed: int) -> pd.DataFrame:
    start = stream(seed, "chaos h0").standard_normal((STARTS, UNITS))
    rows = [(g, *_exponents(_tanh_network(seed, g), start)) for g in RADII]
    found = pd.DataFrame(rows, columns=["g", "exponent", "exponent_error", "growth"]).set_index("g")
    return found.drop(columns="exponent_error")


def _collapses(seed: int) -> pd.DataFrame:
    """The first step at which the tent map of slope 2 is at 0, and gradients of the losses there and a step before."""
    rows = []
    for start in [*COLLAPSES, *stream(seed, "chaos collapse").uniform(0.0, 1.0, 10)]:
        states = _states_of_tent(np.array([start]))
        step = 1 + int((_orbits(tent(2.0), states, 80)[:, 0, 0] == 0.0).argmax())
        after, before = (_log_norms(tent(2.0), states, steps)[:, 0] / np.log(10.0) for steps in (step, step - 1))
        digits = Fraction(start).denominator.bit_length() - 1
        doubled = (len(before) - 2) * np.log10(2.0)
        rows.append((start, float(step), digits + 1.0, before[-1] - before[1], doubled, np.isneginf(after[1:]).mean()))
    columns = ["start", "step", "law", "log10_before", "doubled", "zero_share"]
    return pd.DataFrame(rows, columns=columns).set_index("start")


# --- figures ----------------------------------------------------------------------------------------------------------


def _routes(starts: Floats) -> pd.DataFrame:
    """s and x at some steps of two orbits each; or s, exponent and, where there is a stable cycle, period and law."""
    own, _ = skew_tent(1.0)
    params = [skew_tent(s)[1] for s in FINELY]
    packed = own.pack({name: np.stack([one[name] for one in params]) for name in params[0]})
    start = np.broadcast_to(_states_of_skew_tent(starts[:2]), (len(FINELY), 2, 2))
    steps = SETTLED + 60
    states = own.forward(packed, np.zeros((len(FINELY), steps, 2, 1)), start, Workspace()).states[:, SETTLED:]
    x = (states[..., 0] - states[..., 1]).reshape(len(FINELY), -1)
    orbits = pd.DataFrame({"s": np.repeat(FINELY, x.shape[1]), "x": x.ravel()})
    exponents = _skew_tents(SWEPT, starts)["exponent"].reset_index()
    exponents["period"] = exponents["s"].map(_period)
    exponents["law"] = [_law(*at) for at in zip(exponents["s"], exponents["period"], strict=True)]
    return pd.concat([orbits, exponents], ignore_index=True)


def _period(s: float) -> int:
    """The number of steps of the stable cycle, n - 1 of them on the left, or fixed point; 0 if there is none.

    Where a is the slope on the left, there is one from s = (1 + a + ... + a^(n-2)) / a^(n-2) on, up to 1 / a^(n-1).
    """
    if s < 1.0:
        return 1
    first = {n: sum(LEFT**k for k in range(n - 1)) / LEFT ** (n - 2) for n in CYCLES}
    return next((n for n in CYCLES if first[n] < s < LEFT ** (1 - n)), 0)


def _law(s: float, n: int) -> float:
    """The exponent of a cycle of n steps, or fixed point; not a number if n is 0."""
    return float(np.log(s * LEFT ** (n - 1)) / n) if n else np.nan


def _gradient_vs_lag(starts: Floats, seed: int) -> pd.DataFrame:
    """panel, line, lag, log10 of |dL/dh| over that at lag 1, of one orbit, and its law, or exponent."""
    start, steps, tables = starts[:1], SETTLED + LAST, []
    for line, s in SHOWN.items():
        norms = _log_norms(skew_tent(s), _states_of_skew_tent(start), steps)
        tables.append(_by_lag("two ReLU units, skew tent map", line, norms, _law(s, _period(s))))
    for mu in (0.8, 1.2, 1.5, 1.9):
        norms = _log_norms(tent(mu), _states_of_tent(start), steps)
        tables.append(_by_lag("two ReLU units, tent map", rf"$\mu$ = {mu:g}", norms, np.log(mu)))
    h0 = stream(seed, "chaos h0").standard_normal((1, UNITS))
    for g in (0.9, 2.0, 4.0):
        network = _tanh_network(seed, g)
        rate = _exponents(network, h0)[0]
        tables.append(_by_lag("100 tanh units", f"$g$ = {g:g}", _log_norms(network, h0, steps), rate))
    return pd.concat(tables, ignore_index=True)


def _by_lag(panel: str, line: str, norms: Floats, rate: float) -> pd.DataFrame:
    lags = np.arange(1, 61)
    log10 = (norms[lags, 0] - norms[1, 0]) / np.log(10.0)
    law = (lags - 1.0) * rate / np.log(10.0)
    return pd.DataFrame({"panel": panel, "line": line, "lag": lags, "log10": log10, "law": law})


def _collapse(steps: int = 64) -> pd.DataFrame:
    """step, x of the network from 0.3, x of the map from 3/10, and log10 of |dL/dh| at step 1 over that at lag 1."""
    start = np.array([0.3])
    states, true, rows = _orbits(tent(2.0), _states_of_tent(start), steps), Fraction(3, 5), []
    for step in range(2, steps + 1):
        true = 2 * min(true, 1 - true)
        norms = _log_norms(tent(2.0), _states_of_tent(start), step)[:, 0] / np.log(10.0)
        growth = norms[-1] - norms[1] if np.isfinite(norms[-1]) else np.nan
        rows.append((step, states[step - 1, 0, 0], float(true), growth))
    return pd.DataFrame(rows, columns=["step", "x", "true", "log10"])


def routes_to_chaos(table: pd.DataFrame) -> Figure:
    """Where the orbit is a cycle gradients vanish, and where it is chaotic they explode.

    Two ReLU units as the skew tent map, of slope 1/2 on the left and -s on the right. Above: where the orbit is once it
    has settled. Below: its Lyapunov exponent, which is the growth of gradients. Points: measured, means over 8 orbits;
    squares where it is above 0. Black: log(s / 2^(n-1)) / n, where there is a stable cycle of n steps. Just beyond
    s = 7, some orbits are chaotic for long before they come to it.
    """
    figure = canvas(2, 2)
    above, below = figure.subplots(2, 1, sharex=True)
    orbits, rates = table[table["x"].notna()], table[table["exponent"].notna()]
    above.plot(orbits["s"], orbits["x"], ",", color="black", alpha=0.5, rasterized=True)
    below.axhline(0.0, color="0.5", linewidth=0.6)
    for marker, colour, own in (
        ("s", COLOURS[1], rates[rates["exponent"] > 0.0]),
        ("o", COLOURS[0], rates[rates["exponent"] <= 0.0]),
    ):
        below.plot(own["s"], own["exponent"], marker, color=colour, markersize=2)
    for period, window in rates[rates["law"].notna()].groupby("period"):
        below.plot(window["s"], window["law"], color="black", linewidth=0.8, gid=f"law {period:g}")
    for s, name in PLACES:
        above.annotate(name, (s, 1.5), ha="center", fontsize=small())
    above.set(ylabel="$x$", ylim=(-7.3, 2.2), xlim=(0.2, 8.1))
    below.set(xlabel="slope on the right, $s$", ylabel="growth of gradients\n(nats a step)", ylim=(-0.7, 0.5))
    for word, place, colour in (("explode", 0.3, COLOURS[1]), ("vanish", -0.3, COLOURS[0])):
        below.annotate(word, (7.5, place), ha="center", va="center", fontsize=small(), color=legible(colour))
    return figure


def gradient_vs_lag(table: pd.DataFrame) -> Figure:
    """Gradients vanish on fixed points and cycles, and explode in chaos.

    The norm of the last loss's state gradient against the lag, over that at lag 1, on one orbit each. Left: slopes 1/2
    and -s, s = 0.7, 1.6, 3.5 and 2.5 from the fixed point to chaos. Right: independent N(0, g^2/100) weights. Thin
    black: the exact law of fixed points, cycles and the tent map; of tanh units the Lyapunov exponent of their orbit.
    """
    figure = canvas(3, 1)
    for ax, (panel, own) in zip(figure.subplots(1, 3), table.groupby("panel", sort=False), strict=True):
        for i, (line, orbit) in enumerate(own.groupby("line", sort=False)):
            ax.plot(orbit["lag"], orbit["log10"], color=COLOURS[i], linestyle=DASHES[i], label=line)
            ax.plot(orbit["lag"], orbit["law"], color="black", linewidth=0.5, label="_law")
        ax.set(title=panel, xlabel="lag (steps)")
        label_ends(ax)
    figure.axes[0].set_ylabel(r"$\log_{10}$ of $|\partial L/\partial h|$" + "\nover that at lag 1")
    return figure


def collapse(table: pd.DataFrame) -> Figure:
    """A chaotic map that float64 ends.

    The tent map of slope 2 as a network, from 0.3. Above: its states (points) and the true orbit of 3/10 (line), which
    is a cycle. Every step shifts out a binary digit of the start: the network leaves that orbit when the error of
    writing 0.3 in binary has grown to its size, and is at exactly 0 from step 55 on. Below: the norm of the gradient
    of each step's loss at step 1, over that at lag 1. It doubles a step, and is exactly 0 (crosses) from step 55 on.
    """
    figure = canvas(1, 2)
    figure.set_figheight(0.75 * figure.get_figheight())
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(table["step"], table["true"], color="0.7", linewidth=0.7)
    above.plot(table["step"], table["x"], "o", color=COLOURS[0], markersize=2)
    alive, dead = table[table["log10"].notna()], table[table["log10"].isna()]
    below.plot(alive["step"], (alive["step"] - 2) * np.log10(2.0), color="black", linewidth=0.5)
    below.plot(alive["step"], alive["log10"], "o", color=COLOURS[0], markersize=2)
    below.plot(dead["step"], 0.0 * dead["step"], "x", color=COLOURS[1], markersize=3)
    at = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center", "fontsize": small()}
    below.annotate("exactly 0", (dead["step"].mean(), 0.0), color=legible(COLOURS[1]), **at)
    above.set(ylabel="$x$")
    below.set(xlabel="step of the loss", ylabel=r"$\log_{10}$ of $|\partial L/\partial h|$ at step 1")
    return figure


FIGURES = (routes_to_chaos, gradient_vs_lag, collapse)
