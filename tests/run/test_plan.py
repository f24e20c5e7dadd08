"""The plan is a partition of the grid that depends on the grid alone."""

from __future__ import annotations

import json
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

import gradscope as gs
from gradscope.cost import memory
from gradscope.engine import measure
from gradscope.grid import resolve
from gradscope.networks import WORKSPACE
from gradscope.plan import PART_ROWS, STATES_BYTES, Shard, again, shards, strangers
from gradscope.runs import SHARED, Block, Network, Setting

VALUES = {
    "hidden_size": st.lists(st.integers(1, 200), min_size=1, max_size=2, unique=True),
    "spectral_radius": st.lists(st.floats(0, 2), min_size=1, max_size=4, unique=True),
    "seq_len": st.lists(st.integers(1, 300), min_size=1, max_size=2, unique=True),
    "batch_size": st.lists(st.integers(1, 64), min_size=1, max_size=2, unique=True),
    "truncation": st.lists(st.sampled_from(["full", "fixed:3", "chunked:7"]), min_size=1, unique=True),
    "activation": st.just(["tanh", "relu"]),
    "seeds": st.integers(1, 4),
}
GRIDS = st.fixed_dictionaries(VALUES)
PAIRS = st.tuples(GRIDS, GRIDS)


def blocks_of(planned):
    return [block for shard in planned for block in shard.blocks]


def ids(planned):
    return [run.run_id for block in blocks_of(planned) for run in block.runs]


@given(GRIDS)
def test_every_run_is_in_exactly_one_shard(values):
    sweep = resolve("test", values)
    planned = ids(shards(sweep.blocks))
    assert sorted(planned) == sorted(run.run_id for run in sweep.runs)
    assert len(planned) == len(sweep)


@given(GRIDS)
def test_runs_of_a_block_are_alike_in_all_that_is_not_shared(values):
    for block in blocks_of(shards(resolve("test", values).blocks)):
        own = {tuple(v for k, v in run.parameters.items() if k not in SHARED) for run in block.runs}
        assert len(own) == 1
        assert len(block.runs) == len(block)
        assert block.steps == sum(run["seq_len"] for run in block.runs)


@given(GRIDS)
def test_a_block_of_several_networks_stays_within_the_bound(values):
    for block in blocks_of(shards(resolve("test", values).blocks)):
        steps = max(setting.seq_len for setting in block.settings) * block.common["batch_size"]
        states = 8 * steps * block.common["hidden_size"] * len(block.networks)
        assert len(block.networks) == 1 or states <= STATES_BYTES


@given(GRIDS)
def test_a_part_of_several_shards_stays_within_its_rows(values):
    parts = {}
    for shard in shards(resolve("test", values).blocks):
        parts.setdefault(shard.part, []).append(shard.rows)
    assert all(len(rows) == 1 or sum(rows) <= PART_ROWS for rows in parts.values())


@given(GRIDS, st.randoms(use_true_random=False))
def test_the_cut_does_not_depend_on_the_order_of_the_values(values, rng: random.Random):
    cut = {frozenset(run.run_id for run in block.runs) for block in blocks_of(shards(resolve("t", values).blocks))}
    mixed = {key: rng.sample(own, len(own)) if isinstance(own, list) else own for key, own in values.items()}
    assert {
        frozenset(run.run_id for run in block.runs) for block in blocks_of(shards(resolve("t", mixed).blocks))
    } == cut


@given(PAIRS)
def test_what_is_planned_is_left_out_and_the_rest_is_planned_once(pair):
    before, after = (resolve("test", values) for values in pair)
    planned = shards(before.blocks)
    extension = shards(after.blocks, planned)
    new = {run.run_id for run in after.runs} - {run.run_id for run in before.runs}
    assert sorted(ids(extension)) == sorted(new)
    assert shards(after.blocks, planned + extension) == []


@given(GRIDS)
def test_what_is_lost_from_a_plan_is_planned_again_in_the_same_company(values):
    blocks = resolve("test", values).blocks
    planned = shards(blocks)
    for lost in planned[:3]:
        again = shards(blocks, [shard for shard in planned if shard is not lost])
        assert [shard.blocks for shard in again] == [lost.blocks]


@given(PAIRS)
def test_strangers_are_the_shards_with_runs_that_are_not_in_the_grid(pair):
    held, asked = (resolve("test", values) for values in pair)
    own = {run.run_id for run in asked.runs}
    expected = [shard for shard in shards(held.blocks) if not own.issuperset(ids([shard]))]
    assert strangers(shards(held.blocks), asked.blocks) == expected


@given(GRIDS, st.integers(1, 7))
def test_failed_runs_are_planned_again_and_no_others(values, step):
    sweep = resolve("test", values)
    planned = shards(sweep.blocks)
    failed = {}
    chosen = [(block, run) for block in blocks_of(planned) for run in block.runs][::step]
    for block, run in chosen:
        network, setting = (kind(*(run[name] for name in kind._fields)) for kind in (Network, Setting))
        failed.setdefault(block.kind, {}).setdefault(network, set()).add(setting)
    retried = again(sweep.blocks, failed, planned, float("inf"))
    assert sorted(ids(retried)) == sorted(run.run_id for _, run in chosen)
    assert not {shard.key for shard in retried} & {shard.key for shard in planned}
    more = again(sweep.blocks, failed, planned + retried, float("inf"))
    assert not {shard.key for shard in retried} & {shard.key for shard in more}


