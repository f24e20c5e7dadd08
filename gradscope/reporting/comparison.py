"""Sweeps side by side: what differs in their grids, their numbers with the differences, their findings and figures.

The first sweep is what the others are held against. Differences are paired by seed where both sweeps have the same
seeds: weights and inputs are then the same draws, if sizes, ensemble and task are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from string import ascii_uppercase
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from gradscope import analysis, figures, outcomes
from gradscope.accounting import geometric_mean_of
from gradscope.analysis import Estimate
from gradscope.errors import InputError
from gradscope.history import History
from gradscope.loading import Loaded, measure_of
from gradscope.reporting import page
from gradscope.reporting.finding import TOPICS, Finding
from gradscope.reporting.findings import findings
from gradscope.reporting.pictures import Picture, picture
from gradscope.reporting.trainings import trained
from gradscope.results import Results
from gradscope.scaled import Floats
from gradscope.values import in_words


class Side(NamedTuple):
    """One of the sweeps: its letter, its results, what tells each of its panels from others, and its `regimes`."""

    letter: str
    results: Results
    panels: dict[str, dict[str, Any]]
    regimes: pd.DataFrame


def compare(results: Sequence[Loaded], path: Path) -> Path:
    """Write a page that holds sweeps side by side, and return its path; figures are drawn into each sweep's folder.

    Parameters
    ----------
    results : two sweeps or more, each the whole of its folder; the others are held against the first.
    path : of the page.

    Raises
    ------
    InputError : fewer than two sweeps, more than there are letters, a selection, or a folder given twice; a single
        training; sweeps of which some are of trainings and some are not.

    Examples
    --------
    `compare([gs.load("reports/sine"), gs.load("reports/text")], Path("reports/sine-text.html"))`
    """
    sides = _sides(_checked(results))
    trains = measure_of(sides[0].results) == "training"
    tables = {"losses": losses(sides)} if trains else {}
    if not trains:
        tables = {"boundaries": boundaries(sides), "rates": rates(sides), "biases": biases(sides)}
    return page.write(
        "comparison.html.j2",
        path,
        sides=sides,
        title=" · ".join(f"{side.letter}: {side.results.manifest['name']}" for side in sides),
        grids=differing([side.results.manifest["grid"] for side in sides], [side.letter for side in sides]),
        trains=trains,
        **tables,
        headings=TOPICS,
        topics=_topics([findings(side.results) for side in sides]),
        pictures=_pictures(sides, path.parent),
    )


def _checked(results: Sequence[Loaded]) -> list[Results]:
    """The results, if they are sweeps that can be compared."""
    sweeps = [one for one in results if not isinstance(one, History)]
    if len(sweeps) < len(results):
        raise InputError("a single training", where="compare", allowed="sweeps", hint='measure = "training" sweeps')
    if not 2 <= len(sweeps) <= len(ascii_uppercase):
        allowed = f"2 to {len(ascii_uppercase)}"
        raise InputError(f"{len(sweeps)} sweeps", where="compare", allowed=allowed)
    if not all(one.whole for one in sweeps):
        raise InputError("a comparison is of all results in a folder, not of a selection", where="compare")
    folders = [one.folder.resolve() for one in sweeps]
    for one in sweeps:
        if folders.count(one.folder.resolve()) > 1:
            raise InputError(f"{one.folder} is given twice", where="compare")
    if len({measure_of(one) for one in sweeps}) > 1:
        raise InputError("some sweeps are of trainings, some of gradients", where="compare")
    return sweeps


def _sides(results: Sequence[Results]) -> list[Side]:
    """The sweeps with their panels, told apart by every parameter that one of the sweeps has several values of."""
    apart = [
        name
        for name in dict.fromkeys(name for one in results for name in one.parameters)
        if name not in analysis.AXES and any(name in one.runs and len(one.runs[name].unique()) > 1 for one in results)
    ]
    return [
        Side(
            letter,
            one,
            _panels(one, apart),
            analysis.regimes(one) if measure_of(one) != "training" else pd.DataFrame(),
        )
        for letter, one in zip(ascii_uppercase, results, strict=False)
    ]


def _panels(results: Results, apart: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The panels of one sweep -> their values of these parameters, as far as it has them."""
    runs = results.runs.assign(panel=analysis.panels(results)).drop_duplicates("panel")
    rows = runs[[name for name in apart if name in runs]].to_dict("records")
    own = ({name: value for name, value in row.items() if pd.notna(value)} for row in rows)
    return dict(zip(runs["panel"].astype(str), own, strict=True))


def together(sides: Sequence[Side]) -> dict[str, tuple[str, ...]]:
    """Name -> a panel of each sweep, wherever panels agree in all that their sweeps both have."""
    found = {}
    for panels in product(*(side.panels for side in sides)):
        values: dict[str, Any] = {}
        for side, panel in zip(sides, panels, strict=True):
            own = side.panels[panel]
            if any(values.get(name, value) != value for name, value in own.items()):
                break
            values |= own
        else:
            found[", ".join(f"{name} = {value}" for name, value in values.items())] = panels
    return found


