"""Runs that are cut off, gone on with, or cannot write: nothing that was measured is lost, or measured twice."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparsity.record import from_json, run_from_json
from tests.journaled import CONFTEST, SUITE, deterministic, ran, suite

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return suite(tmp_path)


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed in its third cell."""
    folder = tmp_path_factory.mktemp("cut_off")
    suite(folder)
    killed(folder, "bert-random")
    return folder


@pytest.fixture
def left(cut_off: Path, run: Run, tmp_path: Path) -> Run:
    """What goes on in a copy of that folder."""
    shutil.copytree(cut_off, tmp_path, dirs_exist_ok=True)
    return run


def data(folder: Path, name: str = "run.json") -> Any:
    return json.loads((folder / name).read_text())


def killed(folder: Path, at: str, how: signal.Signals = signal.SIGKILL) -> str:
    """A run that a signal ends in the middle of a cell; what it had said."""
    (folder / "wait").write_text(at)
    command = [sys.executable, "-m", "pytest", "--benchmark-json=run.json", "--resume"]

    def heed() -> None:
        """Whoever runs these tests in the background may have told them to ignore an interruption."""
        signal.signal(how, signal.SIG_DFL)

    mind = None if how is signal.SIGKILL else heed
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, preexec_fn=mind) as running:
        while not (folder / "waiting").exists():
            assert running.poll() is None
            time.sleep(0.02)
        running.send_signal(how)
        output, _ = running.communicate(timeout=50)
    (folder / "wait").unlink()
    (folder / "waiting").unlink()
    return output


def test_a_run_that_ends_leaves_one_file_and_no_journal(tmp_path: Path, run: Run) -> None:
    before = set(tmp_path.iterdir())
    assert run("--benchmark-json=run.json").returncode == 1  # one of its cells fails
    new = {path.name for path in set(tmp_path.iterdir()) - before} - {"__pycache__"}
    assert new == {"run.json", "log", ".benchmarks"}


def test_killed_again_and_again_and_gone_on_with_it_is_as_if_it_had_run_through(tmp_path: Path, run: Run) -> None:
    run("--benchmark-json=whole.json")
    whole, log = data(tmp_path, "whole.json"), ran(tmp_path)
    (tmp_path / "log").unlink()
    for at in ("bert-random", "bert-l1", "gpt2-l1"):
        killed(tmp_path, at)
        assert not (tmp_path / "run.json").exists()
    result = run("--benchmark-json=run.json", "--resume")
    assert result.returncode == 1  # as the whole run, though what failed did so before a kill
    assert "deselected" in result.stdout
    again = data(tmp_path)
    assert [entry["fullname"] for entry in again["benchmarks"]] == [entry["fullname"] for entry in whole["benchmarks"]]
    assert deterministic(again) == deterministic(whole)
    assert sorted(ran(tmp_path)) == sorted(log)  # each to its end once; what a kill cut off had not got there
    assert not list(tmp_path.glob("*.journal*"))


def test_what_an_earlier_run_learnt_is_in_the_file_of_the_last(tmp_path: Path, run: Run) -> None:
    killed(tmp_path, "gpt2-l1")
    run("--benchmark-json=run.json", "--resume")
    part = run_from_json(data(tmp_path)["sparsity"])
    assert set(part.models) == {"bert", "gpt2"}
    assert part.noise_floor == pytest.approx(0.04)  # of a cell before the kill
    assert part.roofline is not None
    assert part.resumed == 1
    assert [(item.outcome, item.cell.method) for item in part.not_measured if item.cell.model == "bert"] == [
        ("failed", "worse"),
        ("skipped", "refused"),
    ]


def test_all_done_before_is_the_file_and_its_status_again(tmp_path: Path, run: Run) -> None:
    killed(tmp_path, "gpt2-last")
    (tmp_path / "test_cells.py").write_text(SUITE.replace(', "last"', ""))
    result = run("--benchmark-json=run.json", "--resume")
    assert result.returncode == 1
    assert len(data(tmp_path)["benchmarks"]) == 8  # and that of the suite's last, which is known
    assert "Traceback" not in result.stdout + result.stderr


