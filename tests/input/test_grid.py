"""Guards the grid: defaults, canonical forms, the product, what applies to a run, ids that depend on values alone."""

import itertools
import math
import re
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope import plugins, tasks, truncations
from gradscope.errors import InputError
from gradscope.experiment import read
from gradscope.grid import BASE, resolve
from gradscope.runs import ADDED, NUMERICS_VERSION, Run

DEFAULTS = {
    "cell": "elman",
    "activation": "tanh",
    "ensemble": "gaussian",
    "hidden_size": 64,
    "spectral_radius": 1.0,
    "num_layers": 1,
    "match": "units",
    "seq_len": 100,
    "truncation": "full",
    "task": "noise",
    "input_scale": 0.1,
    "loss": "mse",
    "loss_steps": "last",
    "reduction": "mean",
    "clip": "off",
    "batch_size": 16,
    "draws": 0,
    "minibatches": 0,
    "dtype": "float64",
    "input_size": 16,
    "output_size": 1,
    "seed": 0,
}


def ids(given):
    return [run.run_id for run in resolve("test", given).runs]


def only_run(given):
    (run,) = resolve("test", given).runs
    return run


# --- runs ------------------------------------------------------------------------------------------------------------


def test_defaults():
    assert only_run({}).parameters == DEFAULTS


def test_run_id_is_the_hash_of_the_parameters_and_the_numerics():
    content = f'[{NUMERICS_VERSION},{{"a":0.5,"b":1,"c":"x"}}]'
    assert Run({"b": 1, "c": "x", "a": 0.5}).run_id == sha256(content.encode()).hexdigest()[:16]


def test_runs_are_in_the_order_of_the_lists():
    runs = resolve("test", {"seeds": [4, 2], "spectral_radius": [1.5, 0.5]}).runs
    assert [(run["spectral_radius"], run["seed"]) for run in runs] == [(1.5, 4), (1.5, 2), (0.5, 4), (0.5, 2)]


LISTS = {
    "activation": ["tanh", "linear", "relu", "sigmoid"],
    "ensemble": ["gaussian", "orthogonal", "identity", "uniform"],
    "hidden_size": [4, 8, 16],
    "spectral_radius": [0.0, 0.5, 1.0, 1.5],
    "seq_len": [10, 20, 30],
    "truncation": ["full", "fixed:5", "chunked:5", "random:5"],
    "input_scale": [0.1, 1.0],
    "loss": ["mse", "cross_entropy"],
    "loss_steps": ["last", "all", 3, [1, 10]],
    "reduction": ["mean", "sum"],
    "batch_size": [1, 2, 3],
    "dtype": ["float64", "float32"],
    "input_size": [1, 2],
    "output_size": [2, 3],
    "seeds": [0, 1, 2, 3],
}


@st.composite
def grids(draw):
    """Some keys with some of their values, in any order."""
    keys = draw(st.permutations(sorted(LISTS)))[: draw(st.integers(0, 6))]
    chosen = {key: draw(st.permutations(LISTS[key]))[: draw(st.integers(1, 3))] for key in keys}
    return chosen if "output_size" in chosen else chosen | {"output_size": [2]}  # enough classes for cross_entropy


@given(given=grids())
def test_grid_is_the_product_of_its_lists(given):
    sweep = resolve("test", given)
    assert len(sweep.runs) == math.prod(map(len, given.values()))
    assert len({run.run_id for run in sweep.runs}) == len(sweep.runs)
    for key, values in given.items():
        name = "seed" if key == "seeds" else key
        assert len({run[name] for run in sweep.runs}) == len(values)


@given(given=grids(), data=st.data())
def test_ids_do_not_depend_on_the_order_of_keys_or_values(given, data):
    keys = data.draw(st.permutations(sorted(given)))
    shuffled = {key: data.draw(st.permutations(given[key])) for key in keys}
    assert set(ids(shuffled)) == set(ids(given))


# --- run ids do not depend on how values are written -----------------------------------------------------------------

