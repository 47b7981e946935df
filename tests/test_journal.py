"""The journal: every finished test is a line that stays, whatever happens to the program or the disk."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sparsity import journal
from sparsity.errors import BadValue, ResultNotReadable, SparsityError
from sparsity.journal import Entry, Journal
from sparsity.strict_json import Scalar

SETTINGS: dict[str, Scalar] = {"torch": "2.13.0", "threads": 1}
TIMED: dict[str, Any] = {"fullname": "test_a", "extra_info": {}, "stats": {}}
FIRST = Entry("test_a", "passed", {"schema": 1}, TIMED, ({"reason": "x"},), {"models": {}})
SECOND = Entry("test_b", "failed")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return journal.beside(tmp_path / "run.json")


def write(path: Path, *entries: Entry) -> None:
    book = Journal(path, SETTINGS)
    for entry in entries:
        book.begin(entry.test)
        book.append(entry)
    book.close(finished=False)


def found(path: Path) -> journal.Journaled:
    read = journal.read(path)
    assert read is not None
    return read


def test_it_stands_beside_the_result_file(path: Path) -> None:
    assert path.name == "run.json.journal"


def test_what_was_written_is_read(path: Path) -> None:
    write(path, FIRST, SECOND)
    assert found(path) == journal.Journaled(SETTINGS, (FIRST, SECOND), {}, path.stat().st_size)


def test_where_there_is_none_nothing_is_read(path: Path) -> None:
    assert journal.read(path) is None


def test_what_was_begun_and_not_done_is_counted(path: Path) -> None:
    book = Journal(path, SETTINGS)
    for test in ("test_a", "test_b", "test_b"):
        book.begin(test)
    book.append(FIRST)
    book.close(finished=False)
    assert found(path).died == {"test_b": 2}


def test_what_any_run_asked_for_and_none_has_done_is_left(path: Path) -> None:
    book = Journal(path, SETTINGS)
    book.ask(["test_a", "test_b"])
    book.append(FIRST)
    book.close(finished=False)
    book = Journal(path, SETTINGS, found(path).whole)
    book.ask(["test_c"])
    book.close(finished=False)
    assert found(path).left == {"test_b", "test_c"}
    assert found(path).again == 1


def test_a_test_counts_once_as_it_was_first_measured(path: Path) -> None:
    write(path, FIRST, Entry("test_a", "failed"))
    assert found(path).entries == (FIRST,)


def test_cut_off_anywhere_it_gives_what_was_whole_and_can_be_gone_on_with(path: Path) -> None:
    write(path, FIRST, SECOND)
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    for size in range(len(content)):
        path.write_bytes(content[:size])
        read = journal.read(path)
        done = sum(b'"done"' in line for line in content[:size].splitlines(keepends=True) if line.endswith(b"\n"))
        if size < len(lines[0]):
            assert read is None
            continue
        assert read is not None
        assert len(read.entries) == done
        if size % 7 == 0:
            book = Journal(path, SETTINGS, read.whole)
            book.append(Entry("test_c", "passed"))
            book.close(finished=False)
            assert [entry.test for entry in found(path).entries] == [*["test_a", "test_b"][:done], "test_c"]


@pytest.mark.parametrize(
    "line",
    [
        '{"done": {"test": "a", "outcome": "passed", "benchmark": {"fullname": "a"}}}',
        '{"done": {"test": "a", "outcome": "passed", "run": {"models": 3}}}',
        '{"done": {"test": "a", "outcome": "passed", "run": {"noise": {"bert": "much"}}}}',
        '{"done": {"test": "a", "outcome": "passed", "run": {"more": {}}}}',
        '{"done": 3}',
        '{"done": {"test": "a"}}',
        "[]",
        "{",
        '{"done": {"test": 1, "outcome": "passed"}}',
        "\x00",
    ],
)
def test_a_broken_middle_is_refused_with_its_line(path: Path, line: str) -> None:
    write(path, FIRST)
    path.write_text(f"{path.read_text()}{line}\n" + json.dumps({"begun": "test_b"}) + "\n")
    with pytest.raises(ResultNotReadable, match=r"run\.json\.journal: line 4 is .*remove it$"):
        journal.read(path)


@pytest.mark.parametrize("first", ["{}", '{"journal": 2, "settings": {}}', '{"journal": 1, "settings": []}'])
def test_a_file_that_is_no_journal_of_ours_is_refused(path: Path, first: str) -> None:
    path.write_text(first + "\n")
    with pytest.raises(ResultNotReadable, match="not a journal that this version writes"):
        journal.read(path)


def test_a_run_that_is_finished_leaves_none(path: Path) -> None:
    Journal(path, SETTINGS).close(finished=True)
    assert list(path.parent.iterdir()) == []


def test_two_runs_cannot_write_one(path: Path) -> None:
    book = Journal(path, SETTINGS)
    with pytest.raises(BadValue, match="another run is writing it"):
        Journal(path, SETTINGS)
    book.close(finished=False)
    Journal(path, SETTINGS).close(finished=False)


def test_where_nothing_can_be_written_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "run.json.journal").mkdir()
    with pytest.raises(BadValue, match=r"run\.json\.journal: cannot be written \(Is a directory\)"):
        Journal(tmp_path / "run.json.journal", SETTINGS)


FULL = """
import sys
from pathlib import Path
from sparsity.errors import SparsityError
from sparsity.journal import Entry, Journal

book = Journal(Path(sys.argv[1]), {"torch": "2.13.0"})
try:
    for number in range(10_000):
        book.append(Entry(f"test_{number}", "passed", {"much": "x" * 1000}))
except SparsityError as error:
    print(number, error)
"""


def test_a_disk_that_is_full_keeps_every_test_before_and_no_half_of_one(path: Path) -> None:
    def small_disk() -> None:
        """What a file may grow to, as a disk with 20 kB left would have it; without the signal that would kill."""
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = [sys.executable, "-c", FULL, str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=small_disk)
    number, _, told = ended.stdout.strip().partition(" ")
    assert "cannot be written any more" in told
    assert told.endswith("make room, then go on with --resume")
    assert [entry.test for entry in found(path).entries] == [f"test_{n}" for n in range(int(number))]
    assert int(number) > 10
    assert path.read_bytes().endswith(b"\n")


def test_other_settings_are_refused_by_name(path: Path) -> None:
    journal.refuse_other_settings(path, SETTINGS, dict(SETTINGS))
    with pytest.raises(SparsityError, match=r"threads was 1 and is 2; go on with the same settings"):
        journal.refuse_other_settings(path, SETTINGS, SETTINGS | {"threads": 2})
    with pytest.raises(SparsityError, match=r"torch was '2\.13\.0' and is 'not set', and 1 more settings differ"):
        journal.refuse_other_settings(path, SETTINGS, {"threads": 1, "gpu": "H100"})
