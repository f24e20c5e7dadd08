"""How biased truncated gradients are, and which truncation keeps the bias small.

Where the gradient of a loss decays with the lag, phi_k = |dL_s/dh_{s-k}| below M beta^k, truncation after K steps
misses no more than the sum E(K) of what lies beyond, and the bias relative to the gradient is at most
E(K) / (|g_K| - E(K)): it decays as the gradient does (Aicher, Foti & Fox 2019). From this comes an estimator of the K
that keeps the bias within a tolerance. Where gradients decay it does so on average, if not for every network; where
they grow its answer depends on the unit of the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gradscope.cells import cell
from gradscope.claims import Claim
from gradscope.drawing import COLOURS, canvas, label_ends, legible, small
from gradscope.gradients import backprop
from gradscope.paper import EXACTLY
from gradscope.recurrence import Cell, Parameters
from gradscope.scaled import Floats
from gradscope.streams import stream
from gradscope.task import Sequences
from gradscope.units import one_unit, weighted
from gradscope.workspace import Workspace

SETUP = (
    "Networks of 50 tanh units are drawn here, with white noise as input and targets; they are not the paper's LSTMs "
    "on copying and language. The two decays at g = .9, .620 of the gradient and .638 of the bias, are not in the "
    "paper: they were computed from its definitions, for inputs whose strength was not noted. The strength here, .7, "
    "is fitted to the first, so that only the second is checked. The losses are those of the last step over 16 "
    "examples, and M is the largest norm of [h, x, 1], which bounds dh/dW for tanh. The estimator is written anew from "
    "the authors' code and supplement, with sums of norms for |g_K|."
)
SOURCES = ("aicher2020adaptively",)
REPEATS = EXACTLY
SECONDS = 6.0

UNITS, INPUTS, STEPS, EXAMPLES, INPUT = 50, 16, 100, 16, 0.7
SHOWN = 0.9  # the radius for which decays are quoted
RADII = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
NETWORKS = 8  # of each radius, and of the quoted one
QUOTED = 60
TAUS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
SETTLED = 8  # lags from which on the decay is that of the long run
WEIGHTS = (0.3, 0.45, 0.6, 0.8, 0.9, 0.95)  # of a linear unit
DECAYING = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92)
GROWING = (1.01, 1.02, 1.03, 1.05, 1.07, 1.1)
SCALES = (1e-8, 1e-6, 1e4, 1e6)  # of the loss
FROM, TOLERANCE = 3, 0.05  # the lag from which the estimator takes the decay to be geometric; and its tolerance
PAPER = "Aicher, Foti & Fox (2019)"
CODE = "the authors' code, github.com/aicherc/adaptive_tbptt, adaptive_truncation.py"
BOUND = f"{PAPER}, bound on the relative bias"
derived = partial(Claim, basis="derived")
CLAIMS = (
    derived(
        "In orthogonal linear networks phi decays by the spectral radius a step, exactly",
        "geometric.beta",
        "law",
        f"{PAPER}, assumption of geometric decay",
        rtol=1e-9,
    ),
    Claim(
        "The relative bias of truncation after K steps is at most E(K) / (|g_K| - E(K))",
        "bounds.share",
        1.0,
        BOUND,
        "bound",
        relation="<=",
        rtol=1e-9,
    ),
    derived(
        "A linear unit at rest has a relative bias of beta^K, up to the sequence's end",
        "unit.bias",
        "bias_law",
        BOUND,
        rtol=1e-9,
        where="bias_law > 1e-6",
    ),
    derived(
        "For a linear unit at rest the bound is nearly attained: it is beta^K / (1 - 2 beta^K), up to the sequence's "
        "end",
        "unit.bound",
        "bound_law",
        BOUND,
        rtol=1e-9,
    ),
    derived("The bias decays as the gradient does", "decays.ratio", 1.0, BOUND, "sampled", rtol=0.06, precision=0.02),
    derived(
        "At g = .9, with inputs of a strength that is fitted to the gradient's decay, .620, the bias decays by .638",
        "decays.bias",
        ((0.9, 0.638),),
        f"computed from the definitions of {PAPER}",
        "sampled",
        atol=0.02,
        precision=0.02,
    ),
    derived(
        "Where gradients decay, the estimator returns the least K with beta^K within the tolerance, in any unit",
        "estimator.tau",
        "law",
        CODE,
        atol=1e-9,
        where="radius < 1",
    ),
    derived(
        "The K that the estimator returns for tanh networks keeps the bias within the tolerance, on average over "
        "networks",
        "chosen.bias",
        TOLERANCE,
        CODE,
        "qualitative",
        relation="<=",
    ),
    derived(
        "The bias of no single network is twice the tolerance, though that of some is above it (the factor is ours)",
        "chosen.largest",
        2.0 * TOLERANCE,
        CODE,
        "qualitative",
        relation="<",
    ),
    derived(
        "Where gradients grow, the estimator returns 1 or the longest, by the unit of the loss",
        "estimator.tau",
        "law",
        CODE,
        atol=1e-9,
        where="radius > 1",
    ),
    derived(
        "The truncation to 1 step that the estimator returns where gradients grow misses most of the gradient",
        "estimator.bias",
        0.5,
        CODE,
        "qualitative",
        relation=">",
        where="radius > 1 and tau == 1",
    ),
)


def measure(seed: int) -> dict[str, pd.DataFrame]:
    """The seed draws networks, inputs and targets."""
    runs = pd.concat([_run(radius, own) for radius in RADII for own in _own(seed, radius)], ignore_index=True)
    return {
        "geometric": _geometric(seed),
        "unit": _one_unit(),
        "bounds": _bounds(runs),
        "decays": _decays(runs),
        "chosen": _chosen(runs),
        "estimator": _estimates(seed),
        "bias": _shown(runs),
    }


# --- one network ------------------------------------------------------------------------------------------------------


def _own(seed: int, radius: float) -> range:
    """The seeds of the networks of a seed of the reproduction."""
    number = QUOTED if radius == SHOWN else NETWORKS
    return range(number * seed, number * (seed + 1))


class _Model(NamedTuple):
    """A network, its parameters, data, and the state before the first step."""

    network: Cell
    params: Parameters
    data: Sequences
    start: Floats

    def scaled(self, scale: float) -> _Model:
        """The same with its loss in other units: times `scale`."""
        params = self.params | {"W_hy": self.params["W_hy"] * scale**0.5}
        return self._replace(params=params, data=self.data._replace(y=self.data.y * scale**0.5))

    def phi(self) -> Floats:
        """phi_k, (T,): the mean over examples of |dL_T/dh_{T-k}|."""
        found = backprop(self.network, self.params, self.data.x, self.data.y, h0=self.start)
        return (10.0 ** found.log10_dh[::-1]).mean(axis=1)

    def gradient(self, truncation: str = "full") -> Floats:
        """That of all recurrent weights, of the mean over examples of the last step's loss."""
        x, y, _ = self.data
        found = backprop(self.network, self.params, x, y, h0=self.start, truncation=truncation).params
        return np.concatenate([found[name].ravel() for name in self.network.blocks()])

    def largest(self) -> float:
        """M: no |v dh_t/dW| is larger, for unit vectors v. It is max f' |[h_{t-1}, x_t, 1]|, here with f' <= 1."""
        packed = self.network.pack({name: array[None] for name, array in self.params.items()})
        start = np.broadcast_to(self.start, (1, self.data.x.shape[1], len(self.start)))
        trace = self.network.forward(packed, self.data.x[None], start, Workspace())
        return float(np.linalg.norm(trace.inputs[0, :-1], axis=-1).max())

    def biases(self, taus: Sequence[int]) -> pd.DataFrame:
        """By tau, of truncation after so many steps: its bias relative to the gradient, and the bound on that."""
        phi, largest, full = self.phi(), self.largest(), self.gradient()
        rows = []
        for tau in taus:
            own = self.gradient(f"fixed:{tau}")
            beyond = largest * float(phi[tau:].sum())
            room = float(np.linalg.norm(own)) - beyond
            bias = float(np.linalg.norm(own - full) / np.linalg.norm(full))
            rows.append((tau, bias, beyond / room if room > 0.0 else np.inf))
        return pd.DataFrame(rows, columns=["tau", "bias", "bound"])


