"""`backprop`: the gradients of one network on one batch of sequences, under any truncation; and norms of gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradscope.bptt import loss_gradients
from gradscope.errors import InputError, unknown
from gradscope.losses import LOSSES, LossSteps, select_steps
from gradscope.passes import Request, passes
from gradscope.recurrence import Cell, Parameters
from gradscope.scaled import LOG10_2, Floats, Scaled, Squares
from gradscope.streams import coins
from gradscope.threshold import squares_of
from gradscope.truncations import truncation as parse_truncation
from gradscope.workspace import Workspace

REDUCTIONS = ("mean", "sum")


@dataclass(frozen=True)
class Gradients:
    """What `backprop` returns.

    Attributes
    ----------
    loss : mean over examples of the mean (or sum) over the loss steps.
    log10_dh : (T, B), log10 of |dL_b/dh_t|, the total derivative of each example's own loss; -inf for exact zeros. Of a
        stack, over the states of all layers.
    log10_states : name -> the same of each part of the state by itself: "h"; an LSTM's cell state "c"; of a stack also
        "h_l0", "h_l1", ... of each layer. Not a number, as it is not known, where it is more than some 130 decades
        below the others at that step.
    params : name -> array like the parameters; 0 or inf where float64 cannot hold an entry.
    log10_params : name -> log10 of the gradient's 2-norm, exact also where `params` is not.
    status : "ok", or "forward overflow at step N": then everything above is nan.
    """

    loss: float
    log10_dh: Floats
    params: Parameters
    log10_params: dict[str, float]
    log10_states: dict[str, Floats]
    status: str = "ok"

    @property
    def log10_dc(self) -> Floats:
        """(T, B), log10 of |dL_b/dc_t|; AttributeError if the cell has no c."""
        if "c" not in self.log10_states:
            raise AttributeError("log10_dc: the cell's state has no c")
        return self.log10_states["c"]


def backprop(
    cell: Cell,
    params: Mapping[str, ArrayLike],
    x: ArrayLike,
    y: ArrayLike,
    *,
    loss: str = "mse",
    loss_steps: LossSteps = "last",
    reduction: str = "mean",
    truncation: str = "full",
    h0: ArrayLike | None = None,
    seed: int = 0,
    mask: ArrayLike | None = None,
) -> Gradients:
    """Loss and gradients of a recurrent network, exact at any magnitude.

    Parameters
    ----------
    cell : from `gs.cell`.
    params : name -> array, shapes as in `cell.shapes()`.
    x : (T, B, m) inputs.
    y : (T, B, p) targets for mse, (T, B) integer classes for cross_entropy.
    loss : "mse" (mean over features) or "cross_entropy" (nats).
    loss_steps : "last", "all", a step, or several steps; 1-based.
    reduction : "mean" or "sum" over the loss steps.
    truncation : "full", "fixed:TAU", "chunked:TAU", "buffered:TAU", "tbptt:K1:K2"; with coins "random:TAU",
        "random-unweighted:TAU", "artbp:N0:ALPHA", "one-coin:TAU", "variable:MEAN:SD:P".
    h0 : (B, S) or (S,) initial state, zero if not given: (B, n) for most cells; for an LSTM h and c side by side,
        (B, 2n); for a stack those of its layers, the top one first.
    seed : of the coins of random truncations; the sweep's run of that seed throws the same coins.
    mask : (T, B), true where a loss counts, instead of `loss_steps`; "mean" is then over each example's own steps, so
        that all examples count alike. So sequences of different lengths are padded to one length, and the padding left
        out.

    Returns
    -------
    Gradients

    Raises
    ------
    InputError : arrays of the wrong shape or dtype or with non-finite values; unknown names; steps that do not fit.

    Examples
    --------
    >>> import gradscope as gs
    >>> cell = gs.cell("elman", hidden_size=8, input_size=1, output_size=1, activation="linear")
    >>> params = cell.init(seed=0, spectral_radius=0.5, ensemble="orthogonal")
    >>> g = gs.backprop(cell, params, x=np.ones((20, 4, 1)), y=np.zeros((20, 4, 1)))
    >>> per_step = (g.log10_dh[-1] - g.log10_dh[0]) / 19  # an orthogonal W_hh shrinks gradients by its radius
    >>> print((10 ** -per_step).round(6))
    [0.5 0.5 0.5 0.5]

    Notes
    -----
    Werbos (1990), "Backpropagation through time: what it does and how to do it"; truncations as in
    `gradscope.schedule`. Parameter gradients are those of the mean over examples, state gradients each example's own.
    """
    arrays = check_params(cell, params)
    inputs = check_array("x", x, (None, None, cell.input_size))
    T, B, _ = inputs.shape
    if loss not in tuple(LOSSES):
        raise unknown("loss", str(loss), LOSSES, where="loss")
    if reduction not in REDUCTIONS:
        raise unknown("reduction", str(reduction), REDUCTIONS, where="reduction")
    steps, weights, counts = select_steps(loss_steps, T), None, None
    if mask is not None:
        if not (isinstance(loss_steps, str) and loss_steps == "last"):
            raise InputError(f"{loss_steps!r} beside a mask", where="loss_steps", hint="leave out one of them")
        counts = _check_mask(mask, T, B)
        steps, weights = masked(counts, reduction)
    if loss == "mse":
        targets = check_array("y", _padded(y, counts), (T, B, cell.output_size))
    else:
        targets = _check_classes(y, T, B, cell.output_size)
    requests = [Request(T, steps, parse_truncation(truncation).schedule(coins([seed], T)))]
    start = None
    if h0 is not None:
        shape = (B, cell.state_size) if np.ndim(h0) != 1 else (cell.state_size,)
        start = np.broadcast_to(check_array("h0", h0, shape), (B, cell.state_size))[None]

    packed = cell.pack({name: array[None] for name, array in arrays.items()})
    workspace = Workspace()
    trace = cell.forward(packed, inputs[None], start, workspace)
    (found,) = loss_gradients(
        cell, packed, trace, targets[None], loss, requests, passes(requests), workspace, weights=weights
    )
    shared = len(steps) if reduction == "mean" and weights is None else 1
    means = {
        name: Scaled(part.mantissa / (shared * B), part.exponent)
        for name, part in by_parameter(cell, found.weights, found.readout).items()
    }
    states = {name: found.norms.of(found.row, part)[0] - np.log10(shared) for part, name in enumerate(cell.parts)}
    result = Gradients(
        loss=float(found.loss[0]) / shared,
        log10_dh=states["h"],
        params={name: mean.value()[0].T.reshape(arrays[name].shape) for name, mean in means.items()},
        log10_params={name: float(log10_joint(mean.squares())[0]) for name, mean in means.items()},
        log10_states=states,
    )
    return result if not found.overflow[0] else _missing(result, int(found.overflow[0]))


def masked(mask: NDArray[np.bool_], reduction: str) -> tuple[NDArray[np.int64], Floats]:
    """The steps at which any example's loss counts, and the weights (1, T, B) of the losses.

    >>> steps, weights = masked(np.array([[True, False], [True, True]]), "mean")
    >>> steps, weights[0].tolist()
    (array([0, 1]), [[0.5, 0.0], [0.5, 1.0]])
    """
    counts = mask.sum(axis=0) if reduction == "mean" else 1
    return np.flatnonzero(mask.any(axis=1)), (mask / counts)[None]


def overflow_status(step: int) -> str:
    """The status of a run whose states first left float64's range at `step` (0: they did not)."""
    return f"forward overflow at step {step}" if step else "ok"


