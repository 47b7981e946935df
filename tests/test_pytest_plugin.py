"""The benchmark plugin in small suites of fake cells: options, records, refusals, progress, the result file."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cpuinfo
import pytest
import torch  # not first in a run within this process: its imports are forgotten, and torch bears no second one

from sparsity import progress
from sparsity.errors import ModelNotLoaded
from sparsity.models import hub
from sparsity.record import Cell, Memory, NotMeasured, Quality, Read, Record, Roofline, from_json, run_from_json

ROOT = Path(__file__).parents[1]
CONFTEST = 'pytest_plugins = ["sparsity.pytest_plugin"]\n'


def strictly(file: Path) -> Any:
    """The file by a parser that knows no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in {file.name}")

    return json.loads(file.read_text(), parse_constant=refuse)


# -- one run with every way for a cell to end -----------------------------------------------------------

STORY = """
import math
import pytest
from sparsity.errors import BadValue, ModelNotLoaded, Refused
from sparsity.measure import latency
from sparsity.record import Memory, Quality, Read, Roofline

@pytest.fixture
def prepared(method):
    if method == "refused early":
        raise Refused("no such kernel here")
    if method == "broken early":
        raise ModelNotLoaded("its file is gone; load it again")

METHODS = ["refused early", "broken early", "fine", "below", "nan", "nan and below", "tensor", "refused", "broken"]

@pytest.mark.parametrize("model", ["bert"])
@pytest.mark.parametrize("method", METHODS)
def test_story(benchmark, record, prepared, model, method):
    value = benchmark.pedantic(lambda: {"nan": math.nan, "nan and below": math.nan}.get(method, 0.25), rounds=1)
    record.memory = Memory(1000, 0, "cpu profiler")
    record.quality = Quality("accuracy", value, 0.125, 100)
    if method == "tensor":
        record.quality = Quality("accuracy", pytest.importorskip("torch").tensor(0.5), 0.125, 100)
    if method == "refused":
        raise Refused("it makes no sense")
    if method == "broken":
        raise BadValue("a value that no one can use")
    assert "below" not in method, f"got {value}, should be more\\nand a second line"

@pytest.mark.parametrize(("model", "workload"), [("gpt2", "1x8")])
def test_timed(benchmark, record, bench, model, workload):
    pair = latency.paired(benchmark, lambda: sum(range(1000)), lambda: sum(range(1000)), 0.4)
    record.latency = latency.described(pair, 0.01)
    bench.limits.roofline = Roofline({"float32": 98e9}, [Read(1 << 20, 200e9)])

@pytest.mark.parametrize("model", ["gpt2"])
@pytest.mark.parametrize("task", ["lm", "classification"])
def test_claim(bench, model, task):
    assert task == "lm", "got another task"

@pytest.mark.parametrize("method", ["l1"])
def test_claim_about_no_model(bench, method):
    assert method == "l2"

@pytest.mark.parametrize("model", ["no cell of ours"])
def test_that_is_no_cell(benchmark, model):
    benchmark.pedantic(lambda: None, rounds=1)
    raise Refused("what no one expected")
"""


@dataclass
class Story:
    status: int
    output: str
    data: Any

    def record(self, name: str) -> Record:
        (entry,) = (entry for entry in self.data["benchmarks"] if entry["name"] == name)
        return from_json(entry["extra_info"]["sparsity"])

    def not_measured(self, name: str) -> NotMeasured:
        run = run_from_json(self.data["sparsity"])
        (entry,) = (entry for entry in run.not_measured if entry.test == f"test_story.py::{name}")
        return entry


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_story.py").write_text(STORY)
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = " + str(ROOT))
    command = [sys.executable, "-m", "pytest", "--benchmark-json=run.json", "-rs"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return Story(done.returncode, done.stdout + done.stderr, strictly(folder / "run.json"))


def test_a_bad_cell_ends_no_run(story: Story) -> None:
    assert story.status == pytest.ExitCode.TESTS_FAILED
    assert "INTERNALERROR" not in story.output
    assert re.search(r"^=+ 8 failed, 3 passed, 2 skipped, .*1 error in", story.output, re.MULTILINE)


def test_a_cell_that_passed_has_its_record_in_the_result_file(story: Story) -> None:
    assert story.record("test_story[fine-bert]") == Record(
        Cell("bert", "fine", dtype="float32"),
        memory=Memory(1000, 0, "cpu profiler"),
        quality=Quality("accuracy", 0.25, 0.125, 100),
        outcome="passed",
    )


def test_a_cell_that_failed_keeps_what_it_measured_beside_the_reason(story: Story) -> None:
    record = story.record("test_story[below-bert]")
    assert (record.outcome, record.reason) == ("failed", "got 0.25, should be more")
    assert record.quality == Quality("accuracy", 0.25, 0.125, 100)
    assert story.not_measured("test_story[below-bert]").reason == record.reason


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("nan", "record.quality.value is nan, which is not a measurement"),
        ("tensor", "record.quality.value is a Tensor, which has no place in the record"),
        ("nan and below", "got nan, should be more"),  # the test's own reason says more
    ],
)
def test_what_is_no_number_fails_its_cell_and_is_not_written(story: Story, method: str, reason: str) -> None:
    name = f"test_story[{method}-bert]"
    cell = Cell("bert", method, dtype="float32")
    assert story.record(name) == Record(cell, outcome="failed", reason=reason)
    assert story.not_measured(name).outcome == "failed"
    assert reason in story.output


