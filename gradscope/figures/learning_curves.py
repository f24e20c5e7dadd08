"""Learning curves.

Loss against the training step: of training, the mean since the look before; of validation, at each look. What is held
out of a series or text is read from a state that has seen what comes before; windows of training may begin with none.
Lines: median over seeds; bands: 10 % to 90 % of the seeds. Dashed: the test loss of the best naive prediction. Crosses:
where trainings diverged; from there on they count no more. Bars: where they stopped early; they count as they stand.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradscope import courses, outcomes
from gradscope.courses import Curve
from gradscope.drawing import CannotDrawError
from gradscope.loading import Loaded

MEASURE = "training"
LINES = "truncation"  # or another parameter that is swept
ROWS = {
    "loss": {
        "loss": Curve("training", "training loss"),
        "validation_loss": Curve("validation", "validation loss"),
    }
}


def table(results: Loaded) -> pd.DataFrame:
    """panel, truncation (or another parameter), measure, step, low, median and high over seeds, and `naive`.

    Measures are "loss", "validation_loss", and, without a median, "diverged" and "stopped early": so many seeds did.
    """
    found = outcomes.curves(results, list(ROWS["loss"]))
    if not np.isfinite(found["median"]).any():
        raise CannotDrawError("needs runs with a loss that is a finite number")
    found = pd.concat([found, outcomes.ends(results)], ignore_index=True)[list(found)]
    return found.merge(outcomes.naive_levels(results), on="panel")


def draw(table: pd.DataFrame) -> Figure:
    """Both losses in a panel, or, where lines differ by a parameter, one above the other."""
    figure, placed = courses.draw(table, ROWS)
    for (panel, measure), ax in placed.items():
        courses.logarithmic(ax, courses.numbers(table)["median"])
        if measure == "validation_loss":
            for value in table.loc[table["panel"] == panel, "naive"].dropna().unique():
                courses.level(ax, value, "best naive")
    courses.mark_ends(placed, table)
    courses.key(figure, placed, table)
    return figure