@given(GRIDS)
def test_a_shard_survives_json(values):
    for shard in shards(resolve("test", values).blocks):
        assert Shard.of(json.loads(json.dumps(shard.plain()))) == shard
        assert [Block.of(block.plain()).key for block in shard.blocks] == [block.key for block in shard.blocks]


def test_many_small_blocks_make_one_shard():
    sweep = resolve("test", {"input_scale": {"start": 0.1, "stop": 1, "num": 1000}, "hidden_size": 4, "seq_len": 5})
    assert 16 <= len(shards(sweep.blocks)) < 50


@given(st.integers(1, 5), st.integers(1, 7), st.floats(1.0, 40.0))
def test_the_networks_of_a_seed_stay_together_as_far_as_a_batch_holds_them(seeds, radii, spare):
    values = {
        "hidden_size": 64,
        "seq_len": 100,
        "seeds": seeds,
        "spectral_radius": [r / 4 for r in range(1, radii + 1)],
    }
    (whole,) = resolve("test", values).blocks
    cut = blocks_of(shards([whole], max_memory=memory(whole).of(1) * spare))
    for block in cut:
        own = {network.seed for network in block.networks}
        assert len(own) == 1 or set(block.networks) == {one for one in whole.networks if one.seed in own}
    sizes = [len(block.networks) for block in cut if 0 in {network.seed for network in block.networks}]
    assert max(sizes) - min(sizes) <= 1


def test_a_batch_stays_below_the_memory_it_may_take():
    radii = {"start": 0.5, "stop": 1.5, "num": 41}
    blocks = resolve("test", {"seq_len": [50, 200], "spectral_radius": radii}).blocks
    free = shards(blocks)
    most = max(shard.memory for shard in free)
    for share in (0.9, 0.5, 0.3):
        cut = shards(blocks, max_memory=share * most)
        assert len(blocks_of(cut)) > len(blocks_of(free))
        assert max(shard.memory for shard in cut) <= share * most


def test_a_network_that_takes_more_memory_than_there_may_be_is_refused_with_what_it_needs():
    blocks = resolve("test", {"seq_len": 100_000, "hidden_size": 512}).blocks
    with pytest.raises(
        gs.InputError,
        match=r"memory: one network of hidden_size 512.*seq_len 100000 needs .*GiB; allowed: at most 1 GiB",
    ):
        shards(blocks, max_memory=2**30)


@pytest.mark.parametrize(
    "values",
    [
        {"truncation": ["full", "fixed:5", "fixed:20", "chunked:20", "random:20"], "loss_steps": ["last", "all"]},
        {"seq_len": 3000},
        {"hidden_size": 128, "batch_size": 32, "truncation": ["full", "fixed:30"], "loss_steps": "all"},
        {"dtype": "float32", "loss_steps": "all", "truncation": "chunked:5"},
        {"dtype": "float32", "hidden_size": 300, "batch_size": 1, "truncation": ["full", "fixed:5", "chunked:20"]},
        {"task": "text", "loss_steps": "all"},
    ],
    ids=["default", "long", "large", "float32", "float32, one example", "text"],
)
def test_the_predicted_memory_is_what_measuring_takes_and_not_much_more(values):
    predicted, peak = memory_of(values)
    assert peak <= predicted <= 2 * peak


DRAWN = {"truncation": ["full", "random:20", "artbp:20:4", "one-coin:20"], "loss_steps": "all", "batch_size": 8}
CLIPPED = {
    "clip": ["off", "norm:1", "value:1"],
    "minibatches": 100,
    "loss_steps": "all",
    "batch_size": 2,
    "seq_len": 20,
}


@pytest.mark.parametrize(
    "values",
    [
        DRAWN | {"draws": 100},
        DRAWN | {"draws": 50, "hidden_size": 256, "seq_len": 50},
        DRAWN | {"draws": 50, "batch_size": 64, "seq_len": 50},
        CLIPPED,
        CLIPPED | {"hidden_size": 256},
        CLIPPED | {"minibatches": 1000, "batch_size": 1, "seq_len": 10},
    ],
    ids=["draws", "draws, large", "draws, many examples", "clips", "clips, large", "clips, many steps"],
)
def test_the_predicted_memory_of_samples_is_enough(values):
    predicted, peak = memory_of(values)
    assert peak <= predicted <= 3 * peak


def memory_of(values):
    """The predicted memory of a block, and what it takes."""
    blocks = resolve("test", {"seq_len": [50, 200], "spectral_radius": [0.5, 0.8, 1.0]} | values).blocks
    shard = shards(blocks)[0]
    runs = max(shard.blocks, key=len).runs
    with threadpool_limits(1):  # as in a sweep
        measure(runs)  # what is made once is made
        WORKSPACE.clear()
        tracemalloc.start()
        measure(runs)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return shard.memory, peak
