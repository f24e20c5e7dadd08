"""Guards `gradscope bench`: what is asked, what it costs at least, that numbers are compared before they are timed."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from gradscope import bench
from gradscope.bench import limits, race
from gradscope.bench.contenders import naive_numpy
from gradscope.bench.limits import operations
from gradscope.bench.workload import CHUNKED, WORKLOADS, Case, Workload
from gradscope.cli import cli
from gradscope.engine import measure
from gradscope.errors import InputError

CASES = tuple(
    Case(T, loss, spec) for T in (4, 7) for loss in ("last", "all") for spec in ("full", "chunked:3", "random:3")
)
TINY = Workload("tiny", 4, 2, 3, radii=(0.5, 0.9, 1.3), seeds=2, cases=CASES)


@pytest.mark.parametrize("name", ["W1", "W1-lstm", "W1-gru"])
def test_the_headline_workload_is_5040_runs(name):
    one = WORKLOADS[name]
    assert len(one.radii) * one.seeds * len(one.cases) == 5040
    assert (one.radii[0], one.radii[-1], one.longest) == (0.5, 1.5, 200)


def test_some_networks_are_spread_over_the_radii():
    some = WORKLOADS["W1"].some(28)
    assert len(some.radii) * some.seeds == 28
    assert (some.radii[0], some.radii[-1]) == (0.5, 1.5)


def test_least_operations_of_full_bptt_are_three_products_a_step():
    n, m, B, T = 256, 16, 128, 256
    assert operations(WORKLOADS["W2"]) == 2 * B * n * (2 * T * (n + m + 1) + (T - 1) * n)


def test_least_operations_of_gated_cells_are_those_of_so_many_elman_networks():
    one = Workload("one", 64, 16, 4, (1.0,), 1, (Case(50, "last", "full"),))
    for cell, matrices in (("lstm", 4), ("gru", 3)):
        times = operations(replace(one, cell=cell)) / operations(one)
        assert matrices < times < 1.02 * matrices  # and a second bias


def test_least_operations_count_what_is_shared_once():
    # Full at the longest length is what all other cases under full, and chunks of one length are a part of.
    base = Workload("base", 8, 2, 4, (1.0,), 1, (Case(50, "last", "full"),))
    more = Workload("more", 8, 2, 4, (1.0,), 1, tuple(Case(50, "last", s) for s in ("full", "fixed:5", "chunked:20")))
    assert operations(more) == operations(base)
    assert operations(WORKLOADS["W1"]) * 105 == pytest.approx(96.5e9, rel=0.02)


def test_the_fastest_product_is_the_one_of_most_operations_a_second(monkeypatch):
    clock = itertools.count(step=0.001)  # every product takes a millisecond
    monkeypatch.setattr(limits.time, "perf_counter", lambda: next(clock))
    largest = max(2 * stack * rows * inner * columns for stack, rows, inner, columns in limits.PRODUCTS)
    assert limits.products_per_second("float32", seconds=0.1) == pytest.approx(largest / 0.001)


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
def test_what_contenders_are_given_is_what_the_sweep_draws(cell):
    tiny = replace(TINY, cell=cell)
    (answers,) = naive_numpy.prepare(tiny, 1)([tiny.network(1, 0.9)])
    runs = race._block(tiny, [(1, 0.9)]).runs
    assert {Case(run["seq_len"], run["loss_steps"], run["truncation"]) for run in runs} == set(CASES)
    assert race.disagreement(measure(runs), answers, "float64") < 1e-10


@pytest.mark.parametrize("wrong", ["norms", "gradients", "relative_error", "cosine"])
def test_a_contender_with_other_numbers_is_found(wrong):
    (answers,) = naive_numpy.prepare(TINY, 1)([TINY.network(0, 0.5)])
    case = Case(7, "all", "chunked:3")
    answer = answers[case]
    changed = {name: 1.001 * value for name, value in answer.gradients.items()} if wrong == "gradients" else None
    answers[case] = answer._replace(**{wrong: changed or 1.001 * getattr(answer, wrong)})
    assert race.disagreement(measure(race._block(TINY, [(0, 0.5)]).runs), answers, "float64") > 1e-4


@pytest.fixture
def tiny(monkeypatch):
    """A quick benchmark of a tiny workload against NumPy."""
    monkeypatch.setitem(bench.WORKLOADS, "W1", TINY)
    monkeypatch.setattr(bench, "QUICK", {"W1": {race.OURS: (2, 2), "naive_numpy": (1, 1)}})
    monkeypatch.setattr(race, "peak", lambda dtype: 1e9)


def test_a_benchmark_writes_results_history_and_figure(tiny, tmp_path):
    said = []
    for _ in range(2):
        found = bench.bench(tmp_path / "out", rounds=2, quick=True, tell=said.append)
    ours, peer = found["timings"]
    assert (ours["contender"], ours["ratio"], peer["contender"]) == ("gradscope", 1.0, "naive_numpy")
    assert len(peer["seconds"]) == 2
    assert peer["ratio"] == pytest.approx(np.median(np.divide(peer["seconds"], ours["seconds"])))
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == found
    history = (tmp_path / "out" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["rounds"] for line in history] == [2, 2]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "bench.json",
        "history.jsonl",
        "bench.png",
        "bench.svg",
    }
    assert any("round 2 of 2, naive_numpy" in line for line in said)


def test_a_contender_that_disagrees_is_named_and_not_timed(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(race, "disagreement", lambda *_: 0.5)
    found = bench.bench(tmp_path, rounds=1, quick=True)
    assert found["wrong"] == [{"workload": "W1", "contender": "naive_numpy", "apart": 0.5}]
    assert [timing["contender"] for timing in found["timings"]] == ["gradscope"]


def test_the_command_ends_with_1_if_a_contender_disagrees(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(race, "disagreement", lambda *_: 0.5)
    answer = CliRunner().invoke(cli, ["bench", "--quick", "--rounds", "1", "-o", str(tmp_path)])
    assert answer.exit_code == 1
    assert "not timed: naive_numpy on W1, 0.5 from gradscope's numbers" in answer.output


def test_unknown_workloads_and_no_rounds_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"--workload: unknown workload 'W3'; allowed: .*W1.*sweep"):
        bench.bench(tmp_path, workloads=["W3"])
    with pytest.raises(InputError, match=r"--rounds: 0; allowed: a whole number >= 1"):
        bench.bench(tmp_path, rounds=0)


def test_every_workload_has_gradscope_and_contenders_that_can_do_it():
    for table in (bench.FULL, bench.QUICK):
        for name, entries in table.items():
            assert race.OURS in entries
            for peer in entries.keys() - {race.OURS}:
                assert peer in bench.PEERS
                assert race.contender(peer).supports(WORKLOADS[name]), (peer, name)
    assert not race.contender("jax_map").supports(WORKLOADS["W1s"])
    assert len(CHUNKED) == 48
