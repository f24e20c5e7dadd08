"""Guards the folder of a training: whatever interrupts it, the end is the same bit for bit; and what is refused."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from small_sweep import SMALL

import gradscope as gs
from gradscope import checkpoint, learning
from gradscope.files import read_json, write_json
from gradscope.history import MODEL, TABLES
from gradscope.learning import InterruptedTraining
from gradscope.runs import NUMERICS_VERSION
from gradscope.store import CHECKPOINT, MANIFEST
from gradscope.training import Training

SINE = {  # whatever the tasks' own recipes
    "hidden_size": 5,
    "seq_len": 7,
    "batch_size": 3,
    "steps": 20,
    "record_every": 6,
    "clip": "norm:0.5",
    "batching": "random",
    "optimizer": "adam",
    "learning_rate": 0.01,
    "dtype": "float64",
}
KINDS = {  # each remembers something else from step to step
    "adam": {"task": "sine", "optimizer": "adam", "learning_rate": 0.01},
    "carried": {"task": "series", "batching": "sequential", "optimizer": "momentum", "learning_rate": 0.05},
    "coins": {"task": "adding", "optimizer": "adagrad", "truncation": "random:3", "learning_rate": 0.1},
    "text": {"task": "text", "file": __file__, "optimizer": "sgd", "dtype": "float32"},
    "stopping": {"task": "sine", "optimizer": "sgd", "learning_rate": 5.0, "patience": 1, "noise": 1.0},
    "loud": {"task": "sine", "output_scale": 300.0, "optimizer": "sgd", "learning_rate": 1e-9},
    "diverging": {"task": "sine", "optimizer": "sgd", "learning_rate": 0.5, "clip": "off", "activation": "linear"},
}

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def always_saved(monkeypatch):
    """Checkpoints after every step, and progress after every step."""
    monkeypatch.setattr(learning, "EVERY", -1.0)
    monkeypatch.setattr(learning, "SAID", -1.0)


def train(out=None, kind="adam", **keys):
    return gs.train(out=out, **SINE | KINDS[kind] | keys)


def assert_same(one, other):
    """Two trainings are the same, bit for bit."""
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), check_exact=True, obj=name)
    assert one.params.keys() == other.params.keys()
    for name, array in one.params.items():
        np.testing.assert_array_equal(array, other.params[name], strict=True, err_msg=name)
    ignored = ("started", "finished", "seconds", "tables", "command")
    assert [{k: v for k, v in h.manifest.items() if k not in ignored} for h in (one, other)] == [
        {k: v for k, v in one.manifest.items() if k not in ignored}
    ] * 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Trainings that nothing interrupted, by kind."""
    kept = {}

    def give(kind):
        if kind not in kept:
            kept[kind] = train(tmp_path_factory.mktemp(kind) / "out", kind)
        return kept[kind]

    return give


def interrupting(monkeypatch, method, at):
    """Let Ctrl-C come before the training's method is called for the time `at`."""
    original, calls = getattr(Training, method), [0]

    def interrupted(self, state):
        calls[0] += 1
        if calls[0] == at:
            raise KeyboardInterrupt
        return original(self, state)

    monkeypatch.setattr(Training, method, interrupted)


# --- the end is the same ----------------------------------------------------------------------------------------------


@every_kind
def test_a_folder_changes_nothing(whole, kind):
    assert_same(whole(kind), gs.load(whole(kind).folder))
    free = train(kind=kind)
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(free, name), getattr(whole(kind), name), check_exact=True, obj=name)
    assert free.folder is None


def test_kinds_are_what_they_are_here_for(whole):
    assert whole("stopping").status.startswith("stopped early at step ")
    assert whole("diverging").status.startswith("diverged at step ")
    assert int(whole("diverging").status.split()[-1]) % 6  # between two looks
    assert {whole(kind).status for kind in ("adam", "carried", "coins", "text", "loud")} == {"ok"}
    assert whole("loud").steps["loss"].min() > 1000  # times its first loss would be hopeless, not times 1
    assert whole("text").samples["step"].tolist() == [0, 6, 12, 18, 20]


