"""The frontier of a run: what nothing else beats in time, weights and quality at once, and what to tell of it.

A candidate joins what a choice of weights costs in one format, on one workload, with what it loses of one metric.
Time and memory hang on where the zeros are and not on the values of the other weights, so costs that were measured
without a recovery stand for the recovered model too, unless those of that very recovery were measured.

One-shot, the loss is from the unpruned model as it is; after a recovery it is from the better of that and of the
unpruned model after as much training. Losses are in points of accuracy or in nats per token, and positive where
quality was lost. Point estimates decide what beats what; ± and brackets are 95 % intervals. All times are ratios to the
unpruned model on the same node; those of one choice from several nodes are pooled with the node as a random effect.

Refuses to guess: a candidate whose time or weights were not measured is on no frontier, and numbers of a cell that
failed are no numbers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sparsity.judging import CONFIDENCE, MARGINS, UNITS, verdict
from sparsity.nodes import Speedup, over_nodes
from sparsity.record import Cell, Memory, Quality, Record, Recovered

CHOICE = ("model", "method", "pattern", "scope", "sparsity", "after", "task", "seed")
"""Axes that say which weights are gone."""


@dataclass(frozen=True)
class Cost:
    """What a choice of weights costs in one format on one workload; pooled over the seeds of its masks, and nodes."""

    cell: Cell
    verdict: str | None = None
    """On the time; `inconclusive` where seeds disagree, and over several nodes that of the pooled interval."""
    speedup: float | None = None
    """Geometric mean over seeds; `low` and `high` are the outermost ends of their intervals, or of the pooled one."""
    low: float | None = None
    high: float | None = None
    weights_bytes: int | None = None
    """The largest over seeds."""
    dense_bytes: int | None = None
    """Weights of the unpruned model."""
    over: Speedup | None = None
    """How it was pooled, where that was over several nodes."""

    @property
    def smaller(self) -> float | None:
        """How many times smaller the weights are than the unpruned model's."""
        return self.dense_bytes / self.weights_bytes if self.dense_bytes and self.weights_bytes else None


@dataclass(frozen=True)
class Loss:
    """What a choice of weights loses of one metric, in points or nats; pooled over the seeds of its masks."""

    cell: Cell
    metric: str
    value: float
    stderr: float
    verdict: str
    trained: bool = False
    """Whether it is from the unpruned model after as much training, and not from that model as it is."""

    @property
    def half_width(self) -> float:
        """Of the 95 % interval."""
        return CONFIDENCE * self.stderr

    @property
    def beyond(self) -> float:
        """By how much the upper end of the interval misses the margin."""
        return self.value + self.half_width - margin_of(self.metric)

    @property
    def kept(self) -> bool:
        """Whether the model is certain to be within the margin."""
        return self.verdict == "kept" and self.beyond <= 0

    @property
    def exact(self) -> bool:
        """Whether it is the unpruned model itself, which loses nothing."""
        return unpruned(self.cell) and self.cell.format == "dense"

    @property
    def judged(self) -> bool:
        """False where numbers look as if they were kept and are not, as those of a classifier that only guesses."""
        return self.kept or self.beyond > 0


@dataclass(frozen=True)
class Candidate:
    """One way to run a model, with what it costs and what it loses."""

    cell: Cell
    """Without its seed; format and workload are those of the costs."""
    loss: Loss
    cost: Cost

    @property
    def group(self) -> tuple[str, str, str | None]:
        """Candidates of one group can beat each other."""
        return self.cell.model, self.loss.metric, self.cell.workload

    @property
    def measured(self) -> bool:
        """Whether there are all the numbers to be on a frontier."""
        return self.cost.speedup is not None and self.cost.weights_bytes is not None

    @property
    def pruned(self) -> bool:
        """Whether anything is gone."""
        return bool(self.cell.sparsity)


