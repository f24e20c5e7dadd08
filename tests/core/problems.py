"""Random networks and data for the tests, and how a result is held against an oracle."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from oracles import Truth

import gradscope as gs

LOSS_STEPS = {"last": "last", "all": "all", "one": 4, "several": [2, 5, 9]}  # by name; 1-based


class Problem(NamedTuple):
    """A network and a batch, to be given to gradscope (`backprop`) and to oracles (`ask`)."""

    params: dict[str, np.ndarray]
    x: np.ndarray
    y: np.ndarray
    activation: str
    loss: str
    h0: np.ndarray

    @property
    def cell(self) -> Any:
        (p, n), m = self.params["W_hy"].shape, self.x.shape[-1]
        return gs.cell("elman", hidden_size=n, input_size=m, output_size=p, activation=self.activation)

    def steps(self, loss_steps: Any) -> list[int]:
        """1-based."""
        every = range(1, len(self.x) + 1)
        if isinstance(loss_steps, str):
            return list({"last": every[-1:], "all": every}[loss_steps])
        return np.atleast_1d(loss_steps).tolist()

    def backprop(self, **options: Any) -> gs.Gradients:
        return gs.backprop(self.cell, self.params, self.x, self.y, loss=self.loss, h0=self.h0, **options)

    def ask(self, oracle: Any, loss_steps: Any, reduction: str, *more: Any) -> Truth:
        """What an oracle says of this problem."""
        steps = self.steps(loss_steps)
        return oracle(self.params, self.x, self.y, self.activation, self.loss, steps, reduction, *more, self.h0)


def problem(activation="tanh", loss="mse", T=9, B=2, n=4, m=3, p=3, seed=0, started=True) -> Problem:
    """A random problem with W_hh of spectral radius 1, `started` from a random initial state or from zero."""
    rng = np.random.default_rng(seed)
    W_hh = rng.standard_normal((n, n))
    params = {
        "W_xh": rng.standard_normal((n, m)) / np.sqrt(m),
        "W_hh": W_hh / max(abs(np.linalg.eigvals(W_hh))),
        "b_h": 0.3 * rng.standard_normal(n),
        "W_hy": rng.standard_normal((p, n)) / np.sqrt(n),
        "b_y": rng.standard_normal(p),
    }
    x = rng.standard_normal((T, B, m))
    y = rng.standard_normal((T, B, p)) if loss == "mse" else rng.integers(0, p, (T, B))
    return Problem(params, x, y, activation, loss, rng.standard_normal((B, n)) * started)


def assert_agrees(g: gs.Gradients, truth: Truth, rtol: float = 1e-9) -> None:
    """gradscope's result is the oracle's, entry by entry; `atol` is rounding at the size of the largest entry."""
    assert g.status == "ok"
    np.testing.assert_allclose(g.loss, truth.loss, rtol=rtol)
    with np.errstate(divide="ignore"):
        log10_dh = np.log10(np.linalg.norm(truth.dh, axis=-1))
    np.testing.assert_allclose(g.log10_dh, log10_dh, rtol=0, atol=rtol)
    assert set(g.params) == set(truth.params)
    for name, expected in truth.params.items():
        atol = 1e-13 * np.abs(expected).max()
        np.testing.assert_allclose(g.params[name], expected, rtol=rtol, atol=atol, err_msg=name)
        if expected.any():
            np.testing.assert_allclose(g.log10_params[name], np.log10(np.linalg.norm(expected)), rtol=0, atol=rtol)
        else:
            assert g.log10_params[name] == -np.inf


def assert_same(g: gs.Gradients, other: gs.Gradients, rtol: float = 1e-12) -> None:
    """Two of gradscope's results are the same to rounding."""
    np.testing.assert_allclose(g.loss, other.loss, rtol=rtol)
    np.testing.assert_allclose(g.log10_dh, other.log10_dh, rtol=0, atol=rtol)
    for name, expected in other.params.items():
        atol = rtol * np.abs(expected).max()
        np.testing.assert_allclose(g.params[name], expected, rtol=rtol, atol=atol, err_msg=name)
    for name, norm in other.log10_params.items():
        np.testing.assert_allclose(g.log10_params[name], norm, rtol=0, atol=rtol)
