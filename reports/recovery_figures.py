"""Figures of what a budget of training wins back, and of compositions.

Each gives None where there is nothing to draw. Panels stand for a model and what was measured of it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import canvas, measures
from reports.curves import ABOUT_ASIDE, about_nodes, draw_lines
from reports.measures import kinds_of_lines
from reports.recovery import METRICS, Step, ladders, step_name
from reports.series import NOT_PRUNED, Line
from reports.sources import among, pooled
from sparsity import answers
from sparsity.record import Record

QUALITY = {
    "mean_nll": ("perplexity (log)", measures.perplexity),
    "accuracy": ("accuracy (fraction)", measures.accuracy),
}
WIDTH = 20
"""Letters in a line below a step."""


# -- what a budget wins back -----------------------------------------------------------------------------


def recovery(records: Sequence[Record], footer: str = "") -> Figure | None:
    """One-shot and recovered quality against sparsity, with the unpruned model after as much training.

    Steps of compositions, which are measured on a workload, have a figure of their own.
    """
    found = _recovered(records)
    lines = _beside_all(found, records)
    if not lines:
        return None
    titles = {name: f"{name[0]} · {METRICS[name[1]]}" for name in lines}
    figure, panels = canvas.panels(list(titles.values()), "What a budget of training wins back", "")
    named = {name: [replace(line, label=_label(line, found)) for line in own] for name, own in lines.items()}
    order = list(dict.fromkeys(line.label for own in named.values() for line in own))
    for (model, metric), title in titles.items():
        axes, own = panels[title], named[model, metric]
        draw_lines(axes, own, order, QUALITY[metric][1], metric == "mean_nll")
        _levels(axes, [r for r in found if (r.cell.model, _quality(r).metric) == (model, metric)], found)
        canvas.sparsity_axis(axes, [point.sparsity for line in own for point in line.points])
        axes.set_ylabel(QUALITY[metric][0])
        if metric == "mean_nll":
            canvas.log_axis(axes)
    notes = "Recovered: mean over training seeds. Bars: 95 % interval. Horizontal: the unpruned model, as it is and "
    canvas.finish(figure, footer, notes + f"after as much of the same training (the control). {ABOUT_ASIDE}")
    return figure


def recovered(records: Sequence[Record]) -> list[Record]:
    """The records that `recovery` shows."""
    lines = _beside_all(_recovered(records), records)
    return among(records, [r for own in lines.values() for line in own for point in line.points for r in point.records])


def _recovered(records: Sequence[Record]) -> list[Record]:
    found = [r for r in records if r.recovered is not None and r.quality is not None and r.cell.sparsity is not None]
    return [r for r in found if r.cell.after is None and r.cell.workload is None]


def _beside_all(found: Sequence[Record], records: Sequence[Record]) -> dict[tuple[str, str], list[Line]]:
    """The lines of each model and metric."""
    names = list(dict.fromkeys((r.cell.model, _quality(r).metric) for r in found))
    every = [*records, *_one_shots(found, records)]
    return {name: _beside(found, every, *name) for name in names}


def _one_shots(found: Sequence[Record], records: Sequence[Record]) -> list[Record]:
    """What each recovered cell was before, where the run did not measure that by itself; without a bar."""
    known = {(replace(r.cell, seed=None), r.quality.metric) for r in records if r.quality}
    made = []
    for record in found:
        cell, quality = replace(record.cell, recovery=None), record.quality
        if record.recovered and quality and (cell, quality.metric) not in known:
            known.add((cell, quality.metric))
            value = replace(quality, value=record.recovered.one_shot, stderr=0.0)
            made.append(Record(cell, quality=value))
    return made


def _beside(found: Sequence[Record], records: Sequence[Record], model: str, metric: str) -> list[Line]:
    """The lines of a model whose choice of weights was recovered, one-shot and recovered."""
    choices = {_choice(record) for record in found if record.cell.model == model}
    lines = kinds_of_lines([r for r in records if r.cell.workload is None], "quality", metric)
    return [line for line in lines if _choice(_last(line)) in choices]


def _label(line: Line, found: Sequence[Record]) -> str:
    """How the model was recovered, and how it was pruned where that differs among those recovered."""
    cell = _last(line).cell
    pruned = " ".join(filter(None, [cell.method, cell.pattern, cell.scope]))
    several = len({_choice(record)[1:] for record in found}) > 1
    parts = [pruned if several else "", answers.recovered_by(cell.recovery) or "one-shot"]
    return canvas.text(" · ".join(filter(None, parts)), 90)


def _levels(axes: Axes, found: Sequence[Record], every: Sequence[Record]) -> None:
    """The unpruned model as it is, and the control of each recovery; those of equal height once."""
    levels = {_quality(r).dense_value: NOT_PRUNED for r in found if _quality(r).dense_value is not None}
    for record in found:
        if record.recovered:
            levels.setdefault(record.recovered.control, _control(record))
    order = [NOT_PRUNED, *dict.fromkeys(map(_control, every))]
    for value, name in levels.items():
        quality = replace(_quality(found[0]), value=value, stderr=0.0)
        drawn = QUALITY[quality.metric][1](Record(found[0].cell, quality=quality))
        if drawn is not None:
            axes.axhline(drawn.value, label=canvas.text(name), **canvas.reference_look(order.index(name)))


def _control(record: Record) -> str:
    budget = (record.cell.recovery or "").partition(":")[2]
    return f"{NOT_PRUNED} · trained as long ({budget})"


def _quality(record: Record) -> Any:
    assert record.quality is not None  # chosen for it
    return record.quality


def _last(line: Line) -> Record:
    return line.points[-1].records[0]


def _choice(record: Record) -> tuple[str, ...]:
    cell = record.cell
    return cell.model, str(cell.method), str(cell.pattern), str(cell.scope), str(cell.after)


# -- compositions ----------------------------------------------------------------------------------------


def ladder(records: Sequence[Record], footer: str = "") -> Figure | None:
    """Times faster and smaller, step by step; a panel for each composition."""
    chains = ladders(records)
    if not chains:
        return None
    names = [f"{i + 1} · {steps[0].cell.model}" for i, steps in enumerate(chains)]  # no two alike
    figure, panels = canvas.panels(names, "Compositions, step by step", "times (of the unpruned model)")
    for name, steps in zip(names, chains, strict=True):
        _ladder(panels[name], steps)
    notes = (
        "Each step goes on from what the one before it left. Below: the difference in quality, from the unpruned model "
    )
    notes += "after as much training where a step was trained, with half of the 95 % interval. "
    canvas.finish(figure, footer, (notes + about_nodes(on_ladders(records))).strip())
    return figure


def on_ladders(records: Sequence[Record]) -> list[Record]:
    """The records that `ladder` shows."""
    steps = [step for steps in ladders(records) for step in steps]
    return pooled(records, [step.cost for step in steps], [loss for step in steps for loss in step.losses])


def _ladder(axes: Axes, steps: Sequence[Step]) -> None:
    lines = {
        "times faster": [1.0, *(each.cost.speedup for each in steps)],
        "weights, times smaller": [1.0, *(each.cost.smaller for each in steps)],
    }
    for i, (label, values) in enumerate(lines.items()):
        known = [(place, value) for place, value in enumerate(values) if value is not None]
        if len(known) > 1:
            axes.plot(*zip(*known, strict=True), label=label, linewidth=1.5, markersize=4.5, **canvas.line_look(i))
    ticks = [NOT_PRUNED]
    for i, each in enumerate(steps):
        said = [answers.difference(replace(loss, trained=False)) for loss in each.losses]
        name = textwrap.wrap(step_name(steps, i), WIDTH)
        ticks.append("\n".join([*map(canvas.text, name), *said]))
    axes.set_xticks(range(len(ticks)), ticks, fontsize=6.5)
    axes.set_xlim(-0.4, len(steps) + 0.4)
    axes.set_ylim(0.0, axes.get_ylim()[1] * 1.05)
    axes.set_xlabel("step")
