"""Guards minibatches: random sampling and sequential partitioning, the split in time, and what normalisation sees."""

from itertools import islice
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

import gradscope as gs
from gradscope.batches import BATCHINGS, Normal, RandomSampling, SequentialPartitioning, split, windows
from gradscope.feeding import Feed, Recording
from gradscope.grid import resolve
from gradscope.runs import Run
from gradscope.task import Sequences

SURE = 1e-4  # the chance that a test of randomness fails although all is well; the draws are always the same

sizes = st.tuples(st.integers(2, 400), st.integers(1, 40), st.integers(1, 8)).filter(
    lambda size: (size[0] - 1) // size[2] >= size[1]
)


def read(batching, steps):
    """The windows of the first steps: starts (steps, B), and whether each is fresh."""
    found = list(islice(batching, steps))
    return np.array([one.starts for one in found]), np.array([one.fresh for one in found])


# --- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BATCHINGS)
@given(size=sizes, seed=st.integers(0, 3), step=st.integers(0, 300))
def test_a_batch_is_a_function_of_its_step(kind, size, seed, step):
    batching = BATCHINGS[kind](*size, seed)
    (starts, fresh), again = read(batching, 12), read(batching, 12)
    np.testing.assert_array_equal(starts, again[0])
    for i in reversed(range(12)):  # in any order
        one = batching.at(i)
        np.testing.assert_array_equal(one.starts, starts[i])
        assert one.fresh == fresh[i]
    np.testing.assert_array_equal(batching.at(step).starts, BATCHINGS[kind](*size, seed).at(step).starts)


@pytest.mark.parametrize("kind", BATCHINGS)
@given(size=sizes, seed=st.integers(0, 3))
def test_windows_lie_within_the_sequence(kind, size, seed):
    length, seq_len, batch_size = size
    starts, _ = read(BATCHINGS[kind](*size, seed), 100)
    assert starts.shape == (100, batch_size)
    assert starts.min() >= 0
    assert starts.max() + seq_len + 1 <= length
    values = windows(np.arange(length), starts[7], seq_len)
    assert values.shape == (seq_len + 1, batch_size)
    for b, start in enumerate(starts[7]):
        assert values[:, b].tolist() == list(range(start, start + seq_len + 1))


@pytest.mark.parametrize("kind", BATCHINGS)
def test_one_window_must_fit(kind):
    assert read(BATCHINGS[kind](11, 10, 1), 5)[0].tolist() == [[0]] * 5
    with pytest.raises(
        gs.InputError, match=r"^seq_len: 10 values .* are fewer than one window of 10 \+ 1; allowed: at"
    ):
        BATCHINGS[kind](10, 10, 1)


def test_what_each_batching_needs_is_said():
    with pytest.raises(gs.InputError, match=r"^seq_len: 10 values for training .* 20 \+ 1; allowed: at most 9$"):
        RandomSampling(10, 20, 3)
    with pytest.raises(gs.InputError, match=r"^seq_len: 50 values in 4 parts .* 13 \+ 1; allowed: at most 12; or a sm"):
        SequentialPartitioning(50, 13, 4)
    assert SequentialPartitioning(50, 12, 4).batches == 1
    with pytest.raises(
        gs.InputError,
        match=r"^seq_len: 3 values in 4 parts .* 1 \+ 1; or a smaller batch_size .*, or batching = .random.$",
    ):
        SequentialPartitioning(3, 1, 4)


