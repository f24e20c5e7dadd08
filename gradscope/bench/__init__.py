"""`gradscope bench`: how fast the engine is, beside peers and beside the machine's limit, measured in one run.

Machines are shared and noisy, so what counts are ratios: contenders run in turn, A B A B, and what is told is the
median over the rounds of the ratios within each round. A workload's time goes with the number of its networks, so slow
contenders are given fewer of them, and all times are for one network on the whole machine.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gradscope.bench import race
from gradscope.bench.learning import race_training
from gradscope.bench.limits import operations
from gradscope.bench.race import OURS, Entry, contender
from gradscope.bench.workload import WORKLOADS, Workload
from gradscope.errors import InputError, unknown
from gradscope.files import write_whole

PEERS = ("naive_numpy", "torch_eager", "torch_shared", "jax_map", "jax_shared")
# Networks for each process (and to a call) of a full run; a quick run takes those of `QUICK`.
FULL = {
    "W1": {
        OURS: (52, 52),
        "naive_numpy": (8, 1),
        "torch_eager": (7, 7),
        "torch_shared": (12, 6),
        "jax_map": (13, 13),
        "jax_shared": (26, 13),
    },
    "W1-lstm": {OURS: (14, 14), "naive_numpy": (3, 1), "torch_eager": (5, 5), "torch_shared": (6, 6)},
    "W1-gru": {OURS: (14, 14), "naive_numpy": (3, 1), "torch_eager": (5, 5), "torch_shared": (6, 6)},
    "W1s": {OURS: (14, 14), "naive_numpy": (2, 1), "torch_eager": (1, 1), "torch_shared": (2, 2)},
    "W2": dict.fromkeys((OURS, "naive_numpy", "torch_eager", "torch_shared", "jax_map"), (1, 1)),
    "n512": {OURS: (4, 4), "naive_numpy": (1, 1), "torch_eager": (1, 1), "torch_shared": (2, 2), "jax_shared": (3, 3)},
    "T200": {OURS: (14, 14)},
    "T1600": {OURS: (2, 2)},
}
FULL["W1-float32"] = FULL["W1"]
QUICK = {
    "W1": {OURS: (14, 14), "naive_numpy": (2, 1), "torch_eager": (2, 2), "jax_shared": (7, 7)},
    "W2": {OURS: (1, 1), "naive_numpy": (1, 1), "torch_eager": (1, 1)},
}
LONG = ("T1600", "T200")  # whose times a step are compared
SWEEP = "sweep"  # the default sweep, as a user runs it
TRAINING = "training"  # a character-level language model, beside a plain loop
OTHERS = (SWEEP, TRAINING)  # what is no race of networks


@dataclass(frozen=True)
class Timing:
    """One contender on one workload.

    Attributes
    ----------
    workload, contender : their names; `title` is the contender's for people.
    seconds : for one network on the whole machine, in each round.
    ratio : median over the rounds of its seconds over gradscope's; 1 for gradscope.
    share : the least operations of the workload over its time, as a share of the machine's fastest product.
    """

    workload: str
    contender: str
    title: str
    seconds: list[float]
    ratio: float
    share: float


def bench(
    out: Path = Path("reports/bench"),
    workloads: Sequence[str] = (),
    rounds: int | None = None,
    quick: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Race gradscope against its peers and write `bench.json`, a figure and a line of `history.jsonl` to `out`.

    Parameters
    ----------
    out : folder.
    workloads : names; all if none is given.
    rounds : of each race; 5, or 3 if quick.
    quick : fewer workloads and networks: under a minute.
    tell : called with what is being done.

    Raises
    ------
    InputError : a workload that is unknown, or not part of a quick run.

    Returns
    -------
    dict : what `bench.json` holds. Peers that are not installed are named in `not_run`; peers whose numbers are others
        than gradscope's are not timed, and named in `wrong`.
    """
    table = QUICK if quick else FULL
    chosen = list(workloads) or [*table, TRAINING, *([] if quick else [SWEEP])]
    for name in chosen:
        if name not in (*table, *OTHERS):
            raise unknown("workload", name, [*table, *OTHERS], where="--workload")
    if rounds is not None and rounds < 1:
        raise InputError(f"{rounds}", where="--rounds", allowed="a whole number >= 1")
    rounds = rounds or (3 if quick else 5)
    missing = {peer: lacking for peer in PEERS if (lacking := [m for m in contender(peer).NEEDS if not find_spec(m)])}
    peaks: dict[str, float] = {}
    timings: list[Timing] = []
    wrong: list[dict[str, Any]] = []
    for name in chosen:
        if name in OTHERS:
            continue
        workload = WORKLOADS[name]
        if workload.dtype not in peaks:
            tell(f"fastest product, {workload.dtype}")
            peaks[workload.dtype] = race.peak(workload.dtype)
        entries = [Entry(key, *sizes) for key, sizes in table[name].items() if key not in missing]
        seconds, apart = race.race(workload, entries, rounds, tell)
        timings += _timings(workload, seconds, peaks[workload.dtype])
        wrong += [{"workload": name, "contender": peer, "apart": by} for peer, by in apart.items()]
    found = {
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "rounds": rounds,
        "machine": {"cores": os.cpu_count(), "machine": platform.machine(), "system": platform.platform()},
        "versions": _versions(),
        "peak": peaks,
        "not_run": {peer: f"{', '.join(lacking)} not installed" for peer, lacking in missing.items()},
        "wrong": wrong,
        "timings": [asdict(timing) for timing in timings],
    }
    if set(LONG) <= set(chosen):
        a_step = {t.workload: statistics.median(t.seconds) / WORKLOADS[t.workload].longest for t in timings}
        found["long_over_short_step"] = a_step[LONG[0]] / a_step[LONG[1]]
    if TRAINING in chosen:
        found["training"] = race_training(rounds, quick, tell)
    if SWEEP in chosen:
        found["sweep"] = [_sweep_seconds(tell) for _ in range(min(rounds, 3))]
    _write(out, found)
    return found


def _timings(workload: Workload, seconds: dict[str, list[float]], peak: float) -> list[Timing]:
    least = operations(workload)
    return [
        Timing(
            workload.name,
            name,
            name if name == OURS else contender(name).TITLE,
            own,
            statistics.median(a / b for a, b in zip(own, seconds[OURS], strict=True)),
            least / statistics.median(own) / peak,
        )
        for name, own in seconds.items()
    ]


def _sweep_seconds(tell: Callable[[str], None]) -> float:
    """Wall time of the default sweep in a process of its own, tables written, without the report."""
    tell("the default sweep")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "gradscope", "sweep", "--no-report", "-q", "-o", str(Path(folder) / "sweep")]
        start = time.perf_counter()
        subprocess.run(command, check=True)
        return time.perf_counter() - start


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("gradscope", "numpy", "torch", "jax"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _write(out: Path, found: dict[str, Any]) -> None:
    from gradscope.bench.figure import draw
    from gradscope.drawing import style

    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "bench.json", lambda path: path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8"))
    with (out / "history.jsonl").open("a", encoding="utf-8") as history:
        history.write(json.dumps(found) + "\n")
    if found["timings"]:
        with style():
            figure = draw(found)
            for ending in ("png", "svg"):
                figure.savefig(out / f"bench.{ending}")
