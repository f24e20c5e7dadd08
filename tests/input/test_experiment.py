"""Guards the reading of experiments: shipped ones, what is laid over them, errors that say file, line and key."""

import re
import tomllib

import pytest

from gradscope import plugins, tasks, truncations
from gradscope.errors import InputError
from gradscope.experiment import SHIPPED, names, read
from gradscope.grid import resolve

# Promised to users, word for word.
DEFAULT = """
[sweep]
name = "spectral-radius"
cell = "elman"                     # every value may be a list: the grid is the product of the lists
activation = ["tanh", "linear"]
ensemble = "gaussian"
hidden_size = 64
spectral_radius = { start = 0.5, stop = 1.5, num = 21 }
seq_len = [25, 50, 100, 200]
truncation = ["full", "fixed:5", "fixed:20", "fixed:50", "chunked:20", "random:20"]
task = "noise"
input_scale = 0.1                  # standard deviation of (W_xh x_t) a unit, sigma_u of the mean-field papers
loss = "mse"
loss_steps = ["last", "all"]
reduction = "mean"
batch_size = 16
input_size = 16
output_size = 1
seeds = 5                          # 0..4, or a list
"""


# --- shipped experiments ---------------------------------------------------------------------------------------------


def test_default_experiment_is_the_promised_one():
    promised = tomllib.loads(DEFAULT)["sweep"]
    sweep = read("spectral-radius")
    assert sweep.name == promised.pop("name")
    assert sweep.grid == resolve("spectral-radius", promised).grid
    assert sweep.grid["spectral_radius"][13] == 1.15
    assert sweep.grid["seed"] == (0, 1, 2, 3, 4)


def test_default_experiment_has_10080_different_runs():
    assert len({run.run_id for run in read("spectral-radius").runs}) == 10_080 == 2 * 21 * 4 * 6 * 2 * 5


def test_every_task_has_a_shipped_experiment():
    assert {task for name in names() for task in read(name).grid["task"]} == set(plugins.names(tasks.FAMILY))


def test_influence_balancing_has_every_strategy_both_conventions_and_the_published_end():
    sweep = read("influence-balancing")
    families = {spec.partition(":")[0] for spec in sweep.grid["truncation"]}
    assert families == set(plugins.names(truncations.FAMILY)) - {"variable"}
    assert sweep.grid["loss_steps"] == ("last", "all")
    assert max(sweep.grid["iterations"]) == 3000
    assert sweep.grid["learning_rate"] == (1e-4,)


@pytest.mark.parametrize("name", names())
def test_shipped_experiment_resolves_under_its_name_and_says_what_it_is_for(name):
    sweep = read(name)
    assert sweep.name == name
    assert sweep.runs
    assert (SHIPPED / f"{name}.toml").read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize(
    ("name", "near"), [("spectral-radios", "spectral-radius"), ("spectral_radius", "spectral-radius"), ("sin", "sine")]
)
def test_unknown_experiment_and_the_near_miss(name, near):
    with pytest.raises(InputError, match=f"unknown experiment '{name}'; allowed: .*{near}.*; did you mean '{near}'"):
        read(name)


def test_unknown_experiment_near_to_none():
    with pytest.raises(InputError, match=f"unknown experiment 'zzz'; allowed: {', '.join(sorted(names()))}$"):
        read("zzz")


# --- files -----------------------------------------------------------------------------------------------------------


def test_file_without_a_name_is_named_after_itself(experiment_file):
    assert read(experiment_file("[sweep]\n")).name == "mine"
    assert read(str(experiment_file("[sweep]\nname = 'Other_1.2-b'\n"))).name == "Other_1.2-b"


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.toml: cannot read experiment: No such file"):
        read(tmp_path / "nowhere.toml")


def test_folder_is_no_experiment(tmp_path):
    with pytest.raises(InputError, match=r"not a TOML file; allowed: FILE\.toml, or one of .*sine, spectral-radius"):
        read(tmp_path)


