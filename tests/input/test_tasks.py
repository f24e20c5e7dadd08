"""Guards the tasks: one suite that every member passes, then each task's own law against a computation by hand.

A new task needs a line in EXAMPLES. The laws of the memory tasks are in `test_memory_tasks.py`.
"""

import csv
import dataclasses
import json
from math import inf, isfinite, isnan
from pathlib import Path
from typing import ClassVar, get_origin, get_type_hints

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope import plugins, tasks
from gradscope.engine import measure
from gradscope.errors import InputError
from gradscope.grid import BASE, NOT_OF_TRAINING, TRAINING, resolve
from gradscope.losses import LOSSES
from gradscope.runs import ADDED
from gradscope.sources import series
from gradscope.task import Problem, Recorded

PERIOD = 20
# Options of each task, all of them with something random; files stand in the folder of `files`.
EXAMPLES = {
    "noise": [{}, {"input_size": 3, "output_size": 4}],
    "sine": [
        {},
        {"frequency": 0.13, "phase": 0.5, "noise": 0.3},
        {"frequency": 0.3, "noise": 1.0},
        {"frequency": "0.05+0.13"},
    ],
    "series": [{"file": "{files}/periodic.csv"}, {"file": "{files}/prices.csv", "column": "price"}, {}],
    "text": [{"file": "{files}/text.txt"}, {}],
    "influence-balancing": [{}, {"learning_rate": 0.1, "iterations": 7}],
    "adding": [{}],
    "copy": [{}, {"symbols": 3, "length": 2}],
    "temporal-order": [{}],
    "recall": [{}, {"delay": 3}, {"delay": 0}],
}
ALONE = ("adding", "copy", "temporal-order")  # whose shorter sequences are no prefixes of longer ones
MEMBERS = plugins.names(tasks.FAMILY)
PROBLEMS = [name for name in MEMBERS if issubclass(plugins.find(tasks.FAMILY, name), Problem)]
RECORDED = [name for name in MEMBERS if issubclass(plugins.find(tasks.FAMILY, name), Recorded)]
ALL = [(name, options) for name in MEMBERS for options in EXAMPLES.get(name, [])]
ENDLESS = [name for name in MEMBERS if plugins.find(tasks.FAMILY, name).longest == inf]
MEASURED = ("spectral_radius_realised", "spectral_norm", "loss_value", "log10_grad", "relative_error", "cosine")
TEXT = "Grüße, 世界! 🙂\nThe same again, and then once more: naïve café, 東京 🙂🙃.\n" * 5


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder of data files: `prices` in every format, a periodic series, a text."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(3)
    prices = pd.DataFrame({"volume": rng.integers(1, 99, 61), "price": 100 + rng.standard_normal(61).cumsum()})
    with (folder / "prices.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["date", "volume", "price"])
        rows.writerows([f"day {day}", *row] for day, row in enumerate(prices.itertuples(index=False)))
    prices.to_parquet(folder / "prices.parquet")
    np.save(folder / "structured.npy", prices.to_records(index=False))
    np.save(folder / "matrix.npy", prices.to_numpy())
    np.save(folder / "vector.npy", prices["price"].to_numpy())
    phase = 2 * np.pi * np.arange(20 * PERIOD) / PERIOD
    pd.DataFrame({"level": 3 + np.sin(phase) + 0.5 * np.cos(3 * phase)}).to_csv(folder / "periodic.csv", index=False)
    (folder / "text.txt").write_text(TEXT, encoding="utf-8", newline="")
    return folder


def made(name, options, files):
    return tasks.task(name, **{k: v.format(files=files) if isinstance(v, str) else v for k, v in options.items()})


@pytest.fixture(params=ALL, ids=lambda example: f"{example[0]}-{EXAMPLES[example[0]].index(example[1])}")
def task(request, files):
    return made(*request.param, files)


def only(wanted):
    """Run a test on the examples that are `wanted(name, options)`."""
    return pytest.mark.parametrize("task", [example for example in ALL if wanted(*example)], indirect=True, ids=str)


def draw(task, seed, more, batch_size, loss=None):
    """A batch of sequences that are `more` steps longer than they must be."""
    return task.draw(seed, task.shortest + more, batch_size, loss or task.losses[0])


def each_loss(task):
    return [(loss, draw(task, 5, 10, 7, loss)) for loss in task.losses]


def arrays(drawn):
    """The arrays that were drawn: without the mask, if there is none."""
    return [array for array in drawn if array is not None]


def same(drawn, other):
    assert (drawn.mask is None) == (other.mask is None)
    return all(map(np.array_equal, arrays(drawn), arrays(other)))


def name_and_options(task):
    name = type(task).__module__.rpartition(".")[2].replace("_", "-")
    return name, {field.name: getattr(task, field.name) for field in dataclasses.fields(task)}


# --- conformance: every member of the family -------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEMBERS)
def test_member_has_examples(name):
    assert EXAMPLES.get(name), f"give the task {name!r} some options in EXAMPLES of {__file__}"


@pytest.mark.parametrize("name", MEMBERS)
def test_file_is_named_after_the_member_and_it_is_frozen(name):
    member = plugins.find(tasks.FAMILY, name)
    assert Path(member.__module__.replace(".", "/")).name.replace("_", "-") == name
    assert member.__dataclass_params__.frozen
    assert member.__doc__


@pytest.mark.parametrize("name", MEMBERS)
def test_member_needs_no_options(name):
    assert tasks.task(name) == tasks.task(name)


def test_inputs_are_numbers_time_by_batch_by_input_size(task):
    for _, (x, _, _) in each_loss(task):
        assert x.shape == (task.shortest + 10, 7, task.sizes[0])
        assert x.dtype == np.float64
        assert np.isfinite(x).all()


def test_targets_are_numbers_for_mse_and_classes_for_cross_entropy(task):
    T, p = task.shortest + 10, task.sizes[1]
    for loss, (_, y, _) in each_loss(task):
        if loss == "mse":
            assert y.shape == (T, 7, p)
            assert y.dtype == np.float64
            assert np.isfinite(y).all()
        else:
            assert y.shape == (T, 7)
            assert np.issubdtype(y.dtype, np.integer)
            assert y.min() >= 0
            assert y.max() < p


def test_mask_leaves_each_example_a_loss(task):
    for loss, drawn in [*each_loss(task), *((loss, draw(task, 5, 0, 7, loss)) for loss in task.losses)]:
        if drawn.mask is not None:
            assert drawn.mask.shape == drawn.x.shape[:2], loss
            assert drawn.mask.dtype == np.bool_
            assert drawn.mask.any(axis=0).all()


def test_losses_take_the_targets(task):
    T, p = task.shortest + 10, task.sizes[1]
    assert task.losses
    assert set(task.losses) <= set(LOSSES)
    for loss, (_, y, _) in each_loss(task):
        value, gradient = LOSSES[loss](np.zeros((T, 7, p)), y)
        assert value.shape == (T, 7)
        assert gradient.shape == (T, 7, p)
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()


def test_sizes_are_whole_numbers_of_at_least_one(task):
    assert len(task.sizes) == 2
    assert all(type(size) is int and size >= 1 for size in task.sizes)


def test_same_seed_draws_the_same(task):
    for loss in task.losses:
        first = draw(task, 3, 8, 4, loss)
        draw(task, 4, 4, 2, loss)
        assert same(draw(task, 3, 8, 4, loss), first)


def test_equal_tasks_draw_the_same(task):
    again = type(task)(**name_and_options(task)[1])
    assert again == task
    assert same(draw(again, 1, 5, 3), draw(task, 1, 5, 3))


def test_drawn_arrays_can_be_changed_without_changing_the_next_draw(task):
    first = draw(task, 2, 5, 3)
    kept = [array.copy() for array in arrays(first)]
    for array in arrays(first):
        if array.flags.writeable:
            array[:] = 0
    for array, before in zip(arrays(draw(task, 2, 5, 3)), kept, strict=True):
        np.testing.assert_array_equal(array, before)


@only(lambda name, _: name not in PROBLEMS)  # whose seeds throw coins
def test_seeds_differ_in_inputs_and_in_targets(task):
    for loss in task.losses:
        if loss == "cross_entropy" and task.sizes[1] == 1:
            continue  # one class only: there is but one target
        drawn = [draw(task, seed, 11, 8, loss) for seed in range(5)]
        for number, one in enumerate(drawn):
            for other in drawn[:number]:
                assert not np.array_equal(one.x, other.x)
                assert not np.array_equal(one.y, other.y)


@only(lambda name, _: name not in ALONE)
@pytest.mark.parametrize(("short", "long"), [(0, 1), (0, 29), (6, 7), (11, 29)])
def test_shorter_sequence_is_a_prefix_of_a_longer_one(task, short, long):
    for loss in task.losses:
        of_short, of_long = draw(task, 6, short, 5, loss), draw(task, 6, long, 5, loss)
        prefix = type(of_long)(*(array[: task.shortest + short] for array in arrays(of_long)))
        assert same(prefix, of_short)


@pytest.mark.parametrize("name", ALONE)
def test_shorter_sequence_need_not_be_a_prefix(name):
    task = tasks.task(name)
    assert not np.array_equal(draw(task, 6, 29, 5).x[: task.shortest + 11], draw(task, 6, 11, 5).x)


def test_inputs_do_not_depend_on_the_loss(task):
    drawn = [draw(task, 8, 8, 4, loss).x for loss in task.losses]
    for x in drawn:
        np.testing.assert_array_equal(x, drawn[0])


# Not of every part of a series, nor of the adding problem, which leaves out its markers.
@only(lambda name, options: name not in ("adding", "series") or "periodic" in options.get("file", ""))
def test_input_power_is_the_mean_square_of_the_inputs(task):
    # T covers whole periods of all waves among the examples, so that each sequence has the wave's own mean square.
    T, B = 5 * PERIOD, 400
    power = (task.draw(0, T, B, task.losses[0]).x ** 2).sum(axis=2).mean(axis=0)
    standard_error = power.std() / np.sqrt(B)
    assert abs(power.mean() - task.input_power) < 4 * standard_error + 1e-9


def test_record_is_json_that_says_how_the_data_were_normalised(task):
    record = task.record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert isinstance(record["normalised"], str)
    assert record["normalised"]


def test_shortest_and_longest_sequence_can_be_drawn(task):
    assert type(task.shortest) is int
    assert 1 <= task.shortest <= task.longest
    assert task.longest == inf or task.longest == int(task.longest)
    for loss in task.losses:
        for T in (task.shortest, int(min(task.longest, 2000))):
            assert len(task.draw(0, T, 3, loss).y) == T


def test_sequence_below_the_shortest_is_refused(task):
    for T in range(1, task.shortest):
        with pytest.raises(InputError, match=rf"^seq_len: must be at least {task.shortest}, not {T}$"):
            task.draw(0, T, 3, task.losses[0])


def test_grid_refuses_a_sequence_that_is_too_short(task):
    name, options = name_and_options(task)
    if task.shortest > 1:
        message = (
            rf"^seq_len: {task.shortest - 1} steps are too few for task {name}; allowed: at least {task.shortest}$"
        )
        with pytest.raises(InputError, match=message):
            resolve("short", {"task": name, **options, "seq_len": [task.shortest - 1, 40]})
    assert resolve("short", {"task": name, **options, "seq_len": task.shortest}).runs


@only(lambda name, _: name not in ENDLESS)
def test_grid_refuses_a_sequence_that_is_longer_than_the_data(task):
    name, options = name_and_options(task)
    given = {"task": name, **options}
    assert resolve("long", given | {"seq_len": [3, int(task.longest)]}).runs
    with pytest.raises(InputError, match=rf"^seq_len: .*task {name}.*allowed: at most {task.longest:d}\b"):
        resolve("long", given | {"seq_len": [3, int(task.longest) + 1]})


@pytest.mark.parametrize("name", ENDLESS)
def test_grid_takes_any_length_where_data_are_made(name):
    assert resolve("long", {"task": name, "seq_len": 10**6}).runs[0]["seq_len"] == 10**6


def test_chance_is_a_loss_or_not_known(task):
    for loss in task.losses:
        for T in (task.shortest, task.shortest + 30):
            chance = task.chance(T, loss)
            assert type(chance) is float
            assert isnan(chance) or (isfinite(chance) and chance >= 0)


@pytest.mark.parametrize("name", MEMBERS)
def test_recipe_is_no_option_and_holds_keys_with_values_they_can_have(name):
    member = plugins.find(tasks.FAMILY, name)
    assert get_origin(get_type_hints(member)["recipe"]) is ClassVar
    assert "recipe" not in {field.name for field in dataclasses.fields(member)}
    assert member.recipe.keys() <= (BASE.keys() | TRAINING.keys()) - {"measure", "task", "seed", *NOT_OF_TRAINING}
    if name not in PROBLEMS:
        (run,) = resolve("recipe", {"task": name, "measure": "training"}).runs
        assert {key: run[key] for key in member.recipe} == dict(member.recipe)


@only(lambda name, _: name in RECORDED)
def test_encoded_windows_of_the_corpus_ask_for_the_next_value(task):
    corpus = task.corpus(3)
    assert corpus.ndim == 1
    np.testing.assert_array_equal(task.corpus(3), corpus)
    windows = corpus[np.array([0, 5, len(corpus) - 12]) + np.arange(12)[:, None]]
    x, y, mask = task.encode(windows)
    assert mask is None
    assert x.shape == (11, 3, task.sizes[0])
    if "mse" in task.losses:
        assert np.isfinite(corpus).all()
        np.testing.assert_array_equal(x[..., 0], windows[:-1])
        np.testing.assert_array_equal(y[..., 0], windows[1:])
    else:
        assert np.issubdtype(corpus.dtype, np.integer)
        assert set(np.unique(corpus)) == set(range(task.sizes[0]))
        np.testing.assert_array_equal(x, windows[:-1, :, None] == range(task.sizes[0]))
        np.testing.assert_array_equal(y, windows[1:])


@only(lambda name, _: name in RECORDED)
def test_target_is_the_next_input(task):
    x, y, _ = task.draw(4, 12, 6, task.losses[0])
    following = x[1:].argmax(axis=2) if task.losses == ("cross_entropy",) else x[1:]
    np.testing.assert_array_equal(y[:-1], following)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nois", {}, "unknown task 'nois'; allowed: .*noise.*did you mean 'noise'"),
        ("noise", {"input_size": 0}, "^input_size: .*at least 1, not 0"),
        ("noise", {"output_size": -2}, "^output_size: .*at least 1, not -2"),
        ("sine", {"frequency": float("inf")}, "^frequency: inf is not finite"),
        ("sine", {"frequency": "nan"}, "^frequency: nan is not finite"),
        ("sine", {"frequency": "0.05+inf"}, "^frequency: inf is not finite"),
        ("sine", {"frequency": "0.05+"}, r"^frequency: '0\.05\+'; allowed: a number, or several as 0\.05\+0\.013$"),
        ("sine", {"frequency": "fast"}, "^frequency: 'fast'; allowed: a number, or several"),
        ("sine", {"phase": float("nan")}, "^phase: nan is not finite"),
        ("sine", {"noise": -0.1}, "^noise: .*at least 0, not -0.1"),
        ("sine", {"noise": float("nan")}, "^noise: .*at least 0, not nan"),
        ("sine", {"frequncy": 0.1}, "frequncy.*allowed: .*frequency"),
        ("influence-balancing", {"learning_rate": -0.1}, "^learning_rate: .*at least 0, not -0.1"),
        ("influence-balancing", {"iterations": 0}, "^iterations: .*at least 1, not 0"),
        ("influence-balancing", {"iterations": 10**7}, "^iterations: 10000000; allowed: at most 1,000,000"),
    ],
)
def test_options_that_cannot_be_are_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        tasks.task(name, **options)


