"""The plugin that keeps a bad cell to itself, in small suites of fake cells."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cpuinfo
import pytest
import torch  # not first in a run within this process: its imports are forgotten, and torch bears no second one

from sparsity import time_limit
from sparsity.pytest_guard import HUNG
from sparsity.record import NotMeasured, Record, from_json, run_from_json
from tests.journaled import QUICK

ROOT = Path(__file__).parents[1]
CONFTEST = 'pytest_plugins = ["sparsity.pytest_plugin", "sparsity.pytest_guard"]\n'
POSIX = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of POSIX are needed")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="only a GPU can show it")


@dataclass
class Run:
    """A suite that was run."""

    status: int
    output: str
    data: Any

    def failed(self, name: str) -> NotMeasured:
        """The entry of a test that left no number."""
        (entry,) = (
            each for each in run_from_json(self.data["sparsity"]).not_measured if each.test.endswith(f"::{name}")
        )
        return entry

    def record(self, name: str) -> Record:
        """What a test left in the result file."""
        (entry,) = (entry for entry in self.data["benchmarks"] if entry["name"] == name)
        return from_json(entry["extra_info"]["sparsity"])

    def section(self, name: str) -> str:
        """What the terminal says of a test that failed."""
        found = re.search(rf"^_+ (?:ERROR at setup of )?{re.escape(name)} _+\n(.*?)\n[_=]+ ", self.output, re.M | re.S)
        assert found is not None, self.output
        return found[1]


def ran(folder: Path, tests: str, *arguments: str, conftest: str = "") -> Run:
    """A suite of one file, run with warnings as errors; its result file where there is one."""
    (folder / "conftest.py").write_text(CONFTEST + conftest)
    (folder / "test_story.py").write_text(tests)
    warnings = "error\n    default::pytest_benchmark.logger.PytestBenchmarkWarning"
    (folder / "pytest.ini").write_text(
        f"[pytest]\npythonpath = {ROOT}\nsparsity_threads = 1\nfilterwarnings =\n    {warnings}\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:codspeed",
        *QUICK.split(),
        "--benchmark-json=run.json",
        *arguments,
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    file = folder / "run.json"
    data = json.loads(file.read_text()) if file.is_file() and file.stat().st_size else None
    return Run(done.returncode, done.stdout + done.stderr, data)


Here = Callable[..., Run]


@pytest.fixture
def here(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Here:
    """Runs a suite of one file within this process, which is quicker."""
    monkeypatch.setattr(cpuinfo, "get_cpu_info", lambda: {"brand_raw": "Brand 9"})

    def run(tests: str, *arguments: str, **more: str) -> Run:
        pytester.makeconftest(CONFTEST)
        pytester.makepyfile(test_story=tests, **more)
        command = ["-p", "no:cacheprovider", "-p", "no:codspeed", "--benchmark-json=run.json", *arguments]
        result = pytester.runpytest_inprocess(*command)
        file = pytester.path / "run.json"
        data = json.loads(file.read_text()) if file.is_file() and file.stat().st_size else None
        return Run(int(result.ret), "\n".join([*result.outlines, *result.errlines]), data)

    return run


# -- exceptions ------------------------------------------------------------------------------------

STORY = """
import weakref
import numpy, pytest, torch
from sparsity.record import Quality

HELD = []

