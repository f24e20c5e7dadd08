"""How the tests of this folder look at a page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Page

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
AROUND = {"exclude": ["svg > *"]}  # a figure is one image with a name; its thousands of marks are not read out


def unfold(page: Page) -> None:
    """Open everything that is folded."""
    page.evaluate("document.querySelectorAll('details').forEach(folded => { folded.open = true; })")


def go_through(page: Page) -> None:
    """Unfold the page and scroll through it to its end, as a reader would, and back."""
    unfold(page)
    for _ in range(page.evaluate("Math.ceil(document.body.scrollHeight / innerHeight)")):
        page.evaluate("scrollBy(0, innerHeight)")
        page.wait_for_timeout(20)
    page.evaluate("scrollTo(0, 0)")


def brightness(page: Page) -> float:
    """Mean brightness of the whole page as it is drawn, from 0 (black) to 1 (white)."""
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True, animations="disabled")))
    return float(np.asarray(picture.convert("L")).mean() / 255)


def too_wide(page: Page) -> list[str]:
    """If the page scrolls sideways, what stands out of it."""
    found: list[str] = page.evaluate(
        """() => {
          const edge = document.documentElement.clientWidth;
          return document.documentElement.scrollWidth <= edge ? [] : [...document.body.querySelectorAll("*")]
            .filter(element => element.getBoundingClientRect().right > edge + 1)
            .map(element => element.outerHTML.slice(0, 120));
        }"""
    )
    return found


def violations(page: Page) -> tuple[str, set[str]]:
    """What axe-core finds against WCAG, as a text, and the rules that it could apply."""
    found = Axe().run(page, context=AROUND, options=WCAG)
    return found.generate_report() if found.violations_count else "", {rule["id"] for rule in found.response["passes"]}