# --- noise -----------------------------------------------------------------------------------------------------------


def test_noise_is_white_and_targets_are_unrelated_to_it():
    x, y, _ = tasks.task("noise", input_size=2, output_size=2).draw(0, 100, 100, "mse")
    N = 100 * 100
    for part in (x[..., 0], x[..., 1], y[..., 0], y[..., 1]):
        assert abs(part.mean()) < 4 / np.sqrt(N)
        assert abs(part.var() - 1) < 4 * np.sqrt(2 / N)  # the variance of a squared Gaussian is 2
    pairs = [(x[..., 0], x[..., 1]), (x[..., 0], y[..., 0]), (y[..., 0], y[..., 1]), (x[:-1, :, 0], x[1:, :, 0])]
    for a, b in pairs:
        assert abs((a * b).mean()) < 4 / np.sqrt(a.size)


def test_noise_classes_are_uniform():
    classes = tasks.task("noise", output_size=5).draw(0, 100, 100, "cross_entropy").y
    shares = np.bincount(classes.ravel(), minlength=5) / classes.size
    assert np.abs(shares - 0.2).max() < 4 * np.sqrt(0.2 * 0.8 / classes.size)


def test_noise_inputs_do_not_depend_on_the_output_size_nor_targets_on_the_input_size():
    task = tasks.task("noise", input_size=3, output_size=2).draw(1, 6, 4, "mse")
    np.testing.assert_array_equal(tasks.task("noise", input_size=3, output_size=9).draw(1, 6, 4, "mse").x, task.x)
    np.testing.assert_array_equal(tasks.task("noise", input_size=8, output_size=2).draw(1, 6, 4, "mse").y, task.y)