def candidates(records: Iterable[Record]) -> list[Candidate]:
    """Every pair of costs and a loss that belong together, each loss without costs, and the unpruned models."""
    counted = [record for record in records if record.outcome in (None, "passed")]
    found: dict[tuple[Cell, str], Candidate] = {}
    paid = costs(counted)
    lost = losses(counted)
    for loss in lost:
        own: dict[tuple[str | None, str | None, str | None], Cost] = {}
        for cost in paid:
            place = (cost.cell.format, cost.cell.workload, cost.cell.dtype)
            if _stands_for(cost.cell, loss.cell) and (place not in own or cost.cell.recovery):
                own[place] = cost
        for cost in own.values() or [Cost(replace(loss.cell, format=None))]:
            cell = replace(cost.cell, recovery=loss.cell.recovery)
            if (cell, loss.metric) not in found or loss.cell.format:  # of quality too, that of the very format
                found[cell, loss.metric] = Candidate(cell, loss, cost)
    return [*_dense(paid, lost), *found.values()]


def costs(records: Iterable[Record]) -> list[Cost]:
    """What was measured in time and weights of each choice, format and workload, in the order measured."""
    found: dict[Cell, tuple[list[Record], list[Memory]]] = {}
    dense: dict[tuple[str, str | None, str | None], int] = {}
    for record in records:
        cell = replace(record.cell.plain, task=None, seed=None)
        timed, memories = found.setdefault(cell, ([], [])) if record.latency or record.memory else ([], [])
        if record.latency:
            timed.append(record)
        if record.memory:
            memories.append(record.memory)
            itself = record.memory.weights_bytes if unpruned(cell) and cell.format in ("dense", None) else None
            if known := record.memory.dense_weights_bytes or itself:
                dense.setdefault((cell.model, cell.workload, cell.dtype), known)
    return [
        replace(
            _time(cell, timed),
            weights_bytes=max((memory.weights_bytes for memory in memories), default=None),
            dense_bytes=dense.get((cell.model, cell.workload, cell.dtype)),
        )
        for cell, (timed, memories) in found.items()
    ]


def _time(cell: Cell, timed: Sequence[Record]) -> Cost:
    if over := over_nodes(timed):
        return Cost(cell, over.verdict, over.value, over.low, over.high, over=over)
    latencies = [record.latency for record in timed if record.latency]
    known = [(x.speedup, x.low, x.high) for x in latencies if x.speedup and x.low and x.high]
    verdicts = {latency.verdict for latency in latencies}
    said = next(iter(verdicts)) if len(verdicts) == 1 else "inconclusive"
    if not known:
        return Cost(cell)
    speedups, lows, highs = zip(*known, strict=True)
    speedup = statistics.geometric_mean(speedups) if len(speedups) > 1 else speedups[0]  # to the last bit
    return Cost(cell, said, speedup, min(lows), max(highs))


def losses(records: Iterable[Record]) -> list[Loss]:
    """What each choice lost of each metric; the unpruned model as it is, and that trained as long, are no choices."""
    pooled: dict[tuple[Cell, str], list[Quality]] = {}
    found: dict[tuple[Cell, str], Loss] = {}
    for record in records:
        cell, quality = replace(record.cell.plain, task=None, seed=None, workload=None), record.quality
        itself = unpruned(cell) and cell.format in ("dense", None)
        if quality is None or cell.sparsity is None or itself:
            continue
        key, own = (cell, quality.metric), record.recovered
        if own is not None:
            found[key] = _recovered(cell, quality, own)
        elif quality.delta is not None and quality.delta_stderr is not None:
            pooled.setdefault(key, []).append(quality)
            found[key] = _one_shot(cell, pooled[key])
    return list(found.values())


def _recovered(cell: Cell, quality: Quality, own: Recovered) -> Loss:
    """From the better of the two unpruned models: training that harmed the control must not flatter what it judges."""
    metric = quality.metric
    value, stderr = _worse(metric, own.delta), UNITS[metric] * own.delta_stderr
    beside = Loss(cell, metric, value, stderr, own.verdict, trained=own.steps is not None)
    if quality.delta is None or quality.delta_stderr is None or quality.verdict is None:
        return beside
    value, stderr = _worse(metric, quality.delta), UNITS[metric] * quality.delta_stderr
    return max(beside, Loss(cell, metric, value, stderr, quality.verdict), key=lambda loss: loss.value)


