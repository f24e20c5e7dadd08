"""Ensembles of recurrent weight matrices, one a file. Their scale is set afterwards, by `gradscope.spectral`."""

from __future__ import annotations

import sys

FAMILY = sys.modules[__name__]
