"""What Jacobians say of a sweep's networks: exponents beside theory, singular values beside the gradient, growth.

Tables of the runs with `measure = "jacobian"`, of the longest sequences. Exponents and singular values do not depend on
what is asked of a network's gradients, so each network, a panel, spectral radius and seed, stands in them once.
"""

from __future__ import annotations

from dataclasses import MISSING, fields

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from gradscope import analysis, cells, plugins
from gradscope.recurrence import Cell
from gradscope.results import Results
from gradscope.theory import gaussian_product

NETWORK = ["panel", "spectral_radius", "seed"]
SINGULAR = {"max": "largest", "median": "median", "min": "smallest"}  # of the columns log10_sigma_*
GRADIENT = "gradient"
_SIZES = ("hidden_size", "input_size", "output_size", "num_layers")


def runs(results: Results) -> pd.DataFrame:
    """The networks whose Jacobians were measured, a row each; without those whose states left the range of numbers."""
    found = analysis.longest(analysis.networks(results), results)
    if "lyapunov_max" not in found:
        return found[:0].assign(lyapunov_max=np.nan)
    return found.dropna(subset="lyapunov_max").drop_duplicates(NETWORK).reset_index(drop=True)


def cell_of(run: pd.Series) -> Cell:
    """The cell of a row of runs."""
    plugin = plugins.find(cells.FAMILY, run["cell"])
    options = {field.name: field.default for field in fields(plugin) if field.default is not MISSING}
    given = {name: type(default)(run[name]) for name, default in options.items() if name in run}
    return cells.cell(run["cell"], **given, **{name: int(run[name]) for name in _SIZES})


def spectrum(results: Results) -> pd.DataFrame:
    """The exponents of each network: run_id, panel, spectral_radius, seed, index, share, exponent, theory.

    `share` is the index, from 1 on, in parts of the state's size. `theory` is what linear networks have in the long
    run: the logarithms of the absolute eigenvalues of W_hh, or, if that is another Gaussian one at every step, the
    exponents of a product of such matrices; missing for others.
    """
    own = runs(results)
    columns = ["run_id", *NETWORK, "index", "share", "exponent", "theory"]
    if own.empty:
        return pd.DataFrame(columns=columns)
    found = results.spectrum.merge(own[["run_id", *NETWORK]], on="run_id")
    size = {run["run_id"]: cell_of(run).state_size for _, run in own.iterrows()}
    law = {run["run_id"]: _exponents(run) for _, run in own[analysis.activations(own) == "linear"].iterrows()}
    place = found["index"].astype(int) - 1
    theory = [law[run][at] if run in law else np.nan for run, at in zip(found["run_id"], place, strict=True)]
    found = found.assign(share=found["index"] / found["run_id"].map(size).astype(float), theory=np.array(theory, float))
    return found[columns]


def _exponents(run: pd.Series) -> NDArray[np.float64]:
    """All exponents of a linear network by theory, in descending order; nan where there is none."""
    radius, ensemble = float(run["spectral_radius"]), str(run["ensemble"])
    if not run["tied"]:
        law = gaussian_product(int(run["hidden_size"]), radius).exponents
        return law if ensemble == "gaussian" else np.full(len(law), np.nan)
    matrix = cell_of(run).drawn(ensemble, int(run["seed"])).matrix
    modulus = np.sort(np.abs(np.linalg.eigvals(matrix)))[::-1]
    modulus[modulus < len(matrix) * np.finfo(float).eps * np.linalg.norm(matrix)] = 0.0
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(modulus) + (np.log(radius) if modulus.any() else 0.0))


def theoretical_rates(own: pd.DataFrame, results: Results) -> pd.Series:
    """The leading exponent that theory gives each of some runs, nats a step: `analysis.theoretical_rates`, or nan.

    Of linear networks with another W_hh at every step, that of a product of Gaussian matrices.
    """
    rates = analysis.theoretical_rates(results).set_axis(results.runs["run_id"].astype(str))
    found = pd.Series(own["run_id"].astype(str).map(rates).to_numpy(float), own.index)
    fresh = (analysis.activations(own) == "linear") & ~own["tied"].astype(bool)
    for at, run in own[fresh].iterrows():
        found[at] = _exponents(run)[0]
    return found


