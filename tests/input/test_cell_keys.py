"""Guards the keys that cells, ensembles and Jacobians brought: what contradicts is refused, what does not apply is left
out.
"""

import pytest

import gradscope as gs
from gradscope.experiment import read
from gradscope.grid import resolve

JACOBIAN = {"measure": "jacobian", "seq_len": 120, "hidden_size": 8}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"ensemble": "delay-line"},
            r"^spectral_radius: 1.0, but ensemble delay-line has spectral radius 0; allowed: 0",
        ),
        (
            {"ensemble": ["gaussian", "delay-line:2"], "spectral_radius": [0.0, 0.5]},
            r"^spectral_radius: 0.5, but ensemble delay-line:2 has spectral radius 0",
        ),
        ({"ensemble": "low-rank:9", "hidden_size": 8}, r"^hidden_size: 8, but ensemble low-rank:9 needs at least 9"),
        ({"cell": "diagonal"}, r"^spectral_radius: 1.0, but .* stable, \|lambda\| < 1; allowed: a number > 0 and < 1"),
        ({"cell": "diagonal", "spectral_radius": 0.9, "hidden_size": 7}, r"^hidden_size: 7.*even"),
        (
            {"cell": "irnn", "ensemble": "gaussian"},
            r"^ensemble: gaussian for cell irnn; allowed: identity; remove the key",
        ),
        ({"cell": "lstm", "activation": "tanh"}, r"^activation: is an option of none of the cells and tasks chosen"),
        ({"cell": "lstm", "forget_bias": 2.0, "chrono": 9}, r"^forget_bias: 2.0 beside chrono.*leave out one of them"),
        ({"cell": "gru", "chrono": 1}, r"^chrono: 1; allowed: 0, or the longest memory"),
        (JACOBIAN | {"exponents": 9}, r"^exponents: 9, but the state of cell elman has 8 numbers; allowed: at most 8"),
        (JACOBIAN | {"cell": "lstm", "exponents": 17}, r"^exponents: 17, but the state of cell lstm has 16 numbers"),
        (
            JACOBIAN | {"seq_len": 100},
            r"^seq_len: 100 steps, but the first and the last 50 are left out.*lower washout",
        ),
        (JACOBIAN | {"tied": False, "cell": "lstm"}, r"^tied: false, for cell lstm; allowed: a cell with one W_hh"),
        (JACOBIAN | {"tied": "no"}, r"^tied: 'no'; allowed: true or false"),
        ({"tied": False}, r"^tied: is not a key of what is measured; it is one of measure = \"jacobian\""),
        (
            JACOBIAN | {"batch_size": 2, "trajectories": 3},
            r"^trajectories: 3, but there are 2 examples; allowed: at most the batch_size, 2",
        ),
        (
            {"measure": "jacobian", "task": "influence-balancing"},
            r"^measure: task influence-balancing has measurements",
        ),
    ],
    ids=lambda case: str(case)[:50] if isinstance(case, dict) else "",
)
def test_what_contradicts_is_refused(given, message):
    with pytest.raises(gs.InputError, match=message):
        resolve("test", given)


def test_each_cell_has_the_options_that_apply_to_it_and_its_own_ensemble():
    grid = {"cell": ["elman", "irnn", "diagonal", "lstm"], "spectral_radius": 0.9, "ensemble": ["gaussian", "uniform"]}
    runs = resolve("test", grid | {"forget_bias": [0.0, 1.0]}).runs
    found = [(run["cell"], run["ensemble"], run.parameters.get("forget_bias")) for run in runs]
    assert sorted(found, key=str) == [
        ("diagonal", "ring", None),
        ("elman", "gaussian", None),
        ("elman", "uniform", None),
        ("irnn", "identity", None),
        *[("lstm", ensemble, bias) for ensemble in ("gaussian", "uniform") for bias in (0.0, 1.0)],
    ]


def test_another_cell_of_an_experiment_drops_the_ensemble_that_it_cannot_have():
    runs = read("spectral-radius", {"cell": "diagonal", "spectral_radius": 0.9}).runs
    assert {run["ensemble"] for run in runs} == {"ring"}
    kept = read("spectral-radius", {"cell": ["diagonal", "gru"], "spectral_radius": 0.9}).runs
    assert {run["ensemble"] for run in kept} == {"ring", "gaussian"}


def test_cells_are_matched_with_an_elman_network_of_the_hidden_size_that_is_given():
    grid = {"cell": ["elman", "lstm", "gru", "diagonal"], "hidden_size": 64, "spectral_radius": 0.9, "match": "state"}
    assert {run["cell"]: run["hidden_size"] for run in resolve("test", grid).runs} == {
        "elman": 64,
        "lstm": 32,
        "gru": 64,
        "diagonal": 64,
    }
