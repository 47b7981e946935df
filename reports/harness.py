"""The table of tasks of lm-evaluation-harness: a row for each cell, since no two tasks have numbers to be compared.

They stand in this table alone: in no figure, no frontier, no verdict on a way to run a model, and not beside the
accuracy of ours, which is of other documents.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from reports.document import Table
from reports.series import NOT_PRUNED, models
from reports.words import MISSING, number, signed
from sparsity.frontier import unpruned
from sparsity.record import Cell, Harness, Record

HEADERS = ("model", "task", "metric", "pruned by", "value", "unpruned", "difference", "verdict", "documents", "a guess")
ABOUT = (
    "Metrics are lm-eval's own, in the task's unit; ± is the standard error, of a difference paired over documents. "
    "Kept or lost is by one point, and only where a document scores from 0 to 1; inconclusive, too, where the unpruned "
    "model is not certain to do better than a guess. These tasks stand in this table alone: in no figure, no frontier."
)
TASK = "harness:"


def table(records: Iterable[Record]) -> Table:
    """A row for each cell that measured a task, model by model."""
    found = [record for record in records if record.harness is not None]
    order = models(found)
    found.sort(key=lambda record: (order.index(record.cell.model), str(record.cell.task)))  # else in the order measured
    return Table(HEADERS, tuple(_row(r.cell, r.harness) for r in found if r.harness), text_columns=4)


def _row(cell: Cell, found: Harness) -> tuple[str, ...]:
    metric = found.metric if found.filter is None else f"{found.metric}, {found.filter}"
    better = {True: "higher is better", False: "lower is better", None: ""}[found.higher_is_better]
    return (
        cell.model,
        str(cell.task).removeprefix(TASK),
        f"{metric} ({better})" if better else metric,
        _pruned_by(cell),
        _with_error(number(found.value), found.stderr),
        number(found.dense_value),
        MISSING if found.delta is None else _with_error(signed(found.delta), found.delta_stderr),
        found.verdict or MISSING,
        str(found.documents),
        number(found.chance),
    )


def _pruned_by(cell: Cell) -> str:
    if unpruned(cell):
        return NOT_PRUNED
    seed = None if cell.seed is None else f"seed {cell.seed}"
    kept = dataclasses.replace(cell, model="", task=None, dtype=None, seed=None)
    return " · ".join(filter(None, (str(kept).removeprefix(" · "), seed)))


def _with_error(value: str, stderr: float | None) -> str:
    return value if stderr is None else f"{value} ± {number(stderr, 2)}"
