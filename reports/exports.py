"""What the report hands to other programs: files beside the page, made from the same records.

`cells.csv` is a table for a spreadsheet or a data frame. The other two are what tools that watch benchmarks read:

`github-action-benchmark.json` is an array for the tool `customSmallerIsBetter` of github-action-benchmark
(https://github.com/benchmark-action/github-action-benchmark, `BenchmarkResult` in its src/extract.ts). That divides a
value by the last one of the same name (`getRatio` in its src/write.ts), so an alert on a loss of quality, which may be
0 or negative, means little there: alert on ratios and bytes.

`bencher.json` is Bencher Metric Format (https://bencher.dev/docs/reference/bencher-metric-format), to be read with
the adapter `json`. `latency` (nanoseconds) and `file-size` (bytes) are measures that Bencher brings along.

Only cells that passed are handed to those two; what was not measured is absent, never 0. A cell that several nodes
measured is handed on once for each, with the node in its name. Seconds are not, where the nodes of the run differ: the
next run may measure a cell on another. JSON is strict: what is no finite number is left out. Strings from outside are
put on one line, and in the table those that a spreadsheet would run as a formula begin with an apostrophe.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import math
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from reports.measures import time_ratio
from reports.run import Measured, Run
from reports.step_summary import summary
from reports.words import line
from sparsity.frontier import losses
from sparsity.judging import CONFIDENCE
from sparsity.record import Cell, Latency, Record

AXES = tuple(field.name for field in dataclasses.fields(Cell))
FORMULA = ("=", "+", "-", "@")
"""How a cell begins that a spreadsheet would run."""
LONGEST_NAME = 1024
"""So many characters Bencher allows for the name of a benchmark; here bytes, whichever it counts."""
NANO = 1e9
DIGITS = 9
LOSSES = {"accuracy": ("loss of accuracy", "points"), "mean_nll": ("loss of mean NLL", "nats")}
MEASURED = ("latency", "memory", "quality")
Entry = str | int | float | None


def files(run: Run) -> dict[str, str]:
    """The text of each file by its name."""
    return {
        "cells.csv": cells(run.records),
        "github-action-benchmark.json": _json(smaller_is_better(run.drawn)),
        "bencher.json": _json(bencher(run.drawn, len(run.machines))),
        "summary.md": summary(run),
    }


# -- a table of all records ------------------------------------------------------------------------------


def cells(records: Sequence[Measured]) -> str:
    """CSV with a row for each record, also those that failed: test, outcome, reason, all axes, then what was measured.

    Lists and tables inside a record have no place in a row; columns of which no record holds anything are left out.
    """
    columns = [
        (section, name) for section, name in _columns() if any(_value(r.record, section, name) != "" for r in records)
    ]
    several = any(each.record.node is not None for each in records)
    node = ["node"] if several else []
    headers = ["test", "outcome", "reason", *node, *AXES, *(f"{section}.{name}" for section, name in columns)]
    rows = [
        [
            each.fullname,
            each.record.outcome or "passed",
            each.record.reason,
            *([each.record.node] if several else []),
            *(getattr(each.record.cell, axis) for axis in AXES),
            *(_value(each.record, section, name) for section, name in columns),
        ]
        for each in records
    ]
    return table(headers, rows)


def table(headers: Sequence[str], rows: Iterable[Sequence[Entry]]) -> str:
    """CSV text; None is an empty cell, strings are defused, numbers are written in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in [headers, *rows]:
        writer.writerow([_defused(value) if isinstance(value, str) else value for value in row])
    return text.getvalue()


def _defused(text: str) -> str:
    shown = line(text)
    return f"'{shown}" if shown.startswith(FORMULA) else shown


def _columns() -> list[tuple[str, str]]:
    """(section, field) of every section that a record may have, in the order of the schema."""
    hints = typing.get_type_hints(Record)
    sections = [(name, kind) for name, hint in hints.items() for kind in typing.get_args(hint)]
    return [
        (name, f.name) for name, kind in sections if dataclasses.is_dataclass(kind) for f in dataclasses.fields(kind)
    ]


def _value(record: Record, section: str, name: str) -> str | int | float:
    """A scalar of the record; empty where it has none."""
    value = getattr(getattr(record, section), name, None)
    return value if isinstance(value, str | int | float) else ""


# -- for tools that watch benchmarks ---------------------------------------------------------------------


class Value(NamedTuple):
    """A number with the ends of its interval, where it has one."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def half(self) -> float | None:
        """Half of the interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    @property
    def finite(self) -> bool:
        """Whether strict JSON can hold it."""
        return all(math.isfinite(number) for number in self if number is not None)


