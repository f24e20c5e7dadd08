"""The papers in the gallery: what is kept, the page of claims, and what the check finds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
from click.testing import CliRunner
from made_up import square_of

from gradscope import gallery, paper_gallery, papers
from gradscope.claims import Claim
from gradscope.cli import cli
from gradscope.errors import InputError
from gradscope.reproducing import reproduce
from gradscope.reproduction import CLAIMS


@pytest.fixture
def catalogue(catalogue, monkeypatch):
    """Papers of which all claims hold, and no experiments."""
    monkeypatch.setattr("gradscope.experiment.names", list)
    del catalogue["wrong"]
    return catalogue


@pytest.fixture
def folder(catalogue, tmp_path, made):
    """A gallery that may be changed, and beside it the papers that it was made from."""
    if not made:
        reproduce(["right", "also-right"], tmp_path / "papers", jobs=1)
        arguments = ["gallery", "-o", str(tmp_path / "gallery"), "--papers", str(tmp_path / "papers")]
        assert CliRunner().invoke(cli, arguments).exit_code == 0
        made.append(shutil.copytree(tmp_path, tmp_path.parent / "made"))
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    return tmp_path / "gallery"


@pytest.fixture(scope="module")
def made():
    """The folder of the first gallery that was made, once it is."""
    return []


def found(folder):
    done = reproduce(papers.names(), folder.parent / "again", jobs=1)
    return paper_gallery.differences(folder, done)


def change(folder, column, value, row=0):
    path = folder / "papers/right" / CLAIMS
    kept = pd.read_csv(path, keep_default_na=False)
    kept.loc[row, column] = value
    kept.to_csv(path, index=False)


def test_figures_claims_and_a_page_are_kept(folder):
    kept = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    own = {f"papers/{name}/{file}" for name in ("right", "also-right") for file in ("claims.csv", "line.png")}
    assert kept == {"README.md", "numbers.json", "papers/README.md", *own}
    page = (folder / "papers/README.md").read_text(encoding="utf-8")
    assert "6 of 6 claims hold, checked at 14 points, in 2 papers." in page
    assert "| Squares are squares (w = 0.5) | exact law | = 0.25 | 0.25 | relative 1e-09 | 3 of 3 | holds |" in page
    assert "![A line](right/line.png)" in page
    assert "(papers/README.md)" in (folder / "README.md").read_text(encoding="utf-8")


def test_the_same_papers_pass(folder):
    assert found(folder) == []


def test_another_number_is_found(folder):
    change(folder, "expected", 0.2501)
    assert found(folder) == ["right: expected 0.2501 became 0.25: Squares are squares w = 0.5"]


def test_another_number_of_monte_carlo_is_found_and_rounding_elsewhere_is_not(folder, catalogue):
    sampled = Claim(
        "Cubes", "squares.cube", 0.125, "Euclid, book XI", "sampled", errors=4.0, precision=1.0, where="w < 1"
    )
    law = Claim("Cubes, exactly", "squares.cube", 0.125, "Euclid, book XI", rtol=1e-2, where="w < 1")
    catalogue["right"] = replace(catalogue["right"], claims=(sampled, law))
    gallery.paper_gallery.keep(folder, reproduce(papers.names(), folder.parent / "first", jobs=1))
    assert found(folder) == []
    change(folder, "measured", 0.1255)
    change(folder, "measured", 0.1255, row=1)
    assert found(folder) == ["right: measured 0.1255 became 0.125: Cubes w = 0.5"]


def test_of_what_repeats_statistically_only_the_claims_are_held(folder, catalogue):
    change(folder, "expected", 0.2501)
    catalogue["right"] = replace(catalogue["right"], repeats="statistically: it is chaos")
    assert found(folder) == ["papers/README.md: is not the page of the claims that are kept"]  # which has not changed


@pytest.mark.parametrize("column", ["claim", "kind", "point", "relation", "tolerance", "basis", "source"])
def test_a_claim_that_says_something_else_is_found(folder, column):
    change(folder, column, "something else")
    assert found(folder) == ["right: its 7 checks became 7, or say something else"]


@pytest.mark.parametrize("edit", [lambda text: text.replace("= 0.25", "= 0.26"), lambda text: text + "\n", None])
def test_a_page_that_was_typed_is_found(folder, edit):
    page = folder / "papers/README.md"
    text = page.read_text(encoding="utf-8")
    page.unlink() if edit is None else page.write_text(edit(text), encoding="utf-8")
    assert found(folder) == ["papers/README.md: is not the page of the claims that are kept"]


def test_a_claim_that_fails_is_found(folder, catalogue):
    catalogue["right"] = square_of("right", 1e-3)
    (failure, other) = found(folder)[:2]
    assert failure.startswith("right: fails (0 of 3 points hold): Squares are squares")
    assert other.startswith("right: fails: The square of 2")


def test_what_is_missing_or_stray_is_found(folder, catalogue):
    (folder / "papers/right/line.png").unlink()
    catalogue["new"] = square_of("new")
    del catalogue["also-right"]
    assert found(folder) == [
        "also-right: kept, but not in the catalogue",
        "new: not in the gallery",
        "right: line.png is missing",
    ]


def test_the_check_of_the_gallery_is_also_of_papers(folder, catalogue):
    check = ["gallery", "--check", "-o", str(folder), "--papers", str(folder.parent / "papers")]
    change(folder, "expected", 0.2501)
    result = CliRunner().invoke(cli, check)
    assert result.exit_code == 1
    assert "right: expected 0.2501 became 0.25" in result.stderr


def test_papers_are_reproduced_anew_where_none_are_given(folder, catalogue, capsys, monkeypatch):
    monkeypatch.setattr(gallery, "reproduce", partial(reproduce, jobs=1))  # here, where the made-up ones are known
    gallery.make(folder)
    assert sorted(capsys.readouterr().out.split()) == ["also-right", "right"]
    assert found(folder) == []


def test_papers_that_lack_some_are_refused(folder, catalogue):
    catalogue["new"] = square_of("new")
    with pytest.raises(InputError, match="lacks new; gradscope reproduce --all"):
        gallery.make(folder, papers_at=folder.parent / "papers")
