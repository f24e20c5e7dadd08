"""The benchmark's figure: how many times longer each peer takes than gradscope, for each workload."""

from __future__ import annotations

from typing import Any

import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter


def draw(found: dict[str, Any]) -> Figure:
    """Bars of time relative to gradscope's, each with its ratio and its share of the machine's fastest product."""
    timings = found["timings"]
    every = [timing["workload"] for timing in timings]
    workloads = [name for name in dict.fromkeys(every) if every.count(name) > 1] or list(dict.fromkeys(every))
    titles = list(dict.fromkeys(timing["title"] for timing in timings))
    colours = dict(zip(titles, sns.color_palette("colorblind", len(titles)), strict=True))
    rows = [sorted((t for t in timings if t["workload"] == w), key=lambda t: t["ratio"]) for w in workloads]
    figure = Figure(figsize=(5.5, 0.6 + 0.2 * sum(map(len, rows)) + 0.25 * len(rows)))
    ax = figure.subplots()
    place, ticks = 0.0, []
    for group in rows:
        for timing in group:
            ax.barh(place, timing["ratio"], color=colours[timing["title"]], height=0.8)
            text = f" {timing['title']}: {timing['ratio']:.3g}x, {100 * timing['share']:.0f} %"
            ax.text(timing["ratio"], place, text, va="center", fontsize=7)
            place -= 1
        ticks.append(place + (len(group) + 1) / 2)
        place -= 1
    ax.set(xscale="log", xlim=(0.5, 8 * max(t["ratio"] for t in timings)), yticks=ticks, yticklabels=workloads)
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.axvline(1.0, color="0.3", linewidth=0.6)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(
        f"time for a network, times gradscope's (median of {found['rounds']} rounds); % of the fastest product"
    )
    ax.set_ylim(place + 0.5, 1.0)
    ax.spines["left"].set_visible(False)
    return figure
