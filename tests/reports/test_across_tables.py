"""The parts of a comparison of several runs: changes with their intervals, what is the same, what is missing."""

from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from reports import across, across_cells, across_tables
from reports.across_tables import Side
from reports.document import Part
from sparsity.record import Cell, Record
from tests.reports import builders
from tests.reports.versions import SPARSITIES, TORCH, files, sides, timed


def row(part: Part, *start: str) -> dict[str, str]:
    assert part.table is not None
    (found,) = [row for row in part.table.rows if row[: len(start)] == start]
    return dict(zip(part.table.headers, found, strict=True))


def costs(found: list[Side]) -> Part:
    return across_tables.costs(found, across_cells.common([side.cells for side in found]))


def test_what_differs_is_a_row_and_what_does_not_is_none(tmp_path: Path) -> None:
    part = across_tables.differences(sides(tmp_path, [timed(0.5, 2.0)], [timed(0.5, 2.0)]))
    assert row(part, "torch") == {"": "torch", "torch 2.11.0": "2.11.0", "torch 2.13.0": "2.13.0"}
    assert part.table is not None
    assert {row[0] for row in part.table.rows} == {"file", "torch"}


# -- changes of time -------------------------------------------------------------------------------------


def test_the_change_of_a_format_is_the_mean_of_its_cells_with_students_interval(tmp_path: Path) -> None:
    scatter = (0.30, 0.36, 0.33, 0.31, 0.35)  # of logarithms
    first = [timed(s, 2.0) for s in SPARSITIES]
    second = [timed(s, 2.0 * math.exp(d)) for s, d in zip(SPARSITIES, scatter, strict=True)]
    found = row(costs(sides(tmp_path, first, second)), "packed", "torch 2.13.0")
    half = 2.7764 * statistics.stdev(scatter) / math.sqrt(5)
    low, mean, high = (math.exp(0.33 + side * half) for side in (-1, 0, 1))
    assert found["change [95 %]"] == f"{mean:.2f} [{low:.2f}, {high:.2f}]"
    assert (found["times faster"], found["time"], found["cells"]) == ("2.78", "faster", "5")
    assert (found["faster for certain"], found["slower for certain"]) == ("5", "0")


def test_the_first_run_has_its_times_and_no_change(tmp_path: Path) -> None:
    found = row(costs(sides(tmp_path, [timed(0.5, 2.0)], [timed(0.5, 3.0)])), "packed", "torch 2.11.0")
    assert (found["times faster"], found["change [95 %]"], found["weights"]) == ("2.00", "–", "–")


def test_ratios_are_compared_and_not_times(tmp_path: Path) -> None:
    slow = [timed(0.5, 2.0, pruned_seconds=9.0, pruned_q1=9.0, pruned_q3=9.0, dense_seconds=18.0)]
    found = row(costs(sides(tmp_path, [timed(0.5, 2.0)], slow)), "packed", "torch 2.13.0")
    assert found["time"] == "same"


@pytest.mark.parametrize(
    ("speedup", "more", "certain"),
    [
        (2.2, {}, ("1", "0")),
        (1.8, {}, ("0", "1")),
        (2.02, {}, ("0", "0")),  # within sqrt(0.01² + 0.01²)
        (2.03, {}, ("1", "0")),
        (2.2, {"noise_floor": 0.2}, ("0", "0")),
        (2.2, {"verdict": "inconclusive", "reason": "noisy: everything moved"}, ("0", "0")),
        (2.2, {"low": None, "high": None}, ("0", "0")),
    ],
)
def test_a_cell_changed_certainly_beyond_both_intervals_and_the_noise(
    tmp_path: Path, speedup: float, more: dict[str, Any], certain: tuple[str, str]
) -> None:
    found = row(costs(sides(tmp_path, [timed(0.5, 2.0)], [timed(0.5, speedup, **more)])), "packed", "torch 2.13.0")
    assert (found["faster for certain"], found["slower for certain"]) == certain


