"""What the tests of this folder share: experiments written as TOML, and the command line called as a user calls it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from gradscope.cli import main


class Answer(NamedTuple):
    """What a command leaves behind: its exit status and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def experiment_file(tmp_path):
    """Write an experiment and give its path."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "mine.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Call `gradscope ARGUMENTS` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    # As if `gradscope` itself had been started: with `python -m pytest`, click would take that for the program's name.
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None)

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["gradscope", *arguments])
        with pytest.raises(SystemExit, match=r"^\d+$") as stopped:
            main()
        return Answer(int(stopped.value.code), *capsys.readouterr())

    return call
