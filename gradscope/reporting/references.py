"""The references of a page: those entries of `references.bib` whose methods were swept, or whose figures were drawn."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from gradscope import theory
from gradscope.errors import unknown

FAMILIES = ("cell", "ensemble", "truncation", "clip", "task", "optimizer")


class Reference(NamedTuple):
    """An entry of the bibliography.

    Its key, authors and year in short, its text as people read it, where it can be found ("" if not known), its BibTeX.
    """

    key: str
    short: str
    text: str
    address: str
    bibtex: str


def references(grid: dict[str, list[Any]], figures: Iterable[str]) -> list[Reference]:
    """What the methods of a grid, and the figures that were drawn, rest on; in order of year.

    Parameters
    ----------
    grid : parameter -> its values, as in the manifest.
    figures : names of the figures that were drawn.
    """
    used = {f"figure:{name}" for name in figures} | methods(grid)
    return [_reference(entry) for entry in _entries() if used & set(_fields(entry)["keywords"].split(", "))]


def cited(keys: Sequence[str]) -> list[Reference]:
    """The entries with these keys, in this order; InputError for a key that there is not."""
    found = {reference.key: reference for reference in map(_reference, _entries())}
    for key in keys:
        if key not in found:
            raise unknown("reference", key, found)
    return [found[key] for key in keys]


def methods(grid: dict[str, list[Any]]) -> set[str]:
    """FAMILY:NAME of every plug-in in a grid, and the laws that networks such as these have as they are drawn.

    >>> sorted(methods({"cell": ["elman"], "truncation": ["fixed:5", "fixed:20"]}))
    ['cell:elman', 'truncation:fixed']
    """
    used = {f"{family}:{str(value).partition(':')[0]}" for family in FAMILIES for value in grid.get(family, [])}
    mixing = not set(theory.ENSEMBLES).isdisjoint(grid.get("ensemble", []))
    white = not set(theory.TASKS).isdisjoint(grid.get("task", []))
    bent = set(grid.get("activation", [])) - {"linear", None}
    drawn = "training" not in grid.get("measure", [])
    products = False in grid.get("tied", []) and "gaussian" in grid.get("ensemble", [])
    laws = {"mean-field": drawn and mixing and white and bent, "gaussian-products": products}
    return used | {f"law:{law}" for law, holds in laws.items() if holds}


def bibtex(found: Sequence[Reference]) -> str:
    """The BibTeX of several references."""
    return "\n\n".join(reference.bibtex for reference in found)


def _entries() -> list[str]:
    text = files("gradscope.reporting").joinpath("references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^@.*?^\}$", text, re.MULTILINE | re.DOTALL)
    return sorted(entries, key=lambda entry: _fields(entry)["year"])


def _fields(entry: str) -> dict[str, str]:
    return dict(re.findall(r"^\s+(\w+)\s*= \{(.*)\},$", entry, re.MULTILINE))


def _reference(entry: str) -> Reference:
    fields = _fields(entry)
    key = re.match(r"@\w+\{(.*),", entry)[1]  # type: ignore[index]  # every entry has one
    authors = fields["author"].replace(" and ", "; ")
    place = fields.get("journal", fields.get("booktitle", ""))
    if "volume" in fields:
        number = f"({fields['number']})" if "number" in fields else ""
        place += f" {fields['volume']}{number}" if "journal" in fields else f", {fields['series']} {fields['volume']}"
    pages = fields.get("pages", "").replace("--", "\u2013")
    parts = [f"{authors} ({fields['year']})", fields["title"], ", ".join(filter(None, [place, pages]))]
    text = re.sub(r"[{}]", "", ". ".join(filter(None, parts)) + ".").replace("..", ".").replace("?.", "?")
    shown = re.sub(r"^\s+keywords.*\n", "", entry, flags=re.MULTILINE)
    return Reference(key, f"{_short(fields['author'])} ({fields['year']})", text, _address(fields), shown)


def _short(authors: str) -> str:
    """Authors by their surnames.

    >>> _short("Bengio, Yoshua and Simard, Patrice and Frasconi, Paolo")
    'Bengio et al.'
    """
    surnames = [re.sub(r"[{}]", "", author.partition(",")[0]) for author in authors.split(" and ")]
    return f"{surnames[0]} et al." if len(surnames) > 2 else " & ".join(surnames)


def _address(fields: dict[str, str]) -> str:
    if "url" in fields:
        return fields["url"]
    if "doi" in fields:
        return f"https://doi.org/{fields['doi']}"
    return f"https://arxiv.org/abs/{fields['eprint']}" if "eprint" in fields else ""
