"""The parts of a comparison of several runs: what differs, times and bytes by format, quality, cells, what is missing.

The first run is the one that the others are set against. Numbers are those of cells that all runs measured; cells
that not all have are counted, with the reasons that the files give. Nothing is drawn from absolute times.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reports.across_cells import (
    Change,
    Seen,
    change_of_loss,
    change_of_time,
    changes_of_bytes,
    kinds,
    pooled,
    verdict,
)
from reports.document import Part, Table
from reports.run import Run
from reports.series import DENSE_FORMATS, NOT_PRUNED
from reports.step_summary import short
from reports.words import MISSING, mebibytes, number
from sparsity.answers import NAMES
from sparsity.frontier import unpruned
from sparsity.judging import METRICS
from sparsity.nodes import listed
from sparsity.record import Cell, Record

FASTER, SLOWER = "faster", "slower"
MOST_ROWS = 200
"""Of the table of single cells."""
WORDS = {"mean_nll": "mean NLL"}
COST_HEADERS = (
    *("format", "run", "cells", "times faster", "change [95 %]", "time", "faster for certain", "slower for certain"),
    *("weights", "peak"),
)
QUALITY_HEADERS = (
    *("metric", "run", "largest at", "cells", "verdicts changed", "certainly better", "certainly worse"),
    "largest difference ± 95 %",
)
ABOUT_TIMES = (
    "Times faster: than the unpruned model of the same run, timed in turns with it; geometric mean over the cells. "
    "Change: quotient of the times faster of this run and of the first, above 1 is faster, with the 95 % interval of "
    "Student's t over the cells (of a single cell its own). Same: within 3 %. Faster and slower for certain: cells "
    "whose change lies beyond both intervals and the noise floors; of cells that did not change, about one in twenty "
    "seems to have. Bytes are exact: quotients to the first run, geometric mean over the cells."
)
ABOUT_ABSOLUTE = (
    "Milliseconds of a forward pass of the unpruned model, median over the cells it was timed beside. Absolute times "
    "of different runs are not paired: what else the machines did is in them."
)
ABOUT_QUALITY = (
    "Losses are from the unpruned model of the same run; a positive difference loses more than in the first run. ± is "
    "half of the 95 % interval, with the errors of both runs added as if they were independent."
)
ABOUT_CELLS = "Cells in which something certainly changed from the first run, the largest change of time first."


@dataclass(frozen=True)
class Side:
    """A run under the name that tells it from the others."""

    name: str
    run: Run
    cells: Mapping[Cell, Seen]


def differences(sides: Sequence[Side]) -> Part:
    """What is not the same in all files."""
    known = [_facts(side.run) for side in sides]
    keys = list(dict.fromkeys(key for facts in known for key in facts))
    rows = [(key, *(facts.get(key, MISSING) for facts in known)) for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    headers = ("", *(side.name for side in sides))
    return Part("What differs between the runs", table=Table(headers, tuple(rows), text_columns=len(headers)))


def _facts(run: Run) -> dict[str, str]:
    floor = None if run.noise_floor is None else f"{run.noise_floor:.1%}"
    several = {"nodes": f"{len(run.nodes)}: {listed(list(run.nodes))}", "between nodes": run.apart} if run.nodes else {}
    first = {"file": ", ".join(path.name for path in run.paths), "measured": run.datetime, "profile": run.profile}
    first |= {"commit": short(run.commit) if run.commit else None, "machine": run.machine}
    models = {f"model {name}": f"{model.class_name}, {model.source}" for name, model in run.models.items()}
    found = {**first, **several, **run.facts, "at best": run.roofline, "noise floor": floor, **models}
    return {key: str(value) for key, value in found.items() if value is not None}


# -- time and memory -------------------------------------------------------------------------------------


def costs(sides: Sequence[Side], cells: Sequence[Cell]) -> Part:
    """By format, and by pattern where it varies: times, changes of times, bytes; a row for each run."""
    rows = [_cost_row(label, side, sides[0], group) for label, group in _groups(sides, cells) for side in sides]
    return Part("Time and memory by format", table=Table(COST_HEADERS, tuple(rows), 2), notes=(ABOUT_TIMES,))


def _groups(sides: Sequence[Side], cells: Iterable[Cell]) -> list[tuple[str, list[Cell]]]:
    """Cells whose time or memory all runs measured, by format and pattern; the plain unpruned model is in none."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        measured = set.intersection(*(kinds(side.cells[cell]) for side in sides))
        if measured & {"time", "memory"} and not _control(cell):
            pattern = NOT_PRUNED if unpruned(cell) else cell.pattern or MISSING
            found.setdefault((cell.format or "dense", pattern), []).append(cell)
    patterns = Counter(fmt for fmt, _ in found)
    return [(f"{fmt} · {pattern}" if patterns[fmt] > 1 else fmt, group) for (fmt, pattern), group in found.items()]


