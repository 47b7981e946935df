"""Who may import whom: reads the imports of every file and holds the house's plan to them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEVELS: dict[str, int] = {
    "errors": -3, "rules": -3, "new_folder": -2, "strict_json": -2, "timing": -1, "judging": -1, "download": -1,
    "pooling": 0, "pattern": 0, "record": 0, "allocation": 0, "positions": 0, "closeness": 0, "recovery": 0, "data": 0,
    "schema": 1, "validation": 1,
    "nodes": 1, "frontier": 2, "answers": 3, "result_file": 2, "gate": 2, "gate_time": 3,
    "gate_machines": 3, "gate_join": 4, "comparison": 5,
    "mask": 1, "calibration": 1, "hessian": 1, "bypass": 1, "compressed": 1, "models": 1, "tasks": 1, "measure": 1,
    "activation": 1, "kernel": 1, "training_state": 1, "training": 2,
    "residence": 2, "methods": 2, "groups": 2, "watch": 2, "losses": 3, "gather": 3, "reconstruct": 4,
    "workload": 2, "blueprint": 2, "distribution": 2, "units": 2,
    "sparse_storage": 2, "shrink": 3, "elements": 4, "grouped": 4,
    "formats": 4, "rebuild": 4, "limits": 5, "prune": 5, "train_embedded": 5,
    "auto": 5, "compiling": 5, "execution": 6, "recover": 6, "saving": 7,
    "options": 7, "bench": 7, "composition": 7,
    "harness": 5, "harness_summary": 6,
    "recoveries": 8, "compositions": 9, "about_times": 2, "summary": 7, "progress": 7, "pytest_memory": 7, "cells": 7,
    "streaming": 6, "classifier": 4, "own_documents": 5, "fine_tune": 8, "prune_streamed": 8,
    "failures": 0, "time_limit": 0, "pytest_guard": 10,
    "journal": 1, "pytest_workers": 8, "pytest_entry": 8, "pytest_journal": 9,
    "cost": 0, "cluster": 1, "pytest_ray_worker": 11, "pytest_ray": 12,
    "pytest_plugin": 10, "pytest_baseline": 10, "doctor": 10, "capabilities": 10,
}  # fmt: skip
"""A file imports from lower levels, or from its own folder; errors are for everyone."""
LAZY = {"transformers", "datasets", "evaluate", "lm_eval", "yaml"}
"""Imported inside functions only."""
STANDARD_ONLY = {
    "allocation",
    "answers",
    "comparison",
    "cost",
    "errors",
    "failures",
    "frontier",
    "gate",
    "gate_join",
    "gate_machines",
    "gate_time",
    "nodes",
    "pattern",
    "pooling",
    "record",
    "recovery",
    "result_file",
    "rules",
    "schema",
    "strict_json",
    "time_limit",
    "timing",
}
FOR_REPORTS = {
    "answers", "comparison", "errors", "frontier", "gate", "gate_join", "gate_machines", "gate_time", "judging",
    "nodes", "pattern", "pooling", "record", "recovery", "result_file",
}  # fmt: skip
OF_THE_SUITE_ITSELF = {
    "mutations": {"alternate", "mutated_files", "mutated_sources"},
    "unchanged": {"alternate"},
    "kills": {"alternate"},
    "scale": {"alternate", "overhead"},
    "overhead": {"alternate", "equality", "kills"},
    "faults": {"alternate", "equality", "kills"},
    "streamed": {"alternate"},
}
"""Scripts beside the benchmarks, which measure the suite and no model; what else they import of their own."""
WITH_PYTEST = {
    *(
        f"pytest_{name}"
        for name in ("memory", "guard", "plugin", "entry", "journal", "workers", "baseline", "ray", "ray_worker")
    ),
    "cells",
}


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """Modules that a file imports at run time; those for the type checker alone left out."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        pending += ast.iter_child_nodes(node)


def room(path: Path) -> str:
    """`prune` for sparsity/prune.py, `models` for sparsity/models/hub.py."""
    return path.relative_to(ROOT / "sparsity").parts[0].removesuffix(".py")


def rooms_imported(path: Path) -> set[str]:
    found = {name.split(".")[1] for name in imports(path) if name.startswith("sparsity.")}
    return found & LEVELS.keys()


ROOMS = [path for path in files("sparsity") if path != ROOT / "sparsity" / "__init__.py"]


def test_every_room_has_a_level() -> None:
    assert {room(path) for path in ROOMS} == LEVELS.keys()


@pytest.mark.parametrize("path", ROOMS, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_from_below(path: Path) -> None:
    here = room(path)
    above = {other for other in rooms_imported(path) - {here} if LEVELS[other] >= LEVELS[here]}
    assert not above, f"{path.name} (level {LEVELS[here]}) imports {sorted(above)}"


@pytest.mark.parametrize("path", ROOMS, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_are_imported_late_and_pytest_in_the_plugins_alone(path: Path) -> None:
    at_the_top = {name.split(".")[0] for name in imports(path, top_level_only=True)}
    assert not at_the_top & LAZY
    everywhere = {name.split(".")[0] for name in imports(path)}
    assert "pytest" not in everywhere or room(path) in WITH_PYTEST
    assert "benchmarks" not in everywhere
    assert "reports" not in everywhere
    if room(path) in STANDARD_ONLY:
        import sys

        assert everywhere <= sys.stdlib_module_names | {"sparsity"}


@pytest.mark.parametrize("folder", ["methods", "formats"])
def test_methods_and_formats_know_neither_their_peers_nor_each_other(folder: str) -> None:
    shared = {"methods": {"protocol", "scored"}, "formats": {"protocol"}}[folder]
    other = {"methods": "formats", "formats": "methods"}[folder]
    for path in files(f"sparsity/{folder}"):
        if path.stem == "__init__":
            continue
        assert other not in rooms_imported(path), path
        peers = {name.split(".")[2] for name in imports(path) if name.startswith(f"sparsity.{folder}.")}
        assert peers <= shared, f"{path.name} imports its peers {sorted(peers - shared)}"


def test_the_report_knows_the_records_alone() -> None:
    for path in files("reports"):
        ours = {name for name in imports(path) if name.startswith("sparsity")}
        assert all(name.split(".")[1] in FOR_REPORTS for name in ours if "." in name), path
        others = {name.split(".")[0] for name in imports(path)}
        assert not others & {"torch", "pytest", "benchmarks", "transformers"}, path


def test_benchmark_files_import_only_the_axes_and_the_shared_claims() -> None:
    for path in files("benchmarks"):
        peers = {name.split(".")[1] for name in imports(path) if name.startswith("benchmarks.")}
        assert peers <= {"axes", "curves"} | OF_THE_SUITE_ITSELF.get(path.stem, set()), path


def test_conftest_stays_short() -> None:
    assert len((ROOT / "conftest.py").read_text(encoding="utf-8").splitlines()) <= 110
