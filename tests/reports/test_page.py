"""That the report says what was run and found, in order, and sets the study's numbers beside ours."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from reports import findings, study
from reports.document import Document, Part, Picture
from reports.page import page
from reports.read import Run, read
from sparsity.record import Record
from tests.reports import builders


def _run(tmp_path: Path, records: list[Record] | None = None, **ours: object) -> Run:
    named = None if records is None else [(f"t{i}", record) for i, record in enumerate(records)]
    return read([builders.write(tmp_path / "run.json", builders.run_json(named, **ours))])


def _part(document: Document, title: str) -> Part:
    (found,) = [part for part in document.parts if part.title == title]
    return found


def _rows(part: Part) -> list[tuple[str, ...]]:
    return list(part.table.rows) if part.table else []


def _inner(part: Part, title: str) -> Part:
    (found,) = [each for each in part.parts if each.title == title]
    return found


def test_what_was_run(tmp_path: Path) -> None:
    document = page(_run(tmp_path))
    text = str(_part(document, "What was run"))
    for fact in ("run.json", "default", "0123abc", "AMD EPYC 7763", "2.9.0+cpu", "BertForMaskedLM", "2025-01-02"):
        assert fact in text
    (caveat,) = document.caveats
    assert "Models marked so are tiny and were trained on generated text" in caveat
    assert "says nothing about full-size models" in caveat


def test_limits_stand_with_the_machine_and_below_the_times(tmp_path: Path) -> None:
    roof = {"flops_per_second": {"float32": 98e9}, "reads": [{"bytes": 2**20, "bytes_per_second": 2e11}]}
    document = page(_run(tmp_path, [builders.latency(ceiling=7.5, ideal_seconds=0.001)], roofline=roof))
    run = _part(document, "What was run")
    assert ("at best", "98 GFLOP/s in float32; reads 1 MiB at 200 GB/s") in _rows(run)
    notes = _inner(_part(document, "Tables"), "Memory and time").notes
    assert "With every prunable layer free a forward pass would be faster by: bert 8x64 7.50 times." in notes[-1]
    assert "at best" not in [row[0] for row in _rows(_part(page(_run(tmp_path)), "What was run"))]


def test_what_is_to_be_known_of_the_data_stands_with_what_was_run(tmp_path: Path) -> None:
    notes = ["3 rows without a label were left out", "2 documents were cut"]
    document = page(_run(tmp_path, [builders.latency()], notes=notes, resumed=2))
    rows = _rows(_part(document, "What was run"))
    assert [value for key, value in rows if key == "of the data"] == notes
    assert ("resumed", "2 times") in rows
    plain = _rows(_part(page(_run(tmp_path)), "What was run"))
    assert {"of the data", "resumed"}.isdisjoint(key for key, _ in plain)


def test_no_demonstration_where_no_model_is_one(tmp_path: Path) -> None:
    model = {"class_name": "BertForMaskedLM", "source": "checkpoint", "demonstration": False}
    document = page(_run(tmp_path, models={"bert": model}))
    assert document.caveats == ()
    assert "emonstration" not in str(document)


def test_pictures_stand_among_the_figures(tmp_path: Path) -> None:
    picture = Picture("required-time", "Required [time]")
    assert _part(page(_run(tmp_path), [picture]), "Figures") == Part("Figures", pictures=(picture,))


def test_findings_are_computed() -> None:
    said = "\n".join(findings.sentences([record for _, record in builders.all_records()]))
    assert "bert, masked: a forward pass takes 1.05 (at 0.1) to 1.14 (at 0.99) times the unpruned time" in said
    assert "bart, masked: weights and forward peak take 2.00 times the unpruned model's memory" in said
    assert "gpt2, classification accuracy: the largest sparsity with the verdict 'kept' is 0.5" in said


def test_one_lost_seed_is_not_kept() -> None:
    seeds = [builders.nll("bert", "random", "layer", 0.1, seed) for seed in range(3)]
    assert findings.sentences(seeds) == ["bert, perplexity: kept at no sparsity that was measured."]
    assert "is 0.1 (random" in findings.sentences(seeds[:1])[0]


def test_no_sentence_without_data() -> None:
    assert findings.sentences([builders.weights()]) == []
    unjudged = [builders.nll("bert", "l1", "layer", 0.5, verdict=None)]
    assert findings.sentences(unjudged) == []


def test_the_study_stands_beside_ours(tmp_path: Path) -> None:
    section = _part(page(_run(tmp_path)), "Beside the original study")
    bert = _inner(section, "bert beside the study's BERT")
    (row,) = [row for row in _rows(bert) if row[0] == "0.9"]
    assert list(row) == [
        "0.9",
        "2624 / 0.72",
        "1.09",
        "8.58 / 0.003960",
        "0.990",
        "17.2 / 0.004520",
        "1.13",
    ]
    assert [part.title for part in section.parts][1] == "gpt2 beside the study's GPT-2"
    assert bert.notes == ("Ours ran at 8x64 (batch size x sequence length), the study at 128x64.",)
    assert "Hugging Face's benchmark tool" in section.paragraphs[0]


def test_models_without_a_counterpart_stand_alone(tmp_path: Path) -> None:
    record = builders.latency()
    record = dataclasses.replace(record, cell=dataclasses.replace(record.cell, model="org/roberta"))
    assert "original study" not in str(page(_run(tmp_path, [record])))


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


def test_a_run_that_measured_nothing_says_so(tmp_path: Path) -> None:
    failed = dataclasses.replace(builders.latency(), outcome="failed", reason="broke")
    document = page(_run(tmp_path, [failed]))
    assert _part(document, "Figures").paragraphs == ("No figure: nothing was measured for one.",)
    assert _part(document, "Tables").paragraphs == ("No table: nothing was measured for one.",)
    assert "broke" in [row[1] for row in _rows(_part(document, "Failed or not measured"))]


def test_a_run_that_was_stopped_says_so_and_one_that_measured_all_has_no_such_part(tmp_path: Path) -> None:
    stopped = _part(page(_run(tmp_path, [builders.latency()], not_run=3, not_measured=[])), "Failed or not measured")
    assert stopped.paragraphs == ("The run was stopped: 3 tests were not run.",)
    whole = page(_run(tmp_path, [builders.latency()], not_measured=[]))
    assert "Failed or not measured" not in [part.title for part in whole.parts]


def test_repeated_cells_are_said(tmp_path: Path) -> None:
    document = page(_run(tmp_path, [builders.latency(), builders.latency()]))
    assert "1 tests measured a cell that stood in the file before" in _part(document, "What was run").notes[0]


def test_the_answer_stands_first_and_recoveries_have_their_tables(tmp_path: Path) -> None:
    packed = [builders.latency(), builders.latency("bert", 0.8, "packed"), builders.memory("bert", 0.8, "packed")]
    document = page(_run(tmp_path, [*packed, builders.recovered(), builders.trained_control()]))
    assert [part.title for part in document.parts] == [
        "What it found",
        "Figures",
        "Tables",
        "Beside the original study",
        "Failed or not measured",
        "What was run",
    ]
    assert document.answer is not None
    assert document.answer.points[0].startswith(
        "within 1 point of dense: bert · l1 0.8 unstructured · packed · 200 steps distilled: "
    )
    titles = [part.title for part in _part(document, "Tables").parts]
    assert "Recovery" in titles
    assert "Ladder" not in titles
    assert page(_run(tmp_path, [builders.latency()])).answer is None
