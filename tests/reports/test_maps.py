"""The maps: a square for each workload in its place with its break-even, and one for each time around it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from reports import canvas
from reports.break_even import crossings
from reports.maps import PANELS, break_even, on_map, on_speed_map, speed_map
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
    assert speed_map(records) is None
    assert on_map(records) == on_speed_map(records) == []


def squares(axes: Axes) -> list[list[float]]:
    """Times faster, a list for each row from below; NaN where nothing was measured."""
    values = axes.collections[0].get_array()
    assert values is not None
    return [[float(x) for x in row] for row in np.ma.filled(values.astype(float), math.nan)]


def bold(axes: Axes) -> list[tuple[float, float]]:
    """The corners of the line at 1x."""
    found = [line for line in axes.get_lines() if line.get_label() == "1x"]
    return [(float(x), float(y)) for line in found for x, y in np.asarray(line.get_xydata())]


def test_every_time_is_in_its_row_and_column() -> None:
    figure = speed_map(RECORDS, "footer")
    assert figure is not None
    axes = figure.axes[0]
    assert [each.get_text() for each in axes.get_yticklabels()] == ["1x16", "1x64", "8x16", "8x64"]
    assert [each.get_text() for each in axes.get_xticklabels()] == ["0.5", "0.9"]
    assert squares(axes) == [[0.5, 2.0], [0.2, 0.5], [2.0, 4.0], [1.0, 1.0]]
    said = {each.get_position(): each.get_text() for each in axes.texts}
    assert said[0, 0] == "0.50?", "its verdict is inconclusive"
    assert said[1, 2] == "4.00?"


def test_the_workloads_are_ordered_by_size_and_certain_verdicts_have_no_mark() -> None:
    records = [timed(s, 2.0, workload) for workload in ("32x16", "1x64", "128x2", "4x128") for s in (0.5, 0.9)]
    sure = [dataclasses.replace(r.latency, verdict="faster") for r in records if r.latency]
    figure = speed_map([dataclasses.replace(r, latency=own) for r, own in zip(records, sure, strict=True)])
    assert figure is not None
    rows = [each.get_text() for each in figure.axes[0].get_yticklabels()]
    assert rows == ["1x64", "128x2", "4x128", "32x16"]
    assert {each.get_text() for each in figure.axes[0].texts} == {"2.00"}


def test_the_bold_line_lies_at_each_break_even() -> None:
    records = [timed(s, 0.5 / (1 - s), "1x16") for s in (0.1, 0.3, 0.7, 0.9)]
    records += [timed(s, 0.25 / (1 - s), "8x16") for s in (0.1, 0.3, 0.7, 0.9)]
    records += [timed(s, 3.0, "8x64") for s in (0.3, 0.9)]
    figure = speed_map(records)
    assert figure is not None
    values = [each.value for each in crossings(records)]
    assert values == [pytest.approx(0.5), pytest.approx(0.75), None]
    # the columns are 0.1, 0.3, 0.7 and 0.9; between them the logarithm of the weights that are kept is the measure
    first = 1 + math.log(0.7 / 0.5) / math.log(0.7 / 0.3)
    second = 2 + math.log(0.3 / 0.25) / math.log(0.3 / 0.1)
    corners = bold(figure.axes[0])
    assert corners[:4] == [pytest.approx(p) for p in ((first, -0.5), (first, 0.5), (second, 0.5), (second, 1.5))]
    assert all(math.isnan(x) for x, _ in corners[4:]), "no line in a row that is faster throughout"


def test_slower_and_faster_have_colours_of_their_own_around_one() -> None:
    figure = speed_map(RECORDS)
    assert figure is not None
    mesh = figure.axes[0].collections[0]
    low, high = mesh.get_clim()
    assert low == pytest.approx(1 / 5), "as far as the farthest of them is from 1"
    assert high == pytest.approx(5)
    (bar,) = [axes for axes in figure.axes if axes.get_ylabel() == "times faster (log)"]
    assert "1" in [tick.get_text() for tick in bar.get_yticklabels()]


def test_what_was_not_measured_is_an_empty_square() -> None:
    records = [r for r in RECORDS if (r.cell.workload, r.cell.sparsity) != ("8x64", 0.5)]
    records.append(timed(0.95, 1.5, "8x64"))
    records.append(timed(0.95, 1.5, "8x64", "csr"))
    figure = speed_map(records)
    assert figure is not None
    assert squares(figure.axes[0])[3] == [pytest.approx(math.nan, nan_ok=True), 1.0, 1.5]
    assert (0, 3) not in {each.get_position() for each in figure.axes[0].texts}


def test_no_more_panels_than_can_be_read_and_that_is_said() -> None:
    many = [timed(s, 2.0, w, f"f{i}") for i in range(PANELS + 2) for w in ("1x16", "8x64") for s in (0.5, 0.9)]
    figure = speed_map(many)
    assert figure is not None
    assert len([axes for axes in figure.axes if axes.get_title()]) == PANELS
    assert "2 more models and formats" in figure.texts[-1].get_text()
    assert on_speed_map(many) == many[: 4 * PANELS]
    assert on_map(many) == many


def test_the_records_behind_are_those_of_the_crossings() -> None:
    alone = [timed(0.5, 2.0, "1x16", "bsr"), timed(0.5, 2.0, "8x64", "bsr")]
    unpaired = dataclasses.replace(RECORDS[0].latency, speedup=None, low=None, high=None)  # type: ignore[type-var]  # timed
    lone = dataclasses.replace(RECORDS[0], latency=unpaired)
    dense = timed(0.5, 1.0, "1x16", "dense")
    assert on_map([*alone, lone, dense, *RECORDS]) == RECORDS
    assert on_speed_map([*alone, lone, dense, *RECORDS]) == RECORDS


def test_hostile_names_are_drawn_and_saved(tmp_path: Path) -> None:
    with canvas.style():
        figure = speed_map([timed(s, s * 2, w, "$\\a$", "<b>\n$x_") for w in ("1x16", "8x64") for s in (0.3, 0.9)], "f")
    assert figure is not None
    canvas.save(figure, tmp_path, "map")
    assert (tmp_path / "map.png").stat().st_size > 10_000
