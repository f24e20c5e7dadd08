"""Runs that cannot be measured are rows that say why; the others go on, and can be told from what failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from small_sweep import SMALL, contents

import gradscope as gs
from gradscope import measuring
from gradscope.cli import cli
from gradscope.engine import measure
from gradscope.grid import resolve
from gradscope.measuring import VERSIONS, measure_shard
from gradscope.plan import shards
from gradscope.sealed import unseal


def sweep(folder, **more):
    return gs.sweep("spectral-radius", out=folder, overrides=SMALL, jobs=1, **more)


def failing(condition, error):
    """`measure`, but for a run of which `condition` is true."""

    def instead(runs, threads):
        if any(condition(run) for run in runs):
            raise error
        return measure(runs, threads)

    return instead


@pytest.fixture
def failed(tmp_path, monkeypatch):
    """A sweep in which the runs of one network failed."""
    with monkeypatch.context() as patch:
        bad = failing(lambda run: run["seed"] == 1 and run["spectral_radius"] == 1.0, MemoryError("too large"))
        patch.setattr(measuring, "measure", bad)
        return sweep(tmp_path / "out")


def test_a_network_that_fails_is_rows_and_the_others_are_measured(small, failed):
    bad = (failed.runs["seed"] == 1) & (failed.runs["spectral_radius"] == 1.0)
    assert (failed.runs["status"] == "failed").tolist() == bad.tolist()
    assert set(failed.runs.loc[bad, "message"]) == {"MemoryError: too large"}
    assert failed.runs.loc[~bad, "message"].isna().all()
    assert failed.runs.loc[bad, ["loss_value", "log10_grad", "log10_grad_W_hh"]].isna().all(axis=None)
    numbers = [*small.runs.columns[: small.runs.columns.get_loc("status")], "loss_value", "log10_grad_W_hh", "cosine"]
    pd.testing.assert_frame_equal(
        failed.runs.loc[~bad, numbers], small.runs.loc[~bad, numbers], rtol=1e-12, check_categorical=False
    )
    whole = small.select(run_id=list(failed.runs.loc[~bad, "run_id"])).timesteps
    assert list(failed.timesteps["run_id"].astype(str)) == list(whole["run_id"].astype(str))
    np.testing.assert_allclose(failed.timesteps["log10_dh"], whole["log10_dh"], rtol=1e-10)
    assert failed.failed == {"MemoryError: too large": bad.sum()}


def test_failed_runs_are_left_alone_until_they_are_asked_for(small, failed, monkeypatch):
    again = []
    monkeypatch.setattr(measuring, "measure", lambda runs, threads: again.extend(runs) or measure(runs, threads))
    assert sweep(failed.folder).failed == failed.failed
    assert again == []
    mended = sweep(failed.folder, retry_failed=True)
    assert {run.run_id for run in again} == set(failed.runs.loc[failed.runs["status"] == "failed", "run_id"])
    assert len(again) == sum(failed.failed.values())
    assert mended.failed == {}
    drop = ["shard", "shard_row"]
    pd.testing.assert_frame_equal(mended.runs.drop(columns=drop), small.runs.drop(columns=drop), rtol=1e-11)
    pd.testing.assert_frame_equal(mended.timesteps, small.timesteps, rtol=1e-9)
    assert gs.verify(failed.folder).problems == ()


@pytest.mark.parametrize("kind", ["plan.json", "shards/*.shard", "timesteps/*.parquet", "manifest.json"])
@pytest.mark.parametrize("retried", [False, True])
def test_damage_beside_failed_runs_is_mended(failed, kind, retried):
    if retried:
        sweep(failed.folder, retry_failed=True)
    before = contents(failed.folder)
    for victim in failed.folder.glob(kind):
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    results = sweep(failed.folder)
    assert gs.verify(failed.folder).problems == ()
    assert len(results.runs) == 192
    if kind in ("plan.json", "manifest.json"):
        assert contents(failed.folder) == before
    else:
        assert results.failed == {}  # measured again, and nothing failed this time


def test_a_retry_that_is_interrupted_goes_on_with_or_without_the_option(failed, monkeypatch):
    monkeypatch.setattr("gradscope.plan.SHARD_SECONDS", 0.0)  # several shards

    def stop(state):
        if state.done > 192 - sum(failed.failed.values()):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(failed.folder, retry_failed=True, progress=stop)
    again = []
    monkeypatch.setattr(measuring, "measure", lambda runs, threads: again.extend(runs) or measure(runs, threads))
    assert sweep(failed.folder, retry_failed=True).failed == {}
    assert 0 < len(again) < sum(failed.failed.values())
    assert gs.verify(failed.folder).problems == ()


def test_a_lost_plan_brings_no_failure_back(failed):
    good = sweep(failed.folder, retry_failed=True)
    (failed.folder / "plan.json").unlink()
    assert gs.verify(failed.folder).problems == (f"{failed.folder / 'plan.json'}: is missing",)
    assert sweep(failed.folder).failed == {}
    pd.testing.assert_frame_equal(gs.load(failed.folder).runs, good.runs)
    assert gs.verify(failed.folder).problems == ()


def test_what_fails_again_and_again_can_be_tried_again(failed, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "measure", failing(lambda run: True, ValueError("still\nbad")))
        for _ in range(3):
            assert sweep(failed.folder, retry_failed=True).failed == {"ValueError: still bad": 32}
    assert sweep(failed.folder, retry_failed=True).failed == {}
    assert len(gs.load(failed.folder).runs) == 192


def test_a_bound_on_memory_bounds_what_is_tried_again(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "measure", failing(lambda run: True, MemoryError("no")))
        sweep(tmp_path / "out")
    asked = []
    monkeypatch.setattr(measuring, "measure", lambda runs, threads: asked.append(runs) or measure(runs, threads))
    sweep(tmp_path / "out", retry_failed=True, max_memory=120_000)
    assert {len({(run["seed"], run["spectral_radius"]) for run in runs}) for runs in asked} == {1}


def test_a_sweep_of_which_everything_failed_still_has_tables_and_a_report(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "measure", failing(lambda run: True, ValueError("no")))
    results = sweep(tmp_path / "out")
    assert results.failed == {"ValueError: no": 192}
    assert results.timesteps.empty
    assert "192 of 192 runs failed and are left out: ValueError: no" in gs.report(results).read_text(encoding="utf-8")


def test_the_command_says_so_with_status_1_and_the_report_too(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "measure", failing(lambda run: run["seed"] == 1, ValueError("odd seed")))
    monkeypatch.chdir(tmp_path)
    options = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    ran = CliRunner().invoke(cli, ["sweep", *options, "--jobs", "1", "-o", "out"])
    assert ran.exit_code == 1
    assert "96 of 192 runs failed (ValueError: odd seed); the same command with --retry-failed" in ran.stderr
    assert "96 of 192 runs failed and are left out: ValueError: odd seed" in ran.stdout
    plan = CliRunner().invoke(cli, ["sweep", *options, "-o", "out", "--plan"])
    assert plan.exit_code == 0
    assert "of which failed" in plan.stdout
    plan = CliRunner().invoke(cli, ["sweep", *options, "-o", "out", "--plan", "--retry-failed"])
    assert "failed before" in plan.stdout


def test_overflow_is_not_failure(tmp_path):
    big = {"activation": "linear", "spectral_radius": 1e200, "seq_len": 5, "seeds": 1}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL | big, jobs=1)
    assert set(results.runs["status"]) == {"forward overflow at step 3"}
    assert results.failed == {}


def test_input_that_is_not_finite_fails_with_the_seed(tmp_path, monkeypatch):
    draw = type(resolve("test", {}).blocks[0].first.task()).draw

    def infinite(self, seed, *rest):
        x, y, _ = draw(self, seed, *rest)
        return type(draw(self, seed, *rest))(np.where(seed == 1, np.inf, x), y)

    monkeypatch.setattr("gradscope.tasks.noise.Noise.draw", infinite)
    results = sweep(tmp_path / "out")
    assert results.failed == {"task noise: x of seed 1 is not finite": 96}
    assert set(results.runs.loc[results.runs["status"] == "failed", "seed"]) == {1}


def test_a_file_that_changed_meanwhile_fails(tmp_path):
    data = tmp_path / "prices.csv"
    data.write_text("close\n" + "\n".join(str(day % 7) for day in range(300)))
    values = SMALL | {"task": "series", "file": str(data), "activation": "tanh"}
    values = {key: value for key, value in values.items() if key not in ("input_size", "output_size")}
    sweep = resolve("test", values)
    (shard, *_) = shards(sweep.blocks)
    data.write_text("close\n" + "\n".join(str(day % 5) for day in range(301)))
    measured = measure_shard(shard, sweep.kinds, VERSIONS)
    assert measured.failed == len(shard)
    (message,) = set(unseal(measured.content).tables[0]["message"].to_pylist())
    assert message == f"{data}: the file has changed since the sweep was planned"


def test_a_worker_of_another_version_is_an_error(tmp_path, monkeypatch):
    class Elsewhere(ThreadPoolExecutor):
        """Where another version is installed."""

        def submit(self, function, *arguments):
            def there():
                monkeypatch.setattr(measuring, "VERSIONS", ("0.0.0", 1))
                return function(*arguments)

            return super().submit(there)

    said = r"a worker has gradscope 0\.0\.0, the sweep is of .*: install the same on both"
    with Elsewhere(1) as executor, pytest.raises(gs.GradscopeError, match=said):
        gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL, executor=executor)


# --- workers that die -------------------------------------------------------------------------------------------------

DYING = """
import os, signal, sys
import gradscope as gs
from gradscope import measuring
from gradscope.engine import measure
from small_sweep import SMALL