def _drawn(radius: float, seed: int, activation: str = "tanh", ensemble: str = "gaussian") -> _Model:
    """A network with white noise."""
    network = cell("elman", hidden_size=UNITS, input_size=INPUTS, output_size=1, activation=activation)
    rng = stream(seed, "white inputs and targets")
    x, y = (rng.standard_normal((STEPS, EXAMPLES, size)) for size in (INPUTS, 1))
    params = network.init(seed, radius, ensemble, input_scale=INPUT)
    return _Model(network, params, Sequences(x, y), np.zeros(UNITS))


def _resting(w: float) -> _Model:
    """A linear unit at its fixed point: all that it adds up to its gradient points the same way."""
    x = np.ones((STEPS, 1, 1))
    return _Model(one_unit("linear"), weighted(w), Sequences(x, 0.0 * x), np.full(1, 1.0 / (1.0 - w)))


def _estimate(phi: Floats) -> int:
    """The K of the authors' estimator, of T lags: the least whose bound is within the tolerance; T if there is none.

    From lag FROM on phi is taken to go on geometrically, by the slope of all of log phi. Where that slope is not
    negative the bound is unset up to that lag, which is 1 in the unit of the loss, and infinite beyond.
    """
    lags = np.arange(len(phi))
    beta = np.exp(np.polyfit(lags, np.log(phi), 1)[0])
    if beta < 1.0:
        tail = phi[FROM] / (1.0 - beta)
        early = phi[: FROM + 1][::-1].cumsum()[::-1]
        beyond = np.concatenate([early[:-1] + tail, tail * beta ** np.arange(len(phi) - FROM)])
    else:
        beyond = np.where(lags < FROM, 1.0, np.inf)
    least = (phi.cumsum() - beyond).max()
    within = beyond[1:] <= TOLERANCE * least
    return int(within.argmax()) + 1 if least > 0.0 and within.any() else len(phi)


