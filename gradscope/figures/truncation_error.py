"""What truncation costs.

Distance of the truncated gradient from that of full BPTT on the same run, over all recurrent-cell parameters together,
for losses at all steps of the longest sequences: relative error (top) and cosine (bottom). Lines: median over seeds;
bands: 10 % to 90 % of the seeds. Of a truncation that throws coins, the seed's own draw. The axis of errors ends at
1e-6. Of more than 14 truncations, three of each kind.
"""

import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis
from gradscope.drawing import CannotDrawError, grid, looks_of, told_apart
from gradscope.results import Results

MEASURES = {"relative_error": r"$\|g - g_{\mathrm{full}}\|\,/\,\|g_{\mathrm{full}}\|$", "cosine": "cosine to full BPTT"}


def table(results: Results) -> pd.DataFrame:
    """panel, measure, truncation, spectral_radius, then low, median and high over seeds."""
    errors = analysis.truncation_errors(results)
    if errors["relative_error"].isna().all() or errors["cosine"].isna().all():
        raise CannotDrawError('needs runs with a gradient, loss_steps = "all" and a truncation other than "full"')
    errors = errors[errors["truncation"].isin(told_apart(errors["truncation"]))]
    by = ["panel", "truncation", "spectral_radius"]
    return pd.concat(
        [analysis.quantiles(errors.dropna(subset=name), by, name).assign(measure=name) for name in MEASURES]
    )


def draw(table: pd.DataFrame) -> Figure:
    """Relative error above cosine, a column for each value of what else is swept."""
    looks = looks_of(table["truncation"])
    figure, axes = grid(table["panel"].unique(), "spectral radius of $W_{hh}$", *MEASURES.values())
    for panel, column in axes.items():
        for measure, ax in zip(MEASURES, column, strict=True):
            shown = table[(table["panel"] == panel) & (table["measure"] == measure)]
            for spec, look in looks.items():
                line = shown[shown["truncation"] == spec]
                radius, every = line["spectral_radius"], max(1, len(line) // 6)
                ax.plot(radius, line["median"], label=spec, markersize=3, markevery=every, **look)
                ax.fill_between(radius, line["low"], line["high"], color=look["color"], alpha=0.15, linewidth=0)
        column[0].axhline(1.0, color="grey", linewidth=0.6)
        column[0].set(yscale="log", ylim=_error_limits(table.loc[table["measure"] == "relative_error", "median"]))
        lowest = table.loc[table["measure"] == "cosine", "low"].min()
        column[1].set_ylim(lowest - 0.05 * (1.0 - lowest) - 0.01, 1.0 + 0.05 * (1.0 - lowest) + 0.01)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", title="truncation")
    return figure


def _error_limits(medians: pd.Series) -> tuple[float, float]:
    """Both ends of the axis of errors: not below 1e-6, where a truncation is as good as none."""
    positive = medians[medians > 0]
    return max(1e-6, positive.min() / 2), max(2.0, positive.max() * 2)
