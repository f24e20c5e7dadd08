"""JAX with the sharing of work written in: one compiled function answers all cases of a network, mapped over networks.

One forward pass serves all lengths. Backward, what cases have in common is computed once: a *chain* is the recursion
back from one step, and a case is made of the first lags of some chains. Under `chunked` each chunk is made of the chain
from its end, whatever TAU and the length; with a loss at the last step, every truncation is made of one chain, `random`
with weights over lag. All chains go back together, lag by lag, as rows of one product. Lags fall into *stages*, in
which a case uses a chain or does not; what the same cases use is one product of weight gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.bench.workload import Answer, Answers, Case, Network, Workload

if TYPE_CHECKING:
    from jax import Array

TITLE = "JAX, jit, work shared"
NEEDS: tuple[str, ...] = ("jax",)
TRUNCATIONS = ("full", "chunked", "random")
NAMES = ("W_xh", "W_hh", "b_h")


class Chain(NamedTuple):
    """A recursion back from step `end` (1-based); `kind` is "last", "all", or for "all" with gates their spec."""

    kind: str
    end: int


class Group(NamedTuple):
    """Rows whose weight gradients go to the same cases, with the weights over lag of `spec`, if it is not ""."""

    rows: tuple[int, ...]
    cases: tuple[int, ...]
    spec: str


class Stage(NamedTuple):
    """Lags `first` .. `last` - 1 of some chains, one a row."""

    first: int
    last: int
    chains: tuple[Chain, ...]
    groups: tuple[Group, ...]

    @property
    def steps(self) -> NDArray[np.int_]:
        """(lags, rows), counted from 0."""
        return np.array([chain.end - 1 for chain in self.chains]) - np.arange(self.first, self.last)[:, None]


class Plan(NamedTuple):
    """What is to be computed; it depends on the cases alone.

    Attributes
    ----------
    stages : in order of lag; the rows of one are the first rows of the one before.
    places : for each case and step, where its norm is among those of all stages, lags and rows; -1 for nowhere.
    """

    cases: tuple[Case, ...]
    stages: tuple[Stage, ...]
    places: tuple[NDArray[np.int_], ...]


def supports(workload: Workload) -> bool:
    """Whether the cell and every truncation of the workload are written here."""
    written = all(case.truncation.partition(":")[0] in TRUNCATIONS for case in workload.cases)
    return workload.cell == "elman" and written


def prepare(workload: Workload, networks: int) -> Callable[[Sequence[Network]], Answers]:
    """Compile, by a first call."""
    import jax

    jax.config.update("jax_enable_x64", workload.dtype == "float64")
    plan = planned(workload.cases)
    # vmap over networks is three times slower: XLA has no fast batched product for the CPU.
    ask = jax.jit(lambda stacked: jax.lax.map(partial(answer, plan), stacked))

    def run(batch: Sequence[Network]) -> Answers:
        stacked = jax.tree.map(lambda *each: np.stack(each), *batch)
        return [unpacked(plan, *each) for each in zip(*jax.device_get(ask(stacked)), strict=True)]

    run([workload.blank()] * networks)
    return run


# --- the plan --------------------------------------------------------------------------------------------------------


def planned(cases: Sequence[Case]) -> Plan:
    """Order the chains, longest first, and cut the lags wherever a case stops using a chain."""
    used = [lags_used(case) for case in cases]
    longest: dict[Chain, int] = {}
    for lags in used:
        longest |= {chain: max(count, longest.get(chain, 0)) for chain, count in lags.items()}
    chains = sorted(longest, key=lambda chain: (-longest[chain], chain))
    stages = []
    for first, last in pairwise(sorted({0}.union(*(lags.values() for lags in used)))):
        rows = tuple(chain for chain in chains if longest[chain] >= last)
        stages.append(Stage(first, last, rows, grouped(cases, used, rows, last)))
    return Plan(tuple(cases), tuple(stages), tuple(map(partial(placed, stages), cases, used)))


def lags_used(case: Case) -> dict[Chain, int]:
    """The chains that a case is made of, and how many lags of each."""
    name, _, tau = case.truncation.partition(":")
    T = case.seq_len
    if case.loss_steps == "all" and name == "random":
        return {Chain(case.truncation, T): T}
    length = int(tau) if name == "chunked" else T
    starts = range(0, T, length)
    wanted = starts if case.loss_steps == "all" else starts[-1:]
    return {Chain(case.loss_steps, min(start + length, T)): min(length, T - start) for start in wanted}


def lag_weights(case: Case) -> str:
    """The spec whose gates are weights over lag on the chain of a loss at the last step, or ""."""
    return case.truncation if case.loss_steps == "last" and case.truncation.startswith("random") else ""


def grouped(
    cases: Sequence[Case], used: Sequence[Mapping[Chain, int]], rows: Sequence[Chain], last: int
) -> tuple[Group, ...]:
    """Put together a stage's rows that the same cases use."""
    groups: dict[tuple[tuple[int, ...], str], list[int]] = {}
    for row, chain in enumerate(rows):
        users: dict[str, list[int]] = {}
        for number, (case, lags) in enumerate(zip(cases, used, strict=True)):
            if lags.get(chain, 0) >= last:
                users.setdefault(lag_weights(case), []).append(number)
        for spec, numbers in users.items():
            groups.setdefault((tuple(numbers), spec), []).append(row)
    return tuple(Group(tuple(mine), numbers, spec) for (numbers, spec), mine in groups.items())