# --- tables -----------------------------------------------------------------------------------------------------------


def _run(radius: float, seed: int) -> pd.DataFrame:
    """Of one network, by tau: bias, bound, phi at lag tau; and the bias of the truncation that is estimated."""
    model = _drawn(radius, seed)
    phi = model.phi()
    chosen = float(model.biases([_estimate(phi)])["bias"].iloc[0])
    table = model.biases(TAUS)
    return table.assign(phi=phi[table["tau"]] / phi[0], radius=radius, network=seed, chosen=chosen)


def _geometric(seed: int) -> pd.DataFrame:
    """The decay a step of orthogonal linear networks, by their radius."""
    radii = np.array((*DECAYING, *GROWING))
    phi = np.array([_drawn(radius, seed, "linear", "orthogonal").phi() for radius in radii])
    beta = (phi[:, -1] / phi[:, 0]) ** (1.0 / (STEPS - 1))
    return pd.DataFrame({"beta": beta, "law": radii}, index=pd.Index(radii, name="radius"))


def _one_unit() -> pd.DataFrame:
    """Bias and bound of a linear unit at rest, and what they add up to: sums of powers of w."""
    table = pd.concat([_resting(w).biases(TAUS).assign(w=w) for w in WEIGHTS], ignore_index=True)
    left, end = table["w"] ** table["tau"], table["w"] ** STEPS
    bound = (left - end) / (1.0 - 2.0 * left + end)
    laws = {"bias_law": (left - end) / (1.0 - end), "bound_law": bound.where(bound > 0.0, np.inf)}
    return table.assign(**laws).set_index(["w", "tau"])


def _bounds(runs: pd.DataFrame) -> pd.DataFrame:
    """The largest bias of all networks in parts of its bound, where there is one."""
    share = runs.assign(share=runs["bias"] / runs["bound"])
    return share[np.isfinite(share["bound"])].groupby(["radius", "tau"])[["share"]].max()


def _decays(runs: pd.DataFrame) -> pd.DataFrame:
    """The decays a step of the means over networks of phi and of the bias, and their ratio, with jackknife errors."""
    settled, rows = runs[runs["tau"] >= SETTLED], []
    for radius, own in settled.groupby("radius"):
        taus, networks = own["tau"].unique(), own["network"].nunique()
        phi, bias = (own[name].to_numpy().reshape(networks, len(taus)) for name in ("phi", "bias"))
        found = _ratios(taus, phi, bias)
        without = np.array(
            [_ratios(taus, *(np.delete(one, i, axis=0) for one in (phi, bias))) for i in range(networks)]
        )
        rows.append((radius, *found, *(without.std(axis=0) * (networks - 1) ** 0.5)))
    names = ["beta", "bias", "ratio"]
    columns = ["radius", *names, *(f"{name}_error" for name in names)]
    return pd.DataFrame(rows, columns=columns).set_index("radius")


def _ratios(taus: NDArray[Any], phi: Floats, bias: Floats) -> Floats:
    """The factors a step of the means over networks (networks, taus), and that of the latter over the former."""
    beta, own = (np.exp(np.polyfit(taus, np.log(one.mean(axis=0)), 1)[0]) for one in (phi, bias))
    return np.array([beta, own, own / beta])


def _chosen(runs: pd.DataFrame) -> pd.DataFrame:
    """The bias of the truncation that the estimator returns: of networks on average, and the largest."""
    chosen = runs.drop_duplicates(["radius", "network"]).groupby("radius")["chosen"]
    return pd.DataFrame({"bias": chosen.mean(), "bias_error": chosen.sem(), "largest": chosen.max()})


