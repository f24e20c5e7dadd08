"""What the claims of a paper that is a sweep are about: tables of its results, with a row for each point of the grid.

The index of a table are the parameters that were swept, without the seed. Biases of gates, which cells call by names of
their own, are one of them, `bias`. Its columns are what was measured, the mean over seeds, each with its standard error
(`COLUMN_error`, of several seeds), the least and the greatest of the seeds (`COLUMN_least`, `COLUMN_most`); and what
laws say of it (`law`, or `law_COLUMN`), which is missing where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from gradscope import analysis, gating, lags, stability
from gradscope.errors import InputError
from gradscope.influence import POSITIVE, UNITS, enumerated_mean
from gradscope.reaching import steps_until
from gradscope.results import Results
from gradscope.theory import gaussian_product, half_life

OVER_SEEDS = {"": "mean", "_error": "sem", "_least": "min", "_most": "max"}
LAW = "law"  # what the names of columns that hold laws begin with


def runs(results: Results) -> pd.DataFrame:
    """The numbers of `results.runs`."""
    numbers = results.runs.select_dtypes("number").columns
    measured = [name for name in numbers if name not in (*results.parameters, "shard", "shard_row")]
    return _over_seeds(results.runs[["run_id", *measured]], results)


def rates(results: Results) -> pd.DataFrame:
    """How the gradient of the last loss goes with the lag, by `part` of the state ("h", "c"): full BPTT, longest runs.

    `rate`, nats a step (`analysis.decay_rates`), and `factor`, what a step multiplies by; `departure`, how far that is
    from its law; `half_life`, steps until a half is left (`reaching.steps_until`), and `memory`, 1 / (1 - factor), inf
    where nothing is lost. Laws, where there are any: of gated cells what their gates leave (`gating`); of others the
    spectral radius or mean field. Of gates that `chrono` draws, `law_memory` is the mean over units.
    """
    parts = _parts(results)
    alone = parts.rename(columns={"log10": "log10_dh"}).assign(panel=parts["run_id"])
    found = analysis.decay_rates(alone, along="part").rename(columns={"panel": "run_id"})
    halves = parts.sort_values("lag").groupby(["run_id", "part"])["log10"].agg(lambda norms: steps_until(0.5, norms))
    found = found.merge(halves.rename("half_life").reset_index(), on=["run_id", "part"])
    factor, law = np.exp(found["rate"]), _laws(results).reindex(found["run_id"]).reset_index(drop=True)
    with np.errstate(divide="ignore"):
        found = found.assign(
            factor=factor, departure=(factor - law["law"]).abs(), memory=1.0 / (1.0 - factor).clip(lower=0.0)
        )
    columns = ["run_id", "part", "rate", "factor", "departure", "half_life", "memory"]
    return _over_seeds(found[columns].join(law), results, ["part"])


def norms(results: Results) -> pd.DataFrame:
    """Norms of the gradient of the last loss, by `part` of the state and `lag`, over that at lag 0: `ratio`.

    Its law is that of `rates` at every lag, as if there were no transient.
    """
    parts = _parts(results)
    start = parts[parts["lag"] == 0].set_index(["run_id", "part"])["log10"].rename("start")
    found = parts.merge(start.reset_index(), on=["run_id", "part"])
    law = _laws(results)["law"].reindex(found["run_id"]).to_numpy() ** found["lag"]
    found = found.assign(ratio=10.0 ** (found["log10"] - found["start"]), law=law)
    return _over_seeds(found[["run_id", "part", "lag", "ratio", "law"]], results, ["part", "lag"])


def exponents(results: Results) -> pd.DataFrame:
    """Lyapunov exponents, the `i`-th from 1 on: `exponent`, nats a step, and its `variance` a step.

    The variance is that of a single run's exponents, from its blocks of time. Laws: of linear networks
    (`stability.spectrum`); of products of Gaussian matrices also of the variance (Newman 1986).
    """
    found = stability.spectrum(results).rename(columns={"theory": "law"})
    if found.empty:
        raise InputError("no exponents were measured", where="quantities", hint='measure = "jacobian"')
    found = found.merge(results.spectrum[["run_id", "index", "error"]], on=["run_id", "index"])
    steps = results.convergence.groupby("run_id")["steps"].max()
    own = results.runs.astype({"run_id": str}).set_index("run_id").loc[found["run_id"]]
    fresh = ~own["tied"].to_numpy(bool) & found["law"].notna()
    variances = [
        gaussian_product(int(n), 1.0).variances[int(i) - 1] if known else np.nan
        for n, i, known in zip(own["hidden_size"], found["index"], fresh, strict=True)
    ]
    variance = found["error"] ** 2 * found["run_id"].map(steps)
    found = found.assign(i=found["index"].astype(int), variance=variance, law_variance=variances)
    return _over_seeds(found[["run_id", "i", "exponent", "variance", "law", "law_variance"]], results, ["i"])


def influences(results: Results) -> pd.DataFrame:
    """Influence balancing by chunks of K steps (`chunk`): `influence`, and `theta` after the longest descents.

    `influence` is what an update multiplies the derivative of its loss by. Its law: e_1^T A^k v is, for k tosses of a
    fair coin, the probability of less than 10 heads minus that of 10 to 22 of them; C_K is the sum of the first K.
    """
    found = results.runs.astype({"truncation": str, "run_id": str})
    if "theta" not in found:
        raise InputError("no influences were measured", where="quantities", hint='task = "influence-balancing"')
    found = found[(found["iterations"] == found["iterations"].max()) & found["truncation"].str.startswith("chunked:")]
    chunk = found["truncation"].str.removeprefix("chunked:").astype(int)
    tosses = np.arange(int(chunk.max()))
    coins = stats.binom(tosses, 0.5)
    sums = np.cumsum(2.0 * coins.cdf(POSITIVE - 1) - coins.cdf(UNITS - 1))
    means = np.cumsum(sums) / (1 + tosses)
    law = np.where(found["loss_steps"] == "last", sums[chunk - 1], means[chunk - 1])
    found = found.assign(chunk=chunk, law=law)
    table = _over_seeds(found[["run_id", "chunk", "influence", "theta", "law"]], results, ["chunk"])
    return table.droplevel([name for name in ("truncation", "iterations") if name in table.index.names])


def coins(results: Results) -> pd.DataFrame:
    """Influence balancing: what an update multiplies by in the `mean`, enumerated over coins, by truncation."""
    specs = results.runs["truncation"].astype(str).unique()
    return pd.DataFrame({"mean": map(enumerated_mean, specs)}, index=pd.Index(specs, name="truncation"))


def _parts(results: Results) -> pd.DataFrame:
    """`lags.parts`; InputError if no run has a gradient of a single loss under full BPTT."""
    reach = analysis.reach(results)
    if reach.empty:
        hint = 'truncation = "full" and loss_steps = "last"'
        raise InputError("no gradient of a single loss was measured", where="quantities", hint=hint)
    return lags.parts(reach)


def _laws(results: Results) -> pd.DataFrame:
    """By run_id, what theory says of `rates`: `law` is of the factor a step; nan where it says nothing."""
    own = results.runs
    factor = gating.factors(own).fillna(np.exp(analysis.theoretical_rates(results)))
    with np.errstate(divide="ignore"):
        rate, memory = np.log(factor), 1.0 / (1.0 - factor).clip(lower=0.0)
    memory = gating.memories(own).fillna(memory)
    found = {"law": factor, "law_rate": rate, "law_half_life": rate.map(half_life, "ignore"), "law_memory": memory}
    return pd.DataFrame(found).set_axis(own["run_id"].astype(str))


def _over_seeds(table: pd.DataFrame, results: Results, within: Sequence[str] = ()) -> pd.DataFrame:
    """A table of runs' rows with a row for each point of the grid, and for what some columns tell apart `within` runs.

    A law that depends on the draw is the mean over seeds too.
    """
    points = _points(results)
    by = [*points.columns, *within]
    joined = table.astype({"run_id": str}).join(points, on="run_id")
    if not by:
        by, joined = ["runs"], joined.assign(runs="all")
    grouped = joined.groupby(by, dropna=False)
    measured = [name for name in table if name not in ("run_id", *within)]
    with np.errstate(invalid="ignore"):
        found = {
            f"{name}{suffix}": grouped[name].agg(how)
            for name in measured
            for suffix, how in OVER_SEEDS.items()
            if not (suffix and name.startswith(LAW))
        }
    unknown = [f"{name}_error" for name in measured if f"{name}_error" in found]
    return pd.DataFrame(found).drop(columns=[name for name in unknown if found[name].isna().all()])


def _points(results: Results) -> pd.DataFrame:
    """By run_id, the parameters that take several values, without the seed."""
    own = results.runs
    values = own[results.parameters].nunique()
    found = {}
    for name in values.index[values > 1].drop("seed", errors="ignore"):
        if name in gating.BIASES.values():
            found["bias"] = gating.biases(own)
        else:
            found[name] = own[name].astype(str) if isinstance(own[name].dtype, pd.CategoricalDtype) else own[name]
    return pd.DataFrame(found, own.index).set_axis(own["run_id"].astype(str))


TABLES: Mapping[str, Callable[[Results], pd.DataFrame]] = {
    "runs": runs,
    "rates": rates,
    "norms": norms,
    "exponents": exponents,
    "influences": influences,
    "coins": coins,
}
