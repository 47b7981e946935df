"""A run held against an earlier one, in small suites of fake cells."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cpuinfo
import pytest
import torch  # noqa: F401  # not first in a run within this process: its imports are forgotten, and torch bears no second one

ROOT = Path(__file__).parents[1]
CONFTEST = 'pytest_plugins = ["sparsity.pytest_plugin", "sparsity.pytest_baseline"]\n'

SUITE = """
import json
import math
import pathlib
import pytest
from sparsity.errors import Refused
from sparsity.record import Latency, Memory

VALUES = json.loads(pathlib.Path("values.json").read_text())

@pytest.mark.parametrize("model", ["bert"])
@pytest.mark.parametrize("method", VALUES["methods"])
def test_size(benchmark, record, model, method):
    benchmark.pedantic(lambda: None, rounds=1)
    if method == VALUES["refused"]:
        raise Refused("no such kernel here")
    record.memory = Memory(VALUES["bytes"].get(method, 1000), 10, "cpu profiler")
    assert method != VALUES["broken"], "got 3 zeros"

@pytest.mark.parametrize("model", ["bert"])
def test_time(benchmark, record, model):
    benchmark.pedantic(lambda: None, rounds=1)
    slower, reach = VALUES["slower"], VALUES["reach"]
    ends = [math.exp(-slower + side * reach) for side in (-1, 0, 1)]
    record.latency = Latency(1.0, 1.0, 1.0, 9, "same", speedup=ends[1], low=ends[0], high=ends[2])
"""
OTHER = """
import pytest
from sparsity.record import Memory

@pytest.mark.parametrize("model", ["gpt2"])
def test_other(benchmark, record, model):
    benchmark.pedantic(lambda: None, rounds=1)
    record.memory = Memory(7, 7, "cpu profiler")
"""
PLAIN = "def test_plain(): pass"
VALUES: dict[str, Any] = {
    "methods": ["l1", "random"], "bytes": {}, "refused": None, "broken": None, "slower": 0.0, "reach": 0.01,
}  # fmt: skip
MEASURED: list[str] = []
"""The baseline, once it was measured."""
CELL = "bert · l1 · float32"
WORSE = f"regression: {CELL}: weights_bytes 1010 where 1000 were (+1.0 %)"


class Suite:
    """Runs the suite in this process, on a processor that looks the same to all."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        pytester.makeconftest(CONFTEST)
        pytester.makepyfile(test_suite=SUITE, test_other=OTHER)

    def run(self, *arguments: str, **values: Any) -> pytest.RunResult:
        (self.pytester.path / "values.json").write_text(json.dumps(VALUES | values))
        return self.pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)

    def beside(self, *arguments: str, **values: Any) -> pytest.RunResult:
        return self.run("--sparsity-baseline=base.json", *arguments, **values)

    def data(self, name: str) -> Any:
        return json.loads((self.pytester.path / name).read_text())


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """With a baseline of three cells of one file, and one of another."""
    monkeypatch.setattr(cpuinfo, "get_cpu_info", lambda: {"brand_raw": "Brand 9"})
    found, file = Suite(pytester), pytester.path / "base.json"
    if not MEASURED:
        found.run("--benchmark-json=base.json").assert_outcomes(passed=4)
        MEASURED.append(file.read_text())
    file.write_text(MEASURED[0])
    return found


def section(result: pytest.RunResult) -> list[str]:
    """The lines about the baseline, without its own name at the end."""
    found = re.findall(r"^=+ baseline =+\n(.*?)\n=", result.stdout.str(), re.M | re.S)
    assert len(found) <= 1
    return [line.replace(" [base.json]", "") for line in found[0].splitlines()] if found else []


def counts(regressions: str, incomplete: int = 0, noisy: int = 0, cells: int = 4) -> str:
    tail = f"{regressions}, {incomplete} incomplete, {noisy} too noisy, 0 improved"
    return f"{cells} cells compared, 1 of them timed: {tail}"


def one_error(result: pytest.RunResult) -> str:
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [*result.outlines, *result.errlines]
    assert not [line for line in lines if "Traceback" in line or "INTERNALERROR" in line]
    (error,) = (line for line in lines if line.startswith("ERROR: "))
    return error


