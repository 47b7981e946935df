"""What a reader wants to know first, what recoveries won back, and compositions step by step.

The answers and the frontier are those of `sparsity.answers` and `sparsity.frontier`. A ladder is a composition: each
step is pruned from what the step before it left, which is what its cell calls `after`. Whatever lacks its data is
left out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from reports.document import Part, Table
from reports.words import MISSING, number
from sparsity import answers
from sparsity.frontier import Cost, Loss, candidates, costs, losses, unpruned
from sparsity.judging import UNITS
from sparsity.record import Cell, Record

ABOUT_FRONTIER = (
    "Not beaten: no other way to run the model is at least as fast, as small and as good, and better in one of the "
    "three, by point estimates. ±: half of the 95 % interval; brackets: its ends. A recovered model is held against "
    "the better of the unpruned model as it is and of that after as much of the same training: 'from dense trained as "
    "long' where it is the latter."
)
ABOUT_RECOVERY = (
    "Accuracy as a fraction, or perplexity; means over training seeds. Control: the unpruned model after as much of "
    "the same training. Difference: recovered less control, in points of accuracy or nats per token, with its standard "
    "error paired over documents; in brackets those of the single seeds. Seconds: of one seed, median."
)
ABOUT_LADDER = (
    "Each step goes on from what the step above it left. Times faster and smaller than the unpruned model, in the "
    "format that was fastest unless quality was measured in each; differences in points of accuracy and nats per token "
    "with half of their 95 % interval."
)
ABOUT_TRAINING = "A training step that holds masks beside the same step without, in turns; above 1 is slower."
METRICS = {"mean_nll": "perplexity", "accuracy": "accuracy"}


def answer(records: Sequence[Record]) -> Part | None:
    """The part at the top: the sentences and the frontier; None where there is neither."""
    found = candidates(records)
    told = tuple(answers.sentences(found))
    table = Table(answers.HEADERS, tuple(map(tuple, answers.unbeaten(found))), text_columns=3)
    return Part("The answer", points=told, table=table, notes=(ABOUT_FRONTIER,)) if told or table else None


def recovered(records: Iterable[Record]) -> Table:
    """A row for each recovered cell, as they were measured."""
    headers = ["model", "pruned by", "recovery", "metric", "unpruned", "one-shot", "recovered", "control"]
    headers += ["difference", "verdict", "steps", "seconds", "seeds (differences)"]
    return Table(tuple(headers), tuple(row for record in records if (row := _recovered_row(record))), text_columns=4)


def _recovered_row(record: Record) -> tuple[str, ...]:
    found, judged, cell = record.recovered, record.quality, record.cell
    if found is None or judged is None:
        return ()
    metric, factor = judged.metric, UNITS[judged.metric]
    values = (judged.dense_value, found.one_shot, statistics.fmean(found.values), found.control)
    places = 2 if metric == "accuracy" else 4
    singles = (f"{seed} ({factor * delta:+.{places}f})" for seed, delta in zip(found.seeds, found.deltas, strict=True))
    return (
        cell.model,
        pruned_by(cell),
        answers.recovered_by(cell.recovery) or MISSING,
        METRICS[metric],
        *(_shown(metric, value) for value in values),
        f"{factor * found.delta:+.{places}f} ± {factor * found.delta_stderr:.{places}f}",
        found.verdict,
        MISSING if found.steps is None else str(found.steps),
        number(found.seconds),
        ", ".join(singles),
    )


def training(records: Iterable[Record]) -> Table:
    """What it costs to hold masks while training, a row for each model."""
    rows = tuple(
        (
            record.cell.model,
            f"{each.ratio:.3f} ({each.low:.3f} to {each.high:.3f})",
            number(each.held_seconds),
            number(each.free_seconds),
        )
        for record in records
        if (each := record.training) is not None
    )
    return Table(("model", "ratio (95 %)", "s with masks", "s without"), rows)


def pruned_by(cell: Cell) -> str:
    """`l1 0.8 unstructured`, with what was done before, and the format where that matters."""
    return answers.label(replace(cell, recovery=None))


def _shown(metric: str, value: float | None) -> str:
    if value is None or metric == "accuracy":
        return number(value)
    return number(math.exp(value)) if value < 300 else f"e^{value:.0f}"  # soon beyond any float


# -- compositions ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A composition up to one of its steps, on one workload."""

    cell: Cell
    cost: Cost
    """In the format that was fastest, or smallest where no time was measured."""
    losses: tuple[Loss, ...]


