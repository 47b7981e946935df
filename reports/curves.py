"""Curves over sparsity, a panel for each model, with the horizontal levels that they are read against.

No curve is drawn without a point, and no level without a curve in its panel.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import canvas
from reports.measures import Height, height
from reports.series import DENSE_FORMATS, NOT_PRUNED, Line, models, references
from sparsity.record import Cell, Record

Level = tuple[str, str, float]
"""(model, label, value) of a horizontal line."""
Of = Callable[[Record], Height | None]
FLOOR, BEST, CHANCE = "exact floor", "best possible", "chance"
ABOUT_ASIDE = "Points at one sparsity stand a little apart, so that none hides another."
ABOUT_NODES = (
    "What several nodes measured is their mean with random effects; the table of such ratios says their spread. "
)
LEVEL_LOOKS: dict[str, dict[str, Any]] = {
    FLOOR: {"color": canvas.INK, "linestyle": ":", "linewidth": 1.3},
    BEST: {"color": canvas.INK, "linestyle": ":", "linewidth": 1.3},
    CHANCE: {"color": "#777777", "linestyle": "-.", "linewidth": 1.0},
}


def curves(
    lines: Sequence[Line], levels: Sequence[Level], of: Of, labels: tuple[str, str], geometric: bool = False
) -> Figure | None:
    """Panels with lines and levels, not laid out yet; `labels` are the title and the y axis. None without a point."""
    drawn = [line for line in lines if any(height(point, of) for point in line.points)]
    names = list(dict.fromkeys(line.model for line in drawn))
    if not names:
        return None
    figure, panels = canvas.panels(names, *labels)
    order = list(dict.fromkeys(line.label for line in lines))
    for name, axes in panels.items():
        draw_lines(axes, [line for line in drawn if line.model == name], order, of, geometric)
        canvas.sparsity_axis(axes, [p.sparsity for line in lines if line.model == name for p in line.points])
    _draw_levels(panels, levels)
    return figure


def draw_lines(axes: Axes, lines: Sequence[Line], order: Sequence[str], of: Of, geometric: bool = False) -> None:
    """The lines of one panel, a little beside each other; the look of a line is by its label's place in `order`."""
    for line, aside in zip(lines, canvas.asides(len(lines)), strict=True):
        heights = [(p.sparsity, h) for p in line.points if (h := height(p, of, geometric)) is not None]
        points = [(sparsity, h.value, h.low, h.high) for sparsity, h in heights]
        canvas.curve(axes, canvas.text(line.label, 90), points, order.index(line.label), aside)


def about_nodes(shown: Iterable[Record]) -> str:
    """What a figure of ratios says of those that several nodes measured; empty where none did."""
    found: dict[Cell, set[str | None]] = {}
    for record in shown:
        found.setdefault(dataclasses.replace(record.cell.plain, task=None, seed=None), set()).add(record.node)
    return ABOUT_NODES if any(len(nodes) > 1 for nodes in found.values()) else ""


def _draw_levels(panels: dict[str, Axes], levels: Sequence[Level]) -> None:
    order = list(dict.fromkeys(label for _, label, _ in levels if label.startswith(NOT_PRUNED)))
    for model, label, value in levels:
        if model in panels:
            look = canvas.reference_look(order.index(label)) if label in order else LEVEL_LOOKS[label]
            panels[model].axhline(value, label=canvas.text(label), **look)


def dense_levels(
    records: Sequence[Record], of: Of, beside: Callable[[Record], float | None] = lambda _: None
) -> list[Level]:
    """The height of each dense control; without one, the median of the dense side that records carry themselves."""
    drawn = [(ref, own.value) for ref in references(records) if (own := of(ref.record)) is not None]
    levels = [(ref.model, ref.label, value) for ref, value in drawn]
    dense = {ref.model for ref, _ in drawn if ref.record.cell.format in DENSE_FORMATS}
    for model in models(records):
        sides = [side for r in records if r.cell.model == model and (side := beside(r)) is not None]
        if sides and model not in dense:
            levels.append((model, NOT_PRUNED, statistics.median(sides)))
    return levels


def floors(records: Sequence[Record], label: str, value: Callable[[Record], float | None]) -> list[Level]:
    """A level for each distinct value of a model."""
    found = [(r.cell.model, label, level) for r in records if (level := value(r)) is not None]
    return list(dict.fromkeys(found))
