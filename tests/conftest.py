"""For all tests: how Hypothesis draws (the same examples everywhere), and peers that are reported if they did not run.

Comparisons with another program stand in files of their own, `tests/peers/test_<module>[_what].py`. Without that module
the file is not collected, and the summary says so; `--require MODULE` makes its absence an error.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

PEERS = {"jax": "JAX", "torch": "PyTorch"}  # module -> the name people know it by
NOT_RUN = pytest.StashKey[set[str]]()

settings.register_profile("gradscope", deadline=None, derandomize=True, database=None, max_examples=40)
settings.load_profile("gradscope")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        action="append",
        choices=sorted(PEERS),
        default=[],
        help="fail if comparisons with this module cannot run (may be repeated)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[NOT_RUN] = set()
    for module in config.getoption("require"):
        if not find_spec(module):
            raise pytest.UsageError(f"--require {module}: {PEERS[module]} is not installed")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the comparisons whose peer is missing, and remember it."""
    module = collection_path.stem.removeprefix("test_").partition("_")[0]
    if collection_path.parent.name != "peers" or module not in PEERS or find_spec(module):
        return None
    config.stash[NOT_RUN].add(PEERS[module])
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for peer in sorted(config.stash[NOT_RUN]):
        terminalreporter.write_line(f"not run: {peer} comparisons ({peer} is not installed)", yellow=True)
