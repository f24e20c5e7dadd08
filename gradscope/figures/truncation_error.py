"""What truncation costs.

Distance of the truncated gradient from that of full BPTT on the same run, over all recurrent-cell parameters together,
for losses at all steps of the longest sequences: relative error (top) and cosine (bottom). Lines: median over seeds;
bands: 10 % to 90 % of the seeds. Of a truncation that throws coins, the seed's own draw. The axis of errors ends at
1e-6. Of more than 14 truncations, three of each kind.
"""

import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis
from gradscope.drawing import NAMES, CannotDrawError, band_lines, grid, hue_of, key, looks_for, told_apart
from gradscope.results import Results

LINES, ACROSS = "truncation", "spectral_radius"
MEASURES = {"relative_error": r"$\|g - g_{\mathrm{full}}\|\,/\,\|g_{\mathrm{full}}\|$", "cosine": "cosine to full BPTT"}


def table(results: Results) -> pd.DataFrame:
    """panel, truncation (or another hue), spectral_radius, measure, then low, median and high over seeds."""
    errors = analysis.truncation_errors(results)
    if errors["relative_error"].isna().all() or errors["cosine"].isna().all():
        raise CannotDrawError('needs runs with a gradient, loss_steps = "all" and a truncation other than "full"')
    errors = errors[errors["truncation"].isin(told_apart(errors["truncation"]))]
    errors, hue = analysis.lines(errors, results, LINES)
    by = ["panel", hue, "spectral_radius"]
    parts = [analysis.quantiles(errors.dropna(subset=name), by, name).assign(measure=name) for name in MEASURES]
    return pd.concat(parts, ignore_index=True)


def draw(table: pd.DataFrame) -> Figure:
    """Relative error above cosine, a column for each value of what else is swept."""
    hue = hue_of(table)
    looks = looks_for(hue, table[hue])
    figure, axes = grid(table["panel"].unique(), NAMES["spectral_radius"], *MEASURES.values())
    for panel, column in axes.items():
        for measure, ax in zip(MEASURES, column, strict=True):
            shown = table[(table["panel"] == panel) & (table["measure"] == measure)]
            band_lines(ax, shown, "spectral_radius", looks)
        column[0].axhline(1.0, color="grey", linewidth=0.6)
        column[0].set(yscale="log", ylim=_error_limits(table.loc[table["measure"] == "relative_error", "median"]))
        lowest = table.loc[table["measure"] == "cosine", "low"].min()
        column[1].set_ylim(lowest - 0.05 * (1.0 - lowest) - 0.01, 1.0 + 0.05 * (1.0 - lowest) + 0.01)
    key(figure, axes, hue, looks)
    return figure


def _error_limits(medians: pd.Series) -> tuple[float, float]:
    """Both ends of the axis of errors: not below 1e-6, where a truncation is as good as none."""
    positive = medians[medians > 0]
    return max(1e-6, positive.min() / 2), max(2.0, positive.max() * 2)
