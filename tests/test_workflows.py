"""The workflows: what is never in them, and what the shell of `regressions` does with each answer of the comparison."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parent.parent / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
FAKE = """#!{python}
import os, pathlib, sys
with open(os.environ["CALLS"], "a") as calls:
    print(*sys.argv[1:], file=calls)
if "pytest" in sys.argv:
    sys.exit(int(os.environ.get("PYTEST", "0")))
found = int(os.environ["AGAINST_" + ("BASELINE" if "baseline" in sys.argv[4] else "BASE")])
sys.exit(found)
"""


def jobs(file: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"]
    return found


def steps(file: Path) -> Iterator[dict[str, Any]]:
    for job in jobs(file).values():
        yield from job["steps"]


def script(job: str, name: str) -> str:
    (found,) = [step["run"] for step in jobs(FOLDER / "regressions.yml")[job]["steps"] if step.get("name") == name]
    return str(found)


def executable(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


class Place:
    """A repository of two commits, with a fake of Python that is told what to answer."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.temp, self.calls = folder / "work", folder / "temp", folder / "calls"
        for each in (self.folder, self.temp, folder / "bin"):
            each.mkdir()
        for python in (folder / "bin" / "python", self.temp / "head-env" / "bin" / "python"):
            python.parent.mkdir(parents=True, exist_ok=True)
            executable(python, FAKE.format(python=sys.executable))
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        names = {
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@b",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@b",
        }
        places = {"GITHUB_WORKSPACE": str(self.folder), "RUNNER_TEMP": str(self.temp), "CALLS": str(self.calls)}
        self.environment = os.environ | names | places | {"PATH": path, "BASE": ""}
        self.shell("git init -q -b main && git commit -q --allow-empty -m 1 && git commit -q --allow-empty -m 2")

    def shell(self, text: str, **answers: str) -> subprocess.CompletedProcess[str]:
        """As GitHub runs a step."""
        command = ["bash", "-e", "-c", text]
        environment = self.environment | answers
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def called(self, module: str) -> list[str]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line for line in lines if line.startswith(f"-m {module} ")]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_nothing_from_outside_stands_in_a_script_and_nothing_is_secret_or_writes(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert not [step["run"] for step in steps(file) if "${{" in step.get("run", "")]
    assert "pull_request_target" not in text
    assert "secrets" not in text
    assert "write" not in {level for job in jobs(file).values() for level in job.get("permissions", {}).values()}
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in jobs(file).values())


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_no_checkout_leaves_its_credentials(file: Path) -> None:
    checkouts = [step for step in steps(file) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_a_baseline_that_nothing_is_worse_than_is_enough(place: Place) -> None:
    (place.folder / "baseline").mkdir()
    (place.folder / "baseline" / "baseline.json").touch()
    done = place.shell(script("gate", "Compare"), AGAINST_BASELINE="0", AGAINST_BASE="9")
    assert done.returncode == 0, done.stderr
    assert not place.called("pytest")


@pytest.mark.parametrize("baseline", ["1", "2", None], ids=["worse", "not to be compared with", "none"])
@pytest.mark.parametrize("status", [0, 1, 2])
@pytest.mark.parametrize("fails", ["0", "1"])
def test_else_the_base_commit_is_measured_and_decides(
    place: Place, baseline: str | None, status: int, fails: str
) -> None:
    if baseline is not None:
        (place.folder / "baseline").mkdir()
        (place.folder / "baseline" / "baseline.json").touch()
    answers = {"AGAINST_BASELINE": baseline or "9", "AGAINST_BASE": str(status), "PYTEST": fails}
    done = place.shell(script("gate", "Compare"), **answers)
    assert done.returncode == status, done.stderr
    (measured,) = place.called("pytest")
    assert f"--benchmark-json={place.folder}/base.json" in measured
    assert place.called("reports")[-1].startswith("-m reports compare base.json head.json --no-time")
    assert place.shell("git -C ../temp/base log --format=%s -1").stdout.strip() == "1"


@pytest.mark.parametrize("found", ["", "17"], ids=["none", "one"])
def test_the_baseline_is_that_of_the_base_commit(place: Place, found: str) -> None:
    executable(place.temp.parent / "bin" / "gh", f'#!/bin/sh\necho "$@" >> {place.temp}/gh\necho "{found}"\n')
    done = place.shell(script("gate", "Look for the baseline of the base commit"), GITHUB_REPOSITORY="me/mine")
    assert done.returncode == 0, done.stderr
    asked = (place.temp / "gh").read_text().splitlines()
    base = place.shell("git rev-parse HEAD~1").stdout.strip()
    assert f"--event push --commit {base} --status success" in asked[0]
    assert asked[1:] == (
        [f"run download {found} --repo me/mine --name sparsity-baseline --dir baseline"] if found else []
    )


@pytest.mark.parametrize(("answer", "status"), [("0", 0), ("1", 1), ("2", 2), ("3", 0)])
def test_too_noisy_to_tell_is_a_warning(place: Place, answer: str, status: int) -> None:
    done = place.shell(script("time", "Compare"), AGAINST_BASE=answer)
    assert done.returncode == status
    assert ("::warning" in done.stdout) == (answer == "3")
    assert place.called("reports")[0].count("--again") == 2


@pytest.mark.parametrize(("base", "subject"), [("", "1"), ("main", "2"), ("HEAD~1", "1")])
def test_the_base_that_is_asked_for(place: Place, base: str, subject: str) -> None:
    done = place.shell(script("time", "Check the base out beside the head"), BASE=base)
    assert done.returncode == 0, done.stderr
    assert place.shell("git -C ../temp/base log --format=%s -1").stdout.strip() == subject


@pytest.mark.parametrize("base", ["--all", "--lock", "nothing of the kind", "$(touch hacked)", "; touch hacked"])
def test_a_base_that_is_none_is_only_a_name(place: Place, base: str) -> None:
    assert place.shell(script("time", "Check the base out beside the head"), BASE=base).returncode != 0
    assert not (place.temp / "base").exists()
    assert not list(place.folder.glob("hacked"))


def test_the_summary_shows_what_there_is(place: Place) -> None:
    summary = place.folder / "summary"
    (place.folder / "report").mkdir()
    (place.folder / "report" / "summary.md").write_text("what was measured\n")
    for job in ("gate", "time"):
        assert place.shell(script(job, "Summary"), GITHUB_STEP_SUMMARY=str(summary)).returncode == 0
    assert summary.read_text() == "what was measured\n"