# --- sine ------------------------------------------------------------------------------------------------------------


def wave(frequency, phase, T):
    """Steps 1 .. T + 1 of the wave that the task samples."""
    return np.sqrt(2) * np.sin(2 * np.pi * frequency * np.arange(1, T + 2) + phase)


@given(frequency=st.floats(-0.5, 0.5), phase=st.floats(-10, 10), T=st.integers(1, 30))
def test_sine_without_noise_is_the_wave_itself(frequency, phase, T):
    x, y, _ = tasks.task("sine", frequency=frequency, phase=phase).draw(seed=T, seq_len=T, batch_size=2, loss="mse")
    for example in range(2):
        np.testing.assert_allclose(x[:, example, 0], wave(frequency, phase, T)[:-1], rtol=0, atol=1e-12)
        np.testing.assert_allclose(y[:, example, 0], wave(frequency, phase, T)[1:], rtol=0, atol=1e-12)


@given(seed=st.integers(0, 2**32), frequency=st.floats(0.02, 0.48))
def test_random_phases_give_waves_of_the_same_frequency_and_amplitude(seed, frequency):
    x = tasks.task("sine", frequency=frequency).draw(seed, 60, 5, "mse").x[..., 0]
    basis = np.stack([wave(frequency, 0, 59), wave(frequency, np.pi / 2, 59)], axis=1)
    coefficients = np.linalg.lstsq(basis, x)[0]
    np.testing.assert_allclose(basis @ coefficients, x, rtol=0, atol=1e-10)
    np.testing.assert_allclose(np.hypot(*coefficients), 1.0, rtol=0, atol=1e-10)
    assert len(set(coefficients[0])) == 5


