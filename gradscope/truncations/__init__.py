"""Truncations, one a file, written as specs: `full`, `fixed:20`, `tbptt:5:20`, `random:20`."""

from __future__ import annotations

import sys

from gradscope import plugins
from gradscope.schedule import Truncation

FAMILY = sys.modules[__name__]


def truncation(spec: str) -> Truncation:
    """The truncation that `spec` describes; InputError, listing all that there are, if it cannot be.

    >>> from gradscope.truncations import truncation
    >>> truncation("fixed:20")
    Fixed(tau=20)
    """
    found: Truncation = plugins.parse(FAMILY, spec)
    return found
