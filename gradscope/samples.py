"""What many samples say of a run's gradient: draws of coins, of truncating it; minibatches, of clipping it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.bptt import Gradient
from gradscope.clipping import effects
from gradscope.draws import drawn_gradients
from gradscope.estimators import growth_rate, measures, work
from gradscope.gradients import by_parameter
from gradscope.networks import Case, Networks, case_of, mean_of, network_of, terms_of, with_means
from gradscope.recurrence import Trace
from gradscope.runs import Run
from gradscope.scaled import Floats, Scaled
from gradscope.schedule import Gates, Rescaling, Truncation, Windows
from gradscope.streams import coin_draws
from gradscope.truncations import truncation
from gradscope.workspace import Workspace


def asked(cases: Iterable[Case]) -> tuple[Case, ...]:
    """The cases whose gradients `estimators` needs: these, the means over coins, and the reach of the last loss."""
    cases = tuple(cases)
    return tuple(dict.fromkeys([*with_means(cases), *(_reach(case) for case in cases)]))


def _reach(case: Case) -> Case:
    return Case(case.seq_len, "last", "full")


def estimators(
    networks: Networks, cases: Sequence[Case], answers: Mapping[Case, Gradient], draws: int
) -> dict[str, Floats]:
    """What so many draws of coins say of each case's gradient as an estimator of the full one, (cases, C).

    By column: those of `gradscope.estimators.measures`; `state_steps` and `unroll` of its `work`, mean over the draws;
    `rate`, the growth of the last loss's state gradient with the lag, in nats a step; `learning_rate_factor`, by which
    the learning rate is to be multiplied, mean over draws and steps.
    """
    longest = max(case.seq_len for case in cases)
    coins = {seed: coin_draws(seed, draws, longest) for seed in dict.fromkeys(networks.seeds)}
    found: dict[str, list[list[float]]] = {}
    workspace = Workspace()
    for c, (seed, _) in enumerate(networks.keys):
        one = networks.some(slice(c, c + 1))
        forward = one.forward(workspace=workspace)
        for k, case in enumerate(cases):
            member, tossed = truncation(case.truncation), coins[seed][:, : case.seq_len]
            schedule = member.schedule(tossed)
            columns = _worth(one, forward, case, schedule, answers, c) | _price(member, schedule, tossed, case)
            columns["rate"] = _rate(answers[_reach(case)], c)
            for name, value in columns.items():
                found.setdefault(name, [[] for _ in cases])[k].append(value)
    return {name: np.array(values) for name, values in found.items()}


def _worth(
    one: Networks,
    forward: tuple[Trace, NDArray[Any]],
    case: Case,
    schedule: Gates | Windows,
    answers: Mapping[Case, Gradient],
    c: int,
) -> dict[str, float]:
    """What draws say of the gradient of one network, the c-th, in a case."""
    (trace, y), T, own, key = forward, case.seq_len, answers[case], mean_of(case)
    drawn: Iterable[Scaled] = [own.weights[c : c + 1]]
    if isinstance(schedule, Gates) and schedule.random and not own.overflow[c]:
        drawn = drawn_gradients(one.cell, one.packed, trace.until(T), y[:, :T], one.loss, case.steps, schedule)
    full, mean = (answers[each].weights_by_group[c] for each in (case.full, key or case))
    return measures(one.cell, full, mean, key is not None, drawn)


def _price(member: Truncation, schedule: Gates | Windows, tossed: Floats, case: Case) -> dict[str, float]:
    """What a gradient takes, on average over draws."""
    taken = work(schedule, case.steps, case.seq_len)
    factors = member.learning_rate_factor(tossed) if isinstance(member, Rescaling) else np.ones(1)
    parts = {"state_steps": taken.state_steps, "unroll": taken.unroll, "learning_rate_factor": factors}
    return {name: float(values.mean()) for name, values in parts.items()}


def _rate(reach: Gradient, c: int) -> float:
    """The growth with the lag, in nats a step, of the mean over examples of log |dL_T/dh_t| of one network."""
    log10 = reach.norms.of(reach.row)[c]
    live = log10 > -np.inf
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(live, log10, 0.0).sum(axis=1) / live.sum(axis=1)
    return growth_rate(np.arange(len(mean))[::-1], mean) if not reach.overflow[c] else np.nan


def clipped(batch: Sequence[Run], networks: Networks, threads: int) -> dict[str, Floats]:
    """What the runs' clips do to the gradients of many minibatches, each a step of training, by column (N,)."""
    like, cases = batch[0], tuple(dict.fromkeys(map(case_of, batch)))
    B, M = like["batch_size"], like["minibatches"]
    many = Networks.of(like, networks.keys, max(case.seq_len for case in cases), B * M, networks.dtype)
    answers = dict(zip(cases, many.gradients(cases, M, threads), strict=True))
    found: dict[str, Floats] = {}
    for case, terms, rows in _alike(batch):
        answer = answers[case]
        sums = by_parameter(many.cell, answer.weights_by_group, answer.readout_by_group)
        gradients = {name: Scaled(part.mantissa / (B * terms), part.exponent) for name, part in sums.items()}
        for part in gradients.values():
            part.mantissa[answer.overflow_by_group > 0] = np.nan  # no number: not finite
        clips = list(dict.fromkeys(batch[i]["clip"] for i in rows))
        at = [clips.index(batch[i]["clip"]) for i in rows], [networks.keys.index(network_of(batch[i])) for i in rows]
        for name, values in effects(gradients, clips).items():
            found.setdefault(name, np.full(len(batch), np.nan))[rows] = values[at]
    return found


def _alike(batch: Sequence[Run]) -> Iterable[tuple[Case, int, NDArray[np.int64]]]:
    """The case, and what its loss is divided by, of runs that clip the same gradients; and which runs these are."""
    keys = [(case_of(run), terms_of(run)) for run in batch]
    for case, terms in dict.fromkeys(keys):
        yield case, terms, np.flatnonzero([key == (case, terms) for key in keys])
