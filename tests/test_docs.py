"""What the documentation shows works: docstring examples, README's Python, its TOML, and its commands."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import re
import shlex
import tomllib
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

import gradscope
from gradscope import grid, plugins, truncations
from gradscope.cli import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = [module.name for module in pkgutil.walk_packages(gradscope.__path__, "gradscope.")]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_docstring_examples_are_true(name):
    failed, _ = doctest.testmod(importlib.import_module(name), extraglobs={"np": np})
    assert failed == 0


@pytest.mark.parametrize("name", [name for name in gradscope.__all__ if callable(getattr(gradscope, name))])
def test_public_names_have_docstrings_with_examples(name):
    shown = getattr(gradscope, name)
    assert shown.__doc__
    if not isinstance(shown, type):
        assert ">>>" in shown.__doc__ or "Examples" in shown.__doc__


@pytest.mark.parametrize("code", blocks("python"), ids=["clip", "training", "cells", "figure", "backprop", "sweep"])
def test_readme_python_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = '{"seeds": 2, "seq_len": 8, "hidden_size": 4, "spectral_radius": [0.9, 1.1]}'
    if 'gs.load("reports/spectral-radius")' in code:
        overrides = ast.literal_eval(small) | {"seq_len": [4, 8], "batch_size": 2}
        gradscope.sweep("spectral-radius", out="reports/spectral-radius", overrides=overrides, jobs=1)
    # In this process, and at a size that takes a moment; what it calls is as written.
    code = code.replace('{"seeds": 2, "seq_len": 50}', f"{small}, jobs=1")
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})


def test_readme_toml_resolves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("prices.csv").write_text("day,close\n" + "\n".join(f"{day},{day % 7}" for day in range(300)))
    (text,) = blocks("toml")
    keys = tomllib.loads(text)["sweep"]
    sweep = grid.resolve(keys.pop("name"), keys)
    assert len(sweep.runs) == 2 * 11 * 2 * 3 * 2 * 5


def commands():
    """The gradscope commands in README's shell blocks."""
    for block in blocks("sh"):
        for line in block.splitlines():
            for command in line.partition(" #")[0].split("&&"):
                if command.strip().startswith("gradscope"):
                    yield shlex.split(command)[1:]


@pytest.mark.parametrize("arguments", list(commands()), ids=" ".join)
def test_readme_commands_are_understood(arguments):
    name, *rest = arguments
    command = cli.commands[name]
    command.make_context(name, rest, parent=click.Context(cli, **cli.context_settings))  # parses, does not run


def test_readme_lists_every_command_and_truncation():
    for name in cli.commands:
        assert f"gradscope {name}" in README
    for spec in plugins.usage(truncations.FAMILY):
        assert f"`{spec}`" in README


def test_help_shows_every_command():
    shown = CliRunner().invoke(cli, ["--help"]).output
    assert all(name in shown for name in cli.commands)
