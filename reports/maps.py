"""Maps over workloads, a panel for each model and format: where pruning breaks even, and how fast it is around there.

Draw nothing for a single workload, nor for workloads that are not batch size x sequence length.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator

from reports import canvas, measures
from reports.break_even import PLAIN, Crossing, crossings
from reports.curves import about_nodes
from reports.measures import of_kind
from reports.series import DENSE_FORMATS, Line, Point, lines
from reports.sources import among
from reports.words import fraction
from sparsity.nodes import over_nodes
from sparsity.record import Record

COLOURS = matplotlib.colormaps["YlGn_r"]
NEVER, UNKNOWN = "#ececec", "#ffffff"
DARK = 0.45
"""Below it letters on the map are white."""
SPEEDS = matplotlib.colormaps["RdBu"]
"""Red is slower, blue is faster: apart for the colour-blind too, and the number stands in each square."""
LEAST, MOST = 1.25, 8.0
"""The colours reach at least and at most from 1 over these times faster to these times faster."""
PALE, SATURATED = 0.25, 0.65
"""The parts of the colours' reach up to which squares are nearly white, and beyond which letters are."""
PANELS = 9
"""In the map of speeds, at most."""
Key = tuple[str, str]
"""(model, label) of a panel."""


def break_even(records: Sequence[Record], footer: str = "") -> Figure | None:
    """A map for each model and format over batch size and sequence length; None without one of several workloads."""
    panels = _panels(records)
    if not panels:
        return None
    columns = min(len(panels), canvas.PANELS_PER_ROW)
    rows = math.ceil(len(panels) / columns)
    figure = canvas.blank(max(3.6 * columns, canvas.LEAST_WIDTH), 2.4 * rows + 0.8)
    figure.suptitle("Break-even: the sparsity from which a forward pass is faster than the unpruned model's")
    for i, ((model, label), found) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.set_title(canvas.text(f"{model} \u00b7 {label}", 50))
        axes.set_xlabel("sequence length")
        axes.set_ylabel("batch size")
        _map(axes, found)
    notes = "Interpolated between sparsities that were measured. Grey, >: slower up to there; ?: told by no interval."
    canvas.finish(figure, footer, " ".join(filter(None, [notes, about_nodes(on_map(records))])))
    return figure


def _panels(records: Sequence[Record]) -> dict[Key, list[Crossing]]:
    """The crossings by model and format, for those that were timed on several workloads."""
    panels: dict[Key, list[Crossing]] = {}
    for each in crossings(records):
        if PLAIN.fullmatch(each.workload):
            panels.setdefault((each.model, each.label), []).append(each)
    return {key: found for key, found in panels.items() if len(found) > 1}


def on_map(records: Sequence[Record]) -> list[Record]:
    """The records that `break_even` shows."""
    return _behind(records, list(_panels(records)))


def on_speed_map(records: Sequence[Record]) -> list[Record]:
    """The records that `speed_map` shows."""
    return _behind(records, list(_panels(records))[:PANELS])


def _behind(records: Sequence[Record], keys: Sequence[Key]) -> list[Record]:
    timed = _timed(records)
    found = [line for key in keys for line in timed[key].values()]
    shown = [record for line in found for point in line.points for record in point.records]
    return among(records, [record for record in shown if measures.speedup(record)])


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


def _timed(records: Sequence[Record]) -> dict[Key, dict[str, Line]]:
    """The lines that crossings lie on, by panel and workload, with nothing but the points that crossings see."""
    timed = [r for r in of_kind(records, "latency") if r.cell.format not in DENSE_FORMATS and r.cell.workload]
    found: dict[Key, dict[str, Line]] = {}
    for workload in dict.fromkeys(str(r.cell.workload) for r in timed):
        for line in lines([r for r in timed if r.cell.workload == workload], ("format",)):
            points = [p for p in line.points if p.sparsity and measures.height(p, measures.speedup)]
            if PLAIN.fullmatch(workload) and len(points) > 1:
                own = found.setdefault((line.model, line.label), {})
                own[workload] = replace(line, points=tuple(points))
    return found


def speed_map(records: Sequence[Record], footer: str = "") -> Figure | None:
    """Times faster over sparsity and workload, a panel for each model and format, with the break-even drawn in."""
    panels, timed = _panels(records), _timed(records)
    keys = list(panels)[:PANELS]
    if not keys:
        return None
    columns = min(len(keys), canvas.PANELS_PER_ROW)
    rows = math.ceil(len(keys) / columns)
    wide = max(len(_sparsities(timed[key].values())) for key in keys)
    high = max(len(timed[key]) for key in keys)
    figure = canvas.blank(
        max((0.42 * wide + 0.9) * columns + 0.8, canvas.LEAST_WIDTH), (0.27 * high + 0.95) * rows + 0.6
    )
    figure.suptitle("Times faster than the unpruned model, by sparsity and workload")
    reach = _reach(line for key in keys for line in timed[key].values())
    norm = LogNorm(1 / reach, reach)
    for i, key in enumerate(keys):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.set_title(canvas.text(" \u00b7 ".join(key), 40))
        axes.set_xlabel("sparsity")
        axes.set_ylabel("batch size x sequence length")
        mesh = _speeds(axes, timed[key], panels[key], norm)
    _colour_bar(figure, mesh, reach)
    left_out = f" {len(panels) - PANELS} more models and formats are not drawn." if len(panels) > PANELS else ""
    notes = "Bold line: 1x, interpolated between sparsities that were measured; none where no interval tells. "
    notes += about_nodes(on_speed_map(records))
    canvas.finish(figure, footer, notes + f"?: the verdict is inconclusive.{left_out}")
    return figure


