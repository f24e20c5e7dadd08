"""The pages of reproduced papers: one for each, with its claims and figures, and one over all of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from PIL import Image

from gradscope.claims import HOLDS, KINDS
from gradscope.paper import Paper
from gradscope.reporting import page
from gradscope.reporting.pictures import picture
from gradscope.reporting.references import bibtex, cited
from gradscope.reproduction import CLAIMS, FIGURES, TABLES, Reproduction

MADE = '<meta name="generator" content="gradscope">'  # by which a page of ours is known
SHRUNK = 3  # times: a figure's PNG of 300 dots an inch, where it is shown in small


class Thumbnail(NamedTuple):
    """A figure in small: what it shows, and its picture as a data URI."""

    title: str
    image: str


def write_page(path: Path, reproduction: Reproduction) -> Path:
    """Write the report of one paper."""
    references = cited(reproduction.paper.sources)
    judged = reproduction.claims
    pictures = [picture(figure, beside=FIGURES) for figure in reproduction.figures]
    return page.write(
        "paper.html.j2",
        path,
        made=Markup(MADE),
        paper=reproduction.paper,
        record=reproduction.record,
        summary=shown(reproduction.summary),
        points=len(judged),
        held=int((judged["verdict"] == HOLDS).sum()),
        every=[(claim, _points(own)) for claim, own in judged.groupby("claim", sort=False) if len(own) > 1],
        claims_file=CLAIMS,
        tables=sorted(one.name for one in (reproduction.folder / TABLES).glob("*.csv")),
        tables_folder=TABLES,
        pictures=pictures,
        references=references,
        bibtex=bibtex(references),
    )


def write_summary(path: Path, reproductions: Sequence[Reproduction], catalogue: Sequence[str]) -> Path:
    """Write the page over all papers of the catalogue, by name: those that were reproduced, and those that were not."""
    there = {one.paper.name for one in reproductions}
    return page.write(
        "papers.html.j2",
        path,
        made=Markup(MADE),
        entries=[(one, cited(one.paper.sources)[0], _thumbnails(one)) for one in reproductions],
        tables=[(one, shown(one.summary)) for one in reproductions],
        missing=[name for name in catalogue if name not in there],
        claims=sum(len(one.summary) for one in reproductions),
        points=sum(len(one.claims) for one in reproductions),
        held=sum(int((one.summary["verdict"] == HOLDS).sum()) for one in reproductions),
        seconds=sum(one.record["seconds"] for one in reproductions),
        kinds=kinds_in_words,
    )


def kinds_in_words(paper: Paper) -> str:
    """The kinds of a paper's claims, in order of first mention."""
    return ", ".join(KINDS[kind] for kind in paper.kinds)


class Row(NamedTuple):
    """A claim as pages have it, its numbers in words; those of its point that is nearest to failing."""

    claim: str
    kind: str
    points: str
    point: str
    expected: str
    measured: str
    apart: str
    tolerance: str
    verdict: str
    basis: str
    source: str


def shown(summary: pd.DataFrame) -> list[Row]:
    """The rows of a table of `claims.summary`."""
    return [
        Row(
            row.claim,
            row.kind,
            f"{row.held} of {row.points}",
            row.point,
            f"{row.relation} {number(row.expected)}",
            number(row.measured) + interval(row.low, row.high),
            _apart(row.measured, row.expected),
            row.tolerance,
            row.verdict,
            row.basis,
            row.source,
        )
        for row in summary.itertuples()
    ]


def number(value: float) -> str:
    """Seven digits, which is as many as papers quote.

    >>> number(1 / 3), number(3.0973e15), number(4.0), number(-np.inf)
    ('0.3333333', '3.0973e+15', '4', '-inf')
    """
    return f"{value:.7g}"


def interval(low: float, high: float) -> str:
    """A 95 % interval, after a number; nothing where there is none."""
    return f" ({low:.4g} to {high:.4g})" if np.isfinite([low, high]).all() else ""


def _apart(measured: float, expected: float) -> str:
    """How far two numbers are apart, relative to what is expected unless that is 0."""
    if measured == expected or not np.isfinite([measured, expected]).all():
        return "0" if measured == expected else "-"
    apart = abs(measured - expected)
    return f"{apart / abs(expected):.1e}" if expected else f"{apart:.1e} (absolute)"


def _points(own: pd.DataFrame) -> pd.DataFrame:
    """Every point of a claim."""
    columns = {
        "point": own["point"],
        "expected": own["relation"] + " " + own["expected"].map(number),
        "measured": own["measured"].map(number),
        "interval": [interval(low, high).strip(" ()") for low, high in zip(own["low"], own["high"], strict=True)],
        "allowed": own["allowed"].map("{:.2g}".format),
        "verdict": own["verdict"],
    }
    return pd.DataFrame(columns)


def _thumbnails(reproduction: Reproduction) -> list[Thumbnail]:
    return [
        Thumbnail(one.title, f"data:image/png;base64,{base64.b64encode(shrunk(one.files['png'])).decode()}")
        for one in reproduction.figures
    ]


def shrunk(path: Path) -> bytes:
    """A figure's PNG, in small."""
    small = io.BytesIO()
    with Image.open(path) as whole:
        whole.convert("RGB").reduce(SHRUNK).save(small, "PNG", optimize=True)
    return small.getvalue()
