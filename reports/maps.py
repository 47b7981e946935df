"""The break-even sparsities as a map over batch size and sequence length, a panel for each model and format.

Draws nothing for a single workload.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reports import canvas
from reports.break_even import PLAIN, Crossing, crossings
from sparsity.record import Record

COLOURS = matplotlib.colormaps["YlGn_r"]
NEVER, UNKNOWN = "#ececec", "#ffffff"
DARK = 0.45
"""Below it letters on the map are white."""


def break_even(records: Sequence[Record], footer: str = "") -> Figure | None:
    """A map for each model and format over batch size and sequence length; None without one of several workloads."""
    panels: dict[tuple[str, str], list[Crossing]] = {}
    for each in crossings(records):
        if PLAIN.fullmatch(each.workload):
            panels.setdefault((each.model, each.label), []).append(each)
    panels = {key: found for key, found in panels.items() if len(found) > 1}
    if not panels:
        return None
    columns = min(len(panels), canvas.PANELS_PER_ROW)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(max(3.6 * columns, 5.6), 2.4 * rows + 0.8), layout="constrained")
    figure.suptitle("Break-even: the sparsity from which a forward pass is faster than the unpruned model's")
    for i, ((model, label), found) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.set_title(canvas.text(f"{model} \u00b7 {label}", 50))
        axes.set_xlabel("sequence length")
        axes.set_ylabel("batch size")
        _map(axes, found)
    notes = "Interpolated between sparsities that were measured. Grey, >: slower up to there; ?: told by no interval."
    canvas.finish(figure, footer, notes)
    return figure


def _map(axes: Axes, found: Iterable[Crossing]) -> None:
    """A square for each workload, darker the sooner it pays, with its sparsity in it."""
    at = {(int(batch), int(length)): c for c in found for batch, length in [c.workload.split("x")]}
    batches, lengths = (sorted({place[i] for place in at}) for i in (0, 1))
    for (batch, length), each in at.items():
        x, y = lengths.index(length), batches.index(batch)
        reached = each.value if each.value is not None else each.high
        colour: Any = UNKNOWN if each.low is None else NEVER
        if reached is not None:
            colour = COLOURS(reached)
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white"))
        ink = "white" if reached is not None and reached < DARK else canvas.INK
        axes.text(x, y, each.text(bracket=False), ha="center", va="center", color=ink)
    axes.set_xlim(-0.5, len(lengths) - 0.5)
    axes.set_ylim(-0.5, len(batches) - 0.5)
    axes.set_xticks(range(len(lengths)), [str(length) for length in lengths])
    axes.set_yticks(range(len(batches)), [str(batch) for batch in batches])
    axes.grid(False)
