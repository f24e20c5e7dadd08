"""Orthogonal matrices keep gradients, until a nonlinearity comes between.

An orthogonal W_hh turns gradients and leaves their norm, so that in a linear network it is the same at every lag; if
its singular values lie between 1 - m and 1 + m, so does what a step does to the norm (Arjovsky, Shah & Bengio 2016;
Vorontsov et al. 2017). With ReLU units half of the gradient is lost at every step all the same, unless W_hh is the
identity, as then units that are active stay so (Le, Jaitly & Hinton 2015).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradscope.cells import cell
from gradscope.claims import Claim
from gradscope.drawing import COLOURS, DASHES, MARKERS, canvas, label_ends
from gradscope.ensembles.orthogonal import Orthogonal
from gradscope.gradients import backprop
from gradscope.paper import EXACTLY
from gradscope.scaled import Floats
from gradscope.streams import stream
from gradscope.tasks.adding import Adding

SETUP = (
    "Networks at initialisation, without training. Those of the adding problem have 128 units, no biases, W_xh uniform "
    "on [-1, 1] and sequences of 201 steps; W_hh is uniform as Glorot & Bengio have it, the identity, or Haar "
    "orthogonal. The papers' figures of gradients were not at hand, nor all of their settings: the ratios quoted are "
    "those of one such simulation, and as one draw of the weights differs from another by three decades, no more than "
    "their order of magnitude is claimed. Singular values are uniform between their bounds or at them, singular "
    "vectors on the two sides independent or equal."
)
SOURCES = ("arjovsky2016unitary", "vorontsov2017orthogonality", "le2015simple")
REPEATS = EXACTLY
SECONDS = 2.0
LONGEST, SIZES = 1000, (1, 2, 8, 32, 128)  # steps, units
RADII = (0.5, 0.9, 0.99, 1.0, 1.01, 1.1, 2.0)
WATCHED = (1, 10, 100, 500, 999)  # lags
MARGINS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.9)
SHOWN = (0.02, 0.1, 0.5)
UNITS, STEPS, FEW, EXAMPLES, DRAWS = 32, 101, 4, 8, 4  # of networks with margins
WIDE, LAG, NETWORKS = 128, 200, 32  # of the adding problem
ARJOVSKY, VORONTSOV, LE = "Arjovsky, Shah & Bengio (2016)", "Vorontsov et al. (2017)", "Le, Jaitly & Hinton (2015)"
ONE_DRAW = "one simulation of a setting as that of {}"
IDENTITY, GLOROT, TURNED, BENT = "ReLU, identity", "tanh, Glorot", "ReLU, orthogonal", "tanh, orthogonal"
PUBLISHED = {IDENTITY: np.log10(0.74), GLOROT: -16.0, TURNED: -32.0}  # decades at lag 200
CLAIMS = (
    Claim("In an orthogonal linear network no gradient falls below its norm at lag 0 at any lag up to 999",
          "flat.lowest", 1.0, ARJOVSKY, basis="derived", rtol=1e-9),
    Claim("In an orthogonal linear network no gradient exceeds its norm at lag 0 at any lag up to 999",
          "flat.highest", 1.0, ARJOVSKY, basis="derived", rtol=1e-9),
    Claim("Times r, an orthogonal W_hh multiplies gradients by r to the lag", "scaled.log10_ratio", "law", ARJOVSKY,
          basis="derived", rtol=1e-9, atol=1e-11),
    Claim("Singular values up to 1 + m: no gradient grows faster than by log(1 + m) a step", "margins.fastest", "upper",
          VORONTSOV, "bound", relation="<=", atol=1e-12),
    Claim("Singular values down to 1 - m: none of a linear network falls faster than by log(1 - m) a step",
          "margins.slowest", "lower", VORONTSOV, "bound", relation=">=", atol=1e-12),
    Claim("The upper bound is attained", "attained.fastest", "upper", VORONTSOV, basis="derived", rtol=1e-9),
    Claim("The lower bound is attained", "attained.slowest", "lower", VORONTSOV, basis="derived", rtol=1e-9),
    Claim("In tanh networks the upper bound holds as well", "margins.fastest_tanh", "upper", VORONTSOV, "bound",
          relation="<=", atol=1e-12),
    Claim("With the identity a gradient is what the units leave that were active at every step", "identity.ratio",
          "law", LE, basis="derived", rtol=1e-9),
    Claim("Half of the identity network's units are active at every step: the ratio at lag 200 is the root of 1/2, "
          "all but the few that the markers switch off", "adding.ratio",
          ((IDENTITY, 0.5**0.5),), LE, "sampled", basis="derived", atol=0.01, errors=4.0, precision=0.03),
    Claim("The identity ReLU network's ratio at lag 200 in the adding problem is of the order of 0.74: within 0.1, "
          "which is two standard deviations of a draw", "adding.ratio", ((IDENTITY, 0.74),), ONE_DRAW.format(LE),
          "sampled", basis="derived", atol=0.1, precision=0.03),
    Claim("The ratio of a tanh network with Glorot's weights is of the order of 1e-16: within three decades, which "
          "is one standard deviation of a draw, and does not tell it from an orthogonal tanh network",
          "adding.log10_ratio", ((GLOROT, -16.0),), ONE_DRAW.format(ARJOVSKY), "qualitative", basis="derived",
          atol=3.0),
    Claim("The ratio of an orthogonal ReLU network is of the order of 1e-32: within three decades, which is one "
          "standard deviation of a draw", "adding.log10_ratio", ((TURNED, -32.0),), ONE_DRAW.format(ARJOVSKY),
          "qualitative", basis="derived", atol=3.0),
    Claim("An orthogonal ReLU network loses half of the squared norm at every step, to a decade that fluctuations "
          "over 128 units take",
          "adding.log10_ratio", ((TURNED, -100.0 * np.log10(2.0)),), ARJOVSKY, "sampled", basis="derived", atol=1.0,
          errors=4.0, precision=0.05),
    Claim("With either nonlinearity the gradients of orthogonal networks vanish", "adding.log10_ratio",
          ((TURNED, -10.0), (BENT, -10.0)), ARJOVSKY, "qualitative", basis="derived", relation="<"),
)  # fmt: skip


def measure(seed: int) -> dict[str, pd.DataFrame]:
    """Gradients of networks as they are drawn; another seed draws all weights, directions and sequences anew."""
    norms = {name: _adding(seed, activation, draw) for name, (activation, draw) in KINDS.items()}
    flat = {units: _ratios(seed, _orthogonal(seed, units), LONGEST) for units in SIZES}
    return {
        "flat": _flat(flat),
        "scaled": _scaled(seed),
        "margins": _margins(seed),
        "attained": _attained(seed),
        "identity": _identity(seed, norms[IDENTITY]),
        "adding": _at_the_end(norms),
        "adding-problem": _adding_problem(norms),
        "singular-value-bounds": _bounds(seed),
        "rounding": _rounding(flat),
    }


# --- linear and tanh networks without input ---------------------------------------------------------------------------


def _orthogonal(seed: int, units: int) -> Floats:
    return Orthogonal().draw(stream(seed, f"orthogonal-flat W_hh {units}"), units)


def _directions(seed: int, units: int) -> Floats:
    """(B, n), what gradients are at the last step, up to their size."""
    return stream(seed, f"orthogonal-flat directions {units}").standard_normal((EXAMPLES, units))


def _ratios(seed: int, W_hh: Floats, steps: int, activation: str = "linear") -> Floats:
    """(T, B), log10 of |dL/dh| over that at lag 0, by lag, in random directions."""
    return _ratios_of(_directions(seed, len(W_hh)), seed, W_hh, steps, activation)


def _ratios_of(directions: Floats, seed: int, W_hh: Floats, steps: int, activation: str = "linear") -> Floats:
    """The same in some directions (B, n).

    A tanh network starts from a random state of size 1; a linear one at 0, as states do not matter to its gradients.
    """
    units = len(W_hh)
    own = cell("elman", hidden_size=units, input_size=1, output_size=len(directions), activation=activation)
    params = {"W_hh": W_hh, "W_xh": np.zeros((units, 1)), "b_h": np.zeros(units)}
    params |= {"W_hy": directions, "b_y": np.zeros(len(directions))}
    start = stream(seed, f"orthogonal-flat h0 {units}").standard_normal(units) * (activation == "tanh")
    y = np.broadcast_to(10.0 * np.eye(len(directions)), (steps, len(directions), len(directions)))
    log10_dh = backprop(own, params, np.zeros((steps, len(directions), 1)), y, h0=start).log10_dh[::-1]
    return log10_dh - log10_dh[0]


def _flat(found: dict[int, Floats]) -> pd.DataFrame:
    rows = [(units, 10.0 ** ratios.min(), 10.0 ** ratios.max()) for units, ratios in found.items()]
    return pd.DataFrame(rows, columns=["units", "lowest", "highest"]).set_index("units")


def _scaled(seed: int) -> pd.DataFrame:
    """The ratio furthest from the law, of all directions."""
    rows = []
    for radius in RADII:
        ratios = _ratios(seed, radius * _orthogonal(seed, UNITS), LONGEST)
        for lag in WATCHED:
            law = lag * np.log10(radius)
            rows.append((radius, lag, ratios[lag][np.abs(ratios[lag] - law).argmax()], law))
    return pd.DataFrame(rows, columns=["radius", "lag", "log10_ratio", "law"]).set_index(["radius", "lag"])


def _within(seed: int, m: float, vectors: str, draw: int) -> Floats:
    """(n, n) with singular values in [1 - m, 1 + m]: half of the draws uniform, half of them at the bounds.

    Singular vectors are "independent" on both sides, or "equal": then the matrix is normal, and reaches its bounds.
    """
    rng = stream(seed, f"orthogonal-flat margins {draw}")
    left, right = Orthogonal().draw(rng, UNITS), Orthogonal().draw(rng, UNITS)
    place = rng.uniform(-1.0, 1.0, UNITS)
    place = np.sign(place) if draw % 2 else place
    return (left * (1.0 + m * place)) @ (left if vectors == "equal" else right).T


def _attained(seed: int) -> pd.DataFrame:
    """Growth, nats a step, in the directions of the largest and the smallest singular value of symmetric matrices.

    Over a few steps, as rounding turns the latter towards the former.
    """
    rows = []
    for m in MARGINS:
        symmetric = _within(seed, m, "equal", draw=1)
        _, vectors = np.linalg.eigh(symmetric)
        ratios = _ratios_of(vectors[:, [0, -1]].T, seed, symmetric, FEW + 1)
        slowest, fastest = np.log(10.0) * ratios[FEW] / FEW
        rows.append((m, slowest, fastest, np.log1p(-m), np.log1p(m)))
    return pd.DataFrame(rows, columns=["m", "slowest", "fastest", "lower", "upper"]).set_index("m")


def _margins(seed: int) -> pd.DataFrame:
    """The fastest and slowest growth, nats a step, over draws, directions and lags."""
    rows, lags = [], np.arange(1, STEPS)[:, None]
    for m in MARGINS:
        for vectors in ("independent", "equal"):
            matrices = [_within(seed, m, vectors, draw) for draw in range(DRAWS)]
            linear, tanh = (
                np.log(10.0) * np.stack([_ratios(seed, W_hh, STEPS, activation)[1:] for W_hh in matrices]) / lags
                for activation in ("linear", "tanh")
            )
            rows.append((m, vectors, linear.min(), linear.max(), tanh.max(), np.log1p(-m), np.log1p(m)))
    columns = ["m", "vectors", "slowest", "fastest", "fastest_tanh", "lower", "upper"]
    return pd.DataFrame(rows, columns=columns).set_index(["m", "vectors"])


# --- the adding problem -----------------------------------------------------------------------------------------------


def _glorot(rng: np.random.Generator, units: int) -> Floats:
    """Uniform, of variance 2 / (fan_in + fan_out) = 1/n."""
    return rng.uniform(-1.0, 1.0, (units, units)) * np.sqrt(3.0 / units)


Draw = Callable[[np.random.Generator, int], Floats]
KINDS: dict[str, tuple[str, Draw]] = {
    IDENTITY: ("relu", lambda rng, units: np.eye(units)),  # noqa: ARG005
    GLOROT: ("tanh", _glorot),
    BENT: ("tanh", Orthogonal().draw),
    TURNED: ("relu", Orthogonal().draw),
}


def _sequences(seed: int, network: int) -> tuple[Floats, Floats]:
    """Inputs and targets, of values and markers of each network's own."""
    drawn = Adding().draw(NETWORKS * seed + network, LAG + 1, EXAMPLES, "mse")
    return drawn.x, drawn.y