NUMBERS = st.integers(0, 3000).map(lambda thousandths: thousandths / 1000)
TAUS = st.integers(2, 60)
POINTS = st.fixed_dictionaries(
    {
        "spectral_radius": NUMBERS,
        "input_scale": NUMBERS,
        "noise": NUMBERS,
        "frequency": NUMBERS,
        "phase": NUMBERS | st.just("random"),
        "hidden_size": st.integers(1, 99),
        "seq_len": st.integers(20, 2000),
        "truncation": st.builds("{}:{}".format, st.sampled_from(["fixed", "chunked", "random"]), TAUS)
        | st.just("full"),
        "loss_steps": st.sampled_from(["last", "all"]) | st.sets(st.integers(1, 20), min_size=1).map(sorted),
    }
)


def spelled(value, draw):
    """A value as TOML, in one of the ways in which people write it."""
    if isinstance(value, float):
        texts = [f"{value!r}", f"+{value:.3f}", f"{value:.3e}", f"{value:.5E}", f"{value * 1000:.1f}e-3"]
        return draw(st.sampled_from(texts + [str(int(value))] * value.is_integer()))
    if isinstance(value, int):
        return draw(st.sampled_from([str(value), f"+{value}", hex(value), oct(value)]))
    if isinstance(value, list):
        return f"[[{', '.join(str(step) for step in draw(st.permutations(value)))}]]"
    name, _, tau = value.partition(":")
    spellings = [tau, f"0{tau}", f"+{tau}"] + [f"{tau}.0", f"{tau}e0"] * (name == "random") if tau else [""]
    quote = draw(st.sampled_from("'\""))
    return quote + ":".join(filter(None, [name, draw(st.sampled_from(spellings))])) + quote


def written(point, draw):
    """The experiment file of one point."""
    lines = [f"{key} = {spelled(value, draw)}" for key, value in point.items()]
    if draw(st.booleans()):
        lines = [f"{line.split(' = ')[0]} = [{line.split(' = ')[1]}]" if "[" not in line else line for line in lines]
    return "\n".join(["[sweep]", "task = 'sine'", *draw(st.permutations(lines))])


@given(point=POINTS, data=st.data())
def test_run_id_does_not_depend_on_key_order_or_number_formatting(tmp_path_factory, point, data):
    path = tmp_path_factory.getbasetemp() / "spelled.toml"
    path.write_text(written(point, data.draw), encoding="utf-8")
    as_values = {key: [value] if isinstance(value, list) else value for key, value in point.items()}
    assert [run.run_id for run in read(path).runs] == ids({"task": "sine", **as_values})


@given(points=st.lists(POINTS, min_size=2, max_size=5, unique_by=str))
def test_different_points_have_different_ids(points):
    as_values = [{key: [v] if isinstance(v, list) else v for key, v in point.items()} for point in points]
    found = [only_run({"task": "sine", **point}).run_id for point in as_values]
    assert len(set(found)) == len(points)


def test_every_parameter_counts_for_the_id():
    changed = {key: values[1] for key, values in LISTS.items() if key != "seeds"} | {"seeds": [1]}
    changed |= {"draws": 5, "minibatches": 3, "clip": "norm:1", "num_layers": 2, "match": "parameters"}
    assert {"seed" if key == "seeds" else key for key in changed} >= BASE.keys() - {"cell", "task"}
    classes = {"output_size": 2}
    found = {only_run(classes | {key: value}).run_id for key, value in (changed | {"output_size": 3}).items()}
    assert len(found | {only_run(classes).run_id}) == len(changed) + 1


def test_what_adds_nothing_does_not_count_for_the_id():
    """Runs that were measured before there were draws and clips are the same runs still."""
    assert only_run({"draws": 0, "minibatches": 0, "clip": "off"}).run_id == only_run({}).run_id
    plain = {key: value for key, value in DEFAULTS.items() if key not in ADDED}
    assert Run(plain).run_id == only_run({}).run_id


