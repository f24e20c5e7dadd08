"""Small sweeps that the tests of this folder share."""

from __future__ import annotations

import pytest
from small_sweep import SMALL

import gradscope as gs


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The results of a small sweep with everything that the figures need; not to be changed."""
    return gs.sweep("spectral-radius", out=tmp_path_factory.mktemp("small") / "out", overrides=SMALL, jobs=1)


@pytest.fixture(scope="session")
def costed(tmp_path_factory):
    """A small sweep with draws of coins, minibatches and clips; not to be changed."""
    overrides = SMALL | {
        "activation": "tanh",
        "seq_len": 12,
        "truncation": ["full", "fixed:2", "fixed:3", "fixed:6", "random:4", "random-unweighted:4", "variable:6:1:0.9"],
        "clip": ["off", "norm:0.1", "norm:1", "norm:10", "value:0.1", "value:1", "value:10"],
        "draws": 9,
        "minibatches": 20,
        "seeds": 3,
    }
    return gs.sweep("spectral-radius", out=tmp_path_factory.mktemp("costed") / "out", overrides=overrides, jobs=1)


@pytest.fixture(scope="session")
def balancing(tmp_path_factory):
    """Influence balancing, shorter: strategies that converge, diverge, and throw coins; not to be changed."""
    overrides = {
        "iterations": [1, 500, 3000],
        "truncation": ["full", "chunked:10", "chunked:100", "random:16", "random:64"],
        "seq_len": 2,
        "seeds": 3,
    }
    return gs.sweep("influence-balancing", tmp_path_factory.mktemp("balancing") / "out", overrides=overrides, jobs=1)


@pytest.fixture(scope="session")
def orthogonal(tmp_path_factory):
    """Linear networks with orthogonal W_hh: gradients change by the spectral radius at each step, exactly."""
    overrides = SMALL | {
        "activation": "linear",
        "ensemble": "orthogonal",
        "spectral_radius": [0.8, 0.9, 1.1, 1.2],
        "seq_len": [20, 40],
        "seeds": 3,
    }
    return gs.sweep("spectral-radius", out=tmp_path_factory.mktemp("orthogonal") / "out", overrides=overrides, jobs=1)


@pytest.fixture(scope="session")
def training(tmp_path_factory):
    """A short training on a sine wave without noise; not to be changed."""
    keys = {"hidden_size": 16, "seq_len": 20, "batch_size": 8, "steps": 120, "record_every": 20, "learning_rate": 0.01}
    return gs.train("sine", tmp_path_factory.mktemp("training") / "out", **keys)


@pytest.fixture(scope="session")
def trainings(tmp_path_factory):
    """A small sweep of trainings that have to remember, of which some diverge; not to be changed."""
    overrides = {
        "measure": "training",
        "task": "recall",
        "delay": [1, 3],
        "truncation": ["full", "fixed:2"],
        "optimizer": "sgd",
        "learning_rate": [0.1, 1e4],
        "clip": "off",
        "hidden_size": 6,
        "seq_len": 8,
        "batch_size": 4,
        "steps": 40,
        "record_every": 20,
        "seeds": 3,
    }
    folder = tmp_path_factory.mktemp("trainings")
    experiment = folder / "recall.toml"
    experiment.write_text('[sweep]\nname = "recall"\n', encoding="utf-8")
    return gs.sweep(experiment, folder / "out", overrides=overrides, jobs=1)


@pytest.fixture(scope="session")
def jacobians(tmp_path_factory):
    """A small sweep of Jacobians, with inputs strong enough that tanh networks vanish at 1.1; not to be changed."""
    overrides = {
        "activation": ["tanh", "linear"],
        "ensemble": ["gaussian", "orthogonal"],
        "spectral_radius": [0.7, 1.1, 1.5],
        "input_scale": 0.5,
        "hidden_size": 6,
        "seq_len": 60,
        "washout": 10,
        "trajectories": 2,
        "batch_size": 3,
        "seeds": 3,
    }
    folder = tmp_path_factory.mktemp("jacobians")
    experiment = folder / "jacobians.toml"
    experiment.write_text('[sweep]\nmeasure = "jacobian"\n', encoding="utf-8")
    return gs.sweep(experiment, folder / "out", overrides=overrides, jobs=1)


@pytest.fixture(scope="session")
def celled(tmp_path_factory):
    """Cells at equal cost, losses at single steps, one |lambda| of diagonal ones; not to be changed."""
    overrides = {
        "cell": ["elman", "lstm", "diagonal"],
        "forget_bias": [0.0, 2.0],
        "ring": 1.0,
        "match": "parameters",
        "hidden_size": 6,
        "spectral_radius": [0.5, 0.8, 0.9],
        "seq_len": 10,
        "truncation": "full",
        "loss_steps": ["last", "2", "5", "8", "all"],
        "batch_size": 1,
        "input_size": 2,
        "seeds": 3,
    }
    return gs.sweep("cells", tmp_path_factory.mktemp("celled") / "out", overrides=overrides, jobs=1)
