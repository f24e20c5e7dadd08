"""Sweeps side by side: differences against scipy's own tests, and a page that holds both."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_sweep import SMALL
from test_reporting import Page

import gradscope as gs
from gradscope.reporting.comparison import (
    _sides,
    biases,
    boundaries,
    compare,
    difference,
    differing,
    rates,
    ratio,
    together,
)

LINEAR = SMALL | {
    "activation": "linear",
    "spectral_radius": [0.8, 0.9, 1.1, 1.2],
    "seq_len": 40,
    "truncation": ["full", "fixed:3", "chunked:4"],
    "seeds": 4,
}


def swept(folder, **changes):
    return gs.sweep("spectral-radius", out=folder, overrides=LINEAR | changes, jobs=1)


@pytest.fixture(scope="module")
def gaussian(tmp_path_factory):
    return swept(tmp_path_factory.mktemp("gaussian") / "out")


@pytest.fixture(scope="module")
def orthogonal(tmp_path_factory):
    return swept(tmp_path_factory.mktemp("orthogonal") / "out", ensemble="orthogonal")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Another sweep that has two activations, and other seeds."""
    return swept(tmp_path_factory.mktemp("both") / "out", activation=["tanh", "linear"], seeds=[4, 5, 6])


@pytest.fixture(scope="module")
def page(gaussian, orthogonal, tmp_path_factory):
    path = compare([gaussian, orthogonal], tmp_path_factory.mktemp("page") / "both.html")
    text = path.read_text(encoding="utf-8")
    return path, text, Page(text)


def test_differences_of_the_same_seeds_are_paired():
    rng = np.random.default_rng(0)
    first = rng.normal(size=6)
    other = first + 0.1 + 0.01 * rng.normal(size=6)
    found = difference(dict(enumerate(first)), dict(enumerate(other)))
    interval = stats.ttest_rel(other, first).confidence_interval()
    np.testing.assert_allclose([found.value - found.half_width, found.value + found.half_width], interval)


def test_differences_of_other_seeds_are_welchs():
    rng = np.random.default_rng(1)
    first, other = rng.normal(size=5), rng.normal(1.0, 3.0, size=8)
    found = difference(dict(enumerate(first)), dict(enumerate(other, start=3)))
    interval = stats.ttest_ind(other, first, equal_var=False).confidence_interval()
    np.testing.assert_allclose([found.value - found.half_width, found.value + found.half_width], interval)


def test_seeds_that_agree_to_rounding_have_a_difference():
    found = difference({0: 0.1, 1: 0.1 + 1e-17, 2: 0.1}, {3: 0.2, 4: np.nextafter(0.2, 1.0)})
    assert found.value == pytest.approx(0.1)
    assert 0.0 < found.half_width < 1e-14
    assert difference({0: 0.1, 1: 0.1}, {2: 0.2, 3: 0.2}).half_width == 0.0


@pytest.mark.parametrize("other", [{0: 1.5}, {1: 1.5}])
def test_one_seed_has_a_difference_without_an_interval(other):
    assert str(difference({0: 1.0}, other)) == "0.5"


def test_ratios_of_the_same_seeds_are_paired():
    first, other = pd.Series([0.1, 0.3, 0.2]), pd.Series([0.2, 0.5, 0.5])
    low, high = 10 ** np.array(stats.ttest_rel(np.log10(other), np.log10(first)).confidence_interval())
    assert ratio(first, other) == f"{10 ** np.log10(other / first).mean():.3g} ({low:.3g} to {high:.3g})"
    assert ratio(first, other.set_axis([1, 2, 3])) == f"{10 ** np.log10(other / first).mean():.3g}"
    assert ratio(first, pd.Series([0.0, 0.1, 0.1])) == ""


def test_orthogonal_networks_differ_from_others_by_what_their_radius_says(gaussian, orthogonal):
    table = rates(_sides([gaussian, orthogonal]))
    assert list(table["spectral radius"]) == [0.8, 0.9, 1.1, 1.2]
    np.testing.assert_allclose(
        table["B"].str.split(" ± ").str[0].astype(float), np.log([0.8, 0.9, 1.1, 1.2]), atol=1e-4
    )
    by_seed = gs_rates(gaussian, 0.9)
    interval = stats.t.interval(0.95, 3, np.mean(by_seed), stats.sem(by_seed))
    value, half_width = table["B - A"][1].split(" ± ")
    np.testing.assert_allclose(float(value), np.log(0.9) - np.mean(by_seed), atol=1e-3)
    np.testing.assert_allclose(float(half_width), np.ptp(interval) / 2, rtol=0.05)  # two digits


def gs_rates(results, radius):
    """The slope of each seed by numpy, after the transient of ten steps."""
    part = results.select(spectral_radius=radius, truncation="full", loss_steps="last")
    steps = part.timesteps.merge(part.runs[["run_id", "seed"]].astype({"run_id": str}), on="run_id")
    late = steps[steps["lag"] >= 10]
    return [np.polyfit(own["lag"], own["log10_dh"] * np.log(10), 1)[0] for _, own in late.groupby("seed")]


def test_boundaries_have_their_difference(gaussian, orthogonal):
    (row,) = boundaries(_sides([orthogonal, gaussian])).to_dict("records")
    crossing = 0.9 + 0.2 * np.log(0.9) / (np.log(0.9) - np.log(1.1))
    assert row["A"] == f"{crossing:.4f} ± 0.0000"
    assert float(row["B - A"].split(" ± ")[0]) == pytest.approx(float(row["B"].split(" ± ")[0]) - crossing, abs=1e-3)


def test_biases_are_medians_of_what_both_have(gaussian, orthogonal):
    table = biases(_sides([gaussian, orthogonal])).set_index(["truncation", "spectral radius"])
    assert set(table.index) == {(spec, radius) for spec in ("fixed:3", "chunked:4") for radius in (0.8, 0.9, 1.2)}
    runs = gaussian.select(spectral_radius=1.2, truncation="fixed:3", loss_steps="all").runs
    assert table.loc[("fixed:3", 1.2), "A"] == pytest.approx(runs["relative_error"].median())


def test_panels_are_matched_by_what_both_sweeps_have(gaussian, both):
    sides = _sides([gaussian, both])
    assert together(sides) == {"activation = linear": ("", "linear")}
    assert set(boundaries(sides)["panel"]) == {"activation = linear"}


def test_grids_show_where_they_differ(gaussian, orthogonal):
    grids = [results.manifest["grid"] for results in (gaussian, orthogonal)]
    assert differing(grids, "AB").to_numpy().tolist() == [["ensemble", "gaussian", "orthogonal"]]


def test_the_page_holds_both_and_nothing_from_elsewhere(page, gaussian):
    path, text, parsed = page
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
    assert {"a-gradient-vs-lag", "b-gradient-vs-lag"} <= set(parsed.ids)
    assert all(value.startswith("data:image/") for value in parsed.loaded)
    for link in parsed.links:
        if not link.startswith("#"):
            assert (path.parent / link).is_file()
    assert text.count("halves every") == 2


def test_the_page_is_the_same_when_written_again(page, gaussian, orthogonal):
    path, text, _ = page
    assert compare([gaussian, orthogonal], path).read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (lambda one: [one], "1 sweeps; allowed: 2 to 26"),
        (lambda one: [one, one], "given twice"),
        (lambda one: [one, one.select(seed=0)], "not of a selection"),
    ],
)
def test_what_cannot_be_compared_is_refused(gaussian, tmp_path, given, match):
    with pytest.raises(gs.InputError, match=match):
        compare(given(gaussian), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