@every_kind
def test_what_is_done_is_not_done_again(whole, kind, monkeypatch):
    interrupting(monkeypatch, "advance", 1)
    interrupting(monkeypatch, "observe", 1)
    before = {path.name: path.stat().st_mtime_ns for path in whole(kind).folder.iterdir()}
    assert_same(train(whole(kind).folder, kind), whole(kind))
    assert {path.name: path.stat().st_mtime_ns for path in whole(kind).folder.iterdir()} == before


@every_kind
@pytest.mark.parametrize("steps", [12, 10])
def test_more_steps_are_as_if_they_had_been_meant_at_once(whole, kind, steps, tmp_path, monkeypatch):
    first, advance, begun = train(tmp_path / "out", kind, steps=steps), Training.advance, []
    assert first.history["step"].iloc[-1] <= steps
    monkeypatch.setattr(Training, "advance", lambda self, state: [begun.append(state.number), advance(self, state)][1])
    assert_same(train(tmp_path / "out", kind), whole(kind))
    assert begun == list(range(len(first.steps), len(whole(kind).steps)))  # none is done twice


@every_kind
@pytest.mark.parametrize("method", ["advance", "observe"])
@pytest.mark.parametrize("saving", [True, False], ids=["saved", "not saved"])
def test_interrupted_anywhere_it_goes_on(whole, kind, method, saving, tmp_path, monkeypatch):
    """At calls of the method in turn, the first and the last among them; without checkpoints it begins anew."""
    if saving:
        monkeypatch.setattr(learning, "EVERY", -1.0)
    calls = len(whole(kind).steps) if method == "advance" else len(whole(kind).history)
    for at in sorted({1, min(2, calls), (calls + 2) // 3, calls} if saving else {1, calls}):
        folder = tmp_path / str(at)
        with monkeypatch.context() as patch:
            interrupting(patch, method, at)
            with pytest.raises(InterruptedTraining, match=r"^interrupted; \d+ of 20 steps are saved, the same command"):
                train(folder, kind)
        assert_same(train(folder, kind), whole(kind))


def test_interrupted_again_and_again_it_comes_to_its_end(whole, tmp_path, always_saved):
    for last in (3, 4, 6, 7, 12, 13, 20):

        def stop(coming, last=last):
            if coming.step == last:
                raise KeyboardInterrupt

        with pytest.raises(InterruptedTraining, match=rf"^interrupted; {last - 1} of 20 steps are saved"):
            train(tmp_path / "out", "coins", progress=stop)
    assert_same(train(tmp_path / "out", "coins"), whole("coins"))


def test_ctrl_c_without_a_folder_is_ctrl_c():
    def stop(coming):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        train(progress=stop, steps=100_000)
    assert not isinstance(caught.value, InterruptedTraining)


KILLED = """
import os, signal
import gradscope as gs
from gradscope import learning

learning.EVERY = learning.SAID = -1.0


def kill(coming):
    if coming.step == 13:
        os.kill(os.getpid(), signal.SIGKILL)


gs.train(out={folder!r}, progress=kill, **{keys!r})
"""


@pytest.mark.parametrize("kind", ["adam", "coins"])
def test_killed_it_goes_on(whole, kind, tmp_path):
    program = KILLED.format(folder=str(tmp_path / "out"), keys=SINE | KINDS[kind])
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    _, note = checkpoint.read(tmp_path / "out" / CHECKPOINT)
    assert note["number"] == 12
    assert_same(train(tmp_path / "out", kind), whole(kind))


def test_a_folder_that_is_trained_in_is_held(tmp_path):
    def again(coming):
        with pytest.raises(gs.InputError, match=r"out: another process is writing to this folder; wait for it"):
            train(tmp_path / "out")
        raise KeyboardInterrupt

    with pytest.raises(InterruptedTraining, match="interrupted"):
        train(tmp_path / "out", progress=again, steps=100_000)


def test_progress_says_how_far_it_is(tmp_path, always_saved):
    said = []
    history = train(tmp_path / "out", progress=said.append)
    assert [coming.step for coming in said if coming.step] == sorted(coming.step for coming in said if coming.step)
    assert {coming.steps for coming in said} == {20}
    assert said[-1].step == 20
    np.testing.assert_allclose(said[-1].loss, history.steps["loss"].mean())
    np.testing.assert_allclose(said[-1].log10_grad, history.steps["log10_grad"].mean())
    assert said[-1].validation_loss == history.history["validation_loss"].iloc[-1]
    assert said[-1].left == 0.0
    assert all(coming.rate > 0 for coming in said)


# --- parameters to begin with -----------------------------------------------------------------------------------------


def test_begins_with_the_parameters_of_another_training(whole, tmp_path):
    file = whole("adam").folder / MODEL
    again = train(tmp_path / "out", "adam", init=file, steps=1, learning_rate=1e-300)
    for name, array in again.params.items():
        np.testing.assert_allclose(array, whole("adam").params[name], rtol=1e-12)
    assert again.history["validation_loss"][0] == whole("adam").history["validation_loss"].min()
    assert again.manifest["init"] is not None
    with pytest.raises(
        gs.InputError, match=r"out: holds another training: the initial parameters are others now; choose an"
    ):
        train(tmp_path / "out", "adam", steps=1, learning_rate=1e-300)


def written(folder, change):
    """A file with parameters, changed."""
    params = {
        "W_xh": np.ones((5, 1)),
        "W_hh": np.eye(5),
        "b_h": np.zeros(5),
        "W_hy": np.ones((1, 5)),
        "b_y": np.zeros(1),
    }
    save_file({name: array for name, array in change(params).items() if array is not None}, folder / "init")
    return folder / "init"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W_hh": np.eye(6)}, r"init: W_hh has shape \(6, 6\); allowed: W_xh \(5, 1\), W_hh \(5, 5\)"),
        ({"b_h": np.zeros((5, 1))}, r"init: b_h has shape \(5, 1\)"),
        ({"b_y": None}, r"init: has no b_y; allowed: W_xh \(5, 1\)"),
        ({"W_xh": np.full((5, 1), np.nan)}, r"init: W_xh is not finite"),
        ({"W_xh": np.full((5, 1), np.inf, np.float32)}, r"init: W_xh is not finite"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(tmp_path, change, message):
    file = written(tmp_path, lambda params: params | change)
    with pytest.raises(gs.InputError, match=message):
        train(tmp_path / "out", init=file)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"init: no such file; allowed: a safetensors file"),
        (b"", r"init: cannot be read as safetensors: "),
        (b"\x05\x00\x00\x00\x00\x00\x00\x00hello", r"init: cannot be read as safetensors: "),
        (b"PK\x03\x04 a zip", r"init: cannot be read as safetensors: "),
    ],
)
def test_files_that_hold_no_parameters_are_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "init").write_bytes(content)
    with pytest.raises(gs.InputError, match=message):
        train(tmp_path / "out", init=tmp_path / "init")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cut", [1, 100, 400])
