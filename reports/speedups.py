"""Figures of time alone: every format on one mask, and what was reached beside what could be.

Each gives None where there is nothing to draw. A ratio to the unpruned model is timed in turns with
it; a time without such a ratio is left out.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import canvas, measures
from reports.curves import ABOUT_ASIDE, about_nodes, draw_lines
from reports.measures import of_kind
from reports.series import NOT_PRUNED, Line, lines, models
from reports.sources import among, pooled
from reports.words import mebibytes
from sparsity import answers
from sparsity.frontier import Cost, costs, unpruned
from sparsity.record import Cell, Record

PANELS = 9
"""In one figure, at most."""
LOOKS: dict[str, dict[str, Any]] = {
    "faster": {"color": canvas.COLOURS[0], "marker": "o"},
    "same": {"color": "#777777", "marker": "o"},
    "slower": {"color": canvas.COLOURS[1], "marker": "o"},
    "inconclusive": {"color": "#777777", "marker": "o", "markerfacecolor": "white"},
    NOT_PRUNED: {"color": canvas.INK, "marker": "D", "markerfacecolor": "white"},
}
"""By verdict, filled where it is certain; and of the unpruned model, whatever the verdict."""
CEILING = "Amdahl's ceiling"
TITLE_WIDTH, TITLE_LINES = 44, 3
"""Letters in a line above a panel, and lines, at most."""


# -- every format on one mask ----------------------------------------------------------------------------


@dataclass(frozen=True)
class OneMask:
    """What one choice of weights costs in each format, and the unpruned model beside it; the fastest last."""

    cell: Cell
    """Without a format."""
    costs: tuple[Cost, ...]


def masks(records: Sequence[Record]) -> list[OneMask]:
    """For each model the mask that was timed in the most formats, in at least two; of several the sparsest."""
    timed = [each for each in costs(records) if each.speedup is not None]
    found: dict[str, dict[Cell, list[Cost]]] = {}
    for each in timed:
        if each.cell.format is not None and not unpruned(each.cell):
            own = found.setdefault(each.cell.model, {})
            own.setdefault(replace(each.cell, format=None), []).append(each)
    chosen = []
    for own in found.values():
        cell = max(own, key=lambda mask: (len(own[mask]), mask.sparsity or 0.0))
        beside = [each for each in timed if _is_reference(each.cell, cell)]
        if len(own[cell]) > 1:
            in_order = sorted([*own[cell], *beside], key=lambda cost: cost.speedup or 0.0)
            chosen.append(OneMask(cell, tuple(in_order)))
    return chosen


def _is_reference(cell: Cell, mask: Cell) -> bool:
    where = ("model", "workload", "dtype")
    return unpruned(cell) and cell.plain.recovery is None and all(getattr(cell, x) == getattr(mask, x) for x in where)


def on_one_mask(records: Sequence[Record]) -> list[Record]:
    """The records that `formats_on_one_mask` shows."""
    return pooled(records, [cost for mask in masks(records) for cost in mask.costs], [])


def formats_on_one_mask(records: Sequence[Record], footer: str = "") -> Figure | None:
    """Times faster in each format of one mask with their intervals, the weights they hold and the verdict beside."""
    found = masks(records)
    if not found:
        return None
    columns = min(len(found), canvas.PANELS_PER_ROW)
    rows = math.ceil(len(found) / columns)
    most = max(len(mask.costs) for mask in found)
    figure = canvas.blank(max(4.4 * columns, canvas.LEAST_WIDTH), (0.27 * most + 1.2) * rows + 0.6)
    figure.suptitle("The same mask in every format: times faster than the unpruned model")
    for i, mask in enumerate(found):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.set_title(_title(mask.cell), fontsize=8.5)
        axes.set_xlabel("times faster (log)")
        if i % columns == 0:
            axes.set_ylabel("format")
        _formats(axes, mask.costs)
    notes = (
        "Bars: 95 % interval. Filled: the verdict is certain. Beside each: resident weights, and the verdict on the "
        "time. 1: the unpruned dense model; its own row is that model against its copy, which shows the noise."
    )
    canvas.finish(figure, footer, " ".join(filter(None, [notes, about_nodes(on_one_mask(records))])), apart=0.12)
    return figure


def _title(cell: Cell) -> str:
    said = textwrap.wrap(f"{cell.model}: {answers.label(cell, workload=True)}", TITLE_WIDTH)
    return "\n".join(canvas.text(line) for line in said[:TITLE_LINES])


def _formats(axes: Axes, shown: Sequence[Cost]) -> None:
    kinds = [NOT_PRUNED if unpruned(cost.cell) else str(cost.verdict) for cost in shown]
    for kind in LOOKS:
        _dots(axes, kind, [(row, cost) for row, cost in enumerate(shown) if kinds[row] == kind])
    axes.axvline(1.0, color=canvas.INK, linestyle=(0, (5, 3)), linewidth=1.0, zorder=1.5)
    for row, cost in enumerate(shown):
        held = None if cost.weights_bytes is None else f"{mebibytes(cost.weights_bytes)} MiB"
        beside = " · ".join(filter(None, [held, cost.verdict]))
        axes.text(1.02, row, beside, transform=axes.get_yaxis_transform(), fontsize=7.5, va="center")
    names = [f"{NOT_PRUNED} · {c.cell.format}" if unpruned(c.cell) else str(c.cell.format) for c in shown]
    axes.set_yticks(range(len(shown)), [canvas.text(name, 32) for name in names])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)
    canvas.log_axis(axes, across=True)


def _dots(axes: Axes, kind: str, shown: Sequence[tuple[int, Cost]]) -> None:
    """The dots of one verdict with their intervals, or those of the unpruned model."""
    found = [(row, cost.speedup, cost.low, cost.high) for row, cost in shown]
    known = [(row, value, low, high) for row, value, low, high in found if value and low and high]
    if known:
        rows, values, lows, highs = (np.array(each) for each in zip(*known, strict=True))
        bars = np.maximum(0.0, [values - lows, highs - values])
        style: dict[str, Any] = {"linestyle": "none", "markersize": 5.5, "elinewidth": 1.0, "capsize": 2.5}
        axes.errorbar(values, rows, xerr=bars, label=kind, **style, **LOOKS[kind])


# -- measured and possible -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """The lines of one model on one workload, each with a ratio of a pruned model."""

    model: str
    workload: str | None
    lines: tuple[Line, ...]

    @property
    def records(self) -> list[Record]:
        """Those behind the points."""
        every = [record for line in self.lines for point in line.points for record in point.records]
        return [record for record in every if measures.speedup(record)]


def panels_of(records: Sequence[Record]) -> list[Panel]:
    """A panel for each model and workload; where those are too many, for each model the workload of the most points."""
    timed = [record for record in of_kind(records, "latency") if measures.speedup(record)]
    drawn: dict[tuple[str, str | None], list[Line]] = {}
    for workload in dict.fromkeys(record.cell.workload for record in timed):
        for line in lines([r for r in timed if r.cell.workload == workload], ("format",)):
            drawn.setdefault((line.model, workload), []).append(line)
    by_model = [
        [Panel(model, workload, tuple(own)) for (name, workload), own in drawn.items() if name == model]
        for model in models(timed)
    ]
    found = [panel for own in by_model for panel in own]
    if len(found) <= PANELS:
        return found
    return [max(own, key=lambda panel: len(panel.records)) for own in by_model if own][:PANELS]


def against_limits(records: Sequence[Record]) -> list[Record]:
    """The records that `speedup_against_limits` shows."""
    return among(records, [record for panel in panels_of(records) for record in panel.records])


def speedup_against_limits(records: Sequence[Record], footer: str = "") -> Figure | None:
    """Measured times faster against sparsity, with the share of weights, Amdahl's ceiling and the roofline beside."""
    found = panels_of(records)
    if not found:
        return None
    several = len({panel.workload for panel in found}) > 1
    titles = [" · ".join(filter(None, [p.model, p.workload if several else None])) for p in found]
    figure, axes_of = canvas.panels(titles, "Times faster, beside what could be", "times faster (log)")
    order = list(dict.fromkeys(line.label for panel in found for line in panel.lines))
    for title, panel in zip(titles, found, strict=True):
        _against(axes_of[title], panel, order)
    notes = (
        f"Bars: 95 % interval. {ABOUT_ASIDE} 1/(1 − sparsity): were time in proportion to the weights that are kept. "
    )
    notes += about_nodes(record for panel in found for record in panel.records)
    canvas.finish(figure, footer, notes + _about_limits(found))
    return figure


