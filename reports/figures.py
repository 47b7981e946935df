"""The figures of the study and ours: what to draw from which records.

Each function takes records and gives a matplotlib `Figure`, or None when there is nothing to draw:
no figure is made from missing data. Panels stand for models; lines for what differs among the cells.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from reports import canvas, curves, frontier_figure, maps, measures, recovery_figures, speedups
from reports.curves import ABOUT_ASIDE, dense_levels, floors
from reports.distributions import layer_dist, num_dist, of_model
from reports.drawn import Drawn
from reports.measures import Height, kinds_of_lines, of_kind
from reports.run import Run
from reports.series import Line, models
from reports.sources import behind
from reports.words import MEBI, slugs
from sparsity.nodes import listed, shared
from sparsity.record import Record

MACHINE_KEYS = ("gpu", "cpu", "device", "dtype", "simd", "threads", "system", "python", "torch", "transformers")
"""What of a fingerprint the footers name, where it is there; the page shows all of it."""
DIFFERS = "differs"
"""What stands for a value that is another on some node."""
Entry = tuple[str, Figure | None, Sequence[Record]]
"""The stem of the file names, the figure, and the records whose numbers it shows."""


def draw(run: Run) -> dict[str, Drawn]:
    """All figures that the run has data for, by the stem of their file names, with the cells behind each."""
    records = run.drawn
    footer = provenance(run, models(records))
    with canvas.style():
        entries = [
            ("frontier", frontier_figure.frontier_figure(records, footer), frontier_figure.on_frontier(records)),
            *_of_the_study(run, records, footer),
            *_ours(records, footer),
        ]
    return {
        stem: Drawn(figure, tuple(dict.fromkeys(str(record.cell) for record in used)), _own_nodes(run, stem, used))
        for stem, figure, used in entries
        if figure is not None
    }


def _own_nodes(run: Run, stem: str, used: Sequence[Record]) -> tuple[str, ...]:
    """Those of a figure of a single machine of several."""
    times = _stems_of_times(run)
    return _nodes(used) if len(times) > 1 and stem in times.values() else ()


def _nodes(records: Sequence[Record]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(record.node for record in records if record.node is not None))


def _stems_of_times(run: Run) -> dict[str, str]:
    """By machine, the stem of the figure of its times."""
    timed = [machine for machine, records in run.machines.items() if of_kind(records, "latency")]
    if len(timed) < 2:
        return dict.fromkeys(timed, "required-time")
    return {machine: f"required-time-{slug}" for machine, slug in slugs(timed).items()}


def _times(run: Run, names: Sequence[str]) -> list[Entry]:
    """A figure of seconds for each machine."""
    found: list[Entry] = []
    stems = _stems_of_times(run)
    for machine, stem in stems.items():
        own = run.machines[machine]
        footer = provenance(run, names, nodes=_nodes(of_kind(own, "latency")))
        drawn = required_time(own, footer, machine if len(stems) > 1 else "")
        found.append((stem, drawn, behind(own, "latency", measures.seconds)))
    return found


def _of_the_study(run: Run, records: Sequence[Record], footer: str) -> list[Entry]:
    """Those that the original study drew too: distributions, memory, time and quality against sparsity."""
    names = models(records)
    files = slugs(names)
    entries: list[Entry] = []
    for name in names:
        own, used = provenance(run, [name]), of_model(name, records)
        entries.append((f"{files[name]}-num-dist", num_dist(name, records, own), used))
        entries.append((f"{files[name]}-layer-dist", layer_dist(name, records, own), used[:1]))
    accuracies = behind(records, "quality", measures.accuracy, "accuracy")
    heads = provenance(run, names, "accuracy")
    return [
        *entries,
        ("required-memory", required_memory(records, footer), behind(records, "memory", measures.held_bytes)),
        *_times(run, names),
        ("perplexity", perplexity(records, footer), behind(records, "quality", measures.perplexity, "mean_nll")),
        ("text-classification-accuracy", text_classification_accuracy(records, heads), accuracies),
    ]


def _ours(records: Sequence[Record], footer: str) -> list[Entry]:
    """Those that go beyond it: formats, limits, workloads, recoveries and compositions."""
    formats, limits = speedups.on_one_mask(records), speedups.against_limits(records)
    return [
        ("formats-on-one-mask", speedups.formats_on_one_mask(records, footer), formats),
        ("speedup-against-limits", speedups.speedup_against_limits(records, footer), limits),
        ("break-even", maps.break_even(records, footer), maps.on_map(records)),
        ("speed-map", maps.speed_map(records, footer), maps.on_speed_map(records)),
        ("recovery", recovery_figures.recovery(records, footer), recovery_figures.recovered(records)),
        ("ladder", recovery_figures.ladder(records, footer), recovery_figures.on_ladders(records)),
    ]


def provenance(run: Run, names: Sequence[str], metric: str = "mean_nll", nodes: Sequence[str] = ()) -> str:
    """The footer: machine, profile, commit, and what each of these models is, with the head of the metric.

    Of a run on several nodes, these or all of them stand in place of the machine, with what they have in common.
    """
    parts = [
        _machine(run, nodes) or run.machine,
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


def _machine(run: Run, nodes: Sequence[str]) -> str:
    chosen = {name: run.nodes[name] for name in nodes or run.nodes}
    if not chosen:
        return "; ".join(f"{key} {run.fingerprint[key]}" for key in MACHINE_KEYS if key in run.fingerprint)
    known, same = {key for node in chosen.values() for key in node.fingerprint}, shared(chosen)
    some = f"{len(chosen)} nodes" if len(chosen) > 1 else "node"
    told = [f"{some}: {listed(list(chosen))}"]
    told += [f"{key} {same.get(key, DIFFERS)}" for key in MACHINE_KEYS if key in known]
    return "; ".join(told)


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

    levels = dense_levels(found, mebi, dense)
    drawn = curves.curves(
        kinds_of_lines(found, "memory"), levels, mebi, ("Required memory", "weights + forward peak (MiB)")
    )
    return _from_zero(
        drawn, footer, f"Exact counts; weights resident plus the peak of one warm forward pass. {ABOUT_ASIDE}"
    )


def required_time(records: Sequence[Record], footer: str = "", machine: str = "") -> Figure | None:
    """Time of a forward pass against sparsity, drift of the machine taken out; in ms where all are below a second.

    `records` are of one machine, which has a name where there are others.
    """
    found = of_kind(records, "latency")
    longest = max((r.latency.pruned_seconds for r in found if r.latency), default=0.0)
    unit, factor = ("ms", 1e3) if longest < 1.0 else ("s", 1.0)

    def scaled(record: Record) -> Height | None:
        own = measures.steady_seconds(record, found)
        return own and Height(own.value * factor, own.low * factor, own.high * factor)

    def dense(record: Record) -> float | None:
        beside = record.latency.dense_seconds if record.latency else None
        return None if beside is None else beside * factor

    levels = dense_levels(found, scaled, dense)
    title = canvas.text(f"Required time, on {machine}") if machine else "Required time"
    labels = (title, f"time per forward pass ({unit})")
    lines = kinds_of_lines(found, "latency")
    doubtful = sum(1 for r in found if r.latency and r.latency.verdict == "inconclusive")
    notes = "Points: the ratio to the unpruned model, timed in turns, times that model's median over the whole run; "
    notes += f"bars: 95 % interval of the ratio{_seeds_note(lines)}. {ABOUT_ASIDE}"
    if doubtful:
        notes += f" {doubtful} of {len(found)} verdicts are inconclusive: there a difference may be chance."
    return _from_zero(curves.curves(lines, levels, scaled, labels), footer, notes)


def perplexity(records: Sequence[Record], footer: str = "") -> Figure | None:
    """Perplexity against sparsity; a panel and an axis per model, since the models' perplexities differ in kind."""
    found = of_kind(records, "quality", "mean_nll")
    levels = dense_levels(found, measures.perplexity)
    levels += floors(found, curves.FLOOR, measures.perplexity_floor)
    labels = ("Perplexity (a different quantity in each panel)", "perplexity (log)")
    lines = kinds_of_lines(found, "quality", "mean_nll")
    drawn = curves.curves(lines, levels, measures.perplexity, labels, geometric=True)
    if drawn is None:
        return None
    for axes in drawn.axes:
        canvas.log_axis(axes)
    hidden = sum(1 for record in found if measures.perplexity(record) is None)
    notes = f"Bars: 95 % interval, 1.96 standard errors in nats{_seeds_note(lines)}. {ABOUT_ASIDE}"
    canvas.finish(drawn, footer, notes + (f" {hidden} perplexities too large to draw." if hidden else ""))
    return drawn


