"""Runs that are killed again and again: what counts as lost, as measured twice, and that real kills lose nothing."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import kills
from sparsity import journal
from sparsity.journal import Entry, Journal
from tests.journaled import suite
from tests.reports import builders

NAMES = [f"benchmarks/test_{i}.py::test_it[csr]" for i in range(2)]


def written(file: Path, names: Sequence[str] = NAMES, seconds: float = 1.0, weights: int = 0) -> Path:
    """A result file with a memory cell for each name."""
    data = builders.run_json([(name, builders.memory("bert", 0.9, "csr")) for name in names[:1]], not_measured=[])
    first = data["benchmarks"][0]
    first["extra_info"]["sparsity"]["memory"]["weights_bytes"] += weights
    data["benchmarks"] = [{**first, "fullname": name, "stats": {"data": [seconds]}} for name in names]
    file.write_text(json.dumps(data))
    return file


def test_times_that_stood_in_the_journal_are_kept_or_measured_twice(tmp_path: Path) -> None:
    file, run = written(tmp_path / "run.json"), kills.Run(1)
    assert kills.held_against(file, {NAMES[0]: [1.0]}, run) == (1, 2)
    assert (run.twice, run.fine) == (0, True)
    kills.held_against(file, {NAMES[0]: [1.5]}, run)
    assert (run.twice, run.fine) == (1, False)


def test_a_cell_that_stands_in_the_file_twice_was_measured_twice(tmp_path: Path) -> None:
    run = kills.Run(1)
    kills.held_against(written(tmp_path / "run.json", [NAMES[0]] * 2), {}, run)
    assert run.twice == 1


def test_a_cell_that_is_missing_is_lost_and_a_number_that_differs_is_told(tmp_path: Path) -> None:
    whole, run = written(tmp_path / "whole.json", NAMES[:1]), kills.Run(1)
    kills.beside_whole(whole, written(tmp_path / "run.json", NAMES[:1], seconds=2.0), run)
    assert run.fine
    kills.beside_whole(whole, written(tmp_path / "run.json", NAMES[:1], weights=10**9), run)
    assert run.differing
    kills.beside_whole(whole, written(tmp_path / "run.json", NAMES[1:]), run)
    assert run.lost == 1


def test_lines_of_a_journal_are_counted_each(tmp_path: Path) -> None:
    book = Journal(journal.beside(tmp_path / "run.json"), {})
    for _ in range(2):
        book.append(
            Entry("test_a", "passed", benchmark={"fullname": "test_a", "extra_info": {}, "stats": {"data": [1.0]}})
        )
    assert kills.done_in(tmp_path / "run.json") == {"test_a": 2}
    assert kills.times_in(tmp_path / "run.json") == {"test_a": [1.0]}
    book.close(finished=True)
    assert not kills.done_in(tmp_path / "run.json")


def test_a_run_that_is_killed_for_real_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kills, "MOST_TESTS", 4)
    monkeypatch.setattr(kills, "EARLY", 0)
    monkeypatch.setattr(kills, "MOMENT", 0.01)
    words = [sys.executable, "-m", "pytest", "-q", str(tmp_path)]
    monkeypatch.setattr(kills, "command", lambda file, given: [*words, f"--benchmark-json={file}", *given])
    (tmp_path / "test_cells.py").write_text((tmp_path / "test_cells.py").read_text() + "    time.sleep(0.2)\n")
    run = kills.until_through(1, tmp_path / "run.json", [], 3, random.Random(0))
    assert run.done_before == sorted(run.done_before)
    assert 1 <= len(run.done_before) <= 3
    assert (run.cells, run.kept > 0, run.twice) == (9, True, 0)
    assert "1 kills" in kills.report([kills.Run(1, [3], cells=9)])
    assert not list(tmp_path.glob("*.journal"))


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old.json").touch()
    assert kills.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
