"""The tables of the report.

Rows are lines and sparsities, columns are models. What was not measured is a dash, never 0. Each function gives a
table without rows when it has none.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from reports import measures
from reports.document import Table
from reports.measures import height, kinds_of_lines, of_kind, ratio_of_memory, ratio_of_time, total_bytes
from reports.run import NotMeasured
from reports.series import DENSE_FORMATS, Line, Point, is_control, models, references
from reports.words import MISSING, fraction, mebibytes, number, signed
from sparsity import answers
from sparsity.frontier import costs
from sparsity.nodes import over_nodes
from sparsity.record import Quality, Record

SECTIONS = ("latency", "memory", "quality")
NAMED = 3
"""How many cells with the same reason are named before the rest is counted."""
Row = tuple[str, float]
"""(label of the line, sparsity)."""
Column = tuple[str, Callable[[Point], str]]
"""(heading, what to write for a point)."""


def memory_and_time(records: Sequence[Record]) -> Table:
    """The study's table: MiB and seconds per model, with each one's ratio to dense and the verdict on time.

    `records` are of one machine.
    """
    found = of_kind(records, "latency") + of_kind(records, "memory")
    both = kinds_of_lines(records, "latency") + kinds_of_lines(records, "memory")
    columns = [
        ("MiB / s", lambda point: f"{mebibytes(_bytes(point))} / {number(_seconds(point), 4)}"),
        ("ratio to unpruned", lambda point: _ratios(point, found)),
        ("operations / of limit", _operations),
    ]
    return _by_model(both, _controls(found), columns, "format")


def _operations(point: Point) -> str:
    """Share of the unpruned model's operations, and what share of the speed that the machine allows is reached."""
    share = next((r.latency.operations for r in point.records if r.latency and r.latency.operations), None)
    reached = _mean(r.latency.efficiency for r in point.records if r.latency)
    return f"{MISSING if share is None else f'{share:.2f}'} / {MISSING if reached is None else f'{reached:.0%}'}"


def memory_parts(records: Sequence[Record]) -> Table:
    """Weights resident, peak of a forward pass beyond them, and size on disk, apart; MiB."""

    def part(name: str) -> Callable[[Point], str]:
        return lambda point: mebibytes(_mean(getattr(r.memory, name) for r in point.records if r.memory))

    columns = [("weights", part("weights_bytes")), ("peak", part("peak_bytes")), ("disk", part("disk_bytes"))]
    found = of_kind(records, "memory")
    return _by_model(kinds_of_lines(records, "memory"), _controls(found), columns, "format")


def perplexity(records: Sequence[Record]) -> Table:
    """Perplexity with its 95 % interval, and what was lost in nats, paired."""
    columns = [
        ("perplexity", lambda point: _spread(height(point, measures.perplexity, geometric=True))),
        ("difference in nats", lambda point: _difference(point, 1.0)),
        ("verdict", _quality_verdict),
    ]
    return _quality(records, "mean_nll", columns)


def accuracy(records: Sequence[Record]) -> Table:
    """Accuracy with its 95 % interval, and its difference from dense in points, paired."""
    columns = [
        ("accuracy", lambda point: _spread(height(point, measures.accuracy))),
        ("difference in points", lambda point: _difference(point, 100.0)),
        ("verdict", _quality_verdict),
    ]
    return _quality(records, "accuracy", columns)


def over_several_nodes(records: Sequence[Record]) -> Table:
    """The times faster that were pooled over nodes, how far these lie apart, and how many they are."""
    found = [cost for cost in costs(records) if cost.over is not None]
    several = len({cost.cell.workload for cost in found}) > 1
    rows = tuple(
        (
            cost.cell.model,
            answers.label(cost.cell, workload=several),
            number(over.value),
            f"{number(over.low)} to {number(over.high)}",
            over.verdict,
            f"{over.tau:.3f}",
            str(over.nodes),
        )
        for cost in found
        if (over := cost.over)
    )
    headers = ("model", "way to run it", "times faster", "95 %", "verdict", "τ between nodes", "nodes")
    return Table(headers, rows, text_columns=2)


