"""Base and head by turns: the order, what each process gets, what is said when one fails; interpreters are fakes."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import alternate

FAKE = """#!{python}
import json, os, pathlib, sys
folder = pathlib.Path(os.environ["FAKE_CALLS"])
call = {{"arm": {arm!r}, "cwd": os.getcwd(), "seed": os.environ["PYTHONHASHSEED"], "arguments": sys.argv[1:]}}
with (folder / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(call) + "\\n")
file = next(each for each in sys.argv if each.startswith("--benchmark-json=")).partition("=")[2]
print("collected 3 items")
print({says!r})
if {writes}:
    pathlib.Path(file).write_text("{{}}")
sys.exit({status})
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two checkouts with an interpreter each, which succeed."""
    monkeypatch.setenv("FAKE_CALLS", str(tmp_path))
    for arm in ("base", "head"):
        (tmp_path / arm / "benchmarks").mkdir(parents=True)
        interpreter(tmp_path, arm)
    return tmp_path


def interpreter(
    place: Path, arm: str, *, status: int = 0, writes: bool = True, says: str = "==== 3 passed ===="
) -> None:
    file = place / f"{arm}-python"
    file.write_text(FAKE.format(python=sys.executable, arm=arm, status=status, writes=writes, says=says))
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def run(place: Path, *more: str) -> int:
    given = [text for arm in ("base", "head") for text in arguments(place, arm)]
    return alternate.main([*given, "--out", str(place / "out"), *more])


def arguments(place: Path, arm: str) -> list[str]:
    return [f"--{arm}", str(place / arm), f"--{arm}-python", str(place / f"{arm}-python")]


def calls(place: Path) -> list[dict[str, Any]]:
    file = place / "calls.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_neither_is_always_the_first_and_each_pair_shares_a_seed(place: Path) -> None:
    assert run(place, "--pairs", "3") == 0
    assert [call["arm"] for call in calls(place)] == ["base", "head", "head", "base", "base", "head"]
    assert [call["seed"] for call in calls(place)] == ["1", "1", "2", "2", "3", "3"]


def test_each_runs_in_its_own_checkout_with_the_same_arguments(place: Path) -> None:
    assert run(place, "--pairs", "1", "--", "--models", "bert", "-k", "latency and not auto") == 0
    for call in calls(place):
        assert call["cwd"] == str(place / call["arm"])
        assert call["arguments"][:3] == ["-m", "pytest", "benchmarks"]
        assert call["arguments"][-4:] == ["--models", "bert", "-k", "latency and not auto"]
        assert f"--benchmark-json={place / 'out' / call['arm']}-1.json" in call["arguments"]


def test_it_ends_with_the_command_that_compares(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(place, "--pairs", "2") == 0
    out = place / "out"
    expected = f"{out}/base-1.json {out}/head-1.json --again {out}/base-2.json {out}/head-2.json"
    assert capsys.readouterr().out.splitlines()[-1] == f"python -m reports compare {expected}"
    assert sorted(file.name for file in out.glob("*.json")) == [
        "base-1.json",
        "base-2.json",
        "head-1.json",
        "head-2.json",
    ]


def test_a_process_that_fails_ends_it_in_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interpreter(place, "head", status=1, says="==== 1 failed, 2 passed ====\n")
    assert run(place) == 2
    assert [call["arm"] for call in calls(place)] == ["base", "head"]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    log = place / "out" / "head-1.log"
    assert line == f"error: head-1 ended with exit status 1 (1 failed, 2 passed); see {log}"
    assert "collected 3 items" in log.read_text()


def test_a_file_of_an_earlier_run_is_never_taken_for_this_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(place, "--pairs", "1") == 0
    interpreter(place, "base", writes=False)
    assert run(place, "--pairs", "1") == 2
    assert "base-1 left no result file" in capsys.readouterr().err
    assert not (place / "out" / "base-1.json").exists()


def test_an_interpreter_that_is_none(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "base-python").unlink()
    assert run(place) == 2
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--base", "nowhere"], "nowhere holds no folder benchmarks"),
        (["--pairs", "0"], "'0' is not a whole number from 1"),
        (["--pears", "3"], "unrecognized arguments: --pears"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    try:
        status = run(place, *given)
    except SystemExit as ended:
        status = int(str(ended.code))
    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not calls(place)