def _estimates(seed: int) -> pd.DataFrame:
    """What the estimator returns for orthogonal linear networks, by radius and unit of the loss, and the bias of it."""
    rows = []
    for radius in (*DECAYING, *GROWING):
        model = _drawn(radius, seed, "linear", "orthogonal")
        for scale in SCALES:
            tau = _estimate(model.scaled(scale).phi())
            bias = float(model.biases([tau])["bias"].iloc[0])
            rows.append((radius, scale, tau, bias, _law(radius, scale)))
    return pd.DataFrame(rows, columns=["radius", "scale", "tau", "bias", "law"]).set_index(["radius", "scale"])


def _law(radius: float, scale: float) -> float:
    """The least K with radius^K within the tolerance; where gradients grow, 1 in small units, all in large ones."""
    if radius < 1.0:
        return float(np.ceil(np.log(TOLERANCE) / np.log(radius)))
    return 1.0 if scale > 1.0 else float(STEPS)


def _shown(runs: pd.DataFrame) -> pd.DataFrame:
    """At g = .9, quantiles over networks of phi, bias and bound, by tau."""
    own = runs[np.isclose(runs["radius"], SHOWN)]
    parts = []
    for name in ("phi", "bias", "bound"):
        low, median, high = (own.groupby("tau")[name].quantile(q) for q in (0.1, 0.5, 0.9))
        parts.append(pd.DataFrame({"measure": name, "low": low, "median": median, "high": high}).reset_index())
    return pd.concat(parts, ignore_index=True)


# --- figures ----------------------------------------------------------------------------------------------------------


def bias(table: pd.DataFrame) -> Figure:
    """The bias of truncation decays as the gradient does.

    Of tanh networks with 50 units and g = .9, against tau, the steps of truncation: the gradient's norm at lag tau in
    parts of that at lag 0, the bias of truncated gradients relative to the gradient, and the bound on it, where it
    exists. Medians over networks, with the range of 80 % of them.
    """
    figure = canvas(1, 1)
    figure.set_figheight(1.15 * figure.get_figheight())
    ax = figure.subplots()
    looks = {"bound": (COLOURS[1], "--"), "bias": (COLOURS[0], "-"), "phi": (COLOURS[2], "-.")}
    names = {"bound": "bound", "bias": "bias", "phi": r"gradient $\phi_\tau / \phi_0$"}
    for name, (colour, dash) in looks.items():
        own = table[(table["measure"] == name) & np.isfinite(table["high"])]
        ax.fill_between(own["tau"], own["low"], own["high"], color=colour, alpha=0.2, linewidth=0)
        ax.plot(own["tau"], own["median"], color=colour, linestyle=dash, label=names[name])
    ax.set(yscale="log", xlabel=r"truncation $\tau$ (steps)", ylabel="relative size")
    label_ends(ax)
    return figure


def estimator(table: pd.DataFrame) -> Figure:
    """The estimator sees how gradients decay, and is meaningless where they grow.

    The K that it returns for a tolerance of .05, for orthogonal linear networks over 100 steps, against their spectral
    radius, with the loss in units that differ by twelve decades. Line: the least K with radius^K within the tolerance.
    Above 1 the bias of no K short of the sequence is, but in small units of the loss it returns 1.
    """
    figure = canvas(1, 1)
    figure.set_figheight(1.15 * figure.get_figheight())
    ax = figure.subplots()
    radii = np.linspace(min(DECAYING), 0.95, 1000)
    ax.plot(radii, np.ceil(np.log(TOLERANCE) / np.log(radii)), color="black", linewidth=0.8)
    large = table["scale"] < 1.0  # units, in which the numbers are small
    ax.plot(table["radius"][large], table["tau"][large], "o", color=COLOURS[0], markerfacecolor="white", markersize=5)
    ax.plot(table["radius"][~large], table["tau"][~large], "s", color=COLOURS[1], markersize=2.5)
    ax.axvline(1.0, color="0.6", linewidth=0.6, zorder=0)
    ax.set(yscale="log", xlabel="spectral radius of $W_{hh}$", ylabel="$K$ returned (steps)")
    text: dict[str, Any] = {"fontsize": small(), "ha": "right", "va": "center"}
    ax.text(0.97, STEPS, "loss in large units", color=legible(COLOURS[0]), **text)
    ax.text(0.97, 1.0, "loss in small units", color=legible(COLOURS[1]), **text)
    return figure


FIGURES = (bias, estimator)
