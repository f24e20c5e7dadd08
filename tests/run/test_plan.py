"""The plan is a partition of the grid that depends on the grid alone."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

import gradscope as gs
from gradscope.engine import WORKSPACE, measure
from gradscope.grid import resolve
from gradscope.plan import SHARED, STATES_BYTES, batches

GRIDS = st.fixed_dictionaries(
    {
        "hidden_size": st.lists(st.integers(1, 200), min_size=1, max_size=2, unique=True),
        "spectral_radius": st.lists(st.floats(0, 2), min_size=1, max_size=4, unique=True),
        "seq_len": st.lists(st.integers(1, 300), min_size=1, max_size=2, unique=True),
        "batch_size": st.lists(st.integers(1, 64), min_size=1, max_size=2, unique=True),
        "truncation": st.just(["full", "fixed:3"]),
        "activation": st.just(["tanh", "relu"]),
        "seeds": st.integers(1, 4),
    }
)


@given(GRIDS)
def test_every_run_is_in_exactly_one_batch(values):
    runs = resolve("test", values).runs
    planned = [run.run_id for batch in batches(runs) for run in batch.runs]
    assert sorted(planned) == sorted(run.run_id for run in runs)


@given(GRIDS)
def test_runs_of_a_batch_are_alike_in_all_that_is_not_shared(values):
    for batch in batches(resolve("test", values).runs):
        own = {tuple(v for k, v in run.parameters.items() if k not in SHARED) for run in batch.runs}
        assert len(own) == 1


@given(GRIDS)
def test_a_batch_of_several_networks_stays_within_the_bound(values):
    for batch in batches(resolve("test", values).runs):
        networks = {(run["seed"], run["spectral_radius"]) for run in batch.runs}
        steps = max(run["seq_len"] for run in batch.runs) * batch.runs[0]["batch_size"]
        states = 8 * steps * batch.runs[0]["hidden_size"] * len(networks)
        assert len(networks) == 1 or states <= STATES_BYTES


@given(GRIDS, st.randoms(use_true_random=False))
def test_the_cut_does_not_depend_on_the_order_of_the_runs(values, rng: random.Random):
    runs = list(resolve("test", values).runs)
    cut = {frozenset(run.run_id for run in batch.runs) for batch in batches(runs)}
    rng.shuffle(runs)
    assert {frozenset(run.run_id for run in batch.runs) for batch in batches(runs)} == cut


@given(GRIDS, st.integers(0, 10))
def test_what_is_finished_is_left_out_and_the_rest_stays_where_it_was(values, step):
    runs = resolve("test", values).runs
    finished = {run.run_id for run in runs[:: step + 1]}
    rest = [[run.run_id for run in batch.runs if run.run_id not in finished] for batch in batches(runs)]
    assert [[run.run_id for run in batch.runs] for batch in batches(runs, finished)] == [ids for ids in rest if ids]


@given(st.integers(1, 5), st.integers(1, 7), st.floats(1.0, 40.0))
def test_the_networks_of_a_seed_stay_together_as_far_as_a_batch_holds_them(seeds, radii, spare):
    values = {
        "hidden_size": 64,
        "seq_len": 100,
        "seeds": seeds,
        "spectral_radius": [r / 4 for r in range(1, radii + 1)],
    }
    runs = resolve("test", values).runs
    (one,) = batches(runs[:1])
    cut = batches(runs, max_memory=one.memory * spare)
    for batch in cut:
        own = {run["seed"] for run in batch.runs}
        whole = {run.run_id for run in runs if run["seed"] in own}
        assert len(own) == 1 or {run.run_id for run in batch.runs} == whole
    sizes = [len(batch.runs) for batch in cut if 0 in {run["seed"] for run in batch.runs}]
    assert max(sizes) - min(sizes) <= 1


def test_a_batch_stays_below_the_memory_it_may_take():
    runs = resolve("test", {"seq_len": [50, 200], "spectral_radius": {"start": 0.5, "stop": 1.5, "num": 41}}).runs
    free = batches(runs)
    most = max(batch.memory for batch in free)
    for share in (0.9, 0.5, 0.3):
        cut = batches(runs, max_memory=share * most)
        assert len(cut) > len(free)
        assert max(batch.memory for batch in cut) <= share * most


def test_a_network_that_takes_more_memory_than_there_may_be_is_refused_with_what_it_needs():
    runs = resolve("test", {"seq_len": 100_000, "hidden_size": 512}).runs
    with pytest.raises(
        gs.InputError,
        match=r"memory: one network of hidden_size 512.*seq_len 100000 needs .*GiB; allowed: at most 1 GiB",
    ):
        batches(runs, max_memory=2**30)


@pytest.mark.parametrize(
    "values",
    [
        {"truncation": ["full", "fixed:5", "fixed:20", "chunked:20", "random:20"], "loss_steps": ["last", "all"]},
        {"seq_len": 3000},
        {"hidden_size": 128, "batch_size": 32, "truncation": ["full", "fixed:30"], "loss_steps": "all"},
        {"dtype": "float32", "loss_steps": "all", "truncation": "chunked:5"},
        {"task": "text", "loss_steps": "all"},
    ],
    ids=["default", "long", "large", "float32", "text"],
)
def test_the_predicted_memory_is_what_measuring_takes_and_not_much_more(values):
    runs = resolve("test", {"seq_len": [50, 200], "spectral_radius": [0.5, 0.8, 1.0]} | values).runs
    batch = batches(runs)[0]
    with threadpool_limits(1):  # as in a sweep
        measure(batch.runs)  # what is made once is made
        WORKSPACE.clear()
        tracemalloc.start()
        measure(batch.runs)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak <= batch.memory <= 2 * peak
