"""Result files as frozen values: one `Run`, whichever number of files it came from.

Refuses, with the file and the value in the message: what is not there, not JSON, holds NaN or
infinity, was not written by pytest-benchmark, holds no record of ours, or follows another schema; and
files that do not belong together, because their machine or software differs or because both hold
the same cell. Records of failed cells are kept, for the list of what was not measured, never for drawing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from reports.join import joined
from reports.run import Measured, NotMeasured, Run
from sparsity import record
from sparsity.errors import ResultNotReadable
from sparsity.record import KEY, from_json

__all__ = ["Measured", "NotMeasured", "Run", "read"]


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


def read(paths: Sequence[Path]) -> Run:
    """All the files as one run; raises `ResultNotReadable` as the module says."""
    return joined([_read_one(path) for path in paths])


def _read_one(path: Path) -> Run:
    file = _Part(_load(path), str(path))
    entries = file.data.get("benchmarks")
    if not isinstance(entries, list) or "machine_info" not in file.data:
        raise ResultNotReadable(f"{path}: pytest-benchmark did not write this file; give one from --benchmark-json")
    records, repeated = _records(file)
    if KEY not in file.data:
        raise ResultNotReadable(f"{path}: no {KEY!r} part at the top of it; was the suite's plugin loaded?")
    ours = record.run_from_json(file.data[KEY], f"{path}: {KEY}")
    return Run(
        paths=(path,),
        fingerprint=ours.fingerprint,
        machine=_machine(file.part("machine_info")),
        profile=ours.profile,
        models=ours.models,
        datetime=file.get("datetime", str),
        commit=_commit(file.part("commit_info")),
        records=records,
        not_measured=tuple(map(_not_measured, ours.not_measured)),
        noise_floor=ours.noise_floor,
        roofline=None if ours.roofline is None else str(ours.roofline),
        not_run=ours.not_run or 0,
        repeated=repeated,
    )


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
    seen: set[object] = set()
    records: list[Measured] = []
    repeated: list[str] = []
    for entry in file.parts("benchmarks"):
        extra = entry.part("extra_info")
        if KEY not in extra.data:
            continue  # a benchmark of somebody else
        fullname = entry.get("fullname", str) or "?"
        measured = Measured(fullname, from_json(extra.data[KEY], f"{file.where}: {fullname}"))
        if seen.isdisjoint(measured.keys):
            records.append(measured)
        else:
            repeated.append(fullname)
        seen.update(measured.keys)
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


def _not_measured(item: record.NotMeasured) -> NotMeasured:
    return NotMeasured(str(item.cell), item.test, item.outcome, item.reason)