def _sparsities(own: Iterable[Line]) -> list[float]:
    return sorted({point.sparsity for line in own for point in line.points})


def _reach(found: Iterable[Line]) -> float:
    """How far the colours reach to both sides of 1."""
    heights = [measures.height(p, measures.speedup, geometric=True) for line in found for p in line.points]
    farthest = max(abs(math.log(h.value)) for h in heights if h is not None)
    return min(MOST, max(LEAST, math.exp(farthest)))


def _speeds(axes: Axes, own: Mapping[str, Line], found: Iterable[Crossing], norm: LogNorm) -> Any:
    """A square for each measured time, the largest workload on top; what it can be told by a colour bar."""
    sparsities = _sparsities(own.values())
    rows = sorted(own, key=_size)
    values = np.full((len(rows), len(sparsities)), np.nan)
    for row, workload in enumerate(rows):
        for point in own[workload].points:
            height = measures.height(point, measures.speedup, geometric=True)
            if height is not None:
                values[row, sparsities.index(point.sparsity)] = height.value
                _number(axes, (sparsities.index(point.sparsity), row), height.value, point, norm)
    edges = (np.arange(len(sparsities) + 1) - 0.5, np.arange(len(rows) + 1) - 0.5)
    mesh = axes.pcolormesh(*edges, np.ma.masked_invalid(values), norm=norm, cmap=SPEEDS, edgecolors="white")
    _contour(axes, {c.workload: c.value for c in found if c.value is not None}, rows, sparsities)
    axes.set_xticks(range(len(sparsities)), [fraction(each) for each in sparsities])
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlim(-0.5, len(sparsities) - 0.5)
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.grid(visible=False)
    return mesh


def _size(workload: str) -> tuple[int, int]:
    batch, length = workload.split("x")
    return int(batch) * int(length), int(batch)


def _number(axes: Axes, place: tuple[int, int], value: float, point: Point, norm: LogNorm) -> None:
    over = over_nodes(point.records)
    said = over.verdict if over else measures.verdict(r.latency.verdict for r in point.records if r.latency)
    doubt = "" if said in ("faster", "same", "slower") else "?"
    strength = abs(math.log(value)) / math.log(float(norm.vmax or MOST))
    written = (f"{value:.2f}" if value < 10 else f"{value:.3g}") + doubt
    look: dict[str, Any] = {"color": "white" if strength > SATURATED else canvas.INK}
    if strength < PALE:  # where the break-even passes
        look["path_effects"] = canvas.halo()
    axes.text(*place, written, ha="center", va="center", fontsize=7.0, zorder=3.0, **look)


def _contour(axes: Axes, at: Mapping[str, float], rows: Sequence[str], sparsities: Sequence[float]) -> None:
    """The break-even of each row that has one as a step of a line that runs from row to row."""
    xs: list[float] = []
    ys: list[float] = []
    for row, workload in enumerate(rows):
        place = _column(at[workload], sparsities) if workload in at else math.nan
        xs += [place, place]
        ys += [row - 0.5, row + 0.5]
    if at:
        axes.plot(xs, ys, color=canvas.INK, linewidth=2.4, label="1x")


def _column(value: float, sparsities: Sequence[float]) -> float:
    """Where between two columns a sparsity lies, as the break-even itself was interpolated."""
    left = min(bisect_right(sparsities, value), len(sparsities) - 1) - 1
    kept = [math.log1p(-each) for each in (sparsities[left], value, sparsities[left + 1])]
    return left + (kept[1] - kept[0]) / (kept[2] - kept[0])


def _colour_bar(figure: Figure, mesh: Any, reach: float) -> None:
    """One for all panels, with plain numbers."""
    place: dict[str, Any] = {"location": "right", "pad": 0.01, "shrink": 0.8, "aspect": 30, "use_gridspec": False}
    bar = figure.colorbar(mesh, ax=figure.axes, extend="both" if reach >= MOST else "neither", **place)
    bar.set_label("times faster (log)")
    ticks = [1.0, *(each for step in (1.1, 1.2, 1.5, 2.0, 4.0, 8.0) if step <= reach for each in (step, 1 / step))]
    bar.set_ticks(sorted(ticks if reach < 1.6 else [t for t in ticks if max(t, 1 / t) not in (1.1, 1.2)]))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    bar.ax.yaxis.set_minor_locator(NullLocator())