def test_another_kind_of_file_is_no_experiment(tmp_path):
    (tmp_path / "sweep.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"sweep\.json: not a TOML file; allowed: FILE.toml"):
        read(tmp_path / "sweep.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[sweep]\n# \xff\n", "not UTF-8 at byte 10"),
        ("[sweep]\nseq_len = \n", r"TOML syntax: .*line 2"),
        ("[sweep]\n\n# lengths\nseq_len = 5 0\n", r"TOML syntax: .*line 4"),
        ("[sweep]\nseq_len = 5\ntask = 'noise\n", r"TOML syntax: .*line [34]"),
        ("[sweep]\nseq_len = [5,\nseeds = 3\n", r"TOML syntax: .*line [23]"),
        ("[sweep]\nseq_len = 5\nseq_len = 6\n", r"TOML syntax: .*line 3"),
        ("[sweep]\nseq_len = 5\n[sweep]\n", r"TOML syntax: .*line 3"),
        ("[sweep\nseq_len = 5\n", r"TOML syntax: .*line 1"),
        ("[sweep]\nspectral_radius = { start = 0.5 stop = 1.5 }\n", r"TOML syntax: .*line 2"),
        ("[sweep]\nseq_len = [5,\n", r"TOML syntax: .*line [23]"),
        ("", r"no \[sweep\] table"),
        ("# nothing yet\n", r"no \[sweep\] table"),
        ("[[sweep]]\nseq_len = 5\n", r"no \[sweep\] table"),
        ("sweep = 5\n", r"no \[sweep\] table"),
    ],
)
def test_file_that_is_no_experiment(experiment_file, content, message):
    path = experiment_file(content)
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: {message}"):
        read(path)


def test_byte_order_mark_is_no_part_of_the_file(experiment_file):
    assert len(read(experiment_file("\ufeff[sweep]\nseeds = 3\n")).runs) == 3


@pytest.mark.parametrize(
    ("content", "line", "table"),
    [
        ("[sweeps]\nseq_len = 5\n", 1, "sweeps"),
        ("[sweep]\nseq_len = 5\n\n# more\n[figures]\nstyle = 'x'\n", 5, "figures"),
        ("[sweep]\nseq_len = 5\n[ seq ]\na = 1\n", 3, "seq"),
        ("[sweep]\n[[figures]]\na = 1\n", 2, "figures"),
        ("[sweep]\n['my figures']\na = 1\n", 2, "my figures"),
        ("[sweep]\ntask = 'sine'\nnoise = 0.1\n\n[noise]\nscale = 1\n", 5, "noise"),
        ("[sweep]\n[figures.first]\na = 1\n", 2, "figures"),
    ],
)
def test_unknown_table_is_refused_with_its_line(experiment_file, content, line, table):
    path = experiment_file(content)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}, line {line}: unknown table '{table}'.*sweep"):
        read(path)


def test_misspelled_table_gets_the_near_miss(experiment_file):
    with pytest.raises(InputError, match="unknown table 'swep'; allowed: sweep; did you mean 'sweep'"):
        read(experiment_file("[swep]\nseq_len = 5\n"))


def test_key_outside_the_table_is_sent_there(experiment_file):
    with pytest.raises(InputError, match=r"line 1.*seq_len.*\[sweep\]"):
        read(experiment_file("seq_len = 5\n[sweep]\n"))


# --- the place of an error -------------------------------------------------------------------------------------------

PLACES = {
    "first key": ("[sweep]\nseeds = 0\n", 2),
    "after comments": ("# seeds = 1\n\n[sweep]\n# seeds = 2\n  # seeds = 3\nseeds = 0\n", 6),
    "indented": ("[sweep]\n\tseq_len = 5\n\tseeds = 0\n", 3),
    "no blanks": ("[sweep]\nseq_len=5\nseeds=0\n", 3),
    "comment behind": ("[sweep]\nseq_len = 5  # seeds = 5\nseeds = 0  # none\n", 3),
    "quoted key": ("[sweep]\nseq_len = 5\n\"seeds\" = 0\n'reduction' = 'mean'\n", 3),
    "after a list over lines": ("[sweep]\nseq_len = [\n  5,\n  6, # seeds = 3\n]\n\nseeds = 0\n", 7),
    "after an inline table": ("[sweep]\nspectral_radius = { start = 0, stop = 1, num = 2 }\nseeds = 0\n", 3),
    "longer key first": ("[sweep]\ninput_scale = 0.5\nseeds = 0\n", 3),
    "Windows line ends": ("[sweep]\r\nseq_len = [\r\n5,\r\n]\r\nseeds = 0\r\n", 5),
    "no line end": ("[sweep]\nseeds = 0", 2),
    "after a text over lines": ('[sweep]\nreduction = """\\\nseeds = 1\\\n"""\nseeds = 0\n', 5),
    "after odd characters": ("[sweep]\n# a\u2028b\x85c\nseeds = 0\n", 3),
    "table on one line": ("sweep = { seeds = 0 }\n", 1),
    "dotted": ("sweep.seq_len = 5\nsweep.seeds = 0\n", 2),
}


