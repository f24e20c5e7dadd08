"""`elman`: h_t = f(W_xh x_t + W_hh h_{t-1} + b_h), yhat_t = W_hy h_t + b_y.

Source: Elman (1990), "Finding structure in time". The backward recursion is delta_t = f'(h_t) * dL/dh_t,
dL/dh_{t-1} = W_hh^T delta_t, dL/d[W_hh | W_xh | b_h] = sum_t delta_t [h_{t-1} | x_t | 1]^T.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradscope.activations import activation
from gradscope.errors import at_least
from gradscope.recurrence import BLOCK, BLOCK_NUMBERS, Packed, Parameters, Trace, check_sizes, multiply, settle
from gradscope.scaled import Floats, unit_scaled
from gradscope.spectral import UnitDraw, check, recurrent, unit_draw
from gradscope.streams import stream
from gradscope.workspace import Workspace


@dataclass(frozen=True)
class Elman:
    """The simple recurrent network.

    Parameters
    ----------
    hidden_size, input_size, output_size : n, m, p.
    activation : "tanh", "relu", "sigmoid" or "linear".
    """

    hidden_size: int
    input_size: int
    output_size: int
    activation: str = "tanh"

    def __post_init__(self) -> None:
        activation(self.activation)
        check_sizes(self)

    @property
    def state_size(self) -> int:
        """S = n."""
        return self.hidden_size

    @property
    def delta_size(self) -> int:
        """D = n."""
        return self.hidden_size

    @property
    def local_size(self) -> int:
        """L = n."""
        return self.hidden_size

    @property
    def weights_shape(self) -> tuple[int, int]:
        """(n + m + 1, n)."""
        return self.trace_size, self.hidden_size

    @property
    def trace_size(self) -> int:
        """P = n + m + 1."""
        return self.hidden_size + self.input_size + 1

    @cached_property
    def products(self) -> tuple[tuple[slice, slice], ...]:
        """A single one, of everything."""
        return ((slice(self.trace_size), slice(self.hidden_size)),)

    @cached_property
    def parts(self) -> dict[str, tuple[slice, ...]]:
        """The state is h."""
        return {"h": (slice(self.hidden_size),)}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter names and shapes."""
        n, m, p = self.hidden_size, self.input_size, self.output_size
        return {"W_xh": (n, m), "W_hh": (n, n), "b_h": (n,), "W_hy": (p, n), "b_y": (p,)}

    def blocks(self) -> dict[str, tuple[slice, slice]]:
        """Where each parameter stands in [h_{t-1} | x_t | 1]; all of them act on all pre-activations."""
        n, m = self.hidden_size, self.input_size
        units = slice(0, n)
        return {"W_xh": (slice(n, n + m), units), "W_hh": (units, units), "b_h": (slice(n + m, n + m + 1), units)}

    def init(
        self,
        seed: int,
        spectral_radius: float,
        ensemble: str = "gaussian",
        input_scale: float = 0.1,
        input_power: float | None = None,
    ) -> Parameters:
        """Draw parameters; biases are zero.

        Parameters
        ----------
        seed : which draw.
        spectral_radius : realised spectral radius of W_hh, whatever the draw.
        ensemble : of W_hh, "gaussian", "orthogonal", "sparse:0.1", ...: see `gradscope.ensembles`.
        input_scale : standard deviation of (W_xh x_t) a unit: sigma_u of the mean-field papers.
        input_power : mean of |x_t|^2, for which the scale holds; m if not given, as for white unit input.

        Returns
        -------
        dict : name -> float64 array, shapes as in `shapes()`. W_hy has N(0, 1/n) entries.

        Raises
        ------
        InputError : unknown ensemble, a radius that it cannot have, negative or non-finite radius or scale.

        Examples
        --------
        >>> import gradscope as gs
        >>> cell = gs.cell("elman", hidden_size=8, input_size=1, output_size=1)
        >>> params = cell.init(seed=0, spectral_radius=1.1, ensemble="gaussian")
        >>> print(round(float(max(abs(np.linalg.eigvals(params["W_hh"])))), 10))
        1.1
        """
        self.check(ensemble, spectral_radius)
        at_least(0, input_scale=input_scale)
        n, m, p = self.hidden_size, self.input_size, self.output_size
        power = m if input_power is None else input_power
        return {
            "W_xh": stream(seed, "W_xh").standard_normal((n, m)) * (input_scale / np.sqrt(power)),
            "W_hh": recurrent(ensemble, n, seed, spectral_radius),
            "b_h": np.zeros(n),
            "W_hy": stream(seed, "W_hy").standard_normal((p, n)) / np.sqrt(n),
            "b_y": np.zeros(p),
        }

    def check(self, ensemble: str, spectral_radius: float) -> None:
        """Raise InputError for an ensemble or a spectral radius that cannot be."""
        check(ensemble, spectral_radius, self.hidden_size)

    def drawn(self, ensemble: str, seed: int) -> UnitDraw:
        """W_hh at spectral radius 1."""
        return unit_draw(ensemble, self.hidden_size, seed)

    def recurrent(self, params: Mapping[str, Floats]) -> Floats:
        """W_hh."""
        return params["W_hh"]

    def pack(self, params: Mapping[str, Floats]) -> Packed:
        """Lay out parameters that have a leading run axis C."""
        W_hh, W_xh, b_h = params["W_hh"], params["W_xh"], params["b_h"]
        C, n, m = W_xh.shape
        forward = np.empty((C, n + m + 1, n), W_hh.dtype)
        forward[:, :n], forward[:, n:-1], forward[:, -1] = W_hh.swapaxes(1, 2), W_xh.swapaxes(1, 2), b_h
        back, back_exponent = unit_scaled(np.ascontiguousarray(W_hh))
        return Packed(
            forward=(forward,),
            back=(back,),
            back_exponent=back_exponent,
            W_hy=params["W_hy"],
            b_y=params["b_y"],
        )

    def forward(self, packed: Packed, x: Floats, start: Floats | None, workspace: Workspace) -> Trace:
        """Run over x (C, T, B, m) from the state (C, B, n), or zero. The trace lives in the workspace."""
        f = activation(self.activation)
        n, m = self.hidden_size, self.input_size
        C, T, B, _ = x.shape
        inputs = workspace.array("inputs", (C, T + 1, B, n + m + 1), x.dtype)
        inputs[:, :T, :, n : n + m] = x
        inputs[:, T, :, n : n + m] = 0.0
        inputs[..., -1] = 1.0
        inputs[:, 0, :, :n] = 0.0 if start is None else start
        steps, states, z = inputs.swapaxes(0, 1), inputs[:, 1:, :, :n].swapaxes(0, 1), np.empty((C, B, n), x.dtype)
        (weights,) = packed.forward
        product: Callable[..., Any] = np.matmul
        if C == 1:  # as in `multiply`
            steps, states, z, weights, product = steps[:, 0], states[:, 0], z[0], weights[0], np.ndarray.dot
        largest, block = 0.0, max(BLOCK, BLOCK_NUMBERS // inputs[:, 0].size)
        with np.errstate(over="ignore", invalid="ignore"):
            for lo in range(0, T, block):
                for step, state in zip(steps[lo : lo + block], states[lo : lo + block], strict=False):
                    product(step, weights, z)
                    f.apply(z, state)
                seen = inputs[:, lo : lo + block + 1]
                largest = np.maximum(largest, np.maximum(seen.max(), -seen.min()))
        return Trace(inputs, n, *settle(inputs, n, largest))

    def state(self, trace: Trace, t: int) -> Floats:
        """h_t, (C, B, n)."""
        return trace.inputs[:, t, :, : self.hidden_size]

    def local(self, trace: Trace, lo: int, hi: int) -> Floats:
        """f'(z_t) at the steps lo <= t < hi, (C, b, B, n)."""
        states = trace.states[:, lo:hi]
        slopes = np.empty(states.shape, states.dtype)
        activation(self.activation).slope(states, out=slopes)
        return slopes

    def delta(self, packed: Packed, local: Floats, adjoint: Floats, out: Floats) -> None:  # noqa: ARG002
        """delta = f'(h) * dL/dh."""
        np.multiply(local, adjoint, out)

    def carry(self, packed: Packed, local: Floats, delta: Floats, adjoint: Floats, out: Floats | None = None) -> None:  # noqa: ARG002
        """dL/dh_{t-1} = W_hh^T delta_t."""
        multiply(delta, packed.back[0], out=adjoint if out is None else out)
