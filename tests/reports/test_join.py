"""Files of runs on several nodes: what is kept apart, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from reports.read import read
from reports.run import Run
from sparsity.errors import ResultNotReadable
from sparsity.record import Record
from tests.reports import builders, several_nodes
from tests.reports.several_nodes import OTHER, described, timed

SPREAD = [timed("a", 2.0), timed("b", 2.2), timed("c", 2.1)]


def run(tmp_path: Path, records: Sequence[Record], **ours: Any) -> Run:
    return read([builders.write(tmp_path / "run.json", several_nodes.json(records, **ours))])


def test_the_same_cell_of_two_nodes_is_kept_and_of_one_is_passed_over(tmp_path: Path) -> None:
    found = run(tmp_path, [*SPREAD, timed("a", 9.0)])
    assert len(found.records) == 3
    assert found.repeated == ("t.py::test[3]",)


def test_a_node_that_the_file_does_not_describe_is_refused_in_one_line(tmp_path: Path) -> None:
    for nodes, among in ((described(), "only 'a', 'b', 'c'"), (None, "no nodes")):
        with pytest.raises(ResultNotReadable, match="node 'x\\\\x1b'") as refused:
            run(tmp_path, [timed("x\x1b", 2.0)], nodes=nodes)
        assert among in str(refused.value)
        assert "\n" not in str(refused.value)


def two(tmp_path: Path, first: dict[str, Any], second: dict[str, Any]) -> Run:
    paths = [builders.write(tmp_path / f"{name}.json", data) for name, data in (("x", first), ("y", second))]
    return read(paths)


def test_nodes_of_two_files_that_are_called_the_same_are_kept_apart(tmp_path: Path) -> None:
    found = two(
        tmp_path,
        several_nodes.json([timed("a", 2.0)], nodes=described(a=builders.FINGERPRINT)),
        several_nodes.json([timed("a", 2.2)], nodes=described(a=OTHER), fingerprint=OTHER),
    )
    assert list(found.nodes) == ["a (x)", "a (y)"]
    assert [record.node for record in found.drawn] == ["a (x)", "a (y)"]
    assert list(found.machines) == ["a (x)", "a (y)"]
    assert "cpu" not in found.facts


def test_a_file_without_nodes_is_a_node_beside_one_with_nodes(tmp_path: Path) -> None:
    plain = builders.run_json([("t", timed(None, 2.2, 0.5))])
    found = two(tmp_path, several_nodes.json(SPREAD[2:], nodes=described(c=OTHER)), plain)
    assert [record.node for record in found.drawn] == ["c", "y"]
    assert found.nodes["y"].fingerprint == builders.FINGERPRINT


def test_the_same_node_with_the_same_cell_in_two_files_is_refused_and_so_are_other_settings(tmp_path: Path) -> None:
    once = several_nodes.json(SPREAD)
    with pytest.raises(ResultNotReadable, match="both hold"):
        two(tmp_path, once, once)
    with pytest.raises(ResultNotReadable, match="differ in fingerprint 'dtype'"):
        two(
            tmp_path,
            several_nodes.json(SPREAD[:1], fingerprint={**builders.FINGERPRINT, "dtype": "float32"}),
            several_nodes.json([timed("a", 2.0, 0.5)], fingerprint={**builders.FINGERPRINT, "dtype": "bfloat16"}),
        )
