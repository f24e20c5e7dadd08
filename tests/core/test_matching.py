"""Cells at equal cost: costs counted by hand, and sizes that no other is nearer than."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradscope as gs
from gradscope import cells, plugins
from gradscope.matching import COSTS, matched, multiplications, parameters

SIZES = [(1, 1), (3, 2), (16, 5)]
COUNTS = {  # numbers that are learnt, counted by hand
    "elman": lambda n, m, p: n * n + n * m + n + p * n + p,
    "irnn": lambda n, m, p: n * n + n * m + n + p * n + p,
    "gru": lambda n, m, p: 3 * (n * n + n * m + 2 * n) + p * n + p,
    "lstm": lambda n, m, p: 4 * (n * n + n * m + 2 * n) + p * n + p,
    "diagonal": lambda n, m, p: n * m + 3 * n // 2 + p * n + p,
}
PRODUCTS = {  # multiplications of the weights' products in a step forward
    "elman": lambda n, m, p: n * n + n * m + p * n,
    "irnn": lambda n, m, p: n * n + n * m + p * n,
    "gru": lambda n, m, p: 3 * (n * n + n * m) + p * n,
    "lstm": lambda n, m, p: 4 * (n * n + n * m) + p * n,
    "diagonal": lambda n, m, p: n * m + p * n,
}
STATE = {"elman": 1, "irnn": 1, "gru": 1, "lstm": 2, "diagonal": 1}  # numbers a unit


def maker(name, m=3, p=2, **options):
    return lambda n: gs.cell(name, hidden_size=n, input_size=m, output_size=p, **options)


def test_every_cell_has_a_count():
    assert set(COUNTS) == set(plugins.names(cells.FAMILY))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_those_that_there_are(name, sizes):
    cell = maker(name, *sizes)(6)
    assert parameters(cell) == COUNTS[name](6, *sizes)
    assert parameters(cell) == sum(array.size for array in cell.init(seed=0, spectral_radius=0.5).values())


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", COUNTS)
def test_products_are_counted_forward_back_and_for_the_weights_gradient(name, sizes):
    n = 200
    products = 3 * PRODUCTS[name](n, *sizes)
    elementwise = multiplications(maker(name, *sizes)(n)) - products
    assert 0 < elementwise <= 20 * n  # a few of each unit, that no product has


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("match", COSTS)
@given(size=st.integers(2, 60), sizes=st.sampled_from(SIZES))
@settings(max_examples=8)
def test_no_other_size_is_nearer(match, name, size, sizes):
    make = maker(name, *sizes)
    found = matched(match, size, make)
    if match == "units":
        assert found == size
        return
    step = 2 if name == "diagonal" else 1
    wanted = COSTS[match](maker("elman", *sizes)(size))
    far = [abs(COSTS[match](make(n)) - wanted) for n in (found - step, found, found + step) if n > 0]
    assert min(far) == abs(COSTS[match](make(found)) - wanted)
    assert found % step == 0


@pytest.mark.parametrize("match", COSTS)
@given(size=st.integers(1, 500))
@settings(max_examples=8)
def test_an_elman_network_is_matched_by_itself(match, size):
    assert matched(match, size, maker("elman")) == size


@pytest.mark.parametrize("name", COUNTS)
def test_states_are_as_long_as_each_other(name):
    assert matched("state", 64, maker(name)) == 64 // STATE[name]


def test_layers_share_what_one_has():
    assert matched("state", 64, maker("elman", num_layers=2)) == 32
    stacked = matched("parameters", 64, maker("elman", num_layers=2))
    wanted = COUNTS["elman"](64, 3, 2)
    costs = [2 * n * n + n * 3 + n * n + 2 * n + 2 * n + 2 for n in (stacked - 1, stacked, stacked + 1)]
    assert np.abs(np.array(costs) - wanted).argmin() == 1


def test_what_is_not_a_cost_is_refused():
    with pytest.raises(gs.InputError, match=r"unknown match 'parameter'; .*did you mean 'parameters'"):
        matched("parameter", 8, maker("lstm"))
