"""Optimisers, one a file, written as specs: `sgd`, `momentum`, `momentum:0.99`, `adagrad`, `adam`.

What an optimiser is stands in `gradscope.optimizer`.
"""

from __future__ import annotations

import sys

from gradscope import plugins
from gradscope.optimizer import Optimizer

FAMILY = sys.modules[__name__]


def optimizer(spec: str) -> Optimizer:
    """The optimiser that `spec` describes; InputError, listing all that there are, if it cannot be.

    >>> from gradscope.optimizers import optimizer
    >>> optimizer("momentum")
    Momentum(mu=0.9)
    """
    found: Optimizer = plugins.parse(FAMILY, spec)
    return found
