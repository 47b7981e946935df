"""One result file as frozen values, checked: the file that pytest-benchmark wrote, with records of ours in it.

Standard library only. Refuses, with the file and the value in the message: what is not there, not JSON, holds NaN
or infinity, was not written by pytest-benchmark, holds no record of ours, or follows another schema. Records of
failed cells are kept, for the list of what was not measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from sparsity.errors import ResultNotReadable
from sparsity.record import KEY, Cell, Record, RunPart, from_json, run_from_json

DRAWN = (None, "passed")
"""Outcomes whose numbers count; a record without an outcome passed."""
_SECTIONS = ("latency", "memory", "quality", "recovered", "training", "weights")


class Key(NamedTuple):
    """What may be measured once: a cell by one kind of measurement."""

    kind: str
    """The record's section."""
    metric: str | None
    """Of quality."""
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
        metric = record.quality.metric if record.quality else None
        return frozenset(Key(kind, metric if kind == "quality" else None, record.cell) for kind in kinds or ["pruned"])


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
    """Tests whose cell an earlier test of the file had measured; passed over."""


def load(path: Path) -> ResultFile:
    """The file, read once; raises `ResultNotReadable` as the module says."""
    file = _Part(_load(path), str(path))
    entries = file.data.get("benchmarks")
    if not isinstance(entries, list) or "machine_info" not in file.data:
        raise ResultNotReadable(f"{path}: pytest-benchmark did not write this file; give one from --benchmark-json")
    records, repeated = _records(file)
    if KEY not in file.data:
        raise ResultNotReadable(f"{path}: no {KEY!r} part at the top of it; was the suite's plugin loaded?")
    return ResultFile(
        path,
        records,
        run_from_json(file.data[KEY], f"{path}: {KEY}"),
        machine=_machine(file.part("machine_info")),
        datetime=file.get("datetime", str),
        commit=_commit(file.part("commit_info")),
        repeated=repeated,
    )


@dataclass(frozen=True)
class _Part:
    """A JSON object and what to call it in an error."""

    data: Mapping[str, Any]
    where: str

    def get(self, key: str, kind: type | tuple[type, ...]) -> Any:
        """The value of a key, None where the key is absent or null; another type is an error."""
        value = self.data.get(key)
        if value is None or isinstance(value, kind):
            return value
        raise ResultNotReadable(f"{self.where}: {key!r} is a {type(value).__name__}; write the file again")

    def part(self, key: str) -> _Part:
        """An object inside this one; empty where the key is absent."""
        return _Part(self.get(key, dict) or {}, f"{self.where}: {key}")

    def parts(self, key: str) -> list[_Part]:
        """A list of objects inside this one; empty where the key is absent."""
        items = self.get(key, list) or []
        for i, item in enumerate(items):
            if not isinstance(item, dict):
                raise ResultNotReadable(f"{self.where}: {key}[{i}] is a {type(item).__name__}; write the file again")
        return [_Part(item, f"{self.where}: {key}[{i}]") for i, item in enumerate(items)]


def _load(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        data = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_whole)
    except FileNotFoundError:
        raise ResultNotReadable(f"{path}: no such file; pytest benchmarks --benchmark-json={path} writes it") from None
    except OSError as error:
        raise ResultNotReadable(f"{path}: cannot be read ({error.strerror}); give a JSON file") from None
    except RecursionError:
        raise ResultNotReadable(f"{path}: nested too deeply for a result file; write the file again") from None
    except ValueError as error:  # broken JSON, bytes that are not UTF-8, a number that is not finite
        raise ResultNotReadable(f"{path}: not a JSON file ({error}); write the file again") from None
    if not isinstance(data, dict):
        raise ResultNotReadable(f"{path}: pytest-benchmark did not write this file; it holds a {type(data).__name__}")
    return data


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


def _records(file: _Part) -> tuple[tuple[Measured, ...], tuple[str, ...]]:
    """The records in file order, and the names of those passed over because their cell stood there before."""
    seen: set[Key] = set()
    records: list[Measured] = []
    repeated: list[str] = []
    for entry in file.parts("benchmarks"):
        extra = entry.part("extra_info")
        if KEY not in extra.data:
            continue  # a benchmark of somebody else
        fullname = entry.get("fullname", str) or "?"
        measured = Measured(fullname, from_json(extra.data[KEY], f"{file.where}: {fullname}"))
        keys = measured.keys
        if seen.isdisjoint(keys):
            records.append(measured)
        else:
            repeated.append(fullname)
        seen.update(keys)
    if not records:
        raise ResultNotReadable(f"{file.where}: no sparsity records in it; run pytest benchmarks with this suite")
    return tuple(records), tuple(repeated)


def _machine(info: _Part) -> str | None:
    """What pytest-benchmark itself knows of the machine, for files without a fingerprint."""
    cpu = info.part("cpu")
    values = [cpu.data.get("brand_raw"), info.data.get("machine"), info.data.get("system")]
    return ", ".join(str(value) for value in values if value) or None


def _commit(info: _Part) -> str | None:
    commit = info.get("id", str)
    return f"{commit} with uncommitted changes" if commit and info.data.get("dirty") is True else commit
