"""Guards the memory tasks: targets from the inputs alone, read step by step; chance levels; where random things are.

What every task must do is in `test_tasks.py`.
"""

from collections import deque
from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradscope as gs
from gradscope import tasks
from gradscope.engine import measure
from gradscope.errors import InputError
from gradscope.grid import resolve
from gradscope.losses import LOSSES

SEEDS = st.integers(0, 2**32)
# Task, options and seq_len of which the chance level is known.
CHANCES = [
    ("adding", {}, 2, 1 / 6),
    ("adding", {}, 50, 1 / 6),
    ("adding", {"delay": 20}, 50, 1 / 6),
    ("copy", {}, 21, 10 * log(8) / 21),
    ("copy", {}, 120, 10 * log(8) / 120),
    ("copy", {"symbols": 3, "length": 4}, 13, 4 * log(3) / 13),
    ("temporal-order", {}, 10, log(4)),
    ("temporal-order", {}, 57, log(4)),
    ("recall", {}, 30, 1.0),
    ("recall", {"delay": 0}, 5, 1.0),
]
B = 2000


def drawn(name, options, T, batch_size=B, seed=0):
    task = tasks.task(name, **options)
    return task.draw(seed, T, batch_size, task.losses[0])


def counted(sequences):
    """The mask, (T, B)."""
    return np.ones(sequences.x.shape[:2], bool) if sequences.mask is None else sequences.mask


def assert_alike(counts):
    """Counts of what should be equally likely are, by Pearson's chi-squared."""
    expected = counts.sum() / counts.size
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 <= counts.size - 1 + 4 * sqrt(2 * (counts.size - 1))


# --- targets, by a reader that goes through the inputs step by step ---------------------------------------------------


@given(seed=SEEDS, T=st.integers(2, 40), delay=st.integers(0, 20))
def test_adding_asks_for_the_sum_of_two_marked_values_at_the_last_step(seed, T, delay):
    quiet, T = delay, T + delay
    x, y, mask = drawn("adding", {"delay": quiet}, T, 5, seed)
    for example in range(5):
        marked = [(t, value) for t, (value, marker) in enumerate(x[:, example].tolist(), start=1) if marker]
        (first, a), (second, b) = marked
        assert first <= (T - quiet) // 2 < second <= T - quiet
        np.testing.assert_array_equal(y[:, example, 0], a + b)
        assert mask[:, example].nonzero()[0].tolist() == [T - 1]
    assert set(np.unique(x[..., 1])) <= {0.0, 1.0}
    assert x[..., 0].min() >= 0
    assert x[..., 0].max() < 1


@given(seed=SEEDS, symbols=st.integers(2, 9), length=st.integers(1, 6), lag=st.integers(1, 20))
def test_copy_asks_for_blanks_and_then_for_the_symbols(seed, symbols, length, lag):
    x, y, mask = drawn("copy", {"symbols": symbols, "length": length}, lag + 2 * length, 4, seed)
    blank, delimiter = symbols, symbols + 1
    assert mask is None
    np.testing.assert_array_equal(np.sort(x, axis=2)[..., :-1], 0)
    np.testing.assert_array_equal(x.max(axis=2), 1)
    for codes, targets in zip(x.argmax(axis=2).T.tolist(), y.T.tolist(), strict=True):
        memory, asked, answers = deque(), False, []
        for code in codes:
            answers.append(memory.popleft() if asked else blank)
            if code < symbols:
                memory.append(code)
            asked |= code == delimiter
        assert targets == answers
        assert not memory
        assert [codes.count(delimiter), codes.count(blank)] == [1, lag - 1 + length]
        assert codes[-length - 1] == delimiter
        assert max(codes[:length]) < symbols


