"""Which shapes of zeros are allowed: frozen values that parse and print. Standard library only.

So far the study's own pattern, `unstructured`. A pattern is a frozen class with a `parse` of its
own in `PATTERNS`; `str()` of what `parse` gives is the text again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sparsity.errors import UnknownName


@dataclass(frozen=True)
class Unstructured:
    """Any weight may go, whatever its neighbours do."""

    def __str__(self) -> str:
        return "unstructured"


Pattern = Unstructured

PATTERNS: dict[str, Callable[[], Pattern]] = {"unstructured": Unstructured}


def parse(text: str) -> Pattern:
    """The pattern that a text names; `UnknownName` lists the known ones."""
    try:
        return PATTERNS[text]()
    except KeyError:
        raise UnknownName("pattern", text, PATTERNS) from None
