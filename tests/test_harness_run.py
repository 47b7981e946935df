"""A whole run over a task of lm-eval, from the command line to the result file; nothing of it where none is named."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from sparsity.options import Options
from tests.harness import builders

pytest.importorskip("lm_eval", reason="lm-eval is not installed; the extra harness brings it")

ROOT = Path(__file__).parents[1]
PYTEST = (sys.executable, "-m", "pytest", str(ROOT / "benchmarks"), "-p", "no:cacheprovider", "--models=gpt2,bert")


def run(*words: str, where: Path) -> subprocess.CompletedProcess[str]:
    command = (*PYTEST, f"--rootdir={ROOT}", f"-c{ROOT / 'pytest.ini'}", *words)
    return subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)


def test_a_task_is_a_cell_for_each_pruned_causal_model(tmp_path: Path) -> None:
    builders.lay(tmp_path / "tasks", builders.CHOICE | {"metric_list": [{"metric": "acc", "aggregation": "mean"}]})
    words = ("--harness=topic", "--harness-tasks=tasks", "--harness-limit=30", "--methods=l1", "--sparsities=0.9")
    grid = ("--patterns=unstructured", "--scopes=layer", "--threads=1", "-k=test_harness")
    result = run(*words, *grid, "--benchmark-json=run.json", where=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "tasks of lm-evaluation-harness ask causal language models, which bert is not" in result.stdout
    assert "note: lm-eval: [Task: topic] metric acc is defined, but higher_is_better is not" in result.stdout
    assert not result.stderr
    data = json.loads((tmp_path / "run.json").read_text())
    dense, pruned = (entry["extra_info"]["sparsity"] for entry in data["benchmarks"])
    assert (dense["cell"]["task"], dense["harness"]["documents"]) == ("harness:topic", 30)
    assert pruned["harness"]["delta"] == pruned["harness"]["value"] - dense["harness"]["value"]
    assert pruned["harness"]["verdict"] == "lost"
    assert (pruned["harness"]["metric"], pruned["pruned"]["prunable_sparsity"]) == ("acc", pytest.approx(0.9, abs=1e-3))
    assert "quality" not in pruned
    assert {"lm-eval", "harness:topic", "harness limit"} <= data["sparsity"]["fingerprint"].keys()


@pytest.mark.parametrize(
    ("file", "arguments", "harness", "ignored"),
    [
        ("test_harness.py", ["benchmarks"], (), True),
        ("test_harness.py", ["benchmarks"], ("topic",), None),
        ("test_harness.py", ["benchmarks/test_harness.py::TestHarness"], (), None),
        ("test_memory.py", ["benchmarks"], (), None),
    ],
)
def test_its_file_is_no_question_unless_a_task_or_the_file_is_named(
    file: str, arguments: list[str], harness: tuple[str, ...], ignored: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import conftest

    monkeypatch.setattr(conftest, "run_options", lambda config: Options(harness=harness))
    config: Any = types.SimpleNamespace(args=arguments)
    assert conftest.pytest_ignore_collect(ROOT / "benchmarks" / file, config) is ignored
