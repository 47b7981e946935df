"""What all figures share: colours, the sparsity axis, panels, legend and footer, saving.

Refuses nothing. Colours are those of Okabe and Ito, told apart by the colour-blind too, and no line
is told by its colour alone: marker and dash differ as well. Saved twice, a figure gives the same bytes.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox, ScaledTranslation

from reports.words import fraction

STYLE: dict[str, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "figure.titlesize": 11.0,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 150,  # that of the PNG, so that letters are measured once
    "axes.titley": 1.0,  # where a title stands by itself anyway, without looking for it at every drawing
    "svg.hashsalt": "sparsity",
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (4, 1.5, 1, 1.5)), (0, (2, 1)), (0, (8, 2, 2, 2)))
REFERENCE_DASHES: tuple[Any, ...] = ((0, (5, 3)), (0, (7, 2, 1, 2)), (0, (10, 4)), (0, (2, 2)))
INK = "#222222"
NEAR_DENSE, NEAR_EMPTY = 0.1, 0.005
"""How far the sparsity axis opens at 0 and at 1: below these distances it is nearly linear."""
LABELLED_FIRST = (0.0, 0.99, 0.9, 0.5, 0.95, 0.1)
SPARSITY = "sparsity (fraction of weights, or of groups)"
Point = tuple[float, float, float, float]
"""(sparsity, value, low, high) of a curve."""
PANELS_PER_ROW = 3
PADDING = 0.12
"""Inches around what is drawn."""
LEAST_WIDTH = 5.6
"""Inches."""
APART, ASIDE = 2.0, 9.0
"""Points of 1/72 inch by which lines stand beside each other at a sparsity, and all lines of a panel together."""
_RAISED = str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")


def style() -> AbstractContextManager[None]:
    """Within it, figures are made and saved in the style of this report."""
    return matplotlib.rc_context(cast(Any, STYLE))  # the key type of its stub lists every rcParam


def text(value: object, longest: int = 60) -> str:
    """An outside string as one line that matplotlib draws literally, with glyphs that its font has."""
    line = "".join(c if c.isprintable() and ord(c) < 0x0590 else "?" if not c.isspace() else " " for c in str(value))
    if len(line) > longest:
        line = "\u2026" + line[1 - longest :]
    return line.replace("$", r"\$")


def blank(width: float, height: float) -> Figure:
    """A figure of so many inches, drawn by Agg from the first: without it, each measuring of a text makes a canvas."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def panels(names: Sequence[str], title: str, y_label: str) -> tuple[Figure, dict[str, Axes]]:
    """A figure with one panel per name; axes are not shared, since panels may hold different quantities."""
    columns = min(len(names), PANELS_PER_ROW)
    rows = math.ceil(len(names) / columns)
    figure = blank(max(4.1 * columns, LEAST_WIDTH), 3.2 * rows + 0.8)
    figure.suptitle(title)
    axes: dict[str, Axes] = {}
    for i, name in enumerate(names):
        axes[name] = figure.add_subplot(rows, columns, i + 1)
        axes[name].set_title(text(name, 40))
        axes[name].set_xlabel(SPARSITY)
        if i % columns == 0:
            axes[name].set_ylabel(y_label)
    return figure, axes


def finish(figure: Figure, footer: str, notes: str = "", apart: float = 0.04) -> None:
    """Lay out the panels; below them the legend of all, when it tells lines apart, the notes and the footer.

    All of it hangs below the figure, where it covers no data; saving takes it in. The last thing done to a figure
    but for what depends on where the panels came to stand: a layout engine left on would lay it out at every saving.
    `apart`: inches on both sides of a panel.
    """
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    width, height = figure.get_size_inches()
    below = -0.01
    if len(handles) > 1:
        columns = max(1, int(width * 12 / (max(map(len, handles)) + 9)))
        ordered = dict(sorted(handles.items(), key=lambda item: _legend_rank(item[1])))
        figure.legend(
            ordered.values(),
            ordered.keys(),
            loc="upper center",
            bbox_to_anchor=(0.5, below),
            bbox_transform=figure.transFigure,
            ncols=columns,
            handlelength=3.4,
            borderaxespad=0.0,
        )
        below -= (0.2 * math.ceil(len(handles) / columns) + 0.15) / height
    small = [line for part in (notes, footer) for line in textwrap.wrap(part, int(width * 20))]
    if small:
        figure.text(0.01, below, "\n".join(small), fontsize=6.5, color="#555555", va="top", ha="left")
    ConstrainedLayoutEngine(w_pad=apart).execute(figure)


def _legend_rank(handle: object) -> int:
    """Measured lines first, then what they are read against."""
    return 1 if hasattr(handle, "get_xdata") else 0


def line_look(index: int) -> dict[str, Any]:
    """Colour, marker and dash of the line with this number; the three cycles end at different lengths."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index % len(DASHES)],
    }


def curve(axes: Axes, label: str, points: Sequence[Point], index: int, aside: float = 0.0) -> None:
    """A line through (sparsity, value, low, high) with its bars, drawn `aside` points to the right of its places."""
    xs, values, lows, highs = (list(each) for each in zip(*points, strict=True))
    bars = [[max(0.0, v - low) for v, low in zip(values, lows, strict=True)]]
    bars.append([max(0.0, high - v) for v, high in zip(values, highs, strict=True)])
    look: dict[str, Any] = {"linewidth": 1.5, "markersize": 4.5, "elinewidth": 0.9, "capsize": 2.0}
    drawn = axes.errorbar(
        xs, values, yerr=bars if any(map(any, bars)) else None, label=label, **look, **line_look(index)
    )
    move(axes, drawn.get_children(), aside)


def move(axes: Axes, artists: Iterable[Artist], aside: float) -> None:
    """Show what is drawn so many points to the right of its place; its data, and the axes' limits, stay."""
    figure = axes.get_figure(root=True)
    assert figure is not None  # the axes came from `panels`
    for artist in artists if aside else ():
        artist.set_transform(axes.transData + ScaledTranslation(aside / 72, 0.0, figure.dpi_scale_trans))


