"""What a report says, as plain values that know no markup: tables, parts, pictures, the whole.

Every string is plain text, whatever it holds; whoever renders it escapes it, once. What is not there is None or empty.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of cells under headers; false where there is no row."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()
    text_columns: int = 1
    """So many of the first columns are words, set left; the others are numbers, set right."""

    def __bool__(self) -> bool:
        return bool(self.rows)


@dataclass(frozen=True)
class Picture:
    """A figure, by the stem of its files."""

    stem: str
    description: str
    """What is drawn, for those too who cannot see it."""
    provenance: str = ""
    """Machine, commit and models."""
    cells: tuple[str, ...] = ()
    """Whose numbers are drawn."""


@dataclass(frozen=True)
class Part:
    """A titled part of the report; what it holds stands in the order of these fields."""

    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    """A list of sentences."""
    table: Table | None = None
    notes: tuple[str, ...] = ()
    """What is to be known of the table."""
    pictures: tuple[Picture, ...] = ()
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    answer: Part | None
    """What a reader wants to know first; None where the run does not answer it."""
    caveats: tuple[str, ...]
    """What the reader must know beside the answer."""
    parts: tuple[Part, ...]
