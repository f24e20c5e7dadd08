"""What a recurrent cell is to the rest of gradscope: a forward pass that leaves a trace, and two local backward maps.

Shape letters, here and everywhere: C runs in a batch, T time, B examples, n hidden, m input, p output; S the length of
the state (n for most cells), D that of the delta, mostly dL/d(pre-activation), L of the local factors; P the columns of
what weights are multiplied with, [h_{t-1} | x_t | 1] for the Elman network, so that W_hh, W_xh and b_h are one product,
and W those of the weights' gradient (P, W); K adjoints that go back side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gradscope.errors import InputError
from gradscope.scaled import Floats, Scaled
from gradscope.workspace import Workspace

if TYPE_CHECKING:
    from gradscope.spectral import UnitDraw

Parameters = dict[str, Floats]


BLOCK = 5  # steps worked on while they are in the cache
BLOCK_NUMBERS = 2**14  # or as many more of them as have so many numbers
LARGEST = {"float64": 19, "float32": 6}  # log10 of weights that rows of ordinary size can pass through, a few at a step
SMALL_PRODUCT = 1_000_000  # BLAS libraries have faster kernels for products of fewer multiplications than this


class Packed(NamedTuple):
    """The parameters of C runs, laid out for the products.

    Attributes
    ----------
    forward, back : what the cell's forward pass and its way back need, each with a leading run axis.
    back_exponent : (C,), of what `Cell.carry` gives; not 0 only for an Elman network whose weights are not of ordinary
        size (see `gradscope.scaled.unit_scaled`).
    W_hy, b_y : (C, p, n) and (C, p), the readout.
    layers : of a stack, those of its layers, the top one first.
    """

    forward: tuple[Floats, ...]
    back: tuple[Floats, ...]
    back_exponent: NDArray[np.int64]
    W_hy: Floats
    b_y: Floats
    layers: tuple[Packed, ...] = ()

    def of(self, runs: slice | NDArray[np.int64] | int) -> Packed:
        """The parameters of some of the runs; of one, without the run axis, if it is a number."""
        forward, back = (tuple(one[runs] for one in some) for some in (self.forward, self.back))
        layers = tuple(layer.of(runs) for layer in self.layers)
        return Packed(forward, back, self.back_exponent[runs], self.W_hy[runs], self.b_y[runs], layers)

    @property
    def all_back(self) -> tuple[Floats, ...]:
        """Those of the layers too."""
        return (*self.back, *(one for layer in self.layers for one in layer.all_back))


@dataclass(frozen=True)
class Trace:
    """What the forward pass leaves for the backward pass.

    Attributes
    ----------
    inputs : (C, T+1, B, P), what weights are multiplied with at t = 1 .. T+1 (the last without x). The first n columns
        are h_{t-1}, that part of the state which is read out.
    hidden_size : n
    overflow : (C, B), the first step at which a state was not finite; 0 where all are. From that step on, the stored
        states are zero, so that what is computed from them stays finite; it must not be used.
    wide : whether inputs are so large that products need exponents of their own.
    extra : what else the cell's local factors come from, each (C, T or T+1, B, ...).
    layers : of a stack, those of its layers, the top first.
    """

    inputs: Floats
    hidden_size: int
    overflow: NDArray[np.int64]
    wide: bool
    extra: tuple[Floats, ...] = ()
    layers: tuple[Trace, ...] = ()

    @property
    def extent(self) -> tuple[int, int, int]:
        """C, T, B."""
        C, later, B, _ = self.inputs.shape
        return C, later - 1, B

    def of(self, runs: slice | NDArray[np.int64]) -> Trace:
        """The trace of some of the runs."""
        return replace(
            self,
            inputs=self.inputs[runs],
            overflow=self.overflow[runs],
            extra=tuple(one[runs] for one in self.extra),
            layers=tuple(layer.of(runs) for layer in self.layers),
        )

    def until(self, seq_len: int) -> Trace:
        """The trace of the first steps."""
        return replace(
            self,
            inputs=self.inputs[:, : seq_len + 1],
            overflow=np.where(self.overflow <= seq_len, self.overflow, 0),
            extra=tuple(one[:, : seq_len + 1] for one in self.extra),
            layers=tuple(layer.until(seq_len) for layer in self.layers),
        )

    @property
    def states(self) -> Floats:
        """h_1 .. h_T, (C, T, B, n)."""
        return self.inputs[:, 1:, :, : self.hidden_size]


def multiply(rows: Floats, weights: Floats, out: Floats) -> None:
    """Write rows (C, K, B, D) times weights (C, D, S) to `out` (C, K, B, S), which must not overlap the rows.

    Small products are quickest one by one, where they lie; large ones as one, which needs the rows side by side. A
    single row (B, D) of a single network (D, S) takes `dot`, which has less to do than `matmul` before it calls BLAS.
    """
    if rows.ndim == 2:
        (rows.dot if out.flags.c_contiguous else partial(np.matmul, rows))(weights, out)
        return
    C, K, B, D = rows.shape
    if B * weights[0].size <= SMALL_PRODUCT:
        np.matmul(rows, weights[:, None], out=out)
    else:
        np.matmul(rows.reshape(C, K * B, D), weights, out=out.reshape(C, K * B, -1, copy=False))


def outer_sum(inputs: Floats, rows: Scaled, wide: bool) -> Scaled:
    """inputs^T rows, (C, K, P, D), for inputs (C, R, P), `wide` or not, and rows (C, K, R, D)."""
    mantissa = rows.mantissa
    exponent = np.zeros((*mantissa.shape[:2], inputs.shape[-1]), np.int64)
    if rows.exponent.any():
        if (rows.exponent != rows.exponent[:, :, :1]).any():
            near, far = rows.split(axis=2)
            if far is not None:
                total = outer_sum(inputs, near, wide)
                total.add(outer_sum(inputs, far, wide))
                return total
            top, mantissa = rows.aligned(axis=2)
        else:
            top = rows.exponent[:, :, :1]
        exponent += top
    if wide:
        _, shift = np.frexp(np.abs(inputs).max(axis=1, keepdims=True))
        inputs = np.ldexp(inputs, -shift)
        exponent += shift
    return Scaled(inputs.swapaxes(1, 2)[:, None] @ mantissa, exponent)


def by_group(array: NDArray[Any], groups: int, axis: int) -> NDArray[Any]:
    """(C, ..., B, ...), with the examples on `axis`, as (C, G, ..., B/G, ...): the same array for one group."""
    if groups == 1:
        return array[:, None]
    C, *shape = array.shape
    shape[axis - 1 : axis] = [groups, shape[axis - 1] // groups]
    return np.moveaxis(array.reshape(C, *shape), axis, 1)


def length(part: slice) -> int:
    """How many rows or columns a slice with an end holds."""
    return int(part.stop - (part.start or 0))


def check_sizes(cell: Cell) -> None:
    """Raise InputError for a size of a cell that is no whole number >= 1."""
    for name in ("hidden_size", "input_size", "output_size"):
        size = getattr(cell, name)
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise InputError(f"{size!r}", where=name, allowed="a whole number >= 1")


def plain(weights: Floats, name: str = "W_hh") -> Floats:
    """Weights of a cell whose state is also carried on unmixed; InputError if they are very large.

    What is carried on would need an exponent of its own beside what passes through them.
    """
    digits = LARGEST[weights.dtype.name]
    if 10.0**digits < (largest := np.abs(weights).max()) < np.inf:  # infinite ones leave no finite state
        raise InputError(f"entries up to {largest:.3g}", where=name, allowed=f"up to 1e{digits} in {weights.dtype}")
    return np.ascontiguousarray(weights)


def settle(inputs: Floats, hidden_size: int, largest: float, *others: Floats) -> tuple[NDArray[np.int64], bool]:
    """Find the first non-finite step of each example, (C, B), zero its states from there on, and say whether values are
    wide.

    `largest` is the largest magnitude among the inputs; not a number, or infinite, where a state is not finite.
    `others`, (C, T, B, ...), are zeroed with the states.
    """
    C, _, B, _ = inputs.shape
    wide = 2.0 ** (np.finfo(inputs.dtype).maxexp * 0.3)  # beyond this, a product with an adjoint could overflow
    if largest <= wide:
        return np.zeros((C, B), np.int64), False
    states = inputs[:, 1:, :, :hidden_size]
    finite = np.logical_and.reduce(np.isfinite(states), axis=3)
    overflow = np.where(finite.all(axis=1), 0, finite.argmin(axis=1) + 1)
    for run, example in zip(*np.nonzero(overflow), strict=True):
        for array in (states, *others):
            array[run, overflow[run, example] - 1 :, example] = 0.0
    return overflow, bool(max(inputs.max(), -inputs.min()) > wide)


def first_of(steps: NDArray[np.int64], axis: int | tuple[int, ...]) -> NDArray[np.int64]:
    """The first of steps (1-based) along an axis; 0 where all are 0, which is none."""
    first = np.where(steps > 0, steps, np.iinfo(np.int64).max).min(axis=axis)
    return np.where((steps > 0).any(axis=axis), first, 0)


class Cell(Protocol):
    """A member of the family `gradscope/cells`: a frozen dataclass of sizes and options, with these methods."""

    def __hash__(self) -> int:
        """Of the sizes and options."""
        ...

    @property
    def hidden_size(self) -> int:
        """n."""
        ...

    @property
    def input_size(self) -> int:
        """m."""
        ...

    @property
    def output_size(self) -> int:
        """p."""
        ...

    @property
    def state_size(self) -> int:
        """S."""
        ...

    @property
    def delta_size(self) -> int:
        """D."""
        ...

    @property
    def local_size(self) -> int:
        """L."""
        ...

    @property
    def weights_shape(self) -> tuple[int, int]:
        """(P, W), of the gradient of all recurrent weights."""
        ...

    @property
    def trace_size(self) -> int:
        """Numbers that a trace keeps of a step and example: P, and those of `Trace.extra`."""
        ...

    @property
    def products(self) -> tuple[tuple[slice, slice], ...]:
        """Rows of P and columns of D, of each product that weight gradients are.

        The sum over steps and examples of inputs[rows]^T delta[columns] stands in these rows, from the first column on,
        of a (P, W) that is zero elsewhere.
        """
        ...

    @property
    def parts(self) -> dict[str, tuple[slice, ...]]:
        """Name -> where it stands in the state, of each part whose gradient's norm is recorded: "h", and others."""
        ...

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter names and shapes."""
        ...

    def blocks(self) -> dict[str, tuple[slice, slice]]:
        """Which rows and columns of the gradient (P, W) are, transposed, that of each recurrent-cell parameter."""
        ...

    def init(
        self,
        seed: int,
        spectral_radius: float,
        ensemble: str = ...,
        input_scale: float = ...,
        input_power: float | None = ...,
    ) -> Parameters:
        """Draw parameters."""
        ...

    def check(self, ensemble: str, spectral_radius: float) -> None:
        """Raise InputError for an ensemble, or a spectral radius, that `init` refuses."""
        ...

    def drawn(self, ensemble: str, seed: int) -> UnitDraw:
        """The recurrent matrix that `init` scales to the spectral radius."""
        ...

    def recurrent(self, params: Mapping[str, Floats]) -> Floats:
        """That matrix, (n, n), among parameters."""
        ...

    def pack(self, params: Mapping[str, Floats]) -> Packed:
        """Lay out parameters that have a leading run axis C."""
        ...

    def forward(self, packed: Packed, x: Floats, start: Floats | None, workspace: Workspace) -> Trace:
        """Run over x (C, T, B, m) from the state (C, B, S), or zero. The trace lives in the workspace."""
        ...

    def state(self, trace: Trace, t: int) -> Floats:
        """The whole state (C, B, S) after so many steps."""
        ...

    def local(self, trace: Trace, lo: int, hi: int) -> Floats:
        """The local factors, (C, b, B, L), that `delta` needs at the (0-based) steps lo <= t < hi."""
        ...

    def delta(self, packed: Packed, local: Floats, adjoint: Floats, out: Floats) -> None:
        """Write the delta (C, K, B, D) of adjoints dL/dstate (C, K, B, S) with `local` (C, 1, B, L) to `out`.

        The adjoint of a part of the state which other parts of the same step's state depend on comes without what they
        pass on to it, and is completed here, in place: from then on it is the total derivative.

        Here and in `carry`, a single row of a single network comes without the axes of runs and rows.
        """
        ...

    def carry(self, packed: Packed, local: Floats, delta: Floats, adjoint: Floats, out: Floats | None = None) -> None:
        """Write the adjoints of the previous state, but for `back_exponent`, to `out`, or over the adjoints.

        For delta (C, K, B, D) and the adjoints that it has completed.
        """
        ...