def test_clips_are_measured_on_minibatches():
    sweep = resolve("test", {"clip": ["off", "norm:1", "value:5.0"]})
    assert [run["clip"] for run in sweep.runs] == ["off", "norm:1", "value:5"]
    assert {run["minibatches"] for run in sweep.runs} == {100}
    assert sweep.notes == ("minibatches = 100: clip is measured on so many",)
    assert resolve("test", {"clip": "norm:1", "minibatches": 7}).notes == ()
    with pytest.raises(InputError, match="minibatches: 0, but clip is measured on minibatches; allowed: at least 2"):
        resolve("test", {"clip": "norm:1", "minibatches": 0})
    with pytest.raises(
        InputError, match=r"clip: 'norm:0': theta: must be a finite number above 0, not 0\.0; allowed: norm:"
    ):
        resolve("test", {"clip": "norm:0"})
    with pytest.raises(InputError, match="minibatches: 1 says nothing of how much another would differ"):
        resolve("test", {"minibatches": 1})


@pytest.mark.parametrize(
    ("key", "spellings", "canonical"),
    [
        ("truncation", ["fixed:5", "fixed:05", "fixed:+5"], "fixed:5"),
        ("truncation", ["random:20", "random:20.0", "random:2e1", "random:020"], "random:20"),
        ("truncation", ["random:2.5", "random:2.50", "random:25e-1"], "random:2.5"),
        ("truncation", ["tbptt:2:10", "tbptt:02:010"], "tbptt:2:10"),
        ("truncation", ["fixed:1000000000000000"], "fixed:1000000000000000"),
        ("truncation", ["fixed:123456789012345678"], "fixed:123456789012345678"),
        ("loss_steps", [[[10, 5]], [[5, 10]], "5,10"], "5,10"),
        ("loss_steps", ["10,5"], "5,10"),
        ("loss_steps", ["5, 10"], "5,10"),
        ("loss_steps", [5, "5", "05", [[5]]], "5"),
        ("loss_steps", ["last", ["last"]], "last"),
        ("spectral_radius", [1, 1.0, [1], np.float64(1)], 1.0),
        ("spectral_radius", [0, 0.0, -0.0], 0.0),
        ("hidden_size", [8, [8], np.int64(8)], 8),
    ],
)
def test_one_thing_has_one_form_and_one_id(key, spellings, canonical):
    runs = [only_run({key: spelling}) for spelling in spellings]
    assert {run[key] for run in runs} == {canonical}
    assert len({run.run_id for run in runs}) == 1


@given(name=st.sampled_from(plugins.names(truncations.FAMILY)), taus=st.tuples(*[st.integers(2, 10**20)] * 2))
def test_canonical_truncation_can_be_read_again(name, taus):
    arguments = {"full": [], "tbptt": sorted(taus), "artbp": [taus[0], taus[1] + 1], "variable": [*taus, 1]}
    spec = plugins.spec_of(truncations.truncation(":".join([name, *map(str, arguments.get(name, taus[:1]))])))
    assert plugins.spec_of(truncations.truncation(spec)) == spec


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("truncation", ["fixed:5", "full", "fixed:05"]),
        ("truncation", ["random:20", "random:20.0"]),
        ("loss_steps", [[1, 5], [5, 1]]),
        ("loss_steps", [5, "5"]),
        ("spectral_radius", [1, 1.0]),
        ("spectral_radius", [0.0, -0.0]),
    ],
)
def test_one_thing_in_two_forms_is_listed_twice(key, values):
    with pytest.raises(InputError, match=f"^{key}: .*is listed twice"):
        resolve("test", {key: values})


# --- what applies to a run -------------------------------------------------------------------------------------------


def test_runs_hold_the_options_that_apply_and_no_others():
    runs = resolve("test", {"task": ["noise", "sine"], "frequency": [0.1, 0.2], "output_size": [2, 3]}).runs
    assert len(runs) == 4  # two noises, which have no frequency, and two sines, which have their own sizes
    for run in runs:
        options = {"noise": set(), "sine": {"frequency", "phase", "noise"}}[run["task"]]
        assert run.parameters.keys() == DEFAULTS.keys() | options
        assert options or run["output_size"] in (2, 3)
        assert not options or (run["input_size"], run["output_size"]) == (1, 1)


def test_loss_is_the_task_s_own_if_not_given():
    runs = resolve("test", {"task": ["sine", "text", "noise"], "seq_len": 20}).runs
    assert {run["task"]: run["loss"] for run in runs} == {"sine": "mse", "text": "cross_entropy", "noise": "mse"}


