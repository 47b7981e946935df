"""That the tables hold the records' numbers, and dashes where there is none; names from outside as they are."""

from __future__ import annotations

import dataclasses
import re

import pytest

from reports import tables, words
from reports.document import Table
from reports.run import NotMeasured
from tests.reports import builders

RECORDS = [record for _, record in builders.all_records()]


def _row(table: Table, label: str, sparsity: str) -> dict[str, str]:
    (row,) = [row for row in table.rows if row[:2] == (label, sparsity)]
    return dict(zip(table.headers, row, strict=True))


def _only(table: Table) -> tuple[str, ...]:
    (row,) = table.rows
    return row


def test_memory_and_time_like_the_study() -> None:
    row = _row(tables.memory_and_time(RECORDS), "masked", "0.9")
    assert row["bert MiB / s"] == "17.2 / 0.004520"
    assert row["bert ratio to unpruned"] == "2.00 / 1.13 slower"
    dense = _row(tables.memory_and_time(RECORDS), "not pruned", "0")
    assert dense["gpt2 MiB / s"] == "9.06 / 0.005000"
    assert dense["gpt2 ratio to unpruned"] == "1.00 / 1.00"


def test_the_unpruned_model_in_a_format_of_its_own_is_a_row_with_its_verdict() -> None:
    bf16 = builders.latency("bert", 0.0, "bf16", speedup=2.0, low=1.9, high=2.1, verdict="faster", reason=None)
    table = tables.memory_and_time([*RECORDS, bf16])
    assert _row(table, "not pruned \u00b7 bf16", "0")["bert ratio to unpruned"] == "\u2013 / 0.500 faster"
    assert _row(table, "not pruned", "0")["bert ratio to unpruned"] == "1.00 / 1.00"


def test_the_time_ratio_is_the_paired_one() -> None:
    record = builders.latency(speedup=0.5)
    assert "\u2013 / 2.00 slower" in _only(tables.memory_and_time([record]))
    record = builders.latency(speedup=None, pruned_seconds=0.006, dense_seconds=0.004)
    assert "\u2013 / 1.50 slower" in _only(tables.memory_and_time([record]))


def test_without_its_dense_side_a_record_is_set_against_the_control() -> None:
    pruned = builders.latency(speedup=None, dense_seconds=None, pruned_seconds=0.008)
    control = builders.latency("bert", 0.0, "dense")
    assert "\u2013 / 2.00 slower" in _row(tables.memory_and_time([pruned, control]), "masked", "0.9").values()
    assert "\u2013 / \u2013 slower" in _only(tables.memory_and_time([pruned]))


def test_what_is_missing_is_a_dash() -> None:
    row = _row(tables.memory_and_time([builders.memory("bert"), builders.latency("gpt2")]), "masked", "0.9")
    assert row["bert MiB / s"] == "17.2 / \u2013"
    assert row["gpt2 MiB / s"].startswith("\u2013 / 0.00")
    bare = dataclasses.replace(builders.pruned("bert", "l1", "layer", 0.5))
    assert bare.pruned is not None
    bare = dataclasses.replace(bare, pruned=dataclasses.replace(bare.pruned, seconds=None, torch_seconds=None))
    assert not tables.pruning_cost([bare]), "what was removed stands beside every measurement and is no cost"


def test_operations_and_the_share_of_the_limit_stand_beside_the_ratio_of_times() -> None:
    record = builders.latency(flops=56, dense_flops=100, ideal_seconds=0.00113)
    row = _row(tables.memory_and_time([record]), "masked", "0.9")
    assert row["bert operations / of limit"] == "0.56 / 25%"
    assert _only(tables.memory_and_time([builders.latency()]))[-1] == "\u2013 / \u2013"


def test_limits_are_explained_where_they_were_measured_and_ceilings_said_once() -> None:
    cells = [(model, s) for model in ("bert", "a*b") for s in (0.1, 0.9)]
    said = tables.limits([builders.latency(model, s, ceiling=7.125, ideal_seconds=0.001) for model, s in cells])
    assert said.startswith("Of limit: ")
    assert said.endswith("a forward pass would be faster by: bert 8x64 7.12 times, a*b 8x64 7.12 times.")
    assert tables.limits([builders.latency(flops=5, dense_flops=10)]).startswith("Operations: ")
    assert tables.limits([builders.latency()]) == ""


