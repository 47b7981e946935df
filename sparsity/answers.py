"""What a run answers, as sentences: what pruning bought within the margin, or by how much it missed it.

    within 1 point of dense: bert · l1 0.8 unstructured · packed: 3.1x faster [2.9, 3.3], weights 3.2x smaller,
    −0.3 ± 0.5 points

Of each model and metric the fastest that is certain to keep its quality, and the smallest where that is another.
± is the half-width of the 95 % interval, and brackets are its ends. "from dense trained as long": of a model that
was trained after pruning, the difference is from the unpruned model after as much training, which was the better one,
and not from that model as it is. "over 3 nodes, τ 0.04": a ratio that several nodes measured, pooled with the node as a
random effect, and the standard deviation between them, of logarithms.

Standard library only. Says nothing of a model of which no pruned one could be judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from sparsity import recovery
from sparsity.errors import SparsityError
from sparsity.frontier import Candidate, Cost, Loss, frontier, unpruned
from sparsity.record import Cell

WITHIN = {"mean_nll": "0.02 nats", "accuracy": "1 point"}
"""The margins in words."""
NAMES = {"mean_nll": "nats", "accuracy": "points"}
PLACES = {"mean_nll": 3, "accuracy": 1}
SMALLER = 0.95
"""Of the weights of the fastest: what is smaller than that is worth a sentence of its own."""
SAME_SIZE = 0.005
"""A fraction of the weights that no reader asks for."""
SPEEDS = {"faster": "{0} faster", "same": "as fast", "slower": "slower, {0}"}
UNTOLD = "whether faster could not be told, {0}"
NOT_PRUNED = "unpruned"
THEN = ", then "
"""Between the steps of a composition."""
HEADERS = ("model", "metric", "not beaten", "faster [95 %]", "time", "weights", "difference ± 95 %")
"""Of the table of the frontier."""


def sentences(found: Sequence[Candidate]) -> list[str]:
    """For each model and metric what was bought within the margin, in the order of the candidates."""
    groups: dict[tuple[str, str], list[Candidate]] = {}
    for each in found:
        groups.setdefault((each.cell.model, each.loss.metric), []).append(each)
    return [said for group in groups.values() for said in _of_one(group)]


def _of_one(group: Sequence[Candidate]) -> list[str]:
    pruned = [each for each in group if each.pruned and each.loss.judged]
    kept = [each for each in pruned if each.loss.kept]
    if not pruned:
        return []
    if not kept:
        return [_missed(min(pruned, key=lambda each: each.loss.beyond))]
    several = len({each.cell.workload for each in group} - {None}) > 1
    fastest = max(kept, key=lambda each: (*_speed(each), each.cell.sparsity or 0.0, -each.loss.value))
    smallest = min(kept, key=_size_first)
    told = [fastest]
    if (smallest.cost.weights_bytes or math.inf) < SMALLER * (fastest.cost.weights_bytes or math.inf):
        told.append(smallest)
    others = [each for each in group if not each.pruned and each.loss.kept and _speed(each)[0]]
    if others and _speed(quickest := max(others, key=_speed)) > _speed(fastest):
        told.append(quickest)
    return [_bought(each, several) for each in told]


def _speed(candidate: Candidate) -> tuple[bool, float]:
    """What is certain to be faster comes before what only seems to be."""
    return candidate.cost.verdict == "faster", candidate.cost.speedup or 0.0


def _size_first(candidate: Candidate) -> tuple[float, float, float, float]:
    """The smaller; of two of a size the faster; of two recoveries of one choice, which cost the same, the better."""
    sure, times = _speed(candidate)
    return candidate.cost.weights_bytes or math.inf, -sure, -times, candidate.loss.value


def _bought(candidate: Candidate, workload: bool) -> str:
    cost, what = candidate.cost, label(candidate.cell, workload)
    paid = f"{speed(cost)}, {size(cost)}" if cost.speedup or cost.weights_bytes else "cost not measured"
    where = f"{WITHIN[candidate.loss.metric]} of dense: {candidate.cell.model} · {what}"
    return f"within {where}: {paid}, {difference(candidate.loss)}"


def _missed(candidate: Candidate) -> str:
    loss, what = candidate.loss, label(replace(candidate.cell, format=None))
    missed = f"{loss.beyond:.{PLACES[loss.metric]}f} {NAMES[loss.metric]}"
    nearest = f"nearest is {what} with {difference(loss)}, whose interval misses it by {missed}"
    return f"nothing pruned is certain to be within {WITHIN[loss.metric]} of dense: {candidate.cell.model}; {nearest}"


def unbeaten(found: Sequence[Candidate]) -> list[list[str]]:
    """The table of the frontier: what nothing else beats, where a pruned model was measured."""
    compared = {each.group for each in found if each.pruned and each.measured}
    several = {name: len({group[2] for group in compared if group[0] == name}) > 1 for name, _, _ in compared}
    return [
        [
            each.cell.model,
            {"mean_nll": "mean NLL"}.get(each.loss.metric, each.loss.metric),
            label(each.cell, several[each.cell.model]),
            *(("1x", "") if each.loss.exact else (times(each.cost), each.cost.verdict or "")),
            size(each.cost).removeprefix("weights "),
            "" if each.loss.exact else difference(each.loss),
        ]
        for each in frontier(found)
        if each.group in compared
    ]


def difference(loss: Loss) -> str:
    """`−0.3 ± 0.5 points`, in the metric's own direction, and from what where that is not the model as it is."""
    places = PLACES[loss.metric]
    value = round(loss.value if loss.metric == "mean_nll" else -loss.value, places) + 0.0  # no -0
    said = f"{value:+.{places}f} ± {loss.half_width:.{places}f} {NAMES[loss.metric]}".replace("-", "−")
    return f"{said} from dense trained as long" if loss.trained else said


