"""How far back a loss reaches, before and after training.

The lag from which on at most a half (half-life), or a hundredth (horizon of 1 %), is left of the gradient's norm at lag
0, of the last loss alone under full BPTT: at initialisation and after the last step, for each cell, or value of what
lines differ by elsewhere. Small: seeds; large: their median. Dashed: the sequence's length; triangles: at the
greatest lag more is left, so the lag lies beyond the sequence.
"""

import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis, dots, outcomes
from gradscope.drawing import CannotDrawError, word
from gradscope.history import History
from gradscope.loading import Loaded
from gradscope.reaching import SHARES

MEASURE = "training"
LINES = "truncation"  # or another parameter that is swept: the rows
WHEN = {"initial": "at initialisation", "trained": "after training"}


def table(results: Loaded) -> pd.DataFrame:
    """panel (the measure, and what else is swept), network, when, seed, steps (inf: beyond the sequence), seq_len."""
    columns = [f"{name}_{when}" for name in SHARES for when in WHEN]
    hue = outcomes.hue_of(results)
    if isinstance(results, History) or hue is None:
        raise CannotDrawError("needs runs with several values of a parameter, such as the cell: a sweep of trainings")
    if columns[0] not in results.runs:
        raise CannotDrawError("needs runs trained with this version, which adds half-lives")
    runs = outcomes.laid_out(results, hue)
    if runs[hue].nunique() > dots.MOST:
        raise CannotDrawError(f"needs runs with at most {dots.MOST} values of {hue}")
    runs = runs.assign(network=runs[hue].map(word))
    sizes = analysis.sizes_in_words(runs, runs["network"])
    runs["network"] = runs["network"] + (", " + sizes).where(sizes != "", "")
    found = runs[["panel", "network", "seed", "seq_len", *columns]]
    found = found.melt(["panel", "network", "seed", "seq_len"], columns, "measure", value_name="steps")
    found[["measure", "when"]] = found["measure"].str.rsplit("_", n=1, expand=True).to_numpy()
    words = found["measure"].map(dots.MEASURES)
    found["panel"] = words.where(found["panel"] == "", words + ", " + found["panel"])
    return found[["panel", "network", "when", "seed", "steps", "seq_len"]].dropna(subset="steps")


def draw(table: pd.DataFrame) -> Figure:
    """A row for each value of what lines differ by elsewhere."""
    return dots.draw(table, "when", WHEN)
