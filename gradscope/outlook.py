"""What a sweep is going to take: time, memory and disk, held against what there is."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from gradscope.errors import InputError
from gradscope.intent import Intent
from gradscope.plan import in_bytes
from gradscope.speed import calibrated

# Measured on sweeps from 840 to 200,000 runs.
DRIVER_BYTES, WORKER_BYTES = 210e6, 110e6  # that a process takes before it measures: Python and its libraries
RUN_MEMORY = 1000  # bytes of the driver's for a run, when the final table is written
STARTED = 1.2  # seconds in which workers start and the tables are finished
ROW_BYTES, RUN_BYTES = 8.0, 210.0  # of a row of timesteps and of runs, on the disk
WRITTEN = 1.2e-7  # seconds for a row of timesteps to be written
MOST_PANELS = 24  # that a figure has
REPORT, PANEL, RUN_READ = 1.3, 2.0, 8e-5  # seconds of a report; for each panel of its figures; for each run


@dataclass(frozen=True)
class Outlook:
    """What carrying out an intent is predicted to take.

    Attributes
    ----------
    seconds : until the tables are written.
    memory : bytes of all processes together, at their most.
    measuring : how much of that is for the measurements, which `max_memory` bounds.
    disk : bytes that the tables will take beyond what is there.
    free : bytes that are free where they will be.
    report : seconds for figures and report, when the tables are there.
    workers : processes that will measure.
    """

    seconds: float
    memory: float
    measuring: float
    disk: float
    free: float
    report: float
    workers: int


def outlook(meant: Intent, folder: Path, jobs: int, max_memory: float) -> Outlook:
    """Predict what carrying out `meant` takes; measures samples of it for less than a second."""
    blocks = [block for shard in meant.todo for block in shard.blocks]
    largest = max((shard.memory for shard in meant.todo), default=0)
    workers = fitting(meant, jobs, max_memory)
    speed = calibrated(blocks)
    seconds = STARTED + speed.seconds(blocks) / workers + WRITTEN * sum(block.steps for block in blocks)
    memory = DRIVER_BYTES + RUN_MEMORY * len(meant.sweep)
    memory += workers * largest + (workers * WORKER_BYTES if workers > 1 else 0)
    report = speed.slowness * (REPORT + PANEL * min(MOST_PANELS, len(meant.sweep.blocks)) + RUN_READ * len(meant.sweep))
    return Outlook(
        seconds if blocks else 0.0, memory, workers * largest, disk_of(meant), free_at(folder), report, workers
    )


def fitting(meant: Intent, jobs: int, max_memory: float) -> int:
    """How many workers there may be, at most `jobs`."""
    largest = max((shard.memory for shard in meant.todo), default=1)
    return max(1, int(min(jobs, len(meant.todo), max_memory / largest)))


def disk_of(meant: Intent) -> float:
    """Bytes that the tables of what is to be done will take."""
    blocks = [block for shard in meant.todo for block in shard.blocks]
    return sum(ROW_BYTES * block.steps + RUN_BYTES * len(block) for block in blocks)


def free_at(folder: Path) -> float:
    """Bytes that are free on the disk of a folder, which need not be there yet."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return float(shutil.disk_usage(place).free)


def machine_memory() -> float:
    """Bytes of memory that there are for this process; infinity where the system does not say."""
    found = [float("inf")]
    with contextlib.suppress(AttributeError, ValueError, OSError):
        found.append(float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(ValueError, OSError):  # of a container or a job
        found.append(float(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found)


def machine_cores() -> int:
    """Cores that there are for this process."""
    with contextlib.suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_room(meant: Intent, folder: Path) -> None:
    """Raise InputError if the disk has no room for what is to be done, or the machine no memory for its table."""
    table, there = DRIVER_BYTES + RUN_MEMORY * len(meant.sweep), machine_memory()
    if meant.todo and table > there:
        raise InputError(
            f"the table of {len(meant.sweep):,} runs needs {in_bytes(table)}, and there are {in_bytes(there)}",
            where="memory",
            hint="split the sweep, by seeds, into several folders",
        )
    needed, free = disk_of(meant), free_at(folder)
    if needed > free:
        raise InputError(
            f"the sweep needs about {in_bytes(needed)}, and {in_bytes(free)} are free",
            where=f"disk of {folder}",
            hint="make room, or choose another folder with -o",
        )
