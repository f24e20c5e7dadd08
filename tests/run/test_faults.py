"""A sweep under fire: kills at any moment, full disks, flipped bits, two writers. Nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from kill_sweep import kill_again_and_again
from small_sweep import SMALL, contents

import gradscope as gs
from gradscope import measuring, plan, writer
from gradscope.cli import cli
from gradscope.engine import measure
from gradscope.files import TEMPORARY, DamagedError
from gradscope.runs import NUMERICS_VERSION
from gradscope.store import Store, files
from gradscope.survey import survey

OPTIONS = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
COMMAND = [sys.executable, "-m", "gradscope", "sweep", *OPTIONS, "--no-report", "-q"]


def sweep(folder, **more):
    return gs.sweep("spectral-radius", out=folder, overrides=SMALL | more.pop("overrides", {}), jobs=1, **more)


def flip(path, place=0.5):
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """The folder of a finished sweep of twelve shards in several parts, its tables, and how it is run again."""
    monkeypatch.setattr(plan, "STATES_BYTES", 1.0)
    monkeypatch.setattr(plan, "PART_ROWS", 800)
    sweep(tmp_path / "out")
    assert len(list(files(tmp_path / "out" / "timesteps"))) > 2
    return tmp_path / "out"


@pytest.fixture
def half(tmp_path, monkeypatch):
    """The folder of a sweep that was stopped half way, with parts and loose shards."""
    monkeypatch.setattr(plan, "STATES_BYTES", 1.0)
    monkeypatch.setattr(plan, "PART_ROWS", 800)

    def stop(state):
        if state.done >= 112:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"interrupted; 112 of 192 runs are saved in .*out; the same command"):
        sweep(tmp_path / "out", progress=stop)
    found = survey(tmp_path / "out")
    assert found.parts
    assert found.loose
    return tmp_path / "out"


# --- kills ------------------------------------------------------------------------------------------------------------


def test_kills_at_random_moments_cost_nothing(tmp_path):
    count = kill_again_and_again(12, seed=1, root=tmp_path)
    kinds = ("driver", "group", "worker", "interrupt")
    assert {key: value for key, value in count.items() if key not in (*kinds, "sweeps")} == {
        "lost": 0,
        "duplicated": 0,
        "different": 0,
        "orphans": 0,
    }
    assert sum(count.get(kind, 0) for kind in kinds) == 12


def test_a_stop_at_every_step_of_writing_costs_nothing(tmp_path, monkeypatch):
    """The writing of files is stopped at each of its steps in turn: before each, and halfway through each."""
    monkeypatch.setattr(plan, "STATES_BYTES", 1.0)
    monkeypatch.setattr(plan, "PART_ROWS", 800)
    sweep(tmp_path / "whole")
    measured = []
    monkeypatch.setattr(
        measuring,
        "measure",
        lambda runs, threads: measured.extend(run.run_id for run in runs) or measure(runs, threads),
    )
    steps = [(name, getattr(os, name)) for name in ("fsync", "replace", "unlink")]
    count, stop_at = 0, 0

    def counted(call):
        def instead(*arguments, **more):
            nonlocal count
            count += 1
            if count == stop_at:
                raise KeyboardInterrupt
            return call(*arguments, **more)

        return instead

    for name, call in steps:
        monkeypatch.setattr(os, name, counted(call))
    while True:
        count, stop_at = 0, stop_at + 1
        measured.clear()
        folder = tmp_path / f"out{stop_at}"
        try:
            sweep(folder)
        except KeyboardInterrupt:
            done = survey(folder).done
            before = len(measured)
            stopped, stop_at = stop_at, 0
            sweep(folder)
            stop_at = stopped
            kept = sum(len(shard) for shard in survey(folder).planned if shard.key in done)
            assert len(measured) - before == 192 - kept
        else:
            assert stop_at > 40
            return
        assert contents(folder) == contents(tmp_path / "whole")
        assert not [path for path in folder.rglob("*") if TEMPORARY.fullmatch(path.name)]
        shutil.rmtree(folder)


def test_what_is_in_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """Power loss: what was not synced is gone. Each file must be synced before it is renamed, and its folder after."""
    done = []
    fsync, replace, unlink = os.fsync, os.replace, os.unlink

    def say_fsync(descriptor):
        done.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        return fsync(descriptor)

    def say_replace(source, target, **more):
        done.append(("replace", os.path.abspath(source), os.path.abspath(target)))
        return replace(source, target, **more)

    def say_unlink(path, **more):
        done.append(("unlink", os.path.abspath(path)))
        return unlink(path, **more)

    monkeypatch.setattr(os, "fsync", say_fsync)
    monkeypatch.setattr(os, "replace", say_replace)
    monkeypatch.setattr(os, "unlink", say_unlink)
    sweep(tmp_path / "out")
    moved = [step for step in done if step[0] == "replace"]
    assert {Path(step[2]).name for step in moved} >= {"manifest.json", "plan.json", "runs.parquet"}
    for step in moved:
        _, source, target = step
        at = done.index(step)
        assert ("fsync", source) in done[:at]
        assert ("fsync", str(Path(target).parent)) in done[at:]
    # A shard's file goes only when the part that holds it is on the disk under its name, its timesteps before its runs.
    folder = tmp_path / "out"
    for shard in survey(folder).planned:
        gone = done.index(("unlink", str(folder / "shards" / f"{shard.key}.shard")))
        named = [step[-1] for step in done[:gone] if step[0] == "replace"]
        steps, runs = folder / "timesteps" / f"{shard.part}.parquet", folder / "shards" / f"{shard.part}.shard"
        assert named.index(str(steps)) < named.index(str(runs))
        moved_in = next(at for at, step in enumerate(done) if step[0] == "replace" and step[-1] == str(runs))
        assert ("fsync", str(folder / "timesteps")) in done[:moved_in]
        assert ("fsync", str(folder / "shards")) in done[moved_in:gone]


def test_ctrl_c_is_heard_in_the_middle_of_long_work(tmp_path):
    options = ["--set", "hidden_size=700", "--set", "seeds=2", "--set", "seq_len=200", "--jobs", "2", "--no-report"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gradscope", "sweep", *options, "-q", "-o", "out"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not (tmp_path / "out" / "sweep.log").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(3.0)  # the workers are in the middle of it
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert "interrupted; 0 of 1,008 runs are saved in out; the same command goes on from here" in said
    assert "interrupted" in (tmp_path / "out" / "sweep.log").read_text()


# --- disks ------------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_one_line_and_the_sweep_goes_on_when_there_is_room(tmp_path, small):
    """On a file system of a few hundred KiB where one can be mounted, else with a limit on the size of files."""
    script = f"""
        set -e
        mount -t tmpfs -o size=300k none "{tmp_path}"
        cd "{tmp_path}"
        head -c 230000 /dev/zero > ballast
        status=0; "$@" -o out 2> "{tmp_path}.result/said" || status=$?
        rm ballast
        "$@" -o out
        cp -r out "{tmp_path}.result/"
        exit $status
    """
    result = Path(f"{tmp_path}.result")
    result.mkdir()
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0:
        ran = subprocess.run(["unshare", "-rm", "bash", "-c", script, "bash", *COMMAND, "--jobs", "1"], check=False)
        status, said = ran.returncode, (result / "said").read_text()
        why = "No space left on device"
    else:

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))

        command = [*COMMAND, "--jobs", "1", "-o", str(result / "out")]
        ran = subprocess.run(command, preexec_fn=limit, stderr=subprocess.PIPE, text=True, check=False)
        status, said, why = ran.returncode, ran.stderr, "File too large"
        subprocess.run(command, check=True)
    assert status == 1
    assert said.count("\n") == 1
    assert f"cannot be written: {why}" in said
    assert contents(result / "out") == contents(small.folder)


def test_too_little_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("gradscope.outlook.free_at", lambda folder: 1000.0)
    with pytest.raises(gs.InputError, match=r"disk of .*out: the sweep needs about .*KiB, and 0.977 KiB are free"):
        sweep(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    """Read-only for everybody, root too: a file system mounted so, or a place in which no folder can be."""
    (tmp_path / "out").mkdir()
    command = [*COMMAND, "--jobs", "1", "-o", "out"]
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd "$0" && shift 0 && exec "$@"'
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0:
        ran = subprocess.run(
            ["unshare", "-rm", "bash", "-c", script, str(tmp_path), *command],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    else:
        command[-1] = "/proc/out"
        ran = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "out: output folder cannot be written: " in ran.stderr


# --- damage -----------------------------------------------------------------------------------------------------------

KINDS = ["manifest.json", "plan.json", "runs.parquet", "timesteps/*.parquet", "shards/*.shard"]


@pytest.mark.parametrize("what", ["flipped", "truncated", "missing"])
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_named_set_aside_and_mended(parts, kind, what):
    before = contents(parts)
    victim = sorted(parts.glob(kind))[0]
    damaged = victim.read_bytes()
    if what == "flipped":
        flip(victim)
    elif what == "truncated":
        victim.write_bytes(damaged[: len(damaged) // 2])
    else:
        victim.unlink()
    held = victim.read_bytes() if victim.exists() else None
    name = victim.relative_to(parts)
    assert any(problem.startswith(f"{victim}: ") for problem in gs.verify(parts).problems)
    if kind in ("manifest.json", "runs.parquet"):
        with pytest.raises(gs.InputError, match=f"{name}: .*; the same sweep again"):
            gs.load(parts)
    if kind == "timesteps/*.parquet":
        with pytest.raises(gs.InputError, match=f"{name}: .*; the same sweep again"):
            _ = gs.load(parts).timesteps
    sweep(parts)
    assert contents(parts) == before
    assert gs.verify(parts).problems == ()
    if held is not None:
        (aside,) = (parts / "set-aside").glob(f"*/{name}")
        assert aside.read_bytes() == held
        assert f"set aside: {victim}: " in (parts / "sweep.log").read_text()


@pytest.mark.parametrize("place", [0.0, 0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_wherever_it_is(parts, kind, place):
    for victim in parts.glob(kind):
        flip(victim, place)
    assert len(gs.verify(parts).problems) >= len(list(parts.glob(kind)))


def test_only_what_is_lost_is_measured_again(parts, monkeypatch):
    again = []
    monkeypatch.setattr(measuring, "measure", lambda runs, threads: again.extend(runs) or measure(runs, threads))
    victim = sorted(parts.glob("timesteps/*.parquet"))[0]
    lost = set(gs.load(parts).runs.query(f"shard == '{victim.stem}'")["run_id"])
    flip(victim)
    sweep(parts)
    assert {run.run_id for run in again} == lost
    assert len(again) == len(lost) < 192


@pytest.mark.parametrize("kind", ["shards/*.shard", "timesteps/*.parquet", "plan.json", "manifest.json"])
def test_damage_to_a_sweep_that_is_not_finished_is_mended(half, tmp_path, kind):
    victims = sorted(half.glob(kind))
    for victim in victims[:: max(1, len(victims) - 1)]:
        flip(victim)
    sweep(half)
    sweep(tmp_path / "whole")
    assert contents(half) == contents(tmp_path / "whole")


def test_an_extended_sweep_is_mended_in_the_company_in_which_it_was_measured(parts):
    extension = {"seeds": 3, "spectral_radius": [0.5, 0.7, 1.0, 1.5]}
    sweep(parts, overrides=extension)
    before = contents(parts)
    for victim in sorted(parts.glob("timesteps/*.parquet"))[::2]:
        flip(victim)
    sweep(parts, overrides=extension)
    assert contents(parts) == before
    flip(parts / "plan.json")
    assert gs.verify(parts).problems
    sweep(parts, overrides=extension)
    assert contents(parts) == before


@pytest.mark.parametrize("place", ["timesteps/stray.parquet", "shards/stray.shard", "shards/notes.txt"])
def test_a_stray_file_is_named_set_aside_and_never_read(parts, place):
    before = contents(parts)
    shutil.copy(sorted(parts.glob("timesteps/*.parquet"))[0], parts / place)
    assert len(gs.load(parts).timesteps) == gs.load(parts).runs["seq_len"].sum()
    assert any(f"{place}: " in problem for problem in gs.verify(parts).problems)
    sweep(parts)
    assert contents(parts) == before
    assert len(list((parts / "set-aside").glob(f"*/{place}"))) == 1


def test_strays_in_a_sweep_that_is_not_finished_are_never_read(half, tmp_path):
    other = sweep(tmp_path / "other", overrides={"hidden_size": 5, "seeds": 1})
    shutil.copy(sorted((other.folder / "shards").iterdir())[0], half / "shards" / "stray.shard")
    (half / "shards" / "stray").mkdir()
    (half / "shards" / ".DS_Store").write_bytes(b"hidden")
    assert len(gs.load(half).runs) == 112
    assert len([problem for problem in gs.verify(half).problems if "stray" in problem]) == 2
    sweep(half)
    assert len(gs.load(half).runs) == 192
    assert gs.verify(half).problems == ()


def test_rot_that_leaves_the_time_of_a_file_is_found(parts):
    assert gs.verify(parts).problems == ()
    for victim in parts.glob("timesteps/*.parquet"):
        stat = victim.stat()
        flip(victim)
        os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert len(gs.verify(parts).problems) >= len(list(parts.glob("timesteps/*.parquet")))


def test_everything_damaged_at_once_is_set_aside_and_measured_again(parts):
    before = contents(parts)
    for kind in KINDS:
        for victim in parts.glob(kind):
            flip(victim)
    sweep(parts)
    assert contents(parts) == before


@pytest.mark.parametrize("names", [["manifest.json", "plan.json"], ["manifest.json"], ["plan.json", "runs.parquet"]])
def test_a_stop_while_damage_is_set_aside_costs_nothing(parts, monkeypatch, names):
    before = contents(parts)
    for name in names:
        flip(parts / name)
    flip(sorted(parts.glob("timesteps/*.parquet"))[0])
    rename, count, stop_at = Path.rename, 0, 0

    def stopping(path, target):
        nonlocal count
        count += 1
        if count == stop_at:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stopping)
    for stop_at in (1, 2, 3):  # noqa: B007 - read by the above
        count = 0
        with contextlib.suppress(KeyboardInterrupt):
            sweep(parts)
    with monkeypatch.context() as patch:
        patch.setattr("gradscope.writer.write_json", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
        with contextlib.suppress(KeyboardInterrupt):
            sweep(parts)
    stop_at = 0
    sweep(parts)
    assert contents(parts) == before


def test_a_sweep_of_overflows_is_whole(tmp_path):
    big = {"activation": "linear", "spectral_radius": 1e200, "seeds": 1}
    sweep(tmp_path / "out", overrides=big)
    assert gs.verify(tmp_path / "out").problems == ()


def test_a_plan_made_again_does_not_add_to_parts_that_are_done(half, monkeypatch):
    monkeypatch.setattr(plan, "PART_ROWS", 10**9)  # otherwise planned than when it was begun
    (half / "plan.json").unlink()
    results = sweep(half)
    assert len(results.runs) == 192
    assert gs.verify(half).problems == ()


def test_a_sound_shard_of_another_sweep_is_a_stray(parts, tmp_path):
    other = sweep(tmp_path / "other", overrides={"hidden_size": 5, "seeds": 1})
    stray = sorted((other.folder / "shards").iterdir())[0]
    shutil.copy(stray, parts / "shards")
    assert any(f"{stray.name}: belongs to no shard of this sweep" in problem for problem in gs.verify(parts).problems)
    sweep(parts)
    assert not (parts / "shards" / stray.name).exists()


def test_tables_that_do_not_belong_together_are_found_though_their_checksums_are_right(parts):
    store = Store(parts)
    manifest = store.manifest()
    table = store.runs()
    writer.pq.write_table(table.slice(1), parts / "runs.parquet")
    manifest["tables"] = {"runs.parquet": writer.sha256_of(parts / "runs.parquet")}
    writer.write_json(parts / "manifest.json", manifest)
    assert any("runs.parquet: holds other runs than the shards" in problem for problem in gs.verify(parts).problems)


def test_verify_says_what_is_wrong_with_status_1(parts):
    fine = CliRunner().invoke(cli, ["verify", str(parts)])
    assert (fine.exit_code, fine.stderr) == (0, "")
    assert f"192 runs in {parts}: every file is as it was written" in fine.stdout
    flip(parts / "runs.parquet")
    wrong = CliRunner().invoke(cli, ["verify", str(parts)])
    assert wrong.exit_code == 1
    assert "runs.parquet: damaged: its checksum differs" in wrong.stderr
    assert "the same sweep again sets aside what is damaged" in wrong.stderr


def test_verify_says_that_a_sweep_is_not_finished(half):
    found = gs.verify(half)
    assert (found.ok, found.problems, found.unfinished) == (False, (), "112 of 192 runs are done")
    said = CliRunner().invoke(cli, ["verify", str(half)])
    assert said.exit_code == 1
    assert f"{half}: not finished: 112 of 192 runs are done; the same command again goes on from there" in said.stderr


def test_a_plan_is_refused_where_the_sweep_would_be(half, tmp_path, monkeypatch):
    def planned(*more):
        return CliRunner().invoke(cli, ["sweep", *OPTIONS, "--plan", *more], standalone_mode=False).exception

    with writer.writing(half):
        assert "another process is writing to this folder" in str(planned("-o", str(half)))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    assert "not empty and holds no sweep" in str(planned("-o", str(tmp_path / "other")))
    assert "is a file, not a folder" in str(planned("-o", str(tmp_path / "other" / "letter.txt")))
    assert "changed: hidden_size from 6 to 7" in str(planned("-o", str(half), "--set", "hidden_size=7"))
    assert "--plan: predicts for this machine alone" in str(planned("--executor", "tcp://127.0.0.1:1"))
    monkeypatch.setattr("gradscope.outlook.free_at", lambda folder: 1000.0)
    assert "make room, or choose another folder" in str(planned("-o", str(tmp_path / "new")))
    monkeypatch.setattr("gradscope.outlook.machine_memory", lambda: 1000.0)
    assert "split the sweep, by seeds" in str(planned("-o", str(tmp_path / "new")))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_end_of_a_job_is_an_interruption(tmp_path, jobs):
    options = ["--set", "seeds=40", "--no-report", "-q", "--jobs", jobs, "-o", "out"]
    command = [sys.executable, "-m", "gradscope", "sweep", *options]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out").glob("shards/*.shard")):
        assert process.poll() is None
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "runs are saved in out; the same command goes on from here" in said
    assert "Warning" not in said
    assert "interrupted: " in (tmp_path / "out" / "sweep.log").read_text()


def test_damage_is_said_to_whoever_watches(parts):
    victim = sorted(parts.glob("timesteps/*.parquet"))[0]
    flip(victim)
    seen = []
    sweep(parts, progress=seen.append)
    assert f"set aside: {victim}: damaged: its checksum differs" in [state.note for state in seen]
    assert seen[-1].note == ""


def test_verify_of_nothing_is_an_error(tmp_path):
    with pytest.raises(gs.InputError, match="holds no sweep; run gradscope sweep first"):
        gs.verify(tmp_path)
    with pytest.raises(gs.InputError, match="nowhere: no such folder"):
        gs.verify(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(gs.InputError, match="file: is a file, not a folder"):
        gs.verify(tmp_path / "file")


# --- one writer -------------------------------------------------------------------------------------------------------


def test_the_second_of_two_writers_stops_with_one_line(half):
    with writer.writing(half):
        ran = subprocess.run([*COMMAND, "-o", str(half)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (
        2,
        f"error: {half}: another process is writing to this folder; wait for it, or choose another folder with -o\n",
    )


def test_a_killed_writer_leaves_no_lock(tmp_path):
    script = f"from gradscope.writer import *; w = writing(Path({str(tmp_path / 'out')!r})); w.__enter__(); print(1)"
    code = f"import os, signal; {script}; os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == -signal.SIGKILL
    assert (tmp_path / "out" / ".lock").exists()
    assert len(sweep(tmp_path / "out").runs) == 192


def test_reading_goes_on_while_a_sweep_is_writing(half):
    with writer.writing(half):
        assert len(gs.load(half).runs) == 112
        assert len(gs.load(half).timesteps) == gs.load(half).runs["seq_len"].sum()
        assert gs.report(gs.load(half)).exists()


# --- another numerics, another plan -----------------------------------------------------------------------------------


def test_results_of_another_numerics_are_set_aside_and_measured_again(parts, monkeypatch):
    before = contents(parts)
    content = json.loads((parts / "plan.json").read_text())
    content.pop("checksum")
    writer.write_json(parts / "plan.json", content | {"numerics": 0})
    planned = CliRunner().invoke(cli, ["sweep", *OPTIONS, "-o", str(parts), "--plan"])
    assert f"numerics version changed, 0 to {NUMERICS_VERSION}" in planned.stdout
    sweep(parts)
    assert contents(parts) == before
    assert len(list((parts / "set-aside").glob("*/timesteps/*.parquet"))) == len(list(files(parts / "timesteps")))


def test_results_of_another_numerics_are_known_without_the_plan(parts, monkeypatch):
    (parts / "plan.json").unlink()
    monkeypatch.setattr("gradscope.intent.NUMERICS_VERSION", NUMERICS_VERSION + 1)
    again = []
    monkeypatch.setattr(measuring, "measure", lambda runs, threads: again.extend(runs) or measure(runs, threads))
    sweep(parts)
    assert len(again) == 192


def test_a_sweep_goes_on_from_another_folder_and_with_its_data_elsewhere(tmp_path, monkeypatch):
    values = {"task": "series", "activation": "tanh", "hidden_size": 4, "seq_len": 8, "spectral_radius": [0.5, 0.9]}
    rows = "close\n" + "\n".join(str(day % 7) for day in range(300))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "d.csv").write_text(rows)

    def stop(state):
        if state.done:
            raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        gs.sweep(out=tmp_path / "out", overrides=values | {"file": "d.csv"}, jobs=1, progress=stop)
    monkeypatch.chdir(tmp_path)
    os.rename("a/d.csv", "moved.csv")
    results = gs.sweep(out="out", overrides=values | {"file": "moved.csv"}, jobs=1)
    assert results.failed == {}
    assert len(results.runs) == results.manifest["runs"]


def test_a_smaller_bound_on_memory_loses_nothing_that_is_done(half, monkeypatch):
    monkeypatch.undo()  # blocks of more than one network again
    done = survey(half).done
    again = []
    monkeypatch.setattr(measuring, "measure", lambda runs, threads: again.extend(runs) or measure(runs, threads))
    results = sweep(half, max_memory=120_000)
    assert len(again) == 192 - 112
    assert done <= survey(half).done
    assert len(results.runs) == 192


def test_files_that_cannot_be_read_are_damaged_not_a_traceback(parts):
    (parts / "plan.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DamagedError, match=r"plan\.json: cannot be read"):
        Store(parts).kept()
    assert any("plan.json: cannot be read" in problem for problem in gs.verify(parts).problems)


def test_tables_of_a_half_done_sweep_are_those_of_the_whole_one(half, tmp_path):
    part, whole = gs.load(half), sweep(tmp_path / "whole")
    drop = ["shard", "shard_row"]
    ids = list(part.runs["run_id"])
    pd.testing.assert_frame_equal(
        part.runs.drop(columns=drop), whole.select(run_id=ids).runs.drop(columns=drop), check_categorical=False
    )
    expected = whole.select(run_id=ids).timesteps
    pd.testing.assert_frame_equal(part.timesteps, expected, check_categorical=False)
