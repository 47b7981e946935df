"""What a cell beside its baseline has become: counts, bytes, operators, quality."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity import gate
from sparsity.gate import FINE, INCOMPLETE, NOISY, REGRESSION, Finding, Terms, judged
from sparsity.record import Cell, Harness, Latency, Memory, Products, Pruned, Quality, Record, Recovered

HERE, ELSEWHERE = Terms(True), Terms(False)
CELL = Cell("bert", "l1", "unstructured", "layer", 0.8, "packed", workload="8x64")
MEMORY = Memory(1001, 5000, "cpu profiler", 900, 4000, 6000)
PRUNED = Pruned(0.8, 0.6, 1000, 1500, extra_bytes=77)
PRODUCTS = Products({"aten::addmm float32": 2}, {"sparsity::packed_linear float32": 8, "other": 1})
LATENCY = Latency(
    0.1, 0.1, 0.1, 9, "same", flops=50, dense_flops=90, kept_flops=40, read_bytes=30, products=PRODUCTS
)  # fmt: skip
QUALITY = Quality("accuracy", 0.9, 0.01, 1000, dense_value=0.95, delta=-0.05, delta_stderr=0.004)
NLL = Quality("mean_nll", 2.0, 0.03, 1000, dense_value=1.9, delta=0.1, delta_stderr=0.004)
TRAINED = Recovered([0, 1], [0.9, 0.9], 0.8, 0.1, 0.01, 0.94, [-0.04, -0.04], -0.04, 0.003, "lost", steps=200)
WHOLE = Record(CELL, PRUNED, LATENCY, MEMORY, QUALITY, TRAINED, outcome="passed")


def changed(section: str, record: Record = WHOLE, **values: Any) -> Record:
    """The record with other values in a section."""
    inside: Any = dataclasses.replace(getattr(record, section), **values)
    return dataclasses.replace(record, **{section: inside})


def where(field: str, value: Any) -> dict[str, Any]:
    return {field: value}


def only(kind: str, base: Record, head: Record, terms: Terms = HERE) -> Finding:
    (found,) = judged(kind, base, head, terms)
    return found


@pytest.mark.parametrize("terms", [HERE, ELSEWHERE])
@pytest.mark.parametrize("kind", ["pruned", "latency", "memory", "quality", "recovered", "training", "weights"])
def test_a_cell_beside_itself_is_fine(kind: str, terms: Terms) -> None:
    assert judged(kind, WHOLE, WHOLE, terms) == []


def test_a_finding_is_one_line_whatever_its_names_hold() -> None:
    found = only("memory", WHOLE, changed("memory", weights_bytes=1011))
    cell = "bert · l1 · unstructured · layer · 0.8 · packed · 8x64"
    assert str(found) == f"regression: {cell}: weights_bytes 1011 where 1001 were (+1.0 %)"
    assert str(Finding(FINE, "note", "a\nb\x1b[31m", "c\ud800")) == "note: a b [31m: c"
    assert str(Finding(FINE, "note", "", "of all")) == "note: of all"


# -- counts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "field", "values"),
    [
        ("pruned", "prunable_sparsity", (0.7, 0.9)),
        ("pruned", "total_sparsity", (0.5, 0.7)),
        ("pruned", "prunable_parameters", (999, 1001)),
        ("pruned", "total_parameters", (1499, 1501)),
        ("latency", "dense_flops", (89, 91)),
        ("memory", "dense_weights_bytes", (3999, 4001)),
    ],
)
def test_any_difference_of_what_is_the_same_model_is_a_regression(
    section: str, field: str, values: tuple[float, float]
) -> None:
    for value in values:
        for terms in (HERE, ELSEWHERE):
            found = only(section, WHOLE, changed(section, **where(field, value)), terms)
            assert (found.status, found.kind) == (REGRESSION, "regression")
            assert found.said.startswith(f"{field} {value} where ")


@pytest.mark.parametrize(
    ("section", "field"),
    [(section, field) for section, fields in gate.NO_MORE.items() for field in fields],
)
def test_more_is_a_regression_and_less_a_gain(section: str, field: str) -> None:
    value = getattr(getattr(WHOLE, section), field)
    more, less = (only(section, WHOLE, changed(section, **where(field, value + step))) for step in (1, -1))
    assert (more.status, more.kind) == (REGRESSION, "regression")
    assert (less.status, less.kind) == (FINE, "improved")


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.sampled_from(["weights_bytes", "peak_bytes", "disk_bytes"]))
def test_swapped_bytes_turn_a_regression_into_a_gain(one: int, other: int, field: str) -> None:
    first, second = (changed("memory", **where(field, value)) for value in (one, other))
    there, back = judged("memory", first, second, HERE), judged("memory", second, first, HERE)
    opposite = {"regression": "improved", "improved": "regression"}
    assert [finding.kind for finding in there] == [opposite[finding.kind] for finding in back]
    assert bool(there) == (one != other)


def test_only_on_the_same_machine_are_extra_bytes_and_operators_compared() -> None:
    assert judged("pruned", WHOLE, changed("pruned", extra_bytes=99), ELSEWHERE) == []
    dense = changed("latency", products=Products({"aten::addmm float32": 99}, {}))
    assert judged("latency", WHOLE, dense, ELSEWHERE) == []
    assert len(judged("latency", WHOLE, dense, HERE)) == 2


@pytest.mark.parametrize(
    ("section", "field"),
    [("pruned", "extra_bytes"), ("latency", "flops"), ("latency", "products"), ("memory", "disk_bytes")],
)
def test_a_number_that_the_baseline_has_alone_is_told_and_one_that_is_new_is_not(section: str, field: str) -> None:
    without = changed(section, **where(field, None))
    assert only(section, WHOLE, without).status == INCOMPLETE
    assert judged(section, without, WHOLE, HERE) == []
    absent = dataclasses.replace(WHOLE, **where(section, None))
    assert only(section, WHOLE, absent).said == f"what was {section} is not recorded"
    assert judged(section, absent, WHOLE, HERE) == []


def test_a_peak_that_something_else_counted_is_no_peak_to_compare() -> None:
    found = only("memory", WHOLE, changed("memory", source="cuda allocator", peak_bytes=1))
    assert (found.status, found.said) == (INCOMPLETE, "peak_bytes by the cuda allocator where the cpu profiler counted")


def test_a_sparse_operator_that_no_longer_runs_is_named() -> None:
    fewer = Products(PRODUCTS.dense, {"other": 9})
    assert only("latency", WHOLE, changed("latency", products=fewer)).said == (
        "no longer runs sparsity::packed_linear float32"
    )
    rarer = Products(PRODUCTS.dense, {"other": 1, "sparsity::packed_linear float32": 1})
    assert judged("latency", WHOLE, changed("latency", products=rarer), HERE) == []


def test_more_dense_products_are_named_and_others_of_the_same_number_are_none() -> None:
    more = Products({"aten::addmm float32": 2, "aten::mm float32": 3}, PRODUCTS.sparse)
    said = "5 dense products where 2 ran: aten::mm float32 3 where 0 ran"
    assert only("latency", WHOLE, changed("latency", products=more)).said == said
    for count in (2, 1):
        other = Products({"aten::mm float32": count}, PRODUCTS.sparse)
        assert judged("latency", WHOLE, changed("latency", products=other), HERE) == []


def auto(choices: dict[str, int] | None) -> Record:
    record = changed("pruned", choices=choices)
    return dataclasses.replace(record, cell=dataclasses.replace(CELL, format="auto"))


@pytest.mark.parametrize("choices", [{"packed": 7, "dense": 1}, None])
def test_what_auto_chose_otherwise_is_told_and_not_compared(choices: dict[str, int] | None) -> None:
    base, head = auto({"packed": 8}), auto(choices)
    for section, field in (("memory", "weights_bytes"), ("memory", "peak_bytes"), ("latency", "flops")):
        found = only(section, base, changed(section, head, **where(field, 9999)))
        assert (found.status, found.kind) == (FINE, "note")
        assert "auto" in found.said
        same = changed(section, base, **where(field, 9999))
        assert only(section, base, same).kind == "regression"
    assert judged("memory", base, changed("memory", head, dense_weights_bytes=1), HERE)[0].kind == "regression"


# -- quality ---------------------------------------------------------------------------------------------


def harness(value: float, delta: float | None = -0.2, **more: Any) -> Record:
    found = Harness("acc", value, 200, "1.0", 0, True, 0.03, dense_value=0.9, delta=delta, delta_stderr=0.01)
    return Record(CELL, harness=dataclasses.replace(found, **{"verdict": "lost"} | more))


def test_a_task_of_lm_eval_is_exact_on_the_same_machine() -> None:
    assert judged("harness", harness(0.7), harness(0.7), HERE) == []
    found = only("harness", harness(0.7), harness(0.695))
    assert (found.kind, found.said) == ("regression", "acc of lm-eval 0.695 where 0.7 was")
    assert only("harness", harness(0.7), harness(0.705)).kind == "improved"
    lower = {"higher_is_better": False}
    assert only("harness", harness(0.7, **lower), harness(0.705, **lower)).kind == "regression"
    huge = {"verdict": None, **lower}
    assert judged("harness", harness(5e4, **huge), harness(5e4 + 0.04, **huge), HERE) == []  # a sum in another order


def test_a_task_of_lm_eval_is_compared_by_its_paired_errors_elsewhere() -> None:
    assert judged("harness", harness(0.7), harness(0.6, -0.205), ELSEWHERE) == []
    assert only("harness", harness(0.7), harness(0.7, -0.23), ELSEWHERE).status == REGRESSION
    assert only("harness", harness(0.7), harness(0.7, -0.215), ELSEWHERE).status == NOISY
    no_margin = {"verdict": None}
    assert judged("harness", harness(0.7, **no_margin), harness(0.7, -0.215, **no_margin), ELSEWHERE) == []
    dense = harness(0.9, None, delta_stderr=None, verdict=None)
    assert judged("harness", dense, dense, ELSEWHERE) == []


@pytest.mark.parametrize(
    "other", [{"documents": 100}, {"version": "2.0"}, {"shots": 5}, {"filter": "strict"}, {"higher_is_better": None}]
)
def test_another_task_of_lm_eval_by_the_same_name_is_not_compared(other: dict[str, Any]) -> None:
    base = harness(0.7, **other) if "higher_is_better" in other else harness(0.7)
    found = only("harness", base, harness(0.6, **other))
    assert (found.status, found.kind) == (INCOMPLETE, "not comparable")


def of(quality: Quality, cell: Cell = CELL, trained: Recovered | None = None) -> Record:
    return Record(cell, quality=quality, recovered=trained)


def moved(quality: Quality, by: float) -> Record:
    """By so much, value and difference."""
    return of(dataclasses.replace(quality, value=quality.value + by, delta=(quality.delta or 0.0) + by))


@pytest.mark.parametrize(("quality", "worse"), [(QUALITY, -0.001), (NLL, 2.1e-5)])
def test_quality_is_exact_on_the_same_machine(quality: Quality, worse: float) -> None:
    found = only("quality", of(quality), moved(quality, worse))
    assert found.kind == "regression"
    assert found.said.startswith(f"{quality.metric} {quality.value + worse:.6g} where {quality.value:.6g} was")
    assert only("quality", of(quality), moved(quality, -worse)).kind == "improved"


def test_the_order_of_a_sum_makes_no_difference() -> None:
    for sign in (-1, 1):
        assert judged("quality", of(NLL), moved(NLL, sign * 1.9e-5), HERE) == []
        assert judged("quality", of(QUALITY), moved(QUALITY, sign * 1e-12), HERE) == []


def test_other_documents_are_no_quality_to_compare() -> None:
    found = only("quality", WHOLE, changed("quality", documents=500, value=0.1))
    assert (found.status, found.said) == (INCOMPLETE, "accuracy is of 500 documents where 1000 were")


@pytest.mark.parametrize(
    ("quality", "by", "status"),
    [
        # 1.645 standard errors of the difference of two differences, each of 0.004, are 0.0093
        (QUALITY, -0.008, None),
        (QUALITY, -0.0095, REGRESSION),
        (QUALITY, 0.09, None),
        (NLL, 0.008, None),
        (NLL, 0.0095, REGRESSION),
        (NLL, -0.2, None),
    ],
)
def test_elsewhere_a_loss_must_be_more_than_chance(quality: Quality, by: float, status: int | None) -> None:
    found = judged("quality", of(quality), moved(quality, by), ELSEWHERE)
    assert [finding.status for finding in found] == ([] if status is None else [status])


def test_of_many_qualities_each_must_be_further_from_chance() -> None:
    pair = of(NLL), moved(NLL, 0.0095)
    assert judged("quality", *pair, Terms(False, judged=1))[0].status == REGRESSION
    assert judged("quality", *pair, Terms(False, judged=100)) == []
    assert gate.critical(1) == pytest.approx(1.645, abs=1e-3)
    assert gate.critical(100) == pytest.approx(3.29, abs=1e-2)


def test_elsewhere_a_loss_beyond_the_margin_that_may_be_chance_is_too_noisy() -> None:
    vague = dataclasses.replace(NLL, delta_stderr=0.03)
    found = only("quality", of(vague), moved(vague, 0.05), ELSEWHERE)
    assert (found.status, found.kind) == (NOISY, "noisy")
    assert "beyond 0.02, and not certain" in found.said
    assert judged("quality", of(vague), moved(vague, 0.015), ELSEWHERE) == []


def test_elsewhere_nothing_can_be_said_without_a_difference_from_dense() -> None:
    without = dataclasses.replace(QUALITY, delta=None)
    assert only("quality", of(QUALITY), of(without), ELSEWHERE).status == INCOMPLETE


def test_the_dense_model_elsewhere_differs_by_rounding_alone() -> None:
    """Its difference from itself is 0, and so is the standard error."""
    dense = dataclasses.replace(NLL, value=1.9, delta=0.0, delta_stderr=0.0)
    assert judged("quality", of(dense), moved(dense, 1e-6), ELSEWHERE) == []
    assert only("quality", of(dense), moved(dense, 1e-3), ELSEWHERE).kind == "regression"


def test_of_a_recovered_cell_the_difference_from_its_control_counts_too() -> None:
    worse = changed("recovered", delta=-0.041)
    assert judged("quality", WHOLE, worse, HERE) == []
    found = only("recovered", WHOLE, worse)
    assert (found.kind, found.said) == ("regression", "accuracy beside the control's -0.041 where -0.04 was")
    assert judged("recovered", WHOLE, worse, ELSEWHERE) == []
    assert only("recovered", WHOLE, changed("recovered", delta=-0.06), ELSEWHERE).kind == "regression"


def test_other_seeds_of_training_are_not_compared() -> None:
    found = only("recovered", WHOLE, changed("recovered", seeds=[4, 5], delta=-0.9))
    assert (found.status, found.said) == (INCOMPLETE, "trained with seeds [4, 5] where [0, 1] were")


@pytest.mark.parametrize("axis", [{"recovery": "distill:60s"}, {"recovery": "distill:200", "after": "l1 finetune:9s"}])
def test_training_by_the_clock_makes_as_many_steps_as_there_was_time_for(axis: dict[str, Any]) -> None:
    cell = dataclasses.replace(CELL, **axis)
    base, head = of(QUALITY, cell), moved(QUALITY, -0.005)
    assert judged("quality", base, head, HERE) == []
    assert only("quality", of(QUALITY), head).kind == "regression"
