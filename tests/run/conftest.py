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