def _readers(seed: int, network: int) -> tuple[Floats, Floats]:
    """W_xh (n, 2), uniform on [-1, 1], and W_hy (1, n)."""
    rng = stream(seed, f"orthogonal-flat adding {network}")
    return rng.uniform(-1.0, 1.0, (WIDE, 2)), rng.standard_normal((1, WIDE)) / np.sqrt(WIDE)


def _adding(seed: int, activation: str, draw: Draw) -> Floats:
    """(networks, lags, examples), log10 of |dL/dh| over that at lag 0, of the loss at the last step."""
    own = cell("elman", hidden_size=WIDE, input_size=2, output_size=1, activation=activation)
    found = []
    for network in range(NETWORKS):
        W_xh, W_hy = _readers(seed, network)
        W_hh = draw(stream(seed, f"orthogonal-flat adding W_hh {network}"), WIDE)
        params = {"W_xh": W_xh, "W_hh": W_hh, "b_h": np.zeros(WIDE), "W_hy": W_hy, "b_y": np.zeros(1)}
        log10_dh = backprop(own, params, *_sequences(seed, network)).log10_dh[::-1]
        found.append(log10_dh - log10_dh[0])
    return np.array(found)


def _identity(seed: int, norms: Floats) -> pd.DataFrame:
    """Ratios at lag 200, means over sequences, and those by following each unit alone."""
    rows = []
    for network, own in enumerate(norms):
        (W_xh, W_hy), (x, _) = _readers(seed, network), _sequences(seed, network)
        state, alive = np.zeros((EXAMPLES, WIDE)), np.ones((EXAMPLES, WIDE), bool)
        for step, inputs in enumerate(x):
            state = np.maximum(state + inputs @ W_xh.T, 0.0)
            alive &= (state > 0.0) | (step == 0)
        law = np.sqrt((alive * W_hy**2).sum(axis=1) / (W_hy**2).sum())
        rows.append((network, (10.0 ** own[LAG]).mean(), law.mean()))
    return pd.DataFrame(rows, columns=["network", "ratio", "law"]).set_index("network")