def dies(runs, threads):
    if any(run["seed"] == 1 and run["spectral_radius"] == 1.0 and run["activation"] == "tanh" for run in runs):
        if not os.path.exists("once") or "always" in sys.argv:
            open("once", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    return measure(runs, threads)

measuring.measure = dies  # in every worker: they import this script
if __name__ == "__main__":
    gs.sweep(out="out", overrides=SMALL, jobs=2)
"""


def run_dying(tmp_path, *arguments):
    (tmp_path / "script.py").write_text(DYING)
    here = os.path.dirname(__file__)
    return subprocess.run(
        [sys.executable, "script.py", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": here},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_worker_that_dies_once_costs_nothing(small, tmp_path):
    ran = run_dying(tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "once").exists()
    assert contents(tmp_path / "out") == contents(small.folder)


def test_a_worker_that_dies_while_the_driver_writes_costs_nothing(small, tmp_path):
    script = """
import os, signal, time
import gradscope as gs
from multiprocessing import active_children
from small_sweep import SMALL

def kill(state):
    if state.done and not killed:
        killed.extend(active_children())
        os.kill(killed[0].pid, signal.SIGKILL)
        time.sleep(1.0)  # the pool knows before the sweep does

killed = []
if __name__ == "__main__":
    gs.sweep(out="out", overrides=SMALL, jobs=2, progress=kill)
    assert killed
"""
    (tmp_path / "script.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, check=True, timeout=120)
    assert contents(tmp_path / "out") == contents(small.folder)


def test_a_shard_of_which_workers_die_is_failed_and_the_rest_is_measured(small, tmp_path):
    ran = run_dying(tmp_path, "always")
    assert ran.returncode == 0, ran.stderr
    results = gs.load(tmp_path / "out")
    assert list(results.failed) == ["its worker process died, twice: killed, or out of memory"]
    bad = results.runs["status"] == "failed"
    assert bad[(results.runs["seed"] == 1) & (results.runs["spectral_radius"] == 1.0)].any()
    assert 0 < bad.sum() < len(bad) / 2
    assert results.runs.loc[~bad, "loss_value"].tolist() == small.runs.loc[~bad, "loss_value"].tolist()
    mended = sweep(tmp_path / "out", retry_failed=True)
    assert mended.runs["loss_value"].tolist() == small.runs["loss_value"].tolist()


def test_a_script_without_a_guard_is_told_so(tmp_path):
    (tmp_path / "script.py").write_text(f"import gradscope as gs\ngs.sweep(out='out', overrides={SMALL}, jobs=2)\n")
    ran = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 1
    assert "a script calls gradscope outside of `if __name__" in ran.stderr


def test_no_worker_outlives_a_driver_that_is_killed(tmp_path):
    options = ["--set", "seeds=40", "--no-report", "-q", "--jobs", "2", "-o", "out"]
    process = subprocess.Popen([sys.executable, "-m", "gradscope", "sweep", *options], cwd=tmp_path)
    while not list((tmp_path / "out").glob("shards/*.shard")):
        assert process.poll() is None
    started = [int(pid) for pid in _children(process.pid)]
    assert len(started) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    for pid in started:
        _wait_for_the_end_of(pid)


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def _wait_for_the_end_of(pid):
    for _ in range(1000):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        signal.sigtimedwait([], 0.01)
    pytest.fail(f"process {pid} is still there after 10 s")


# --- executors that fail ----------------------------------------------------------------------------------------------


class Broken(ThreadPoolExecutor):
    """An executor of which every future has the same error."""

    def __init__(self, error):
        super().__init__(1)
        self.error = error

    def submit(self, *_):
        future = Future()
        future.set_exception(self.error)
        return future


def test_an_executor_that_fails_is_an_error_that_says_what_to_do(tmp_path):
    said = r"the executor failed \(RuntimeError: gone\); what is finished is saved, and the same command goes on"
    with Broken(RuntimeError("gone")) as executor, pytest.raises(gs.GradscopeError, match=said):
        gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL, executor=executor)
    assert "stopped: the executor failed" in (tmp_path / "out" / "sweep.log").read_text()
    assert len(sweep(tmp_path / "out").runs) == 192


def test_a_task_of_which_dasks_workers_die_is_failed(tmp_path):
    class KilledWorker(Exception):  # noqa: N818 - Dask's name
        pass

    with Broken(KilledWorker()) as executor:
        results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL, executor=executor)
    assert results.failed == {"workers died while they measured it": 192}


def test_several_threads_of_one_process_measure_the_same(small, tmp_path):
    with ThreadPoolExecutor(3) as executor:
        gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL, executor=executor)
    assert contents(tmp_path / "out") == contents(small.folder)
