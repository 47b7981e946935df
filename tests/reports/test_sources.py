"""Which records stand behind a figure: all whose numbers are drawn, and no other."""

from __future__ import annotations

from dataclasses import replace

from reports import measures
from reports.sources import among, behind, pooled
from sparsity.frontier import costs, losses
from sparsity.record import Cell
from tests.reports import builders


def test_curves_show_their_points_and_the_references_beside_them() -> None:
    bf16, control = builders.latency("bert", 0.0, "bf16"), builders.latency("bert", 0.0, "dense")
    curve = [builders.latency("bert", s, "masked") for s in (0.5, 0.9)]
    alone = builders.latency("gpt2", 0.0, "dense")
    other = [builders.memory(), builders.nll("bert", "l1", "layer", 0.5)]
    assert behind([bf16, *other, *curve, control, alone], "latency", measures.seconds) == [bf16, *curve, control]


def test_a_number_that_cannot_be_drawn_is_behind_nothing() -> None:
    drawn, broken = (builders.nll("bert", "l1", "layer", 0.5, value=value) for value in (3.0, 5000.0))
    beside = builders.accuracy("bert", "l1", "layer", 0.5)
    found = behind([broken, drawn, beside], "quality", measures.perplexity, "mean_nll")
    assert found == [drawn]


def test_seeds_are_all_behind_their_point() -> None:
    seeds = [builders.nll("bert", "random", "layer", 0.5, seed) for seed in range(3)]
    assert behind(seeds, "quality", measures.perplexity, "mean_nll") == seeds


def test_costs_and_losses_lead_back_to_all_they_were_pooled_from() -> None:
    time, size = builders.latency("bert", 0.9, "masked"), builders.memory("bert", 0.9, "masked")
    again = replace(time, cell=replace(time.cell, seed=1))
    judged, other = builders.accuracy("bert", "l1", "layer", 0.9), builders.nll("bert", "l1", "layer", 0.9)
    records = [judged, time, other, size, again, builders.latency("bert", 0.5, "masked"), builders.weights()]
    (paid, _), lost = costs(records), losses([judged])
    assert pooled(records, [paid], lost) == [judged, time, size, again]
    assert pooled(records, [], []) == []


def test_the_order_is_that_of_the_run_and_equal_records_are_told_apart() -> None:
    first, second = builders.memory(), builders.memory()
    third = replace(first, cell=Cell("gpt2"))
    assert [id(r) for r in among([first, second, third], [third, second])] == [id(second), id(third)]
