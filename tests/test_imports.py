"""The layers: gradscope and its help load nothing heavy, and the numerical core runs where there is only NumPy."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("numpy", "scipy", "pandas", "pyarrow", "matplotlib", "seaborn", "jinja2", "rich", "msgspec")

BARE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import numpy as np
import gradscope as gs
from gradscope import engine, plan, runs

cell = gs.cell("elman", hidden_size=4, input_size=2, output_size=1)
params = cell.init(seed=0, spectral_radius=1.0)
g = gs.backprop(cell, params, np.ones((5, 3, 2)), np.zeros((5, 3, 1)), truncation="fixed:2")
assert np.isfinite(g.log10_dh[-1]).all()
common = dict(cell="elman", activation="tanh", ensemble="gaussian", hidden_size=4, task="noise", input_scale=0.1,
    loss="mse", batch_size=2, dtype="float64", input_size=2, output_size=1)
block = runs.Block(common, (runs.Network(1.0, 0),), (runs.Setting(5, "full", "last", "mean"),))
(shard,) = plan.shards([block])
measured = engine.measure(shard.blocks[0].runs)
assert list(measured.columns["status"]) == ["ok"]
"""


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_importing_gradscope_loads_nothing_heavy():
    ran = python(f"import sys, gradscope, gradscope.cli; print(*(set({HEAVY}) & set(sys.modules)))")
    assert (ran.returncode, ran.stdout.strip()) == (0, ""), ran.stderr


def test_the_core_measures_a_run_with_numpy_alone():
    ran = python(BARE.format(absent=set(HEAVY) - {"numpy"} | {"click"}))
    assert ran.returncode == 0, ran.stderr


def test_a_name_that_is_not_public_is_an_attribute_error():
    ran = python("import gradscope; gradscope.nothing")
    assert "AttributeError: module 'gradscope' has no attribute 'nothing'" in ran.stderr