# --- random sampling --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "seq_len", "batch_size"), [(30, 9, 1), (30, 9, 7), (12, 10, 16), (1000, 20, 5)])
def test_starts_are_uniform_over_all_that_fit(length, seq_len, batch_size):
    starts, _ = read(RandomSampling(length, seq_len, batch_size, seed=1), 8000 // batch_size)
    places = length - seq_len
    counts = np.bincount(starts.ravel(), minlength=places)
    assert len(counts) == places
    if places < 100:
        assert chisquare(counts).pvalue > SURE
    else:
        assert kstest(starts.ravel() + 0.5, "uniform", args=(0, places)).pvalue > SURE


def test_each_example_and_each_step_is_drawn_anew():
    starts, _ = read(RandomSampling(9, 1, 3, seed=2), 4000)
    for one, other in [
        (starts[:, 0], starts[:, 1]),
        (starts[:, 1], starts[:, 2]),
        (starts[:-1, 0], starts[1:, 0]),
        (starts[:-64, 0], starts[64:, 0]),
    ]:
        assert chisquare(np.bincount(8 * one + other, minlength=64)).pvalue > SURE


def test_seeds_draw_different_windows():
    first, second = (read(RandomSampling(1000, 10, 4, seed=seed), 50)[0] for seed in (0, 1))
    assert np.mean(first == second) < 0.05


@given(size=sizes, seed=st.integers(0, 3), fewer=st.integers(1, 8))
def test_fewer_examples_are_the_first_of_more(size, seed, fewer):
    length, seq_len, batch_size = size
    starts, _ = read(RandomSampling(*size, seed), 70)
    some, _ = read(RandomSampling(length, seq_len, min(fewer, batch_size), seed), 70)
    np.testing.assert_array_equal(some, starts[:, :fewer])


def test_windows_of_other_lengths_start_at_the_same_part_of_the_sequence():
    short, long = (read(RandomSampling(1000, seq_len, 4, seed=0), 70)[0] for seq_len in (10, 500))
    assert np.abs(short / 990 - long / 500).max() < 0.01


def test_random_sampling_is_always_fresh():
    assert read(RandomSampling(100, 10, 3), 200)[1].all()


def test_starts_are_not_to_be_changed_by_who_gets_them():
    with pytest.raises(ValueError, match="read-only"):
        RandomSampling(100, 10, 3, seed=9).at(0).starts[0] += 1


# --- sequential partitioning ------------------------------------------------------------------------------------------


@given(sizes)
def test_neighbouring_minibatches_are_neighbours_in_time(size):
    _, seq_len, _ = size
    batching = SequentialPartitioning(*size)
    starts, fresh = read(batching, 3 * batching.batches + 1)
    for step in range(1, len(starts)):
        if not fresh[step]:  # the value that was asked for last is what is read first
            np.testing.assert_array_equal(starts[step], starts[step - 1] + seq_len)


@given(sizes)
def test_the_state_is_reset_exactly_at_the_beginning_of_a_pass(size):
    batching = SequentialPartitioning(*size)
    starts, fresh = read(batching, 3 * batching.batches + 1)
    beginnings = np.flatnonzero(fresh).tolist()
    assert beginnings == [0, batching.batches, 2 * batching.batches, 3 * batching.batches]
    np.testing.assert_array_equal(starts[beginnings], np.tile(starts[0], (4, 1)))


@given(sizes)
def test_each_value_of_a_part_is_read_once_in_a_pass(size):
    length, seq_len, batch_size = size
    batching = SequentialPartitioning(*size)
    starts, _ = read(batching, batching.batches)
    inputs = starts[..., None] + np.arange(seq_len)  # of each step and example; what is asked for is one later
    for b in range(batch_size):
        own = inputs[:, b].ravel()
        assert own.tolist() == list(range(own[0], own[0] + batching.batches * seq_len))
    assert len(np.unique(inputs)) == inputs.size
    left = length - 1 - inputs.size  # less than a window of each part, and less than B
    assert left < batch_size * seq_len + batch_size
    part = np.diff(starts[0])
    assert (part == part[0]).all() if len(part) else True
    assert starts[0, 0] == 0
    assert batch_size == 1 or part[0] - batching.batches * seq_len < seq_len


@pytest.mark.parametrize(("length", "seq_len"), [(1000, 25), (1003, 25), (77, 25), (52, 25), (30, 7)])
def test_one_example_is_read_in_the_order_of_min_char_rnn(length, seq_len):
    starts, fresh = read(SequentialPartitioning(length, seq_len, 1), 100)
    p, expected = 0, []
    for n in range(100):
        if p + seq_len + 1 >= length or n == 0:
            p, reset = 0, True
        else:
            reset = False
        expected.append((p, reset))
        p += seq_len
    assert list(zip(starts[:, 0].tolist(), fresh.tolist(), strict=True)) == expected


def test_the_last_whole_window_is_read_which_min_char_rnn_leaves_out():
    starts, _ = read(SequentialPartitioning(51, 25, 1), 4)
    assert starts[:, 0].tolist() == [0, 25, 0, 25]


# --- split and normalisation ------------------------------------------------------------------------------------------


@given(st.integers(0, 10**7))
def test_parts_follow_each_other_in_time_and_are_all(length):
    train, validation, test = split(length)
    assert (train.start, validation.start, test.start) == (0, train.stop, validation.stop)
    assert test.stop == length
    assert validation.stop - validation.start == test.stop - test.start == length // 10
    assert all(part.stop >= part.start for part in (train, validation, test))


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50).filter(lambda v: np.std(v) > 1e-3))
def test_normalisation_and_back(values):
    values = np.array(values)
    normal = Normal.of(values)
    found = normal.apply(values)
    np.testing.assert_allclose([found.mean(), found.std()], [0.0, 1.0], atol=1e-7)
    np.testing.assert_allclose(normal.undone(found), values, rtol=1e-12, atol=1e-12 * np.abs(values).max())
    np.testing.assert_allclose(normal.apply(values + 5) - found, 5 / values.std(), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e8, 1e-300])
def test_constant_training_part_is_refused(value):
    with pytest.raises(gs.InputError, match="the training part, the first 80 %, is constant; nothing to learn"):
        Normal.of(np.full(37, value))


@pytest.mark.parametrize("value", [1e160, 1.7e308])
def test_values_that_cannot_be_normalised_are_refused(value):
    with pytest.raises(gs.InputError, match=rf"^values up to {value:g} are too large to normalise".replace("+", r"\+")):
        Normal.of(np.array([value, -value, value]))


class Tape(NamedTuple):
    """A task whose data are what they are."""

    values: np.ndarray

    def corpus(self, seed):  # noqa: ARG002
        return self.values

    def encode(self, windows):
        return Sequences(windows[:-1, :, None], windows[1:, :, None])

    def record(self):
        return {}


