"""Gradients that grow where the spectral radius is 0.

A delay line hands each unit's state on to the next one, times alpha, and the last unit drops it. All its eigenvalues
are 0, yet gradients change by alpha a step for as many steps as there are units, and only then are gone, exactly: such
non-normal transients carry the memory of networks whose spectral radius says that they have none (Ganguli, Huh &
Sompolinsky 2008; Kerg et al. 2019).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import gammaln

from gradscope.cells import cell
from gradscope.claims import Claim
from gradscope.drawing import COLOURS, DASHES, MARKERS, canvas, label_ends
from gradscope.ensembles.orthogonal import Orthogonal
from gradscope.gradients import backprop
from gradscope.jacobian import Tied, singular_values
from gradscope.paper import EXACTLY
from gradscope.scaled import Floats
from gradscope.spectral import recurrent, spectral_radius
from gradscope.streams import stream
from gradscope.workspace import Workspace

SETUP = (
    "A linear network without input whose W_hh has alpha below the diagonal and 0 elsewhere, as in the papers, and the "
    "setting of nnRNN's figure of transients (100 units, unit vectors drawn from the sphere). The papers follow states "
    "forward, here gradients go back: norms have the same law. Figures are redrawn from the equations."
)
SOURCES = ("kerg2019nonnormal", "ganguli2008memory")
REPEATS = EXACTLY
SECONDS = 2.0
ALPHAS = (0.5, 0.8, 0.95, 1.0, 1.05, 1.1, 1.3)
SIZES = (10, 30, 100)
LAGS = {10: (0, 1, 2, 5, 8, 9), 30: (1, 5, 10, 15, 25, 29), 100: (1, 10, 25, 50, 75, 99)}
DRAWN = 1000  # unit vectors
MEANS = (
    (0.95, 100, 50),
    (1.0, 100, 50),
    (1.05, 100, 10),
    (1.05, 100, 50),
    (1.05, 100, 90),
    (1.1, 30, 20),
    (1.3, 10, 5),
)
SHOWN = (0.95, 1.0, 1.05, 1.1)
KERG = "Kerg et al. (2019), figure 1; Ganguli, Huh & Sompolinsky (2008)"
_exactly = partial(Claim, source=KERG, basis="derived", rtol=1e-9)
_sampled = partial(Claim, source=KERG, kind="sampled", basis="derived", errors=4.0)
CLAIMS = (
    Claim("The spectral radius is 0", "lines.radius", 0.0, KERG, basis="derived", atol=1e-12),
    _exactly("The root mean square of the gradient's norm, over random unit vectors, is alpha^k sqrt((N - k)/N) at lag "
             "k", "norms.rms", "law"),
    _sampled("The mean norm is alpha^k times that of N - k of the N components of a random unit vector", "means.mean",
             "law", precision=0.03),
    _sampled("The mean norm is 8.09 at N = 100, alpha = 1.05 and lag 50",
             "means.mean", (((1.05, 100, 50), 8.09),), atol=0.005,
             precision=0.01),
    _exactly("Gradients last for as many lags as there are units, and are exactly 0 from lag N on", "lines.lags",
             "units"),
    _exactly("The best direction is multiplied by alpha a step: the largest singular value of k steps is alpha^k",
             "singular-values.largest", "law"),
    _exactly("Every step loses a dimension: N - k singular values of k steps are not 0", "singular-values.rank",
             "left"),
    _exactly("In any other basis gradients are the same", "rotated.rms", "law"),
    Claim("In another basis rounding takes the eigenvalues far from 0: those of 100 units, as computed, beyond 0.5",
          "rotated.radius", 0.5, "eigenvalues of float64 matrices", "qualitative", "derived", relation=">",
          where="units == 100 and alpha >= 1"),
)  # fmt: skip


def measure(seed: int) -> dict[str, pd.DataFrame]:
    """Norms of gradients in all directions; another seed draws other directions and bases."""
    return {
        "lines": _lines(seed),
        "norms": _norms(seed),
        "means": _means(seed),
        "singular-values": _singular_values(),
        "rotated": _rotated(seed),
        "gradient-vs-lag": _gradient_vs_lag(seed),
        "eigenvalues": _eigenvalues(seed),
    }


def _basis(seed: int, units: int) -> Floats:
    """(N, N), orthonormal rows: the mean square over them is that over the sphere."""
    return Orthogonal().draw(stream(seed, f"delay-line basis {units}"), units)


def _unit_vectors(seed: int, units: int) -> Floats:
    """(B, N), uniform on the sphere."""
    drawn = stream(seed, f"delay-line directions {units}").standard_normal((DRAWN, units))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def _log10_norms(W_hh: Floats, directions: Floats, steps: int) -> Floats:
    """(T, B), log10 |dL/dh| by lag, of losses whose gradient by the last state is each of the directions (B, N)."""
    units = len(W_hh)
    own = cell("elman", hidden_size=units, input_size=1, output_size=units, activation="linear")
    params = own.init(seed=0, spectral_radius=0.0, ensemble="delay-line")
    params |= {"W_hh": W_hh, "W_xh": np.zeros((units, 1)), "W_hy": np.eye(units), "b_y": np.zeros(units)}
    y = np.zeros((steps, *directions.shape))
    y[-1] = -0.5 * units * directions  # the mean over features of (0 - y)^2 has the gradient -2 y / N
    return backprop(own, params, np.zeros((steps, len(directions), 1)), y).log10_dh[::-1]


def _line(alpha: float, units: int) -> Floats:
    return recurrent(f"delay-line:{alpha}", units, 0, 0.0)


def _log10_rms(log10: Floats) -> Floats:
    """Root mean square over examples, by lag."""
    largest = log10.max(axis=1)
    parts = 10.0 ** (2.0 * (log10.T - np.where(np.isfinite(largest), largest, 0.0)))
    with np.errstate(divide="ignore"):
        return largest + 0.5 * np.log10(parts.mean(axis=0))


def _rms_law(alpha: float, units: int, lag: Floats | int) -> Floats:
    return np.float64(alpha) ** lag * np.sqrt(np.maximum(units - np.asarray(lag), 0) / units)


def _mean_law(alpha: float, units: int, lag: int) -> float:
    """Of the square root of a Beta((N - k)/2, k/2) number, the squared norm of the components that are left."""
    left = gammaln(0.5 * (units - lag + 1)) - gammaln(0.5 * (units - lag))
    return float(alpha**lag * np.exp(left + gammaln(0.5 * units) - gammaln(0.5 * (units + 1))))


def _lines(seed: int) -> pd.DataFrame:
    rows = []
    for alpha in ALPHAS:
        for units in SIZES:
            W_hh = _line(alpha, units)
            alive = np.isfinite(_log10_norms(W_hh, _basis(seed, units), 2 * units)).any(axis=1)
            rows.append((alpha, units, spectral_radius(W_hh), float(alive.sum())))
    table = pd.DataFrame(rows, columns=["alpha", "N", "radius", "lags"])
    return table.assign(units=table["N"].astype(float)).set_index(["alpha", "N"])


def _norms(seed: int) -> pd.DataFrame:
    rows = []
    for alpha in ALPHAS:
        for units, lags in LAGS.items():
            rms = 10.0 ** _log10_rms(_log10_norms(_line(alpha, units), _basis(seed, units), units))
            rows += [(alpha, units, lag, rms[lag], _rms_law(alpha, units, lag)) for lag in lags]
    return pd.DataFrame(rows, columns=["alpha", "N", "lag", "rms", "law"]).set_index(["alpha", "N", "lag"])


def _means(seed: int) -> pd.DataFrame:
    rows = []
    for alpha, units, lag in MEANS:
        norms = 10.0 ** _log10_norms(_line(alpha, units), _unit_vectors(seed, units), lag + 1)[lag]
        error = norms.std(ddof=1) / np.sqrt(DRAWN)
        rows.append((alpha, units, lag, norms.mean(), error, _mean_law(alpha, units, lag)))
    return pd.DataFrame(rows, columns=["alpha", "N", "lag", "mean", "mean_error", "law"]).set_index(
        ["alpha", "N", "lag"]
    )


def _singular_values() -> pd.DataFrame:
    """Of products of the network's Jacobians."""
    rows = []
    for alpha in ALPHAS:
        for units in SIZES[:2]:
            own = cell("elman", hidden_size=units, input_size=1, output_size=1, activation="linear")
            params = own.init(seed=0, spectral_radius=0.0, ensemble=f"delay-line:{alpha}")
            packed = own.pack({name: array[None] for name, array in params.items()})
            trace = own.forward(packed, np.zeros((1, units, 1, 1)), None, Workspace())
            lags = [lag for lag in LAGS[units] if lag]
            logs = singular_values(Tied(own, packed, trace), lags)[0, :, 0]
            for lag, found in zip(lags, logs, strict=True):
                rank = float(np.isfinite(found).sum())
                rows.append((alpha, units, lag, 10.0 ** found.max(), alpha**lag, rank, float(units - lag)))
    columns = ["alpha", "N", "lag", "largest", "law", "rank", "left"]
    return pd.DataFrame(rows, columns=columns).set_index(["alpha", "N", "lag"])


