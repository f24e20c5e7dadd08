"""`irnn`: the ReLU network whose W_hh starts as the identity: h_t = relu(W_xh x_t + W_hh h_{t-1} + b_h).

Source: Le, Jaitly & Hinton (2015), "A simple way to initialize recurrent networks of rectified linear units", arXiv
1504.00941. Gradients of active units pass unchanged at first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from gradscope.cells.elman import Elman
from gradscope.errors import InputError
from gradscope.recurrence import Packed, Parameters, Trace
from gradscope.scaled import Floats
from gradscope.spectral import UnitDraw
from gradscope.workspace import Workspace


@dataclass(frozen=True)
class Irnn:
    """An Elman network of ReLU units, W_hh = (spectral radius) times the identity at first.

    Parameters
    ----------
    hidden_size, input_size, output_size : n, m, p.

    Examples
    --------
    >>> import gradscope as gs
    >>> cell = gs.cell("irnn", hidden_size=3, input_size=1, output_size=1)
    >>> cell.init(seed=0, spectral_radius=0.5)["W_hh"].tolist()
    [[0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]]
    """

    own_ensemble: ClassVar[str] = "identity"

    hidden_size: int
    input_size: int
    output_size: int

    def __post_init__(self) -> None:
        self._elman  # noqa: B018 checks the sizes

    @cached_property
    def _elman(self) -> Elman:
        return Elman(self.hidden_size, self.input_size, self.output_size, activation="relu")

    @property
    def state_size(self) -> int:
        """S = n."""
        return self._elman.state_size

    @property
    def delta_size(self) -> int:
        """D = n."""
        return self._elman.delta_size

    @property
    def local_size(self) -> int:
        """L = n."""
        return self._elman.local_size

    @property
    def weights_shape(self) -> tuple[int, int]:
        """(n + m + 1, n)."""
        return self._elman.weights_shape

    @property
    def trace_size(self) -> int:
        """P = n + m + 1."""
        return self._elman.trace_size

    @property
    def products(self) -> tuple[tuple[slice, slice], ...]:
        """A single one, of everything."""
        return self._elman.products

    @property
    def parts(self) -> dict[str, tuple[slice, ...]]:
        """The state is h."""
        return self._elman.parts

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter names and shapes."""
        return self._elman.shapes()

    def blocks(self) -> dict[str, tuple[slice, slice]]:
        """Where each parameter stands in [h_{t-1} | x_t | 1]."""
        return self._elman.blocks()

    def init(
        self,
        seed: int,
        spectral_radius: float,
        ensemble: str = own_ensemble,
        input_scale: float = 0.1,
        input_power: float | None = None,
    ) -> Parameters:
        """Draw parameters, as the Elman network does; W_hh is the identity times the spectral radius.

        Raises InputError for another ensemble than "identity", a negative or non-finite radius or scale.
        """
        self._check_own(ensemble)
        return self._elman.init(seed, spectral_radius, ensemble, input_scale, input_power)

    def check(self, ensemble: str, spectral_radius: float) -> None:
        """Raise InputError for an ensemble or a spectral radius that cannot be."""
        self._check_own(ensemble)
        self._elman.check(ensemble, spectral_radius)

    def _check_own(self, ensemble: str) -> None:
        if ensemble != self.own_ensemble:
            raise InputError(f"{ensemble!r} for cell irnn", where="ensemble", allowed=self.own_ensemble)

    def drawn(self, ensemble: str, seed: int) -> UnitDraw:
        """The identity, (n, n)."""
        self._check_own(ensemble)
        return self._elman.drawn(ensemble, seed)

    def recurrent(self, params: Mapping[str, Floats]) -> Floats:
        """W_hh."""
        return self._elman.recurrent(params)

    def pack(self, params: Mapping[str, Floats]) -> Packed:
        """Lay out parameters that have a leading run axis C."""
        return self._elman.pack(params)

    def forward(self, packed: Packed, x: Floats, start: Floats | None, workspace: Workspace) -> Trace:
        """Run over x (C, T, B, m) from the state (C, B, n), or zero. The trace lives in the workspace."""
        return self._elman.forward(packed, x, start, workspace)

    def state(self, trace: Trace, t: int) -> Floats:
        """h_t, (C, B, n)."""
        return self._elman.state(trace, t)

    def local(self, trace: Trace, lo: int, hi: int) -> Floats:
        """Which units are active at the steps lo <= t < hi, (C, b, B, n)."""
        return self._elman.local(trace, lo, hi)

    def delta(self, packed: Packed, local: Floats, adjoint: Floats, out: Floats) -> None:
        """dL/dh of the active units."""
        self._elman.delta(packed, local, adjoint, out)

    def carry(self, packed: Packed, local: Floats, delta: Floats, adjoint: Floats, out: Floats | None = None) -> None:
        """dL/dh_{t-1} = W_hh^T delta_t."""
        self._elman.carry(packed, local, delta, adjoint, out)
