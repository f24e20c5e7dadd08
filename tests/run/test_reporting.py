"""The report: one file, nothing from elsewhere, what users wrote escaped, and findings that the data support."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from small_sweep import SMALL

import gradscope as gs
from gradscope.figures import gradient_vs_length
from gradscope.reporting.findings import _boundary_text, findings

VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Collects ids and references, and fails on tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.references, self.open, self.tags = [], [], [], set()
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            self.ids += [value] if name == "id" else []
            self.references += [value] if name in ("href", "src") else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "out"
    shutil.copytree(small.folder, folder)
    text = gs.report(gs.load(folder)).read_text(encoding="utf-8")
    return folder, text, Page(text)


def test_nothing_is_loaded_from_elsewhere(page):
    folder, text, parsed = page
    assert "default-src 'none'" in text
    assert "script" not in parsed.tags
    for reference in parsed.references:
        if not reference.startswith(("data:image/", "#")):
            assert (folder / reference).is_file()


def test_every_link_within_the_page_has_its_target(page):
    _, _, parsed = page
    anchors = {reference[1:] for reference in parsed.references if reference.startswith("#")}
    assert anchors
    assert anchors <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))


def test_the_page_says_what_was_swept_and_how(page, small):
    _, text, _ = page
    for expected in (
        small.manifest["hash"],
        "fixed:3",
        "0.5, 1.0, 1.5",
        small.manifest["versions"]["numpy"],
        "192 runs",
    ):
        assert expected in text


def test_the_report_is_the_same_when_written_again(page):
    folder, text, _ = page
    assert gs.report(gs.load(folder)).read_text(encoding="utf-8") == text


def test_what_comes_from_users_is_escaped(tmp_path):
    hostile = "<script>alert(1)</script>"
    series = tmp_path / "series.csv"
    pd.DataFrame({hostile: np.sin(np.arange(100.0))}).to_csv(series, index=False)
    small = {key: value for key, value in SMALL.items() if key not in ("input_size", "activation")}
    overrides = small | {"task": "series", "file": str(series), "column": hostile, "seeds": 1}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=overrides, jobs=1, command=f"x {hostile}")
    text = gs.report(results).read_text(encoding="utf-8")
    assert hostile not in text
    assert "&lt;script&gt;alert(1)" in text


def test_orthogonal_linear_networks_cross_where_the_rate_is_interpolated_to_zero_with_their_half_life(orthogonal):
    text = findings(orthogonal)[0].text
    crossing = 0.9 + 0.2 * np.log(0.9) / (np.log(0.9) - np.log(1.1))
    half_life = np.log(2) / -np.log(0.9)
    assert f"Gradients vanish below spectral radius {crossing:.4f} ± 0.0000 and explode above it" in text
    assert f"At spectral radius 0.9 the gradient halves every {half_life:.3g} steps." in text


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([0.01, 0.05, 0.09], "fixed:3 at all"),
        ([0.01, 0.05, 0.11], "fixed:3 up to 1"),
        ([0.2, 0.3, 0.4], "fixed:3 at none"),
        ([0.2, 0.01, 0.01], "fixed:3 at 1, 1.5"),
        ([np.nan, 0.01, 0.2], "fixed:3 up to 1"),
    ],
)
def test_a_truncation_is_said_to_be_good_where_its_median_error_is_small(small, errors, said):
    part = small.select(activation="tanh", truncation=["full", "fixed:3"])
    by_radius = dict(zip((0.5, 1.0, 1.5), errors, strict=True))
    part.runs["relative_error"] = part.runs["spectral_radius"].map(by_radius)
    (text,) = [finding.text for finding in findings(part) if finding.figure == "truncation-error"]
    assert f"{said}." in text


def test_medians_in_words_are_those_of_the_figures(small):
    table = gradient_vs_length.table(small)
    last = table[(table["panel"] == "tanh") & (table["seq_len"] == 12)]
    (text,) = [f.text for f in findings(small) if f.figure == "gradient-vs-length" and f.text.startswith("tanh")]
    said = re.search(r"goes from (\S+) at spectral radius 0.5 to (\S+) at 1.5", text).groups()
    np.testing.assert_allclose(np.log10(np.array(said, float)), last["median"].iloc[[0, -1]], atol=0.025)  # two digits


def test_seeds_that_differ_are_counted_where_they_do():
    rows = [(1.0, 0, -0.1), (1.0, 1, 0.1), (1.1, 0, -0.1), (1.1, 1, 0.2), (1.2, 0, 0.1), (1.2, 1, 0.3)]
    table = pd.DataFrame(rows, columns=["spectral_radius", "seed", "rate"])
    table["state"] = np.where(table["rate"] < 0, "vanishing", "exploding")
    assert _boundary_text(table) == (
        "gradients explode in every seed from spectral radius 1.2 on; "
        "seeds in which they grow, by spectral radius: 1: 1 of 2, 1.1: 1 of 2."
    )


@pytest.mark.parametrize(
    ("states", "text"),
    [
        (
            ["vanishing", "constant"],
            "gradients vanish up to spectral radius 1; seeds in which they change by nothing but "
            "rounding, by spectral radius: 2: 1 of 1.",
        ),
        (["exploding", "vanishing"], "seeds in which gradients grow, by spectral radius: 1: 1 of 1."),
        (["zero", "zero"], ""),
        (["vanishing", "overflow"], "gradients vanish at spectral radius 1."),
    ],
)
def test_every_mixture_of_regimes_has_a_whole_sentence(states, text):
    rates = {"vanishing": -1.0, "constant": 0.0, "exploding": 1.0}
    rows = [(radius, 0, rates.get(state, np.nan), state) for radius, state in enumerate(states, 1)]
    assert _boundary_text(pd.DataFrame(rows, columns=["spectral_radius", "seed", "rate", "state"])) == text


def test_rounding_is_not_growth(tmp_path):
    constant = {"ensemble": "identity", "activation": "linear", "spectral_radius": 1.0, "seq_len": 40, "seeds": 3}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL | constant, jobs=1)
    assert "neither vanish nor explode at spectral radius 1:" in findings(results)[0].text


def test_a_report_is_of_the_whole_folder(small):
    with pytest.raises(gs.InputError, match="not of a selection"):
        gs.report(small.select(seed=0))


def test_one_seed_is_said_to_be_one(small):
    assert any("One seed" in finding.text for finding in findings(small.select(seed=0)))
    assert not any("One seed" in finding.text for finding in findings(small))


def test_runs_that_overflow_are_counted(tmp_path):
    overrides = SMALL | {"activation": "linear", "spectral_radius": [0.5, 40.0], "seq_len": 400}
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=overrides, jobs=1)
    assert any("16 of 32 runs left float64's range" in finding.text for finding in findings(results))


def test_an_unfinished_sweep_is_said_to_be_one(tmp_path):
    def stop(state):
        if state.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL, jobs=1, progress=stop)
    results = gs.load(tmp_path / "out")
    done = len(results.runs)
    assert 0 < done < 192
    assert any(f"not finished: this is from {done} of its 192 runs" in finding.text for finding in findings(results))
    assert f"{done} runs of 192: the sweep is not finished" in gs.report(results).read_text(encoding="utf-8")


def test_a_sweep_without_what_the_findings_need_still_has_a_report(tmp_path):
    results = gs.sweep("spectral-radius", out=tmp_path / "out", overrides=SMALL | {"loss_steps": 3, "seeds": 1}, jobs=1)
    text = gs.report(results).read_text(encoding="utf-8")
    assert "figures that these runs do not give" in text
    assert "needs runs with a gradient" in text
