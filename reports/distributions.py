"""How the values of a model are distributed: over the whole model, and layer by layer.

Drawn from the binned counts in the records, so a share is exact only between bin edges; what is
stated is therefore stated between edges, and a pruning threshold is true to the width of a bin. No
figure where a model has no counts, and no threshold where the run did not prune by magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from reports import study
from reports.canvas import COLOURS, DASHES, INK, blank, finish, halo, powers, text
from reports.series import is_control
from reports.words import fraction, number
from sparsity.record import LayerWeights, Record, Weights

Array = npt.NDArray[np.float64]
NEAR_ZERO = 0.01
"""Which fraction of the largest magnitude counts as close to zero."""
FAINTEST = 1e-4
"""The density, relative to a layer's peak, at which the colours of the layer figure begin."""
MARKED = 5
"""Thresholds in one figure, at most."""
LAYER_MARK = 0.9
"""The sparsity whose thresholds are marked layer by layer, where the run has it."""
_ABOUT_THRESHOLDS = (
    "Dashed: the magnitude below which that share of the prunable weights lies, over the whole model; pruning by "
    "magnitude removes them. Exact at bin edges, interpolated between."
)


def num_dist(model: str, records: Sequence[Record], footer: str = "") -> Figure | None:
    """How many of all parameter values of a model lie where; a logarithmic count shows the tails."""
    found = _labelled(of_model(model, records))
    if not found:
        return None
    figure = blank(7.2, 4.3)
    axes = figure.add_subplot()
    for i, (label, weights) in enumerate(found):
        edges, counts = np.array(weights.edges), np.array(model_counts(weights), dtype=float)
        look = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)], "linewidth": 1.2}
        axes.stairs(_per_bin(counts, edges), edges, label=label, **look)
    first = found[0][1]
    low, high, share = near_zero(first)
    axes.axvspan(low, high, color="#E69F00", alpha=0.35, linewidth=0, zorder=0)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(powers())
    axes.set_xlim(*_extent([weights for _, weights in found]))
    marked = _mark_thresholds(axes, first, _by_magnitude(model, records))
    axes.set_xlabel("value of a parameter")
    even = _even(np.array(first.edges))
    axes.set_ylabel("parameters per bin (log)" if even else "parameters per unit of value (log)")
    near = f"{share:.1%} of the values lie between {number(low, 2)} and {number(high, 2)} (shaded)"
    figure.suptitle(f"{text(model)}: all parameter values\n{near}")
    finish(figure, footer, " ".join(filter(None, [_ABOUT_THRESHOLDS if marked else "", _outside(found)])))
    return figure


def layer_dist(model: str, records: Sequence[Record], footer: str = "") -> Figure | None:
    """How the values of each parameter tensor are distributed: one row each, in the model's order."""
    found = _labelled(of_model(model, records))
    if not found:
        return None
    label, weights = found[0]
    layers = weights.layers
    height = min(max(3.0, 0.15 * len(layers) + 1.6), 16.0)
    figure = blank(8.0, height)
    axes = figure.add_subplot()
    edges = np.array(weights.edges)
    density = np.array([_density(layer, edges) for layer in layers])
    shown = np.ma.masked_less_equal(density, 0.0)
    rows = np.arange(len(layers) + 1)
    # Rasterized: as vectors, 200 rows of 200 bins would be a file of many megabytes.
    mesh = axes.pcolormesh(edges, rows, shown, norm=LogNorm(FAINTEST, 1.0), cmap="cividis_r", rasterized=True)
    middle = rows[:-1] + 0.5
    ends = [[layer.minimum for layer in layers], [layer.maximum for layer in layers]]
    for values, marker in zip(ends, ("<", ">"), strict=True):
        axes.plot(values, middle, linestyle="none", marker=marker, markersize=2.5, color="#D55E00")
    ticks = _mark_layers(axes, weights, _by_magnitude(model, records, "layer"))
    _value_axis(axes, weights)
    _layer_axis(axes, layers, (height - 1.6) * 72 / len(layers))
    place: dict[str, Any] = {"location": "right", "pad": 0.01, "aspect": 8 * height, "use_gridspec": False}
    bar = figure.colorbar(mesh, ax=axes, extend="min", format=powers(), **place)
    bar.set_label("density, relative to the layer's peak")
    figure.suptitle(f"{text(model)}: values layer by layer" + (f" ({label})" if label else ""))
    notes = "Triangles: smallest and largest value of a layer. Bold: prunable. White: no value in the bin."
    finish(figure, footer, " ".join(filter(None, [notes, ticks, _outside(found[:1])])))
    return figure