def placed(stages: Sequence[Stage], case: Case, lags: Mapping[Chain, int]) -> NDArray[np.int_]:
    """Find the place of a case's norms."""
    places, offset = np.full(case.seq_len, -1), 0
    for stage in stages:
        mine = [row for row, chain in enumerate(stage.chains) if lags.get(chain, 0) >= stage.last]
        here = offset + np.arange(stage.steps.size).reshape(stage.steps.shape)
        places[stage.steps[:, mine]] = here[:, mine]
        offset += stage.steps.size
    return places


# --- one network -----------------------------------------------------------------------------------------------------


class Pass(NamedTuple):
    """What all chains need of a network, a step a row.

    Attributes
    ----------
    W_hh : (n, n)
    direct : (T, B, n), the gradient of each step's own squared error with respect to its state.
    slope : (T, B, n)
    made_of : (T, B, n + m + 1), [h_{t-1} | x_t | 1].
    gates : spec -> (T,), what multiplies a gradient on its way from step t+1 back to step t.
    """

    W_hh: Array
    direct: Array
    slope: Array
    made_of: Array
    gates: dict[str, Array]


def answer(plan: Plan, network: Network) -> tuple[Array, Array, Array, Array]:
    """Norms of states' gradients (steps of all cases, B) and of gradients (cases, 3); errors and cosines (cases,)."""
    import jax.numpy as jnp

    go = forward(plan, network)
    norms, gradients = backward(plan, go)
    share = np.array([1 / case.seq_len if case.loss_steps == "all" else 1.0 for case in plan.cases])
    lengths = [case.seq_len for case in plan.cases]
    weights = [lag_weight(go, case)[::-1] if lag_weights(case) else jnp.ones(case.seq_len) for case in plan.cases]
    factors = (jnp.concatenate(weights) * np.repeat(share, lengths)).astype(norms.dtype)
    n, m = network.params["W_xh"].shape
    gradients = gradients * (share / network.x.shape[1]).astype(norms.dtype)[:, None, None]
    blocks = jnp.split(gradients, [n, n + m], axis=-1)
    sizes = jnp.stack([jnp.linalg.norm(blocks[place], axis=(1, 2)) for place in (1, 0, 2)], -1)
    full = np.array([plan.cases.index(case._replace(truncation="full")) for case in plan.cases])
    return norms[np.concatenate(plan.places)] * factors[:, None], sizes, *compared(gradients, gradients[full])


def forward(plan: Plan, network: Network) -> Pass:
    """One pass over the longest length."""
    import jax.numpy as jnp
    from jax import lax

    T = max(case.seq_len for case in plan.cases)
    params, x, y = network.params, network.x[:T], network.y[:T]

    def step(h: Array, drive: Array) -> tuple[Array, Array]:
        h = jnp.tanh(drive + h @ params["W_hh"].T)
        return h, h

    drive = x @ params["W_xh"].T + params["b_h"]
    _, states = lax.scan(step, jnp.zeros_like(drive[0]), drive)
    direct = 2 * (states @ params["W_hy"].T + params["b_y"] - y) * params["W_hy"][0]
    before = jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])
    made_of = jnp.concatenate([before, x, jnp.ones_like(x[..., :1])], -1)
    specs = {case.truncation for case in plan.cases if case.truncation.startswith("random")}
    gates = {spec: gates_of(spec, network.coins[:T]) for spec in sorted(specs)}
    return Pass(params["W_hh"], direct, 1 - states * states, made_of, gates)


def gates_of(spec: str, coins: Array) -> Array:
    """1/pi where a `random:TAU` pass goes on, else 0."""
    pi = 1 - 1 / float(spec.partition(":")[2])
    return (coins < pi).astype(coins.dtype) / pi


