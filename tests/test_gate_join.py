"""Which cells of two files belong together, and what is said of those that do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sparsity.gate import FINE, INCOMPLETE, REGRESSION, Finding
from sparsity.gate_join import Joined, join
from sparsity.gate_machines import SETTINGS
from sparsity.record import Cell, Harness, Model, NotMeasured, Record, RunPart
from sparsity.result_file import Measured, ResultFile
from tests.reports import builders

MODEL = Model("BertForMaskedLM", "embedded", True)
FINGERPRINT: dict[str, Any] = {
    "torch": "2.9.0", "threads": 2, "dtype": "float32", "calibration documents": 128, "multiple": 1, "head": "full",
    "compile": False, "learning rate": "by model", "training batch": 32, "accumulate": 1,
    "window": "1024/512",
    "data": "mine.csv",
    "data digest": "a",
    "data documents": 40,
    "training data": "mine.csv",
    "training digest": "b",
    "training documents": 40,
}  # fmt: skip
TIME, SIZE = Measured("t.py::time[a]", builders.latency()), Measured("t.py::size[a]", builders.memory())
QUALITY = Measured("t.py::quality[a]", builders.accuracy("bert", "l1", "layer", 0.5))
DENSE = Measured("t.py::quality[0]", builders.accuracy("bert", "none", None, 0.0))
TRAINED = Measured("t.py::trained[a]", builders.recovered())
ALL = (TIME, SIZE, QUALITY, DENSE, TRAINED)


def file(
    *entries: Measured, not_measured: Sequence[NotMeasured] = (), model: Model = MODEL, not_run: int = 0, **more: Any
) -> ResultFile:
    fingerprint = {name.replace("_", " "): value for name, value in more.items()}
    part = RunPart("default", FINGERPRINT | fingerprint, {"bert": model}, list(not_measured), not_run=not_run or None)
    return ResultFile(Path("run.json"), entries, part)


def only(joined: Joined) -> Finding:
    (finding,) = joined.findings
    return finding


def failed(entry: Measured, reason: str = "got 3 zeros", outcome: str = "failed") -> Measured:
    record = Record(entry.record.cell, outcome=outcome, reason=reason)
    return Measured(entry.fullname, record)


def not_measured(entry: Measured, outcome: str = "skipped", test: str | None = None) -> NotMeasured:
    """As the plugin lists a test that never began: without a dtype."""
    cell = dataclasses.replace(entry.record.cell, dtype=None)
    return NotMeasured(cell, test or entry.fullname, outcome, "packed needs llvmlite")


TASK = Measured(
    "t.py::task[a]", Record(Cell("bert", "l1", task="harness:topic"), harness=Harness("acc", 0.7, 200, "1.0", 0, True))
)


def test_a_task_of_lm_eval_of_another_version_is_not_compared_and_all_else_is() -> None:
    here: dict[str, Any] = {"lm-eval": "0.4.13", "harness:topic": "1.0 a", "harness:other": "1.0"}
    base = file(TIME, TASK, **here)
    same = join(base, file(TIME, TASK, **here | {"harness:more": "1.0"}))
    assert (same.findings, same.elsewhere, len(same.pairs)) == ([], [], 2)
    changed = join(base, file(TIME, TASK, **here | {"harness:topic": "2.0 a"}))
    assert only(changed).said.startswith("harness:topic is '2.0 a' where it was '1.0 a'; 1 measurement hangs on it")
    assert len(changed.pairs) == 1
    newer = join(base, file(TIME, TASK, **here | {"lm-eval": "0.5"}))
    assert only(newer).said.startswith("lm-eval '0.5' where '0.4.13' was; 1 measurement hangs")
    assert (newer.elsewhere, len(newer.pairs)) == ([], 1)


def test_the_same_files_join_without_a_finding() -> None:
    here = file(*ALL, failed(TIME), not_measured=[not_measured(SIZE, "error", "t.py::claim")])
    joined = join(here, here)
    assert joined.findings == []
    assert joined.elsewhere == []
    assert [match.before.fullname for (match, *_), _ in joined.pairs.values()] == [entry.fullname for entry in ALL]
    assert all(match.before is match.after for (match, *_), _ in joined.pairs.values())


def test_cells_of_two_kinds_of_measurement_are_joined_once_each_whatever_the_order() -> None:
    joined = join(file(TIME, SIZE, TRAINED), file(TRAINED, SIZE, TIME))
    kinds = [sorted(key.kind for key in keys) for _, keys in joined.pairs.values()]
    assert kinds == [["latency"], ["memory"], ["quality", "recovered"]]


# -- missing, new, renamed -------------------------------------------------------------------------------


def test_a_test_of_another_name_is_the_same_cell_and_said_to_be_renamed() -> None:
    joined = join(file(TIME), file(Measured("t.py::other[b]", TIME.record)))
    assert (only(joined).status, only(joined).kind) == (INCOMPLETE, "renamed")
    assert only(joined).said == "t.py::other[b] where t.py::time[a] was"
    assert len(joined.pairs) == 1


def test_another_cell_under_the_same_name_is_another_cell() -> None:
    joined = join(file(TIME), file(Measured(TIME.fullname, builders.latency(sparsity=0.5))))
    assert [finding.kind for finding in joined.findings] == ["missing", "new"]
    assert {finding.status for finding in joined.findings} == {INCOMPLETE}
    assert not joined.pairs


def test_a_missing_cell_is_told_with_the_nearest_new_one() -> None:
    far = Measured("t.py::c", builders.latency(sparsity=0.5, fmt="dense", model="gpt2"))
    near, other = Measured("t.py::b", builders.latency(sparsity=0.95)), Measured("t.py::d", builders.memory("gpt2"))
    missing = join(file(TIME), file(far, near, other)).findings[0]
    assert (missing.status, missing.kind, missing.cell) == (INCOMPLETE, "missing", str(TIME.record.cell))
    assert missing.said == f"latency not measured; the nearest that is new, by another sparsity: {near.record.cell}"


@pytest.mark.parametrize(("not_run", "why"), [(0, "nothing says why"), (7, "the run was stopped before 7 tests")])
def test_a_missing_cell_without_a_reason(not_run: int, why: str) -> None:
    assert only(join(file(TIME, SIZE), file(SIZE, not_run=not_run))).said == f"latency not measured; {why}"


def test_a_test_that_is_missing_is_told_once_with_all_that_it_measured() -> None:
    assert only(join(file(TIME, TRAINED), file(TIME))).said.startswith("accuracy, recovered not measured; ")


def test_a_cell_that_was_skipped_says_why() -> None:
    missing = only(join(file(TIME, SIZE), file(SIZE, not_measured=[not_measured(TIME)])))
    assert (missing.status, missing.kind) == (INCOMPLETE, "missing")
    assert missing.said == "latency not measured; skipped: packed needs llvmlite"


def test_what_happened_to_another_measurement_of_the_cell_is_no_reason() -> None:
    """Time and memory share their axes, so the reason of one must not be told of the other."""
    head = file(TIME, not_measured=[not_measured(TIME, "error", "t.py::time[a]")])
    missing = next(each for each in join(file(TIME, SIZE), head).findings if each.kind == "missing")
    assert missing.said == "memory not measured; nothing says why"


@pytest.mark.parametrize("outcome", ["failed", "error"])
def test_a_cell_that_fails_is_a_regression_with_its_reason(outcome: str) -> None:
    for head in (
        file(SIZE, failed(TIME, outcome=outcome)),
        file(SIZE, not_measured=[not_measured(TIME, outcome)]),
        file(SIZE, not_measured=[not_measured(TIME, outcome, "t.py::renamed")]),
    ):
        found = only(join(file(TIME, SIZE), head))
        assert (found.status, found.kind, found.cell) == (REGRESSION, "regression", str(TIME.record.cell))
        assert found.said in (f"{outcome}: got 3 zeros", f"{outcome}: packed needs llvmlite")


def test_a_cell_that_measured_and_then_failed_is_a_regression_too() -> None:
    found = only(join(file(TIME), file(TIME, not_measured=[not_measured(TIME, "error")])))
    assert (found.status, found.said) == (REGRESSION, "error: packed needs llvmlite")


def test_a_test_that_failed_is_told_though_another_of_its_cell_is_missing() -> None:
    """Time and memory share their axes, so the one that is missing must not hide that the other failed."""
    for head in (file(TIME, not_measured=[not_measured(TIME, "error"), not_measured(SIZE)]), file(failed(TIME))):
        findings = join(file(TIME, SIZE), head, ["missing"]).findings
        assert sorted(found.status for found in findings) == [FINE, REGRESSION]


def test_what_was_passed_over_as_it_was_not_before_is_told() -> None:
    before = file(TIME, SIZE)
    head = dataclasses.replace(before, repeated=("t.py::other",))
    found = only(join(before, head))
    assert (found.status, found.kind) == (INCOMPLETE, "not comparable")
    assert found.said.startswith("t.py::other measured a cell that stood in the file before")
    assert join(head, head).findings == []


def test_a_claim_that_failed_of_which_the_baseline_has_nothing_is_told() -> None:
    claim = NotMeasured(Cell("bert", task="lm"), "t.py::claim", "failed", "it rises")
    found = only(join(file(TIME), file(TIME, not_measured=[claim])))
    assert (found.status, found.kind, found.cell) == (INCOMPLETE, "new", "bert · lm")
    assert found.said == "failed: it rises; the baseline has nothing of t.py::claim"
    both = file(TIME, not_measured=[claim])
    assert join(both, both).findings == []


def test_a_cell_that_failed_before_is_mended() -> None:
    for base in (file(SIZE, failed(TIME)), file(SIZE, not_measured=[not_measured(TIME, "error")])):
        found = only(join(base, file(SIZE, TIME)))
        assert (found.status, found.kind) == (FINE, "mended")
    still = join(file(SIZE, failed(TIME)), file(SIZE, failed(TIME, "got 4 zeros")))
    assert still.findings == []


def test_a_cell_that_lost_its_only_section_is_missing_and_not_new() -> None:
    record = dataclasses.replace(TIME.record, pruned=builders.pruned("bert", "l1", "layer", 0.9).pruned)
    base, head = Measured("a", record), Measured("a", dataclasses.replace(record, latency=None))
    assert only(join(file(base), file(head))).kind == "missing"


@pytest.mark.parametrize("kind", ["missing", "new", "renamed"])
def test_what_is_allowed_is_told_and_no_more(kind: str) -> None:
    base = file(TIME, SIZE)
    head = file(Measured("t.py::other[a]", TIME.record), QUALITY)
    found = join(base, head, {kind}).findings
    assert {finding.kind: finding.status for finding in found} == {
        each: FINE if each == kind else INCOMPLETE for each in ("missing", "new", "renamed")
    }


# -- settings and models ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("dtype", ()),
        ("head", (QUALITY, DENSE, TRAINED)),
        ("compile", (QUALITY, DENSE, TRAINED)),
        ("calibration documents", (DENSE,)),
        ("multiple", (DENSE,)),
        ("learning rate", (TIME, SIZE, QUALITY, DENSE)),
        ("training batch", (TIME, SIZE, QUALITY, DENSE)),
        ("accumulate", (TIME, SIZE, QUALITY, DENSE)),
        *((name, (TIME, SIZE)) for name in ("window", "data", "data digest", "data documents")),
        *((name, (DENSE,)) for name in ("training data", "training digest", "training documents")),
    ],
)
def test_of_another_setting_nothing_that_hangs_on_it_is_compared(name: str, left: tuple[Measured, ...]) -> None:
    other: dict[str, Any] = {name.replace(" ", "_"): "other"}
    joined = join(file(*ALL), file(*ALL, **other))
    found = only(joined)
    assert (found.status, found.kind, found.cell) == (INCOMPLETE, "not comparable", "")
    assert found.said.startswith(f"{name} 'other' where {FINGERPRINT[name]!r} was; ")
    assert [match.before for (match, *_), _ in joined.pairs.values()] == list(left)
    assert joined.elsewhere == []


def test_every_setting_is_tested() -> None:
    assert FINGERPRINT.keys() - SETTINGS.keys() == {"torch", "threads"}


def test_of_another_setting_nothing_is_missing_or_new_either() -> None:
    other = Measured("t.py::b", builders.latency(sparsity=0.5))
    assert only(join(file(TIME), file(other, head="none"))).kind == "not comparable"
    assert only(join(file(TIME), file(failed(TIME), head="none"))).kind == "not comparable"


def test_a_setting_on_which_nothing_hangs_does_not_matter() -> None:
    assert join(file(QUALITY), file(QUALITY, compile=True, accumulate=4)).findings == []


def test_a_setting_that_one_file_lacks_is_another() -> None:
    older = file(*ALL)
    del older.run.fingerprint["compile"]
    assert only(join(older, file(*ALL))).said.startswith("compile False where none was; 2 measurements hang on it")


def test_another_model_behind_a_name_is_not_compared() -> None:
    gpt2 = Measured("t.py::g", builders.latency("gpt2"))
    for model in (dataclasses.replace(MODEL, class_name="Bert"), dataclasses.replace(MODEL, source="random")):
        joined = join(file(TIME, gpt2), file(TIME, gpt2, model=model))
        assert only(joined).status == INCOMPLETE
        assert only(joined).said.startswith("model bert is of class ")
        assert [match.before for (match, *_), _ in joined.pairs.values()] == [gpt2]


def test_a_classifier_that_one_run_has_not_met_is_no_difference() -> None:
    first, second = (dataclasses.replace(MODEL, classifier=name) for name in ("A", "B"))
    assert join(file(TIME), file(TIME, model=first)).findings == []
    assert only(join(file(TIME, model=second), file(TIME, model=first))).kind == "not comparable"


def test_weights_whose_digest_one_run_does_not_know_are_no_difference_and_others_are() -> None:
    first, second = (dataclasses.replace(MODEL, digest=digit * 64) for digit in "ab")
    assert join(file(TIME), file(TIME, model=first)).findings == []
    assert join(file(TIME, model=first), file(TIME, model=first)).findings == []
    other = only(join(file(TIME, model=second), file(TIME, model=first)))
    assert other.kind == "not comparable"
    assert "embedded / weights aaaaaaaaaaaa where " in other.said


def test_machine_and_software_are_no_settings_and_are_named() -> None:
    joined = join(file(TIME, gpu="H100"), file(TIME, torch="2.8.0", threads=4))
    assert joined.findings == []
    assert joined.elsewhere == ["gpu none where 'H100' was", "threads 4 where 2 was", "torch '2.8.0' where '2.9.0' was"]
    assert len(joined.pairs) == 1
