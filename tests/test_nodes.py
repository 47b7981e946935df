"""Nodes: which are one machine, in what they differ, and ratios over several of them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from sparsity import nodes
from sparsity.frontier import costs
from sparsity.measure import ratio
from sparsity.nodes import over_nodes
from sparsity.timing import WITHHELD
from tests.reports import builders
from tests.reports.several_nodes import NODES, OTHER, node, timed

FOUND = {name: node(fingerprint) for name, fingerprint in NODES.items()}


def test_nodes_of_equal_fingerprints_are_one_machine() -> None:
    assert nodes.groups(FOUND) == {"a": "a, b", "b": "a, b", "c": "c"}
    records = [timed(name, 2.0) for name in "abc"]
    assert nodes.machines(records, FOUND) == {"a, b": records[:2], "c": records[2:]}
    assert nodes.machines(records, {}) == {"": records}


def test_a_record_without_a_node_is_of_the_machine_of_the_run() -> None:
    records = [timed(None, 2.0), timed("c", 2.0)]
    assert list(nodes.machines(records, FOUND, OTHER)) == ["c"]
    assert list(nodes.machines(records, FOUND, {"cpu": "none of these"})) == [nodes.UNNAMED, "c"]


def test_one_line_says_which_nodes_differ_in_what() -> None:
    said = nodes.differing(FOUND)
    assert said == ("The nodes differ in cpu (a, b: AMD EPYC 7763; c: Intel Xeon 6140), threads (a, b: 2; c: 4)")
    assert nodes.differing({"a": FOUND["a"], "b": FOUND["b"]}) == ""
    assert "cpu (a: AMD EPYC 7763; x: none)" in nodes.differing({"a": FOUND["a"], "x": node({"threads": 2})})


def test_many_nodes_and_keys_are_counted() -> None:
    many = {f"n{i}": node({"cpu": "one", **{f"k{j}": i // 5 for j in range(5)}}) for i in range(10)}
    said = nodes.differing(many)
    assert said.endswith(" and 2 more")
    assert "k0 (n0, n1, n2 and 2 more: 0; n5, n6, n7 and 2 more: 1)" in said


def test_the_table_of_nodes() -> None:
    records = [timed("a", 2.0), replace(builders.memory(), node="a"), timed("c", 2.0)]
    assert nodes.table(records, {**FOUND, "d": replace(node({}), noise_floor=None)}) == [
        ["a", "AMD EPYC 7763, 2 threads", "2", "1.0%"],
        ["b", "AMD EPYC 7763, 2 threads", "0", "1.0%"],
        ["c", "Intel Xeon 6140, 4 threads", "1", "1.0%"],
        ["d", "–", "0", "–"],
    ]


# -- ratios ----------------------------------------------------------------------------------------------


def test_one_node_is_not_pooled_however_many_its_seeds() -> None:
    assert over_nodes([timed("a", 2.0)]) is None
    assert over_nodes([timed("a", 2.0), timed("a", 2.2)]) is None
    assert over_nodes([timed(None, 2.0), timed(None, 2.2)]) is None
    assert over_nodes([timed("a", 2.0), timed("b", 2.0, low=None, high=None)]) is None


def test_ratios_of_several_nodes_are_one_with_their_spread() -> None:
    found = over_nodes([timed("a", 2.0), timed("b", 2.2), timed("c", 2.1)])
    assert found is not None
    error = math.log(1.01 / 0.99) / (2 * 1.96)
    logs = [math.log(each) for each in (2.0, 2.2, 2.1)]
    mean = sum(logs) / 3
    variance = sum((each - mean) ** 2 for each in logs) / 2  # with equal errors tau² is what the errors leave of it
    assert found.tau == pytest.approx(math.sqrt(variance - error**2), rel=1e-3)
    assert found.value == pytest.approx(math.exp(mean))
    assert math.log(found.high) == pytest.approx(mean + 4.3027 * math.sqrt(variance / 3), rel=1e-3)
    assert (found.nodes, found.verdict) == (3, "faster")
    assert found.said == f"over 3 nodes, τ {found.tau:.3f}"


def test_the_seeds_of_a_node_are_its_mean_before_nodes_are_pooled() -> None:
    seeds = [timed("a", 2.0), timed("a", 2.0), timed("b", 2.0)]
    alone = over_nodes(seeds[1:])
    found = over_nodes(seeds)
    assert alone is not None
    assert found is not None
    assert (found.nodes, found.tau) == (2, 0.0)
    assert found.high < alone.high  # twice the measurements on one of them


def test_the_verdict_is_that_of_the_pooled_interval() -> None:
    apart = over_nodes([timed("a", 1.1), timed("b", 3.0)])  # each faster for certain
    assert apart is not None
    assert apart.low < 1 < apart.high
    assert apart.verdict == "inconclusive"
    same = over_nodes([timed(name, 1.0, low=0.999, high=1.001) for name in "abc"])
    assert same is not None
    assert same.verdict == "same"
    slower = over_nodes([timed(name, 0.5) for name in "abc"])
    assert slower is not None
    assert slower.verdict == "slower"


def test_noise_on_one_node_withholds_the_verdict_of_all() -> None:
    quiet, noisy = timed("a", 2.0), timed("b", 2.0, verdict="inconclusive", reason=f"{WITHHELD}so much")
    found = over_nodes([quiet, noisy])
    assert found is not None
    assert found.verdict == "inconclusive"
    near = over_nodes([timed(name, 1.04, low=1.039, high=1.041) for name in "abc"])
    within = over_nodes([timed(name, 1.04, low=1.039, high=1.041, noise_floor=0.05) for name in "abc"])
    assert near is not None
    assert within is not None
    assert (near.verdict, within.verdict) == ("faster", "same")


def test_the_margin_is_that_of_a_single_ratio() -> None:
    assert nodes.MARGIN == ratio.MARGIN


def test_costs_over_nodes_say_so_and_others_are_as_they_were() -> None:
    over, alone = costs([timed("a", 2.0), timed("b", 2.2), timed("a", 3.0, 0.5)])
    assert over.over is not None
    assert (over.speedup, over.low, over.verdict) == (over.over.value, over.over.low, over.over.verdict)
    assert (alone.over, alone.speedup, alone.verdict) == (None, 3.0, "faster")
