"""Clips, one a file, written as specs: `off`, `norm:1`, `norm-each:1`, `value:5`.

What a clip is stands in `gradscope.threshold`.
"""

from __future__ import annotations

import sys

from gradscope import plugins
from gradscope.threshold import Clip

FAMILY = sys.modules[__name__]


def clip_of(spec: str) -> Clip:
    """The clip that `spec` describes, "none" being "off"; InputError, listing all that there are, if it cannot be.

    >>> from gradscope.clips import clip_of
    >>> clip_of("value:5")
    Value(theta=5.0)
    """
    found: Clip = plugins.parse(FAMILY, "off" if spec == "none" else spec)
    return found
