"""axe-core finds nothing that breaks WCAG 2.2, levels A and AA, in light and dark, on a desk and on a phone."""

from __future__ import annotations

import pytest
from looking import unfold, violations

APPLIED = {"color-contrast", "document-title", "html-has-lang", "link-name", "list"}


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 360)])
def test_the_report_is_accessible(look, report, scheme, width):
    page = look(report, color_scheme=scheme, viewport={"width": width, "height": 800})
    unfold(page)
    page.locator("#explorer").scroll_into_view_if_needed()
    page.locator("#explorer-curves svg").wait_for()
    found, applied = violations(page)
    assert found == ""
    assert {*APPLIED, "label", "scrollable-region-focusable", "select-name", "svg-img-alt"} <= applied


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1400)])
def test_the_comparison_is_accessible(look, comparison, scheme, width):
    page = look(comparison, color_scheme=scheme, viewport={"width": width, "height": 800})
    unfold(page)
    found, applied = violations(page)
    assert found == ""
    assert applied >= APPLIED


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1400)])
def test_the_report_of_a_training_is_accessible(look, training, scheme, width):
    page = look(training, color_scheme=scheme, viewport={"width": width, "height": 800})
    unfold(page)
    found, applied = violations(page)
    assert found == ""
    assert applied >= APPLIED


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1400)])
@pytest.mark.parametrize("name", ["paper", "catalogue"])
def test_the_pages_of_papers_are_accessible(look, request, name, scheme, width):
    page = look(request.getfixturevalue(name), color_scheme=scheme, viewport={"width": width, "height": 800})
    unfold(page)
    found, applied = violations(page)
    assert found == ""
    assert applied >= APPLIED


def test_what_is_not_accessible_is_found(visit, tmp_path):
    bad = tmp_path / "bad.html"
    pale = "<p style='color: #ccc; background: #fff'>pale</p>"
    bad.write_text(f"<!doctype html><html lang=en><title>bad</title>{pale}</html>")
    found, _ = violations(visit(bad).page)
    assert "color-contrast" in found