def test_formats_are_apart_and_patterns_where_they_vary(tmp_path: Path) -> None:
    block = dataclasses.replace(timed(0.5, 2.0), cell=Cell("bert", "l1", "4x1", "layer", 0.5, "packed"))
    bf16 = builders.latency("bert", 0.0, "bf16", speedup=1.5, low=1.4, high=1.6, verdict="faster", reason=None)
    records = [timed(0.5, 2.0), block, timed(0.5, 0.9, "masked"), bf16, timed(0.0, 1.0, "dense")]
    part = costs(sides(tmp_path, records, records, records))
    assert part.table is not None
    assert [row[0] for row in part.table.rows][::3] == ["packed · unstructured", "packed · 4x1", "masked", "bf16"]
    assert [row[1] for row in part.table.rows][:3] == ["torch 2.11.0", "torch 2.13.0", "torch 2.14.0"]


def test_absolute_times_are_those_of_the_unpruned_models_of_each_run(tmp_path: Path) -> None:
    found = sides(tmp_path, [timed(0.5, 2.0)], [timed(0.5, 2.0, dense_seconds=0.25)])
    part = across_tables.absolute(found)
    assert row(part, "bert")["torch 2.11.0: ms"] == "4.00"
    assert row(part, "bert")["torch 2.13.0: ms"] == "250"
    assert "not paired" in part.notes[0]


# -- memory and quality ----------------------------------------------------------------------------------


def test_bytes_are_the_same_or_their_quotients(tmp_path: Path) -> None:
    first = [builders.memory("bert", s) for s in (0.5, 0.9)]
    larger = [first[0], dataclasses.replace(first[1], memory=_bytes(first[1], 4))]
    same, other = sides(tmp_path, first, first)[1], sides(tmp_path, first, larger)
    assert row(costs([other[0], same]), "masked", "torch 2.13.0")["weights"] == "the same in all 2 cells"
    found = row(costs(other), "masked", "torch 2.13.0")
    assert found["weights"] == "2 times (1 of 2 cells changed)"
    assert found["peak"] == "the same in all 2 cells"
    assert (found["times faster"], found["change [95 %]"], found["time"]) == ("–", "–", "–")


def _bytes(record: Record, times: int) -> Any:
    assert record.memory is not None
    return dataclasses.replace(record.memory, weights_bytes=record.memory.weights_bytes * times)


def judged(sparsity: float, delta: float, verdict: str = "kept") -> Record:
    found = builders.accuracy("bert", "l1", "layer", sparsity)
    assert found.quality is not None
    return dataclasses.replace(found, quality=dataclasses.replace(found.quality, delta=delta, verdict=verdict))


def test_quality_counts_verdicts_that_changed_and_names_the_largest_difference(tmp_path: Path) -> None:
    first = [judged(0.5, -0.001), judged(0.9, -0.004), judged(0.95, 0.0)]
    second = [judged(0.5, -0.051, "lost"), judged(0.9, -0.104, "inconclusive"), judged(0.95, 0.05)]
    found = sides(tmp_path, first, second)
    part = across_tables.qualities(found, across_cells.common([side.cells for side in found]))
    line = row(part, "accuracy")
    assert (line["cells"], line["verdicts changed"]) == ("3", "2")
    assert (line["certainly better"], line["certainly worse"]) == ("1", "2")
    assert line["largest difference ± 95 %"] == "+10 ± 1.1 points"
    assert line["largest at"] == str(first[1].cell)


# -- cell by cell ----------------------------------------------------------------------------------------


def single(found: list[Side], most: int = 200) -> Part:
    return across_tables.single_cells(found, across_cells.common([side.cells for side in found]), most)


