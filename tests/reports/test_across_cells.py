"""The statistics of several runs: verdicts, and that the interval covers what it says."""

from __future__ import annotations

import random

import pytest

from reports import across_cells
from reports.across_cells import Change


@pytest.mark.parametrize(
    ("value", "half", "said"),
    [
        (0.10, 0.05, "faster"),
        (-0.10, 0.05, "slower"),
        (0.0, 0.02, "same"),
        (0.02, 0.005, "same"),
        (0.02, 0.02, "inconclusive"),
        (-0.05, 0.04, "inconclusive"),
        (0.5, None, "inconclusive"),
    ],
)
def test_verdicts(value: float, half: float | None, said: str) -> None:
    assert across_cells.verdict(Change(value, half)) == said


def test_the_interval_covers_the_change_nineteen_times_in_twenty() -> None:
    draw = random.Random(0)
    covered = 0
    for _ in range(4000):
        mean = across_cells.pooled([Change(draw.gauss(0.1, 0.05)) for _ in range(6)])
        assert mean is not None
        assert mean.half_width is not None
        covered += abs(mean.value - 0.1) <= mean.half_width
    assert covered / 4000 == pytest.approx(0.95, abs=0.015)