@pytest.mark.parametrize(
    ("name", "reason"),
    [("test_story[refused early-bert]", "no such kernel here"), ("test_story[refused-bert]", "it makes no sense")],
)
def test_a_refused_cell_is_skipped_with_its_reason_in_fixture_and_test(story: Story, name: str, reason: str) -> None:
    method = name.removeprefix("test_story[").removesuffix("-bert]")
    assert story.not_measured(name) == NotMeasured(Cell("bert", method), f"test_story.py::{name}", "skipped", reason)
    assert re.search(rf"^SKIPPED \[1\] .*: {reason}$", story.output, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "outcome", "reason"),
    [
        ("test_story[broken early-bert]", "error", "its file is gone; load it again"),
        ("test_story[broken-bert]", "failed", "a value that no one can use"),
    ],
)
def test_any_other_error_of_ours_is_one_line_without_traceback(
    story: Story, name: str, outcome: str, reason: str
) -> None:
    entry = story.not_measured(name)
    assert (entry.outcome, entry.reason) == (outcome, reason)
    section = re.search(rf"^_+ (ERROR at setup of )?{re.escape(name)} _+\n(.*?)\n[_=]+ ", story.output, re.M | re.S)
    assert section is not None
    assert section[2] == reason


def test_a_failed_claim_that_is_no_measurement_is_listed_with_its_axes(story: Story) -> None:
    name = "test_claim[classification-gpt2]"
    cell = Cell("gpt2", task="classification")
    reason = "got another task"
    assert story.not_measured(name) == NotMeasured(cell, f"test_story.py::{name}", "failed", reason)


def test_tests_that_are_no_cells_leave_nothing(story: Story) -> None:
    listed = [entry["test"] for entry in story.data["sparsity"]["not_measured"]]
    assert not [test for test in listed if "no_cell" in test or "no_model" in test]
    assert len(listed) == 9
    (entry,) = (entry for entry in story.data["benchmarks"] if "no_cell" in entry["name"])
    assert entry["extra_info"] == {}
    assert re.search(r"^E +sparsity.errors.Refused: what no one expected", story.output, re.M)  # with its traceback


def test_latency_is_of_the_calls_that_pytest_benchmark_reports(story: Story) -> None:
    (entry,) = (entry for entry in story.data["benchmarks"] if entry["name"] == "test_timed[gpt2-1x8]")
    record = story.record(entry["name"])
    assert record.latency is not None
    assert record.cell.workload == "1x8"
    assert record.latency.pruned_seconds == pytest.approx(entry["stats"]["median"])
    assert record.latency.calls == entry["stats"]["rounds"] == len(entry["stats"]["data"])
    assert record.latency.pruned_q1 <= record.latency.pruned_seconds <= record.latency.pruned_q3
    assert entry["group"] == "story gpt2"


