"""The report itself: one Markdown page of what was run, what it found, tables and figures.

Only what the files say stands on it; each section whose data is missing is left out or says so. Every
string from outside is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from reports import break_even, recovery, study, tables
from reports.findings import sentences
from reports.measures import kinds_of_lines, ratio_of_time, total_bytes
from reports.run import Run
from reports.series import NOT_PRUNED, Line, models
from reports.tables import markdown
from reports.words import MISSING, escape, fraction, mebibytes, number
from sparsity.record import Model, Record

DEMONSTRATION = (
    "**Demonstration.** Models marked so are tiny and were trained on generated text. They show that the "
    "measurements work and what a curve looks like; where their quality breaks says nothing about full-size models."
)

ABOUT_PEAK = "Peak: of a warm forward pass, beyond what was resident before it."
ABOUT_QUALITY = (
    "In brackets the 95 % interval; differences from the unpruned model with their paired standard error. Where "
    "several seeds were run: their mean and, in brackets, their range."
)
ABOUT_PERPLEXITY = "Differences are in mean NLL. The perplexities of the models are different quantities."
ABOUT_COST = "Seconds: median over seeds. Extra memory: beyond the model, the largest over seeds."


def page(run: Run, figures: Mapping[str, str]) -> str:
    """The Markdown text; `figures` gives a description for each stem whose PNG and SVG stand beside the page."""
    parts = [
        "# What pruning bought here",
        *recovery.answer(run.drawn),
        *_what_was_run(run),
        *_findings(run.drawn),
        *_all_tables(run),
        *_pictures(figures),
        *_beside_the_study(run),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what_was_run(run: Run) -> list[str]:
    facts = [
        ("files", ", ".join(Path(path).name for path in run.paths)),
        ("profile", run.profile),
        ("measured", run.datetime),
        ("commit", run.commit),
        ("machine", run.machine),
        ("at best", run.roofline),
        ("noise floor", None if run.noise_floor is None else f"{run.noise_floor:.1%}"),
        *run.fingerprint.items(),
    ]
    rows = [[escape(key), escape(value)] for key, value in facts if value is not None]
    names = models(run.drawn) or sorted(run.models)
    about = [run.models.get(name) for name in names]
    model_rows = [_model_row(name, model) for name, model in zip(names, about, strict=True)]
    repeated = f"{len(run.repeated)} tests measured a cell that stood in the file before; the first is shown."
    return [
        "## What was run",
        DEMONSTRATION if any(m is not None and m.demonstration for m in about) else "",
        markdown(["", ""], rows, text_columns=2),
        markdown(["model", "class", "source", "label"], model_rows, text_columns=4),
        f"**The run was stopped**: {run.not_run} tests were not run." if run.not_run else "",
        repeated if run.repeated else "",
    ]


def _model_row(name: str, model: Model | None) -> list[str]:
    if model is None:
        return [escape(name), MISSING, MISSING, MISSING]
    classes = [model.class_name, model.classifier]
    return [
        escape(name),
        ", ".join(escape(name) for name in dict.fromkeys(classes) if name),
        escape(model.source),
        "demonstration" if model.demonstration else MISSING,
    ]


def _findings(records: Sequence[Record]) -> list[str]:
    found = "\n".join(f"- {sentence}" for sentence in sentences(records))
    return ["## What it found", found or "Nothing that compares a pruned model with the unpruned one was measured."]


def _all_tables(run: Run) -> list[str]:
    records = run.drawn
    sections = [
        ("Memory and time", tables.memory_and_time(records), _about_time(records)),
        ("Break-even sparsity", break_even.table(records), break_even.ABOUT),
        ("Memory, part by part (MiB)", tables.memory_parts(records), ABOUT_PEAK),
        ("Perplexity", tables.perplexity(records), f"{ABOUT_QUALITY} {ABOUT_PERPLEXITY}"),
        ("Text classification accuracy", tables.accuracy(records), ABOUT_QUALITY),
        ("Recovery", recovery.recovered(records), recovery.ABOUT_RECOVERY),
        ("Ladder", recovery.ladder(records), recovery.ABOUT_LADDER),
        ("Cost of holding masks", recovery.training(records), recovery.ABOUT_TRAINING),
        ("Pruning cost", tables.pruning_cost(records), ABOUT_COST),
        ("Failed or not measured", tables.not_measured(run.missing), ""),
    ]
    parts = [part for title, table, note in sections if table for part in (f"### {title}", table, note)]
    return ["## Tables", *(parts or ["No table: nothing was measured for one."])]


def _about_time(records: Sequence[Record]) -> str:
    units = "MiB (2^20 bytes): weights resident plus forward peak. Seconds: median of a forward pass."
    ratios = "Ratios to the unpruned model: memory / time, above 1 is larger or slower, with the verdict on time."
    return f"{units} {ratios} {tables.limits(records)} {tables.inconclusive(records)}".strip()


def _beside_the_study(run: Run) -> list[str]:
    """The study's numbers beside ours, one table per model of ours that has a counterpart and was measured."""
    parts: list[str] = []
    for name in models(run.drawn):
        model = run.models.get(name)
        published = study.counterpart(name, model.class_name if model else None)
        if published is not None:
            parts += _comparison(name, published, run.drawn)
    if not parts:
        return []
    return ["## Beside the original study", f"Source: {escape(study.SOURCE)}. {study.CAVEAT}", *parts]


def _comparison(name: str, published: str, records: Sequence[Record]) -> list[str]:
    ours = _ours(name, records)
    if not ours:
        return []
    dense = study.TABLE[published][0.0]
    headers = ["sparsity", "study MB / s", "study time ratio"]
    headers += [f"ours {escape(label)}: {what}" for label in ours for what in ("MiB / s", "ratio")]
    rows = []
    for sparsity, cell in study.TABLE[published].items():
        row = [fraction(sparsity) if sparsity else NOT_PRUNED, f"{cell.megabytes} / {cell.seconds:g}"]
        row.append(number(cell.seconds / dense.seconds))
        for points in ours.values():
            row += _our_cells(points.get(sparsity, []), records)
        rows.append(row)
    used = {r.cell.workload for points in ours.values() for found in points.values() for r in found} - {None}
    workloads = ", ".join(escape(workload) for workload in sorted(map(str, used))) or "a workload that is not recorded"
    note = f"Ours ran at {workloads} (batch size x sequence length), the study at {study.WORKLOAD}."
    return [f"### {escape(name)} beside the study's {published}", markdown(headers, rows), note]


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


def _pictures(figures: Mapping[str, str]) -> list[str]:
    shown = [f"![{escape(about)}]({stem}.png)\n\n[{stem} as SVG]({stem}.svg)" for stem, about in figures.items()]
    return ["## Figures", *(shown or ["No figure: nothing was measured for one."])]