def test_a_run_beside_itself_is_fine_and_says_so(suite: Suite) -> None:
    result = suite.beside()
    result.assert_outcomes(passed=4)
    assert result.ret == 0
    assert section(result) == [counts("0 regressions")]


def test_without_a_baseline_nothing_is_compared(suite: Suite) -> None:
    result = suite.run(bytes={"l1": 1010})
    result.assert_outcomes(passed=4)
    assert section(result) == []


def test_a_cell_that_became_worse_fails_with_one_line_and_its_record_stays(suite: Suite) -> None:
    result = suite.beside("--benchmark-json=head.json", bytes={"l1": 1010})
    result.assert_outcomes(passed=3, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    told = re.search(r"^_+ test_size\[l1-bert\] _+\n(.*?)\n[_=]+ ", result.stdout.str(), re.M | re.S)
    assert told is not None
    assert told[1] == WORSE
    assert section(result) == [WORSE, counts("1 regression")]
    head = suite.data("head.json")
    records = [entry["extra_info"]["sparsity"] for entry in head["benchmarks"]]
    assert [record["outcome"] for record in records] == ["passed"] * 4
    assert head["sparsity"]["not_measured"] == []
    again = suite.run("--sparsity-baseline=head.json", bytes={"l1": 1010})
    again.assert_outcomes(passed=4)


def test_a_slower_cell_fails_beyond_the_margin(suite: Suite) -> None:
    result = suite.beside(slower=0.2)
    result.assert_outcomes(passed=3, failed=1)
    assert "regression: bert · float32: time +22.1 % [" in result.stdout.str()
    suite.beside("--sparsity-baseline-margin=0.5", slower=0.2).assert_outcomes(passed=4)


def test_what_is_too_noisy_fails_nothing_and_is_told(suite: Suite) -> None:
    result = suite.beside(reach=0.2)
    result.assert_outcomes(passed=4)
    assert result.ret == 0
    first, last = section(result)
    assert first.startswith("noisy: bert · float32: time +0.0 % [")
    assert last == counts("0 regressions", noisy=1)


def test_what_is_new_fails_nothing_and_is_told(suite: Suite) -> None:
    result = suite.beside(methods=["l1", "random", "wanda"])
    result.assert_outcomes(passed=5)
    assert result.ret == 0
    assert section(result)[0].startswith("new: bert · wanda · float32: memory measured")


def test_a_cell_that_is_missing_fails_the_run_as_a_whole(suite: Suite) -> None:
    result = suite.beside(methods=["random"])
    result.assert_outcomes(passed=3)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert section(result) == [
        f"missing: {CELL}: memory not measured; nothing says why",
        counts("0 regressions", incomplete=1, cells=3),
    ]


def test_a_cell_that_is_skipped_is_missing_with_its_reason(suite: Suite) -> None:
    result = suite.beside(refused="l1")
    result.assert_outcomes(passed=3, skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert section(result)[0] == f"missing: {CELL}: memory not measured; skipped: no such kernel here"


def test_a_test_that_fails_by_itself_is_left_alone(suite: Suite) -> None:
    result = suite.beside(broken="l1", bytes={"l1": 1010})
    result.assert_outcomes(passed=3, failed=1)
    assert "weights_bytes 1010" not in result.stdout.str()
    assert section(result)[0] == f"regression: {CELL}: failed: got 3 zeros"


@pytest.mark.parametrize(
    "arguments", [["test_suite.py"], ["-k", "random"], ["test_suite.py::test_time"], ["--deselect=test_other.py"]]
)
def test_what_was_not_asked_for_is_not_missing(suite: Suite, arguments: list[str]) -> None:
    result = suite.beside(*arguments)
    assert result.ret == 0
    assert len(section(result)) == 1
    suite.beside(*arguments, bytes={"random": 1010, "l1": 1010}, slower=0.3).assert_outcomes(
        **{
            "test_suite.py": {"failed": 3},
            "-k": {"failed": 1, "deselected": 3},
            "test_suite.py::test_time": {"failed": 1},
            "--deselect=test_other.py": {"failed": 3, "deselected": 1},
        }[arguments[0]]
    )


def test_a_run_that_stops_early_misses_nothing(suite: Suite) -> None:
    result = suite.beside("-x", "test_suite.py", bytes={"l1": 1010})
    result.assert_outcomes(failed=1)
    assert section(result)[0] == WORSE
    assert not [line for line in section(result) if line.startswith("missing")]


def test_of_another_machine_all_but_time_is_compared_and_one_line_says_so(suite: Suite) -> None:
    data = suite.data("base.json")
    data["sparsity"]["fingerprint"]["cpu"] = "Brand 8"
    (suite.pytester.path / "base.json").write_text(json.dumps(data))
    result = suite.beside(slower=0.9)
    result.assert_outcomes(passed=4)
    assert result.ret == 0
    first, last = section(result)
    assert first == "not comparable: time, on another machine or software: cpu 'Brand 9' where 'Brand 8' was"
    assert last == counts("0 regressions", incomplete=1).replace("1 of them", "0 of them")
    suite.beside(bytes={"l1": 1010}).assert_outcomes(passed=3, failed=1)


def test_of_another_setting_nothing_is_compared_that_hangs_on_it(suite: Suite) -> None:
    result = suite.beside("--head=none", bytes={"l1": 1010})
    result.assert_outcomes(passed=4)
    assert section(result)[0].startswith("not comparable: head 'none' where 'full' was; 4 measurements hang on it")


def test_many_findings_of_one_kind_are_counted(suite: Suite) -> None:
    lines = section(suite.beside(methods=["l1", "random", *(f"m{i}" for i in range(30))]))
    assert len([line for line in lines if line.startswith("new: bert")]) == 20
    assert lines[-2] == "new: 10 more"


def test_the_ini_file_names_a_baseline_beside_itself(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.pytester.makeini("[pytest]\nsparsity_baseline = base.json\nsparsity_baseline_margin = 0.5")
    suite.run(bytes={"l1": 1010}, slower=0.2).assert_outcomes(passed=3, failed=1)
    suite.run("--sparsity-baseline-margin=0.01", slower=0.2).assert_outcomes(passed=3, failed=1)


def test_tests_that_are_no_cells_know_of_no_baseline(suite: Suite) -> None:
    suite.pytester.makepyfile(test_plain=PLAIN)
    result = suite.beside("test_plain.py")
    result.assert_outcomes(passed=1)
    assert section(result) == []
    suite.pytester.makeconftest('pytest_plugins = ["sparsity.pytest_baseline"]')
    suite.beside("test_plain.py").assert_outcomes(passed=1)


def test_looking_at_the_suite_misses_nothing(suite: Suite) -> None:
    assert suite.beside("--collect-only").ret == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sparsity-baseline=nowhere.json"], "nowhere.json: no such file"),
        (["--sparsity-baseline=values.json"], "values.json: pytest-benchmark did not write this file"),
        (["--sparsity-baseline=base.json", "--sparsity-baseline-margin=5%"], "margin '5%' is not a fraction"),
        (["--sparsity-baseline=base.json", "--benchmark-disable"], "with --benchmark-disable nothing is timed"),
        (["--sparsity-baseline=base.json", "--benchmark-json=./base.json"], "--benchmark-json would write over it"),
    ],
)
def test_what_can_be_held_against_nothing_ends_the_run_before_anything_is_measured(
    suite: Suite, arguments: list[str], said: str
) -> None:
    error = one_error(suite.run(*arguments))
    assert error.startswith("ERROR: --sparsity-baseline")
    assert said in error


def test_beside_each_other_nothing_is_compared(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed, so nothing can run side by side")
    pytester.makeini(f"[pytest]\npythonpath = {ROOT}")
    pytester.makeconftest(CONFTEST)
    result = pytester.runpytest_subprocess("-n", "2", "--sparsity-baseline=base.json", "-p", "no:codspeed")
    assert "pytest-xdist runs tests side by side" in one_error(result)
