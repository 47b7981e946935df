"""What a report is made from: the frozen values that `read` fills and all else looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparsity.record import Model, Record, Scalar

DRAWN = (None, "passed")
"""Outcomes whose numbers count; a record without an outcome passed."""
_SECTIONS = ("latency", "memory", "quality", "recovered", "training", "weights")


@dataclass(frozen=True)
class Measured:
    """A record under the name that pytest-benchmark gave its test."""

    fullname: str
    record: Record

    @property
    def keys(self) -> frozenset[object]:
        """What this record alone may hold: its cell once per kind of measurement.

        What pruning removed stands beside many measurements, so it is a kind of its own only alone.
        A failed record claims nothing.
        """
        record = self.record
        if record.outcome not in DRAWN:
            return frozenset()
        kinds = [kind for kind in _SECTIONS if getattr(record, kind) is not None]
        metric = record.quality.metric if record.quality else None
        return frozenset((kind, metric if kind == "quality" else None, record.cell) for kind in kinds or ["pruned"])


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
    repeated: tuple[str, ...] = ()
    """Tests whose cell an earlier test of the same file had measured; passed over."""

    @property
    def drawn(self) -> list[Record]:
        """The records whose numbers count."""
        return [each.record for each in self.records if each.record.outcome in DRAWN]

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
