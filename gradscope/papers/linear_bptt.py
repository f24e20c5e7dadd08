"""The gradient of a linear network, in powers of its weights.

Without a nonlinearity, backpropagation through time has a closed form: the gradient of a state is a sum over later
losses, each sent back by a power of W_hh (Dive into Deep Learning, section 9.7); large powers explode or vanish. The
closed form knows no recursion, so it checks backpropagation at every step and parameter; differences of the loss
check it too, but only as far as their step allows.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradscope.cells import cell
from gradscope.claims import Claim
from gradscope.drawing import COLOURS, DASHES, MARKERS, canvas, label_ends, looks_for, small
from gradscope.gradients import Gradients, backprop
from gradscope.paper import EXACTLY
from gradscope.recurrence import Cell, Parameters
from gradscope.scaled import Floats
from gradscope.streams import stream

SETUP = (
    "The network, loss and equations of the book's section, as it states them: no biases, losses at all steps, their "
    "mean; the squared error stands for its general loss. Sizes, weights and data are ours, as the section has no "
    "numbers: Gaussian weights scaled to a spectral radius, white inputs and targets. Differences are central ones in "
    "random directions of all weights together; errors are root mean squares over directions, relative to the slopes."
)
SOURCES = ("zhang2021dive", "werbos1990backpropagation")
REPEATS = EXACTLY
SECONDS = 3.0

SIZES, LENGTHS, RADII = (2, 8, 24, 48), (2, 10, 50, 150), (0.5, 0.9, 1.0, 1.1, 1.5)
INPUTS, OUTPUTS = 3, 2
REACHED = (32, 100)  # units and steps of the network whose last loss is followed back
NETWORKS = ((4, 10), (8, 20), (16, 40))  # units and steps of those whose loss is differenced
DIFFERENCED = 0.9  # their spectral radius
STEPS = 10.0 ** np.arange(-13.0, -0.5, 0.5)
DIRECTIONS = 20
TRUNCATED, ROUNDED = (1e-4, 1e-2), (1e-12, 1e-7)  # steps between which the error is that of the one or the other
NAMES = {"W_hh": "$W_{hh}$", "W_xh": "$W_{hx}$", "W_hy": "$W_{qh}$"}  # the book's
EQUAL = 1e-17  # what is drawn for no difference

STATES = "Dive into Deep Learning, section 9.7.2: dL/dh_t as a sum over powers of W_hh^T"
PARAMETERS = "Dive into Deep Learning, section 9.7.2: dL/dW as sums over time"
NUMERICS = "central differences: error of order step^2, rounding of order 1/step"
_matrix = partial(Claim, expected=0.0, source=PARAMETERS, atol=1e-12)
_numerics = partial(Claim, source=NUMERICS, basis="derived")
CLAIMS = (
    Claim("The gradient of every state is the sum over powers (norms, the step where they differ most)",
          "agreement.state", 1.0, STATES, rtol=1e-12),
    _matrix("The gradient of W_hh is the sum of dL/dh_t h_{t-1}^T", "agreement.W_hh"),
    _matrix("The gradient of W_hx is the sum of dL/dh_t x_t^T", "agreement.W_xh"),
    _matrix("The gradient of W_qh is the sum of dL/do_t h_t^T", "agreement.W_hy"),
    Claim("The last loss reaches back by (W_hh^T)^lag W_qh^T dL/do_T", "reach.norm", "law", STATES, basis="derived",
          rtol=1e-12),
    _numerics("Central differences agree best at steps about 1e-5 (log10, to three quarters of a decade)",
              "best.log10_step", -5.0, kind="qualitative", atol=0.75),
    _numerics("Central differences agree to 1e-9 at best", "best.least", 1e-9, kind="bound", relation="<="),
    _numerics("Central differences of step 1e-5 agree to 1e-9", "best.at_1e-5", 1e-9, kind="qualitative",
              relation="<="),
    _numerics("Central differences of step 1e-9 are off by the order of 1e-6 (log10, to a decade; 4e-6 in another "
              "network)",
              "best.log10_at_1e-9", -6.0, kind="qualitative", atol=1.0),
    _numerics("Central differences of step 1e-9 are more than 100 times worse than they can be", "best.loss_at_1e-9",
              100.0, kind="qualitative", relation=">="),
    _numerics("From steps of 1e-4 up, the error of central differences goes with step^2",
              "best.power_above", 2.0, kind="limit", rtol=5e-4),
    _numerics("From steps of 1e-7 down, the error of central differences goes with 1/step",
              "best.power_below", -1.0, kind="limit",
              rtol=0.1),
)  # fmt: skip


def measure(seed: int) -> dict[str, pd.DataFrame]:
    """Weights, data and directions are those of the seed."""
    differences = pd.concat([_differences(n, T, seed) for n, T in NETWORKS])
    networks = differences.groupby(level=["hidden_size", "seq_len"])
    best = pd.DataFrame({at: _summary(own.droplevel([0, 1])["error"]) for at, own in networks}).T
    return {
        "agreement": _agreement(seed),
        "reach": _reach(seed),
        "differences": differences,
        "best": best.rename_axis(index=["hidden_size", "seq_len"]),
    }


class _Problem(NamedTuple):
    """A linear network without biases, and one sequence, (T, m) inputs and (T, p) targets."""

    params: Parameters
    x: Floats
    y: Floats

    @classmethod
    def drawn(cls, n: int, T: int, radius: float, seed: int) -> _Problem:
        rng = stream(seed, f"linear network of {n} units")
        x, y = rng.standard_normal((T, INPUTS)), rng.standard_normal((T, OUTPUTS))
        return cls(_network(n).init(seed, radius, input_scale=1.0), x, y)

    def backprop(self, loss_steps: str = "all") -> Gradients:
        network = _network(len(self.params["W_hh"]))
        return backprop(network, self.params, self.x[:, None], self.y[:, None], loss_steps=loss_steps)

    def closed_form(self, loss_steps: str = "all") -> tuple[Floats, Parameters]:
        """dL/dh_t, (T, n), and the gradients of the weights: sums over powers of W_hh, without any recursion."""
        T, n = len(self.x), len(self.params["W_hh"])
        powers = _powers(self.params["W_hh"], T)
        forth, back = powers.swapaxes(1, 2).reshape(-1, n), powers.reshape(-1, n)
        driven, h = self.x @ self.params["W_xh"].T, np.zeros((T + 1, n))
        for t in range(1, T + 1):
            h[t] = driven[:t][::-1].ravel() @ forth[: t * n]
        share = np.full(T, 1.0 / T) if loss_steps == "all" else np.eye(T)[-1]
        do = 2.0 / OUTPUTS * share[:, None] * (h[1:] @ self.params["W_hy"].T - self.y)
        sent = do @ self.params["W_hy"]
        dh = np.stack([sent[t:].ravel() @ back[: (T - t) * n] for t in range(T)])
        return dh, {"W_xh": dh.T @ self.x, "W_hh": dh.T @ h[:-1], "W_hy": do.T @ h[1:]}


def _network(n: int) -> Cell:
    return cell("elman", hidden_size=n, input_size=INPUTS, output_size=OUTPUTS, activation="linear")


def _powers(W: Floats, number: int) -> Floats:
    """W^0, W^1, ..., (number, n, n)."""
    found = [np.eye(len(W))]
    for _ in range(number - 1):
        found.append(W @ found[-1])
    return np.stack(found)


def _agreement(seed: int) -> pd.DataFrame:
    """`state`, the ratio of a state gradient's norm to the law's, the one farthest from 1; of each weight matrix, the
    relative error of its gradient.
    """
    rows = {}
    for point in product(SIZES, LENGTHS, RADII):
        problem = _Problem.drawn(*point, seed)
        g, (dh, laws) = problem.backprop(), problem.closed_form()
        ratio = 10.0 ** g.log10_dh[:, 0] / np.linalg.norm(dh, axis=1)
        rows[point] = {"state": ratio[np.abs(ratio - 1.0).argmax()]}
        for name, law in laws.items():
            rows[point][name] = np.linalg.norm(g.params[name] - law) / np.linalg.norm(law)
    return pd.DataFrame(rows).T.rename_axis(index=["hidden_size", "seq_len", "spectral_radius"])


def _reach(seed: int) -> pd.DataFrame:
    """`norm`, of the last loss's gradient with respect to the state of each lag, and what its `law` says."""
    found = []
    for radius in RADII:
        problem = _Problem.drawn(*REACHED, radius, seed)
        law = np.linalg.norm(problem.closed_form("last")[0], axis=1)
        points = {"spectral_radius": radius, "lag": np.arange(len(law))[::-1]}
        found.append(pd.DataFrame(points | {"norm": 10.0 ** problem.backprop("last").log10_dh[:, 0], "law": law}))
    return pd.concat(found).set_index(["spectral_radius", "lag"]).sort_index()


