"""`diagonal`: h_t = lambda h_{t-1} + gamma W_xh x_t with n/2 complex units, each by itself, |lambda| < 1: the linear
recurrent unit.

    h_t = lambda h_{t-1} + gamma W_xh x_t,   lambda = exp(-exp(nu_log) + i exp(theta_log)),   gamma = exp(gamma_log)
    yhat_t = W_hy [Re h_t | Im h_t] + b_y

Source: Orvieto et al. (2023), "Resurrecting recurrent neural networks for long sequences", 2303.06349. |lambda| < 1
whatever the parameters. States are real here, [Re h | Im h], and so are the rows of W_xh. With the adjoint
a = dL/dRe h_t + i dL/dIm h_t: that of h_{t-1} is conj(lambda) a, that of W_xh x_t is gamma a; with v = lambda h_{t-1},
dL/dnu_log = -exp(nu_log) Re(a conj(v)), dL/dtheta_log = exp(theta_log) Im(a conj(v)),
dL/dgamma_log = Re(a conj(gamma W_xh x_t)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from gradscope.errors import InputError, at_least
from gradscope.recurrence import BLOCK, BLOCK_NUMBERS, Packed, Parameters, Trace, check_sizes, settle
from gradscope.scaled import Floats
from gradscope.spectral import UnitDraw
from gradscope.streams import stream
from gradscope.workspace import Workspace

LOGARITHMS = {"nu_log": (-40.0, 4.0), "theta_log": (-40.0, 40.0), "gamma_log": (-40.0, 40.0)}  # |lambda| >= 2e-24


@dataclass(frozen=True)
class Diagonal:
    """The linear recurrent unit. Its spectral radius is the largest |lambda|, between 0 and 1.

    Parameters
    ----------
    hidden_size : n, even: real and imaginary parts of n/2 units.
    input_size, output_size : m, p.
    ring : smallest |lambda| at initialisation, as a share of the largest.
    max_phase : largest phase of lambda at initialisation, at most 2 pi.

    Examples
    --------
    >>> import gradscope as gs
    >>> cell = gs.cell("diagonal", hidden_size=8, input_size=1, output_size=1, ring=1.0)
    >>> params = cell.init(seed=0, spectral_radius=0.9)
    >>> g = gs.backprop(cell, params, x=np.ones((20, 1, 1)), y=np.ones((20, 1, 1)))
    >>> per_step = (g.log10_dh[-1] - g.log10_dh[0]) / 19  # on a ring of radius 0.9 all units forget alike
    >>> print((10 ** -per_step).round(6))
    [0.9]
    """

    own_ensemble: ClassVar[str] = "ring"

    hidden_size: int
    input_size: int
    output_size: int
    ring: float = 0.5
    max_phase: float = 3.141592653589793

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.hidden_size % 2:
            raise InputError(f"{self.hidden_size}", where="hidden_size", allowed="an even number: units are complex")
        at_least(0, ring=self.ring, max_phase=self.max_phase)
        if self.ring > 1:
            raise InputError(f"{self.ring!r}", where="ring", allowed="0 to 1")
        if not 0 < self.max_phase <= 2 * np.pi:
            raise InputError(f"{self.max_phase!r}", where="max_phase", allowed="a number > 0, at most 2 pi")

    @property
    def state_size(self) -> int:
        """S = n."""
        return self.hidden_size

    @property
    def delta_size(self) -> int:
        """D = n + 3n/2: what goes to W_xh, and to nu_log, theta_log and gamma_log."""
        return self.hidden_size + self.weights_shape[1]

    @property
    def local_size(self) -> int:
        """L = 3n."""
        return 3 * self.hidden_size

    @property
    def weights_shape(self) -> tuple[int, int]:
        """(P, W) = (n + m + 1, 3n/2)."""
        return self.hidden_size + self.input_size + 1, 3 * self.hidden_size // 2

    @property
    def trace_size(self) -> int:
        """P = n + m + 1, and 2n of lambda h and gamma W_xh x."""
        return 3 * self.hidden_size + self.input_size + 1

    @property
    def products(self) -> tuple[tuple[slice, slice], ...]:
        """That of x_t, and that of 1; none of h_{t-1}, which no matrix is multiplied with."""
        n, (P, _) = self.hidden_size, self.weights_shape
        return (slice(n, P - 1), slice(n)), (slice(P - 1, P), slice(n, self.delta_size))

    @property
    def parts(self) -> dict[str, tuple[slice, ...]]:
        """The state is h."""
        return {"h": (slice(self.hidden_size),)}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter names and shapes; the rows of W_xh are the units' real parts, then their imaginary parts."""
        n, m, p = self.hidden_size, self.input_size, self.output_size
        units: dict[str, tuple[int, ...]] = dict.fromkeys(("nu_log", "theta_log", "gamma_log"), (n // 2,))
        return units | {"W_xh": (n, m), "W_hy": (p, n), "b_y": (p,)}

    def blocks(self) -> dict[str, tuple[slice, slice]]:
        """Where each parameter's gradient stands: W_xh at x_t, the others at 1."""
        n, (P, W) = self.hidden_size, self.weights_shape
        k = n // 2
        return {
            "nu_log": (slice(P - 1, P), slice(0, k)),
            "theta_log": (slice(P - 1, P), slice(k, n)),
            "gamma_log": (slice(P - 1, P), slice(n, W)),
            "W_xh": (slice(n, P - 1), slice(0, n)),
        }

    def init(
        self,
        seed: int,
        spectral_radius: float,
        ensemble: str = own_ensemble,
        input_scale: float = 0.1,
        input_power: float | None = None,
    ) -> Parameters:
        """Draw parameters: lambda on a ring.

        Parameters
        ----------
        seed : which draw.
        spectral_radius : r, the largest |lambda|; |lambda|^2 is drawn uniformly from [(ring r)^2, r^2], and then all
            are scaled alike so that the largest is r. Phases are uniform up to `max_phase`.
        ensemble : "ring".
        input_scale : standard deviation of (W_xh x_t) a row.
        input_power : mean of |x_t|^2, for which the scale holds; m if not given, as for white unit input.

        Returns
        -------
        dict : name -> float64 array, shapes as in `shapes()`. gamma = sqrt(1 - |lambda|^2), so that states have the
        variance of W_xh x_t for white input; W_hy has N(0, 1/n) entries.

        Raises
        ------
        InputError : another ensemble, a radius that is not between 0 and 1, a negative or non-finite scale.
        """
        self.check(ensemble, spectral_radius)
        at_least(0, input_scale=input_scale)
        n, m, p = self.hidden_size, self.input_size, self.output_size
        modulus, phase = self._ring(seed)
        decay = -np.log(modulus * spectral_radius)
        spread = input_scale / np.sqrt(m if input_power is None else input_power)
        return {
            "nu_log": np.log(decay),
            "theta_log": np.log(phase),
            "gamma_log": 0.5 * np.log(-np.expm1(-2.0 * decay)),
            "W_xh": stream(seed, "W_xh").standard_normal((n, m)) * spread,
            "W_hy": stream(seed, "W_hy").standard_normal((p, n)) / np.sqrt(n),
            "b_y": np.zeros(p),
        }

    def check(self, ensemble: str, spectral_radius: float) -> None:
        """Raise InputError for an ensemble or a spectral radius that cannot be."""
        self._check_own(ensemble)
        at_least(0, spectral_radius=spectral_radius)
        if not 0 < spectral_radius < 1:
            raise InputError(
                f"{spectral_radius!r}, but the parametrisation of cell diagonal is stable, |lambda| < 1",
                where="spectral_radius",
                allowed="a number > 0 and < 1",
                hint="as spectral_radius = 0.95",
            )

    def _check_own(self, ensemble: str) -> None:
        if ensemble != self.own_ensemble:
            raise InputError(f"{ensemble!r} for cell diagonal", where="ensemble", allowed=self.own_ensemble)

    def _ring(self, seed: int) -> tuple[Floats, Floats]:
        """Modulus, of which the largest is 1, and phase, which is not 0, of each unit's lambda."""
        rng = stream(seed, "ring")
        modulus = np.sqrt(1.0 - (1.0 - self.ring**2) * rng.random(self.hidden_size // 2))
        return modulus / modulus.max(), self.max_phase * (1.0 - rng.random(self.hidden_size // 2))

    def drawn(self, ensemble: str, seed: int) -> UnitDraw:
        """What h is multiplied with at spectral radius 1, (n, n): a normal matrix, whose norm is its radius."""
        self._check_own(ensemble)
        modulus, phase = self._ring(seed)
        return UnitDraw(
            _rotation(modulus * np.exp(1j * phase)), spectral_radius=1.0, spectral_norm=1.0, henrici=0.0, spec=ensemble
        )

    def recurrent(self, params: Mapping[str, Floats]) -> Floats:
        """What h is multiplied with, (n, n)."""
        return _rotation(_eigenvalues(params["nu_log"], params["theta_log"]))

    def pack(self, params: Mapping[str, Floats]) -> Packed:
        """Lay out parameters that have a leading run axis C.

        forward : gamma W_xh (C, m, n); Re lambda and Im lambda as `_turned` takes them, (C, 2, n/2) each.
        back : those of conj(lambda), gamma (C, n), and the factors (C, 3, n/2) of Re(a conj(v)), Im(a conj(v)) and 1.
        """
        dtype = params["W_xh"].dtype
        nu_log, theta_log, gamma_log = map(_logarithm, LOGARITHMS, map(params.__getitem__, LOGARITHMS))
        eigenvalues, gamma = _eigenvalues(nu_log, theta_log), np.exp(gamma_log)
        along = np.stack([eigenvalues.real, eigenvalues.real], axis=1)
        across = np.stack([-eigenvalues.imag, eigenvalues.imag], axis=1)
        gammas = np.concatenate([gamma, gamma], axis=1)
        factors = np.stack([-np.exp(nu_log), np.exp(theta_log), np.ones_like(gamma)], axis=1)
        weights = (params["W_xh"] * gammas[:, :, None]).swapaxes(1, 2)
        return Packed(
            forward=tuple(array.astype(dtype) for array in (weights, along, across)),
            back=tuple(array.astype(dtype) for array in (along, -across, gammas, factors)),
            back_exponent=np.zeros(len(gamma), np.int64),
            W_hy=params["W_hy"],
            b_y=params["b_y"],
        )

    def forward(self, packed: Packed, x: Floats, start: Floats | None, workspace: Workspace) -> Trace:
        """Run over x (C, T, B, m) from the state (C, B, n), or zero. The trace lives in the workspace.

        Its `extra`: lambda h_{t-1} and gamma W_xh x_t, (C, T, B, n) each.
        """
        n = self.hidden_size
        C, T, B, _ = x.shape
        inputs = workspace.array("inputs", (C, T + 1, B, self.weights_shape[0]), x.dtype)
        turned = workspace.array("turned", (C, T, B, n), x.dtype)
        driven = workspace.array("driven", (C, T, B, n), x.dtype)
        inputs[:, :T, :, n:-1] = x
        inputs[:, T, :, n:-1] = 0.0
        inputs[..., -1] = 1.0
        inputs[:, 0, :, :n] = 0.0 if start is None else start
        weights, along, across = packed.forward
        states, steps, drives = (_halves(array).swapaxes(0, 1) for array in (inputs[..., :n], turned, driven))
        along, across = along[:, None], across[:, None]
        largest, block = 0.0, max(BLOCK, BLOCK_NUMBERS // inputs[:, 0].size)
        with np.errstate(over="ignore", invalid="ignore"):
            for lo in range(0, T, block):
                hi = min(lo + block, T)
                np.matmul(x[:, lo:hi], weights[:, None], out=driven[:, lo:hi])
                for old, step, drive, new in zip(
                    states[lo:hi], steps[lo:hi], drives[lo:hi], states[lo + 1 : hi + 1], strict=True
                ):
                    _turn(old, along, across, step)
                    np.add(step, drive, new)
                seen = inputs[:, lo : hi + 1]
                largest = np.maximum(largest, np.maximum(seen.max(), -seen.min()))
        overflow, wide = settle(inputs, n, largest, turned, driven)
        return Trace(inputs, n, overflow, wide, (turned, driven))

    def state(self, trace: Trace, t: int) -> Floats:
        """[Re h_t | Im h_t], (C, B, n)."""
        return trace.inputs[:, t, :, : self.hidden_size]

    def local(self, trace: Trace, lo: int, hi: int) -> Floats:
        """v and i v, for v = lambda h_{t-1}, and gamma W_xh x_t at the steps lo <= t < hi, (C, b, B, 3n)."""
        k = self.hidden_size // 2
        turned, driven = (extra[:, lo:hi] for extra in trace.extra)
        return np.concatenate([turned, -turned[..., k:], turned[..., :k], driven], axis=-1)

    def delta(self, packed: Packed, local: Floats, adjoint: Floats, out: Floats) -> None:
        """gamma dL/dh; and the inner products of dL/dh with each of `local`, times factors, units being vectors."""
        n, k = self.hidden_size, self.hidden_size // 2
        _, _, gamma, factors = packed.back
        np.multiply(_beside(gamma, adjoint, 1), adjoint, out[..., :n])
        along = local.reshape(*local.shape[:-1], 3, n) * adjoint[..., None, :]
        rest = out[..., n:].reshape(*out.shape[:-1], 3, k, copy=False)
        np.add(along[..., :k], along[..., k:], rest)
        rest *= _beside(factors, adjoint, 2)

    def carry(self, packed: Packed, local: Floats, delta: Floats, adjoint: Floats, out: Floats | None = None) -> None:  # noqa: ARG002
        """dL/dh_{t-1} = conj(lambda) dL/dh_t."""
        along, across = (_beside(array, adjoint, 2) for array in packed.back[:2])
        _turn(_halves(adjoint), along, across, _halves(adjoint if out is None else out))


def _logarithm(name: str, values: Floats) -> Floats:
    """In float64: the exponential of float32 would turn the phase of a long memory. InputError if out of range."""
    low, high = LOGARITHMS[name]
    if values.min() < low or values.max() > high:
        raise InputError(f"from {values.min():.3g} to {values.max():.3g}", where=name, allowed=f"{low:g} to {high:g}")
    return values.astype(np.float64)


def _eigenvalues(nu_log: ArrayLike, theta_log: ArrayLike) -> np.ndarray[tuple[int, ...], np.dtype[np.complex128]]:
    """lambda."""
    return np.exp(-np.exp(nu_log) + 1j * np.exp(theta_log))


def _rotation(eigenvalues: np.ndarray[tuple[int, ...], np.dtype[np.complex128]]) -> Floats:
    """The real matrix (n, n) that multiplies [Re h | Im h] by lambda."""
    real, imaginary = np.diag(eigenvalues.real), np.diag(eigenvalues.imag)
    return np.block([[real, -imaginary], [imaginary, real]])


def _halves(array: Floats) -> Floats:
    """(..., n), real parts beside imaginary ones, as (..., 2, n/2): the same memory."""
    return array.reshape(*array.shape[:-1], 2, array.shape[-1] // 2, copy=False)


def _turn(halves: Floats, along: Floats, across: Floats, out: Floats) -> None:
    """Write complex products to `out` (..., 2, n/2), which may be `halves`."""
    other = halves[..., ::-1, :] * across
    np.multiply(halves, along, out)
    out += other


def _beside(parameters: Floats, rows: Floats, axes: int) -> Floats:
    """Parameters of runs, of so many axes each, with axes of length 1 so that they broadcast with rows (..., n)."""
    if parameters.ndim == axes:  # of one
        return parameters
    return parameters.reshape(-1, *[1] * (rows.ndim - 2), *parameters.shape[1:])
