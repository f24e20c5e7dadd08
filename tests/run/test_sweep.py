"""A sweep's folder: the same tables whatever the workers and interruptions; nothing done twice, nothing mixed in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pandas as pd
import pytest
from small_sweep import SMALL, contents

import gradscope as gs
from gradscope import measuring
from gradscope.spectral import unit_draw
from gradscope.store import files
from gradscope.survey import survey


def sweep(folder, jobs=1, **more):
    overrides = SMALL | more.pop("overrides", {})
    return gs.sweep("spectral-radius", out=folder, overrides=overrides, jobs=jobs, **more)


def test_tables_are_the_same_bit_for_bit_whatever_the_workers(small, tmp_path):
    sweep(tmp_path / "processes", jobs=2)
    assert contents(tmp_path / "processes") == contents(small.folder)


def test_any_executor_serves_and_stays_open(small, tmp_path):
    with ThreadPoolExecutor(1) as executor:
        sweep(tmp_path / "threads", executor=executor)
        assert executor.submit(int, "1").result() == 1
    assert contents(tmp_path / "threads") == contents(small.folder)


@pytest.mark.parametrize("blocks", [0, 1, 7])
def test_an_interrupted_sweep_goes_on_and_ends_with_the_same_tables(tmp_path, monkeypatch, blocks):
    monkeypatch.setattr("gradscope.plan.STATES_BYTES", 1.0)  # one network a block, twelve of them: one a shard
    monkeypatch.setattr("gradscope.plan.PART_ROWS", 400)
    sweep(tmp_path / "whole")
    measure, measured = measuring.measure, []

    def stop(runs, threads):
        if len(measured) == blocks:
            raise KeyboardInterrupt
        return go_on(runs, threads)

    def go_on(runs, threads):
        measured.append([run.run_id for run in runs])
        return measure(runs)

    monkeypatch.setattr(measuring, "measure", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path / "out")
    assert len(measured) == blocks
    monkeypatch.setattr(measuring, "measure", go_on)
    sweep(tmp_path / "out")
    ids = [run_id for block in measured for run_id in block]
    assert len(ids) == len(set(ids)) == len(gs.load(tmp_path / "whole").runs)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_finished_sweep_is_not_run_again(small, tmp_path, monkeypatch):
    shutil.copytree(small.folder, tmp_path / "out")
    monkeypatch.setattr(measuring, "measure", lambda runs, threads: pytest.fail("measured again"))
    pd.testing.assert_frame_equal(sweep(tmp_path / "out").runs, small.runs)


def test_extending_a_sweep_computes_only_what_is_new(small, tmp_path, monkeypatch):
    shutil.copytree(small.folder, tmp_path / "out")
    measured = []
    measure = measuring.measure
    monkeypatch.setattr(measuring, "measure", lambda runs, threads: measured.extend(runs) or measure(runs))
    extended = sweep(tmp_path / "out", overrides={"seeds": 3, "spectral_radius": [0.5, 0.7, 1.0, 1.5]})
    assert len(measured) == len(extended.runs) - len(small.runs)
    assert {run.run_id for run in measured} == set(extended.runs["run_id"]) - set(small.runs["run_id"])
    assert len(extended.runs) == len(set(extended.runs["run_id"])) == len(small.runs) * 2
    fresh = sweep(tmp_path / "fresh", overrides={"seeds": 3, "spectral_radius": [0.5, 0.7, 1.0, 1.5]})
    shards = {"columns": ["shard", "shard_row"]}
    pd.testing.assert_frame_equal(extended.runs.drop(**shards), fresh.runs.drop(**shards), rtol=1e-10, atol=1e-12)
    pd.testing.assert_frame_equal(extended.timesteps, fresh.timesteps, rtol=1e-10, atol=1e-12)


def test_another_sweep_in_the_folder_is_refused_and_left_alone(small, tmp_path):
    shutil.copytree(small.folder, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(
        gs.InputError, match=r"out: output folder holds another sweep \(spectral-radius, .*choose another"
    ):
        sweep(tmp_path / "out", overrides={"hidden_size": 7})
    assert contents(tmp_path / "out") == before


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(gs.InputError, match="not empty and holds no sweep"):
        sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_dead_worker_is_an_error_that_says_what_to_do(tmp_path):
    class Dying(ThreadPoolExecutor):
        def submit(self, *_):
            future = Future()
            future.set_exception(BrokenProcessPool())
            return future

    with pytest.raises(gs.GradscopeError, match="the executor broke; what is finished is saved"):
        sweep(tmp_path / "out", executor=Dying())


def test_the_manifest_says_what_was_run(small):
    manifest = json.loads((small.folder / "manifest.json").read_text())
    assert manifest["grid"]["spectral_radius"] == [0.5, 1.0, 1.5]
    assert manifest["grid"]["seed"] == [0, 1]
    assert manifest["runs"] == len(small.runs)
    assert manifest["data"]["noise"]["normalised"]
    assert {"gradscope", "numerics", "python", "numpy"} <= set(manifest["versions"])
    assert manifest["started"] <= manifest["finished"]


def test_progress_counts_to_the_end(tmp_path):
    seen = []
    sweep(tmp_path / "out", progress=seen.append)
    assert seen[-1].done == seen[-1].total == len(gs.load(tmp_path / "out").runs)
    assert [state.done for state in seen] == sorted(state.done for state in seen)
    assert seen[0].done == 0
    assert seen[-1].left == 0
    assert all("activation" in state.now and "seed" in state.now for state in seen[1:])


def test_jobs_must_be_positive(tmp_path):
    with pytest.raises(gs.InputError, match="jobs: 0; allowed: a whole number >= 1"):
        sweep(tmp_path / "out", jobs=0)


def test_no_temporary_file_is_left(small):
    assert [path.name for path in small.folder.rglob("*") if path.name.startswith(".")] in ([], [".lock"])
    assert not survey(small.folder).problems


def test_a_stop_before_anything_is_measured_leaves_a_folder_that_goes_on(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    for place in (
        "gradscope.plan.shards",
        "gradscope.run._manifest",
        "gradscope.writer.write_json",
        "gradscope.run.crew_of",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, stop)
            with pytest.raises(KeyboardInterrupt):
                sweep(tmp_path / "out")
    assert len(sweep(tmp_path / "out").runs) == 192


def test_an_option_that_may_be_a_number_or_a_text_is_stored_as_text(tmp_path):
    options = {"task": ["sine", "noise"], "phase": [0.5, "random"], "activation": "tanh", "seeds": 1}
    results = sweep(tmp_path / "out", overrides=options).select(task="sine")
    assert set(results.runs["phase"].astype(str)) == {"0.5", "random"}
    assert len(results.select(phase="random").runs) == len(results.runs) / 2
    assert len(results.select(phase=0.5).runs) == len(results.runs) / 2


def test_a_sweep_of_numbers_can_be_extended_by_a_text(tmp_path):
    keys = {"task": ["sine", "noise"], "activation": "tanh", "seeds": 1, "frequency": [0.05, 0.1]}
    numbers = sweep(tmp_path / "out", overrides=keys).select(task="sine").runs
    assert numbers["frequency"].dtype == float
    both = sweep(tmp_path / "out", overrides=keys | {"frequency": [0.05, 0.1, "0.05+0.013"]}).select(task="sine")
    assert set(both.runs["frequency"]) == {"0.05", "0.1", "0.05+0.013"}
    kept = both.select(frequency=[0.05, 0.1]).runs.set_index("run_id").loc[list(numbers["run_id"])]
    assert list(kept["loss_value"]) == list(numbers["loss_value"])
    assert gs.verify(tmp_path / "out").ok


def test_bits_do_not_depend_on_what_was_drawn_before(tmp_path):
    # From this size on, BLAS gives other bits with more threads.
    big = {"hidden_size": 256, "spectral_radius": 1.0, "seq_len": 3, "seeds": 1, "activation": "tanh", "batch_size": 2}
    unit_draw.cache_clear()
    sweep(tmp_path / "fresh", overrides=big)
    unit_draw.cache_clear()
    gs.cell("elman", hidden_size=256, input_size=2, output_size=1).init(seed=0, spectral_radius=1.0)
    sweep(tmp_path / "after", overrides=big)
    assert contents(tmp_path / "after") == contents(tmp_path / "fresh")


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(tmp_path):
    settings = {"seeds": 8, "seq_len": 200, "activation": "tanh", "truncation": '["full", "fixed:50"]'}
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "gradscope", "sweep", *options, "--no-report", "-q", "--jobs", "2", "-o"]
    started = subprocess.Popen(
        [*command, "out"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not list(files(tmp_path / "out" / "shards")):
        assert started.poll() is None
        time.sleep(0.01)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to the workers too
    said = " ".join(started.communicate(timeout=60)[1].split())
    results = gs.load(tmp_path / "out")
    done = len(results.runs)
    assert started.returncode == 130
    assert said == (
        f"interrupted; {done:,} of 672 runs are saved in out; the same command goes on from here; "
        "gradscope report out shows what is there"
    )
    assert len(results.timesteps) == 200 * done
    for folder in ("out", "whole"):
        assert subprocess.run([*command, folder], cwd=tmp_path, check=False).returncode == 0
    assert 0 < done < len(gs.load(tmp_path / "out").runs) == 672
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
