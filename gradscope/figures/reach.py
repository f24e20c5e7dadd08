"""How far back a loss reaches, by network.

The lag from which on at most a half (half-life), or a hundredth (horizon of 1 %), is left of the gradient's norm at lag
0: last step's loss, full BPTT, longest sequences; of an LSTM for what is read out, h, and for the cell state, c, each
beside itself at lag 0. Small: seeds; large: their median. Dashed: the sequence's length; triangles: at the greatest lag
more is left, so the lag lies beyond the sequence. Of more than three spectral radii the least, the greatest and that
nearest to 1.
"""

import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis, dots, lags
from gradscope.drawing import CannotDrawError, panel_of
from gradscope.results import Results

PARTS = {"h": "h, the output", "c": "c, the cell state"}


def table(results: Results) -> pd.DataFrame:
    """panel (the measure, and the radius if several are swept), network, part, seed, steps (inf: beyond), seq_len."""
    found = lags.reaches(results)
    networks = found["panel"].nunique()
    if not 2 <= networks <= dots.MOST:
        raise CannotDrawError(
            f"needs runs with a gradient of 2 to {dots.MOST} networks that differ in more than their radius, such as "
            "several cells, one loss step and full truncation"
        )
    order = {panel: i for i, panel in enumerate(analysis.panels(results).unique())}
    found = found.assign(network=found["panel"], panel=found["measure"].map(dots.MEASURES))
    if len(found["spectral_radius"].unique()) > 1:
        found["panel"] = panel_of(found)
    found = found.sort_values("network", key=lambda names: names.map(order), kind="stable")
    return found[["panel", "network", "part", "seed", "steps", "seq_len"]]


def draw(table: pd.DataFrame) -> Figure:
    """A row for each network."""
    return dots.draw(table, "part", PARTS)
