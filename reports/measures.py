"""Numbers that figures, tables and sentences share, each derived from a record in one place.

What cannot be derived is None: a ratio without its dense side, a perplexity beyond any float.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from reports.series import Line, Point, control_of, lines, same_conditions
from sparsity.nodes import over_nodes
from sparsity.record import Memory, Record

NATS_LIMIT = 700.0
"""exp of more is no float; of less than its negative, 0."""
NORMAL_95 = 1.96


@dataclass(frozen=True)
class Height:
    """A value and its bar. For one record the record's own spread; for several seeds their range."""

    value: float
    low: float
    high: float


def of_kind(records: Iterable[Record], section: str, metric: str | None = None) -> list[Record]:
    """The records that measured `section` ("latency", "memory", "quality"), for quality by `metric`."""
    found = [record for record in records if getattr(record, section) is not None]
    return [r for r in found if metric is None or (r.quality is not None and r.quality.metric == metric)]


def kinds_of_lines(records: Sequence[Record], section: str, metric: str | None = None) -> list[Line]:
    """The lines of one kind of measurement, named as in the figures: by format, or by method and scope."""
    named_by = ("method", "scope", "recovery") if section == "quality" else ("format",)
    return lines(of_kind(records, section, metric), named_by)


def total_bytes(memory: Memory) -> int:
    """Weights resident and the peak of a forward pass beyond them."""
    return memory.weights_bytes + memory.peak_bytes


def memory_ratio(record: Record) -> float | None:
    """Bytes over the dense model's bytes; above 1 is larger."""
    memory = record.memory
    if memory is None or memory.dense_weights_bytes is None or memory.dense_peak_bytes is None:
        return None
    return _ratio(total_bytes(memory), memory.dense_weights_bytes + memory.dense_peak_bytes)


def time_ratio(record: Record) -> float | None:
    """Time over the dense model's time, timed in turns with it; above 1 is slower."""
    latency = record.latency
    if latency is None:
        return None
    if latency.speedup is not None:
        return _ratio(1.0, latency.speedup)
    return _ratio(latency.pruned_seconds, latency.dense_seconds)


def _against_control(record: Record, records: Iterable[Record], of: Callable[[Record], Height | None]) -> float | None:
    """A height over that of the dense control, for records that do not carry their dense side."""
    control = control_of(record.cell, records)
    own, dense = of(record), of(control) if control is not None else None
    return _ratio(own.value, dense.value) if own is not None and dense is not None else None


def ratio_of_time(record: Record, records: Iterable[Record]) -> float | None:
    """Time over dense time: the record's paired ratio, else to the median of its control in `records`, of its node."""
    if (own := time_ratio(record)) is not None:
        return own
    return _against_control(record, [r for r in of_kind(records, "latency") if r.node == record.node], seconds)


def ratio_of_memory(record: Record, records: Iterable[Record]) -> float | None:
    """Bytes over dense bytes: from the record, else against its control in `records`."""
    own = memory_ratio(record)
    return own if own is not None else _against_control(record, of_kind(records, "memory"), held_bytes)


def _ratio(value: float, dense: float | None) -> float | None:
    return value / dense if dense is not None and dense > 0 else None


def seconds(record: Record) -> Height | None:
    """Median and quartiles of a forward pass, in seconds."""
    latency = record.latency
    return Height(latency.pruned_seconds, latency.pruned_q1, latency.pruned_q3) if latency else None


def steady_seconds(record: Record, records: Iterable[Record]) -> Height | None:
    """A forward pass in seconds as it would be had the machine been the same throughout.

    The ratio to the reference, timed in turns, with its interval, times the reference's median over
    all cells of the same conditions: what the machine did meanwhile meets both arms and cancels.
    Without such a ratio, median and quartiles. `records` are of one machine.
    """
    latency = record.latency
    if latency is None or not (latency.speedup and latency.low and latency.high):
        return seconds(record)
    dense = [
        other.latency.dense_seconds
        for other in records
        if other.latency is not None
        and other.latency.dense_seconds is not None
        and same_conditions(other.cell, record.cell)
    ]
    if not dense:
        return seconds(record)
    base = statistics.median(dense)
    return Height(base / latency.speedup, base / latency.high, base / latency.low)


def speedup(record: Record) -> Height | None:
    """Times faster than the unpruned model, timed in turns with it, and its 95 % interval."""
    latency = record.latency
    if latency is None or not (latency.speedup and latency.low and latency.high):
        return None
    return Height(latency.speedup, latency.low, latency.high)


def roofline_speedup(record: Record) -> float | None:
    """Times faster were a pass to take no longer than its operations and bytes do at the machine's best."""
    latency = record.latency
    if latency is None or not latency.speedup or not latency.efficiency:
        return None
    return latency.speedup / latency.efficiency


def held_bytes(record: Record) -> Height | None:
    """Bytes of weights and forward peak; exact, so without a bar."""
    if record.memory is None:
        return None
    total = float(total_bytes(record.memory))
    return Height(total, total, total)


def perplexity(record: Record) -> Height | None:
    """Exp of the mean NLL with its 95 % interval, formed in nats and then transformed."""
    quality = record.quality
    if quality is None:
        return None
    half = NORMAL_95 * quality.stderr
    nats = (quality.value, quality.value - half, quality.value + half)
    if any(abs(value) > NATS_LIMIT for value in nats):
        return None
    return Height(*(math.exp(value) for value in nats))


def perplexity_floor(record: Record) -> float | None:
    """Exp of the exact mean NLL that no model can beat, where it is known."""
    floor = record.quality.floor if record.quality else None
    return None if floor is None or abs(floor) > NATS_LIMIT else math.exp(floor)


def accuracy(record: Record) -> Height | None:
    """A fraction with its 95 % interval."""
    quality = record.quality
    if quality is None:
        return None
    half = NORMAL_95 * quality.stderr
    return Height(quality.value, quality.value - half, quality.value + half)


def height(point: Point, of: Callable[[Record], Height | None], geometric: bool = False) -> Height | None:
    """The height of a point: of its record, or the mean over its seeds with their range.

    `geometric`: the mean of logarithms, which for perplexities is the mean in nats. Of times faster that several nodes
    measured, the mean with random effects and its interval.
    """
    if of is speedup and (over := over_nodes(point.records)):
        return Height(over.value, over.low, over.high)
    found = [each for record in point.records if (each := of(record)) is not None]
    if len(found) < 2:
        return found[0] if found else None
    values = [each.value for each in found]
    mean = statistics.geometric_mean(values) if geometric else statistics.fmean(values)
    return Height(mean, min(values), max(values))


def verdict(values: Iterable[str | None]) -> str | None:
    """The verdict of a point: the one that all its records give, else how many give which."""
    given = [value for value in values if value is not None]
    distinct = list(dict.fromkeys(given))
    if len(distinct) <= 1:
        return distinct[0] if distinct else None
    return ", ".join(f"{given.count(each)} {each}" for each in distinct)