def test_an_interrupted_run_writes_its_file_and_keeps_the_journal(tmp_path: Path, run: Run) -> None:
    output = killed(tmp_path, "gpt2-l1", signal.SIGINT)
    assert "INTERNALERROR" not in output
    assert run_from_json(data(tmp_path)["sparsity"]).not_run == 2
    assert (tmp_path / "run.json.journal").exists()
    run("--benchmark-json=run.json", "--resume")
    assert run_from_json(data(tmp_path)["sparsity"]).not_run is None


def test_a_journal_left_behind_is_not_run_over(tmp_path: Path, left: Run) -> None:
    before = (tmp_path / "run.json.journal").read_bytes()
    result = left("--benchmark-json=run.json")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "run.json.journal: holds 2 finished tests of an interrupted run; --resume goes on" in result.stderr
    assert "not run" not in result.stdout
    assert (tmp_path / "run.json.journal").read_bytes() == before


def test_a_journal_without_a_finished_test_is_begun_anew(tmp_path: Path, run: Run) -> None:
    killed(tmp_path, "bert-none")
    assert run("--benchmark-json=run.json").returncode == 1
    assert len(data(tmp_path)["benchmarks"]) == 9


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seeds=1", "--threads=2"], "threads was 1 and is 2"),
        (["--documents=20"], "documents was 1000 and is 20"),
        (["--time-per-cell=3"], 'time per cell was "the profile\'s" and is 3.0'),
    ],
)
def test_other_settings_are_refused_and_the_journal_stays(
    tmp_path: Path, left: Run, arguments: list[str], told: str
) -> None:
    before = (tmp_path / "run.json.journal").read_bytes()
    result = left("--benchmark-json=run.json", "--resume", *arguments)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert told in result.stderr
    assert (tmp_path / "run.json.journal").read_bytes() == before


def test_other_weights_under_the_same_name_end_the_run_and_are_not_kept(tmp_path: Path, left: Run) -> None:
    (tmp_path / "weights").write_text("b")
    result = left("--benchmark-json=run.json", "--resume")
    assert "bert: its weights or config.json are not those that the run began with" in result.stdout
    (tmp_path / "weights").unlink()
    left("--benchmark-json=run.json", "--resume")
    models = run_from_json(data(tmp_path)["sparsity"]).models
    assert {model.digest for model in models.values()} == {"a" * 64}
    assert len(data(tmp_path)["benchmarks"]) == 9


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--resume"], "--resume: needs the --benchmark-json"),
        (["--resume", "--benchmark-json=run.json"], "line 2 is broken"),
    ],
)
def test_what_cannot_be_gone_on_with_is_one_line(tmp_path: Path, run: Run, arguments: list[str], told: str) -> None:
    (tmp_path / "run.json.journal").write_text('{"journal": 1, "settings": {}}\nnot JSON\n')
    result = run(*arguments)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert told in result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_a_record_that_is_none_is_one_line_with_the_test_that_left_it(tmp_path: Path, left: Run) -> None:
    journal = tmp_path / "run.json.journal"
    journal.write_text(journal.read_text().replace('"schema": 1', '"schema": 9', 1))
    result = left("--benchmark-json=run.json", "--resume")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    (told,) = (line for line in result.stderr.splitlines() if line.startswith("ERROR: "))
    assert "run.json.journal: test_cells.py::test_cell[bert-none]: schema 9" in told
    assert told.endswith("mend that line, or remove the file to begin anew")


def test_without_anything_to_go_on_with_a_run_begins_anew_and_says_so(tmp_path: Path, run: Run) -> None:
    result = run("--benchmark-json=run.json", "--resume")
    assert result.returncode == 1
    assert "--resume: no run.json.journal to go on with, so the run begins anew" in result.stdout
    assert len(data(tmp_path)["benchmarks"]) == 9


