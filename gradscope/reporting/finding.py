"""What a finding is: a sentence with its figure and its rows; the topics of a page; words that sentences share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

TOPICS = {  # in the order of the page
    "caveats": "Before you read on",
    "memory": "How far back a network remembers",
    "outcome": "What was learnt",
    "training": "Gradients and weights meanwhile",
    "regimes": "Vanishing and exploding",
    "reach": "What reaches the first step",
    "dynamics": "Networks as dynamical systems",
    "bias": "What truncation costs",
    "coins": "Truncations as estimators",
    "clipping": "Clipping",
    "balancing": "Influence balancing",
}


MATRICES = {  # what `spectral_radius` is of, in cells that do not have one W_hh (n, n)
    "gru": "the candidate's block of W_hh",
    "lstm": "the candidate's block of W_hh",
    "diagonal": "the diagonal of all lambda",
}


class Finding(NamedTuple):
    """A sentence and what it rests on.

    Attributes
    ----------
    text : the sentence.
    figure : the name of the figure that shows it; "" for none.
    topic : what it belongs to, one of `TOPICS`.
    panel : what else is swept, in words, that it is about; "" if nothing is, or all of it.
    detail : what tells it from others of its topic and panel; "" if there is one only.
    rows : the numbers behind it, with their units in the columns' names; None if the sentence has them all.
    source : what the rows are computed from.
    """

    text: str
    figure: str = ""
    topic: str = "caveats"
    panel: str = ""
    detail: str = ""
    rows: pd.DataFrame | None = None
    source: str = ""

    @property
    def key(self) -> str:
        """What it is about, as an anchor; the same whatever else is found.

        >>> Finding("", topic="regimes", panel="gaussian, relu").key
        'regimes-gaussian-relu'
        """
        words = re.sub(r"[^a-z0-9.]+", "-", f"{self.topic}-{self.panel}-{self.detail}".lower())
        return words.strip("-.")


def holding(values: np.ndarray, holds: np.ndarray) -> str:
    """At which ascending values of a parameter something holds, in words.

    >>> holding(np.array([0.5, 1.0, 1.5]), np.array([True, True, False]))
    'up to 1'
    """
    good = values[holds]
    if holds.all():
        return "at all measured"
    if not len(good):
        return "at none"
    if holds[: len(good)].all():
        return f"up to {good[-1]:g}"
    listed = [f"{value:g}" for value in good]
    return "at " + ", ".join(listed if len(listed) <= 6 else [*listed[:3], "…", *listed[-2:]])


def about(panel: str, text: str, level: str = "") -> str:
    """A sentence on a panel, which it names first, with what else tells it from others; without a panel, on everything.

    >>> about("tanh", "gradients vanish."), about("", "gradients vanish.")
    ('tanh: gradients vanish.', 'Gradients vanish.')
    """
    words = ", ".join(filter(None, [panel, level]))
    text = f"{words}: {text}" if words else text
    return text if panel else text[0].upper() + text[1:]


def power(log10: float) -> str:
    """A number from its log10, which may be beyond the range of floats.

    >>> power(-0.30103), power(-1000.5)
    ('0.5', '3.2e-1001')
    """
    if not np.isfinite(log10):
        return "exactly 0"
    if -3 < log10 < 4:
        return f"{float(f'{10**log10:.2g}'):g}"
    exponent = int(np.floor(log10))
    return f"{10 ** (log10 - exponent):.1f}e{exponent}"


def listed(words: Sequence[str]) -> str:
    """Words with commas between them, and "and" before the last.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def percent(value: float) -> str:
    """A number that is in per cent already, in two or three digits.

    >>> percent(3.14159), percent(99.9), percent(121.2), percent(np.nan)
    ('3.1 %', '99.9 %', '121 %', 'beyond the range of numbers')
    """
    if not np.isfinite(value):
        return "beyond the range of numbers"
    return f"{value:.3g} %" if value >= 99.5 else f"{value:.2g} %"


def loss_of(value: float) -> str:
    """A loss in three digits, or that it is none.

    >>> loss_of(0.12345), loss_of(np.nan)
    ('0.123', 'not finite')
    """
    return f"{value:.3g}" if np.isfinite(value) else "not finite"


def anchored(found: Iterable[Finding]) -> dict[str, Finding]:
    """Anchor -> finding: its key, and where two have the same, what they are about tells them apart."""
    anchors: dict[str, Finding] = {}
    for finding in found:
        about = f"{finding.topic}\n{finding.panel}\n{finding.detail}".encode()
        key = finding.key if finding.key not in anchors else f"{finding.key}-{hashlib.sha256(about).hexdigest()[:6]}"
        anchors[key] = finding
    return anchors


def by_topic(found: dict[str, Finding]) -> dict[str, list[tuple[str, Finding]]]:
    """Topic -> its findings with their anchors, in the order of the page."""
    topics = {topic: [(key, one) for key, one in found.items() if one.topic == topic] for topic in TOPICS}
    return {topic: own for topic, own in topics.items() if own}