def test_a_file_that_was_cut_off_is_refused(tmp_path, cut):
    file = written(tmp_path, lambda params: params)
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(gs.InputError, match=r"init: cannot be read as safetensors: "):
        train(init=file)


def test_numbers_of_a_kind_that_numpy_has_not_are_refused(tmp_path):
    file = written(tmp_path, lambda params: {name: array.astype(np.float16) for name, array in params.items()})
    assert train(init=file, steps=1).status == "ok"
    file.write_bytes(file.read_bytes().replace(b'"F16"', b'"BF16"').replace(b'"BF16",', b'"BF16",', 1))
    content = bytearray(file.read_bytes())
    header = len(content) - 8 - int.from_bytes(content[:8], "little")
    content[:8] = (int.from_bytes(content[:8], "little") + 5).to_bytes(8, "little")  # five names became longer by 1
    file.write_bytes(content)
    assert header > 0
    with pytest.raises(gs.InputError, match=r"init: cannot be read as safetensors: "):
        train(init=file)


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(whole, tmp_path):
    """A copy of the folder of a finished training."""
    return shutil.copytree(whole("adam").folder, tmp_path / "copy")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hidden_size": 6}, "hidden_size was 5, now 6"),
        ({"steps": 19}, "steps was 20, now 19"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"clip": "norm:2"}, "clip was 'norm:0.5', now 'norm:2'"),
        ({"seq_len": 8, "learning_rate": 0.1}, "learning_rate was 0.01, now 0.1, seq_len was 7, now 8"),
        ({"steps": 30, "seed": 2}, "seed was 0, now 2"),
    ],
)
def test_another_training_in_the_same_folder_is_refused(finished, keys, message):
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    with pytest.raises(
        gs.InputError, match=rf"copy: holds another training: {message}.*; choose another folder with -o"
    ):
        train(finished, **keys)
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_another_task_in_the_same_folder_is_refused(finished):
    with pytest.raises(gs.InputError, match=r"holds another training: task was 'sine', now 'recall'"):
        gs.train("recall", finished, delay=2, **SINE)