def _at_the_end(norms: dict[str, Floats]) -> pd.DataFrame:
    """Means over networks at lag 200: of log10 of the ratio, and of the ratio."""
    rows = []
    for name, own in norms.items():
        means = own[:, LAG].mean(axis=1), (10.0 ** own[:, LAG]).mean(axis=1)
        rows.append((name, *(part for one in means for part in (one.mean(), one.std(ddof=1) / np.sqrt(NETWORKS)))))
    columns = ["network", "log10_ratio", "log10_ratio_error", "ratio", "ratio_error"]
    return pd.DataFrame(rows, columns=columns).set_index("network")


# --- figures ----------------------------------------------------------------------------------------------------------


def _adding_problem(norms: dict[str, Floats]) -> pd.DataFrame:
    """network, lag, median, low, high over networks of log10 of the ratio; the one quoted for lag 200."""
    tables = []
    for name, own in norms.items():
        low, median, high = np.quantile(own.mean(axis=2), [0.1, 0.5, 0.9], axis=0)
        lags = np.arange(LAG + 1)
        published = np.where(lags == LAG, PUBLISHED.get(name, np.nan), np.nan)
        table = {"network": name, "lag": lags, "median": median, "low": low, "high": high, "published": published}
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def _bounds(seed: int) -> pd.DataFrame:
    """m, vectors, lag, lowest and highest log10 of the ratio over draws and directions, and its bounds."""
    tables, lags = [], np.arange(STEPS)
    for m in SHOWN:
        for vectors in ("independent", "equal"):
            ratios = np.stack([_ratios(seed, _within(seed, m, vectors, draw), STEPS) for draw in range(DRAWS)])
            lower, upper = lags * np.log10(1.0 - m), lags * np.log10(1.0 + m)
            low, high = ratios.min(axis=(0, 2)), ratios.max(axis=(0, 2))
            table = {"m": m, "vectors": vectors, "lag": lags, "low": low, "high": high, "lower": lower, "upper": upper}
            tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def _rounding(found: dict[int, Floats]) -> pd.DataFrame:
    """units, lag, and how far the furthest ratio is from 1."""
    lags = np.unique(np.geomspace(1, LONGEST - 1, 80).astype(int))
    tables = [
        pd.DataFrame({"units": units, "lag": lags, "off": np.abs(10.0 ** ratios[lags] - 1.0).max(axis=1)})
        for units, ratios in found.items()
    ]
    return pd.concat(tables, ignore_index=True)