def convergence(results: Results) -> pd.DataFrame:
    """The leading exponent of each network from ever more steps: run_id, panel, ..., steps, exponent, half_width.

    `half_width` is that of the 95 % interval of the last estimate (Student's t, from blocks of time), else missing.
    """
    own = runs(results)
    if own.empty:
        return pd.DataFrame(columns=["run_id", *NETWORK, "steps", "exponent", "half_width"], dtype=float)
    freedom = own["lyapunov_max_freedom"].clip(lower=1)
    interval = own["lyapunov_max_error"] * stats.t.ppf(0.975, freedom)
    about = own[["run_id", *NETWORK]].assign(interval=interval)
    found = results.convergence.merge(about, on="run_id")
    last = found.groupby("run_id")["steps"].transform("max") == found["steps"]
    return found.assign(half_width=found["interval"].where(last)).drop(columns="interval")


def singular_values(results: Results) -> pd.DataFrame:
    """log10 of what ds_T/ds_{T-k} makes of vectors, at each lag k: run_id, panel, ..., lag, what, log10.

    `what` is "largest", "median" or "smallest" (singular value, at some lags) or "gradient": the norm |dL/dh_{T-k}| of
    the last step's loss under full BPTT, relative to lag 0.
    """
    own = runs(results)
    columns = ["run_id", *NETWORK, "lag", "what", "log10"]
    if own.empty:
        return pd.DataFrame(columns=columns)
    steps = results.select(run_id=list(own["run_id"])).timesteps.astype({"run_id": str})
    steps = steps.dropna(subset=f"log10_sigma_{next(iter(SINGULAR))}").merge(own[["run_id", *NETWORK]], on="run_id")
    names = {f"log10_sigma_{name}": word for name, word in SINGULAR.items()}
    values = steps.rename(columns=names).melt(["run_id", *NETWORK, "lag"], list(names.values()), "what", "log10")
    norms = _changes(results).rename(columns={"decades": "log10"}).assign(what=GRADIENT)
    norms = norms[norms.set_index(NETWORK).index.isin(own.set_index(NETWORK).index)]
    return pd.concat([part[columns] for part in (values, norms) if len(part)], ignore_index=True)


def _changes(results: Results) -> pd.DataFrame:
    """`analysis.changes` of what the last loss reaches; empty where there is no gradient, as of untied weights."""
    return analysis.changes(analysis.reach(results).astype({"log10_dh": float})).reset_index(drop=True)


def growth(results: Results) -> pd.DataFrame:
    """How far each gradient grows beyond what the spectral radius says: run_id, panel, ..., excess, lag and W_hh's.

    `excess` is the most, over lags k, of log10 of |dL/dh_{T-k}| / |dL/dh_T| / radius^k (of a nilpotent W_hh without the
    radius), and `lag` where. W_hh's own, at spectral radius 1: `henrici`, `kreiss` and `peak`, log10 of the lower bound
    on its Kreiss constant and of the largest norm of a power. Of cells whose state W_hh alone takes on.
    """
    own = runs(results)
    own = own[analysis.activations(own).notna()]
    changes, columns = _changes(results), ["run_id", *NETWORK, "ensemble", "henrici", "kreiss", "peak", "excess", "lag"]
    if own.empty or changes.empty:
        return pd.DataFrame(columns=columns)
    radius = changes["spectral_radius"].where(changes["spectral_radius"] > 0, 1.0)
    changes = changes.assign(excess=changes["decades"] - changes["lag"] * np.log10(radius))
    changes = changes[np.isfinite(changes["excess"])].reset_index(drop=True)
    most = changes.loc[changes.groupby("run_id", observed=True)["excess"].idxmax(), [*NETWORK, "excess", "lag"]]
    with np.errstate(divide="ignore"):
        matrix = own.assign(kreiss=np.log10(own["kreiss"]), peak=np.log10(own["transient_peak"]))
    return matrix[columns[:-2]].merge(most, on=NETWORK).astype({"ensemble": str})
