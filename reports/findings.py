"""What the run found, as sentences computed from its records. No sentence without its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reports.measures import kinds_of_lines, ratio_of_memory, ratio_of_time
from reports.measures import verdict as joint_verdict
from reports.series import Line, models
from reports.words import fraction, number
from sparsity.record import Record

KEPT, INCONCLUSIVE = "kept", "inconclusive"
Found = tuple[float, float]
"""(ratio, sparsity)."""


def sentences(records: Sequence[Record]) -> list[str]:
    """Per model time and memory by format, then the largest sparsity that kept quality."""
    found: list[str] = []
    for model in models(records):
        found += _costs(model, records)
        found += _kept(model, records, "accuracy", "classification accuracy")
        found += _kept(model, records, "mean_nll", "perplexity")
    return found


def _costs(model: str, records: Sequence[Record]) -> list[str]:
    found = []
    for line in _of(model, kinds_of_lines(records, "latency")):
        times = _ratios(line, lambda record: ratio_of_time(record, records))
        verdicts = [r.latency.verdict for p in line.points if p.sparsity for r in p.records if r.latency]
        if times and set(verdicts) == {INCONCLUSIVE}:
            found.append(f"{_head(line)}: whether a forward pass got faster or slower could not be told.")
        elif times:
            said = joint_verdict(verdicts)
            found.append(f"{_head(line)}: a forward pass takes {_range(times)} the unpruned time (verdicts: {said}).")
    for line in _of(model, kinds_of_lines(records, "memory")):
        sizes = _ratios(line, lambda record: ratio_of_memory(record, records))
        if sizes:
            found.append(f"{_head(line)}: weights and forward peak take {_range(sizes)} the unpruned model's memory.")
    return found


def _kept(model: str, records: Sequence[Record], metric: str, what: str) -> list[str]:
    """The largest sparsity at which every seed of some line was `kept`."""
    lines = _of(model, kinds_of_lines(records, "quality", metric))
    judged = [(line, p.sparsity, _verdicts(p.records)) for line in lines for p in line.points if p.sparsity > 0]
    judged = [each for each in judged if each[2]]
    if not judged:
        return []
    kept = [(sparsity, line) for line, sparsity, said in judged if said == {KEPT}]
    if not kept:
        return [f"{model}, {what}: kept at no sparsity that was measured."]
    largest = max(sparsity for sparsity, _ in kept)
    by = ", ".join(line.label for sparsity, line in kept if sparsity == largest)
    return [f"{model}, {what}: the largest sparsity with the verdict 'kept' is {fraction(largest)} ({by})."]


def _verdicts(records: Sequence[Record]) -> set[str]:
    """On quality; a recovered model is held against the unpruned one as it is and after as much training."""
    judged = [part for r in records if r.quality is not None for part in (r.quality, r.recovered) if part is not None]
    found = {part.verdict for part in judged}
    return {verdict for verdict in found if verdict is not None}


def _of(model: str, lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.model == model]


def _ratios(line: Line, ratio: Callable[[Record], float | None]) -> list[Found]:
    """The ratios of the pruned points of a line."""
    pairs = [(ratio(record), p.sparsity) for p in line.points if p.sparsity > 0 for record in p.records]
    return [(value, sparsity) for value, sparsity in pairs if value is not None]


def _head(line: Line) -> str:
    return f"{line.model}, {line.label}"


def _range(found: Sequence[Found]) -> str:
    low, high = min(found), max(found)
    if number(low[0]) == number(high[0]):
        return f"{number(low[0])} times"
    return f"{number(low[0])} (at {fraction(low[1])}) to {number(high[0])} (at {fraction(high[1])}) times"
