"""Tasks of lm-eval in the terminal: a line a curve, seeds pooled, a dash for what was not measured."""

from __future__ import annotations

from dataclasses import replace

from sparsity.harness_summary import rows
from sparsity.judging import Harness
from sparsity.record import Cell, Quality, Record
from sparsity.summary import costs, quality, text

CELL = Cell("gpt2", "l1", "unstructured", "layer", 0.5, dtype="float32", task="harness:topic")
CONTROL = Cell("gpt2", "none", sparsity=0.0, dtype="float32", task="harness:topic")
DENSE = Harness("acc", 0.9, 200, "1.0", 0, True, 0.02, dense_value=0.9)
LOST = Harness("acc", 0.7, 200, "1.0", 0, True, 0.03, dense_value=0.9, delta=-0.2, delta_stderr=0.03, verdict="lost")
FIRST = Record(CELL, harness=LOST)


def test_a_curve_is_a_line_with_the_unpruned_model_first() -> None:
    other = Record(replace(CELL, sparsity=0.9, pattern="4x1"), harness=replace(LOST, value=123.4, verdict=None))
    headers, found = rows([Record(CONTROL, harness=DENSE), FIRST, other])
    assert headers == ["model", "task of lm-eval", "pruned by", "unpruned", "0.5", "0.9"]
    assert found == [
        ["gpt2", "topic acc", "l1 · layer", "0.900 ± 0.02", "0.700 lost", "–"],
        ["gpt2", "topic acc", "l1 · 4x1 · layer", "0.900 ± 0.02", "–", "123"],
    ]


def test_seeds_of_a_curve_are_their_mean_with_a_verdict_where_all_agree() -> None:
    random = [replace(CELL, method="random", seed=seed) for seed in (0, 1)]
    same = [Record(random[0], harness=LOST), Record(random[1], harness=replace(LOST, value=0.8))]
    assert rows(same)[1] == [["gpt2", "topic acc", "random · layer", "0.900", "0.750 lost"]]
    mixed = [same[0], Record(random[1], harness=replace(LOST, value=0.8, verdict="inconclusive"))]
    assert rows(mixed)[1][0][-1] == "0.750 mixed"


def test_tasks_and_models_stand_apart_and_an_unpruned_model_alone_is_a_line() -> None:
    second = replace(CONTROL, task="harness:other")
    found = rows([FIRST, Record(second, harness=DENSE)])[1]
    assert [row[1:4] for row in found] == [["topic acc", "l1 · layer", "0.900"], ["other acc", "none", "0.900 ± 0.02"]]


def test_they_stand_beside_no_accuracy_of_ours() -> None:
    ours = Record(replace(CELL, task="classification"), quality=Quality("accuracy", 0.8125, 0.01, 100))
    assert quality([ours, FIRST]) == quality([ours])
    assert costs([FIRST]) == ""
    assert rows([ours])[1] == []
    said = text([ours, FIRST], [])
    assert "topic acc" in said
    assert "0.700 lost" in said
    assert "within" not in text([FIRST], [])  # no answer is made of them