def test_default_written_out_is_the_same_run():
    assert ids({"task": "sine"}) == ids({"task": "sine", "frequency": 0.05, "phase": "random", "loss": "mse"})
    assert ids({"task": "sine"}) == ids({"task": "sine", "input_size": 1, "output_size": 1})
    assert ids({"task": "sine"}) == ids({"task": "sine", "input_size": [1]})


def test_run_gives_its_task_and_its_cell_with_the_sizes():
    run = only_run({"task": "sine", "frequency": 0.2, "activation": "relu", "hidden_size": 7})
    assert run.task() == tasks.task("sine", frequency=0.2)
    cell = run.cell()
    assert (cell.hidden_size, cell.input_size, cell.output_size, cell.activation) == (7, 1, 1, "relu")


def test_runs_that_differ_in_radius_length_or_truncation_have_the_same_inputs_and_targets():
    lists = {"spectral_radius": [0.5, 1.5], "seq_len": [10, 20], "truncation": ["full", "fixed:5"], "seeds": 2}
    drawn = {}
    for run in resolve("test", lists | {"task": ["noise", "sine"]}).runs:
        x, y, _ = run.task().draw(run["seed"], run["seq_len"], run["batch_size"], run["loss"])
        drawn.setdefault((run["task"], run["seed"]), set()).add((x[:10].tobytes(), y[:10].tobytes()))
    assert [len(batches) for batches in drawn.values()] == [1] * 4


