"""`gru`: h_t = (1 - z_t) n_t + z_t h_{t-1} with gates r, z and candidate n of [h_{t-1} | x_t], by PyTorch's equations.

    r_t = sigmoid(W_xr x_t + b_xr + W_hr h_{t-1} + b_hr)        what the candidate sees of the old state
    z_t = sigmoid(W_xz x_t + b_xz + W_hz h_{t-1} + b_hz)        what is kept of the old state
    n_t = tanh(W_xn x_t + b_xn + r_t * q_t),   q_t = W_hn h_{t-1} + b_hn
    h_t = (1 - z_t) n_t + z_t h_{t-1},   yhat_t = W_hy h_t + b_y

Source: Cho et al. (2014), 1406.1078, who write 1 - z for z; r inside the candidate's product as in cuDNN. With
a = dL/dh_t: delta_nx = a (1 - z)(1 - n^2), delta_nh = delta_nx r, delta_r = delta_nx q r (1 - r),
delta_z = a (h_{t-1} - n) z (1 - z), and dL/dh_{t-1} = W_hh^T [delta_r | delta_z | delta_nh] + z a.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradscope.errors import at_least
from gradscope.gates import CANDIDATE, check_bias, chrono_bias, gate_blocks, input_blocks
from gradscope.recurrence import BLOCK, BLOCK_NUMBERS, Packed, Parameters, Trace, check_sizes, multiply, plain, settle
from gradscope.scaled import Floats
from gradscope.spectral import UnitDraw, check, unit_draw
from gradscope.streams import stream
from gradscope.workspace import Workspace

BLOCKS = ("reset gate", "update gate", CANDIDATE)


@dataclass(frozen=True)
class Gru:
    """The gated recurrent unit. Its spectral radius is that of each n x n block of W_hh; its gates are set by bias.

    Parameters
    ----------
    hidden_size, input_size, output_size : n, m, p.
    update_bias : initial bias of z; sigmoid of it is the share of the old state that is kept at small weights.
    chrono : T_max of the chrono initialisation, which draws that bias as log U(1, T_max - 1); 0 for none.

    Examples
    --------
    >>> import gradscope as gs
    >>> cell = gs.cell("gru", hidden_size=8, input_size=1, output_size=1, update_bias=2.0)
    >>> params = cell.init(seed=0, spectral_radius=0.0, input_scale=0.0)
    >>> g = gs.backprop(cell, params, x=np.ones((20, 1, 1)), y=np.ones((20, 1, 1)))
    >>> per_step = (g.log10_dh[-1] - g.log10_dh[0]) / 19  # along the kept state gradients shrink by sigmoid(2) a step
    >>> print((10 ** -per_step).round(6))
    [0.880797]
    """

    hidden_size: int
    input_size: int
    output_size: int
    update_bias: float = 0.0
    chrono: int = 0

    def __post_init__(self) -> None:
        check_sizes(self)
        check_bias(self.chrono, type(self).update_bias, update_bias=self.update_bias)

    @property
    def state_size(self) -> int:
        """S = n."""
        return self.hidden_size

    @property
    def delta_size(self) -> int:
        """D = 6n: what goes to [W_hh | b_hh], [r | z | n], and what goes to [W_xh | b_xh], [r | z | n]."""
        return 6 * self.hidden_size

    @property
    def local_size(self) -> int:
        """L = 7n."""
        return 7 * self.hidden_size

    @property
    def weights_shape(self) -> tuple[int, int]:
        """(P, W) = (n + m + 2, 3n)."""
        return self.hidden_size + self.input_size + 2, 3 * self.hidden_size

    @property
    def trace_size(self) -> int:
        """P = n + m + 2, and 4n of r, z, q and n."""
        return 5 * self.hidden_size + self.input_size + 2

    @property
    def products(self) -> tuple[tuple[slice, slice], ...]:
        """That of [h_{t-1} | 1], and that of [x_t | 1]."""
        n, (P, W) = self.hidden_size, self.weights_shape
        return (slice(n + 1), slice(W)), (slice(n + 1, P), slice(W, 2 * W))

    @property
    def parts(self) -> dict[str, tuple[slice, ...]]:
        """The state is h."""
        return {"h": (slice(self.hidden_size),)}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter names and shapes; the rows of the recurrent cell's are those of r, z and n."""
        n, m, p = self.hidden_size, self.input_size, self.output_size
        shapes: dict[str, tuple[int, ...]] = {
            "W_xh": (3 * n, m),
            "W_hh": (3 * n, n),
            "b_xh": (3 * n,),
            "b_hh": (3 * n,),
        }
        return shapes | {"W_hy": (p, n), "b_y": (p,)}

    def blocks(self) -> dict[str, tuple[slice, slice]]:
        """Where each parameter stands in [h_{t-1} | 1 | x_t | 1]."""
        n, (P, W) = self.hidden_size, self.weights_shape
        units = slice(0, W)
        return {
            "W_xh": (slice(n + 1, P - 1), units),
            "W_hh": (slice(0, n), units),
            "b_xh": (slice(P - 1, P), units),
            "b_hh": (slice(n, n + 1), units),
        }

    def init(
        self,
        seed: int,
        spectral_radius: float,
        ensemble: str = "gaussian",
        input_scale: float = 0.1,
        input_power: float | None = None,
    ) -> Parameters:
        """Draw parameters; biases but that of z are zero.

        Parameters
        ----------
        seed : which draw.
        spectral_radius : realised spectral radius of each of the three n x n blocks of W_hh, which are draws of their
            own; the candidate's is the Elman network's W_hh for that seed.
        ensemble : as for the Elman network.
        input_scale : standard deviation of (W_xh x_t) a row.
        input_power : mean of |x_t|^2, for which the scale holds; m if not given, as for white unit input.

        Returns
        -------
        dict : name -> float64 array, shapes as in `shapes()`. W_hy has N(0, 1/n) entries.

        Raises
        ------
        InputError : unknown ensemble, negative or non-finite radius or scale.
        """
        self.check(ensemble, spectral_radius)
        at_least(0, input_scale=input_scale)
        n, m, p = self.hidden_size, self.input_size, self.output_size
        spread = input_scale / np.sqrt(m if input_power is None else input_power)
        b_xh = np.zeros(3 * n)
        b_xh[n : 2 * n] = chrono_bias(seed, n, self.chrono) if self.chrono else self.update_bias
        return {
            "W_xh": input_blocks(n, m, seed, spread, BLOCKS),
            "W_hh": gate_blocks(ensemble, n, seed, spectral_radius, BLOCKS),
            "b_xh": b_xh,
            "b_hh": np.zeros(3 * n),
            "W_hy": stream(seed, "W_hy").standard_normal((p, n)) / np.sqrt(n),
            "b_y": np.zeros(p),
        }

    def check(self, ensemble: str, spectral_radius: float) -> None:
        """Raise InputError for an ensemble or a spectral radius that cannot be."""
        check(ensemble, spectral_radius, self.hidden_size)

    def drawn(self, ensemble: str, seed: int) -> UnitDraw:
        """The candidate's block of W_hh at spectral radius 1."""
        return unit_draw(ensemble, self.hidden_size, seed)

    def recurrent(self, params: Mapping[str, Floats]) -> Floats:
        """The candidate's block of W_hh, (n, n)."""
        return params["W_hh"][2 * self.hidden_size :]

    def pack(self, params: Mapping[str, Floats]) -> Packed:
        """Lay out parameters that have a leading run axis C.

        forward : (C, n+1, 3n) for [h_{t-1} | 1] and (C, m+1, 3n) for [x_t | 1], the gates' columns negated, as
        sigmoid(a) = 1 / (1 + exp(-a)). back : (C, 3n, n).
        """
        n = self.hidden_size
        forward = []
        for W, b in ((params["W_hh"], params["b_hh"]), (params["W_xh"], params["b_xh"])):
            weights = np.concatenate([W.swapaxes(1, 2), b[:, None]], axis=1)
            weights[..., : 2 * n] *= -1.0
            forward.append(weights)
        return Packed(
            forward=tuple(forward),
            back=(plain(params["W_hh"]),),
            back_exponent=np.zeros(len(params["W_hh"]), np.int64),
            W_hy=params["W_hy"],
            b_y=params["b_y"],
        )

    def forward(self, packed: Packed, x: Floats, start: Floats | None, workspace: Workspace) -> Trace:
        """Run over x (C, T, B, m) from the state (C, B, n), or zero. The trace lives in the workspace.

        Its `extra`: [r | z | q], (C, T, B, 3n), and n, (C, T, B, n).
        """
        n = self.hidden_size
        C, T, B, _ = x.shape
        inputs = workspace.array("inputs", (C, T + 1, B, self.weights_shape[0]), x.dtype)
        gates = workspace.array("gates", (C, T, B, 3 * n), x.dtype)
        candidates = workspace.array("candidates", (C, T, B, n), x.dtype)
        inputs[:, :T, :, n + 1 : -1] = x
        inputs[:, T, :, n + 1 : -1] = 0.0
        inputs[..., n] = inputs[..., -1] = 1.0
        inputs[:, 0, :, :n] = 0.0 if start is None else start
        weights, input_weights = packed.forward
        largest, block = 0.0, max(BLOCK, BLOCK_NUMBERS // gates[:, 0].size)
        with np.errstate(over="ignore", invalid="ignore"):
            for lo in range(0, T, block):
                seen = inputs[:, lo : lo + block + 1]
                currents = seen[:, : min(block, T - lo), :, n + 1 :] @ input_weights[:, None]
                self._steps(weights, currents, seen, gates[:, lo : lo + block], candidates[:, lo : lo + block])
                for values in (seen, gates[:, lo : lo + block, :, 2 * n :]):
                    largest = np.maximum(largest, np.maximum(values.max(), -values.min()))
        if not np.isfinite(largest):  # an infinite q, whose candidate is finite, is beyond range too
            inputs[:, 1:, :, :n][~np.isfinite(gates[..., 2 * n :])] = np.nan
        overflow, wide = settle(inputs, n, largest, gates, candidates)
        return Trace(inputs, n, overflow, wide, (gates, candidates))

    def _steps(self, weights: Floats, currents: Floats, inputs: Floats, gates: Floats, candidates: Floats) -> None:
        """Run on for some steps: currents (C, b, B, 3n) from the input, inputs (C, b+1, B, P)."""
        n = self.hidden_size
        product: Callable[..., Any] = np.matmul
        arrays = [currents, inputs, gates, candidates]
        if len(weights) == 1:  # as in `multiply`
            product, weights, arrays = np.ndarray.dot, weights[0], [array[0] for array in arrays]
        currents, inputs, gates, candidates = (array.swapaxes(0, -3) for array in arrays)
        states, passed = inputs[1:, ..., :n], np.empty(candidates.shape[1:], candidates.dtype)
        for current, step, state, gate, candidate in zip(currents, inputs, states, gates, candidates, strict=False):
            product(step[..., : n + 1], weights, gate)
            both = gate[..., : 2 * n]
            both += current[..., : 2 * n]
            np.exp(both, both)
            both += 1.0
            np.reciprocal(both, both)
            np.multiply(gate[..., :n], gate[..., 2 * n :], passed)
            passed += current[..., 2 * n :]
            np.tanh(passed, candidate)
            np.subtract(step[..., :n], candidate, state)
            state *= gate[..., n : 2 * n]
            state += candidate

    def state(self, trace: Trace, t: int) -> Floats:
        """h_t, (C, B, n)."""
        return trace.inputs[:, t, :, : self.hidden_size]

    def local(self, trace: Trace, lo: int, hi: int) -> Floats:
        """The factors of dL/dh in delta, and z, at the steps lo <= t < hi, (C, b, B, 7n)."""
        n = self.hidden_size
        gates, candidate = (extra[:, lo:hi] for extra in trace.extra)
        r, z, q = (gates[..., part * n : (part + 1) * n] for part in range(3))
        fresh = 1.0 - z
        of_nx = candidate * candidate
        np.subtract(1.0, of_nx, out=of_nx)
        of_nx *= fresh
        of_nh = of_nx * r
        of_r = 1.0 - r
        of_r *= q
        of_r *= of_nh
        of_z = trace.inputs[:, lo:hi, :, :n] - candidate
        of_z *= fresh
        of_z *= z
        return np.concatenate([of_r, of_z, of_nh, of_r, of_z, of_nx, z], axis=-1)

    def delta(self, packed: Packed, local: Floats, adjoint: Floats, out: Floats) -> None:  # noqa: ARG002
        """Six multiples of dL/dh."""
        n = self.hidden_size
        factors = local[..., : 6 * n].reshape(*local.shape[:-1], 6, n)
        np.multiply(factors, adjoint[..., None, :], out.reshape(*out.shape[:-1], 6, n, copy=False))

    def carry(self, packed: Packed, local: Floats, delta: Floats, adjoint: Floats, out: Floats | None = None) -> None:
        """dL/dh_{t-1} = W_hh^T delta_t + z_t dL/dh_t."""
        n = self.hidden_size
        kept, previous = local[..., 6 * n :] * adjoint, adjoint if out is None else out
        multiply(delta[..., : 3 * n], packed.back[0], out=previous)
        previous += kept