def _one_shot(cell: Cell, seeds: Sequence[Quality]) -> Loss:
    """The mean over seeds. The documents are the same for all, so their errors do not average out; the spread does."""
    metric = seeds[0].metric
    values = [_worse(metric, each.delta or 0.0) for each in seeds]
    errors = [UNITS[metric] * (each.delta_stderr or 0.0) for each in seeds]
    spread = statistics.variance(values) / len(values) if len(values) > 1 else 0.0
    stderr = math.sqrt(statistics.fmean(error**2 for error in errors) + spread)
    loss = Loss(cell, metric, statistics.fmean(values), stderr, "inconclusive")
    said = {each.verdict for each in seeds}
    if len(said) == 1 and (agreed := next(iter(said))):
        return replace(loss, verdict=agreed)
    return replace(loss, verdict=verdict(loss.value, stderr, margin_of(metric)))


def margin_of(metric: str) -> float:
    """Up to which a loss counts as kept, in points or nats."""
    return UNITS[metric] * MARGINS[metric]


def _worse(metric: str, delta: float) -> float:
    """A difference in the metric's unit as a loss in points or nats."""
    return UNITS[metric] * (delta if metric == "mean_nll" else -delta)


def _dense(paid: Iterable[Cost], lost: Iterable[Loss]) -> list[Candidate]:
    """The unpruned model on each workload that anything of it was measured on: 1x, and nothing lost."""
    found: dict[tuple[Cell, str], Candidate] = {}
    metrics = dict.fromkeys((loss.cell.model, loss.metric) for loss in lost)
    for cost in paid:
        cell = Cell(
            cost.cell.model, "none", sparsity=0.0, format="dense", workload=cost.cell.workload, dtype=cost.cell.dtype
        )
        itself = Cost(cell, "same", 1.0, 1.0, 1.0, cost.dense_bytes, cost.dense_bytes)
        for model, metric in metrics:
            if model == cell.model:
                found.setdefault((cell, metric), Candidate(cell, Loss(cell, metric, 0.0, 0.0, "kept"), itself))
    return list(found.values())


def _stands_for(cost: Cell, loss: Cell) -> bool:
    """Whether costs of one cell are those of another, whose quality was measured."""
    same = all(getattr(cost, axis) == getattr(loss, axis) for axis in CHOICE)
    anywhere = loss.format in (None, "dense")  # every format gives the same outputs
    dtype = None in (cost.dtype, loss.dtype) or cost.dtype == loss.dtype
    return same and dtype and (anywhere or cost.format == loss.format) and cost.recovery in (None, loss.recovery)


def unpruned(cell: Cell) -> bool:
    """Whether nothing was removed, whatever training followed."""
    return cell.method == "none" and not cell.sparsity


def beats(one: Candidate, other: Candidate) -> bool:
    """Whether one is at least as good in time, weights and quality, and better in one of them."""
    if one.group != other.group or not (one.measured and other.measured):
        return False
    mine, theirs = _merits(one), _merits(other)
    return mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))


def _merits(candidate: Candidate) -> tuple[float, float, float]:
    cost = candidate.cost
    return cost.speedup or 0.0, -(cost.weights_bytes or math.inf), -candidate.loss.value


def frontier(found: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other beats, group by group in the order of their first, the fastest first."""
    groups: dict[tuple[str, str, str | None], list[Candidate]] = {}
    for each in found:
        if each.measured:
            groups.setdefault(each.group, []).append(each)
    kept = [[one for one in group if not any(beats(other, one) for other in group)] for group in groups.values()]
    return [one for group in kept for one in sorted(group, key=lambda c: -(c.cost.speedup or 0.0))]
