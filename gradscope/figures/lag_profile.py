"""What each truncation leaves at each lag.

Norm of a loss's state gradient against lag, as truncated, on average over the losses of a sequence and over coins: the
mean weight of the truncation at that lag times the norm under full BPTT (last step's loss, longest sequences, median
over seeds). Unbiased truncations lie on full BPTT; a mark is where one ends. The least, the greatest and the spectral
radius nearest to 1; of more than 14 truncations, three of each kind.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis, lags
from gradscope.drawing import CannotDrawError, grid, key, looks_of, panel_of, told_apart
from gradscope.results import Results


def table(results: Results) -> pd.DataFrame:
    """panel (with the spectral radius), truncation, lag and `log10_dh`."""
    if results.runs["truncation"].nunique() < 2:
        raise CannotDrawError("needs runs with a gradient and two truncations")
    found = lags.expected_norms(results)
    found = found[found["spectral_radius"].isin(analysis.few(found["spectral_radius"])) & found["median"].notna()]
    if found["lag"].nunique() < 2:
        raise CannotDrawError("needs runs with a gradient over two steps or more, one loss step and full truncation")
    found = found.sort_values(["panel", "spectral_radius"], kind="stable")
    found = found[found["truncation"].isin(told_apart(found["truncation"]))]
    columns = found[["truncation", "lag"]].assign(log10_dh=found["median"])
    columns.insert(0, "panel", panel_of(found))
    return columns.reset_index(drop=True)


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each spectral radius, a line for each truncation."""
    figure, axes = grid(
        table["panel"].unique(),
        "lag (steps)",
        r"$\log_{10}$ of the mean norm",
        sharey=False,
    )
    looks = looks_of(table["truncation"])
    for panel, (ax,) in axes.items():
        own = table[(table["panel"] == panel) & np.isfinite(table["log10_dh"])]
        for spec, look in looks.items():
            line = own[own["truncation"] == spec]
            ends = [len(line) - 1] if len(line) and line["lag"].iloc[-1] < own["lag"].max() else []
            ax.plot(line["lag"], line["log10_dh"], label=spec, markersize=4, markevery=ends, **look)
    key(figure, axes, "truncation", looks)
    return figure
