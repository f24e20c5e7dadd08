"""The values of one key of an experiment: one value, a list, or a range, each checked against the key's type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
import numpy as np
from msgspec import Meta

from gradscope.errors import InputError

Size = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Seed = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]
Steps = int | str | list[int]

MOST_SEEDS = 10**7
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list"}


def values_of(given: Any, kind: Any, where: str) -> tuple[Any, ...]:
    """The values that `given` stands for, as `kind`; InputError, said to stand at `where`, for any that cannot be."""
    if isinstance(given, Mapping):
        given = _range(given, where)
    listed = given if isinstance(given, list | tuple) or np.ndim(given) else [given]
    if not len(listed):
        raise InputError("empty list", where=where, allowed="at least one value")
    return distinct([_convert(value, kind, where) for value in listed], where)


def seeds_of(given: Any, where: str) -> list[Any]:
    """The seeds that a number of seeds, or a list, stands for."""
    given = _plain(given)
    if isinstance(given, list | tuple):
        return list(given)
    if type(given) is not int or given < 1:
        raise InputError(f"{given!r}", where=where, allowed="a number of seeds >= 1, or a list of seeds")
    if given > MOST_SEEDS:
        raise InputError(f"{given!r} seeds", where=where, allowed=f"at most {MOST_SEEDS:,}")
    return list(range(given))


def distinct(values: list[Any], where: str) -> tuple[Any, ...]:
    """`values`, if none stands there twice."""
    seen = set()
    for value in values:
        if repr(value) in seen:
            raise InputError(f"{value!r} is listed twice", where=where)
        seen.add(repr(value))
    return tuple(values)


def kind_of(kind: Any, values: Sequence[Any]) -> type:
    """bool, int, float or str, as which values of a type can be stored; what may be either is a text if any is."""
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if plain in (bool, int, float):
        return plain
    return float if float in get_args(plain) and not any(isinstance(value, str) for value in values) else str


def in_words(values: Sequence[Any]) -> str:
    """A key's values in words; a long row of numbers by its ends."""
    if len(values) > 8 and all(isinstance(value, int | float) for value in values):
        return f"{len(values)} values from {min(values):g} to {max(values):g}"
    return ", ".join("none" if value == "" else str(value) for value in values)


def _range(given: Mapping[str, Any], where: str) -> list[float]:
    """The points of `{ start, stop, num }`: `num` evenly spaced numbers, both ends included."""
    fault = _range_fault(given)
    if fault:
        allowed = "{ start = number, stop = number, num = count }"
        raise InputError(f"range {dict(given)!r}: {fault}", where=where, allowed=allowed)
    points = np.linspace(given["start"], given["stop"], given["num"])
    # To 12 digits, so that each can be written down and found again: 1.15, not 1.1500000000000001.
    rounded = [float(f"{point:.12g}") for point in points]
    return [int(point) if point.is_integer() and abs(point) < 2**53 else point for point in rounded]


def _range_fault(given: Mapping[str, Any]) -> str:
    names = ("start", "stop", "num")
    if others := [name for name in given if name not in names]:
        return f"unknown {', '.join(others)}"
    if missing := [name for name in names if name not in given]:
        return f"missing {', '.join(missing)}"
    for end in ("start", "stop"):
        number = given[end]
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < 1e300:
            return f"{end} must be a finite number, not {number!r}"
    if type(given["num"]) is not int or given["num"] < 1:
        return f"num must be a whole number >= 1, not {given['num']!r}"
    return ""


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _convert(value: Any, kind: Any, where: str) -> Any:
    value = _plain(value)
    try:
        converted = msgspec.convert(value, kind)
    except (msgspec.ValidationError, OverflowError):
        raise InputError(f"{value!r}", where=where, allowed=_describe(kind)) from None
    if isinstance(converted, float) and not np.isfinite(converted):
        raise InputError(f"{value!r} is not finite", where=where, allowed="a finite number")
    if type(converted) is int and kind is not Steps and abs(converted) >= 2**63:
        raise InputError(f"{value!r}", where=where, allowed=f"{_describe(kind)} of at most 64 bits")
    return converted + 0.0 if isinstance(converted, float) else converted  # zero has no sign


def _describe(kind: Any) -> str:
    """What a type allows, in a user's words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        least = arguments[1]
        return f"{_describe(arguments[0])} {f'>= {least.ge}' if least.gt is None else f'> {least.gt}'}"
    if origin in (Union, UnionType):
        return " or ".join(map(_describe, arguments))
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    return _WORDS[origin or kind]
