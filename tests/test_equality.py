"""Two files field by field: what counts as equal, lost and doubled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.equality import beside, exact

CELL = {"model": "bert", "method": "l1", "format": "csr"}
RECORD: dict[str, Any] = {
    "cell": CELL,
    "pruned": {"prunable_sparsity": 0.5, "seconds": 0.1, "choices": {"dense": 3}},
    "latency": {"speedup": 2.0},
    "memory": {"weights_bytes": 100},
    "node": "one",
}


def written(file: Path, *entries: tuple[str, dict[str, Any]]) -> Path:
    data = {"benchmarks": [{"fullname": name, "extra_info": {"sparsity": record}} for name, record in entries]}
    file.write_text(json.dumps(data))
    return file


def test_times_and_who_took_them_may_differ(tmp_path: Path) -> None:
    other = {**RECORD, "latency": {"speedup": 3.0}, "node": "two", "pruned": {**RECORD["pruned"], "seconds": 9.0}}
    found = beside(written(tmp_path / "a", ("t", RECORD)), written(tmp_path / "b", ("t", other)))
    assert (found.fine, found.equal, found.nodes) == (True, 6, 1)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [("pruned", "prunable_sparsity", 0.5000001), ("memory", "weights_bytes", 101), ("pruned", "more", 1)],
)
def test_everything_else_may_not(tmp_path: Path, section: str, field: str, value: Any) -> None:
    other = {**RECORD, section: {**RECORD[section], field: value}}
    found = beside(written(tmp_path / "a", ("t", RECORD)), written(tmp_path / "b", ("t", other)))
    (told,) = found.different
    assert told.startswith(f"t: {section}.{field} is {value}")
    assert not found.fine


def test_what_auto_decides_by_time_may_differ_and_only_of_auto() -> None:
    by_auto = {**RECORD, "cell": {**CELL, "format": "auto"}}
    assert ("memory", "weights_bytes") not in exact(by_auto)
    assert ("pruned", "choices", "dense") not in exact(by_auto)
    assert ("pruned", "choices", "dense") in exact(RECORD)


def test_what_is_missing_is_lost_and_what_is_there_twice_is_doubled(tmp_path: Path) -> None:
    base = written(tmp_path / "a", ("s", RECORD), ("t", RECORD))
    found = beside(base, written(tmp_path / "b", ("t", RECORD), ("t", RECORD)), {"s": 2, "t": 1})
    assert (found.lost, found.doubled) == (("s",), ("s", "t"))
    assert beside(base, tmp_path / "no file").lost == ("s", "t")
