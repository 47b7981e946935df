"""What may be asked without waiting for torch: options, cells, help, collection, reports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("lm_eval", "torch", "transformers", "datasets", "evaluate", "matplotlib", "llvmlite", "ray")
KERNEL = ROOT / "sparsity" / "kernel"
"""Written in llvmlite's terms and torch's; whoever needs it imports it inside functions."""
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for folder in ("sparsity", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if KERNEL not in path.parents
]


def told(code: str) -> list[str]:
    """The lines that a fresh process prints; the last names the heavy libraries that it has imported."""
    code = f"{code}\nimport sys\nprint('imported:', *(name for name in {HEAVY!r} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize(
    "statement",
    [
        "import sparsity.options",
        "import sparsity.prune",
        "import sparsity.formats",
        "import benchmarks.axes",
        "import sparsity.pytest_plugin, sparsity.pytest_memory, sparsity.bench, sparsity.summary",
        "import reports.__main__, reports.read, reports.tables, reports.page",
    ],
)
def test_importing_brings_nothing_heavy(statement: str) -> None:
    assert told(statement) == ["imported:"]


def test_no_module_of_the_library_brings_anything_heavy() -> None:
    assert {"sparsity.prune", "sparsity.methods", "sparsity.methods.sparsegpt", "benchmarks.axes"} < set(MODULES)
    assert told(f"import {', '.join(MODULES)}") == ["imported:"]


def test_all_that_can_be_asked_for_is_known_without_anything_heavy() -> None:
    code = """
from benchmarks import axes
from sparsity import options, prune
for profile in axes.PROFILES:
    for question in axes.PROFILES[profile]:
        grids = axes.grids(options.parse({"profile": profile}), question)
        assert bool(axes.cells(grids, axes.NAMES)) == bool(grids)
assert prune.refusal("ziplm", "2:4", "row")
"""
    assert told(code) == ["imported:"]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], "--calibration="),
        (["--collect-only"], "<Function test_reaches_its_sparsity[gpt2-sparsegpt-2:4-row-0.5]>"),
        (
            ["--collect-only", "--patterns=layers", "--methods=shortgpt"],
            "[gpt2-shortgpt-layers-global-0.5-compact-8x64]>",
        ),
    ],
)
def test_looking_at_the_benchmarks_brings_nothing_heavy(arguments: list[str], shown: str) -> None:
    command = ["benchmarks", "-p", "no:cacheprovider", *arguments]
    lines = told(f"import pytest\nassert pytest.main({command!r}) == 0")
    assert lines[-1] == "imported:"
    assert any(shown in line for line in lines)
    assert not any("test_harness" in line for line in lines)  # of which no task is named
