"""The files for other programs: every record in the table, strict JSON of the shape that each tool reads."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any, NoReturn

import pytest

from reports import exports
from reports.read import read
from reports.run import Measured
from sparsity.record import Record
from tests.reports import builders

RECORDS = [Measured(name, record) for name, record in builders.all_records()]
PASSED = [each.record for each in RECORDS]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def named(records: list[Record], name: str) -> dict[str, Any]:
    (found,) = [entry for entry in exports.smaller_is_better(records) if entry["name"] == name]
    return found


def no_constant(text: str) -> NoReturn:
    raise AssertionError(f"{text} is not JSON")


def test_every_record_is_a_row_with_its_axes_and_numbers() -> None:
    found = rows(exports.cells(RECORDS))
    assert len(found) == len(RECORDS)
    for row, each in zip(found, RECORDS, strict=True):
        assert row["test"] == each.fullname
        assert row["model"] == each.record.cell.model
        assert row["sparsity"] == ("" if each.record.cell.sparsity is None else str(each.record.cell.sparsity))
        speedup = each.record.latency.speedup if each.record.latency else None
        assert row["latency.speedup"] == ("" if speedup is None else repr(speedup))
        size = each.record.memory.weights_bytes if each.record.memory else None
        assert row["memory.weights_bytes"] == ("" if size is None else str(size))


def test_columns_that_hold_nothing_are_left_out_and_lists_too() -> None:
    head = rows(exports.cells(RECORDS))[0]
    assert "latency.throttled" not in head
    assert "latency.block_ratios" not in head
    assert not [name for name in head if name.startswith(("training.", "weights."))]
    timed = builders.latency(throttled="power", block_ratios=[0.1, 0.2])
    head = rows(exports.cells([Measured("t", timed)]))[0]
    assert head["latency.throttled"] == "power"
    assert not [name for name in head if name.startswith(("memory.", "latency.block_ratios"))]


def test_a_failed_record_keeps_its_reason_in_the_table_and_goes_nowhere_else(tmp_path: Path) -> None:
    failed = dataclasses.replace(builders.latency(), outcome="failed", reason="too, slow")
    file = builders.write(tmp_path / "run.json", builders.run_json([("t", failed), ("m", builders.memory("gpt2"))]))
    found = exports.files(read([file]))
    assert [(row["outcome"], row["reason"]) for row in rows(found["cells.csv"])] == [
        ("failed", "too, slow"),
        ("passed", ""),
    ]
    assert "bert" not in found["github-action-benchmark.json"]
    assert "bert" not in found["bencher.json"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@A1", "\t=1", "\n@x"])
def test_what_a_spreadsheet_would_run_is_defused(text: str) -> None:
    record = dataclasses.replace(builders.latency(), cell=dataclasses.replace(builders.latency().cell, model=text))
    (row,) = rows(exports.cells([Measured(text, record)]))
    assert row["model"] == row["test"] == f"'{text.strip()}"


def test_negative_numbers_are_not_touched() -> None:
    (row,) = rows(exports.cells([Measured("t", builders.accuracy("bert", "l1", "layer", 0.9))]))
    assert float(row["quality.delta"]) < 0


def test_the_ratio_of_times_is_pruned_over_unpruned_with_half_of_its_interval() -> None:
    record = builders.latency(speedup=2.0, low=1.0, high=4.0, verdict="faster", reason=None)
    found = named([record], f"time ratio: {record.cell}")
    assert found["value"] == 0.5
    assert found["range"] == "± 0.375"  # from 1 / 4 to 1 / 1
    assert found["extra"] == "faster"
    assert found["unit"] == "pruned / unpruned"


def test_bytes_are_exact_and_losses_positive_where_quality_is_worse() -> None:
    size = builders.memory()
    assert size.memory is not None
    assert named([size], f"weights: {size.cell}")["value"] == size.memory.weights_bytes
    assert named([size], f"peak: {size.cell}")["value"] == size.memory.peak_bytes
    worse = builders.accuracy("bert", "l1", "layer", 0.9)
    assert worse.quality is not None
    assert worse.quality.delta is not None
    found = named([worse], f"loss of accuracy: {worse.cell}")
    assert found["value"] == pytest.approx(-100 * worse.quality.delta)
    assert (found["unit"], found["range"], found["extra"]) == ("points", "± 0.4", "lost")
    text = builders.nll("bert", "l1", "layer", 0.9)
    assert named([text], f"loss of mean NLL: {text.cell}")["value"] > 1


def test_a_recovered_model_is_held_against_the_better_unpruned_one() -> None:
    record = builders.recovered(delta=-0.02)  # 1 point from the unpruned model as it is, 2 from that trained as long
    assert named([record], f"loss of accuracy: {record.cell}")["value"] == pytest.approx(2.0)


def test_names_are_unique_and_the_unpruned_model_loses_nothing_that_could_be_named() -> None:
    names = [entry["name"] for entry in exports.smaller_is_better(PASSED)]
    assert len(names) == len(set(names))
    assert not [name for name in names if name.startswith("loss") and "none" in name]


def test_bencher_has_the_measures_of_a_cell_together() -> None:
    time, size = builders.latency(speedup=2.0, low=1.6, high=2.5), builders.memory()
    assert time.cell == size.cell
    ((name, found),) = exports.bencher([time, size]).items()
    assert name == str(time.cell)
    assert time.latency is not None
    assert size.memory is not None
    assert found["latency"]["value"] == pytest.approx(1e9 * time.latency.pruned_seconds)
    assert found["latency"]["lower_value"] == pytest.approx(1e9 * time.latency.pruned_q1)
    assert found["latency"]["upper_value"] == pytest.approx(1e9 * time.latency.pruned_q3)
    assert found["time-ratio"] == {"value": 0.5, "lower_value": 0.4, "upper_value": 0.625}
    assert found["weights-bytes"] == {"value": size.memory.weights_bytes}
    assert found["file-size"] == {"value": size.memory.disk_bytes}


def test_bencher_values_lie_between_their_ends() -> None:
    found = exports.bencher(PASSED)
    assert {measure for measures in found.values() for measure in measures} == {
        *("latency", "time-ratio", "weights-bytes", "peak-bytes", "file-size", "accuracy", "mean-nll"),
    }
    for measures in found.values():
        for value in measures.values():
            assert set(value) in ({"value"}, {"value", "lower_value", "upper_value"})
            assert (
                value.get("lower_value", value["value"]) <= value["value"] <= value.get("upper_value", value["value"])
            )


def test_long_names_are_cut_and_stay_apart() -> None:
    cells = [dataclasses.replace(builders.latency().cell, model="é" * 2000 + end) for end in "ab"]
    records = [dataclasses.replace(builders.latency(), cell=cell) for cell in cells]
    names = list(exports.bencher(records))
    assert len(names) == 2
    assert all(len(name.encode()) <= 1024 for name in names)


def test_names_hold_nothing_that_ends_a_code_span_or_a_cell() -> None:
    cell = dataclasses.replace(builders.latency().cell, model="a`|\n\ud800b")
    ((name, _),) = exports.bencher([dataclasses.replace(builders.latency(), cell=cell)]).items()
    assert name.startswith("a'/ b · l1")


def test_numbers_that_overflow_are_left_out_and_the_json_is_strict(tmp_path: Path) -> None:
    records = [
        ("t", builders.latency(speedup=1e-320, low=1e-320)),
        ("m", builders.memory()),
        ("q", builders.nll("bert", "l1", "layer", 0.5)),
    ]
    found = exports.files(read([builders.write(tmp_path / "run.json", builders.run_json(records))]))
    for name in ("github-action-benchmark.json", "bencher.json"):
        assert json.loads(found[name], parse_constant=no_constant)
    assert "time-ratio" not in found["bencher.json"]
    assert "time" not in found["github-action-benchmark.json"]


def test_all_files_of_a_whole_run_can_be_written(tmp_path: Path) -> None:
    hostile = dataclasses.replace(builders.memory().cell, model="\ud800=<b>")
    records = [*builders.all_records(), ("\ud800", dataclasses.replace(builders.memory(), cell=hostile))]
    found = exports.files(read([builders.write(tmp_path / "run.json", builders.run_json(records))]))
    assert set(found) == {"cells.csv", "github-action-benchmark.json", "bencher.json", "summary.md"}
    for name, text in found.items():
        (tmp_path / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", ["frontier-costs", "h200-fp16-128x64", "h200-recovery", "masks-cost"])
def test_published_files_are_exported(name: str) -> None:
    run = read([Path(__file__).parents[2] / "reports" / "published" / f"{name}.json"])
    found = exports.files(run)
    assert len(rows(found["cells.csv"])) == len(run.records)
    assert bool(json.loads(found["bencher.json"])) == (name != "masks-cost")
