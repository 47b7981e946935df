"""Times of cells that nodes measured are compared where both were one machine, and else said not to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sparsity.comparison import Rules, compare
from sparsity.gate import INCOMPLETE, REGRESSION
from sparsity.gate_join import join
from sparsity.pytest_baseline import Baseline
from sparsity.record import Node, Record, RunPart
from sparsity.result_file import Key, Measured, ResultFile
from tests.reports import builders
from tests.reports.several_nodes import NODES, OTHER, timed
from tests.test_gate_join import MODEL

ELSEWHERE = (
    "time, on another machine or software: cpu 'Intel Xeon 6140' where 'AMD EPYC 7763' was; threads 4 where 2 was"
)


def file(*records: Record, nodes: Mapping[str, dict[str, Any]] | None = None, **fingerprint: Any) -> ResultFile:
    described = {name: Node(dict(each)) for name, each in NODES.items()} if nodes is None else {}
    own = {**builders.FINGERPRINT, **fingerprint}
    entries = tuple(Measured(f"t.py::test[{record.cell}]", record) for record in records)
    return ResultFile(Path("run.json"), entries, RunPart("default", own, {"bert": MODEL}, [], nodes=described or None))


def found(base: ResultFile, head: ResultFile) -> list[str]:
    return [str(each) for each in compare([(base, head)], Rules(margin=0.05)).findings]


def test_a_cell_on_another_node_of_the_same_machine_is_compared() -> None:
    result = compare([(file(timed("a", 2.0)), file(timed("b", 1.5)))], Rules(margin=0.05))
    assert (result.timed, result.status) == (1, REGRESSION)
    assert compare([(file(timed("a", 2.0)), file(timed("b", 2.0)))]).findings == ()


def test_a_cell_on_another_machine_is_not_comparable_and_says_why() -> None:
    result = compare([(file(timed("a", 2.0)), file(timed("c", 1.0)))])
    (only,) = result.findings
    assert (only.status, only.kind, result.timed) == (INCOMPLETE, "not comparable", 0)
    assert only.cell == str(timed("a", 2.0).cell)
    assert only.said == ELSEWHERE


def test_only_the_cells_of_other_machines_are_left_out() -> None:
    base = file(timed("a", 2.0, 0.5), timed("a", 2.0, 0.9))
    result = compare([(base, file(timed("a", 2.0, 0.5), timed("c", 2.0, 0.9)))])
    assert result.timed == 1
    assert [each.cell for each in result.findings] == [str(timed("a", 2.0, 0.9).cell)]


def test_what_is_exact_is_compared_on_any_node() -> None:
    memory = builders.memory()
    assert memory.memory is not None
    more = replace(memory, memory=replace(memory.memory, weights_bytes=7 * 10**6), node="c")
    (only,) = found(file(replace(memory, node="a")), file(more))
    assert only.startswith("regression: ")


def test_what_is_exact_is_held_on_each_node_that_measured_it() -> None:
    memory = builders.memory()
    assert memory.memory is not None
    more = replace(memory, memory=replace(memory.memory, weights_bytes=7 * 10**6), node="c")
    here, there = replace(memory, node="a"), replace(memory, node="c")
    (only,) = found(file(here, there), file(here, more))
    assert only.startswith("regression: ")
    assert found(file(here, there), file(here, there)) == []


def test_quality_is_exact_on_one_machine_alone() -> None:
    before = builders.accuracy("bert", "l1", "layer", 0.5)
    assert before.quality is not None
    quality = replace(before.quality, value=before.quality.value - 0.001, delta=(before.quality.delta or 0) - 0.001)
    after = replace(before, quality=quality)
    assert found(file(replace(before, node="a")), file(replace(after, node="c"))) == []
    (only,) = found(file(replace(before, node="a")), file(replace(after, node="b")))
    assert only.startswith("regression: ")


def test_a_run_of_one_machine_beside_one_of_nodes() -> None:
    plain = file(timed(None, 2.0), nodes={})
    assert found(plain, file(timed("b", 2.0))) == []
    assert found(plain, file(timed("c", 2.0))) == [f"not comparable: {timed(None, 2.0).cell}: {ELSEWHERE}"]
    assert found(file(timed("c", 2.0)), file(timed(None, 2.0), nodes={}, **OTHER)) == []


def test_a_cell_that_several_nodes_measured_is_compared_machine_by_machine() -> None:
    base = file(timed("a", 2.0), timed("c", 3.0))
    assert found(base, file(timed("c", 3.0), timed("b", 2.0))) == []
    joined = join(base, file(timed("c", 3.0), timed("b", 2.0)))
    (matches,) = joined.matches.values()
    assert [(each.before.record.node, each.after.record.node) for each in matches] == [("a", "b"), ("c", "c")]
    (slow,) = found(base, file(timed("c", 2.0), timed("b", 1.4)))
    assert slow.startswith("regression: ")


def test_settings_are_those_of_the_run() -> None:
    (only,) = found(file(timed("a", 2.0), dtype="float32"), file(timed("a", 2.0), dtype="bfloat16"))
    assert "dtype 'bfloat16' where 'float32' was" in only


def test_a_node_is_matched_once() -> None:
    joined = join(file(timed("a", 2.0), timed("b", 2.1)), file(timed("a", 2.2)))
    (matches,) = joined.matches.values()
    assert [each.before.record.node for each in matches] == ["a"]


def test_a_run_held_against_a_baseline_knows_the_nodes_of_both() -> None:
    base = file(timed("a", 2.0), timed("c", 3.0))
    keys: dict[Key, list[Measured]] = {}
    for entry in base.entries:
        for key in entry.keys:
            keys.setdefault(key, []).append(entry)
    state: Any = SimpleNamespace(
        options=SimpleNamespace(profile="default"),
        fingerprint=dict(builders.FINGERPRINT),
        models={"bert": MODEL},
        nodes=base.run.nodes,
    )
    baseline = Baseline(base, Rules(margin=0.05), keys)
    for name, slow in (("b", 1.4), ("c", 2.0)):
        (measured,) = file(timed(name, slow)).entries
        (worse,) = baseline.of(measured, state)
        assert worse.status == REGRESSION
    assert baseline.of(file(timed("c", 3.0)).entries[0], state) == []
