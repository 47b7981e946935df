"""The report in short, for `$GITHUB_STEP_SUMMARY` and comments on pull requests: Markdown that fits into both.

What pruning bought, where that was measured, one table of the pruned models with the most telling first, and what was
not measured and why. GitHub takes 65 536 characters for a comment; what does not fit is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from reports import markdown
from reports.document import Document, Part, Table
from reports.run import Run
from reports.words import MISSING, number
from sparsity import answers
from sparsity.frontier import Cost, Loss, candidates, costs
from sparsity.nodes import listed
from sparsity.record import Cell, Record

LONGEST = 60_000
"""Characters of the whole text."""
LONGEST_TEXT = 300
"""Of a string from outside; escaped, it is five times as long at most."""
SENTENCES, REASONS = 12, 12
"""So many are told before the rest is counted."""
HEADERS = ("cell", "time / unpruned [95 %]", "time", "weights", "quality ± 95 %")
ABOUT = (
    "Time: of a forward pass over that of the unpruned model, timed in turns with it; below 1 is faster. Quality: "
    "difference from the unpruned model, with half of its 95 % interval. Faster for certain and kept comes first."
)


@dataclass(frozen=True)
class Way:
    """A pruned model in a format on a workload, with what it costs and what it loses of each metric."""

    cell: Cell
    cost: Cost
    losses: tuple[Loss, ...] = ()

    @property
    def order(self) -> tuple[int, float]:
        """What is certain to be faster and kept comes first, then what is kept and no slower, then what is faster."""
        kept = bool(self.losses) and all(loss.kept for loss in self.losses)
        faster, no_slower = self.cost.verdict == "faster", self.cost.verdict != "slower"
        rank = 0 if kept and faster else 1 if kept and no_slower else 2 if faster and not self.losses else 3
        return rank if rank < 3 or faster else 4, -(self.cost.speedup or 0.0)


def summary(run: Run) -> str:
    """The Markdown text, no longer than `LONGEST` characters."""
    rows = [_row(way) for way in ways(run.drawn)]
    told = [_clipped(each) for each in answers.sentences(candidates(run.drawn))]
    text, shown = _page(run, told, rows, len(rows)), len(rows)
    while len(text) > LONGEST and shown:
        shown = min(shown - 1, shown * LONGEST // len(text))
        text = _page(run, told, rows, shown)
    return text


def ways(records: Sequence[Record]) -> list[Way]:
    """Every pruned model that was measured, the most telling first."""
    found: dict[Cell, Way] = {}
    for each in candidates(records):
        if each.pruned:
            losses = found[each.cell].losses if each.cell in found else ()
            found[each.cell] = Way(each.cell, each.cost, (*losses, each.loss))
    paired = {way.cost.cell for way in found.values()}
    alone = [cost for cost in costs(records) if cost.cell.sparsity and cost.cell not in paired]
    return sorted([*found.values(), *(Way(cost.cell, cost) for cost in alone)], key=lambda way: way.order)


def _page(run: Run, told: Sequence[str], rows: Sequence[tuple[str, ...]], shown: int) -> str:
    left = len(rows) - shown
    notes = [ABOUT, *([f"{left} more rows are left out here."] if left else [])]
    parts = []
    if rows:
        parts.append(Part("Pruned models", table=Table(HEADERS, tuple(rows[:shown])), notes=tuple(notes)))
    reasons = [f"{count} {what}" for what, count in _reasons(run).most_common()]
    if reasons:
        parts.append(Part(f"Failed or not measured: {len(run.missing)}", points=_first(reasons, REASONS)))
    answer = Part("The answer", points=_first(told, SENTENCES)) if told else None
    stopped = [f"The run was stopped: {run.not_run} tests were not run."] if run.not_run else []
    return markdown.render(
        Document("What pruning bought", answer, (_where(run), *filter(None, [run.apart]), *stopped), tuple(parts))
    )


def _row(way: Way) -> tuple[str, ...]:
    cost = way.cost
    what = f"{way.cell.model} · {answers.label(way.cell, workload=True)}"
    held = MISSING if cost.smaller is None else answers.size(cost).removeprefix("weights ")
    lost = "; ".join(f"{answers.difference(loss)} ({loss.verdict})" for loss in way.losses)
    return _clipped(what), _time(cost), cost.verdict or MISSING, held, lost or MISSING


def _time(cost: Cost) -> str:
    if not (cost.speedup and cost.low and cost.high):
        return MISSING
    ratio, low, high = (number(1 / times) for times in (cost.speedup, cost.high, cost.low))
    over = f" {cost.over.said}" if cost.over else ""
    return f"{ratio} [{low}, {high}]{over}"


def _reasons(run: Run) -> Counter[str]:
    """How many were not measured, by outcome and reason."""
    return Counter(_clipped(f"{item.outcome}: {item.reason or 'no reason recorded'}") for item in run.missing)


def _where(run: Run) -> str:
    """Machine, software and commit in a line."""
    known = run.facts
    days = dict.fromkeys(moment[:10] for moment in (run.datetime or "").split("; "))
    facts = [
        f"{len(run.nodes)} nodes: {listed(list(run.nodes))}" if run.nodes else None,
        known.get("gpu"),
        known.get("cpu") if run.nodes else run.machine or known.get("cpu"),
        f"threads {known['threads']}" if "threads" in known else None,
        f"torch {known['torch']}" if "torch" in known else None,
        f"commit {short(run.commit)}" if run.commit else None,
        ", ".join(days),
    ]
    return " · ".join(_clipped(str(fact)) for fact in facts if fact)


def short(commit: str) -> str:
    """Commit ids in their first ten digits; that there were uncommitted changes stays said."""
    return " ".join(word[:10] if len(word.rstrip(";")) == 40 else word for word in commit.split(" "))


def _clipped(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def _first(lines: Sequence[str], most: int) -> tuple[str, ...]:
    left = len(lines) - most
    return (*lines[:most], f"and {left} more") if left > 0 else tuple(lines)
