"""The command that compares two runs: its lines, its exit status, its table."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reports.__main__ import main
from reports.compare import LARGEST_MARKDOWN, markdown
from sparsity.comparison import Comparison
from sparsity.gate import INCOMPLETE, REGRESSION, Finding
from sparsity.record import Record
from tests.reports import builders

ROOT = Path(__file__).parents[2]
CELL = "bert · l1 · unstructured · layer · 0.9 · masked · 8x64 · float32"


def sized(weights: int = 6_000_000) -> Record:
    record = builders.memory()
    assert record.memory is not None
    return dataclasses.replace(record, memory=dataclasses.replace(record.memory, weights_bytes=weights))


def timed(slower: float = 0.0, reach: float = 0.01) -> Record:
    low, speedup, high = (math.exp(-slower + side * reach) for side in (-1, 0, 1))
    return builders.latency(speedup=speedup, low=low, high=high)


class Folder:
    """Result files, and the command on them."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path, self.capsys = path, capsys

    def file(self, name: str, *records: Record, **more: Any) -> str:
        entries = [(f"t.py::{place}", record) for place, record in enumerate(records)]
        return str(builders.write(self.path / name, builders.run_json(entries, **more)))

    def compare(self, *arguments: str) -> tuple[int, list[str]]:
        status = main(["compare", "--margin=0.05", *arguments])
        out, err = self.capsys.readouterr()
        assert err == ""
        return status, out.splitlines()

    def error(self, *arguments: str) -> str:
        """The one line of a comparison that could not be."""
        try:
            status = main(["compare", *arguments])
        except SystemExit as ended:
            status = int(str(ended.code))
        err = self.capsys.readouterr().err
        assert status == 2
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Folder:
    return Folder(tmp_path, capsys)


def test_a_whole_run_beside_itself(folder: Folder) -> None:
    run = str(builders.write(folder.path / "run.json", builders.run_json()))
    line = "156 cells compared, 30 of them timed: 0 regressions, 0 incomplete, 0 too noisy, 0 improved"
    count = len(builders.all_records())
    assert folder.compare(run, run) == (0, [line.replace("156", str(count))])


def test_each_finding_is_a_line_and_the_last_counts_them(folder: Folder) -> None:
    base = folder.file("base.json", sized(), timed(), builders.memory("gpt2"))
    head = folder.file("head.json", sized(6_060_000), timed(reach=0.05))
    status, lines = folder.compare(base, head)
    assert status == 1
    assert lines[0] == f"regression: {CELL}: weights_bytes 6060000 where 6000000 were (+1.0 %)"
    assert lines[1].startswith("missing: gpt2 ")
    assert lines[2].startswith(f"noisy: {CELL}: time +0.0 % [")
    assert lines[3:] == ["2 cells compared, 1 of them timed: 1 regression, 1 incomplete, 1 too noisy, 0 improved"]


@pytest.mark.parametrize(
    ("head", "more", "status"),
    [
        ([sized(), timed()], {}, 0),
        ([sized(5_000_000), timed(-0.2)], {}, 0),
        ([sized(6_000_001), timed()], {}, 1),
        ([sized(), timed(0.2)], {}, 1),
        ([sized()], {}, 2),
        ([sized(), timed(), builders.memory("gpt2")], {}, 2),
        ([sized(), timed()], {"fingerprint": builders.FINGERPRINT | {"torch": "2.8.0"}}, 2),
        ([sized(), timed(reach=0.2)], {}, 3),
    ],
)
def test_the_exit_status_says_the_worst(folder: Folder, head: list[Record], more: dict[str, Any], status: int) -> None:
    base = folder.file("base.json", sized(), timed())
    assert folder.compare(base, folder.file("head.json", *head, **more))[0] == status


def test_the_switches(folder: Folder) -> None:
    base = folder.file("base.json", sized(), timed())
    slow, few = folder.file("slow.json", sized(), timed(0.2)), folder.file("few.json", sized())
    moved = folder.file("moved.json", timed(), sized())
    assert folder.compare(base, slow)[0] == 1
    assert folder.compare(base, slow, "--no-time")[0] == 0
    assert folder.compare(base, slow, "--margin=0.3")[0] == 0
    for pair, switch in (((base, few), "missing"), ((few, base), "new"), ((base, moved), "renamed")):
        assert folder.compare(*pair)[0] == 2
        status, lines = folder.compare(*pair, f"--allow-{switch}")
        assert status == 0
        assert lines[0].startswith(f"{switch}: ")
        others = {"missing", "new", "renamed"} - {switch}
        assert folder.compare(*pair, *(f"--allow-{other}" for other in others))[0] == 2


def test_several_pairs_of_runs_must_agree(folder: Folder) -> None:
    pairs = [
        (folder.file(f"base{i}.json", timed(reach=0.03)), folder.file(f"head{i}.json", timed(0.09, 0.03)))
        for i in range(3)
    ]
    assert folder.compare(*pairs[0])[0] == 3
    again = [word for pair in pairs[1:] for word in ("--again", *pair)]
    status, lines = folder.compare(*pairs[0], *again)
    assert status == 1
    assert lines[0].startswith(f"regression: {CELL}: time +9.4 % [")


