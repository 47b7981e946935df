"""Two result files of the same cells, field by field: which cells are lost or doubled, which numbers differ.

Stricter than `python -m reports compare`, which asks whether anything has become worse: here whatever is not a time,
or chosen by one, must be equal to the last bit.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMES = {"latency", "training", "node"}
"""Sections that are times, and what says who took them."""
SECONDS = ("seconds",)
"""Endings of fields that are times."""
CHOSEN = {("pruned", "choices"), ("pruned", "notes"), ("memory",)}
"""What format auto decides by measuring time."""
Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Beside:
    """What one file has beside another."""

    cells: int
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    equal: int
    """Fields."""
    different: tuple[str, ...]
    nodes: int
    """Machines that measured a cell."""

    @property
    def fine(self) -> bool:
        """Whether it is as if it were the other."""
        return not (self.lost or self.doubled or self.different)


def leaves(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every field of a JSON value that holds no further ones."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def exact(record: Mapping[str, Any]) -> dict[Path_, Any]:
    """The fields of a record that two runs must agree in."""
    auto = record["cell"].get("format") == "auto"
    return {
        path: value
        for path, value in leaves(record)
        if path[0] not in TIMES
        and not str(path[-1]).endswith(SECONDS)
        and not (auto and any(path[: len(chosen)] == chosen for chosen in CHOSEN))
    }


def beside(base: Path, head: Path, done: Mapping[str, int] | None = None) -> Beside:
    """What `head` has beside `base`; `done`: how often each test stands as done in a journal that is left."""
    wanted, found = _entries(base), _entries(head)
    counted = Counter(name for name, _ in found)
    doubled = {name for name, count in counted.items() if count > 1}
    doubled |= {name for name, count in (done or {}).items() if count > 1}
    ours, equal, different = dict(found), 0, []
    for name, record in wanted:
        if name not in ours:
            continue
        a, b = exact(record), exact(ours[name])
        for path in a.keys() | b.keys():
            if a.get(path) == b.get(path):
                equal += 1
            else:
                different.append(f"{name}: {'.'.join(map(str, path))} is {b.get(path)!r}, not {a.get(path)!r}")
    lost = tuple(name for name, _ in wanted if name not in ours)
    nodes = len({record["node"] for record in ours.values() if "node" in record})
    return Beside(len(found), lost, tuple(sorted(doubled)), equal, tuple(different), nodes)


def _entries(file: Path) -> list[tuple[str, dict[str, Any]]]:
    if not file.is_file():
        return []
    entries = json.loads(file.read_text(encoding="utf-8"))["benchmarks"]
    return [(entry["fullname"], entry["extra_info"]["sparsity"]) for entry in entries]