@given(seed=SEEDS, T=st.integers(10, 80))
def test_temporal_order_asks_for_the_pair_at_the_last_step(seed, T):
    x, y, mask = drawn("temporal-order", {}, T, 5, seed)
    np.testing.assert_array_equal(np.sort(x, axis=2)[..., :-1], 0)
    np.testing.assert_array_equal(x.max(axis=2), 1)
    classes = {"XX": 0, "XY": 1, "YX": 2, "YY": 3}
    for example in range(5):
        text = ["abcdXY"[code] for code in x[:, example].argmax(axis=1)]
        (first, one), (second, other) = [(t, symbol) for t, symbol in enumerate(text, start=1) if symbol in "XY"]
        assert T <= 10 * first < 2 * T
        assert 4 * T <= 10 * second < 5 * T
        np.testing.assert_array_equal(y[:, example], classes[one + other])
        assert mask[:, example].nonzero()[0].tolist() == [T - 1]


@given(seed=SEEDS, lag=st.integers(0, 12), more=st.integers(1, 20))
def test_recall_asks_for_what_was_shown_so_many_steps_before(seed, lag, more):
    x, y, mask = drawn("recall", {"delay": lag}, lag + more, 3, seed)
    for example in range(3):
        memory = deque(maxlen=lag + 1)
        for t in range(lag + more):
            memory.append(x[t, example, 0])
            known = len(memory) == lag + 1
            assert mask[t, example] == known
            assert y[t, example, 0] == (memory[0] if known else 0)


# --- chance ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options", "T", "chance"), CHANCES)
def test_chance_is_the_published_one(name, options, T, chance):
    task = tasks.task(name, **options)
    assert task.chance(T, task.losses[0]) == pytest.approx(chance, rel=1e-15)


def blind(name, T, symbols=8, length=10):
    """The guess, (T, 1, p), that costs chance: the mean of the targets, or log probabilities."""
    if name != "copy":
        return np.full((T, 1, tasks.task(name).sizes[1]), 1.0 if name == "adding" else 0.0)
    guess = np.full((T, 1, symbols + 1), -1e3)  # never
    guess[: T - length, :, symbols] = 0.0
    guess[T - length :, :, :symbols] = 0.0
    return guess


@pytest.mark.parametrize(("name", "options", "T", "chance"), CHANCES)
def test_blind_guess_costs_chance(name, options, T, chance):
    sequences, task = drawn(name, options, T), tasks.task(name, **options)
    guess = np.repeat(blind(name, T, **(options if name == "copy" else {})), B, axis=1)
    with np.errstate(under="ignore"):
        value, _ = LOSSES[task.losses[0]](guess, sequences.y)
    mask = counted(sequences)
    each = np.where(mask, value, 0).sum(axis=0) / mask.sum(axis=0)
    assert abs(each.mean() - chance) < 4 * each.std() / sqrt(B) + 1e-12


@pytest.mark.parametrize(("name", "options", "T", "chance"), CHANCES)
def test_no_guess_that_does_not_look_costs_less(name, options, T, chance):
    """The best guess of each step in hindsight falls short of chance by no more than B examples let it."""
    sequences = drawn(name, options, T, seed=1)
    asked = np.flatnonzero(counted(sequences)[:, 0])
    if tasks.task(name).losses == ("mse",):
        least = sequences.y[asked, :, 0].var(axis=1, ddof=1)
        fourth = {"adding": 1 / 15, "recall": 3.0}[name]  # central moments, of a triangle's and a Gaussian's
        assert abs(least.mean() - chance) < 4 * sqrt((fourth - chance**2) / (B * len(asked)))
        return
    p = tasks.task(name, **options).sizes[1]
    shares = np.stack([np.bincount(classes, minlength=p) for classes in sequences.y[asked]]) / B
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum()
    # 2 B (chance - least) is chi-squared distributed (Wilks), with one degree less than there are classes at each step.
    degrees = ((shares > 0).sum(axis=1) - 1).sum()
    assert degrees == {"temporal-order": 3, "copy": options.get("length", 10) * (options.get("symbols", 8) - 1)}[name]
    assert abs(2 * B * (chance * len(asked) - entropy) - degrees) < 4 * sqrt(2 * degrees)