def pruning_cost(records: Sequence[Record]) -> Table:
    """What pruning itself took, beside it torch's own, the calibration passes alone, and one copy of the weights.

    `records` are of one machine.
    """
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        if record.pruned is not None and record.pruned.seconds is not None and record.cell.method != "none":
            cell = record.cell
            key = (cell.model, cell.method, cell.pattern, cell.scope, cell.sparsity, cell.recovery, cell.after)
            groups.setdefault(key, []).append(record)
    headers = ["model", "pruned by", "sparsity", "of prunable", "of all parameters", "s", "extra MiB"]
    headers += ["torch s", "torch extra MiB", "calibration alone s", "copy s"]
    order = {name: place for place, name in enumerate(models(records))}
    keys = sorted(groups, key=lambda key: (order[str(key[0])], str(key[1:4]), key[4] or 0.0, str(key[5:])))
    return Table(tuple(headers), tuple(_cost_row(groups[key]) for key in keys), text_columns=2)


def not_measured(missing: Iterable[NotMeasured]) -> Table:
    """What left no number, cells with the same reason together."""
    groups: dict[tuple[str, str], list[str]] = {}
    for item in missing:
        groups.setdefault((item.outcome, item.reason or "no reason recorded"), []).append(item.cell)
    rows = []
    for (outcome, reason), cells in groups.items():
        more = f"; and {len(cells) - NAMED} more" if len(cells) > NAMED else ""
        rows.append((outcome, reason, str(len(cells)), "; ".join(cells[:NAMED]) + more))
    return Table(("outcome", "reason", "cells", "which"), tuple(rows), text_columns=4)


def limits(records: Sequence[Record]) -> str:
    """The sentences that stand below the times where what bounds them was measured."""
    timed = [r for r in of_kind(records, "latency") if r.latency]
    parts = []
    if any(r.latency.operations for r in timed if r.latency):
        parts.append("Operations: share of the unpruned model's, the time ratio if nothing else cost any.")
    if any(r.latency.efficiency for r in timed if r.latency):
        parts.append(
            "Of limit: what the operations with kept weights and the bytes read take at the machine's best, as a share "
            "of the time that was measured."
        )
    found = {(r.cell.model, r.cell.workload): r.latency.ceiling for r in timed if r.latency and r.latency.ceiling}
    if found:
        each = (f"{model} {workload} {number(ceiling)} times" for (model, workload), ceiling in found.items())
        parts.append(f"With every prunable layer free a forward pass would be faster by: {', '.join(each)}.")
    return " ".join(parts)


def inconclusive(records: Sequence[Record]) -> str:
    """The sentence that stands below the times where a verdict is inconclusive."""
    found = of_kind(records, "latency")
    doubtful = [r.latency for r in found if r.latency and r.latency.verdict == "inconclusive"]
    if not doubtful:
        return ""
    noisy = sum(each.withheld for each in doubtful)
    why = f" {noisy} of them because the machine was too noisy." if noisy else ""
    return f"{len(doubtful)} of {len(found)} latency verdicts are inconclusive: faster or slower is not shown.{why}"


def _quality(records: Sequence[Record], metric: str, columns: Sequence[Column]) -> Table:
    found = of_kind(records, "quality", metric)
    return _by_model(kinds_of_lines(records, "quality", metric), _controls(found), columns, "pruned by")


def _by_model(lines: Sequence[Line], controls: Sequence[Line], columns: Sequence[Column], first: str) -> Table:
    """Rows are (line, sparsity), dense controls first; under each model stand all `columns`."""
    points: dict[Row, dict[str, list[Record]]] = {}
    for line in [*controls, *map(_own_points, lines)]:
        for point in line.points:
            cells = points.setdefault((line.label, point.sparsity), {})
            cells.setdefault(line.model, []).extend(point.records)
    names = list(dict.fromkeys(model for cells in points.values() for model in cells))
    order = list(dict.fromkeys(label for label, _ in points))
    rows = []
    for label, sparsity in sorted(points, key=lambda row: (order.index(row[0]), row[1])):
        found = points[label, sparsity]
        row = [label, fraction(sparsity)]
        for name in names:
            at = Point(sparsity, tuple(found.get(name, ())))
            row += [write(at) if at.records else MISSING for _, write in columns]
        rows.append(tuple(row))
    headers = (first, "sparsity", *(f"{name} {heading}" for name in names for heading, _ in columns))
    return Table(headers, tuple(rows))


