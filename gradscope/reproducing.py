"""Reproduce papers: measure -> judge -> draw -> write, a folder for each, and a page over all of them.

A folder is written whole and then put in place of the one before, so that none is ever half of one and half of another.
"""

from __future__ import annotations

import datetime
import platform
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from functools import partial
from importlib.metadata import version
from pathlib import Path

from gradscope import __version__, claims, papers
from gradscope.crew import Crew, crew_of
from gradscope.errors import GradscopeError, InputError
from gradscope.figures import FORMATS
from gradscope.files import DamagedError, read_json, sha256_of, write_json, write_whole
from gradscope.locking import locked
from gradscope.outlook import machine_cores
from gradscope.paper import Paper
from gradscope.reporting.catalogue import MADE, write_page, write_summary
from gradscope.reproduction import CLAIMS, FIGURES, RECORD, SWEEP, TABLES, Reproduction, load, reproduced
from gradscope.threads import one_blas_thread

OUT = Path("reports/papers")
SUMMARY, PAGE = "index.html", "report.html"
LAYOUT = {PAGE, CLAIMS, RECORD, FIGURES, TABLES, SWEEP}  # of a paper's folder
PREFIX = ".reproducing-"  # of folders that are being written
LIBRARIES = ("numpy", "scipy", "pandas", "matplotlib")


def reproduce(
    names: str | Sequence[str],
    out: str | Path = OUT,
    *,
    seed: int = 0,
    jobs: int | None = None,
    tell: Callable[[Reproduction], None] | None = None,
    command: str = "",
) -> list[Reproduction]:
    """Reproduce papers of the catalogue into `out`/NAME, and write `out`/index.html over all that are there.

    Parameters
    ----------
    names : of papers, in any order; or of one.
    out : folder for all of them.
    seed : of all that is drawn. Claims were settled with seed 0; another one tests them anew.
    jobs : processes, each with one BLAS thread; the number of cores if not given.
    tell : called with each as it is done.
    command : how it was started, for the pages.

    Raises
    ------
    InputError : an unknown paper, a seed that cannot be, a folder that holds something else or is being written.
    GradscopeError : a claim that could not be judged, a figure that could not be written; the other papers are done.
    KeyboardInterrupt : Ctrl-C; papers that are finished are kept.

    Notes
    -----
    A script that asks for several papers does so below `if __name__ == "__main__":`, as they run in processes.

    Examples
    --------
    `gs.reproduce("latch")[0].claims` is a table with a row for each point of each claim.
    """
    names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    _check(names, seed, jobs)
    root = Path(out).expanduser().absolute()
    with locked(root, partial(_refuse, names=names)):
        _tidy(root)
        # The longest first, so that the last to end is a short one.
        ordered = sorted(names, key=lambda name: -papers.find(name).seconds)
        calls = {name: partial(_reproduce, name, root, seed, command) for name in ordered}
        done, failed = dict[str, Reproduction](), dict[str, GradscopeError]()
        try:
            with crew_of(None, 0, jobs or machine_cores(), len(ordered)) as crew:
                for name, error in _finished(crew, calls):
                    if error:
                        failed[name] = error
                        continue
                    done[name] = load(root / name)
                    if tell:
                        tell(done[name])
        except KeyboardInterrupt:
            finished = ", ".join(done) or "none"
            raise KeyboardInterrupt(f"interrupted; finished: {finished}; the same command makes all again") from None
        finally:
            _tidy(root)
            write_summary(root / SUMMARY, reproduced(root), papers.names())
    for name, error in failed.items():
        raise type(error)(f"{name}: {error}") from error
    return [done[name] for name in names]


def _check(names: Sequence[str], seed: int, jobs: int | None) -> None:
    for name in names:
        papers.find(name)
    for key, number, least in (("seed", seed, 0), ("jobs", jobs, 1)):
        whole = isinstance(number, int) and not isinstance(number, bool)
        if number is not None and not (whole and number >= least):
            raise InputError(f"{number!r}", where=key, allowed=f"a whole number >= {least}")


