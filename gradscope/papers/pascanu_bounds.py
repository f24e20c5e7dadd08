"""When gradients must vanish, and when they may explode.

A step multiplies a gradient by no more than gamma times the largest singular value of W_hh, gamma being the steepest
slope of the activation: 1 for tanh, 1/4 for sigmoid. So a largest singular value below 1 / gamma is sufficient for
gradients to vanish, and one above it necessary for them to explode (Pascanu, Mikolov & Bengio 2013). It is no more than
that: networks as the authors initialise them vanish with singular values of nearly 2. For those that do explode they
propose to clip the norm.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradscope.cells import cell
from gradscope.claims import Claim
from gradscope.clipping import clip
from gradscope.drawing import COLOURS, DASHES, MARKERS, canvas, label_ends, legible, small
from gradscope.gradients import backprop
from gradscope.paper import EXACTLY
from gradscope.recurrence import Cell, Parameters
from gradscope.scaled import Floats
from gradscope.spectral import spectral_norm, spectral_radius
from gradscope.streams import stream
from gradscope.tasks.temporal_order import TemporalOrder
from gradscope.theory import norm_bound

SETUP = (
    "The inequality is checked on networks of 50 units that are drawn here, driven by white noise. The three "
    "initialisations, the 50 units and the temporal-order problem with a softmax at its last step are those of the "
    "authors' code, where the paper's N(0, .01) means a standard deviation of .01; the factors a step are not in the "
    "paper: they were computed from that code's setup, on networks whose number was not noted. Single ones differ by "
    "more than the standard errors here: the rates of the sparse ones by a sixth. Places of the symbols are those of "
    "the paper's text. Not taken over: that code replaces a gradient that is not a number, or above 1e10, by .02 W_hh."
)
SOURCES = ("pascanu2013difficulty", "bengio1994learning")
REPEATS = EXACTLY
SECONDS = 4.0

UNITS, STEPS, EXAMPLES = 50, 100, 4
ACTIVATIONS = ("tanh", "sigmoid", "relu", "linear")
ENSEMBLES = ("gaussian", "orthogonal", "sparse:0.1")
RADII = (0.3, 0.45, 0.65, 0.9, 1.1, 1.5, 2.0, 3.0)
DRAWS = 3  # of each network
ATTAINED = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.01, 1.05, 1.1, 1.3, 1.5)
CONNECTIONS, RADIUS = 15, 0.95  # of a unit, and of all, in the last of them
NETWORKS, FEW, FROM_LAG, TO_LAG = 150, 30, 10, 50
SCALES = {"sigmoid": (0.001, 0.003, 0.01, 0.02, 0.03, 0.04, 0.05), "tanh": (0.01, 0.02, 0.04, 0.06, 0.08, 0.1)}
SLOPES = {"sigmoid": 0.25, "tanh": 1.0}  # at 0
SHOWN_LAG = 50
SIZES = (-200, -8, -2, -1, 0, 1, 2, 8, 150, 250)  # decades by which a gradient is multiplied before it is clipped
THRESHOLDS = (1e-3, 1.0, 6.0, 1e6)

PAPER = "Pascanu, Mikolov & Bengio (2013)"
CODE = "the authors' code, github.com/pascanur/trainingRNNs"
CLIPPING = f"{PAPER}, algorithm 1"
QUOTED = {"sigmoid": 0.0178, "basic tanh": 0.714, "smart tanh": 0.946}  # factors a step
inequality = partial(Claim, kind="bound")
recomputed = partial(Claim, source=f"setup of {CODE}, recomputed", basis="derived")
CLAIMS = (
    inequality(
        "No step back multiplies a gradient by more than gamma times the largest singular value",
        "bounds.step",
        0.0,
        f"{PAPER}, equation 6",
        relation="<=",
        atol=1e-12,
    ),
    inequality(
        "No gradient grows faster than by gamma times the largest singular value a step, over any number of steps",
        "bounds.lags",
        0.0,
        f"{PAPER}, equation 7",
        relation="<=",
        atol=1e-12,
    ),
    inequality(
        "A largest singular value below 1 / gamma is sufficient for gradients to vanish",
        "growth.rate",
        0.0,
        f"{PAPER}, section 2.1",
        relation="<",
        where="norm_bound < 0",
    ),
    inequality(
        "A largest singular value above 1 / gamma is necessary for gradients to explode",
        "growth.norm_bound",
        0.0,
        f"{PAPER}, section 2.1",
        relation=">",
        where="rate > 0",
    ),
    Claim(
        "The bound is attained where W_hh is orthogonal and no unit is saturated",
        "attained.factor",
        "law",
        f"{PAPER}, equation 6",
        basis="derived",
        rtol=1e-9,
    ),
    recomputed(
        "Sparse networks (50 units, 15 connections each, radius .95) have a largest singular value of 1.81 on average",
        "published.norm",
        (("smart tanh", 1.81),),
        kind="sampled",
        rtol=0.02,
        precision=0.01,
    ),
    recomputed(
        "The largest singular value of single sparse networks has a standard deviation of .13",
        "published.norm_sd",
        (("smart tanh", 0.13),),
        kind="sampled",
        rtol=0.2,
        precision=0.07,
    ),
    recomputed(
        "The bound is not tight: above 1 in the published tanh initialisations, whose gradients vanish in every draw",
        "published.largest_factor",
        1.0,
        kind="qualitative",
        relation="<",
        where="norm > 1",
    ),
    recomputed(
        "The factors a step of the published initialisations, over lags of 10 to 50",
        "published.factor",
        tuple(QUOTED.items()),
        kind="sampled",
        rtol=0.05,
        precision=0.01,
    ),
    recomputed(
        "The rates of the published initialisations, the logarithms of these factors, to a fifth",
        "published.rate",
        tuple((name, float(np.log(factor))) for name, factor in QUOTED.items()),
        kind="sampled",
        rtol=0.2,
        precision=0.025,
    ),
    Claim(
        "With small weights the factor is the spectral radius times the slope at 0, whatever their scale",
        "scales.factor",
        "law",
        f"{PAPER}, section 2.1, of linear networks",
        "sampled",
        basis="derived",
        rtol=0.05,
        precision=0.01,
    ),
    Claim(
        "A gradient whose norm is above the threshold is taken to the threshold, any other stays",
        "clipped.norm",
        "law",
        CLIPPING,
        rtol=1e-9,
    ),
    Claim(
        "Every entry is multiplied by threshold / norm, so that the direction stays",
        "clipped.apart",
        0.0,
        CLIPPING,
        atol=1e-12,
    ),
)


def measure(seed: int) -> dict[str, pd.DataFrame]:
    """The seed draws all networks and inputs."""
    growth = _growth(seed)
    published, shown = _published(seed)
    return {
        "bounds": _bounds(growth),
        "attained": _attained(),
        "published": published,
        "scales": _scales(seed),
        "clipped": _clipped(seed),
        "growth": growth,
        "published-initialisations": shown,
    }


# --- the inequality ---------------------------------------------------------------------------------------------------


def _growth(seed: int) -> pd.DataFrame:
    """How gradients of single networks grow, in nats a step, and what bounds it.

    `step` is the most that any step multiplies them by, `lags` the fastest growth over any number of steps from the
    loss on, `rate` that over all steps, each the largest of all examples; `norm_bound` the bound.
    """
    rows = []
    for activation in ACTIVATIONS:
        network = cell("elman", hidden_size=UNITS, input_size=UNITS, output_size=1, activation=activation)
        for ensemble in ENSEMBLES:
            for radius in RADII:
                for draw in range(DRAWS):
                    own = DRAWS * seed + draw
                    params = network.init(own, radius, ensemble, input_scale=0.3)
                    logs = np.log(10.0) * _white(network, params, own)
                    bound = norm_bound(activation, spectral_norm(params["W_hh"]))
                    lags = (logs[1:] - logs[0]) / np.arange(1, STEPS)[:, None]
                    step = np.diff(logs, axis=0).max()
                    rows.append((activation, ensemble, radius, draw, step, lags.max(), lags[-1].max(), bound))
    points = ["activation", "ensemble", "radius", "draw"]
    return pd.DataFrame(rows, columns=[*points, "step", "lags", "rate", "norm_bound"]).set_index(points)


def _white(network: Cell, params: Parameters, seed: int) -> Floats:
    """log10 |dL_T/dh_t|, (T, B), from lag 0 on, of a network that is driven by white noise."""
    rng = stream(seed, "white input and targets")
    x, y = rng.standard_normal((STEPS, EXAMPLES, UNITS)), rng.standard_normal((STEPS, EXAMPLES, 1))
    return backprop(network, params, x, y).log10_dh[::-1]


def _bounds(growth: pd.DataFrame) -> pd.DataFrame:
    """`step` and `lags` less the bound of the same network: the worst of the draws."""
    less = growth[["step", "lags"]].sub(growth["norm_bound"], axis=0)
    return less.groupby(["activation", "ensemble", "radius"], sort=False).max()


def _attained() -> pd.DataFrame:
    """The factor a step of orthogonal networks whose units all stay where f is steepest."""
    rows = []
    for activation in ("tanh", "sigmoid", "linear"):
        network = cell("elman", hidden_size=UNITS, input_size=1, output_size=1, activation=activation)
        rest = np.full(UNITS, 0.5 if activation == "sigmoid" else 0.0)
        for radius in ATTAINED:
            params = network.init(0, radius, "orthogonal")
            params = params | {"b_h": -params["W_hh"] @ rest}
            norms = backprop(network, params, np.zeros((STEPS, 1, 1)), np.ones((STEPS, 1, 1)), h0=rest).log10_dh[:, 0]
            factor = 10.0 ** ((norms[0] - norms[-1]) / (STEPS - 1))
            rows.append((activation, radius, factor, radius * (0.25 if activation == "sigmoid" else 1.0)))
    return pd.DataFrame(rows, columns=["activation", "radius", "factor", "law"]).set_index(["activation", "radius"])


# --- initialisations --------------------------------------------------------------------------------------------------


class _Initialisation(NamedTuple):
    """Normal weights of a standard deviation; if sparse, W_hh with few connections, at a spectral radius."""

    activation: str
    scale: float
    sparse: bool = False


PUBLISHED = {
    "sigmoid": _Initialisation("sigmoid", 0.01),
    "basic tanh": _Initialisation("tanh", 0.1),
    "smart tanh": _Initialisation("tanh", 0.01, sparse=True),
}


def _drawn(seed: int, how: _Initialisation) -> tuple[Cell, Parameters]:
    """A network, drawn as the authors' code draws it."""
    rng, (m, p) = stream(seed, "weights as published"), TemporalOrder.sizes
    W_hh: Floats = rng.normal(0.0, how.scale, (UNITS, UNITS))
    if how.sparse:
        kept = rng.permuted(np.tile(np.arange(UNITS), (UNITS, 1)), axis=1) < CONNECTIONS
        W_hh = np.where(kept, W_hh, 0.0)
        W_hh *= RADIUS / spectral_radius(W_hh)
    params: Parameters = {
        "W_xh": rng.normal(0.0, how.scale, (UNITS, m)),
        "W_hh": W_hh,
        "b_h": np.zeros(UNITS),
        "W_hy": rng.normal(0.0, how.scale, (p, UNITS)),
        "b_y": np.zeros(p),
    }
    return cell("elman", hidden_size=UNITS, input_size=m, output_size=p, activation=how.activation), params


