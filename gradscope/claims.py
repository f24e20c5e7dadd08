"""Claims: what a paper or a law says of a number, how near a measured one has to come, and whether it does.

A claim is data. It names a column of a measured table, which has a row for each point (its index: parameters and their
values), and what is expected there. Judging it gives a row for each point.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gradscope.conditions import holding
from gradscope.errors import GradscopeError, InputError, unknown

KINDS = {
    "law": "exact law",
    "limit": "asymptotic law",
    "sampled": "Monte Carlo",
    "bound": "inequality",
    "qualitative": "qualitative",
}
BASES = {
    "read": "read in the paper or its authors' code",
    "abstract": "known from the abstract and from secondary sources",
    "memory": "known from memory: check before citing",
    "derived": "derived here",
}
RELATIONS = {"=": "=", "<=": "\u2264", ">=": "\u2265", "<": "<", ">": ">"}
_STRICT = {"<": operator.lt, ">": operator.gt}
HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
NORMAL = 1.96  # standard errors of a 95 % interval
COLUMNS = (
    *("claim", "kind", "point", "quantity", "relation", "expected", "measured", "low", "high", "allowed", "tolerance"),
    *("verdict", "basis", "source"),
)
NUMBERS = ("expected", "measured", "low", "high", "allowed")
Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Claim:
    """What is said of one quantity.

    Attributes
    ----------
    says : the claim, in a sentence.
    quantity : "TABLE.COLUMN" of what is measured. Beside COLUMN the table may have COLUMN_error, its standard error,
        and COLUMN_low and COLUMN_high, a 95 % interval; without these it is that of 1.96 standard errors.
    expected : the exact or published value: a number, for all points; a column of the table, that holds what the law
        says of each; or pairs of a point and a number, ((1.5, 0.065), (2.0, 0.155)), for those points alone. A point of
        a table with several index levels is a tuple of their values.
    source : paper and equation, figure or section.
    kind : "law" (exact, up to rounding), "limit" (to leading order, or of a fitted slope), "sampled" (Monte Carlo),
        "bound" (an inequality), or "qualitative".
    basis : how the source is known: "read", "abstract", "memory", "derived".
    relation : of measured to expected: "=", "<=", ">=", or, without any tolerance, "<", ">".
    rtol, atol : tolerance, relative to the expected value and absolute.
    errors : tolerance in standard errors; all three add up.
    precision : the largest standard error with which a sampled claim is decided, as a share of the expected value
        (where that is 0, as it is).
    where : a condition on the table's rows, as `DataFrame.eval` has it; all of them if empty.

    Raises
    ------
    InputError : an unknown kind, basis or relation; a tolerance that is missing, negative or that nothing limits.
    """

    says: str
    quantity: str
    expected: float | str | tuple[tuple[Any, float], ...]
    source: str
    kind: str = "law"
    basis: str = "read"
    relation: str = "="
    rtol: float = 0.0
    atol: float = 0.0
    errors: float = 0.0
    precision: float = np.inf
    where: str = ""

    def __post_init__(self) -> None:
        for name, choices in {"kind": KINDS, "basis": BASES, "relation": RELATIONS}.items():
            if getattr(self, name) not in choices:
                raise unknown(name, getattr(self, name), choices, where=self.says)
        for name in ("rtol", "atol", "errors"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise InputError(f"{name} = {getattr(self, name)}", where=self.says, allowed="a number from 0 on")
        if self.kind in ("law", "limit") and self.relation == "=" and not self.rtol + self.atol > 0.0:
            raise InputError("a law without a tolerance", where=self.says, hint="rtol = 1e-9, or as stated")
        if (self.errors > 0.0 or (self.kind == "sampled" and self.relation == "=")) and not self.precision < np.inf:
            hint = "precision: the largest standard error that decides it, as a share of what is expected"
            raise InputError("no limit to the standard error with which it is decided", where=self.says, hint=hint)
        if self.relation in _STRICT and self.rtol + self.atol + self.errors > 0.0:
            raise InputError(f"{self.relation} with a tolerance", where=self.says, hint=f"{self.relation}=")
        if self.quantity.count(".") != 1:
            raise InputError(f"{self.quantity!r}", where=self.says, allowed="TABLE.COLUMN")

    @property
    def tolerance(self) -> str:
        """In words: "relative 1e-09", "4 standard errors; standard error at most 3 %"."""
        parts = [f"relative {self.rtol:g}"] * (self.rtol > 0) + [f"\u00b1 {self.atol:g}"] * (self.atol > 0)
        parts += [f"{self.errors:g} standard errors"] * (self.errors > 0)
        most = f"{self.precision:g}" if self.expected == 0.0 else f"{100 * self.precision:g} %"
        limit = f"; standard error at most {most}" if self.precision < np.inf else ""
        return (" + ".join(parts) or "none") + limit


def judge(claims: Iterable[Claim], tables: Tables) -> pd.DataFrame:
    """A row for each point of each claim: `COLUMNS`, numbers as numbers, the rest in words.

    `low` and `high` are the interval of what is measured, `allowed` is how far it may be from what is expected.

    Raises GradscopeError for a claim that nothing was measured for, as none may hold for want of rows, and for one that
    was sampled without a standard error.
    """
    judged = [_judged(claim, *_points(claim, tables)) for claim in claims]
    return pd.concat(judged, ignore_index=True)[list(COLUMNS)]


def _points(claim: Claim, tables: Tables) -> tuple[pd.DataFrame, pd.Series]:
    """The rows of a table that a claim is about, and what it expects of each."""
    name, column = claim.quantity.split(".")
    if name not in tables or column not in tables[name] or tables[name].empty:
        raise GradscopeError(f"{claim.says}: {claim.quantity} was not measured")
    if not pd.api.types.is_numeric_dtype(tables[name][column]):
        raise GradscopeError(f"{claim.says}: {claim.quantity} is no number")
    if claim.precision < np.inf and not {f"{column}_error", f"{column}_low"} & set(tables[name]):
        raise GradscopeError(f"{claim.says}: {claim.quantity} has no standard error, {column}_error")
    rows = tables[name]
    if claim.where:
        try:
            rows = rows[holding(rows, claim.where)]
        except InputError as error:
            raise error.at(f"{claim.says}: {error.where}") from None
    if isinstance(claim.expected, tuple):
        places = [_place(rows, point, claim) for point, _ in claim.expected]
        rows = rows.iloc[places]
        return rows, pd.Series([value for _, value in claim.expected], rows.index, float)
    if isinstance(claim.expected, str):
        if claim.expected not in rows:
            raise GradscopeError(f"{claim.says}: {name}.{claim.expected} was not computed")
        return rows, rows[claim.expected].astype(float)
    return rows, pd.Series(float(claim.expected), rows.index)


def _place(rows: pd.DataFrame, point: Any, claim: Claim) -> int:
    """Where in a table the row of a point is; its numbers to 9 digits."""
    values = point if isinstance(point, tuple) else (point,)
    alike = np.full(len(rows), len(values) == rows.index.nlevels)
    for level, value in enumerate(values[: rows.index.nlevels]):
        own = rows.index.get_level_values(level)
        numbers = isinstance(value, float | int) and pd.api.types.is_numeric_dtype(own)
        alike &= np.isclose(own.to_numpy(float), value, rtol=1e-9, atol=0.0) if numbers else own == value
    (places,) = np.nonzero(alike)
    if len(places) != 1:
        raise GradscopeError(f"{claim.says}: {len(places)} rows of {claim.quantity} are at {point}")
    return int(places[0])


def _judged(claim: Claim, rows: pd.DataFrame, expected: pd.Series) -> pd.DataFrame:
    column = claim.quantity.split(".")[1]
    measured = rows[column].astype(float)
    error, low, high = _uncertainty(rows, column)
    size = np.where(np.isfinite(expected), np.abs(expected), 0.0)
    allowed = claim.atol + claim.rtol * size + claim.errors * error.to_numpy()
    sure = ~(error > claim.precision * np.where(size > 0.0, size, 1.0)) & error.notna()
    good = _within(claim.relation, measured.to_numpy(), expected.to_numpy(), allowed)
    found = {
        "claim": claim.says,
        "kind": KINDS[claim.kind],
        "point": _in_words(rows.index),
        "quantity": column,
        "relation": RELATIONS[claim.relation],
        "expected": expected.to_numpy(),
        "measured": measured.to_numpy(),
        "low": low.to_numpy(),
        "high": high.to_numpy(),
        "allowed": allowed,
        "tolerance": claim.tolerance,
        "verdict": np.where(sure, np.where(good, HOLDS, FAILS), UNDECIDED),
        "basis": BASES[claim.basis],
        "source": claim.source,
    }
    return pd.DataFrame(found)


def _uncertainty(rows: pd.DataFrame, column: str) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Standard error, and interval, of what was measured: of what is exact, 0 and none."""
    none = pd.Series(np.nan, rows.index)
    low, high = (rows.get(f"{column}_{end}", none).astype(float) for end in ("low", "high"))
    if f"{column}_error" not in rows:
        return (high - low) / (2.0 * NORMAL) if f"{column}_low" in rows else none.fillna(0.0), low, high
    error, measured = rows[f"{column}_error"].astype(float), rows[column].astype(float)
    return error, low.fillna(measured - NORMAL * error), high.fillna(measured + NORMAL * error)


