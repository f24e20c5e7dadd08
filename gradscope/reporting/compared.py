"""Findings that compare: cells at equal cost, how far they reach, also after training; boundaries beside theory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradscope import analysis, dots, lags
from gradscope.drawing import CannotDrawError
from gradscope.figures import reach_trained, sensitivity
from gradscope.reporting.finding import Finding, about
from gradscope.results import Results

MATCHED = {  # values of the key `match`
    "parameters": "number of parameters",
    "state": "size of the state",
    "time": "number of multiplications a step",
}
NAMED = 8  # networks in a sentence
COLUMNS = {  # of `lags.reaches`, as rows have them
    "panel": "network",
    "part": "part of the state",
    "half_life": "a half is left at lag (median)",
    "horizon": "1 % is left at lag (median)",
}
BEYOND = "beyond the sequence"


def at_equal_cost(results: Results) -> Iterator[Finding]:
    """In what cells are as large as each other, and how many units they have for that."""
    asked = results.manifest["grid"]["hidden_size"]
    if "match" not in results.runs or len(asked) > 1:
        return
    kinds = ["match", "cell", "num_layers"]
    sizes = results.runs.groupby(kinds, observed=True, sort=False)["hidden_size"].first().reset_index()
    for match, own in sizes[sizes["match"].isin(list(MATCHED))].groupby("match", observed=True, sort=False):
        layers = [f" of {number} layers" if number > 1 else "" for number in own["num_layers"]]
        parts = [f"{row.cell}{own} {row.hidden_size}" for row, own in zip(own.itertuples(), layers, strict=True)]
        text = (
            f"Cells are compared at equal cost: their {MATCHED[str(match)]} is about that of an Elman network of "
            f"{asked[0]} units. So many units they have: {', '.join(parts)}."
        )
        yield Finding(text, detail=f"matched {match}", source="runs.parquet: hidden_size")


def reaches(results: Results) -> Iterator[Finding]:
    """How far the last loss reaches in each network, where there are several cells."""
    if len(results.runs["cell"].unique()) < 2:
        return
    found = lags.reaches(results)
    by = ["spectral_radius", "panel", "part", "measure"]
    medians = found.groupby(by, observed=True)["steps"].median().unstack().reset_index()
    for radius, own in medians.groupby("spectral_radius"):
        own = own.sort_values(["horizon", "half_life"], ascending=False, kind="stable")
        several = own.groupby("panel")["part"].transform("size") > 1
        names = own["panel"].where(~several, own["part"] + " of " + own["panel"])
        parts = [
            f"{name}: half {_at(row.half_life)}, 1 % {_at(row.horizon)}"
            for name, row in zip(names, own.itertuples(), strict=True)
        ]
        rest = len(parts) - NAMED
        text = (
            f"At spectral radius {radius:g} at most half, and 1 %, of the gradient at lag 0 is left from this lag on "
            f"(medians over seeds): {'; '.join(parts[:NAMED])}"
            f"{f'; {rest} more in the rows' if rest > 0 else ''}."
        )
        yield Finding(
            text,
            "reach",
            "regimes",
            detail=f"reach at {radius:g}",
            rows=own[[*COLUMNS]].rename(columns=COLUMNS).reset_index(drop=True),
            source="timesteps: log10_dh, log10_dc against lag; last-step losses, full BPTT, longest sequences",
        )


def reaches_trained(results: Results) -> Iterator[Finding]:
    """How far the last loss reaches in each cell before and after training."""
    if len(results.runs["cell"].unique()) < 2:
        return
    try:
        table = reach_trained.table(results)
    except CannotDrawError:
        return
    for panel, own in table[table["panel"].str.startswith(dots.MEASURES["half_life"])].groupby("panel", sort=False):
        medians = own.groupby(["network", "when"], sort=False)["steps"].median().unstack()
        parts = [f"{row.Index} from {_steps(row.initial)} to {_steps(row.trained)}" for row in medians.itertuples()]
        where = str(panel).partition(", ")[2]
        text = (
            "while they learn, the lag from which on at most a half of the last loss's gradient at lag 0 is left goes "
            f"(medians over seeds): {'; '.join(parts)}."
        )
        yield Finding(
            about(where, text),
            "reach-trained",
            "training",
            where,
            "reach",
            medians.rename(columns=reach_trained.WHEN).reset_index(),
            "runs.parquet: half_life_initial, half_life_trained",
        )


def boundaries(results: Results) -> Iterator[Finding]:
    """How far the boundaries of several panels are from those that mean field gives."""
    runs = analysis.networks(results)
    runs = runs[analysis.activations(runs) != "linear"]
    theory = runs.assign(theory=analysis.theoretical_boundaries(runs)).groupby("panel", observed=True)["theory"]
    alike = theory.first()[theory.nunique(dropna=False) == 1].dropna()
    regimes = analysis.regimes(results)
    found = analysis.boundaries(regimes[regimes["panel"].isin(alike.index)], ["panel"])
    found = found.assign(theory=found["panel"].map(alike).astype(float)).dropna(subset="boundary")
    if len(found) < 2:
        return
    found["difference"] = found["boundary"] - found["theory"]
    farthest = found.loc[found["difference"].abs().idxmax()]
    words = [f"{row.panel}: {row.boundary:.3f} ({row.theory:.3f})" for row in found.itertuples()]
    shown = words if len(words) <= NAMED else [*words[: NAMED // 2], "…", *words[-NAMED // 2 :]]
    text = (
        f"Mean field has the boundary between vanishing and exploding at most {abs(farthest['difference']):.2g} away "
        f"from where it is measured, the most for {farthest['panel']}. Measured (theory), {'; '.join(shown)}."
    )
    names = {"half_width": "95 % interval ±", "vanishing_to": "all seeds vanish up to"}
    yield Finding(
        text,
        "phase-diagram",
        "regimes",
        detail="theory",
        rows=found.drop(columns="outcome").rename(columns=names).reset_index(drop=True),
        source="timesteps: log10_dh against lag; last-step losses, full BPTT; theory: many units, white input",
    )


def states_and_moduli(results: Results) -> Iterator[Finding]:
    """How gradients of diagonal networks grow as |lambda| goes to 1: by states, by |lambda|, and by what is learnt."""
    try:
        table = sensitivity.table(results)
    except CannotDrawError:
        return
    for panel, own in table.groupby("panel", observed=True):
        ratio = own.pivot_table(index="spectral_radius", columns="measure", values="median")
        law = own[own["measure"] == "modulus"].set_index("spectral_radius")["law"]
        first, last = ratio.index[[0, -1]]
        theory = f" (theory: {law[first]:.2g} to {law[last]:.2g})" if law.notna().all() else ""
        text = (
            f"as |lambda| goes from {first:g} to {last:g}, the gradient by |lambda| goes from "
            f"{ratio['modulus'][first]:.2g} to {ratio['modulus'][last]:.2g} times that by the last state{theory}, "
            f"though that by an earlier state is never more than {ratio['state'].max():.3g} times it; that by nu_log, "
            f"which is learnt in place of |lambda|, is {ratio['nu_log'].min():.2g} to {ratio['nu_log'].max():.2g} "
            "times it."
        )
        yield Finding(
            about(str(panel), text),
            "sensitivity",
            "regimes",
            str(panel),
            "states and weights",
            own.drop(columns="panel").reset_index(drop=True),
            "runs.parquet: log10_grad_nu_log; timesteps: log10_dh; last-step losses, full BPTT",
        )


def _at(lag: float) -> str:
    return BEYOND if np.isposinf(lag) else f"at {lag:.3g}"


def _steps(lag: float) -> str:
    return BEYOND if np.isposinf(lag) else f"{lag:.3g}"
