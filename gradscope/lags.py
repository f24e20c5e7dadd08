"""Gradients by lag: what truncations leave of them; those of weights, of other losses, of all parts of the state."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import pandas as pd

from gradscope import analysis
from gradscope.losses import select_steps
from gradscope.reaching import SHARES, steps_until
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


def credit(results: Results) -> pd.DataFrame:
    """How the gradient of each loss step's loss goes with the lag: full BPTT, longest sequences.

    A row a run and lag: the columns of `analysis.changes`, and `loss_step`, counted from 1.
    """
    reach = analysis.reach(results, every_loss=True)
    return analysis.changes(reach).assign(loss_step=reach["lag"] + reach["t"])


def parts(reach: pd.DataFrame) -> pd.DataFrame:
    """A table of `analysis.reach` with a row for each part of the state: `part` and `log10`, of its gradient's norm.

    Parts are "h", of an LSTM also "c", and of a stack's layers "h, layer 1"; a stack's "h" is that of all layers.
    """
    names = {f"log10_d{part}": part for part in _parts_of(reach.columns)}
    about = ["run_id", "panel", "spectral_radius", "seed", "seq_len", "lag"]
    table = reach[[*about, *names]].rename(columns=names)
    return table.melt(about, var_name="part", value_name="log10").dropna(subset="log10", ignore_index=True)


def _parts_of(columns: Iterable[str]) -> list[str]:
    """The parts of the state whose gradients are among some columns of the timesteps.

    >>> _parts_of(["lag", "log10_dh", "log10_dh_std", "log10_dc_l1"])
    ['h', 'c_l1']
    """
    found = (re.fullmatch(r"log10_d([a-z](?:_l\d+)?)", name) for name in columns)
    return [match[1] for match in found if match]


def reaches(results: Results) -> pd.DataFrame:
    """How far the last loss reaches, full BPTT, longest sequences: `steps` until a half, or a hundredth, is left.

    A row for each run, part of the state ("h", "c") and share ("half_life", "horizon"): run_id, panel, spectral_radius,
    seed, seq_len, part, measure, steps (`reaching.steps_until`). Of more than three spectral radii the least, the
    greatest and that nearest to 1.
    """
    reach = analysis.reach(results)
    reach = reach[reach["spectral_radius"].isin(analysis.few(reach["spectral_radius"]))]
    about, rows = ["run_id", "panel", "spectral_radius", "seed", "seq_len", "part"], []
    whole = parts(reach).sort_values("lag")
    for key, run in whole[whole["part"].str.len() == 1].groupby(about, observed=True, sort=False):
        rows += [(*key, name, steps_until(share, run["log10"])) for name, share in SHARES.items()]
    return pd.DataFrame(rows, columns=[*about, "measure", "steps"]).astype({"steps": float})


def sensitivities(results: Results) -> pd.DataFrame:
    """Gradients of one loss by states and by weights, of diagonal networks whose units forget alike: full BPTT.

    A row a run and measure: run_id, panel, spectral_radius, seed, measure, `ratio` to |dL/dh_T|, and `law`, the root of
    its mean square for white input. Measures: "state", the greatest |dL/dh_t| of all lags; "modulus", |dL/d|lambda||,
    over all units; "nu_log", that of the parameter that is learnt, log(-log|lambda|).

    Of runs with ring 1, one example and losses at the last step. With a = dL/dh_T, r = |lambda| and z = dh_T/dr a unit,
    dL/dr = Re(conj(a) z), and E|z|^2 = 2 (gamma sigma_u)^2 sum_k k^2 r^(2k-2) over k < T, which in long sequences is
    (1 + r^2)/(1 - r^2)^3 (Zucchet & Orvieto 2024, arXiv 2405.21064; here z is complex, and its half is real).
    """
    columns = ["run_id", "panel", "spectral_radius", "seed", "measure", "ratio", "law"]
    runs = results.runs
    if not {"ring", "log10_grad_nu_log"} <= set(runs):
        return pd.DataFrame(columns=columns)
    alike = runs[(runs["ring"] == 1) & (runs["batch_size"] == 1) & (runs["loss_steps"] == "last")]
    alike = alike[["run_id", "input_scale", "task", "log10_grad_nu_log"]].astype({"run_id": str})
    reach = analysis.reach(results)
    greatest = reach.groupby("run_id")["log10_dh"].max().rename("greatest")
    last = reach[reach["lag"] == 0].merge(alike, on="run_id").merge(greatest, on="run_id")
    r = last["spectral_radius"]
    chain = -r * np.log(r)  # |d|lambda| / d nu_log|
    law = [_modulus_law(*values) for values in zip(r, last["input_scale"], last["seq_len"], strict=True)]
    law = pd.Series(law, last.index, float).where(last["task"] == "noise")
    by_log = 10.0 ** (last["log10_grad_nu_log"] - last["log10_dh"])
    measured = {
        "state": last.assign(ratio=10.0 ** (last["greatest"] - last["log10_dh"]), law=1.0),
        "modulus": last.assign(ratio=by_log / chain, law=law),
        "nu_log": last.assign(ratio=by_log, law=law * chain),
    }
    return pd.concat([own.assign(measure=name)[columns] for name, own in measured.items()], ignore_index=True)


def _modulus_law(r: float, input_scale: float, seq_len: int) -> float:
    """The root mean square of |dL/dr| / |dL/dh_T| over white inputs of this scale, gamma being sqrt(1 - r^2)."""
    k = np.arange(1, seq_len)
    return float(input_scale * np.sqrt((1.0 - r**2) * np.sum(k**2 * r ** (2.0 * k - 2.0))))
