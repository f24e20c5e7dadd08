"""The report: figures and findings as one HTML file that opens offline."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from gradscope import figures
from gradscope.files import write_whole
from gradscope.reporting.findings import findings
from gradscope.results import Results

INLINE_SVG = 200_000  # bytes; larger figures are embedded as PNG, which browsers draw faster


def report(results: Results, formats: Sequence[str] = figures.FORMATS) -> Path:
    """Write `figures/` and `report.html` into the results' folder, and return the report's path.

    Parameters
    ----------
    results : from `gs.sweep` or `gs.load`.
    formats : of the figures: "png", "svg", "pdf"; the report itself needs the first two.

    Examples
    --------
    `gs.report(gs.load("reports/spectral-radius"))`
    """
    drawn = figures.write(results, results.folder / "figures", tuple(dict.fromkeys([*formats, "png", "svg"])))
    environment = Environment(
        loader=PackageLoader("gradscope.reporting", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template("report.html.j2").render(
        manifest=results.manifest,
        grid={key: _values(values) for key, values in results.manifest["grid"].items() if values != [None]},
        findings=findings(results),
        figures=[_embedded(figure) for figure in drawn],
        runs=len(results.runs),
        status=results.runs["status"].astype(str).value_counts().to_dict(),
        to_json=lambda value: json.dumps(value, ensure_ascii=False),
    )
    path = results.folder / "report.html"
    write_whole(path, lambda place: place.write_text(text, encoding="utf-8"))
    return path


def _embedded(figure: figures.Drawn) -> dict[str, Any]:
    """A figure as the template needs it: inline SVG where that is small, else PNG."""
    content: dict[str, Any] = {**figure._asdict(), "svg": "", "image": ""}
    if figure.files:
        svg = figure.files["svg"].read_text(encoding="utf-8")
        if len(svg) <= INLINE_SVG:
            content["image"] = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
        else:
            content["image"] = "data:image/png;base64," + base64.b64encode(figure.files["png"].read_bytes()).decode()
        content["files"] = {kind: f"figures/{path.name}" for kind, path in figure.files.items()}
    return content


def _values(values: Sequence[Any]) -> str:
    """A key's values in words; a long row of evenly spaced numbers by its ends."""
    if len(values) > 8 and all(isinstance(value, int | float) for value in values):
        return f"{len(values)} values from {min(values):g} to {max(values):g}"
    return ", ".join("none" if value == "" else str(value) for value in values)
