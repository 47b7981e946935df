"""The user's documents: those that are evaluated, and those that calibration and training may see.

Evaluated is the split that the reference asks for, else test where its classes are known, else validation. Trained
on is the train split. A data set of one split is divided by a hash of each text, half and half; with training data
of its own it is evaluated whole. A text that is evaluated is never trained on: it is left out there, and counted.

Refuses what `sources`, `columns` and `labels` refuse, and splits of which none is clearly meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sparsity.data import columns, known, labels, sources
from sparsity.data.columns import Rows
from sparsity.data.documents import Documents, counted, halves
from sparsity.data.sources import Source, Splits
from sparsity.errors import BadValue, UnknownName

EVALUATED = ("test", "validation")
"""Splits that are evaluated, the first whose classes are known."""
LEAST = 2
"""Of fewer documents there is no standard error."""
FEW = 20
"""Of fewer, it is itself a guess."""


class Data(NamedTuple):
    """What a run evaluates, and what it may learn from."""

    evaluated: Documents
    training: Documents
    """May be empty."""
    notes: tuple[str, ...]
    """What was left out, and why."""


class _Read(NamedTuple):
    """One reference, read."""

    evaluated: Rows
    training: Rows | None
    name: str
    where: str


def read(
    data: str, training_data: str | None, text: Sequence[str] = (), label: str | None = None, long: bool = False
) -> Data:
    """The documents that references lead to, see `sources`; columns by the usual names unless they are named.

    Where texts are `long`, of which parts are judged, one is enough, and a text file is one.

    Raises `BadValue` or `UnknownName`, with one line.
    """
    own = _read(data, text, label, training_data is not None, long)
    other = None if training_data is None else _read(training_data, text, label, True, long, to_train=True)
    to_train, trained_on = (own.training, own) if other is None else (other.evaluated, other)
    first, second = _documents(own, to_train, trained_on)
    notes = [*own.evaluated.notes, *(to_train.notes if to_train else ())]
    if to_train is None and long and len(first) == 1:
        second = first.at(())
        notes.append(f"{own.where} is one document, which is evaluated; none is left to learn from")
    elif to_train is None:
        first, second = halves(first)
        notes.append(f"{own.where} is one set: {len(first)} documents are evaluated, {len(second)} left to learn from")
    elif second is not None:
        before, second = second, second.without(set(first.rows()))
        seen = len(before) - len(second)
        notes += counted(seen, before, "documents to learn from are evaluated as well, and were left out")
    least = 1 if long else LEAST
    if len(first) < least:
        raise BadValue(f"{own.where} has {len(first)} documents to evaluate; at least {least} are needed")
    if repeated := len(first) - len(set(first.rows())):
        notes.append(f"{repeated} of {len(first)} evaluated documents repeat others, which standard errors cannot know")
    if len(first) < FEW and not (long and first.labels is None):  # of long ones the parts are counted
        notes.append(f"only {len(first)} documents are evaluated, so their standard errors are guesses")
    assert second is not None  # there are halves, or what was read
    return Data(first, second, tuple(notes))


def _documents(own: _Read, to_train: Rows | None, trained_on: _Read) -> tuple[Documents, Documents | None]:
    """Both sets with classes that are numbered alike."""
    sets = [own.evaluated] if to_train is None else [own.evaluated, to_train]
    labelled = [rows.labels for rows in sets if rows.labels is not None]
    names = next((rows.names for rows in sets if rows.names is not None), None)
    numbered, classes = labels.numbered(labelled, names, f"the label column of {own.where}")
    numbers = iter(numbered)
    made = [
        Documents(
            each.name,
            rows.texts,
            rows.pairs,
            None if rows.labels is None else next(numbers),
            None if rows.labels is None else classes,
            notes=rows.notes,
            unlabelled=rows.unlabelled or "",
        )
        for each, rows in zip((own, trained_on), sets, strict=False)
    ]
    return made[0], made[1] if len(made) > 1 else None


def _read(
    reference: str, text: Sequence[str], label: str | None, whole: bool, long: bool, to_train: bool = False
) -> _Read:
    source = sources.parse(reference, whole=long)
    if source.known and not text:
        text, label = source.known.text, label or source.known.label
    with sources.opened(source) as splits:
        evaluated = _split(source, splits, text, label, to_train)
        left = None if whole else _left_to_train(splits, evaluated)
        found = _rows(source, splits, evaluated, text, label)
        return _Read(found, _rows(source, splits, left, text, label) if left else None, reference, reference)


def _rows(source: Source, splits: Splits, split: str, text: Sequence[str], label: str | None) -> Rows:
    table, where = splits[split], source.of(split) if len(splits) > 1 else source.reference
    chosen = columns.chosen(table, text, label, where)
    if source.known and source.known.articles:  # of lines, of which the empty ones part paragraphs
        table = sources.table({chosen.text[0]: list(known.articles(table[chosen.text[0]]))})
    return columns.rows(table, chosen, where)


def _split(source: Source, splits: Splits, text: Sequence[str], label: str | None, to_train: bool) -> str:
    """The split that is evaluated; of a reference that was given to train on, that for training."""
    if source.split is not None:
        if source.split not in splits:
            raise UnknownName(f"split of {source.reference.partition('@')[0]}", source.split, splits)
        return source.split
    if len(splits) == 1 or (to_train and known.TRAINING in splits):
        return known.TRAINING if known.TRAINING in splits else next(iter(splits))
    if source.known and source.known.evaluated in splits:
        return source.known.evaluated
    there = [name for name in EVALUATED if name in splits]
    there += [name for name in splits if name.startswith(EVALUATED[-1]) and name not in there]
    for name in there:
        if columns.has_labels(splits[name], columns.chosen(splits[name], text, label, source.of(name))):
            return name
    if there or known.TRAINING in splits:
        return there[0] if there else known.TRAINING
    raise BadValue(f"data {source.reference} has the splits {', '.join(splits)}; ask for one by {source.of('SPLIT')}")


def _left_to_train(splits: Splits, evaluated: str) -> str | None:
    """The split to learn from where another is evaluated; None where there is none."""
    if evaluated != known.TRAINING and known.TRAINING in splits:
        return known.TRAINING
    return EVALUATED[1] if evaluated == EVALUATED[0] and EVALUATED[1] in splits else None
