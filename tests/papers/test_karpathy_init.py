"""What `karpathy-init` is measured with: windows, reaches, differences, and its loop against one letter at a time."""

from __future__ import annotations

import numpy as np
import pytest

from gradscope.papers import karpathy_init as paper
from gradscope.tasks.text import Text


def test_windows_are_the_text_modulo_the_vocabulary():
    window, text = paper._window(3, 7, 2, 10), Text().draw(3, 7, 2, "cross_entropy")
    assert window.x.shape == (7, 2, 10)
    np.testing.assert_array_equal(window.x.argmax(axis=2), text.x.argmax(axis=2) % 10)
    np.testing.assert_array_equal(window.x.argmax(axis=2)[1:], window.y[:-1])


def test_the_reach_is_where_a_thousandth_is_left():
    assert paper._reach(-1.0 * np.arange(25)) == pytest.approx(3.0)
    assert paper._reach(-0.4 * np.arange(25)) == pytest.approx(7.5)
    assert paper._reach(np.zeros(25)) == 24.0


def test_central_differences_are_exact_up_to_the_fourth_power():
    assert paper._central(lambda x: 3.0 + 2.0 * x - 5.0 * x**3 + x**4) == pytest.approx(2.0, rel=1e-10)


def test_the_loop_by_hand_is_the_programs():
    """Its first two losses, character by character, every vector a column."""
    weights = paper._weights(0, 5)
    codes = np.random.default_rng(0).integers(0, 5, 60)
    own = paper._by_hand({name: array.copy() for name, array in weights.items()}, codes)
    losses = [next(own), next(own)]
    W, h = {name: array.reshape(len(array), -1).copy() for name, array in weights.items()}, np.zeros((100, 1))
    memory = {name: np.zeros_like(array) for name, array in W.items()}
    for start, found in zip((0, 25), losses, strict=True):
        loss, hs, ps, g = 0.0, [h], [], {name: np.zeros_like(array) for name, array in W.items()}
        for t in range(start, start + 25):
            hs.append(np.tanh(W["W_xh"][:, [codes[t]]] + W["W_hh"] @ hs[-1] + W["b_h"]))
            p = np.exp(W["W_hy"] @ hs[-1] + W["b_y"])
            ps.append(p / p.sum())
            loss -= np.log(ps[-1][codes[t + 1], 0])
        onward = np.zeros_like(h)
        for t in reversed(range(25)):
            dy = ps[t].copy()
            dy[codes[start + t + 1]] -= 1
            dz = (1 - hs[t + 1] ** 2) * (W["W_hy"].T @ dy + onward)
            g["W_hy"], g["b_y"] = g["W_hy"] + dy @ hs[t + 1].T, g["b_y"] + dy
            g["W_hh"], g["b_h"] = g["W_hh"] + dz @ hs[t].T, g["b_h"] + dz
            g["W_xh"][:, [codes[start + t]]] += dz
            onward = W["W_hh"].T @ dz
        assert found == pytest.approx(loss, rel=1e-9)
        h = hs[-1]
        for name in W:
            limited = np.clip(g[name], -5, 5)
            memory[name] += limited * limited
            W[name] -= 0.1 * limited / np.sqrt(memory[name] + 1e-8)
