"""The figures of the study and ours: what to draw from which records.

Each function takes records and gives a matplotlib `Figure`, or None when there is nothing to draw:
no figure is made from missing data. Panels stand for models; lines for what differs among the cells.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import canvas, measures
from reports.distributions import layer_dist, num_dist
from reports.maps import break_even
from reports.measures import Height, height, kinds_of_lines, of_kind
from reports.recovery_figures import frontier_figure, ladder, recovery
from reports.run import Run
from reports.series import DENSE_FORMATS, NOT_PRUNED, Line, models, references
from reports.words import MEBI, slugs
from sparsity.record import Record

Level = tuple[str, str, float]
"""(model, label, value) of a horizontal line."""
FLOOR, BEST, CHANCE = "exact floor", "best possible", "chance (0.5)"
LEVEL_LOOKS: dict[str, dict[str, Any]] = {
    FLOOR: {"color": canvas.INK, "linestyle": ":", "linewidth": 1.3},
    BEST: {"color": canvas.INK, "linestyle": ":", "linewidth": 1.3},
    CHANCE: {"color": "#777777", "linestyle": "-.", "linewidth": 1.0},
}
MACHINE_KEYS = ("gpu", "cpu", "device", "dtype", "simd", "threads", "system", "python", "torch", "transformers")
"""What of a fingerprint the footers name, where it is there; the page shows all of it."""


def draw(run: Run) -> dict[str, Figure]:
    """All figures that the run has data for, by the stem of their file names."""
    records = run.drawn
    names = models(records)
    footer = provenance(run, names)
    found: dict[str, Figure | None] = {}
    with canvas.style():
        files = slugs(names)
        for model in names:
            found[f"{files[model]}-num-dist"] = num_dist(model, records, provenance(run, [model]))
            found[f"{files[model]}-layer-dist"] = layer_dist(model, records, provenance(run, [model]))
        found["frontier"] = frontier_figure(records, footer)
        found["recovery"] = recovery(records, footer)
        found["ladder"] = ladder(records, footer)
        found["required-memory"] = required_memory(records, footer)
        found["required-time"] = required_time(records, footer)
        found["break-even"] = break_even(records, footer)
        found["perplexity"] = perplexity(records, footer)
        found["text-classification-accuracy"] = text_classification_accuracy(
            records, provenance(run, names, "accuracy")
        )
    return {stem: figure for stem, figure in found.items() if figure is not None}


def provenance(run: Run, names: Sequence[str], metric: str = "mean_nll") -> str:
    """The footer: machine, profile, commit, and what each of these models is, with the head of the metric."""
    machine = [f"{key} {run.fingerprint[key]}" for key in MACHINE_KEYS if key in run.fingerprint]
    parts = [
        "; ".join(machine) or run.machine,
        run.profile and f"profile {run.profile}",
        run.commit and f"commit {run.commit}",
    ]
    for name in names:
        model = run.models.get(name)
        if model is not None:
            head = (model.classifier if metric == "accuracy" else None) or model.class_name
            what = [head, model.source, "demonstration model" if model.demonstration else None]
            parts.append(f"{name}: {', '.join(each for each in what if each)}")
    return canvas.text(" | ".join(part for part in parts if part), longest=1000)


def required_memory(records: Sequence[Record], footer: str = "") -> Figure | None:
    """MiB of resident weights plus the peak of a forward pass, against sparsity."""
    found = of_kind(records, "memory")

    def dense(record: Record) -> float | None:
        memory = record.memory
        if memory is None or memory.dense_weights_bytes is None or memory.dense_peak_bytes is None:
            return None
        return (memory.dense_weights_bytes + memory.dense_peak_bytes) / MEBI

    def mebi(record: Record) -> Height | None:
        held = measures.held_bytes(record)
        return held and Height(held.value / MEBI, held.low / MEBI, held.high / MEBI)

    levels = _dense_levels(found, mebi, dense)
    drawn = _curves(kinds_of_lines(found, "memory"), levels, mebi, ("Required memory", "weights + forward peak (MiB)"))
    return _from_zero(drawn, footer, "Exact counts; weights resident plus the peak of one warm forward pass.")


def required_time(records: Sequence[Record], footer: str = "") -> Figure | None:
    """Time of a forward pass against sparsity, drift of the machine taken out; in ms where all are below a second."""
    found = of_kind(records, "latency")
    longest = max((r.latency.pruned_seconds for r in found if r.latency), default=0.0)
    unit, factor = ("ms", 1e3) if longest < 1.0 else ("s", 1.0)

    def scaled(record: Record) -> Height | None:
        own = measures.steady_seconds(record, found)
        return own and Height(own.value * factor, own.low * factor, own.high * factor)

    def dense(record: Record) -> float | None:
        beside = record.latency.dense_seconds if record.latency else None
        return None if beside is None else beside * factor

    levels = _dense_levels(found, scaled, dense)
    labels = ("Required time", f"time per forward pass ({unit})")
    lines = kinds_of_lines(found, "latency")
    doubtful = sum(1 for r in found if r.latency and r.latency.verdict == "inconclusive")
    notes = "Points: the ratio to the unpruned model, timed in turns, times that model's median over the whole run; "
    notes += f"bars: 95 % interval of the ratio{_seeds_note(lines)}."
    if doubtful:
        notes += f" {doubtful} of {len(found)} verdicts are inconclusive: there a difference may be chance."
    return _from_zero(_curves(lines, levels, scaled, labels), footer, notes)


def perplexity(records: Sequence[Record], footer: str = "") -> Figure | None:
    """Perplexity against sparsity; a panel and an axis per model, since the models' perplexities differ in kind."""
    found = of_kind(records, "quality", "mean_nll")
    levels = _dense_levels(found, measures.perplexity)
    levels += _floors(found, FLOOR, measures.perplexity_floor)
    labels = ("Perplexity (a different quantity in each panel)", "perplexity (log)")
    lines = kinds_of_lines(found, "quality", "mean_nll")
    drawn = _curves(lines, levels, measures.perplexity, labels, geometric=True)
    if drawn is None:
        return None
    for axes in drawn.axes:
        canvas.log_axis(axes)
    hidden = sum(1 for record in found if measures.perplexity(record) is None)
    notes = f"Bars: 95 % interval, 1.96 standard errors in nats{_seeds_note(lines)}."
    canvas.finish(drawn, footer, notes + (f" {hidden} perplexities too large to draw." if hidden else ""))
    return drawn


