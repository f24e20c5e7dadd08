"""The papers in the gallery: of each its figures and its claims.csv, and a page with the table of all claims.

A reproduction is held against what is kept: the same claims of the same points; and, where it repeats bit for bit, what
is expected, and the numbers of Monte Carlo, but for what another build of BLAS changes. The other numbers are as exact
as rounding lets them be, and their claims say enough of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from gradscope import papers
from gradscope.claims import HOLDS, KINDS
from gradscope.files import write_whole
from gradscope.paper import EXACTLY
from gradscope.reporting.catalogue import kinds_in_words, shown, shrunk
from gradscope.reporting.references import cited
from gradscope.reproduction import CLAIMS, Reproduction, read_claims

FOLDER, PAGE = "papers", "README.md"
SAID = ["claim", "kind", "point", "quantity", "relation", "tolerance", "basis", "source"]  # what no machine changes
TOLERANCE = 1e-6  # relative, for what another build of BLAS changes
LOOSE = 1e-3  # of what a claim allows: for numbers that are all but 0
HEADER = ("claim", "kind", "expected", "measured", "tolerance", "holds at", "verdict", "source")


def keep(folder: Path, done: Sequence[Reproduction]) -> None:
    """Keep reproductions in a gallery's folder, in the place of all that were there."""
    place = folder / FOLDER
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for one in done:
        own = place / one.paper.name
        own.mkdir()
        shutil.copy(one.folder / CLAIMS, own / CLAIMS)
        for figure in one.figures:
            (own / f"{figure.name}.png").write_bytes(shrunk(figure.files["png"]))
    write_whole(place / PAGE, partial(Path.write_text, data=_page(done), encoding="utf-8"))


def differences(folder: Path, done: Sequence[Reproduction]) -> list[str]:
    """Where reproductions differ from those that are kept: claims, numbers, figures; and claims that fail.

    If there they agree, whether the page is that of the claims that are kept.
    """
    place = folder / FOLDER
    kept = {path.parent.name for path in place.glob(f"*/{CLAIMS}")}
    found = [f"{name}: kept, but not in the catalogue" for name in sorted(kept - set(papers.names()))]
    for one in done:
        name, own = one.paper.name, place / one.paper.name
        found += one.failures
        if name not in kept:
            found.append(f"{name}: not in the gallery")
            continue
        found += [f"{name}: {what}" for what in _changes(read_claims(own / CLAIMS), one)]
        missing = [figure.name for figure in one.figures if not (own / f"{figure.name}.png").is_file()]
        found += [f"{name}: {figure}.png is missing" for figure in missing]
    page = place / PAGE
    if not found:
        there = [replace(one, claims=read_claims(place / one.paper.name / CLAIMS)) for one in done]
        if not page.is_file() or page.read_text(encoding="utf-8") != _page(there):
            found.append(f"{FOLDER}/{PAGE}: is not the page of the claims that are kept")
    return found


def _changes(was: pd.DataFrame, one: Reproduction) -> Iterator[str]:
    now = one.claims
    if len(was) != len(now) or not was[SAID].equals(now[SAID]):
        yield f"its {len(was)} checks became {len(now)}, or say something else"
        return
    if one.paper.repeats != EXACTLY:
        return
    size = now["expected"].abs().where(np.isfinite(now["expected"]), 0.0)
    for column, compared in {"expected": now["kind"] != "", "measured": now["kind"] == KINDS["sampled"]}.items():
        atol = np.maximum(LOOSE * now["allowed"], TOLERANCE * size)
        apart = compared & ~np.isclose(was[column], now[column], rtol=TOLERANCE, atol=atol, equal_nan=True)
        for row in np.flatnonzero(apart)[:3]:
            where = f"{now['claim'][row]} {now['point'][row]}".strip()
            yield f"{column} {was[column][row]:.9g} became {now[column][row]:.9g}: {where}"


def _page(done: Sequence[Reproduction]) -> str:
    """The page, for where Markdown is shown."""
    summaries = [one.summary for one in done]
    claims, held = sum(map(len, summaries)), sum(int((one["verdict"] == HOLDS).sum()) for one in summaries)
    points = sum(len(one.claims) for one in done)
    lines = [
        "# Papers, reproduced",
        "",
        f"{held} of {claims} claims hold, checked at {points:,} points, in {len(done)} papers.",
        "`gradscope reproduce --all` computes, draws and checks them again; `gradscope gallery` makes this page.",
        "Of a claim that is checked at several points, the numbers are those of the point nearest to failing.",
    ]
    for one, summary in zip(done, summaries, strict=True):
        source = cited(one.paper.sources)[0]
        lines += ["", f"## {one.paper.title}", "", f"`{one.paper.name}` · {source.short} · {kinds_in_words(one.paper)}"]
        lines += ["", _cell(one.paper.about), "", f"*{_cell(one.paper.setup)}*"]
        lines += ["", _row(HEADER), _row(["---"] * len(HEADER))]
        for row in shown(summary):
            said = f"{row.claim} ({row.point})" if row.point else row.claim
            lines.append(
                _row([said, row.kind, row.expected, row.measured, row.tolerance, row.points, row.verdict, row.source])
            )
        for figure in one.figures:
            lines += ["", f"![{_cell(figure.title)}]({one.paper.name}/{figure.name}.png)"]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """A text that Markdown leaves as it is."""
    return "".join(f"\\{letter}" if letter in "\\|*_<>[]" else letter for letter in text)
