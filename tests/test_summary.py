"""What ends a run: a line a cell, a line a curve, a dash for what was not measured and never a zero."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from sparsity.frontier import candidates
from sparsity.record import Cell, Latency, Memory, NotMeasured, Pruned, Quality, Read, Record, Roofline, Training
from sparsity.summary import choices, costs, doubts, frontier, limits, missing, quality, recovered, text
from tests.reports import builders

CELL = Cell("bert", "l1", "unstructured", "layer", 0.5, "dense", workload="8x64", dtype="float32")
LATENCY = Latency(
    0.0125,
    0.012,
    0.0131,
    20,
    "slower",
    dense_seconds=0.01,
    speedup=0.8,
    low=0.78125,
    high=0.8333333,
    flops=56,
    dense_flops=100,
    ideal_seconds=0.004,
    ceiling=7.125,
)
ROOFLINE = Roofline({"float32": 98e9}, [Read(1 << 20, 200e9)])
MEMORY = Memory(1_480_000, 2_345_678, "cpu profiler", verdict="same")
NLL = Quality("mean_nll", 2.0, 0.1, 100, 7.389, delta=0.0123, delta_stderr=0.004, verdict="kept")
ACCURACY = Quality("accuracy", 0.8125, 0.01, 100, delta=-0.034, delta_stderr=0.005, verdict="lost")
CURVE = Cell("bert", "l1", "unstructured", "layer", 0.5, task="lm", dtype="float32")
CONTROL = Cell("bert", "none", sparsity=0.0, task="lm", dtype="float32")
DASH = "–"


def rows(table: str) -> list[list[str]]:
    """The cells of each line; columns are two spaces apart at least."""
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()[2:]]


def header(table: str) -> list[str]:
    return re.split(r"\s{2,}", table.splitlines()[0].strip())


def test_costs_of_one_cell_are_in_one_line() -> None:
    (row,) = rows(costs([Record(CELL, latency=LATENCY), Record(CELL, memory=MEMORY)]))
    assert row == [
        "bert · l1 · layer · 0.5 · dense · 8x64",
        "10.00",
        "12.50",
        "1.250 [1.200, 1.280]",
        "slower",
        "0.56",
        "32%",
        "1.41",
        "2.24",
        "same",
        DASH,
        DASH,
    ]


def test_what_a_cell_lost_stands_beside_what_it_costs_whatever_its_format_and_workload() -> None:
    lost = [Record(CURVE, quality=NLL), Record(replace(CURVE, task="classification"), quality=ACCURACY)]
    masked = replace(CELL, format="masked", workload="1x8")
    found = rows(costs([Record(CELL, latency=LATENCY), Record(masked, memory=MEMORY), *lost]))
    assert [row[-2:] for row in found] == [["+0.012 ± 0.004", "-3.4 ± 0.5"]] * 2
    other = rows(costs([Record(replace(CELL, sparsity=0.9), latency=LATENCY), *lost]))
    assert other[0][-2:] == [DASH, DASH]


def test_quality_of_the_very_format_stands_beside_its_costs() -> None:
    formats = [replace(CELL, format=kind) for kind in ("packed", "bf16")]
    lost = [Record(cell, latency=LATENCY, quality=replace(NLL, delta=i / 10)) for i, cell in enumerate(formats, 1)]
    found = rows(costs([*lost, Record(CURVE, quality=NLL), Record(CELL, latency=LATENCY)]))
    assert [row[-2] for row in found] == ["+0.100 ± 0.004", "+0.200 ± 0.004", "+0.012 ± 0.004"]


def test_the_unpruned_model_lost_nothing_to_itself() -> None:
    control = replace(CELL, method="none", pattern=None, scope=None, sparsity=0.0)
    itself = replace(NLL, delta=0.0, delta_stderr=0.0, verdict=None)
    quality_cell = replace(CONTROL, pattern=None)
    (row,) = rows(costs([Record(control, latency=LATENCY), Record(quality_cell, quality=itself)]))
    assert row[-2] == DASH


def test_limits_are_said_once_for_the_machine_and_once_for_each_model_and_workload() -> None:
    cells = [CELL, replace(CELL, format="masked"), replace(CELL, model="gpt2"), replace(CELL, workload="1x64")]
    records = [Record(cell, latency=LATENCY) for cell in cells] + [Record(CELL, memory=MEMORY)]
    assert limits(records, ROOFLINE).splitlines() == [
        "of limit: of the speed that this machine allows at best, 98 GFLOP/s in float32; reads 1 MiB at 200 GB/s",
        "faster at most, with every prunable layer free: bert 8x64 7.12x, gpt2 8x64 7.12x, bert 1x64 7.12x",
    ]
    assert limits(records, ROOFLINE) in text(records, [], 0, ROOFLINE)
    assert limits([Record(CELL, latency=replace(LATENCY, ceiling=None))], None) == ""


def test_what_could_not_be_told_is_counted_with_what_would_help() -> None:
    assert doubts([Record(CELL, latency=LATENCY)]) == ""
    straddling = replace(LATENCY, verdict="inconclusive", blocks=16, more_blocks=24, noise_floor=0.01)
    noisy = replace(LATENCY, verdict="inconclusive", noise_floor=0.083, reason="noisy: it differs from its own copy")
    told = doubts([Record(CELL, latency=each) for each in (LATENCY, straddling, noisy)])
    assert told.splitlines() == [
        "2 of 3 latency verdicts are inconclusive.",
        "noisy: a model seems to differ from its own copy by up to 8%; a quieter machine helps",
        "about 2.5 times --time-per-cell would settle the 1 that straddle the margin",
    ]
    assert len(doubts([Record(CELL, latency=replace(straddling, more_blocks=None))]).splitlines()) == 1
    endless = doubts([Record(CELL, latency=replace(straddling, more_blocks=900_000))])
    assert endless.splitlines()[1].startswith("more than 100 times --time-per-cell")


@pytest.mark.parametrize("change", [{"sparsity": 0.9}, {"format": "masked"}, {"seed": 1}, {"pattern": "2:4"}])
def test_another_choice_on_any_axis_is_another_line(change: dict[str, object]) -> None:
    other = replace(CELL, **change)  # type: ignore[arg-type]  # each change is of its field's type
    assert len(rows(costs([Record(CELL, latency=LATENCY), Record(other, memory=MEMORY)]))) == 2


def test_costs_that_were_not_measured_are_dashes() -> None:
    assert rows(costs([Record(CELL, latency=LATENCY)]))[0][7:] == [DASH] * 5
    assert rows(costs([Record(CELL, memory=MEMORY)]))[0][1:7] == [DASH] * 6
    bare = replace(LATENCY, dense_seconds=None, speedup=None, flops=None, ideal_seconds=None)
    assert rows(costs([Record(CELL, latency=bare)]))[0][1:7] == [DASH, "12.50", DASH, "slower", DASH, DASH]
    assert rows(costs([Record(CELL, memory=replace(MEMORY, verdict=None))]))[0][-3] == DASH


def test_cells_stand_in_the_order_in_which_they_were_measured() -> None:
    cells = [replace(CELL, sparsity=sparsity) for sparsity in (0.9, 0.1, 0.5)]
    records = [*(Record(c, latency=LATENCY) for c in cells), *(Record(c, memory=MEMORY) for c in cells)]
    assert [row[0].split(" · ")[3] for row in rows(costs(records))] == ["0.9", "0.1", "0.5"]


def test_a_curve_is_a_line_with_dense_first_and_sparsities_ascending() -> None:
    records = [
        Record(replace(CURVE, sparsity=0.9), quality=replace(NLL, value=5.0, verdict="lost")),
        Record(CONTROL, quality=replace(NLL, value=1.0)),
        Record(CURVE, quality=NLL),
        Record(replace(CURVE, scope="global"), quality=replace(NLL, verdict="inconclusive")),
    ]
    table = quality(records)
    assert header(table) == ["model", "metric", "pruned by", "unpruned", "0.5", "0.9"]
    assert rows(table) == [
        ["bert", "perplexity", "l1 · layer", "2.72", "7.39 kept", "148 lost"],
        ["bert", "perplexity", "l1 · global", "2.72", "7.39 inconclusive", DASH],
    ]


def test_accuracy_and_perplexity_are_lines_of_their_own_in_their_units() -> None:
    classified = replace(CURVE, task="classification")
    table = quality([Record(CURVE, quality=NLL), Record(classified, quality=ACCURACY)])
    assert [row[1:] for row in rows(table)] == [
        ["perplexity", "l1 · layer", DASH, "7.39 kept"],
        ["accuracy %", "l1 · layer", DASH, "81.2 lost"],
    ]


def test_seeds_are_their_mean_with_a_verdict_where_they_agree() -> None:
    cells = [replace(CURVE, method="random", seed=seed, task="classification") for seed in (0, 1)]
    pair = [replace(ACCURACY, value=0.6), replace(ACCURACY, value=0.8)]
    agreed = [Record(cell, quality=each) for cell, each in zip(cells, pair, strict=True)]
    assert rows(quality(agreed))[0][-1] == "70.0 lost"
    mixed = [agreed[0], Record(cells[1], quality=replace(pair[1], verdict="kept"))]
    assert rows(quality(mixed))[0][-1] == "70.0 mixed"


def test_a_perplexity_beyond_all_numbers_is_shown_as_a_power() -> None:
    huge = replace(NLL, value=812.5, perplexity=None, verdict="lost")
    assert rows(quality([Record(CURVE, quality=huge)]))[0][-1] == "e^812 lost"


def test_dense_alone_is_shown_too() -> None:
    assert rows(quality([Record(CONTROL, quality=replace(NLL, value=1.0))])) == [["bert", "perplexity", "none", "2.72"]]


def test_what_was_not_measured_is_counted_by_reason() -> None:
    items = [NotMeasured(CELL, f"t{i}", "skipped", "no head") for i in range(3)]
    items.append(NotMeasured(CELL, "t", "failed", "got 1, should be 2"))
    assert missing(items).splitlines() == [
        "3 not measured: no head",
        "1 failed: got 1, should be 2",
    ]


def test_nothing_to_show_is_nothing() -> None:
    assert text([], []) == ""
    assert text([Record(CELL, pruned=Pruned(0.5, 0.4, 10, 12)), Record(CELL, outcome="failed", reason="w")], []) == ""
    assert "not measured" in text([], [NotMeasured(CELL, "t", "skipped", "why")])


def test_what_auto_chose_is_told_once_a_cell() -> None:
    cell = replace(CELL, format="auto")
    pruned = Pruned(0.5, 0.4, 10, 12, choices={"packed": 60, "dense": 13})
    records = [
        Record(CELL, pruned=Pruned(0.5, 0.4, 10, 12), latency=LATENCY),
        Record(cell, pruned=pruned, latency=LATENCY),
        Record(cell, pruned=pruned, memory=MEMORY),
        Record(replace(cell, workload="1x64"), pruned=replace(pruned, choices={"dense": 73}), latency=LATENCY),
    ]
    assert choices(records).splitlines() == [
        "bert · l1 · layer · 0.5 · auto · 8x64: packed 60 layers, dense 13 layers",
        "bert · l1 · layer · 0.5 · auto · 1x64: dense 73 layers",
    ]
    assert choices(records) in text(records, [])
    assert choices(records[:1]) == ""


RECOVERED = builders.recovered()
SPARSER = replace(CELL, sparsity=0.8, format="packed")
PACKED = [
    Record(SPARSER, latency=replace(LATENCY, verdict="faster", speedup=3.1, low=2.9, high=3.3)),
    Record(SPARSER, memory=replace(MEMORY, dense_weights_bytes=4_736_000)),
]


def test_a_recovered_cell_is_a_line_beside_its_control() -> None:
    table = recovered([RECOVERED, builders.recovered(metric="mean_nll", recovery="reconstruct", delta=0.1)])
    assert header(table)[2:5] == ["pruned by", "recovery", "seeds"]
    assert header(table)[5:9] == ["unpruned", "one-shot", "recovered", "control"]
    assert header(table)[9:] == ["difference ± se", "verdict", "s"]
    accurate, nll = rows(table)
    assert accurate[:5] == ["bert", "accuracy %", "l1 · layer · 0.8", "distill:200", "0, 1, 2"]
    assert accurate[5:] == ["92.0", "68.0", "92.7", "93.0", "-0.3 ± 0.2", "kept", "42"]
    assert nll[:5] == ["bert", "perplexity", "l1 · layer · 0.8", "reconstruct", "0, 1, 2"]
    assert nll[5:] == ["8.17", "27.1", "9.03", "8.17", "+0.100 ± 0.004", "lost", DASH]
    assert recovered([Record(CURVE, quality=NLL)]) == ""


def test_the_equally_trained_control_is_not_the_unpruned_model() -> None:
    control = builders.accuracy("bert", "none", None, 0.0)
    for records in ([control, builders.trained_control()], [builders.trained_control(), control]):
        table = quality([*records, RECOVERED])
        assert rows(table) == [["bert", "accuracy %", "l1 · layer · distill:200", "92.0", "92.7 kept"]]
    assert quality([builders.trained_control()]) == ""


def test_a_recovered_curve_is_a_line_of_its_own_judged_by_its_control() -> None:
    one_shot = replace(RECOVERED, cell=replace(RECOVERED.cell, recovery=None), recovered=None)
    table = quality([one_shot, builders.recovered(delta=-0.1)])
    assert [row[2:] for row in rows(table)] == [
        ["l1 · layer", "92.0", "92.7 kept"],  # its own record knows it, though the unpruned model is no cell here
        ["l1 · layer · distill:200", "92.0", "83.0 lost"],
    ]


@pytest.mark.parametrize("axes", [{"recovery": "distill:200"}, {"after": "ziplm 0.5 neurons+heads"}])
def test_what_a_recovered_model_or_a_later_step_lost_is_not_what_the_first_lost(axes: dict[str, str]) -> None:
    lost = Record(replace(CURVE, **axes), quality=NLL)  # type: ignore[arg-type]  # both are text
    assert rows(costs([Record(CELL, latency=LATENCY), lost]))[0][-2:] == [DASH, DASH]
    own = Record(replace(CELL, **axes), latency=LATENCY)  # type: ignore[arg-type]  # both are text
    assert rows(costs([own, lost]))[0][-2] == "+0.012 ± 0.004"
    said = Record(replace(CURVE, recovery="none"), quality=NLL)
    assert rows(costs([Record(CELL, latency=LATENCY), said]))[0][-2] == "+0.012 ± 0.004"


def test_the_frontier_is_a_table_and_the_last_line_is_the_answer() -> None:
    records = [*PACKED, RECOVERED, Record(Cell("bert"), training=Training(1.0, 1.0, 1.012, 0.99, 1.03))]
    found = rows(frontier(candidates(records)))
    assert found[0][2:6] == [
        "l1 0.8 unstructured · packed · 200 steps distilled",
        "3.1x [2.9, 3.3]",
        "faster",
        "3.2x smaller",
    ]
    told = text(records, [NotMeasured(CELL, "t", "skipped", "why")], 3)
    assert "holding masks costs 1.012x [0.99, 1.03] of a training step: bert" in told
    assert told.splitlines()[-1] == (
        "within 1 point of dense: bert · l1 0.8 unstructured · packed · 200 steps distilled: 3.1x faster [2.9, 3.3], "
        "weights 3.2x smaller, −0.3 ± 0.5 points from dense trained as long"
    )
    assert frontier(candidates(PACKED)) == ""