def test_a_finished_run_is_not_measured_again(tmp_path: Path, run: Run) -> None:
    run("--benchmark-json=run.json")
    before = (tmp_path / "run.json").read_bytes()
    result = run("--benchmark-json=run.json", "--resume")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "run.json is there and run.json.journal is not, so that run is finished" in result.stderr
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_run_of_fewer_tests_does_not_finish_one_of_more(tmp_path: Path, run: Run) -> None:
    killed(tmp_path, "bert-l1")
    result = run("--benchmark-json=run.json", "--resume", "-k", "gpt2")
    assert "tests of the run that this went on with are still to be done" in result.stdout
    assert (tmp_path / "run.json.journal").exists()
    assert len(data(tmp_path)["benchmarks"]) == 7
    run("--benchmark-json=run.json", "--resume")
    assert len(data(tmp_path)["benchmarks"]) == 9
    assert len(ran(tmp_path)) == 9
    assert not (tmp_path / "run.json.journal").exists()


def test_what_ended_the_process_three_times_is_an_error_and_the_others_run(tmp_path: Path, left: Run) -> None:
    for _ in range(2):
        killed(tmp_path, "bert-random")
    result = left("--benchmark-json=run.json", "--resume")
    assert "it was begun 3 times and each time the whole process ended" in result.stdout
    part = run_from_json(data(tmp_path)["sparsity"])
    assert [item.cell.method for item in part.not_measured if item.outcome == "error"] == ["random"]
    assert len(data(tmp_path)["benchmarks"]) == 8


def test_what_the_budget_cut_off_is_gone_on_with(tmp_path: Path, run: Run) -> None:
    run("--benchmark-json=run.json", "--budget=0.001")
    assert not (tmp_path / "run.json").exists()
    run("--benchmark-json=run.json", "--resume", "--budget=1000")
    assert len(data(tmp_path)["benchmarks"]) == 9
    assert not (tmp_path / "run.json.journal").exists()


def small_disk(size: int) -> Callable[[], None]:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [3_000, 12_000])
def test_a_full_disk_ends_the_run_with_a_line_and_loses_nothing(tmp_path: Path, run: Run, size: int) -> None:
    command = [sys.executable, "-m", "pytest", "--benchmark-json=run.json"]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, preexec_fn=small_disk(size)
    )
    assert ended.returncode not in (0, 1)
    assert "INTERNALERROR" not in ended.stdout + ended.stderr
    assert "make room, then go on with --resume" in ended.stdout
    assert not (tmp_path / "run.json").exists()  # no half of one
    run("--benchmark-json=run.json", "--resume")
    records = [from_json(entry["extra_info"]["sparsity"]) for entry in data(tmp_path)["benchmarks"]]
    assert len(records) == 9
    assert len(ran(tmp_path)) in (9, 10)  # the test whose line the disk did not take is run once more


HANGS = """
import ctypes
from pathlib import Path

def hang():
    mutex = ctypes.create_string_buffer(256)  # all zeros: not locked
    ctypes.CDLL(None).pthread_mutex_lock(mutex)
    ctypes.CDLL(None).pthread_mutex_lock(mutex)  # what no signal ends
"""
SHORT = """
def pytest_configure():
    from sparsity import pytest_guard
    pytest_guard.GRACE = 0.5
"""
GUARDED = CONFTEST.replace('"sparsity.pytest_plugin"]', '"sparsity.pytest_plugin", "sparsity.pytest_guard"]')


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a mutex of zeros is Linux's")
def test_a_cell_that_hangs_for_good_is_kept_and_the_run_is_gone_on_with_past_it(tmp_path: Path) -> None:
    run = suite(tmp_path, GUARDED + SHORT)
    cells = SUITE.replace(
        "    benchmark.pedantic", "    if place == 'bert-l1':\n        hang()\n    benchmark.pedantic"
    )
    (tmp_path / "test_cells.py").write_text(HANGS + cells)
    assert run("--benchmark-json=run.json", "--cell-timeout=2").returncode == 70
    assert not (tmp_path / "run.json").exists()
    assert run("--benchmark-json=run.json", "--resume").returncode == 1
    assert len(data(tmp_path)["benchmarks"]) == 8
    (missing,) = (i for i in run_from_json(data(tmp_path)["sparsity"]).not_measured if i.cell.method == "l1")
    assert (missing.outcome, missing.reason.split(";")[0]) == ("failed", "gave up after 2 s (--cell-timeout)")
