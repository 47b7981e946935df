"""The figure of the frontier: what is lost for how much speed, and by which ways to run a model that nothing beats.

None where no pruned model has its time, its weights and its loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox, BboxBase

from reports import canvas
from reports.curves import about_nodes
from reports.recovery import METRICS
from reports.series import NOT_PRUNED
from reports.sources import pooled
from sparsity.frontier import Candidate, beats, candidates, frontier, margin_of
from sparsity.record import Record

UNIT = {"mean_nll": "loss (nats per token)", "accuracy": "loss (points of accuracy)"}
NAMED = 6
"""Points of a frontier that are named in the figure, at most, and where there is room; the table names all."""
SPOTS = ((-5.0, 4.0), (6.0, 4.0), (-5.0, -4.0), (6.0, -3.0))
"""Where a name may begin or end, in points from its point."""
FAINT: dict[str, Any] = {"color": "#999999", "marker": ".", "markersize": 5, "linestyle": "none", "zorder": 1.5}
MARGIN_LOOK: dict[str, Any] = {"color": canvas.INK, "linestyle": (0, (5, 3)), "linewidth": 1.0}


def frontier_figure(records: Sequence[Record], footer: str = "") -> Figure | None:
    """Loss against speedup; what is not beaten stands out, and what leads in both is joined."""
    groups = _groups(records)
    if not groups:
        return None
    titles = {group: " · ".join(filter(None, [group[0], group[2], METRICS[group[1]]])) for group in groups}
    figure, panels = canvas.panels(list(titles.values()), "The frontier: what is lost for how much speed", "")
    joined = {title: _frontier(panels[title], groups[group], group[1]) for group, title in titles.items()}
    notes = (
        "Filled: beaten by nothing in time, weights and quality at once; joined: those that lead in time and quality; "
    )
    notes += "open circles: on the frontier for their weights. Grey: beaten. Bars: 95 %. "
    canvas.finish(figure, footer, (notes + about_nodes(on_frontier(records))).strip())
    for title, leading in joined.items():
        _name(panels[title], leading)
    return figure


def on_frontier(records: Sequence[Record]) -> list[Record]:
    """The records that `frontier_figure` shows."""
    shown = [each for own in _groups(records).values() for each in own]
    return pooled(records, [each.cost for each in shown], [each.loss for each in shown])


def _groups(records: Sequence[Record]) -> dict[tuple[str, str, str | None], list[Candidate]]:
    """The candidates by panel, where there is a pruned one."""
    groups: dict[tuple[str, str, str | None], list[Candidate]] = {}
    for each in candidates(records):
        if each.measured:
            groups.setdefault(each.group, []).append(each)
    return {group: own for group, own in groups.items() if any(each.pruned for each in own)}


def _frontier(axes: Axes, found: Sequence[Candidate], metric: str) -> list[Candidate]:
    """Draws the candidates of a panel; those that it joined."""
    best = frontier(found)
    lean = [replace(c, cost=replace(c.cost, weights_bytes=1)) for c in best]
    joined = [c for c, own in zip(best, lean, strict=True) if not any(beats(other, own) for other in lean)]
    rest = [each for each in found if each not in best]
    margin = margin_of(metric)
    axes.margins(x=0.15)  # room for names
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=margin, linscale=0.6)
    if rest:
        axes.plot(*_places(rest), label="beaten", **FAINT)
    light = [each for each in best if each not in joined]
    if light:
        look: dict[str, Any] = {"color": canvas.COLOURS[1], "markerfacecolor": "white"}
        axes.plot(*_places(light), "o", label="not beaten, for its weights", **look)
    _joined(axes, joined)
    axes.axhline(margin, label="margin", **MARGIN_LOOK)
    axes.set_xlabel("times faster (log)")
    axes.set_ylabel(UNIT[metric])
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)) if high > 3 * low else MaxNLocator(5))
    axes.xaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return joined


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


def _name(axes: Axes, joined: Sequence[Candidate]) -> None:
    """Names beside the points, once the panel has its place: where no other name and no point is, or not at all."""
    places = list(zip(*_places(joined), strict=True))
    taken = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in map(axes.transData.transform, places)]
    for i, (each, place) in enumerate(list(zip(joined, places, strict=True))[:NAMED]):
        # The fastest come first, and the curve rises to the right: above it there is room.
        for spot in SPOTS if i < len(joined) / 2 else SPOTS[::-1]:
            label = _label_at(axes, _short(each), place, spot)
            box = label.get_window_extent()
            if not box.count_overlaps(taken) and _within(box, axes.bbox):
                taken.append(box)
                break
            label.remove()


def _label_at(axes: Axes, name: str, place: tuple[float, float], spot: tuple[float, float]) -> Annotation:
    x, y = spot
    aligned: dict[str, Any] = {"ha": "right" if x < 0 else "left", "va": "bottom" if y > 0 else "top"}
    look: dict[str, Any] = {"textcoords": "offset points", "fontsize": 6.5, "path_effects": canvas.halo()}
    label = axes.annotate(name, place, xytext=spot, **aligned, **look)
    label.set_in_layout(False)
    return label


def _within(box: BboxBase, outer: BboxBase) -> bool:
    return bool(box.x0 >= outer.x0 and box.x1 <= outer.x1 and box.y0 >= outer.y0 and box.y1 <= outer.y1)


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
