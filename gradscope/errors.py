"""Everything gradscope raises on purpose: one family, so that callers can catch it and the CLI can print it.

And the checks that plug-ins share.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from math import isfinite
from numbers import Real
from typing import Any


class GradscopeError(Exception):
    """Root of all errors raised by gradscope."""


class InputError(GradscopeError, ValueError):
    """Input that cannot be used: what is wrong, where it stands, what is allowed, what to do.

    Parameters
    ----------
    what : the fault, with the offending value.
    where : file, line and key, or the parameter's name.
    allowed : what would be accepted.
    hint : what to do about it.

    Examples
    --------
    >>> print(InputError("-1 is negative", where="spectral_radius", allowed="a number >= 0"))
    spectral_radius: -1 is negative; allowed: a number >= 0
    """

    def __init__(self, what: str, *, where: str = "", allowed: str = "", hint: str = ""):
        parts = [
            f"{where}: {what}" if where else what,
            allowed and f"allowed: {allowed}",
            hint,
        ]
        message = "; ".join(part for part in parts if part)
        super().__init__(message.replace("\r", "\\r").replace("\n", "\\n"))  # one line, whatever users' names hold
        self.what, self.where, self.allowed, self.hint = what, where, allowed, hint

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions travel back from worker processes by pickle, which would call __init__ with the message alone.
        return _rebuild, (type(self), self.what, self.where, self.allowed, self.hint)

    def at(self, where: str) -> InputError:
        """The same error, said to stand at `where`."""
        return type(self)(self.what, where=where, allowed=self.allowed, hint=self.hint)


def _rebuild(kind: type[InputError], what: str, where: str, allowed: str, hint: str) -> InputError:
    return kind(what, where=where, allowed=allowed, hint=hint)


def unknown(kind: str, name: str, choices: Iterable[str], where: str = "") -> InputError:
    """The error for a name that is none of `choices`, with the nearest one if any is near."""
    choices = sorted(choices)
    near = get_close_matches(name, choices, n=1)
    return InputError(
        f"unknown {kind} {name!r}",
        where=where,
        allowed=", ".join(choices),
        hint=f"did you mean {near[0]!r}?" if near else "",
    )


def at_least(minimum: int, **values: Any) -> None:
    """Raise InputError unless every named value is at least `minimum`."""
    for name, value in values.items():
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not number or not minimum <= value < float("inf"):
            raise InputError(f"must be at least {minimum}, not {value!r}", where=name)


def finite(**options: Any) -> None:
    """Raise InputError unless every named option is a finite number."""
    for name, value in options.items():
        if not isinstance(value, Real) or not isfinite(value):
            raise InputError(f"{value} is not finite", where=name, allowed="a finite number")
