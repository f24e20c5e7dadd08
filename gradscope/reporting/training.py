"""The report of a single training: what it learnt, its figures, scores and texts, as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gradscope import figures
from gradscope.errors import InputError
from gradscope.evaluation import WRITTEN
from gradscope.history import History
from gradscope.reporting import page
from gradscope.reporting.finding import TOPICS, anchored, by_topic
from gradscope.reporting.method import definitions
from gradscope.reporting.origin import fixed, provenance
from gradscope.reporting.pictures import picture
from gradscope.reporting.references import bibtex, methods, references
from gradscope.reporting.trained import of_history

KEYS = ("task", "hidden_size", "seq_len", "batch_size", "truncation", "clip", "optimizer", "learning_rate", "steps")
FIRST = ("learning-curves", "prediction", "horizon-error")  # of the figures, on the page
TEXTS = 8  # that the page shows, of those that were written on the way


def report_training(history: History, formats: Sequence[str], *, alone: bool = False) -> Path:
    """Write `figures/` and `report.html` into a training's folder; arguments and errors are those of `report`."""
    if history.folder is None:
        raise InputError("the training is in no folder", where="report", hint="gs.train(..., out=FOLDER)")
    kinds = tuple(dict.fromkeys([*formats, "png", "svg"]))
    drawn = figures.write(history, history.folder / "figures", kinds)
    drawn.sort(key=lambda figure: FIRST.index(figure.name) if figure.name in FIRST else len(FIRST))
    pictures = [picture(figure, beside=None if alone else "figures") for figure in drawn if figure.files]
    manifest, found = history.manifest, anchored(of_history(history))
    settings = dict(fixed(manifest))
    cited = references(manifest["grid"], [one.name for one in pictures])
    return page.write(
        "training.html.j2",
        history.folder / "report.html",
        manifest=manifest,
        steps=len(history.steps),
        status=history.status,
        keys=[(key, settings.pop(key)) for key in KEYS if key in settings],
        settings=list(settings.items()),
        headings=TOPICS,
        topics=by_topic(found),
        behind=[(key, finding) for key, finding in found.items() if finding.rows is not None],
        pictures=pictures,
        drawn={one.name: one.title for one in pictures},
        not_drawn=[figure for figure in drawn if not figure.files],
        texts=shown_texts(history.samples),
        all_texts=len(history.samples),
        written=WRITTEN,
        scores=scores_of(history),
        ledger=[],
        trains=True,
        networks=True,
        methods=methods(manifest["grid"]),
        definitions=definitions(manifest["grid"]),
        provenance=provenance(manifest, "gradscope.train"),
        references=cited,
        bibtex=bibtex(cited),
    )


def shown_texts(samples: pd.DataFrame) -> list[tuple[int, str]]:
    """Step and text of some of the texts that were written on the way: the first, the last, and some between.

    What a page cannot hold, as control characters, is U+FFFD.

    >>> shown_texts(pd.DataFrame({"step": [0], "text": ["a" + chr(0) + "b"]}))
    [(0, 'a�b')]
    """
    chosen = samples.iloc[np.unique(np.linspace(0, len(samples) - 1, min(TEXTS, len(samples))).round().astype(int))]
    return [
        (int(step), "".join(map(_legible, text))) for step, text in zip(chosen["step"], chosen["text"], strict=True)
    ]


def _legible(character: str) -> str:
    return character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"


def scores_of(history: History) -> pd.DataFrame:
    """The test losses, the least first, with what they are to the network's."""
    table = history.scores
    network = table.loc[~table["naive"], "loss"].item()
    with np.errstate(divide="ignore", invalid="ignore"):
        times = table["loss"] / network
    kinds = np.where(table["naive"], "naive", "trained")
    columns = {"prediction": table["predictor"], "kind": kinds, "test loss": table["loss"], "over the network's": times}
    return pd.DataFrame(columns)
