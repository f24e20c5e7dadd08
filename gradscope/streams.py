"""Random streams by purpose, so that what is drawn for one thing never depends on what is drawn for another.

The stream of (seed, "W_hh") is the same whatever the sequence length or the truncation: contrasts between runs are
paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from gradscope.errors import InputError
from gradscope.scaled import Floats


def stream(seed: int, purpose: str) -> np.random.Generator:
    """The random generator for one purpose of one seed; InputError for a seed that is no whole number >= 0.

    >>> float(stream(0, "x").random()) == float(stream(0, "x").random())
    True
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"{seed!r}", where="seed", allowed="a whole number >= 0")
    key = int.from_bytes(sha256(purpose.encode()).digest()[:4], "big")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(key,))))


def coins(seeds: Sequence[int], seq_len: int) -> Floats:
    """Uniform numbers in [0, 1), (C, T): one for each seed and step. A shorter sequence has a prefix of a longer."""
    return np.stack([stream(seed, "coins").random(seq_len) for seed in seeds])


def coin_draws(seed: int, number: int, seq_len: int) -> Floats:
    """The coins of so many draws, (number, T), of which the first is the seed's own in `coins`.

    Fewer draws are the first of more, and a shorter sequence has prefixes of a longer one's.
    """
    own = ["coins", *(f"coins {draw}" for draw in range(1, number))]
    return np.stack([stream(seed, purpose).random(seq_len) for purpose in own])
