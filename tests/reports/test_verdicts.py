"""The table of verdicts: which costs and which quality stand in one row, and what is a dash."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reports.verdicts import ACCURACY, MEMORY, NLL, TIME, Value, verdicts, ways
from reports.words import MISSING
from sparsity.record import Cell, Record
from tests.reports import builders

RECORDS = [record for _, record in builders.all_records()]
CHOICE = Cell("bert", "l1", "unstructured", "layer", 0.8)


def cost(cell: Cell, fmt: str = "packed", **changes: object) -> list[Record]:
    """Latency and memory of a cell in a format."""
    where = replace(cell, format=fmt, workload="8x64", dtype="float32", task=None)
    time, size = builders.latency("bert", cell.sparsity or 0.0, fmt, **changes), builders.memory("bert", 0.8, fmt)
    return [replace(time, cell=where), replace(size, cell=where)]


def quality(cell: Cell, delta: float = -0.02, **more: object) -> Record:
    """Accuracy of a cell."""
    found = builders.accuracy("bert", "l1", "layer", 0.5)
    assert found.quality is not None
    return replace(found, cell=replace(cell, task="classification"), quality=replace(found.quality, delta=delta))


def table(records: list[Record]) -> list[dict[str, Value]]:
    """Each row by group and heading, what stands in the first group by heading alone."""
    found = verdicts(records)
    names = [each.heading if each.group == found.columns[0].group else f"{each.group}: {each.heading}"
             for each in found.columns]  # fmt: skip
    return [dict(zip(names, row.values, strict=True)) for row in found.rows]


def text(records: list[Record], *names: str) -> list[tuple[str, ...]]:
    return [tuple(row[name].text if name in row else "absent" for name in names) for row in table(records)]


def test_a_row_holds_the_numbers_of_its_records_one_in_each_column() -> None:
    changes: dict[str, Any] = {"flops": 40, "dense_flops": 100, "ideal_seconds": 0.002}
    time, size = cost(CHOICE, pruned_seconds=0.004, dense_seconds=0.008, speedup=2.0, low=1.9, high=2.1, **changes)
    (row,) = table([time, size, quality(CHOICE), builders.nll("bert", "l1", "layer", 0.8)])
    assert {name: value.text for name, value in row.items()} == {
        "model": "bert", "method": "l1", "pattern": "unstructured", "scope": "layer", "sparsity": "0.8",
        "format": "packed", "workload": "8x64",
        "time: unpruned ms": "8.00", "time: ms": "4.00", "time: times faster": "2.00", "time: low": "1.90",
        "time: high": "2.10", "time: verdict": "inconclusive", "time: operations": "0.40", "time: of limit": "50%",
        "memory: weights MiB": "2.86", "memory: times smaller": "1.00", "memory: peak MiB": "5.72",
        "memory: verdict": "larger",
        f"{ACCURACY}: difference": "−2.0", f"{ACCURACY}: ±": "0.8", f"{ACCURACY}: verdict": "kept",
        f"{NLL}: difference": "+0.786", f"{NLL}: ±": "0.014", f"{NLL}: verdict": "lost",
    }  # fmt: skip
    assert row["time: times faster"].sort == 2.0
    assert row[f"{ACCURACY}: difference"].sort == pytest.approx(-2.0)
    assert row["time: verdict"].sort is None, "words are sorted as words"


def test_what_was_not_measured_is_a_dash_and_a_group_of_dashes_is_left_out() -> None:
    whole = verdicts([*cost(CHOICE), builders.latency("bert", 0.9, "csr")])
    assert whole.absent == (ACCURACY, NLL)
    assert whole.groups[1:] == ((TIME, 6), (MEMORY, 4))
    first, second = table([*cost(CHOICE), builders.latency("bert", 0.9, "csr")])
    assert first["memory: weights MiB"] != Value()
    assert second["memory: weights MiB"] == second["memory: verdict"] == Value(MISSING, None)
    assert not verdicts([builders.weights()])


def test_quality_stands_beside_every_format_and_that_of_the_very_format_comes_first() -> None:
    records = [*cost(CHOICE, "packed"), *cost(CHOICE, "bf16"), quality(CHOICE),
               quality(replace(CHOICE, format="bf16"), delta=-0.05)]  # fmt: skip
    assert text(records, "format", f"{ACCURACY}: difference") == [("packed", "−2.0"), ("bf16", "−5.0")]


def test_quality_of_another_choice_stands_in_a_row_of_its_own_without_costs() -> None:
    records = [*cost(CHOICE), quality(replace(CHOICE, scope="global"))]
    assert text(records, "scope", "format", "time: verdict", f"{ACCURACY}: difference") == [
        ("layer", "packed", "inconclusive", MISSING),
        ("global", MISSING, MISSING, "−2.0"),
    ]


def test_costs_without_a_recovery_stand_for_the_recovered_choice_unless_its_own_were_measured() -> None:
    records = [*cost(CHOICE, speedup=2.0), builders.recovered()]
    names = ("recovery", "time: times faster", f"{ACCURACY}: difference")
    assert text(records, *names) == [(MISSING, "2.00", MISSING), ("200 steps distilled", "2.00", "−0.3")]
    records += cost(replace(CHOICE, recovery="distill:200"), speedup=3.0)
    assert text(records, *names) == [(MISSING, "2.00", MISSING), ("200 steps distilled", "3.00", "−0.3")]


def test_the_unpruned_model_has_no_verdict_against_itself_and_trained_as_long_it_is_no_way_to_run_it() -> None:
    control = builders.latency("bert", 0.0, "dense", verdict="same", reason=None)
    bf16 = builders.latency("bert", 0.0, "bf16", verdict="faster", reason=None)
    records = [control, bf16, builders.trained_control(), builders.accuracy("bert", "none", None, 0.0)]
    assert text(records, "format", "time: verdict") == [("dense", MISSING), ("bf16", "faster")]


def test_seeds_and_dtypes_are_rows_of_their_own() -> None:
    seeds = [builders.nll("bert", "random", "layer", 0.5, seed) for seed in range(3)]
    assert [row["seed"].sort for row in table(seeds)] == [0, 1, 2]
    half = [replace(each, cell=replace(each.cell, dtype="bfloat16")) for each in cost(CHOICE)]
    assert text([*cost(CHOICE), *half], "dtype") == [("float32",), ("bfloat16",)]
    assert text(cost(CHOICE), "dtype") == [("absent",)]


def test_what_failed_is_no_way() -> None:
    assert ways([replace(each, outcome="failed") for each in cost(CHOICE)]) == []


def test_a_whole_run_has_a_row_for_each_cost_and_each_choice_without() -> None:
    rows = table(RECORDS)
    assert len(rows) == 3 * (11 + 1 * 5 + 3 * 5), "dense and masked; l1 global and three seeds of random without costs"
    assert [row["model"].text for row in rows] == sorted((r["model"].text for r in rows), key=builders.MODELS.index)
    (dense,) = [r for r in rows if [r[n].text for n in ("model", "sparsity", "format")] == ["gpt2", "0.5", "dense"]]
    assert dense[f"{NLL}: verdict"].text == "kept"
