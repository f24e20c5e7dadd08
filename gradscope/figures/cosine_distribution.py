"""Direction of truncated gradients.

Cosine of truncated gradients with full BPTT's, recurrent-cell parameters together, losses at all steps of the longest
sequences, over draws of coins: whiskers 5 % to 95 % of the draws, box 25 % to 75 %, line the median; each of these is
the mean over seeds. A truncation that throws no coins has one cosine. Numbers: the share of draws that point the wrong
way (a negative cosine), where there are any; of a truncation without coins, the share of seeds. The least, the greatest
and the spectral radius nearest to 1.
"""

import pandas as pd
from matplotlib.figure import Figure

from gradscope import analysis
from gradscope.accounting import has_draws, ledger
from gradscope.drawing import CannotDrawError, grid, looks_of, panel_of
from gradscope.estimators import COSINES
from gradscope.results import Results


def table(results: Results) -> pd.DataFrame:
    """panel (with the spectral radius), truncation, the quantiles of the cosine, and `wrong_sign_share`."""
    if not has_draws(results) or (results.runs["loss_steps"] == "all").sum() == 0:
        raise CannotDrawError('needs runs with a gradient, draws = 200 (or another number) and loss_steps = "all"')
    found = ledger(results)
    chosen = (found["parameter"] == "all") & (found["loss_steps"] == "all") & (found["truncation"] != "full")
    found = found[chosen & (found["seq_len"] == found["seq_len"].max()) & found["cosine_p50"].notna()]
    if found.empty:
        raise CannotDrawError("needs runs with a gradient and a truncation other than full")
    found = found[found["spectral_radius"].isin(analysis.few(found["spectral_radius"]))]
    found = found.sort_values(["panel", "spectral_radius"], kind="stable")
    columns = found[["truncation", *COSINES, "wrong_sign_share"]].copy()
    columns.insert(0, "panel", panel_of(found))
    return columns.reset_index(drop=True)


def draw(table: pd.DataFrame) -> Figure:
    """A panel for each spectral radius, a row for each truncation."""
    looks = looks_of(table["truncation"])
    figure, axes = grid(table["panel"].unique(), "cosine to full BPTT", "", sharey=True)
    for panel, (ax,) in axes.items():
        own = table[table["panel"] == panel].set_index("truncation")
        for place, (spec, look) in enumerate(looks.items()):
            if spec not in own.index:
                continue
            low, first, middle, last, high = own.loc[spec, list(COSINES)]
            ax.hlines(place, low, high, color=look["color"], linewidth=0.8)
            ax.barh(place, last - first, left=first, height=0.55, color=look["color"], alpha=0.35, linewidth=0)
            ax.plot(middle, place, color=look["color"], marker="|", markersize=9, markeredgewidth=1.6, gid=spec)
            if wrong := own.loc[spec, "wrong_sign_share"]:
                ax.annotate(f"{wrong:.0%}", (low, place), (-3, 0), textcoords="offset points", ha="right", va="center")
        ax.axvline(0.0, color="grey", linewidth=0.6)
        ax.set_xlim(min(-0.05, table["cosine_p05"].min() - 0.25), 1.03)
        ax.set_yticks(range(len(looks)), list(looks))
        ax.set_ylim(len(looks) - 0.5, -0.5)
    return figure
