"""Which records a figure shows: those whose numbers stand in it, each once, in the order of the run.

Nothing here draws. A record that gives no number is behind no figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from reports.measures import Height, kinds_of_lines, of_kind
from reports.series import references
from sparsity.frontier import Cost, Loss
from sparsity.record import Record


def behind(
    records: Sequence[Record], section: str, of: Callable[[Record], Height | None], metric: str | None = None
) -> list[Record]:
    """The records that curves of a kind of measurement show: those on lines, and the references beside them."""
    found = of_kind(records, section, metric)
    lines = kinds_of_lines(found, section, metric)
    on = [record for line in lines for point in line.points for record in point.records if of(record)]
    names = {record.cell.model for record in on}
    on += [ref.record for ref in references(found) if ref.model in names and of(ref.record)]
    return among(records, on)


def among(records: Sequence[Record], chosen: Sequence[Record]) -> list[Record]:
    """Those that were chosen, in the order of `records`, each once."""
    places = {id(record) for record in chosen}
    return [record for record in records if id(record) in places]


def pooled(records: Sequence[Record], paid: Iterable[Cost], lost: Iterable[Loss]) -> list[Record]:
    """The records that costs and losses were pooled from."""
    costs, losses = {cost.cell for cost in paid}, {(loss.cell, loss.metric) for loss in lost}
    found = []
    for record in records:
        cell = replace(record.cell.plain, task=None, seed=None)
        timed = (record.latency is not None or record.memory is not None) and cell in costs
        judged = record.quality is not None and (replace(cell, workload=None), record.quality.metric) in losses
        if timed or judged:
            found.append(record)
    return found