def smaller_is_better(records: Iterable[Record]) -> list[dict[str, Any]]:
    """An entry for each number of each record: ratio of times, bytes, loss of quality in points or nats.

    The range of a ratio is half of its 95 % interval, that of a loss its paired standard error.
    """
    found: dict[str, dict[str, Any]] = {}
    for record, cell in _named(records):
        for kind, unit, value, spread, verdict in _small(record):
            name = _name(f"{kind}: {cell}")
            entry: dict[str, Any] = {"name": name, "unit": unit, "value": _rounded(value)}
            if spread is not None:
                entry["range"] = f"± {spread:.3g}"
            if verdict is not None:
                entry["extra"] = verdict
            if math.isfinite(value) and math.isfinite(spread or 0.0):
                found.setdefault(name, entry)
    return list(found.values())


def _small(record: Record) -> Iterator[tuple[str, str, float, float | None, str | None]]:
    """(kind, unit, value, spread, verdict) of what a record holds."""
    ratio = _ratio_of_times(record)
    if record.latency is not None and ratio is not None:
        yield "time ratio", "pruned / unpruned", ratio.value, ratio.half, record.latency.verdict
    if (memory := record.memory) is not None:
        yield "weights", "bytes", memory.weights_bytes, None, memory.verdict
        yield "peak", "bytes", memory.peak_bytes, None, memory.verdict
    for loss in losses([record]):
        kind, unit = LOSSES[loss.metric]
        yield kind, unit, loss.value, loss.stderr, loss.verdict


def bencher(records: Iterable[Record], machines: int = 1) -> dict[str, dict[str, dict[str, float]]]:
    """By benchmark, which is a cell, the value of each measure with its lower and upper end; of so many machines."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for record, cell in _named(records):
        for measure, value in _measures(record):
            if measure == "latency" and machines > 1:
                continue
            ends = {"value": value.value, "lower_value": value.low, "upper_value": value.high}
            known = {key: _rounded(number) for key, number in ends.items() if number is not None}
            if value.finite:
                found.setdefault(_name(cell), {}).setdefault(measure, known)
    return found


def _named(records: Iterable[Record]) -> list[tuple[Record, str]]:
    """Each with the name of its cell, and of its node where several measured the same of that cell."""
    every = list(records)
    held: dict[tuple[Cell, str], set[str | None]] = {}
    for record in every:
        for section in MEASURED:
            if getattr(record, section) is not None:
                held.setdefault((record.cell, section), set()).add(record.node)
    several = {cell for (cell, _), nodes in held.items() if len(nodes) > 1}
    return [
        (record, f"{record.cell} · node {record.node}" if record.cell in several and record.node else str(record.cell))
        for record in every
    ]


def _measures(record: Record) -> Iterator[tuple[str, Value]]:
    if (latency := record.latency) is not None:
        yield "latency", _nanoseconds(latency)
    if (ratio := _ratio_of_times(record)) is not None:
        yield "time-ratio", ratio
    if (memory := record.memory) is not None:
        sizes = {"weights": memory.weights_bytes, "peak": memory.peak_bytes, "file-size": memory.disk_bytes}
        for name, size in sizes.items():
            if size is not None:
                yield name if name == "file-size" else f"{name}-bytes", Value(size)
    if (quality := record.quality) is not None:
        reach = CONFIDENCE * quality.stderr
        yield quality.metric.replace("_", "-"), Value(quality.value, quality.value - reach, quality.value + reach)


def _nanoseconds(latency: Latency) -> Value:
    """Median and quartiles."""
    return Value(latency.pruned_seconds * NANO, latency.pruned_q1 * NANO, latency.pruned_q3 * NANO)


def _ratio_of_times(record: Record) -> Value | None:
    """Time over the unpruned model's with its 95 % interval."""
    ratio, latency = time_ratio(record), record.latency
    if ratio is None or latency is None:
        return None
    paired = latency.speedup and latency.low and latency.high
    return Value(ratio, 1 / latency.high, 1 / latency.low) if paired and latency.low and latency.high else Value(ratio)


def _rounded(value: float) -> float:
    """Bytes as they are, all else to digits that a chart can show."""
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def _name(text: str) -> str:
    """On one line, without what ends a code span or a cell of Markdown; too long, its end is a digest of the whole."""
    name = line(text).translate(str.maketrans("`|", "'/"))
    data = name.encode()
    if len(data) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(data).hexdigest()[:16]
    return f"{data[: LONGEST_NAME - 17].decode(errors='ignore')} {digest}"


def _json(data: object) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