def _about_limits(found: Sequence[Panel]) -> str:
    latencies = [record.latency for panel in found for record in panel.records if record.latency]
    told = []
    if any(latency.ceiling for latency in latencies):
        told.append(
            "Ceiling: the unpruned model with prunable layers that cost nothing; a format that does other work faster "
            "too may pass it."
        )
    if any(latency.efficiency for latency in latencies):
        told.append("Open: each point at the machine's best, by the operations with kept weights and the bytes read.")
    return " ".join(told)


def _against(axes: Axes, panel: Panel, order: Sequence[str]) -> None:
    draw_lines(axes, panel.lines, order, measures.speedup, geometric=True)
    sparsities = [point.sparsity for line in panel.lines for point in line.points]
    reached = [edge for r in panel.records if (h := measures.speedup(r)) for edge in (h.low, h.high)]
    reached += _roofline(axes, panel, order)
    shares = np.linspace(0.0, max(sparsities), 200)
    axes.plot(shares, 1 / (1 - shares), color="#999999", linewidth=1.2, linestyle=":", label="1/(1 − sparsity)")
    axes.axhline(1.0, color=canvas.INK, linewidth=0.8)
    for value, label in _ceilings(panel).items():
        axes.axhline(value, label=label, **canvas.reference_look(0 if label == CEILING else 1))
        reached.append(value)
    axes.set_ylim(min(1.0, *reached) / 1.15, max(1.5, *reached) * 1.15)
    canvas.log_axis(axes)
    canvas.sparsity_axis(axes, sparsities)


