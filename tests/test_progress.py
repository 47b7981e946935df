"""Progress: a line every few seconds, with an estimate that the first test does not spoil."""

from __future__ import annotations

import pytest

from sparsity import progress
from sparsity.progress import Progress, duration


class Clock:
    """Moves only when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_lines_come_when_it_is_time_and_tell_what_is_left() -> None:
    clock = Clock()
    run = Progress(total=11, clock=clock)
    clock.now += 30  # imports
    assert run.advance("a") == "1 of 11 · a"
    lines = []
    for _ in range(10):
        clock.now += 2
        lines.append(run.advance("b"))
    assert [line for line in lines if line] == [
        "4 of 11 · about 14 s left · b",
        "7 of 11 · about 8 s left · b",
        "10 of 11 · about 2 s left · b",
    ]


def test_a_quick_run_says_nothing() -> None:
    clock = Clock()
    run = Progress(total=3, clock=clock)
    clock.now += progress.EVERY - 0.1
    assert [run.advance("a") for _ in range(3)] == [None] * 3


def test_it_knows_since_when_it_runs() -> None:
    clock = Clock()
    run = Progress(total=3, clock=clock)
    clock.now += 12.5
    run.advance("a")
    assert run.seconds == 12.5


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3725.0, "62 min 05 s")]
)
def test_durations_are_minutes_and_seconds(seconds: float, text: str) -> None:
    assert duration(seconds) == text