def adding_problem(table: pd.DataFrame) -> Figure:
    """Orthogonal is not enough: the nonlinearity takes its share.

    The norm of the last loss's state gradient against the lag, over that at lag 0: the adding problem, at
    initialisation, 128 units. Lines: medians over 32 draws of the weights; bands: 10 % to 90 % of them. Crosses: the
    ratios quoted for lag 200. ReLU units lose half of the squared norm a step, but not with the identity, which keeps
    those active that are; tanh units lose by their slopes, whether W_hh is orthogonal or not.
    """
    figure = canvas(1, 1)
    ax = figure.subplots()
    for i, (name, own) in enumerate(table.groupby("network", sort=False)):
        ax.fill_between(own["lag"], own["low"], own["high"], color=COLOURS[i], alpha=0.2, linewidth=0)
        ax.plot(own["lag"], own["median"], color=COLOURS[i], linestyle=DASHES[i], label=name)
        ax.plot(own["lag"], own["published"], "x", color="black", markersize=5, label="_published", zorder=3)
    ax.set(xlabel="lag (steps)", ylabel=r"$\log_{10}$ of $|\partial L/\partial h|$ over that at lag 0")
    label_ends(ax)
    return figure


def singular_value_bounds(table: pd.DataFrame) -> Figure:
    """Singular values near 1 bound what gradients can do.

    The range of |dL/dh| against the lag, over that at lag 0, in linear networks of 32 units whose W_hh has singular
    values in [1 - m, 1 + m]: all of 8 directions and 4 draws. Black: the bounds. With equal singular vectors on both
    sides (hatched) the matrix is symmetric, and gradients come to grow as fast as they may; with independent ones they
    stay well between.
    """
    figure = canvas(3, 1)
    for ax, (m, own) in zip(figure.subplots(1, 3), table.groupby("m"), strict=True):
        for i, (vectors, part) in enumerate(own.groupby("vectors")):
            look = {"hatch": "////", "alpha": 0.35} if vectors == "equal" else {"alpha": 0.7}
            ax.fill_between(part["lag"], part["low"], part["high"], color=COLOURS[i], linewidth=0, **look)
        for bound in ("lower", "upper"):
            ax.plot(part["lag"], part[bound], color="black", linewidth=0.8)
        ax.set(title=f"$m$ = {m:g}", xlabel="lag (steps)")
    figure.axes[0].set_ylabel(r"$\log_{10}$ of $|\partial L/\partial h|$" + "\nover that at lag 0")
    return figure


def rounding(table: pd.DataFrame) -> Figure:
    """Flat to the last digits over a thousand steps.

    How far gradients of orthogonal linear networks are from their norm at lag 0, in parts of it: the furthest of 8
    directions. What there is is rounding, at most some 1e-16 a step; of a single unit, not drawn, there is none.
    """
    figure = canvas(1, 1)
    ax = figure.subplots()
    for i, (units, own) in enumerate(table.groupby("units")):
        shown = own[own["off"] > 0.0]
        look = {"marker": MARKERS[i], "markersize": 2.5, "markevery": 5, "linestyle": DASHES[i], "color": COLOURS[i]}
        ax.plot(shown["lag"], shown["off"], label=f"{units} units", **look)
    ax.set(xscale="log", yscale="log", xlabel="lag (steps)", ylabel="distance from 1")
    label_ends(ax)
    return figure


FIGURES = (adding_problem, singular_value_bounds, rounding)
