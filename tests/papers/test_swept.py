"""Papers that are TOML files: what becomes of their tables, and what cannot be says which file and key."""

from __future__ import annotations

import pytest

from gradscope import papers
from gradscope.claims import HOLDS, judge
from gradscope.errors import InputError
from gradscope.experiment import read
from gradscope.run import sweep

PAPER = """
[paper]
title = "Linear networks"
about = \"\"\"
Gradients change by
the spectral radius.
\"\"\"
setup = "As said."
sources = ["bengio1994learning"]
repeats = "bit for bit"
seconds = 1.0
figures = ["gradient-vs-lag"]

[paper.views.gradient-vs-lag]
where = \"\"\"
spectral_radius < 1.1
and hidden_size == 3
\"\"\"
hue = "activation"
"""
SWEEP = """
[sweep]
activation = ["linear", "tanh"]
ensemble = "orthogonal"
spectral_radius = [0.5, 1.0, 1.5]
hidden_size = [3, 4]
seq_len = 12
seeds = 2
"""
CLAIMS = """
[[claims]]
says = "They change by the radius"
quantity = "rates.factor"
expected = "law"
source = "Elementary"
rtol = 1e-9
where = "activation == 'linear'"

[[claims]]
says = "They halve at 1/2"
quantity = "rates.factor"
expected = [[3, 0.5, "linear", "h", 0.5], [4, 0.5, "linear", "h", 0.5]]
source = "Elementary"
rtol = 1e-9
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a paper called "made-up" and returns its file."""
    monkeypatch.setattr(papers, "SWEPT", tmp_path)

    def write(text=PAPER + SWEEP + CLAIMS):
        path = tmp_path / "made-up.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_file_is_a_paper(written, tmp_path):
    written()
    assert "made-up" in papers.names()
    paper = papers.find("made-up")
    assert paper.about == "Gradients change by the spectral radius."
    assert [claim.says for claim in paper.claims] == ["They change by the radius", "They halve at 1/2"]
    assert paper.claims[1].expected == (((3, 0.5, "linear", "h"), 0.5), ((4, 0.5, "linear", "h"), 0.5))
    measured = paper.measure(0, tmp_path / "out")
    assert list(measured.tables) == ["rates"]
    judged = judge(paper.claims, measured.tables)
    assert len(judged) == 6 + 2
    assert set(judged["verdict"]) == {HOLDS}
    (drawn,) = measured.draw(tmp_path / "figures", ["svg"])
    assert drawn.files["svg"].is_file()
    assert "activation: linear, tanh" in drawn.alt


def test_another_seed_draws_other_networks(written, tmp_path):
    path = written()
    first, other = (papers.find("made-up").measure(seed, tmp_path / str(seed)).tables["rates"] for seed in (0, 3))
    linear = "activation == 'tanh'"
    assert not (first.query(linear)["rate"] == other.query(linear)["rate"]).any()
    again = sweep(path, tmp_path / "again", {"seeds": [3000, 3001]}, jobs=1)
    assert len(again.runs) == 24


def test_its_sweep_is_an_experiment_like_any_other(written):
    assert len(read(written())) == 24


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('title = "Linear networks"', "", r"made-up.toml, \[paper\]: has no title; allowed: a table with title, about"),
        ("[paper]\n", "[paper]\ntitel = 1\n", r"\[paper\]: unknown key 'titel'.*did you mean 'title'"),
        ("seconds = 1.0", 'seconds = "one"', r"\[paper\], seconds: Expected `float`, got `str`"),
        ('sources = ["bengio1994learning"]', "sources = 3", r"\[paper\], sources: Expected `array`, got `int`"),
        ('figures = ["gradient', 'figures = ["gradiant', r"\[paper\], figures: unknown figure 'gradiant-vs-lag'.*mean"),
        ("[paper.views.gradient-vs-lag]", "[paper.views.reach]", r"\[paper\], views: unknown figure 'reach'; allowed"),
        ("hue =", "colour =", r"\[paper\], views: Object contains unknown field `colour`"),
        (PAPER, "paper = 3\n", r"\[paper\]: 3; allowed: a table"),
        (CLAIMS, "", r"made-up.toml: no \[\[claims\]\]"),
        ("quantity = ", "quantitiy = ", r"\[\[claims\]\] 1: unknown key 'quantitiy'.*did you mean 'quantity'"),
        (
            'source = "Elementary"\n',
            "",
            r"\[\[claims\]\] 1: has no source; allowed: .*says, quantity, expected, source",
        ),
        ("rates.factor", "rate.factor", r"\[\[claims\]\] 1, quantity: unknown table 'rate'.*did you mean 'rates'"),
        ("rates.factor", "rates", r"\[\[claims\]\] 1, They change by the radius: 'rates'; allowed: TABLE.COLUMN"),
        ("rtol = 1e-9", 'kind = "lore"', r"\[\[claims\]\] 1, They change.*: unknown kind 'lore'"),
        ("rtol = 1e-9", 'rtol = "small"', r"\[\[claims\]\] 1, rtol: Expected `float`, got `str`"),
        ("[[3, 0.5,", "[3, [3, 0.5,", r"\[\[claims\]\] 2, expected: .*; allowed: a list of \[POINT..., VALUE\]"),
    ],
)
def test_what_cannot_be_says_where(before, after, message, written):
    text = PAPER + SWEEP + CLAIMS
    assert before in text
    written(text.replace(before, after, 1))
    with pytest.raises(InputError, match=message):
        papers.find("made-up")
