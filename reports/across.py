"""`python -m reports across A.json B.json [C.json ...] [--out DIR]`: several runs side by side, each a run of its own.

Versions of torch, machines or commits: whatever differs between the files names the runs, and the first is what the
others are set against. Ratios to the unpruned model are compared, never times. Writes `across.md` and `across.csv`,
and prints the same.

Refuses a single run, the same file twice, and runs that have no cell in common.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tabulate import tabulate

from reports import across_tables, exports, markdown
from reports.across_cells import Change, change_of_time, common, seen
from reports.across_tables import FASTER, SLOWER, Side
from reports.command import Parser, guarded
from reports.document import Document, Part, Table
from reports.exports import Entry
from reports.read import read
from reports.run import Run
from reports.step_summary import short
from reports.words import line
from sparsity.errors import BadValue
from sparsity.judging import METRICS
from sparsity.record import Cell

TELLING = ("torch", "gpu", "cpu", "device", "dtype", "threads", "python", "transformers", "head")
"""Keys of the fingerprint in the order in which they name a run."""
MOST_KEYS = 3
LONGEST_VALUE = 28
WIDEST = 80
"""Characters of a cell on the terminal."""
LARGEST = 700.0
"""A logarithm, of what still is a number."""
MOST_PRINTED = 20
"""Rows of single cells on the terminal."""
RATIOS = (
    "Times are not pooled across machines or versions: each run's ratio to its own unpruned model, timed in turns, is "
    "what is compared."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and write the comparison; 0, or 2 after an error line."""
    parser = Parser(prog="python -m reports across", description="Several runs side by side, the first as reference.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN.json", help="at least two result files")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write; across-report beside the first file")
    options = parser.parse_args(arguments)
    if len(options.runs) < 2:
        parser.error("one run stands beside nothing; give at least two result files")

    def write() -> int:
        sides = side_by_side(options.runs)
        folder = (options.out or options.runs[0].with_name("across-report")).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "across.md").write_text(markdown.render(document(sides)), encoding="utf-8")
        (folder / "across.csv").write_text(table(sides), encoding="utf-8")
        print(printed(document(sides, MOST_PRINTED)))
        print(f"Report: {folder / 'across.md'}")
        return 0

    return guarded(write)


def side_by_side(paths: Sequence[Path]) -> list[Side]:
    """Each file as a run under a name of its own; raises `SparsityError` as the module says."""
    twice = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if twice:
        raise BadValue(f"{twice[0]} is given twice; a run stands beside itself without a difference")
    runs = [read([path]) for path in paths]
    sides = [Side(name, run, seen(run.drawn)) for name, run in zip(names(runs), runs, strict=True)]
    if not common([side.cells for side in sides]):
        firsts = "; ".join(f"{side.run.paths[0]} begins with {next(iter(side.cells), 'none')}" for side in sides)
        raise BadValue(f"no cell was measured in all runs: {firsts}; run the same axes in each")
    return sides


def names(runs: Sequence[Run]) -> list[str]:
    """What differs between the fingerprints, else the commits, else the files; no two are the same."""
    prints = [run.fingerprint for run in runs]
    differing = [
        key for key in dict.fromkeys(k for each in prints for k in each) if len({e.get(key) for e in prints}) > 1
    ]
    differing.sort(key=lambda key: TELLING.index(key) if key in TELLING else len(TELLING))
    more = ", …" if len(differing) > MOST_KEYS else ""
    if differing:
        found = [", ".join(_named(key, each.get(key)) for key in differing[:MOST_KEYS]) + more for each in prints]
    else:
        commits = [short(run.commit) if run.commit else "" for run in runs]
        told = all(commits) and len(set(commits)) > 1
        found = [f"commit {commit}" for commit in commits] if told else _files(runs)
    if len(set(found)) < len(found):
        found = [f"{name}, {file}" for name, file in zip(found, _files(runs), strict=True)]
    counts = Counter(found)
    return [f"{name} ({i + 1})" if counts[name] > 1 else name for i, name in enumerate(found)]


def _files(runs: Sequence[Run]) -> list[str]:
    """The stem of each file, with its folder where two are called the same."""
    paths = [run.paths[0].resolve() for run in runs]
    alike = len({path.stem for path in paths}) < len(paths)
    return [line(f"{path.parent.name}/{path.stem}" if alike else path.stem) or "run" for path in paths]


def _named(key: str, value: object) -> str:
    if value is None:
        return f"no {line(key)}"
    text = line(value)
    return f"{line(key)} {_clipped(text, LONGEST_VALUE)}"


