"""The pages in a real browser: they stand alone, with and without JavaScript, on a phone, in the dark and on paper."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from looking import brightness, go_through, too_wide, unfold

WIDTHS = (360, 768, 1200)
POLICY = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">"


def printed_pages(pdf):
    """How many pages a PDF of Chromium's has."""
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


def test_nothing_leaves_the_page_and_nothing_is_complained_of(visit, either, load_time):
    seen = visit(either)
    go_through(seen.page)
    assert seen.gone_wrong == []
    assert [url for url in seen.requests if url.startswith("file:")] == [either.as_uri()]
    timing = seen.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    load_time(either.name, timing / 1e3)


@pytest.mark.parametrize(
    ("head", "body", "wrong"),
    [
        ("", "<img src='http://localhost:9/x.png'>", "http://localhost:9/x.png"),
        ("", "<img src='other.png'>", "other.png"),
        ("", "<script>throw new Error('broken')</script>", "error: broken"),
        ("", "<script>alert('hello')</script>", "dialog: hello"),
        (POLICY, "<p onclick='x()'>", "Content Security"),
        (POLICY, "<img src='x.png'>", "Content Security"),
    ],
)
def test_what_may_not_be_is_seen(visit, tmp_path, head, body, wrong):
    bad = tmp_path / "bad.html"
    bad.write_text(f"<!doctype html><html><head>{head}</head><body>{body}</body></html>")
    assert any(wrong in what for what in visit(bad).gone_wrong)


def test_the_policy_forbids_the_network_and_scripts_from_elsewhere(visit, either):
    seen = visit(either)
    blocked = seen.page.evaluate(
        """async () => {
          const blocked = [];
          addEventListener("securitypolicyviolation", event => blocked.push(event.effectiveDirective));
          await fetch("http://localhost:9/").catch(() => null);
          for (const [tag, key, value] of [
            ["script", "textContent", "window.run = true"], ["img", "src", "http://localhost:9/"],
            ["iframe", "src", "http://localhost:9/"], ["object", "data", "http://localhost:9/"]]) {
            const element = document.createElement(tag);
            element[key] = value;
            document.body.append(element);
          }
          for (let i = 0; i < 40 && blocked.length < 5; i++) await new Promise(done => setTimeout(done, 100));
          return window.run ? ["it ran"] : blocked;
        }"""
    )
    assert sorted(blocked) == ["connect-src", "frame-src", "img-src", "object-src", "script-src-elem"]


def test_it_works_without_javascript(look, either):
    page = look(either, java_script_enabled=False)
    assert page.locator("main li").first.is_visible()  # a finding
    figures = page.locator("main figure")
    assert figures.count() >= 3
    for figure in figures.all():
        drawn = figure.locator("svg, img").first
        drawn.scroll_into_view_if_needed()
        assert drawn.bounding_box()["height"] > 100
    tables = page.locator("main table")
    unfold(page)
    assert tables.count() >= 3
    assert all(table.is_visible() for table in tables.all())
    controls = page.locator("button, select, input").all()
    assert [control.inner_text() for control in controls if control.is_visible()] == []  # they would do nothing


def test_it_does_not_scroll_sideways(look, either):
    page = look(either)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 740})
        go_through(page)
        assert too_wide(page) == [], width


def test_it_is_light_dark_and_white_on_paper(look, either):
    small = {"device_scale_factor": 0.25}  # of the screenshots
    assert brightness(look(either, color_scheme="light", **small)) > 0.8
    dark = look(either, color_scheme="dark", **small)
    assert brightness(dark) < 0.2
    dark.emulate_media(media="print")
    assert brightness(dark) > 0.8


def test_ids_are_unique_and_links_within_the_page_resolve(look, either):
    page = look(either)
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(set(ids)) == len(ids)
    links = page.evaluate("[...document.querySelectorAll('[href]')].map(element => element.getAttribute('href'))")
    within = {unquote(link[1:]) for link in links if link.startswith("#")}
    assert within - {""} <= set(ids)
    assert within
    named = page.evaluate(
        """[...document.querySelectorAll('*')].flatMap(element => [...element.attributes]
          .filter(({name}) => ['aria-labelledby', 'aria-describedby', 'aria-controls', 'for'].includes(name))
          .flatMap(({value}) => value.split(/\\s+/)))"""
    )
    assert set(named) <= set(ids)


def test_a_link_within_the_page_leads_to_something_that_is_shown(look, either):
    page = look(either)
    for link in page.evaluate("[...new Set([...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.hash))]"):
        page.locator(f"a[href='{link}']").first.evaluate("link => link.click()")
        assert page.evaluate("document.querySelector(':target')?.checkVisibility()"), link


def test_downloads_exist_and_are_the_files_in_the_folder(look, either):
    page = look(either)
    folder = either.parent
    links = page.evaluate(
        "[...document.querySelectorAll('a[download]')].map(link => [link.getAttribute('href'), link.download])"
    )
    kinds = set()
    for href, name in links:
        file = folder / "figures" / name if href.startswith("data:") else folder / unquote(href)
        content = base64.b64decode(href.partition(",")[2]) if href.startswith("data:") else file.read_bytes()
        assert content == file.read_bytes() != b""
        kinds.add(file.suffix)
    assert {".csv", ".png", ".svg"} <= kinds


