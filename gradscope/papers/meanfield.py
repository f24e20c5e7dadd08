"""Where gradients of large random networks vanish, and where they explode.

In a tanh network of many units with independent N(0, g^2/N) weights, pre-activations are Gaussian with a variance that
solves one equation, and gradients grow by a rate that follows from it. A network left to itself turns from vanishing to
exploding gradients, and to chaos, at g = 1 (Sompolinsky, Crisanti & Sommers 1988); white input keeps it from both up to
a larger g (Molgedey, Schuchhardt & Schuster 1992; Chen, Pennington & Schoenholz 2018). So "critical at 1" holds only
without input, and with it gradients vanish at initialisations that rest on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.polynomial.hermite_e import hermegauss
from scipy.integrate import quad
from scipy.optimize import brentq

from gradscope import theory
from gradscope.cells import cell
from gradscope.claims import NORMAL, Claim
from gradscope.drawing import COLOURS, DASHES, MARKERS, canvas, label_ends, legible, small
from gradscope.exponents import lyapunov
from gradscope.gradients import backprop
from gradscope.recurrence import Cell, Parameters
from gradscope.scaled import Floats
from gradscope.streams import stream

SETUP = (
    "The networks are those of the theory: independent N(0, g^2/N) weights that are not rescaled, no biases, and white "
    "noise of its own for each unit, of standard deviation sigma_u. The papers' figures were not at hand: these are "
    "drawn from the equations, and measured anew. Measured rates are medians over draws of the weights, as those of "
    "some draws are far below the others; intervals are those of order statistics. No claim is made where a network of "
    "300 units is not yet a large one, though it is drawn: with little input below g = 1 it is nearly linear and grows "
    "by the spectral radius of its draw, which exceeds g, and from there to g = 1.5 it lies below the law. Of 1,000 "
    "units without input below g = 1 the sign alone is claimed, for the same reason. Networks of 100 units are further "
    "below the law and are left out. These limits were set after looking at seeds 0 to 19, and the claims then tried "
    "on 20 others, of which 19 passed."
)
SOURCES = ("chen2018dynamical", "sompolinsky1988chaos", "molgedey1992suppressing")
REPEATS = (
    "statistically: trajectories of chaotic networks are others wherever sums are rounded otherwise, so claims are on "
    "averages over time and draws alone"
)
SECONDS = 10.0
LARGE, SMALL = 1000, 300  # units
DRAWS = 9  # of the weights
STEPS = {LARGE: 500, SMALL: 300}
WASHOUT, WARMUP = 100, 30
LARGE_AT = ((0.0, 0.9), (0.0, 1.5), (0.0, 2.0), (0.0, 3.0), (0.5, 0.9))
SMALL_AT = {
    0.0: (1.1, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0),
    0.1: (0.9, 1.1, 1.3, 1.6, 2.0, 3.0),
    0.25: (1.25, 1.45),
    0.5: (0.9, 1.2, 1.45, 1.65, 2.0, 3.0),
    0.75: (1.6, 1.8),
    1.0: (0.9, 1.3, 1.75, 1.95, 2.4, 3.0),
    1.5: (2.0, 2.25),
}
DRIVEN_AT = ((0.5, 0.9), (0.5, 1.2), (0.5, 1.55), (0.5, 2.0), (1.0, 1.5))
SHOWN = (0.0, 0.1, 0.5, 1.0)  # input scales that have a line
RADII = np.round(np.arange(0.5, 3.26, 0.125), 3).tolist()
SCALES = (0.0, 0.002, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0, 1.25, 1.5, 1.75)
EXAMPLES, LENGTH = 4, 90  # sequences and their steps
FIT = np.arange(10, 61)  # lags of the slope
TAIL = 12.0  # standard deviations
RULE, RULED = hermegauss(201), (1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)  # and radii it is tried at
CHEN = "Chen, Pennington & Schoenholz (2018)"
LEGACY = "Sompolinsky, Crisanti & Sommers (1988); Molgedey, Schuchhardt & Schuster (1992)"
QUADRATURE = "the integrals of the law, without input"
Point = tuple[float, float]  # sigma_u, g
Mean = Callable[[Callable[[Any], Any], float], float]
_sampled = partial(Claim, kind="sampled", basis="derived")
_sign = partial(Claim, expected=0.0, kind="qualitative", basis="memory", source=LEGACY)
CLAIMS = (
    Claim("The growth rate is 1/2 log(g^2 E[f'^2]) at the variance that D = g^2 E[f^2] + sigma_u^2 gives", "laws.rate",
          "quadrature", f"{LEGACY}; {CHEN}", basis="memory", rtol=1e-9, atol=1e-12, where="sigma_u > 0 or g > 1"),
    Claim("Growth rates of networks without input, in numbers", "laws.rate",
          (((0.0, 1.5), 0.065217), ((0.0, 2.0), 0.154724), ((0.0, 3.0), 0.310249)), LEGACY, basis="derived", atol=5e-7),
    Claim("The growth rate at sigma_u = 0.5 and g = 0.9, in numbers", "laws.rate", (((0.5, 0.9), -0.3545),), CHEN,
          basis="derived", atol=5e-5),
    Claim("With input, the critical radius is the g at which the growth rate is 0", "boundary.radius", "quadrature",
          f"{LEGACY}; {CHEN}", basis="memory", rtol=1e-9, where="sigma_u > 0"),
    Claim("Critical radii, to two decimals: well above 1", "boundary.two_decimals",
          ((0.1, 1.19), (0.5, 1.55), (1.0, 1.86)), LEGACY, basis="derived", rtol=1e-9),
    Claim("A Gauss-Hermite rule of 201 nodes has the growth rate up to g = 1.5", "nodes.rate", "law", QUADRATURE,
          basis="derived", rtol=1e-9, where="g <= 1.5"),
    Claim("From g = 4 on a Gauss-Hermite rule of 201 nodes is wrong by more than 3 parts in 1,000",
          "nodes.off", 3e-3, QUADRATURE, "bound", "derived",
          relation=">=", where="g >= 4"),
    _sign("Without input, networks of 1,000 units have vanishing gradients at g = 0.9", "networks.rate_high",
          relation="<", where="units == 1000 and sigma_u == 0 and g < 1"),
    _sign("Without input, networks of 1,000 units have exploding gradients from g = 1.5 on", "networks.rate_low",
          relation=">", where="units == 1000 and sigma_u == 0 and g > 1"),
    _sampled("Networks of 1,000 units have the Lyapunov exponent of the law within 0.006: what they differ by",
             "networks.off", 0.0, LEGACY, atol=0.006, precision=0.006,
             where="units == 1000 and (sigma_u > 0 or g > 1)"),
    _sampled("Networks of 300 units have the Lyapunov exponent of the law within 0.02: what they differ by",
             "networks.off", 0.0, LEGACY, atol=0.02,
             precision=0.01, where="units == 300 and (sigma_u >= 0.5 or g > 1.5)"),
    Claim("Beyond g = 1, where the spectral radius says that gradients explode, input makes them vanish",
          "networks.rate_high", 0.0, f"{LEGACY}; {CHEN}", "qualitative", "abstract", relation="<",
          where="sigma_u >= 0.5 and g > 1 and quadrature < -0.03"),
    _sampled("Networks of 300 units turn from vanishing to exploding gradients at the critical radius within 0.06, "
             "which is 0.02 of the rate", "crossings.radius", "quadrature", f"{LEGACY}; {CHEN}", atol=0.06,
             precision=0.02, where="sigma_u >= 0.25"),
    _sampled("Gradients of driven networks grow by the law over lags 10 to 60, within 0.02 a step", "slopes.slope",
             "quadrature", CHEN, atol=0.02, precision=0.05, where="g != 1.55"),
    _sampled("The slope of driven networks at sigma_u = 0.5 and g = 0.9 is that of an independent simulation, which "
             "varies by 0.0084 a draw", "slopes.slope", (((0.5, 0.9), -0.3566),),
             "a simulation in plain NumPy, 300 units", atol=0.0084, precision=0.02),
)  # fmt: skip


def measure(seed: int) -> dict[str, pd.DataFrame]:
    """Laws, exponents by simulation, and gradients of driven networks; another seed draws all of it anew."""
    points = sorted({*product(SHOWN, RADII), *DRIVEN_AT})
    laws = pd.DataFrame(
        {
            "rate": [theory.growth_rate("tanh", g, scale) for scale, g in points],
            "quadrature": [rate_by_quadrature(g, scale) for scale, g in points],
        },
        pd.MultiIndex.from_tuples(points, names=["sigma_u", "g"]),
    )
    boundary = pd.DataFrame(
        {
            "radius": [theory.critical_radius("tanh", scale) for scale in SCALES],
            "quadrature": [radius_by_quadrature(scale) for scale in SCALES],
        },
        pd.Index(SCALES, name="sigma_u"),
    )
    boundary["two_decimals"] = boundary["radius"].round(2)
    small_at = [(scale, g) for scale, radii in SMALL_AT.items() for g in radii]
    draws = {LARGE: _exponents(seed, LARGE, LARGE_AT), SMALL: _exponents(seed, SMALL, small_at)}
    networks, crossings = _networks(draws), _crossings(draws[SMALL])
    norms = {point: _log_norms(seed, *point) for point in DRIVEN_AT}
    return {
        "laws": laws,
        "boundary": boundary,
        "nodes": _nodes(),
        "networks": networks,
        "crossings": crossings,
        "slopes": _slopes(norms),
        "growth-rates": _growth_rates(laws, networks),
        "phase-boundary": _phase_boundary(boundary, networks, crossings),
        "gradient-vs-lag": _gradient_vs_lag(norms),
    }


# --- the law, by adaptive quadrature and root finding -----------------------------------------------------------------


def _mean(f: Callable[[Any], Any], D: float) -> float:
    """E[f(sqrt(D) z)], z ~ N(0, 1), of an even f."""
    deviation = np.sqrt(D)
    edges = [0.0, *(min(edge / deviation, TAIL) for edge in (1.0, 20.0)), TAIL]  # where f bends, and where it ends to
    parts = [
        quad(lambda z: f(deviation * z) * np.exp(-0.5 * z * z), low, high, epsabs=1e-15, epsrel=1e-13, limit=200)[0]
        for low, high in pairwise(edges)
        if low < high
    ]
    return float(2.0 * sum(parts) / np.sqrt(2.0 * np.pi))


def _mean_of_nodes(f: Callable[[Any], Any], D: float) -> float:
    """The same by a Gauss-Hermite rule."""
    z, weights = RULE
    return float(weights @ f(np.sqrt(D) * z) / weights.sum())


def _value(D: float, mean: Mean = _mean) -> float:
    return mean(lambda v: np.tanh(v) ** 2, D)


def _slope(D: float, mean: Mean = _mean) -> float:
    return mean(lambda v: (1.0 - np.tanh(v) ** 2) ** 2, D)


def rate_by_quadrature(g: float, sigma_u: float, mean: Mean = _mean) -> float:
    """1/2 log(g^2 E[f'^2]), nats a step.

    >>> round(rate_by_quadrature(1.5, 0.0), 6)
    0.065217
    """
    if sigma_u == 0.0 and g <= 1.0:
        return float(np.log(g))  # the states die out
    D = brentq(lambda D: g**2 * _value(D, mean) + sigma_u**2 - D, 1e-9, g**2 + sigma_u**2, xtol=1e-15, rtol=1e-14)
    return float(0.5 * np.log(g**2 * _slope(D, mean)))


def _nodes() -> pd.DataFrame:
    """Growth rates by the Gauss-Hermite rule, and how far they are off, in parts of the rate."""
    rates = [(rate_by_quadrature(g, 0.0, _mean_of_nodes), theory.growth_rate("tanh", g, 0.0)) for g in RULED]
    table = pd.DataFrame(rates, pd.Index(RULED, name="g"), ["rate", "law"])
    return table.assign(off=np.abs(table["rate"] / table["law"] - 1.0))


def radius_by_quadrature(sigma_u: float) -> float:
    """The g at which g^2 E[f'^2] = 1.

    >>> round(radius_by_quadrature(0.5), 3)
    1.55
    """
    if sigma_u == 0.0:
        return 1.0
    D = brentq(lambda D: _value(D) / _slope(D) + sigma_u**2 - D, 1e-9, 50.0, xtol=1e-15, rtol=1e-14)
    return float(_slope(D) ** -0.5)


# --- networks ---------------------------------------------------------------------------------------------------------


def _weights(seed: int, units: int, draw: int) -> Floats:
    """(N, N), independent N(0, 1/N)."""
    return stream(seed, f"meanfield W_hh {units} {draw}").standard_normal((units, units)) / np.sqrt(units)


def _network(weights: Floats, sigma_u: float, g: float) -> tuple[Cell, Parameters]:
    """A tanh network of whose units each has a noise of its own, if there is any."""
    units = len(weights)
    inputs = units if sigma_u else 1
    own = cell("elman", hidden_size=units, input_size=inputs, output_size=1, activation="tanh")
    W_xh = sigma_u * np.eye(units) if sigma_u else np.zeros((units, 1))
    readout = np.full((1, units), units**-0.5)
    return own, {"W_xh": W_xh, "W_hh": g * weights, "b_h": np.zeros(units), "W_hy": readout, "b_y": np.zeros(1)}


def _exponents(seed: int, units: int, points: Iterable[Point]) -> dict[Point, Floats]:
    """(sigma_u, g) -> (draws,), the largest Lyapunov exponent of each draw of the weights; nats a step."""
    found: dict[Point, list[float]] = {point: [] for point in points}
    for draw in range(DRAWS):
        weights, noise = _weights(seed, units, draw), stream(seed, f"meanfield x {units} {draw}")
        start, white = noise.standard_normal(units), noise.standard_normal((STEPS[units], 1, units))
        for (scale, g), rates in found.items():
            own, params = _network(weights, scale, g)
            x = white[..., : own.input_size] * (scale > 0.0)
            rates.append(lyapunov(own, params, x, 1, h0=start, washout=WASHOUT, warmup=WARMUP).exponents[0])
    return {point: np.array(rates) for point, rates in found.items()}


def _median(values: Floats) -> tuple[float, float, float, float]:
    """The median of 9 draws; the second and eighth, between which the true one is with a probability of 96 %; and the
    standard error that such an interval stands for.
    """
    ordered = np.sort(values)
    low, high = float(ordered[1]), float(ordered[-2])
    return float(np.median(ordered)), low, high, (high - low) / (2.0 * NORMAL)


def _networks(draws: Mapping[int, Mapping[Point, Floats]]) -> pd.DataFrame:
    """Exponents, and what they differ from the law by (`off`)."""
    rows = [
        (units, *point, *_median(rates), rate_by_quadrature(point[1], point[0]))
        for units, points in draws.items()
        for point, rates in points.items()
    ]
    columns = ["units", "sigma_u", "g", "rate", "rate_low", "rate_high", "off_error", "quadrature"]
    table = pd.DataFrame(rows, columns=columns).set_index(["units", "sigma_u", "g"])
    return table.assign(off=table["rate"] - table["quadrature"])


def _crossings(points: Mapping[Point, Floats]) -> pd.DataFrame:
    """Where the rate of each draw crosses 0: on the line through the two radii around the critical one."""
    rows = []
    for scale, radii in SMALL_AT.items():
        if scale:
            law = radius_by_quadrature(scale)
            upper = int(np.searchsorted(radii, law))
            low, high = radii[upper - 1], radii[upper]
            below, above = points[scale, low], points[scale, high]
            rows.append((scale, *_median(low - (high - low) * below / (above - below)), law))
    columns = ["sigma_u", "radius", "radius_low", "radius_high", "radius_error", "quadrature"]
    return pd.DataFrame(rows, columns=columns).set_index("sigma_u")


def _log_norms(seed: int, sigma_u: float, g: float) -> Floats:
    """(draws, lags), log |dL/dh| of the last loss by backpropagation, over that at lag 0; mean over examples; nats."""
    found = []
    for draw in range(DRAWS):
        own, params = _network(_weights(seed, SMALL, draw), sigma_u, g)
        x = stream(seed, f"meanfield sequences {draw}").standard_normal((LENGTH, EXAMPLES, SMALL))
        log10_dh = backprop(own, params, x, np.ones((LENGTH, EXAMPLES, 1))).log10_dh[::-1]
        found.append(np.log(10.0) * (log10_dh - log10_dh[0]).mean(axis=1))
    return np.array(found)


def _slopes(norms: Mapping[Point, Floats]) -> pd.DataFrame:
    rows = []
    for (scale, g), own in norms.items():
        slopes = np.polyfit(FIT, own[:, FIT].T, 1)[0]
        error = slopes.std(ddof=1) / np.sqrt(len(slopes))
        rows.append((scale, g, slopes.mean(), error, rate_by_quadrature(g, scale)))
    columns = ["sigma_u", "g", "slope", "slope_error", "quadrature"]
    return pd.DataFrame(rows, columns=columns).set_index(["sigma_u", "g"])


# --- figures ----------------------------------------------------------------------------------------------------------


def _growth_rates(laws: pd.DataFrame, networks: pd.DataFrame) -> pd.DataFrame:
    """what ("law", or the number of units), sigma_u, g, law, and of networks rate, low, high."""
    names = {"quadrature": "law", "rate_low": "low", "rate_high": "high"}
    law = laws.reset_index().rename(columns=names).assign(what="law")
    own = networks.reset_index().rename(columns=names)
    own = own[own["sigma_u"].isin(SHOWN)].assign(what=own["units"].map("{:,} units".format))
    return pd.concat([law.drop(columns="rate"), own], ignore_index=True)[
        ["what", "sigma_u", "g", "law", "rate", "low", "high"]
    ]


def _phase_boundary(boundary: pd.DataFrame, networks: pd.DataFrame, crossings: pd.DataFrame) -> pd.DataFrame:
    """what ("law", "crossing", "network"), sigma_u, g, low, high of a crossing, the rate of a network."""
    law = boundary.reset_index().rename(columns={"quadrature": "g"}).assign(what="law")
    names = {"radius": "g", "radius_low": "low", "radius_high": "high"}
    own = (
        crossings.reset_index()
        .drop(columns=["quadrature", "radius_error"])
        .rename(columns=names)
        .assign(what="crossing")
    )
    measured = networks.loc[SMALL].reset_index().assign(what="network")
    return pd.concat([law, own, measured], ignore_index=True)[["what", "sigma_u", "g", "low", "high", "rate"]]


def _gradient_vs_lag(norms: Mapping[Point, Floats]) -> pd.DataFrame:
    """g, lag, median, low, high over draws of log10 |dL/dh|, and the law's line through the median at lag 10."""
    tables = []
    for (scale, g), own in norms.items():
        if scale == DRIVEN_AT[0][0]:
            low, median, high = np.quantile(own[:, : FIT[-1] + 10], [0.1, 0.5, 0.9], axis=0) / np.log(10.0)
            lags = np.arange(len(median))
            law = median[FIT[0]] + rate_by_quadrature(g, scale) * (lags - FIT[0]) / np.log(10.0)
            tables.append(pd.DataFrame({"g": g, "lag": lags, "median": median, "low": low, "high": high, "law": law}))
    return pd.concat(tables, ignore_index=True)


def growth_rates(table: pd.DataFrame) -> Figure:
    """Input makes gradients vanish beyond g = 1.

    Left: the growth of gradients in tanh networks of independent N(0, g^2/N) weights, against g, for four strengths of
    white input. Lines: mean field; dotted: log g, as if the network were linear. Points: the largest Lyapunov exponent
    by simulation, medians over 9 draws of the weights, of 1,000 units (filled) and of 300 (open).
    Right: the same points less the law, with 96 % intervals of the medians; bands: 0.006 and 0.02. With little input,
    networks are nearly linear below g = 1, and grow by the spectral radius of their draw, which exceeds g.
    """
    figure = canvas(2, 1)
    rates, differences = figure.subplots(1, 2)
    rates.axhline(0.0, color="0.6", linewidth=0.6, zorder=0)
    for width in (0.02, 0.006):
        differences.axhspan(-width, width, color="0.5", alpha=0.15, linewidth=0)
    for i, (scale, own) in enumerate(table.groupby("sigma_u")):
        line, colour = own[own["what"] == "law"], COLOURS[i]
        rates.plot(line["g"], line["law"], color=colour, linestyle=DASHES[i], label=rf"$\sigma_u$ = {scale:g}")
        for what, face in (("300 units", "white"), ("1,000 units", colour)):
            points = own[own["what"] == what]
            look = {"marker": MARKERS[i], "markerfacecolor": face, "color": colour, "linestyle": "", "markersize": 3.2}
            rates.plot(points["g"], points["rate"], label="_", **look)
            at = points["g"] + 0.012 * (i - 1.5)  # side by side where radii are the same
            differences.vlines(at, points["low"] - points["law"], points["high"] - points["law"], color=colour)
            differences.plot(at, points["rate"] - points["law"], **look)
    g = np.linspace(table["g"].min(), 1.6)
    rates.plot(g, np.log(g), color="black", linestyle=":", linewidth=0.8, label="_log g")
    rates.annotate(r"$\log g$", (1.45, np.log(1.45)), (-3, 2), textcoords="offset points", ha="right", fontsize=small())
    rates.set(xlabel="$g$", ylabel="growth of gradients (nats a step)", ylim=(-0.85, 0.52))
    differences.set(xlabel="$g$", ylabel="measured less law (nats a step)")
    label_ends(rates)
    return figure


def phase_boundary(table: pd.DataFrame) -> Figure:
    """Where gradients neither vanish nor explode.

    The critical g against the standard deviation of white input a unit. Line: mean field. Points: where the measured
    Lyapunov exponent of networks of 300 units crosses 0, medians over 9 draws of the weights with 96 % intervals.
    Triangles: the networks measured, pointing up where the exponent is above 0 and down where it is below, as it
    is, above the line, at sigma_u = 0 and g = 1.1: networks as small are mostly periodic there, or nearly so. Dotted:
    g = 1, where the spectral radius says that it happens.
    """
    figure = canvas(1, 1)
    ax = figure.subplots()
    law, crossing, networks = (table[table["what"] == what] for what in ("law", "crossing", "network"))
    bottom, top = 0.8, 2.6
    for edge, kind, marker, colour, at in (
        (top, networks["rate"] > 0.0, "^", COLOURS[1], ("explode", 0.35, 2.3)),
        (bottom, networks["rate"] <= 0.0, "v", COLOURS[0], ("vanish", 1.35, 1.4)),
    ):
        ax.fill_between(law["sigma_u"], law["g"], edge, color=colour, alpha=0.1, linewidth=0)
        own = networks[kind & (networks["g"] < top)]
        ax.plot(own["sigma_u"], own["g"], marker, markersize=3, markerfacecolor="white", color=colour)
        ax.text(*at[1:], at[0], fontsize=small(), ha="center", va="center", color=legible(colour))
    ax.axhline(1.0, color="0.3", linestyle=":", linewidth=0.8)
    ax.plot(law["sigma_u"], law["g"], color="black")
    spread = np.abs(crossing[["low", "high"]].to_numpy().T - crossing["g"].to_numpy())
    ax.errorbar(crossing["sigma_u"], crossing["g"], spread, fmt="o", color="black", markersize=2, capsize=2.5)
    ax.set(xlabel=r"standard deviation of the input $\sigma_u$", ylabel="$g$", xlim=(-0.06, 1.75), ylim=(bottom, top))
    return figure


def gradient_vs_lag(table: pd.DataFrame) -> Figure:
    """The gradients of driven networks follow the law.

    The norm of the last loss's state gradient against the lag, in parts of that at lag 0, by backpropagation: tanh
    networks of 300 units driven by white noise of standard deviation 0.5. Lines: median over 9 draws of the weights;
    bands: 10 % to 90 % of them. Thin black: lines with the slope of mean field through lag 10. At g = 1.2 gradients
    vanish, though the spectral radius is above 1.
    """
    figure = canvas(1, 1)
    ax = figure.subplots()
    for i, (g, own) in enumerate(table.groupby("g")):
        ax.fill_between(own["lag"], own["low"], own["high"], color=COLOURS[i], alpha=0.2, linewidth=0)
        ax.plot(own["lag"], own["median"], color=COLOURS[i], linestyle=DASHES[i], label=f"$g$ = {g:g}")
        ax.plot(own["lag"], own["law"], color="black", linewidth=0.5, label="_law")
    ax.set(xlabel="lag (steps)", ylabel=r"$\log_{10}$ of $|\partial L/\partial h|$ over that at lag 0")
    label_ends(ax)
    return figure


FIGURES = (growth_rates, phase_boundary, gradient_vs_lag)