def test_several_frequencies_are_a_sum_of_waves():
    x, y, _ = tasks.task("sine", frequency="0.05+0.013", phase=0.4).draw(0, 90, 2, "mse")
    expected = (wave(0.05, 0.4, 90) + wave(0.013, 0.4, 90)) / np.sqrt(2)
    for example in range(2):
        np.testing.assert_allclose(x[:, example, 0], expected[:-1], rtol=0, atol=1e-12)
        np.testing.assert_allclose(y[:, example, 0], expected[1:], rtol=0, atol=1e-12)


def test_waves_of_a_sum_have_phases_of_their_own_and_unit_variance_together():
    B, frequencies = 4000, (0.05, 0.013)
    x = tasks.task("sine", frequency="0.05+0.013").draw(1, 60, B, "mse").x[..., 0]
    basis = [wave(frequency, phase, 59) / np.sqrt(2) for frequency in frequencies for phase in (0, np.pi / 2)]
    fit, residual, _, _ = np.linalg.lstsq(np.stack(basis, axis=1), x)
    assert residual.max() < 1e-18
    circles = fit[::2] + 1j * fit[1::2]
    np.testing.assert_allclose(np.abs(circles), 1.0, rtol=0, atol=1e-10)
    for mean in (circles.mean(axis=1), (circles[0] * circles[1]).mean(), (circles[0] / circles[1]).mean()):
        assert np.abs(mean).max() < 4 / np.sqrt(B)
    # Of (sin a + sin b)^2 the mean is 1 and the variance 5/4.
    assert np.abs((x**2).mean(axis=1) - 1).max() < 4 * np.sqrt(5 / 4 / B)


