"""The table of verdicts: a row for each way to run a model, one number in each column.

What a way costs is joined with what its choice of weights loses, whatever the format that was measured in; quality of
the very format comes before that of the masked dense model. Costs that were measured without a recovery stand for the
recovered choice too, where those of that recovery were not measured, as in `sparsity.frontier`. A choice of which only
quality was measured is a row with dashes. Columns in which nothing was measured are left out.

A way that several nodes timed has a row for each. Where the nodes are not one machine, times in seconds are left out:
the table is there to be sorted, and they would be sorted by their machines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from reports.run import DRAWN
from reports.series import is_control, models
from reports.words import MISSING, fraction, mebibytes, number
from sparsity import answers
from sparsity.frontier import Loss, costs, losses
from sparsity.record import Cell, Latency, Memory, Record

WAY, TIME, MEMORY, ACCURACY, NLL = "way to run the model", "time", "memory", "accuracy, points", "mean NLL, nats"
MEASURED = (TIME, MEMORY, ACCURACY, NLL)
METRICS = {"accuracy": ACCURACY, "mean_nll": NLL}
AXES = (
    "model", "method", "pattern", "scope", "sparsity", "format", "recovery", "after", "workload", "dtype", "seed",
)  # fmt: skip
DENSE = (None, "dense")
"""The formats in which the quality of the masked dense model is measured."""
SECONDS = {"unpruned ms", "ms"}
"""Columns of absolute times."""
ABOUT_MACHINES = (
    "Milliseconds are left out: nodes that differ measured them, and sorted they would rank machines. They stand in "
    "the tables and figures of each machine."
)
ABOUT = (
    "A row for each way to run a model, a number in each column; a dash is what was not measured.",
    "Times faster and smaller are of the unpruned model, and low and high the ends of the 95 % interval. Operations: "
    "share of the unpruned model's; of limit: of the speed that this machine allows at best. MiB: 2^20 bytes; peak: of "
    "a forward pass, beyond what was resident; the verdict on memory is on weights and peak together.",
    "Differences are from the unpruned model, or, of what was trained after pruning, from that model trained as long "
    "where it is the better one; fewer points and more nats are worse; ± is half of the 95 % interval.",
    "What a recovered model costs is what its choice of weights costs, where it was not measured by itself.",
)


@dataclass(frozen=True)
class Column:
    """A column and what its cells hold."""

    group: str
    heading: str
    kind: str
    """"text", "number" or "verdict"."""


@dataclass(frozen=True)
class Value:
    """A cell of the table."""

    text: str = MISSING
    sort: float | None = None
    """By what a number is sorted; None for words and for what is missing."""


@dataclass(frozen=True)
class Row:
    """A way to run a model."""

    way: str
    """In short, without the model."""
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Verdicts:
    """The whole table; false where there is no row."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    absent: tuple[str, ...] = ()
    """Groups of columns of which nothing was measured."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """The groups with the number of their columns, which stand together."""
        return tuple(Counter(each.group for each in self.columns).items())


@dataclass(frozen=True)
class Way:
    """A way to run a model, with what was measured of it."""

    cell: Cell
    node: str | None = None
    """On which it was timed, of a run that had several."""
    latency: Latency | None = None
    memory: Memory | None = None
    dense_bytes: int | None = None
    """Weights of the unpruned model, where they do not stand beside those of this one."""
    lost: Mapping[str, Loss] = field(default_factory=dict)
    """By metric."""


Lost = dict[Cell, dict[str, Loss]]
"""What was lost of each metric, by choice of weights and format."""


def verdicts(records: Iterable[Record], machines: int = 1) -> Verdicts:
    """The table of these records, which so many machines measured."""
    found = ways(records)
    dtypes = {way.cell.dtype for way in found if way.cell.dtype}
    left_out = {"dtype"} if len(dtypes) < 2 else set()
    left_out |= SECONDS if machines > 1 else set()
    columns = [each for each in COLUMNS if each[0].heading not in left_out]
    values = [[write(way) for _, write in columns] for way in found]
    shown = [i for i in range(len(columns)) if any(row[i].text != MISSING for row in values)]
    rows = tuple(
        Row(answers.label(way.cell, workload=True), tuple(row[i] for i in shown))
        for way, row in zip(found, values, strict=True)
    )
    kept = tuple(columns[i][0] for i in shown)
    absent = tuple(group for group in MEASURED if group not in {each.group for each in kept})
    return Verdicts(kept, rows, absent, (ABOUT_MACHINES,) if machines > 1 else ())


def ways(records: Iterable[Record]) -> list[Way]:
    """Every way to run a model of which anything was measured, model by model: with its costs, then quality alone."""
    counted = [record for record in records if record.outcome in DRAWN]
    paid, lost = _paid(counted), _lost(counted)
    found, told = {cell: list(own) for cell, own in paid.items()}, set[Cell]()
    by_choice: dict[Cell, list[Cell]] = {}
    for place in paid:
        by_choice.setdefault(_choice(place), []).append(place)
    for key in lost:
        plain = replace(_choice(key), recovery=None)
        for place in by_choice.get(plain, ()) if key.recovery else ():
            if key.format in (*DENSE, place.format):
                cell = replace(place, recovery=key.recovery)
                found.setdefault(cell, [replace(way, cell=cell) for way in paid[place]])
    for cell, own in found.items():
        keys = [replace(_choice(cell), format=kind) for kind in dict.fromkeys((*DENSE, cell.format))]
        told |= set(keys)
        losses_of = {metric: loss for key in keys for metric, loss in lost.get(key, {}).items()}
        found[cell] = [replace(way, lost=losses_of) for way in own]
    every = [
        *(way for own in found.values() for way in own),
        *(Way(key, lost=known) for key, known in lost.items() if key not in told),
    ]
    order = models(counted)
    return sorted(every, key=lambda way: order.index(way.cell.model))


def _paid(records: Sequence[Record]) -> dict[Cell, list[Way]]:
    """By cell, a way for each node that timed it; bytes are the same on all."""
    dense = {cost.cell: cost.dense_bytes for cost in costs(records)}
    timed: dict[Cell, dict[str | None, Latency]] = {}
    memories: dict[Cell, Memory] = {}
    for record in records:
        cell = replace(record.cell.plain, task=None)
        if record.latency is not None or record.memory is not None:
            latencies = timed.setdefault(cell, {})
            if record.latency is not None:
                latencies.setdefault(record.node, record.latency)
            if record.memory is not None:
                memories.setdefault(cell, record.memory)
    return {
        cell: [
            Way(cell, node, latency, memories.get(cell), dense.get(replace(cell, seed=None)))
            for node, latency in latencies.items() or [(None, None)]
        ]
        for cell, latencies in timed.items()
    }


def _lost(records: Sequence[Record]) -> Lost:
    """Of each record by itself, so that seeds stay apart."""
    found: Lost = {}
    for record in records:
        for loss in losses([record]):
            key = replace(_choice(record.cell), format=record.cell.format)
            found.setdefault(key, {})[loss.metric] = loss
    return found


def _choice(cell: Cell) -> Cell:
    """Which weights are gone, and what followed: what quality hangs on."""
    return replace(cell.plain, format=None, workload=None, dtype=None, task=None)


# -- columns ---------------------------------------------------------------------------------------------


Write = Callable[[Way], Value]


def _axis(name: str) -> tuple[Column, Write]:
    def write(way: Way) -> Value:
        value = getattr(way.cell, name)
        if name == "recovery":
            value = answers.recovered_by(value) or None
        if name == "sparsity":
            return Value(fraction(value), value)
        return Value() if value is None else Value(str(value), value if name == "seed" else None)

    return Column(WAY, name, "number" if name in ("sparsity", "seed") else "text"), write


def _number(
    group: str, heading: str, of: Callable[[Way], float | None], text: Callable[[float], str] = number
) -> tuple[Column, Write]:
    def write(way: Way) -> Value:
        value = of(way)
        return Value() if value is None else Value(text(value), value)

    return Column(group, heading, "number"), write


def _verdict(group: str, of: Callable[[Way], str | None]) -> tuple[Column, Write]:
    return Column(group, "verdict", "verdict"), lambda way: Value(of(way) or MISSING)


def _of_time(name: str, factor: float = 1.0) -> Callable[[Way], float | None]:
    def of(way: Way) -> float | None:
        value = None if way.latency is None else getattr(way.latency, name)
        return None if value is None else factor * value

    return of


def _verdict_on_time(way: Way) -> str | None:
    """None for the unpruned model against its own copy: there it would be one on the noise."""
    itself = is_control(way.cell) and way.cell.format in DENSE
    return None if way.latency is None or itself else way.latency.verdict


def _of_memory(name: str) -> Callable[[Way], float | None]:
    return lambda way: None if way.memory is None else getattr(way.memory, name)


def _times_smaller(way: Way) -> float | None:
    if way.memory is None or not way.memory.weights_bytes:
        return None
    dense = way.memory.dense_weights_bytes or way.dense_bytes
    return dense / way.memory.weights_bytes if dense else None


def _quality(metric: str) -> list[tuple[Column, Write]]:
    group, places = METRICS[metric], answers.PLACES[metric]

    def difference(way: Way) -> float | None:
        loss = way.lost.get(metric)
        return None if loss is None else (loss.value if metric == "mean_nll" else -loss.value)

    def half(way: Way) -> float | None:
        return None if metric not in way.lost else way.lost[metric].half_width

    def said(way: Way) -> str | None:
        return None if metric not in way.lost else way.lost[metric].verdict

    def signed(value: float) -> str:
        return f"{round(value, places) + 0.0:+.{places}f}".replace("-", "\u2212")  # no -0

    return [
        _number(group, "difference", difference, signed),
        _number(group, "\u00b1", half, lambda value: f"{value:.{places}f}"),
        _verdict(group, said),
    ]


COLUMNS: tuple[tuple[Column, Write], ...] = (
    *map(_axis, AXES),
    (Column(WAY, "node", "text"), lambda way: Value() if way.node is None else Value(way.node)),
    _number(TIME, "unpruned ms", _of_time("dense_seconds", 1e3)),
    _number(TIME, "ms", _of_time("pruned_seconds", 1e3)),
    _number(TIME, "times faster", _of_time("speedup")),
    _number(TIME, "low", _of_time("low")),
    _number(TIME, "high", _of_time("high")),
    _verdict(TIME, _verdict_on_time),
    _number(TIME, "operations", _of_time("operations"), lambda value: f"{value:.2f}"),
    _number(TIME, "of limit", _of_time("efficiency"), lambda value: f"{value:.0%}"),
    _number(MEMORY, "weights MiB", _of_memory("weights_bytes"), mebibytes),
    _number(MEMORY, "times smaller", _times_smaller),
    _number(MEMORY, "peak MiB", _of_memory("peak_bytes"), mebibytes),
    _verdict(MEMORY, lambda way: way.memory.verdict if way.memory else None),
    *_quality("accuracy"),
    *_quality("mean_nll"),
)
