"""Weights and biases of gated cells: a block of rows for each gate and one for the candidate, each drawn by itself.

The candidate's blocks are the draws of the Elman network's W_hh and W_xh for the same seed, so that cells are paired.
Gates are set by their biases; see Tallec & Ollivier (2018), "Can recurrent neural networks warp time?", 1804.11188.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradscope.errors import InputError, finite
from gradscope.scaled import Floats
from gradscope.spectral import recurrent
from gradscope.streams import stream

CANDIDATE = "candidate"  # the block whose spectral radius is the cell's


def gate_blocks(ensemble: str, n: int, seed: int, radius: float, names: Sequence[str]) -> Floats:
    """W_hh (len(names) n, n): a draw of the ensemble with this realised spectral radius for each of the blocks."""
    seeds = [seed if name == CANDIDATE else int(stream(seed, f"W_hh {name}").integers(2**63)) for name in names]
    return np.concatenate([recurrent(ensemble, n, own, radius) for own in seeds])


def input_blocks(n: int, m: int, seed: int, spread: float, names: Sequence[str]) -> Floats:
    """W_xh (len(names) n, m): entries N(0, spread^2)."""
    purposes = ["W_xh" if name == CANDIDATE else f"W_xh {name}" for name in names]
    return np.concatenate([stream(seed, purpose).standard_normal((n, m)) * spread for purpose in purposes])


def chrono_bias(seed: int, n: int, T_max: int) -> Floats:
    """Biases (n,) of gates that keep: log U(1, T_max - 1), so that memories last 1 + T_max/2 steps in the mean."""
    return np.log(stream(seed, "chrono").uniform(1.0, T_max - 1.0, n))


def check_bias(chrono: int, default: float, **bias: float) -> None:
    """Raise InputError for a bias that is no number, a `chrono` that is no length, or both of them given."""
    finite(**bias)
    if not isinstance(chrono, int | np.integer) or isinstance(chrono, bool) or not (chrono == 0 or chrono >= 2):
        raise InputError(
            f"{chrono!r}", where="chrono", allowed="0, or the longest memory in steps, a whole number >= 2"
        )
    for name, value in bias.items():
        if chrono and value != default:
            raise InputError(
                f"{value!r} beside chrono, which draws that bias", where=name, hint="leave out one of them"
            )
