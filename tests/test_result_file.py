"""What one result file says, and what is refused as none."""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sparsity import result_file
from sparsity.errors import ResultNotReadable
from sparsity.record import KEY
from sparsity.result_file import Key, Measured, ResultFile, load
from tests.reports import builders

ROOT = Path(__file__).parent.parent


def _load(tmp_path: Path, data: Any) -> ResultFile:
    return load(builders.write(tmp_path / "run.json", data))


def test_everything_of_the_file_is_kept(tmp_path: Path) -> None:
    file = _load(tmp_path, builders.run_json(not_run=3))
    assert [(each.fullname, each.record) for each in file.entries] == builders.all_records()
    assert (file.path, file.commit) == (tmp_path / "run.json", "0123abc")
    assert (file.machine, file.datetime) == ("AMD EPYC, x86_64, Linux", "2025-01-02T03:04:05+00:00")
    assert (file.run.profile, file.run.fingerprint, file.run.not_run) == ("default", builders.FINGERPRINT, 3)
    assert file.run.not_measured[0].cell.format == "semi_structured"


def test_changes_that_were_not_committed_are_told(tmp_path: Path) -> None:
    data = builders.run_json([("a", builders.latency())])
    data["commit_info"]["dirty"] = True
    assert _load(tmp_path, data).commit == "0123abc with uncommitted changes"


def test_a_cell_twice_in_a_file_is_kept_once_and_named(tmp_path: Path) -> None:
    again = builders.latency(pruned_seconds=9.0)
    file = _load(tmp_path, builders.run_json([("a", builders.latency()), ("b", again)]))
    assert file.entries == (Measured("a", builders.latency()),)
    assert file.repeated == ("b",)


def test_benchmarks_of_others_are_passed_over(tmp_path: Path) -> None:
    data = builders.run_json([("a", builders.latency())])
    data["benchmarks"].append({"fullname": "theirs", "extra_info": {}})
    assert len(_load(tmp_path, data).entries) == 1


def test_a_record_is_known_by_its_cell_once_for_each_kind_of_measurement() -> None:
    time, count = builders.latency(), builders.pruned("bert", "l1", "layer", 0.9)
    assert Measured("a", time).keys == {Key("latency", None, time.cell)}
    assert Measured("a", dataclasses.replace(time, pruned=count.pruned)).keys == {Key("latency", None, time.cell)}
    assert Measured("a", count).keys == {Key("pruned", None, count.cell)}
    trained = builders.recovered()
    kinds = {("quality", "accuracy"), ("recovered", None)}
    assert {(key.kind, key.metric) for key in Measured("a", trained).keys} == kinds
    assert Measured("a", dataclasses.replace(time, outcome="failed")).keys == frozenset()


@pytest.mark.parametrize("key", ["profile", "fingerprint", "models", "not_measured"])
def test_a_run_part_that_lacks_a_key_is_refused_by_its_name(tmp_path: Path, key: str) -> None:
    with pytest.raises(ResultNotReadable, match=f"sparsity: '{key}' is missing"):
        _load(tmp_path, builders.run_json(**{key: None}))


