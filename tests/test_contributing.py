"""CONTRIBUTING.md keeps its promise: a method in ten lines and its name in one other file, as the page says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_method_of_the_page_runs_through_the_benchmarks(tmp_path: Path) -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code, imports, line = re.findall(r"```python\n(.*?)```", page, re.S)[:3]
    written = [each for each in code.splitlines() if each.strip()]
    assert len(written) <= 10
    for name in ("sparsity", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pytest.ini"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "sparsity" / "methods" / "square.py").write_text(code, encoding="utf-8")
    registry = tmp_path / "sparsity" / "methods" / "__init__.py"
    text = registry.read_text(encoding="utf-8")
    text = re.sub(r"^from sparsity.methods import .*\n", imports, text, flags=re.M)
    text = re.sub(r"^}", f"{line}}}", text, flags=re.M)
    registry.write_text(text, encoding="utf-8")

    command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-json=run.json", "--profile=smoke"]
    command += ["--models=gpt2", "--methods=square", "--sparsities=0.5", "--threads=1", "--time-per-cell=0.1"]
    command += [
        "--tasks=classification",
        "--documents=100",
        "--calibration=20",
        "-k",
        "not recovery and not composition",
    ]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    entries = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["benchmarks"]
    records = [entry["extra_info"]["sparsity"] for entry in entries]
    ours = [record for record in records if record["cell"].get("method") == "square"]
    assert {"pruned", "latency", "memory", "quality"} <= {key for record in ours for key in record}
    accuracy = [record["quality"]["value"] for record in ours if record["cell"].get("task") == "classification"]
    assert min(accuracy) > 0.9, "choosing by the square is choosing by magnitude"
