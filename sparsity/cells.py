"""What the plugin knows of a test: its axes, what it measured, and why it left no number.

A `SparsityError` inside a test or fixture is one line, not a traceback: a `Refused` cell is skipped
with its reason, any other is an error. Either way the result file lists it as not measured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from sparsity.errors import Refused, SparsityError
from sparsity.measure import machine, ratio
from sparsity.record import (
    Cell,
    Latency,
    Memory,
    NotMeasured,
    Pruned,
    Quality,
    Record,
    Recovered,
    RunPart,
    Scalar,
    Training,
    Weights,
)

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from sparsity.bench import Bench
    from sparsity.options import Options
    from sparsity.progress import Progress

CELL_AXES = frozenset(Cell.__dataclass_fields__)
OURS = frozenset({"record", "bench", "recoveries"})
"""Fixtures by which a test is known as one of a benchmark's: a parameter may be called `model` anywhere."""


@dataclass
class Recorder:
    """What one test measured; absent until it is set."""

    cell: Cell
    benchmark: BenchmarkFixture
    pruned: Pruned | None = None
    latency: Latency | None = None
    memory: Memory | None = None
    quality: Quality | None = None
    recovered: Recovered | None = None
    training: Training | None = None
    weights: Weights | None = None

    def finished(self, outcome: str, reason: str | None) -> Record:
        """The record, stamped."""
        sections = (self.pruned, self.latency, self.memory, self.quality, self.recovered, self.training, self.weights)
        return Record(self.cell, *sections, outcome=outcome, reason=reason)


@dataclass
class RunState:
    """What the plugin gathers while tests run."""

    options: Options
    bench: Bench
    records: list[Record] = field(default_factory=list)
    not_measured: list[NotMeasured] = field(default_factory=list)
    progress: Progress | None = None
    """None while nothing of ours runs."""
    unspanned: SparsityError | None = None
    """Why the cells could not be made."""
    running: Recorder | None = None
    """Of the test that runs now, or was interrupted."""

    @property
    def not_run(self) -> int:
        """Tests that have not been run to their end."""
        return self.progress.left if self.progress else 0

    def fingerprint(self) -> dict[str, Scalar]:
        """Machine, software, and the settings that what is measured depends on."""
        settings = self.options
        found = machine.fingerprint(settings.device, settings.dtype, self.bench.threads())
        found |= {"calibration documents": settings.calibration, "multiple": settings.multiple, "head": settings.head}
        found |= {"compile": settings.compile, "learning rate": settings.learning_rate or "by model"}
        return found | {"training batch": settings.training_batch, "accumulate": settings.accumulate}

    def part(self) -> RunPart:
        """What is true of the whole run, as far as it has come."""
        floor = max((floors[-1] for floors in self.bench.noise.values()), default=None)
        return RunPart(
            self.options.profile,
            self.fingerprint(),
            self.bench.models,
            self.not_measured,
            floor,
            None if floor is None else floor > ratio.NOISY,
            self.not_run or None,
            self.bench.limits.roofline,
        )


STATE = pytest.StashKey[RunState]()
RECORDER = pytest.StashKey[Recorder]()


def axes_of(item: pytest.Item) -> dict[str, Any]:
    """The values of a test's axes, by name; empty for a test that is no cell of ours."""
    callspec = getattr(item, "callspec", None)
    params: dict[str, Any] = callspec.params if callspec else {}
    if "model" not in params or not OURS & set(getattr(item, "fixturenames", ())):
        return {}
    return {name: value for name, value in params.items() if name in CELL_AXES and value is not None}


@contextlib.contextmanager
def one_line_errors(item: pytest.Item) -> Iterator[None]:
    """Turns an error of ours, inside a cell, into a skip or a failure of one line."""
    try:
        yield
    except SparsityError as error:
        if not axes_of(item):  # somebody's unit test: a refusal that it did not expect is a failure
            raise
        unused = getattr(item, "funcargs", {}).get("benchmark")
        if unused is not None:  # else pytest-benchmark warns of a fixture that had no chance to be used
            unused.skipped = True
        if isinstance(error, Refused):
            pytest.skip(str(error))
        raise pytest.fail.Exception(str(error), pytrace=False) from None  # chained, it would be told twice


def reason_of(report: pytest.TestReport) -> str | None:
    """One line that says why a test did not pass."""
    if report.passed:
        return None
    if isinstance(report.longrepr, tuple):  # a skip: (file, line, reason)
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message if crash else report.longrepr).strip()
    return text.splitlines()[0].removeprefix("Failed: ").removeprefix("AssertionError: ") if text else None