def text_classification_accuracy(records: Sequence[Record], footer: str = "") -> Figure | None:
    """Accuracy against sparsity, with chance and, where known, the best that is possible."""
    found = of_kind(records, "quality", "accuracy")
    levels = _dense_levels(found, measures.accuracy)
    levels += _floors(found, BEST, lambda r: r.quality.floor if r.quality else None)
    levels += [(model, CHANCE, 0.5) for model in models(found)]
    lines = kinds_of_lines(found, "quality", "accuracy")
    drawn = _curves(lines, levels, measures.accuracy, ("Text classification accuracy", "accuracy (fraction)"))
    if drawn is None:
        return None
    lowest = min(axes.get_ylim()[0] for axes in drawn.axes)
    for axes in drawn.axes:
        axes.set_ylim(max(-0.02, min(lowest, 0.42)), 1.02)
    canvas.finish(drawn, footer, f"Bars: 95 % interval, 1.96 standard errors{_seeds_note(lines)}.")
    return drawn


def _curves(
    lines: Sequence[Line],
    levels: Sequence[Level],
    of: Callable[[Record], Height | None],
    labels: tuple[str, str],
    geometric: bool = False,
) -> Figure | None:
    """Panels with lines and levels; `labels` are the title and the y axis. None without a point to draw."""
    names = list(dict.fromkeys(line.model for line in lines if any(height(p, of) for p in line.points)))
    if not names:
        return None
    figure, panels = canvas.panels(names, *labels)
    order = list(dict.fromkeys(line.label for line in lines))
    for line in lines:
        points = [(p.sparsity, h) for p in line.points if (h := height(p, of, geometric)) is not None]
        if points:
            _draw_line(panels[line.model], canvas.text(line.label), points, order.index(line.label))
    _draw_levels(panels, levels)
    for name, axes in panels.items():
        canvas.sparsity_axis(axes, [p.sparsity for line in lines if line.model == name for p in line.points])
    return figure


def _draw_line(axes: Axes, label: str, points: Sequence[tuple[float, Height]], index: int) -> None:
    bars = [[max(0.0, h.value - h.low) for _, h in points], [max(0.0, h.high - h.value) for _, h in points]]
    axes.errorbar(
        [sparsity for sparsity, _ in points],
        [h.value for _, h in points],
        yerr=bars if any(map(any, bars)) else None,
        label=label,
        linewidth=1.5,
        markersize=4.5,
        elinewidth=0.9,
        capsize=2.0,
        **canvas.line_look(index),
    )


def _draw_levels(panels: dict[str, Axes], levels: Sequence[Level]) -> None:
    order = list(dict.fromkeys(label for _, label, _ in levels if label.startswith(NOT_PRUNED)))
    for model, label, value in levels:
        if model in panels:
            look = canvas.reference_look(order.index(label)) if label in order else LEVEL_LOOKS[label]
            panels[model].axhline(value, label=canvas.text(label), **look)


def _dense_levels(
    records: Sequence[Record],
    of: Callable[[Record], Height | None],
    beside: Callable[[Record], float | None] = lambda _: None,
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


def _floors(records: Sequence[Record], label: str, value: Callable[[Record], float | None]) -> list[Level]:
    found = [(r.cell.model, label, level) for r in records if (level := value(r)) is not None]
    return list(dict.fromkeys(found))


def _seeds_note(lines: Sequence[Line]) -> str:
    several = any(len(point.records) > 1 for line in lines for point in line.points)
    return "; where several seeds were run, mean and range over them" if several else ""


def _from_zero(figure: Figure | None, footer: str, notes: str) -> Figure | None:
    """The figure with every y axis beginning at 0, so that heights compare as ratios, and its legend."""
    if figure is None:
        return None
    for axes in figure.axes:
        axes.set_ylim(0.0, axes.get_ylim()[1] * 1.03)
    canvas.finish(figure, footer, notes)
    return figure
