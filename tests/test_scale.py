"""Unit costs out of small sweeps, what the engine costs, and the tables that say it; nothing is measured here."""

from __future__ import annotations

import pytest

from benchmarks import faults, overhead, scale
from benchmarks.equality import Beside
from sparsity.cost import Costs, Sweep, estimate
from sparsity.errors import BadValue


def test_unit_costs_come_back_out_of_what_they_make() -> None:
    true = Costs(start=6.0, load=2.5, prune=0.0, evaluate=0.4)
    sweeps = [Sweep(1, 1), Sweep(1, 12), Sweep(3, 12)]
    found = scale.solved([(sweep, estimate(true, sweep).seconds, 3000.0) for sweep in sweeps])
    assert found.start == pytest.approx(6.0)
    assert found.load == pytest.approx(2.5)
    assert found.evaluate == pytest.approx(0.4)
    text = scale.report(found, [("larger", Sweep(5, 100, devices=2), 25.0)])
    assert "start 6.00 s, a group 2.50 s, a cell 0.400 s" in text
    assert text.splitlines()[-1].split() == ["larger", "5", "100", "2", "32.2", "25.0", "+29", "%"]


def test_sweeps_that_differ_in_nothing_tell_no_costs() -> None:
    with pytest.raises(BadValue, match="do not tell the unit costs apart"):
        scale.solved([(Sweep(1, 1), 5.0, 1.0)] * 3)


def test_the_small_sweeps_tell_costs_apart() -> None:
    groups = [(plan.methods, plan.methods * plan.sparsities) for plan in scale.SMALL]
    scale.solved([(Sweep(*each), 1.0, 1.0) for each in groups])


@pytest.mark.parametrize(("cluster", "within"), [([104.0, 300.0, 104.9], True), ([105.1], False)])
def test_the_engine_costs_the_ratio_of_medians(cluster: list[float], within: bool) -> None:
    table, found = overhead.report({"plain": [100.0, 90.0, 200.0], "cluster": cluster}, [], 0.05)
    assert found is within
    assert "plain 100.0 s" in table


def test_faults_are_told_with_what_they_did() -> None:
    text = faults.report([("under faults", Beside(9, ("a",), (), 70, (), 3), "2 node lost")])
    assert "under faults: a" in text
    assert "2 node lost" in text
    assert sum(faults.DECK.values()) == 20
