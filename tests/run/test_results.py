"""Results as pandas tables: the contract's columns, sensible dtypes, selections that read what they need."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from small_sweep import SMALL

import gradscope as gs
from gradscope.records import joined

RUNS = [
    *("run_id", "cell", "activation", "ensemble", "hidden_size", "spectral_radius", "seq_len", "truncation", "task"),
    *("input_scale", "loss", "loss_steps", "reduction", "batch_size", "dtype", "input_size", "output_size", "seed"),
    *("spectral_radius_realised", "spectral_norm", "mean_slope", "status", "loss_value", "relative_error", "cosine"),
    *("message", "shard", "shard_row", "clip", "draws", "minibatches", "num_layers", "match", "henrici"),
    *("log10_grad_W_xh", "log10_grad_W_hh", "log10_grad_b_h", "log10_grad_W_hy", "log10_grad_b_y", "log10_grad"),
]


def test_runs_have_the_contracts_columns(small):
    assert set(small.runs.columns) == set(RUNS)


def test_timesteps_have_the_contracts_columns_and_a_row_for_each_run_and_step(small):
    steps = small.timesteps
    assert list(steps.columns) == ["run_id", "t", "lag", "log10_dh", "log10_dh_std", "zero_share"]
    counts = steps.groupby("run_id", observed=True)["t"].agg(["min", "max", "count"])
    lengths = small.runs.set_index("run_id")["seq_len"].loc[counts.index.astype(str)].to_numpy()
    assert (counts["min"] == 1).all()
    assert (counts["max"] == lengths).all()
    assert (counts["count"] == lengths).all()


def test_repeated_texts_are_categories(small):
    categories = small.runs.dtypes[small.runs.dtypes == "category"].index
    assert set(categories) >= {"truncation", "activation", "status", "loss_steps"}
    assert small.timesteps["run_id"].dtype == "category"
    assert small.runs["spectral_radius"].dtype == np.float64
    assert small.runs["seq_len"].dtype == np.int64


def test_timesteps_stand_in_the_order_of_the_runs(small):
    assert list(small.timesteps["run_id"].unique()) == list(small.runs["run_id"])


def test_a_selection_is_the_whole_filtered(small):
    part = small.select(spectral_radius=1.5, truncation="full", seq_len=[6, 12])
    expected = small.runs.query("spectral_radius == 1.5 and truncation == 'full'").reset_index(drop=True)
    pd.testing.assert_frame_equal(part.runs, expected)
    whole = small.timesteps[small.timesteps["run_id"].isin(expected["run_id"])]
    pd.testing.assert_frame_equal(
        part.timesteps.astype({"run_id": str}), whole.astype({"run_id": str}).reset_index(drop=True)
    )


def test_numbers_are_found_as_they_are_written(small):
    assert len(small.select(spectral_radius=1).runs) == len(small.select(spectral_radius=1.0 + 1e-12).runs) > 0


def test_selecting_what_is_not_there_says_what_is(small):
    with pytest.raises(gs.InputError, match=r"select: no run has spectral_radius = 3; allowed: 0\.5, 1\.0, 1\.5"):
        small.select(spectral_radius=3)
    with pytest.raises(gs.InputError, match=r"unknown column 'radius'.*spectral_radius"):
        small.select(radius=1)


def test_loading_a_folder_without_a_sweep_says_so(tmp_path):
    with pytest.raises(gs.InputError, match="holds no sweep; run gradscope sweep first"):
        gs.load(tmp_path)
    (tmp_path / "manifest.json").write_text("{not json")
    with pytest.raises(gs.InputError, match=r"manifest\.json: cannot be read"):
        gs.load(tmp_path)
    (tmp_path / "manifest.json").write_text('{"name": "a", "hash": "b", "grid": {}}')
    with pytest.raises(gs.InputError, match="holds no sweep of this gradscope, but the manifest"):
        gs.load(tmp_path)


def test_loading_a_sweep_of_which_nothing_is_done_says_so(tmp_path):
    def stop(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gs.sweep(out=tmp_path / "out", overrides=SMALL, jobs=1, progress=stop)
    with pytest.raises(gs.InputError, match="none of the sweep's runs is finished"):
        gs.load(tmp_path / "out")


def test_values_are_found_however_they_are_given(tmp_path):
    options = {"task": ["sine", "noise"], "phase": [1.0, "random"], "activation": "tanh", "seeds": 1}
    results = gs.sweep(out=tmp_path / "out", overrides=SMALL | options | {"loss_steps": ["last", [1, 3]]}, jobs=1)
    quarter = len(results.runs) // 3
    assert len(results.select(phase=1).runs) == quarter
    assert len(results.select(phase=np.array([1.0])).runs) == quarter
    assert len(results.select(phase=None).runs) == quarter
    assert set(results.select(phase=None).runs["task"]) == {"noise"}
    assert len(results.select(loss_steps=[[1, 3]]).runs) == len(results.select(loss_steps="1, 3").runs) > 0
    assert set(results.select(loss_steps="1,3").runs["loss_steps"]) == {"1,3"}
    with pytest.raises(gs.InputError, match="no run has seq_len = None"):
        results.select(seq_len=None)


def test_results_that_were_loaded_before_the_sweep_went_on_say_so(tmp_path):
    def stop(state):
        if state.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gs.sweep(out=tmp_path / "out", overrides=SMALL, jobs=1, progress=stop)
    early = gs.load(tmp_path / "out")
    gs.sweep(out=tmp_path / "out", overrides=SMALL, jobs=1)
    with pytest.raises(gs.InputError, match="the sweep has gone on since these results were loaded; load them again"):
        _ = early.timesteps


def test_runs_from_before_a_key_was_there_have_the_value_with_which_it_changes_nothing():
    old, new = pa.table({"run_id": ["a"]}), pa.table({"run_id": ["b"], "num_layers": [2], "match": ["state"]})
    found = joined([old, new]).to_pandas()
    assert found["num_layers"].tolist() == [1, 2]
    assert found["match"].tolist() == ["units", "state"]
    assert "num_layers" not in joined([old, old]).column_names