def test_three_in_four_guesses_of_the_temporal_order_are_wrong():
    classes = drawn("temporal-order", {}, 20).y[-1]
    assert_alike(np.bincount(classes, minlength=4))
    assert abs((classes != 2).mean() - 0.75) < 4 * sqrt(0.75 * 0.25 / B)


# --- where random things are, and how often --------------------------------------------------------------------------


@pytest.mark.parametrize("T", [2, 3, 7, 8])
def test_markers_of_the_adding_problem_are_anywhere_in_their_half_independently(T):
    first, second = np.stack([column.nonzero()[0] for column in drawn("adding", {}, T).x[..., 1].T], axis=1)
    counts = np.zeros((T // 2, T - T // 2))
    np.add.at(counts, (first, second - T // 2), 1)
    assert counts.all()
    assert_alike(counts)


def test_values_of_the_adding_problem_are_uniform_and_unrelated():
    values = drawn("adding", {}, 30).x[..., 0]
    assert_alike(np.histogram(values, bins=20, range=(0, 1))[0])
    centred = values - 0.5
    assert abs((centred[1:] * centred[:-1]).mean()) < 4 / 12 / sqrt(centred[1:].size)


@pytest.mark.parametrize("T", [2, 3, 10, 100])
def test_power_of_the_adding_problem_is_that_of_the_values_besides_that_of_the_two_markers(T):
    power = (drawn("adding", {}, T).x ** 2).sum(axis=2)
    # v^2 has the variance 1/5 - 1/9.
    assert abs(power.mean() - 2 / T - tasks.task("adding").input_power) < 4 * sqrt(4 / 45 / power.size)


@pytest.mark.parametrize(("T", "first", "second"), [(10, [1], [4]), (25, [3, 4], [10, 11, 12]), (40, [4, 7], [16, 19])])
def test_pair_of_the_temporal_order_is_anywhere_in_its_tenths(T, first, second):
    codes = drawn("temporal-order", {}, T).x.argmax(axis=2)
    steps = np.stack([column.nonzero()[0] + 1 for column in (codes >= 4).T], axis=1)
    counts = np.zeros((max(first) - min(first) + 1, max(second) - min(second) + 1))
    np.add.at(counts, (steps[0] - min(first), steps[1] - min(second)), 1)
    assert counts.all()
    assert_alike(counts)
    assert_alike(np.bincount(codes[codes < 4], minlength=4))


def test_symbols_to_copy_are_equally_likely_and_unrelated():
    symbols = drawn("copy", {"symbols": 4, "length": 6}, 20).x[:6].argmax(axis=2)
    counts = np.zeros((4, 4))
    np.add.at(counts, (symbols[:-1], symbols[1:]), 1)
    assert_alike(counts)


def test_noise_to_recall_is_white():
    x = drawn("recall", {}, 30).x
    assert abs(x.mean()) < 4 / sqrt(x.size)
    assert abs(x.var() - 1) < 4 * sqrt(2 / x.size)
    assert abs((x[1:] * x[:-1]).mean()) < 4 / sqrt(x[1:].size)


# --- pairing: what does not depend on what ---------------------------------------------------------------------------


def test_noise_to_recall_does_not_depend_on_the_lag():
    x, y, _ = drawn("recall", {"delay": 3}, 20, 4)
    longer = drawn("recall", {"delay": 8}, 20, 4)
    np.testing.assert_array_equal(longer.x, x)
    np.testing.assert_array_equal(longer.y[8:], y[3:-5])


def test_shorter_recall_is_a_prefix_of_a_longer_one():
    for short, long in zip(drawn("recall", {}, 11, 4), drawn("recall", {}, 40, 4), strict=True):
        np.testing.assert_array_equal(long[:11], short)


def test_symbols_to_copy_do_not_depend_on_the_lag():
    short, long = (drawn("copy", {"length": 5}, T, 4) for T in (11, 40))
    np.testing.assert_array_equal(long.x[:5], short.x[:5])
    np.testing.assert_array_equal(long.y[-5:], short.y[-5:])


def test_values_to_add_and_pairs_to_order_do_not_depend_on_the_length():
    short, long = (drawn("adding", {}, T, 4).x[..., 0] for T in (10, 40))
    np.testing.assert_array_equal(long[:10], short)
    short, long = (drawn("temporal-order", {}, T, 4) for T in (10, 40))
    np.testing.assert_array_equal(long.y[-1], short.y[-1])


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("copy", {"symbols": 1}, "^symbols: must be at least 2, not 1$"),
        ("copy", {"length": 0}, "^length: must be at least 1, not 0$"),
        ("recall", {"delay": -1}, "^delay: must be at least 0, not -1$"),
        ("adding", {"lag": 3}, "unknown option of task adding: 'lag'"),
        ("adding", {"delay": -1}, "^delay: must be at least 0, not -1$"),
        ("temporal-order", {"symbols": 6}, "unknown option of task temporal-order: 'symbols'"),
        ("temporal-ordr", {}, "unknown task 'temporal-ordr'; allowed: .*did you mean 'temporal-order'"),
    ],
)
def test_options_that_cannot_be_are_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        tasks.task(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "shortest"),
    [
        ("adding", {}, 2),
        ("copy", {}, 21),
        ("copy", {"length": 3}, 7),
        ("temporal-order", {}, 10),
        ("recall", {}, 11),
        ("recall", {"delay": 0}, 1),
    ],
)
def test_shortest_is_the_least_that_can_be_drawn(name, options, shortest):
    task = tasks.task(name, **options)
    assert task.shortest == shortest
    assert len(task.draw(0, shortest, 1, task.losses[0]).x) == shortest
    with pytest.raises(InputError, match=rf"^seq_len: must be at least {shortest}, not {shortest - 1}$"):
        task.draw(0, shortest - 1, 1, task.losses[0])


# --- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adding", "copy", "temporal-order", "recall"])
def test_sweep_measures_the_gradients_at_its_own_loss_steps(name):
    given = {"hidden_size": 5, "batch_size": 3, "seq_len": 23, "input_scale": 0.5}
    what = {"truncation": ["full", "fixed:3", "random:4"], "loss_steps": ["last", "all", [3, 22]]}
    (block,) = resolve("memory", {"task": name, **given, **what}).blocks
    measured = measure(block.runs)
    for number, run in enumerate(block.runs):
        x, y, _ = run.task().draw(run["seed"], 23, 3, run["loss"])
        params = run.cell().init(0, 1.0, "gaussian", 0.5, run.task().input_power)
        how = {key: run[key] for key in ("loss", "loss_steps", "truncation")}
        alone = gs.backprop(run.cell(), params, x, y, **how)
        np.testing.assert_allclose(measured.columns["loss_value"][number], alone.loss, rtol=1e-12)
        for parameter, log10 in alone.log10_params.items():
            np.testing.assert_allclose(measured.columns[f"log10_grad_{parameter}"][number], log10, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "loss_steps"), [("adding", "last"), ("temporal-order", "last"), ("recall", [*range(11, 24)])]
)
def test_mask_selects_the_steps_that_are_asked_for(name, loss_steps):
    task = tasks.task(name)
    x, y, mask = task.draw(0, 23, 3, task.losses[0])
    cell = gs.cell("elman", hidden_size=5, input_size=task.sizes[0], output_size=task.sizes[1], activation="tanh")
    params = cell.init(seed=0, spectral_radius=1.0, ensemble="gaussian")
    masked = gs.backprop(cell, params, x, y, loss=task.losses[0], mask=mask)
    chosen = gs.backprop(cell, params, x, y, loss=task.losses[0], loss_steps=loss_steps)
    np.testing.assert_allclose(masked.loss, chosen.loss, rtol=1e-13)
    for parameter, gradient in chosen.params.items():
        np.testing.assert_allclose(masked.params[parameter], gradient, rtol=1e-10, atol=1e-15)