def test_a_file_without_a_run_part_is_refused(tmp_path: Path) -> None:
    data = builders.run_json()
    del data[KEY]
    with pytest.raises(ResultNotReadable, match="no 'sparsity' part"):
        _load(tmp_path, data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a JSON file"),
        ("[1, 2]", "pytest-benchmark did not write this file"),
        ("{}", "pytest-benchmark did not write this file"),
        ('{"benchmarks": [NaN], "machine_info": {}}', "NaN is not a number that JSON knows"),
        ('{"benchmarks": [-Infinity], "machine_info": {}}', "-Infinity is not a number"),
        ('{"benchmarks": [1e999], "machine_info": {}}', "1e999 is too large"),
        ('{"benchmarks": [' + "9" * 400 + '], "machine_info": {}}', "is too large"),
        ('{"benchmarks": [7], "machine_info": {}}', r"no 'sparsity' part"),
        ('{"benchmarks": [7], "machine_info": {}, "sparsity": {}}', r"sparsity: 'schema' is missing"),
        ('{"benchmarks": [], "machine_info": {}}', "no sparsity records"),
        ('{"benchmarks": [], "machine_info": {}, "benchmarks": [1]}', "the key 'benchmarks' stands twice"),
        ("[" * 100_000, "nested too deeply|not a JSON file"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ResultNotReadable, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ResultNotReadable, match="not a JSON file"):
        load(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultNotReadable, match=r"nowhere\.json: no such file"):
        load(tmp_path / "nowhere.json")
    with pytest.raises(ResultNotReadable, match="cannot be read"):
        load(tmp_path)


def test_other_schemas_are_refused(tmp_path: Path) -> None:
    data = builders.run_json([("t", builders.latency())])
    newer = copy.deepcopy(data)
    newer[KEY]["schema"] = 2
    with pytest.raises(ResultNotReadable, match="schema 2, but this version reads schema 1"):
        _load(tmp_path, newer)
    newer = copy.deepcopy(data)
    newer["benchmarks"][0]["extra_info"][KEY]["schema"] = 2
    with pytest.raises(
        ResultNotReadable,
        match=r"benchmarks\[0\]\.extra_info\.sparsity\.schema \(t\): schema 2, but this version reads schema 1",
    ):
        _load(tmp_path, newer)


def _with_weights(**changes: Any) -> dict[str, Any]:
    data = json.loads(json.dumps(builders.run_json([("w", builders.weights(layers=1, bins=5))])))
    weights = data["benchmarks"][0]["extra_info"][KEY]["weights"]
    weights["layers"][0].update({k: v for k, v in changes.items() if k == "counts"})
    weights.update({k: v for k, v in changes.items() if k == "edges"})
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": [1, 2]}, "2 counts for 5 bins"),
        ({"counts": [1, 1, 1, 1, -1]}, r"counts\[4\] \(w\): -1 is less than 0"),
        ({"edges": [0.0, 1.0, 1.0, 2.0, 3.0, 4.0]}, "do not ascend"),
    ],
)
def test_bins_must_fit_their_counts(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert _load(tmp_path, _with_weights()).entries
    with pytest.raises(ResultNotReadable, match=message):
        _load(tmp_path, _with_weights(**changes))


def test_an_entry_that_is_no_object_is_refused_by_its_number(tmp_path: Path) -> None:
    data = builders.run_json([("t", builders.latency())])
    data["benchmarks"].append(7)
    with pytest.raises(ResultNotReadable, match=r"run\.json: benchmarks\[1\]: expected object, got int; measure again"):
        _load(tmp_path, data)


def test_a_file_that_is_too_large_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = builders.write(tmp_path / "run.json", builders.run_json([("t", builders.latency())]))
    monkeypatch.setattr(result_file, "LARGEST", 2**20)
    assert load(path).entries
    path.write_bytes(b" " * (2**20 + 1))
    with pytest.raises(
        ResultNotReadable, match=r"run\.json: larger than 1 MiB, which no result file is; give another$"
    ):
        load(path)
    with pytest.raises(ResultNotReadable, match="/dev/zero: larger than 1 MiB"):
        load(Path("/dev/zero"))


@pytest.mark.parametrize("place", ["profile", "fullname", "cell", "key"])
def test_no_error_steers_a_terminal(tmp_path: Path, place: str) -> None:
    data = builders.run_json([("t", builders.latency())])
    ours, evil = data["benchmarks"][0]["extra_info"][KEY], "\x1b[2J\n\u202eerror: \ud800"
    ours["latency"]["verdict"] = evil
    if place == "profile":
        data[KEY]["profile"] = {evil: 1}
    elif place == "fullname":
        data["benchmarks"][0]["fullname"] = evil
    elif place == "key":
        data[KEY]["fingerprint"] = {evil: []}
    else:
        ours["cell"][evil] = evil
    with pytest.raises(ResultNotReadable) as caught:
        _load(tmp_path, data)
    assert str(caught.value).isprintable()
    if place != "profile":
        assert r"\x1b[2J" in str(caught.value), "and yet it is said"


def test_a_path_in_a_file_is_never_opened_nor_written_to(tmp_path: Path) -> None:
    bait = tmp_path / "bait"
    bait.write_text("secret", encoding="utf-8")
    evil = str(tmp_path / "run-report" / ".." / "bait")
    data = builders.hostile_json(evil)
    del data["benchmarks"][:-1]  # the last is drawn in files that are named by the model
    path = builders.write(tmp_path / "run.json", data)
    watch = f"""
import sys, pathlib
opened = []
sys.addaudithook(lambda event, given: opened.append(pathlib.Path(str(given[0])).name) if event == "open" else None)
from reports.__main__ import main
assert main([{str(path)!r}]) == 0
print("run.json" in opened, "bait" in opened)
"""
    done = subprocess.run([sys.executable, "-c", watch], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["True False"], done.stderr
    assert {each.name for each in tmp_path.iterdir()} == {"bait", "run.json", "run-report"}
    assert bait.read_text(encoding="utf-8") == "secret"


def test_a_run_part_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultNotReadable, match=r"sparsity\.profile: expected str, got int"):
        _load(tmp_path, builders.run_json([("t", builders.latency())], profile=3))
