"""The table that ends a run: one line for each cell, whatever question measured it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from tabulate import tabulate

from sparsity.record import Cell, Latency, Memory, Quality, Record

HEADERS = ("cell", "ms [q1, q3]", "weights MB", "peak MB", "memory", "quality (Δ ± SE)", "kept?")
MISSING = "–"


def table(records: Iterable[Record]) -> str:
    """Latency, memory and quality of each cell side by side; what was not measured is a dash; empty without any."""
    merged: dict[Cell, dict[str, Record]] = {}
    for record in records:
        for section in ("latency", "memory", "quality"):
            if getattr(record, section) is not None:
                merged.setdefault(record.cell, {})[section] = record
    rows = [_row(cell, found) for cell, found in _side_by_side(merged).items()]
    return tabulate(rows, HEADERS, tablefmt="simple", disable_numparse=True) if rows else ""


def _side_by_side(merged: dict[Cell, dict[str, Record]]) -> dict[str, dict[str, Record]]:
    """Questions name only the axes that apply to them; join those of one cell under one name."""
    rows: dict[str, dict[str, Record]] = {}
    for cell, found in merged.items():
        short = dataclasses.replace(cell, pattern=None if cell.pattern == "unstructured" else cell.pattern, dtype=None)
        rows.setdefault(str(short), {}).update(found)
    return rows


def _row(name: str, found: dict[str, Record]) -> list[str]:
    sections = {section: getattr(record, section) for section, record in found.items()}
    return [
        name,
        _latency(sections.get("latency")),
        *_memory(sections.get("memory")),
        *_quality(sections.get("quality")),
    ]


def _latency(latency: Latency | None) -> str:
    if latency is None:
        return MISSING
    median, q1, q3 = (1e3 * s for s in (latency.pruned_seconds, latency.pruned_q1, latency.pruned_q3))
    return f"{median:.2f} [{q1:.2f}, {q3:.2f}]"


def _memory(memory: Memory | None) -> tuple[str, str, str]:
    if memory is None:
        return MISSING, MISSING, MISSING
    return f"{memory.weights_bytes / 1e6:.2f}", f"{memory.peak_bytes / 1e6:.2f}", memory.verdict or MISSING


def _quality(quality: Quality | None) -> tuple[str, str]:
    if quality is None:
        return MISSING, MISSING
    if quality.metric == "accuracy":
        value, scale = f"{100 * quality.value:.1f} %", 100.0
    else:
        value, scale = f"ppl {quality.perplexity:.2f}" if quality.perplexity else f"{quality.value:.2f} nats", 1.0
    if quality.delta is None or quality.delta_stderr is None:
        return value, MISSING
    digits = 1 if scale == 100.0 else 3
    change = f"{scale * quality.delta:+.{digits}f} ± {scale * quality.delta_stderr:.{digits}f}"
    return f"{value} ({change})", quality.verdict or MISSING