@pytest.mark.parametrize(("number", "text"), [(0.05, "0.05"), (0.3, "0.30")])
def test_frequency_may_be_written_as_text(number, text):
    assert same(
        tasks.task("sine", frequency=text).draw(2, 9, 3, "mse"),
        tasks.task("sine", frequency=number).draw(2, 9, 3, "mse"),
    )


def test_random_phases_are_uniform_over_the_circle():
    B = 4000
    x = tasks.task("sine", frequency=0.25).draw(0, 2, B, "mse").x[..., 0]  # steps 1 and 2 are cos and -sin of the phase
    circle = (x[0] - 1j * x[1]) / np.sqrt(2)
    np.testing.assert_allclose(np.abs(circle), 1.0, rtol=0, atol=1e-12)
    for harmonic in (1, 2, 3):
        assert abs((circle**harmonic).mean()) < 4 / np.sqrt(B)


def test_sine_noise_is_white_with_its_standard_deviation_and_keeps_the_phases():
    clean, noisy, noisier = (tasks.task("sine", noise=noise).draw(2, 100, 60, "mse").x for noise in (0, 0.5, 1))
    white = noisier - clean
    np.testing.assert_allclose(noisy - clean, 0.5 * white, rtol=0, atol=1e-12)
    assert abs(white.mean()) < 4 / np.sqrt(white.size)
    assert abs(white.var() - 1) < 4 * np.sqrt(2 / white.size)
    assert abs((white[1:] * white[:-1]).mean()) < 4 / np.sqrt(white.size)


