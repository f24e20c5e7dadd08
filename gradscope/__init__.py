"""gradscope: what happens to gradients inside a recurrent network.

The public names load on first use, so that `import gradscope` and `gradscope --help` stay fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradscope.accounting import ledger
    from gradscope.advice import Advice, advise
    from gradscope.cells import cell
    from gradscope.clipping import Clipped, clip, clip_threshold
    from gradscope.conversion import from_torch, to_torch
    from gradscope.drawing import style
    from gradscope.errors import GradscopeError, InputError
    from gradscope.exponents import Lyapunov, lyapunov
    from gradscope.figures import figure
    from gradscope.forecaster import Forecaster
    from gradscope.gradients import Gradients, backprop
    from gradscope.history import History
    from gradscope.integrity import verify
    from gradscope.learning import train
    from gradscope.loading import load
    from gradscope.padding import arrange
    from gradscope.reporting import report
    from gradscope.reporting.comparison import compare
    from gradscope.reproducing import reproduce
    from gradscope.results import Results
    from gradscope.run import sweep
    from gradscope.truncations import truncation

__version__ = "0.1.0"

_HOMES = {
    "Advice": "advice",
    "Clipped": "clipping",
    "Forecaster": "forecaster",
    "GradscopeError": "errors",
    "Gradients": "gradients",
    "History": "history",
    "InputError": "errors",
    "Lyapunov": "exponents",
    "Results": "results",
    "advise": "advice",
    "arrange": "padding",
    "backprop": "gradients",
    "cell": "cells",
    "clip": "clipping",
    "clip_threshold": "clipping",
    "compare": "reporting.comparison",
    "figure": "figures",
    "from_torch": "conversion",
    "ledger": "accounting",
    "load": "loading",
    "lyapunov": "exponents",
    "report": "reporting",
    "reproduce": "reproducing",
    "style": "drawing",
    "sweep": "run",
    "to_torch": "conversion",
    "train": "learning",
    "truncation": "truncations",
    "verify": "integrity",
}
__all__ = [
    "Advice",
    "Clipped",
    "Forecaster",
    "Gradients",
    "GradscopeError",
    "History",
    "InputError",
    "Lyapunov",
    "Results",
    "advise",
    "arrange",
    "backprop",
    "cell",
    "clip",
    "clip_threshold",
    "compare",
    "figure",
    "from_torch",
    "ledger",
    "load",
    "lyapunov",
    "report",
    "reproduce",
    "style",
    "sweep",
    "to_torch",
    "train",
    "truncation",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gradscope' has no attribute {name!r}")
    return getattr(importlib.import_module(f"gradscope.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