def ladders(records: Sequence[Record]) -> list[list[Step]]:
    """Each composition from its first step on, by model and workload, in the order measured."""
    paid, lost = costs(records), losses(records)
    judged = [_choice(each.cell) for each in lost]
    known = {replace(cell, recovery=None) for cell in judged}  # these have a row that says what they lose, too
    cells = dict.fromkeys([*judged, *(cell for cost in paid if (cell := _choice(cost.cell)) not in known)])
    found: list[list[Step]] = []
    for chain in _chains([cell for cell in cells if not unpruned(cell)]):
        places = {replace(cell, recovery=None) for cell in chain} | set(chain)
        workloads: list[str | None] = [cost.cell.workload for cost in paid if _choice(cost.cell) in places]
        found += [
            [step for cell in chain for step in _steps(cell, workload, paid, lost)]
            for workload in dict.fromkeys(workloads or [None])
        ]
    return found


def _choice(cell: Cell) -> Cell:
    followed = cell.plain.recovery
    return Cell(cell.model, cell.method, cell.pattern, cell.scope, cell.sparsity, recovery=followed, after=cell.after)


def _chains(cells: Sequence[Cell]) -> list[list[Cell]]:
    """From each cell that nothing follows back to its first step, as far as the steps were measured."""
    by_what_they_left = {(cell.model, answers.so_far(cell)): cell for cell in cells}
    before = {cell: by_what_they_left.get((cell.model, cell.after)) for cell in cells if cell.after}
    chains = []
    for cell in before:
        if cell not in before.values():
            chain = [cell]
            while (earlier := before.get(chain[0])) is not None and earlier not in chain:
                chain.insert(0, earlier)
            chains.append(chain)
    return chains


def _steps(cell: Cell, workload: str | None, paid: Iterable[Cost], lost: Iterable[Loss]) -> list[Step]:
    """A step in the format that was fastest; where quality was measured in formats, in each of them."""
    here = [cost for cost in paid if cost.cell.workload == workload]
    own = [c for c in here if _choice(c.cell) == cell]
    own = own or [c for c in here if _choice(c.cell) == replace(cell, recovery=None)]
    judged = [loss for loss in lost if _choice(loss.cell) == cell]
    found = []
    for kind in dict.fromkeys(loss.cell.format for loss in judged if loss.cell.format) or [None]:
        costs_of_kind = [c for c in own if kind in (None, c.cell.format)]
        fastest = max(costs_of_kind, key=lambda c: (c.speedup or 0.0, c.smaller or 0.0), default=Cost(cell))
        of_kind = sorted(
            (loss for loss in judged if loss.cell.format in (None, kind)), key=lambda x: x.cell.format or ""
        )
        found.append(Step(cell, fastest, tuple({loss.metric: loss for loss in of_kind}.values())))
    return found


def ladder(records: Sequence[Record]) -> Table:
    """A row for each step of each composition."""
    headers = ["model", "step", "format", "workload", "faster [95 %]", "time", "weights", "points", "nats"]
    rows = []
    for steps in ladders(records):
        for i, each in enumerate(steps):
            kind = [each.cost.cell.format or MISSING, each.cost.cell.workload or MISSING]
            time = [answers.times(each.cost), each.cost.verdict or MISSING]
            held = MISSING if each.cost.smaller is None else answers.size(each.cost).removeprefix("weights ")
            lost = [_loss(each, metric) for metric in ("accuracy", "mean_nll")]
            what = f"{i + 1}. {step_name(steps, i)}"
            rows.append((each.cell.model, what, *kind, *time, held, *lost))
    return Table(tuple(headers), tuple(rows), text_columns=4)


def step_name(steps: Sequence[Step], place: int) -> str:
    """What the step does; of the first that was measured, with all that was done before."""
    cell = steps[place].cell
    if place and cell == steps[place - 1].cell:
        return f"stored as {steps[place].cost.cell.format}"
    return answers.step(cell) if place else answers.so_far(cell)


def _loss(step: Step, metric: str) -> str:
    found = next((loss for loss in step.losses if loss.metric == metric), None)
    return MISSING if found is None else answers.difference(found)