def _in_another_basis(alpha: float, units: int, seed: int) -> Floats:
    basis = Orthogonal().draw(stream(seed, f"delay-line rotation {units}"), units)
    return basis @ _line(alpha, units) @ basis.T


def _rotated(seed: int) -> pd.DataFrame:
    rows = []
    for alpha in (0.8, 1.0, 1.05, 1.1):
        for units in SIZES:
            W_hh, lag = _in_another_basis(alpha, units, seed), units // 2
            rms = _log10_rms(_log10_norms(W_hh, _basis(seed, units), units))[lag]
            rows.append((alpha, units, lag, 10.0**rms, _rms_law(alpha, units, lag), spectral_radius(W_hh)))
    table = pd.DataFrame(rows, columns=["alpha", "units", "lag", "rms", "law", "radius"])
    return table.set_index(["alpha", "units", "lag"])


# --- figures ----------------------------------------------------------------------------------------------------------


def _gradient_vs_lag(seed: int, units: int = 100) -> pd.DataFrame:
    """alpha, lag, log10 of: rms, low and high over directions, law; all lags at which gradients are not 0."""
    tables, lags = [], np.arange(float(units))
    directions = _unit_vectors(seed, units)[:200]
    for alpha in SHOWN:
        W_hh = _line(alpha, units)
        log10 = _log10_norms(W_hh, directions, len(lags))
        low, high = np.quantile(log10, [0.1, 0.9], axis=1)
        rms = _log10_rms(_log10_norms(W_hh, _basis(seed, units), units))
        law = np.log10(_rms_law(alpha, units, lags))
        own = {"alpha": alpha, "lag": lags, "rms": rms, "low": low, "high": high, "law": law}
        tables.append(pd.DataFrame(own))
    return pd.concat(tables, ignore_index=True)