def _cost_row(label: str, side: Side, first: Side, group: Sequence[Cell]) -> tuple[str, ...]:
    changes = [change for cell in group if (change := change_of_time(first.cells[cell], side.cells[cell]))]
    speedups = [speed for cell in group if (speed := side.cells[cell].speedup)]
    faster = number(statistics.geometric_mean(speedups)) if speedups else MISSING
    start = (label, side.name, str(len(group)), faster)
    if side is first:
        return (*start, *[MISSING] * 6)
    bytes_ = [changes_of_bytes(first.cells[cell], side.cells[cell]) for cell in group]
    sizes = [_sizes([each[name] for each in bytes_ if name in each]) for name in ("weights_bytes", "peak_bytes")]
    if not changes:
        return (*start, *[MISSING] * 4, *sizes)
    all_cells = pooled(changes)
    counts = (str(sum(change.certain == sign for change in changes)) for sign in (1, -1))
    return (*start, _quotient(all_cells), verdict(all_cells), *counts, *sizes)


def _quotient(change: Change | None) -> str:
    """`1.02 [0.98, 1.06]` out of logarithms."""
    if change is None:
        return MISSING
    if change.half_width is None:
        return f"{math.exp(change.value):.3f}"
    low, high = (_exp(change.value + side * change.half_width) for side in (-1, 1))
    return f"{_exp(change.value)} [{low}, {high}]"


def _exp(value: float) -> str:
    return number(math.exp(value)) if abs(value) < 300 else f"e^{value:.0f}"  # soon beyond any float


def _sizes(quotients: Sequence[float]) -> str:
    if not quotients:
        return MISSING
    changed = sum(each != 1 for each in quotients)
    if not changed:
        return f"the same in all {len(quotients)} cells" if len(quotients) > 1 else "the same"
    return f"{statistics.geometric_mean(quotients):.6g} times ({changed} of {len(quotients)} cells changed)"


def absolute(sides: Sequence[Side]) -> Part:
    """Milliseconds of the unpruned models, a column for each machine of each run."""
    found: dict[tuple[str, ...], dict[str, list[float]]] = {}
    columns: dict[str, None] = {}
    for side in sides:
        for machine, records in side.run.machines.items():
            name = f"{side.name}, {machine}" if machine else side.name
            if any(record.latency for record in records) or not machine:
                columns[name] = None
            for place, seconds in _dense_seconds(records):
                found.setdefault(place, {}).setdefault(name, []).append(1000 * seconds)
    rows = [
        (*place, *(number(statistics.median(times[name]) if name in times else None) for name in columns))
        for place, times in found.items()
    ]
    headers = ("model", "workload", "dtype", *(f"{name}: ms" for name in columns))
    return Part("Absolute times of the unpruned models", table=Table(headers, tuple(rows), 3), notes=(ABOUT_ABSOLUTE,))


def _dense_seconds(records: Iterable[Record]) -> Iterator[tuple[tuple[str, str, str], float]]:
    """(model, workload, dtype) and the seconds of the unpruned model, of each cell and node once."""
    met = set()
    for record in records:
        cell, latency = record.cell.plain, record.latency
        if latency is not None and latency.dense_seconds is not None and (cell, record.node) not in met:
            met.add((cell, record.node))
            yield (cell.model, cell.workload or MISSING, cell.dtype or MISSING), latency.dense_seconds


# -- quality ---------------------------------------------------------------------------------------------


def qualities(sides: Sequence[Side], cells: Sequence[Cell]) -> Part:
    """By metric: verdicts that changed and the largest difference; a row for each run but the first."""
    rows = [row for metric in METRICS for side in sides[1:] if (row := _quality_row(metric, side, sides, cells))]
    return Part("Quality", table=Table(QUALITY_HEADERS, tuple(rows), 3), notes=(ABOUT_QUALITY,))


def _quality_row(metric: str, side: Side, sides: Sequence[Side], cells: Iterable[Cell]) -> tuple[str, ...]:
    first = sides[0].cells
    judged = [cell for cell in cells if all(metric in each.cells[cell].losses for each in sides)]
    changes = {cell: c for cell in judged if (c := change_of_loss(first[cell], side.cells[cell], metric))}
    if not changes:
        return ()
    turned = sum(first[cell].losses[metric].verdict != side.cells[cell].losses[metric].verdict for cell in changes)
    where = max(changes, key=lambda cell: abs(changes[cell].value))
    counts = [str(sum(change.certain == sign for change in changes.values())) for sign in (-1, 1)]
    largest = f"{_signed(changes[where].value)} ± {changes[where].half_width or 0.0:.2g} {NAMES[metric]}"
    return (WORDS.get(metric, metric), side.name, str(where), str(len(changes)), str(turned), *counts, largest)


