"""The journal of a run: each finished test at once, one line of JSON each, in a file beside the result file.

pytest-benchmark writes its file when a run is over, so a run that is killed would lose all. The journal
only grows: a first line with the settings that two runs must share to be one, a line with the tests that
each of them was to run, then a line when a test begins and one when it is done. A line that a kill cut
short is passed over, and cut off before the next.

Refuses: a journal that another program holds or another version wrote, one whose middle is broken, and a
disk that takes no more; what stands in it before that stays readable.
"""

from __future__ import annotations

import errno
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sparsity.errors import BadValue, ResultNotReadable
from sparsity.strict_json import Scalar

VERSION = 1
SUFFIX = ".journal"


@dataclass(frozen=True)
class Entry:
    """One test that was run to its end."""

    test: str
    """pytest's node id."""
    outcome: str
    """"passed", "failed", "error" or "skipped"."""
    record: dict[str, Any] | None = None
    """A `record.Record` as JSON, where the test is a cell."""
    benchmark: dict[str, Any] | None = None
    """What pytest-benchmark writes of it; None where it left no times."""
    not_measured: tuple[dict[str, Any], ...] = ()
    """`record.NotMeasured` as JSON, where it left no number."""
    run: dict[str, Any] = field(default_factory=dict)
    """What the run had learnt by then: models, noise, limits of the machine, which machine it was."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; absent what is empty."""
        return {name: value for name, value in asdict(self).items() if value or value == ""}


@dataclass(frozen=True)
class Journaled:
    """What a journal holds."""

    settings: Mapping[str, Scalar]
    entries: tuple[Entry, ...]
    """Each test once, in the order they were done."""
    died: Mapping[str, int]
    """How often a test was begun and the run ended before it did."""
    whole: int
    """Bytes up to the last line that is whole."""
    asked: frozenset[str] = frozenset()
    """Every test that a run was to measure into it."""
    again: int = 0
    """How often it was gone on with."""

    @property
    def left(self) -> frozenset[str]:
        """Tests that were asked for and are not done."""
        return self.asked - {entry.test for entry in self.entries}


def beside(result: Path) -> Path:
    """The journal of a result file."""
    return result.with_name(result.name + SUFFIX)


class Journal:
    """A journal that is written to; held alone until it is closed."""

    def __init__(self, path: Path, settings: Mapping[str, Scalar], whole: int = 0) -> None:
        """Begins a journal, or goes on with one after its `whole` bytes. Raises `BadValue`, as `append` does."""
        import filelock

        self.path = path
        self._lock = filelock.FileLock(f"{path}.lock", timeout=0)
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise BadValue(
                f"{path}: another run is writing it; let that end, or give another --benchmark-json"
            ) from None
        except OSError as error:
            raise BadValue(f"{path}: cannot be written ({error.strerror}); give another --benchmark-json") from None
        self._file = self._open(whole)
        self._write({"again": True} if whole else {"journal": VERSION, "settings": dict(settings)})

    def _open(self, whole: int) -> io.FileIO:
        try:
            file = io.FileIO(self.path, "r+" if whole else "w")  # no buffer: a kill loses nothing that was written
            file.truncate(whole)
            file.seek(whole)
        except OSError as error:
            self._lock.release()
            raise BadValue(
                f"{self.path}: cannot be written ({error.strerror}); give another --benchmark-json"
            ) from None
        return file

    def ask(self, tests: Iterable[str]) -> None:
        """What this run is to measure; a run of fewer tests does not finish what one of more began."""
        self._write({"asked": list(tests)})

    def begin(self, test: str) -> None:
        """A test begins; should it end the whole process, that is known afterwards."""
        self._write({"begun": test})

    def append(self, entry: Entry) -> None:
        """A test is done; on the disk when this returns. Raises `BadValue` when it cannot be."""
        self._write({"done": entry.to_json()}, lasting=True)

    def _write(self, line: dict[str, Any], lasting: bool = False) -> None:
        text = (json.dumps(line, allow_nan=False) + "\n").encode()
        before = self._file.tell()
        try:
            written = self._file.write(text)
            if written != len(text):  # a disk that fills up takes a part
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if lasting:
                os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(before)
            self._file.seek(before)
            what = f"{self.path}: cannot be written any more ({error.strerror})"
            raise BadValue(f"{what}; what it holds is safe: make room, then go on with --resume") from None

    def close(self, finished: bool) -> None:
        """Lets go of it; a run that is finished has its result file, and needs no journal any more."""
        self._file.close()
        if finished:
            self.path.unlink(missing_ok=True)
        self._lock.release()
        Path(f"{self.path}.lock").unlink(missing_ok=True)


