"""The table that ends a run: one line a cell, a dash for what was not measured and never a zero."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparsity.record import Cell, Latency, Memory, Pruned, Quality, Record
from sparsity.summary import table

CELL = Cell("bert", "l1", "unstructured", "layer", 0.5, "dense", workload="8x64", dtype="float32")
LATENCY = Latency(0.0125, 0.012, 0.0131, 20, "inconclusive")
MEMORY = Memory(1_480_000, 2_345_678, "cpu profiler", verdict="same")
NLL = Quality("mean_nll", 2.0, 0.1, 100, 7.389, delta=0.0123, delta_stderr=0.004, verdict="kept")
ACCURACY = Quality("accuracy", 0.8125, 0.01, 100, delta=-0.034, delta_stderr=0.005, verdict="lost")
DASH = "–"


def rows(*records: Record) -> list[list[str]]:
    """The cells of each line; columns are two spaces apart at least."""
    lines = table(records).splitlines()[2:]
    return [[part.strip() for part in line.split("  ") if part.strip()] for line in lines]


def test_everything_of_one_cell_is_in_one_line() -> None:
    (row,) = rows(Record(CELL, latency=LATENCY), Record(CELL, memory=MEMORY), Record(CELL, quality=NLL))
    assert row[:2] == ["bert · l1 · layer · 0.5 · dense · 8x64", "12.50 [12.00, 13.10]"]
    assert row[2:] == ["1.48", "2.35", "same", "ppl 7.39 (+0.012 ± 0.004)", "kept"]


def test_what_names_only_the_axes_that_apply_joins_its_cell() -> None:
    bare = replace(CELL, pattern=None, dtype=None)
    assert rows(Record(bare, memory=MEMORY), Record(CELL, latency=LATENCY)) == rows(
        Record(CELL, memory=MEMORY, latency=LATENCY)
    )


@pytest.mark.parametrize("change", [{"sparsity": 0.9}, {"format": "masked"}, {"seed": 1}, {"task": "lm"}])
def test_another_choice_on_any_axis_is_another_line(change: dict[str, object]) -> None:
    other = replace(CELL, **change)  # type: ignore[arg-type]  # each change is of its field's type
    assert len(rows(Record(CELL, latency=LATENCY), Record(other, memory=MEMORY))) == 2


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (Record(CELL, latency=LATENCY), ["12.50 [12.00, 13.10]", *5 * [DASH]]),
        (Record(CELL, memory=MEMORY), [DASH, "1.48", "2.35", "same", DASH, DASH]),
        (Record(CELL, memory=replace(MEMORY, verdict=None)), [DASH, "1.48", "2.35", DASH, DASH, DASH]),
        (Record(CELL, quality=ACCURACY), [*4 * [DASH], "81.2 % (-3.4 ± 0.5)", "lost"]),
        (Record(CELL, quality=replace(NLL, delta=None)), [*4 * [DASH], "ppl 7.39", DASH]),
        (Record(CELL, quality=replace(NLL, perplexity=None, value=812.5)), None),
    ],
)
def test_what_was_not_measured_is_a_dash(record: Record, expected: list[str] | None) -> None:
    (row,) = rows(record)
    expected = expected or [*4 * [DASH], "812.50 nats (+0.012 ± 0.004)", "kept"]
    assert row[1:] == expected


def test_cells_without_anything_to_show_make_no_table() -> None:
    assert table([]) == ""
    assert table([Record(CELL, pruned=Pruned(0.5, 0.4, 10, 12)), Record(CELL, outcome="failed", reason="why")]) == ""


def test_cells_stand_in_the_order_in_which_they_were_measured() -> None:
    cells = [replace(CELL, sparsity=sparsity) for sparsity in (0.9, 0.1, 0.5)]
    found = rows(*(Record(cell, latency=LATENCY) for cell in cells), *(Record(cell, memory=MEMORY) for cell in cells))
    assert [row[0].split(" · ")[3] for row in found] == ["0.9", "0.1", "0.5"]