def _differences(n: int, T: int, seed: int) -> pd.DataFrame:
    """`error` of central differences, for each step: root mean square over directions, relative to the slopes."""
    problem, rng = _Problem.drawn(n, T, DIFFERENCED, seed), stream(seed, f"directions for {n} units")
    gradient, errors, slopes = problem.backprop().params, np.zeros((DIRECTIONS, len(STEPS))), np.zeros(DIRECTIONS)
    for i in range(DIRECTIONS):
        drawn = {name: rng.standard_normal(gradient[name].shape) for name in NAMES}
        length = np.linalg.norm(np.concatenate([part.ravel() for part in drawn.values()]))
        direction: Parameters = {name: part / length for name, part in drawn.items()}
        slopes[i] = sum(np.vdot(gradient[name], part) for name, part in direction.items())
        errors[i] = [_difference(problem, direction, step) - slopes[i] for step in STEPS]
    points = pd.MultiIndex.from_product([[n], [T], STEPS], names=["hidden_size", "seq_len", "step"])
    relative = np.sqrt(np.mean(errors**2, axis=0) / np.mean(slopes**2))
    return pd.DataFrame({"error": relative}, index=points)


def _difference(problem: _Problem, direction: Parameters, step: float) -> float:
    """(L(W + step D) - L(W - step D)) / (2 step)."""
    ends = [
        problem.params | {name: problem.params[name] + way * part for name, part in direction.items()}
        for way in (step, -step)
    ]
    above, below = (problem._replace(params=end).backprop().loss for end in ends)
    return (above - below) / (2.0 * step)


