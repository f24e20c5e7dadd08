"""For comparisons with other programs: the summary tells the largest disagreement, not only that it was small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

DISAGREEMENTS = pytest.StashKey[list[float]]()


@pytest.fixture
def disagreements(request: pytest.FixtureRequest, record_property) -> Iterator[list[float]]:
    """Relative disagreements of one test, to be appended to."""
    found: list[float] = []
    yield found
    record_property("largest_relative_disagreement", float(max(found, default=0.0)))
    request.config.stash.setdefault(DISAGREEMENTS, []).extend(found)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash.get(DISAGREEMENTS, [])
    if found:
        terminalreporter.write_line(
            f"largest relative disagreement with a peer: {max(found):.1e} ({len(found)} compared)"
        )
