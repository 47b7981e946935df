"""Several runs side by side: what names them, what the command writes and prints, and its errors."""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from pathlib import Path

import pytest

from reports import across
from tests.reports import builders
from tests.reports.versions import SPARSITIES, files, sides, timed


def test_runs_are_named_by_what_differs(tmp_path: Path) -> None:
    found = sides(tmp_path, [timed(0.5, 2.0)], [timed(0.5, 2.0)])
    assert [side.name for side in found] == ["torch 2.11.0", "torch 2.13.0"]


def test_several_keys_are_joined_the_telling_ones_first(tmp_path: Path) -> None:
    other = {**builders.FINGERPRINT, "python": "3.12", "threads": 4, "torch": "2.13", "system": "x", "gpu": "H" * 99}
    paths = [
        builders.write(tmp_path / f"{i}.json", builders.run_json([("t", timed(0.5, 2.0))], fingerprint=each))
        for i, each in enumerate((builders.FINGERPRINT, other))
    ]
    first, second = (side.name for side in across.side_by_side(paths))
    assert first == "torch 2.9.0+cpu, no gpu, threads 2, …"
    assert second == f"torch 2.13, gpu {'H' * 27}…, threads 4, …"


def test_commits_then_files_name_runs_that_are_otherwise_alike(tmp_path: Path) -> None:
    data = [builders.run_json([("t", timed(0.5, 2.0))]) for _ in range(3)]
    paths = [tmp_path / folder / "same.json" for folder in "abc"]
    for path, each in zip(paths, data, strict=True):
        path.parent.mkdir()
        builders.write(path, each)
    assert [side.name for side in across.side_by_side(paths)] == ["a/same", "b/same", "c/same"]
    for path, each, commit in zip(paths, data, ("a" * 40, "b" * 40, "b" * 40), strict=True):
        builders.write(path, {**each, "commit_info": {"id": commit}})
    names = [side.name for side in across.side_by_side(paths)]
    assert names == ["commit aaaaaaaaaa, a/same", "commit bbbbbbbbbb, b/same", "commit bbbbbbbbbb, c/same"]
    builders.write(paths[1], {**data[1], "commit_info": {"id": "c" * 40}})
    assert [side.name[:10] for side in across.side_by_side(paths)] == ["commit aaa", "commit ccc", "commit bbb"]


# -- the command -----------------------------------------------------------------------------------------


def test_it_prints_and_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = files(tmp_path, [timed(s, 2.0) for s in SPARSITIES], [timed(s, 3.0) for s in SPARSITIES])
    assert across.main(list(map(str, paths))) == 0
    folder = tmp_path / "across-report"
    out = capsys.readouterr().out
    assert "torch 2.13.0 against torch 2.11.0, 5 cells in all runs. Certainly faster: 5, slower: 0." in out
    assert out.splitlines()[-1] == f"Report: {folder / 'across.md'}"
    assert "Times are not pooled" in (folder / "across.md").read_text(encoding="utf-8")
    rows = list(csv.DictReader((folder / "across.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 10
    assert [(row["run"], row["change"], row["in all runs"]) for row in rows[:2]] == [
        ("torch 2.11.0", "", "yes"),
        ("torch 2.13.0", repr(math.exp(math.log(3.0) - math.log(2.0))), "yes"),
    ]
    assert float(rows[1]["change low"]) < 1.5 < float(rows[1]["change high"])


def test_out_is_where_it_is_written(tmp_path: Path) -> None:
    paths = files(tmp_path, [timed(0.5, 2.0)], [timed(0.5, 3.0)])
    assert across.main([*map(str, paths), "--out", str(tmp_path / "deep" / "er")]) == 0
    assert {path.name for path in (tmp_path / "deep" / "er").iterdir()} == {"across.md", "across.csv"}


def test_nothing_from_outside_is_markup_or_obeyed_by_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b[31m<b>|`x`[y](z)"
    cell = dataclasses.replace(timed(0.5, 2.0).cell, model=f"={hostile}", format=hostile)
    runs = [[dataclasses.replace(timed(0.5, speed), cell=cell)] for speed in (2.0, 3.0)]
    paths = files(tmp_path, *runs)
    for i, path in enumerate(paths):
        print_of = {**builders.FINGERPRINT, "torch": f"{i}{hostile}\ud800"}
        builders.write(path, builders.run_json([("t", runs[i][0])], fingerprint=print_of))
    assert across.main([str(path) for path in paths]) == 0
    assert "\x1b" not in capsys.readouterr().out
    text = (tmp_path / "across-report" / "across.md").read_text(encoding="utf-8")
    assert "<b>" not in text
    assert not re.search(r"(?<!\\)\[y", text)
    assert "\n=" not in (tmp_path / "across-report" / "across.csv").read_text(encoding="utf-8")


def test_a_change_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    record = timed(0.5, 2.0)
    assert record.latency is not None
    least, most = (
        dataclasses.replace(record, latency=dataclasses.replace(record.latency, speedup=each, low=each, high=each))
        for each in (5e-324, 1e100)
    )
    assert across.main([*map(str, files(tmp_path, [least], [most]))]) == 0
    with (tmp_path / "across-report" / "across.csv").open(encoding="utf-8", newline="") as text:
        _, row = csv.DictReader(text)
    assert (row["times faster"], row["change"], row["change high"]) == ("1e+100", "", "")


def _error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert across.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_errors_are_one_line_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = map(str, files(tmp_path, [timed(0.5, 2.0)], [timed(0.6, 2.0)]))
    assert "no cell was measured in all runs" in _error(capsys, a, b)
    assert "is given twice" in _error(capsys, a, a)
    assert "no such file" in _error(capsys, a, str(tmp_path / "nowhere.json"))
    assert not (tmp_path / "across-report").exists()
    with pytest.raises(SystemExit) as caught:
        across.main([a])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert "at least two" in err
    assert err.count("\n") == 1
