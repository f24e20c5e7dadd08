"""Figures inside a page: real SVG where that is small, so that it prints and scales, else PNG; and their downloads."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree

from markupsafe import Markup

from gradscope.figures import Drawn

SMALL_SVG = 200_000  # characters in the page; of larger ones the smaller of SVG and PNG is taken
SMALL_FILE = 60_000  # bytes; downloads up to this size travel in the page, others lie beside it
TYPES = {"csv": "text/csv", "png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
POINTS = 72.0  # an inch
PIXELS = 96.0  # of CSS, an inch


class Download(NamedTuple):
    """A file of a figure: what the link says, where it leads, and under which name it is saved."""

    kind: str
    href: str
    name: str


class Picture(NamedTuple):
    """A figure as the page shows it; `width` is that in print, in CSS pixels."""

    name: str
    title: str
    caption: str
    alt: str
    image: Markup
    width: int
    downloads: list[Download]


def picture(figure: Drawn, prefix: str = "", beside: str | None = "figures", packed: int = SMALL_FILE) -> Picture:
    """A figure that was drawn, as the page needs it.

    `prefix` goes before its ids and its name, where a page has several figures of that name; `beside` is the folder of
    its files, as the page's links say it, or None if there is none: then it has only the downloads that travel in the
    page, which those of up to `packed` bytes do.
    """
    name = prefix + figure.name
    svg = ElementTree.fromstring(figure.files["svg"].read_text(encoding="utf-8"))
    width = round(float(svg.attrib["width"].removesuffix("pt")) / POINTS * PIXELS)
    label = f"{figure.title}. {figure.alt}"
    inline, png = inlined(svg, name, label), figure.files["png"]
    if len(inline) > max(SMALL_SVG, png.stat().st_size * 4 // 3):
        inline = Markup('<img src="{}" alt="{}">').format(_data_uri(png), label)
    downloads = [_download(path, kind, beside, packed) for kind, path in figure.files.items()]
    downloads = [download for download in downloads if download.href]
    return Picture(name, figure.title, figure.caption, figure.alt, inline, width, downloads)


def inlined(svg: ElementTree.Element, name: str, label: str) -> Markup:
    """An SVG as a part of a page: ids begin with `name`, what is not drawn is gone, hundredths of a point are enough.

    >>> drawing = ElementTree.fromstring('<svg viewBox="0 0 9 9"><path id="a" d="M 1.23456 2"/><use href="#a"/></svg>')
    >>> print(inlined(drawing, "mine", "A line."))  # doctest: +NORMALIZE_WHITESPACE
    <svg viewBox="0 0 9 9" role="img" aria-label="A line." style="stroke-linejoin:round;stroke-linecap:butt"><path
    id="mine-a" d="M 1.23 2" /><use href="#mine-a" /></svg>
    """
    drawn = _plain(svg)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', ElementTree.tostring(drawn, encoding="unicode")))
    for element in drawn.iter():
        for key, value in element.attrib.items():
            if key == "d":
                element.attrib[key] = re.sub(r"(\.\d\d)\d+", r"\1", value.replace("\n", " ").strip())
            elif key == "href" and value.startswith("#"):
                element.attrib[key] = f"#{name}-{value[1:]}"
            else:
                element.attrib[key] = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", value)
        identity = element.attrib.pop("id", None)
        if identity in used:
            element.attrib = {"id": f"{name}-{identity}", **element.attrib}
    # Matplotlib says this for all elements by a style sheet, which in a page would be one for all of the page.
    around = {"role": "img", "aria-label": label, "style": "stroke-linejoin:round;stroke-linecap:butt"}
    drawn.attrib = {
        key: value for key, value in drawn.attrib.items() if key not in ("version", "width", "height")
    } | around
    return Markup(ElementTree.tostring(drawn, encoding="unicode"))


def _plain(element: ElementTree.Element) -> ElementTree.Element:
    """A copy without name spaces, metadata, style sheets and the spaces between elements."""
    plain = ElementTree.Element(_local(element.tag), {_local(key): value for key, value in element.attrib.items()})
    plain.text = element.text if (element.text or "").strip() else None
    plain.extend(_plain(child) for child in element if _local(child.tag) not in ("metadata", "style"))
    return plain


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _download(path: Path, kind: str, beside: str | None, packed: int) -> Download:
    small = kind != "svg" and path.stat().st_size <= packed  # an SVG is in the page already
    linked = "" if beside is None else quote(f"{beside}/{path.name}")
    return Download(kind.upper(), _data_uri(path) if small else linked, path.name)


def _data_uri(path: Path) -> str:
    return f"data:{TYPES[path.suffix[1:]]};base64,{base64.b64encode(path.read_bytes()).decode()}"