# --- series ----------------------------------------------------------------------------------------------------------


def normalised_by_hand(files):
    with (files / "prices.csv").open(newline="") as file:
        raw = [float(row["price"]) for row in csv.DictReader(file)]
    mean = sum(raw) / len(raw)
    deviation = (sum((value - mean) ** 2 for value in raw) / len(raw)) ** 0.5
    return np.array([(value - mean) / deviation for value in raw])


def starts_of(windows, values):
    """Where each window (T+1, B) stands in `values`, which has no value twice."""
    return [int(np.flatnonzero(np.isclose(values, first, rtol=1e-12, atol=1e-12))[0]) for first in windows[0]]


@pytest.mark.parametrize(
    ("file", "column"),
    [
        ("prices.csv", "price"),
        ("prices.parquet", "price"),
        ("structured.npy", "price"),
        ("matrix.npy", "1"),
        ("vector.npy", ""),
        ("vector.npy", "0"),
    ],
)
@pytest.mark.parametrize("T", [1, 12, 30])
def test_series_windows_are_consecutive_values_of_the_file(files, file, column, T):
    x, y, _ = tasks.task("series", file=str(files / file), column=column).draw(0, T, 40, "mse")
    values = normalised_by_hand(files)
    windows = np.concatenate([x, y[-1:]])[..., 0]
    starts = starts_of(windows, values)
    assert len(set(starts)) > 10
    for start, window in zip(starts, windows.T, strict=True):
        np.testing.assert_allclose(window, values[start : start + T + 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{"file": "{files}/prices.csv", "column": "price"}, {}], ids=["file", "stocks"])
def test_series_has_mean_0_and_power_1_over_the_whole_series(files, options):
    task = made("series", options, files)
    values, _, _ = task.source
    assert values.mean() == pytest.approx(0, abs=1e-12)
    assert (values**2).mean() == pytest.approx(task.input_power, rel=1e-12)


def test_series_record_names_file_column_and_normalisation(files):
    record = tasks.task("series", file=str(files / "prices.csv"), column="price").record()
    assert record["file"] == "prices.csv"
    assert record["column"] == "price"
    assert record["values"] == 61
    back = normalised_by_hand(files) * record["standard_deviation"] + record["mean"]
    np.testing.assert_allclose(back, pd.read_csv(files / "prices.csv")["price"], rtol=1e-12)


def test_only_number_column_is_taken_without_asking(tmp_path):
    (tmp_path / "one.csv").write_text("date,level\nmonday,1\ntuesday,2\nwednesday,6\n", encoding="utf-8")
    source = series(str(tmp_path / "one.csv"), "")
    np.testing.assert_allclose(source.values, (np.array([1, 2, 6]) - 3) / np.sqrt(14 / 3), rtol=1e-12)
    assert source.record["column"] == "level"


