"""The gallery: what is kept, and what its check finds. CI holds the kept one against new runs of all experiments."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import gradscope as gs
from gradscope import experiment, figures, gallery
from gradscope.cli import cli
from gradscope.files import read_json, write_json

KEPT = Path(__file__).parent.parent.parent / "reports" / "gallery"
SIZE = 15_000_000  # bytes in all


def run_instead(patch, runs):
    """Have the gallery run small sweeps in place of the shipped experiments."""

    def run(names, say):
        return [(name, results) for name, results in runs.items() if name in names]

    patch.setattr(gallery, "_run", run)
    patch.setattr(gallery, "reproduce", lambda *_, **__: [])  # of papers: see tests/papers
    patch.setattr("gradscope.experiment.names", lambda: list(runs))


@pytest.fixture(scope="module")
def runs(small, balancing):
    return {"spectral-radius": small, "influence-balancing": balancing}


@pytest.fixture(scope="module")
def first(runs, tmp_path_factory):
    """A gallery that was made from the command line; not to be changed."""
    folder = tmp_path_factory.mktemp("gallery")
    with pytest.MonkeyPatch.context() as patch:
        run_instead(patch, runs)
        assert CliRunner().invoke(cli, ["gallery", "-o", str(folder)]).exit_code == 0
    return folder


@pytest.fixture
def made(first, runs, tmp_path, monkeypatch):
    run_instead(monkeypatch, runs)
    return shutil.copytree(first, tmp_path / "gallery")


def change(folder, edit):
    kept = read_json(folder / gallery.NUMBERS)
    edit(kept["experiments"]["spectral-radius"]["figures"])
    write_json(folder / gallery.NUMBERS, kept)


def test_pictures_the_report_and_an_index_are_kept_and_no_tables(made):
    names = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert {path.rpartition(".")[2] for path in names} == {"png", "html", "json", "md"}
    assert {"spectral-radius/gradient-vs-lag.png", "influence-balancing/influence-balancing.png"} <= names
    assert [name for name in names if name.endswith("html")] == ["spectral-radius/report.html"]
    index = (made / "README.md").read_text(encoding="utf-8")
    assert all(name in index for name in names if name.endswith("png"))


def test_the_same_runs_pass(made):
    assert gallery.check(made, say=lambda _: None) == []


def test_another_number_is_found(made):
    def edit(kept):
        count, *levels = kept["gradient-vs-lag"]["columns"]["median"]
        kept["gradient-vs-lag"]["columns"]["median"] = [count, *levels[:-1], str(float(levels[-1]) + 1.0)]

    change(made, edit)
    (found,) = gallery.check(made, say=lambda _: None)
    assert found.startswith("spectral-radius: gradient-vs-lag: median: 72, ")


def test_other_rows_a_figure_more_or_less_and_a_missing_picture_are_found(made):
    def edit(kept):
        kept["gradient-vs-lag"]["rows"] += 1
        del kept["truncation-error"]
        kept["cosine-distribution"] = kept["lag-profile"]

    change(made, edit)
    (made / "spectral-radius" / "lag-profile.png").unlink()
    found = "\n".join(gallery.check(made, say=lambda _: None))
    assert "gradient-vs-lag: 73 rows of panel" in found
    assert "truncation-error is now drawn" in found
    assert "cosine-distribution is no longer drawn" in found
    assert "lag-profile.png is missing" in found


def test_a_part_is_made_again_and_the_rest_kept(made):
    before = read_json(made / gallery.NUMBERS)
    gallery.make(made, ["influence-balancing"], say=lambda _: None)
    assert read_json(made / gallery.NUMBERS) == before


def test_a_digest_holds_the_extremes_and_quartiles(small):
    table = figures.table_of(small, "gradient-vs-lag")
    digest = gallery.numbers(small)["gradient-vs-lag"]
    assert digest["rows"] == len(table)
    assert digest["columns"]["panel"] == ["linear", "tanh"]
    count, *levels = map(float, digest["columns"]["median"])
    assert count == table["median"].notna().sum()
    assert levels[0] == pytest.approx(table["median"].min(), rel=1e-5)
    assert levels[-1] == pytest.approx(table["median"].max(), rel=1e-5)


def test_numbers_without_end_are_kept():
    digest = gallery._digest(pd.DataFrame({"panel": ["a", "b", "c"], "x": [-np.inf, np.nan, 2.0]}))
    assert digest == {"rows": 3, "columns": {"panel": ["a", "b", "c"], "x": ["2", "-inf", "-inf", "-inf", "2", "2"]}}


@pytest.mark.parametrize(
    ("was", "now", "same"),
    [
        (["2", "1", "100"], ["2", "1", "100.05"], True),
        (["2", "1", "100"], ["2", "1", "101"], False),
        (["2", "-inf", "1"], ["2", "-inf", "1"], True),
        (["2", "-inf", "1"], ["2", "-9", "1"], False),
        (["3", "1", "2"], ["2", "1", "2"], False),
        (["a"], ["b"], False),
        (["1"], ["1", "2"], False),
    ],
)
def test_columns_are_the_same_up_to_a_thousandth(was, now, same):
    assert gallery._same(was, now) == same


def test_what_cannot_be_checked_is_refused(tmp_path):
    with pytest.raises(gs.InputError, match="holds no gallery"):
        gallery.check(tmp_path)
    with pytest.raises(gs.InputError, match="unknown experiment 'spectral'"):
        gallery.make(tmp_path, ["spectral"])
    (tmp_path / gallery.NUMBERS).write_text(json.dumps({"experiments": {}}), encoding="utf-8")
    with pytest.raises(gs.InputError, match="damaged"):
        gallery.check(tmp_path)


def test_the_command_line_checks(made):
    place = ["-o", str(made)]
    assert CliRunner().invoke(cli, ["gallery", "--check", *place]).exit_code == 0
    (made / "spectral-radius" / "lag-profile.png").unlink()
    result = CliRunner().invoke(cli, ["gallery", "--check", *place])
    assert result.exit_code == 1
    assert "lag-profile.png is missing" in result.output


def test_the_kept_gallery_is_whole_and_small():
    kept = read_json(KEPT / gallery.NUMBERS)["experiments"]
    assert list(kept) == experiment.names()
    for name, one in kept.items():
        assert {path.stem for path in (KEPT / name).glob("*.png")} == set(one["titles"])
        assert set(one["figures"]) == (set() if gallery.unsteady(name) else set(one["titles"]))  # the numbers
        assert one["sweep"] == experiment.read(name).hash
    assert sum(path.stat().st_size for path in KEPT.rglob("*") if path.is_file()) < SIZE


def test_only_what_is_asked_for_is_checked(made):
    kept = read_json(made / gallery.NUMBERS)
    del kept["experiments"]["influence-balancing"]
    write_json(made / gallery.NUMBERS, kept)
    assert gallery.check(made, ["spectral-radius"], say=lambda _: None) == []
    assert gallery.check(made, ["influence-balancing"], say=lambda _: None) == [
        "influence-balancing: not in the gallery"
    ]
