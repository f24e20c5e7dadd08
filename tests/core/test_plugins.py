"""Guards plug-in families: a file is a member, a spec is a member written as text, and errors name the near miss."""

import sys
from pathlib import Path

import pytest

import gradscope as gs
from gradscope import cells, clips, ensembles, plugins, truncations

FAMILIES = [cells, clips, ensembles, truncations]

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)


@every_family
def test_every_file_is_a_member_named_after_it(family):
    files = {path.stem for path in Path(family.__file__).parent.glob("*.py")} - {"__init__"}
    assert {name.replace("-", "_") for name in plugins.names(family)} == files
    for name in plugins.names(family):
        member = plugins.find(family, name)
        assert member.__module__ == f"{family.__name__}.{name.replace('-', '_')}"
        assert member.__doc__


@every_family
def test_members_are_frozen(family):
    for name in plugins.names(family):
        assert plugins.find(family, name).__dataclass_params__.frozen


def test_new_file_is_a_new_member(tmp_path, monkeypatch):
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes" / "__init__.py").touch()
    lines = ["from dataclasses import dataclass", "@dataclass(frozen=True)", "class RoundBox:", "    size: int"]
    (tmp_path / "shapes" / "round_box.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    import shapes

    assert plugins.names(shapes) == ("round-box",)
    assert plugins.usage(shapes) == ["round-box:SIZE"]
    assert plugins.parse(shapes, "round-box:3").size == 3
    with pytest.raises(gs.InputError, match="unknown shape 'round-bx'; allowed: round-box; did you mean 'round-box'"):
        plugins.find(shapes, "round-bx")
    for module in ("shapes", "shapes.round_box"):
        monkeypatch.delitem(sys.modules, module)


@pytest.mark.parametrize(
    ("family", "name", "message"),
    [
        (truncations, "chunkd", "unknown truncation 'chunkd'.*did you mean 'chunked'"),
        (truncations, "random-unwieghted", "did you mean 'random-unweighted'"),
        (ensembles, "ortogonal", "unknown ensemble 'ortogonal'.*did you mean 'orthogonal'"),
        (cells, "Elman", "unknown cell 'Elman'.*allowed: .*elman.*did you mean 'elman'"),
    ],
)
def test_near_miss_is_named(family, name, message):
    with pytest.raises(gs.InputError, match=message):
        plugins.find(family, name)


def test_far_miss_lists_the_choices_and_guesses_nothing():
    with pytest.raises(gs.InputError, match="unknown truncation 'zzz'; allowed: artbp, buffered, chunked") as caught:
        plugins.find(truncations, "zzz")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tbptt:5", r"'tbptt:5' has 1 argument.*tbptt takes 2; allowed: .*tbptt:K1:K2"),
        ("full:3", r"'full:3' has 1 argument.*full takes 0"),
        ("fixed", r"'fixed' has 0 argument.*fixed takes 1"),
        ("fixed:1e3", "'fixed:1e3': tau must be a whole number, not '1e3'"),
        ("random:often", "'random:often': tau must be a number, not 'often'"),
        ("tbptt:5:4", "'tbptt:5:4': K2 must be at least K1, and 4 < 5; allowed: .*tbptt:K1:K2"),
    ],
)
def test_refused_spec_is_quoted_with_its_fault(spec, message):
    with pytest.raises(gs.InputError, match=message):
        plugins.parse(truncations.FAMILY, spec)


def test_usage_shows_how_specs_are_written():
    assert {"full", "fixed:TAU", "tbptt:K1:K2", "random-unweighted:TAU"} <= set(plugins.usage(truncations.FAMILY))
