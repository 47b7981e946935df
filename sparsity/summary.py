"""What ends a run in the terminal: cells, curves, recoveries, the frontier, what was not measured, and the answers.

Of a run on several nodes a table says which they are, and each row of the cells, on which node it was timed.

Cells: what each costs in time and memory, and what it lost in quality. Curves: quality, a column for
each sparsity. What was not measured is a dash, never a zero. The last lines are what a reader wants to know.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tabulate import tabulate

from sparsity import answers, harness_summary
from sparsity.about_times import doubts as doubts
from sparsity.about_times import limits as limits
from sparsity.about_times import machines
from sparsity.frontier import Candidate, candidates, unpruned
from sparsity.judging import UNITS
from sparsity.record import Cell, Latency, Memory, Node, NotMeasured, Quality, Record, Roofline

COST_HEADERS = (
    "cell",
    "unpruned ms",
    "ms",
    "time ratio [95 %]",
    "time",
    "ops",
    "of limit",
    "weights MiB",
    "peak MiB",
    "memory",
    "nats",
    "points",
)
MISSING = "–"
ENDED = {"skipped": "not measured", "error": "not measured, error", "failed": "failed"}
"""What an outcome means for the numbers."""
RECOVERED_HEADERS = (
    "model",
    "metric",
    "pruned by",
    "recovery",
    "seeds",
    "unpruned",
    "one-shot",
    "recovered",
    "control",
    "difference ± se",
    "verdict",
    "s",
)
METRICS = {"mean_nll": "perplexity", "accuracy": "accuracy %"}
Curve = tuple[str, str, str]
"""(model, metric, how it was pruned)."""


def text(
    records: Sequence[Record],
    not_measured: Sequence[NotMeasured],
    not_run: int = 0,
    roofline: Roofline | None = None,
    nodes: Mapping[str, Node] | None = None,
) -> str:
    """Everything there is to say; empty when nothing was measured. `not_run`: tests that the run was stopped before."""
    stopped = f"The run was stopped: {not_run} tests were not run." if not_run else ""
    about_time = "\n".join(part for part in (limits(records, roofline, nodes), doubts(records)) if part)
    to_know = "\n".join(part for part in (training(records), choices(records), notes(records)) if part)
    found = candidates(records)
    told = "\n".join(answers.sentences(found))
    headers, rows = harness_summary.rows(records)
    curves = (quality(records), _table(rows, headers))
    tables = (costs(records), about_time, *curves, recovered(records), frontier(found))
    parts = (machines(records, nodes), *tables, to_know, missing(not_measured), stopped, told)
    return "\n\n".join(part for part in parts if part)


def costs(records: Iterable[Record]) -> str:
    """Latency, memory and what was lost of each cell side by side, in the order measured; empty without any."""
    records = list(records)
    lost = {(*_chosen(r.cell), r.cell.format, r.quality.metric): r.quality for r in records if r.quality is not None}
    several = any(record.node is not None for record in records)
    rows = [
        [
            name,
            *([node or MISSING] if several else []),
            *_latency(found.latency),
            *_memory(found.memory),
            *(_difference(_of_format(lost, found.cell, metric)) for metric in UNITS),
        ]
        for (name, node), found in _side_by_side(records).items()
    ]
    return _table(rows, (COST_HEADERS[0], *(["timed on"] if several else []), *COST_HEADERS[1:]))


def _side_by_side(records: Sequence[Record]) -> dict[tuple[str, str | None], Record]:
    """Times and bytes of the same cell together, by its name and the node that timed it; bytes are those of any."""
    timed: dict[str, dict[str | None, Record]] = {}
    held: dict[str, Record] = {}
    for record in records:
        name = _name(record.cell)
        if record.latency is not None or record.memory is not None:
            own = timed.setdefault(name, {})
            if record.latency is not None:
                own[record.node] = record
            if record.memory is not None:
                held[name] = record
    found: dict[tuple[str, str | None], Record] = {}
    for name, own in timed.items():
        for node, record in own.items() or [(None, held[name])]:
            memory = held[name].memory if name in held else None
            found[name, node] = dataclasses.replace(record, memory=memory)
    return found


def quality(records: Iterable[Record]) -> str:
    """Perplexity or accuracy of each curve at each sparsity with its verdict; empty without any.

    Several seeds of one curve are their mean (in nats, for perplexity), with a verdict where all agree.
    """
    points: dict[Curve, dict[float, list[Quality]]] = {}
    controls: dict[tuple[str, str], Quality] = {}
    for record in records:
        cell, sparsity = record.cell, record.cell.sparsity
        if record.quality is None or sparsity is None or (unpruned(cell) and cell.plain.recovery):
            continue  # the unpruned model after more training stands beside what it is the control of
        metric = METRICS[record.quality.metric]
        if unpruned(cell):
            controls[cell.model, metric] = record.quality
        else:
            curve = (cell.model, metric, _pruned_by(cell))
            said = {each.verdict for each in (record.recovered, record.quality) if each}  # both unpruned models
            verdict = said.pop() if len(said) == 1 else "lost" if "lost" in said else "inconclusive"
            judged = dataclasses.replace(record.quality, verdict=verdict)
            if (dense := record.quality.dense_value) is not None:  # in case the unpruned model is no cell of the run
                controls.setdefault((cell.model, metric), dataclasses.replace(judged, value=dense, verdict=None))
            points.setdefault(curve, {}).setdefault(sparsity, []).append(judged)
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


def recovered(records: Iterable[Record]) -> str:
    """What each recovery won back, beside the unpruned model after as much of the same training; empty without any.

    The difference is from that control, in points or nats; seconds are those of one training seed.
    """
    rows = []
    for record in records:
        found, judged = record.recovered, record.quality
        if found is None or judged is None:
            continue
        kind, seeds = judged.metric, ", ".join(map(str, found.seeds))
        pruned_by = _name(dataclasses.replace(record.cell, model="", recovery=None, task=None)).removeprefix(" · ")
        values = (judged.dense_value, found.one_shot, math.fsum(found.values) / len(found.values), found.control)
        shown = [MISSING if value is None else _shown(kind, value) for value in values]
        seconds = MISSING if found.seconds is None else f"{found.seconds:.0f}"
        rows.append([record.cell.model, METRICS[kind], pruned_by, record.cell.recovery or MISSING, seeds, *shown])
        rows[-1] += [_signed(kind, found.delta, found.delta_stderr), found.verdict, seconds]
    return _table(rows, RECOVERED_HEADERS)


def frontier(found: Sequence[Candidate]) -> str:
    """What nothing else beats in time, weights and quality at once; empty where nothing is compared."""
    return _table(answers.unbeaten(found), answers.HEADERS)


def training(records: Iterable[Record]) -> str:
    """What it costs to hold masks while training, a line for each model; empty where it was not measured."""
    found = [
        (f"{record.cell.model}, on {record.node}" if record.node else record.cell.model, record.training)
        for record in records
        if record.training is not None
    ]
    return "\n".join(
        f"holding masks costs {each.ratio:.3f}x [{each.low:.2f}, {each.high:.2f}] of a training step: {where}"
        for where, each in found
    )


def choices(records: Iterable[Record]) -> str:
    """What `auto` chose in each cell: formats, and the layers in each."""
    found = {
        _name(dataclasses.replace(record.cell, task=None)): record.pruned.choices
        for record in records
        if record.pruned is not None and record.pruned.choices is not None
    }
    return "\n".join(
        f"{cell}: {', '.join(f'{name} {count} layers' for name, count in chosen.items())}"
        for cell, chosen in found.items()
    )


def notes(records: Iterable[Record]) -> str:
    """What to know of a pruned model, once each, with the cell that it was first said of."""
    found: dict[tuple[str, str], Cell] = {}
    for record in records:
        for note in (record.pruned.notes if record.pruned else None) or ():
            found.setdefault((record.cell.model, note), record.cell)
    return "\n".join(f"note: {_pruned(cell)}: {note}" for (_, note), cell in found.items())


def _pruned(cell: Cell) -> str:
    return _name(dataclasses.replace(cell, format=None, workload=None, task=None))


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


def _chosen(cell: Cell) -> tuple[object, ...]:
    """Which weights are gone: what a cell's quality hangs on, whatever its format and workload."""
    return cell.model, cell.method, cell.pattern, cell.scope, cell.sparsity, cell.seed, cell.plain.recovery, cell.after


