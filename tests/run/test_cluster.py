"""A sweep on a real Dask cluster of two worker processes: the same tables, also when a worker is killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from distributed import Client, LocalCluster
from small_sweep import SMALL, contents

import gradscope as gs
from gradscope import plan
from gradscope.measuring import VERSIONS

# Of a library that tells so at import or at its end.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        yield cluster


def test_tables_are_the_same_bit_for_bit(small, tmp_path, cluster):
    gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL, executor=cluster.scheduler_address)
    assert contents(tmp_path / "out") == contents(small.folder)


def test_a_clients_own_executor_serves(small, tmp_path, cluster):
    with Client(cluster) as client:
        gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL, executor=client.get_executor())
    assert contents(tmp_path / "out") == contents(small.folder)


def test_a_worker_that_is_killed_costs_nothing(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(plan, "STATES_BYTES", 1.0)  # one network a block
    big = SMALL | {"hidden_size": 24, "seq_len": [50, 100], "seeds": 4}
    gs.sweep("spectral-radius", out=tmp_path / "whole", overrides=big, jobs=1)
    killed = []

    def kill(state):
        if 0 < state.done < state.total and not killed:
            with Client(cluster) as client:
                killed.extend(client.run(os.getpid).values())
            os.kill(killed[0], signal.SIGKILL)

    gs.sweep("spectral-radius", out=tmp_path / "out", overrides=big, executor=cluster.scheduler_address, progress=kill)
    assert len(killed) == 2
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_the_command_line_takes_an_address(small, tmp_path, cluster):
    options = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "gradscope", "sweep", *options, "--no-report", "-q", "-o", str(tmp_path / "out")]
    subprocess.run([*command, "--executor", cluster.scheduler_address], check=True)
    assert contents(tmp_path / "out") == contents(small.folder)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("somewhere", r"--executor: 'somewhere'; allowed: tcp://HOST:PORT"),
        ("tcp://localhost", r"--executor: 'tcp://localhost'; allowed: tcp://HOST:PORT"),
        ("tcp://127.0.0.1:1", r"--executor: no Dask scheduler answers at tcp://127\.0\.0\.1:1"),
    ],
)
def test_an_address_that_cannot_be_is_an_error(tmp_path, address, said):
    with pytest.raises(gs.InputError, match=said):
        gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL, executor=address)
    assert not (tmp_path / "out").exists()


def test_a_cluster_without_workers_is_an_error(tmp_path):
    with (
        LocalCluster(n_workers=0, processes=True, dashboard_address=":0") as empty,
        pytest.raises(gs.InputError, match="has no workers; start some"),
    ):
        gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL, executor=empty.scheduler_address)


def other_versions():
    from gradscope import measuring

    measuring.VERSIONS = ("0.0.9", 1)


def same_versions(versions):
    from gradscope import measuring

    measuring.VERSIONS = versions


def test_workers_with_another_gradscope_are_refused_before_anything_is_written(tmp_path, cluster):
    with Client(cluster) as client:
        client.run(other_versions)
        try:
            with pytest.raises(gs.InputError, match=r"worker tcp://.* has gradscope 0\.0\.9, the sweep is of"):
                gs.sweep(out=tmp_path / "out", overrides=SMALL, executor=cluster.scheduler_address)
        finally:
            client.run(same_versions, VERSIONS)
    assert not (tmp_path / "out").exists()
