"""Figures of what a budget of training wins back, of the frontier, and of compositions.

Each gives None where there is nothing to draw. Panels stand for a model and what was measured of it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from reports import canvas, measures
from reports.measures import height, kinds_of_lines
from reports.recovery import METRICS, Step, ladders, step_name
from reports.series import NOT_PRUNED, Line
from sparsity import answers
from sparsity.frontier import Candidate, beats, candidates, frontier, margin_of
from sparsity.record import Record

UNIT = {"mean_nll": "loss (nats per token)", "accuracy": "loss (points of accuracy)"}
QUALITY = {
    "mean_nll": ("perplexity (log)", measures.perplexity),
    "accuracy": ("accuracy (fraction)", measures.accuracy),
}
WIDTH = 20
"""Letters in a line below a step."""
NAMED = 6
"""Points of a frontier that are named in the figure; the table names all."""
FAINT: dict[str, Any] = {"color": "#999999", "marker": ".", "markersize": 5, "linestyle": "none", "zorder": 1.5}
MARGIN_LOOK: dict[str, Any] = {"color": canvas.INK, "linestyle": (0, (5, 3)), "linewidth": 1.0}


# -- what a budget wins back -----------------------------------------------------------------------------


def recovery(records: Sequence[Record], footer: str = "") -> Figure | None:
    """One-shot and recovered quality against sparsity, with the unpruned model after as much training.

    Steps of compositions, which are measured on a workload, have a figure of their own.
    """
    found = [r for r in records if r.recovered is not None and r.quality is not None and r.cell.sparsity is not None]
    found = [r for r in found if r.cell.after is None and r.cell.workload is None]
    names = list(dict.fromkeys((r.cell.model, _quality(r).metric) for r in found))
    if not names:
        return None
    titles = {name: f"{name[0]} · {METRICS[name[1]]}" for name in names}
    figure, panels = canvas.panels(list(titles.values()), "What a budget of training wins back", "")
    every = [*records, *_one_shots(found, records)]
    lines = {name: _beside(found, every, *name) for name in names}
    looks = {
        label: i for i, label in enumerate(dict.fromkeys(_label(one, found) for own in lines.values() for one in own))
    }
    for (model, metric), title in titles.items():
        axes, of = panels[title], QUALITY[metric][1]
        for line in lines[model, metric]:
            points = [(p.sparsity, h) for p in line.points if (h := height(p, of, metric == "mean_nll"))]
            _errorbar(axes, _label(line, found), points, looks[_label(line, found)])
        _levels(axes, [r for r in found if (r.cell.model, _quality(r).metric) == (model, metric)], found)
        canvas.sparsity_axis(axes, [point.sparsity for line in lines[model, metric] for point in line.points])
        axes.set_ylabel(QUALITY[metric][0])
        if metric == "mean_nll":
            canvas.log_axis(axes)
    notes = "Recovered: mean over training seeds. Bars: 95 % interval. Horizontal: the unpruned model, as it is and "
    canvas.finish(figure, footer, notes + "after as much of the same training (the control).")
    return figure


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


def _errorbar(axes: Axes, label: str, points: Sequence[tuple[float, measures.Height]], index: int) -> None:
    bars = [[max(0.0, h.value - h.low) for _, h in points], [max(0.0, h.high - h.value) for _, h in points]]
    style: dict[str, Any] = {"linewidth": 1.5, "markersize": 4.5, "elinewidth": 0.9, "capsize": 2.0}
    places, heights = [sparsity for sparsity, _ in points], [h.value for _, h in points]
    axes.errorbar(places, heights, yerr=bars, label=label, **style, **canvas.line_look(index))


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


# -- the frontier ----------------------------------------------------------------------------------------


def frontier_figure(records: Sequence[Record], footer: str = "") -> Figure | None:
    """Loss against speedup; what is not beaten stands out, and what leads in both is joined."""
    found = [each for each in candidates(records) if each.measured]
    groups = list(dict.fromkeys(each.group for each in found if each.pruned))
    if not groups:
        return None
    titles = {group: " · ".join(filter(None, [group[0], group[2], METRICS[group[1]]])) for group in groups}
    figure, panels = canvas.panels(list(titles.values()), "The frontier: what is lost for how much speed", "")
    for group, title in titles.items():
        own = [each for each in found if each.group == group]
        _frontier(panels[title], own, group[1])
    notes = (
        "Filled: beaten by nothing in time, weights and quality at once; joined: those that lead in time and quality; "
    )
    canvas.finish(figure, footer, notes + "open circles: on the frontier for their weights. Grey: beaten. Bars: 95 %.")
    return figure


def _frontier(axes: Axes, found: Sequence[Candidate], metric: str) -> None:
    best = frontier(found)
    lean = [replace(c, cost=replace(c.cost, weights_bytes=1)) for c in best]
    joined = [c for c, own in zip(best, lean, strict=True) if not any(beats(other, own) for other in lean)]
    rest = [each for each in found if each not in best]
    margin = margin_of(metric)
    axes.margins(x=0.15)  # room for names
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=margin, linscale=0.6)
    axes.plot(*_places(rest), label="beaten", **FAINT)
    light = [each for each in best if each not in joined]
    axes.plot(
        *_places(light), "o", color=canvas.COLOURS[1], markerfacecolor="white", label="not beaten, for its weights"
    )
    _joined(axes, joined)
    axes.axhline(margin, label="margin", **MARGIN_LOOK)
    axes.set_xlabel("times faster (log)")
    axes.set_ylabel(UNIT[metric])
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)) if high > 3 * low else MaxNLocator(5))
    axes.xaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _joined(axes: Axes, joined: Sequence[Candidate]) -> None:
    xs, ys = _places(joined)
    wide = [[max(0.0, x - (c.cost.low or x)) for x, c in zip(xs, joined, strict=True)]]
    wide.append([max(0.0, (c.cost.high or x) - x) for x, c in zip(xs, joined, strict=True)])
    high = [each.loss.half_width for each in joined]
    look: dict[str, Any] = {
        "color": canvas.COLOURS[0],
        "linewidth": 1.2,
        "elinewidth": 0.8,
        "capsize": 2.0,
        "markersize": 5,
    }
    axes.errorbar(xs, ys, yerr=high, xerr=wide, fmt="o-", label="not beaten", **look)
    for i, (each, x, y) in enumerate(list(zip(joined, xs, ys, strict=True))[:NAMED]):
        left = i < len(joined) / 2  # the fastest come first, and the curve rises to the right: above it there is room
        where: dict[str, Any] = {"xytext": (-5, 4) if left else (6, -3), "ha": "right" if left else "left"}
        where |= {"va": "bottom" if left else "top", "textcoords": "offset points", "fontsize": 6.5}
        axes.annotate(_short(each), (x, y), **where).set_in_layout(False)


def _short(candidate: Candidate) -> str:
    """What fits beside a point."""
    cell = candidate.cell
    if candidate.loss.exact:
        return NOT_PRUNED
    parts = [f"{cell.method} {cell.sparsity:g}" if candidate.pruned else NOT_PRUNED, cell.format]
    lines = [canvas.text(line, 40) for line in (" ".join(filter(None, parts)), cell.recovery or "") if line]
    return ("… then " if cell.after else "") + "\n".join(lines)


def _places(found: Sequence[Candidate]) -> tuple[list[float], list[float]]:
    return [each.cost.speedup or 0.0 for each in found], [each.loss.value for each in found]


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
    canvas.finish(
        figure, footer, notes + "after as much training where a step was trained, with half of the 95 % interval."
    )
    return figure


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
