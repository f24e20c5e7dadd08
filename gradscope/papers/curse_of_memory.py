"""The curse of memory: states stay bounded, gradients of weights do not.

A linear unit h_t = lambda h_{t-1} + x_t that remembers for long, lambda near 1, has no exploding gradients: that of its
state is at most 1 at every lag. Yet a small change of lambda is used at every step, and what it does to the state adds
up, so that its gradient grows without bound, and faster than the state itself (Zucchet & Orvieto 2024). Scaling inputs
by (1 - lambda^2)^(1/2) and learning log(-log lambda), as linear recurrent units do, takes that back.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradscope.bptt import loss_gradients
from gradscope.cells import cell
from gradscope.claims import Claim
from gradscope.drawing import COLOURS, DASHES, MARKERS, canvas, label_ends
from gradscope.gradients import by_parameter
from gradscope.paper import EXACTLY
from gradscope.passes import Request, passes
from gradscope.recurrence import Cell, Parameters
from gradscope.scaled import Floats
from gradscope.streams import stream
from gradscope.truncations import truncation
from gradscope.workspace import Workspace

SETUP = (
    "The paper's moments of one unit under white inputs of variance 1, known from the abstract and from secondary "
    "sources and checked here; its figures were not at hand. The unit is a diagonal cell whose lambda is real. "
    "Impulses at every lag give moments exactly, as the state is linear in its inputs: the squares of what they do add "
    "up. White noise gives them by sampling. Gradients are those of backpropagation, each example's by itself."
)
SOURCES = ("zucchet2024recurrent", "orvieto2023resurrecting")
REPEATS = EXACTLY
SECONDS = 5.0

EIGENVALUES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98)
NOISY = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
SHOWN = (0.5, 0.8, 0.9, 0.95, 0.98)
EXACT, SAMPLED = "impulses", "white noise"
LONG, ENOUGH = 18.0, 8.0  # e-folds of the memory that sequences last: what is left out is below 1e-12, and 1e-4
DRAWS, PART = 16_000, 1000  # sequences of white noise; examples at a time
LAGS, CLAIMED = 120, [1, 2, 5, 10, 20, 50, 100]  # that are drawn, at most; that claims are on

PAPER = "Zucchet & Orvieto (2024)"
ELEMENTARY = "elementary, of the paper's unit"
CLAIMS = (
    Claim(
        "The mean square of the state is 1 / (1 - lambda^2)",
        "moments.square",
        "square_law",
        PAPER,
        basis="abstract",
        rtol=1e-9,
        where=f"inputs == '{EXACT}'",
    ),
    Claim(
        "The mean square of the state's derivative by lambda is (1 + lambda^2) / (1 - lambda^2)^3",
        "moments.slope_square",
        "slope_square_law",
        PAPER,
        basis="abstract",
        rtol=1e-9,
        where=f"inputs == '{EXACT}'",
    ),
    Claim(
        "At lambda = 0.9 the mean square of the state is 5.263158",
        "moments.square",
        (((0.9, EXACT), 5.263158),),
        PAPER,
        basis="derived",
        rtol=1e-6,
    ),
    Claim(
        "At lambda = 0.9 the mean square of the state's derivative is 263.88686",
        "moments.slope_square",
        (((0.9, EXACT), 263.88686),),
        PAPER,
        basis="derived",
        rtol=1e-7,
    ),
    Claim(
        "Under white noise the mean square of the state is 1 / (1 - lambda^2)",
        "moments.square",
        "square_law",
        PAPER,
        "sampled",
        "abstract",
        errors=4,
        precision=0.0125,
        where=f"inputs == '{SAMPLED}'",
    ),
    Claim(
        "Under white noise the mean square of the derivative by lambda is (1 + lambda^2) / (1 - lambda^2)^3",
        "moments.slope_square",
        "slope_square_law",
        PAPER,
        "sampled",
        "abstract",
        errors=4,
        precision=0.0125,
        where=f"inputs == '{SAMPLED}'",
    ),
    Claim(
        "The gradient of the state k steps back is lambda^k",
        "lags.state",
        "state_law",
        ELEMENTARY,
        basis="derived",
        rtol=1e-9,
        where=f"lag in {CLAIMED}",
    ),
    Claim(
        "An input k steps back counts k lambda^(k - 1) in the derivative by lambda, most at 1/(1 - lambda) steps",
        "lags.slope",
        "slope_law",
        ELEMENTARY,
        basis="derived",
        rtol=1e-9,
        where=f"lag in {CLAIMED}",
    ),
    Claim(
        "No gradient of a state is larger than that of the last",
        "moments.largest",
        1.0,
        PAPER,
        "bound",
        "abstract",
        relation="<=",
    ),
    Claim(
        "The gradient of lambda diverges at least as fast as 1 / (4 (1 - lambda)^3), in the mean square",
        "moments.times_cube",
        0.25,
        PAPER,
        "bound",
        "derived",
        relation=">=",
        where=f"inputs == '{EXACT}'",
    ),
    Claim(
        "With scaled inputs, the gradient of log(-log lambda) has the mean square (lambda log lambda)^2 (1 + "
        "lambda^2) / (1 - lambda^2)^2",
        "moments.learnt_square",
        "learnt_square_law",
        ELEMENTARY,
        basis="derived",
        rtol=1e-9,
        where=f"inputs == '{EXACT}'",
    ),
    Claim(
        "With scaled inputs, that mean square stays below 1/2, however long the memory",
        "moments.learnt_square",
        0.5,
        ELEMENTARY,
        "bound",
        "derived",
        relation="<",
        where=f"inputs == '{EXACT}'",
    ),
)


def measure(seed: int) -> dict[str, pd.DataFrame]:
    """Moments by impulses and by white noise; what an impulse at each lag does."""
    exact = {eigenvalue: _responses(eigenvalue, _impulses(_length(eigenvalue, LONG))) for eigenvalue in EIGENVALUES}
    moments = [_moments(eigenvalue, EXACT, found, len(found)) for eigenvalue, found in exact.items()]
    for eigenvalue in NOISY:
        noise = stream(seed, f"white noise, {eigenvalue}").standard_normal((_length(eigenvalue, ENOUGH), DRAWS))
        moments.append(_moments(eigenvalue, SAMPLED, _responses(eigenvalue, noise), 1))
    by_lag = [_by_lag(eigenvalue, exact[eigenvalue]) for eigenvalue in SHOWN]
    return {"moments": _with_laws(pd.DataFrame(moments)), "lags": pd.concat(by_lag).set_index(["eigenvalue", "lag"])}


def _length(eigenvalue: float, folds: float) -> int:
    return int(np.ceil(folds / -np.log(eigenvalue)))


def _impulses(length: int) -> Floats:
    """An example for each lag, (T, B = T): 1 so many steps before the last, else 0."""
    return np.eye(length)[::-1]


def _responses(eigenvalue: float, x: Floats) -> pd.DataFrame:
    """What each example of x (T, B) leaves: the columns of `_part`."""
    return pd.concat([_part(eigenvalue, x[:, at : at + PART]) for at in range(0, x.shape[1], PART)], ignore_index=True)


def _part(eigenvalue: float, x: Floats) -> pd.DataFrame:
    """The last `state` of each example, its derivative by lambda, `slope`, and by nu where inputs are scaled, `learnt`.

    Also the `largest` gradient of a state, in parts of that of the last; nu = log(-log lambda).
    """
    T, B = x.shape
    unit, params = _units(eigenvalue)
    packed, workspace = unit.pack(params), Workspace()
    inputs = np.broadcast_to(x[..., None], (2, T, B, 1))
    trace = unit.forward(packed, inputs, None, workspace)
    last = trace.states[:, -1, :, :1].copy()
    y = np.broadcast_to(last[:, None] - 0.5, (2, T, B, 1))  # so that the slope of the loss is 1
    request = [Request(T, np.array([T - 1]), truncation("full").schedule(np.zeros((1, T))))]
    (found,) = loss_gradients(unit, packed, trace, y, "mse", request, passes(request), workspace, groups=B)
    plain, scaled = by_parameter(unit, found.weights_by_group, found.readout_by_group)["nu_log"].value()[..., 0, 0]
    norms = found.norms.of(found.row)[0]
    return pd.DataFrame(
        {
            "state": last[0, :, 0],
            "slope": plain / (eigenvalue * np.log(eigenvalue)),  # by dlambda / dnu
            "learnt": scaled,
            "largest": 10.0 ** (norms - norms[-1]).max(axis=0),
        }
    )


def _units(eigenvalue: float) -> tuple[Cell, Parameters]:
    """Two diagonal units with the same real lambda, side by side: inputs as they are, and scaled."""
    unit = cell("diagonal", hidden_size=2, input_size=1, output_size=1)
    both = {
        "nu_log": np.log(-np.log([eigenvalue])),
        "theta_log": np.array([-40.0]),
        "W_xh": np.array([[1.0], [0.0]]),
        "W_hy": np.array([[1.0, 0.0]]),
        "b_y": np.zeros(1),
    }
    gamma_log = np.array([[0.0], [0.5 * np.log1p(-(eigenvalue**2))]])
    return unit, {name: np.stack([array] * 2) for name, array in both.items()} | {"gamma_log": gamma_log}


def _moments(eigenvalue: float, inputs: str, found: pd.DataFrame, variance: float) -> dict[str, object]:
    """Mean squares of what examples leave, whose inputs have this `variance`, with their standard errors.

    Those of one impulse for each lag, each sqrt(T) times as large, have the moments of white noise.
    """
    squares = variance * found[["state", "slope", "learnt"]] ** 2
    squares.columns = pd.Index(["square", "slope_square", "learnt_square"])
    errors = squares.sem() if inputs == SAMPLED else 0.0 * squares.mean()
    row = {"eigenvalue": eigenvalue, "inputs": inputs, "largest": found["largest"].max()}
    return row | squares.mean().to_dict() | errors.add_suffix("_error").to_dict()


def _with_laws(moments: pd.DataFrame) -> pd.DataFrame:
    r = moments["eigenvalue"]
    laws = {
        "square_law": 1.0 / (1.0 - r**2),
        "slope_square_law": (1.0 + r**2) / (1.0 - r**2) ** 3,
        "learnt_square_law": (r * np.log(r)) ** 2 * (1.0 + r**2) / (1.0 - r**2) ** 2,
        "times_cube": moments["slope_square"] * (1.0 - r) ** 3,
    }
    return moments.assign(**laws).set_index(["eigenvalue", "inputs"])


def _by_lag(eigenvalue: float, found: pd.DataFrame) -> pd.DataFrame:
    """What an input at each lag does to the last state, which is the gradient of the state there, and to its slope."""
    lag = np.arange(min(LAGS, len(found)))
    own = found.loc[lag, ["state", "slope"]]
    laws = {"state_law": eigenvalue**lag, "slope_law": lag * eigenvalue ** (lag - 1.0)}
    return own.assign(eigenvalue=eigenvalue, lag=lag, **laws)


WORDS = {
    "slope_square": r"$E(\partial h/\partial\lambda)^2$",
    "square": r"$E\,h^2$",
    "learnt_square": r"$E(\partial h/\partial\nu)^2$, scaled inputs",
}


def moments(table: pd.DataFrame) -> Figure:
    """The longer a unit remembers, the faster the gradient of its weight grows.

    Mean squares of the state, of its derivative by lambda, and, with scaled inputs, by nu = log(-log lambda), which is
    learnt in its place, under white inputs against 1 - lambda; crosses: the largest gradient of any state, in parts of
    that of the last. Black: laws; hollow: measured exactly, by impulses; filled, with bars of 4 standard errors: 16,000
    sequences of white noise.
    """
    figure = canvas(1, 1)
    ax = figure.subplots()
    exact, noisy = (table[table["inputs"] == inputs].sort_values("eigenvalue") for inputs in (EXACT, SAMPLED))
    for (name, label), colour, marker, dash in zip(WORDS.items(), COLOURS, MARKERS, DASHES, strict=False):
        look = {"color": colour, "linestyle": ""}
        ax.plot(1.0 - exact["eigenvalue"], exact[f"{name}_law"], color="black", linewidth=0.8, linestyle=dash)
        ax.plot(1.0 - exact["eigenvalue"], exact[name], marker, fillstyle="none", markersize=5, label=label, **look)
        bars = 4.0 * noisy[f"{name}_error"]
        ax.errorbar(1.0 - noisy["eigenvalue"], noisy[name], bars, fmt=marker, color=colour, markersize=2)
    ax.plot(
        1.0 - exact["eigenvalue"],
        exact["largest"],
        "x",
        color="0.35",
        markersize=3,
        label=r"largest $|\partial h_T / \partial h_t|$",
    )
    ax.set(xscale="log", yscale="log", xlabel=r"$1 - \lambda$", ylabel="mean square")
    ax.invert_xaxis()
    label_ends(ax)
    return figure


def lags(table: pd.DataFrame) -> Figure:
    """What an input a number of steps back does to the state, and to its derivative by lambda.

    Left: to the state, which is also the gradient of the state at that lag: lambda^k, which only falls off. Right: to
    the derivative: k lambda^(k - 1), which grows at first and is largest about 1 / (1 - lambda) steps back (dots), and
    the larger the longer the memory. Coloured: measured, by an impulse at each lag; black: laws.
    """
    figure = canvas(2, 1)
    names = {"state": "in the state $h$", "slope": r"in $\partial h/\partial\lambda$"}
    for ax, (name, title) in zip(figure.subplots(1, 2), names.items(), strict=True):
        for (eigenvalue, own), colour, dash in zip(table.groupby("eigenvalue"), COLOURS, DASHES, strict=False):
            look = {"color": colour, "linestyle": dash, "linewidth": 1.8}
            ax.plot(own["lag"], own[name], label=f"{eigenvalue:g}", **look)
            ax.plot(own["lag"], own[f"{name}_law"], color="black", linewidth=0.5, label="_law")
            if name == "slope":
                top = own.loc[own[name].idxmax()]
                ax.plot(top["lag"], top[name], "o", color=colour, markersize=4, label="_top")
        ax.set(xlabel="steps back $k$", title=title)
    label_ends(figure.axes[-1], r"$\lambda$")
    return figure


FIGURES = (moments, lags)
