"""Guards the command line against bad input: exit status 2, one line that says what is wrong, nothing half-written."""

import json
import re
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

import gradscope as gs
from gradscope import experiment
from gradscope.cli import cli, main

COMMANDS = sorted(cli.commands)
TINY = {  # one run
    "activation": "tanh",
    "hidden_size": 3,
    "spectral_radius": 1.0,
    "seq_len": 4,
    "truncation": "full",
    "loss_steps": "last",
    "batch_size": 2,
    "input_size": 1,
    "seeds": 1,
}


def setting(key, value):
    return ["--set", f"{key}={value}"]


def sweep_of(overrides):
    """The command line of a sweep."""
    settings = [part for key, value in overrides.items() for part in setting(key, json.dumps(value))]
    return ["sweep", "spectral-radius", *settings, "--jobs", "1", "--no-report", "-o", "out"]


def assert_says(line, message):
    assert re.search(message, line), f"{line!r} does not say {message!r}"


def contents(folder):
    """Everything in a folder: path -> bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def refused(command, tmp_path):
    """Call the command line and check that it refuses, in one line, and leaves everything as it was; the line."""

    def call(*arguments):
        before = contents(tmp_path)
        answer = command(*arguments)
        assert answer.status == 2
        assert answer.out == ""
        (line,) = answer.err.splitlines()
        assert line.startswith("error: ")
        assert answer.err.endswith("\n")
        assert "Traceback" not in line
        assert contents(tmp_path) == before
        return line

    return call


# --- experiments and values ------------------------------------------------------------------------------------------

VALUES = {
    "unknown key": (
        setting("spectral_radios", 1),
        "--set spectral_radios: .*allowed: .*did you mean 'spectral_radius'",
    ),
    "wrong type": (setting("seq_len", "long"), "--set seq_len: 'long'; allowed: a whole number"),
    "number for text": (setting("task", 5), "--set task: 5; allowed: text"),
    "fraction for a size": (setting("hidden_size", 1.5), r"--set hidden_size: 1\.5; allowed: a whole number"),
    "empty list": (setting("seq_len", "[]"), "--set seq_len: empty list; allowed: at least one value"),
    "negative radius": (setting("spectral_radius", -1), "--set spectral_radius: -1; allowed: a number >= 0"),
    "NaN radius": (setting("spectral_radius", "nan"), "--set spectral_radius: nan.*allowed: a .*number"),
    "infinite radius": (setting("spectral_radius", "inf"), "--set spectral_radius: inf.*allowed: a finite number"),
    "infinite range": (setting("spectral_radius", "{start=0, stop=inf, num=3}"), "--set spectral_radius: "),
    "seq_len 0": (setting("seq_len", 0), "--set seq_len: 0; allowed: a whole number >= 1"),
    "truncation that does not parse": (setting("truncation", "fixd:5"), "truncation: .*fixd.*allowed: .*mean 'fixed'"),
    "truncation without its number": (setting("truncation", "fixed"), "truncation: .*takes 1; allowed: .*fixed:TAU"),
    "truncation that cannot be": (
        setting("truncation", "tbptt:5:2"),
        "truncation: .*K2 must be at least K1.*allowed: ",
    ),
    "random truncation of 1": (setting("truncation", "random:1"), "truncation: .*above 1.*allowed: .*random:TAU"),
    "unknown activation": (setting("activation", "tahn"), "--set activation: .*allowed: .*did you mean 'tanh'"),
    "unknown ensemble": (setting("ensemble", "gausian"), "--set ensemble: .*allowed: .*did you mean 'gaussian'"),
    "unknown task": (setting("task", "nois"), "--set task: .*allowed: .*noise.*did you mean 'noise'"),
    "unknown loss": (setting("loss", "mae"), "--set loss: .*allowed: .*did you mean 'mse'"),
    "loss of another task": (
        [*setting("task", "sine"), *setting("loss", "cross_entropy")],
        "--set loss: unknown loss for task sine 'cross_entropy'; allowed: mse",
    ),
    "step outside": (setting("loss_steps", 5), "loss_steps: '5' does not fit; allowed: .*from 1 to seq_len = 4"),
    "no seeds": (setting("seeds", 0), "--set seeds: 0; allowed: a number of seeds >= 1, or a list"),
    "seed twice": (setting("seeds", "[1,1]"), "--set seeds: 1 is listed twice"),
    "name with a slash": (setting("name", "'../elsewhere'"), "--set name: '../elsewhere'; allowed: letters"),
    "size beyond any array": (setting("hidden_size", 10**20), "--set hidden_size: .*allowed: "),
    "seed beyond the tables": (setting("seeds", f"[{2**70}]"), "--set seeds: .*allowed: "),
    "no equals sign": (["--set", "seeds"], "--set: 'seeds'; allowed: KEY=VALUE"),
    "no key": (["--set", "=3"], "--set: '=3'; allowed: KEY=VALUE"),
    "list that does not end": (setting("seq_len", "[5, "), "--set seq_len: .*allowed: a whole number"),
    "key with a line break": (["--set", "seq\nlen=3"], "unknown key"),
}


@pytest.mark.parametrize(("arguments", "message"), VALUES.values(), ids=VALUES)
def test_value_that_cannot_be(refused, arguments, message):
    assert_says(refused(*sweep_of(TINY), *arguments), message)


FILES = {
    "unknown key": ("[sweep]\n\nseq_length = 5\n", r"mine\.toml, line 3, seq_length: .*did you mean 'seq_len'"),
    "wrong value": ("[sweep]\nseq_len = 0\n", r"mine\.toml, line 2, seq_len: 0; allowed: a whole number >= 1"),
    "syntax": ("[sweep]\nseq_len = [5,, 6]\n", r"mine\.toml: TOML syntax: .*line 2"),
    "not UTF-8": (b"[sweep]\n# caf\xe9\n", r"mine\.toml: not UTF-8 at byte 13"),
    "empty": ("", r"mine\.toml: no \[sweep\] table"),
    "unknown table": ("[swep]\nseeds = 1\n", r"mine\.toml, line 1: unknown table 'swep'; .*did you mean 'sweep'"),
    "options of another task": ("[sweep]\nfrequency = 0.1\n", r"mine\.toml, line 2, frequency: .*remove it"),
}


@pytest.mark.parametrize(("content", "message"), FILES.values(), ids=FILES)
def test_experiment_that_cannot_be(refused, experiment_file, content, message):
    experiment_file(content)
    assert_says(refused("sweep", "mine.toml", "-o", "out"), message)


NAMES = {
    "near to one": ("spectral-radios", "unknown experiment 'spectral-radios'; allowed: .*mean 'spectral-radius'"),
    "near to none": ("zzz", "unknown experiment 'zzz'; allowed: .*sine, spectral-radius"),
    "line break": ("a\nb", "unknown experiment .*allowed: "),
    "missing file": ("nowhere.toml", r"nowhere\.toml: cannot read experiment: No such file"),
    "folder": (".", "not a TOML file; allowed: FILE.toml, or one of"),
    "nothing": ("", "allowed: .*spectral-radius"),
}


@pytest.mark.parametrize(("name", "message"), NAMES.values(), ids=NAMES)
def test_experiment_that_is_not_there(refused, name, message):
    assert_says(refused("sweep", name, "-o", "out"), message)


DATA_PLACES = r"prices\.csv: |sine\.toml, line [0-9]+, "
DATA = {
    "empty": ("", "", "data file is empty"),
    "header only": ("date,price\n", "price", "no rows"),
    "not numeric": ("price\n1\ntwo\n", "price", "column 'price', line 3: 'two'.*allowed: finite numbers"),
    "NaN": ("price\n1\nnan\n", "price", "column 'price', line 3: missing.*allowed: finite numbers"),
    "infinite": ("price\n1\ninf\n", "price", "column 'price', line 3: .*inf.*allowed: finite numbers"),
    "column not there": ("price,volume\n1,2\n", "prise", "unknown column 'prise'; allowed: .*did you mean 'price'"),
    "column not chosen": ("price,volume\n1,2\n", "", "several columns; allowed: price, volume; choose with column"),
    "constant": ("price\n1\n1\n", "price", "all 2 values are equal to 1"),
    "too short": (
        "price\n1\n2\n",
        "price",
        "seq_len: .*task series has data for; allowed: at most 1, half of its data",
    ),
    "line break in a name": ('"Price\n(USD)",volume\n1,2\n', "price", "unknown column 'price'; allowed: "),
    "long, and not numeric": ("price\n" + "1\n" * 300_000 + "x\n", "price", "line 300002: 'x'"),
}


@pytest.mark.parametrize(("content", "column", "message"), DATA.values(), ids=DATA)
def test_data_file_that_cannot_be_used(refused, tmp_path, content, column, message):
    (tmp_path / "prices.csv").write_text(content, encoding="utf-8")
    options = setting("task", "series") + setting("file", tmp_path / "prices.csv") + setting("column", f"'{column}'")
    assert_says(refused("sweep", "sine", *options, "-o", "out"), f"({DATA_PLACES}).*{message}")


def test_data_file_that_is_missing(refused):
    options = [*setting("task", "series"), *setting("file", "nowhere.csv")]
    assert_says(refused("sweep", "sine", *options, "-o", "out"), r"nowhere\.csv: cannot read data file: No such file")


# --- the command itself ----------------------------------------------------------------------------------------------

USAGE = {
    "unknown command": (["sweeep"], "'sweeep'.*'sweep'"),
    "unknown command near to none": (["zzz"], "'zzz'"),
    "unknown option": (["sweep", "--jbos", "2"], "'--jbos'.*'--jobs'"),
    "jobs 0": (["sweep", "--jobs", "0"], "'--jobs': 0"),
    "jobs as text": (["sweep", "--jobs", "many"], "'--jobs': 'many'"),
    "option without its value": (["sweep", "--out"], "'--out' requires an argument"),
    "one argument too many": (["sweep", "sine", "text"], r"unexpected extra argument \(text\)"),
    "no folder to report": (["report"], "Missing argument 'DIR...'"),
    "no folder to draw": (["figures"], "Missing argument 'DIR'"),
}


@pytest.mark.parametrize(("arguments", "message"), USAGE.values(), ids=USAGE)
def test_wrong_usage_is_one_line_that_points_to_the_help(refused, arguments, message):
    assert_says(refused(*arguments), rf".*{message}.*\(see gradscope.* --help\)$")


SIZES = {
    "memory 0": (["sweep", "--max-memory", "0"], "--max-memory: '0'; allowed: a size, as 500M or 2G"),
    "memory as text": (["sweep", "--max-memory", "much"], "--max-memory: 'much'; allowed: a size"),
    "memory below one network": (
        ["sweep", "--max-memory", "100K", "-o", "out"],
        "memory: one network of hidden_size 64, batch_size 16, seq_len 200 needs .*MiB; allowed: at most 100 KiB",
    ),
    "sizes beyond the machine": (
        ["sweep", "--set", "hidden_size=10000000", "-o", "out"],
        "memory: one network of hidden_size 10000000.* needs .*TiB; allowed: at most .*lower one of the sizes",
    ),
    "unknown workload": (["bench", "-w", "W3"], "--workload: unknown workload 'W3'; allowed: .*W1"),
    "no rounds": (["bench", "--rounds", "0"], "--rounds: 0; allowed: a whole number >= 1"),
    "float32 out of range": (
        ["sweep", "--set", "dtype=float32", "--set", "spectral_radius=1e40"],
        "spectral_radius: 1e\\+40 needs float64; allowed: 0, or 1e-30 to 1e\\+30 with dtype float32",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), SIZES.values(), ids=SIZES)
def test_memory_benchmarks_and_precision_that_cannot_be_are_one_line(refused, arguments, message):
    assert_says(refused(*arguments), message)


ADVICE = {
    "tolerance 0": (["--bias", "0"], r"^error: bias: 0\.0; allowed: a number above 0 and below 1"),
    "tolerance 1": (["--bias", "1"], r"bias: 1\.0; allowed: a number above 0"),
    "negative tolerance": (["sine", "--bias", "-0.1"], r"bias: -0\.1; allowed: a number above 0"),
    "tolerance that is no number": (["--bias", "nan"], "bias: nan; allowed: a number above 0"),
    "tolerance in words": (["--bias", "little"], "'--bias': 'little' is not a valid float"),
    "neither folder nor experiment": (
        ["spectral-radios"],
        "unknown folder or experiment 'spectral-radios'; allowed: .*did you mean 'spectral-radius'",
    ),
    "file that is missing": (["nowhere.toml"], r"nowhere\.toml: cannot read experiment"),
    "folder without a sweep": (["."], r"\.: holds no sweep; run gradscope sweep first"),
    "truncations without a tau": (
        ["--set", "truncation=full,random:5"],
        "truncation: full, random:5; allowed: one with a tau that tosses no coins, as fixed:20, too",
    ),
    "value that cannot be": (["--set", "seq_len=0"], "--set seq_len: 0; allowed: a whole number >= 1"),
}


@pytest.mark.parametrize(("arguments", "message"), ADVICE.values(), ids=ADVICE)
def test_advice_that_cannot_be_given_is_refused_before_anything_runs(refused, arguments, message):
    assert_says(refused("advise", *arguments), message)
    assert_says(refused("advise", "--json", *arguments), message)


def test_jobs_of_the_python_call_are_checked_too(tmp_path):
    with pytest.raises(gs.InputError, match=r"^jobs: 0; allowed: a whole number >= 1"):
        gs.sweep("spectral-radius", out=tmp_path / "out", overrides=TINY, jobs=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", *COMMANDS])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(command, name, flag):
    answer = command(*filter(None, [name, flag]))
    assert (answer.status, answer.err) == (0, "")
    assert answer.out.startswith("Usage: gradscope")


def test_help_names_every_command(command):
    assert [name for name in COMMANDS if name not in command("--help").out] == []


def test_no_command_shows_the_help_which_is_no_error(command):
    answer = command()
    assert (answer.out + answer.err).startswith("Usage: gradscope")


def test_version(command):
    assert command("--version") == (0, f"gradscope, version {gs.__version__}\n", "")


def test_list_names_the_shipped_experiments(command):
    answer = command("list")
    assert (answer.status, answer.err) == (0, "")
    assert [line.split()[0] for line in answer.out.splitlines()] == experiment.names()
    assert "10,080 runs" in answer.out


def test_sweep_without_an_experiment_is_the_default_one(refused, tmp_path):
    # The folder is where the default sweep writes; it cannot be made below a file.
    (tmp_path / "reports").write_text("not a folder", encoding="utf-8")
    assert "reports/spectral-radius: output folder cannot be written" in refused("sweep").replace("\\", "/")


def test_installed_command_is_this_one():
    (script,) = entry_points(group="console_scripts", name="gradscope")
    assert script.load() is main


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_sweep(command, tmp_path):
    """A finished sweep of one run in `out`."""
    answer = command(*sweep_of(TINY))
    assert answer.status == 0
    return tmp_path / "out"


def test_advice_from_a_sweep_without_what_it_needs(refused, tiny_sweep):
    needed = 'truncations with a TAU .fixed:TAU, chunked:TAU., loss_steps "all"'
    assert_says(refused("advise", "out"), f"out: has no runs with {needed}; add them to the sweep")
    assert_says(
        refused("advise", "out", "--set", "seeds=9"), "out: its runs are read as they are; leave out what is set"
    )


def test_output_folder_that_is_a_file(refused, tmp_path):
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    assert_says(refused(*sweep_of(TINY)), "out: is a file, not a folder")


def test_output_folder_that_cannot_be_written(refused, tmp_path):
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    assert_says(refused(*sweep_of(TINY)[:-1], "out/below/it"), "it: output folder cannot be written")


def test_output_folder_with_anything_else_in_it(refused, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work", encoding="utf-8")
    message = "out: output folder is not empty and holds no sweep; choose another folder with -o"
    assert_says(refused(*sweep_of(TINY)), message)


def test_output_folder_with_the_manifest_of_another_program(refused, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text('{"manifest_version": 3}', encoding="utf-8")
    (tmp_path / "out" / "background.js").write_text("//", encoding="utf-8")
    assert_says(refused(*sweep_of(TINY)), "out.*holds no sweep")


@pytest.mark.parametrize("content", ["", "not json", '{"name": "spectral'])
def test_output_folder_with_a_broken_manifest(refused, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text(content, encoding="utf-8")
    assert_says(refused(*sweep_of(TINY)), r"manifest\.json: cannot be read")


@pytest.mark.parametrize("change", [{"seq_len": 5}, {"spectral_radius": 0.5, "name": "other"}], ids=str)
@pytest.mark.usefixtures("tiny_sweep")
def test_output_folder_with_another_sweep(refused, change):
    message = r"out: output folder holds another sweep \(spectral-radius, [0-9a-f]{16}\).*choose another folder with -o"
    assert_says(refused(*sweep_of(TINY | change)), message)


@pytest.mark.usefixtures("tiny_sweep")
def test_bad_value_leaves_a_sweep_as_it_is(refused):
    assert_says(refused(*sweep_of(TINY | {"seq_len": 0})), "--set seq_len: 0")


@pytest.mark.parametrize("name", ["report", "figures"])
class TestFolderToRead:
    def test_missing(self, refused, name):
        assert_says(refused(name, "nowhere"), "nowhere: no such folder; run gradscope sweep first")

    def test_empty(self, refused, tmp_path, name):
        (tmp_path / "empty").mkdir()
        assert_says(refused(name, "empty"), "empty: holds no sweep; run gradscope sweep first")

    def test_a_file(self, refused, tmp_path, name):
        (tmp_path / "file").write_text("a file", encoding="utf-8")
        assert_says(refused(name, "file"), "file: is a file, not a folder")

    def test_something_else(self, refused, tmp_path, name):
        (tmp_path / "manifest.json").write_text('{"manifest_version": 3}', encoding="utf-8")
        assert_says(refused(name, "."), "holds no sweep")

    def test_broken_manifest(self, refused, tiny_sweep, name):
        (tiny_sweep / "manifest.json").write_text("{", encoding="utf-8")
        assert_says(refused(name, "out"), r"manifest\.json: cannot be read")

    def test_broken_table(self, refused, tiny_sweep, name):
        (tiny_sweep / "runs.parquet").write_bytes(b"PAR1 no more")
        assert_says(refused(name, "out"), r"runs\.parquet: damaged: its checksum differs")


@pytest.mark.usefixtures("tiny_sweep")
@pytest.mark.parametrize(("kind", "near"), [("jpg", "png"), ("sgv", "svg"), ("PNG", None)])
def test_unknown_figure_format(refused, kind, near):
    near = f"; did you mean '{near}'" if near else ""
    assert_says(refused("figures", "out", "--format", kind), f"unknown format '{kind}'; allowed: pdf, png, svg{near}")


# --- in a process of its own -----------------------------------------------------------------------------------------

PROCESSES = {
    "value": (["sweep", *setting("seq_len", 0), "-o", "out"], "--set seq_len: 0; allowed: a whole number >= 1"),
    "experiment": (["sweep", "spectral-radios", "-o", "out"], "did you mean 'spectral-radius'?"),
    "folder": (["sweep", "-o", "file/below"], "file/below: output folder cannot be written"),
    "report": (["report", "nowhere"], "nowhere: no such folder; run gradscope sweep first"),
    "usage": (["sweep", "--jobs", "0"], "'--jobs': 0 is not in the range x>=1"),
}


@pytest.mark.parametrize(("arguments", "message"), PROCESSES.values(), ids=PROCESSES)
def test_real_process_refuses(tmp_path, arguments, message):
    (tmp_path / "file").write_text("a file", encoding="utf-8")
    before = contents(tmp_path)
    ended = subprocess.run(
        [sys.executable, "-m", "gradscope", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert contents(tmp_path) == before


def test_real_process_answers():
    for arguments, answer in ((["--version"], f"gradscope, version {gs.__version__}\n"), (["--help"], "Usage: ")):
        ended = subprocess.run(
            [sys.executable, "-m", "gradscope", *arguments], capture_output=True, text=True, check=False
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.startswith(answer)