def test_what_is_true_of_the_run_stands_once_at_the_top(story: Story) -> None:
    run = run_from_json(story.data["sparsity"])
    assert (run.profile, run.models) == ("default", {})
    assert run.roofline == Roofline({"float32": 98e9}, [Read(1 << 20, 200e9)])
    assert f"of the speed that this machine allows at best, {run.roofline}" in story.output
    assert run.fingerprint["torch"] == torch.__version__
    assert (run.fingerprint["device"], run.fingerprint["dtype"]) == ("cpu", "float32")
    assert "fingerprint" not in story.data["benchmarks"][0]["extra_info"]["sparsity"]


def test_the_run_ends_with_a_table_of_what_was_measured(story: Story) -> None:
    (text,) = re.findall(r"^=+ sparsity =+\n(.*?)\n=", story.output, re.M | re.S)
    table, *_, reasons = text.split("\n\n")
    rows = [line.split("  ")[0] for line in table.splitlines()[2:]]
    assert rows == ["bert · fine", "bert · below", "bert · broken", "gpt2 · 1x8"]
    assert "1 not measured: no such kernel here" in reasons.splitlines()


# -- options ---------------------------------------------------------------------------------------------


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Runs a suite that loads the plugin; in this process, on a processor that looks the same to all."""
    monkeypatch.setattr(cpuinfo, "get_cpu_info", lambda: {"brand_raw": "Brand 9", "hz_actual": 1, "hz_advertised": 2})
    pytester.makeconftest(CONFTEST)

    def run(*arguments: str, **files: str) -> pytest.RunResult:
        if files:
            pytester.makepyfile(**files)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)

    return run


def one_error(result: pytest.RunResult) -> str:
    """The one line of a run that could not begin."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [*result.outlines, *result.errlines]
    assert not [line for line in lines if "Traceback" in line or "INTERNALERROR" in line]
    (error,) = (line for line in lines if line.startswith("ERROR: "))
    return error


SEES = """
from sparsity.pytest_plugin import run_options

def test_sees(pytestconfig):
    options = run_options(pytestconfig)
    print("sees:", options.profile, sorted(options.axes.items()), options.threads, options.documents)
    print("calibrates:", options.calibration, options.multiple)
    print("compiles:", options.compile)
"""


def test_options_come_from_the_ini_file_and_the_command_line_wins(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    pytester.makeini("[pytest]\nsparsity_models = gpt2, bert\nsparsity_seeds = 1\nsparsity_threads = 3\n")
    command = ["--profile=smoke", "--seeds=4,5", "--documents=20", "-s"]
    (line,) = (line for line in run(*command, test_sees=SEES).outlines if "sees:" in line)
    assert line.endswith("sees: smoke [('models', ('gpt2', 'bert')), ('seeds', (4, 5))] 3 20")


@pytest.mark.parametrize(
    ("arguments", "ini", "expected"),
    [
        ([], "", "128 1"),
        ([], "sparsity_calibration = 64\nsparsity_multiple = 16", "64 16"),
        (["--calibration=24", "--multiple=8"], "sparsity_calibration = 64\nsparsity_multiple = 16", "24 8"),
    ],
)
def test_calibration_and_multiple_come_from_both_as_well(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], arguments: list[str], ini: str, expected: str
) -> None:
    pytester.makeini(f"[pytest]\n{ini}")
    lines = run(*arguments, "-s", test_sees=SEES).outlines
    assert [line for line in lines if "calibrates:" in line] == [f"calibrates: {expected}"]


@pytest.mark.parametrize(
    ("arguments", "ini", "expected"),
    [([], "", False), (["--compile"], "sparsity_compile = no", True), ([], "sparsity_compile = yes", True)],
)
def test_compile_is_a_switch(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], arguments: list[str], ini: str, expected: bool
) -> None:
    pytester.makeini(f"[pytest]\n{ini}")
    lines = run(*arguments, "-s", test_sees=SEES).outlines
    assert [line for line in lines if "compiles:" in line] == [f"compiles: {expected}"]


TRAINS = """
from sparsity.pytest_plugin import run_options

def test_trains(pytestconfig):
    options = run_options(pytestconfig)
    print("trains:", options.axes.get("recoveries"), options.learning_rate, options.training_batch)
    print("with:", options.accumulate, options.training_state)
"""


