"""What a report is made from: the frozen values that `read` fills and all else looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sparsity.nodes import differing, machines, shared
from sparsity.record import Model, Node, Record, Scalar
from sparsity.result_file import DRAWN as DRAWN
from sparsity.result_file import Measured as Measured  # what a run holds, for whoever reads it

APART = (
    "Times in seconds stand apart for each machine and are not compared between them; a ratio to the unpruned model "
    "was measured within one node, and may be another on another machine."
)


@dataclass(frozen=True)
class NotMeasured:
    """A cell that left no number, and why."""

    cell: str
    test: str
    outcome: str
    """"skipped", "error" or "failed"."""
    reason: str | None = None


@dataclass(frozen=True)
class Run:
    """All that the files say."""

    paths: tuple[Path, ...]
    records: tuple[Measured, ...]
    fingerprint: Mapping[str, Scalar]
    models: Mapping[str, Model]
    machine: str | None = None
    """From pytest-benchmark, for files without a fingerprint."""
    profile: str | None = None
    datetime: str | None = None
    commit: str | None = None
    not_measured: tuple[NotMeasured, ...] = ()
    noise_floor: float | None = None
    """The largest of the controls: how far a model seems to differ from its own copy, a fraction."""
    roofline: str | None = None
    """What the machine does at best."""
    not_run: int = 0
    """Tests that the run was stopped before."""
    notes: tuple[str, ...] = ()
    """What to know of the data."""
    resumed: int = 0
    """How often the runs were gone on with after they had ended early."""
    repeated: tuple[str, ...] = ()
    """Tests whose cell an earlier test of the same file had measured on the same node; passed over."""
    nodes: Mapping[str, Node] = field(default_factory=dict)
    """By name, the machines of a run that had several; empty where `fingerprint` tells of the only one."""

    @property
    def drawn(self) -> list[Record]:
        """The records whose numbers count."""
        return [each.record for each in self.records if each.record.outcome in DRAWN]

    @property
    def machines(self) -> dict[str, list[Record]]:
        """The records whose numbers count, by machine: what absolute times may be set side by side of."""
        return machines(self.drawn, self.nodes, self.fingerprint)

    @property
    def apart(self) -> str:
        """One line that says which nodes differ in what, and what follows; empty where all are one machine."""
        told = differing(self.nodes)
        return f"{told}. {APART}" if told else ""

    @property
    def facts(self) -> dict[str, Scalar]:
        """What the fingerprint says of every machine of the run."""
        if not self.nodes:
            return dict(self.fingerprint)
        same = shared(self.nodes)
        known = {key for node in self.nodes.values() for key in node.fingerprint}
        return {**{key: value for key, value in self.fingerprint.items() if key not in known}, **same}

    @property
    def missing(self) -> list[NotMeasured]:
        """What left no number: skipped, failed and broken cells, each test once per outcome."""
        failed = [
            NotMeasured(str(each.record.cell), each.fullname, str(each.record.outcome), each.record.reason)
            for each in self.records
            if each.record.outcome not in DRAWN
        ]
        known = {(item.test, item.outcome) for item in self.not_measured}
        return [*self.not_measured, *(item for item in failed if (item.test, item.outcome) not in known)]
