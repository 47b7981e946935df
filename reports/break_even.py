"""From which sparsity on a format is faster than the unpruned model, by workload.

A format is slower, or faster, for certain where the interval of its speedup lies on one side of 1 by more than the
noise floor, and noise did not withhold all verdicts. The break-even lies between the largest sparsity at which it is
slower and the smallest beyond at which it is faster; within, the logarithm of the speedup is taken to be straight over
that of the share of weights that are kept, as it is where the time of a layer is in proportion to them.

Nothing is said of formats that were measured at a single sparsity.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from reports.document import Table
from reports.measures import of_kind
from reports.series import DENSE_FORMATS, Point, lines
from reports.words import MISSING, fraction
from sparsity.nodes import over_nodes
from sparsity.record import Record

ABOUT = (
    "The sparsity from which a forward pass is faster than the unpruned model's, by format and workload (batch size x "
    "sequence length): interpolated, and in brackets the sparsities at which it is slower and faster for certain. "
    '"<" and ">": beyond what was measured; "?": no interval is clear of 1.'
)
PLAIN = re.compile(r"([0-9]+)x([0-9]+)")


@dataclass(frozen=True)
class Crossing:
    """Where one format breaks even on one workload."""

    model: str
    label: str
    workload: str
    low: float | None
    """The largest sparsity at which it is slower for certain."""
    high: float | None
    """The smallest beyond it at which it is faster for certain."""
    value: float | None
    """Interpolated between the two."""

    def text(self, bracket: bool = True) -> str:
        """`0.62 [0.5, 0.7]`, `< 0.5`, `> 0.95` or `?`."""
        if self.value is not None:
            return f"{self.value:.2f}" + (f" [{fraction(self.low)}, {fraction(self.high)}]" if bracket else "")
        if self.high is not None:
            return f"< {fraction(self.high)}"
        return "?" if self.low is None else f"> {fraction(self.low)}"


def crossings(records: Sequence[Record]) -> list[Crossing]:
    """Of every line of a format that was timed at several sparsities, by model, line and workload."""
    found = []
    timed = [r for r in of_kind(records, "latency") if r.cell.format not in DENSE_FORMATS and r.cell.workload]
    for workload in sorted({str(r.cell.workload) for r in timed}, key=_place):
        for line in lines([r for r in timed if r.cell.workload == workload], ("format",)):
            points = [(p.sparsity, *speed) for p in line.points if p.sparsity and (speed := _speed(p)) is not None]
            if len(points) > 1:
                found.append(Crossing(line.model, line.label, workload, *_crossing(points)))
    order = list(dict.fromkeys(r.cell.model for r in timed))
    return sorted(found, key=lambda c: order.index(c.model))


def _place(workload: str) -> tuple[float, float, str]:
    match = PLAIN.fullmatch(workload)
    return (float(match[1]), float(match[2]), "") if match else (math.inf, math.inf, workload)


def _speed(point: Point) -> tuple[float, float, float] | None:
    """(logarithm of the speedup, of its low and of its high end with the noise floor), over all seeds and nodes."""
    found = [r.latency for r in point.records if r.latency is not None]
    ends = [
        (math.log(x.speedup), math.log(x.low) - noise, math.log(x.high) + noise)
        for x in found
        if x.speedup and x.low and x.high
        for noise in [math.inf if x.withheld else math.log1p(x.noise_floor or 0.0)]
    ]
    if not ends:
        return None
    if over := over_nodes(point.records):
        noise = max(math.inf if x.withheld else math.log1p(x.noise_floor or 0.0) for x in found)
        return math.log(over.value), math.log(over.low) - noise, math.log(over.high) + noise
    values, lows, highs = zip(*ends, strict=True)
    return statistics.fmean(values), min(lows), max(highs)


def _crossing(points: Sequence[tuple[float, float, float, float]]) -> tuple[float | None, float | None, float | None]:
    """(low, high, value) out of ascending (sparsity, logarithms of the speedup and of its ends)."""
    low = max((s for s, _, _, high in points if high < 0), default=None)
    high = min((s for s, _, low_end, _ in points if low_end > 0 and (low is None or s > low)), default=None)
    if low is None or high is None:
        return low, high, None
    within = [(math.log1p(-s), value) for s, value, _, _ in points if low <= s <= high]
    before, after = [pair for pair in pairwise(within) if pair[0][1] < 0 <= pair[1][1]][-1]
    share = before[1] / (before[1] - after[1])
    return low, high, -math.expm1(before[0] + share * (after[0] - before[0]))


def table(records: Sequence[Record]) -> Table:
    """A row for each model and format, a column for each workload."""
    found = crossings(records)
    workloads = list(dict.fromkeys(sorted((c.workload for c in found), key=_place)))
    cells = {(c.model, c.label, c.workload): c.text() for c in found}
    rows = tuple(
        (model, label, *(cells.get((model, label, workload), MISSING) for workload in workloads))
        for model, label in dict.fromkeys((c.model, c.label) for c in found)
    )
    return Table(("model", "format", *workloads), rows, text_columns=2)
