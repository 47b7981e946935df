"""The report as Markdown. Everything is escaped here, once, so nothing that a string holds becomes markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from reports.document import Document, Part, Picture, Table
from reports.words import escape

_BEGINNING = re.compile(r"^(\d*)([-#+=.)])")
"""What would begin a heading, a list or a line under a heading."""


def render(document: Document) -> str:
    """The page; its pictures stand beside it as `<stem>.png` and `<stem>.svg`."""
    found = [f"# {escape(document.title)}"]
    if document.answer is not None:
        found += _part(document.answer, 2)
    found += map(_block, document.caveats)
    for part in document.parts:
        found += _part(part, 2)
    return "\n\n".join(text for text in found if text) + "\n"


def table(found: Table | None) -> str:
    """A pipe table; empty without a row."""
    if not found:
        return ""
    rows = [[escape(cell) for cell in row] for row in found.rows]
    return pipes([escape(header) for header in found.headers], rows, found.text_columns)


def pipes(headers: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """A pipe table of cells that are Markdown already; the first `text_columns` are set left, the rest right."""
    if not rows:
        return ""
    align = ["left" if i < text_columns else "right" for i in range(len(headers))]
    text: str = tabulate(rows, headers, tablefmt="pipe", colalign=align, disable_numparse=True)
    return text


def _part(part: Part, level: int) -> list[str]:
    return [
        f"{'#' * level} {escape(part.title)}",
        *map(_block, part.paragraphs),
        "\n".join(f"- {_block(point)}" for point in part.points),
        table(part.table),
        _block(" ".join(part.notes)),
        *map(_picture, part.pictures),
        *_each(part.parts, level + 1),
    ]


def _each(parts: Iterable[Part], level: int) -> list[str]:
    return [text for part in parts for text in _part(part, level)]


def _block(text: str) -> str:
    """A line of its own, which nothing at its beginning makes more than that."""
    return _BEGINNING.sub(r"\1\\\2", escape(text))


def _picture(picture: Picture) -> str:
    about, stem = escape(picture.description), picture.stem
    return f"![{about}]({stem}.png)\n\n[{stem} as SVG]({stem}.svg)"
