"""The explorer of a report: norms against lag for whatever its reader chooses, small enough to travel in the page.

The packed data are a header and a body. The header is JSON: what the body's numbers mean. The body holds, for each
panel, length and loss, a block of shape (spectral radius, truncation, column, lag); the columns are the seeds' values
of log10 |dL/dh_t| where seeds are few, else statistics over seeds (`STATISTICS`). A block's numbers are 16 bits wide,
in units of 1/scale, one hundredth of a decade where their range allows; `ZERO` is a gradient of exactly zero, `NONE`
no gradient.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from scipy import stats

from gradscope import analysis
from gradscope.drawing import told_apart
from gradscope.results import Results
from gradscope.scaled import Floats

LIBRARY = "echarts.min.js"
FEW_SEEDS = 10  # of which each is in the page, so that they can be seen one by one
STATISTICS = ("low", "median", "high", "least", "greatest", "mean", "half_width", "change")
BUDGET = 500_000  # characters of packed data
NUMBERS = 1_300_000  # that are worth packing: more are beyond the budget
NEAR = 16  # lags from 0 on that are kept when others are thinned
ZERO, NONE, LARGEST = -32768, 32767, 32766


class Choices(NamedTuple):
    """What a reader can choose, in the order of the blocks' axes, and how many lags there are at most."""

    panel: tuple[str, ...]
    seq_len: tuple[int, ...]
    loss_steps: tuple[str, ...]
    spectral_radius: tuple[float, ...]
    truncation: tuple[str, ...]
    lags: int = 100


class Explorer(NamedTuple):
    """What the page needs for its explorer.

    Attributes
    ----------
    data, library : packed: gzip, then base64.
    library_text, script : the texts of the page's two scripts for it, exactly as they run.
    choices : what can be chosen.
    first : the radii that are shown first.
    seeds : how many there are.
    each_seed : whether seeds can be seen one by one.
    left_out : sentences on what the tables hold and the explorer does not.
    """

    data: str
    library: str
    library_text: str
    script: str
    choices: Choices
    first: list[float]
    seeds: int
    each_seed: bool
    left_out: list[str]


def explorer(results: Results) -> Explorer | None:
    """The explorer of these results; None if no network's gradient was measured over two steps or more.

    The same results give the same bytes. Of large sweeps parts are left out, so that the data stay in the `BUDGET`.

    Examples
    --------
    `explorer(gs.load("reports/spectral-radius")).left_out`
    """
    runs = analysis.networks(results).astype({"loss_steps": str, "truncation": str})
    measured = runs[runs["status"] == "ok"]
    if measured.empty or measured["seq_len"].max() < 2:
        return None
    everything = Choices(
        panel=tuple(sorted(runs["panel"].unique())),
        seq_len=tuple(sorted(runs["seq_len"].unique().tolist())),
        loss_steps=tuple(runs["loss_steps"].unique()),
        spectral_radius=tuple(sorted(runs["spectral_radius"].unique().tolist())),
        truncation=tuple(runs["truncation"].unique()),
    )
    seeds = measured["seed"].nunique()
    for choices in _ever_less(everything):
        if _numbers(choices, seeds) <= NUMBERS and len(data := _pack(*_tables(results, measured, choices))) <= BUDGET:
            break
    here = files("gradscope.reporting")
    library = here.joinpath("vendor", LIBRARY).read_text(encoding="utf-8")
    return Explorer(
        data=data,
        library=_compressed(library.encode()),
        library_text=library,
        script=here.joinpath("explorer.js").read_text(encoding="utf-8"),
        choices=choices,
        first=analysis.few(set(choices.spectral_radius) & set(measured["spectral_radius"])),
        seeds=seeds,
        each_seed=seeds <= FEW_SEEDS,
        left_out=_left_out(everything, choices),
    )


def lags_shown(seq_len: int, loss_steps: str, most: int) -> NDArray[np.int64]:
    """The lags of a loss that the explorer has: all, or the nearest ones and from there on evenly to the last.

    >>> lags_shown(100, "last", 20)
    array([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 36,
           57, 78, 99])
    """
    last = (int(loss_steps) if loss_steps.isdecimal() else seq_len) - 1
    if last < most:
        return np.arange(last + 1)
    far = np.rint(np.linspace(NEAR - 1, last, most - NEAR + 1)).astype(np.int64)
    return np.concatenate([np.arange(NEAR), far[1:]])


def _ever_less(choices: Choices) -> Iterator[Choices]:
    """What to show, from everything to what fits in any case; what is missed least goes first."""
    radii = choices.spectral_radius
    some = sorted({radii[round(at)] for at in np.linspace(0, len(radii) - 1, min(len(radii), 21))})
    yield choices
    for less in (
        {"lags": 50},
        {"truncation": tuple(told_apart(choices.truncation))},
        {"seq_len": choices.seq_len[-1:]},
        {"spectral_radius": tuple(some)},
        {"panel": choices.panel[:8], "loss_steps": choices.loss_steps[:2]},
        {"panel": choices.panel[:1], "lags": 25},
    ):
        choices = choices._replace(**less)
        yield choices


def _numbers(choices: Choices, seeds: int) -> int:
    """How many numbers the body holds."""
    lags = sum(
        len(lags_shown(length, steps, choices.lags)) for length in choices.seq_len for steps in choices.loss_steps
    )
    curves = len(choices.panel) * len(choices.spectral_radius) * len(choices.truncation)
    return lags * curves * (seeds if seeds <= FEW_SEEDS else len(STATISTICS))


