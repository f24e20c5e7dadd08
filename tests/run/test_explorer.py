"""The explorer's data are the tables' numbers, small and the same each time; nothing of it can do harm."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import itertools
import json
import re
from importlib import import_module
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment, PackageLoader, StrictUndefined
from scipy import stats
from small_sweep import SMALL

import gradscope as gs
from gradscope import analysis
from gradscope.reporting.explorer import FEW_SEEDS, LIBRARY, Choices, explorer, lags_shown

module = import_module("gradscope.reporting.explorer")  # its name within the package is the function's
SHA256 = "64baf3fc7ea0242b0e0af0e8af4c6bbe5ca1ae9affe6cd2fa09cd8a9726a38f4"  # as its README.md says how to make it
CODES = {-32768: -np.inf, 32767: np.nan}
AXES = ("panel", "seq_len", "loss_steps", "spectral_radius", "truncation")


def unpacked(packed):
    """(panel, length, loss, radius, truncation, column, lag) -> value, read number by number; and the header."""
    content = gzip.decompress(base64.b64decode(packed.data))
    length = int.from_bytes(content[:4], "little")
    header, body = json.loads(content[4 : 4 + length]), content[4 + length :]
    half, at, choices, values = len(body) // 2, 0, packed.choices, {}
    blocks = itertools.product(choices.panel, choices.seq_len, choices.loss_steps)
    lags = itertools.cycle(header["lags"])
    for block, scale, shown in zip(blocks, header["scales"], lags, strict=False):
        inner = itertools.product(choices.spectral_radius, choices.truncation, header["columns"], shown)
        for key in inner:
            code = int.from_bytes(bytes([body[at], body[half + at]]), "little", signed=True)
            values[(*block, *key)] = CODES.get(code, code / scale)
            at += 1
    assert at == half
    return values, header


def measured(results):
    """(panel, length, loss, radius, truncation, seed, lag) -> log10_dh, of what can be explored."""
    runs = analysis.networks(results)
    table = results.timesteps.astype({"run_id": str}).merge(runs.astype({"run_id": str}), on="run_id")
    keys = zip(*(table[name] for name in (*AXES, "seed", "lag")), strict=True)
    return {key: value for key, value in zip(keys, table["log10_dh"], strict=True) if key[-1] >= 0}


def assert_same(found, expected, within=0.005):
    assert found.keys() == expected.keys()
    known = np.array(list(expected.values()), float)
    np.testing.assert_allclose([found[key] for key in expected], known, rtol=0, atol=within * (1 + 1e-9))


def test_the_data_are_the_numbers_of_the_tables(small):
    packed = explorer(small)
    values, header = unpacked(packed)
    assert header["columns"] == [0, 1]
    assert packed.left_out == []
    assert_same(values, measured(small))


def test_the_same_results_give_the_same_bytes(small):
    assert explorer(small) == explorer(gs.load(small.folder))


def test_exact_zeros_are_told_from_missing_gradients(tmp_path):
    overrides = SMALL | {"activation": "linear", "spectral_radius": [0.5, 40.0], "seq_len": 400, "seeds": 1}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=overrides, jobs=1)
    values, _ = unpacked(explorer(results))
    cut = {key[-1]: value for key, value in values.items() if key[2:5] == ("last", 0.5, "fixed:3")}
    assert [lag for lag, value in cut.items() if value != -np.inf] == [0, 1, 2]
    overflowed = [value for key, value in values.items() if key[3] == 40.0]
    assert overflowed
    assert np.isnan(overflowed).all()


def test_numbers_too_large_for_hundredths_keep_as_many_digits_as_fit(tmp_path):
    one = {"activation": "linear", "spectral_radius": [0.01, 0.5], "seq_len": 400, "truncation": "full", "seeds": 1}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL | one | {"loss_steps": "last"}, jobs=1)
    values, header = unpacked(explorer(results))
    (scale,) = header["scales"]
    everything = measured(results)
    largest = max(abs(value) for value in everything.values())
    assert largest > 700
    assert scale == pytest.approx(32766 / largest, rel=0.01)
    assert_same(values, {key: everything[key] for key in values}, within=0.5 / scale)


def test_of_many_seeds_statistics_are_packed(tmp_path):
    count = FEW_SEEDS + 1
    overrides = SMALL | {"seeds": count, "activation": "tanh", "seq_len": 12, "truncation": ["full", "random:4"]}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=overrides, jobs=1)
    packed = explorer(results)
    values, header = unpacked(packed)
    assert not packed.each_seed
    by_curve = {}
    for (*curve, _, lag), value in measured(results).items():
        by_curve.setdefault((*curve, lag), []).append(value)
    start = {(*curve, lag): by_curve[(*curve, 0)] for *curve, lag in by_curve}
    zeros = 0
    for (*curve, lag), seeds in by_curve.items():
        found = {name: values[(*curve, name, lag)] for name in header["columns"]}
        ordered = np.sort(seeds)
        # Eleven seeds: the deciles are seeds.
        expected = {"low": ordered[1], "median": ordered[5], "high": ordered[9]}
        expected |= {"least": ordered[0], "greatest": ordered[-1]}
        change = [
            value if np.isneginf(value) else value - first
            for value, first in zip(seeds, start[*curve, lag], strict=True)
        ]
        expected["change"] = np.sort(change)[5]
        expected["mean"] = sum(seeds) / count
        if np.isfinite(ordered[0]):
            expected["half_width"] = stats.t.ppf(0.975, count - 1) * stats.sem(seeds)
        else:
            expected["half_width"] = np.nan
            zeros += 1
        assert_same(found, expected)
    assert zeros


def test_change_is_packed_within_a_limit_that_holds_all_of_it(small):
    _, header = unpacked(explorer(small))
    everything = measured(small)
    change = [value - everything[(*curve, 0)] for (*curve, _lag), value in everything.items()]
    assert header["limit"] == np.ceil(np.abs(change, where=np.isfinite(change), out=np.zeros(len(change))).max())


def test_students_t_is_that_of_so_many_seeds(small):
    assert unpacked(explorer(small))[1]["student"] == pytest.approx([0, 0, 12.7062], abs=1e-4)  # a printed table's


@pytest.mark.parametrize("limit", [2500, 1700, 1300])
def test_what_is_too_large_is_thinned_and_the_page_says_so(small, monkeypatch, limit):
    monkeypatch.setattr(module, "BUDGET", limit)
    packed = explorer(small)
    assert len(packed.data) <= limit
    assert packed.left_out
    assert packed.choices.seq_len == (12,)
    values, _ = unpacked(packed)
    everything = measured(small)
    assert_same(values, {key: everything[key] for key in values})
    assert packed.first == [0.5, 1.0, 1.5]


def test_what_is_left_out_is_counted():
    many = Choices(
        panel=tuple("abcdefghijkl"),
        seq_len=(10, 1000),
        loss_steps=("last", "all", "3"),
        spectral_radius=tuple(np.linspace(0, 2, 101).tolist()),
        truncation=tuple(f"fixed:{tau}" for tau in range(1, 41)),
    )
    ladder = list(module._ever_less(many))
    sizes = [module._numbers(choices, seeds=5) for choices in ladder]
    assert sizes == sorted(sizes, reverse=True)
    assert ladder[-1].spectral_radius[0] == 0
    assert ladder[-1].spectral_radius[-1] == 2
    assert module._left_out(many, ladder[-1]) == [
        "Of longer sequences 25 lags are here: the first 16, then some at even distances up to the last.",
        "1 of 12 panels are here.",
        "1 of 2 sequence lengths are here.",
        "2 of 3 choices of loss steps are here.",
        "21 of 101 spectral radii are here.",
        "3 of 40 truncations are here.",
    ]


@given(st.integers(1, 5000), st.sampled_from([25, 50, 100]))
def test_lags_begin_at_0_end_at_the_last_and_are_no_more_than_asked_for(seq_len, most):
    lags = lags_shown(seq_len, "all", most)
    assert lags[0] == 0
    assert lags[-1] == seq_len - 1
    assert len(lags) == min(most, seq_len)
    assert (np.diff(lags) > 0).all()


def test_a_loss_step_has_the_lags_before_it(tmp_path):
    overrides = SMALL | {"loss_steps": 3, "seq_len": 12}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=overrides, jobs=1)
    values, header = unpacked(explorer(results))
    assert header["lags"] == [[0, 1, 2]]
    assert_same(values, measured(results))


def test_where_there_is_nothing_to_explore_there_is_no_explorer(balancing, tmp_path):
    assert explorer(balancing) is None
    overrides = SMALL | {"seq_len": 1, "truncation": "full", "loss_steps": "last"}
    assert explorer(gs.sweep("spectral-radius", out=tmp_path / "out", overrides=overrides, jobs=1)) is None


def fragment(packed):
    environment = Environment(
        loader=PackageLoader("gradscope.reporting", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("explorer.html.j2").render(explorer=packed)


def test_hostile_names_are_escaped_and_stay_out_of_the_data(tmp_path):
    hostile = "</script><b>"
    series = tmp_path / "series.csv"
    pd.DataFrame({hostile: np.sin(np.arange(99.0)), "b": np.cos(np.arange(99.0))}).to_csv(series, index=False)
    overrides = {key: value for key, value in SMALL.items() if key not in ("input_size", "activation")}
    overrides |= {"task": "series", "file": str(series), "column": [hostile, "b"], "seeds": 1}
    packed = explorer(gs.sweep("spectral-radius", out=tmp_path / "out", overrides=overrides, jobs=1))
    text = fragment(packed)
    assert hostile not in text
    assert f"{html.escape(hostile)}</option>" in text
    assert b"script" not in gzip.decompress(base64.b64decode(packed.data))


def test_the_page_offers_what_is_packed_and_labels_each_control(small):
    packed = explorer(small)
    text = fragment(packed)
    assert re.findall(r'data-radius="(.+?)"', text) == ["0.5", "1.0", "1.5"]
    for values in (packed.choices.panel, packed.choices.truncation):
        for value in values:
            assert f">{value}</option>" in text
    controls = set(re.findall(r'<(?:select|input)[^>]* id="(.+?)"', text))
    assert controls == set(re.findall(r'<label for="(.+?)"', text))
    ids = re.findall(r' id="(.+?)"', text)
    assert len(ids) == len(set(ids))


def test_the_library_is_the_one_that_was_vendored_and_asks_for_no_more_than_the_policy_allows(small):
    packed = explorer(small)
    assert hashlib.sha256(files("gradscope.reporting").joinpath("vendor", LIBRARY).read_bytes()).hexdigest() == SHA256
    assert gzip.decompress(base64.b64decode(packed.library)).decode() == packed.library_text
    for text in (packed.library_text, packed.script):
        assert not re.search(r"\beval\(|new Function|XMLHttpRequest|\bfetch\(|WebSocket|importScripts|blob:", text)
    assert "innerHTML" not in packed.script


def test_the_script_stands_in_the_page_as_it_is(small):
    packed = explorer(small)
    assert f"<script>{packed.script}</script>" in fragment(packed)
    assert not re.search(r"</?script|<!--", packed.script, re.IGNORECASE)


def test_the_page_names_the_librarys_version_and_licences():
    vendor = files("gradscope.reporting").joinpath("vendor")
    (version,) = set(re.findall(r"echarts@([\d.]+)", vendor.joinpath("README.md").read_text(encoding="utf-8")))
    template = files("gradscope.reporting").joinpath("explorer.html.j2").read_text(encoding="utf-8")
    assert f"Apache ECharts {version}" in template
    for name in ("LICENSE", "NOTICE", "LICENSE-zrender", "LICENSE-d3"):
        assert vendor.joinpath(name).read_text(encoding="utf-8").strip()
    library = vendor.joinpath(LIBRARY).read_text(encoding="utf-8")
    assert f"Apache ECharts {version}" in library
    assert "Copyright (c) 2017, Baidu Inc." in library
