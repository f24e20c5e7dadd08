"""Plug-in families: a folder of modules, each holding one frozen dataclass.

The file's name is the plug-in's name (`random_unweighted.py` is `random-unweighted` and defines `RandomUnweighted`),
and the dataclass's fields are its options, so adding a member to a family is adding one file.

A *spec* is a plug-in written as text, the way users write it: `fixed:20`, `tbptt:5:20`.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any, get_type_hints

from gradscope.errors import InputError, unknown


@cache
def names(family: ModuleType) -> tuple[str, ...]:
    """Names of the members of a family."""
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(family.__path__)))


def find(family: ModuleType, name: str) -> Any:
    """The class of the member called `name`; InputError with the near miss if there is none."""
    if name not in names(family):
        raise unknown(_kind(family), name, names(family))
    module = importlib.import_module(f"{family.__name__}.{name.replace('-', '_')}")
    return getattr(module, name.title().replace("-", ""))


def make(family: ModuleType, name: str, options: Mapping[str, Any]) -> Any:
    """The member called `name` with these options; InputError for an unknown, missing or unusable one."""
    member = find(family, name)
    fields = {field.name: field for field in dataclasses.fields(member)}
    kind = _kind(family)
    for option in options:
        if option not in fields:
            raise unknown(f"option of {kind} {name}:", option, fields)
    required = dataclasses.MISSING
    missing = [key for key, field in fields.items() if field.default is required and key not in options]
    if missing:
        raise InputError(f"{kind} {name} needs {', '.join(missing)}")
    return member(**options)


def usage(family: ModuleType) -> list[str]:
    """How each member's spec is written: `fixed:TAU`; `momentum[:MU]` where an argument has a default."""
    return [name + "".join(map(_argument, dataclasses.fields(find(family, name)))) for name in names(family)]


def _argument(field: dataclasses.Field[Any]) -> str:
    written = f":{field.name.upper()}"
    return written if field.default is dataclasses.MISSING else f"[{written}]"


def parse(family: ModuleType, spec: str) -> Any:
    """The plug-in that a spec describes.

    Raises InputError if the name is unknown, the number or type of the arguments is wrong, or the plug-in itself
    refuses them.
    """
    if not isinstance(spec, str):
        raise InputError(f"{spec!r} is no text", where=_kind(family), allowed=", ".join(usage(family)))
    name, *texts = spec.split(":")
    member = find(family, name)
    types = get_type_hints(member)
    fields = [field.name for field in dataclasses.fields(member)]
    least = sum(field.default is dataclasses.MISSING for field in dataclasses.fields(member))
    allowed = ", ".join(usage(family))
    if not least <= len(texts) <= len(fields):
        takes = f"{least}" if least == len(fields) else f"{least} to {len(fields)}"
        raise InputError(f"{spec!r} has {len(texts)} argument(s), {name} takes {takes}", allowed=allowed)
    values = []
    for field, text in zip(fields, texts, strict=False):
        try:
            values.append(types[field](text))
        except ValueError:
            needed = "a whole number" if types[field] is int else "a number"
            raise InputError(f"{spec!r}: {field} must be {needed}, not {text!r}", allowed=allowed) from None
    try:
        return member(*values)
    except InputError as error:
        raise InputError(f"{spec!r}: {error}", allowed=allowed) from None


def spec_of(plugin: Any) -> str:
    """The spec of a plug-in, in canonical form: `parse(family, spec_of(plugin)) == plugin`, without last defaults."""
    name = type(plugin).__module__.rpartition(".")[2].replace("_", "-")
    fields = list(dataclasses.fields(plugin))
    while fields and getattr(plugin, fields[-1].name) == fields[-1].default:
        fields.pop()
    values = (getattr(plugin, field.name) for field in fields)
    return ":".join([name, *(repr(value).removesuffix(".0") for value in values)])


def _kind(family: ModuleType) -> str:
    return family.__name__.rpartition(".")[2].removesuffix("s")
