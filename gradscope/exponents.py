"""`lyapunov`: the Lyapunov exponents of one network on given inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from gradscope.errors import InputError, at_least
from gradscope.gradients import check_array, check_params, overflow_status
from gradscope.jacobian import Growth, Tied, Untied, kaplan_yorke, spectrum
from gradscope.recurrence import Cell, first_of
from gradscope.workspace import Workspace

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Lyapunov:
    """What `lyapunov` returns. Rates are in nats a step, in descending order.

    Attributes
    ----------
    exponents : (k,), the mean over examples; -inf where a dimension is lost for good in any of them.
    half_width : (k,), half the width of a 95 % interval; nan where the exponent is not finite or steps are too few.
    finite_time : (B, k), of each example by itself.
    steps, running : (M,) and (M, k), the exponents as found from so many steps, the last of which are `exponents`.
    kaplan_yorke : the dimension of the attractor; nan if k exponents are too few to tell.
    status : "ok", or "forward overflow at step N": then all rates are nan.
    """

    exponents: NDArray[np.float64]
    half_width: NDArray[np.float64]
    finite_time: NDArray[np.float64]
    steps: NDArray[np.int64]
    running: NDArray[np.float64]
    kaplan_yorke: float
    status: str = "ok"


def lyapunov(
    cell: Cell,
    params: Mapping[str, ArrayLike],
    x: ArrayLike,
    k: int | None = None,
    *,
    h0: ArrayLike | None = None,
    washout: int | None = None,
    warmup: int | None = None,
    tied: bool = True,
    ensemble: str = "gaussian",
    scale: float | None = None,
    seed: int = 0,
) -> Lyapunov:
    """The Lyapunov exponents of a recurrent network: the growth of gradients, and of small changes of its state.

    Parameters
    ----------
    cell : from `gs.cell`.
    params : name -> array, shapes as in `cell.shapes()`.
    x : (T, B, m) inputs. Zeros for a network that runs by itself.
    k : how many exponents, the leading ones; all if not given.
    h0 : (B, S) or (S,) initial state; zero if not given.
    washout : first steps that are left out, while states settle; a tenth of all if not given.
    warmup : last steps that are left out, while directions settle, which go back in time; a tenth if not given.
    tied : whether all steps have the same W_hh. If not, each has a draw of its own, for cells with one W_hh (n, n).
    ensemble, scale : of these draws: `scale` is the nominal spectral radius. No draw is rescaled to a realised one, so
        "gaussian" entries are N(0, scale^2 / n), as the law of `gradscope.theory.gaussian_product` has them.
    seed : of these draws, and of the directions at the beginning.

    Returns
    -------
    Lyapunov

    Raises
    ------
    InputError : arrays of the wrong shape or dtype or with non-finite values; more exponents than the state has
        numbers; too few steps.

    Notes
    -----
    By QR factorisation of adjoints on their way back in time (`gradscope.jacobian`), which costs k rows a step. Rates
    are exact at any magnitude; dimensions that are lost, by inactive ReLU units or a W_hh without full rank, have -inf.

    The interval is Student's t, on the wider of two standard errors: over blocks of time (batch means, of the mean over
    examples; as long as 8 blocks allow, long enough for neighbours to be uncorrelated), and with several examples over
    these, which are independent if their inputs are. It tells of other inputs and times for the same weights (tied), or
    of other draws of them (not tied); not of what all times have in common, as one attractor out of several.

    Examples
    --------
    >>> import gradscope as gs
    >>> cell = gs.cell("elman", hidden_size=4, input_size=1, output_size=1, activation="linear")
    >>> params = cell.init(seed=0, spectral_radius=0.5, ensemble="orthogonal")  # halves all changes at every step
    >>> found = gs.lyapunov(cell, params, x=np.ones((100, 1, 1)))
    >>> print(np.exp(found.exponents).round(6))
    [0.5 0.5 0.5 0.5]
    """
    arrays = {name: array[None] for name, array in check_params(cell, params).items()}
    inputs = check_array("x", x, (None, None, cell.input_size))
    T, B, _ = inputs.shape
    k = cell.state_size if k is None else k
    _check_count(cell, k)
    washout, warmup = (T // 10 if steps is None else steps for steps in (washout, warmup))
    _check_steps(T, washout, warmup)
    start = None
    if h0 is not None:
        shape = (B, cell.state_size) if np.ndim(h0) != 1 else (cell.state_size,)
        start = np.broadcast_to(check_array("h0", h0, shape), (B, cell.state_size))[None]

    steps: Tied | Untied
    if tied:
        packed = cell.pack(arrays)
        steps = Tied(cell, packed, cell.forward(packed, inputs[None], start, Workspace()))
    else:
        if scale is None:
            raise InputError("is needed where W_hh is not tied", where="scale", allowed="a number >= 0")
        steps = Untied(cell, arrays, inputs[None], start, ensemble, (scale,), (seed,))
    growth = spectrum(steps, k, washout, warmup, seed)
    with np.errstate(invalid="ignore"):
        running = growth.logs[0].mean(axis=1) / growth.steps[:, None]
    return Lyapunov(
        exponents=running[-1],
        half_width=_half_width(growth),
        finite_time=growth.rates[0],
        steps=growth.steps,
        running=running,
        kaplan_yorke=kaplan_yorke(running[-1], cell.state_size),
        status=overflow_status(int(first_of(steps.overflow, axis=1)[0])),
    )


def _half_width(growth: Growth) -> NDArray[np.float64]:
    """(k,), by blocks of time or by examples, whichever is wider."""
    error, freedom = (found[0] for found in growth.error())
    quantile = 0.5 + 0.5 * _CONFIDENCE
    widest = error * stats.t.ppf(quantile, freedom)
    each = growth.rates[0]
    if (B := len(each)) > 1:
        finite = np.isfinite(each).all(axis=0)
        spread = np.where(finite, each, 0.0).std(axis=0, ddof=1) / np.sqrt(B)
        told = finite & (spread > 0.0)  # examples that are all the same say nothing of others
        widest = np.fmax(widest, np.where(told, spread, np.nan) * stats.t.ppf(quantile, B - 1))
    return widest


def _check_count(cell: Cell, k: int) -> None:
    whole = isinstance(k, int | np.integer) and not isinstance(k, bool)
    if whole and k > cell.state_size:
        raise InputError(f"{k} exponents of a state of {cell.state_size}", where="k", hint="more exponents than units")
    if not whole or k < 1:
        raise InputError(f"{k!r}", where="k", allowed=f"a whole number from 1 to {cell.state_size}")


def _check_steps(seq_len: int, washout: int, warmup: int) -> None:
    for name, steps in {"washout": washout, "warmup": warmup}.items():
        if not isinstance(steps, int | np.integer) or isinstance(steps, bool):
            raise InputError(f"{steps!r}", where=name, allowed="a whole number >= 0")
        at_least(0, **{name: steps})
    if washout + warmup >= seq_len:
        raise InputError(
            f"{seq_len} step(s), of which washout and warmup leave out {washout + warmup}",
            where="x",
            allowed=f"at least {washout + warmup + 1} steps",
        )
