"""Documents: what models are evaluated on, calibrated with and trained on, whatever they come from.

Standard library only, and nothing is read here. Refuses columns of different lengths.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Iterable, Sized
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sparsity.errors import BadValue

Text = str | tuple[str, str]
"""A text, or the two of a pair."""


def whole(row: Text) -> str:
    """A pair as one text, for language modelling."""
    return row if isinstance(row, str) else " ".join(row)


COLUMNS = ("texts", "pairs", "labels", "log_probability", "posteriors")


@dataclass(frozen=True)
class Documents:
    """`N` documents, in the order in which they were read."""

    name: str
    texts: tuple[str, ...]
    pairs: tuple[str, ...] | None = None
    """The second text of each, for tasks about pairs."""
    labels: tuple[int, ...] | None = None
    """The class of each; None where none is known."""
    classes: tuple[str, ...] | None = None
    """What the labels stand for; None where they are mere numbers."""
    log_probability: tuple[float, ...] | None = None
    """Of generated texts: log p(text), nats."""
    posteriors: tuple[float, ...] | None = None
    """Of generated texts: P(label = 1 | text)."""
    notes: tuple[str, ...] = ()
    """What was left out while they were read, each with its count."""
    unlabelled: str = "it has no label column; name one by --label-column"
    """Why there are no labels, where there are none."""

    def __post_init__(self) -> None:
        lengths = {len(column) for column in (getattr(self, name) for name in COLUMNS) if column is not None}
        if len(lengths) != 1:
            raise BadValue(f"{self.name}: columns of {sorted(lengths)} documents do not belong together")

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def generated(self) -> bool:
        """Whether their exact probabilities are known, as those of generated reviews are."""
        return self.log_probability is not None

    @property
    def digest(self) -> str:
        """SHA-256 of texts, pairs and labels with their names: equal for equal documents in the same order."""
        content = [self.texts, self.pairs, self.labels, self.classes]
        return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()

    def rows(self) -> list[Text]:
        """Each document as it is read: one text, or a pair."""
        return list(self.texts) if self.pairs is None else list(zip(self.texts, self.pairs, strict=True))

    def at(self, places: Iterable[int]) -> Documents:
        """The documents at these places, in that order."""
        chosen = list(places)
        columns = {name: getattr(self, name) for name in COLUMNS}
        taken: dict[str, Any] = {n: tuple(c[i] for i in chosen) for n, c in columns.items() if c is not None}
        return replace(self, **taken)

    def chosen(self, count: int, seed: int) -> Documents:
        """So many of them, in their order, the same for the same seed; all where there are no more."""
        if count >= len(self):
            return self
        return self.at(sorted(random.Random(seed).sample(range(len(self)), count)))

    def without(self, others: Collection[Text]) -> Documents:
        """Those that are not among the others."""
        rows = self.rows()
        return self.at(i for i in range(len(self)) if rows[i] not in others)


class Halves(NamedTuple):
    """One set of documents in two, no text in both."""

    evaluated: Documents
    training: Documents


def halves(documents: Documents) -> Halves:
    """About half of the documents each, told apart by a hash of the text: the same wherever and whenever it is read.

    So a text that stands there twice is on one side, and another row changes nothing for the rest.
    """
    first: tuple[list[int], list[int]] = ([], [])
    for place, row in enumerate(documents.rows()):
        first[hashlib.sha256(json.dumps(row).encode("ascii")).digest()[0] % 2].append(place)
    return Halves(documents.at(first[0]), documents.at(first[1]))


def counted(count: int, of: Sized, what: str) -> tuple[str, ...]:
    """`3 of 120 WHAT` as a note, none where the count is 0."""
    return (f"{count} of {len(of)} {what}",) if count else ()
