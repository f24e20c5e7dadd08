"""Guards that missing browser tests are told, with what to install, and are an error where they are required."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def without_chromium(request):
    """Run pytest on this folder where no program can be found."""

    def run(*options):
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "--collect-only",
            *options,
            "tests/browser",
        ]
        return subprocess.run(
            command,
            cwd=request.config.rootpath,
            env=os.environ | {"PATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_missing_browser_is_told(without_chromium):
    run = without_chromium()
    assert run.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert (
        "not run: tests in a real browser (Chromium is not installed: on Debian, apt-get install chromium)"
        in run.stdout
    )
    assert "test_page" not in run.stdout


def test_missing_browser_that_is_required_is_an_error(without_chromium):
    run = without_chromium("--require", "chromium")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--require chromium: Chromium is not installed" in run.stderr
