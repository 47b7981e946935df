"""The benchmark of the measurement itself: how verdicts are counted, what slower means, one process of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import measurement

ROOT = Path(__file__).parent.parent


def in_turns(more: float, verdict: str, ratio: float = 1.0) -> dict[str, Any]:
    found = {"more": more, "verdict": verdict, "ratio": ratio, "half_width": 0.01}
    return {"extra_info": {"measurement": found | {"noise_floor": 0.02, "forward_share": 0.99}}}


def alone(more: float, trial: int, arm: str, **stats: float) -> dict[str, Any]:
    return {"extra_info": {"measurement": {"more": more, "trial": trial, "arm": arm}}, "stats": stats}


def pair(more: float, trial: int, **ratios: float) -> list[dict[str, Any]]:
    """Two arms one after the other, with the ratios of their statistics."""
    dense = dict.fromkeys(ratios, 0.01)
    return [
        alone(more, trial, "dense", **dense),
        alone(more, trial, "copy", **{k: 0.01 * ratios[k] for k in ratios}),
    ]


def test_one_after_the_other_is_judged_by_each_statistic_against_the_same_margin() -> None:
    entries = [*pair(0.0, 0, median=1.0, mean=1.031, min=0.96), *pair(0.0, 1, median=1.029, mean=0.98, min=1.0)]
    assert list(measurement.verdicts(entries)) == [
        (0.0, "median", "same"),
        (0.0, "mean", "slower"),
        (0.0, "min", "faster"),
        (0.0, "median", "same"),
        (0.0, "mean", "same"),
        (0.0, "min", "same"),
    ]


def test_in_turns_keeps_its_own_verdict() -> None:
    entries = [in_turns(0.05, "slower"), in_turns(0.0, "inconclusive")]
    assert list(measurement.verdicts(entries)) == [
        (0.05, "in turns", "slower"),
        (0.0, "in turns", "inconclusive"),
    ]


def test_the_table_counts_over_processes() -> None:
    first = {"benchmarks": [in_turns(0.0, "same"), in_turns(0.05, "slower", 1.06)]}
    second = {"benchmarks": [in_turns(0.0, "same"), *pair(0.0, 0, median=1.2, mean=1.2, min=1.2)]}
    verdicts, numbers = measurement.report([first, second]).split("\n\n")
    lines = [line.split("  ") for line in verdicts.splitlines()[2:]]
    cells = [[each.strip() for each in line if each.strip()] for line in lines]
    assert cells[0] == ["+0%", "in turns (this suite)", "2", "0", "2", "0", "0"]
    assert cells[1] == ["+0%", "one after the other, median beyond 3%", "1", "0", "0", "1", "0"]
    assert cells[-1] == ["+5%", "in turns (this suite)", "1", "0", "0", "1", "0"]
    assert "1.060" in numbers.splitlines()[-1] or "1.06" in numbers.splitlines()[-1]


def test_slowed_by_a_fraction_does_that_much_more() -> None:
    calls: list[str] = []

    def called(name: str) -> object:
        calls.append(name)
        return name

    arms = measurement.Arms(
        lambda: called("dense"), lambda: called("copy"), lambda: called("unit"), 0.01, lambda: 0.01, 2.0
    )
    assert arms.slowed(0.05)() == "copy"
    assert calls == ["copy"] + ["unit"] * 5
    calls.clear()
    arms.slowed(0.0)()
    assert calls == ["copy"]


@pytest.mark.slow
def test_a_process_of_it_runs(tmp_path: Path) -> None:
    environment = os.environ | {"MEASUREMENT": json.dumps({"model": "gpt2", "cells": [[0.5, 1]]})}
    file = tmp_path / "run.json"
    command = [sys.executable, "-m", "pytest", "benchmarks/measurement.py", f"--benchmark-json={file}"]
    command += ["--benchmark-max-time=0.1", "--time-per-cell=0.3", "--threads=1", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(file.read_text())["benchmarks"]
    assert len(found) == 3
    assert {way for _, way, _ in measurement.verdicts(found)} == {"in turns", "median", "mean", "min"}
