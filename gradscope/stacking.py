"""`Stack`: cells on top of each other, each fed what the one below says at the same step; the top one is read out.

h^0_t = x_t, h^l_t = cell_l(h^{l-1}_t, h^l_{t-1}). The adjoint of a lower layer's h_t holds what the layer above sends
it at the same step, W_xh^T delta, besides what comes from its own future: `delta` goes down through the layers.

Layers stand the top one first, in the state, the trace and the deltas, so that what is read out comes first; they are
counted from the bottom, as in PyTorch: parameters of layer 0 have the cell's names, those of layer 1 end in `_l1`.

Source: Graves, Mohamed & Hinton (2013), "Speech recognition with deep recurrent neural networks", arXiv 1303.5778.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from gradscope.recurrence import Cell, Packed, Parameters, Trace, first_of, multiply, plain
from gradscope.scaled import Floats
from gradscope.spectral import UnitDraw
from gradscope.workspace import Workspace

READOUT = ("W_hy", "b_y")
_APART = 96  # bits: the seeds of upper layers lie beyond those of users and of batches


@dataclass(frozen=True)
class Stack:
    """Layers of cells of one hidden size, the top one first; see the module.

    Parameters
    ----------
    layers : cells; those above the bottom one have the hidden size as input size.
    """

    layers: tuple[Cell, ...]

    @property
    def hidden_size(self) -> int:
        """n, of each layer."""
        return self.layers[0].hidden_size

    @property
    def input_size(self) -> int:
        """m, of the bottom layer."""
        return self.layers[-1].input_size

    @property
    def output_size(self) -> int:
        """p."""
        return self.layers[0].output_size

    @property
    def state_size(self) -> int:
        """S, of all layers."""
        return sum(layer.state_size for layer in self.layers)

    @property
    def delta_size(self) -> int:
        """D, of all layers."""
        return sum(layer.delta_size for layer in self.layers)

    @property
    def weights_shape(self) -> tuple[int, int]:
        """The layers' P one below the other, and the widest W."""
        rows, columns = zip(*(layer.weights_shape for layer in self.layers), strict=True)
        return sum(rows), max(columns)

    @property
    def trace_size(self) -> int:
        """Those of the layers, and their inputs once more."""
        return sum(layer.trace_size + layer.weights_shape[0] for layer in self.layers)

    @property
    def products(self) -> tuple[tuple[slice, slice], ...]:
        """Those of the layers."""
        return tuple(
            (_moved(rows, row), _moved(columns, column))
            for layer, row, column in zip(self.layers, self._rows, self._deltas, strict=True)
            for rows, columns in layer.products
        )

    @property
    def parts(self) -> dict[str, tuple[slice, ...]]:
        """Each part of the state, of all layers together, and that of each layer: "h", "h_l0", "h_l1", ..."""
        apart: dict[str, tuple[slice, ...]] = {}
        together: dict[str, tuple[slice, ...]] = {}
        for number, layer, start in self._counted(self._states):
            for name, columns in layer.parts.items():
                own = tuple(_moved(one, start) for one in columns)
                together[name] = (*together.get(name, ()), *own)
                apart[f"{name}_l{number}"] = own
        return together | apart

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter names and shapes, from the bottom up, the readout's last."""
        found: dict[str, tuple[int, ...]] = {}
        for number, layer in enumerate(self.layers[::-1]):
            found |= {_named(name, number): shape for name, shape in layer.shapes().items() if name not in READOUT}
        return found | {name: self.layers[0].shapes()[name] for name in READOUT}

    def blocks(self) -> dict[str, tuple[slice, slice]]:
        """Where each recurrent-cell parameter stands."""
        return {
            _named(name, number): (_moved(rows, row), columns)
            for number, layer, row in self._counted(self._rows)
            for name, (rows, columns) in layer.blocks().items()
        }

    def init(
        self,
        seed: int,
        spectral_radius: float,
        ensemble: str | None = None,
        input_scale: float = 0.1,
        input_power: float | None = None,
    ) -> Parameters:
        """Draw parameters: each layer as its cell does, with the spectral radius of its own.

        `ensemble` is the cell's own if it is not given; `input_scale` is for the inputs of the bottom layer, and W_xh
        of the others has N(0, 1/n) entries.
        """
        own_ensemble = {} if ensemble is None else {"ensemble": ensemble}
        found: Parameters = {}
        for number, layer in enumerate(self.layers[::-1]):
            scale, power = (1.0, None) if number else (input_scale, input_power)
            drawn = seed + (number << _APART)
            own = layer.init(drawn, spectral_radius, **own_ensemble, input_scale=scale, input_power=power)
            found |= {_named(name, number): array for name, array in own.items() if name not in READOUT}
        return found | {name: own[name] for name in READOUT}

    def check(self, ensemble: str, spectral_radius: float) -> None:
        """Raise InputError for an ensemble or a spectral radius that cannot be."""
        self.layers[-1].check(ensemble, spectral_radius)

    def drawn(self, ensemble: str, seed: int) -> UnitDraw:
        """That of the bottom layer."""
        return self.layers[-1].drawn(ensemble, seed)

    def recurrent(self, params: Mapping[str, Floats]) -> Floats:
        """That of the bottom layer."""
        return self.layers[-1].recurrent(params)

    def pack(self, params: Mapping[str, Floats]) -> Packed:
        """Lay out parameters that have a leading run axis C; `back` are the W_xh of the layers above the bottom."""
        readout = {name: params[name] for name in READOUT}
        layers, inputs = [], []
        for number, layer, _ in self._counted(self._rows):
            own = {name: params[_named(name, number)] for name in layer.shapes() if name not in READOUT}
            passed = [name for name in ("W_hh", "W_xh")[: 2 if number else 1] if name in own]
            own |= {name: plain(own[name], _named(name, number)) for name in passed}
            layers.append(layer.pack(own | readout))
            inputs += [np.ascontiguousarray(own["W_xh"])] if number else []
        exponent = np.max([layer.back_exponent for layer in layers], axis=0)
        layers = [_with_exponent(layer, exponent) for layer in layers]
        return Packed((), tuple(inputs), exponent, params["W_hy"], params["b_y"], tuple(layers))

    def forward(self, packed: Packed, x: Floats, start: Floats | None, workspace: Workspace) -> Trace:
        """Run over x (C, T, B, m) from the state (C, B, S), or zero, the bottom layer first."""
        traces: list[Trace] = []
        for number, layer, state in reversed(list(self._counted(self._states))):
            begun = None if start is None else start[..., state : state + layer.state_size]
            own = packed.layers[len(self.layers) - 1 - number]
            traces.insert(0, layer.forward(own, x, begun, workspace.within(f"layer {number}")))
            x = traces[0].states
        C, T, B = traces[0].extent
        inputs = workspace.array("inputs", (C, T + 1, B, self.weights_shape[0]), x.dtype)
        np.concatenate([trace.inputs for trace in traces], axis=-1, out=inputs)
        overflow = first_of(np.stack([trace.overflow for trace in traces]), axis=0)
        return Trace(inputs, self.hidden_size, overflow, any(trace.wide for trace in traces), layers=tuple(traces))

    def state(self, trace: Trace, t: int) -> Floats:
        """The states (C, B, S) of all layers after so many steps."""
        return np.concatenate(
            [layer.state(own, t) for layer, own in zip(self.layers, trace.layers, strict=True)], axis=-1
        )

    def local(self, trace: Trace, lo: int, hi: int) -> Floats:
        """The layers' local factors side by side, (C, b, B, L)."""
        return np.concatenate(
            [layer.local(own, lo, hi) for layer, own in zip(self.layers, trace.layers, strict=True)], axis=-1
        )

    def delta(self, packed: Packed, local: Floats, adjoint: Floats, out: Floats) -> None:
        """The deltas of the layers from the top down, each of which passes its own on to the h below it."""
        for number, (layer, own, parts) in enumerate(
            zip(self.layers, packed.layers, self._parts_of(local, adjoint, out), strict=True)
        ):
            layer.delta(own, *parts)
            if number + 1 < len(self.layers):
                sent = parts[2][..., _inputs_of(layer)]
                below = adjoint[..., self._states[number + 1] :][..., : self.hidden_size]
                passed = np.empty_like(below)
                multiply(sent, packed.back[number], passed)
                below += passed

    def carry(self, packed: Packed, local: Floats, delta: Floats, adjoint: Floats, out: Floats | None = None) -> None:
        """The adjoints of the layers' previous states, each by itself."""
        out = adjoint if out is None else out
        each = zip(self.layers, packed.layers, self._parts_of(local, adjoint, delta), self._states, strict=True)
        for layer, own, (factors, completed, sent), state in each:
            layer.carry(own, factors, sent, completed, out[..., state : state + layer.state_size])

    def _parts_of(self, local: Floats, adjoint: Floats, delta: Floats) -> Iterator[tuple[Floats, Floats, Floats]]:
        """Each layer's own of these."""
        starts = zip(
            self.layers, _starts(layer.local_size for layer in self.layers), self._states, self._deltas, strict=True
        )
        for layer, factor, state, sent in starts:
            yield (
                local[..., factor : factor + layer.local_size],
                adjoint[..., state : state + layer.state_size],
                delta[..., sent : sent + layer.delta_size],
            )

    def _counted(self, starts: Sequence[int]) -> Iterator[tuple[int, Cell, int]]:
        """The layers, the top one first: its number from the bottom, and where what it has of something starts."""
        return zip(range(len(self.layers) - 1, -1, -1), self.layers, starts, strict=True)

    @property
    def local_size(self) -> int:
        """L, of all layers."""
        return sum(layer.local_size for layer in self.layers)

    @cached_property
    def _rows(self) -> tuple[int, ...]:
        return _starts(layer.weights_shape[0] for layer in self.layers)

    @cached_property
    def _deltas(self) -> tuple[int, ...]:
        return _starts(layer.delta_size for layer in self.layers)

    @cached_property
    def _states(self) -> tuple[int, ...]:
        return _starts(layer.state_size for layer in self.layers)


