"""That the figures of times show the records: every format of one mask, and what bounds each time."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from reports.speedups import (
    CEILING,
    LOOKS,
    PANELS,
    against_limits,
    formats_on_one_mask,
    on_one_mask,
    panels_of,
    speedup_against_limits,
)
from sparsity.record import Record
from tests.reports import builders

SPEEDS = {"packed": (1.8, "faster"), "masked": (0.8, "slower"), "csr": (1.01, "inconclusive"), "dense": (1.0, "same")}


def timed(fmt: str, speedup: float, verdict: str = "faster", sparsity: float = 0.8, **changes: Any) -> Record:
    """A latency with an interval of 3 % down and 5 % up; other axes of its cell by `changes`."""
    axes = {key: changes.pop(key) for key in ("model", "workload", "seed", "task") if key in changes}
    ends = {"speedup": speedup, "low": speedup * 0.97, "high": speedup * 1.05, "verdict": verdict}
    found = builders.latency("bert", sparsity, fmt, **ends, **changes)
    return dataclasses.replace(found, cell=dataclasses.replace(found.cell, **axes))


MASK = [timed(fmt, speedup, verdict) for fmt, (speedup, verdict) in SPEEDS.items()]
BESIDE = [timed("bf16", 0.4, "slower", 0.0), timed("fused", 1.2, "inconclusive", 0.0)]


def dots(axes: Axes, label: str) -> list[tuple[float, float]]:
    """(times faster, row) of the dots with this label."""
    return [
        (float(x), float(y))
        for each in axes.containers
        if each.get_label() == label
        for x, y in each[0].get_xydata().tolist()
    ]


def rows(axes: Axes) -> list[str]:
    return [tick.get_text() for tick in axes.get_yticklabels()]


def only(figure: Figure | None) -> Axes:
    assert figure is not None
    (axes,) = figure.axes
    return axes


# -- every format on one mask ----------------------------------------------------------------------------


def test_formats_are_sorted_by_time_beside_the_unpruned_models() -> None:
    axes = only(formats_on_one_mask([*MASK, *BESIDE], "footer"))
    assert rows(axes) == ["not pruned · bf16", "masked", "dense", "csr", "not pruned · fused", "packed"]
    assert dots(axes, "faster") == [(1.8, 5.0)]
    assert dots(axes, "slower") == [(0.8, 1.0)]
    assert dots(axes, "same") == [(1.0, 2.0)]
    assert dots(axes, "inconclusive") == [(1.01, 3.0)]
    assert dots(axes, "not pruned") == [(0.4, 0.0), (1.2, 4.0)]
    (packed,) = [each for each in axes.containers if each.get_label() == "faster"]
    ((left, right),) = packed[2][0].get_segments()
    assert (left[0], right[0]) == (pytest.approx(1.8 * 0.97), pytest.approx(1.8 * 1.05))
    assert axes.get_title() == "bert: l1 0.8 unstructured · 8x64"
    assert axes.get_xscale() == "log"
    assert any(list(line.get_xdata()) == [1.0, 1.0] for line in axes.get_lines())  # type: ignore[arg-type]  # numbers


def test_certain_verdicts_are_filled_and_references_are_open() -> None:
    axes = only(formats_on_one_mask([*MASK, *BESIDE]))
    faces = {str(each.get_label()): to_hex(each[0].get_markerfacecolor()) for each in axes.containers}
    assert {kind for kind, face in faces.items() if face == "#ffffff"} == {"inconclusive", "not pruned"}
    markers = {str(each.get_label()): each[0].get_marker() for each in axes.containers}
    assert markers["not pruned"] != markers["inconclusive"]
    assert set(faces) == set(LOOKS)


def test_weights_and_the_verdict_stand_beside() -> None:
    held = [builders.memory("bert", 0.8, "packed"), builders.memory("bert", 0.0, "bf16")]
    axes = only(formats_on_one_mask([*MASK, *BESIDE, *held]))
    said = {round(text.get_position()[1]): text.get_text() for text in axes.texts}
    assert said == {
        0: "2.86 MiB · slower",
        1: "slower",
        2: "same",
        3: "inconclusive",
        4: "inconclusive",
        5: "2.86 MiB · faster",
    }


def test_the_mask_of_the_most_formats_is_drawn_and_of_several_the_sparsest() -> None:
    sparser = [timed(fmt, 2.0, sparsity=0.9) for fmt in ("packed", "csr")]
    assert "0.8" in only(formats_on_one_mask([*MASK, *sparser])).get_title()
    assert "0.9" in only(formats_on_one_mask([*MASK[:2], *sparser])).get_title()
    elsewhere = [timed(fmt, 2.0, workload="1x16") for fmt in ("packed", "csr")]
    axes = only(formats_on_one_mask([*MASK, *elsewhere, timed("bf16", 0.3, sparsity=0.0, workload="1x16")]))
    assert "not pruned · bf16" not in rows(axes), "another workload's"


def test_seeds_of_a_mask_are_one_dot() -> None:
    seeds = [timed("packed", speedup, "faster", seed=seed) for seed, speedup in enumerate((1.6, 2.5))]
    axes = only(formats_on_one_mask([*seeds, timed("csr", 0.5, "slower")]))
    ((value, row),) = dots(axes, "faster")
    assert value == pytest.approx(2.0)
    assert row == 1.0


def test_a_panel_for_each_model() -> None:
    both = [*MASK, *(timed(fmt, 1.5, model="gpt2") for fmt in ("packed", "csr"))]
    figure = formats_on_one_mask(both)
    assert figure is not None
    assert [axes.get_title().split(":")[0] for axes in figure.axes] == ["bert", "gpt2"]


@pytest.mark.parametrize(
    "records",
    [
        [],
        [builders.weights()],
        MASK[:1],
        BESIDE,
        [timed("packed", 2.0), builders.memory()],
        [builders.nll("bert", "l1", "layer", 0.5)],
    ],
)
def test_a_single_format_is_not_drawn(records: list[Record]) -> None:
    assert formats_on_one_mask(records) is None
    assert on_one_mask(records) == []


def test_the_records_behind_a_mask_are_its_times_and_weights() -> None:
    held = [builders.memory("bert", 0.8, "packed"), builders.memory("bert", 0.9, "packed")]
    other = timed("packed", 3.0, sparsity=0.9)
    assert on_one_mask([other, *MASK, *held, *BESIDE]) == [*MASK, held[0], *BESIDE]


def test_hostile_names_are_drawn_literally() -> None:
    records = [timed(fmt, 1.5, model="a/$\\frac{1}$\n") for fmt in ("packed", "$x_$")]
    for draw in (formats_on_one_mask, speedup_against_limits):
        figure = draw(records)
        assert figure is not None
        figure.draw_without_rendering()
        assert "\n" not in figure.axes[0].get_title()
        assert r"a/\$" in figure.axes[0].get_title()


# -- measured and possible -------------------------------------------------------------------------------


def limited(sparsity: float, speedup: float, **changes: Any) -> Record:
    """A time of 5 ms at half of the roofline, under a ceiling of 3."""
    values: dict[str, Any] = {"pruned_seconds": 0.005, "ideal_seconds": 0.0025, "ceiling": 3.0}
    return timed("packed", speedup, sparsity=sparsity, **(values | changes))


def level(axes: Axes, label: str) -> list[float]:
    found = [line for line in axes.get_lines() if line.get_label() == label]
    return [float(np.asarray(line.get_ydata(), dtype=float)[0]) for line in found]


def test_times_stand_beside_their_limits() -> None:
    records = [limited(0.5, 1.2), limited(0.9, 2.4)]
    axes = only(speedup_against_limits(records, "footer"))
    (line,) = axes.containers
    assert line[0].get_xydata().tolist() == [[0.5, 1.2], [0.9, 2.4]]
    assert [(a[1], b[1]) for a, b in line[2][0].get_segments()][1] == pytest.approx((2.4 * 0.97, 2.4 * 1.05))
    assert level(axes, CEILING) == [3.0]
    (ideal,) = [each for each in axes.get_lines() if "sparsity" in str(each.get_label())]
    xs, ys = np.asarray(ideal.get_xdata(), dtype=float), np.asarray(ideal.get_ydata(), dtype=float)
    assert ys == pytest.approx(1 / (1 - xs))
    assert (xs[0], xs[-1]) == (0.0, 0.9)
    hollow = [np.asarray(each.get_xydata()) for each in axes.get_lines() if each.get_markerfacecolor() == "none"]
    (limits,) = [each for each in hollow if len(each)]  # the other is for the legend
    assert limits.tolist() == [[0.5, pytest.approx(2.4)], [0.9, pytest.approx(4.8)]]
    assert axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    assert low < 1.0
    assert high > 4.8


def test_without_limits_none_is_drawn() -> None:
    axes = only(speedup_against_limits([timed("packed", 2.0)], "footer"))
    assert level(axes, CEILING) == []
    assert not [each for each in axes.get_lines() if each.get_label() == "at the roofline"]
    assert "Ceiling" not in axes.figure.texts[-1].get_text()


def test_the_ceiling_of_another_head_has_a_name_of_its_own() -> None:
    other = limited(0.9, 2.0, ceiling=5.0, task="classification")
    axes = only(speedup_against_limits([limited(0.5, 1.2), other]))
    assert level(axes, CEILING) == [3.0]
    assert level(axes, f"{CEILING} · classification") == [5.0]


def test_workloads_have_panels_and_too_many_leave_the_fullest_of_each_model() -> None:
    two = [limited(0.5, 1.2), limited(0.5, 1.1, workload="1x16")]
    figure = speedup_against_limits(two)
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == ["bert · 8x64", "bert · 1x16"]
    many = [limited(0.5, 1.2, workload=f"{i}x16", model=m) for m in ("bert", "gpt2") for i in range(1, PANELS)]
    many.append(limited(0.9, 1.5, workload="3x16", model="gpt2"))
    assert [(panel.model, panel.workload) for panel in panels_of(many)] == [("bert", "1x16"), ("gpt2", "3x16")]
    assert against_limits(many) == [many[0], many[10], many[-1]]


@pytest.mark.parametrize(
    "records", [[], [builders.memory()], BESIDE, [builders.latency(speedup=None, low=None, high=None)]]
)
def test_no_limits_without_a_pruned_time(records: list[Record]) -> None:
    assert speedup_against_limits(records) is None
    assert against_limits(records) == []
