"""The report of one small sweep that holds a bit of everything, and one headless Chromium to look at it.

The driver's packages are imported only where they are used: pytest reads this file without them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import pytest

import gradscope as gs
from gradscope import figures, measuring, papers
from gradscope.engine import measure
from gradscope.reporting.comparison import compare
from gradscope.reproducing import reproduce

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LOADS = pytest.StashKey[dict[str, float]]()
HOSTILE = "</script><img src=x onerror=alert(1)>"
SWEEP = {
    "activation": "linear",
    "ensemble": "orthogonal",  # gradients change by the spectral radius at each step, exactly
    "task": "series",
    "hidden_size": 6,
    "batch_size": 3,
    "spectral_radius": [0.5, 0.9, 1.0, 1.2],
    "seq_len": [12, 40],
    "truncation": ["full", "fixed:3", "chunked:4", "random:4"],
    "loss_steps": ["last", "all"],
    "draws": 4,
    "seeds": 3,
}


class Visit(NamedTuple):
    """An open page, what it asked for, and what it or the browser complained of."""

    page: Page
    requests: list[str]
    complaints: list[str]

    @property
    def gone_wrong(self) -> list[str]:
        """Complaints, and requests for anything but the page's own file and what it holds."""
        away = [url for url in self.requests if not url.startswith(("file:", "data:"))]
        files = [url for url in self.requests if url.startswith("file:")]
        return self.complaints + away + files[1:]


def _sweep(folder: Path, **changes: Any) -> gs.Results:
    """A sweep over two columns of a file, one of a hostile name, with one network that fails with a hostile message."""
    series = folder / "hostile & <b>.csv"
    pd.DataFrame({HOSTILE: range(300), "plain": [day % 7 for day in range(300)]}).to_csv(series, index=False)
    overrides = SWEEP | {"file": str(series), "column": [HOSTILE, "plain"]} | changes

    def fails_once(runs: Any, threads: int) -> Any:
        if any(run["seed"] == 2 and run["spectral_radius"] == 0.5 and run["column"] == "plain" for run in runs):
            raise MemoryError(HOSTILE)
        return measure(runs, threads)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "measure", fails_once)
        return gs.sweep("spectral-radius", out=folder / "sweep", overrides=overrides, jobs=1)


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> gs.Results:
    """A small sweep; not to be changed."""
    return _sweep(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def report(results: gs.Results) -> Path:
    """The page of a small sweep's report."""
    return gs.report(results)


@pytest.fixture(scope="session")
def comparison(results: gs.Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page that holds that sweep and another one side by side, with two of the figures."""
    folder = tmp_path_factory.mktemp("comparison")
    shutil.copytree(results.folder, folder / "first")
    other = _sweep(folder, activation="tanh", draws=0, seeds=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "names", lambda *_: ("gradient-vs-lag", "radius-lag-map"))
        return compare([gs.load(folder / "first"), other], folder / "comparison.html")


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a training on a hostile text."""
    folder = tmp_path_factory.mktemp("training")
    text = folder / "hostile.txt"
    text.write_text(HOSTILE * 40, encoding="utf-8")
    keys = {"hidden_size": 8, "batch_size": 4, "seq_len": 10, "steps": 30, "record_every": 5, "learning_rate": 0.05}
    named = f"gradscope train text --file {HOSTILE}"
    return gs.report(gs.train("text", folder / "out", file=str(text), command=named, **keys))


@pytest.fixture(scope="session")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a reproduced paper that says hostile things."""
    latch = papers.find("latch")
    first, *others = latch.claims
    said = replace(latch, title=HOSTILE, about=HOSTILE, claims=(replace(first, says=HOSTILE), *others))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(papers, "find", lambda _: said)
        patch.setattr(papers, "names", lambda: ["latch"])
        (done,) = reproduce(["latch"], tmp_path_factory.mktemp("papers"), jobs=1)
    return done.folder / "report.html"


@pytest.fixture(scope="session")
def catalogue(paper: Path) -> Path:
    """The page over all papers that were reproduced: that one."""
    return paper.parent.parent / "index.html"


@pytest.fixture(scope="session", params=["report", "comparison", "training", "paper"])
def either(request: pytest.FixtureRequest) -> Path:
    """A page that gradscope writes."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    """Headless Chromium, without a download: the one that is installed."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Open a page in a context of its own; the arguments are Playwright's, of `new_context`."""
    contexts = []

    def open_page(path: Path, script: str = "", **options: Any) -> Visit:
        contexts.append(context := browser.new_context(**options))
        page, requests, complaints = context.new_page(), [], []
        page.set_default_timeout(5_000)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("console", lambda said: said.type in ("error", "warning") and complaints.append(said.text))
        if script:
            page.add_init_script(script)
        page.goto(path.as_uri())
        return Visit(page, requests, complaints)

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def look(visit: Callable[..., Visit]) -> Iterator[Callable[..., Page]]:
    """Open a page of ours: whatever is then done with it, nothing may leave it and nothing be complained of."""
    visits = []

    def open_page(path: Path, script: str = "", **options: Any) -> Page:
        visits.append(visit(path, script, **options))
        return visits[-1].page

    yield open_page
    assert [wrong for visit in visits for wrong in visit.gone_wrong] == []


@pytest.fixture
def load_time(request: pytest.FixtureRequest) -> Callable[[str, float], None]:
    """Note how long a page took to load, in seconds, for the summary."""
    return request.config.stash.setdefault(LOADS, {}).__setitem__


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, seconds in config.stash.get(LOADS, {}).items():
        terminalreporter.write_line(f"{name} loaded in {seconds:.2f} s")
