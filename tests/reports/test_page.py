"""That the page says what was run and found, links what is there, and sets the study's numbers beside ours."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from reports import findings, study
from reports.page import page
from reports.read import Run, read
from sparsity.record import Record
from tests.reports import builders


def _run(tmp_path: Path, records: list[Record] | None = None, **ours: object) -> Run:
    named = None if records is None else [(f"t{i}", record) for i, record in enumerate(records)]
    return read([builders.write(tmp_path / "run.json", builders.run_json(named, **ours))])


def test_what_was_run(tmp_path: Path) -> None:
    text = page(_run(tmp_path), {})
    for fact in ("run.json", "default", "0123abc", "AMD EPYC 7763", "2.9.0+cpu", "BertForMaskedLM", "2025-01-02"):
        assert fact in text
    assert "**Demonstration.** Models marked so are tiny and were trained on generated text" in text
    assert "says nothing about full-size models" in text


def test_limits_stand_with_the_machine_and_below_the_times(tmp_path: Path) -> None:
    roof = {"flops_per_second": {"float32": 98e9}, "reads": [{"bytes": 2**20, "bytes_per_second": 2e11}]}
    text = page(_run(tmp_path, [builders.latency(ceiling=7.5, ideal_seconds=0.001)], roofline=roof), {})
    assert "98 GFLOP/s in float32; reads 1 MiB at 200 GB/s" in text.split("## Tables")[0]
    assert "With every prunable layer free a forward pass would be faster by: bert 8x64 7.50 times." in text
    assert "at best" not in page(_run(tmp_path), {})


def test_no_demonstration_where_no_model_is_one(tmp_path: Path) -> None:
    text = page(
        _run(
            tmp_path, models={"bert": {"class_name": "BertForMaskedLM", "source": "checkpoint", "demonstration": False}}
        ),
        {},
    )
    assert "emonstration" not in text


def test_figures_are_linked_with_svg_and_alt_text(tmp_path: Path) -> None:
    text = page(_run(tmp_path), {"required-time": "Required [time]"})
    assert "![Required \\[time\\]](required-time.png)" in text
    assert "[required-time as SVG](required-time.svg)" in text


def test_findings_are_computed() -> None:
    said = "\n".join(findings.sentences([record for _, record in builders.all_records()]))
    assert "**bert**, masked: a forward pass takes 1.05 (at 0.1) to 1.14 (at 0.99) times the unpruned time" in said
    assert "**bart**, masked: weights and forward peak take 2.00 times the unpruned model's memory" in said
    assert "**gpt2**, classification accuracy: the largest sparsity with the verdict `kept` is 0.5" in said


def test_one_lost_seed_is_not_kept() -> None:
    seeds = [builders.nll("bert", "random", "layer", 0.1, seed) for seed in range(3)]
    assert findings.sentences(seeds) == ["**bert**, perplexity: `kept` at no sparsity that was measured."]
    assert "is 0.1 (random" in findings.sentences(seeds[:1])[0]


def test_no_sentence_without_data() -> None:
    assert findings.sentences([builders.weights()]) == []
    unjudged = [builders.nll("bert", "l1", "layer", 0.5, verdict=None)]
    assert findings.sentences(unjudged) == []


def test_the_study_stands_beside_ours(tmp_path: Path) -> None:
    text = page(_run(tmp_path), {})
    section = text.split("### bert beside the study's BERT")[1].split("###")[0]
    (row,) = [line for line in section.splitlines() if line.startswith("| 0.9 ")]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        "0.9",
        "2624 / 0.72",
        "1.09",
        "8.58 / 0.003960",
        "0.990",
        "17.2 / 0.004520",
        "1.13",
    ]
    assert "### gpt2 beside the study's GPT-2" in text
    assert "Ours ran at 8x64 (batch size x sequence length), the study at 128x64." in text
    assert "Hugging Face's benchmark tool" in text


def test_models_without_a_counterpart_stand_alone(tmp_path: Path) -> None:
    record = builders.latency()
    record = dataclasses.replace(record, cell=dataclasses.replace(record.cell, model="org/roberta"))
    assert "original study" not in page(_run(tmp_path, [record]), {})


@pytest.mark.parametrize(
    ("ours", "class_name", "theirs"),
    [
        ("bert", "BertForMaskedLM", "BERT"),
        ("x", "GPT2LMHeadModel", "GPT-2"),
        ("random:bart-base", None, "BART"),
        ("google-bert/bert-base-uncased", None, "BERT"),
        ("FacebookAI/roberta-base", None, None),
        ("my/bert", "RobertaModel", None),
    ],
)
def test_counterparts(ours: str, class_name: str | None, theirs: str | None) -> None:
    assert study.counterpart(ours, class_name) == theirs


def test_the_studys_table_is_the_published_one() -> None:
    assert study.TABLE["GPT-2"][0.1] == study.Published(4584, 0.5484)
    slower = {name: max(c.seconds for c in cells.values()) / cells[0.0].seconds for name, cells in study.TABLE.items()}
    assert {name: round(100 * ratio - 100) for name, ratio in slower.items()} == {"BART": 13, "GPT-2": 26, "BERT": 9}


def test_nothing_from_outside_becomes_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>`x`|y\n\n# title [l](http://e)"
    record = builders.latency(verdict="inconclusive", reason=evil)
    record = dataclasses.replace(record, cell=dataclasses.replace(record.cell, model=evil))
    item = {"cell": {"model": evil}, "test": evil, "outcome": "skipped", "reason": evil}
    models = {evil: {"class_name": evil, "source": evil, "demonstration": True}}
    run = _run(tmp_path, [record], fingerprint={evil: evil}, profile=evil, models=models, not_measured=[item])
    text = page(run, {"required-time": evil})
    assert "<script" not in text
    assert "\n# title" not in text
    assert "](http://e)" not in text.replace("\\](http://e)", "")
    assert "`x`" not in text.replace("\\`", "")
    assert "alert(1)" in text, "shown, but harmless"


def test_a_run_that_measured_nothing_says_so(tmp_path: Path) -> None:
    failed = dataclasses.replace(builders.latency(), outcome="failed", reason="broke")
    text = page(_run(tmp_path, [failed]), {})
    assert "No figure: nothing was measured" in text
    assert "broke" in text.split("### Failed or not measured")[1]


def test_repeated_cells_are_said(tmp_path: Path) -> None:
    text = page(_run(tmp_path, [builders.latency(), builders.latency()]), {})
    assert "1 tests measured a cell that stood in the file before" in text


def test_the_answer_stands_first_and_recoveries_have_their_tables(tmp_path: Path) -> None:
    packed = [builders.latency("bert", 0.8, "packed"), builders.memory("bert", 0.8, "packed")]
    text = page(_run(tmp_path, [*packed, builders.recovered(), builders.trained_control()]), {})
    titles = [line for line in text.splitlines() if line.startswith("#")]
    assert titles[:3] == ["# What pruning bought here", "## The answer", "## What was run"]
    assert "- within 1 point of dense: bert · l1 0.8 unstructured · packed · 200 steps distilled: " in text
    assert "### Recovery" in titles
    assert "### Ladder" not in titles
    assert "## The answer" not in page(_run(tmp_path, [builders.latency()]), {})