def test_only_cells_that_certainly_changed_are_listed_the_largest_first(tmp_path: Path) -> None:
    first = [timed(0.5, 2.0), timed(0.6, 2.0), timed(0.7, 2.0), builders.memory("bert", 0.9), judged(0.5, -0.001)]
    larger = dataclasses.replace(first[3], memory=_bytes(first[3], 3))
    second = [timed(0.5, 2.01), timed(0.6, 2.5), timed(0.7, 0.5), larger, judged(0.5, -0.1, "lost")]
    part = single(sides(tmp_path, first, second))
    assert part.table is not None
    assert [row[1] for row in part.table.rows] == [
        "slower (torch 2.13.0)",
        "faster (torch 2.13.0)",
        "weights 3 times (torch 2.13.0)",
        "accuracy kept, now lost (torch 2.13.0)",
    ]
    line = row(part, str(first[2].cell))
    assert line["torch 2.11.0: times faster [95 %]"] == "2.00 [1.98, 2.02]"
    assert line["torch 2.13.0: times faster [95 %]"] == "0.500 [0.495, 0.505]"
    assert row(part, str(first[3].cell))["weights, MiB"] == "5.72 / 17.2"
    assert row(part, str(first[3].cell))["peak, MiB"] == "11.4"


def test_more_cells_than_there_is_room_for_are_counted(tmp_path: Path) -> None:
    first, second = [timed(s, 2.0) for s in SPARSITIES], [timed(s, 3.0) for s in SPARSITIES]
    part = single(sides(tmp_path, first, second), most=2)
    assert part.table is not None
    assert len(part.table.rows) == 2
    assert "3 more cells are left out here" in part.notes[1]


def test_the_unpruned_model_against_its_own_copy_changes_in_nothing(tmp_path: Path) -> None:
    found = sides(tmp_path, [timed(0.0, 1.0, "dense")], [timed(0.0, 1.2, "dense")])
    assert not single(found).table


def test_nothing_changes_between_equal_runs(tmp_path: Path) -> None:
    records = [record for _, record in builders.all_records()]
    found = sides(tmp_path, records, records, records)
    assert not single(found).table
    part = costs(found)
    assert part.table is not None
    assert {row[5] for row in part.table.rows} == {"–", "same"}
    assert not across_tables.missing(found).table


def test_cells_that_not_all_runs_have_are_counted_with_their_reasons(tmp_path: Path) -> None:
    both, first_only, asked = timed(0.5, 2.0), timed(0.6, 2.0), timed(0.7, 2.0)
    failed = dataclasses.replace(timed(0.9, 2.0), outcome="failed", reason="went wrong")
    data = builders.run_json(
        [("t", both), ("f", failed)],
        fingerprint=TORCH[1],
        not_measured=[{"cell": _json(asked.cell), "test": "x", "outcome": "skipped", "reason": "no kernel"}],
    )
    (one,) = files(tmp_path, [both, first_only, asked, timed(0.9, 2.0)])
    found = across.side_by_side([one, builders.write(tmp_path / "other.json", data)])
    part = across_tables.missing(found)
    assert part.table is not None
    assert set(part.table.rows) == {
        ("torch 2.13.0", "time", "not in its file", "1", "1"),
        ("torch 2.13.0", "time", "skipped: no kernel", "1", "1"),
        ("torch 2.13.0", "time", "failed: went wrong", "1", "1"),
    }


def _json(cell: Cell) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(cell).items() if value is not None}


def test_with_three_runs_only_cells_of_all_three_are_pooled(tmp_path: Path) -> None:
    found = sides(tmp_path, [timed(0.5, 2.0), timed(0.6, 8.0)], [timed(0.5, 3.0), timed(0.6, 8.0)], [timed(0.5, 4.0)])
    assert row(costs(found), "packed", "torch 2.13.0")["times faster"] == "3.00"
    line = row(costs(found), "packed", "torch 2.14.0")
    assert (line["cells"], line["change [95 %]"]) == ("1", "2.00 [1.97, 2.03]")


def test_published_files_of_two_machines_stand_side_by_side(tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "reports" / "published"
    found = across.side_by_side([folder / "frontier-costs.json", folder / "compositions.json"])
    assert [side.name for side in found] == ["cores 1", "cores 2"]
    line = row(costs(found), "compact · neurons", "cores 2")
    assert (line["cells"], line["time"], line["weights"]) == ("6", "same", "the same in all 6 cells")
    other = across.side_by_side([folder / "frontier-bert-gpt2.json", folder / "h200-recovery.json"])
    assert "H200" in other[1].name
    assert across.main([*(str(folder / f"h200-{name}.json") for name in ("fp16-128x64", "fp32-128x64"))]) == 2