def _reach(network: Cell, params: Parameters, seed: int) -> Floats:
    """log10 |dL_T/dh_t|, (T,), from lag 0 on, mean over examples of the temporal-order problem."""
    drawn = TemporalOrder().draw(seed, STEPS, EXAMPLES, "cross_entropy")
    return backprop(network, params, drawn.x, drawn.y, loss="cross_entropy").log10_dh[::-1].mean(axis=1)


def _rate(log10: Floats) -> float:
    """The slope against the lag, nats a step."""
    lags = np.arange(FROM_LAG, TO_LAG + 1)
    return float(np.polyfit(lags, log10[lags], 1)[0] * np.log(10.0))


def _published(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Factors a step, their rates, and largest singular values over many networks; and gradients against the lag."""
    rows, shown = [], []
    seeds = range(NETWORKS * seed, NETWORKS * (seed + 1))
    for name, how in PUBLISHED.items():
        networks = [_drawn(own, how) for own in seeds]
        reach = np.array([_reach(*drawn, own) for drawn, own in zip(networks, seeds, strict=True)])
        rates = np.array([_rate(one) for one in reach])
        norms = np.array([spectral_norm(params["W_hh"]) for _, params in networks])
        spread = norms.std(ddof=1)
        rows.append(
            {
                "initialisation": name,
                "factor": np.exp(rates.mean()),
                "largest_factor": np.exp(rates.max()),
                "rate": rates.mean(),
                "rate_error": rates.std(ddof=1) / NETWORKS**0.5,
                "norm": norms.mean(),
                "norm_error": spread / NETWORKS**0.5,
                "norm_sd": spread,
                "norm_sd_error": spread / (2.0 * (NETWORKS - 1)) ** 0.5,
            }
        )
        low, median, high = np.quantile(reach - reach[:, :1], (0.05, 0.5, 0.95), axis=0)
        bound = np.mean([norm_bound(how.activation, norm) for norm in norms]) / np.log(10.0) * np.arange(STEPS)
        curve = pd.DataFrame({"lag": np.arange(STEPS), "low": low, "median": median, "high": high, "bound": bound})
        shown.append(curve.assign(initialisation=name))
    table = pd.DataFrame(rows).set_index("initialisation")
    return table.assign(factor_error=table["factor"] * table["rate_error"]), pd.concat(shown, ignore_index=True)


def _factor(rates: Floats) -> tuple[float, float]:
    """The geometric mean of exp(rate), and its standard error."""
    factor = float(np.exp(rates.mean()))
    return factor, factor * float(rates.std(ddof=1)) / len(rates) ** 0.5


def _scales(seed: int) -> pd.DataFrame:
    """The factor a step in parts of the spectral radius, for weights of several scales; the law is the slope at 0."""
    rows = []
    for activation, scales in SCALES.items():
        for scale in scales:
            rates = []
            for own in range(FEW * seed, FEW * (seed + 1)):
                network, params = _drawn(own, _Initialisation(activation, scale))
                rates.append(_rate(_reach(network, params, own)) - np.log(spectral_radius(params["W_hh"])))
            rows.append((activation, scale, *_factor(np.array(rates)), SLOPES[activation]))
    columns = ["activation", "scale", "factor", "factor_error", "law"]
    return pd.DataFrame(rows, columns=columns).set_index(["activation", "scale"])


# --- clipping ---------------------------------------------------------------------------------------------------------


def _clipped(seed: int) -> pd.DataFrame:
    """Gradients of a network, of all sizes, clipped; norms by the parts of all entries in the largest."""
    network, params = _drawn(seed, PUBLISHED["basic tanh"])
    drawn = TemporalOrder().draw(seed, STEPS, EXAMPLES, "cross_entropy")
    own = backprop(network, params, drawn.x, drawn.y, loss="cross_entropy").params
    rows = []
    for size in SIZES:
        gradient = {name: array * 10.0**size for name, array in own.items()}
        entries = np.concatenate([array.ravel() for array in gradient.values()])
        largest = np.abs(entries).max()
        norm = largest * np.sqrt(((entries / largest) ** 2).sum())
        for threshold in THRESHOLDS:
            found = clip(gradient, threshold)
            after = np.concatenate([array.ravel() for array in found.params.values()])
            apart = np.abs(after - entries * min(1.0, threshold / norm)).max() / (largest * min(1.0, threshold / norm))
            rows.append((size, threshold, 10.0**found.log10_clipped, apart, min(norm, threshold)))
    columns = ["decades", "threshold", "norm", "apart", "law"]
    return pd.DataFrame(rows, columns=columns).set_index(["decades", "threshold"])


# --- figures ----------------------------------------------------------------------------------------------------------


def growth(table: pd.DataFrame) -> Figure:
    """A bound that holds, and says little.

    What a step multiplies gradients by, on average over 99 steps, against its bound gamma |W_hh|, for single networks
    of 50 units with white input. None lies above the diagonal. Left of 1 all must vanish; right of it they may explode,
    but saturated units, and directions other than the worst, keep most far below the bound.
    """
    figure = canvas(1, 1)
    figure.set_figheight(1.25 * figure.get_figheight())
    ax = figure.subplots()
    table = table.assign(factor=np.exp(table["rate"]), bound=np.exp(table["norm_bound"]))
    ends = np.array([table["bound"].min() / 1.25, table["bound"].max() * 1.25])
    ax.plot(ends, ends, color="black", linewidth=0.8)
    ax.fill_between([ends[0], 1.0], 1e-9, 1e9, color="0.93", linewidth=0)
    ax.axhline(1.0, color="0.6", linewidth=0.6, zorder=0)
    for activation, colour, marker in zip(ACTIVATIONS, COLOURS, MARKERS, strict=False):
        own = table[table["activation"] == activation]
        ax.plot(own["bound"], own["factor"], marker, color=colour, markersize=3.2, markeredgewidth=0, label=activation)
    lowest = table["factor"][table["factor"] > 0.0].min() / 1.5
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=(lowest, ends[1]))
    ax.set(xlabel=r"bound: $\gamma\, \|W_{hh}\|_2$", ylabel="factor a step")
    ax.legend(loc="lower right", fontsize=small(), handletextpad=0.1)
    text: dict[str, Any] = {"fontsize": small(), "color": "0.35"}
    ax.text(0.9, ends[1] / 1.5, "must vanish", ha="right", **text)
    ax.text(1.1, ends[1] / 1.5, "may explode", **text)
    return figure


def published_initialisations(table: pd.DataFrame) -> Figure:
    """Gradients at the initialisations of the paper's experiments.

    |dL/dh| against the lag, in parts of that at lag 0, before training on the temporal-order problem: medians over
    networks of 50 units, with the range of 90 % of them, on a logarithmic scale. Dotted, in the same colours: what the
    largest singular value allows. It allows the gradients of both tanh initialisations to explode; they vanish.
    """
    figure = canvas(1, 1)
    figure.set_figheight(1.25 * figure.get_figheight())
    ax = figure.subplots()
    for name, colour, dash in zip(PUBLISHED, COLOURS, DASHES, strict=False):
        own = table[(table["initialisation"] == name) & (table["lag"] <= SHOWN_LAG)]
        ax.fill_between(own["lag"], own["low"], own["high"], color=colour, alpha=0.2, linewidth=0)
        ax.plot(own["lag"], own["bound"], ":", color=colour, linewidth=0.9)
        ax.plot(own["lag"], own["median"], color=colour, linestyle=dash, label=name if name != "sigmoid" else "_")
    ax.text(18.0, -23.5, "sigmoid", fontsize=small(), color=legible(COLOURS[0]))
    ax.text(24.0, 9.5, "allowed", fontsize=small(), color=legible(COLOURS[2]))
    ax.axhline(0.0, color="0.6", linewidth=0.6, zorder=0)
    ax.set(xlim=(0, SHOWN_LAG), ylim=(-25.0, 14.0), xlabel="lag (steps)")
    ax.set_ylabel(r"$\log_{10}$ of $|\partial L/\partial h_t|$ in parts of lag 0")
    label_ends(ax)
    return figure


FIGURES = (growth, published_initialisations)
