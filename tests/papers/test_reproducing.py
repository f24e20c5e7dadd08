"""Reproducing: what is written, what is refused, and what a claim that fails leads to. The papers here are made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from made_up import POINTS, square_of

from gradscope.cli import cli, main
from gradscope.errors import GradscopeError, InputError
from gradscope.figures import Drawn
from gradscope.locking import locked
from gradscope.paper import Measured
from gradscope.reproducing import reproduce
from gradscope.reproduction import load, reproduced


def run(*arguments):
    jobs = ["--jobs", "1"] if arguments else []
    return CliRunner().invoke(cli, ["reproduce", *jobs, *map(str, arguments)])


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def contents_of(folder):
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


def test_a_paper_is_its_report_claims_figures_and_tables(catalogue, tmp_path):
    (done,) = reproduce(["right"], tmp_path, jobs=1, command="by hand")
    assert files_in(tmp_path) - {".lock"} == {
        "index.html",
        *(f"right/{name}" for name in ("report.html", "claims.csv", "reproduction.json", "tables/squares.csv")),
        *(f"right/figures/line.{kind}" for kind in ("png", "svg", "pdf", "csv")),
    }
    assert done.held
    assert done.failures == []
    assert done.summary["points"].tolist() == [3, 3, 1]
    assert done.record["command"] == "by hand"
    assert pd.read_csv(tmp_path / "right/tables/squares.csv")["w"].tolist() == list(POINTS)
    page = (tmp_path / "right/report.html").read_text(encoding="utf-8")
    for text in (
        "Squares are squares",
        "Euclid, book II",
        "7 of 7 checks of 3 claims hold",
        "10.1109/72.279181",
        "<svg",
    ):
        assert text in page


def test_a_claim_is_read_as_it_was_written(catalogue, tmp_path):
    (done,) = reproduce(["right"], tmp_path, jobs=1)
    again = load(tmp_path / "right")
    pd.testing.assert_frame_equal(again.claims, done.claims)
    assert again.figures == done.figures


def test_the_summary_is_of_all_that_are_there_and_names_those_that_are_not(catalogue, tmp_path):
    reproduce(["right"], tmp_path, jobs=1)
    reproduce(["wrong"], tmp_path, jobs=1)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "4 of 6 claims hold, checked at 14 points, in 2 papers" in page
    assert page.count("data:image/png;base64,") == 2
    assert "Not reproduced here, or damaged: <code>also-right</code>" in page
    assert [one.paper.name for one in reproduced(tmp_path)] == ["right", "wrong"]


def test_several_are_returned_in_the_order_asked_for_and_told_of(catalogue, tmp_path):
    told = []
    done = reproduce(["wrong", "right", "wrong"], tmp_path, jobs=1, tell=lambda one: told.append(one.paper.name))
    assert [one.paper.name for one in done] == ["wrong", "right"]
    assert sorted(told) == ["right", "wrong"]


def test_another_run_takes_the_place_of_the_one_before_bit_for_bit(catalogue, tmp_path):
    reproduce(["right"], tmp_path, jobs=1)
    before = contents_of(tmp_path / "right")
    reproduce(["right"], tmp_path, jobs=1)
    after = contents_of(tmp_path / "right")
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} <= {"reproduction.json", "report.html"}


def test_the_seed_is_handed_on_and_written_down(catalogue, tmp_path):
    assert run("right", "-o", tmp_path, "--seed", 7).exit_code == 0
    assert load(tmp_path / "right").record["seed"] == 7
    assert pd.read_csv(tmp_path / "right/tables/squares.csv")["seed"].unique() == [7]


def test_check_says_which_claims_fail_and_ends_with_1(catalogue, tmp_path):
    result = run("wrong", "right", "--check", "-o", tmp_path)
    assert result.exit_code == 1
    assert "right: all claims hold (3 claims, 7 points" in result.output
    assert "wrong: 2 of 3 claims FAILED" in result.output
    said = "wrong: fails (0 of 3 points hold): Squares are squares: expected = 0.25, measured 0.251 at w = 0.5"
    assert said in result.stderr
    assert run("wrong", "-o", tmp_path).exit_code == 0
    assert run("right", "--check", "-o", tmp_path).exit_code == 0


def test_check_alone_is_of_all(catalogue, tmp_path):
    result = run("--check", "-q", "-o", tmp_path)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert {path.parent.name for path in tmp_path.glob("*/claims.csv")} == set(catalogue)


def test_all_goes_without_names(catalogue, tmp_path):
    assert run("--all", "-o", tmp_path).exit_code == 0
    assert (tmp_path / "also-right/report.html").is_file()
    with pytest.raises(InputError, match="--all: goes without NAME"):
        CliRunner().invoke(cli, ["reproduce", "right", "--all"], catch_exceptions=False)


def test_the_catalogue_is_listed(catalogue):
    result = run()
    assert result.exit_code == 0
    assert [name for name in catalogue if name in result.output] == list(catalogue)
    assert "Bengio et al. (1994) · 3 claims: exact law, qualitative · about 1 s" in result.output


def failing(monkeypatch, capsys, *arguments):
    """Exit status and error of the program itself."""
    monkeypatch.setattr("sys.argv", ["gradscope", "reproduce", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr().err


def test_an_unknown_name_is_refused_with_the_near_miss(monkeypatch, capsys, tmp_path):
    out = tmp_path / "none"
    code, error = failing(monkeypatch, capsys, "latsh", "-o", out)
    assert code == 2
    assert "unknown paper 'latsh'" in error
    assert "did you mean 'latch'?" in error
    assert not out.exists()


def test_a_folder_that_holds_something_else_is_left_alone(catalogue, monkeypatch, capsys, tmp_path):
    (tmp_path / "right").mkdir()
    (tmp_path / "right/thesis.tex").write_text("precious")
    code, error = failing(monkeypatch, capsys, "right", "wrong", "-o", tmp_path)
    assert code == 2
    assert f"{tmp_path / 'right'}: holds what is not of a reproduced paper: thesis.tex; move what you want" in error
    assert files_in(tmp_path) - {".lock"} == {"right/thesis.tex"}


@pytest.mark.parametrize("record", ["whole", "damaged"])
def test_a_file_of_the_users_beside_ours_is_not_lost(catalogue, tmp_path, record):
    reproduce(["right"], tmp_path, jobs=1)
    (tmp_path / "right/notes.txt").write_text("precious")
    if record == "damaged":
        (tmp_path / "right/reproduction.json").write_text("{")
    with pytest.raises(InputError, match=r"holds what is not of a reproduced paper: notes.txt; move what you want"):
        reproduce(["right"], tmp_path, jobs=1)
    assert (tmp_path / "right/notes.txt").read_text() == "precious"


def test_a_page_of_something_else_is_left_alone(catalogue, monkeypatch, capsys, tmp_path):
    (tmp_path / "index.html").write_text("<h1>my page</h1>")
    code, error = failing(monkeypatch, capsys, "right", "-o", tmp_path)
    assert code == 2
    assert "is a page of something else" in error
    assert (tmp_path / "index.html").read_text() == "<h1>my page</h1>"


def test_a_folder_in_use_is_refused(catalogue, monkeypatch, capsys, tmp_path):
    with locked(tmp_path, lambda _: None):
        code, error = failing(monkeypatch, capsys, "right", "-o", tmp_path)
    assert code == 2
    assert "another process is writing to this folder" in error


def test_a_file_for_a_folder_is_refused(catalogue, monkeypatch, capsys, tmp_path):
    place = tmp_path / "papers"
    place.write_text("a file")
    code, error = failing(monkeypatch, capsys, "right", "-o", place)
    assert code == 2
    assert str(place) in error
    assert place.read_text() == "a file"


def test_what_cannot_be_measured_leaves_what_was_there(catalogue, tmp_path):
    reproduce(["right"], tmp_path, jobs=1)
    before = files_in(tmp_path)

    def broken(seed, folder):
        raise GradscopeError("no numbers today")

    catalogue["right"] = square_of("right", measure=broken)
    with pytest.raises(GradscopeError, match="no numbers today"):
        reproduce(["right"], tmp_path, jobs=1)
    assert files_in(tmp_path) == before


def test_the_others_are_done_if_one_fails_and_the_page_is_of_them(catalogue, tmp_path):
    def broken(seed, folder):
        raise GradscopeError("no numbers today")

    catalogue["right"] = square_of("right", measure=broken)
    told = []
    with pytest.raises(GradscopeError, match="right: no numbers today"):
        reproduce(list(catalogue), tmp_path, jobs=1, tell=lambda one: told.append(one.paper.name))
    assert sorted(told) == ["also-right", "wrong"]
    assert "in 2 papers" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_each_is_told_of_as_it_is_done(catalogue, tmp_path):
    def after(seed, folder):
        assert told == ["also-right"]
        return measure(seed, folder)

    told, measure = [], catalogue["right"].measure
    catalogue["right"] = square_of("right", measure=after)
    reproduce(["also-right", "right"], tmp_path, jobs=1, tell=lambda one: told.append(one.paper.name))
    assert told == ["also-right", "right"]


def test_stopped_between_the_old_and_the_new_the_old_comes_back(catalogue, tmp_path, monkeypatch):
    reproduce(["right"], tmp_path, jobs=1)
    before, rename = contents_of(tmp_path / "right"), Path.rename

    def stopped(self, target):
        if self.parent.parent == tmp_path:  # the new folder
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(KeyboardInterrupt):
        reproduce(["right"], tmp_path, jobs=1)
    assert contents_of(tmp_path / "right") == before
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "index.html", "right"}


def test_what_a_killed_process_left_is_put_away(catalogue, tmp_path):
    reproduce(["right", "wrong"], tmp_path, jobs=1)
    before = contents_of(tmp_path / "right")
    (tmp_path / "right").rename(tmp_path / ".reproducing-right-before")  # killed just then
    (tmp_path / ".reproducing-wrong-x1y2").mkdir()
    reproduce(["wrong"], tmp_path, jobs=1)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "index.html", "right", "wrong"}
    assert contents_of(tmp_path / "right") == before


@pytest.mark.parametrize("damage", ["claims.csv", "reproduction.json", "figures/line.png"])
def test_a_damaged_neighbour_is_named_on_the_page_and_is_in_no_ones_way(catalogue, tmp_path, damage):
    reproduce(["right"], tmp_path, jobs=1)
    (tmp_path / "right" / damage).unlink()
    assert reproduce(["wrong"], tmp_path, jobs=1)[0].paper.name == "wrong"
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Not reproduced here, or damaged: <code>also-right</code>, <code>right</code>" in page


def test_a_paper_claims_something_and_nothing_twice():
    one = square_of("squares")
    with pytest.raises(InputError, match="squares: claims nothing"):
        replace(one, claims=())
    with pytest.raises(InputError, match="squares: two claims say the same: Squares are squares"):
        replace(one, claims=(*one.claims, one.claims[0]))


def test_a_figure_that_cannot_be_drawn_is_an_error(catalogue, tmp_path):
    def without(seed, folder):
        tables = {"squares": pd.DataFrame({"square": POINTS**2, "law": POINTS**2}, POINTS)}
        return Measured(tables, lambda place, formats: [Drawn("line", "A line", "", {}, "needs a pencil")])

    catalogue["right"] = square_of("right", measure=without)
    with pytest.raises(GradscopeError, match="right: figure line cannot be drawn: needs a pencil"):
        reproduce(["right"], tmp_path, jobs=1)
    assert not (tmp_path / "right").exists()


def test_ctrl_c_leaves_whole_papers_only(catalogue, monkeypatch, capsys, tmp_path):
    def interrupted(seed, folder):
        raise KeyboardInterrupt

    catalogue["wrong"] = square_of("wrong", measure=interrupted)
    catalogue["right"] = replace(catalogue["right"], seconds=9.0)  # the longest goes first
    code, error = failing(monkeypatch, capsys, "wrong", "right", "--jobs", 1, "-o", tmp_path)
    assert code == 130
    assert "interrupted; finished: right; the same command makes all again" in error
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "index.html", "right"}
    assert "in 1 paper;" in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("damage", ["claims.csv", "reproduction.json"])
def test_damage_is_noticed(catalogue, tmp_path, damage):
    reproduce(["right"], tmp_path, jobs=1)
    path = tmp_path / "right" / damage
    path.write_text(path.read_text().replace("0.25", "0.26").replace('"seed": 0', '"seed": 1'))
    with pytest.raises(InputError, match=f"{damage}.*gradscope reproduce makes it again"):
        load(tmp_path / "right")
    assert run("right", "-o", tmp_path).exit_code == 0
    assert load(tmp_path / "right").held


def test_no_paper_is_no_reproduction(tmp_path):
    with pytest.raises(InputError, match="holds no reproduced paper"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": -1}, "seed: -1; allowed: a whole number >= 0"),
        ({"seed": True}, "seed: True; allowed: a whole number >= 0"),
        ({"seed": 0.5}, "seed: 0.5; allowed: a whole number >= 0"),
        ({"jobs": 0}, "jobs: 0; allowed: a whole number >= 1"),
        ({"jobs": "2"}, "jobs: '2'; allowed: a whole number >= 1"),
        ({"names": "rihgt"}, "unknown paper 'rihgt'.*did you mean 'right'"),
        ({"names": [3]}, "unknown paper '3'"),
    ],
)
def test_arguments_that_cannot_be_are_refused(catalogue, tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        reproduce(**{"names": ["right"], "out": tmp_path / "none"} | wrong)
    assert not (tmp_path / "none").exists()


def test_one_name_is_a_name(catalogue, tmp_path):
    assert [one.paper.name for one in reproduce("right", tmp_path, jobs=1)] == ["right"]


def test_home_is_meant_by_its_sign(catalogue, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert reproduce("right", "~/papers", jobs=1)[0].folder == tmp_path / "papers/right"


@pytest.mark.parametrize("option", ["--out=x", "--seed=3", "--jobs=2", "--open", "--quiet"])
def test_options_without_a_name_are_refused(catalogue, option):
    with pytest.raises(InputError, match=rf"^{option.partition('=')[0]}: needs NAME, or --all"):
        CliRunner().invoke(cli, ["reproduce", option], catch_exceptions=False)