@pytest.mark.parametrize("steps", [20, 30])
def test_a_training_with_other_numerics_is_refused(finished, steps):
    manifest = read_json(finished / MANIFEST)
    manifest["versions"]["numerics"] = NUMERICS_VERSION - 1
    write_json(finished / MANIFEST, manifest)
    was = rf"version of the numerics was {NUMERICS_VERSION - 1}, now {NUMERICS_VERSION}; choose another"
    with pytest.raises(gs.InputError, match=rf"copy: holds another training: {was}"):
        train(finished, steps=steps)


def test_a_folder_of_something_else_is_refused(tmp_path, small):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    (tmp_path / "file").write_text("dear")
    for folder in (tmp_path / "mine", small.folder):
        before = sorted(path.name for path in folder.iterdir())
        with pytest.raises(
            gs.InputError, match=r": output folder is not empty and holds no training; choose another fol"
        ):
            train(folder)
        assert sorted(path.name for path in folder.iterdir()) == before
    with pytest.raises(gs.InputError, match=r"file: is a file, not a folder"):
        train(tmp_path / "file")
    with pytest.raises(gs.InputError, match=r"out: output folder cannot be written: Not a directory"):
        train(tmp_path / "file" / "out")


def test_a_sweep_does_not_go_into_the_folder_of_a_training(finished):
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    with pytest.raises(gs.InputError, match=r"copy: "):
        gs.sweep("spectral-radius", out=finished, overrides=SMALL, jobs=1)
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


@pytest.mark.parametrize("name", [*(f"{table}.parquet" for table in TABLES), MODEL])
def test_damaged_files_are_found(finished, name):
    content = bytearray((finished / name).read_bytes())
    content[len(content) // 2] ^= 1
    (finished / name).write_bytes(content)
    with pytest.raises(gs.InputError, match=rf"{name}: is missing or damaged; train again in another folder"):
        gs.load(finished)
    (finished / name).unlink()
    with pytest.raises(gs.InputError, match=rf"{name}: is missing or damaged"):
        gs.load(finished)


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """The folder of a training that was interrupted at its tenth step."""
    with monkeypatch.context() as patch:
        patch.setattr(learning, "EVERY", -1.0)
        interrupting(patch, "advance", 10)
        with pytest.raises(InterruptedTraining, match=r"interrupted; 9 of 20 steps are saved"):
            train(tmp_path / "stopped")
    return tmp_path / "stopped"


def test_a_training_that_is_not_finished_is_not_read(stopped):
    with pytest.raises(gs.InputError, match=r"stopped: "):
        gs.load(stopped)


def test_a_lost_checkpoint_costs_time_alone(stopped, whole):
    (stopped / CHECKPOINT).unlink()
    assert_same(train(stopped), whole("adam"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros((1, 3))}, r"another shape: values is float64 \(1, 3\); allowed: float64 \(1, 41\)"),
        ({"values": np.zeros((1, 41), np.float32)}, r"another shape: values is float32 \(1, 41\)"),
        ({"h": np.zeros((1, 2, 5))}, r"another shape: h is float64 \(1, 2, 5\); allowed: float64 \(1, 3, 5\)"),
        ({"slots.mean": None}, r"another shape: slots.mean is missing; allowed: float64 \(1, 41\)"),
    ],
)
def test_a_checkpoint_of_another_shape_is_refused(stopped, change, message):
    arrays, note = checkpoint.read(stopped / CHECKPOINT)
    arrays = {name: array for name, array in (arrays | change).items() if array is not None}
    checkpoint.write(stopped / CHECKPOINT, arrays, note)
    with pytest.raises(
        gs.InputError, match=rf"checkpoint.safetensors: a checkpoint of {message}.*; remove it to begin"
    ):
        train(stopped)


