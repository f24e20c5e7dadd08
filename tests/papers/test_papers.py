"""What every paper of the catalogue is held to.

That its claims hold is checked by `gradscope reproduce --all --check`, in CI; here of the quick ones, and of all that
they say what they have to, and that what is kept of them is theirs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gradscope import figures, papers
from gradscope.claims import BASES, HOLDS, KINDS, RELATIONS, judge
from gradscope.paper import EXACTLY
from gradscope.reporting.references import cited
from gradscope.reproduction import CLAIMS, read_claims
from gradscope.threads import one_blas_thread

NAMES = papers.names()
QUICK = [name for name in NAMES if papers.find(name).seconds <= 2.0]
KEPT = Path(__file__).parent.parent.parent / "reports" / "gallery" / "papers"
LEAST_POINTS = 8  # at which a paper is checked: more than are quoted
FIRST_SET = {
    *("linear-bptt", "random-truncation", "influence-balancing", "pascanu-cliff", "pascanu-bounds", "meanfield"),
    *("delay-line", "orthogonal-flat", "curse-of-memory", "gates", "aicher-bias", "latch", "karpathy-init"),
    *("gaussian-products", "chaos", "task-baselines"),
}


def test_the_first_set_is_there():
    assert set(NAMES) >= FIRST_SET
    assert len(set(NAMES)) == len(NAMES)  # a name is that of a module or of a TOML file


@pytest.mark.parametrize("name", NAMES)
def test_a_paper_says_what_it_has_to(name):
    paper = papers.find(name)
    texts = (paper.title, paper.about, paper.setup)
    assert all(text.strip() == text and text for text in texts)
    assert len(paper.title) <= 80
    assert not paper.title.endswith(".")
    assert paper.repeats == EXACTLY or paper.repeats.startswith("statistically")
    assert 0 < paper.seconds < 60
    assert [source.key for source in cited(paper.sources)] == list(paper.sources)


@pytest.mark.parametrize("name", NAMES)
def test_its_claims_are_three_at_least_and_each_a_sentence_of_its_own(name):
    claims = papers.find(name).claims
    said = [claim.says for claim in claims]
    assert len(said) >= 3
    assert len(set(said)) == len(said)
    assert not [text for text in said if text.endswith(".") or not (text[0].isupper() or text.startswith("dE"))]
    assert all(claim.source for claim in claims)


@pytest.mark.parametrize("name", QUICK)
def test_quick_papers_hold_and_repeat_bit_for_bit(name, tmp_path):
    paper = papers.find(name)
    with one_blas_thread():
        measured = [paper.measure(0, tmp_path / run) for run in ("one", "other")]
    judged = judge(paper.claims, measured[0].tables)
    assert set(judged["verdict"]) == {HOLDS}
    if paper.repeats == EXACTLY:
        pd.testing.assert_frame_equal(judged, judge(paper.claims, measured[1].tables), check_exact=True)
    drawn = measured[0].draw(tmp_path, ["svg"])
    assert drawn
    assert all(one.files["svg"].is_file() and one.title and one.caption for one in drawn)


# --- what is kept in the gallery --------------------------------------------------------------------------------------


def test_the_gallery_has_every_paper_and_no_other():
    assert {path.parent.name for path in KEPT.glob(f"*/{CLAIMS}")} == set(NAMES)
    page = (KEPT / "README.md").read_text(encoding="utf-8")
    pictures = {path.relative_to(KEPT).as_posix() for path in KEPT.rglob("*.png")}
    assert pictures
    assert [name for name in pictures if f"]({name})" not in page] == []


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_are_the_claims_of_the_paper_and_all_hold(name):
    kept, claims = read_claims(KEPT / name / CLAIMS), papers.find(name).claims
    assert list(dict.fromkeys(kept["claim"])) == [claim.says for claim in claims]
    own = kept.groupby("claim", sort=False)
    assert own["kind"].first().tolist() == [KINDS[claim.kind] for claim in claims]
    assert own["tolerance"].first().tolist() == [claim.tolerance for claim in claims]
    assert own["relation"].first().tolist() == [RELATIONS[claim.relation] for claim in claims]
    assert own["basis"].first().tolist() == [BASES[claim.basis] for claim in claims]
    assert set(kept["verdict"]) == {HOLDS}
    assert len(kept) >= LEAST_POINTS
    assert list((KEPT / name).glob("*.png"))


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_could_fail(name):
    """No equality is so loose that nothing would have passed, nor 10 times what it is: a law hardly at all."""
    kept = read_claims(KEPT / name / CLAIMS)
    equal = kept[(kept["relation"] == "=") & np.isfinite(kept["expected"]) & (kept["expected"] != 0)]
    size = equal["expected"].abs()
    assert (equal["allowed"] < size).all()
    laws = equal[equal["kind"] == KINDS["law"]]
    assert (laws["allowed"] <= 1e-3 * laws["expected"].abs()).all()


def test_figures_of_sweeps_are_known():
    for path in papers.SWEPT.glob("*.toml"):
        papers.find(path.stem)
        assert set(papers.described(path).figures) <= set(figures.names())
