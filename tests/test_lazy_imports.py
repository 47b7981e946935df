"""What may be asked without waiting for torch: options, cells, help, reports."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "datasets", "evaluate", "matplotlib")


@pytest.mark.parametrize(
    "statement",
    [
        "import sparsity.options, sparsity.bench, sparsity.pytest_plugin, sparsity.pytest_memory, sparsity.summary",
        "import sparsity.prune, sparsity.execution, sparsity.models.hub, sparsity.tasks.quality",
        "import benchmarks.axes",
        "import reports.__main__, reports.read, reports.tables, reports.page",
    ],
)
def test_importing_brings_nothing_heavy(statement: str) -> None:
    code = f"{statement}; import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