def _summary(error: pd.Series) -> dict[str, float]:
    """Where the differences of a network are best, and the powers of the step that their error goes with."""
    step = np.log10(error.index.to_numpy())
    powers = [
        np.polyfit(step[within], np.log10(error[within]), 1)[0]
        for within in ((step > low - 0.1) & (step < high + 0.1) for low, high in np.log10((TRUNCATED, ROUNDED)))
    ]
    near, far = (error.iloc[np.abs(step - at).argmin()] for at in (-5.0, -9.0))
    return {
        "log10_step": step[error.argmin()],
        "least": error.min(),
        "at_1e-5": near,
        "log10_at_1e-9": np.log10(far),
        "loss_at_1e-9": far / error.min(),
        "power_above": powers[0],
        "power_below": powers[1],
    }


def reach(table: pd.DataFrame) -> Figure:
    """How far back the last loss reaches.

    Norm of the gradient of the last step's loss with respect to the state of each lag, in parts of that at lag 0, in a
    linear network of 32 units, for spectral radii of W_hh. Points: backpropagation through time, every tenth lag;
    lines: the closed form, the norm of (W_hh^T)^lag W_qh^T dL/do_T.
    """
    figure = canvas(1, 1)
    ax = figure.subplots()
    looks = looks_for("spectral_radius", table["spectral_radius"])
    for radius, own in table.groupby("spectral_radius"):
        shown, colour, first = own[own["lag"] % 10 == 0], looks[radius]["color"], own["law"].iloc[0]
        ax.plot(own["lag"], own["law"] / first, label=f"{radius:g}", **looks[radius])
        ax.plot(shown["lag"], shown["norm"] / first, "o", color=colour, markersize=3.5, label=f"_measured {radius:g}")
    ax.set(
        yscale="log", xlabel="lag $k$ (steps)", ylabel=r"$|\partial L/\partial h_{T-k}|\;/\;|\partial L/\partial h_T|$"
    )
    label_ends(ax, "radius")
    return figure


