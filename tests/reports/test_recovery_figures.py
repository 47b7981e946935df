"""That the figures of recoveries and of ladders show the records, and nothing without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import canvas
from reports.recovery_figures import ladder, on_ladders, recovered, recovery
from sparsity.record import Record
from tests.reports import builders
from tests.reports.test_recovery import FIRST, LADDER, judged


def panel(figure: Figure | None, title: str) -> Axes:
    assert figure is not None
    return next(axes for axes in figure.axes if axes.get_title() == title)


def curve(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    (found,) = [each for each in axes.containers if each.get_label() == label]
    return list(found[0].get_xdata()), list(found[0].get_ydata())


def levels(axes: Axes) -> dict[str, float]:
    return {
        str(line.get_label()): float(next(iter(line.get_ydata())))  # type: ignore[arg-type]  # axhline draws numbers
        for line in axes.get_lines()
        if str(line.get_label()).startswith("not pruned")
    }


def test_recovered_stands_over_one_shot_with_both_controls() -> None:
    records = [builders.accuracy("bert", "l1", "layer", s) for s in (0.5, 0.8)]
    records += [builders.recovered(sparsity=s) for s in (0.8, 0.9)]
    axes = panel(recovery(records, "f"), "bert · accuracy")
    one_shot = [q.value for r in records[:2] if (q := r.quality)]
    assert curve(axes, "one-shot")[0] == [0.5, 0.8, 0.9]
    assert curve(axes, "one-shot")[1] == pytest.approx([*one_shot, 0.65])
    assert curve(axes, "200 steps distilled")[1] == pytest.approx([0.927, 0.927])
    assert levels(axes) == {"not pruned": 0.92, "not pruned · trained as long (200)": pytest.approx(0.93)}


def test_perplexities_have_panels_of_their_own() -> None:
    figure = recovery([builders.recovered(), builders.recovered(metric="mean_nll", delta=0.1)])
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == ["bert · accuracy", "bert · perplexity"]
    axes = panel(figure, "bert · perplexity")
    assert curve(axes, "200 steps distilled")[1] == pytest.approx([8.5849], rel=1e-4)
    assert axes.get_yscale() == "log"


def test_what_was_not_recovered_is_left_out_and_methods_are_named_where_they_differ() -> None:
    other = builders.accuracy("bert", "random", "layer", 0.5, 0)
    axes = panel(recovery([builders.recovered(), other]), "bert · accuracy")
    assert [each.get_label() for each in axes.containers] == ["200 steps distilled", "one-shot"]
    step = judged(replace(FIRST, sparsity=0.6, after="l1 0.1 unstructured"), -0.01, "distill:200")
    assert recovery([step]) is None, "compositions have their ladder"
    placed = replace(builders.recovered(), cell=replace(builders.recovered().cell, workload="8x64", format="packed"))
    alone = panel(recovery([builders.recovered(), placed]), "bert · accuracy")
    assert [each.get_label() for each in alone.containers] == ["200 steps distilled", "one-shot"]
    both = panel(recovery([builders.recovered(), judged(FIRST, -0.01, "distill:200")]), "gpt2 · accuracy")
    assert [each.get_label() for each in both.containers] == [
        "ziplm neurons+heads layer · 200 steps distilled",
        "ziplm neurons+heads layer · one-shot",
    ]


def test_a_ladder_rises_step_by_step() -> None:
    axes = panel(ladder(LADDER, "f"), "1 · gpt2")
    drawn = {str(line.get_label()): list(line.get_ydata()) for line in axes.get_lines()}  # type: ignore[arg-type]  # numbers
    assert drawn == {
        "times faster": [1.0, 1.9, 4.2],
        "weights, times smaller": pytest.approx([1.0, 1.7, 4.6], rel=1e-5),
    }
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        "not pruned",
        "ziplm 0.5\nneurons+heads\n−0.4 ± 0.8 points",
        "l1 0.8 unstructured\n−2.0 ± 0.8 points",
    ]


@pytest.mark.parametrize(
    "records",
    [[], [builders.weights()], [builders.accuracy("bert", "l1", "layer", 0.5)], [builders.latency()]],
)
def test_nothing_is_drawn_without_data(records: list[Record]) -> None:
    assert recovery(records) is None
    assert recovered(records) == on_ladders(records) == []
    assert ladder(records) is None


def test_the_records_behind_are_those_drawn() -> None:
    one_shot, other = builders.accuracy("bert", "l1", "layer", 0.5), builders.accuracy("bert", "random", "layer", 0.5)
    won = builders.recovered()
    assert recovered([one_shot, other, builders.latency(), won]) == [one_shot, won]
    shown = on_ladders([*LADDER, other])
    assert shown == [*LADDER[:2], *LADDER[4:]], "of a step the fastest format is drawn, and not the dense one"


def test_all_of_them_can_be_saved(tmp_path: Path) -> None:
    records = [*LADDER, builders.recovered()]
    for stem, draw in (("recovery", recovery), ("ladder", ladder)):
        with canvas.style():
            figure = draw(records, "f")
        assert figure is not None
        canvas.save(figure, tmp_path, stem)
        assert (tmp_path / f"{stem}.png").stat().st_size > 10_000
