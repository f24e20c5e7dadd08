"""Guards that a missing peer is told, and is an error where it is required: a comparison never drops out in silence."""

import os
import subprocess
import sys

import pytest

HIDE = """
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else real(name, *rest)
"""


@pytest.fixture
def without_torch(tmp_path, request):
    """Run pytest on tests/peers where PyTorch cannot be found."""
    (tmp_path / "hide_torch.py").write_text(HIDE)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])

    def run(*options):
        command = [sys.executable, "-m", "pytest", "-p", "hide_torch", "-p", "no:cacheprovider", "--collect-only"]
        return subprocess.run(
            [*command, *options, "tests/peers"],
            cwd=request.config.rootpath,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_missing_peer_is_told(without_torch):
    run = without_torch()
    assert run.returncode == 0
    assert "not run: PyTorch comparisons (PyTorch is not installed)" in run.stdout
    assert "test_torch" not in run.stdout


def test_missing_peer_that_is_required_is_an_error(without_torch):
    run = without_torch("--require", "torch")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--require torch: PyTorch is not installed" in run.stderr
