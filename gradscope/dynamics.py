"""What a sweep records of networks as dynamical systems: exponents, singular values, bounds, non-normality.

The trajectories are those of the first examples that gradients are measured on; products of Jacobians go from the last
step back, as gradients do (`gradscope.jacobian`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.jacobian import Growth, Steps, Tied, Untied, kaplan_yorke, log_norms, singular_values, spectrum
from gradscope.networks import Networks, drawn, network_of
from gradscope.normality import NonNormality, non_normality
from gradscope.recurrence import Cell
from gradscope.runs import Run
from gradscope.scaled import Floats
from gradscope.workspace import Workspace

NORMS = 32  # steps at which the Jacobian's norm is found, at most
LAGS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)  # at which singular values are
SPECTRUM, CONVERGENCE = "spectrum_", "convergence_"  # columns of the runs table that hold lists begin so
OTHER_WEIGHTS = "untied"  # the status of runs whose W_hh is another one at every step: there is no gradient of it

Columns = dict[str, NDArray[Any]]


def lags_of(seq_len: int) -> list[int]:
    """The lags at which a run of this length has singular values."""
    return [lag for lag in LAGS if lag < seq_len]


def dynamics(batch: Sequence[Run], networks: Networks) -> tuple[Columns, Columns]:
    """The columns of the runs (N,), and those of their timesteps.

    Numbers: `lyapunov_max` and `lyapunov_sum`, in nats a step, with the former's standard error (of the mean over
    trajectories, from blocks of time) and its degrees of freedom; `kaplan_yorke` and `positive_exponents`;
    `jacobian_norm`, the mean of log |J_t|_2; `log10_condition` of the product at the longest lag; of W_hh at spectral
    radius 1 `kreiss`, a lower bound on its Kreiss constant, `transient_peak`, the largest norm of a power, and
    `transient_power`, which one.
    Lists: `spectrum_index`, `spectrum_exponent` and `spectrum_error`, in descending order; `convergence_steps` and
    `convergence_exponent`, the leading exponent from so many steps.
    Timesteps: log10 of the largest, the median and the least singular value of ds_T/ds_{T-k}, `log10_sigma_max`,
    `log10_sigma_median`, `log10_sigma_min`, not a number at lags between those of `lags_of`.
    """
    keys, lengths = list(networks.keys), dict.fromkeys(run["seq_len"] for run in batch)
    if networks.dtype != "float64":
        networks = Networks.of(batch[0], keys, max(lengths), networks.examples, "float64")
    found = {length: _measured(batch[0], networks, length) for length in lengths}
    normality = _normality(batch[0], networks)
    at = [(found[run["seq_len"]], keys.index(network_of(run))) for run in batch]
    columns = {name: _column([own[name][c] for (own, _), c in at]) for name in at[0][0][0]}
    columns |= {name: values[[c for _, c in at]] for name, values in normality.items()}
    steps = {name: np.concatenate([own[name][c] for (_, own), c in at]) for name in at[0][0][1]}
    return columns, steps


def _column(values: Sequence[Any]) -> NDArray[Any]:
    """A column of numbers, or of lists of them."""
    if np.ndim(values[0]) == 0:
        return np.array(values, float)
    column = np.empty(len(values), object)
    column[:] = list(values)
    return column


def _measured(like: Run, networks: Networks, seq_len: int) -> tuple[dict[str, Sequence[Any]], dict[str, Floats]]:
    """What is recorded of each of the C networks over so many steps."""
    steps = _steps(like, networks, seq_len, like["trajectories"])
    S, washout = networks.cell.state_size, like["washout"]
    k = like["exponents"] or S
    growth = spectrum(steps, k, washout, washout)
    numbers = _of_growth(growth, S) | {"jacobian_norm": _mean_norm(steps, washout, seq_len)}
    lags = lags_of(seq_len)
    with np.errstate(invalid="ignore"):
        values = singular_values(_steps(like, networks, seq_len, 1), lags)[:, :, 0]
        sigma = {"max": values[..., 0], "median": np.median(values, axis=-1), "min": values[..., -1]}
        condition = values[:, -1, 0] - values[:, -1, -1] if lags else np.full(len(values), np.nan)
        numbers["log10_condition"] = condition.tolist()
    by_step = {f"log10_sigma_{name}": _at_lags(found, lags, seq_len) for name, found in sigma.items()}
    return numbers, by_step


def _steps(like: Run, networks: Networks, seq_len: int, examples: int) -> Steps:
    """So many steps of the networks on the first examples."""
    some = slice(examples)
    if like["tied"]:
        trace, _ = networks.forward(some, Workspace())
        return Tied(networks.cell, networks.packed, trace.until(seq_len))
    seeds, radii = zip(*networks.keys, strict=True)
    x, _ = networks.data_of(some)
    return Untied(networks.cell, drawn(like, networks.keys), x[:, :seq_len], None, like["ensemble"], radii, seeds)


def _of_growth(growth: Growth, state_size: int) -> dict[str, Sequence[Any]]:
    """What is said of the exponents of each network."""
    each = growth.rates  # (C, B, k)
    error, freedom = growth.error()
    with np.errstate(invalid="ignore"):
        exponents = each.mean(axis=1)
        running = growth.logs[..., 0].mean(axis=2) / growth.steps
        whole = exponents.sum(axis=1) if exponents.shape[1] == state_size else np.full(len(exponents), np.nan)
    return {
        "lyapunov_max": exponents[:, 0].tolist(),
        "lyapunov_max_error": error[:, 0].tolist(),
        "lyapunov_max_freedom": freedom[:, 0].tolist(),
        "lyapunov_sum": whole.tolist(),
        "kaplan_yorke": [kaplan_yorke(own, state_size) for own in exponents],
        "positive_exponents": np.where(np.isnan(exponents[:, 0]), np.nan, (exponents > 0).sum(axis=1)).tolist(),
        f"{SPECTRUM}index": [np.arange(1.0, exponents.shape[1] + 1)] * len(exponents),
        f"{SPECTRUM}exponent": list(exponents),
        f"{SPECTRUM}error": list(error),
        f"{CONVERGENCE}steps": [growth.steps.astype(float)] * len(exponents),
        f"{CONVERGENCE}exponent": list(running),
    }


def _mean_norm(steps: Steps, washout: int, seq_len: int) -> list[float]:
    at = np.unique(np.linspace(washout, seq_len - 1, min(NORMS, seq_len - washout)).astype(int))
    norms = log_norms(steps, at)
    norms[np.broadcast_to((steps.overflow > 0)[:, None], norms.shape)] = np.nan
    found: list[float] = norms.mean(axis=(1, 2)).tolist()
    return found


def _at_lags(values: Floats, lags: Sequence[int], seq_len: int) -> Floats:
    """Values (C, lags) as values (C, T) from the first step on; those of lag 0 are those of the identity."""
    found = np.full((len(values), seq_len), np.nan)
    found[:, -1] = 0.0
    found[:, seq_len - 1 - np.array(lags, np.int64)] = values
    return found


def _normality(like: Run, networks: Networks) -> dict[str, Floats]:
    """Non-normality of the networks' W_hh, at spectral radius 1, which the seed alone decides."""
    found = [_of_draw(networks.cell, like["ensemble"], seed) for seed in networks.seeds]
    return {
        "kreiss": np.array([one.kreiss_lower_bound for one in found]),
        "transient_peak": np.array([one.transient_peak.norm for one in found]),
        "transient_power": np.array([float(one.transient_peak.power) for one in found]),
    }


@lru_cache(maxsize=64)
def _of_draw(cell: Cell, ensemble: str, seed: int) -> NonNormality:
    return non_normality(cell.drawn(ensemble, seed).matrix)