def _within(relation: str, measured: Any, expected: Any, allowed: Any) -> Any:
    """Whether each holds; never of what is no number."""
    if relation in _STRICT:
        return _STRICT[relation](measured, expected)
    return _beyond(relation, measured, expected) <= allowed


def _beyond(relation: str, measured: Any, expected: Any) -> Any:
    """How far what is measured is on the wrong side of what is expected; negative on the right one."""
    with np.errstate(invalid="ignore"):
        over = np.where(measured == expected, 0.0, measured - expected)  # infinite alike
    return np.abs(over) if relation == "=" else -over if relation in (">=", ">") else over


def summary(judged: pd.DataFrame) -> pd.DataFrame:
    """A row for each claim of a table of `judge`: its point nearest to failing, `points`, and how many of them `held`.

    `verdict` is that of all points: of a claim that fails anywhere, "fails".
    """
    rows = []
    for _, own in judged.groupby("claim", sort=False):
        verdicts = set(own["verdict"])
        worst = next(one for one in (FAILS, UNDECIDED, HOLDS) if one in verdicts)
        held = int((own["verdict"] == HOLDS).sum())
        rows.append(_nearest(own) | {"verdict": worst, "points": len(own), "held": held})
    return pd.DataFrame(rows)


def _nearest(own: pd.DataFrame) -> dict[Any, Any]:
    """Of the points of a claim, the one that fails by most or, if none does, is nearest to it."""
    relation = {sign: relation for relation, sign in RELATIONS.items()}[own["relation"].iloc[0]]
    expected, allowed = (own[name].to_numpy(float) for name in ("expected", "allowed"))
    beyond = _beyond(relation, own["measured"].to_numpy(float), expected)
    size = np.where(np.isfinite(expected) & (expected != 0.0), np.abs(expected), 1.0)
    share = np.nan_to_num(beyond / np.where(allowed > 0.0, allowed, size), nan=np.inf)
    fails = (own["verdict"] != HOLDS).to_numpy()
    return own.iloc[max(range(len(own)), key=lambda i: (fails[i], share[i]))].to_dict()


def _in_words(index: pd.Index) -> list[str]:
    """The parameters of each row: "tau = 5, seed = 2"; nothing where a table has no named index."""
    if index.names == [None]:
        return [""] * len(index)
    points = [point if isinstance(point, tuple) else (point,) for point in index]
    return [
        ", ".join(f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}" for name, value in named)
        for named in (zip(index.names, point, strict=True) for point in points)
    ]
