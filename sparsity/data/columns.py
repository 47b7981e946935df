"""Which columns of a table hold the text and the class, and its rows as documents.

Rows without a text, or without a class where there is a column of classes, are left out and counted.

Refuses a column that is not there, with the nearest that is; a column of text that holds none; a table in which no
column, or more than one, may be meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsity.data import labels
from sparsity.data.documents import counted
from sparsity.errors import BadValue, UnknownName

if TYPE_CHECKING:
    import datasets

TEXT = ("text", "sentence", "review", "content", "document", "body", "comment", "tweet")
LABEL = ("label", "labels", "class", "sentiment", "category", "target")
"""Usual names, the first that is there counts."""
STRINGS = ("string", "large_string")


@dataclass(frozen=True)
class Columns:
    """What was chosen of a table."""

    text: tuple[str, ...]
    label: str | None
    asked: bool = False
    """Whether the label's column was named by the user, who is then told where it holds no class."""


class Rows(NamedTuple):
    """Documents of one table, not yet numbered."""

    texts: tuple[str, ...]
    pairs: tuple[str, ...] | None
    labels: tuple[int | str, ...] | None
    names: tuple[str, ...] | None
    """Classes in the order that the table declares."""
    notes: tuple[str, ...]
    unlabelled: str | None
    """Why there are no labels."""


def chosen(table: datasets.Dataset, text: Sequence[str], label: str | None, where: str) -> Columns:
    """The columns that were named, or those with the usual names."""
    known: list[str] = list(table.features)
    for name in (*text, *((label,) if label else ())):
        if name not in known:
            raise UnknownName(f"column of {where}", name, known)
    for name in text:
        if not _holds_text(table, name):
            raise BadValue(f"column {name!r} of {where} holds no text; name another by --text-column")
    free = {name.casefold(): name for name in known if name not in text}
    found = label or next((free[name] for name in LABEL if name in free), None)
    return Columns(tuple(text) or (_text_of(table, found, where),), found, asked=label is not None)


def _text_of(table: datasets.Dataset, label: str | None, where: str) -> str:
    texts: list[str] = [name for name in table.features if name != label and _holds_text(table, name)]
    by_name = {name.casefold(): name for name in texts}
    if (usual := next((by_name[name] for name in TEXT if name in by_name), None)) is not None:
        return usual
    if len(texts) == 1:
        return texts[0]
    several = f"any of {', '.join(texts)}" if texts else f"none of {', '.join(table.features)}"
    raise BadValue(f"the text of {where} may be in {several}; name it by --text-column, or two with a comma for pairs")


def _holds_text(table: datasets.Dataset, name: str) -> bool:
    return getattr(table.features[name], "dtype", None) in STRINGS


def has_labels(table: datasets.Dataset, columns: Columns) -> bool:
    """Whether some row has a class, or no column should hold one; the hub's sets hold some splits' back, as -1."""
    if columns.label is None:
        return True
    values = list(table[columns.label])
    return any(value is not None and value != labels.NO_LABEL for value in values)


def rows(table: datasets.Dataset, columns: Columns, where: str) -> Rows:
    """The table's rows. Raises `BadValue` where none is left, or a named column of classes holds none."""
    texts = [list(table[name]) for name in columns.text]
    classes, names, why = _labels(table, columns, where)
    there = [all(isinstance(text, str) and text.strip() for text in row) for row in zip(*texts, strict=True)]
    empty = there.count(False)
    bare = 0 if classes is None else sum(kept and each is None for kept, each in zip(there, classes, strict=True))
    if classes is not None:
        there = [kept and each is not None for kept, each in zip(there, classes, strict=True)]
    if not any(there):
        raise BadValue(f"{where} has no row with a text{' and a class' if bare else ''} ({len(there)} rows)")
    notes = counted(empty, there, f"rows of {where} have no text, and were left out")
    notes += counted(bare, there, f"rows of {where} have no class, and were left out")
    kept = [tuple(text for text, good in zip(column, there, strict=True) if good) for column in texts]
    pairs = [] if classes is None else zip(classes, there, strict=True)
    found = None if classes is None else tuple(each for each, good in pairs if good and each is not None)
    return Rows(kept[0], kept[1] if len(kept) > 1 else None, found, names, notes, why)


def _labels(
    table: datasets.Dataset, columns: Columns, where: str
) -> tuple[list[int | str | None] | None, tuple[str, ...] | None, str | None]:
    """Each row's class, the classes' declared names, and why there are none."""
    name = columns.label
    if name is None:
        others = [each for each in table.features if each not in columns.text]
        hint = f"; name one of {', '.join(others)} by --label-column" if others else ", and no other column"
        return None, None, f"{where} has no label column{hint}"
    declared = getattr(table.features[name], "names", None)
    values: list[Any] = list(table[name])
    place = f"column {name!r} of {where}"
    try:
        plain = labels.plain(values, place)
    except BadValue as error:
        if columns.asked:
            raise
        return None, None, str(error)
    if declared:
        plain = [None if value == labels.NO_LABEL else value for value in plain]
        numbers = [str(index) for index in range(len(declared))]
        if list(declared) != numbers:
            named = [None if value is None else declared[int(value)] for value in plain]
            return _unless_all_held_back(named, tuple(declared), place)
    return _unless_all_held_back(plain, None, place)


def _unless_all_held_back(
    values: Sequence[int | str | None], names: tuple[str, ...] | None, place: str
) -> tuple[list[int | str | None] | None, tuple[str, ...] | None, str | None]:
    if all(value is None or value == labels.NO_LABEL for value in values):
        return None, None, f"{place} holds every class back (-1, as test sets on the hub do); take another split"
    return list(values), names, None
