"""What a run says in the terminal of tasks of lm-evaluation-harness: a line a curve, a column a sparsity."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from sparsity.frontier import unpruned
from sparsity.judging import Harness
from sparsity.record import Cell, Record

MISSING = "–"


def rows(records: Iterable[Record]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows; no row where no task was measured. Several seeds of one curve are their mean."""
    points: dict[tuple[str, str, str], dict[float, list[Harness]]] = {}
    for record in records:
        found, cell = record.harness, record.cell
        if found is not None and cell.sparsity is not None:
            task = f"{str(cell.task).removeprefix('harness:')} {found.metric}"
            curve = points.setdefault((cell.model, task, _pruned_by(cell)), {})
            curve.setdefault(cell.sparsity, []).append(found)
    controls = {key[:2]: found for key, curve in points.items() if key[2] == "none" for found in curve[0.0]}
    curves = {key: curve for key, curve in points.items() if key[2] != "none"}
    alone: dict[tuple[str, str, str], dict[float, list[Harness]]] = {
        (*key, "none"): {} for key in controls if not any(key == other[:2] for other in curves)
    }
    columns = sorted({sparsity for curve in curves.values() for sparsity in curve})
    shown = [
        [*key, _unpruned(controls.get(key[:2]), curve), *(_shown(curve[s]) if s in curve else MISSING for s in columns)]
        for key, curve in (curves | alone).items()
    ]
    return ["model", "task of lm-eval", "pruned by", "unpruned", *map(str, columns)], shown


def _pruned_by(cell: Cell) -> str:
    if unpruned(cell):
        return "none"
    pattern = None if cell.pattern == "unstructured" else cell.pattern
    kept = dataclasses.replace(cell, model="", pattern=pattern, sparsity=None, dtype=None, task=None, seed=None)
    return str(kept).removeprefix(" · ")


def _unpruned(control: Harness | None, curve: dict[float, list[Harness]]) -> str:
    """Of the control, or what the pruned models' records say of it."""
    if control is not None:
        return _number(control.value, control.stderr)
    known = [each.dense_value for found in curve.values() for each in found if each.dense_value is not None]
    return _number(known[0], None) if known else MISSING


def _shown(found: Sequence[Harness]) -> str:
    """The mean over seeds, and the verdict where all agree."""
    value = math.fsum(each.value for each in found) / len(found)
    verdicts = {each.verdict for each in found}
    verdict = next(iter(verdicts)) if len(verdicts) == 1 else "mixed"
    return " ".join(filter(None, (_number(value, None), verdict)))


def _number(value: float, stderr: float | None) -> str:
    text = f"{value:#.3g}".rstrip(".")
    return text if stderr is None else f"{text} ± {stderr:.2g}"
