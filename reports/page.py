"""What stands in the report, and in which order: the answer, what was found, tables, figures, what was run.

Only what the files say stands in it; each part whose data is missing is left out or says so. All of it is plain
text: `markdown` and `html` write it down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from reports import break_even, harness, recovery, study, tables
from reports.document import Document, Part, Picture, Table
from reports.findings import sentences
from reports.measures import kinds_of_lines, ratio_of_time, total_bytes
from reports.run import Run
from reports.series import NOT_PRUNED, Line, models
from reports.words import MISSING, fraction, mebibytes, number
from sparsity import nodes
from sparsity.record import Model, Record

TITLE = "What pruning bought here"
DEMONSTRATION = (
    "Demonstration. Models marked so are tiny and were trained on generated text. They show that the "
    "measurements work and what a curve looks like; where their quality breaks says nothing about full-size models."
)
NOTHING_FOUND = "Nothing that compares a pruned model with the unpruned one was measured."
ABOUT_PEAK = "Peak: of a warm forward pass, beyond what was resident before it."
ABOUT_QUALITY = (
    "In brackets the 95 % interval; differences from the unpruned model with their paired standard error. Where "
    "several seeds were run: their mean and, in brackets, their range."
)
ABOUT_PERPLEXITY = "Differences are in mean NLL. The perplexities of the models are different quantities."
ABOUT_NODES = (
    "Nodes of equal fingerprints count as one machine for times in seconds, and as several where ratios are pooled."
)
ABOUT_POOLED = (
    "Ratios of one way to run a model that several nodes measured, each within itself: the mean with the node as a "
    "random effect (Paule and Mandel's spread, Hartung and Knapp's interval of Student's t). τ: the standard deviation "
    "between nodes, of logarithms: 0.05 is about 5 %."
)
Notes = tuple[str, ...]
ABOUT_COST = "Seconds: median over seeds. Extra memory: beyond the model, the largest over seeds."


def page(run: Run, pictures: Iterable[Picture] = ()) -> Document:
    """The report of a run with these pictures."""
    demonstrated = any(model is not None and model.demonstration for _, model in _models(run))
    parts = [
        _findings(run.drawn),
        _pictures(tuple(pictures)),
        _tables(run),
        _beside_the_study(run),
        _not_measured(run),
        _what_was_run(run),
    ]
    return Document(
        title=TITLE,
        answer=recovery.answer(run.drawn),
        caveats=(*((DEMONSTRATION,) if demonstrated else ()), *filter(None, [run.apart])),
        parts=tuple(part for part in parts if part is not None),
    )


def _what_was_run(run: Run) -> Part:
    facts = [
        ("files", ", ".join(Path(path).name for path in run.paths)),
        ("profile", run.profile),
        ("measured", run.datetime),
        ("commit", run.commit),
        ("machine", run.machine),
        ("at best", run.roofline),
        ("noise floor", None if run.noise_floor is None else f"{run.noise_floor:.1%}"),
        ("resumed", f"{run.resumed} times" if run.resumed else None),
        *(("of the data", note) for note in run.notes),
        *run.facts.items(),
    ]
    rows = tuple((key, str(value)) for key, value in facts if value is not None)
    about = Table(("model", "class", "source", "label"), tuple(_model_row(*each) for each in _models(run)), 4)
    repeated = f"{len(run.repeated)} tests measured a cell that stood in the file before; the first is shown."
    return Part(
        "What was run",
        table=Table(("", ""), rows, text_columns=2),
        notes=(repeated,) if run.repeated else (),
        parts=(*((Part("Models", table=about),) if about else ()), *_nodes(run)),
    )


def _nodes(run: Run) -> tuple[Part, ...]:
    """The machines of a run that had several."""
    if not run.nodes:
        return ()
    rows = tuple(map(tuple, nodes.table(run.drawn, run.nodes)))
    limits = tuple(f"{name} at best: {node.roofline}." for name, node in run.nodes.items() if node.roofline)
    return (Part("Nodes", paragraphs=limits, table=Table(nodes.HEADERS, rows, 2), notes=(ABOUT_NODES,)),)


def _models(run: Run) -> list[tuple[str, Model | None]]:
    return [(name, run.models.get(name)) for name in models(run.drawn) or sorted(run.models)]


def _model_row(name: str, model: Model | None) -> tuple[str, ...]:
    if model is None:
        return name, MISSING, MISSING, MISSING
    classes = dict.fromkeys(each for each in (model.class_name, model.classifier) if each)
    return name, ", ".join(classes), model.source, "demonstration" if model.demonstration else MISSING


def _findings(records: Sequence[Record]) -> Part:
    found = tuple(sentences(records))
    return Part("What it found", points=found, paragraphs=() if found else (NOTHING_FOUND,))


def _tables(run: Run) -> Part:
    records = run.drawn
    found = [
        *_by_machine(run, "Memory and time", tables.memory_and_time, _about_time),
        ("Times faster over several nodes", tables.over_several_nodes(records), (ABOUT_POOLED,)),
        ("Break-even sparsity", break_even.table(records), (break_even.ABOUT,)),
        ("Memory, part by part (MiB)", tables.memory_parts(records), (ABOUT_PEAK,)),
        ("Perplexity", tables.perplexity(records), (ABOUT_QUALITY, ABOUT_PERPLEXITY)),
        ("Text classification accuracy", tables.accuracy(records), (ABOUT_QUALITY,)),
        ("Tasks of lm-evaluation-harness", harness.table(records), (harness.ABOUT,)),
        *_by_machine(run, "Recovery", recovery.recovered, lambda _: (recovery.ABOUT_RECOVERY,)),
        ("Ladder", recovery.ladder(records), (recovery.ABOUT_LADDER,)),
        *_by_machine(run, "Cost of holding masks", recovery.training, lambda _: (recovery.ABOUT_TRAINING,)),
        *_by_machine(run, "Pruning cost", tables.pruning_cost, lambda _: (ABOUT_COST,)),
    ]
    parts = tuple(Part(title, table=table, notes=notes) for title, table, notes in found if table)
    return Part("Tables", paragraphs=() if parts else ("No table: nothing was measured for one.",), parts=parts)


def _by_machine(
    run: Run, title: str, table: Callable[[Sequence[Record]], Table], notes: Callable[[Sequence[Record]], Notes]
) -> list[tuple[str, Table, Notes]]:
    """A table that holds seconds, once for each machine."""
    found = [(machine, made, records) for machine, records in run.machines.items() if (made := table(records))]
    return [
        (f"{title}, on {machine}" if len(run.machines) > 1 else title, made, notes(records))
        for machine, made, records in found
    ]


def _about_time(records: Sequence[Record]) -> tuple[str, ...]:
    units = "MiB (2^20 bytes): weights resident plus forward peak. Seconds: median of a forward pass."
    ratios = "Ratios to the unpruned model: memory / time, above 1 is larger or slower, with the verdict on time."
    return tuple(filter(None, (units, ratios, tables.limits(records), tables.inconclusive(records))))


def _pictures(pictures: tuple[Picture, ...]) -> Part:
    none = () if pictures else ("No figure: nothing was measured for one.",)
    return Part("Figures", paragraphs=none, pictures=pictures)


def _not_measured(run: Run) -> Part | None:
    table = tables.not_measured(run.missing)
    stopped = (f"The run was stopped: {run.not_run} tests were not run.",) if run.not_run else ()
    return Part("Failed or not measured", paragraphs=stopped, table=table) if stopped or table else None


def _beside_the_study(run: Run) -> Part | None:
    """The study's numbers beside ours, one table per model of ours that has a counterpart and was measured."""
    parts: list[Part] = []
    for machine, records in run.machines.items():
        where = f", on {machine}" if len(run.machines) > 1 else ""
        for name in models(records):
            model = run.models.get(name)
            published = study.counterpart(name, model.class_name if model else None)
            if published is not None and (ours := _ours(name, records)):
                part = _comparison(name, published, ours, records)
                parts.append(replace(part, title=f"{part.title}{where}"))
    source = f"Source: {study.SOURCE}. {study.CAVEAT}"
    return Part("Beside the original study", paragraphs=(source,), parts=tuple(parts)) if parts else None