def _starts(sizes: Iterable[int]) -> tuple[int, ...]:
    """Where parts of these sizes start, one behind the other."""
    return tuple(accumulate(sizes, initial=0))[:-1]


def _with_exponent(packed: Packed, exponent: NDArray[np.int64]) -> Packed:
    """The same parameters with another `back_exponent`, one that all layers have: their adjoints are one vector."""
    apart = packed.back_exponent - exponent
    if not np.count_nonzero(apart):
        return packed
    back = tuple(np.ldexp(one, apart.reshape(-1, *[1] * (one.ndim - 1)).astype(np.int32)) for one in packed.back)
    return packed._replace(back=back, back_exponent=exponent)


def _moved(part: slice, by: int) -> slice:
    return slice((part.start or 0) + by, part.stop + by)


def _named(name: str, number: int) -> str:
    """The name of a parameter of a layer."""
    return f"{name}_l{number}" if number else name


@cache
def _inputs_of(layer: Cell) -> slice:
    """Those of the layer's deltas that W_xh passes on to its inputs."""
    rows, _ = layer.blocks()["W_xh"]
    (columns,) = (columns for own, columns in layer.products if (own.start or 0) <= rows.start < own.stop)
    return slice(columns.start, (columns.start or 0) + layer.shapes()["W_xh"][0])