def differing(grids: Sequence[Mapping[str, Sequence[Any]]], letters: Sequence[str]) -> pd.DataFrame:
    """The keys in which grids differ, a column for each grid; empty where all are the same.

    >>> differing([{"cell": ["elman"], "seq_len": [50]}, {"cell": ["elman"], "seq_len": [60]}], ["A", "B"]).to_numpy()
    array([['seq_len', '50', '60']], dtype=object)
    """
    keys = dict.fromkeys(key for grid in grids for key in grid)
    rows = [[key, *(in_words([one for one in grid.get(key, []) if one is not None]) for grid in grids)] for key in keys]
    apart = [row for row in rows if len(set(row[1:])) > 1]
    return pd.DataFrame(apart, columns=["parameter", *letters], dtype=object)


def boundaries(sides: Sequence[Side]) -> pd.DataFrame:
    """The boundary between vanishing and exploding in each sweep, and by how much it differs from the first's."""
    rows = []
    for name, own in _matched(sides, {side.letter: side.regimes for side in sides}):
        said = {letter: _boundary(table) for letter, table in own.items()}
        crossings = {letter: _crossings(table) for letter, table in own.items()}
        rows.append({"panel": name, **said, **_differences(crossings)})
    return _without_empty_panel(rows)


def rates(sides: Sequence[Side]) -> pd.DataFrame:
    """The decay rate in each sweep at the radii that all have, and by how much it differs from the first's."""
    rows = []
    known = {side.letter: side.regimes.dropna(subset="rate") for side in sides}
    for name, own in _matched(sides, known):
        for radius in _radii(own.values()):
            here = {letter: _by_seed(table, radius, "rate").to_dict() for letter, table in own.items()}
            means = {letter: str(analysis.estimate(list(sample.values()))) for letter, sample in here.items()}
            rows.append({"panel": name, "spectral radius": radius, **means, **_differences(here)})
    return _without_empty_panel(rows)


def biases(sides: Sequence[Side]) -> pd.DataFrame:
    """The relative error of the truncations that all sweeps have, median over seeds, and its ratio to the first's.

    At the least and the greatest radius that all have, and at the one nearest to 1.
    """
    rows = []
    measured = {side.letter: analysis.truncation_errors(side.results).dropna(subset="relative_error") for side in sides}
    for name, errors in _matched(sides, measured):
        for spec in _shared([table["truncation"] for table in errors.values()]):
            own = {letter: table[table["truncation"] == spec] for letter, table in errors.items()}
            for radius in analysis.few(_radii(own.values())):
                here = {letter: _by_seed(table, radius, "relative_error") for letter, table in own.items()}
                first, *others = here
                medians = {letter: sample.median() for letter, sample in here.items()}
                ratios = {f"{other} / {first}": ratio(here[first], here[other]) for other in others}
                rows.append({"panel": name, "truncation": spec, "spectral radius": radius, **medians, **ratios})
    return _without_empty_panel(rows)


def losses(sides: Sequence[Side]) -> pd.DataFrame:
    """The test losses of the trainings that all sweeps have, median over seeds, and their ratios to the first's."""
    measured = {side.letter: trained(side.results).dropna(subset="test_loss") for side in sides}
    apart = dict.fromkeys(name for side in sides for name in outcomes.swept(side.results))
    by = [name for name in apart if all(name in runs and runs[name].notna().all() for runs in measured.values())]
    if not by:
        return pd.DataFrame()
    groups = {letter: dict(list(runs.groupby(by))) for letter, runs in measured.items()}
    rows = []
    for setting in _shared(list(groups.values())):
        own = {letter: of[setting].groupby("seed")["test_loss"].mean() for letter, of in groups.items()}
        first, *others = own
        ratios = {f"{other} / {first}": ratio(own[first], own[other]) for other in others}
        rows.append(
            {**dict(zip(by, setting, strict=True)), **{name: one.median() for name, one in own.items()}, **ratios}
        )
    return pd.DataFrame(rows)


def difference(first: Mapping[int, float], other: Mapping[int, float]) -> Estimate:
    """How much greater the mean of `other` is than that of `first`, with its interval; values by seed.

    Paired, if both have the same seeds; else Welch's, of which a single seed has none.

    >>> print(difference({0: 1.0, 1: 2.0, 2: 3.0}, {0: 1.5, 1: 2.4, 2: 3.6}))
    0.50 ± 0.25
    """
    if not first or not other:
        return analysis.estimate([])
    if first.keys() == other.keys():
        return analysis.estimate([other[seed] - first[seed] for seed in first])
    a, b = (np.array(list(sample.values())) for sample in (first, other))
    return Estimate(float(b.mean() - a.mean()), _welch(a, b), min(len(a), len(b)))


