"""What `reports.read` accepts, keeps and refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from reports.read import read
from sparsity.errors import ResultNotReadable
from tests.reports import builders


def _read(tmp_path: Path, *files: Any) -> Any:
    return read([builders.write(tmp_path / f"{i}.json", data) for i, data in enumerate(files)])


def test_everything_of_the_file_is_kept(tmp_path: Path) -> None:
    run = _read(tmp_path, builders.run_json())
    expected = builders.all_records()
    assert [(each.fullname, each.record) for each in run.records] == expected
    assert run.profile == "default"
    assert run.commit == "0123abc"
    assert run.fingerprint == builders.FINGERPRINT
    assert run.models["gpt2"].class_name == "GPT2LMHeadModel"
    assert run.models["gpt2"].demonstration
    assert run.not_measured[0].reason == "semi_structured needs a CUDA device"


def test_what_the_machine_did_at_best_is_told_of_each_run(tmp_path: Path) -> None:
    roofs = [
        {"flops_per_second": {"float32": f}, "reads": [{"bytes": 2**20, "bytes_per_second": 2e9}]} for f in (1e9, 3e9)
    ]
    files = [builders.run_json([(name, record)], roofline=roof) for name, record, roof in zip(
        "ab", (builders.latency(), builders.memory()), roofs, strict=True)]  # fmt: skip
    assert _read(tmp_path, files[0]).roofline == "1 GFLOP/s in float32; reads 1 MiB at 2 GB/s"
    assert (
        _read(tmp_path, *files).roofline
        == "1 GFLOP/s in float32; reads 1 MiB at 2 GB/s; 3 GFLOP/s in float32; reads 1 MiB at 2 GB/s"
    )
    assert _read(tmp_path, builders.run_json()).roofline is None


def test_failed_records_are_readable_but_not_drawn(tmp_path: Path) -> None:
    failed = dataclasses.replace(builders.latency(), outcome="failed", reason="slower than the claim")
    run = _read(tmp_path, builders.run_json([("a", builders.memory()), ("b", failed)], not_measured=[]))
    assert run.records[1].record == failed
    assert run.drawn == [builders.memory()]
    (item,) = run.missing
    assert (item.test, item.outcome, item.reason) == ("b", "failed", "slower than the claim")


def test_a_failure_named_twice_is_listed_once(tmp_path: Path) -> None:
    failed = dataclasses.replace(builders.latency(), outcome="failed", reason="r")
    item = {"cell": {"model": "bert"}, "test": "b", "outcome": "failed", "reason": "r"}
    run = _read(tmp_path, builders.run_json([("b", failed)], not_measured=[item]))
    assert [each.test for each in run.missing] == ["b"]


def test_a_cell_twice_in_one_file_is_shown_once_and_named(tmp_path: Path) -> None:
    again = builders.latency(pruned_seconds=9.0)
    run = _read(tmp_path, builders.run_json([("a", builders.latency()), ("b", again)]))
    assert [each.fullname for each in run.records] == ["a"]
    assert run.repeated == ("b",)


def test_benchmarks_of_others_are_passed_over(tmp_path: Path) -> None:
    data = builders.run_json([("a", builders.latency())])
    data["benchmarks"].append({"fullname": "theirs", "extra_info": {}})
    assert len(_read(tmp_path, data).records) == 1


def test_files_with_different_measurements_join(tmp_path: Path) -> None:
    time, size = builders.run_json([("t", builders.latency())]), builders.run_json([("m", builders.memory())])
    run = _read(tmp_path, time, size)
    assert [each.fullname for each in run.records] == ["t", "m"]
    assert len(run.not_measured) == 1


def test_what_pruning_removed_may_stand_beside_two_kinds(tmp_path: Path) -> None:
    removed = builders.pruned("bert", "l1", "layer", 0.9).pruned
    time = dataclasses.replace(builders.latency(), pruned=removed)
    size = dataclasses.replace(builders.memory(), pruned=removed)
    assert len(_read(tmp_path, builders.run_json([("t", time)]), builders.run_json([("m", size)])).records) == 2


def test_the_same_cell_in_two_files_is_refused(tmp_path: Path) -> None:
    data = builders.run_json([("t", builders.latency())])
    with pytest.raises(ResultNotReadable, match=r"0\.json and .*1\.json both hold bert · l1 .*masked"):
        _read(tmp_path, data, data)


@pytest.mark.parametrize(("key", "value"), [("torch", "2.8.0"), ("new", 1), ("avx512", False)])
def test_other_machines_are_refused_by_the_key(tmp_path: Path, key: str, value: object) -> None:
    here = builders.run_json([("t", builders.latency())])
    there = builders.run_json([("m", builders.memory())], fingerprint=builders.FINGERPRINT | {key: value})
    with pytest.raises(ResultNotReadable, match=f"differ in fingerprint '{key}': .*{value!r}"):
        _read(tmp_path, here, there)


def test_another_model_under_the_same_name_is_refused(tmp_path: Path) -> None:
    there = builders.run_json(
        [("m", builders.memory())],
        models={"bert": {"class_name": "BertForMaskedLM", "source": "random", "demonstration": False}},
    )
    with pytest.raises(ResultNotReadable, match="differ in model 'bert'"):
        _read(tmp_path, builders.run_json([("t", builders.latency())]), there)


def test_a_model_is_the_same_where_one_run_did_not_meet_its_classifier(tmp_path: Path) -> None:
    plain = {"class_name": "BertForMaskedLM", "source": "embedded", "demonstration": True}
    timed = builders.run_json([("t", builders.latency())], models={"bert": plain})
    for classes in (["A"], ["A", "B"]):
        others = [
            builders.run_json([("m", builders.memory())], models={"bert": plain | {"classifier": name}})
            for name in classes
        ]
        if len(classes) == 1:
            run = _read(tmp_path, timed, *others)
            assert run.models["bert"].classifier == "A"
        else:
            with pytest.raises(ResultNotReadable, match="differ in model 'bert'"):
                _read(tmp_path, *others)


def test_notes_of_several_runs_are_told_once_and_resumptions_are_added(tmp_path: Path) -> None:
    time = builders.run_json([("t", builders.latency())], notes=["a", "b"], resumed=1)
    size = builders.run_json([("m", builders.memory())], notes=["b", "c"], resumed=2)
    run = _read(tmp_path, time, size)
    assert (run.notes, run.resumed) == (("a", "b", "c"), 3)
    run = _read(tmp_path, builders.run_json())
    assert (run.notes, run.resumed) == ((), 0)


def test_a_model_is_the_same_where_one_run_does_not_know_its_weights(tmp_path: Path) -> None:
    plain = {"class_name": "BertForMaskedLM", "source": "checkpoint", "demonstration": False}
    timed = builders.run_json([("t", builders.latency())], models={"bert": plain})
    known, other = (
        builders.run_json([("m", builders.memory())], models={"bert": plain | {"digest": digit * 64}}) for digit in "ab"
    )
    assert _read(tmp_path, timed, known).models["bert"].digest == "a" * 64
    with pytest.raises(ResultNotReadable, match="differ in model 'bert'"):
        _read(tmp_path, known, other)
