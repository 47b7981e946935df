"""The report's table of tasks of lm-eval: a row a cell, and nothing of them anywhere else."""

from __future__ import annotations

import dataclasses

from reports import findings, harness, tables, verdicts
from reports.exports import smaller_is_better
from reports.words import MISSING
from sparsity.frontier import candidates
from sparsity.record import Record
from tests.test_harness_summary import CELL, CONTROL, DENSE, FIRST, LOST


def test_a_cell_is_a_row_with_its_metric_its_paired_difference_and_its_verdict() -> None:
    lower = dataclasses.replace(
        LOST, metric="ppl", filter="strict", higher_is_better=False, verdict=None, chance=0.25, stderr=None
    )
    seeded = Record(dataclasses.replace(CELL, method="random", seed=2), harness=lower)
    found = harness.table([FIRST, Record(CONTROL, harness=DENSE), seeded])
    assert found.headers == harness.HEADERS
    topic, better = ("gpt2", "topic"), "acc (higher is better)"
    assert found.rows == (
        (
            *topic,
            better,
            "l1 · unstructured · layer · 0.5",
            "0.700 ± 0.030",
            "0.900",
            "-0.200 ± 0.030",
            "lost",
            "200",
            MISSING,
        ),
        (*topic, better, "not pruned", "0.900 ± 0.020", "0.900", MISSING, MISSING, "200", MISSING),
        (
            *topic,
            "ppl, strict (lower is better)",
            "random · unstructured · layer · 0.5 · seed 2",
            "0.700",
            "0.900",
            "-0.200 ± 0.030",
            MISSING,
            "200",
            "0.250",
        ),
    )


def test_without_a_task_there_is_no_table() -> None:
    assert not harness.table([Record(CELL)])


def test_they_are_in_no_other_table_no_finding_no_frontier_and_no_verdict() -> None:
    records = [Record(CONTROL, harness=DENSE), FIRST]
    assert not tables.accuracy(records)
    assert not tables.perplexity(records)
    assert not candidates(records)
    assert not verdicts.verdicts(records)
    assert list(findings.sentences(records)) == []
    assert smaller_is_better(records) == []
