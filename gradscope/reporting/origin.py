"""Where results come from: settings, data, and provenance, as pages have them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gradscope.values import in_words


def varied(grid: Mapping[str, Sequence[Any]]) -> list[tuple[str, str]]:
    """The parameters of a grid that have several values, in words.

    >>> varied({"seq_len": [50, 100], "cell": ["elman"]})
    [('seq_len', '50, 100')]
    """
    return [(key, in_words(values)) for key, values in grid.items() if len(values) > 1]


def fixed(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What all runs have in common, and the data that they were run on, in words."""
    common = [
        (key, in_words(values)) for key, values in manifest["grid"].items() if len(values) == 1 and values != [None]
    ]
    data = [
        (f"{task}: {key}", json.dumps(value, ensure_ascii=False) if key == "vocabulary" else str(value))
        for task, record in manifest["data"].items()
        for key, value in record.items()
    ]
    return common + data


def provenance(manifest: Mapping[str, Any], made: str = "gradscope.sweep") -> list[tuple[str, str]]:
    """By which command, or function of Python that is `made`, when, with what and where; the digests of its files."""
    versions = ", ".join(f"{name} {number}" for name, number in manifest["versions"].items())
    platform = manifest["platform"]
    return [
        ("command", manifest["command"] or f"{made}, from Python"),
        ("hash of the grid", manifest["hash"]),
        ("started", manifest["started"]),
        ("finished", manifest["finished"] or "not yet"),
        ("versions", versions),
        ("platform", f"{platform['system']}, {platform['machine']}, {platform['cores']} cores"),
        *((f"SHA-256 of {name}", digest) for name, digest in manifest.get("tables", {}).items()),
    ]
