"""Truncations, one a file, written as specs: `full`, `fixed:20`, `tbptt:5:20`, `random:20`."""

from __future__ import annotations

import sys

import numpy as np

from gradscope import plugins
from gradscope.schedule import Gates, Tossing, Truncation, Windows

FAMILY = sys.modules[__name__]


def truncation(spec: str) -> Truncation:
    """The truncation that `spec` describes; InputError, listing all that there are, if it cannot be.

    >>> from gradscope.truncations import truncation
    >>> truncation("fixed:20")
    Fixed(tau=20)
    """
    found: Truncation = plugins.parse(FAMILY, spec)
    return found


def expected(member: Truncation, seq_len: int) -> Gates | Windows | None:
    """The schedule whose gradient is the mean of the member's gradient over its coins; None if no schedule has it.

    >>> from gradscope.truncations import expected, truncation
    >>> expected(truncation("random:20"), seq_len=3)
    Gates(weights=array([1., 1., 1.]), entering=None)
    >>> expected(truncation("fixed:20"), seq_len=3)
    Windows(k1=1, k2=20)
    """
    if isinstance(member, Tossing):
        return member.expected(seq_len)
    return member.schedule(np.zeros((1, seq_len)))