def recording(values, **keys):
    like = {"task": "tape", "batching": "random", "seq_len": 5, "batch_size": 4, "loss_steps": "task"} | keys
    return Recording.of(Tape(values), Run(like), seed=0)


@pytest.mark.parametrize("batching", BATCHINGS)
def test_what_is_held_out_changes_nothing_in_training(batching):
    values = np.random.default_rng(0).standard_normal(200).cumsum()
    other = values.copy()
    other[160:] = np.random.default_rng(1).standard_normal(40) * 1e12
    one, two = recording(values, batching=batching), recording(other, batching=batching)
    assert one.normal == two.normal
    np.testing.assert_array_equal(one.part("train"), two.part("train"))
    np.testing.assert_allclose(one.part("train"), (values[:160] - values[:160].mean()) / values[:160].std(), rtol=1e-12)
    np.testing.assert_allclose(one.part("test"), (values[180:] - values[:160].mean()) / values[:160].std(), rtol=1e-12)
    for step in range(70):
        (a, fresh), (b, _) = one.batch(step), two.batch(step)
        assert fresh == one.batching.at(step).fresh
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.y, b.y)


@pytest.mark.parametrize("batching", BATCHINGS)
def test_batches_hold_the_training_part_alone_and_ask_for_the_next_value(batching):
    found = recording(np.random.default_rng(0).standard_normal(200), batching=batching)
    place = {value: i for i, value in enumerate(found.values)}
    for step in range(100):
        sequences, _ = found.batch(step)
        at = np.array([[place[value] for value in row] for row in sequences.x[..., 0]])
        after = np.array([[place[value] for value in row] for row in sequences.y[..., 0]])
        np.testing.assert_array_equal(after, at + 1)
        assert after.max() < 160


@pytest.mark.parametrize("changed", [1e3, -50.0])
def test_a_file_is_normalised_by_its_training_part(tmp_path, changed):
    values = np.random.default_rng(0).standard_normal(300).cumsum()
    batches = []
    for name, last in (("one", values[-1]), ("two", changed)):
        np.save(tmp_path / f"{name}.npy", np.append(values[:-1], last))
        keys = {"measure": "training", "task": "series", "file": str(tmp_path / f"{name}.npy"), "batch_size": 4}
        (run,) = resolve(name, keys).runs
        batches.append(Feed(run, [0]).batch(3))
    np.testing.assert_allclose(batches[0].x, batches[1].x, rtol=0, atol=1e-12)


def test_a_glitch_in_what_is_held_out_costs_the_training_part_no_digits(tmp_path):
    values = np.random.default_rng(0).standard_normal(300).cumsum()
    feeds = []
    for name, last in (("one", values[-1]), ("two", 1e12)):
        np.save(tmp_path / f"{name}.npy", np.append(values[:-1], last))
        keys = {"measure": "training", "task": "series", "file": str(tmp_path / f"{name}.npy"), "batch_size": 4}
        (run,) = resolve(name, keys).runs
        feeds.append(Feed(run, [0]).batch(3))
    np.testing.assert_allclose(feeds[0].x, feeds[1].x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 130, 199])
def test_values_that_are_not_finite_are_refused(bad, place):
    values = np.random.default_rng(0).standard_normal(200)
    values[place] = bad
    with pytest.raises(gs.InputError, match=rf"^task tape: value {place} of the sequence is not finite"):
        recording(values)


# --- what is held out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_steps", ["task", "all", "last", "2"])
@pytest.mark.parametrize(("length", "streams"), [(200, 1), (2000, 10), (4321, 16)])
def test_every_value_that_is_held_out_is_asked_for_once(length, streams, loss_steps):
    found = recording(np.random.default_rng(0).standard_normal(length), loss_steps=loss_steps)
    place = {value: i for i, value in enumerate(found.values)}
    for name in ("validation", "test"):
        sequences, fresh = found.held_out(name)
        assert fresh
        asked = [place[value] for value in sequences.y[..., 0].T[sequences.mask.T]]
        part = getattr(split(length), name)
        assert asked == list(range(part.start, part.start + len(asked)))
        assert part.stop - part.start - len(asked) < streams
        assert sequences.x.shape[1] == streams
        first = sequences.mask.argmax(axis=0)  # each stream begins with the seq_len values before what it is asked
        assert (first == 4).all()
        assert [place[value] for value in sequences.x[0, :, 0]] == [
            place[sequences.y[4, k, 0]] - 5 for k in range(streams)
        ]


@pytest.mark.parametrize("batching", BATCHINGS)
@pytest.mark.parametrize("loss_steps", ["task", "all", "last", "2"])
def test_loss_steps_are_those_of_windows(batching, loss_steps):
    found = recording(np.random.default_rng(0).standard_normal(200), batching=batching, loss_steps=loss_steps)
    expected = {"task": None, "all": None, "last": [0, 0, 0, 0, 1], "2": [0, 1, 0, 0, 0]}[loss_steps]
    mask = found.batch(3)[0].mask
    assert mask is expected is None or mask.T.tolist() == [[bool(step) for step in expected]] * 4
