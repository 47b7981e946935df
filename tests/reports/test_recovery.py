"""The answer at the top, the table of recoveries, and compositions in the order of their steps."""

from __future__ import annotations

from dataclasses import replace

from reports import findings, recovery, tables
from reports.document import Table
from reports.run import Measured
from reports.series import is_control, lines, references
from sparsity import answers
from sparsity.record import Cell, Record, Training
from tests.reports import builders

FIRST = Cell("gpt2", "ziplm", "neurons+heads", "layer", 0.5)
SECOND = Cell("gpt2", "l1", "unstructured", "layer", 0.8, after=answers.so_far(FIRST))
THIRD = Cell("gpt2", "l1", "unstructured", "layer", 0.9, after=answers.so_far(SECOND))
DASH = "\u2013"


def cells(table: Table | None) -> list[list[str]]:
    """Headers and rows."""
    assert table is not None
    return [list(table.headers), *map(list, table.rows)]


def packed(cell: Cell, speedup: float, smaller: float, fmt: str = "packed", workload: str = "8x64") -> list[Record]:
    """Latency and memory of a cell in a format."""
    where = replace(cell, format=fmt, workload=workload, task=None, recovery=None)
    low, high = speedup * 0.95, speedup * 1.05
    time = builders.latency("gpt2", verdict="faster", reason=None, speedup=speedup, low=low, high=high)
    size = builders.memory("gpt2")
    assert size.memory is not None
    own = replace(size.memory, weights_bytes=round((size.memory.dense_weights_bytes or 0) / smaller))
    return [replace(time, cell=where), replace(size, cell=where, memory=own)]


def judged(cell: Cell, delta: float, recovered: str | None = None) -> Record:
    """Accuracy of a cell; after a recovery where there is one."""
    if recovered:
        found = builders.recovered("gpt2", recovery=recovered, delta=delta)
        return replace(found, cell=replace(cell, recovery=recovered, task="classification"))
    found = builders.accuracy("gpt2", "l1", "layer", 0.5)
    assert found.quality is not None
    return replace(found, cell=replace(cell, task="classification"), quality=replace(found.quality, delta=delta))


LADDER = [
    *packed(FIRST, 1.9, 1.7, "compact"),
    *packed(FIRST, 1.0, 1.0, "dense"),
    *packed(SECOND, 4.2, 4.6),
    judged(SECOND, -0.02),
    judged(FIRST, -0.004),
]


def test_the_answer_is_the_sentences_and_the_frontier() -> None:
    records = [
        *packed(replace(FIRST, sparsity=0.8), 3.0, 2.0),
        judged(replace(FIRST, sparsity=0.8), -0.001, "distill:200"),
    ]
    found = recovery.answer(records)
    assert found is not None
    (told,), (about,) = found.points, found.notes
    assert found.title == "The answer"
    assert told == (
        "within 1 point of dense: gpt2 · ziplm 0.8 neurons+heads · packed · 200 steps distilled: 3.0x faster "
        "[2.8, 3.2], weights 2.0x smaller, −0.1 ± 0.5 points from dense trained as long"
    )
    assert [row[2] for row in cells(found.table)] == ["not beaten", told.split(" · ", 1)[1].split(": ")[0], "unpruned"]
    assert "as much of the same training" in about
    assert recovery.answer([builders.weights(), builders.latency()]) is None


def test_a_recovered_cell_is_a_row_with_each_seed() -> None:
    head, row, nll, mended = cells(
        recovery.recovered(
            [
                builders.latency(),
                builders.recovered(),
                builders.recovered(metric="mean_nll", delta=0.1, one_shot=812.0),
                builders.recovered(recovery="reconstruct", delta=-0.1),
                builders.trained_control(),
            ]
        )
    )
    assert dict(zip(head, row, strict=True)) == {
        "model": "bert",
        "pruned by": "l1 0.8 unstructured",
        "recovery": "200 steps distilled",
        "metric": "accuracy",
        "unpruned": "0.920",
        "one-shot": "0.680",
        "recovered": "0.927",
        "control": "0.930",
        "difference": "-0.30 ± 0.25",
        "verdict": "kept",
        "steps": "200",
        "seconds": "41.6",
        "seeds (differences)": "0 (-0.40), 1 (-0.30), 2 (-0.20)",
    }
    assert nll[3:10] == ["perplexity", "8.17", "e^812", "8.58", "7.77", "+0.1000 ± 0.0040", "lost"]
    assert mended[10:12] == [DASH, DASH]
    in_format = builders.recovered()
    in_format = replace(in_format, cell=replace(in_format.cell, format="packed", after="ziplm 0.5 neurons"))
    assert cells(recovery.recovered([in_format]))[1][1] == "ziplm 0.5 neurons, then l1 0.8 unstructured · packed"
    assert not recovery.recovered([builders.accuracy("bert", "l1", "layer", 0.5)])


def test_a_ladder_begins_with_its_first_step_in_the_format_that_was_fastest() -> None:
    head, first, second = cells(recovery.ladder(LADDER))
    assert head == ["model", "step", "format", "workload", "faster [95 %]", "time", "weights", "points", "nats"]
    assert first[1:] == [
        "1. ziplm 0.5 neurons+heads", "compact", "8x64", "1.90x [1.80, 1.99]", "faster", "1.70x smaller",
        "−0.4 ± 0.8 points", DASH,
    ]  # fmt: skip
    assert second[1:4] == ["2. l1 0.8 unstructured", "packed", "8x64"]
    assert second[6:] == ["4.6x smaller", "−2.0 ± 0.8 points", DASH]


