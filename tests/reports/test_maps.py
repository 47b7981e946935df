"""The map: a square for each workload in its place, with its break-even in it."""

from __future__ import annotations

import pytest

from reports.maps import break_even
from sparsity.record import Record
from tests.reports.test_break_even import timed

SPEEDS = {"1x16": (0.5, 2.0), "1x64": (0.2, 0.5), "8x16": (2.0, 4.0), "8x64": (1.0, 1.0)}
RECORDS: list[Record] = [
    timed(s, speed, workload, fmt)
    for fmt in ("packed", "csr")
    for workload, speeds in SPEEDS.items()
    for s, speed in zip((0.5, 0.9), speeds, strict=True)
]


def test_each_workload_is_in_its_place() -> None:
    figure = break_even(RECORDS, "footer")
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == ["bert \u00b7 packed", "bert \u00b7 csr"]
    for axes in figure.axes:
        assert [each.get_text() for each in axes.get_xticklabels()] == ["16", "64"]
        assert [each.get_text() for each in axes.get_yticklabels()] == ["1", "8"]
        said = {each.get_position(): each.get_text() for each in axes.texts}
        assert said == {(0, 0): "0.78", (1, 0): "> 0.9", (0, 1): "< 0.5", (1, 1): "?"}
        assert len({patch.get_facecolor() for patch in axes.patches}) == 4


@pytest.mark.parametrize(
    "records",
    [[], [timed(0.9, 2.0)], [timed(s, 2.0) for s in (0.5, 0.9)], [timed(s, 2.0, "1x16+8") for s in (0.5, 0.9)]],
)
def test_nothing_is_drawn_for_a_single_workload(records: list[Record]) -> None:
    assert break_even(records) is None