def _left_out(everything: Choices, choices: Choices) -> list[str]:
    """What the tables hold and the explorer does not, in sentences."""
    names = {
        "panel": "panels",
        "seq_len": "sequence lengths",
        "loss_steps": "choices of loss steps",
        "spectral_radius": "spectral radii",
        "truncation": "truncations",
    }
    said = [
        f"{len(getattr(choices, key))} of {len(getattr(everything, key))} {name} are here."
        for key, name in names.items()
        if getattr(choices, key) != getattr(everything, key)
    ]
    if max(choices.seq_len) > choices.lags:
        said.insert(
            0,
            f"Of longer sequences {choices.lags} lags are here: "
            f"the first {NEAR}, then some at even distances up to the last.",
        )
    return said


def _tables(results: Results, runs: pd.DataFrame, choices: Choices) -> tuple[dict[str, Any], list[Floats]]:
    """The header and the blocks, before packing."""
    seeds = sorted(runs["seed"].unique().tolist())
    blocks, lags, limit = [], [], 1.0
    for panel in choices.panel:
        for seq_len in choices.seq_len:
            for loss_steps in choices.loss_steps:
                own = runs[(runs["panel"] == panel) & (runs["seq_len"] == seq_len) & (runs["loss_steps"] == loss_steps)]
                lags.append(lags_shown(seq_len, loss_steps, choices.lags))
                norms = _norms(results, own, choices, seeds, lags[-1])
                change = _since_lag_0(norms)
                limit = max(limit, np.abs(change, where=np.isfinite(change), out=np.zeros_like(change)).max())
                blocks.append(norms if len(seeds) <= FEW_SEEDS else _statistics(norms, change))
    header = {
        "columns": seeds if len(seeds) <= FEW_SEEDS else STATISTICS,
        "each_seed": len(seeds) <= FEW_SEEDS,
        "lags": [each.tolist() for each in lags[: len(choices.seq_len) * len(choices.loss_steps)]],
        # Student's t of a two-sided 95 % interval, for so many seeds.
        "student": [0.0, 0.0, *stats.t.ppf(0.975, np.arange(1, min(len(seeds), FEW_SEEDS))).round(6)],
        "limit": float(np.ceil(limit)),
        "colours": [to_hex(colour) for colour in mpl.colormaps["RdBu_r"](np.linspace(0.0, 1.0, 33))],
    }
    return header, blocks


def _norms(results: Results, runs: pd.DataFrame, choices: Choices, seeds: list[int], lags: NDArray[np.int64]) -> Floats:
    """log10 |dL/dh_t| by spectral radius, truncation, seed and lag; nan where there is none."""
    axes = {"spectral_radius": choices.spectral_radius, "truncation": choices.truncation, "seed": seeds}
    norms = np.full((*map(len, axes.values()), len(lags)), np.nan)
    runs = runs[np.logical_and.reduce([runs[axis].isin(known) for axis, known in axes.items()])]
    if runs.empty:
        return norms
    steps = results.select(run_id=list(runs["run_id"])).timesteps
    steps = steps[steps["lag"].isin(lags)]
    run = runs.set_index(runs["run_id"].astype(str)).loc[steps["run_id"].astype(str)]
    place = [pd.Index(known).get_indexer(run[axis]) for axis, known in axes.items()]
    norms[*place, np.searchsorted(lags, steps["lag"])] = steps["log10_dh"]
    return norms


def _since_lag_0(norms: Floats) -> Floats:
    """The change of log10 norms along the last axis from its first entry on; -inf where a gradient is exactly zero."""
    zero = np.isneginf(norms)
    return np.where(zero, -np.inf, norms - np.where(zero, np.nan, norms)[..., :1])


def _statistics(norms: Floats, change: Floats) -> Floats:
    """Statistics over the third axis, which holds seeds: `STATISTICS` stand in its place."""
    radii, truncations, _, lags = norms.shape
    curve, _, lag = np.indices((radii * truncations, *norms.shape[2:])).reshape(3, -1)
    table = pd.DataFrame({"curve": curve, "lag": lag, "log10_dh": norms.ravel(), "change": change.ravel()})
    by = ["curve", "lag"]
    bands = analysis.quantiles(table, by, "log10_dh")
    over_seeds = table.groupby(by)["log10_dh"]
    count = over_seeds.count().to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        bands = bands.assign(
            least=over_seeds.min().to_numpy(),
            greatest=over_seeds.max().to_numpy(),
            mean=over_seeds.mean().to_numpy(),
            half_width=stats.t.ppf(0.975, count - 1) * over_seeds.std().to_numpy() / np.sqrt(count),
            change=analysis.quantiles(table, by, "change")["median"],
        )
    values = bands[list(STATISTICS)].to_numpy().reshape(radii, truncations, lags, len(STATISTICS))
    return values.swapaxes(2, 3)


def _pack(header: dict[str, Any], blocks: list[Floats]) -> str:
    """The length of the header in four bytes, the header, then the body: all lower bytes, then all upper ones."""
    scales, body = zip(*map(_quantised, blocks), strict=True)
    head = json.dumps(header | {"scales": scales}, separators=(",", ":")).encode()
    planes = np.concatenate(body).astype("<i2").view(np.uint8).reshape(-1, 2).T
    return _compressed(len(head).to_bytes(4, "little") + head + planes.tobytes())


def _quantised(block: Floats) -> tuple[float, NDArray[np.int16]]:
    """A scale, and numbers times that scale as 16-bit integers."""
    finite = np.isfinite(block)
    largest = np.abs(block, where=finite, out=np.zeros_like(block)).max()
    scale = min(100.0, LARGEST / max(largest, 1.0))
    codes = np.where(np.isneginf(block), ZERO, NONE)
    codes[finite] = np.rint(block[finite] * scale)
    return scale, codes.astype(np.int16).ravel()


def _compressed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()
