"""What a paper of the catalogue is: how its results are measured and drawn here, and the claims that are checked.

A paper whose results are a sweep is a TOML file, `experiments/papers/NAME.toml`; one that needs a computation of its
own is a module, `gradscope/papers/NAME.py`. Both become a `Paper`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gradscope.claims import Claim, Tables
from gradscope.errors import InputError
from gradscope.figures import Drawn

EXACTLY = "bit for bit"  # what `Paper.repeats` says if the same machine and versions give the same claims.csv again
Draw = Callable[[Path, Sequence[str]], list[Drawn]]


class Measured(NamedTuple):
    """What was measured: tables by name, and how to draw its figures into a folder, in some formats."""

    tables: Tables
    draw: Draw


@dataclass(frozen=True)
class Paper:
    """An entry of the catalogue; InputError for one without claims, or with two that say the same.

    Attributes
    ----------
    name : as on the command line.
    title : what it is about, in a line.
    about : what is claimed and why it matters, in a few sentences.
    setup : how what is measured relates to the original: what is the same, what is redrawn from its setup.
    sources : keys of the references (`reporting/references.bib`), the main one first.
    repeats : "bit for bit", or "statistically", and why.
    seconds : about how long it takes, on one core.
    claims : what is checked.
    measure : (seed, folder) -> Measured. Another seed draws other random numbers for everything that is drawn; a sweep
        keeps its tables in the folder.
    """

    name: str
    title: str
    about: str
    setup: str
    sources: tuple[str, ...]
    repeats: str
    seconds: float
    claims: tuple[Claim, ...]
    measure: Callable[[int, Path], Measured]

    def __post_init__(self) -> None:
        said = [claim.says for claim in self.claims]
        if not said:
            raise InputError("claims nothing", where=self.name)
        if twice := next((text for text in said if said.count(text) > 1), None):
            raise InputError(f"two claims say the same: {twice}", where=self.name)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its claims, in order of first mention."""
        return tuple(dict.fromkeys(claim.kind for claim in self.claims))
