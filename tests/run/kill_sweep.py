"""Kill a sweep again and again at random moments, and count what that cost: `python tests/run/kill_sweep.py 200`.

A kill is SIGKILL to the driver, to the driver and all its workers at once, or to a worker; or SIGINT to the driver. At
the end the tables are compared, byte for byte, with those of a sweep that nobody disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

SETTINGS = {  # 20 shards and 3 parts, some seconds of work
    "hidden_size": [4, 6, 8, 10],
    "batch_size": 2,
    "spectral_radius": [0.5, 0.8, 1.0, 1.2],
    "seq_len": [200, 300],
    "truncation": ["full", "fixed:5", "chunked:7", "random:6"],
    "activation": "tanh",
    "loss_steps": "all",
    "seeds": 16,
}
SHARDS = re.compile(r"runs done; ([0-9a-f]{16}): ")


def command(folder: Path, jobs: int) -> list[str]:
    """The sweep, as a user writes it."""
    options = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    return [sys.executable, "-m", "gradscope", "sweep", *options, "--no-report", "-q", f"--jobs={jobs}", f"-o{folder}"]


def tables(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of tables, by name."""
    paths = [folder / "runs.parquet", *(folder / "timesteps").iterdir(), *(folder / "shards").iterdir()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(stat.parent.name))
    return found


def disturb(process: subprocess.Popen[bytes], how: str, rng: random.Random) -> None:
    """Kill a sweep, or a part of it."""
    if how == "worker":
        workers = [pid for pid in children(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        if workers:
            os.kill(rng.choice(workers), signal.SIGKILL)
    elif how == "group":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.send_signal(signal.SIGKILL if how == "driver" else signal.SIGINT)


def kill_again_and_again(kills: int, seed: int, root: Path) -> dict[str, int]:
    """Sweep under fire until it was disturbed so many times, over as many sweeps as that takes.

    Returns kills by their kind, `sweeps`, and what must be zero: `lost` shards, done and yet measured again,
    `duplicated` shards that one sweep measured twice, `different` tables; `orphans`, workers that outlive a driver.
    """
    rng = random.Random(seed)
    subprocess.run(command(root / "whole", 2), check=True)
    expected = tables(root / "whole")
    count: Counter[str] = Counter(lost=0, duplicated=0, different=0, orphans=0, sweeps=0)
    done = 0
    while done < kills:
        folder = root / f"sweep{count['sweeps']}"
        finished = False
        while not finished:
            before = SHARDS.findall(log.read_text()) if (log := folder / "sweep.log").exists() else []
            there = {path.stem for path in (folder / "shards").glob("*.shard")} if before else set()
            process = subprocess.Popen(
                command(folder, rng.choice([1, 2])), start_new_session=True, stderr=subprocess.DEVNULL
            )
            if done < kills:
                _wait_for_a_moment(process, log, len(before), rng)
                workers = children(process.pid)
                how = rng.choice(["driver", "group", "worker", "interrupt"])
                if process.poll() is None:
                    done += 1
                    count[how] += 1
                    disturb(process, how, rng)
                process.wait()
                count["orphans"] += _outlive(workers)
            finished = process.wait() == 0
            after = SHARDS.findall(log.read_text()) if log.exists() else []
            count["lost"] += len(there & set(after[len(before) :]))
            count["duplicated"] += len(after) - len(set(after))
        count["different"] += tables(folder) != expected
        count["sweeps"] += 1
        shutil.rmtree(folder)
    return dict(count)


def _wait_for_a_moment(process: subprocess.Popen[bytes], log: Path, lines: int, rng: random.Random) -> None:
    """Until a random moment: of the start, or after some shards of this call are done."""
    if rng.random() < 0.25:
        time.sleep(rng.uniform(0.1, 1.2))
        return
    shards = lines + rng.randint(0, 8)
    while process.poll() is None and not (log.exists() and len(SHARDS.findall(log.read_text())) >= shards):
        time.sleep(0.005)
    time.sleep(rng.uniform(0.0, 0.1))


def _outlive(workers: list[int]) -> int:
    """How many of these processes are still there after three seconds."""
    until = time.monotonic() + 3
    while time.monotonic() < until and any(Path(f"/proc/{pid}").exists() for pid in workers):
        time.sleep(0.02)
    return sum(Path(f"/proc/{pid}").exists() for pid in workers)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        print(kill_again_and_again(asked.kills, asked.seed, Path(place)))