def asides(count: int) -> list[float]:
    """Where each of so many lines of a panel stands beside its places, so that none hides another; in points."""
    apart = min(APART, ASIDE / max(1, count - 1))
    return [(i - (count - 1) / 2) * apart for i in range(count)]


def halo() -> list[withStroke]:
    """Path effects that keep letters legible over lines."""
    return [withStroke(linewidth=2.0, foreground="white")]


def reference_look(index: int) -> dict[str, Any]:
    """The look of a line that others are read against: black, without markers, over them."""
    return {"color": INK, "linewidth": 1.1, "zorder": 2.5, "linestyle": REFERENCE_DASHES[index % len(REFERENCE_DASHES)]}


def sparsity_axis(axes: Axes, values: Iterable[float]) -> None:
    """Scale the x axis like a logit, so that 0.9, 0.95 and 0.99 stand as far apart as 0, 0.1 and 0.5.

    `values`: the sparsities in the panel, in [0, 1). Each is a tick; ticks too near to another go unlabelled.
    """
    ticks = sorted(set(values))
    axes.set_xscale("function", functions=(_stretch, _shrink))
    low, high = float(_stretch(ticks[0])), float(_stretch(ticks[-1]))
    margin = 0.05 * (high - low) or 1.0
    axes.set_xlim(float(_shrink(low - margin)), float(_shrink(high + margin)))
    labelled = _spaced(ticks, 0.095 * (high - low))
    axes.xaxis.set_major_locator(FixedLocator(labelled))
    axes.xaxis.set_minor_locator(FixedLocator([tick for tick in ticks if tick not in labelled]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: fraction(round(value, 6))))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda _value, _: ""))


def _stretch(sparsity: npt.ArrayLike) -> npt.NDArray[np.float64]:
    inner = np.clip(sparsity, 1e-9 - NEAR_DENSE, 1 + NEAR_EMPTY - 1e-9)
    return np.asarray(np.log((inner + NEAR_DENSE) / (1 + NEAR_EMPTY - inner)))


def _shrink(position: npt.ArrayLike) -> npt.NDArray[np.float64]:
    ratio = np.exp(position)
    return np.asarray((ratio * (1 + NEAR_EMPTY) - NEAR_DENSE) / (1 + ratio))


def _spaced(ticks: Sequence[float], least: float) -> list[float]:
    chosen: list[float] = []
    for tick in sorted(ticks, key=lambda t: (t not in LABELLED_FIRST, t)):
        if all(abs(_stretch(tick) - _stretch(other)) >= least for other in chosen):
            chosen.append(tick)
    return sorted(chosen)


def log_axis(axes: Axes, across: bool = False) -> None:
    """A logarithmic y axis (or x axis: `across`) with plain numbers, and enough of them, however few its decades."""
    axis = axes.xaxis if across else axes.yaxis
    (axes.set_xscale if across else axes.set_yscale)("log")
    low, high = sorted(axes.get_xlim() if across else axes.get_ylim())
    decades = math.log10(high / low)
    if decades < 0.7:
        axis.set_major_locator(MaxNLocator(4 if across else 6))  # numbers beside each other need more room
    else:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 3 else (1.0,), numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def powers() -> FuncFormatter:
    """Powers of ten as 10\u207b\u00b3, in letters: matplotlib's own set each by a parser of formulas, over and over."""
    return FuncFormatter(lambda value, _: _power(value))


def _power(value: float) -> str:
    if value == 0:
        return "0"
    exponent = math.log10(abs(value))
    if abs(exponent - round(exponent)) > 1e-6:
        return f"{value:g}".replace("-", "\u2212")
    return ("\u2212" if value < 0 else "") + "10" + str(round(exponent)).translate(_RAISED)


def description(figure: Figure) -> str:
    """What the figure shows, for readers who cannot see it: its title, what is drawn over what, its panels."""
    axes = figure.axes[0]
    about = "; ".join(figure.get_suptitle().split("\n"))
    names = [each.get_title() for each in figure.axes if each.get_title()]
    panel = f"; panels: {', '.join(names)}" if names else ""
    return f"{about}; {axes.get_ylabel()} over {axes.get_xlabel()}{panel}".replace(r"\$", "$")


def save(figure: Figure, folder: Path, stem: str) -> Bbox:
    """Write `<stem>.png` (150 dpi); gives the box that was written, in inches. Raises `OSError`."""
    with style():
        box = figure.get_tightbbox().padded(PADDING)
        _fix_labels(figure)
        figure.savefig(folder / f"{stem}.png", dpi=150, bbox_inches=box)
    return box


def _fix_labels(figure: Figure) -> None:
    """Let the labels of the axes stay where they came to stand; each drawing would measure all ticks for them again."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            place = axis.label.get_transform().transform(axis.label.get_position())
            axis.set_label_coords(*axes.transAxes.inverted().transform(place))
