"""What the values of a record's fields must obey beside their types, declared once. Standard library only.

A field's type carries its rules, as in `Annotated[float, Range(0, 1)]`. `Ruled` classes refuse what breaks one, and
`sparsity.schema` writes the same rules into the JSON schema, so the two cannot differ. What ties several fields
together is said by the class itself.

Refuses what cannot be, with a `ValueError` that names the field: a negative time, a verdict that is none.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

LARGEST = 1e100
"""Of a measurement: the squares of many, and the ratio of two, must be numbers too."""


class Rule(Protocol):
    """What both a class and a JSON schema can say of one value."""

    def problem(self, value: Any) -> str | None:
        """What is wrong with it, to follow its name; None where nothing is."""

    def schema(self) -> dict[str, Any]:
        """The same as keywords of JSON schema."""


@dataclass(frozen=True)
class Range:
    """A number from `least` to `most`. What is not finite passes, and is refused when it is written or read."""

    least: float = 0
    most: float = LARGEST
    open_: bool = False
    """Whether `most` itself is too much."""

    def problem(self, value: Any) -> str | None:
        """`-1 is not in [0, 1e+100]`."""
        finite = isinstance(value, int) or math.isfinite(value)
        within = self.least <= value <= self.most and not (self.open_ and value == self.most)
        end = ")" if self.open_ else "]"
        return None if within or not finite else f"{value} is not in [{self.least:g}, {self.most:g}{end}"

    def schema(self) -> dict[str, Any]:
        """`minimum`, and `maximum` or `exclusiveMaximum` where there is one."""
        most = "exclusiveMaximum" if self.open_ else "maximum"
        return {"minimum": self.least} | ({most: self.most} if math.isfinite(self.most) else {})


@dataclass(frozen=True)
class Above:
    """A number larger than `least`."""

    least: float

    def problem(self, value: Any) -> str | None:
        """`0.0 is not above 0`."""
        return None if value > self.least else f"{value} is not above {self.least:g}"

    def schema(self) -> dict[str, Any]:
        """`exclusiveMinimum`."""
        return {"exclusiveMinimum": self.least}


@dataclass(frozen=True)
class OneOf:
    """One of some words."""

    known: tuple[str, ...]

    def problem(self, value: Any) -> str | None:
        """`'fast' is none of faster, same, slower`."""
        return None if value in self.known else f"{value!r} is none of {', '.join(self.known)}"

    def schema(self) -> dict[str, Any]:
        """`enum`."""
        return {"enum": list(self.known)}


@dataclass(frozen=True)
class Hexadecimal:
    """So many digits, in small letters, as digests are written."""

    digits: int

    def problem(self, value: Any) -> str | None:
        """`'abc' is not 64 hexadecimal digits`."""
        fits = re.fullmatch(f"[0-9a-f]{{{self.digits}}}", value)
        return None if fits else f"{value!r} is not {self.digits} hexadecimal digits"

    def schema(self) -> dict[str, Any]:
        """`pattern`, and `maxLength` since to many readers a `$` lets a line's end pass."""
        return {"pattern": f"^[0-9a-f]{{{self.digits}}}$", "maxLength": self.digits}


@dataclass(frozen=True)
class Some:
    """A list or a table of at least so many entries."""

    least: int = 1

    def problem(self, value: Any) -> str | None:
        """`holds 1, and must hold at least 2`."""
        return None if len(value) >= self.least else f"holds {len(value)}, and must hold at least {self.least}"

    def schema(self) -> dict[str, Any]:
        """`minItems` for lists, `minProperties` for tables; each is silent on the other."""
        return {"minItems": self.least, "minProperties": self.least}


Amount = Annotated[float, Range()]
"""A number that may be 0 and may not be negative."""
Count = Annotated[int, Range()]
Difference = Annotated[float, Range(-LARGEST)]
"""Either way, so large that its square is still a number."""


class Ruled:
    """A dataclass that refuses values against the rules of its fields; None stands for absent and obeys all."""

    def __post_init__(self) -> None:
        kind: Any = type(self)  # mypy holds no dataclass for hashable
        for name, hint in _ruled(kind):
            value = getattr(self, name)
            if value is not None:
                _obeys(hint, value, name)


@functools.cache
def hints(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields with their rules; resolved once, since files hold hundreds of each."""
    return typing.get_type_hints(kind, include_extras=True)


def optional(hint: Any) -> tuple[Any, bool]:
    """The X of `X | None`, and whether it was one."""
    options = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType) and types.NoneType in options:
        (hint,) = (option for option in options if option is not types.NoneType)
        return hint, True
    return hint, False


def inner(hint: Any) -> Any:
    """A type without its rules."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def rules(hint: Any) -> tuple[Rule, ...]:
    """The rules of a type."""
    return typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()


@functools.cache
def _ruled(kind: Any) -> tuple[tuple[str, Any], ...]:
    """The fields of a dataclass that have rules, or whose entries have."""
    known = [(field.name, optional(hints(kind)[field.name])[0]) for field in dataclasses.fields(kind)]
    return tuple((name, hint) for name, hint in known if _has_rules(hint))


def _has_rules(hint: Any) -> bool:
    return bool(rules(hint)) or any(map(_has_rules, typing.get_args(inner(hint))))


def _obeys(hint: Any, value: Any, name: str) -> None:
    for rule in rules(hint):
        if problem := rule.problem(value):
            raise ValueError(f"{name} {problem}")
    entry = typing.get_args(inner(hint))[-1:]  # of a list or a table
    if not entry or not _has_rules(entry[0]):
        return
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        _obeys(entry[0], each, f"{name}.{key}" if isinstance(value, dict) else f"{name}[{key}]")
