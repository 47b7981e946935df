"""That the figure of the frontier shows the records, names what fits, and nothing without them."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from matplotlib.axes import Axes
from matplotlib.transforms import BboxBase

from reports.frontier_figure import frontier_figure, on_frontier
from sparsity.record import Record
from tests.reports import builders
from tests.reports.test_recovery import FIRST, LADDER, judged, packed
from tests.reports.test_recovery_figures import curve, panel


def test_the_frontier_joins_what_leads_and_draws_the_margin() -> None:
    small = [*packed(FIRST, 1.5, 9.0, "auto")]
    records = [*packed(FIRST, 2.0, 2.0), *small, *packed(FIRST, 0.5, 1.5, "dense"), judged(FIRST, -0.004)]
    axes = panel(frontier_figure(records, "f"), "gpt2 · 8x64 · accuracy")
    assert curve(axes, "not beaten")[0] == [2.0, 1.0]
    assert curve(axes, "not beaten")[1] == pytest.approx([0.4, 0.0])
    drawn = {str(line.get_label()): line for line in axes.get_lines()}
    assert list(drawn["not beaten, for its weights"].get_xdata()) == [1.5]  # type: ignore[arg-type]  # numbers
    assert list(drawn["beaten"].get_xdata()) == [0.5]  # type: ignore[arg-type]  # numbers
    assert list(drawn["margin"].get_ydata()) == [1.0, 1.0]  # type: ignore[arg-type]  # numbers
    assert [text.get_text() for text in axes.texts] == ["ziplm 0.5 packed", "not pruned"]


def crowded(count: int) -> list[Record]:
    """So many candidates that lead, near each other."""
    sparsities = [0.5 + i / 100 for i in range(count)]
    cells = [replace(FIRST, sparsity=s) for s in sparsities]
    times = [record for i, cell in enumerate(cells) for record in packed(cell, 2.0 + i / 50, 2.0 + i / 50)]
    return [*times, *(judged(cell, -0.004 - i / 10000) for i, cell in enumerate(cells))]


@pytest.mark.parametrize("count", [2, 9])
def test_names_cover_no_other_name_and_no_point(count: int) -> None:
    axes = panel(frontier_figure(crowded(count), "f"), "gpt2 · 8x64 · accuracy")
    names = boxes(axes)
    assert 0 < len(names) <= 6
    points = [axes.transData.transform(pair) for pair in zip(*curve(axes, "not beaten"), strict=True)]
    for one, other in combinations(names, 2):
        assert not one.overlaps(other)
    for box in names:
        assert not any(box.contains(*point) for point in points)
        assert box.count_overlaps([axes.bbox]) == 1


def boxes(axes: Axes) -> list[BboxBase]:
    return [text.get_window_extent() for text in axes.texts]


def test_the_records_behind_are_those_of_the_candidates() -> None:
    records = [*packed(FIRST, 2.0, 2.0), judged(FIRST, -0.004), builders.accuracy("bert", "l1", "layer", 0.5)]
    assert on_frontier([*records, builders.weights()]) == records[:-1]
    assert on_frontier(LADDER[:1]) == []


@pytest.mark.parametrize(
    "records",
    [[], [builders.weights()], [builders.accuracy("bert", "l1", "layer", 0.5)], [builders.latency()]],
)
def test_nothing_is_drawn_without_data(records: list[Record]) -> None:
    assert frontier_figure(records) is None
    assert on_frontier(records) == []
