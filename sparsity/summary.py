"""What ends a run in the terminal: a table of costs, a table of quality, and what was not measured.

Costs: one line for each cell. Quality: one line for each curve, a column for each sparsity. What was
not measured is a dash, never a zero.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from sparsity.record import Cell, Latency, Memory, NotMeasured, Quality, Record

COST_HEADERS = ("cell", "ms [q1, q3]", "time", "weights MiB", "peak MiB", "memory")
MISSING = "–"
ENDED = {"skipped": "not measured", "error": "not measured, error", "failed": "failed"}
"""What an outcome means for the numbers."""
Curve = tuple[str, str, str]
"""(model, metric, how it was pruned)."""


def text(records: Sequence[Record], not_measured: Sequence[NotMeasured]) -> str:
    """Everything there is to say; empty when nothing was measured."""
    return "\n\n".join(part for part in (costs(records), quality(records), missing(not_measured)) if part)


def costs(records: Iterable[Record]) -> str:
    """Latency and memory of each cell side by side, in the order measured; empty without any."""
    merged: dict[str, Record] = {}
    for record in records:
        if record.latency is not None or record.memory is not None:
            name = _name(record.cell)
            known = merged.get(name, record)
            merged[name] = dataclasses.replace(
                known, latency=record.latency or known.latency, memory=record.memory or known.memory
            )
    rows = [[name, *_latency(found.latency), *_memory(found.memory)] for name, found in merged.items()]
    return _table(rows, COST_HEADERS)


def quality(records: Iterable[Record]) -> str:
    """Perplexity or accuracy of each curve at each sparsity with its verdict; empty without any.

    Several seeds of one curve are their mean (in nats, for perplexity), with a verdict where all agree.
    """
    points: dict[Curve, dict[float, list[Quality]]] = {}
    controls: dict[tuple[str, str], Quality] = {}
    for record in records:
        cell, sparsity = record.cell, record.cell.sparsity
        if record.quality is None or sparsity is None:
            continue
        metric = {"mean_nll": "perplexity", "accuracy": "accuracy %"}[record.quality.metric]
        if cell.method == "none":
            controls[cell.model, metric] = record.quality
        else:
            curve = (cell.model, metric, _pruned_by(cell))
            points.setdefault(curve, {}).setdefault(sparsity, []).append(record.quality)
    for model, metric in controls:
        if not any(curve[:2] == (model, metric) for curve in points):
            points[model, metric, "none"] = {}
    columns = sorted({sparsity for found in points.values() for sparsity in found})
    rows = [
        [
            *curve,
            _value([controls[curve[:2]]]) if curve[:2] in controls else MISSING,
            *(f"{_value(found[s])} {_verdict(found[s])}" if s in found else MISSING for s in columns),
        ]
        for curve, found in points.items()
    ]
    return _table(rows, ("model", "metric", "pruned by", "unpruned", *map(str, columns)))


def missing(not_measured: Sequence[NotMeasured]) -> str:
    """How many claims failed and how many tests left no number, by reason."""
    reasons = Counter((item.outcome, item.reason) for item in not_measured)
    return "\n".join(f"{count} {ENDED.get(outcome, outcome)}: {reason}" for (outcome, reason), count in reasons.items())


def _table(rows: list[list[str]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True) if rows else ""


def _name(cell: Cell) -> str:
    """The axes that tell cells apart for a reader; the usual pattern and what is the same everywhere left out."""
    pattern = None if cell.pattern == "unstructured" else cell.pattern
    return str(dataclasses.replace(cell, pattern=pattern, dtype=None))


def _pruned_by(cell: Cell) -> str:
    kept = dataclasses.replace(cell, model="", sparsity=None, task=None, seed=None)
    return _name(kept).removeprefix(" · ")


def _latency(latency: Latency | None) -> tuple[str, str]:
    if latency is None:
        return MISSING, MISSING
    median, q1, q3 = (1e3 * s for s in (latency.pruned_seconds, latency.pruned_q1, latency.pruned_q3))
    return f"{median:.2f} [{q1:.2f}, {q3:.2f}]", latency.verdict


def _memory(memory: Memory | None) -> tuple[str, str, str]:
    if memory is None:
        return MISSING, MISSING, MISSING
    return f"{memory.weights_bytes / 2**20:.2f}", f"{memory.peak_bytes / 2**20:.2f}", memory.verdict or MISSING


def _value(found: Sequence[Quality]) -> str:
    mean = math.fsum(each.value for each in found) / len(found)
    if found[0].metric == "accuracy":
        return f"{100 * mean:.1f}"
    if mean >= 300:  # far beyond any vocabulary, and soon beyond any number
        return f"e^{mean:.0f}"
    return f"{math.exp(mean):#.3g}".rstrip(".")


def _verdict(found: Sequence[Quality]) -> str:
    verdicts = {each.verdict for each in found}
    return next(iter(verdicts)) or MISSING if len(verdicts) == 1 else "mixed"