@pytest.mark.parametrize(("content", "line"), PLACES.values(), ids=PLACES)
def test_error_says_file_line_and_key(experiment_file, content, line):
    path = experiment_file(content)
    with pytest.raises(
        InputError, match=rf"^{re.escape(str(path))}, line {line}, seeds: 0; allowed: a number of seeds"
    ):
        read(path)


RANGES = {
    "inline": ("[sweep]\nseeds = 1\nspectral_radius = { start = 0, stop = 1 }\n", 3),
    "dotted": ("[sweep]\nseeds = 1\nspectral_radius.start = 0\nspectral_radius.stop = 1\n", 3),
    "table of its own": ("[sweep]\nseeds = 1\n[sweep.spectral_radius]\nstart = 0\nstop = 1\n", 3),
}


@pytest.mark.parametrize(("content", "line"), RANGES.values(), ids=RANGES)
def test_range_that_cannot_be_says_file_line_and_key(experiment_file, content, line):
    path = experiment_file(content)
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}, line {line}, spectral_radius: range .*num"):
        read(path)


WHOLE_RANGES = {
    "inline": "[sweep]\nspectral_radius = { start = 0, stop = 1, num = 3 }\n",
    "dotted": "[sweep]\nspectral_radius.start = 0\nspectral_radius.stop = 1\nspectral_radius.num = 3\n",
    "table of its own": "[sweep.spectral_radius]\nstart = 0\nstop = 1\nnum = 3\n",
}


@pytest.mark.parametrize("content", WHOLE_RANGES.values(), ids=WHOLE_RANGES)
def test_range_may_be_written_as_any_toml_table(experiment_file, content):
    assert read(experiment_file(content)).grid["spectral_radius"] == (0.0, 0.5, 1.0)


BAD_LINES = [
    ("name = 'my/sweep'", "name: 'my/sweep'; allowed: letters, digits"),
    ("name = 5", "name: 5; allowed: letters, digits"),
    ("name = ''", "name: ''; allowed: letters, digits"),
    ("name = '..'", "name: '..'; allowed: letters, digits"),
    ("cell = 'elmann'", "cell: unknown cell 'elmann'; allowed: .*did you mean 'elman'"),
    ("activation = ['tanh', 'tanhh']", "activation: unknown activation 'tanhh'; allowed: .*did you mean 'tanh'"),
    ("ensemble = 'gauss'", "ensemble: unknown ensemble 'gauss'; allowed: .*did you mean 'gaussian'"),
    ("hidden_size = true", "hidden_size: True; allowed: a whole number"),
    ("spectral_radius = [1.0, -0.1]", r"spectral_radius: -0\.1; allowed: a number >= 0"),
    ("spectral_radius = nan", "spectral_radius: nan.*allowed: a .*number"),
    ("spectral_radius = inf", "spectral_radius: inf.*allowed: a finite number"),
    ("seq_len = 0", "seq_len: 0; allowed: a whole number >= 1"),
    ("seq_len = []", "seq_len: empty list; allowed: at least one value"),
    ("seq_len = 2020-01-01", "seq_len: .*2020.*; allowed: a whole number"),
    ("truncation = 'fixd:5'", "truncation: unknown truncation 'fixd'; allowed: .*did you mean 'fixed'"),
    ("truncation = 'random:1'", "truncation: 'random:1': .*above 1.*allowed: "),
    ("task = 'serie'", "task: unknown task 'serie'; allowed: .*did you mean 'series'"),
    ("input_size = 0", "input_size: .*at least 1, not 0"),
    ("loss = 'mae'", "loss: unknown loss 'mae'; allowed: cross_entropy, mse"),
    ("loss_steps = 101", "loss_steps: '101' does not fit; allowed: .*from 1 to seq_len = 100"),
    ("reduction = 'total'", "reduction: unknown reduction 'total'; allowed: mean, sum"),
    ("seeds = [1, 1]", "seeds: 1 is listed twice"),
    ("spectral_radios = 1", "spectral_radios: unknown key .*allowed: .*did you mean 'spectral_radius'"),
    ("seed = 1", "seed: unknown key .*did you mean 'seeds'"),
    ("phase = 0", "phase: is an option of none of the cells and tasks chosen; remove it"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_LINES)
def test_bad_value_is_refused_with_file_line_key_and_what_is_allowed(experiment_file, bad, message):
    path = experiment_file(f"# an experiment\n[sweep]\nbatch_size = 4\n\n{bad}\ninput_scale = 0.5\n")
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}, line 5, {message}") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_unknown_key_with_a_line_break_is_still_one_line(experiment_file):
    with pytest.raises(InputError, match="unknown key") as caught:
        read(experiment_file('[sweep]\n"seq\\nlen" = 5\n'))
    assert "\n" not in str(caught.value)


