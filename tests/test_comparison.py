"""Whole files compared: findings, counts, exit status."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity import comparison
from sparsity.comparison import Chances, Comparison, Files, Rules, margin
from sparsity.errors import BadValue
from sparsity.gate import FINE, INCOMPLETE, NOISY, REGRESSION, Finding
from sparsity.record import (
    LATENCY_VERDICTS,
    METRICS,
    Cell,
    Latency,
    Memory,
    Products,
    Pruned,
    Quality,
    Record,
    Recovered,
    Training,
)
from sparsity.result_file import Key, Measured, ResultFile
from sparsity.rules import LARGEST
from tests.reports import builders
from tests.test_gate_join import MODEL, failed, file, not_measured

KINDS = (FINE, REGRESSION, INCOMPLETE, NOISY)


def timed(sparsity: float = 0.9, slower: float = 0.0, reach: float = 0.01, **more: Any) -> Measured:
    low, speedup, high = (math.exp(-slower + side * reach) for side in (-1, 0, 1))
    record = builders.latency(sparsity=sparsity, speedup=speedup, low=low, high=high, **more)
    return Measured(f"t.py::time[{record.cell}]", record)


def sized(weights: int = 1000, sparsity: float = 0.9) -> Measured:
    record = builders.memory(sparsity=sparsity)
    assert record.memory is not None
    memory = dataclasses.replace(record.memory, weights_bytes=weights)
    return Measured(f"t.py::size[{record.cell}]", dataclasses.replace(record, memory=memory))


def compare(pairs: Sequence[Files], rules: Rules | None = None) -> Comparison:
    """At a margin of 5 %, which the numbers below are easy to read with."""
    return comparison.compare(pairs, rules or Rules(margin=0.05))


def beside(base: ResultFile, head: ResultFile, **rules: Any) -> Comparison:
    return compare([(base, head)], Rules(**{"margin": 0.05, **rules}))


def every_record() -> ResultFile:
    return file(*(Measured(name, record) for name, record in builders.all_records()))


def test_a_file_beside_itself_is_fine() -> None:
    here = every_record()
    found = beside(here, here)
    assert found.findings == ()
    assert (found.status, found.compared) == (0, len(here.entries))
    assert found.timed == 30  # each latency but those of the three controls


@given(st.lists(st.sampled_from(KINDS)))
def test_the_worst_finding_is_the_status(statuses: list[int]) -> None:
    findings = tuple(Finding(status, "kind", "cell", "said") for status in statuses)
    expected = next((status for status in (1, 2, 3) if status in statuses), 0)
    assert Comparison(findings, 1, 1).status == expected


def test_findings_stand_worst_first_and_are_counted() -> None:
    base = file(timed(0.5, reach=0.05), sized(1000), sized(1000, 0.5), sized(1000, 0.1), timed(0.1))
    head = file(timed(0.5, reach=0.05), sized(1010), sized(990, 0.5), timed(0.1, slower=-0.2))
    found = beside(base, head)
    kinds = [finding.kind for finding in found.findings]
    assert kinds == ["regression", "missing", "noisy", "improved", "faster"]
    assert found.status == REGRESSION
    assert str(found) == "4 cells compared, 2 of them timed: 1 regression, 1 incomplete, 1 too noisy, 2 improved"


def test_where_nothing_was_measured_in_both_nothing_is_fine() -> None:
    one, other = timed(0.5), sized()
    broken = file(failed(one), failed(other))
    allowed = frozenset({"missing", "new"})
    for found in (beside(broken, broken), beside(file(one), file(other), allowed=allowed)):
        assert (found.status, found.compared) == (INCOMPLETE, 0)
        assert found.findings[0].said == "no cell was measured in both runs"
    assert beside(broken, file(one, other)).status == FINE  # all is mended
    assert beside(file(failed(one), other), file(failed(one), other)).findings == ()


def test_without_time_no_time_is_compared() -> None:
    found = beside(file(timed()), file(timed(slower=1.0)), time=False)
    assert (found.findings, found.compared, found.timed) == ((), 1, 0)
    assert beside(file(timed()), file(timed(slower=1.0))).status == REGRESSION


def test_elsewhere_no_time_is_compared_and_all_else_is() -> None:
    base = file(timed(), timed(0.5), sized(1000))
    head = file(timed(slower=1.0), timed(0.5), sized(1010), torch="2.8.0", threads=4)
    found = beside(base, head)
    assert [(each.status, each.cell) for each in found.findings][1:] == [(INCOMPLETE, "")]
    assert found.findings[0].kind == "regression"
    said = "time, on another machine or software: threads 4 where 2 was; torch '2.8.0' where '2.9.0' was"
    assert found.findings[1].said == said
    assert found.timed == 0
    assert [each.kind for each in beside(base, head, time=False).findings] == ["regression"]
    assert beside(file(sized()), file(sized(), torch="2.8.0")).findings == ()


def test_what_was_removed_is_compared_beside_every_kind_of_measurement_and_told_once() -> None:
    pruned = builders.pruned("bert", "l1", "layer", 0.9).pruned
    assert pruned is not None
    fewer = dataclasses.replace(pruned, prunable_parameters=599_999)
    base, head = (
        file(*(Measured(each.fullname, dataclasses.replace(each.record, pruned=own)) for each in (timed(), sized())))
        for own in (pruned, fewer)
    )
    said = "prunable_parameters 599999 where 600000 were"
    assert [(each.kind, each.said) for each in beside(base, head).findings] == [("regression", said)]


def test_the_margin_and_what_is_allowed_come_from_the_rules() -> None:
    slower = file(timed()), file(timed(slower=0.1))
    assert beside(*slower).status == REGRESSION
    assert beside(*slower, margin=0.2).status == FINE
    missing = file(timed(), sized()), file(timed())
    assert beside(*missing).status == INCOMPLETE
    assert beside(*missing, allowed=frozenset({"missing"})).status == FINE


def test_the_control_is_not_timed_for_it_is_noise_alone() -> None:
    base = Measured("t.py::c", builders.latency(sparsity=0.0, fmt="dense", speedup=1.0, low=0.5, high=2.0))
    found = beside(file(base), file(base))
    assert (found.status, found.compared, found.timed) == (FINE, 1, 0)


def test_the_chance_of_a_false_alarm_is_shared_by_the_cells_of_the_baseline() -> None:
    alone = file(timed()), file(timed(slower=0.0665))
    assert beside(*alone).status == REGRESSION
    rest = [timed(0.001 * place) for place in range(1, 101)]
    many = file(timed(), *rest), file(timed(slower=0.0665), *rest)
    assert beside(*many).status == NOISY
    assert beside(*many, chances=Chances(1, 1)).status == REGRESSION


def test_qualities_share_theirs_as_well() -> None:
    def scored(sparsity: float, lost: float = 0.0) -> Measured:
        record = builders.nll("bert", "l1", "layer", sparsity)
        assert record.quality is not None
        quality = dataclasses.replace(record.quality, delta=(record.quality.delta or 0.0) + lost)
        return Measured(f"t.py::q[{sparsity}]", dataclasses.replace(record, quality=quality))

    rest = [scored(0.001 * place) for place in range(1, 101)]
    assert beside(file(scored(0.9)), file(scored(0.9, 0.0185), torch="2.8.0")).status == REGRESSION
    many = file(scored(0.9), *rest), file(scored(0.9, 0.0185), *rest, torch="2.8.0")
    assert beside(*many).status == FINE


# -- several pairs ---------------------------------------------------------------------------------------


def test_times_are_compared_over_all_pairs() -> None:
    once = file(timed(reach=0.03)), file(timed(slower=0.09, reach=0.03))
    assert compare([once]).status == NOISY
    assert compare([once] * 3).status == REGRESSION
    other = file(timed(reach=0.03)), file(timed(reach=0.03))
    assert compare([once, once, other]).status == NOISY


def test_all_else_is_compared_in_each_pair_and_says_in_which() -> None:
    fine, worse = (file(sized()), file(sized())), (file(sized()), file(sized(1010)))
    said = "weights_bytes 1010 where 1000 were (+1.0 %)"
    assert [each.said for each in compare([worse, worse]).findings] == [said]
    assert [each.said for each in compare([fine, worse, fine]).findings] == [f"{said} (in pair 2 of 3)"]
    assert compare([fine, worse, fine]).compared == 1


def test_a_cell_that_is_missing_in_one_pair_is_told() -> None:
    both = file(timed(), sized())
    without = file(sized())
    said = [str(each) for each in compare([(both, both), (both, without)]).findings]
    assert len(said) == 1
    assert said[0].endswith("latency not measured; nothing says why (in pair 2 of 2)")
    absent = compare([(both, both), (without, without)])
    assert [(each.kind, each.said) for each in absent.findings] == [("missing", "its time is in 1 of 2 pairs of runs")]
    allowed = Rules(0.05, allowed=frozenset({"missing"}))
    assert compare([(both, both), (without, without)], allowed).status == FINE


def test_a_pair_of_two_machines_says_nothing_of_time() -> None:
    here = file(timed())
    found = compare([(here, here), (here, file(timed(), threads=9))])
    assert [each.said for each in found.findings] == [
        "time, on another machine or software: threads 9 where 2 was (in pair 2 of 2)"
    ]
    assert found.timed == 1


# -- laws ------------------------------------------------------------------------------------------------

entries = st.lists(
    st.one_of(
        st.builds(timed, st.sampled_from([0.1, 0.5]), st.floats(-0.5, 0.5), st.floats(0, 0.5)),
        st.builds(sized, st.integers(1, 3000), st.sampled_from([0.1, 0.5])),
    ),
    unique_by=lambda entry: entry.fullname,
)


@given(entries, entries)
def test_no_files_are_compared_without_a_status_or_a_word_for_each_cell(
    before: list[Measured], after: list[Measured]
) -> None:
    base, head = file(*before), file(*after)
    found = beside(base, head)
    names = [{entry.fullname for entry in entries} for entries in (before, after)]
    assert found.compared == len(names[0] & names[1])
    assert sum(each.kind == "missing" for each in found.findings) == len(names[0] - names[1])
    assert sum(each.kind == "new" for each in found.findings) == len(names[1] - names[0])
    assert found.status in KINDS
    assert all("\n" not in str(each) for each in found.findings)


@given(entries, entries)
def test_swapped_files_swap_missing_and_new_and_gains_and_losses(before: list[Measured], after: list[Measured]) -> None:
    base, head = file(*before), file(*after)
    there, back = (beside(*files, time=False) for files in ((base, head), (head, base)))
    opposite = {"missing": "new", "new": "missing", "regression": "improved", "improved": "regression"}
    kinds = sorted(opposite[each.kind] for each in there.findings)
    assert kinds == sorted(each.kind for each in back.findings)


@given(entries)
def test_any_file_beside_itself_is_no_worse(found: list[Measured]) -> None:
    here = file(*found)
    assert beside(here, here).status in (FINE, NOISY)
    assert beside(here, here, time=False).findings == ()


# -- any files, with every kind of measurement ------------------------------------------------------------

amounts = st.sampled_from([0.0, 5e-324, 1e-9, 0.5, 1.0, 3.0, 1e50, LARGEST])
few = st.integers(0, 3)
shares = st.sampled_from([0.0, 0.25, 1.0])
gaps = st.sampled_from([-LARGEST, -1.0, 0.0, 1e-9, 0.5, LARGEST])
maybe_amounts, maybe_counts = st.none() | amounts, st.none() | st.sampled_from([0, 1, 2**62])
products = st.builds(Products, *[st.dictionaries(st.sampled_from(["mm", "spmm"]), st.integers(1, 3))] * 2)
sections: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "pruned": st.builds(
            Pruned, shares, shares, few, few, extra_bytes=maybe_counts,
            choices=st.none() | st.dictionaries(st.sampled_from(["csr", "dense"]), few),
        ),
        "latency": st.builds(
            Latency, amounts, amounts, amounts, few, st.sampled_from(LATENCY_VERDICTS),
            speedup=maybe_amounts, low=maybe_amounts, high=maybe_amounts, noise_floor=maybe_amounts,
            flops=maybe_counts, products=st.none() | products,
            block_ratios=st.none() | st.lists(gaps, max_size=3),
        ),
        "memory": st.builds(Memory, few, few, st.sampled_from(["cpu profiler", "x"]), maybe_counts, maybe_counts),
        "quality": st.builds(
            Quality, st.sampled_from(METRICS), shares, amounts, few,
            delta=st.none() | gaps, delta_stderr=maybe_amounts, also=st.none() | st.just({"macro F1": 0.5}),
        ),
        "recovered": st.builds(
            Recovered, st.just([0]), shares.map(lambda value: [value]), shares, gaps, amounts, shares, st.just([0.0]),
            gaps, amounts, st.sampled_from(["kept", "lost"]),
        ),
        "training": st.builds(Training, *[amounts] * 5),
        "outcome": st.sampled_from(["passed", "passed", "failed", "error"]),
        "reason": st.just("why\nnot"),
    },
)  # fmt: skip
cells = st.builds(
    Cell, st.just("bert"), st.sampled_from([None, "none", "l1"]), sparsity=st.sampled_from([None, 0.0, 0.5]),
    format=st.sampled_from([None, "auto", "dense"]), recovery=st.sampled_from([None, "distill:5", "finetune:9s"]),
)  # fmt: skip


@st.composite
def whole_files(draw: st.DrawFn) -> ResultFile:
    """As `load` makes them: no cell twice of the same kind."""
    seen: set[Key] = set()
    kept = []
    for place in range(draw(st.integers(0, 4))):
        record = Record(draw(cells), **draw(sections))
        measured = Measured(f"t.py::{draw(st.sampled_from(['a', 'b']))}{place}", record)
        if seen.isdisjoint(measured.keys):
            kept.append(measured)
            seen |= measured.keys
    chosen: dict[str, Any] = draw(st.sampled_from([{}, {"threads": 9}, {"compile": True}, {"not_run": 2}]))
    skipped = [not_measured(each, draw(st.sampled_from(["skipped", "error"]))) for each in kept[:1]]
    digest = draw(st.sampled_from([None, "0" * 64, "1" * 64]))
    return file(*kept, not_measured=skipped, model=dataclasses.replace(MODEL, digest=digest), **chosen)


def told(found: Comparison) -> tuple[object, ...]:
    """What does not hang on the order in which a file holds its cells."""
    return sorted((each.status, each.kind, each.cell) for each in found.findings), found.compared, found.timed


@settings(max_examples=100, deadline=None)
@given(whole_files(), whole_files(), st.booleans(), st.sampled_from([0.0, 0.05, 10.0]))
def test_any_two_files_are_compared_in_lines_and_with_a_status(
    base: ResultFile, head: ResultFile, time: bool, wide: float
) -> None:
    found = beside(base, head, time=time, margin=wide)
    assert found.status in KINDS
    assert all(str(each).isprintable() for each in (*found.findings, found))
    assert compare([(base, head), (head, base)]).status in KINDS
    back = beside(head, base, time=time, margin=wide)
    assert (back.timed, back.compared > 0) == (found.timed, found.compared > 0)


@settings(max_examples=100, deadline=None)
@given(whole_files())
def test_any_file_beside_itself_is_no_regression_and_nothing_of_it_is_missing_or_new(here: ResultFile) -> None:
    found = beside(here, here)
    assert {each.kind for each in found.findings}.isdisjoint({"regression", "missing", "new", "renamed", "mended"})
    assert found.compared == sum(bool(each.keys) for each in here.entries)


@settings(max_examples=100, deadline=None)
@given(whole_files(), whole_files(), st.randoms(use_true_random=False))
def test_the_order_of_the_records_does_not_matter(base: ResultFile, head: ResultFile, chance: Random) -> None:
    other = dataclasses.replace(head, entries=tuple(chance.sample(head.entries, len(head.entries))))
    turned = dataclasses.replace(base, entries=base.entries[::-1])
    assert told(beside(turned, other)) == told(beside(base, head))


@pytest.mark.parametrize("text", ["", "-0.1", "nan", "inf", "5%", "11", "1e999", "0x1"])
def test_a_margin_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadValue, match="is not a fraction from 0 to 10, such as"):
        margin(text)


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("0.05", 0.05), ("1e-1", 0.1)])
def test_a_margin_is_a_fraction(text: str, value: float) -> None:
    assert margin(text) == value


def test_sections_that_are_not_gated_must_be_there_all_the_same() -> None:
    whole, other = (Measured("t.py::w", builders.weights(layers=count)) for count in (1, 2))
    assert beside(file(whole), file(other)).findings == ()
    assert beside(file(whole, sized()), file(sized())).status == INCOMPLETE


def test_the_cost_of_holding_masks_is_a_time_too() -> None:
    cell = Cell("bert", "l1", "unstructured", "layer", 0.9)
    base, head = (
        file(Measured("t.py::masks", Record(cell, training=Training(held, 1.0, held, held * 0.99, held * 1.01))))
        for held in (1.0, 1.2)
    )
    assert beside(base, head).status == REGRESSION
    assert beside(base, head).timed == 1
    assert beside(base, head, time=False).status == FINE