def _ceilings(panel: Panel) -> dict[float, str]:
    """What to call each; a model with another head has another, and so has every node."""
    found: dict[float, str] = {}
    several = len({record.node for record in panel.records}) > 1
    for record in panel.records:
        if record.latency and record.latency.ceiling:
            named = " · ".join(filter(None, [CEILING, record.cell.task, record.node if several else None]))
            found.setdefault(record.latency.ceiling, canvas.text(named))
    return found


def _roofline(axes: Axes, panel: Panel, order: Sequence[str]) -> list[float]:
    """Open markers in the looks of their lines; the values drawn."""
    drawn: list[float] = []
    for line, aside in zip(panel.lines, canvas.asides(len(panel.lines)), strict=True):
        look = canvas.line_look(order.index(line.label)) | {"linestyle": "none", "markersize": 3.5}
        limits = [(p.sparsity, value) for p in line.points if (value := _mean_limit(p.records)) is not None]
        if limits:
            xs, ys = zip(*limits, strict=True)
            canvas.move(axes, axes.plot(xs, ys, markerfacecolor="none", **look), aside)
            drawn += ys
    if drawn:
        axes.plot([], [], "o", color=canvas.INK, markerfacecolor="none", markersize=3.5, label="at the roofline")
    return drawn


def _mean_limit(records: Sequence[Record]) -> float | None:
    """None over several nodes: the limits of several machines are no limit of any."""
    if len({record.node for record in records}) > 1:
        return None
    found = [value for record in records if (value := measures.roofline_speedup(record)) is not None]
    return float(np.exp(np.mean(np.log(found)))) if found else None
