"""The doctor: what it says of a quiet and of a disturbed machine, and one real examination."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparsity import doctor
from sparsity.doctor import Findings
from sparsity.measure import duet

pytestmark = pytest.mark.usefixtures("threads_restored")

QUIET = Findings([0.006, 0.012, 0.009], threads=2, cores=2, load=0.1, stolen=0.0, governor="performance")


def test_a_quiet_machine_is_told_so_and_nothing_else() -> None:
    assert doctor.report(QUIET).splitlines() == [
        "cores     2, computing with 2 threads",
        "load      0.10 over the last minute",
        "stolen    0.0% of the time, by a hypervisor",
        "governor  performance",
        "noise     0.6% to 1.2%, bert beside its own copy, 3 times at 8x64",
        "This machine can tell a difference of 3%.",
    ]
    assert doctor.complaints(QUIET) == []


@pytest.mark.parametrize(("worst", "can"), [(0.030, True), (0.031, False), (0.2, False)])
def test_the_worst_trial_decides(worst: float, can: bool) -> None:
    found = replace(QUIET, floors=[0.001, worst, 0.002])
    assert doctor.resolves(found) is can
    assert ("cannot tell" in doctor.report(found)) is not can
    assert ("withholds" in doctor.report(found)) is (worst > 0.05)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"load": 1.5}, ["load 1.50 on 2 cores", "all 2 cores are computed with"]),
        ({"load": 1.5, "threads": 1}, ["load 1.50 on 2 cores"]),
        ({"stolen": 0.031}, ["the hypervisor took 3.1% of the time"]),
        ({"threads": 8}, ["8 threads on 2 cores: ask for at most 2"]),
        ({"governor": "powersave"}, ["the clock is governed by 'powersave'"]),
        ({"load": None, "stolen": None, "governor": None}, []),
    ],
)
def test_what_disturbs_is_named_with_what_helps(changes: dict[str, object], said: list[str]) -> None:
    found = doctor.complaints(replace(QUIET, **changes))  # type: ignore[arg-type]  # each of its field's type
    assert [complaint.startswith(start) for complaint, start in zip(found, said, strict=True)] == [True] * len(said)


def test_noise_without_a_visible_reason_is_said_to_be_so() -> None:
    assert "- nothing that is seen from here" in doctor.report(replace(QUIET, floors=[0.1]))


def test_an_examination_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever this machine is, the status says what the last lines say."""
    status = doctor.main(["--threads", "1", "--time-per-cell", "0.3"])
    output = capsys.readouterr().out
    assert status in (0, 1)
    assert ("can tell a difference of 3%." in output) is (status == 0)
    assert "computing with 1 threads" in output


@pytest.mark.parametrize("arguments", [["--threads", "0"], ["--device", "cuda:99"], ["--time-per-cell", "soon"]])
def test_a_bad_value_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_it_ends_in_half_a_minute_by_its_budget() -> None:
    assert doctor.TRIALS * doctor.SECONDS <= 15
    assert duet.WARM_SECONDS < 1
