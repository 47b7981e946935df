"""Two result files joined cell by cell: which belong together, and which are missing, new or not of the same settings.

Cells are joined on what was measured, by kind, metric and every axis, never on the ids of tests: a test that was
renamed is found again, and said to be renamed. A cell that the baseline has and the other file lacks is never passed
over: it is missing, or a regression where its test failed.

Refuses to compare what only looks the same: where a setting of the run or the class behind a model's name differs, all
that hangs on it is left out, and one finding says so.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sparsity.gate import FINE, INCOMPLETE, REGRESSION, Finding
from sparsity.gate_machines import OF_A_TASK, SETTINGS, Match, matched, shown, unlike
from sparsity.record import Cell, Model
from sparsity.result_file import DRAWN, Key, Measured, ResultFile

ALLOWED = ("missing", "new", "renamed")
"""Findings that a user may allow."""
BROKEN = ("failed", "error")


@dataclass(frozen=True)
class Trouble:
    """Why a test left no number."""

    test: str
    cell: Cell
    outcome: str
    reason: str

    def __str__(self) -> str:
        return f"{self.outcome}: {self.reason}"


@dataclass
class Joined:
    """A baseline and the file that is compared with it."""

    base: dict[Key, Measured]
    """Those that may be compared; where several nodes measured one, the first."""
    head: dict[Key, Measured]
    matches: dict[Key, list[Match]]
    """What both have: one for each node of the baseline with a like in the other file, at least one."""
    elsewhere: list[str]
    """How machine and software of the runs differ; empty where there are nodes, which are told cell by cell."""
    findings: list[Finding] = field(default_factory=list)

    @functools.cached_property
    def pairs(self) -> dict[tuple[str, str], tuple[list[Match], list[Key]]]:
        """Tests that measured the same, by their names, on each node, and what of it."""
        found: dict[tuple[str, str], tuple[list[Match], list[Key]]] = {}
        for key, matches in self.matches.items():
            first = matches[0]
            found.setdefault((first.before.fullname, first.after.fullname), (matches, []))[1].append(key)
        return found


def join(base: ResultFile, head: ResultFile, allowed: Collection[str] = ()) -> Joined:
    """The cells of both, and what does not fit; `allowed` are those of `ALLOWED` that are merely told."""
    everything = [key for file in (base, head) for entry in file.entries for key in entry.keys]
    differing = list(_differing(base, head))
    findings = []
    for said, hangs in differing:
        if count := len({key for key in everything if hangs(key)}):
            left_out = f"{count} {'measurement hangs' if count == 1 else 'measurements hang'} on it, not compared"
            findings.append(Finding(INCOMPLETE, "not comparable", "", f"{said}; {left_out}"))

    def open_(key: Key) -> bool:
        return not any(hangs(key) for _, hangs in differing)

    was, now = _by_key(base, open_), _by_key(head, open_)
    matches = {key: matched(was[key], now[key], base, head) for key in was if key in now}
    several = base.run.nodes or head.run.nodes
    elsewhere = [] if several else unlike(base.run.fingerprint, head.run.fingerprint)
    found = Joined(_firsts(was), _firsts(now), matches, elsewhere, findings)
    before, after = _troubles(base), _troubles(head)
    troubled = [*_missing(found, base, head, before, after), *_new(found, before)]
    troubled += [*_broken(found, base, before, after, open_), *_renamed(found)]
    found.findings += [*_repeated(base, head), *(_told(finding, allowed) for finding in troubled)]
    return found


def _told(finding: Finding, allowed: Collection[str]) -> Finding:
    return dataclasses.replace(finding, status=FINE) if finding.kind in allowed else finding


def _by_key(file: ResultFile, open_: Callable[[Key], bool]) -> dict[Key, list[Measured]]:
    found: dict[Key, list[Measured]] = {}
    for entry in file.entries:
        for key in sorted(entry.keys, key=str):
            if open_(key):
                found.setdefault(key, []).append(entry)
    return found


def _firsts(found: Mapping[Key, Sequence[Measured]]) -> dict[Key, Measured]:
    return {key: entries[0] for key, entries in found.items()}


def _differing(base: ResultFile, head: ResultFile) -> Iterator[tuple[str, Callable[[Key], bool]]]:
    """What differs that was chosen, and which measurements hang on it."""
    before, after = base.run.fingerprint, head.run.fingerprint
    for name, hangs in SETTINGS.items():
        if before.get(name) != after.get(name):
            yield f"{name} {shown(after, name)} where {shown(before, name)} was", hangs
    for name in sorted(before.keys() & after.keys()):
        if name.startswith(OF_A_TASK) and before[name] != after[name]:
            yield f"{name} is {shown(after, name)} where it was {shown(before, name)}", _of_task(name)
    for name in sorted(base.run.models.keys() & head.run.models.keys()):
        was, now = base.run.models[name], head.run.models[name]
        if not _same(was, now):
            yield f"model {name} is of class {_class(now)} where {_class(was)} was", _of_model(name)


def _of_task(name: str) -> Callable[[Key], bool]:
    return lambda key: key.cell.task == name


def _of_model(name: str) -> Callable[[Key], bool]:
    return lambda key: key.cell.model == name


def _same(one: Model, other: Model) -> bool:
    """The classifier and the digest only where both runs know them."""
    known = [(one.classifier, other.classifier), (one.digest, other.digest)]
    blank = (dataclasses.replace(each, classifier=None, digest=None) for each in (one, other))
    return len(set(blank)) == 1 and all(was == now for was, now in known if was and now)


def _class(model: Model) -> str:
    weights = f"weights {model.digest[:12]}" if model.digest else None
    return " / ".join(filter(None, (model.class_name, model.classifier, model.source, weights)))


def _troubles(file: ResultFile) -> dict[str, Trouble]:
    """By test: what failed, broke or was skipped."""
    listed = [Trouble(item.test, item.cell, item.outcome, item.reason) for item in file.run.not_measured]
    failed = [
        Trouble(entry.fullname, entry.record.cell, str(entry.record.outcome), entry.record.reason or "no reason given")
        for entry in file.entries
        if entry.record.outcome not in DRAWN
    ]
    return {trouble.test: trouble for trouble in [*listed, *failed]}


def _missing(
    found: Joined, base: ResultFile, head: ResultFile, before: Mapping[str, Trouble], after: Mapping[str, Trouble]
) -> Iterator[Finding]:
    """What the baseline has and the other file lacks, test by test."""
    lacking: dict[str, tuple[Cell, list[Key]]] = {}
    for key, entry in found.base.items():
        if key not in found.head:
            lacking.setdefault(entry.fullname, (key.cell, []))[1].append(key)
    others = _elsewhere_troubled(base, after)
    new = [key for key in found.head if key not in found.base]
    for test, (cell, keys) in lacking.items():
        trouble = after.get(test) or others.get(_without_dtype(cell))
        kinds = ", ".join(dict.fromkeys(key.metric or key.kind for key in keys))
        if trouble is not None and trouble.outcome in BROKEN:
            yield Finding(REGRESSION, "regression", str(cell), str(trouble))
        else:
            said = f"{kinds} not measured; {trouble or _hint(keys[0], new, head)}"
            yield Finding(INCOMPLETE, "missing", str(cell), said)


def _elsewhere_troubled(base: ResultFile, after: Mapping[str, Trouble]) -> dict[Cell, Trouble]:
    """By cell, what happened to tests that the baseline does not know by name: those that were renamed."""
    known = {entry.fullname for entry in base.entries}
    return {_without_dtype(each.cell): each for each in after.values() if each.test not in known}


def _without_dtype(cell: Cell) -> Cell:
    """A test that never began does not know its dtype."""
    return dataclasses.replace(cell, dtype=None)


def _hint(key: Key, new: list[Key], head: ResultFile) -> str:
    """What may have become of a cell that is missing without a reason."""
    like = [other for other in new if (other.kind, other.metric) == (key.kind, key.metric)]
    nearest = min(like, key=lambda other: len(_axes(key.cell, other.cell)), default=None)
    if nearest is not None:
        axes = ", ".join(_axes(key.cell, nearest.cell))
        return f"the nearest that is new, by another {axes}: {nearest.cell}"
    if head.run.not_run:
        return f"the run was stopped before {head.run.not_run} tests"
    return "nothing says why"


def _axes(one: Cell, other: Cell) -> list[str]:
    """Those that differ."""
    names = (each.name for each in dataclasses.fields(Cell))
    return [name for name in names if getattr(one, name) != getattr(other, name)]


def _new(found: Joined, before: Mapping[str, Trouble]) -> Iterator[Finding]:
    """What only the other file has, test by test."""
    measured = {key.cell for key in found.base}
    gained: dict[str, tuple[Cell, list[Key]]] = {}
    for key, entry in found.head.items():
        if key not in found.base and not (key.kind == "pruned" and key.cell in measured):
            gained.setdefault(entry.fullname, (key.cell, []))[1].append(key)
    for test, (cell, keys) in gained.items():
        kinds = ", ".join(dict.fromkeys(key.metric or key.kind for key in keys))
        was = before.get(test)
        if was is not None and was.outcome in BROKEN:
            yield Finding(FINE, "mended", str(cell), f"{kinds} measured; before, {was}")
        else:
            yield Finding(INCOMPLETE, "new", str(cell), f"{kinds} measured, of which the baseline has nothing")


def _broken(
    found: Joined,
    base: ResultFile,
    before: Mapping[str, Trouble],
    after: Mapping[str, Trouble],
    open_: Callable[[Key], bool],
) -> Iterator[Finding]:
    """Tests that failed and are no missing cell: claims about several cells, and cells that are new."""
    others = _elsewhere_troubled(base, after)
    lacking = [(entry.fullname, key.cell) for key, entry in found.base.items() if key not in found.head]
    reasons = {after.get(test) or others.get(_without_dtype(cell)) for test, cell in lacking}
    compared = {entry.fullname for entry in found.base.values()}
    left_out = {entry.fullname for entry in base.entries} - compared
    for test, trouble in after.items():
        was = before.get(test)
        as_before = was is not None and was.outcome in BROKEN
        if trouble.outcome not in BROKEN or trouble in reasons or as_before or test in left_out:
            continue
        if test in compared:  # it measured, and failed when it was taken down
            yield Finding(REGRESSION, "regression", str(trouble.cell), str(trouble))
        elif open_(Key("", None, trouble.cell)):
            said = f"{trouble}; the baseline has nothing of {test}"
            yield Finding(INCOMPLETE, "new", str(trouble.cell), said)


def _repeated(base: ResultFile, head: ResultFile) -> Iterator[Finding]:
    """Tests whose numbers were passed over, because another test of the file had measured the same, as not before."""
    for test in sorted(set(head.repeated) - set(base.repeated)):
        said = f"{test} measured a cell that stood in the file before, so its numbers are not compared"
        yield Finding(INCOMPLETE, "not comparable", "", said)


def _renamed(found: Joined) -> Iterator[Finding]:
    for before, after in ((match.before, match.after) for (match, *_), _ in found.pairs.values()):
        if before.fullname != after.fullname:
            said = f"{after.fullname} where {before.fullname} was"
            yield Finding(INCOMPLETE, "renamed", str(before.record.cell), said)
