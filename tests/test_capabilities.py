"""The page of what works together is what the code says, and the code does what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsity import capabilities, pattern, prune
from sparsity.methods import METHODS
from sparsity.models.families import ARCHITECTURES

ROOT = Path(__file__).parent.parent


def test_the_page_in_the_docs_is_the_generated_one() -> None:
    written = (ROOT / "docs" / "what-works.md").read_text(encoding="utf-8")
    assert written == capabilities.page() + "\n", "run: python -m sparsity.capabilities > docs/what-works.md"


def test_it_names_every_method_and_family() -> None:
    page = capabilities.page()
    assert all(f"`{name}`" in page for name in [*METHODS, *ARCHITECTURES] if name != "none")


@pytest.mark.parametrize("method", [name for name in METHODS if name != "none"])
def test_every_method_can_do_something_and_each_dash_has_a_reason(method: str) -> None:
    row = next(line for line in capabilities.methods().splitlines() if f"`{method}`" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
    assert any(cell != "–" for cell in cells)
    for text, cell in zip(capabilities.PATTERNS, cells, strict=True):
        refused = {scope: prune.refusal(method, text, scope) for scope in pattern.parse(text).scopes}
        assert set(cell.split(", ")) - {"–"} == {scope for scope, reason in refused.items() if reason is None}
        assert all(f"- `{method}`: {reason}" in capabilities.reasons() for reason in refused.values() if reason)