def by_parameter(cell: Cell, weights: Scaled, readout: Scaled) -> dict[str, Scaled]:
    """Name -> gradient (..., columns, rows), from the recurrent weights (..., P, W) and the readout (..., n+1, p)."""
    n = cell.hidden_size
    everything = slice(None)
    blocks = {name: (weights, *block) for name, block in cell.blocks().items()}
    blocks |= {"W_hy": (readout, slice(n), everything), "b_y": (readout, slice(n, None), everything)}
    return {
        name: Scaled(whole.mantissa[..., inputs, units], whole.exponent[..., inputs])
        for name, (whole, inputs, units) in blocks.items()
    }


def log10_joint(rows: Squares) -> NDArray[np.float64]:
    """log10 of the 2-norm of all rows of each gradient, (...,), from their squares (..., rows); -inf for zero."""
    norm, exponent = rows.joint()
    with np.errstate(divide="ignore"):
        return np.log10(norm) + exponent * LOG10_2


def log10_norm(*parts: Scaled) -> NDArray[np.float64]:
    """log10 of the 2-norm of all parts (C, ...) of each of C gradients together; -inf for zero."""
    if not any(part.exponent.any() for part in parts):
        total = np.zeros(len(parts[0].mantissa))
        with np.errstate(over="ignore"):
            for part in parts:
                flat = part.mantissa.reshape(len(total), -1)
                total += np.vecdot(flat, flat)
        # Squares that are lost are far below what is left, in float32 too.
        if (total > 1e-25).all() and (total < 1e25).all():
            return 0.5 * np.log10(total)
    return log10_joint(squares_of({str(number): part for number, part in enumerate(parts)}))


class Contrast(NamedTuple):
    """What a comparison of gradients with the full ones needs of their rows.

    Attributes
    ----------
    apart : squares of the difference.
    product, exponent : inner products, `product * 2**exponent`.
    """

    apart: Squares
    product: NDArray[np.float64]
    exponent: NDArray[np.int64]

    @classmethod
    def of(cls, weights: Scaled, full: Scaled) -> Contrast:
        """The contrast of gradients (..., P, W), both renormalised."""
        product = np.vecdot(weights.mantissa, full.mantissa).astype(np.float64, copy=False)
        return cls(weights.minus(full).squares(), product, weights.exponent + full.exponent)