def test_series_without_a_file_is_the_stock_prices_in_matplotlib():
    with np.load(Path(mpl.get_data_path()) / "sample_data" / "goog.npz") as file:
        prices = file["price_data"]["adj_close"]
    task = tasks.task("series")
    np.testing.assert_allclose(task.source.values, (prices - prices.mean()) / prices.std(), rtol=1e-12, atol=1e-14)
    assert (task.record()["file"], task.record()["column"]) == ("goog.npz", "adj_close")
    assert resolve("stocks", {"task": "series"}).grid["column"] == ("",)
    np.testing.assert_array_equal(tasks.task("series", column="adj_close").source.values, task.source.values)


def test_another_column_of_the_stock_prices_can_be_chosen():
    with np.load(Path(mpl.get_data_path()) / "sample_data" / "goog.npz") as file:
        volume = file["price_data"]["volume"].astype(float)
    values, _, _ = tasks.task("series", column="volume").source
    np.testing.assert_allclose(values, (volume - volume.mean()) / volume.std(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("N", [2, 3, 4, 7, 8, 61])
def test_longest_is_tight_for_the_worst_start(tmp_path, N):
    np.save(tmp_path / "steps.npy", np.arange(N, dtype=float))
    task = tasks.task("series", file=str(tmp_path / "steps.npy"))
    T, last_start = task.longest, (N + 1) // 2 - 1
    values, _, _ = task.source
    x, y, _ = task.draw(0, T, 400, "mse")
    assert x[0].max() == values[last_start]  # the latest start occurs, and fits
    assert last_start + T == N - 1  # and ends at the last value: no longer one would
    assert y[-1].max() == values[-1]


# --- text ------------------------------------------------------------------------------------------------------------


def excerpts_of(task, T, B):
    """What a batch of a text task says, decoded: T inputs and the last target of each example."""
    x, y, _ = task.draw(0, T, B, "cross_entropy")
    assert set(np.unique(x)) == {0.0, 1.0}
    assert (x.sum(axis=2) == 1).all()
    vocabulary = task.record()["vocabulary"]
    codes = np.concatenate([x.argmax(axis=2), y[-1:]])
    return ["".join(vocabulary[code] for code in example) for example in codes.T]


def test_one_hot_decodes_to_excerpts_of_the_text(files):
    excerpts = excerpts_of(tasks.task("text", file=str(files / "text.txt")), T=25, B=50)
    assert all(len(excerpt) == 26 and excerpt in TEXT for excerpt in excerpts)
    assert len(set(excerpts)) > 20


def test_vocabulary_is_the_distinct_characters_in_order(files):
    task = tasks.task("text", file=str(files / "text.txt"))
    assert task.record()["vocabulary"] == "".join(sorted(set(TEXT)))
    assert task.record()["characters"] == len(TEXT)
    assert task.sizes == (len(set(TEXT)),) * 2


def test_text_without_a_file_is_the_reference_that_comes_with_python():
    from pydoc_data.topics import topics

    whole = "\n".join(topics[key] for key in sorted(topics))
    for excerpt in excerpts_of(tasks.task("text"), T=40, B=10):
        assert excerpt in whole


def test_longest_text_excerpt_ends_with_the_text(tmp_path):
    (tmp_path / "alphabet.txt").write_text("abcdefghi", encoding="utf-8")
    task = tasks.task("text", file=str(tmp_path / "alphabet.txt"))
    assert set(excerpts_of(task, T=task.longest, B=400)) == {"abcde", "bcdef", "cdefg", "defgh", "efghi"}


# --- problems: tasks that measure their runs themselves --------------------------------------------------------------


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_a_problem_fixes_is_a_key_and_stands_in_its_runs(name):
    fixed = plugins.find(tasks.FAMILY, name).fixed()
    (run,) = resolve("alone", {"task": name}).runs
    assert {key: run[key] for key in [*fixed, *ADDED]} == {**fixed, **ADDED}
    assert resolve("said", {"task": name, **fixed}).runs == (run,)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("draws", 10, "draws: 10, but task {name} has 0; remove the key"),
        ("task", ["{name}", "noise"], "task: a problem of its own among other tasks; sweep it alone"),
    ],
)
def test_what_a_problem_fixes_cannot_be_swept(name, key, value, message):
    given = {"task": name, key: [part.format(name=name) for part in value] if key == "task" else value}
    with pytest.raises(InputError, match=f"^{message.format(name=name)}$"):
        resolve("other", given)