def host(): torch.empty(2**62 // 8)
def gpu(): raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity")
def kernel(): torch.nn.Linear(2, 3)(torch.ones(4, 5))
def leaves(): raise SystemExit(3)
def outside(): numpy.empty(2**62 // 8)

WAYS = {"host": host, "gpu": gpu, "kernel": kernel, "outside": outside}

def breaks(way):
    held = torch.ones(1000)
    HELD.append(weakref.ref(held))
    WAYS[way]()

@pytest.fixture
def prepared(method):
    if method.startswith("early "):
        breaks(method.removeprefix("early "))

METHODS = [*WAYS, *(f"{when} {way}" for when in ("early", "timed", "late") for way in WAYS), "claim", "exit", "fine"]

@pytest.mark.parametrize("model", ["bert"])
@pytest.mark.parametrize("method", METHODS)
def test_story(benchmark, record, prepared, model, method):
    assert not [ref for ref in HELD if ref() is not None], "the cell before holds on to its memory"
    if method in WAYS:
        breaks(method)
    calls = []
    def call():
        calls.append(1)
        if method.startswith("timed ") and len(calls) == 3:
            breaks(method.removeprefix("timed "))
    benchmark.pedantic(call, rounds=5)
    record.quality = Quality("accuracy", 0.25, 0.125, 100)
    if method.startswith("late "):
        breaks(method.removeprefix("late "))
    if method == "claim":
        held = torch.ones(1000)
        HELD.append(weakref.ref(held))
        assert held.sum() == 1, "got more"
    if method == "exit":
        leaves()

def test_no_cell():
    kernel()
"""
NO_ROOM = re.escape("; smaller --workloads, a smaller --training-batch, fewer --documents, ")
REASONS = {
    "host": rf"out of memory on the host \(2\.0 EiB more were asked for\){NO_ROOM}.*",
    "gpu": rf"out of memory on cuda:0 \(20\.00 GiB more were asked for\){NO_ROOM}.*",
    "outside": rf"out of memory on the host \(4\.00 EiB more were asked for\){NO_ROOM}.*",
    "kernel": r"RuntimeError: mat1 and mat2 shapes cannot be multiplied \(4x5 and 2x3\)",
}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return ran(tmp_path_factory.mktemp("story"), STORY)


def test_a_bad_cell_ends_no_run_and_the_status_says_that_there_was_one(story: Run) -> None:
    assert story.status == pytest.ExitCode.TESTS_FAILED
    assert "INTERNALERROR" not in story.output
    assert re.search(r"^=+ 15 failed, 1 passed, 4 errors in", story.output, re.MULTILINE), story.output


@pytest.mark.parametrize("when", ["", "early ", "timed ", "late "])
@pytest.mark.parametrize("way", REASONS)
def test_whatever_breaks_a_cell_is_one_line_wherever_it_happens(story: Run, when: str, way: str) -> None:
    name = f"test_story[{when}{way}-bert]"
    entry = story.failed(name)
    assert entry.outcome == ("error" if when == "early " else "failed")
    assert re.fullmatch(REASONS[way], entry.reason)
    first, *more = story.section(name).splitlines()
    assert first == entry.reason
    assert len(more) == (way == "kernel")


def test_where_something_is_broken_is_told_in_the_terminal_alone(story: Run) -> None:
    _, where = story.section("test_story[kernel-bert]").splitlines()
    assert re.fullmatch(r"  in Linear.forward, torch/\S+linear.py:\d+, from kernel, test_story.py:\d+", where)
    assert "linear.py" not in json.dumps(story.data)


def test_a_half_timed_cell_has_no_times_in_the_result_file_and_one_that_broke_later_keeps_its_record(
    story: Run,
) -> None:
    names = {entry["name"] for entry in story.data["benchmarks"]}
    kept = {f"late {way}" for way in REASONS} | {"claim", "exit", "fine"}
    assert names == {f"test_story[{method}-bert]" for method in kept}
    late = story.record("test_story[late kernel-bert]")
    assert (late.outcome, late.reason) == ("failed", story.failed("test_story[late kernel-bert]").reason)
    assert late.quality is not None


def test_claims_and_tests_that_are_no_cells_are_told_by_pytest(story: Run) -> None:
    assert story.failed("test_story[claim-bert]").reason == "got more"
    assert "assert held.sum() == 1" in story.section("test_story[claim-bert]")
    assert ">           leaves()" in story.section("test_story[exit-bert]")
    assert ">       kernel()\n" in story.section("test_no_cell")


def test_memory_is_given_back_before_the_next_cell(story: Run) -> None:
    reasons = [entry.reason for entry in run_from_json(story.data["sparsity"]).not_measured]
    assert not [reason for reason in reasons if "holds on to its memory" in reason]
    assert story.record("test_story[fine-bert]").outcome == "passed"


def test_a_cell_that_broke_before_it_was_timed_is_not_warned_of(story: Run) -> None:
    assert "was not used at all" not in story.output


ONE = """
import pytest
from sparsity.record import Quality

@pytest.mark.parametrize("model", ["bert"])
@pytest.mark.parametrize("method", ["bad", "good"])
def test_one(benchmark, record, model, method):
    record.quality = benchmark.pedantic(Quality, args=("accuracy", 0.25, 0.125, 100), rounds=1)
    if method == "bad":
        {breaks}
"""


def test_whoever_asks_for_tracebacks_sees_them_below_the_same_reason(here: Here) -> None:
    run = here(ONE.format(breaks="{}['gone']"), "--tb=short")
    assert run.failed("test_one[bad-bert]").reason == "KeyError: 'gone'"
    reason, *more = run.section("test_one[bad-bert]").splitlines()
    assert reason == "KeyError: 'gone'"
    assert more[0] == "Traceback (most recent call last):"
    assert more[-1] == "KeyError: 'gone'"


def test_whoever_debugs_meets_the_exception_itself(here: Here) -> None:
    debugger = """
class Debugger:
    def __init__(self, **how): pass
    def reset(self): pass
    def interaction(self, frame, found): print("meets", found)
    def set_quit(self): pass
    quitting = False
"""
    run = here(ONE.format(breaks="{}['gone']"), "--pdb", "--pdbcls=debugger:Debugger", debugger=debugger)
    assert "meets KeyError('gone')" in run.output or "meets <traceback" in run.output, run.output
    assert re.search(r"^E +KeyError: 'gone'$", run.output, re.M)


def test_an_unknown_fixture_is_told_with_those_that_there_are(here: Here) -> None:
    output = here(ONE.format(breaks="pass").replace("(benchmark,", "(nowhere, benchmark,")).output
    assert "fixture 'nowhere' not found" in output
    assert "available fixtures: " in output


def test_the_users_interrupt_ends_the_run(here: Here) -> None:
    with pytest.raises(KeyboardInterrupt):
        here(ONE.format(breaks="raise KeyboardInterrupt"))


def test_where_cuda_can_run_nothing_any_more_the_run_stops_and_says_how_to_go_on(here: Here) -> None:
    text = r"CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"
    run = here(ONE.format(breaks=f'raise RuntimeError("{text}")'))
    assert run.status == pytest.ExitCode.INTERRUPTED
    why = "RuntimeError: CUDA error: device-side assert triggered"
    assert f"Interrupted: nothing can run on the GPU any more ({why}); --resume goes on behind this cell" in run.output
    assert "1 failed in" in run.output
    assert (
        run.failed("test_one[bad-bert]").reason
        == f"{why} (nothing can run on this GPU any more until the process ends)"
    )
    assert run.data["sparsity"]["not_run"] == 1


@GPU
def test_memory_of_a_gpu_is_given_back(tmp_path: Path) -> None:
    tests = """
import pytest, torch

@pytest.mark.parametrize("model", ["bert"])
@pytest.mark.parametrize("method", ["bad", "good"])
def test_one(record, benchmark, model, method):
    assert benchmark.pedantic(torch.cuda.memory_reserved) == 0
    half = torch.cuda.mem_get_info()[1] * 3 // 5
    held = [torch.empty(half, dtype=torch.uint8, device="cuda") for _ in range(2 if method == "bad" else 1)]
"""
    run = ran(tmp_path, tests)
    assert run.failed("test_one[bad-bert]").reason.startswith("out of memory on cuda:0 (")
    assert "1 failed, 1 passed" in run.output


@GPU
def test_a_gpu_that_is_really_lost_stops_the_run(tmp_path: Path) -> None:
    breaks = "import torch; torch.ones(3, device='cuda')[torch.tensor([7], device='cuda')].cpu()"
    run = ran(tmp_path, ONE.format(breaks=breaks))
    assert run.status == pytest.ExitCode.INTERRUPTED
    assert run.data["sparsity"]["not_run"] == 1


# -- what may be half changed ------------------------------------------------------------------------

HALF = """
import signal
import pytest, torch
from sparsity import prune, recovery, training
from sparsity.formats import FORMATS
from sparsity.recoveries import Key

RECIPE = prune.Recipe("l1", 0.5)
SEEN = []
TRAINED = []

def breaks(method):
    if method.startswith("late"):
        signal.raise_signal(signal.SIGVTALRM)  # as if the time were over just now
    raise RuntimeError("half way")

@pytest.fixture
def breaking(monkeypatch, method):
    def convert(model, layers, masks):
        layers[0].weight.zero_()  # which no format may do
        breaks(method)
    if method.endswith("format"):
        unsupported = FORMATS["csr"].unsupported
        broken = type("Broken", (), dict(unsupported=unsupported, convert=staticmethod(convert)))
        monkeypatch.setitem(FORMATS, "csr", broken())
    if method.endswith("pruning"):
        write, done = prune.write, []
        def broken(*given):
            done.append(1)
            if len(done) == 3:
                breaks(method)
            write(*given)
        monkeypatch.setattr(prune, "write", broken)
    if method.endswith("training"):
        step, made = training._step, []
        def broken(*given):
            made.append(1)
            if len(made) == 2:
                breaks(method)
            return step(*given)
        monkeypatch.setattr(training, "_step", broken)

def right(bench, subject):
    pruned = bench.pruned(subject, RECIPE)
    own = prune.workspace(subject.loaded.model)
    expected = [layer.weight for layer in prune.prune(own, RECIPE, subject.loaded.model).layers]
    same = [torch.equal(layer.weight, weight) for layer, weight in zip(pruned.layers, expected, strict=True)]
    assert all(same), "half changed weights are taken for granted"
    return pruned

METHODS = [f"{when} {what}" for when in WHENS for what in ("format", "good", "pruning", "good again")]

@pytest.mark.parametrize("model", ["bert"])
@pytest.mark.parametrize("method", METHODS)
def test_half(benchmark, record, bench, breaking, model, method):
    subject = bench.subject(model, "lm")
    if method.endswith("pruning"):
        subject.current = None
    pruned = right(bench, subject)
    expected, executed = (bench.call(each, "1x8")() for each in (pruned.model, bench.executed(pruned, "csr", "1x8")))
    benchmark.pedantic(lambda: None, rounds=1)
    assert torch.allclose(expected, executed, atol=1e-4)

@pytest.mark.parametrize("model", ["bert"])
@pytest.mark.parametrize("method", [f"{when} {what}" for when in WHENS for what in ("first", "second")])
def test_kept(benchmark, record, bench, recoveries, composed, model, method):
    benchmark.pedantic(lambda: None, rounds=1)
    subject = bench.subject(model, "lm")
    SEEN.append(subject.loaded.model)
    if method.endswith("second"):
        got = SEEN[-1] is SEEN[-2], recoveries.last is not None, bool(composed.made)
        assert got == (not method.startswith("late"),) * 3
        assert (subject.current, bench.fastest) == (None, (None, {}))
        return
    pruned = bench.pruned(subject, RECIPE)
    bench.fastest = pruned, {}
    recoveries.last = composed.made["key"] = "key", pruned
    breaks(method)

@pytest.mark.parametrize("model", ["bert"])
@pytest.mark.parametrize("method", ["first", *(f"{when} {what}" for when in WHENS for what in ("training", "again"))])
def test_trained(benchmark, record, bench, recoveries, breaking, model, method):
    benchmark.pedantic(lambda: None, rounds=1)
    recoveries.outcomes.clear()
    scores = recoveries.scores(Key(model, "lm", RECIPE, recovery.parse("finetune:2"), 0))
    TRAINED.append(scores.numerators.tolist())
    assert TRAINED[-1] == TRAINED[0], "another training than the first"
"""


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Why each cell failed, by test and method."""
    whens = ("exact", "late") if hasattr(signal, "pthread_kill") else ("exact",)
    run = ran(tmp_path_factory.mktemp("half"), f"WHENS = {whens}\n{HALF}", "--cell-timeout=500", "--documents=20")
    assert run.status == pytest.ExitCode.TESTS_FAILED, run.output
    failed = run_from_json(run.data["sparsity"]).not_measured
    return {entry.test.removeprefix("test_story.py::"): entry.reason for entry in failed}


WHENS = [("exact", "RuntimeError: half way"), pytest.param("late", "gave up after 500 s (--cell-timeout)", marks=POSIX)]


@pytest.mark.slow
@pytest.mark.parametrize(("when", "reason"), WHENS)
def test_after_a_format_or_a_method_that_broke_half_way_the_next_cell_has_the_right_numbers(
    half: dict[str, str], when: str, reason: str
) -> None:
    found = {test: why for test, why in half.items() if test.startswith(f"test_half[{when} ")}
    assert found == dict.fromkeys((f"test_half[{when} {what}-bert]" for what in ("format", "pruning")), reason)


@pytest.mark.slow
@pytest.mark.parametrize(("when", "reason"), WHENS)
def test_models_that_were_interrupted_are_not_used_again_and_those_that_met_an_exception_are(
    half: dict[str, str], when: str, reason: str
) -> None:
    found = {test: why for test, why in half.items() if test.startswith(f"test_kept[{when} ")}
    assert found == {f"test_kept[{when} first-bert]": reason}


@pytest.mark.slow
@pytest.mark.parametrize(("when", "reason"), WHENS)
def test_a_recovery_whose_training_was_cut_off_is_trained_anew_to_the_same_end(
    half: dict[str, str], when: str, reason: str
) -> None:
    found = {
        test: why for test, why in half.items() if test.startswith(("test_trained[first", f"test_trained[{when} "))
    }
    assert found == {f"test_trained[{when} training-bert]": reason}


# -- time ----------------------------------------------------------------------------------------------

SLOW = """
import time
import pytest

@pytest.fixture
def prepared(method):
    if method == "early":
        time.sleep(60)

@pytest.mark.parametrize("model", ["bert"])
@pytest.mark.parametrize("method", ["early", "timed", "late", "swallowed", "good"])
def test_one(benchmark, record, prepared, model, method):
    benchmark.pedantic(lambda: time.sleep(60 * (method == "timed")), rounds=1)
    while method == "swallowed":
        try:
            time.sleep(60)
        except Exception:  # which makes do with whatever happens
            pass
    time.sleep(60 * (method == "late"))

def test_no_cell():
    time.sleep(1.2)
"""


@POSIX
def test_a_cell_that_takes_too_long_is_given_up_wherever_it_is(here: Here) -> None:
    before = signal.getsignal(signal.SIGVTALRM), signal.getsignal(signal.SIGALRM)
    run = here(SLOW, "--cell-timeout=1")
    assert run.status == pytest.ExitCode.TESTS_FAILED
    found = {entry.cell.method: entry for entry in run_from_json(run.data["sparsity"]).not_measured}
    outcomes = {"early": "error", "timed": "failed", "late": "failed", "swallowed": "failed"}
    assert {method: entry.outcome for method, entry in found.items()} == outcomes, run.output
    assert {entry.reason for entry in found.values()} == {"gave up after 1 s (--cell-timeout)"}
    reason, place = run.section("test_one[late-bert]").splitlines()
    assert (reason, place[:12]) == (found["late"].reason, "  in test_on")
    assert [entry["name"] for entry in run.data["benchmarks"]] == ["test_one[good-bert]"]
    assert (signal.getsignal(signal.SIGVTALRM), signal.getsignal(signal.SIGALRM)) == before


def test_a_time_out_that_cannot_be_had_is_told_and_the_run_goes_on(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "unavailable", lambda: "there are no signals")
    run = here(ONE.format(breaks="pass"), "--cell-timeout=1")
    told = "--cell-timeout is not available: there are no signals; cells may take as long as they like"
    assert run.output.count(told) == 1
    assert "2 passed" in run.output
    assert told not in here(ONE.format(breaks="pass").replace("test_one", "test_two")).output


HANGS = """
import ctypes
import pytest

@pytest.mark.parametrize("model", ["bert"])
@pytest.mark.parametrize("method", ["good", "hangs"])
def test_one(benchmark, record, model, method):
    benchmark.pedantic(lambda: None, rounds=1)
    if method == "hangs":
        mutex = ctypes.create_string_buffer(256)  # all zeros: not locked
        {library}(None).pthread_mutex_lock(mutex)
        {library}(None).pthread_mutex_lock(mutex)  # what no signal ends
"""
SHORT = """
from pathlib import Path

def pytest_configure():
    from sparsity import pytest_guard
    pytest_guard.GRACE = 0.5

def pytest_cell_hung(item, reason):
    Path("hung").write_text(f"{item.nodeid} {reason}")
"""
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a mutex of zeros is Linux's")


@LINUX
def test_a_cell_that_never_returns_ends_the_process_once_others_have_kept_what_they_know(tmp_path: Path) -> None:
    run = ran(tmp_path, HANGS.format(library="ctypes.CDLL"), "--cell-timeout=0.5", conftest=SHORT)
    assert run.status == HUNG
    test, reason = "test_story.py::test_one[hangs-bert]", "gave up after 0.5 s (--cell-timeout); 0.5 s later it had not"
    assert (
        f"{test}: {reason} returned from native code. The run ends with status {HUNG}; --resume goes on" in run.output
    )
    assert (tmp_path / "hung").read_text() == f"{test} {reason} returned from native code"


@LINUX
def test_one_that_lets_no_thread_run_ends_the_process_with_its_stacks(tmp_path: Path) -> None:
    run = ran(tmp_path, HANGS.format(library="ctypes.PyDLL"), "--cell-timeout=0.5", conftest=SHORT)
    assert run.status == 1
    assert "Timeout (0:00:01" in run.output
    assert re.search(r'File ".*test_story.py", line \d+ in test_one', run.output)
    assert not (tmp_path / "hung").exists()