def _clipped(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def document(sides: Sequence[Side], most: int = across_tables.MOST_ROWS) -> Document:
    """The comparison; of single cells no more than `most`."""
    cells = common([side.cells for side in sides])
    parts = [
        across_tables.differences(sides),
        across_tables.costs(sides, cells),
        across_tables.absolute(sides),
        across_tables.qualities(sides, cells),
        across_tables.single_cells(sides, cells, most),
        across_tables.missing(sides),
    ]
    answer = Part("In short", points=tuple(_sentence(side, sides, cells) for side in sides[1:]))
    return Document("Runs side by side", answer, (RATIOS,), tuple(part for part in parts if part.table))


def _sentence(side: Side, sides: Sequence[Side], cells: Sequence[Cell]) -> str:
    """In how many of the common cells something certainly changed."""
    first = sides[0]
    found = [what for cell in cells for what in across_tables.changed(cell, first.cells[cell], side.cells[cell])]
    times, kinds = Counter(word for kind, word in found if kind == "time"), Counter(kind for kind, _ in found)
    return (
        f"{side.name} against {first.name}, {len(cells)} cells in all runs. Certainly faster: {times[FASTER]}, slower: "
        f"{times[SLOWER]}. Weights or peaks that changed: {kinds['bytes']}. Verdicts on quality that changed: "
        f"{kinds['verdict']}."
    )


# -- the terminal, and the file of all cells -------------------------------------------------------------


def printed(whole: Document) -> str:
    """For a terminal: no markup, and nothing that a terminal would obey."""
    answer = [whole.answer] if whole.answer is not None else []
    found = [whole.title.upper(), *(point for part in answer for point in part.points), *whole.caveats]
    for part in whole.parts:
        found += [f"{part.title.upper()}\n{_plain(part.table)}", " ".join(part.notes)]
    return "\n\n".join(text for text in found if text)


def _plain(table: Table | None) -> str:
    if table is None:
        return ""
    align = ["left" if i < table.text_columns else "right" for i in range(len(table.headers))]
    rows = [[_clipped(line(cell), WIDEST) for cell in row] for row in table.rows]
    headers = [line(header) for header in table.headers]
    text: str = tabulate(rows, headers, tablefmt="simple", colalign=align, disable_numparse=True)
    return text


def table(sides: Sequence[Side]) -> str:
    """CSV with a row for each cell of each run, and the change from the first run where both have the cell."""
    cells = dict.fromkeys(cell for side in sides for cell in side.cells)
    return exports.table(HEADERS, [_row(cell, side, sides) for cell in cells for side in sides if cell in side.cells])


_LOSS = ("value", "loss", "loss_stderr", "verdict")
HEADERS = (
    *("run", *exports.AXES, "in all runs", "times faster", "low", "high", "time verdict", "change", "change low"),
    *("change high", "pruned seconds", "unpruned seconds", "weights bytes", "peak bytes"),
    *(f"{metric} {what}" for metric in METRICS for what in _LOSS),
)


def _row(cell: Cell, side: Side, sides: Sequence[Side]) -> list[Entry]:
    each, first = side.cells[cell], sides[0].cells.get(cell)
    row: list[Entry] = [side.name, *(getattr(cell, axis) for axis in exports.AXES)]
    row.append("yes" if all(cell in other.cells for other in sides) else "no")
    time, memory = each.latency, each.memory
    row += [each.speedup, time.low, time.high, time.verdict] if time else [None] * 4
    row += _change(None if first is None or side is sides[0] else change_of_time(first, each))
    row += [time.pruned_seconds, time.dense_seconds] if time and not each.over else [None] * 2
    row += [memory.weights_bytes, memory.peak_bytes] if memory else [None] * 2
    for metric in METRICS:
        quality, loss = each.qualities.get(metric), each.losses.get(metric)
        row.append(quality.value if quality else None)
        row += [loss.value, loss.stderr, loss.verdict] if loss else [None] * 3
    return row


def _change(change: Change | None) -> list[Entry]:
    """The quotient of the times faster and the ends of its interval."""
    if change is None:
        return [None] * 3
    ends: Iterable[Entry] = [None, None]
    if change.half_width is not None:
        ends = (_times(change.value + sign * change.half_width) for sign in (-1, 1))
    return [_times(change.value), *ends]


def _times(logarithm: float) -> float | None:
    """What it is the logarithm of; None where that is no number."""
    return math.exp(logarithm) if logarithm < LARGEST else None