def agreement(table: pd.DataFrame) -> Figure:
    """Backpropagation against the closed form.

    Relative error of the gradient of each weight matrix, losses at all steps, for networks of each size, length and
    spectral radius. Dashed: what is claimed, 1e-12. What is exactly equal stands at 1e-17.
    """
    figure = canvas(3, 1)
    looks = looks_for("spectral_radius", table["spectral_radius"])
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    for ax, (name, title) in zip(axes, NAMES.items(), strict=True):
        for i, (radius, own) in enumerate(table.groupby("spectral_radius")):
            beside = own["seq_len"] * 1.12 ** (i - 2)
            ax.plot(
                beside,
                own[name].clip(lower=EQUAL),
                MARKERS[i],
                color=looks[radius]["color"],
                markersize=3.5,
                alpha=0.8,
                label=f"{radius:g}",
            )
        ax.axhline(1e-12, color="0.4", linestyle="--", linewidth=0.9)
        ax.set(title=title, xscale="log", yscale="log", xlabel="sequence length (steps)")
        ax.set_xticks(table["seq_len"].unique(), [f"{T:g}" for T in table["seq_len"].unique()])
        ax.minorticks_off()
    axes[0].set_ylabel("relative error")
    axes[0].legend(title="spectral radius", ncols=2, fontsize=small(), title_fontsize=small())
    return figure


def differences(table: pd.DataFrame) -> Figure:
    """Differences of the loss know the gradient to nine digits, at best.

    Error of central differences in random directions of all weights (root mean square, relative to the slopes), for
    three linear networks, against their step. Above about 1e-5 the next term of the series dominates, which goes with
    the square of the step (dotted); below it the rounding of the loss, which goes with its inverse.
    """
    figure = canvas(1, 1)
    ax = figure.subplots()
    for i, ((n, T), own) in enumerate(table.groupby(["hidden_size", "seq_len"])):
        look = {"color": COLOURS[i], "marker": MARKERS[i], "markersize": 3, "linestyle": DASHES[i]}
        ax.plot(own["step"], own["error"], label=f"$n$ = {n}, $T$ = {T}", **look)
    ax.set(xscale="log", yscale="log", xlabel="step", ylabel="relative error")
    for power, (low, high), name in ((2, TRUNCATED, "step$^2$"), (-1, ROUNDED, "1/step")):
        within = table[(table["step"] > 0.9 * low) & (table["step"] < 1.1 * high)]
        scale = (within["error"] / within["step"] ** power).min() / 4.0  # below all networks
        ends, middle = np.array([low, high]), np.sqrt(low * high)
        ax.plot(ends, scale * ends**power, ":", color="0.3", label=f"_{name}")
        ax.annotate(
            name,
            (middle, scale * middle**power),
            (0, -4),
            textcoords="offset points",
            ha="left" if power > 0 else "right",
            va="top",
            fontsize=small(),
        )
    label_ends(ax)
    return figure


FIGURES = (reach, agreement, differences)
