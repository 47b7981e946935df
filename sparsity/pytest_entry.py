"""What a finished test hands on: an entry of the journal, carried by its last report, whichever process it ran in."""

from __future__ import annotations

from typing import Any

import pytest

from sparsity.cells import STATE, Recorder, Unfinished, axes_of
from sparsity.journal import Entry, entry_from_json
from sparsity.record import KEY, Cell, NotMeasured
from sparsity.strict_json import plain

HANDED = "sparsity_entry"
"""The attribute of a report that carries the entry, as JSON, so that it may come from another process."""
AXES, POSTPONED, SHOWN = "sparsity_axes", "sparsity_postponed", "sparsity_shown"
"""Those that say what its axes are, whether it was not even tried, and what it is called while the run goes on."""


def hand_on(report: pytest.TestReport, item: pytest.Item, unfinished: Unfinished, recorder: Recorder | None) -> None:
    """Gives the last report of a test what the test left."""
    state = item.config.stash[STATE]
    entry = Entry(
        item.nodeid,
        "passed",  # whoever hears all three reports knows better
        unfinished.record,
        None if recorder is None else _timed(item.config, recorder),
        tuple(plain(each, item.nodeid) for each in unfinished.not_measured),
        state.learnt(),
    )
    known = axes_of(item)
    carry(report, entry, str(Cell(**known)) if known else item.name, unfinished.postponed)


def carry(report: pytest.TestReport, entry: Entry, shown: str, postponed: bool = False) -> None:
    """Gives a report an entry, and what the test is called while the run goes on."""
    setattr(report, HANDED, entry.to_json())
    setattr(report, POSTPONED, postponed)
    setattr(report, SHOWN, shown)


def _timed(config: pytest.Config, recorder: Recorder) -> dict[str, Any] | None:
    """What pytest-benchmark writes of a cell, without our record; None where it is not timed, or was cut off."""
    found = recorder.benchmark.stats
    if found is None:
        return None
    written: dict[str, Any] = config.hook.pytest_benchmark_generate_json(
        config=config, benchmarks=[found], include_data=True, machine_info={}, commit_info={}
    )
    for entry in written["benchmarks"]:
        extra = {name: value for name, value in entry["extra_info"].items() if name != KEY}
        return {**entry, "extra_info": extra}
    return None


def begin(report: pytest.TestReport, item: pytest.Item) -> None:
    """Gives the first report of a test its axes, in case no other comes."""
    setattr(report, AXES, axes_of(item))


def axes(report: pytest.TestReport) -> dict[str, Any]:
    """What the first report of a test says of its axes."""
    return dict(getattr(report, AXES, {}))


def broken_off(report: pytest.TestReport, known: dict[str, Any]) -> Entry | None:
    """What is known of a test whose worker died: that, and its axes; None for any other report."""
    if report.when in ("setup", "call", "teardown"):
        return None
    return without_number(report.nodeid, known, "error", f"{report.longrepr}; out of memory, or killed from outside")


def without_number(test: str, known: dict[str, Any], outcome: str, reason: str) -> Entry:
    """Of a test that left nothing: its axes, where it is a cell, and why."""
    missing = (plain(NotMeasured(Cell(**known), test, outcome, reason), test),) if known else ()
    return Entry(test, "failed", not_measured=missing)


def handed(report: pytest.TestReport, outcome: str) -> Entry | None:
    """What a report carries, with what the test came to; None but for the last report of a test."""
    data = getattr(report, HANDED, None)
    return None if data is None else entry_from_json({**data, "outcome": outcome})


def postponed(report: pytest.TestReport) -> bool:
    """Whether the test was not even tried."""
    return bool(getattr(report, POSTPONED, False))


def shown(report: pytest.TestReport) -> str:
    """What the test is called while the run goes on."""
    return str(getattr(report, SHOWN, report.nodeid))


def whole(entry: Entry) -> dict[str, Any]:
    """pytest-benchmark's part of an entry, with its record where that stands in the file."""
    assert entry.benchmark is not None  # asked before
    record = {} if entry.record is None else {KEY: entry.record}
    return {**entry.benchmark, "extra_info": {**entry.benchmark["extra_info"], **record}}
