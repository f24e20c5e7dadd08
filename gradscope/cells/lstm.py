"""`lstm`: c_t = f c_{t-1} + i g, h_t = o tanh(c_t), with gates i, f, o and candidate g of [h_{t-1} | x_t].

(i, f, g, o) = (sigma, sigma, tanh, sigma)(W_xh x_t + b_xh + W_hh h_{t-1} + b_hh), stacked in this order: PyTorch's
equations. Along the cell state a gradient is multiplied by f a step, which the forget gate's bias sets.

Sources: Hochreiter & Schmidhuber (1997), "Long short-term memory"; Gers, Schmidhuber & Cummins (2000), "Learning to
forget"; Jozefowicz, Zaremba & Sutskever (2015), a forget bias of 1; Tallec & Ollivier (2018), "Can recurrent neural
networks warp time?", arXiv 1804.11188, chrono initialisation.

With a = dL/dh_t and the total e = dL/dc_t = (what c_{t+1} sends) + a o (1 - tanh^2 c_t), the delta is
(e g i(1-i), e c_{t-1} f(1-f), e i (1-g^2), a tanh(c_t) o(1-o)); dL/dh_{t-1} = W_hh^T delta, and e f goes on to c_{t-1}.
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

BLOCKS = ("input gate", "forget gate", CANDIDATE, "output gate")


@dataclass(frozen=True)
class Lstm:
    """Long short-term memory.

    Parameters
    ----------
    hidden_size, input_size, output_size : n, m, p.
    forget_bias : of the forget gate at first, with which sigmoid(forget_bias) of c_{t-1} is kept; other biases are 0.
    chrono : T_max: biases of the forget gates are log U(1, T_max - 1), those of the input gates the opposite, so that
        units remember for up to T_max steps. 0: `forget_bias` holds.

    Examples
    --------
    >>> import gradscope as gs
    >>> cell = gs.cell("lstm", hidden_size=8, input_size=1, output_size=1, forget_bias=2.0)
    >>> params = cell.init(seed=0, spectral_radius=0.0, input_scale=0.0)
    >>> g = gs.backprop(cell, params, x=np.ones((20, 1, 1)), y=np.ones((20, 1, 1)))
    >>> print(round(float(10 ** (g.log10_dc[-1, 0] - g.log10_dc[-2, 0])), 6))  # 1 / sigmoid(2)
    1.135335
    """

    hidden_size: int
    input_size: int
    output_size: int
    forget_bias: float = 1.0
    chrono: int = 0

    def __post_init__(self) -> None:
        check_sizes(self)
        check_bias(self.chrono, type(self).forget_bias, forget_bias=self.forget_bias)

    @property
    def state_size(self) -> int:
        """S = 2n: h and c."""
        return 2 * self.hidden_size

    @property
    def delta_size(self) -> int:
        """D = 4n."""
        return 4 * self.hidden_size

    @property
    def local_size(self) -> int:
        """L = 6n."""
        return 6 * self.hidden_size

    @property
    def weights_shape(self) -> tuple[int, int]:
        """(n + m + 2, 4n)."""
        return self.hidden_size + self.input_size + 2, 4 * self.hidden_size

    @property
    def trace_size(self) -> int:
        """P, the local factors and c."""
        return self.weights_shape[0] + 7 * self.hidden_size

    @property
    def products(self) -> tuple[tuple[slice, slice], ...]:
        """A single one, of everything."""
        return ((slice(self.weights_shape[0]), slice(self.delta_size)),)

    @property
    def parts(self) -> dict[str, tuple[slice, ...]]:
        """The state is [h | c]."""
        n = self.hidden_size
        return {"h": (slice(n),), "c": (slice(n, 2 * n),)}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter names and shapes."""
        n, m, p = self.hidden_size, self.input_size, self.output_size
        own = {"W_xh": (4 * n, m), "W_hh": (4 * n, n), "b_xh": (4 * n,), "b_hh": (4 * n,)}
        return own | {"W_hy": (p, n), "b_y": (p,)}

    def blocks(self) -> dict[str, tuple[slice, slice]]:
        """Where each parameter stands in [h_{t-1} | x_t | 1 | 1]; all of them act on all gates."""
        n, m = self.hidden_size, self.input_size
        gates, own = slice(4 * n), {"W_xh": (n, n + m), "W_hh": (0, n), "b_xh": (n + m,) * 2, "b_hh": (n + m + 1,) * 2}
        return {name: (slice(a, max(b, a + 1)), gates) for name, (a, b) in own.items()}

    def init(
        self,
        seed: int,
        spectral_radius: float,
        ensemble: str = "gaussian",
        input_scale: float = 0.1,
        input_power: float | None = None,
    ) -> Parameters:
        """Draw parameters.

        Parameters
        ----------
        seed : which draw.
        spectral_radius : realised spectral radius of each of the four (n, n) blocks of W_hh. How much of c_{t-1} is
            kept is set by biases.
        ensemble : of each of the blocks.
        input_scale : standard deviation of (W_xh x_t) in each row.
        input_power : mean of |x_t|^2, for which the scale holds; m if not given, as for white unit input.

        Returns
        -------
        dict : name -> float64 array, shapes as in `shapes()`. Biases are in b_xh, b_hh is zero; W_hy has N(0, 1/n)
        entries.

        Raises
        ------
        InputError : unknown ensemble, negative or non-finite radius or scale.
        """
        self.check(ensemble, spectral_radius)
        at_least(0, input_scale=input_scale)
        n, m, p = self.hidden_size, self.input_size, self.output_size
        b_xh = np.zeros((4, n))
        b_xh[1] = chrono_bias(seed, n, self.chrono) if self.chrono else self.forget_bias
        if self.chrono:
            b_xh[0] = -b_xh[1]
        return {
            "W_xh": input_blocks(n, m, seed, input_scale / np.sqrt(m if input_power is None else input_power), BLOCKS),
            "W_hh": gate_blocks(ensemble, n, seed, spectral_radius, BLOCKS),
            "b_xh": b_xh.ravel(),
            "b_hh": np.zeros(4 * n),
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
        """The candidate's block of W_hh."""
        n = self.hidden_size
        return params["W_hh"][2 * n : 3 * n]

    def pack(self, params: Mapping[str, Floats]) -> Packed:
        """Lay out parameters that have a leading run axis C.

        forward : (C, n+m+2, 4n), columns in the order i, f, o, g, those of the gates negated, as
        sigmoid(a) = 1 / (1 + exp(-a)). back : (C, 4n, n).
        """
        n = self.hidden_size
        forward = [params[name].swapaxes(1, 2) for name in ("W_hh", "W_xh")]
        forward += [params[name][:, None] for name in ("b_xh", "b_hh")]
        weights, back = np.concatenate(forward, axis=1), plain(params["W_hh"])
        i_f, g, o = weights[..., : 2 * n], weights[..., 2 * n : 3 * n], weights[..., 3 * n :]
        return Packed(
            forward=(np.concatenate([-i_f, -o, g], axis=-1),),
            back=(back,),
            back_exponent=np.zeros(len(back), np.int64),
            W_hy=params["W_hy"],
            b_y=params["b_y"],
        )

    def forward(self, packed: Packed, x: Floats, start: Floats | None, workspace: Workspace) -> Trace:
        """Run over x (C, T, B, m) from [h | c] (C, B, 2n), or zero. The trace lives in the workspace.

        `extra` are the local factors (C, T, B, 6n), found while the gates are in the cache, and c (C, T+1, B, n), from
        before the first step on.
        """
        n, m = self.hidden_size, self.input_size
        C, T, B, _ = x.shape
        inputs = workspace.array("inputs", (C, T + 1, B, n + m + 2), x.dtype)
        local = workspace.array("local", (C, T, B, 6 * n), x.dtype)
        c = workspace.array("c", (C, T + 1, B, n), x.dtype)
        inputs[:, :T, :, n : n + m] = x
        inputs[:, T, :, n : n + m] = 0.0
        inputs[..., -2:] = 1.0
        inputs[:, 0, :, :n], c[:, 0] = (0.0, 0.0) if start is None else (start[..., :n], start[..., n:])
        largest, block = 0.0, max(BLOCK, BLOCK_NUMBERS // local[:, 0].size)
        gates, squashed = (np.empty((C, min(block, T), B, size * n), x.dtype) for size in (4, 1))
        with np.errstate(over="ignore", invalid="ignore"):
            for lo in range(0, T, block):
                seen, cells, factors = (
                    inputs[:, lo : lo + block + 1],
                    c[:, lo : lo + block + 1],
                    local[:, lo : lo + block],
                )
                b = factors.shape[1]
                self._steps(packed.forward[0], seen, cells, gates, squashed)
                self._factors(gates[:, :b], cells[:, :b], squashed[:, :b], factors)
                largest = np.maximum(largest, np.maximum(seen.max(), -seen.min()))
        overflow, wide = settle(inputs, n, largest, local, c[:, 1:])
        return Trace(inputs, n, overflow, wide, (local, c))

    def _steps(self, weights: Floats, inputs: Floats, c: Floats, gates: Floats, squashed: Floats) -> None:
        """Run on for b steps: inputs (C, b+1, B, P), c (C, b+1, B, n), gates and tanh(c) with room for as many."""
        n = self.hidden_size
        product: Callable[..., Any] = np.matmul
        arrays = [inputs, c, gates, squashed]
        if len(weights) == 1:  # as in `multiply`
            product, weights, arrays = np.ndarray.dot, weights[0], [array[0] for array in arrays]
        inputs, c, gates, squashed = (array.swapaxes(0, -3) for array in arrays)
        scratch = np.empty(squashed.shape[1:], squashed.dtype)
        steps = zip(inputs, c, inputs[1:, ..., :n], c[1:], gates, squashed, strict=False)
        for step, old, state, new, gate, squash in steps:
            product(step, weights, gate)
            opened, g = gate[..., : 3 * n], gate[..., 3 * n :]
            np.exp(opened, opened)
            opened += 1.0
            np.reciprocal(opened, opened)
            np.tanh(g, g)
            np.multiply(gate[..., n : 2 * n], old, new)
            np.multiply(gate[..., :n], g, scratch)
            new += scratch
            np.tanh(new, squash)
            np.multiply(gate[..., 2 * n : 3 * n], squash, state)

    def _factors(self, gates: Floats, before: Floats, squashed: Floats, out: Floats) -> None:
        """Write the local factors (C, b, B, 6n) from [i | f | o | g], c_{t-1} and tanh(c_t)."""
        n = self.hidden_size
        i_f, (i, f, o, g) = gates[..., : 2 * n], (gates[..., k * n : (k + 1) * n] for k in range(4))
        of_i, of_f, of_g, of_o, through, kept = (out[..., k * n : (k + 1) * n] for k in range(6))
        for factor, gate in ((out[..., : 2 * n], i_f), (of_o, o)):
            np.subtract(1.0, gate, out=factor)
            factor *= gate
        of_i *= g
        of_f *= before
        of_o *= squashed
        for factor, value, gate in ((of_g, g, i), (through, squashed, o)):
            np.multiply(value, value, out=factor)
            np.subtract(1.0, factor, out=factor)
            factor *= gate
        kept[...] = f

    def state(self, trace: Trace, t: int) -> Floats:
        """[h_t | c_t], (C, B, 2n)."""
        return np.concatenate([trace.inputs[:, t, :, : self.hidden_size], trace.extra[1][:, t]], axis=-1)

    def local(self, trace: Trace, lo: int, hi: int) -> Floats:
        """The factors of e in the deltas of i, f, g; those of a in that of o, and in e; f. (C, b, B, 6n)."""
        return trace.extra[0][:, lo:hi]

    def delta(self, packed: Packed, local: Floats, adjoint: Floats, out: Floats) -> None:  # noqa: ARG002
        """Complete e, and write (e of_i, e of_f, e of_g, a of_o)."""
        n, deltas = self.hidden_size, out.reshape(*out.shape[:-1], 4, self.hidden_size, copy=False)
        a, e = adjoint[..., :n], adjoint[..., n:]
        e += a * local[..., 4 * n : 5 * n]
        deltas[..., :3, :] = e[..., None, :]  # copies and one long product are faster than four short ones
        deltas[..., 3, :] = a
        out *= local[..., : 4 * n]

    def carry(self, packed: Packed, local: Floats, delta: Floats, adjoint: Floats, out: Floats | None = None) -> None:
        """dL/dh_{t-1} = W_hh^T delta; e f is what c_t sends to c_{t-1}."""
        n, out = self.hidden_size, adjoint if out is None else out
        np.multiply(adjoint[..., n:], local[..., 5 * n :], out=out[..., n:])
        multiply(delta, packed.back[0], out=out[..., :n])
