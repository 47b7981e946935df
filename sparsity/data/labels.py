"""Labels of the data, and which class of a model each is. Standard library only.

Refuses labels that are no classes (numbers with fractions, lists, several kinds in one column), a -1, and names on
which data and model do not agree: a wrong guess would measure nothing, and look like a bad model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sparsity.errors import BadValue, Refused

NO_LABEL = -1
"""What the hub's data sets say where they hold a label back."""
SHOWN = 8
"""Names that a message lists at most."""


def plain(values: Iterable[Any], where: str) -> list[int | str | None]:
    """Labels as whole numbers or as names; what is written as a number is one. `where` begins a refusal.

    Raises `BadValue` for what is no class.
    """
    found = [_plain(value, where) for value in values]
    kinds = {type(value) for value in found if value is not None}
    if len(kinds) > 1:
        raise BadValue(f"{where} holds numbers and names, such as {_of(found, int)!r} and {_of(found, str)!r}; use one")
    if kinds == {str} and all(value is None or re.fullmatch(r"[0-9]{1,9}", str(value)) for value in found):
        return [None if value is None else int(value) for value in found]
    return found


def _plain(value: Any, where: str) -> int | str | None:
    if value is None or isinstance(value, int):  # also yes and no
        return None if value is None else int(value)
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, float):
        if value != value:  # a gap in a column of numbers
            return None
        if value.is_integer():
            return int(value)
        raise BadValue(f"{where} holds {value:g}, so this is regression; only classes are measured")
    raise BadValue(f"{where} holds a {type(value).__name__}, and no class; name another by --label-column")


def _of(values: Sequence[object], kind: type) -> object:
    return next(value for value in values if type(value) is kind)


def numbered(
    columns: Sequence[Sequence[int | str]], names: Sequence[str] | None, where: str
) -> tuple[list[tuple[int, ...]], tuple[str, ...] | None]:
    """The labels of several sets of documents as numbers from 0, and what they stand for, if they have names.

    Names come in the order that the data set declares, else sorted. Raises `BadValue` where the sets differ in kind,
    for a name that is not declared, and for a number below 0.
    """
    every = [value for column in columns for value in column]
    texts = [value for value in every if isinstance(value, str)]
    if not texts:
        if below := [value for value in every if isinstance(value, int) and value < 0]:
            raise BadValue(f"{where} holds {min(below)}; the hub writes -1 for no label, so number classes from 0")
        return [tuple(int(value) for value in column) for column in columns], None
    if len(texts) != len(every):
        raise BadValue(f"{where} holds names in one set and numbers in the other; use one")
    classes = tuple(names) if names else tuple(sorted(set(texts)))
    if unknown := sorted(set(texts) - set(classes)):
        raise BadValue(f"{where} holds {unknown[0]!r}, which is none of its classes ({listed(classes)})")
    place = {name: index for index, name in enumerate(classes)}
    return [tuple(place[str(value)] for value in column) for column in columns], classes


class Mapped(NamedTuple):
    """Which class of the model each label of the data is."""

    classes: tuple[int, ...]
    """Of the model, by label."""
    notes: tuple[str, ...] = ()

    def of(self, labels: Sequence[int]) -> list[int]:
        """The labels as the model numbers them."""
        return [self.classes[label] for label in labels]


def mapped(labels: Sequence[int], classes: Sequence[str] | None, of_model: Mapping[int, str], name: str) -> Mapped:
    """The labels of a data set, as a model numbers its classes.

    By name where both have names, by number else. `of_model` is `config.id2label`; `name` begins a refusal. Raises
    `Refused` where the two do not agree.
    """
    count, most = len(of_model), max(labels, default=0)
    known = [str(of_model.get(index, f"LABEL_{index}")) for index in range(count)]
    if classes is None:
        if most >= count:
            raise Refused(
                f"{name} has label {most}, but the model has {count} classes, numbered from 0 ({listed(known)})"
            )
        return Mapped(tuple(range(count)))
    wanted = [_bare(each) for each in classes]
    if (index := _by_name(wanted, [_bare(each) for each in known])) is not None:
        return Mapped(index)
    used = len(classes)
    if used > count:
        raise Refused(f"{name} has {used} classes ({listed(classes)}), but the model has {count} ({listed(known)})")
    if not all(re.fullmatch(r"label_?\d+", each.casefold()) for each in known):
        if (index := _by_beginning(wanted, [_bare(each) for each in known])) is not None:
            pairs = ", ".join(f"{mine} is {known[place]}" for mine, place in zip(classes, index, strict=True))
            return Mapped(index, (f"classes that begin alike were taken for the same: {pairs}",))
        mend = "say in id2label of its config.json which is which"
        raise Refused(f"{name} has the classes {listed(classes)}, the model {listed(known)}; {mend}")
    if used < count:
        mend = "say in id2label of its config.json which is which"
        raise Refused(f"{name} has {used} classes ({listed(classes)}), the model {count} without names; {mend}")
    order = ", ".join(f"{index} {each}" for index, each in enumerate(classes[:SHOWN]))
    return Mapped(tuple(range(used)), (f"the model does not name its classes; taken in this order: {order}",))


def _by_name(wanted: Sequence[str], known: Sequence[str]) -> tuple[int, ...] | None:
    if len(set(known)) < len(known) or len(set(wanted)) < len(wanted) or not set(wanted) <= set(known):
        return None
    return tuple(known.index(each) for each in wanted)


def _by_beginning(wanted: Sequence[str], known: Sequence[str]) -> tuple[int, ...] | None:
    """`neg` for `negative`: where each class begins one of the other's, or the other way round, and no two the same."""
    found = [[i for i, k in enumerate(known) if k and w and (k.startswith(w) or w.startswith(k))] for w in wanted]
    if any(len(places) != 1 for places in found) or len({places[0] for places in found}) < len(wanted):
        return None
    return tuple(places[0] for places in found)


def _bare(name: str) -> str:
    """`Not_Entailment` and `not entailment` are one."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first few of many."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
