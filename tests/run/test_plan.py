"""The plan is a partition of the grid that depends on the grid alone."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from gradscope.grid import resolve
from gradscope.plan import BATCH_BYTES, SHARED, batches

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
        assert len(networks) == 1 or states <= BATCH_BYTES


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
