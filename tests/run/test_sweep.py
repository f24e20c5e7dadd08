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
from small_sweep import SMALL

import gradscope as gs
from gradscope import run as driver
from gradscope.spectral import unit_draw
from gradscope.store import Store


def contents(folder):
    """Every table's bytes, by name."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


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


@pytest.mark.parametrize("batches", [0, 1, 7])
def test_an_interrupted_sweep_goes_on_and_ends_with_the_same_tables(tmp_path, monkeypatch, batches):
    monkeypatch.setattr("gradscope.plan.STATES_BYTES", 1.0)  # one network a batch: twelve of them
    sweep(tmp_path / "whole")
    measure, measured = driver.measure, []

    def stop(runs, threads):
        if len(measured) == batches:
            raise KeyboardInterrupt
        return go_on(runs, threads)

    def go_on(runs, threads):
        measured.append([run.run_id for run in runs])
        return measure(runs)

    monkeypatch.setattr(driver, "measure", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path / "out")
    assert len(measured) == batches
    monkeypatch.setattr(driver, "measure", go_on)
    sweep(tmp_path / "out")
    ids = [run_id for batch in measured for run_id in batch]
    assert len(ids) == len(set(ids)) == len(gs.load(tmp_path / "whole").runs)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_finished_sweep_is_not_run_again(small, tmp_path, monkeypatch):
    shutil.copytree(small.folder, tmp_path / "out")
    monkeypatch.setattr(driver, "measure", lambda runs, threads: pytest.fail("measured again"))
    pd.testing.assert_frame_equal(sweep(tmp_path / "out").runs, small.runs)


def test_a_stop_between_merging_and_removing_the_shards_leaves_no_run_twice(small, tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.unlink", lambda path, missing_ok=False: None)
    sweep(tmp_path / "out")
    monkeypatch.undo()
    assert list((tmp_path / "out" / "shards").glob("*.parquet"))
    pd.testing.assert_frame_equal(gs.load(tmp_path / "out").runs, small.runs)
    sweep(tmp_path / "out")
    assert not list((tmp_path / "out" / "shards").glob("*.parquet"))
    assert contents(tmp_path / "out") == contents(small.folder)


def test_extending_a_sweep_computes_only_what_is_new(small, tmp_path, monkeypatch):
    shutil.copytree(small.folder, tmp_path / "out")
    measured = []
    measure = driver.measure
    monkeypatch.setattr(driver, "measure", lambda runs, threads: measured.extend(runs) or measure(runs))
    extended = sweep(tmp_path / "out", overrides={"seeds": 3, "spectral_radius": [0.5, 0.7, 1.0, 1.5]})
    assert {run.run_id for run in measured} == set(extended.runs["run_id"]) - set(small.runs["run_id"])
    assert len(extended.runs) == len(set(extended.runs["run_id"])) == len(small.runs) * 2
    fresh = sweep(tmp_path / "fresh", overrides={"seeds": 3, "spectral_radius": [0.5, 0.7, 1.0, 1.5]})
    shards = {"columns": "shard"}
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

    with pytest.raises(gs.GradscopeError, match="a worker process died; what is finished is saved"):
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
    sweep(tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == len(gs.load(tmp_path / "out").runs)
    assert seen == sorted(seen)


def test_jobs_must_be_positive(tmp_path):
    with pytest.raises(gs.InputError, match="jobs: 0; allowed: a whole number >= 1"):
        sweep(tmp_path / "out", jobs=0)


def test_a_damaged_table_is_named(small, tmp_path):
    shutil.copytree(small.folder, tmp_path / "out")
    (tmp_path / "out" / "runs.parquet").write_bytes(b"PAR1 not a table")
    with pytest.raises(gs.InputError, match=r"runs\.parquet: cannot be read"):
        gs.load(tmp_path / "out")


def test_no_temporary_file_is_left(small):
    assert not [path for path in small.folder.rglob("*") if path.name.startswith(".")]
    assert Store(small.folder).is_finished(small.manifest["hash"])


def test_timesteps_left_by_a_stop_before_their_runs_are_never_read(small, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gradscope.store.runs_table", stop)
        with pytest.raises(KeyboardInterrupt):
            sweep(tmp_path / "out")
    assert list((tmp_path / "out" / "timesteps").glob("*.parquet"))
    extended = sweep(tmp_path / "out", overrides={"seeds": 3})
    assert len(extended.timesteps) == extended.runs["seq_len"].sum()


@pytest.mark.parametrize("lost", ["timesteps", "runs.parquet"])
def test_what_was_lost_is_measured_again(small, tmp_path, lost):
    shutil.copytree(small.folder, tmp_path / "out")
    if lost == "timesteps":
        victim = sorted((tmp_path / "out" / "timesteps").glob("*.parquet"))[0]
        victim.unlink()
        with pytest.raises(gs.InputError, match=f"{victim.name}: is missing; the same sweep again"):
            _ = gs.load(tmp_path / "out").timesteps
    else:
        (tmp_path / "out" / lost).unlink()
    again = sweep(tmp_path / "out")
    pd.testing.assert_frame_equal(again.runs, small.runs)
    pd.testing.assert_frame_equal(again.timesteps, small.timesteps)


def test_a_stop_before_anything_is_measured_leaves_a_folder_that_goes_on(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    for place in ("gradscope.plan.batches", "gradscope.run._manifest", "gradscope.run._workers"):
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
    while not list(tmp_path.glob("out/shards/*.parquet")):
        assert started.poll() is None
        time.sleep(0.01)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to the workers too
    said = " ".join(started.communicate(timeout=60)[1].split())
    assert (started.returncode, said) == (130, "interrupted; the same command goes on from here")
    done = len(gs.load(tmp_path / "out").runs)
    for folder in ("out", "whole"):
        assert subprocess.run([*command, folder], cwd=tmp_path, check=False).returncode == 0
    assert 0 < done < len(gs.load(tmp_path / "out").runs)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
