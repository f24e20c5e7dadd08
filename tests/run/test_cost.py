"""What a block is predicted to take: counted operations against closed forms, and what is learnt from a clock."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope import cost, speed
from gradscope.cost import PRICES, seconds
from gradscope.errors import InputError
from gradscope.experiment import read
from gradscope.grid import resolve
from gradscope.intent import intent
from gradscope.outlook import disk_of
from gradscope.run import preview, sweep
from gradscope.speed import Speed, calibrated


def block(**values):
    (found,) = resolve("test", values).blocks
    return found


def labour(one):
    common = one.common
    seeds = tuple(network.seed for network in one.networks)
    return cost._labour(one.first.cell(), common["batch_size"], common["dtype"], one.settings, seeds)


SIZES = {"hidden_size": 5, "input_size": 3, "output_size": 2, "batch_size": 4}
N, P, B = 5, 5 + 3 + 1, 4


@pytest.mark.parametrize("T", [1, 7, 30])
def test_one_loss_goes_back_once(T):
    done = labour(block(seq_len=T, **SIZES))
    assert done.products == B * T * ((P * N + N * 2) + N * N + P * N)
    assert done.elements == B * N * (T + T + T)
    assert done.seen == B * T


@pytest.mark.parametrize(("T", "tau"), [(20, 2), (20, 3), (50, 20)])
def test_sliding_windows_go_back_side_by_side(T, tau):
    done = labour(block(seq_len=T, loss_steps="all", truncation=["full", f"fixed:{tau}"], **SIZES))
    windows = sum(min(tau, T - t) for t in range(T))
    full, sums = T, T
    assert done.products == B * (T * (P * N + N * 2) + (full + windows) * N * N + (full + sums) * P * N)


def test_chunks_and_full_share_the_rows_that_they_can():
    alone = labour(block(seq_len=20, loss_steps="all", truncation="full", **SIZES))
    both = labour(block(seq_len=20, loss_steps="all", truncation=["full", "chunked:5"], **SIZES))
    # The last chunk is the end of the full row; the three others, of five steps, go back beside it.
    assert both.products - alone.products == B * 15 * (N * N + P * N)


@given(st.integers(1, 100), st.integers(1, 32), st.integers(1, 200), st.sampled_from(["full", "fixed:7", "chunked:5"]))
def test_more_takes_longer(n, B, T, truncation):
    one = block(hidden_size=n, batch_size=B, seq_len=T, truncation=truncation, loss_steps="all")
    for key, value in (("hidden_size", n + 1), ("batch_size", B + 1)):
        assert seconds(replace(one, common={**one.common, key: value})) > seconds(one)
    assert seconds(replace(one, settings=(one.settings[0]._replace(seq_len=T + 1),))) > seconds(one)
    assert seconds(replace(one, networks=(*one.networks, one.networks[0]._replace(seed=1)))) > seconds(one)


@given(st.integers(2, 400), st.integers(2, 200), st.integers(1, 30))
def test_more_draws_minibatches_and_clips_take_longer(draws, minibatches, T):
    values = {"seq_len": T, "truncation": ["full", "random:4"], "loss_steps": "all", **SIZES}
    plain, drawn = (seconds(block(**values, draws=number)) for number in (0, draws))
    assert plain < drawn < seconds(block(**values, draws=draws + 1))
    clips = {"minibatches": minibatches, "clip": ["off", "norm:1"]}
    few, many = (seconds(block(**values | clips | more)) for more in ({}, {"clip": ["off", "norm:1", "value:1"]}))
    assert plain < few < many
    assert few < seconds(block(**values | clips | {"minibatches": minibatches + 1}))


@pytest.fixture
def clock(monkeypatch):
    """A clock on which measuring a run takes three times what `cost` says, and everything else nothing."""
    now = [0.0]

    def measure(runs):
        (own,) = resolve("test", {"hidden_size": runs[0]["hidden_size"]}).blocks
        networks = tuple(dict.fromkeys(type(own.networks[0])(run["spectral_radius"], run["seed"]) for run in runs))
        settings = {tuple(run[name] for name in own.settings[0]._fields) for run in runs}
        done = replace(
            own,
            common={key: runs[0][key] for key in own.common},
            networks=networks,
            settings=tuple(type(own.settings[0])(*one) for one in sorted(settings)),
        )
        draws = PRICES.draws * runs[0]["hidden_size"] ** 3 * len({run["seed"] for run in runs})
        now[0] += 3 * (seconds(done) - draws)

    monkeypatch.setattr(speed, "measure", measure)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": [8, 64], "seq_len": [10, 50], "seeds": 3},
        {
            "hidden_size": 512,
            "seq_len": 1000,
            "batch_size": 64,
            "loss_steps": "all",
            "truncation": ["full", "fixed:50"],
        },
        {"seq_len": 300, "loss_steps": ["250", "all"], "spectral_radius": {"start": 0.5, "stop": 1.5, "num": 101}},
    ],
    ids=["small", "large", "a loss in the middle"],
)
def test_a_sample_tells_how_fast_the_machine_is_in_less_than_a_second(clock, values):
    blocks = resolve("test", values).blocks
    found = calibrated(blocks)
    assert found.slowness == pytest.approx(3.0)
    assert found.seconds(blocks) == pytest.approx(3 * sum(map(seconds, blocks)))
    assert clock[0] < 1.0


def test_kinds_are_learnt_apart_and_what_is_unknown_is_like_the_rest():
    fast, slow, other = resolve("test", {"activation": ["tanh", "linear", "relu"]}).blocks
    learnt = Speed()
    assert learnt.seconds([fast]) == seconds(fast)
    learnt.learn_of([fast], 0.5 * seconds(fast))
    learnt.learn_of([slow, slow], 6 * seconds(slow))
    assert learnt.seconds([fast]) == pytest.approx(0.5 * seconds(fast))
    assert learnt.seconds([slow]) == pytest.approx(3 * seconds(slow))
    assert learnt.seconds([other]) == pytest.approx(6.5 / 3 * seconds(other))


def test_the_predicted_disk_is_what_the_tables_take(tmp_path):
    values = {"seeds": 2, "hidden_size": 4, "batch_size": 2, "input_size": 2, "seq_len": [25, 75]}
    sweep(out=tmp_path / "out", overrides=values, jobs=1)
    whole = read("spectral-radius", values)
    predicted = disk_of(intent(whole, tmp_path / "elsewhere", float("inf")))
    taken = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert taken / 1.5 < predicted < 1.5 * taken


def test_a_preview_runs_nothing_and_says_what_is_done(tmp_path):
    values = {"hidden_size": 4, "seq_len": 6, "batch_size": 2, "spectral_radius": 0.9, "activation": "tanh"}
    meant, expected, _ = preview(out=tmp_path / "out", overrides=values, jobs=2)
    assert not (tmp_path / "out").exists()
    assert (meant.done, meant.reasons) == (0, {"new": 60})
    assert expected.seconds > 0
    sweep(out=tmp_path / "out", overrides=values, jobs=1)
    meant, expected, _ = preview(out=tmp_path / "out", overrides=values | {"seeds": 7}, jobs=2)
    assert (meant.done, meant.reasons) == (60, {"new": 24})
    meant, expected, _ = preview(out=tmp_path / "out", overrides=values, jobs=2)
    assert (meant.done, meant.reasons, expected.seconds, expected.disk) == (60, {}, 0.0, 0)
    with pytest.raises(InputError, match="60 of its runs are not in this one; changed: hidden_size from 4 to 5"):
        preview(out=tmp_path / "out", overrides=values | {"hidden_size": 5}, jobs=2)
