"""What the plugin knows of a test: its axes, what it measured, and why it left no number.

A `SparsityError` inside a test or fixture is one line, not a traceback: a `Refused` cell is skipped
with its reason, any other is an error. Either way the result file lists it as not measured.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from sparsity import nodes
from sparsity.errors import Refused, SparsityError
from sparsity.journal import Entry
from sparsity.measure import machine, ratio
from sparsity.record import (
    Cell,
    Harness,
    Latency,
    Memory,
    Model,
    Node,
    NotMeasured,
    Pruned,
    Quality,
    Record,
    Recovered,
    Roofline,
    RunPart,
    Scalar,
    Training,
    Weights,
    from_json,
)
from sparsity.strict_json import plain, section

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
    harness: Harness | None = None

    def finished(self, outcome: str, reason: str | None, node: str | None = None) -> Record:
        """The record, stamped."""
        measured = (self.pruned, self.latency, self.memory, self.quality, self.recovered, self.training, self.weights)
        return Record(self.cell, *measured, outcome=outcome, reason=reason, node=node, harness=self.harness)


@dataclass
class Unfinished:
    """What is known of a test that runs, to be an `Entry` of the journal when it ends."""

    record: dict[str, Any] | None = None
    """As JSON."""
    not_measured: list[NotMeasured] = field(default_factory=list)
    postponed: bool = False
    """Whether it was not even tried, so that another run may."""


@dataclass
class RunState:
    """What the plugin gathers while tests run: here, earlier, or in another process."""

    options: Options
    bench: Bench
    records: list[Record] = field(default_factory=list)
    not_measured: list[NotMeasured] = field(default_factory=list)
    models: dict[str, Model] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)
    """By model and workload, how far the dense model last seemed to differ from its own copy, a fraction."""
    roofline: Roofline | None = None
    notes: list[str] = field(default_factory=list)
    """What was left out or cut of the user's documents, once each."""
    sittings: int = 0
    """How often the run was gone on with."""
    node: str | None = None
    """What this machine is called, where it is one of several that measure for a run."""
    nodes: dict[str, Node] = field(default_factory=dict)
    """The machines that measured for this run, where they are others than this one."""
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

    @functools.cached_property
    def own_fingerprint(self) -> dict[str, Scalar]:
        """This machine, its software, and the settings that what is measured depends on."""
        options = self.options
        return machine.fingerprint(options.device, options.dtype, self.bench.threads()) | self.settings()

    @property
    def fingerprint(self) -> dict[str, Scalar]:
        """The same of the run: where several machines measure, what they have in common."""
        if not self.nodes:
            return self.asked() if self.options.ray else self.own_fingerprint
        return nodes.shared(self.nodes)

    def asked(self) -> dict[str, Scalar]:
        """What is known of machines that have not been heard of yet."""
        options = self.options
        threads = options.threads or "all of a node"
        return {"device": options.device, "dtype": options.dtype, "threads": threads} | self.settings()

    def settings(self) -> dict[str, Scalar]:
        """What was chosen for the run, and what is measured depends on."""
        options = self.options
        found: dict[str, Scalar] = {"calibration documents": options.calibration, "multiple": options.multiple}
        found |= {"head": options.head, "compile": options.compile}
        found |= {"learning rate": options.learning_rate or "by model"}
        found |= {"training batch": options.training_batch, "accumulate": options.accumulate}
        found |= {} if options.window is None else {"window": str(options.window)}
        found |= {} if options.device_map is None else {"device map": options.device_map}
        return found | self.bench.data_fingerprint() | self.bench.harness_fingerprint()

    def learnt(self) -> dict[str, Any]:
        """What this process has learnt beyond its cells so far, as plain JSON."""
        bench = self.bench
        noise = {" ".join(where): floors[-1] for where, floors in bench.noise.items() if floors}
        roofline, notes = bench.limits.roofline, bench.data_notes()
        found = {"models": bench.models, "noise": noise, "roofline": roofline, "notes": notes}
        if self.node is not None:
            found["node"] = {"name": self.node, "fingerprint": self.own_fingerprint}
        return {name: plain(value, name) for name, value in found.items() if value}

    def absorb(self, entry: Entry) -> None:
        """Takes what a finished test left, wherever and whenever it ran.

        Raises `ResultNotReadable` for what no test of ours leaves.
        """
        if entry.record is not None:
            self.records.append(from_json(entry.record, entry.test))
        self.not_measured += [section(NotMeasured, each, entry.test) for each in entry.not_measured]
        models = entry.run.get("models", {})
        self.models |= {name: section(Model, each, entry.test) for name, each in models.items()}
        self.notes += [note for note in entry.run.get("notes", []) if note not in self.notes]
        noise, roofline = entry.run.get("noise", {}), None
        if "roofline" in entry.run:
            self.roofline = roofline = section(Roofline, entry.run["roofline"], entry.test)
        if "node" in entry.run:
            name = str(entry.run["node"]["name"])
            noise = {f"{name} {where}": floor for where, floor in noise.items()}
            self._absorb_node(name, Node(entry.run["node"]["fingerprint"], max(noise.values(), default=None), roofline))
        self.noise |= noise

    def _absorb_node(self, name: str, node: Node) -> None:
        """What is known of a machine; a worker that has not timed yet knows less than one before it."""
        known = self.nodes.get(name, node)
        floors = [floor for floor in (known.noise_floor, node.noise_floor) if floor is not None]
        self.nodes[name] = Node(node.fingerprint, max(floors, default=None), node.roofline or known.roofline)

    def part(self) -> RunPart:
        """What is true of the whole run, as far as it has come."""
        floor = max(self.noise.values(), default=None)
        return RunPart(
            self.options.profile,
            self.fingerprint,
            self.models,
            self.not_measured,
            floor,
            None if floor is None else floor > ratio.NOISY,
            self.not_run or None,
            self.roofline if len(self.nodes) < 2 else None,  # of one machine
            self.notes or None,
            self.sittings or None,
            self.nodes or None,
        )


STATE = pytest.StashKey[RunState]()
RECORDER = pytest.StashKey[Recorder]()
UNFINISHED = pytest.StashKey[Unfinished]()


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


def budget_spent(seconds: float) -> str:
    """Why a cell was not begun, of a budget of so many seconds."""
    return f"the run's budget of {seconds:g} s was spent; --budget gives it more"
