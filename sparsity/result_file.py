"""One result file as frozen values, checked: the file that pytest-benchmark wrote, with records of ours in it.

A file may come from a stranger: it is held to the published schema before anything of it is used, what it says is
never run or opened, and no character of it steers a terminal. Records of failed cells are kept, for the list of what
was not measured.

Refuses, with the file, the place and the value in the message: what is not there, larger than `LARGEST`, not JSON,
holds NaN or infinity or the same key twice, was not written by pytest-benchmark, holds no record of ours, breaks the
schema, or names a node that it does not describe.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from sparsity.errors import ResultNotReadable
from sparsity.nodes import listed
from sparsity.record import KEY, Cell, Record, RunPart, Scalar, from_json, run_from_json
from sparsity.validation import check

LARGEST = 128 * 2**20
"""Bytes; a hundred times what the longest run has written. Parsed, JSON takes many times its size."""
DRAWN = (None, "passed")
"""Outcomes whose numbers count; a record without an outcome passed."""
_SECTIONS = ("latency", "memory", "quality", "recovered", "training", "weights", "harness")


class Key(NamedTuple):
    """What may be measured once: a cell by one kind of measurement."""

    kind: str
    """The record's section."""
    metric: str | None
    """Of quality, and of a task of lm-evaluation-harness."""
    cell: Cell


@dataclass(frozen=True)
class Measured:
    """A record under the name that pytest-benchmark gave its test."""

    fullname: str
    record: Record

    @property
    def keys(self) -> frozenset[Key]:
        """What this record alone may hold: its cell once per kind of measurement.

        What pruning removed stands beside many measurements, so it is a kind of its own only alone.
        A failed record claims nothing.
        """
        record = self.record
        if record.outcome not in DRAWN:
            return frozenset()
        kinds = [kind for kind in _SECTIONS if getattr(record, kind) is not None]
        metrics = {kind: section.metric for kind in ("quality", "harness") if (section := getattr(record, kind))}
        return frozenset(Key(kind, metrics.get(kind), record.cell) for kind in kinds or ["pruned"])


@dataclass(frozen=True)
class ResultFile:
    """All that one file says."""

    path: Path
    entries: tuple[Measured, ...]
    """In file order, failed ones too."""
    run: RunPart
    machine: str | None = None
    """What pytest-benchmark itself knows of it."""
    datetime: str | None = None
    commit: str | None = None
    repeated: tuple[str, ...] = ()
    """Tests whose cell an earlier test of the file had measured on the same node; passed over."""

    def fingerprint(self, record: Record) -> dict[str, Scalar]:
        """Of the machine that measured a record of the file: its node's, or the run's where it had one machine."""
        nodes = self.run.nodes or {}
        return nodes[record.node].fingerprint if record.node in nodes else self.run.fingerprint


def load(path: Path) -> ResultFile:
    """The file, read once; raises `ResultNotReadable` as the module says, in one line of printable characters."""
    try:
        return _read(path)
    except ResultNotReadable as error:
        raise ResultNotReadable(_printable(str(error))) from None


def _read(path: Path) -> ResultFile:
    data = _load(path)
    _recognise(path, data)
    check(data, str(path))
    records, repeated = _records(path, data)
    run = run_from_json(data[KEY], f"{path}: {KEY}")
    _nodes_are_described(path, records, run)
    return ResultFile(
        path,
        records,
        run,
        machine=_machine(data["machine_info"] or {}),
        datetime=data.get("datetime"),
        commit=_commit(data.get("commit_info") or {}),
        repeated=repeated,
    )


def _recognise(path: Path, data: Any) -> None:
    """Refuses what is another kind of file altogether, in plainer words than a schema has."""
    others = f"{path}: pytest-benchmark did not write this file"
    if not isinstance(data, dict):
        raise ResultNotReadable(f"{others}; it holds a {type(data).__name__}")
    entries = data.get("benchmarks")
    if not isinstance(entries, list) or "machine_info" not in data:
        raise ResultNotReadable(f"{others}; give one from --benchmark-json")
    if all(isinstance(entry, dict) and _ours(entry) is None for entry in entries):
        raise ResultNotReadable(f"{path}: no sparsity records in it; run pytest benchmarks with this suite")
    if KEY not in data:
        raise ResultNotReadable(f"{path}: no {KEY!r} part at the top of it; was the suite's plugin loaded?")


def _ours(entry: Mapping[str, Any]) -> Any:
    """The record of an entry of `benchmarks`; None for a benchmark of somebody else."""
    extra = entry.get("extra_info")
    return extra.get(KEY) if isinstance(extra, dict) else None


def _printable(message: str) -> str:
    """On one line, with escapes for what a terminal would obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ResultNotReadable(f"{path}: larger than {LARGEST >> 20} MiB, which no result file is; give another")
        return json.loads(
            data.decode("utf-8-sig"),
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_each_once,
        )
    except FileNotFoundError:
        raise ResultNotReadable(f"{path}: no such file; pytest benchmarks --benchmark-json={path} writes it") from None
    except OSError as error:
        raise ResultNotReadable(f"{path}: cannot be read ({error.strerror}); give a JSON file") from None
    except RecursionError:
        raise ResultNotReadable(f"{path}: nested too deeply for a result file; write the file again") from None
    except ValueError as error:  # broken JSON, bytes that are not UTF-8, a number that is not finite, a key twice
        raise ResultNotReadable(f"{path}: not a JSON file ({error}); write the file again") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number that JSON knows")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):  # 1e999
        raise ValueError(f"{text} is too large for a number")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if abs(value) >= 2**63:  # beyond any count of bytes, and soon beyond any float
        raise ValueError(f"{text[:20]}... is too large for a number")
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different: of two readers one would take the first, the other the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice[:60]!r} stands twice in an object")
    return found


def _records(path: Path, data: Mapping[str, Any]) -> tuple[tuple[Measured, ...], tuple[str, ...]]:
    """The records in file order, and the names of those passed over because their cell stood there before."""
    seen: set[tuple[Key, str | None]] = set()
    records: list[Measured] = []
    repeated: list[str] = []
    for entry in data["benchmarks"]:
        if (ours := _ours(entry)) is None:
            continue
        fullname = entry.get("fullname") or "?"
        measured = Measured(fullname, from_json(ours, f"{path}: {fullname}"))
        keys = {(key, measured.record.node) for key in measured.keys}
        if seen.isdisjoint(keys):
            records.append(measured)
        else:
            repeated.append(fullname)
        seen.update(keys)
    return tuple(records), tuple(repeated)


def _nodes_are_described(path: Path, records: Iterable[Measured], run: RunPart) -> None:
    known = run.nodes or {}
    for each in records:
        if each.record.node is not None and each.record.node not in known:
            among = f"only {listed([*map(repr, known)])}" if known else "no nodes"
            raise ResultNotReadable(
                f"{path}: {each.fullname}: was measured on node {each.record.node!r}, and the file describes {among}; "
                "measure again, or give the file as --benchmark-json wrote it"
            )


def _machine(info: Mapping[str, Any]) -> str | None:
    """What pytest-benchmark itself knows of the machine, for files without a fingerprint."""
    cpu = info.get("cpu") or {}
    values = [cpu.get("brand_raw"), info.get("machine"), info.get("system")]
    return ", ".join(value for value in values if value) or None


def _commit(info: Mapping[str, Any]) -> str | None:
    commit = info.get("id")
    return f"{commit} with uncommitted changes" if commit and info.get("dirty") is True else commit
