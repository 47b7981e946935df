"""The mutations: each of a file gets its answer, each of the source still fits, and what is not caught is told."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import mutations
from benchmarks.alternate import Arm, ProcessFailed
from benchmarks.mutated_files import MUTATIONS as FILES
from benchmarks.mutated_files import FileMutation
from benchmarks.mutated_sources import MUTATIONS as SOURCES
from benchmarks.mutated_sources import ROOT, SourceMutation, copied
from sparsity.errors import BadValue
from sparsity.record import Record
from sparsity.timing import Products
from tests.reports import builders


def base() -> dict[str, Any]:
    """A result file that has something for each mutation."""
    products = Products(dense={"aten::addmm float32": 3}, sparse={"aten::addmm float32": 12})
    timed = builders.latency("bert", 0.9, "csr", verdict="same", flops=1_000_000, products=products)
    held = builders.memory("bert", 0.9, "csr")
    assert held.memory is not None
    counts = builders.pruned("bert", "l1", "layer", 0.9).pruned
    records = {
        "test_latency.py::test_forward_latency": dataclasses.replace(timed, pruned=counts),
        "test_memory.py::test_forward_memory": dataclasses.replace(
            held, memory=dataclasses.replace(held.memory, disk_bytes=3_001_000)
        ),
        "test_perplexity.py::test_metric": builders.nll("bert", "l1", "layer", 0.9),
        "test_classification.py::test_metric": builders.accuracy("bert", "l1", "layer", 0.9),
    }
    entries: list[tuple[str, Record]] = [
        (f"benchmarks/{test}[{record.cell}]", record) for test, record in records.items()
    ]
    return builders.run_json(entries, fingerprint={**builders.FINGERPRINT, "head": "full"}, not_measured=[])


@pytest.mark.parametrize("mutation", FILES, ids=lambda mutation: mutation.name)
def test_a_mutated_file_gets_its_answer(tmp_path: Path, mutation: FileMutation) -> None:
    found = mutations.of_file(mutation, base(), tmp_path)
    assert found.caught, f"{found.answer.status} where {mutation.expected} was expected:\n{found.answer.output}"


def test_the_base_of_the_mutations_stays_as_it_is() -> None:
    data = base()
    for mutation in FILES:
        mutation.files(data)
    assert data == base()


@pytest.mark.parametrize("mutation", SOURCES, ids=lambda mutation: mutation.name)
def test_a_source_mutation_fits(mutation: SourceMutation) -> None:
    planted = mutation.planted(ROOT)
    ast.parse(planted)
    assert planted != (ROOT / mutation.file).read_text(encoding="utf-8")


def test_one_that_does_not_fit_is_refused() -> None:
    mutation = dataclasses.replace(SOURCES[0], old="nothing of the kind")
    with pytest.raises(BadValue, match=r"no longer fits: sparsity/formats/dense.py holds its text 0 times"):
        mutation.planted(ROOT)
    with pytest.raises(BadValue, match=r"holds its text [0-9]+ times, not once"):
        dataclasses.replace(SOURCES[0], old="model").planted(ROOT)


def test_names_tell_mutations_apart() -> None:
    names = [each.name for each in (*FILES, *SOURCES)]
    assert len(set(names)) == len(names)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a checkout")
def test_a_copy_has_what_git_knows_and_no_more(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    assert (copy / "pytest.ini").read_text() == (ROOT / "pytest.ini").read_text()
    assert (copy / "benchmarks" / "axes.py").exists()
    assert not list(copy.rglob("__pycache__"))
    assert not (copy / ".git").exists()


def test_what_is_not_caught_is_told_and_ends_it_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    harmless = FileMutation("a comment changed", 1, "", lambda data: data.update(comment="|"))
    monkeypatch.setattr(mutations, "FILES", (FILES[0], harmless))
    run, page = builders.write(tmp_path / "run.json", base()), tmp_path / "page.md"
    assert mutations.main(["--kind", "file", "--base", str(run), "--out", str(page)]) == 1
    said = capsys.readouterr().out
    assert said.endswith("1 of 2 mutations got the answer that they must get.\n")
    (line,) = [line for line in page.read_text().splitlines() if "a comment changed" in line]
    assert [cell.strip() for cell in line.split("|")][1:6] == ["a comment changed", "file", "1", "0", "NOT CAUGHT"]


def test_the_right_status_for_another_reason_is_not_caught(tmp_path: Path) -> None:
    larger = next(each for each in FILES if each.word == "weights_bytes" and each.expected == 1)
    assert not mutations.of_file(dataclasses.replace(larger, word="peak_bytes"), base(), tmp_path).caught


def test_a_crash_of_the_comparison_is_no_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def crashed(arguments: list[str]) -> int:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("reports.compare.main", crashed)
    found = mutations.of_file(FILES[2], base(), tmp_path)
    assert not found.caught
    assert found.answer.finding == "ZeroDivisionError: oh"


class Processes:
    """Stands for the processes of source mutations: what each leaves, and with which status."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, head: dict[str, Any] | None, status: int = 0) -> None:
        self.head, self.status, self.ran = head, status, list[tuple[str, int]]()
        monkeypatch.setattr(mutations, "measured", self.measured)

    def measured(self, arm: Arm, seed: int, file: Path, arguments: tuple[str, ...]) -> Path:
        self.ran.append((arm.name, seed))
        planted = "masked.FORMAT.convert" in (arm.checkout / "sparsity" / "formats" / "dense.py").read_text()
        assert planted == (arm.name == "head")
        data = base() if arm.name == "base" else self.head
        if data is not None:
            file.write_text(json.dumps(data))
        if arm.name == "head" and self.status:
            raise ProcessFailed("1 failed", self.status)
        return file