# --- what is laid over an experiment ---------------------------------------------------------------------------------


def test_overrides_replace_values_and_leave_the_others():
    overridden = read(
        "spectral-radius", {"seeds": 2, "seq_len": [10], "spectral_radius": {"start": 0, "stop": 1, "num": 3}}
    )
    changed = {"seed": (0, 1), "seq_len": (10,), "spectral_radius": (0.0, 0.5, 1.0)}
    assert overridden.grid == {**read("spectral-radius").grid, **changed}


def test_overriding_the_name():
    assert read("sine", {"name": "mine"}).name == "mine"


def test_overrides_are_not_changed():
    overrides = {"seeds": 2, "name": "mine"}
    read("sine", overrides)
    assert overrides == {"seeds": 2, "name": "mine"}


def test_override_that_cannot_be_stands_in_the_override_not_in_the_file():
    with pytest.raises(InputError, match=r"^--set seq_len: 0; allowed: a whole number >= 1"):
        read("spectral-radius", {"seq_len": 0})
    with pytest.raises(InputError, match=r"^--set name: 'a b'; allowed: letters"):
        read("spectral-radius", {"name": "a b"})
    with pytest.raises(InputError, match=r"^--set spectral_radios: unknown key"):
        read("spectral-radius", {"spectral_radios": 1})


def test_error_of_the_file_stands_in_the_file_in_spite_of_overrides(experiment_file):
    path = experiment_file("[sweep]\nseq_len = 5\nseeds = 0\n")
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}, line 3, seeds: 0"):
        read(path, {"seq_len": 6})


def test_override_cures_a_bad_value(experiment_file):
    assert len(read(experiment_file("[sweep]\nseeds = 0\n"), {"seeds": 3}).runs) == 3


@pytest.mark.parametrize("task", ["sine", "series"])
def test_another_task_drops_the_options_of_the_former_one(experiment_file, task):
    path = experiment_file("[sweep]\ninput_size = 8\noutput_size = 3\nhidden_size = 5\n")
    (run,) = read(path, {"task": task}).runs
    assert (run["task"], run["input_size"], run["output_size"], run["hidden_size"]) == (task, 1, 1, 5)


def test_another_task_brings_its_own_options(experiment_file):
    path = experiment_file("[sweep]\ntask = 'sine'\nfrequency = 0.2\nnoise = 0.5\n")
    (run,) = read(path, {"task": "noise", "input_size": 3}).runs
    assert not {"frequency", "noise", "phase"} & run.parameters.keys()
    assert (run["input_size"], run["output_size"]) == (3, 1)


def test_another_task_leaves_the_options_of_the_cell(experiment_file):
    path = experiment_file("[sweep]\nactivation = ['relu', 'linear']\ninput_size = 8\n")
    assert read(path, {"task": "sine"}).grid["activation"] == ("relu", "linear")


def test_same_task_leaves_its_options(experiment_file):
    path = experiment_file("[sweep]\ntask = 'sine'\nfrequency = 0.2\n")
    assert read(path, {"task": "sine"}).grid["frequency"] == (0.2,)
    assert read(path, {"cell": "elman"}).grid["frequency"] == (0.2,)


def test_loss_that_does_not_fit_another_task_is_refused_where_it_stands(experiment_file):
    path = experiment_file("[sweep]\nloss = 'mse'\nseq_len = 20\n")
    with pytest.raises(
        InputError, match=f"^{re.escape(str(path))}, line 2, loss: .*task text 'mse'; allowed: cross_ent"
    ):
        read(path, {"task": "text"})
    assert read(path, {"task": "text", "loss": "cross_entropy"}).runs[0]["loss"] == "cross_entropy"


def test_data_file_that_is_missing_is_named(experiment_file):
    path = experiment_file("[sweep]\ntask = 'series'\nseq_len = 5\nfile = 'nowhere.csv'\n")
    with pytest.raises(InputError, match=r"nowhere\.csv: cannot read data file: No such file"):
        read(path)


def test_lines_of_a_statement_with_many_lines_are_its_first(experiment_file):
    many = "\n".join(f"  {seed},  # = {seed}" for seed in range(50))
    path = experiment_file(f"[sweep]\nseeds = [\n{many}\n]\n# seq_len = 1\n\nseq_len = 0\n")
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}, line 56, seq_len: 0"):
        read(path)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}, line 2, seeds: '?x'?"):
        read(experiment_file(f"[sweep]\nseeds = [\n{many}\n 'x']\n"))