@pytest.mark.parametrize("name", PROBLEMS)
def test_problem_measures_what_every_run_is_measured_for(name):
    sweep = resolve("small", {"task": name, "seq_len": [1, 4], "loss_steps": ["last", "all"], "seeds": 2})
    for block in sweep.blocks:
        measured = measure(block.runs)
        assert set(measured.columns) >= {"status", *MEASURED}
        assert {len(values) for values in measured.columns.values()} == {len(block)}
        assert set(measured.steps) == {"lag", "log10_dh", "log10_dh_std", "zero_share"}
        assert {len(values) for values in measured.steps.values()} == {block.steps}
        np.testing.assert_array_equal(measured.seq_len, [run["seq_len"] for run in block.runs])


# --- influence balancing ---------------------------------------------------------------------------------------------


def test_influence_balancing_has_input_and_target_1():
    x, y, mask = tasks.task("influence-balancing").draw(0, 5, 2, "mse")
    np.testing.assert_array_equal(x, np.ones((5, 2, 1)))
    np.testing.assert_array_equal(y, np.ones((5, 2, 1)))
    assert mask is None


def balanced(**given):
    """The measurement of the only block of a sweep of it."""
    (block,) = resolve("balanced", {"task": "influence-balancing", "seq_len": 3, **given}).blocks
    return measure(block.runs)


def test_influence_balancing_records_the_last_update():
    columns = balanced(truncation=["full", "chunked:10"], iterations=3000).columns
    np.testing.assert_allclose(columns["loss_value"], [1.28e-16, 3.0973e15], rtol=1e-2)
    np.testing.assert_allclose(columns["theta"], [-1 / 6, 1.40026834e7], rtol=1e-6)
    np.testing.assert_array_equal(columns["cosine"], [1, -1])
    # Sums of influences -6 and 10, and the loss is (s - 1)^2 / 2.
    size = np.log10(np.sqrt(2 * columns["loss_value"]) * [6, 10])
    np.testing.assert_allclose(columns["log10_grad"], size, rtol=1e-12)
    np.testing.assert_allclose(columns["relative_error"], [0, 16 / 6], rtol=1e-12)
    np.testing.assert_allclose(columns["influence"], [-6, 10], rtol=1e-12)
    np.testing.assert_array_equal(columns["right_sign_share"], [1, 0])
    np.testing.assert_allclose(columns["spectral_radius_realised"], 0.5, rtol=1e-15)


def test_influence_balancing_says_when_it_leaves_float64():
    columns = balanced(truncation=["full", "chunked:10"], learning_rate=0.1, iterations=3000).columns
    assert columns["status"][1].startswith("overflow at update ")
    for name in ("loss_value", "theta", "log10_grad", "log10_grad_theta", "relative_error", "cosine"):
        assert np.isnan(columns[name][1])
    last = int(columns["status"][1].split()[-1]) - 1
    before = balanced(truncation="chunked:10", learning_rate=0.1, iterations=last).columns
    assert before["status"][0] == "ok"
    assert np.isfinite(before["loss_value"][0])


def test_influence_balancing_records_the_state_gradient_at_each_lag():
    steps = balanced(seq_len=[1, 3]).steps
    np.testing.assert_array_equal(steps["lag"], [0, 2, 1, 0])
    np.testing.assert_allclose(10 ** (2 * steps["log10_dh"]), [1, 6 / 16, 2 / 4, 1], rtol=1e-12)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"spectral_radius": [0.5, 1.0]}, "^spectral_radius: 0.5, 1.0, but task influence-balancing has 0.5; remove"),
        ({"hidden_size": 64}, "^hidden_size: 64, but task influence-balancing has 23; remove the key"),
        ({"dtype": "float32"}, "^dtype: float32, but task influence-balancing has float64"),
        ({"truncation": ["full", "variable:70:5:0.95"]}, "^truncation: 'variable:70:5:0.95' does not say when"),
        ({"loss_steps": [[1, 2]]}, '^loss_steps: \'1,2\'; allowed: "last" or "all"'),
        ({"loss": "cross_entropy"}, "^loss: unknown loss for task influence-balancing 'cross_entropy'; allowed: mse"),
    ],
)
def test_influence_balancing_refuses_what_means_nothing_to_it(given, message):
    with pytest.raises(InputError, match=message):
        resolve("refused", {"task": "influence-balancing", **given})