def read(path: Path) -> Journaled | None:
    """What a journal holds; None where there is none, or where not even its first line is whole.

    Raises `ResultNotReadable`.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ResultNotReadable(f"{path}: cannot be read ({error.strerror}); mend its permissions") from None
    whole = content.rfind(b"\n") + 1
    lines = content[:whole].splitlines()
    if not lines:
        return None
    first = _line(path, 1, lines[0])
    if first.get("journal") != VERSION or not isinstance(first.get("settings"), dict):
        raise ResultNotReadable(f"{path}: not a journal that this version writes; remove it to begin anew")
    entries: dict[str, Entry] = {}
    begun: Counter[str] = Counter()
    asked: set[str] = set()
    again = 0
    for number, text in enumerate(lines[1:], 2):
        line = _line(path, number, text)
        if "done" in line:
            entry = _entry(path, number, line["done"])
            entries.setdefault(entry.test, entry)  # the first counts: nothing is measured twice into one result
        elif "begun" in line:
            begun[str(line["begun"])] += 1
        elif "asked" in line and isinstance(line["asked"], list):
            asked.update(map(str, line["asked"]))
        else:
            again += 1
    died = {test: count for test, count in begun.items() if test not in entries}
    return Journaled(first["settings"], tuple(entries.values()), died, whole, frozenset(asked), again)


def _line(path: Path, number: int, text: bytes) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict):
        raise ResultNotReadable(f"{path}: line {number} is broken; cut the file off before it, or remove it")
    return line


def _entry(path: Path, number: int, data: Any) -> Entry:
    try:
        return entry_from_json(data)
    except ValueError:
        why = f"line {number} is no finished test"
        raise ResultNotReadable(f"{path}: {why}; cut the file off before it, or remove it") from None


def entry_from_json(data: Any) -> Entry:
    """An entry out of what `to_json` gave; raises `ValueError` for anything else."""
    kinds = {"test": str, "outcome": str, "record": dict, "benchmark": dict, "not_measured": list | tuple, "run": dict}
    if not isinstance(data, dict) or not {"test", "outcome"} <= data.keys() <= kinds.keys():
        raise ValueError("not an entry of a journal")
    if not all(isinstance(value, kinds[name]) for name, value in data.items()):
        raise ValueError("a field of an entry is of another type")
    benchmark, run = data.get("benchmark"), data.get("run", {})
    if benchmark is not None and not _has(benchmark, {"fullname": str, "extra_info": dict, "stats": dict}):
        raise ValueError("pytest-benchmark did not write its part")
    parts = {"models": dict, "noise": dict, "roofline": dict, "notes": list, "node": dict}
    if not run.keys() <= parts.keys() or not _has(run, {name: parts[name] for name in run}):
        raise ValueError("what the run had learnt is of another type")
    if "node" in run and not _has(run["node"], {"name": str, "fingerprint": dict}):
        raise ValueError("a node has no name, or no fingerprint")
    if not all(type(floor) in (int, float) for floor in run.get("noise", {}).values()):
        raise ValueError("noise is no number")
    return Entry(**{**data, "not_measured": tuple(data.get("not_measured", ()))})


def _has(data: dict[str, Any], kinds: dict[str, type]) -> bool:
    return all(isinstance(data.get(name), kind) for name, kind in kinds.items())


def refuse_other_settings(path: Path, before: Mapping[str, Scalar], now: Mapping[str, Scalar]) -> None:
    """Raises `BadValue` where a run cannot go on with a journal: its numbers would be of two kinds."""
    different = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if different:
        name = different[0]
        more = f", and {len(different) - 1} more settings differ" if len(different) > 1 else ""
        told = f"{name} was {before.get(name, 'not set')!r} and is {now.get(name, 'not set')!r}{more}"
        raise BadValue(f"{path}: {told}; go on with the same settings and machine, or remove it to begin anew")
