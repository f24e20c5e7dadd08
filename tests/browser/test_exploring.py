"""The explorer in a real browser: it comes when it is wanted, and shows what is chosen, by mouse and keyboard."""

from __future__ import annotations

import re

import numpy as np
import pytest

CHARTS = ("#explorer-curves", "#explorer-map")
SELECTS = ("panel", "length", "truncation", "loss", "statistic")
NUMBER = r"(-?[\d.]+)"


def wait_until_drawn(page):
    for chart in CHARTS:
        page.locator(f"{chart} svg").wait_for()


@pytest.fixture
def explorer(look, report):
    """The page scrolled to its explorer, which is open then."""

    def open_explorer(**options):
        page = look(report, **options)
        page.locator("#explorer").scroll_into_view_if_needed()
        wait_until_drawn(page)
        return page

    return open_explorer


def drawn(page):
    """What the two charts are made of."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return [page.locator(f"{chart} svg").inner_html() for chart in CHARTS]


def text(element):
    """What an element says, with the minus signs that Python reads."""
    return element.inner_text().replace("\u2212", "-")


def summary(page):
    """The lag that is read out, and the numbers by spectral radius."""
    told = text(page.locator("#explorer-summary"))
    values = re.findall(rf" ([\d.]+): {NUMBER}", told)
    return int(re.search(r"lag (\d+)", told)[1]), {float(radius): float(value) for radius, value in values}


def hover(page, chart, across=0.5, down=0.5):
    """Point at a place of a chart, and return what the tooltip says."""
    page.locator(chart).scroll_into_view_if_needed()
    box = page.locator(chart).bounding_box()
    page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"], steps=3)
    tip = page.locator(f"{chart} .explorer-tip")
    tip.wait_for(state="visible")
    return text(tip)


def test_nothing_is_unpacked_before_it_is_opened_by_keyboard(look, report):
    page = look(report, viewport={"width": 1200, "height": 400})
    code = page.locator("script:not([type='application/octet-stream'])")
    before = code.count()
    assert page.locator("#explorer-body svg").count() == 0
    page.evaluate("document.querySelector('#explorer-open').focus({preventScroll: true})")
    page.keyboard.press("Enter")
    wait_until_drawn(page)
    assert code.count() == before + 1  # the library
    assert page.evaluate("document.activeElement.closest('#explorer-body') !== null")


@pytest.mark.parametrize(("statistic", "over_seeds"), [("median", np.median), ("mean", np.mean)])
def test_what_it_reads_out_is_in_the_tables(explorer, results, statistic, over_seeds):
    page = explorer()
    page.locator("#explorer-statistic").select_option(statistic)
    page.locator("#explorer-panel").select_option(label="plain")
    page.locator("#explorer-lag").fill("30")
    steps = results.select(column="plain", seq_len=40, truncation="full", loss_steps="last").timesteps
    steps = steps[steps["lag"] == 30].merge(results.runs[["run_id", "spectral_radius"]].astype({"run_id": str}))
    expected = steps.groupby("spectral_radius")["log10_dh"].apply(over_seeds)
    lag, values = summary(page)
    assert lag == 30
    assert values == pytest.approx(expected[[0.5, 1.0, 1.2]].to_dict(), abs=0.011)


def test_hover_says_the_change_that_theory_gives(explorer):
    page = explorer()
    for across, down in [(0.3, 0.2), (0.6, 0.4), (0.8, 0.7)]:
        told = hover(page, "#explorer-map", across, down)
        radius, lag = re.search(r"spectral radius ([\d.]+), lag (\d+)", told).groups()
        (change,) = re.search(rf"change since lag 0: {NUMBER} decades", told).groups()
        assert float(change) == pytest.approx(int(lag) * np.log10(float(radius)), abs=0.021)


def test_hover_over_the_curves_says_the_value_of_each(explorer):
    page = explorer()
    told = hover(page, "#explorer-curves")
    lag = int(re.search(r"lag (\d+)", told)[1])
    page.locator("#explorer-lag").fill(str(lag))
    rows = re.findall(rf"^\s*([\d.]+)\s+{NUMBER}", told, flags=re.MULTILINE)
    assert (lag, {float(radius): float(value) for radius, value in rows}) == summary(page)


def test_every_choice_changes_the_curves_and_its_undoing_brings_them_back(explorer):
    page = explorer()
    first = drawn(page)
    for name in SELECTS:
        select = page.locator(f"#explorer-{name}")
        chosen = select.input_value()
        others = [
            value
            for value in select.locator("option").evaluate_all("all => all.map(option => option.value)")
            if value != chosen
        ]
        assert others
        for value in others:
            select.select_option(value)
            curves, _ = drawn(page)
            assert curves != first[0], (name, value)
        select.select_option(chosen)
        assert drawn(page) == first


def test_length_truncation_and_loss_change_the_map(explorer):
    page = explorer()
    _, first = drawn(page)
    for name, value in [("length", "12 steps"), ("truncation", "fixed:3"), ("loss", "all steps")]:
        select = page.locator(f"#explorer-{name}")
        chosen = select.input_value()
        select.select_option(label=value)
        assert drawn(page)[1] != first
        select.select_option(chosen)


def test_a_gradient_of_exactly_zero_is_said(explorer):
    page = explorer()
    page.locator("#explorer-truncation").select_option(label="fixed:3")
    page.locator("#explorer-lag").fill("3")
    assert page.locator("#explorer-summary").inner_text().count("exactly zero") == 3
    assert "exactly zero" in hover(page, "#explorer-map")


def test_radii_are_compared_by_box_and_by_a_click_on_the_map(explorer):
    page = explorer()
    assert set(summary(page)[1]) == {0.5, 1.0, 1.2}
    page.get_by_label("0.9", exact=True).check()
    assert set(summary(page)[1]) == {0.5, 0.9, 1.0, 1.2}
    told = hover(page, "#explorer-map", down=0.2)
    page.mouse.down()
    page.mouse.up()
    assert set(summary(page)[1]) == {0.5, 0.9, 1.0, 1.2} ^ {float(re.search(r"spectral radius ([\d.]+)", told)[1])}


def test_the_keyboard_moves_through_lags(explorer):
    page = explorer()
    page.locator("#explorer-lag").focus()
    page.keyboard.press("End")
    last, at_last = summary(page)
    page.keyboard.press("ArrowLeft")
    before, at_before = summary(page)
    assert (last, before) == (39, 38)
    assert at_before[0.5] == pytest.approx(at_last[0.5] - np.log10(0.5), abs=0.021)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_on_a_phone(explorer, scheme):
    page = explorer(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for chart in CHARTS:
        box = page.locator(chart).bounding_box()
        assert box["x"] >= 0
        assert 250 < box["width"] <= 360 - box["x"]


def test_an_old_browser_is_told(look, report):
    page = look(report, script="delete window.DecompressionStream")
    page.locator("#explorer").scroll_into_view_if_needed()
    page.locator("#explorer-open").wait_for(state="hidden")
    assert "DecompressionStream" in page.locator("#explorer").inner_text()
    assert page.locator("#explorer-body svg").count() == 0


def test_without_javascript_a_sentence_stands_for_it(look, report):
    page = look(report, java_script_enabled=False)
    explorer = page.locator("#explorer")
    assert "needs JavaScript" in explorer.inner_text()
    assert not any(control.is_visible() for control in explorer.locator("button, select, input").all())