def _welch(a: Floats, b: Floats) -> float:
    """Half the width of Welch's 95 % interval of a difference of means; nan if a sample is of one."""
    if min(len(a), len(b)) < 2:
        return np.nan
    parts = np.array([sample.var(ddof=1) / len(sample) for sample in (a, b)])
    if not (total := parts.sum()) > 0:
        return 0.0
    freedom = 1.0 / np.sum((parts / total) ** 2 / [len(a) - 1, len(b) - 1])
    return float(stats.t.ppf(0.975, freedom) * np.sqrt(total))


def ratio(first: pd.Series, other: pd.Series) -> str:
    """The geometric mean over seeds of other / first, with its interval if the seeds are the same, in words.

    >>> ratio(pd.Series([0.1, 0.2]), pd.Series([0.2, 0.4]))
    '2'
    """
    if not (first > 0).all() or not (other > 0).all() or first.empty or other.empty:
        return ""
    if set(first.index) != set(other.index):
        return f"{10 ** (np.log10(other).mean() - np.log10(first).mean()):.3g}"
    found = geometric_mean_of((other / first).to_numpy())
    interval = np.isfinite(found.low) and f"{found.low:.3g}" != f"{found.high:.3g}"
    return f"{found.value:.3g}" + (f" ({found.low:.3g} to {found.high:.3g})" if interval else "")


def _matched(
    sides: Sequence[Side], tables: Mapping[str, pd.DataFrame]
) -> Iterator[tuple[str, dict[str, pd.DataFrame]]]:
    """For panels that agree, their name and each sweep's rows, where all sweeps have some."""
    for name, panels in together(sides).items():
        own = {
            side.letter: tables[side.letter][tables[side.letter]["panel"].astype(str) == panel]
            for side, panel in zip(sides, panels, strict=True)
        }
        if all(len(table) for table in own.values()):
            yield name, own


def _without_empty_panel(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows as a table, without the column of panels where there is one panel only."""
    table = pd.DataFrame(rows)
    return table.drop(columns="panel") if len(table) and not table["panel"].any() else table


def _shared(columns: Sequence[Iterable[Any]]) -> list[Any]:
    """The values that all columns have, in the first one's order."""
    first, *others = (dict.fromkeys(column) for column in columns)
    return [value for value in first if all(value in other for other in others)]


def _radii(tables: Iterable[pd.DataFrame]) -> list[float]:
    """The spectral radii that all tables have, to nine digits."""
    return sorted(_shared([table["spectral_radius"].map("{:.9g}".format).astype(float) for table in tables]))


def _by_seed(table: pd.DataFrame, radius: float, column: str) -> pd.Series:
    """A column at a spectral radius, by seed."""
    return table[np.isclose(table["spectral_radius"], radius, rtol=1e-8)].set_index("seed")[column]


def _crossings(regimes: pd.DataFrame) -> dict[int, float]:
    """The radius at which each seed goes from vanishing to exploding; empty unless all do."""
    by_seed = {int(seed): analysis.boundary(own).radius.value for seed, own in regimes.groupby("seed")}
    return by_seed if all(np.isfinite(radius) for radius in by_seed.values()) else {}


def _boundary(regimes: pd.DataFrame) -> str:
    found = analysis.boundary(regimes)
    if found.outcome == "crossing":
        return str(found.radius)
    if found.outcome == "mixed" and np.isfinite(found.vanishing_to):
        return f"none: vanishing in every seed up to {found.vanishing_to:g}"
    return f"none: {found.outcome}"


def _differences(samples: Mapping[str, Mapping[int, float]]) -> dict[str, str]:
    """What each other sweep has more than the first, in words."""
    first, *others = samples
    found = {f"{other} - {first}": difference(samples[first], samples[other]) for other in others}
    return {name: str(one) if np.isfinite(one.value) else "" for name, one in found.items()}


def _topics(found: Sequence[Sequence[Finding]]) -> dict[str, list[list[str]]]:
    """Topic -> the sentences of each sweep on it."""
    topics = {topic: [[one.text for one in own if one.topic == topic] for own in found] for topic in TOPICS}
    return {topic: own for topic, own in topics.items() if any(own)}


def _pictures(sides: Sequence[Side], page_folder: Path) -> list[tuple[str, list[tuple[Side, Picture]]]]:
    """The name of each figure and its pictures, one of each sweep that gives it."""
    pictures: dict[str, list[tuple[Side, Picture]]] = {}
    for side in sides:
        folder = side.results.folder / "figures"
        beside = Path(os.path.relpath(folder.resolve(), page_folder.resolve())).as_posix()
        for drawn in figures.write(side.results, folder, ("png", "svg")):
            if drawn.files:
                one = picture(drawn, f"{side.letter.lower()}-", beside, packed=0)
                pictures.setdefault(drawn.name, []).append((side, one))
    return sorted(pictures.items())