def test_a_file_that_is_no_checkpoint_is_refused(stopped, whole):
    shutil.copy(whole("adam").folder / MODEL, stopped / CHECKPOINT)
    with pytest.raises(
        gs.InputError, match=r"checkpoint.safetensors: is no checkpoint of a training; remove it to begin"
    ):
        train(stopped)
    (stopped / CHECKPOINT).write_bytes(b"")
    with pytest.raises(gs.InputError, match=r"checkpoint.safetensors: cannot be read as safetensors: "):
        train(stopped)


# --- input that cannot be ---------------------------------------------------------------------------------------------


def written_series(folder, values):
    np.save(folder / "values.npy", np.array(values, float))
    return str(folder / "values.npy")


RAMP = np.arange(100.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (RAMP[:11], r"^seq_len: 9 values .* fewer than one window of 9 \+ 1; allowed: at most 8"),
        (RAMP[:9], r"^seq_len: .*"),
        (np.full(100, 3.0), r"values.npy: all 100 values are equal to 3; nothing to predict"),
        ([*np.full(80, 3.0), *RAMP[:20]], r"^task: the training part, the first 80 %, is constant; nothing to learn"),
        ([*RAMP[:50], np.nan, *RAMP[:50]], r"values.npy: column '0', row 50: missing; 1 such value"),
        ([*RAMP, np.inf], r"values.npy: column '0', row 100: inf; 1 such value"),
        ([], r"values.npy: no rows"),
    ],
)
@pytest.mark.parametrize("batching", ["random", "sequential"])
def test_a_series_that_cannot_be_learnt_is_refused(tmp_path, values, message, batching):
    file = written_series(tmp_path, values)
    keys = SINE | {"seq_len": 9, "batch_size": 1, "batching": batching}
    with pytest.raises(gs.InputError, match=message):
        gs.train("series", tmp_path / "out", file=file, **keys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a" * 500, r"text: only one distinct character; nothing to predict"),
        ("", r"text: data file is empty"),
        ("abc", r"^seq_len: "),
        ("abcd" * 2, r"^seq_len: 8 values leave none to hold out; give a longer sequence"),
    ],
)
def test_a_text_that_cannot_be_learnt_is_refused(tmp_path, content, message):
    (tmp_path / "text").write_text(content)
    with pytest.raises(gs.InputError, match=message):
        gs.train("text", tmp_path / "out", file=str(tmp_path / "text"), **SINE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("task", "keys", "message"),
    [
        ("sine", {"learning_rate": 0}, r"^learning_rate: 0.*; allowed: a number > 0"),
        ("sine", {"learning_rate": -0.1}, r"^learning_rate: -0.1; allowed: a number > 0"),
        ("sine", {"learning_rate": np.nan}, r"^learning_rate: nan"),
        ("sine", {"learning_rate": np.inf}, r"^learning_rate: inf is not finite"),
        ("sine", {"learning_rate": "fast"}, r"^learning_rate: 'fast'; allowed: a number"),
        (
            "sine",
            {"learning_rate": [0.1, 0.2]},
            r"^learning_rate: 2 values; allowed: one value; for several, sweep: meas",
        ),
        ("sine", {"hidden_size": {"start": 4, "stop": 8, "num": 3}}, r"^hidden_size: 3 values; allowed: one value"),
        ("sine", {"seed": [1, 2]}, r"^seed: \[1, 2\]; allowed: a whole number >= 0"),
        ("sine", {"seeds": 2}, r"^seed: 2 values; allowed: one value"),
        ("sine", {"seed": -1}, r"^seed: -1; allowed: a whole number >= 0"),
        ("sine", {"steps": 0}, r"^steps: 0; allowed: a whole number >= 1"),
        ("sine", {"record_every": 0}, r"^record_every: 0; allowed: a whole number >= 1"),
        ("sine", {"patience": -1}, r"^patience: -1; allowed: a whole number >= 0"),
        ("sine", {"optimizer": "adan"}, r"^optimizer: unknown optimizer 'adan'; .*did you mean 'adam'"),
        ("sine", {"optimizer": "momentum:1"}, r"^optimizer: 'momentum:1': mu: 1.0; allowed: at least 0, and below 1"),
        ("sine", {"clip": "norm:0"}, r"^clip: "),
        ("sine", {"truncation": "fixed"}, r"^truncation: "),
        ("sine", {"batching": "sequental"}, r"^batching: unknown batching 'sequental'; .*did you mean 'sequential'"),
        ("sine", {"seq_len": 1600}, r"^seq_len: 1600 values .* 1600 \+ 1; allowed: at most 1599"),
        ("sine", {"loss_steps": "8"}, r"^loss_steps: '8' does not fit"),
        ("sine", {"loss": "cross_entropy"}, r"^loss: unknown loss for task sine: 'cross_entropy'|^loss: "),
        ("sine", {"hiden_size": 3}, r"^hiden_size: unknown key 'hiden_size'"),
        ("sine", {"draws": 3}, r"^draws: unknown key 'draws'"),
        ("sine", {"delay": 3}, r"^delay: is an option of none of the cells and tasks chosen"),
        ("sine", {"measure": "gradients"}, r"^measure: 'gradients'; allowed: training"),
        ("sin", {}, r"^task: unknown task 'sin'; .*did you mean 'sine'"),
        ("influence-balancing", {}, r"task influence-balancing has measurements of its own"),
        (
            "adding",
            {"batching": "sequential"},
            r"^batching: sequential, but examples of task adding are drawn anew; all",
        ),
        ("copy", {"seq_len": 20}, r"^seq_len: 20 steps are too few for task copy; allowed: at least 21"),
        (
            "temporal-order",
            {"seq_len": 9},
            r"^seq_len: 9 steps are too few for task temporal-order; allowed: at least 10",
        ),
        ("recall", {"delay": 7}, r"^seq_len: 7 steps are too few for task recall; allowed: at least 8"),
        (
            "series",
            {"batching": "sequential", "batch_size": 200},
            r"^seq_len: 839 values in 200 parts .*at most 4; or a sm",
        ),
        ("series", {"file": "nowhere.csv"}, r"nowhere.csv: cannot read data file: No such file"),
        ("text", {"file": "nowhere.txt"}, r"nowhere.txt: cannot read data file: No such file"),
    ],
)
def test_keys_that_cannot_be_are_refused_before_anything_is_made(tmp_path, task, keys, message):
    with pytest.raises(gs.InputError, match=message):
        gs.train(task, tmp_path / "out", **SINE | keys)
    assert not (tmp_path / "out").exists()