def compare(own: Squares, full: Squares, contrast: Contrast) -> tuple[Floats, Floats]:
    """Relative error |g - g_full| / |g_full| and cosine of gradients, each (...,), from their rows' squares.

    Equal gradients have error 0, both zero included; the cosine with a zero gradient is nan.
    """
    (size, e), (size_full, f), (rest, r) = (rows.joint() for rows in (own, full, contrast.apart))
    shift = np.minimum(contrast.exponent - (e + f)[..., None], 0)  # above are zeros, whose exponents mean nothing
    product = (contrast.product * np.exp2(shift.astype(np.float64))).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        error = np.where(rest == 0.0, 0.0, rest / size_full * np.exp2((r - f).astype(np.float64)))
        cosine = np.clip(product / (size * size_full), -1.0, 1.0)
    return error, cosine


def _missing(result: Gradients, step: int) -> Gradients:
    return Gradients(
        loss=float("nan"),
        log10_dh=np.full_like(result.log10_dh, np.nan),
        log10_states={name: np.full_like(norms, np.nan) for name, norms in result.log10_states.items()},
        params={name: np.full_like(array, np.nan) for name, array in result.params.items()},
        log10_params=dict.fromkeys(result.log10_params, float("nan")),
        status=overflow_status(step),
    )


def check_array(name: str, array: ArrayLike, shape: tuple[int | None, ...]) -> Floats:
    """`array` as float64, of the given shape (None: any length >= 1), real and finite."""
    given = _array(name, array)
    wanted = "(" + ", ".join("any" if length is None else str(length) for length in shape) + ")"
    if given.dtype.kind not in "fiu":
        raise InputError(f"dtype {given.dtype}", where=name, allowed="real numbers")
    fits = given.ndim == len(shape) and all(
        have == want if want is not None else have >= 1 for have, want in zip(given.shape, shape, strict=True)
    )
    if not fits:
        raise InputError(f"shape {given.shape}", where=name, allowed=f"shape {wanted}")
    values = given.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{np.count_nonzero(~np.isfinite(values))} value(s) not finite", where=name)
    return values


def _array(name: str, array: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(array)
    except ValueError:
        raise InputError("rows of different lengths", where=name, allowed="an array") from None


def check_params(cell: Cell, params: Mapping[str, ArrayLike]) -> Parameters:
    """Parameters as float64 arrays; InputError for any that a cell has not, lacks, or has in another shape."""
    shapes = cell.shapes()
    if not isinstance(params, Mapping):
        raise InputError(f"a {type(params).__name__}", where="params", allowed="a mapping from names to arrays")
    if set(params) != set(shapes):
        wrong = ", ".join(sorted(set(params) ^ set(shapes)))
        raise InputError(f"missing or unknown: {wrong}", where="params", allowed=", ".join(shapes))
    return {name: check_array(name, params[name], shape) for name, shape in shapes.items()}


def _padded(y: ArrayLike, mask: NDArray[np.bool_] | None) -> ArrayLike:
    """Targets with zeros where no loss counts, whatever stands there."""
    given = _array("y", y)
    if mask is None or given.shape[:2] != mask.shape or given.dtype.kind != "f":
        return given
    return np.where(mask.reshape(*mask.shape, *[1] * (given.ndim - 2)), given, 0.0)


def _check_mask(mask: ArrayLike, T: int, B: int) -> NDArray[np.bool_]:
    given = _array("mask", mask)
    if given.dtype.kind in "iuf" and np.isin(given, (0, 1)).all():
        given = given.astype(bool)
    if given.dtype.kind != "b":
        raise InputError(f"dtype {given.dtype}", where="mask", allowed="booleans, or 0 and 1")
    if given.shape != (T, B):
        raise InputError(f"shape {given.shape}", where="mask", allowed=f"shape {(T, B)}")
    if not given.any(axis=0).all():
        first = int(np.flatnonzero(~given.any(axis=0))[0])
        raise InputError(f"example {first} has no loss", where="mask", allowed="at least one step for each example")
    return given


def _check_classes(y: ArrayLike, T: int, B: int, output_size: int) -> NDArray[Any]:
    classes = _array("y", y)
    if classes.dtype.kind not in "iu":
        raise InputError(f"dtype {classes.dtype}", where="y", allowed="integer classes for cross_entropy")
    if classes.shape != (T, B):
        raise InputError(f"shape {classes.shape}", where="y", allowed=f"shape {(T, B)}")
    if classes.min() < 0 or classes.max() >= output_size:
        raise InputError(
            f"classes from {classes.min()} to {classes.max()}", where="y", allowed=f"0 to {output_size - 1}"
        )
    return classes
