"""Records on lines: which belong together, in which order, and what each line is called.

A line runs over sparsity; everything else about its cells is equal, except the seed, whose records
share a point. The control (`method` "none", sparsity 0) is the reference, and begins the lines of
its own format. A line is named by the axes asked for and by those that vary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sparsity.frontier import unpruned
from sparsity.record import Cell, Record

CONDITIONS = ("workload", "dtype", "task")
"""Axes on which a control must agree with the cells that it is the control of."""
AXES = ("format", "method", "pattern", "scope", "recovery", "after", *CONDITIONS)
DENSE_FORMATS = ("dense", None)
NOT_PRUNED = "not pruned"


@dataclass(frozen=True)
class Point:
    """Records that differ in their seed alone; at least one."""

    sparsity: float
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Line:
    """One curve of one model, ascending in sparsity."""

    model: str
    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Reference:
    """An unpruned model: the dense control, or in a format that no pruned model has."""

    model: str
    label: str
    record: Record


def is_control(cell: Cell) -> bool:
    """Whether the cell is the dense control, or another of the unpruned model as it is: not after more training."""
    return unpruned(cell) and cell.plain.recovery is None


def models(records: Iterable[Record]) -> list[str]:
    """Model names in the order of their first record."""
    return list(dict.fromkeys(record.cell.model for record in records))


def lines(records: Sequence[Record], named_by: tuple[str, ...]) -> list[Line]:
    """The pruned records as lines, each begun by the control in its own format where there is one.

    A line of recovered models, or of a later step of a composition, begins where it was measured: at sparsity 0 it
    would be another model than the unpruned one.

    `records` hold one kind of measurement; those without a sparsity are left out.
    """
    pruned = [r for r in records if not unpruned(r.cell) and r.cell.sparsity is not None]
    shown = [axis for axis in AXES if axis in named_by or _varies(axis, pruned)]
    groups: dict[Cell, dict[float, list[Record]]] = {}
    for record in pruned:
        points = groups.setdefault(_without(record.cell, "seed", "sparsity"), {})
        points.setdefault(record.cell.sparsity or 0.0, []).append(record)
    found = []
    for cell, points in groups.items():
        control = None if cell.recovery or cell.after else control_of(cell, records)
        if control is not None and control.cell.format == cell.format:  # another's would be a point never measured
            points.setdefault(0.0, [control])
        ordered = tuple(Point(sparsity, tuple(points[sparsity])) for sparsity in sorted(points))
        found.append(Line(cell.model, _label(cell, shown), ordered))
    return found


def same_conditions(cell: Cell, other: Cell) -> bool:
    """Whether two cells are of the same model, workload, dtype and task."""
    return cell.model == other.model and all(getattr(cell, axis) == getattr(other, axis) for axis in CONDITIONS)


def control_of(cell: Cell, records: Iterable[Record]) -> Record | None:
    """The dense control under the same conditions, in the same format rather than as plain dense."""
    controls = [record for record in records if is_control(record.cell) and same_conditions(record.cell, cell)]
    own = [record for record in controls if record.cell.format == cell.format]
    plain = [record for record in controls if record.cell.format in DENSE_FORMATS]
    return next(iter(own + plain), None)


def references(records: Sequence[Record]) -> list[Reference]:
    """The plain dense controls, one per model and set of conditions, and those in formats that no pruned model has."""
    shown = [axis for axis in CONDITIONS if _varies(axis, records)]
    with_lines = {record.cell.format for record in records if not unpruned(record.cell)}
    found: dict[Cell, Reference] = {}
    for record in records:
        cell = record.cell
        plain = cell.format in DENSE_FORMATS
        if is_control(cell) and (plain or cell.format not in with_lines):
            label = " \u00b7 ".join(filter(None, [NOT_PRUNED, None if plain else cell.format, _label(cell, shown)]))
            key = _without(cell, "seed", "format") if plain else _without(cell, "seed")
            found.setdefault(key, Reference(cell.model, label, record))
    return list(found.values())


def _without(cell: Cell, *axes: str) -> Cell:
    """The cell with these axes open; "no recovery" said in one way."""
    opened: dict[str, Any] = dict.fromkeys(axes)
    return dataclasses.replace(cell.plain, **opened)


def _varies(axis: str, records: Iterable[Record]) -> bool:
    return len({getattr(record.cell.plain, axis) for record in records}) > 1


def _label(cell: Cell, axes: Iterable[str]) -> str:
    values = (getattr(cell, axis) for axis in axes)
    return " \u00b7 ".join(str(value) for value in values if value is not None)