def test_run_holds_what_its_data_are(tmp_path):
    for name, content in (("a.txt", "abcabcabc"), ("b.txt", "abcabcabd")):
        (tmp_path / name).write_text(content, encoding="utf-8")
    given = {"task": "text", "file": [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")], "seq_len": 4}
    sweep = resolve("test", given)
    assert [run["data"] for run in sweep.runs] == [
        sha256(content).hexdigest()[:16] for content in (b"abcabcabc", b"abcabcabd")
    ]
    assert [(run["input_size"], run["output_size"]) for run in sweep.runs] == [(3, 3), (4, 4)]
    assert sorted(sweep.data) == ["text a.txt", "text b.txt"]


@pytest.mark.parametrize("name", plugins.names(tasks.FAMILY))
def test_sweep_records_its_data(name):
    sweep = resolve("test", {"task": name, "seq_len": 30})
    assert [record["normalised"] for record in sweep.data.values()] == [tasks.task(name).record()["normalised"]]


def test_hash_names_the_grid():
    grids = [{}, {"seeds": 2}, {"seq_len": 20}]
    assert len({resolve("a", given).hash for given in grids}) == 3
    assert resolve("a", {"spectral_radius": 1}).hash == resolve("b", {"spectral_radius": 1.0}).hash


# --- what cannot be --------------------------------------------------------------------------------------------------

TRUNCATIONS = "allowed: .*chunked.*fixed.*full.*random.*tbptt"
BAD = {
    "cell": [("elmann", "unknown cell 'elmann'; allowed: .*elman.*did you mean 'elman'"), (3, "3; allowed: text")],
    "activation": [("tnah", "unknown activation 'tnah'; allowed: .*relu.*did you mean 'tanh'"), ([], "empty list")],
    "ensemble": [
        ("gausian", "unknown ensemble 'gausian'; allowed: .*did you mean 'gaussian'"),
        ("uniform:3", "'uniform:3' has 1 argument.*takes 0; allowed: .*uniform"),
    ],
    "hidden_size": [(0, "0; allowed: a whole number >= 1"), ("64", "'64'; allowed: a whole number")],
    "spectral_radius": [(-0.1, "-0.1; allowed: a number >= 0"), (float("nan"), "nan.*allowed: a")],
    "num_layers": [(0, "0; allowed: a whole number >= 1"), (1.5, "1.5; allowed: a whole number")],
    "match": [
        ("units:3", "unknown match 'units:3'; allowed: .*parameters.*did you mean 'units'"),
        (1, "1; allowed: text"),
    ],
    "seq_len": [(0, "0; allowed: a whole number >= 1"), ([20, 0], "0; allowed"), (1.5, "1.5; allowed: a whole number")],
    "truncation": [
        ("fixd:5", f"unknown truncation 'fixd'; {TRUNCATIONS}.*did you mean 'fixed'"),
        ("", f"unknown truncation ''; {TRUNCATIONS}"),
        ("fixed", f"'fixed' has 0 argument.*takes 1; {TRUNCATIONS}:K1:K2"),
        ("fixed:", f"'fixed:': tau must be a whole number, not ''; {TRUNCATIONS}"),
        ("fixed:5.5", f"tau must be a whole number, not '5.5'; {TRUNCATIONS}"),
        ("fixed:0", f"'fixed:0': tau: must be at least 1, not 0; {TRUNCATIONS}"),
        ("chunked:-2", "at least 1, not -2"),
        ("full:5", "'full:5' has 1 argument.*takes 0"),
        ("tbptt:5", "'tbptt:5' has 1 argument.*takes 2"),
        ("tbptt:5:2", f"'tbptt:5:2': K2 must be at least K1.*2 < 5; {TRUNCATIONS}"),
        ("random:1", "'random:1': TAU must be above 1"),
        ("random:0.5", "at least 1, not 0.5"),
        ("random:0.99999999", "at least 1, not 0.99999999"),
        ("random:nan", "at least 1, not nan"),
        ("random:inf", "'random:inf': .*inf"),
        ("random:many", "tau must be a number, not 'many'"),
        (["full", 5], "5; allowed: text"),
    ],
    "task": [("serie", "unknown task 'serie'; allowed: .*noise, .*series, sine, .*text; did you mean 'series'")],
    "input_scale": [(-1, "-1; allowed: a number >= 0"), (float("inf"), "inf is not finite")],
    "loss": [
        ("mae", "unknown loss 'mae'; allowed: cross_entropy, mse; did you mean 'mse'"),
        ("", "''; allowed: .*cross_entropy, mse|''; allowed: mse, cross_entropy"),
    ],
    "loss_steps": [
        ("first", '\'first\' names no steps; allowed: "last", "all", or .*from 1 to seq_len = 100'),
        (0, "'0' does not fit; allowed: .*from 1 to seq_len = 100"),
        (101, "'101' does not fit"),
        ([[]], "names no steps"),
        ([[5, 5]], "'5,5' does not fit; allowed: .*distinct"),
        (2.5, "2.5; allowed: "),
        (10**30, "allowed: .*from 1 to seq_len = 100"),
    ],
    "reduction": [("maen", "unknown reduction 'maen'; allowed: mean, sum; did you mean 'mean'")],
    "batch_size": [(0, "0; allowed: a whole number >= 1")],
    "dtype": [("float16", "unknown dtype 'float16'; allowed: float32, float64; did you mean 'float64'|'float32'")],
    "seeds": [
        (0, "0; allowed: a number of seeds >= 1, or a list"),
        ([], "empty list"),
        ([1, -1], "-1; allowed: a whole number >= 0"),
        ([1, 1], "1 is listed twice"),
        ([True], "True; allowed: a whole number"),
    ],
    "clip": [
        ("nrm:1", "unknown clip 'nrm'; allowed: .*did you mean 'norm'"),
        ("norm:-1", "'norm:-1': theta: must be a finite number above 0, not -1.0; allowed: norm:THETA"),
        ("value", "'value' has 0 argument.*takes 1"),
    ],
    "draws": [(1, "1 says nothing.*allowed: 0, or at least 2"), (-1, "-1; allowed: a whole number >= 0")],
    "minibatches": [(1, "1 says nothing.*allowed: 0, or at least 2"), (0.5, "0.5; allowed: a whole number")],
    "input_size": [(0, "at least 1, not 0"), ("a", "'a'; allowed: a whole number")],
    "output_size": [(-1, "at least 1, not -1")],
    "frequency": [(0.1, "option of none of the cells and tasks chosen; remove it")],
    "seed": [(1, "unknown key 'seed'; allowed: .*did you mean 'seeds'")],
    "spectral_radios": [(1, "unknown key 'spectral_radios'; allowed: .*did you mean 'spectral_radius'")],
    "data": [("x", "unknown key 'data'; allowed: .*activation.*truncation")],
}


def test_every_key_has_a_bad_value():
    assert set(DEFAULTS) - {"seed"} | {"seeds"} <= set(BAD)


@pytest.mark.parametrize(
    ("key", "value", "message"), [(key, value, message) for key, values in BAD.items() for value, message in values]
)
def test_value_that_cannot_be_is_refused_where_it_stands(key, value, message):
    with pytest.raises(InputError, match=f"^mine.toml, line 3, {key}: .*{message}"):
        resolve("test", {"reduction": "mean", key: value}, {key: f"mine.toml, line 3, {key}"})


BAD_FOR_TASK = [
    ("sine", "noise", -0.1, "must be at least 0, not -0.1"),
    ("sine", "frequency", float("inf"), "inf is not finite"),
    ("sine", "phase", "randm", "'randm'; allowed: .*'random'"),
    ("sine", "loss", "cross_entropy", "unknown loss for task sine 'cross_entropy'; allowed: mse"),
    ("sine", "input_size", 16, "16, but task sine has 1; remove the key"),
    ("sine", "output_size", 2, "2, but task sine has 1; remove the key"),
    ("sine", "input_size", [1, 2], "task sine has 1"),
    ("sine", "input_size", True, "True"),
    ("sine", "file", "prices.csv", "option of none of the cells and tasks chosen; remove it"),
    ("series", "frequency", 0.1, "option of none of the cells and tasks chosen; remove it"),
    ("series", "loss", "cross_entropy", "unknown loss for task series 'cross_entropy'; allowed: mse"),
    ("series", "seq_len", [20, 5000], "5000 steps are more than task series has data for; allowed: at most 523"),
    ("series", "file", 5, "5; allowed: text"),
    ("text", "loss", "mse", "unknown loss for task text 'mse'; allowed: cross_entropy"),
    ("text", "input_size", 3, "3, but task text has 1[0-9]+; remove the key"),
    ("text", "column", "price", "option of none of the cells and tasks chosen; remove it"),
]


@pytest.mark.parametrize(("task", "key", "value", "message"), BAD_FOR_TASK)
def test_value_that_does_not_fit_the_task_is_refused_where_it_stands(task, key, value, message):
    with pytest.raises(InputError, match=f"^mine.toml, line 3, {key}: .*{message}"):
        resolve("test", {"task": task, key: value}, {key: f"mine.toml, line 3, {key}"})


def test_one_task_of_several_is_enough_to_refuse_a_value():
    with pytest.raises(InputError, match=r"^loss: unknown loss for task sine 'cross_entropy'"):
        resolve("test", {"task": ["noise", "sine"], "loss": "cross_entropy", "output_size": 2})


@pytest.mark.parametrize("key", ["hidden_size", "seq_len", "batch_size", "input_size", "output_size"])
def test_size_beyond_any_array_is_refused(key):
    with pytest.raises(InputError, match=f"^{key}: "):
        resolve("test", {key: 10**20})


@pytest.mark.parametrize(("short", "steps"), list(itertools.product([5, 9], [10, [2, 10]])))
def test_loss_steps_must_fit_the_shortest_sequence(short, steps):
    with pytest.raises(InputError, match=f"^loss_steps: .*does not fit; allowed: .*from 1 to seq_len = {short}"):
        resolve("test", {"seq_len": [20, short], "loss_steps": [steps]})


def test_cross_entropy_needs_two_classes():
    with pytest.raises(InputError, match=r"^output_size: 1; allowed: >= 2 classes for cross_entropy"):
        resolve("test", {"loss": "cross_entropy"})
    assert resolve("test", {"loss": "cross_entropy", "output_size": 2}).runs


@pytest.mark.parametrize("key", ["spectral_radius", "input_scale"])
@pytest.mark.parametrize("value", [1e-31, 1e31, 1e200])
def test_scales_that_need_float64_are_refused_in_float32(key, value):
    message = f"{key}: {value:g} needs float64; allowed: 0, or 1e-30 to 1e+30 with dtype float32; set dtype"
    for dtypes in ("float32", ["float64", "float32"]):
        with pytest.raises(InputError, match=re.escape(message)):
            resolve("test", {key: value, "dtype": dtypes})
    assert resolve("test", {key: value}).runs
    assert resolve("test", {key: 0, "dtype": "float32"}).runs