def test_compositions_have_their_own_ladders_and_share_steps() -> None:
    branch = replace(THIRD, sparsity=0.95, after=SECOND.after)
    records = [*packed(THIRD, 5.0, 5.0), *packed(branch, 6.0, 6.0), *LADDER]
    found = [[step.cell for step in steps] for steps in recovery.ladders(records)]
    assert sorted(found, key=len) == [[FIRST, branch], [FIRST, SECOND, THIRD]]
    assert recovery.ladders([r for r in records if r.cell.after is None]) == []


def test_a_ladder_whose_first_step_was_not_measured_says_what_it_was() -> None:
    rows = cells(recovery.ladder([*packed(SECOND, 4.2, 4.6)]))[1:]
    assert [row[1] for row in rows] == ["1. ziplm 0.5 neurons+heads, then l1 0.8 unstructured"]
    assert rows[0][-2:] == [DASH, DASH]


def test_costs_without_a_recovery_stand_for_a_recovered_step() -> None:
    records = [*packed(SECOND, 4.2, 4.6), judged(SECOND, -0.004, "distill:200")]
    (row,) = cells(recovery.ladder(records))[1:]
    assert row[1] == "1. ziplm 0.5 neurons+heads, then l1 0.8 unstructured distill:200"
    assert row[4].startswith("4.2x")
    assert row[7] == "−0.4 ± 0.5 points from dense trained as long"


def test_a_step_that_only_stores_otherwise_is_a_step_of_its_own_with_its_own_quality() -> None:
    whole = [
        *packed(FIRST, 1.9, 1.7, "compact"),
        *packed(SECOND, 4.2, 4.6),
        *packed(SECOND, 9.9, 6.0, "bf16"),
        judged(FIRST, -0.004),
        judged(replace(SECOND, format="packed"), -0.02),
        judged(replace(SECOND, format="bf16"), -0.03),
        judged(SECOND, -0.9),
    ]
    (steps,) = recovery.ladders(whole)
    assert [recovery.step_name(steps, i) for i in range(3)] == [
        "ziplm 0.5 neurons+heads",
        "l1 0.8 unstructured",
        "stored as bf16",
    ]
    assert [(step.cost.cell.format, step.cost.speedup) for step in steps] == [
        ("compact", 1.9),
        ("packed", 4.2),
        ("bf16", 9.9),
    ]
    assert [loss.value for step in steps for loss in step.losses] == [0.4, 2.0, 3.0]


def test_each_workload_has_its_own_ladder() -> None:
    records = [
        *packed(FIRST, 1.9, 1.7, "compact"),
        *packed(SECOND, 4.2, 4.6),
        *packed(SECOND, 3.3, 4.6, workload="1x64"),
    ]
    rows = cells(recovery.ladder(records))[1:]
    assert [(row[3], row[4].split()[0]) for row in rows] == [
        ("8x64", "1.90x"),
        ("8x64", "4.2x"),
        (DASH, DASH),
        ("1x64", "3.3x"),
    ]


def test_what_holding_masks_costs() -> None:
    record = Record(Cell("bert"), training=Training(0.0101, 0.01, 1.012, 0.99, 1.03))
    assert cells(recovery.training([record]))[1] == ["bert", "1.012 (0.990 to 1.030)", "0.0101", "0.0100"]
    assert not recovery.training([builders.recovered()])


def test_the_equally_trained_control_is_neither_the_control_nor_a_line() -> None:
    control, trained = builders.accuracy("bert", "none", None, 0.0), builders.trained_control()
    assert is_control(control.cell)
    assert not is_control(trained.cell)
    assert is_control(replace(control.cell, recovery="none"))
    records = [trained, control, builders.accuracy("bert", "l1", "layer", 0.5), builders.recovered()]
    assert [ref.record for ref in references(records)] == [control]
    found = lines(records, ("method",))
    assert {line.label for line in found} == {"l1", "l1 · distill:200"}
    starts = {line.label: line.points[0].sparsity for line in found}
    assert starts == {"l1": 0.0, "l1 · distill:200": 0.8}, "a recovered line begins where it was measured"
    assert any("0.920" in cell for row in tables.accuracy(records).rows for cell in row)


def test_findings_judge_a_recovered_model_by_its_control() -> None:
    assert "is 0.8 (" in findings.sentences([builders.recovered()])[0]
    lost = builders.recovered(delta=-0.1)
    assert lost.quality is not None
    assert lost.quality.verdict == "kept", "against the unpruned model as it is"
    assert "kept at no sparsity" in findings.sentences([lost])[0]


def test_each_kind_of_measurement_of_a_cell_is_told_apart() -> None:
    training = Record(Cell("bert"), training=Training(1.0, 1.0, 1.0, 0.9, 1.1))
    assert Measured("a", training).keys.isdisjoint(Measured("b", Record(Cell("bert"))).keys)
    assert {key[0] for key in Measured("a", builders.recovered()).keys if isinstance(key, tuple)} == {
        "quality",
        "recovered",
    }
