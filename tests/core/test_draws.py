"""Many draws of coins at once are each draw alone: held against each loss sent back by itself, and at any magnitude."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import naive
from problems import problem

import gradscope as gs
from gradscope import draws, truncations
from gradscope.bptt import loss_gradients
from gradscope.draws import drawn_gradients
from gradscope.passes import Request, passes
from gradscope.streams import coin_draws, coins
from gradscope.workspace import Workspace

T, N = 9, 7
TOSSING = ["random:3", "random-unweighted:4", "one-coin:3", "artbp:4:3", "variable:5:1:0.8"]


def drawn(case, spec, loss_steps, number=N, seed=3):
    """The schedule, and the gradients that `drawn_gradients` gives."""
    schedule = truncations.truncation(spec).schedule(coin_draws(seed, number, len(case.x)))
    packed = case.cell.pack({name: array[None] for name, array in case.params.items()})
    trace = case.cell.forward(packed, case.x[None], case.h0[None], Workspace())
    steps = np.array(case.steps(loss_steps)) - 1
    found = drawn_gradients(case.cell, packed, trace, case.y[None], case.loss, steps, schedule)
    return schedule, [part for parts in found for part in (parts[draw] for draw in range(len(parts.mantissa)))]


def weights_of(schedule, draw, number=N):
    """w[s-1, t-1] of one draw."""
    w = np.zeros((T, T))
    for s in range(1, T + 1):
        w[s - 1, :s] = np.broadcast_to(schedule.reach(s), (number, s))[draw]
    return w


@pytest.mark.parametrize("spec", TOSSING)
@pytest.mark.parametrize("loss_steps", ["last", "all", [2, 5, 9]], ids=str)
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_each_draw_is_each_loss_sent_back_alone(spec, loss_steps, loss):
    case = problem(T=T, B=3, seed=1, loss=loss)
    schedule, found = drawn(case, spec, loss_steps)
    for draw in range(N):
        truth = case.ask(naive, loss_steps, "sum", weights_of(schedule, draw)).params
        for name, (inputs, units) in case.cell.blocks().items():
            own = found[draw].value()[inputs, units].T.reshape(truth[name].shape) / 3
            np.testing.assert_allclose(own, truth[name], rtol=1e-11, atol=1e-13 * np.abs(truth[name]).max())


@pytest.mark.parametrize("spec", TOSSING)
def test_draws_a_few_at_a_time_and_blocks_of_one_step_change_nothing(spec, monkeypatch):
    case = problem(T=T, B=2, seed=2)
    _, whole = drawn(case, spec, "all")
    monkeypatch.setattr(draws, "SMALL_PRODUCT", 3 * 2 * 4 * 8)
    monkeypatch.setattr(draws, "SHARED_ENTRIES", 3 * 4 * 8)
    monkeypatch.setattr(draws, "_BLOCK_BYTES", 1)
    _, parts = drawn(case, spec, "all")
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.value(), other.value(), rtol=1e-12, atol=1e-14)


def test_a_draw_beyond_the_range_of_numbers_is_exact():
    """Factors of 1.5e40 a step, over as many steps as the coins leave: up to 1e600."""
    length, factor = 100, 1e40
    case = problem("linear", T=length, B=1, n=1, m=1, p=1)
    params = {"W_xh": [[1.0]], "W_hh": [[factor]], "b_h": [0.0], "W_hy": [[1.0]], "b_y": [0.0]}
    params = {name: np.array(value) for name, value in params.items()}
    case = case._replace(
        params=params, x=np.zeros((length, 1, 1)), y=np.full((length, 1, 1), -0.5), h0=np.zeros((1, 1))
    )
    schedule, found = drawn(case, "random:3", "last", number=400, seed=0)
    open_steps = (schedule.weights[:, : length - 1] > 0)[:, ::-1].cumprod(axis=1).sum(axis=1)
    assert open_steps.max() > 12
    for draw, lag in enumerate(open_steps):
        # dL/db_h is the sum of 1.5e40**k over the lags k that are reached, since dL/dh_T is 1: its last term.
        (norm,) = found[draw][2:3].log10_norm()
        np.testing.assert_allclose(norm, np.log10(1.5e40) * lag, rtol=1e-12)


def test_the_first_draw_is_the_seeds_own_and_fewer_or_shorter_are_part_of_more():
    some = coin_draws(5, 4, 20)
    np.testing.assert_array_equal(some[0], coins([5], 20)[0])
    np.testing.assert_array_equal(coin_draws(5, 2, 12), some[:2, :12])
    assert len(np.unique(some)) == some.size


CELLS = {
    "lstm": {},
    "gru": {},
    "irnn": {},
    "diagonal": {},
    "lstm in two layers": {"num_layers": 2},
    "elman in three layers": {"num_layers": 3},
}


@pytest.mark.parametrize("spec", TOSSING)
@pytest.mark.parametrize("name", CELLS)
def test_draws_of_every_cell_are_its_gradients_with_these_coins(name, spec):
    """Those that `bptt` gives, which goes back another way; the comparisons with PyTorch are of them."""
    cell = gs.cell(name.split()[0], hidden_size=4, input_size=3, output_size=2, **CELLS[name])
    rng = np.random.default_rng(0)
    packed = cell.pack({key: array[None] for key, array in cell.init(0, 0.9, input_scale=0.5).items()})
    x, y, start = (rng.standard_normal(shape) for shape in ((1, T, 3, 3), (1, T, 3, 2), (1, 3, cell.state_size)))
    trace = cell.forward(packed, x, start, Workspace())
    schedule = truncations.truncation(spec).schedule(coin_draws(0, N, T))
    losses = np.arange(T)
    found = np.concatenate([each.value() for each in drawn_gradients(cell, packed, trace, y, "mse", losses, schedule)])
    copies = np.zeros(N, np.int64)
    requests = [Request(T, losses, schedule)]
    many = packed.of(copies), trace.of(copies), y[copies]
    (truth,) = loss_gradients(cell, *many, "mse", requests, passes(requests), Workspace())
    expected = truth.weights.value()
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13 * np.abs(expected).max())
