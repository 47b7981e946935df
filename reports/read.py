"""Result files as frozen values: one `Run`, whichever number of files it came from.

What a file is and when it is refused is said in `sparsity.result_file`. Refuses as well files that do not belong
together, because their settings, or machine and software, differ or because both hold the same cell of the same node.
Records of failed cells are kept, for the list of what was not measured, never for drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reports.join import joined
from reports.run import Measured, NotMeasured, Run
from sparsity import record
from sparsity.result_file import ResultFile, load

__all__ = ["Measured", "NotMeasured", "Run", "read"]


def read(paths: Sequence[Path]) -> Run:
    """All the files as one run; raises `ResultNotReadable` as the module says."""
    return joined([_run(load(path)) for path in paths])


def _run(file: ResultFile) -> Run:
    ours = file.run
    return Run(
        paths=(file.path,),
        fingerprint=ours.fingerprint,
        machine=file.machine,
        profile=ours.profile,
        models=ours.models,
        datetime=file.datetime,
        commit=file.commit,
        records=file.entries,
        not_measured=tuple(map(_not_measured, ours.not_measured)),
        noise_floor=ours.noise_floor,
        roofline=None if ours.roofline is None else str(ours.roofline),
        not_run=ours.not_run or 0,
        notes=tuple(ours.notes or ()),
        resumed=ours.resumed or 0,
        repeated=file.repeated,
        nodes=ours.nodes or {},
    )


def _not_measured(item: record.NotMeasured) -> NotMeasured:
    return NotMeasured(str(item.cell), item.test, item.outcome, item.reason)