# -- cell by cell ----------------------------------------------------------------------------------------


def single_cells(sides: Sequence[Side], cells: Iterable[Cell], most: int = MOST_ROWS) -> Part:
    """A row for each cell in which something certainly changed; of more than `most` the first ones."""
    rows = []
    for cell in cells:
        found = [(side, changed(cell, sides[0].cells[cell], side.cells[cell])) for side in sides[1:]]
        words = [f"{word} ({side.name})" for side, each in found for _, word in each]
        if words:
            rows.append((_largest(cell, sides), _cell_row(cell, sides, words)))
    rows.sort(key=lambda row: -row[0])
    left = len(rows) - most
    more = (f"{left} more cells are left out here; across.csv has all.",) if left > 0 else ()
    headers = ("cell", "changed", *(f"{side.name}: times faster [95 %]" for side in sides))
    headers += ("weights, MiB", "peak, MiB", "loss")
    table = Table(headers, tuple(row for _, row in rows[:most]), 2)
    return Part("Cells that changed", table=table, notes=(ABOUT_CELLS, *more))


def changed(cell: Cell, first: Seen, other: Seen) -> list[tuple[str, str]]:
    """(kind, in words) of what certainly changed: time, bytes, the verdict on quality or else quality.

    The unpruned model against its own copy has no time that could change.
    """
    time = None if _control(cell) else change_of_time(first, other)
    found = [("time", {1: FASTER, -1: SLOWER}[time.certain])] if time and time.certain else []
    for name, quotient in changes_of_bytes(first, other).items():
        if quotient != 1:
            found.append(("bytes", f"{name.removesuffix('_bytes')} {quotient:.6g} times"))
    for metric, loss in first.losses.items():
        change, word = change_of_loss(first, other, metric), WORDS.get(metric, metric)
        if change is not None and loss.verdict != other.losses[metric].verdict:
            found.append(("verdict", f"{word} {loss.verdict}, now {other.losses[metric].verdict}"))
        elif change is not None and change.certain:
            found.append(("quality", f"{word} {'worse' if change.certain > 0 else 'better'}"))
    return found


def _control(cell: Cell) -> bool:
    return unpruned(cell) and cell.format in DENSE_FORMATS


def _largest(cell: Cell, sides: Sequence[Side]) -> float:
    changes = [change_of_time(sides[0].cells[cell], side.cells[cell]) for side in sides[1:]]
    return max((abs(change.value) for change in changes if change and change.certain), default=0.0)


def _cell_row(cell: Cell, sides: Sequence[Side], words: Sequence[str]) -> tuple[str, ...]:
    all_seen = [side.cells[cell] for side in sides]
    weights = _beside(all_seen, lambda each: mebibytes(each.memory.weights_bytes if each.memory else None))
    peak = _beside(all_seen, lambda each: mebibytes(each.memory.peak_bytes if each.memory else None))
    loss = _beside(all_seen, _losses)
    return (str(cell), "; ".join(words), *map(_speed, all_seen), weights, peak, loss)


def _beside(all_seen: Iterable[Seen], write: Callable[[Seen], str]) -> str:
    """One text where all are the same, else one for each run."""
    texts = [write(each) for each in all_seen]
    return texts[0] if len(set(texts)) == 1 else " / ".join(texts)


def _losses(each: Seen) -> str:
    said = (f"{_signed(loss.value)} ± {loss.half_width:.2g} {NAMES[metric]}" for metric, loss in each.losses.items())
    return ", ".join(said) or MISSING


def _signed(value: float) -> str:
    return f"{value:+.3g}" if value else "0"


def _speed(each: Seen) -> str:
    if each.speedup is None or each.latency is None:
        return MISSING
    over = f" {each.over.said}" if each.over else ""
    return f"{number(each.speedup)} [{number(each.latency.low)}, {number(each.latency.high)}]{over}"


def missing(sides: Sequence[Side]) -> Part:
    """Measurements that another run has and this one lacks, counted by kind and by the reason that its file gives."""
    everything = dict.fromkeys(
        (cell, kind) for side in sides for cell, each in side.cells.items() for kind in sorted(kinds(each))
    )
    rows = []
    for side in sides:
        reasons = {item.cell: f"{item.outcome}: {item.reason or 'no reason recorded'}" for item in side.run.missing}
        own = {(cell, kind) for cell, each in side.cells.items() for kind in kinds(each)}
        has = Counter(kind for _, kind in own)
        lacks = Counter(
            (kind, reasons.get(str(cell), "not in its file")) for cell, kind in everything if (cell, kind) not in own
        )
        rows += [(side.name, kind, why, str(has[kind]), str(count)) for (kind, why), count in lacks.items()]
    headers = ("run", "measurement", "why", "cells that it has", "cells that it lacks")
    return Part("Cells that not all runs have", table=Table(headers, tuple(rows), 3))