def model_counts(weights: Weights) -> list[int]:
    """The counts of all layers together, one per bin."""
    return [sum(column) for column in zip(*(layer.counts for layer in weights.layers), strict=True)]


def near_zero(weights: Weights) -> tuple[float, float, float]:
    """(low, high, share of all parameters): the narrowest bin edges around 1 % of the largest magnitude."""
    largest = max(max(abs(layer.minimum), abs(layer.maximum)) for layer in weights.layers)
    edges = weights.edges
    low = max((edge for edge in edges if edge <= -NEAR_ZERO * largest), default=edges[0])
    high = min((edge for edge in edges if edge >= NEAR_ZERO * largest), default=edges[-1])
    bins = zip(pairwise(edges), model_counts(weights), strict=True)
    inside = sum(count for (left, right), count in bins if left >= low and right <= high)
    return low, high, inside / max(1, sum(layer.parameters for layer in weights.layers))


def thresholds(weights: Weights, layers: Iterable[LayerWeights], sparsities: Iterable[float]) -> dict[float, float]:
    """By sparsity, the magnitude below which that share of the values of these layers lies.

    Exact where that magnitude is an edge of bins on both sides of zero; within bins the values are taken to lie
    evenly. A share that reaches beyond the bins has none.
    """
    chosen = list(layers)
    total = sum(layer.parameters for layer in chosen)
    if not total:
        return {}
    edges = np.array(weights.edges)
    below = np.concatenate([[0.0], np.cumsum(np.sum([layer.counts for layer in chosen], axis=0))])
    knots = np.unique(np.abs(np.append(edges, 0.0)))
    shares = (np.interp(knots, edges, below) - np.interp(-knots, edges, below)) / total
    return {s: float(np.interp(s, shares, knots)) for s in sparsities if 0 < s <= shares[-1]}


def of_model(model: str, records: Sequence[Record]) -> list[Record]:
    """The records of the model that have counts of layers, the unpruned first."""
    found = [r for r in records if r.cell.model == model and r.weights is not None and r.weights.layers]
    return sorted(found, key=lambda r: (not _unpruned(r), r.cell.sparsity or 0.0))


def _labelled(found: Sequence[Record]) -> list[tuple[str, Weights]]:
    return [(_label(record), record.weights) for record in found if record.weights is not None]


def _by_magnitude(model: str, records: Sequence[Record], scope: str | None = None) -> list[float]:
    """The sparsities at which single weights of the model were pruned by magnitude; at most `MARKED` of them."""
    cells = [r.cell for r in records if r.cell.model == model and (r.cell.method, r.cell.after) == (study.METHOD, None)]
    cells = [cell for cell in cells if cell.pattern in (None, study.PATTERN) and scope in (None, cell.scope)]
    found = sorted({cell.sparsity for cell in cells if cell.sparsity})
    first = study.TABLE["BERT"]
    return sorted(sorted(found, key=lambda s: s not in first)[:MARKED])


def _mark_thresholds(axes: Axes, weights: Weights, sparsities: Sequence[float]) -> bool:
    """Lines at both signs of each threshold, named on the right, each name a line lower; whether there are any."""
    found = thresholds(weights, [layer for layer in weights.layers if layer.prunable], sparsities)
    for i, (sparsity, at) in enumerate(found.items()):
        for place in (-at, at):
            axes.axvline(place, color=INK, linestyle=(0, (4, 2)), linewidth=0.7, zorder=1.5)
        where: dict[str, Any] = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points"}
        look: dict[str, Any] = {"fontsize": 6.5, "va": "top", "path_effects": halo()}
        axes.annotate(fraction(sparsity), (at, 0.99), xytext=(2, -9 * i), **where, **look)
    return bool(found)