def _comparison(
    name: str, published: str, ours: dict[str, dict[float, list[Record]]], records: Sequence[Record]
) -> Part:
    dense = study.TABLE[published][0.0]
    headers = ["sparsity", "study MB / s", "study time ratio"]
    headers += [f"ours {label}: {what}" for label in ours for what in ("MiB / s", "ratio")]
    rows = []
    for sparsity, cell in study.TABLE[published].items():
        row = [fraction(sparsity) if sparsity else NOT_PRUNED, f"{cell.megabytes} / {cell.seconds:g}"]
        row.append(number(cell.seconds / dense.seconds))
        for points in ours.values():
            row += _our_cells(points.get(sparsity, []), records)
        rows.append(tuple(row))
    used = {r.cell.workload for points in ours.values() for found in points.values() for r in found} - {None}
    workloads = ", ".join(sorted(map(str, used))) or "a workload that is not recorded"
    note = f"Ours ran at {workloads} (batch size x sequence length), the study at {study.WORKLOAD}."
    return Part(f"{name} beside the study's {published}", table=Table(tuple(headers), tuple(rows)), notes=(note,))


def _ours(name: str, records: Sequence[Record]) -> dict[str, dict[float, list[Record]]]:
    """Our records by line and sparsity, where method, pattern and format are the study's; dense at 0."""
    found: dict[str, dict[float, list[Record]]] = {}
    both = kinds_of_lines(records, "latency") + kinds_of_lines(records, "memory")
    for line in both:
        if line.model == name and _as_the_study(line):
            for point in line.points:
                found.setdefault(line.label, {}).setdefault(point.sparsity, []).extend(point.records)
    return found


def _as_the_study(line: Line) -> bool:
    cell = line.points[-1].records[0].cell
    method = (cell.method, cell.pattern or study.PATTERN)
    return cell.format in ("masked", "dense") and method == (study.METHOD, study.PATTERN) and cell.scope != "global"


def _our_cells(records: Sequence[Record], every: Sequence[Record]) -> list[str]:
    size = next((total_bytes(record.memory) for record in records if record.memory), None)
    timed = next((record for record in records if record.latency), None)
    time = timed.latency.pruned_seconds if timed is not None and timed.latency else None
    ratio = ratio_of_time(timed, every) if timed is not None else None
    return [f"{mebibytes(size)} / {number(time, 4)}", number(ratio)]