@pytest.mark.parametrize(
    ("arguments", "ini", "expected"),
    [
        ([], "", ["trains: None None 32", "with: 1 None"]),
        (
            [],
            "sparsity_recoveries = none, distill:60s\nsparsity_learning_rate = 5e-5\nsparsity_training_batch = 8\n"
            "sparsity_accumulate = 4\nsparsity_training_state = ./kept",
            ["trains: ('none', 'distill:60s') 5e-05 8", "with: 4 ./kept"],
        ),
        (
            ["--recoveries=gradual-distill:200,reconstruct", "--learning-rate=0.01", "--training-batch=16",
             "--accumulate=2", "--training-state=there"],
            "sparsity_recoveries = none\nsparsity_learning_rate = 5e-5\nsparsity_training_state = ./kept",
            ["trains: ('gradual-distill:200', 'reconstruct') 0.01 16", "with: 2 there"],
        ),
    ],
)  # fmt: skip
def test_how_recoveries_train_comes_from_both_as_well(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], arguments: list[str], ini: str, expected: list[str]
) -> None:
    pytester.makeini(f"[pytest]\n{ini}")
    lines = run(*arguments, "-s", test_trains=TRAINS).outlines
    assert [found[0] for line in lines if (found := re.search(r"(trains|with): .*", line))] == expected


SPENDS = """
import time
import pytest

@pytest.mark.parametrize("model", ["bert", "gpt2", "bart"])
def test_spends(benchmark, record, model):
    benchmark.pedantic(time.sleep, args=(0.2,), rounds=1)

def test_that_is_no_cell():
    pass
"""


def test_no_cell_is_begun_once_the_budget_is_spent(run: Callable[..., pytest.RunResult]) -> None:
    result = run("--budget=0.1", "-rs", "--benchmark-json=run.json", test_spends=SPENDS)
    result.assert_outcomes(passed=2, skipped=2)
    assert "2 not measured: the run's budget of 0.1 s was spent; --budget gives it more" in result.outlines
    assert strictly(Path("run.json"))["sparsity"]["fingerprint"]["compile"] is False
    run("--budget=100", test_spends=SPENDS).assert_outcomes(passed=4)


@pytest.mark.parametrize(
    ("arguments", "ini", "expected"),
    [
        (
            ["--methods=l1,randm"],
            "",
            ["method 'randm'", "did you mean 'random'?", "Known: none, l1, l2, random, wanda"],
        ),
        (
            ["--patterns=2:4,head"],
            "",
            ["pattern 'head'", "did you mean 'heads'?", "Known: unstructured, 2:4, 1:4, 4x1"],
        ),
        (["--patterns=4:4"], "", ["pattern '4:4'", "0 < n < m"]),
        (["--scopes=rows"], "", ["scope 'rows'", "did you mean 'row'?", "Known: row, layer, global, erk, owl"]),
        (["--calibration=21"], "", ["calibration 21 is not an even number from 20"]),
        (["--multiple=0"], "", ["multiple '0' is not a whole number from 1"]),
        (["--sparsities=0.5,1.5"], "", ["sparsity 1.5 is outside [0, 1)"]),
        (["--workloads=8x"], "", ["workload '8x' is not BATCHxLENGTH, such as 8x64"]),
        ([], "sparsity_dtype = float23", ["dtype 'float23'", "did you mean 'float32'?", "Known: float32, bfloat16"]),
    ],
)
def test_a_value_that_is_not_known_ends_the_run_with_one_line(
    pytester: pytest.Pytester,
    run: Callable[..., pytest.RunResult],
    arguments: list[str],
    ini: str,
    expected: list[str],
) -> None:
    pytester.makeini(f"[pytest]\n{ini}")
    error = one_error(run(*arguments, test_sees=SEES))
    assert [text for text in expected if text not in error] == []


@pytest.mark.parametrize("arguments", [[], ["--collect-only"]])
def test_an_axis_that_the_suite_does_not_know_ends_the_run_with_one_line(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], arguments: list[str]
) -> None:
    pytester.makeconftest(
        CONFTEST
        + """
from sparsity.errors import UnknownName

def pytest_generate_tests(metafunc):
    raise UnknownName("profile", "smok", ["smoke", "study"])
"""
    )
    result = run(*arguments, test_a="def test_a(): print('it ran')", test_b="def test_b(): print('it ran')")
    assert one_error(result) == "ERROR: unknown profile 'smok'; did you mean 'smoke'? Known: smoke, study"
    assert "it ran" not in result.stdout.str()


