"""The report: findings, figures, tables and method as one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradscope import figures
from gradscope.accounting import excerpt
from gradscope.accounting import write as write_ledger
from gradscope.errors import InputError
from gradscope.history import History
from gradscope.loading import Loaded, measure_of
from gradscope.records import FAILED
from gradscope.reporting import page
from gradscope.reporting.explorer import explorer
from gradscope.reporting.finding import TOPICS, anchored, by_topic
from gradscope.reporting.findings import findings
from gradscope.reporting.method import definitions
from gradscope.reporting.origin import fixed, provenance, varied
from gradscope.reporting.pictures import picture
from gradscope.reporting.references import bibtex, methods, references
from gradscope.reporting.tables import text
from gradscope.reporting.training import report_training
from gradscope.results import Results


def report(results: Loaded, formats: Sequence[str] = figures.FORMATS, *, alone: bool = False) -> Path:
    """Write `figures/` and `report.html` into the results' folder, and return the report's path.

    Parameters
    ----------
    results : from `gs.sweep`, `gs.train` or `gs.load`; the whole of them, since the report stands for its folder.
    formats : of the figures: "png", "svg", "pdf"; the report itself needs the first two.
    alone : the page is to be kept without its folder: it links to no file beside it.

    Raises
    ------
    InputError : a selection; a training that is in no folder; an unknown format.

    Examples
    --------
    `gs.report(gs.load("reports/spectral-radius"))`
    """
    if isinstance(results, History):
        return report_training(results, formats, alone=alone)
    if not results.whole:
        raise InputError("a report is of all results in a folder, not of a selection", where="report")
    trains = measure_of(results) == "training"
    priced = None if trains else write_ledger(results)
    drawn = figures.write(results, results.folder / "figures", tuple(dict.fromkeys([*formats, "png", "svg"])))
    pictures = [picture(figure, beside=None if alone else "figures") for figure in drawn if figure.files]
    manifest, found = results.manifest, anchored(findings(results))
    cited = references(manifest["grid"], [one.name for one in pictures])
    exploring = None if trains else explorer(results)
    return page.write(
        "report.html.j2",
        results.folder / "report.html",
        scripts=[exploring.script, exploring.library_text] if exploring else [],
        manifest=manifest,
        runs=len(results.runs),
        seeds=results.runs["seed"].nunique(),
        alone=alone,
        varied=varied(manifest["grid"]),
        fixed=fixed(manifest),
        headings=TOPICS,
        topics=by_topic(found),
        behind=[(key, finding) for key, finding in found.items() if finding.rows is not None],
        pictures=pictures,
        drawn={one.name: one.title for one in pictures},
        not_drawn=[figure for figure in drawn if not figure.files],
        explorer=exploring,
        ledger=[] if priced is None else list(_priced(excerpt(priced))),
        status=_status(results),
        failed=_failed(results),
        again=_again(manifest["command"]),
        trains=trains,
        networks=set(manifest["grid"]["task"]) != {"influence-balancing"},
        methods=methods(manifest["grid"]),
        definitions=definitions(manifest["grid"]),
        provenance=provenance(manifest),
        references=cited,
        bibtex=bibtex(cited),
    )


def _priced(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The tables of a ledger that the page shows, one for each setting, with their captions."""
    for (panel, radius, steps), own in rows.groupby(["panel", "spectral_radius", "loss_steps"], sort=False):
        caption = ", ".join(filter(None, [str(panel), f"spectral radius {radius:g}", f"losses at steps: {steps}"]))
        tosses = own["variance"] != "none"
        columns = {
            "truncation": own["truncation"],
            "bias": _intervals(own, "bias"),
            "sd over coins": _intervals(own, "coin_sd").where(tosses, ""),
            "variance": own["variance"].where(tosses, ""),
            "states kept": own["unroll"].map("{:.3g}".format),
            "time, full = 1": own["seconds_over_full"].map(text),
            "beaten by": [_beaten(row) for row in own.itertuples()],
            "median cosine": own["cosine_p50"].map(text),
            "wrong sign, %": (100.0 * own["wrong_sign_share"]).map(text),
            "bias over all data": _intervals(own, "population_bias").where(
                own["population_bias"] > 0, np.where(own["bias"] > 0, "not above chance", "0")
            ),
            "sd over minibatches": _intervals(own, "batch_sd"),
            "steps back": own["state_steps"].map("{:.3g}".format),
        }
        yield caption, pd.DataFrame(columns)


def _intervals(rows: pd.DataFrame, measure: str) -> pd.Series:
    """A measure with its interval, in words; nothing where it is no number."""
    found = zip(rows[measure], rows[f"{measure}_low"], rows[f"{measure}_high"], strict=True)
    return pd.Series([_interval(*one) for one in found], index=rows.index, dtype=object)


def _interval(value: float, low: float, high: float) -> str:
    """A number with its interval; nothing if there is none."""
    if not np.isfinite(value):
        return ""
    return f"{value:.3g}" + (f" ({low:.2g} to {high:.2g})" if np.isfinite([low, high]).all() and low != high else "")


def _beaten(row: Any) -> str:
    """By which truncation one is beaten, and after how many draws."""
    if not isinstance(row.beaten_by, str):
        return ""
    words = f"{row.beaten_by}, {row.beaten_after:,.0f} draw{'s' if row.beaten_after != 1 else ''}"
    return words + (f", on all data {row.beaten_on_all_data:,.0f}" if np.isfinite(row.beaten_on_all_data) else "")


def _status(results: Results) -> pd.DataFrame:
    """How many runs ended in which way, failures by reason."""
    runs = results.runs
    status = runs["status"].astype(str).str.replace(r" at step \d+", "", regex=True)
    reason = runs["message"].astype(str).where(status == FAILED, "")
    counts = pd.DataFrame({"status": status, "reason": reason}).value_counts().rename("runs").reset_index()
    counts = counts.assign(share=counts["runs"] / len(runs))
    return counts if reason.any() else counts.drop(columns="reason")


def _failed(results: Results) -> pd.DataFrame | None:
    """The runs that failed: what tells them apart, and why; None if none did."""
    runs = results.runs[results.runs["status"] == FAILED]
    if runs.empty:
        return None
    apart = [name for name in results.parameters if len(results.runs[name].unique()) > 1]
    return runs[["run_id", *apart, "message"]].reset_index(drop=True)


def _again(command: str) -> str:
    """How to measure again what failed."""
    ours = command.startswith("gradscope sweep")
    return f"{command} --retry-failed" if ours else "gs.sweep(..., retry_failed=True)"
