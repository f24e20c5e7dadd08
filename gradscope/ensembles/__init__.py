"""Ensembles of recurrent weight matrices, one a file. Their scale is set afterwards, by `gradscope.spectral`.

What a member may say beside `draw`: `nilpotent = True` (a class variable), if all its matrices have spectral radius 0,
so that their scale is its own argument; `least`, the fewest units that it can be drawn for.
"""

from __future__ import annotations

import sys

FAMILY = sys.modules[__name__]