def test_a_file_given_for_two_pairs_is_refused(folder: Folder) -> None:
    base, head, other = (folder.file(f"{name}.json", timed()) for name in ("base", "head", "other"))
    for again in ((base, other), (other, head), (head, other)):
        assert "is given for two pairs of runs" in folder.error(base, head, "--again", *again)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.json", "nowhere.json"], "nowhere.json: no such file"),
        (["RUN", "broken.json"], "not a JSON file"),
        (["RUN"], "HEAD.json"),
        (["RUN", "RUN", "--margin=much"], "margin 'much' is not a fraction from 0 to 10"),
        (["RUN", "RUN", "--margin=-1"], "margin '-1' is not a fraction"),
        (["RUN", "RUN", "--again", "RUN"], "expected 2 arguments"),
        (["RUN", "RUN", "--markdown=nowhere/at/all.md"], "cannot be written"),
    ],
)
def test_what_a_user_can_cause_is_one_line(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(folder.path)
    run = folder.file("run.json", timed())
    (folder.path / "broken.json").write_text("{", encoding="utf-8")
    assert said in folder.error(*(run if word == "RUN" else word for word in arguments))


@pytest.mark.parametrize("arguments", [["a\n\x1b[31m.json", "b.json"], ["a", "b", "--\x1b[31m\nnone"]])
def test_an_error_is_nothing_that_a_terminal_obeys(folder: Folder, arguments: list[str]) -> None:
    assert "\x1b" not in folder.error(*arguments)


def test_what_a_terminal_cannot_show_is_spelled_out(folder: Folder) -> None:
    base, head = folder.file("base.json", sized(), timed()), folder.file("head.json", timed())
    command = [sys.executable, "-m", "reports", "compare", base, head]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.startswith(r"missing: bert \xb7 l1 ")


def test_the_table_is_not_written_over_a_run(folder: Folder) -> None:
    run = folder.file("run.json", sized())
    before = Path(run).read_bytes()
    assert "would write over a run" in folder.error(
        run, run, "--markdown", f"{folder.path}/../{folder.path.name}/run.json"
    )
    assert Path(run).read_bytes() == before


def test_names_from_outside_are_one_line_and_no_markup(folder: Folder) -> None:
    odd = dataclasses.replace(sized(), cell=dataclasses.replace(sized().cell, model="a|b\n<img>\x1b[31m\ud800"))
    base = folder.file("base.json", sized(), odd)
    page = folder.path / "page.md"
    status, lines = folder.compare(base, folder.file("head.json", sized()), "--markdown", str(page))
    assert status == 2
    assert lines[0].startswith("missing: a|b <img> [31m · l1 · ")
    (row,) = (line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| missing"))
    assert row.startswith(r"| missing | a\|b &lt;img&gt; \[31m · l1 · ")
    assert len(re.findall(r"(?<!\\)\|", row)) == 4


def test_the_table_holds_the_same_as_the_lines(folder: Folder) -> None:
    base, head = folder.file("base.json", sized(), timed()), folder.file("head.json", sized(6_060_000), timed(0.3))
    page = folder.path / "page.md"
    _, lines = folder.compare(base, head, "--markdown", str(page))
    written = page.read_text(encoding="utf-8").splitlines()
    assert written[0].startswith("**regression** – ")
    assert written[2] == lines[-1]
    rows = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in written[6:]]
    assert [": ".join(row).replace("\\", "") for row in rows] == lines[:-1]


def test_without_a_finding_there_is_no_table(folder: Folder) -> None:
    base, page = folder.file("base.json", sized()), folder.path / "page.md"
    assert folder.compare(base, base, "--markdown", str(page))[0] == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("**no regression** – ")
    assert "|" not in text


@pytest.mark.parametrize("count", [10, 1000, 5000])
def test_a_table_is_no_longer_than_a_comment_may_be(count: int) -> None:
    findings = [Finding(REGRESSION, "regression", f"cell {i}", "x" * 50) for i in range(count)]
    text = markdown(Comparison(tuple(findings), count, 0), Path("base.json"), Path("head.json"))
    assert len(text) <= LARGEST_MARKDOWN
    rows = text.count("| regression |")
    assert f"cell {rows - 1} |" in text
    assert (rows == count) == (count < 500)
    assert (f"{count - rows} more rows are left out" in text) == (rows < count)


def test_a_row_that_is_too_long_by_itself_is_left_out() -> None:
    found = Comparison((Finding(INCOMPLETE, "missing", "cell", "x" * 70_000),), 0, 0)
    text = markdown(found, Path("base.json"), Path("head.json"))
    assert len(text) <= LARGEST_MARKDOWN
    assert "1 more row is left out" in text


def test_it_imports_no_torch_and_draws_nothing(folder: Folder) -> None:
    run = folder.file("run.json", timed())
    code = (
        "import sys\nfrom reports.__main__ import main\n"
        f"assert main(['compare', {run!r}, {run!r}]) == 0\n"
        "print(sorted({'torch', 'pytest', 'benchmarks', 'matplotlib', 'numpy', 'tabulate'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("path", sorted((ROOT / "reports" / "published").glob("*.json")), ids=lambda path: path.stem)
def test_published_files_are_no_worse_than_themselves(folder: Folder, path: Path) -> None:
    status, lines = folder.compare(str(path), str(path), "--no-time")
    assert (status, len(lines)) == (0, 1)
    status, lines = folder.compare(str(path), str(path))
    assert status in (0, 3)
    assert all(line.startswith("noisy: ") for line in lines[:-1])
