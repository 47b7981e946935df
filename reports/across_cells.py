"""The cells of several runs side by side: what each run holds of a cell, and what changed from one run to another.

Times of different runs are never pooled: machines and versions differ, and so do absolute times. What is compared is
the ratio to the unpruned model, which each run measured in turns with the pruned one. The change of a cell is the
quotient of its times faster in two runs; the change of a group is the geometric mean of those of its cells, with a 95 %
interval of Student's t that takes the cells as the sample. Of a single cell it is the interval of that cell.

Refuses to call certain what is not: a cell's time has certainly changed where the change lies beyond the intervals of
both runs together and beyond the noise floor of either; not without an interval in both, nor where noise withheld a
verdict.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sparsity.frontier import Loss, losses
from sparsity.judging import METRICS
from sparsity.nodes import Speedup, over_nodes
from sparsity.pooling import student
from sparsity.record import Cell, Latency, Memory, Quality, Record

MARGIN = 0.03
"""Changes within it count as the same, a fraction."""


@dataclass(frozen=True)
class Seen:
    """What one run holds of a cell; of each kind of measurement at most one."""

    latency: Latency | None = None
    memory: Memory | None = None
    qualities: Mapping[str, Quality] = field(default_factory=dict)
    """By metric."""
    losses: Mapping[str, Loss] = field(default_factory=dict)
    """By metric; none of the unpruned model."""
    over: Speedup | None = None
    """How the ratio of `latency` was pooled, where several nodes measured it; its seconds are those of the first."""

    @property
    def speedup(self) -> float | None:
        """Times faster than the unpruned model, timed in turns with it."""
        return self.latency.speedup or None if self.latency else None

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % interval of the logarithm of the times faster; None where that is not to be relied on."""
        latency = self.latency
        if latency is None or latency.withheld or not (latency.low and latency.high):
            return None
        return (math.log(latency.high) - math.log(latency.low)) / 2

    @property
    def noise(self) -> float:
        """The logarithm of the noise floor of this cell's measurement; 0 where it was not measured."""
        return math.log1p(self.latency.noise_floor or 0.0) if self.latency else 0.0


@dataclass(frozen=True)
class Change:
    """A difference from the first run with half of its 95 % interval, where that is known."""

    value: float
    half_width: float | None = None

    @property
    def certain(self) -> int:
        """1 or -1 where the interval lies above or below 0, else 0."""
        if self.half_width is None or abs(self.value) <= self.half_width:
            return 0
        return 1 if self.value > 0 else -1


def seen(records: Iterable[Record]) -> dict[Cell, Seen]:
    """By cell, in the order measured."""
    found: dict[Cell, Seen] = {}
    timed: dict[Cell, list[Record]] = {}
    for record in records:
        cell = record.cell.plain
        timed.setdefault(cell, []).append(record)
        known = found.get(cell, Seen())
        qualities = {record.quality.metric: record.quality} if record.quality else {}
        found[cell] = Seen(
            known.latency or record.latency,
            known.memory or record.memory,
            {**qualities, **known.qualities},
            {**{loss.metric: loss for loss in losses([record])}, **known.losses},
        )
    return {cell: _over_nodes(each, timed[cell]) for cell, each in found.items() if each != Seen()}


def _over_nodes(each: Seen, records: Iterable[Record]) -> Seen:
    """The same with the ratio of all the nodes that measured it."""
    over = over_nodes(records)
    if over is None or each.latency is None:
        return each
    own = [record.latency for record in records if record.latency]
    reason = next((latency.reason for latency in own if latency.withheld), None)
    floor = max((latency.noise_floor for latency in own if latency.noise_floor is not None), default=None)
    found = replace(each.latency, speedup=over.value, low=over.low, high=over.high, noise_floor=floor)
    return replace(each, latency=replace(found, verdict=over.verdict, reason=reason), over=over)


def change_of_time(first: Seen, other: Seen) -> Change | None:
    """The logarithm of how many times faster the other run's ratio is; its interval is no narrower than the noise."""
    if first.speedup is None or other.speedup is None:
        return None
    value = math.log(other.speedup) - math.log(first.speedup)
    if first.half_width is None or other.half_width is None:
        return Change(value)
    return Change(value, max(math.hypot(first.half_width, other.half_width), first.noise, other.noise))


def change_of_loss(first: Seen, other: Seen, metric: str) -> Change | None:
    """How much more the other run loses, in points or nats.

    The runs met the same documents or others of the same kind, which is not known; their errors are added as those of
    independent ones.
    """
    if metric not in first.losses or metric not in other.losses:
        return None
    a, b = first.losses[metric], other.losses[metric]
    return Change(b.value - a.value, math.hypot(a.half_width, b.half_width))


def changes_of_bytes(first: Seen, other: Seen) -> dict[str, float]:
    """The quotients of weights and of peak; what is 0 in one run alone is left out."""
    if first.memory is None or other.memory is None:
        return {}
    found = {}
    for name in ("weights_bytes", "peak_bytes"):
        before, now = getattr(first.memory, name), getattr(other.memory, name)
        if before == now or (before and now):
            found[name] = 1.0 if before == now else now / before
    return found


def pooled(changes: Sequence[Change]) -> Change | None:
    """The mean over cells with the interval of Student's t; of one cell its own interval."""
    if len(changes) < 2:
        return changes[0] if changes else None
    values = [change.value for change in changes]
    error = statistics.stdev(values) / math.sqrt(len(values))
    return Change(statistics.fmean(values), student(len(values) - 1) * error)


def verdict(change: Change | None) -> str:
    """`faster`, `slower`, `same` or `inconclusive`: the interval of the logarithm of a quotient against `MARGIN`."""
    if change is None or change.half_width is None:
        return "inconclusive"
    low, high, margin = change.value - change.half_width, change.value + change.half_width, math.log1p(MARGIN)
    if low > margin:
        return "faster"
    if high < -margin:
        return "slower"
    return "same" if low >= -margin and high <= margin else "inconclusive"


def kinds(each: Seen) -> set[str]:
    """What was measured of a cell: time, memory, and the metrics of quality."""
    found = {metric for metric in METRICS if metric in each.qualities}
    return found | ({"time"} if each.latency else set()) | ({"memory"} if each.memory else set())


def common(runs: Sequence[Mapping[Cell, Seen]]) -> list[Cell]:
    """The cells of which all runs hold a measurement of the same kind, in the order of the first run."""
    in_all = [cell for cell in runs[0] if all(cell in run for run in runs)]
    return [cell for cell in in_all if set.intersection(*(kinds(run[cell]) for run in runs))]
