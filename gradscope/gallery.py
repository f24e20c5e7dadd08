"""The gallery: what experiments and papers give, small enough to keep beside the code, and checked by a new run.

For each experiment its figures as PNG, for the default one also its report; `numbers.json` holds what a new run is held
against: how many rows each figure has, and of each column its texts, or the extremes and quartiles of its numbers. Not
of trainings: rounding grows while networks learn, so they end elsewhere with every build of BLAS.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradscope import experiment, figures, paper_gallery, papers
from gradscope.drawing import CannotDrawError
from gradscope.errors import InputError, unknown
from gradscope.files import DamagedError, read_json, write_json, write_whole
from gradscope.grid import measure_of
from gradscope.reporting import report
from gradscope.reporting.findings import findings
from gradscope.reproducing import reproduce
from gradscope.reproduction import Reproduction, reproduced
from gradscope.results import Results
from gradscope.run import sweep

NUMBERS = "numbers.json"
REPORTED = ("spectral-radius",)  # of which the report is kept; those of all would be several megabytes
DPI = 100
QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
# Networks that are chaotic differ between builds of BLAS, the more the longer they run.
TOLERANCE = 1e-3
Say = Callable[[str], None]


def make(folder: Path, names: Sequence[str] = (), say: Say = print, papers_at: Path | None = None) -> None:
    """Run shipped experiments, all or some, and keep their figures, numbers and findings in a folder.

    Also the papers, unless only some experiments are asked for: those in the folder `papers_at`, or new reproductions.
    """
    kept = (_kept(folder) or {}) if names else {}
    if not names:
        with _papers(papers_at, say) as done:
            paper_gallery.keep(folder, done)
    for name, results in _run(names or experiment.names(), say):
        place = folder / name
        shutil.rmtree(place, ignore_errors=True)
        drawn = figures.write(results, place, ["png"], dpi=DPI)
        for extra in (figures.RECORD, *(f"{figure.name}.csv" for figure in drawn)):
            (place / extra).unlink(missing_ok=True)
        if name in REPORTED:
            shutil.copy(report(results, formats=(), alone=True), place / "report.html")
        kept[name] = {
            "sweep": results.manifest["hash"],
            "figures": {} if unsteady(name) else numbers(results),
            "titles": {figure.name: figure.title for figure in drawn if figure.files},
            "findings": [finding.text for finding in findings(results)],
        }
    kept = {name: kept[name] for name in experiment.names() if name in kept}
    write_json(folder / NUMBERS, {"experiments": kept}, indent=1)
    write_whole(folder / "README.md", lambda path: path.write_text(_index(kept), encoding="utf-8"))


def check(folder: Path, names: Sequence[str] = (), say: Say = print, papers_at: Path | None = None) -> list[str]:
    """Run shipped experiments again, and say where their numbers differ from those that are kept.

    Also the papers, as in `make`.
    """
    kept = _kept(folder)
    if kept is None:
        raise InputError("holds no gallery", where=str(folder), hint="gradscope gallery makes it")
    asked = list(names or experiment.names())
    found = [f"{name}: not in the gallery" for name in asked if name not in kept]
    found += [one for name in asked if name in kept and unsteady(name) for one in _missing(folder, name, kept[name])]
    again = [name for name in asked if name not in experiment.names() or (name in kept and not unsteady(name))]
    for name, results in _run(again, say):
        was, now = kept[name]["figures"], numbers(results)
        found += [f"{name}: {figure} is {'no longer' if figure in was else 'now'} drawn" for figure in was.keys() ^ now]
        for figure in [figure for figure in was if figure in now]:
            found += [f"{name}: {figure}: {what}" for what in _differences(was[figure], now[figure])]
            if not (folder / name / f"{figure}.png").is_file():
                found.append(f"{name}: {figure}.png is missing")
    if not names:
        with _papers(papers_at, say) as done:
            found += paper_gallery.differences(folder, done)
    return found


@contextmanager
def _papers(folder: Path | None, say: Say) -> Iterator[list[Reproduction]]:
    """Reproductions of all papers: those in a folder, or, if none is given, new ones."""
    if folder:
        done = reproduced(folder)
        if missing := set(papers.names()) - {one.paper.name for one in done}:
            raise InputError(f"lacks {', '.join(sorted(missing))}", where=str(folder), hint="gradscope reproduce --all")
        yield done
        return
    with tempfile.TemporaryDirectory() as place:
        yield reproduce(papers.names(), place, tell=lambda one: say(one.paper.name))


def unsteady(name: str) -> bool:
    """Whether rounding grows in a shipped experiment: where networks learn, or are followed through chaos.

    Its numbers differ from one BLAS to the next.
    """
    grid = experiment.read(name).grid
    return measure_of(grid) == "training" or (measure_of(grid) == "jacobian" and set(grid["activation"]) != {"linear"})


def _missing(folder: Path, name: str, kept: dict[str, Any]) -> list[str]:
    """What an unsteady experiment's part of the gallery lacks, or is not of the experiment as it is now."""
    other = [f"{name}: the experiment has changed"] if kept["sweep"] != experiment.read(name).hash else []
    figures_of = [figure for figure in kept["titles"] if not (folder / name / f"{figure}.png").is_file()]
    return other + [f"{name}: {figure}.png is missing" for figure in figures_of]


