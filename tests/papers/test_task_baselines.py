"""The laws of `task-baselines` against all places and symbols, gone through, and its fitted answers against others."""

from __future__ import annotations

from itertools import product
from math import ceil, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope.papers import task_baselines as paper


@given(T=st.integers(2, 40), window=st.integers(0, 45))
def test_what_is_left_of_adding_is_the_variance_of_the_values_that_are_not_seen(T, window):
    """Steps are 1-based: the last `window` are those from T - window + 1 on."""
    unseen = [
        (first <= T - window) + (second <= T - window)
        for first, second in product(range(1, T // 2 + 1), range(T // 2 + 1, T + 1))
    ]
    assert paper._left("adding", T, window) == pytest.approx(np.mean(unseen) / 12, abs=1e-15)
    if T % 2 == 0:
        assert paper._left("adding", T, window) == pytest.approx(max(1 - window / T, 0) / 6, abs=1e-15)


@given(T=st.integers(10, 60), window=st.integers(0, 60))
def test_what_is_left_of_temporal_order_is_the_entropy_of_the_symbols_that_are_not_seen(T, window):
    first, second = (range(ceil(part * T / 10), ceil((part + 1) * T / 10)) for part in (1, 4))
    unseen = [(one <= T - window) + (other <= T - window) for one, other in product(first, second)]
    assert paper._left("temporal-order", T, window) == pytest.approx(np.mean(unseen) * log(2), abs=1e-15)


def test_without_the_time_copying_costs_more_unless_every_blank_asks():
    assert paper._left_without_time("copy", 21) == pytest.approx(paper._left("copy", 21, 0))
    assert all(paper._left_without_time("copy", T) > paper._left("copy", T, 0) for T in range(22, 200))


@pytest.mark.parametrize("name", ["adding", "temporal-order"])
@pytest.mark.parametrize("window", [0, 1, 5, 30, 37, 40])
def test_no_answer_sees_beyond_its_window(name, window):
    task = paper.tasks.task(name)
    one, other = (task.draw(seed, 40, 50, task.losses[0]) for seed in (0, 1))
    mixed = np.concatenate([other.x[: 40 - window], one.x[40 - window :]])
    seen = [paper.SEEN[name](x if name == "adding" else x.argmax(axis=2), one.y, window)[0] for x in (one.x, mixed)]
    np.testing.assert_array_equal(*seen)


def test_frequencies_are_the_best_answers_there_are():
    rng = np.random.default_rng(0)
    seen, y = rng.integers(0, 3, (2, 500)), rng.integers(0, 4, (2, 500))
    best = paper._Frequencies(5, 4)
    best.fit(seen[:, :200], y[:, :200])
    best.fit(seen[:, 200:], y[:, 200:])
    loss = best.score(seen, y)[0].mean()
    counts = np.array([[np.sum((seen == case) & (y == one)) for one in range(4)] for case in range(3)])
    p = counts / counts.sum(axis=1, keepdims=True)
    assert loss == pytest.approx(-(counts * np.log(p)).sum() / counts.sum(), rel=1e-12)
    assert best.score(seen, y)[1].mean() == pytest.approx(1 - counts.max(axis=1).sum() / counts.sum())


def test_the_line_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    seen, y = np.column_stack([np.ones(50), rng.standard_normal((50, 2))]), rng.standard_normal(50)
    line = paper._Line()
    line.fit(seen[:20], y[:20])
    line.fit(seen[20:], y[20:])
    residual = y - seen @ np.linalg.lstsq(seen, y)[0]
    np.testing.assert_allclose(line.score(seen, y)[0], residual**2, rtol=1e-9, atol=1e-12)
