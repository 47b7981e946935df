"""Frozen dataclasses to plain JSON values and back, strictly.

What is None is absent. Refuses on the way out a number that is not finite and whatever JSON has no place
for; on the way in a field that is missing, of another type or against its class's rules, by its path.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from sparsity.errors import ResultNotReadable
from sparsity.rules import hints, inner, optional

Scalar = str | int | float | bool
Section = TypeVar("Section")


def plain(value: Any, where: str) -> Any:
    """The value as what a JSON file may hold; `where` begins the message of an error.

    Raises `ValueError` on a number that is not finite, `TypeError` on what JSON has no place for.
    """
    if dataclasses.is_dataclass(value):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: plain(item, f"{where}.{name}") for name, item in pairs if item is not None}
    if isinstance(value, dict):
        return {str(name): plain(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}, which is not a measurement")
    if isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{where} is a {type(value).__name__}, which has no place in the record")


def section(kind: type[Section], data: Any, where: str) -> Section:
    """A dataclass out of a JSON object, every field checked; fields that are not known are passed over."""
    if not isinstance(data, Mapping):
        raise ResultNotReadable(f"{where}: expected an object, got {type(data).__name__}")
    known = hints(typing.cast(type, kind))
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # kind is one of the dataclasses above
        if field.name in data:
            values[field.name] = _checked(known[field.name], data[field.name], f"{where}.{field.name}")
        elif field.default is dataclasses.MISSING:
            raise ResultNotReadable(f"{where}: {field.name!r} is missing")
    try:
        return kind(**values)
    except ValueError as error:  # a value that the class itself refuses
        raise ResultNotReadable(f"{where}: {error}") from None


def _checked(hint: Any, value: Any, where: str) -> Any:
    hint = inner(optional(hint)[0])  # X | None: absent means None, so a present value is an X
    if dataclasses.is_dataclass(hint):
        return section(typing.cast(type, hint), value, where)
    if typing.get_origin(hint) is list:
        if not isinstance(value, list):
            raise ResultNotReadable(f"{where}: expected a list, got {type(value).__name__}")
        (item,) = typing.get_args(hint)
        return [_checked(item, each, f"{where}[{i}]") for i, each in enumerate(value)]
    if typing.get_origin(hint) is dict:
        if not isinstance(value, Mapping):
            raise ResultNotReadable(f"{where}: expected an object, got {type(value).__name__}")
        item = typing.get_args(hint)[1]
        return {str(name): _checked(item, each, f"{where}.{name}") for name, each in value.items()}
    return _checked_scalar(hint, value, where)


def _checked_scalar(hint: Any, value: Any, where: str) -> Scalar:
    if hint is float and type(value) is int and abs(value) < 2**63:
        value = float(value)
    allowed = typing.get_args(hint) or (hint,)
    if type(value) not in allowed:
        names = " or ".join(kind.__name__ for kind in allowed)
        raise ResultNotReadable(f"{where}: expected {names}, got {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ResultNotReadable(f"{where}: {value} is not a finite number")
    return typing.cast(Scalar, value)
