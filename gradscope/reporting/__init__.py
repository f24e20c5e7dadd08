"""The report: figures and findings as one HTML file that opens offline."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from gradscope import figures
from gradscope.accounting import excerpt
from gradscope.accounting import write as write_ledger
from gradscope.errors import InputError
from gradscope.files import write_whole
from gradscope.reporting.findings import findings
from gradscope.results import Results
from gradscope.values import in_words

SMALL_SVG = 200_000  # bytes; of larger figures the smaller of SVG and PNG is embedded


def report(results: Results, formats: Sequence[str] = figures.FORMATS) -> Path:
    """Write `figures/` and `report.html` into the results' folder, and return the report's path.

    Parameters
    ----------
    results : from `gs.sweep` or `gs.load`; the whole of them, since the report stands for its folder.
    formats : of the figures: "png", "svg", "pdf"; the report itself needs the first two.

    Examples
    --------
    `gs.report(gs.load("reports/spectral-radius"))`
    """
    if not results.whole:
        raise InputError("a report is of all results in a folder, not of a selection", where="report")
    priced = write_ledger(results)
    drawn = figures.write(results, results.folder / "figures", tuple(dict.fromkeys([*formats, "png", "svg"])))
    environment = Environment(
        loader=PackageLoader("gradscope.reporting", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template("report.html.j2").render(
        manifest=results.manifest,
        grid={key: in_words(values) for key, values in results.manifest["grid"].items() if values != [None]},
        findings=findings(results),
        figures=[_embedded(figure) for figure in drawn if figure.files],
        drawn={figure.name for figure in drawn if figure.files},
        not_drawn=[figure for figure in drawn if not figure.files],
        ledger=[] if priced is None else _shown(priced),
        runs=len(results.runs),
        status=results.runs["status"].astype(str).value_counts().to_dict(),
        to_json=lambda value: json.dumps(value, ensure_ascii=False),
        number=_number,
    )
    path = results.folder / "report.html"
    write_whole(path, lambda place: place.write_text(text, encoding="utf-8"))
    return path


def _shown(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of the ledger that the page shows; None for what is no number."""
    return [
        {key: None if isinstance(value, float) and not np.isfinite(value) else value for key, value in row.items()}
        for row in excerpt(table).to_dict("records")
    ]


def _number(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A number with its interval, both to three digits; nothing if there is none."""
    if value is None:
        return ""
    interval = "" if low is None or high is None or low == high else f" ({low:.2g} to {high:.2g})"
    return f"{value:.3g}{interval}"


def _embedded(figure: figures.Drawn) -> dict[str, Any]:
    """A figure as the template needs it: SVG where that is small, else the smaller of SVG and PNG, as a data URI."""
    svg, png = figure.files["svg"].read_bytes(), figure.files["png"].read_bytes()
    kind, data = ("svg+xml", svg) if len(svg) <= max(SMALL_SVG, len(png)) else ("png", png)
    return figure._asdict() | {
        "image": f"data:image/{kind};base64,{base64.b64encode(data).decode()}",
        # A PNG holds its width in pixels in bytes 16 to 19; shown at one and a half times its size in print.
        "width": round(int.from_bytes(png[16:20], "big") / 300 * 96 * 1.5),
        "files": {kind: f"figures/{path.name}" for kind, path in figure.files.items()},
    }
