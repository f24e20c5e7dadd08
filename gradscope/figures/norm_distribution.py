"""How norms are distributed over seeds.

Change of log10 ‖∂L/∂h‖ from the last state to the first, minus its mean over seeds: last step's loss, full BPTT,
longest sequences; a ridge for each of at most five spectral radii. Dots: seeds. Black: the log-normal fit, a normal
distribution of the logarithms; filled, from ten seeds on: kernel density. Numbers: mean ± standard deviation in decades
and, from eight seeds on, the p value of the logarithms in the Shapiro-Wilk test: below 0.05, norms are hardly
log-normal. Exact zeros are counted, not fitted. Panels have scales of their own.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy import stats

from gradscope import analysis
from gradscope.drawing import NAMES, CannotDrawError, grid, hue_of, looks_for, small, word
from gradscope.results import Results

LINES = "spectral_radius"
RIDGES = 5
SEEDS, TESTED, SMOOTHED = 3, 8, 10  # from so many on: a fit, a test, a kernel density
CONSTANT = 1e-6  # decades: a smaller standard deviation is rounding
LEAST_P = 0.001  # smaller ones are not told apart


def table(results: Results) -> pd.DataFrame:
    """panel, spectral_radius (or another hue), `what`, decades, density, then mean, sd, seeds, zeros and p value.

    `what` is "seed" (a dot: its change, mean not subtracted), "fit" or "kernel" (curves: where, and how dense).
    """
    reach = analysis.reach(results)
    if reach["lag"].max() < 1 or reach.empty:
        raise CannotDrawError(
            "needs runs with a gradient over two steps or more, with three seeds, one loss step and full truncation"
        )
    first, hue = analysis.lines(analysis.changes(reach).query("t == 1"), results, LINES)
    ridge = ["panel", hue]
    shown = analysis.few(first[hue], RIDGES) if pd.api.types.is_numeric_dtype(first[hue]) else first[hue].unique()
    parts = [
        _ridge(own["decades"].to_numpy(), dict(zip(ridge, key, strict=True)))
        for key, own in first[first[hue].isin(shown)].groupby(ridge, observed=True)
        if len(own) >= SEEDS
    ]
    if not parts:
        raise CannotDrawError("needs runs with three seeds, one loss step and full truncation")
    return pd.concat(parts, ignore_index=True)


def _ridge(decades: NDArray[np.float64], about: dict[str, Any]) -> pd.DataFrame:
    """The rows of one ridge: its seeds, then its curves, as far as there are."""
    live = decades[np.isfinite(decades)]
    mean, sd = (live.mean(), live.std(ddof=1)) if len(live) >= SEEDS else (np.nan, np.nan)
    parts = [pd.DataFrame({"what": "seed", "decades": np.sort(decades), "density": np.nan})]
    spreads = sd > CONSTANT
    if spreads:
        at = mean + sd * np.linspace(-3.5, 3.5, 71)
        parts.append(pd.DataFrame({"what": "fit", "decades": at, "density": stats.norm.pdf(at, mean, sd)}))
    if spreads and len(live) >= SMOOTHED:
        at = np.linspace(live.min() - sd, live.max() + sd, 71)
        parts.append(pd.DataFrame({"what": "kernel", "decades": at, "density": stats.gaussian_kde(live)(at)}))
    p_value = stats.shapiro(live).pvalue if spreads and len(live) >= TESTED else np.nan
    told = {"mean": mean, "sd": sd, "seeds": len(decades), "zeros": len(decades) - len(live), "p_value": p_value}
    rows = pd.concat(parts, ignore_index=True).assign(**told)
    rows[list(about)] = list(about.values())
    return rows[[*about, *rows.columns[: -len(about)]]]


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each value of what else is swept, its ridges above one another."""
    hue = hue_of(table)
    values = list(dict.fromkeys(table[hue]))
    looks = looks_for(hue, values)
    figure, axes = grid(table["panel"].unique(), "deviation from the mean (decades)", NAMES.get(hue, hue), sharex=False)
    for panel, (ax,) in axes.items():
        ax.set_yticks(range(len(values)), [word(value) for value in values])
        ax.set_ylim(-0.25, len(values))
        ax.xaxis.set_major_locator(MaxNLocator(3))
        for value, own in table[table["panel"] == panel].groupby(hue, observed=True):
            _draw_ridge(ax, own, values.index(value), looks[value]["color"])
    return figure


def _draw_ridge(ax: Axes, ridge: pd.DataFrame, base: int, colour: Any) -> None:
    about = ridge.iloc[0]
    height = 0.8 / ridge["density"].max()
    place = (ridge["decades"] - about["mean"]) * float(about["sd"] > CONSTANT)
    seeds, fit, kernel = (ridge["what"] == what for what in ("seed", "fit", "kernel"))
    ax.axhline(base, color="0.8", linewidth=0.5, zorder=0)
    ax.fill_between(
        place[kernel], base, base + height * ridge["density"][kernel], color=colour, alpha=0.35, linewidth=0
    )
    ax.plot(place[fit], base + height * ridge["density"][fit], color="black", linewidth=0.8, gid=f"fit {base}")
    live = seeds & np.isfinite(place)
    ax.plot(
        place[live], np.full(live.sum(), base - 0.1), "o", color="0.2", markersize=1.5, alpha=0.7, gid=f"seeds {base}"
    )
    ax.annotate(
        "\n".join(_in_words(about)),
        (1.02, base + 0.3),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=small(),
    )


def _in_words(ridge: pd.Series) -> list[str]:
    """What is written beside a ridge, line by line."""
    words = []
    if np.isfinite(ridge["mean"]):
        sd = ridge["sd"] if ridge["sd"] > CONSTANT else 0.0
        words.append(f"{round(ridge['mean'], 1) + 0.0:.1f} ± {sd:.2g}".replace("-", "\N{MINUS SIGN}"))
    if np.isfinite(ridge["p_value"]):
        words.append(f"p = {ridge['p_value']:.2g}" if ridge["p_value"] >= LEAST_P else f"p < {LEAST_P:g}")
    if ridge["zeros"]:
        words.append(f"{ridge['zeros']} of {ridge['seeds']} zero")
    return words