def test_under_each_figure_are_its_numbers_and_every_format(look, report):
    page = look(report)
    for figure in page.locator("main figure").all():
        links = figure.locator("a[download]")
        assert [link.get_attribute("download") for link in links.all()] == [
            f"{figure.get_attribute('id')}.{kind}" for kind in ("csv", "png", "svg", "pdf")
        ]


def test_a_click_on_csv_saves_the_numbers_of_the_figure(look, report):
    page = look(report)
    with page.expect_download() as saving:
        page.locator("#gradient-vs-lag a[download$='.csv']").click()
    saved = saving.value
    assert saved.suggested_filename == "gradient-vs-lag.csv"
    written = report.parent / "figures" / saved.suggested_filename
    assert Path(saved.path()).read_bytes() == written.read_bytes()


def sort_key(text):
    """As a reader orders cells: numbers by value, words by letter with the numbers in them by value."""
    plain = text.replace("\u2212", "-").replace(",", "")
    try:
        return 0, float(plain)
    except ValueError:
        return 1, [(0, int(part)) if part.isdigit() else (1, part.lower()) for part in re.findall(r"\d+|\D+", text)]


def column(table, place):
    return table.locator(f"tbody tr > :nth-child({place + 1})").all_inner_texts()


def test_tables_sort_by_click_and_by_keyboard(look, report):
    page = look(report)
    unfold(page)
    kinds = {table.locator("thead").inner_text(): table for table in page.locator("table.sortable").all()}
    changed = 0
    for table in kinds.values():
        headers = table.locator("thead th")
        for place in {0, headers.count() - 1}:
            header, before = headers.nth(place), column(table, place)
            header.get_by_role("button").click()
            ascending = column(table, place)
            assert header.get_attribute("aria-sort") == "ascending"
            filled = [cell for cell in ascending if cell]
            assert filled == sorted(filled, key=sort_key)
            assert ascending == filled + [""] * (len(before) - len(filled))  # empty cells are last
            assert sorted(ascending) == sorted(before)
            page.keyboard.press("Enter")  # the header has the focus
            descending = [cell for cell in column(table, place) if cell]
            assert header.get_attribute("aria-sort") == "descending"
            assert descending == sorted(filled, key=sort_key, reverse=True)
            assert table.locator("[aria-sort]").count() == 1
            changed += descending != filled
    assert changed >= 2


def test_bibtex_is_copied_or_selected(look, report):
    page = look(report)
    page.get_by_text("BibTeX", exact=True).first.click()
    page.locator("button.copy").click()
    page.get_by_role("button", name=re.compile("^(Copied|Selected)")).wait_for()
    text = page.locator("#bibtex").inner_text()
    if page.locator("button.copy").inner_text().startswith("Selected"):
        assert page.evaluate("String(getSelection())").strip() == text.strip()
    assert text.count("@") == page.locator("ol.references li").count()


def test_a_figure_has_a_name_and_a_description(look, either):
    page = look(either)
    for figure in page.locator("main figure").all():
        image = figure.locator("svg[role=img], img").first
        told = image.evaluate(
            """element => element.getAttribute("alt") || element.getAttribute("aria-label")
              || (element.getAttribute("aria-labelledby") || "").split(" ").map(
                id => document.getElementById(id)?.textContent).join(" ")"""
        )
        assert len(told) > 40


def test_hostile_names_are_shown_as_text(look, either):
    page = look(either)
    assert page.locator("main").inner_text().count("</script><img src=x onerror=alert(1)>") > 1
    assert page.locator("img[src=x]").count() == 0


def test_it_prints_to_pdf(look, either):
    page = look(either)
    page.emulate_media(media="print")
    hidden = page.locator("#explorer button, #explorer select").all()
    assert not any(control.is_visible() for control in hidden)
    folded = (
        "[...document.querySelectorAll('details:not(.bibtex) > :not(summary)')].map(part => part.checkVisibility())"
    )
    assert all(page.evaluate(folded))  # on paper nothing can be opened
    pdf = page.pdf(format="A4", prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF-")
    assert printed_pages(pdf) > 2


def test_it_is_small_enough(either):
    assert either.stat().st_size < 5_000_000


def test_the_page_over_all_papers_stands_alone_and_leads_to_theirs(look, catalogue, paper):
    page = look(catalogue)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 740})
        go_through(page)
        assert too_wide(page) == [], width
    assert page.locator("article img").evaluate_all("images => images.every(image => image.naturalWidth > 100)")
    assert brightness(look(catalogue, color_scheme="dark", device_scale_factor=0.25)) < 0.2
    links = page.evaluate("[...document.querySelectorAll('article a')].map(link => link.getAttribute('href'))")
    assert {(catalogue.parent / unquote(link)).resolve() for link in links} == {paper.resolve()}
    assert page.locator("main").inner_text().count("</script><img src=x onerror=alert(1)>") > 1