def numbers(results: Results) -> dict[str, Any]:
    """Of each figure that the results allow, a digest of its table."""
    found = {}
    for name in figures.names():
        try:
            found[name] = _digest(figures.table_of(results, name))
        except CannotDrawError:
            continue
    return found


def _digest(table: pd.DataFrame) -> dict[str, Any]:
    columns: dict[str, list[str]] = {}
    for name in table:
        if pd.api.types.is_numeric_dtype(table[name]):
            known = table[name].dropna().to_numpy(float)
            levels = np.quantile(known, QUARTILES, method="nearest") if len(known) else []
            columns[str(name)] = [str(len(known)), *(f"{level:.6g}" for level in levels)]
        else:
            columns[str(name)] = sorted({str(value) for value in table[name].dropna()})
    return {"rows": len(table), "columns": columns}


def _differences(was: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    if was["rows"] != now["rows"] or was["columns"].keys() != now["columns"].keys():
        yield f"{was['rows']} rows of {', '.join(was['columns'])} became {now['rows']} of {', '.join(now['columns'])}"
        return
    for name, values in was["columns"].items():
        if not _same(values, now["columns"][name]):
            yield f"{name}: {', '.join(values)} became {', '.join(now['columns'][name])}"


def _same(was: Sequence[str], now: Sequence[str]) -> bool:
    try:
        one, other = np.array(was, float), np.array(now, float)
    except ValueError:
        return was == now
    scale = np.abs(one[np.isfinite(one)]).max(initial=0.0)
    return one.shape == other.shape and np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE * scale)


def _run(names: Sequence[str], say: Say) -> Iterator[tuple[str, Results]]:
    for name in names:
        if name not in experiment.names():
            raise unknown("experiment", name, experiment.names())
    for name in names:
        say(name)
        with tempfile.TemporaryDirectory() as place:
            yield name, sweep(name, Path(place) / name, command=f"gradscope sweep {name}")


def _kept(folder: Path) -> dict[str, Any] | None:
    try:
        kept: dict[str, Any] = read_json(folder / NUMBERS)["experiments"]
    except FileNotFoundError:
        return None
    except DamagedError as error:
        raise InputError(str(error), hint="gradscope gallery makes it again") from None
    return kept


def _index(kept: dict[str, Any]) -> str:
    """The gallery's page, for where Markdown is shown."""
    lines = [
        "# Gallery",
        "",
        f"[Papers, reproduced]({paper_gallery.FOLDER}/{paper_gallery.PAGE}): every claim with what was measured.",
        "",
        "What the shipped experiments give: `gradscope gallery` makes it, `gradscope gallery --check` runs them again",
        f"and holds the numbers of their figures against `{NUMBERS}` (but for trainings, where rounding grows).",
    ]
    for name, one in kept.items():
        lines += ["", f"## {name}", ""]
        if name in REPORTED:
            lines += [f"[The report]({name}/report.html) (open it from a checkout).", ""]
        lines += [f"* {json.dumps(text, ensure_ascii=False)[1:-1]}" for text in one["findings"][:4]]
        for figure, title in one["titles"].items():
            lines += ["", f"### {title}", "", f"![{title}]({name}/{figure}.png)"]
    return "\n".join(lines) + "\n"
