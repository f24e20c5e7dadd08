"""What truncation costs.

Distance of the truncated gradient from that of full BPTT on the same run, over all recurrent-cell parameters together,
for losses at all steps of the longest sequences: relative error (top) and cosine (bottom). Lines: median over seeds;
bands: 10 % to 90 % of the seeds. The axis of errors ends at 1e-6.
"""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from gradscope import analysis
from gradscope.drawing import DASHES, MARKERS, CannotDrawError, grid
from gradscope.results import Results

MEASURES = {"relative_error": r"$\|g - g_{\mathrm{full}}\|\,/\,\|g_{\mathrm{full}}\|$", "cosine": "cosine to full BPTT"}


def table(results: Results) -> pd.DataFrame:
    """panel, measure, truncation, spectral_radius, then low, median and high over seeds."""
    errors = analysis.truncation_errors(results)
    if errors.empty:
        raise CannotDrawError('needs runs with loss_steps = "all" and a truncation other than "full"')
    by = ["panel", "truncation", "spectral_radius"]
    return pd.concat(
        [analysis.quantiles(errors.dropna(subset=name), by, name).assign(measure=name) for name in MEASURES]
    )


def draw(table: pd.DataFrame) -> Figure:
    """Relative error above cosine, a column for each value of what else is swept."""
    panels = list(table["panel"].unique())
    truncations = sorted(table["truncation"].unique(), key=lambda spec: (spec.split(":")[0], len(spec), spec))
    colours = sns.color_palette("colorblind", len(truncations))
    figure, axes = grid(panels, rows=2)
    for panel, column in zip(panels, axes, strict=True):
        for (measure, label), ax in zip(MEASURES.items(), column, strict=True):
            for i, spec in enumerate(truncations):
                chosen = (table["panel"] == panel) & (table["measure"] == measure) & (table["truncation"] == spec)
                line = table[chosen]
                look = {"color": colours[i], "linestyle": DASHES[i % 6], "marker": MARKERS[i % 7], "markersize": 3}
                ax.plot(line["spectral_radius"], line["median"], label=spec, markevery=max(1, len(line) // 6), **look)
                ax.fill_between(
                    line["spectral_radius"], line["low"], line["high"], color=colours[i], alpha=0.15, linewidth=0
                )
            if panel == panels[0]:
                ax.set_ylabel(label)
        errors = table.loc[(table["measure"] == "relative_error") & (table["median"] > 0), "median"]
        column[0].set_yscale("log")
        column[0].set_ylim(max(1e-6, errors.min() / 2), max(2.0, errors.max() * 2))
        column[0].axhline(1.0, color="grey", linewidth=0.6)
        column[1].set_ylim(min(0.0, table.loc[table["measure"] == "cosine", "low"].min()) - 0.05, 1.05)
        column[1].set_xlabel("spectral radius of $W_{hh}$")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", title="truncation")
    return figure
