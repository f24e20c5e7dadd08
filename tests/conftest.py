"""For all tests: how Hypothesis draws (the same examples everywhere), and what is reported if it did not run.

Comparisons with another program stand in files of their own, `tests/peers/test_<module>[_what].py`, and tests in a real
browser in `tests/browser`. Without that program they are not collected, and the summary says so; `--require NAME` makes
its absence an error.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

PEERS = {"jax": "JAX", "torch": "PyTorch"}  # module -> the name people know it by
BROWSERS = ("chromium", "chromium-browser", "google-chrome")  # the same program, as it is named here and there
NOT_RUN = pytest.StashKey[dict[str, str]]()

settings.register_profile("gradscope", deadline=None, derandomize=True, database=None, max_examples=40)
settings.load_profile("gradscope")


def asks_for(path: Path) -> tuple[str, str] | None:
    """The peer or program without which tests cannot run, and what those tests are; None if they need nothing."""
    if path.parent == Path(__file__).parent / "browser":
        return "chromium", "tests in a real browser"
    peer = path.stem.removeprefix("test_").partition("_")[0]
    return (peer, f"{PEERS[peer]} comparisons") if path.parent.name == "peers" and peer in PEERS else None


def absent(needed: str) -> str:
    """What is missing of a peer, or of what the browser's tests need; nothing if all is there."""
    if needed in PEERS:
        return "" if find_spec(needed) else f"{PEERS[needed]} is not installed"
    if not (find_spec("playwright") and find_spec("axe_playwright_python")):
        return "Playwright and axe-core are not installed: pip install '.[browser]'"
    return "" if any(map(shutil.which, BROWSERS)) else "Chromium is not installed: on Debian, apt-get install chromium"


def left_out(config: pytest.Config) -> dict[str, str]:
    """What is asked to run and cannot, and why: told by who reports, since workers of pytest-xdist collect."""
    asked = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    files = [path for path in Path(__file__).parent.rglob("*.py") if any(map(path.is_relative_to, asked))]
    needs = dict(filter(None, map(asks_for, files)))
    return {what: reason for needed, what in needs.items() if (reason := absent(needed))}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        action="append",
        choices=sorted([*PEERS, "chromium"]),
        default=[],
        help="fail if tests with this module or program cannot run (may be repeated)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[NOT_RUN] = left_out(config)
    for needed in config.getoption("require"):
        if reason := absent(needed):
            raise pytest.UsageError(f"--require {needed}: {reason}")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the tests whose peer or browser is missing."""
    asked = asks_for(collection_path)
    return True if asked and absent(asked[0]) else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for what, reason in sorted(config.stash[NOT_RUN].items()):
        terminalreporter.write_line(f"not run: {what} ({reason})", yellow=True)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser that is installed."""
    return next(filter(None, map(shutil.which, BROWSERS)))