def _mark_layers(axes: Axes, weights: Weights, sparsities: Sequence[float]) -> str:
    """A tick at both signs of each prunable layer's own threshold, for one sparsity; what to say of them."""
    if not sparsities:
        return ""
    sparsity = LAYER_MARK if LAYER_MARK in sparsities else sparsities[-1]
    ends = [
        (i + 0.5, thresholds(weights, [layer], [sparsity])) for i, layer in enumerate(weights.layers) if layer.prunable
    ]
    places = [(sign * own[sparsity], row) for row, own in ends if own for sign in (-1, 1)]
    if not places:
        return ""
    xs, rows = zip(*places, strict=True)
    axes.plot(xs, rows, linestyle="none", marker="|", markersize=5.0, markeredgewidth=1.2, color="white")
    return f"Ticks: below this magnitude lie {fraction(sparsity)} of a prunable layer's weights (to a bin's width)."


def _unpruned(record: Record) -> bool:
    return is_control(record.cell) or record.cell.method is None


def _label(record: Record) -> str:
    if _unpruned(record):
        return "not pruned"
    cell = record.cell
    sparsity = None if cell.sparsity is None else fraction(cell.sparsity)
    axes = (cell.method, cell.pattern, cell.scope, sparsity, cell.recovery, cell.seed)
    return text(" \u00b7 ".join(str(value) for value in axes if value is not None))


def _outside(found: Sequence[tuple[str, Weights]]) -> str:
    missing = sum(layer.parameters - sum(layer.counts) for _, weights in found for layer in weights.layers)
    return f"{missing} values lie outside the bins and are not drawn." if missing > 0 else ""


def _extent(found: Sequence[Weights]) -> tuple[float, float]:
    """Where there are values at all, with a margin; bins far beyond them would only press the rest together."""
    low = min(layer.minimum for weights in found for layer in weights.layers)
    high = max(layer.maximum for weights in found for layer in weights.layers)
    margin = 0.03 * (high - low) or 1.0
    return low - margin, high + margin


def _even(edges: Array) -> bool:
    widths = np.diff(edges)
    return bool(np.allclose(widths, widths[0], rtol=1e-3))


def _per_bin(counts: Array, edges: Array) -> Array:
    """Counts, or counts per unit of value where bins differ in width: then counts would mislead the eye."""
    heights: Array = counts if _even(edges) else counts / np.diff(edges)
    return heights


def _density(layer: LayerWeights, edges: Array) -> Array:
    density: Array = np.array(layer.counts, dtype=float) / np.diff(edges)
    peak = float(density.max())
    return density / peak if peak > 0 else density


def _value_axis(axes: Axes, weights: Weights) -> None:
    """Linear where four fifths of the values lie, logarithmic beyond, so that matrices and norms both show."""
    edges, counts = np.array(weights.edges), np.array(model_counts(weights), dtype=float)
    reach = np.maximum(np.abs(edges[:-1]), np.abs(edges[1:]))
    order = np.argsort(reach)
    place = int(np.searchsorted(np.cumsum(counts[order]), 0.8 * counts.sum()))
    near = float(reach[order][min(place, len(order) - 1)])
    linear = 10.0 ** round(math.log10(near)) if near > 0 else 1.0
    if linear < reach.max():
        axes.set_xscale("symlog", linthresh=linear)
        axes.xaxis.set_major_formatter(powers())
        axes.set_xlabel(f"value of a parameter (linear within \u00b1{linear:g}, logarithmic beyond)")
    else:
        axes.set_xlabel("value of a parameter")


def _layer_axis(axes: Axes, layers: Sequence[LayerWeights], points_per_row: float) -> None:
    """Names beside the rows, the first on top; every second or third only, where rows are too low for a name."""
    step = math.ceil(7.0 / points_per_row)
    places = range(0, len(layers), step)
    axes.set_yticks([i + 0.5 for i in places], [text(layers[i].name, 48) for i in places])
    for i, tick in zip(places, axes.get_yticklabels(), strict=True):
        tick.set_fontsize(6.0)
        tick.set_fontweight("bold" if layers[i].prunable else "normal")
    axes.set_ylim(len(layers), 0)
    axes.set_ylabel("layer" if step == 1 else f"layer (one name in {step})")
    axes.grid(visible=False)
