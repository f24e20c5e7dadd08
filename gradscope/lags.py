"""Gradients by lag: what each truncation leaves of them, and those of weights beside those of states."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from gradscope import analysis
from gradscope.losses import select_steps
from gradscope.results import Results
from gradscope.scaled import Floats
from gradscope.streams import coin_draws
from gradscope.truncations import expected, truncation

DRAWS = 400  # of coins, over which weights are averaged; with every loss of a sequence in each


@lru_cache(maxsize=256)
def mean_weights(spec: str, seq_len: int, loss_steps: str = "all", draws: int = DRAWS) -> Floats:
    """The weight with which a loss counts at each lag 0 .. seq_len - 1, mean over losses that reach so far, and coins.

    Those of `random` are 1 at every lag, of `fixed:TAU` 1 below TAU, of `chunked:TAU` fall from 1 to 0 over TAU lags.
    The mean over coins is exact, or, where no schedule has it, that of so many draws.

    >>> mean_weights("fixed:2", seq_len=4)
    array([1., 1., 0., 0.])
    """
    member = truncation(spec)
    schedule = expected(member, seq_len) or member.schedule(coin_draws(0, draws, seq_len))
    total, losses = np.zeros(seq_len), np.zeros(seq_len)
    for step in select_steps(loss_steps, seq_len) + 1:
        reached = np.atleast_2d(schedule.reach(int(step))).mean(axis=0)
        total[:step] += reached[::-1]
        losses[:step] += 1
    return total / np.maximum(losses, 1)


def expected_norms(results: Results) -> pd.DataFrame:
    """The norm of a loss's state gradient against lag that each swept truncation leaves on average.

    panel, spectral_radius, truncation, lag, `median` over seeds of log10 (mean weight times |dL/dh| under full BPTT).
    """
    reach = analysis.reach(results)
    full = analysis.quantiles(reach, ["panel", "spectral_radius", "lag"], "log10_dh")
    found = []
    for spec in results.runs["truncation"].astype(str).unique():
        weights = mean_weights(spec, int(results.runs["seq_len"].max()))
        with np.errstate(divide="ignore"):
            left = full["median"] + np.log10(weights)[full["lag"].to_numpy(int)]
        found.append(full[["panel", "spectral_radius", "lag"]].assign(truncation=spec, median=left))
    return pd.concat(found, ignore_index=True)


def states_and_weights(results: Results) -> pd.DataFrame:
    """How state and weight gradients of the last step's loss fall off with the lag, in full BPTT.

    A row a run and lag: run_id, panel, spectral_radius, seed, measure, lag, and `part`, log10 of: `state`, |dL/dh| at
    that lag over that at lag 0; `weight`, the part of the recurrent weights' gradient that comes from that lag on, read
    from the errors of `fixed:TAU`: |g - g_TAU| / |g|.
    """
    reach = analysis.reach(results)
    run = ["panel", "spectral_radius", "seed"]
    start = reach.loc[reach["lag"] == 0, [*run, "log10_dh"]].rename(columns={"log10_dh": "start"})
    states = reach.merge(start, on=run)
    states["part"] = states["log10_dh"] - states["start"]
    runs = analysis.networks(results)
    fixed = (runs["loss_steps"] == "last") & runs["truncation"].astype(str).str.startswith("fixed:")
    runs = analysis.longest(runs[fixed & (runs["status"] == "ok")], results)
    lags = runs["truncation"].astype(str).str.removeprefix("fixed:").astype(float)
    with np.errstate(divide="ignore"):
        weights = runs[["run_id", *run]].assign(lag=lags, part=np.log10(runs["relative_error"]))
    columns = ["run_id", *run, "measure", "lag", "part"]
    parts = [table.assign(measure=name)[columns] for name, table in {"state": states, "weight": weights}.items()]
    return pd.concat([part.astype({"run_id": str}) for part in parts], ignore_index=True)
