"""What a clip threshold does.

Clipping at each threshold of the gradients of many minibatches, each a step of training, all parameters together; from
top to bottom: the share of steps that are clipped; how much of a gradient's norm remains (median over steps); the angle
between the gradient before and after (median; zero where the direction is kept); how far the mean clipped gradient is
from the mean gradient, relative to it. Lines: median over seeds; bands: 10 % to 90 % of the seeds. Dotted: medians over
seeds of the 50, 90 and 99 % quantiles of the norm of all parameters before clipping. Thresholds were measured at the
marks only; the loss is the sweep's first reduction over steps. The least, the greatest and the spectral radius nearest
to 1.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis
from gradscope.drawing import CannotDrawError, grid, key, looks_for, panel_of
from gradscope.results import Results

MEASURES = {
    "clip_share": "share of steps clipped",
    "clip_kept": "norm kept",
    "clip_angle": "angle (degrees)",
    "clip_bias": "bias of the mean",
}
QUANTILES = ("log10_norm_p50", "log10_norm_p90", "log10_norm_p99")


def table(results: Results) -> pd.DataFrame:
    """panel (with the spectral radius), measure, kind of clip, threshold, then low, median and high over seeds.

    The quantiles of the norm are measures too, with no kind and no threshold.
    """
    runs = analysis.clips(results)
    if runs.empty or runs.groupby("kind")["threshold"].nunique().max() < 3:
        raise CannotDrawError("needs runs with a gradient, minibatches, and three thresholds of clip")
    runs = runs[runs["spectral_radius"].isin(analysis.few(runs["spectral_radius"]))]
    runs = runs.sort_values(["panel", "spectral_radius"], kind="stable")
    runs["panel"] = panel_of(runs)
    order = list(runs["panel"].unique())
    quantiles = runs.drop_duplicates(["panel", "seed"]).assign(kind="", threshold=np.nan)
    parts = [
        analysis.quantiles(rows.dropna(subset=name), by, name).assign(measure=name)
        for rows, names, by in (
            (runs, MEASURES, ["panel", "kind", "threshold"]),
            (quantiles, QUANTILES, ["panel", "kind"]),
        )
        for name in names
    ]
    found = pd.concat(parts, ignore_index=True)
    return found.sort_values("panel", key=lambda panel: panel.map(order.index), kind="stable", ignore_index=True)


def draw(table: pd.DataFrame) -> Figure:
    """A column for each spectral radius, a row for each measure, a line for each kind of clip."""
    figure, axes = grid(table["panel"].unique(), r"threshold $\theta$ (of the norm)", *MEASURES.values())
    looks = looks_for("clip", [kind for kind in table["kind"].unique() if kind])
    for panel, column in axes.items():
        own = table[table["panel"] == panel]
        for measure, ax in zip(MEASURES, column, strict=True):
            for kind, look in looks.items():
                line = own[(own["measure"] == measure) & (own["kind"] == kind)]
                ax.plot(line["threshold"], line["median"], label=kind, markersize=3, **look)
                ax.fill_between(
                    line["threshold"], line["low"], line["high"], color=look["color"], alpha=0.15, linewidth=0
                )
            for name in QUANTILES:
                for value in own.loc[own["measure"] == name, "median"]:
                    ax.axvline(10.0**value, color="grey", linewidth=0.6, linestyle=":", gid=name)
            ax.set_xscale("log")
    key(figure, axes, "clip by", looks)
    return figure
