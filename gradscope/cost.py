"""What measuring a block takes, predicted from its backward passes before anything runs: memory and time.

Memory is counted. Time is the sum of what has to be done, each kind of work at its own price; the prices are in
proportion to each other as they were measured once; how fast this machine is, `gradscope.speed` learns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

from gradscope.bptt import PART_BYTES
from gradscope.draws import bytes_of_draws
from gradscope.dynamics import lags_of
from gradscope.estimators import groups_of
from gradscope.feeding import EXAMPLES as EXAMPLES_HELD_OUT
from gradscope.feeding import HELD_OUT
from gradscope.networks import EXAMPLES, Case, plan_of, with_full
from gradscope.passes import Pass, Sliding
from gradscope.recurrence import Cell
from gradscope.rows import bytes_at_work
from gradscope.runs import AS_ASKED, Block, Run, Setting
from gradscope.samples import asked
from gradscope.task import Recorded

DRAWS_AT_ONCE = 20  # of coins, about
CLIPPED = 6  # gradients of all minibatches that there are at a time while they are clipped
COPIES = 12  # of all parameters that a training has: those, what the optimiser remembers, gradients, the best
RECORDED = 200  # bytes that are recorded of a step
STEP = 3e-4  # seconds that a step takes besides its gradient
ENTRY = 2e-9  # seconds for an entry of inputs that are read, and held out
LOOK = 2e-8  # seconds for the cube of a recurrent matrix's size, of a look at it
JACOBIAN = 0.8e-10  # seconds for a multiplication of rows that are carried on and made orthonormal
GATED = 2  # times as much for a cell with gates
SINGULAR = 0.8e-8  # for the cube of the state's size, of singular values at a lag
CALL = 1e-4  # for a step of Jacobians, besides
KREISS = 2e-7  # for the cube of a recurrent matrix's size, of its non-normality
CLIP = 5  # times an entry of a gradient is worked on for a clip


class Memory(NamedTuple):
    """Bytes that measuring takes of each network: all that is kept, its states alone, and what is worked on."""

    kept: int
    states: int
    work: int

    def of(self, networks: int) -> int:
        """Bytes that so many networks take together."""
        return networks * self.kept + 2 * int(max(self.work, min(PART_BYTES, networks * self.work)))


class Labour(NamedTuple):
    """What has to be done to measure a block, by kinds of work.

    Attributes
    ----------
    blocks : 1, for what is done once.
    calls : steps of the loops in Python.
    products : multiplications of matrix products; half of them in float32, as of elements.
    elements : of states and rows, worked on one by one.
    seen : norms that are recorded of every example.
    entries : of weight gradients, added up and compared.
    runs : rows of the runs table.
    draws : of recurrent matrices: the cubes of their sizes.
    """

    blocks: float
    calls: float
    products: float
    elements: float
    seen: float
    entries: float
    runs: float
    draws: float


# Seconds for one of each: non-negative least squares over 382 random blocks, on one core of a server of 2024.
PRICES = Labour(
    blocks=3.0e-3,
    calls=1.8e-5,
    products=4.4e-11,
    elements=1.3e-9,
    seen=7.8e-8,
    entries=3.2e-9,
    runs=3.3e-5,
    draws=3.2e-9,
)


def memory(block: Block) -> Memory:
    """What measuring networks of a block takes.

    Counted from what the passes keep: states, norms of every row at every step, the weight gradient of every usage and
    case, the recorded steps. Held against what is measured by a test.
    """
    like, settings = block.first, block.settings
    if like.trains:
        return _memory_of_training(block)
    cell, B, dtype, draws, steps = (
        like.cell(),
        *(like[name] for name in ("batch_size", "dtype", "draws", "minibatches")),
    )
    parts = [_memory(cell, B, dtype, settings, draws)]
    if dtype == "float32":
        parts.append(_memory(cell, 1, "float64", settings))  # the first example, against which the others are held
    if steps:
        parts.append(_memory(cell, B * steps, dtype, settings, groups=steps))
        parts[-1] = parts[-1]._replace(kept=parts[-1].kept + CLIPPED * steps * 8 * _parameters(cell))
    if like.of_jacobians:  # other states, and rows and products of which several are there at a time
        rows = 16 * 8 * cell.state_size**2 * (like["trajectories"] + 1)
        parts.append(Memory(2 * parts[0].states + rows, parts[0].states, 0))
    return Memory(
        sum(part.kept for part in parts), max(part.states for part in parts), max(part.work for part in parts)
    )


@lru_cache(maxsize=256)
def _memory(cell: Cell, B: int, dtype: str, settings: tuple[Setting, ...], draws: int = 0, groups: int = 1) -> Memory:
    cases = _cases(settings, draws)
    plan = plan_of(cases, (0,))[1]
    item = 4 if dtype == "float32" else 8
    (P, W), T = cell.weights_shape, max(case.seq_len for case in cases)
    states = (T + 1) * B * cell.trace_size * item
    matrix = P * (W * item + 8)  # a weight gradient, with its exponents
    data = T * B * (cell.input_size + 2 * cell.output_size) * (8 + item)
    rows = sum(len(one.losses) * one.width * B for one in plan) * len(cell.parts)
    # Squared norms, exponents, log10; and as much again while there are statistics of them.
    seen = rows * (item + 8 + 8 + 16)
    groups = groups_of(B) if draws else groups
    sums = (sum(len(one.usages) for one in plan) + len(cases) + 4) * matrix * groups
    recorded = 80 * sum(setting.seq_len for setting in settings)
    work = sum(bytes_at_work(one, B, cell.state_size, P * W) for one in plan)
    if draws:
        work = max(
            work, (states + bytes_of_draws(B, draws, T, P * W, cell.delta_size)) / 2
        )  # of one network at a time, not of two parts
    return Memory(states + data + seen + sums + recorded, states, int(work))


def seconds(block: Block) -> float:
    """Predicted time of measuring a block on one core of the machine on which the prices were measured."""
    ranks: dict[int, int] = {}
    seeds = tuple(ranks.setdefault(network.seed, len(ranks)) for network in block.networks)
    like, settings = block.first, block.settings
    if like.trains:
        return _seconds_of_training(block, seeds)
    cell, B, dtype, draws, steps = (
        like.cell(),
        *(like[name] for name in ("batch_size", "dtype", "draws", "minibatches")),
    )
    found = _priced(_labour(cell, B, dtype, settings, seeds, draws))
    if like.of_jacobians:
        found += _seconds_of_jacobians(like, settings, seeds)
    if dtype == "float32":
        found += _priced(_labour(cell, 1, "float64", settings, seeds))
    if steps:
        found += _priced(_labour(cell, B * steps, dtype, settings, seeds, groups=steps))
        clips = len({(one.clip, one.seq_len, one.truncation, one.loss_steps, one.reduction) for one in settings})
        found += PRICES.entries * CLIP * len(seeds) * steps * clips * _parameters(cell)
    return found


def _seconds_of_jacobians(like: Run, settings: Sequence[Setting], seeds: Sequence[int]) -> float:
    """Predicted time of exponents, singular values and non-normality."""
    cell, found = like.cell(), 0.0
    S, D, n = cell.state_size, cell.delta_size, cell.hidden_size
    k = like["exponents"] or S
    for length in {setting.seq_len for setting in settings}:
        carried = like["trajectories"] * k * (D * S + 4 * k * S) + S * (D * S + 4 * S * S)
        found += len(seeds) * (JACOBIAN * length * carried + SINGULAR * len(lags_of(length)) * S**3 + CALL * length)
    careful = GATED if cell.local_size > S else 1  # Jacobians of gated cells are looked at step by step
    return careful * found + len(set(seeds)) * KREISS * n**3


def _memory_of_training(block: Block) -> Memory:
    """What training takes of each network of a block, whose settings are trained one after the other."""
    like, kept, states, work = block.first, 0, 0, 0
    cell, B, dtype = like.cell(), like["batch_size"], like["dtype"]
    for setting in _asked(block):
        one = _memory(cell, B, dtype, (setting,))
        kept, states, work = max(kept, one.kept), max(states, one.states), max(work, one.work)
    held_out = HELD_OUT * (2 * cell.trace_size + cell.output_size) * 8
    return Memory(kept + COPIES * 8 * _parameters(cell) + held_out + RECORDED * like["steps"], states, work)


def _seconds_of_training(block: Block, seeds: tuple[int, ...]) -> float:
    """Predicted time of the steps, and of what is looked at on the way."""
    like, found = block.first, 0.0
    cell, B, dtype = like.cell(), like["batch_size"], like["dtype"]
    for setting in _asked(block):
        once = _priced(_labour(cell, B, dtype, (setting,), seeds)._replace(blocks=0, runs=0, draws=0))
        P, W = cell.weights_shape
        values = HELD_OUT if isinstance(like.task(), Recorded) else EXAMPLES_HELD_OUT * setting.seq_len
        look = 2 * once + len(seeds) * (values * P * (PRICES.products * W + ENTRY) + LOOK * cell.hidden_size**3)
        found += like["steps"] * (STEP + once) + (like["steps"] / like["record_every"] + 2) * look
    return found


def _asked(block: Block) -> set[Setting]:
    """The settings, with all steps in the stead of those that a task asks for."""
    return {one._replace(loss_steps="all") if one.loss_steps == AS_ASKED else one for one in block.settings}


def _priced(done: Labour) -> float:
    return sum(price * amount for price, amount in zip(PRICES, done, strict=True))


@lru_cache(maxsize=1024)
def _labour(
    cell: Cell,
    B: int,
    dtype: str,
    settings: tuple[Setting, ...],
    seeds: tuple[int, ...],
    draws: int = 0,
    groups: int = 1,
) -> Labour:
    cases = _cases(settings, draws)
    plan = plan_of(cases, tuple(sorted(seeds)))[1]
    C, T, n = len(seeds), max(case.seq_len for case in cases), cell.hidden_size
    (P, W), D = cell.weights_shape, cell.delta_size
    back = P * W * n / (n + cell.input_size + 1)  # multiplications of a row's step back
    parts = max(1, B // EXAMPLES)  # of the examples
    item = 4 if dtype == "float32" else 8
    at_work = sum(bytes_at_work(one, B // parts, cell.state_size, P * W) for one in plan) * item / 8
    rounds = parts * -(-C // max(1, PART_BYTES // at_work))
    rows = sum(_rows(one) for one in plan)
    sums = sum((span.hi - span.lo) * len(span.usage) for one in plan for span in one.spans)
    share = item / 8
    drawn = draws * sum(case.seq_len for case in cases if case.tosses and not case.mean)  # rows of all draws
    groups = groups_of(B) if draws else groups
    return Labour(
        blocks=1,
        calls=parts * T + rounds * sum(len(one.losses) for one in plan) + C * drawn / DRAWS_AT_ONCE,
        products=share * C * B * (T * (P * W + n * cell.output_size) + (rows + drawn) * back + (sums + drawn) * P * W),
        elements=share * C * B * (T + rows + sums + drawn) * (D + cell.local_size - n),
        seen=C * B * sum(len(one.losses) * one.width for one in plan),
        entries=C * max(parts, groups) * (sum(len(one.usages) for one in plan) + 4 * len(cases)) * P * W,
        runs=C * len(settings),
        draws=len(set(seeds)) * n**3,
    )


def _cases(settings: Sequence[Setting], draws: int) -> tuple[Case, ...]:
    cases = with_full(sorted({Case(one.seq_len, one.loss_steps, one.truncation) for one in settings}))
    return asked(cases) if draws else cases


def _parameters(cell: Cell) -> int:
    """Entries of a gradient of all parameters."""
    return prod(cell.weights_shape) + (cell.hidden_size + 1) * cell.output_size


def _rows(one: Pass) -> int:
    """Rows that a pass takes back a step, summed over the steps."""
    if isinstance(one, Sliding):
        return sum(end - first for first, end in map(one.rows, range(len(one.losses))))
    return sum((span.hi - span.lo) * len(span.usage) for span in one.spans)
