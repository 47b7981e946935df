"""The report in short: what it says first, what it leaves out, and that it always fits."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from reports.read import read
from reports.run import Run
from reports.step_summary import LONGEST, short, summary, ways
from sparsity.record import Cell, Record
from tests.reports import builders


def run_of(tmp_path: Path, records: list[Record], **ours: object) -> Run:
    entries = [(f"t{i}", record) for i, record in enumerate(records)]
    return read([builders.write(tmp_path / "run.json", builders.run_json(entries, **ours))])


def way(sparsity: float, speedup: float, verdict: str, delta: float | None, model: str = "bert") -> list[Record]:
    """A cell with its time, its weights and, unless None, its difference in accuracy."""
    cell = Cell(model, "l1", "unstructured", "layer", sparsity)
    cost = dataclasses.replace(cell, format="packed", workload="8x64", dtype="float32")
    low, high = speedup * 0.98, speedup * 1.02
    time = builders.latency(verdict=verdict, reason=None, speedup=speedup, low=low, high=high)
    found = [dataclasses.replace(time, cell=cost), dataclasses.replace(builders.memory(), cell=cost)]
    if delta is not None:
        judged = builders.accuracy("bert", "l1", "layer", 0.5)
        assert judged.quality is not None
        said = "kept" if delta > -0.01 else "lost"
        quality = dataclasses.replace(judged.quality, delta=delta, delta_stderr=0.001, verdict=said)
        found.append(Record(dataclasses.replace(cell, task="classification"), quality=quality, outcome="passed"))
    return found


KINDS = [
    *way(0.5, 0.8, "slower", -0.001),
    *way(0.9, 3.0, "faster", -0.2),
    *way(0.8, 2.0, "faster", -0.001),
    *way(0.6, 1.01, "same", -0.001),
    *way(0.7, 1.5, "faster", None),
    *way(0.75, 2.5, "faster", -0.001),
]


def table(text: str) -> list[list[str]]:
    found = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in found]


def test_the_most_telling_come_first() -> None:
    assert [each.cell.sparsity for each in ways(KINDS)] == [0.75, 0.8, 0.6, 0.7, 0.9, 0.5]


def test_sentences_table_reasons_and_the_machine(tmp_path: Path) -> None:
    text = summary(run_of(tmp_path, KINDS))
    assert "- within 1 point of dense: bert · l1 0.75 unstructured · packed: 2.5x faster" in text
    head, _, first, *_ = table(text)
    row = dict(zip(head, first, strict=True))
    assert row["cell"] == "bert · l1 0.75 unstructured · packed · 8x64"
    assert row["time / unpruned \\[95 %\\]"] == "0.400 \\[0.392, 0.408\\]"
    assert (row["time"], row["weights"]) == ("faster", "2.0x larger")
    assert row["quality ± 95 %"] == "−0.1 ± 0.2 points (kept)"
    assert "## Failed or not measured: 1\n\n- 1 skipped: semi\\_structured needs a CUDA device" in text
    assert "AMD EPYC, x86\\_64, Linux · threads 2 · torch 2.9.0+cpu · commit 0123abc · 2025-01-02" in text


def test_the_unpruned_model_is_no_row_and_what_lacks_is_a_dash(tmp_path: Path) -> None:
    text = summary(run_of(tmp_path, [*way(0.7, 1.5, "faster", None), builders.latency("bert", 0.0, "dense")]))
    assert len(table(text)) == 3
    assert table(text)[2][-1] == "–"
    alone = [each for each in way(0.8, 2.0, "faster", -0.001) if each.quality]
    (row,) = table(summary(run_of(tmp_path, alone)))[2:]
    assert row[1:4] == ["–", "–", "–"]


def test_two_metrics_of_a_cell_share_a_row(tmp_path: Path) -> None:
    both = [*way(0.8, 2.0, "faster", -0.001), builders.nll("bert", "l1", "layer", 0.8, delta=0.5, verdict="lost")]
    (row,) = table(summary(run_of(tmp_path, both)))[2:]
    assert row[-1].startswith("−0.1 ± 0.2 points (kept); +0.500 ± 0.014 nats (lost)")


def test_it_fits_and_says_how_many_rows_were_left_out(tmp_path: Path) -> None:
    many = [each for i in range(600) for each in way(0.5, 1.5 + i / 1000, "faster", None, f"model-{i}-{'x' * 50}")]
    text = summary(run_of(tmp_path, many))
    assert LONGEST // 2 < len(text) <= LONGEST
    shown = len(table(text)) - 2
    assert 0 < shown < 600
    assert f"{600 - shown} more rows are left out here." in text
    assert table(text)[2][0].startswith("model-599-")


def test_it_fits_whatever_the_strings_from_outside_are(tmp_path: Path) -> None:
    long: list[dict[str, Any]] = [
        {"cell": {"model": "m"}, "test": f"t{i}", "outcome": "skipped", "reason": f"{i}{'<' * 5000}"} for i in range(99)
    ]
    names = [f"{i}{'&' * 5000}" for i in range(60)]
    many = [each for name in names for each in way(0.5, 1.5, "faster", -0.001, name)]
    text = summary(run_of(tmp_path, many, not_measured=long, fingerprint={"torch": "*" * 90_000, "gpu": "$" * 90_000}))
    assert len(text) <= LONGEST
    assert "and 87 more" in text
    assert "and 48 more" in text


def test_nothing_from_outside_is_markup(tmp_path: Path) -> None:
    text = summary(run_of(tmp_path, way(0.5, 1.5, "faster", -0.001, "<img src=x>|`a`[b](c)")))
    assert "<img" not in text
    assert "[b](c)" not in text
    assert len({len(row) for row in table(text)}) == 1


def test_a_stopped_run_says_so(tmp_path: Path) -> None:
    assert "The run was stopped: 7 tests were not run." in summary(run_of(tmp_path, KINDS, not_run=7))


def test_a_run_without_pruned_models_is_short(tmp_path: Path) -> None:
    text = summary(run_of(tmp_path, [builders.weights(layers=2)], not_measured=[]))
    assert table(text) == []
    assert len(text) < 300


@pytest.mark.parametrize(
    ("commit", "shown"),
    [
        ("0" * 40, "0" * 10),
        (f"{'a' * 40} with uncommitted changes", "aaaaaaaaaa with uncommitted changes"),
        ("v1", "v1"),
    ],
)
def test_commits_are_short(commit: str, shown: str) -> None:
    assert short(commit) == shown


def test_published_files_have_a_summary() -> None:
    folder = Path(__file__).parents[2] / "reports" / "published"
    text = summary(read(sorted(folder.glob("frontier-*.json"))))
    assert text.count("within 1 point of dense") == 4
    assert table(text)[2][2] == "faster"
