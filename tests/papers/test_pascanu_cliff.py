"""The unit of `pascanu-cliff` against `gs.backprop`, `gs.clip` and a recursion forward in time."""

from __future__ import annotations

import numpy as np
import pytest

import gradscope as gs
from gradscope.papers import pascanu_cliff as paper


def units(number=12):
    rng = np.random.default_rng(0)
    w = rng.uniform(4.0, 6.5, number)
    return w, paper._cliff(w) + rng.uniform(-0.4, 0.4, number)


def forward(w, b):
    """Error, dE/dw and dE/db by carrying dx/dw and dx/db forward with the state."""
    x, by_w, by_b = 0.5, 0.0, 0.0
    for _ in range(50):
        s = 1 / (1 + np.exp(-x))
        x, by_w, by_b = w * s + b, s + w * s * (1 - s) * by_w, 1 + w * s * (1 - s) * by_b
    s = 1 / (1 + np.exp(-x))
    return (s - 0.7) ** 2, *(2 * (s - 0.7) * s * (1 - s) * by for by in (by_w, by_b))


def test_errors_and_gradients_are_those_of_the_equation():
    w, b = units()
    np.testing.assert_allclose(
        np.array(paper._slope(w, b)).T, [forward(*one) for one in zip(w, b, strict=True)], rtol=1e-9
    )


@pytest.mark.parametrize("clip", ["off", "norm:1"])
def test_many_units_at_once_are_as_each_by_backprop_and_clip(clip):
    w, b = units()
    w[0], b[0] = 5.0, paper._cliff(5.0)  # where the gradient is large
    found = paper._slope(w, b, clip)
    for i in range(len(w)):
        alone = paper._gradient(w[i], b[i])
        alone = {name: alone[name] for name in ("W_hh", "b_h")}
        if clip != "off":
            alone = gs.clip(alone, 1.0).params
        np.testing.assert_allclose([found.dw[i], found.db[i]], [alone["W_hh"].item(), alone["b_h"].item()], rtol=1e-12)


def test_a_unit_that_is_held_stays_and_its_factor_is_its_slope():
    h = np.array([0.1, 0.4, 0.9])
    w = 3.0
    np.testing.assert_allclose(1 / (1 + np.exp(-(w * h + paper._held(w, h)))), h, rtol=1e-14)
    np.testing.assert_allclose(paper._factors(w, h), w * h * (1 - h), rtol=1e-12)


def test_a_path_ends_where_it_leaves_the_map():
    (w, b), (_, most) = paper.LEAST, paper.MOST
    path = paper._Path(
        *np.array([[[w + 0.1, b + 0.1, 0.0]], [[w + 0.2, most - 1.0, 0.2]], [[w + 0.4, most + 1.0, 0.4]]]).T.swapaxes(
            1, 2
        )
    )
    cut = paper._path_on_map(path, 0)
    np.testing.assert_allclose(cut.to_numpy()[-1], [w + 0.3, most, 0.3], rtol=1e-12)
    assert len(cut) == 3
    inside = paper._Path(*(values[:2] for values in path))
    assert len(paper._path_on_map(inside, 0)) == 2
