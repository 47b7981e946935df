"""How numbers and outside strings are written: digits, units, escapes, file names. Standard library only.

Model ids, reasons and fingerprints come from outside, so nothing of theirs may become markup:
`escape` for Markdown, `slugs` for file names; HTML is escaped by its template engine. What is missing is written as
a dash, never 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MISSING = "\u2013"
MEBI = 2**20
_MARKUP = re.compile(r"([\\`*_\[\]|~$])")


def escape(text: object) -> str:
    """The text as one line of Markdown that shows exactly its characters, also inside a table cell."""
    shown = line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\1", shown)


def line(text: object) -> str:
    """The text on one line, without characters that are not printed."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def number(value: float | None, digits: int = 3) -> str:
    """At least `digits` significant digits, whole numbers in full up to a million; a dash for None."""
    if value is None:
        return MISSING
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-4:
        return f"{value:.{digits - 1}e}"
    if size >= 10 ** (digits - 1):
        return f"{value:.0f}"
    return f"{value:#.{digits}g}".rstrip(".")


def mebibytes(size: float | None) -> str:
    """Bytes as MiB (2^20 bytes), without the unit."""
    return MISSING if size is None else number(size / MEBI)


def fraction(value: float | None) -> str:
    """A sparsity as the plain fraction that was asked for: 0.95."""
    return MISSING if value is None else f"{value:.6g}"


def signed(value: float | None, digits: int = 3) -> str:
    """As `number`, with its sign; 0 has none."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 else text


def slugs(names: Iterable[str]) -> dict[str, str]:
    """A file-name part for each name: letters, digits, dot, dash, underscore; unique whatever the letter case."""
    taken: set[str] = set()
    found: dict[str, str] = {}
    for name in sorted(set(names)):
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[-80:].strip("-.") or "model"
        slug, count = stem, 1
        while slug.lower() in taken:
            count += 1
            slug = f"{stem}-{count}"
        taken.add(slug.lower())
        found[name] = slug
    return found
