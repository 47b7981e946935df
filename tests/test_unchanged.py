"""Unchanged code beside itself: what counts as a false alarm, and what each process is given. A fake measures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import unchanged
from benchmarks.alternate import Arm
from tests.reports import builders


def run(seconds: float = 1.0, weights: int = 0, **changes: float) -> dict[str, Any]:
    """A result file of two cells; the time ratio of one of them, and the bytes of the other, as told."""
    timed = builders.latency("bert", 0.9, "csr", verdict="same", speedup=1 / seconds, low=0.99 / seconds, **changes)
    held = builders.memory("bert", 0.9, "csr")
    entries = [(f"benchmarks/test_{i}.py::test_it[csr]", record) for i, record in enumerate((timed, held))]
    data = builders.run_json(entries, not_measured=[])
    data["benchmarks"][1]["extra_info"]["sparsity"]["memory"]["weights_bytes"] += weights
    return data


def steady(seconds: float = 1.0, weights: int = 0) -> dict[str, Any]:
    return run(seconds, weights, high=1.01 / seconds, noise_floor=0.01)


class Runs:
    """Stands for the processes: leaves one file after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *files: dict[str, Any]) -> None:
        self.left, self.seeds, self.given = list(files), list[int](), list[tuple[str, ...]]()
        monkeypatch.setattr(unchanged, "measured", self.measured)

    def measured(self, arm: Arm, seed: int, file: Path, arguments: list[str]) -> Path:
        self.seeds.append(seed)
        self.given.append(tuple(arguments))
        file.write_text(json.dumps(self.left.pop(0)))
        return file


def said(capsys: pytest.CaptureFixture[str]) -> tuple[list[list[str]], str]:
    """The table's lines as cells, and the last line."""
    lines = capsys.readouterr().out.splitlines()
    return [line.split(maxsplit=7) for line in lines[2:-2]], lines[-1]


def test_runs_that_agree_raise_no_alarm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    runs = Runs(monkeypatch, steady(), steady(1.002), steady(0.999))
    assert unchanged.main(["--runs", "2", "--", "--models", "bert"]) == 0
    rows, last = said(capsys)
    assert rows == [["2", "1", "0", "0", "1", "0", "0"], ["3", "2", "0", "0", "1", "0", "0"]]
    assert last == "0 of 2 comparisons raise a false alarm; 0 of 2 times are too noisy."
    assert runs.seeds == [1, 2, 3]
    assert runs.given == [("--models", "bert")] * 3


def test_a_time_that_differs_is_a_false_alarm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Runs(monkeypatch, steady(), steady(1.2), steady())
    assert unchanged.main(["--runs", "2"]) == 1
    rows, last = said(capsys)
    assert rows[0][:7] == ["2", "1", "0", "1", "1", "1", "0"]
    assert rows[0][7].startswith("regression: bert")
    assert rows[1][3] == "0"  # faster again
    assert last.startswith("1 of 2 comparisons raise a false alarm")


def test_bytes_that_differ_are_one_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Runs(monkeypatch, steady(), steady(weights=4))
    assert unchanged.main(["--runs", "1"]) == 1
    assert said(capsys)[0][0][2] == "1"


def test_too_noisy_is_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Runs(monkeypatch, steady(), run(high=2.0, noise_floor=0.01))
    assert unchanged.main(["--runs", "1"]) == 0
    rows, last = said(capsys)
    assert rows[0][:7] == ["2", "1", "0", "3", "1", "0", "1"]
    assert last == "0 of 1 comparisons raise a false alarm; 1 of 1 times are too noisy."


def test_the_margin_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    Runs(monkeypatch, steady(), steady(1.2))
    assert unchanged.main(["--runs", "1", "--margin", "0.5"]) == 0


def test_files_are_kept_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Runs(monkeypatch, steady(), steady())
    unchanged.main(["--runs", "1", "--out", str(tmp_path / "kept")])
    assert sorted(file.name for file in (tmp_path / "kept").iterdir()) == ["run-1.json", "run-2.json"]


def test_a_checkout_that_cannot_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unchanged.main(["--runs", "1", "--checkout", str(tmp_path / "nowhere"), "--out", str(tmp_path)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "cannot be run in" in line