def _finished(crew: Crew, calls: Mapping[str, Callable[[], None]]) -> Iterator[tuple[str, GradscopeError | None]]:
    """Names of calls as they end, with the error that a call ended in, until the crew is to stop."""
    waiting, running = deque(calls), dict[Future[None], str]()
    try:
        while (waiting or running) and not crew.stop.is_set():
            while waiting and len(running) < crew.ahead:
                name = waiting.popleft()
                running[crew.executor.submit(calls[name])] = name
            for future in wait(running, timeout=0.1, return_when=FIRST_COMPLETED).done:
                try:
                    future.result()
                except GradscopeError as error:
                    yield running.pop(future), error
                else:
                    yield running.pop(future), None
    except BrokenExecutor:
        crew.renew()  # says so, if processes cannot be started at all
        raise GradscopeError("a worker process died: killed, or out of memory, of which --jobs 1 takes less") from None


def _refuse(root: Path, names: Sequence[str]) -> None:
    """Raise InputError for a folder in which something would be overwritten that is no reproduction."""
    for name in names:
        if foreign := _foreign(root / name):
            files = f"{foreign[0]}{' and others' * (len(foreign) > 1)}"
            hint = "move what you want to keep, or choose another folder with -o"
            raise InputError(f"holds what is not of a reproduced paper: {files}", where=str(root / name), hint=hint)
    page = root / SUMMARY
    if page.exists() and MADE not in page.read_text("utf-8", "replace"):
        raise InputError("is a page of something else", where=str(page), hint="choose another folder with -o")


def _foreign(place: Path) -> list[str]:
    """The files in a paper's folder that were not written there by us."""
    if not place.is_dir():
        return [place.name] if place.exists() else []
    there = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    try:
        return sorted(there - {*read_json(place / RECORD)["files"], RECORD})
    except FileNotFoundError:
        return sorted(there)
    except DamagedError:
        return sorted(name for name in there if name.partition("/")[0] not in LAYOUT)


def _tidy(root: Path) -> None:
    """Put away what a process left that was killed: folders half written, and one that was about to be replaced."""
    for name in papers.names():
        if (before := _before(root / name)).exists() and not (root / name).exists():
            before.rename(root / name)
        for left in [before, *root.glob(f"{PREFIX}{name}-*")]:
            shutil.rmtree(left, ignore_errors=True)


def _reproduce(name: str, root: Path, seed: int, command: str) -> None:
    """Reproduce one paper, in this process."""
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{name}-", dir=root) as place, one_blas_thread():
        new = Path(place) / name
        new.mkdir()
        _write(papers.find(name), new, seed, command)
        _put(new, root / name)


def _put(new: Path, place: Path) -> None:
    """Put a whole folder in the place of another one; wherever this stops, one of them is there, or comes back."""
    before = _before(place)
    if place.exists():
        place.rename(before)
    try:
        new.rename(place)
    except BaseException:
        if before.exists():
            before.rename(place)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _before(place: Path) -> Path:
    return place.with_name(f"{PREFIX}{place.name}-before")


def _write(paper: Paper, folder: Path, seed: int, command: str) -> None:
    begun, started = time.monotonic(), datetime.datetime.now(datetime.UTC)
    measured = paper.measure(seed, folder / SWEEP)
    judged = claims.judge(paper.claims, measured.tables)
    seconds = time.monotonic() - begun
    (folder / FIGURES).mkdir()
    (folder / TABLES).mkdir()
    drawn = measured.draw(folder / FIGURES, FORMATS)
    for one in drawn:
        if not one.files:
            raise GradscopeError(f"{paper.name}: figure {one.name} cannot be drawn: {one.reason}")
    for name, table in measured.tables.items():
        named = table.index.names != [None]
        write_whole(folder / TABLES / f"{name}.csv", partial(table.to_csv, index=named))
    write_whole(folder / CLAIMS, partial(judged.to_csv, index=False))
    written = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    record = {
        "name": paper.name,
        "seed": seed,
        "seconds": round(seconds, 2),
        "started": started.isoformat(timespec="seconds"),
        "command": command,
        "versions": {"gradscope": __version__, "python": platform.python_version()}
        | {library: version(library) for library in LIBRARIES},
        "platform": f"{platform.system()}, {platform.machine()}",
        "claims": sha256_of(folder / CLAIMS),
        "figures": [{"name": one.name, "title": one.title, "caption": one.caption, "alt": one.alt} for one in drawn],
        "files": sorted([*written, PAGE]),
    }
    write_json(folder / RECORD, record, indent=1)
    write_page(folder / PAGE, load(folder))