def test_memory_part_by_part() -> None:
    row = _row(tables.memory_parts(RECORDS), "masked", "0.5")
    assert (row["bert weights"], row["bert peak"], row["bert disk"]) == ("5.72", "11.4", "1.53")


def test_perplexity_with_difference_and_verdict() -> None:
    row = _row(tables.perplexity(RECORDS), "l1 · layer", "0.9")
    assert row["bert perplexity"] == "40.2 (37.9 to 42.7)"
    assert row["bert difference in nats"] == "+1.5943 \u00b1 0.0070"
    assert row["bert verdict"] == "lost"


def test_accuracy_differences_are_points_and_seeds_are_ranges() -> None:
    table = tables.accuracy(RECORDS)
    assert _row(table, "l1 · layer", "0.5")["bart difference in points"] == "-1.31 \u00b1 0.40"
    row = _row(table, "random · layer", "0.1")
    assert row["bert difference in points"] == "-4.88 (-5.88 to -3.88)"
    assert row["bert accuracy"] == "0.871 (0.861 to 0.881)"
    assert _row(table, "not pruned", "0")["bert accuracy"] == "0.920 (0.903 to 0.937)"


def test_seeds_that_disagree_are_counted() -> None:
    row = _row(tables.perplexity(RECORDS), "random · layer", "0.1")
    assert row["bert verdict"] == "2 kept, 1 lost"


def test_pruning_cost_beside_torch() -> None:
    table = tables.pruning_cost(RECORDS)
    found = {row[:3]: dict(zip(table.headers, row, strict=True)) for row in table.rows}
    ours = found["bert", "l1 · unstructured · layer", "0.9"]
    assert (ours["of prunable"], ours["of all parameters"]) == ("0.9000", "0.5400")
    assert (ours["s"], ours["extra MiB"], ours["torch s"], ours["torch extra MiB"]) == (
        "0.0210",
        "2.38",
        "0.0500",
        "8.58",
    )
    assert found["bert", "random · unstructured · layer", "0.9"]["torch s"] == "\u2013"
    assert len(table.rows) == 3 * 3 * 5, "seeds share a row"


def test_inconclusive_verdicts_are_counted_and_so_are_those_of_a_noisy_machine() -> None:
    said = tables.inconclusive(RECORDS)
    assert said == "18 of 33 latency verdicts are inconclusive: faster or slower is not shown."
    noisy = builders.latency(verdict="inconclusive", reason="noisy: the unpruned model differs")
    assert tables.inconclusive([noisy]).endswith(" 1 of them because the machine was too noisy.")
    assert tables.inconclusive([builders.latency()]) == ""


def test_not_measured_gathers_equal_reasons() -> None:
    missing = [NotMeasured(f"cell {i}", f"t{i}", "skipped", "no <b>GPU</b>\n| here") for i in range(5)]
    row = _only(tables.not_measured(missing))
    assert row[:3] == ("skipped", "no <b>GPU</b>\n| here", "5"), "escaped by whoever writes it down"
    assert row[3] == "cell 0; cell 1; cell 2; and 2 more"


@pytest.mark.parametrize(
    "table", [tables.memory_and_time, tables.memory_parts, tables.perplexity, tables.accuracy, tables.pruning_cost]
)
def test_no_table_without_a_row(table: object) -> None:
    assert callable(table)
    assert not table([])
    assert not table([builders.weights()])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\u2013"),
        (0.0, "0.00"),
        (0.45678, "0.457"),
        (12.345, "12.3"),
        (2388.0, "2388"),
        (99.96, "100"),
        (1.5e9, "1.50e+09"),
        (3e-7, "3.00e-07"),
        (-1.25, "-1.25"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert words.number(value) == text


def test_slugs_are_safe_and_unique() -> None:
    names = ["google-bert/bert-base", "google-bert-bert-base", "../..", "BERT", "bert", "a b", "/x/\u00e9\u00e9"]
    slugs = words.slugs(names)
    assert len({slug.lower() for slug in slugs.values()}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", slug) for slug in slugs.values())
    assert words.slugs(reversed(names)) == slugs
