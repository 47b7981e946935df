"""The memory plugin in someone else's suite: alone, exact, and silent until asked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import cpuinfo
import pytest

from sparsity.measure import memory

ROOT = Path(__file__).parents[1]

SUITE = """
import torch

def test_product(peak_memory):
    left, right = torch.ones(10, 20), torch.ones(20, 30)
    peak = peak_memory(lambda: left @ right, "cpu")
    assert (peak.bytes, peak.source) == (1200, "cpu profiler")

def test_timed_too(peak_memory, benchmark):
    function = lambda: torch.ones(1000, dtype=torch.uint8)
    benchmark.pedantic(function, rounds=2)
    assert peak_memory(function, device="cpu", warmups=0).bytes == 1000

def test_too_much(peak_memory):
    assert peak_memory(lambda: torch.zeros(3, 1000), "cpu").bytes <= 11_999

def test_of_nothing(peak_memory):
    pass
"""
ALONE = """
import sys

def pytest_unconfigure():
    ours = sorted(name for name in sys.modules if name.startswith("sparsity.pytest"))
    print("ours:", *ours, "torch:", "torch" in sys.modules)
"""
PROPERTIES = {"test_product": "1200", "test_timed_too": "1000", "test_too_much": "12000", "test_of_nothing": None}


@pytest.fixture(autouse=True, scope="module")
def _torch_and_its_profiler_are_imported() -> None:
    """Not first in a run within this process: its imports are forgotten, and torch bears no second one."""
    memory.peak_memory(lambda: None)


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder that knows nothing of us."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(cpuinfo, "get_cpu_info", dict)  # a second for each result file, and no part of any claim
    pytester.makepyfile(test_theirs=SUITE)
    return pytester


def arguments(name: str) -> list[str]:
    plugins = ["-p", "sparsity.pytest_memory", "-p", "no:cacheprovider"]
    return [*plugins, "--show-peak-memory", f"--junit-xml={name}.xml", f"--benchmark-json={name}.json", "-q"]


def properties(file: Path) -> dict[str, str | None]:
    """The bytes that JUnit readers find, by test."""
    cases = ElementTree.parse(file).iter("testcase")  # noqa: S314  # written by pytest a moment ago
    found = {case.get("name", ""): case.find("properties/property[@name='peak_memory_bytes']") for case in cases}
    return {name: None if element is None else element.get("value") for name, element in found.items()}


def table(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if re.search(r"\d bytes  test_", line)]


def test_in_a_fresh_process_and_in_this_one_every_run_gives_the_same_bytes(suite: pytest.Pytester) -> None:
    suite.makeconftest(ALONE)
    runs = [
        suite.runpytest_subprocess(*arguments("a")),
        suite.runpytest_inprocess(*arguments("b")),
        suite.runpytest_inprocess(*arguments("c")),
    ]
    for name, result in zip("abc", runs, strict=True):
        result.assert_outcomes(passed=3, failed=1)
        result.stdout.fnmatch_lines(["*assert 12000 <= 11999*"])
        assert properties(suite.path / f"{name}.xml") == PROPERTIES
        (timed,) = json.loads((suite.path / f"{name}.json").read_text())["benchmarks"]
        assert timed["extra_info"] == {"peak_memory": {"bytes": 1000, "source": "cpu profiler"}}
        assert table(result) == [
            "         12,000 bytes  test_theirs.py::test_too_much  (cpu profiler)",
            "          1,200 bytes  test_theirs.py::test_product  (cpu profiler)",
            "          1,000 bytes  test_theirs.py::test_timed_too  (cpu profiler)",
        ]
    assert "ours: sparsity.pytest_memory torch: True" in runs[0].outlines


def test_without_being_asked_it_prints_nothing_and_needs_no_benchmark_plugin(suite: pytest.Pytester) -> None:
    command = ["-p", "sparsity.pytest_memory", "-p", "no:benchmark", "-k", "product or much"]
    result = suite.runpytest_inprocess(*command)
    result.assert_outcomes(passed=1, failed=1)
    assert "peak memory" not in result.stdout.str()
    assert table(result) == []


def test_torch_is_not_imported_before_something_is_measured(suite: pytest.Pytester) -> None:
    suite.makeconftest(ALONE)
    suite.makepyfile(test_theirs="def test_of_nothing(peak_memory): assert callable(peak_memory)")
    result = suite.runpytest_subprocess("-p", "sparsity.pytest_memory", "--show-peak-memory")
    result.assert_outcomes(passed=1)
    assert "ours: sparsity.pytest_memory torch: False" in result.outlines
    assert table(result) == []


def test_the_device_is_cuda_where_there_is_one_else_the_cpu(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def measured(function: object, device: str, warmups: int) -> object:
        asked.append((device, warmups))
        from sparsity.measure.memory import Peak

        return Peak(0, "test")

    monkeypatch.setattr("sparsity.measure.memory.peak_memory", measured)
    suite.makepyfile(
        test_theirs="""
        import pytest, torch

        @pytest.mark.parametrize("there", [False, True])
        def test_device(peak_memory, monkeypatch, there):
            monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
            peak_memory(print)
            peak_memory(print, "cuda:3", warmups=5)
        """
    )
    suite.runpytest_inprocess("-p", "sparsity.pytest_memory").assert_outcomes(passed=2)
    assert asked == [("cpu", 1), ("cuda:3", 5), ("cuda", 1), ("cuda:3", 5)]