def lag_weight(go: Pass, case: Case) -> Array:
    """What is left of a loss at the last step after 0, 1, ... steps back, (T,)."""
    import jax.numpy as jnp

    gates = go.gates[case.truncation][: case.seq_len - 1]
    return jnp.concatenate([jnp.ones_like(gates[:1]), jnp.cumprod(gates[::-1])])


def backward(plan: Plan, go: Pass) -> tuple[Array, Array]:
    """Norms by stage, lag and row, and a zero after them, (, B); sums over steps and examples for each case."""
    import jax.numpy as jnp

    _, B, n = go.direct.shape
    adjoint = jnp.zeros((len(plan.stages[0].chains), B, n), go.direct.dtype)
    norms, sums = [], []
    for stage in plan.stages:
        adjoint, deltas, stage_norms = back(go, stage, adjoint[: len(stage.chains)])
        norms.append(stage_norms.reshape(-1, B))
        sums += [summed(plan, go, stage, group, deltas) for group in stage.groups]
    groups = [group for stage in plan.stages for group in stage.groups]
    uses = np.array([[number in group.cases for group in groups] for number in range(len(plan.cases))], go.direct.dtype)
    total = uses @ jnp.stack(sums).reshape(len(groups), -1)
    return jnp.concatenate([*norms, jnp.zeros((1, B), go.direct.dtype)]), total.reshape(len(plan.cases), *sums[0].shape)


def back(go: Pass, stage: Stage, adjoint: Array) -> tuple[Array, Array, Array]:
    """All chains of a stage through its lags: what goes on, deltas (lags, rows, B, n), norms (lags, rows, B)."""
    import jax.numpy as jnp
    from jax import lax

    lags = np.arange(stage.first, stage.last)[:, None]
    starts = np.array([chain.kind != "last" for chain in stage.chains]) | (lags == 0)
    gates = [
        go.gates[chain.kind][steps] if chain.kind in go.gates else jnp.ones(len(lags))
        for chain, steps in zip(stage.chains, stage.steps.T, strict=True)
    ]

    def step(adjoint: Array, at: tuple[Array, Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        steps, starts, gates = at
        dh = starts[:, None, None] * go.direct[steps] + gates[:, None, None] * adjoint
        delta = go.slope[steps] * dh
        return (delta.reshape(-1, dh.shape[-1]) @ go.W_hh).reshape(dh.shape), (delta, jnp.linalg.norm(dh, axis=-1))

    dtype = adjoint.dtype
    along = (jnp.asarray(stage.steps), jnp.asarray(starts, dtype), jnp.stack(gates, 1).astype(dtype))
    adjoint, (deltas, norms) = lax.scan(step, adjoint, along)
    return adjoint, deltas, norms


def summed(plan: Plan, go: Pass, stage: Stage, group: Group, deltas: Array) -> Array:
    """Weight gradients [W_hh | W_xh | b_h] of a group, (n, n + m + 1)."""
    import jax.numpy as jnp
    from jax import lax

    rows = np.array(group.rows)

    def product(weights: Array | None = None) -> Array:
        mine = deltas[:, rows] if weights is None else deltas[:, rows] * weights[:, None, None, None]
        inputs = go.made_of[stage.steps[:, rows]]
        return mine.reshape(-1, mine.shape[-1]).T @ inputs.reshape(-1, inputs.shape[-1])

    if not group.spec:
        return product()
    weights = lag_weight(go, plan.cases[group.cases[0]])[stage.first : stage.last]
    nothing = jnp.zeros((deltas.shape[-1], go.made_of.shape[-1]), deltas.dtype)
    return lax.cond(weights[0] == 0, lambda: nothing, lambda: product(weights))


def compared(gradients: Array, full: Array) -> tuple[Array, Array]:
    """Relative errors and cosines."""
    import jax.numpy as jnp

    size, size_full = (jnp.linalg.norm(each, axis=(1, 2)) for each in (gradients, full))
    cosine = jnp.sum(gradients * full, axis=(1, 2)) / (size * size_full)
    return jnp.linalg.norm(gradients - full, axis=(1, 2)) / size_full, cosine


def unpacked(plan: Plan, norms: Any, sizes: Any, errors: Any, cosines: Any) -> dict[Case, Answer]:
    """One network's answers by case."""
    by_case = np.split(norms, np.cumsum([case.seq_len for case in plan.cases])[:-1])
    return {
        case: Answer(dh, dict(zip(NAMES, size.tolist(), strict=True)), float(error), float(cosine))
        for case, dh, size, error, cosine in zip(plan.cases, by_case, sizes, errors, cosines, strict=True)
    }
