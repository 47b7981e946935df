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
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

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
PANELS_PER_ROW = 3


def style() -> AbstractContextManager[None]:
    """Within it, figures are made and saved in the style of this report."""
    return matplotlib.rc_context(cast(Any, STYLE))  # the key type of its stub lists every rcParam


def text(value: object, longest: int = 60) -> str:
    """An outside string as one line that matplotlib draws literally, with glyphs that its font has."""
    line = "".join(c if c.isprintable() and ord(c) < 0x0590 else "?" if not c.isspace() else " " for c in str(value))
    if len(line) > longest:
        line = "\u2026" + line[1 - longest :]
    return line.replace("$", r"\$")


def panels(names: Sequence[str], title: str, y_label: str) -> tuple[Figure, dict[str, Axes]]:
    """A figure with one panel per name; axes are not shared, since panels may hold different quantities."""
    columns = min(len(names), PANELS_PER_ROW)
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(max(4.1 * columns, 5.6), 3.2 * rows + 0.8), layout="constrained")
    figure.suptitle(title)
    axes: dict[str, Axes] = {}
    for i, name in enumerate(names):
        axes[name] = figure.add_subplot(rows, columns, i + 1)
        axes[name].set_title(text(name, 40))
        axes[name].set_xlabel("sparsity (fraction of weights, or of groups)")
        if i % columns == 0:
            axes[name].set_ylabel(y_label)
    return figure, axes


def finish(figure: Figure, footer: str, notes: str = "") -> None:
    """The legend of all panels, once, when it tells lines apart; below it the notes and the footer.

    All of it hangs below the figure, where it covers no data; saving takes it in (`bbox_inches="tight"`).
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


def log_axis(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers, and enough of them, however few decades it spans."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    decades = math.log10(high / low)
    if decades < 0.7:
        axes.yaxis.set_major_locator(MaxNLocator(6))
    else:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 3 else (1.0,), numticks=12))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def description(figure: Figure) -> str:
    """What the figure shows, for readers who cannot see it: its title, what is drawn over what, its panels."""
    axes = figure.axes[0]
    about = "; ".join(figure.get_suptitle().split("\n"))
    names = [each.get_title() for each in figure.axes if each.get_title()]
    panel = f"; panels: {', '.join(names)}" if names else ""
    return f"{about}; {axes.get_ylabel()} over {axes.get_xlabel()}{panel}".replace(r"\$", "$")


def save(figure: Figure, folder: Path, stem: str) -> None:
    """Write `<stem>.png` (150 dpi) and `<stem>.svg`, the same bytes for the same figure; raises `OSError`."""
    with style():
        figure.draw_without_rendering()  # laid out once, for both
        figure.set_layout_engine("none")
        box = figure.get_tightbbox().padded(0.12)
        figure.savefig(folder / f"{stem}.png", dpi=150, bbox_inches=box)
        figure.savefig(folder / f"{stem}.svg", metadata={"Date": None}, bbox_inches=box)