def _own_points(line: Line) -> Line:
    """The line without the plain dense control, which has a row of its own."""
    own = [p for p in line.points if not (is_control(p.records[0].cell) and p.records[0].cell.format in DENSE_FORMATS)]
    return dataclasses.replace(line, points=tuple(own))


def _controls(records: Sequence[Record]) -> list[Line]:
    """The dense controls as lines of one point, latency and memory of the same model on the same one."""
    found = [ref for section in SECTIONS for ref in references(of_kind(records, section))]
    return [Line(ref.model, ref.label, (Point(0.0, (ref.record,)),)) for ref in found]


def _bytes(point: Point) -> float | None:
    return _mean(total_bytes(r.memory) for r in point.records if r.memory)


def _seconds(point: Point) -> float | None:
    return _mean(r.latency.pruned_seconds for r in point.records if r.latency)


def _ratios(point: Point, records: Sequence[Record]) -> str:
    held = _mean(ratio_of_memory(r, records) for r in point.records)
    if over := over_nodes(point.records):
        return f"{number(held)} / {number(1 / over.value)} {over.verdict} ({over.said})"
    time = _mean(ratio_of_time(r, records) for r in point.records)
    said = measures.verdict(r.latency.verdict for r in point.records if r.latency)
    noise = all(is_control(r.cell) and r.cell.format in DENSE_FORMATS for r in point.records)
    return f"{number(held)} / {number(time)}" + (f" {said}" if said and not noise else "")


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _spread(found: measures.Height | None) -> str:
    return MISSING if found is None else f"{number(found.value)} ({number(found.low)} to {number(found.high)})"


def _difference(point: Point, factor: float) -> str:
    """Difference from dense with its paired standard error; over several seeds the mean and the range."""
    deltas = [q.delta * factor for q in _qualities(point) if q.delta is not None]
    errors = [q.delta_stderr * factor for q in _qualities(point) if q.delta_stderr is not None]
    if not deltas:
        return MISSING
    if len(deltas) > 1:
        return f"{signed(statistics.fmean(deltas))} ({signed(min(deltas))} to {signed(max(deltas))})"
    if not errors or errors[0] <= 0:
        return f"{signed(deltas[0])} \u00b1 {number(errors[0], 2) if errors else MISSING}"
    places = max(0, 1 - math.floor(math.log10(errors[0])))  # two digits of the error, and no more of the difference
    return f"{deltas[0]:+.{places}f} \u00b1 {errors[0]:.{places}f}"


def _quality_verdict(point: Point) -> str:
    said = measures.verdict(quality.verdict for quality in _qualities(point))
    return said or MISSING


def _qualities(point: Point) -> list[Quality]:
    return [record.quality for record in point.records if record.quality is not None]


def _cost_row(group: Sequence[Record]) -> tuple[str, ...]:
    """One row: medians over seeds for time, the largest for memory; the sparsities are those of the first."""
    cell, all_pruned = group[0].cell, [record.pruned for record in group if record.pruned is not None]
    first = all_pruned[0]
    by = " \u00b7 ".join(
        str(v) for v in (cell.method, cell.pattern, cell.scope, cell.recovery, cell.after) if v is not None
    )

    def known(name: str) -> list[float]:
        return [value for each in all_pruned if (value := getattr(each, name)) is not None]

    def median(name: str) -> str:
        return number(statistics.median(known(name)) if known(name) else None)

    def largest(name: str) -> str:
        return mebibytes(max(known(name), default=None))

    return (
        cell.model,
        by,
        fraction(cell.sparsity),
        number(first.prunable_sparsity, 4),
        number(first.total_sparsity, 4),
        median("seconds"),
        largest("extra_bytes"),
        median("torch_seconds"),
        largest("torch_extra_bytes"),
        median("forward_seconds"),
        median("copy_seconds"),
    )