def _of_format(lost: Mapping[tuple[object, ...], Quality], cell: Cell, metric: str) -> Quality | None:
    """Quality measured in the cell's very format, or else that of the pruned model in any."""
    return lost.get((*_chosen(cell), cell.format, metric)) or lost.get((*_chosen(cell), None, metric))


def _latency(latency: Latency | None) -> tuple[str, str, str, str, str, str]:
    if latency is None:
        return MISSING, MISSING, MISSING, MISSING, MISSING, MISSING
    dense = MISSING if latency.dense_seconds is None else f"{1e3 * latency.dense_seconds:.2f}"
    ratio = MISSING
    if latency.speedup and latency.low and latency.high:
        ratio = f"{1 / latency.speedup:.3f} [{1 / latency.high:.3f}, {1 / latency.low:.3f}]"
    share = MISSING if latency.operations is None else f"{latency.operations:.2f}"
    reached = MISSING if latency.efficiency is None else f"{latency.efficiency:.0%}"
    return dense, f"{1e3 * latency.pruned_seconds:.2f}", ratio, latency.verdict, share, reached


def _difference(quality: Quality | None) -> str:
    """The paired difference from the unpruned model and its standard error; nothing for that model itself."""
    if quality is None or quality.verdict is None or quality.delta is None or quality.delta_stderr is None:
        return MISSING
    return _signed(quality.metric, quality.delta, quality.delta_stderr)


def _signed(metric: str, delta: float, stderr: float) -> str:
    """A difference with its standard error, in points or nats."""
    factor = UNITS[metric]
    places = 3 if factor == 1.0 else 1
    return f"{factor * delta:+.{places}f} ± {factor * stderr:.{places}f}"


def _memory(memory: Memory | None) -> tuple[str, str, str]:
    if memory is None:
        return MISSING, MISSING, MISSING
    return f"{memory.weights_bytes / 2**20:.2f}", f"{memory.peak_bytes / 2**20:.2f}", memory.verdict or MISSING


def _value(found: Sequence[Quality]) -> str:
    return _shown(found[0].metric, math.fsum(each.value for each in found) / len(found))


def _shown(metric: str, mean: float) -> str:
    """Accuracy in %, mean NLL as perplexity."""
    if metric == "accuracy":
        return f"{100 * mean:.1f}"
    if mean >= 300:  # far beyond any vocabulary, and soon beyond any number
        return f"e^{mean:.0f}"
    return f"{math.exp(mean):#.3g}".rstrip(".")


def _verdict(found: Sequence[Quality]) -> str:
    verdicts = {each.verdict for each in found}
    return next(iter(verdicts)) or MISSING if len(verdicts) == 1 else "mixed"
