"""The sentences, word by word; and how a composition names its steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparsity.answers import WITHIN, difference, label, sentences, so_far, step, unbeaten
from sparsity.frontier import Candidate, Cost, Loss
from sparsity.judging import MARGINS, UNITS
from sparsity.record import Cell

CELL = Cell("bert", "l1", "unstructured", "layer", 0.8, "packed", workload="8x64", recovery="distill:200")
COST = Cost(CELL, "faster", 3.1, 2.9, 3.3, 1_250_000, 4_000_000)
LOSS = Loss(CELL, "accuracy", 0.3, 0.5 / 1.96, "kept", trained=True)
BEST = Candidate(CELL, LOSS, COST)
LOST = replace(BEST, loss=replace(LOSS, value=2.0, verdict="lost"))
GOLDEN = (
    "within 1 point of dense: bert · l1 0.8 unstructured · packed · 200 steps distilled: 3.1x faster [2.9, 3.3], "
    "weights 3.2x smaller, −0.3 ± 0.5 points from dense trained as long"
)


def other(candidate: Candidate, cell: Cell = CELL, **cost: object) -> Candidate:
    return replace(candidate, cell=cell, cost=replace(candidate.cost, **cost))  # type: ignore[arg-type]  # fields of many types


def test_what_was_bought() -> None:
    assert sentences([BEST]) == [GOLDEN]
    assert sentences([LOST, BEST, other(BEST, speedup=2.0)]) == [GOLDEN]


def test_one_shot_and_nats() -> None:
    cell = replace(CELL, recovery=None)
    loss = Loss(cell, "mean_nll", 0.0123, 0.002, "kept")
    (said,) = sentences([Candidate(cell, loss, replace(COST, speedup=1.234, low=1.2, high=1.3))])
    assert said == (
        "within 0.02 nats of dense: bert · l1 0.8 unstructured · packed: 1.23x faster [1.20, 1.30], "
        "weights 3.2x smaller, +0.012 ± 0.004 nats"
    )


def test_the_margins_in_words_are_the_margins() -> None:
    for metric, words in WITHIN.items():
        assert float(words.split()[0]) == UNITS[metric] * MARGINS[metric]


@pytest.mark.parametrize(
    ("verdict", "speedup", "said"),
    [
        ("same", 1.0, "as fast [0.90, 1.10]"),
        ("slower", 0.5, "slower, 0.50x [0.45, 0.55]"),
        ("inconclusive", 1.5, "whether faster could not be told, 1.50x [1.35, 1.65]"),
    ],
)
def test_faster_is_said_only_with_that_verdict(verdict: str, speedup: float, said: str) -> None:
    found = other(BEST, verdict=verdict, speedup=speedup, low=0.9 * speedup, high=1.1 * speedup)
    assert f": {said}, weights" in sentences([found])[0]


def test_what_is_certain_to_be_faster_comes_before_what_only_seems_to_be() -> None:
    seems = other(BEST, replace(CELL, format="csr"), verdict="inconclusive", speedup=9.0)
    assert sentences([seems, BEST]) == [GOLDEN]


def test_the_smallest_has_a_sentence_of_its_own_where_it_is_clearly_smaller() -> None:
    small = other(BEST, replace(CELL, format="auto"), speedup=2.0, low=1.9, high=2.1, weights_bytes=1_000_000)
    told = sentences([BEST, small])
    assert told[0] == GOLDEN
    assert "· auto · 200 steps distilled: 2.0x faster [1.9, 2.1], weights 4.0x smaller" in told[1]
    assert sentences([BEST, other(small, small.cell, weights_bytes=1_200_000)]) == [GOLDEN], "4 % are no news"


def test_of_two_recoveries_of_the_smallest_the_better_is_named() -> None:
    small = other(BEST, replace(CELL, format="auto"), speedup=2.0, low=1.9, high=2.1, weights_bytes=1_000_000)
    worse = replace(small, cell=replace(small.cell, recovery="finetune:200"), loss=replace(LOSS, value=0.5))
    for found in ([BEST, small, worse], [BEST, worse, small]):
        assert "auto · 200 steps distilled: 2.0x" in sentences(found)[1]


@pytest.mark.parametrize(
    ("weights", "said"),
    [(4_000_000, "weights the same"), (9_000_000, "weights 2.2x larger"), (None, "weights not measured")],
)
def test_weights_that_are_not_smaller(weights: int | None, said: str) -> None:
    assert f", {said}, −0.3" in sentences([other(BEST, weights_bytes=weights)])[0]


def test_an_unpruned_model_that_is_faster_than_all_of_that_is_said() -> None:
    cell = Cell("bert", "none", sparsity=0.0, format="bf16", workload="8x64")
    bf16 = Candidate(cell, Loss(cell, "accuracy", 0.1, 0.05, "kept"), replace(COST, speedup=4.58, low=4.53, high=4.68))
    told = sentences([BEST, bf16])
    assert told[0] == GOLDEN
    assert told[1].startswith("within 1 point of dense: bert · unpruned · bf16: 4.6x faster [4.5, 4.7]")
    assert sentences([BEST, replace(bf16, cost=replace(bf16.cost, speedup=2.0))]) == [GOLDEN]
    doubtful = replace(bf16, cost=replace(bf16.cost, verdict="inconclusive"))
    assert len(sentences([other(BEST, verdict="same", speedup=1.0), doubtful])) == 1


def test_nothing_within_the_margin_is_said_with_the_nearest() -> None:
    nearer = replace(
        LOST, cell=replace(CELL, sparsity=0.5), loss=replace(LOSS, value=1.2, stderr=0.5, verdict="inconclusive")
    )
    expected = (
        "nothing pruned is certain to be within 1 point of dense: bert; nearest is l1 0.5 unstructured · 200 steps "
        "distilled with −1.2 ± 1.0 points from dense trained as long, whose interval misses it by 1.2 points"
    )
    assert sentences([LOST, nearer]) == [expected]


def test_what_was_kept_without_costs_is_said() -> None:
    bare = Candidate(replace(CELL, format=None, workload=None), LOSS, Cost(CELL))
    assert sentences([bare]) == [
        "within 1 point of dense: bert · l1 0.8 unstructured · 200 steps distilled: cost not measured, "
        "−0.3 ± 0.5 points from dense trained as long"
    ]
    (said,) = sentences([other(BEST, speedup=None)])
    assert ": time not measured, weights 3.2x smaller" in said


def test_nothing_measured_nothing_said() -> None:
    unpruned = replace(CELL, method="none", sparsity=0.0, recovery=None, format="dense")
    itself = Candidate(
        unpruned, Loss(unpruned, "accuracy", 0.0, 0.0, "kept"), Cost(unpruned, "same", 1.0, 1.0, 1.0, 1, 1)
    )
    guesses = replace(BEST, loss=replace(LOSS, value=0.0, verdict="inconclusive"))
    assert sentences([]) == []
    assert sentences([itself]) == []
    assert sentences([guesses]) == [], "kept by its numbers, and not by its verdict: nothing could be judged"


def test_a_workload_is_named_where_there_are_several() -> None:
    elsewhere = other(BEST, replace(CELL, workload="1x64"), speedup=2.0)
    assert "· 200 steps distilled · 8x64: 3.1x" in sentences([BEST, elsewhere])[0]


def test_each_model_and_metric_has_its_own() -> None:
    found = [
        BEST,
        replace(BEST, cell=replace(CELL, model="gpt2")),
        replace(BEST, loss=replace(LOSS, metric="mean_nll", value=0.5)),
    ]
    assert [said.split(" · ")[0] for said in sentences(found)] == [
        "within 1 point of dense: bert",
        "within 1 point of dense: gpt2",
        "nothing pruned is certain to be within 0.02 nats of dense: bert; nearest is l1 0.8 unstructured",
    ]


def test_a_difference_of_nothing_has_no_minus() -> None:
    assert difference(replace(LOSS, value=0.04, trained=False)) == "+0.0 ± 0.5 points"


def test_steps_of_a_composition_follow_each_other() -> None:
    first = Cell("bert", "ziplm", "neurons+heads", "layer", 0.5, "compact", recovery="distill:200")
    second = Cell("bert", "l1", "unstructured", "global", 0.8, "packed", after=so_far(first))
    assert so_far(first) == "ziplm 0.5 neurons+heads distill:200"
    assert step(second) == "l1 0.8 unstructured global"
    assert so_far(second) == "ziplm 0.5 neurons+heads distill:200, then l1 0.8 unstructured global"
    assert label(second) == f"{so_far(second)} · packed"
    assert step(replace(second, recovery="none")) == step(second)


def test_a_word_that_is_no_recovery_is_shown_as_it_is() -> None:
    assert label(replace(CELL, recovery="prayer:9")) == "l1 0.8 unstructured · packed · prayer:9"


def test_the_table_shows_what_is_not_beaten_where_anything_pruned_was_measured() -> None:
    unpruned = Cell("bert", "none", sparsity=0.0, format="dense", workload="8x64")
    cost = Cost(unpruned, "same", 1.0, 1.0, 1.0, 4_000_000, 4_000_000)
    itself = Candidate(unpruned, Loss(unpruned, "accuracy", 0.0, 0.0, "kept"), cost)
    beaten = other(LOST, replace(CELL, format="csr"), speedup=2.0)
    assert unbeaten([itself, BEST, beaten]) == [
        ["bert", "accuracy", "l1 0.8 unstructured · packed · 200 steps distilled", "3.1x [2.9, 3.3]", "faster",
         "3.2x smaller", "−0.3 ± 0.5 points from dense trained as long"],
        ["bert", "accuracy", "unpruned", "1x", "", "the same", ""],
    ]  # fmt: skip
    assert unbeaten([itself]) == []
