"""Workers of pytest-xdist: the same file as without, time taken alone, a refusal in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sparsity.pytest_workers import CURVE, own_device
from sparsity.record import run_from_json
from tests.journaled import CONFTEST, SUITE, deterministic, ran, suite
from tests.test_pytest_journal import killed

pytest.importorskip("xdist", reason="pytest-xdist is not installed, so nothing can run side by side")

TURNS = """
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

def spend(name, benchmark, record):
    assert ("PYTEST_XDIST_WORKER" in os.environ) is name.startswith("beside")
    started = time.time()
    benchmark.pedantic(time.sleep, args=(0.3,), rounds=1)
    Path(f"{name}.span").write_text(f"{started} {time.time()}")

@pytest.mark.parametrize("model", ["a", "b", "c"])
def test_beside(benchmark, record, model):
    spend(f"beside {model}", benchmark, record)

@pytest.mark.timed
@pytest.mark.parametrize("model", ["a", "b"])
def test_alone(benchmark, record, model):
    spend(f"alone {model}", benchmark, record)
"""
FOUND = """
from sparsity.models import hub
hub.check = lambda reference: None
Bench.check_model = lambda bench, reference, quality: None
"""


def data(folder: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / name).read_text())
    return found


def test_two_workers_give_the_same_file_as_none(tmp_path: Path) -> None:
    run = suite(tmp_path)
    assert run("--benchmark-json=one.json").returncode == 1
    log = ran(tmp_path)
    (tmp_path / "log").unlink()
    result = run("--benchmark-json=two.json", "-n", "2")
    assert result.returncode == 1, result.stdout
    one, two = data(tmp_path, "one.json"), data(tmp_path, "two.json")
    assert deterministic(one) == deterministic(two)
    assert one.keys() == two.keys()
    assert [entry["fullname"] for entry in one["benchmarks"]] == [entry["fullname"] for entry in two["benchmarks"]]  # type: ignore[attr-defined]  # a list, as pytest-benchmark has it
    assert sorted(ran(tmp_path)) == sorted(log)
    assert not list(tmp_path.glob("*.journal*"))
    assert "automatically disabled" not in result.stdout + result.stderr


def test_what_is_timed_has_the_machine_to_itself(tmp_path: Path) -> None:
    run = suite(tmp_path, CONFTEST + FOUND)
    (tmp_path / "test_cells.py").write_text(TURNS)
    result = run("-n", "2", "--dist=worksteal", "--benchmark-json=run.json")
    assert result.returncode == 0, result.stdout
    spans = {path.stem: [float(each) for each in path.read_text().split()] for path in tmp_path.glob("*.span")}
    assert len(spans) == 5
    for name, (begun, ended) in spans.items():
        for other, (its_begun, its_ended) in spans.items():
            if name != other and "alone" in name:
                assert ended <= its_begun or its_ended <= begun, f"{other} ran beside {name}"


def test_a_run_of_workers_that_was_killed_is_gone_on_with(tmp_path: Path) -> None:
    run = suite(tmp_path)
    killed(tmp_path, "gpt2-l1")
    before = ran(tmp_path)
    result = run("--benchmark-json=run.json", "--resume", "-n", "2")
    assert result.returncode == 1
    run("--benchmark-json=whole.json")
    assert deterministic(data(tmp_path, "run.json")) == deterministic(data(tmp_path, "whole.json"))
    assert set(before).isdisjoint(ran(tmp_path)[len(before) : 9])


def test_what_one_worker_refuses_ends_the_run_in_one_line(tmp_path: Path) -> None:
    run = suite(tmp_path)
    (tmp_path / "test_cells.py").write_text(SUITE.replace('"gpt2"', '"./nowhere"'))
    result = run("--benchmark-json=run.json", "-n", "2")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert len(re.findall(r"^ERROR: \./nowhere: no such folder$", result.stdout, re.MULTILINE)) == 1
    assert "Traceback" not in result.stdout + result.stderr
    assert not list(tmp_path.glob("run.json*"))


@pytest.mark.parametrize(
    ("test", "curve"),
    [
        ("b/test_x.py::T::test_metric[bert-lm-l1-unstructured-layer-0.5]", "b/test_x.py::T::test_metric[bert-lm-l1"),
        ("b/test_x.py::test_y[owner/my-l1-model-none-0.0-8x64]", "b/test_x.py::test_y[owner/my-l1"),
        ("b/test_x.py::test_y[bert-random-2:4]", "b/test_x.py::test_y[bert-random"),
    ],
)
def test_points_of_a_curve_begin_alike(test: str, curve: str) -> None:
    found = CURVE.match(test)
    assert found is not None
    assert found[1] == curve


def test_what_is_no_point_of_a_curve_stands_alone() -> None:
    assert CURVE.match("b/test_x.py::test_z[bert]") is None
    assert CURVE.match("b/test_x.py::test_z") is None


@pytest.mark.parametrize("place", ["bert-l1", "gpt2-last"])
def test_a_cell_that_ends_its_worker_is_one_bad_cell(tmp_path: Path, place: str) -> None:
    run = suite(tmp_path)
    dies = f'    if place == "{place}":\n        import os\n        os._exit(9)\n    benchmark.pedantic'
    (tmp_path / "test_cells.py").write_text(SUITE.replace("    benchmark.pedantic", dies))
    result = run("--benchmark-json=run.json", "-n", "2")
    assert result.returncode == 1
    part = run_from_json(data(tmp_path, "run.json")["sparsity"])
    (missing,) = (each for each in part.not_measured if each.outcome == "error")
    assert (f"{missing.cell.model}-{missing.cell.method}", "crashed while running" in missing.reason) == (place, True)
    assert len(ran(tmp_path)) == 8
    assert not (tmp_path / "run.json.journal").exists()


@pytest.mark.parametrize(
    ("worker", "asked", "given"),
    [
        ("gw0", "cuda", "cuda:0"),
        ("gw3", "cuda", "cuda:1"),
        ("gw3", "cuda:0", "cuda:0"),
        ("gw1", "cpu", "cpu"),
        (None, "cuda", "cuda"),
    ],
)
def test_each_worker_takes_the_next_device(
    monkeypatch: pytest.MonkeyPatch, worker: str | None, asked: str, given: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    config: Any = SimpleNamespace(**({} if worker is None else {"workerinput": {"workerid": worker}}))
    assert own_device(config, asked) == given
