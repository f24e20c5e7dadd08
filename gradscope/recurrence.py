"""What a recurrent cell is to the rest of gradscope: a forward pass that leaves a trace, and two local backward maps.

Shape letters, here and everywhere: C runs in a batch, T time, B examples, n hidden, m input, p output; S the length of
the state (n for most cells), D the length of the pre-activation, P = n + m + 1 the columns of [h_{t-1} | x_t | 1], so
that W_hh, W_xh and b_h are one product, forward and in the weight gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gradscope.scaled import Floats

Parameters = dict[str, Floats]
_WIDE = 2.0**300  # inputs beyond this could overflow in a product with an adjoint; they get exponents of their own


class Packed(NamedTuple):
    """The parameters of C runs, laid out for the products.

    Attributes
    ----------
    forward : (C, P, D), from [h_{t-1} | x_t | 1] to the pre-activation.
    back : (C, D, S), from delta to the previous state's adjoint, with an exponent `back_exponent` (C,) of its own that
        is 0 for weights of ordinary size (see `gradscope.scaled.unit_scaled`).
    W_hy, b_y : (C, p, n) and (C, p), the readout.
    """

    forward: Floats
    back: Floats
    back_exponent: NDArray[np.int64]
    W_hy: Floats
    b_y: Floats


@dataclass(frozen=True)
class Trace:
    """What the forward pass leaves for the backward pass.

    Attributes
    ----------
    inputs : (C, T+1, B, P), [h_{t-1} | x_t | 1] for t = 1 .. T+1 (the last without x).
    local : (C, T, B, L), the local derivatives that the cell's `delta` needs.
    hidden_size : n
    overflow : (C,), the first step at which a state was not finite; 0 where all are. From that step on, the stored
        states are zero, so that what is computed from them stays finite; it must not be used.
    wide : whether inputs are so large that products need exponents of their own.
    """

    inputs: Floats
    local: Floats
    hidden_size: int
    overflow: NDArray[np.int64]
    wide: bool

    @property
    def states(self) -> Floats:
        """h_1 .. h_T, (C, T, B, n)."""
        return self.inputs[:, 1:, :, : self.hidden_size]

    def upto(self, seq_len: int) -> Trace:
        """The trace of the first `seq_len` steps: a shorter sequence is a prefix of a longer one."""
        within = np.where(self.overflow <= seq_len, self.overflow, 0)
        return Trace(self.inputs[:, : seq_len + 1], self.local[:, :seq_len], self.hidden_size, within, self.wide)


def settle(inputs: Floats, hidden_size: int) -> tuple[NDArray[np.int64], bool]:
    """Find the first non-finite step of each run, zero the states from there on, and say whether values are wide."""
    states = inputs[:, 1:, :, :hidden_size]
    finite = np.logical_and.reduce(np.isfinite(states), axis=(2, 3))
    overflow = np.where(finite.all(axis=1), 0, finite.argmin(axis=1) + 1)
    for run in np.flatnonzero(overflow):
        states[run, overflow[run] - 1 :] = 0.0
    return overflow, bool(np.abs(inputs).max() > _WIDE)


class Cell(Protocol):
    """A member of the family `gradscope/cells`: a frozen dataclass of sizes and options, with these methods."""

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

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter names and shapes."""
        ...

    def blocks(self) -> dict[str, tuple[slice, slice]]:
        """Which of the P inputs and the D pre-activations each recurrent-cell parameter joins."""
        ...

    def init(
        self,
        seed: int,
        spectral_radius: float,
        ensemble: str,
        input_scale: float = ...,
        input_power: float | None = ...,
    ) -> Parameters:
        """Draw parameters."""
        ...

    def pack(self, params: Mapping[str, Floats]) -> Packed:
        """Lay out parameters that have a leading run axis C."""
        ...

    def forward(self, packed: Packed, x: Floats, h0: Floats | None) -> Trace:
        """Run over x (C, T, B, m) from h0 (C, B, n), or zero."""
        ...

    def delta(self, local: Floats, adjoint: Floats, out: Floats) -> None:
        """Write dL/d(pre-activation) (..., D) for the adjoint dL/dstate (..., S)."""
        ...

    def carry(self, packed: Packed, local: Floats, delta: Floats, adjoint: Floats) -> None:
        """Replace the adjoint (C, ..., S) by that of the previous state, but for `back_exponent`.

        For delta (C, ..., D). A state that is also carried on unmixed, as an LSTM's, needs `local` and the adjoint.
        """
        ...