def test_errors_stand_where_their_keys_were_written():
    with pytest.raises(gs.InputError, match=r"^--learning-rate: -1; allowed"):
        gs.train("sine", places={"learning_rate": "--learning-rate"}, learning_rate=-1)
    with pytest.raises(gs.InputError, match=r"^--seed: -1; allowed"):
        gs.train("sine", places={"seeds": "--seed"}, seed=-1)


def test_a_finished_training_is_continued_with_progress_told(tmp_path, always_saved):
    told = []
    train(tmp_path / "out", steps=3, progress=told.append)
    history = train(tmp_path / "out", steps=6, progress=told.append)
    assert len(history.steps) == 6
    assert {coming.step for coming in told} == {1, 2, 3, 4, 5, 6}
    assert all(coming.rate > 0 and coming.left >= 0 for coming in told)


def test_parameters_by_name_are_begun_with(tmp_path):
    first = train()
    save_file(first.params, tmp_path / "init.safetensors")
    by_name, by_file = (train(init=init) for init in (first.params, tmp_path / "init.safetensors"))
    for name, array in by_name.params.items():
        np.testing.assert_array_equal(array, by_file.params[name])
    with pytest.raises(gs.InputError, match=r"params: missing or unknown: W_hy"):
        train(init={name: array for name, array in first.params.items() if name != "W_hy"})


def test_a_training_stops_where_it_is_when_interrupted(tmp_path):
    # As a terminal does: the step is finished, saved, and said.
    how = "steps=10**6, progress=lambda coming: print(coming.step, flush=True)"
    command = [sys.executable, "-c", f"import gradscope as gs; gs.train('sine', 'out', {how})"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = subprocess.Popen(command, cwd=tmp_path, **pipes)
    seen = int(running.stdout.readline())
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    saved = re.search(r"interrupted; ([\d,]+) of 1,000,000 steps are saved", said.decode())[1].replace(",", "")
    assert int(saved) >= seen
    assert checkpoint.read(tmp_path / "out" / CHECKPOINT)[1]["number"] == int(saved)
