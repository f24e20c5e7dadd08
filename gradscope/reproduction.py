"""A paper that was reproduced, as its folder has it: claims, figures, tables, and a record of how they came about."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gradscope import claims, papers
from gradscope.errors import InputError
from gradscope.figures import FORMATS, Drawn
from gradscope.files import DamagedError, read_json, sha256_of
from gradscope.paper import Paper

RECORD, CLAIMS, FIGURES, TABLES, SWEEP = "reproduction.json", "claims.csv", "figures", "tables", "sweep"
AGAIN = "gradscope reproduce makes it again"


@dataclass(frozen=True)
class Reproduction:
    """A paper that was reproduced, as its folder has it.

    Attributes
    ----------
    folder : where it is.
    paper : the catalogue's entry.
    claims : a row for each point of each claim, as `claims.judge` has them.
    figures : as drawn, with their files.
    record : seed, seconds, versions, platform, date, command.
    """

    folder: Path
    paper: Paper
    claims: pd.DataFrame
    figures: list[Drawn]
    record: dict[str, Any]

    @property
    def summary(self) -> pd.DataFrame:
        """A row for each claim: see `claims.summary`."""
        return claims.summary(self.claims)

    @property
    def held(self) -> bool:
        """Whether every claim holds at every point."""
        return bool((self.claims["verdict"] == claims.HOLDS).all())

    @property
    def failures(self) -> list[str]:
        """In words, each claim that does not hold: what was expected, and what was measured instead."""
        wrong = self.summary[self.summary["verdict"] != claims.HOLDS]
        return [f"{self.paper.name}: {_failure(row)}" for row in wrong.itertuples()]


def _failure(row: Any) -> str:
    numbers = f"expected {row.relation} {row.expected:.7g}, measured {row.measured:.7g}"
    where = f" at {row.point}" if row.point else ""
    of = f" ({row.held} of {row.points} points hold)" if row.points > 1 else ""
    return f"{row.verdict}{of}: {row.claim}: {numbers}{where}; tolerance: {row.tolerance}"


def reproduced(root: Path) -> list[Reproduction]:
    """All that are whole in a folder, by name; of papers that the catalogue does not have any more, none."""
    found = []
    for name in papers.names():
        with suppress(InputError):
            found.append(load(root / name))
    return found


def load(folder: Path) -> Reproduction:
    """A paper that was reproduced; InputError if the folder holds none, or a damaged one."""
    try:
        record = read_json(folder / RECORD)
    except FileNotFoundError:
        raise InputError("holds no reproduced paper", where=str(folder), hint="gradscope reproduce") from None
    except DamagedError as error:
        raise InputError(str(error), hint=AGAIN) from None
    path = folder / CLAIMS
    if not path.is_file() or sha256_of(path) != record["claims"]:
        raise InputError("is not as it was written", where=str(path), hint=AGAIN)
    judged = read_claims(path)
    figures = [
        Drawn(**one | {"files": {kind: folder / FIGURES / f"{one['name']}.{kind}" for kind in ("csv", *FORMATS)}})
        for one in record["figures"]
    ]
    if missing := [path for one in figures for path in one.files.values() if not path.is_file()]:
        raise InputError("is missing", where=str(missing[0]), hint=AGAIN)
    return Reproduction(folder, papers.find(folder.name), judged, figures, record)


def read_claims(path: Path) -> pd.DataFrame:
    """A claims.csv, as `claims.judge` has it."""
    none = {name: [""] for name in claims.NUMBERS}
    return pd.read_csv(path, keep_default_na=False, na_values=none)