def text_classification_accuracy(records: Sequence[Record], footer: str = "") -> Figure | None:
    """Accuracy against sparsity, with chance and, where known, the best that is possible."""
    found = of_kind(records, "quality", "accuracy")
    levels = dense_levels(found, measures.accuracy)
    levels += floors(found, curves.BEST, lambda r: r.quality.floor if r.quality else None)
    levels += [(model, curves.CHANCE, value) for model, value in chances(found).items()]
    lines = kinds_of_lines(found, "quality", "accuracy")
    drawn = curves.curves(lines, levels, measures.accuracy, ("Text classification accuracy", "accuracy (fraction)"))
    if drawn is None:
        return None
    lowest = min(axes.get_ylim()[0] for axes in drawn.axes)
    for axes in drawn.axes:
        axes.set_ylim(max(-0.02, min(lowest, 0.42, *(value - 0.08 for value in chances(found).values()))), 1.02)
    canvas.finish(drawn, footer, f"Bars: 95 % interval, 1.96 standard errors{_seeds_note(lines)}. {ABOUT_ASIDE}")
    return drawn


def chances(found: Sequence[Record]) -> dict[str, float]:
    """By model, what a guess scores on its documents: a half on the generated reviews."""
    qualities = [(record.cell.model, record.quality) for record in found if record.quality]
    told = {model: quality.chance for model, quality in qualities if quality.chance is not None}
    return {model: told.get(model, 0.5) for model in models(found)}


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