MODELS = """
import pytest

@pytest.mark.parametrize("model", ["gpt2", "bert", "gpt2", "gone", "also gone"])
def test_cell(record, model):
    print("it ran")

@pytest.mark.parametrize("model", ["not ours"])
def test_that_is_no_cell(model):
    print("it ran")
"""


def test_a_model_that_is_not_there_ends_the_run_before_anything_is_measured(
    run: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def check(reference: str) -> None:
        checked.append(reference)
        if "gone" in reference:
            raise ModelNotLoaded(f"{reference}: no such model")

    monkeypatch.setattr(hub, "check", check)
    result = run("-s", test_models=MODELS)
    assert one_error(result) == "ERROR: gone: no such model"
    assert checked == ["gpt2", "bert", "gone"]
    assert "it ran" not in result.stdout.str()


@pytest.mark.parametrize(("device", "there"), [("cuda", 0), ("cuda:1", 1)])
def test_a_device_that_is_not_there_ends_the_run_before_anything_is_measured(
    run: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch, device: str, there: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    result = run(f"--device={device}", "-s", test_models=MODELS)
    assert one_error(result) == f"ERROR: device {device}: torch finds {there} CUDA devices here"
    assert "it ran" not in result.stdout.str()


@pytest.mark.parametrize("argument", ["--collect-only", "--help"])
def test_looking_at_the_suite_imports_no_torch_and_loads_no_model(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    imported = "print('imported:', *(name for name in ('torch', 'transformers') if name in sys.modules))"
    pytester.makeconftest(f"import sys\n{CONFTEST}\ndef pytest_unconfigure(): {imported}")
    pytester.makepyfile(test_models=MODELS)
    result = pytester.runpytest_subprocess(argument)
    assert result.ret == 0
    assert [line for line in result.outlines if line.startswith("imported:")] == ["imported:"]
    told = {"--collect-only": ["test_cell?also gone?"], "--help": ["--sparsities=", "--calibration=", "--multiple="]}
    for each in told[argument]:
        result.stdout.fnmatch_lines([f"*{each}*"])


# -- while it runs ---------------------------------------------------------------------------------------

GRID = """
import pytest
from sparsity.record import Pruned

AXES = ("model", "method", "scope", "seed", "sparsity")
CELLS = [("bert", "l1", "layer", None, 0.5), ("bert", "l1", "layer", None, 0.9), ("bert", "random", "layer", 1, 0.5)]

@pytest.fixture
def log(request):
    with open("order.txt", "a") as file:
        print(request.node.name, file=file)

@pytest.mark.parametrize(AXES, [*CELLS, ("gpt2", "l1", "layer", None, 0.5)])
def test_first(bench, log, model, method, scope, seed, sparsity):
    pass

@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_whole_model(bench, log, model):
    pass

@pytest.mark.parametrize(AXES, CELLS[::-1])
def test_second(benchmark, record, log, model, method, scope, seed, sparsity):
    benchmark.pedantic(lambda: None, rounds=1)
    record.pruned = Pruned(0.5, 0.4, 10, 12)
"""


def test_cells_of_one_pruned_model_stand_together(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    result = run(test_grid=GRID)
    result.assert_outcomes(passed=9)
    assert (pytester.path / "order.txt").read_text().splitlines() == [
        "test_first[bert-l1-layer-None-0.5]",
        "test_second[bert-l1-layer-None-0.5]",
        "test_first[bert-l1-layer-None-0.9]",
        "test_second[bert-l1-layer-None-0.9]",
        "test_first[bert-random-layer-1-0.5]",
        "test_second[bert-random-layer-1-0.5]",
        "test_whole_model[bert]",
        "test_first[gpt2-l1-layer-None-0.5]",
        "test_whole_model[gpt2]",
    ]
    assert "left" not in result.stdout.str()  # too short a run to need a word of progress
    assert "= sparsity =" not in result.stdout.str()  # and nothing to show in a table


def test_order_of_tests_that_are_no_cells_is_left_alone(run: Callable[..., pytest.RunResult]) -> None:
    plain = """
    import pytest

    @pytest.mark.parametrize("sparsity", [[0.9], [0.1]])
    @pytest.mark.parametrize("model", [{"b"}, {"a"}])
    def test_plain(model, sparsity): print("order:", *model, *sparsity)
    """
    result = run("-s", test_plain=plain)
    assert [line.split("order: ")[1] for line in result.outlines if "order: " in line] == [
        "b 0.9",
        "b 0.1",
        "a 0.9",
        "a 0.1",
    ]


def test_progress_says_how_far_the_run_is_and_where(
    run: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    lines = run(test_grid=GRID).outlines
    found = [match for line in lines if (match := re.fullmatch(r"(\d) of 9 · (?:about (\d+) s left · )?(.*)", line))]
    assert [int(match[1]) for match in found] == list(range(1, 10))
    assert (found[0][3], found[-1][3]) == ("bert · l1 · layer · 0.5", "gpt2")
    assert found[-1][2] == "0"


# -- beside pytest-benchmark -----------------------------------------------------------------------------

TIMED = """
import pytest
from sparsity.measure import latency

@pytest.mark.parametrize("model", ["bert"])
def test_timed(benchmark, record, model):
    pair = latency.paired(benchmark, lambda: sum(range(1000)), lambda: sum(range(1000)), 0.4)
    record.latency = latency.described(pair, 0.01) if pair else None
    print("latency:", record.latency)
"""


def test_the_clock_of_the_moment_is_dropped_from_the_machine(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    run("--benchmark-json=run.json", test_timed=TIMED).assert_outcomes(passed=1)
    found = strictly(pytester.path / "run.json")["machine_info"]["cpu"]
    assert "hz_actual" not in found
    assert found["brand_raw"] == "Brand 9"


def test_settings_of_the_run_are_in_its_record_and_fingerprint(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    command = ["--dtype=bfloat16", "--threads=7", "--profile=smoke", "--benchmark-json=run.json"]
    run(*command, test_timed=TIMED).assert_outcomes(passed=1)
    data = strictly(pytester.path / "run.json")
    top = run_from_json(data["sparsity"])
    assert (top.profile, top.fingerprint["threads"], top.fingerprint["cpu"]) == ("smoke", 7, "Brand 9")
    assert from_json(data["benchmarks"][0]["extra_info"]["sparsity"]).cell == Cell("bert", dtype="bfloat16")


def test_with_timing_off_a_cell_runs_and_has_no_latency(run: Callable[..., pytest.RunResult]) -> None:
    result = run("--benchmark-disable", "-s", test_timed=TIMED)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*latency: None"])


def test_without_pytest_benchmark_the_plugin_loads_and_a_cell_says_what_is_missing(
    run: Callable[..., pytest.RunResult],
) -> None:
    result = run("-p", "no:benchmark", test_timed=TIMED, test_sees=SEES)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["E*fixture 'benchmark' not found"])


RECOVERS = """
import pytest
from sparsity.errors import Refused
from sparsity.recovery import parse
from sparsity.prune import Recipe

kept = []

@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_shares(recoveries, composed, bench, model):
    kept.append((recoveries, composed, bench))
    assert recoveries.bench is bench
    assert composed.recoveries is recoveries
    assert kept[0] == kept[-1] and all(a is b for a, b in zip(kept[0], kept[-1]))
    assert bench.subjects == {}, "nothing is loaded before it is asked for"

@pytest.mark.parametrize(("model", "task"), [("gpt2", "lm")])
def test_refuses(recoveries, model, task):
    recoveries.found(model, task, Recipe("l1", 0.5), parse("transfer:1"), [0])

@pytest.mark.parametrize(("model", "task"), [("gpt2", "lm")])
def test_refuses_a_composition(composed, recoveries, model, task):
    composed.after(model, task, (), 0)
"""


def test_all_cells_share_what_was_recovered_and_composed_and_its_refusals_are_one_line(
    run: Callable[..., pytest.RunResult],
) -> None:
    result = run("-rs", test_recovers=RECOVERS)
    result.assert_outcomes(passed=2, skipped=1, failed=1)
    reason = "recovery transfer:1 ends in a classifier; of task lm there is finetune"
    result.stdout.fnmatch_lines(
        ["*_ test_refuses_a_composition?gpt2-lm? _*", "a composition begins with a step that prunes"]
    )
    result.stdout.fnmatch_lines([f"1 not measured: {reason}", "1 failed: a composition begins with a step that prunes"])
    result.stdout.fnmatch_lines([f"SKIPPED*{reason}"])
    assert "Traceback" not in result.stdout.str()


def test_all_cells_share_one_bench(run: Callable[..., pytest.RunResult]) -> None:
    suite = """
    from sparsity.pytest_plugin import run_options

    SEEN = []

    def test_a(bench): SEEN.append(bench)

    def test_b(bench, pytestconfig):
        assert SEEN == [bench] and SEEN[0] is bench
        assert bench.options is run_options(pytestconfig)
    """
    run(test_bench=suite).assert_outcomes(passed=2)


# -- runs that end early, or cannot be timed -------------------------------------------------------------

LONG = """
import time
import pytest
from sparsity.record import Memory

@pytest.mark.parametrize("model", ["bert"])
@pytest.mark.parametrize("method", ["first", "second", "third"])
def test_cell(benchmark, record, model, method):
    if method == "second":
        open("begun", "w").close()
    benchmark.pedantic(time.sleep, args=(60 if method == "second" else 0.001,), rounds=1)
    record.memory = Memory(1000, 0, "cpu profiler")
"""


@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGTERM])
def test_what_was_measured_before_an_interruption_is_written(tmp_path: Path, signalled: signal.Signals) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_long.py").write_text(LONG)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\nfilterwarnings = error")
    command = [sys.executable, "-m", "pytest", "--benchmark-json=run.json"]

    def heed() -> None:
        """Whoever runs these tests in the background may have told them to ignore an interruption."""
        signal.signal(signalled, signal.SIG_DFL)

    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, preexec_fn=heed, **pipes) as running:
        while not (tmp_path / "begun").exists():
            assert running.poll() is None
            time.sleep(0.05)
        time.sleep(0.3)
        running.send_signal(signalled)
        output, _ = running.communicate(timeout=50)
    assert "INTERNALERROR" not in output
    assert "The run was stopped: 2 tests were not run." in output
    data = strictly(tmp_path / "run.json")
    assert [entry["name"] for entry in data["benchmarks"]] == ["test_cell[first-bert]"]
    assert run_from_json(data["sparsity"]).not_run == 2


def test_a_run_that_ran_to_its_end_says_nothing_of_it(story: Story) -> None:
    assert run_from_json(story.data["sparsity"]).not_run is None
    assert "stopped" not in story.output


def test_a_run_that_stops_at_a_failure_keeps_what_the_failed_cell_measured(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    suite = TIMED + "    assert model is None\n\ndef test_other():\n    pass"
    run("-x", "--benchmark-json=run.json", test_timed=suite).assert_outcomes(failed=1)
    data = strictly(pytester.path / "run.json")
    assert from_json(data["benchmarks"][0]["extra_info"]["sparsity"]).outcome == "failed"
    assert run_from_json(data["sparsity"]).not_run == 1


@pytest.mark.parametrize("file", ["nowhere/run.json", "test_sees.py/run.json"])
def test_a_result_file_that_cannot_be_written_is_told_before_anything_is_measured(
    run: Callable[..., pytest.RunResult], file: str
) -> None:
    error = one_error(run(f"--benchmark-json={file}", test_sees=SEES))
    assert error.startswith(f"ERROR: --benchmark-json {file}: the folder ")
    assert error.endswith(" is not there or may not be written to")


def test_an_error_of_collection_is_one_line_with_a_result_file_too(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    pytester.makeini((ROOT / "pytest.ini").read_text().replace("testpaths = tests", "").replace("pythonpath = .", ""))
    error = one_error(run("--device=cuda:7", "--benchmark-json=run.json", test_timed=TIMED))
    assert "cuda:7" in error


def test_beside_each_other_cells_are_not_timed_and_say_why(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed, so nothing can run side by side")
    pytester.makeini(f"[pytest]\npythonpath = {ROOT}")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_timed=TIMED, test_sees=SEES)
    result = pytester.runpytest_subprocess("-n", "2", "-rs", "-p", "no:codspeed")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*pytest-xdist runs tests side by side, so no time means anything*"])


def test_under_codspeed_a_cell_runs_without_error(pytester: pytest.Pytester) -> None:
    pytest.importorskip("pytest_codspeed", reason="pytest-codspeed is not installed")
    pytester.makeini(f"[pytest]\npythonpath = {ROOT}")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_timed=TIMED)
    result = pytester.runpytest_subprocess("--codspeed", "-s", "-p", "no:xdist")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*latency: None"])