@pytest.fixture
def unchanged(tmp_path: Path) -> Path:
    """The one file that the first source mutation changes."""
    file = tmp_path / "base" / SOURCES[0].file
    file.parent.mkdir(parents=True)
    file.write_text((ROOT / SOURCES[0].file).read_text())
    return tmp_path / "base"


def test_a_source_mutation_is_caught_by_the_comparison(
    tmp_path: Path, unchanged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = base()
    larger["benchmarks"][1]["extra_info"]["sparsity"]["memory"]["weights_bytes"] += 1
    processes = Processes(monkeypatch, larger)
    found = mutations.of_source(SOURCES[0], unchanged, tmp_path)
    assert (found.answer.status, found.caught_by, found.caught) == (1, "compare", True)
    assert processes.ran == [("base", 1), ("head", 1)]


def test_or_by_the_suite_itself(tmp_path: Path, unchanged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = base()
    failing["benchmarks"][1]["extra_info"]["sparsity"].update(outcome="failed", reason="got 4 bytes, should be 3")
    Processes(monkeypatch, failing, status=1)
    found = mutations.of_source(SOURCES[0], unchanged, tmp_path)
    assert (found.answer.status, found.caught_by, found.caught) == (1, "the suite's own claim", True)
    assert "got 4 bytes, should be 3" in found.answer.finding


def test_or_by_no_one(tmp_path: Path, unchanged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Processes(monkeypatch, base())
    assert not mutations.of_source(SOURCES[0], unchanged, tmp_path).caught


def test_times_are_of_several_pairs_of_processes(
    tmp_path: Path, unchanged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = Processes(monkeypatch, base())
    timed = dataclasses.replace(SOURCES[0], timed=True)
    assert "1 of them timed" in mutations.of_source(timed, unchanged, tmp_path).answer.output
    assert processes.ran == [("base", 1), ("head", 1), ("head", 2), ("base", 2), ("base", 3), ("head", 3)]


def test_a_head_that_leaves_no_file_is_caught_as_incomplete(
    tmp_path: Path, unchanged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Processes(monkeypatch, None, status=1)
    refused = dataclasses.replace(SOURCES[0], expected=2)
    assert mutations.of_source(refused, unchanged, tmp_path).caught


def test_an_unchanged_copy_that_fails_ends_it(tmp_path: Path, unchanged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(arm: Arm, *_: object) -> Path:
        raise ProcessFailed(f"{arm.name} ended with exit status 1", 1)

    monkeypatch.setattr(mutations, "measured", failing)
    with pytest.raises(ProcessFailed, match="base ended"):
        mutations.of_source(SOURCES[0], unchanged, tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--only", "a bias droped"], "unknown mutation 'a bias droped'; did you mean 'a bias dropped'?"),
        (["--kind", "file", "--base", "nowhere.json"], "nowhere.json: cannot be read"),
        (["--kind", "both"], "invalid choice: 'both'"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(capsys: pytest.CaptureFixture[str], given: list[str], said: str) -> None:
    try:
        status = mutations.main(given)
    except SystemExit as ended:
        status = int(str(ended.code))
    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
