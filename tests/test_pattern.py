"""Patterns: what is printed parses back, what is unknown is refused with the known ones."""

from __future__ import annotations

import pytest

from sparsity import pattern
from sparsity.errors import UnknownName


@pytest.mark.parametrize("text", pattern.PATTERNS)
def test_what_is_printed_parses_back(text: str) -> None:
    parsed = pattern.parse(text)
    assert str(parsed) == text
    assert pattern.parse(str(parsed)) == parsed


@pytest.mark.parametrize("text", ["", "Unstructured", "2:4", "unstructured "])
def test_what_is_unknown_is_refused_with_the_known(text: str) -> None:
    with pytest.raises(UnknownName, match=r"unknown pattern .* Known: unstructured"):
        pattern.parse(text)
