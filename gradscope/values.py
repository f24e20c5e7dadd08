"""The values of one key of an experiment: one value, a list, or a range, each checked against the key's type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, get_args

import msgspec
import numpy as np
from msgspec import Meta

from gradscope.errors import InputError

Size = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Seed = Annotated[int, Meta(ge=0)]
Steps = str | int | list[int]

_WORDS = {"int": "a whole number", "float": "a number", "str": "text", "array": "a list", " | ": " or "}


class Range(msgspec.Struct, forbid_unknown_fields=True):
    """`{ start, stop, num }`: `num` evenly spaced numbers, both ends included."""

    start: float
    stop: float
    num: Size

    def points(self) -> list[float]:
        """The numbers, to 12 digits, so that each can be written down and found again: 1.15, not 1.1500000000000001."""
        points = [float(f"{point:.12g}") for point in np.linspace(self.start, self.stop, self.num)]
        return [int(point) if point.is_integer() and abs(point) < 2**53 else point for point in points]


def values_of(given: Any, kind: Any, where: str) -> tuple[Any, ...]:
    """The values that `given` stands for, as `kind`; InputError, said to stand at `where`, for any that cannot be."""
    if isinstance(given, Mapping):
        given = _range(given, where)
    listed = given if isinstance(given, list | tuple | np.ndarray) else [given]
    if not len(listed):
        raise InputError("empty list", where=where, allowed="at least one value")
    return distinct([_convert(value, kind, where) for value in listed], where)


def seeds_of(given: Any, where: str) -> list[Any]:
    """The seeds that a number of seeds, or a list, stands for."""
    if isinstance(given, list | tuple | np.ndarray):
        return list(given)
    if type(given) is not int or given < 1:
        raise InputError(f"{given!r}", where=where, allowed="a number of seeds >= 1, or a list of seeds")
    return list(range(given))


def distinct(values: list[Any], where: str) -> tuple[Any, ...]:
    """`values`, if none stands there twice."""
    for value in values:
        if values.count(value) > 1:
            raise InputError(f"{value!r} is listed twice", where=where)
    return tuple(values)


def _range(given: Mapping[str, Any], where: str) -> list[float]:
    try:
        return msgspec.convert(dict(given), Range).points()
    except msgspec.ValidationError as error:
        reason = str(error).replace("`", "")
        raise InputError(
            f"range {dict(given)!r}: {reason}", where=where, allowed="{ start = number, stop = number, num = count }"
        ) from None


def _convert(value: Any, kind: Any, where: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    try:
        converted = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"{value!r}", where=where, allowed=_allowed(error, kind)) from None
    if isinstance(converted, float) and not np.isfinite(converted):
        raise InputError(f"{value!r} is not finite", where=where, allowed="a finite number")
    return converted


def _allowed(error: msgspec.ValidationError, kind: Any) -> str:
    """What a type allows, in a user's words."""
    found = re.match("Expected (.*?)(, got .*)?$", str(error))
    if not found:  # a text that is none of those that a Literal lists
        return " or ".join(repr(choice) for part in get_args(kind) for choice in get_args(part))
    return re.sub(r"\b(int|float|str|array)\b| \| ", lambda word: _WORDS[word[0]], found[1].replace("`", ""))