def _eigenvalues(seed: int, alpha: float = 1.05) -> pd.DataFrame:
    """units, x, y of eigenvalues as computed in another basis; and lag, log10 rms of gradients in it."""
    tables = []
    for units in SIZES:
        W_hh = _in_another_basis(alpha, units, seed)
        found = np.linalg.eigvals(W_hh)
        rms = _log10_rms(_log10_norms(W_hh, _basis(seed, units), SIZES[-1] + 40))
        tables.append(pd.DataFrame({"units": units, "x": found.real, "y": found.imag}))
        tables.append(pd.DataFrame({"units": units, "lag": np.arange(len(rms)), "rms": rms}))
    return pd.concat(tables, ignore_index=True)


def gradient_vs_lag(table: pd.DataFrame) -> Figure:
    """Gradients grow where the spectral radius is 0, and end after as many steps as there are units.

    The norm of the gradient of a linear network of 100 units whose W_hh has alpha below the diagonal, against the lag.
    Points: root mean square over all directions, by backpropagation; black: alpha^k sqrt((N - k)/N); bands: 10 % to
    90 % of random directions. From lag 100 on (dotted) it is exactly 0. Cross: the mean norm at lag 50, 8.09.
    """
    figure = canvas(1, 1)
    ax = figure.subplots()
    for i, (alpha, own) in enumerate(table.groupby("alpha")):
        ax.fill_between(own["lag"], own["low"], own["high"], color=COLOURS[i], alpha=0.2, linewidth=0)
        ax.plot(own["lag"], own["law"], color="black", linewidth=0.6, label="_law")
        look = {"color": COLOURS[i], "marker": MARKERS[i], "markevery": 7, "markersize": 3, "linestyle": ""}
        ax.plot(own["lag"], own["rms"], label=rf"$\alpha$ = {alpha:g}", **look)
    ax.plot(50, np.log10(8.09), "x", color="black", markersize=7, label="_published")
    ax.axvline(table["lag"].max() + 1, color="0.3", linestyle=":", linewidth=0.8)
    ax.set(xlabel="lag (steps)", ylabel=r"$\log_{10}|\partial L/\partial h|$")
    label_ends(ax)
    return figure


def eigenvalues(table: pd.DataFrame) -> Figure:
    """In another basis, rounding makes a spectral radius of 0 one of 0.7.

    Delay lines with alpha = 1.05 in a random orthonormal basis, in float64. Left: their eigenvalues as computed, all of
    which are 0. Right: gradients in that basis, root mean square over all directions: the law's until the lag is the
    number of units, and then what rounding leaves, which changes as the eigenvalues say; without rounding it is 0.
    """
    figure = canvas(2, 1)
    plane, lags = figure.subplots(1, 2)
    for i, (units, own) in enumerate(table.groupby("units")):
        found, norms = own[own["x"].notna()], own[own["lag"].notna()]
        look = {"color": COLOURS[i]}
        plane.plot(
            found["x"], found["y"], linestyle="", marker=MARKERS[i], markersize=2.5, label=f"{units} units", **look
        )
        lags.plot(norms["lag"], norms["rms"], linestyle=DASHES[i], label=f"{units} units", **look)
    plane.plot(0, 0, "+", color="black", markersize=6)
    plane.set(xlabel=r"Re $\lambda$", ylabel=r"Im $\lambda$", aspect="equal")
    lags.set(xlabel="lag (steps)", ylabel=r"$\log_{10}$ of rms $|\partial L/\partial h|$")
    label_ends(lags)
    return figure


FIGURES = (gradient_vs_lag, eigenvalues)
