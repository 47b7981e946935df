"""A small suite of cells that can be killed in any of them, and what of its result file is the same in every run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONFTEST = """
from sparsity.bench import Bench
from sparsity.measure import machine

pytest_plugins = ["sparsity.pytest_workers", "sparsity.pytest_plugin"]
machine.fingerprint = lambda device, dtype, threads: {"torch": "none was needed", "threads": threads}
Bench.check_device = lambda bench: None
"""
"""A machine that can be known without torch, since these suites are run many times."""
ON_NODES = CONFTEST.replace(
    '"sparsity.pytest_plugin"]', '"sparsity.pytest_plugin", "sparsity.pytest_guard", "sparsity.pytest_ray"]'
)
"""The same with what `--ray` needs."""
SUITE = """
import time
from pathlib import Path

import pytest
from sparsity.errors import Refused
from sparsity.record import Memory, Model, Read, Roofline

@pytest.mark.parametrize("method", ["none", "worse", "random", "refused", "l1", "last"])
@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_cell(request, benchmark, record, bench, model, method):
    place = f"{model}-{method}"
    if Path("wait").exists() and Path("wait").read_text() == place:
        Path("waiting").touch()
        time.sleep(60)
    if method == "refused":
        raise Refused("no such kernel here")
    if place == "gpt2-worse":
        raise Refused("nor here")
    digest = Path("weights").read_text() * 64 if Path("weights").exists() else "a" * 64
    bench.models[model] = Model(f"Of {model}", "embedded", True, digest=digest)
    if place == "bert-none":
        bench.noise[model, "8x64"] = [0.04]
        bench.limits.roofline = Roofline({"float32": 98e9}, [Read(1 << 20, 200e9)])
    benchmark.pedantic(sum, args=([1, 2],), rounds=1)
    record.memory = Memory(1000 + len(place), 7, "cpu profiler")
    with Path("log").open("a") as log:
        log.write(place + "\\n")
    assert method != "worse", "worse than promised"
"""


QUICK = "-p no:hypothesispytest"
"""Without what is imported at the end of each run to say nothing."""
ONCE = ("noise_floor", "noisy", "roofline", "resumed")
"""What is true of one run, and not of another of the same cells."""


def suite(folder: Path, conftest: str = CONFTEST) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Writes the suite into a folder, and gives what runs it there."""
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_cells.py").write_text(SUITE)
    ini = (
        f"[pytest]\npythonpath = {ROOT}\naddopts = -p no:cacheprovider {QUICK}\n"
        "filterwarnings = error\nsparsity_threads = 1\n"
    )
    (folder / "pytest.ini").write_text(ini)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    return run


def ran(folder: Path) -> list[str]:
    """The cells that were measured to their end, in order."""
    return (folder / "log").read_text().splitlines()


def deterministic(data: Any) -> Any:
    """What two runs of one suite must agree in: all but times, and what depends on them."""
    cells = {}
    for entry in data["benchmarks"]:
        record = {name: value for name, value in entry["extra_info"]["sparsity"].items() if name != "latency"}
        cells[entry["fullname"]] = {**{name: entry[name] for name in ("group", "name", "params")}, "record": record}
    part = {name: value for name, value in data["sparsity"].items() if name not in ONCE}
    return {
        "cells": cells,
        "part": {**part, "not_measured": sorted(part["not_measured"], key=lambda each: each["test"])},
    }