def speed(cost: Cost) -> str:
    """`3.1x faster [2.9, 3.3]`, or what else can be said of the time."""
    if cost.speedup is None:
        return "time not measured"
    said, ends = times(cost).split(" ", 1)
    return f"{SPEEDS.get(cost.verdict or '', UNTOLD).format(said)} {ends}"


def times(cost: Cost) -> str:
    """`3.1x [2.9, 3.3]`, and over how many nodes; a dash where it was not measured."""
    if cost.speedup is None:
        return "–"
    places = 2 if cost.speedup < 2 else 1
    over = f" {cost.over.said}" if cost.over else ""
    return f"{cost.speedup:.{places}f}x [{cost.low:.{places}f}, {cost.high:.{places}f}]{over}"


def size(cost: Cost) -> str:
    """`weights 3.2x smaller`, or larger, or the same."""
    times = cost.smaller
    if times is None:
        return "weights not measured"
    if abs(times - 1) <= SAME_SIZE:
        return "weights the same"
    said, more = ("smaller", times) if times > 1 else ("larger", 1 / times)
    return f"weights {more:.{2 if more < 2 else 1}f}x {said}"


def label(cell: Cell, workload: bool = False) -> str:
    """`l1 0.8 unstructured · packed · 200 steps distilled`: a way to run a model, without the model."""
    kind = None if unpruned(cell) and cell.format == "dense" else cell.format
    done = so_far(replace(cell, recovery=None))
    return " · ".join(filter(None, [done, kind, recovered_by(cell.recovery), cell.workload if workload else None]))


def so_far(cell: Cell) -> str:
    """All that was done to a model: what the next step of a composition has as its `Cell.after`."""
    return THEN.join(filter(None, [cell.after, step(cell)]))


def step(cell: Cell) -> str:
    """One step of a composition: `l1 0.8 unstructured`, with a scope that is not the usual one and its recovery."""
    recovered = cell.plain.recovery
    if unpruned(cell):
        return " ".join(filter(None, [NOT_PRUNED, recovered]))
    scope = None if cell.scope == "layer" else cell.scope
    sparsity = None if cell.sparsity is None else f"{cell.sparsity:g}"
    return " ".join(filter(None, [cell.method, sparsity, cell.pattern, scope, recovered]))


def recovered_by(text: str | None) -> str:
    """`200 steps distilled`; of a word that is no recovery, the word itself; empty for none."""
    try:
        return recovery.said(recovery.parse(text)) if text else ""
    except SparsityError:
        return text or ""
