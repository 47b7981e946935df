"""What a report is made from: the frozen values that `read` fills and all else looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparsity.record import Model, Record, Scalar
from sparsity.result_file import DRAWN as DRAWN
from sparsity.result_file import Measured as Measured  # what a run holds, for whoever reads it


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
