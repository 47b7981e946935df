"""That the figures show the records: the heights, the references, and nothing where nothing was measured."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from reports import canvas, figures, svg
from reports.distributions import layer_dist
from reports.read import read
from sparsity.record import Record
from tests.reports import builders
from tests.reports.test_break_even import timed

RECORDS = [record for _, record in builders.all_records()]
SPARSITIES = [0.0, *builders.SPARSITIES]
Draw = Callable[[Sequence[Record], str], Figure | None]


def _panel(figure: Figure | None, model: str = "bert") -> Axes:
    assert figure is not None
    return next(axes for axes in figure.axes if axes.get_title() == model)


def _heights(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    found = next(each for each in axes.containers if each.get_label() == label)
    line = found[0]
    return list(line.get_xdata()), list(line.get_ydata())


def _bars(axes: Axes, label: str) -> list[tuple[float, float]]:
    found = next(each for each in axes.containers if each.get_label() == label)
    return [(segment[0][1], segment[1][1]) for segment in found[2][0].get_segments()]


def _level(axes: Axes, label: str) -> float:
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    heights = np.asarray(line.get_ydata(), dtype=float)
    assert heights.min() == heights.max()
    return float(heights[0])


@pytest.mark.parametrize("name", builders.MODELS)
def test_memory_is_that_of_the_records(name: str) -> None:
    axes = _panel(figures.required_memory(RECORDS), name)
    sparsities, sizes = _heights(axes, "masked")
    dense = builders.memory(name, 0.0, "dense").memory
    masked = builders.memory(name, 0.5, "masked").memory
    assert dense is not None
    assert masked is not None
    dense_mib = (dense.weights_bytes + dense.peak_bytes) / 2**20
    assert sparsities == SPARSITIES[1:], "masked was not measured at 0"
    assert sizes[1] == pytest.approx((masked.weights_bytes + masked.peak_bytes) / 2**20)
    assert _level(axes, "not pruned") == pytest.approx(dense_mib)
    assert axes.get_ylim()[0] == 0


def test_time_is_the_paired_ratio_times_the_reference() -> None:
    axes = _panel(figures.required_time(RECORDS), "gpt2")
    sparsities, times = _heights(axes, "masked")
    record = builders.latency("gpt2", 0.9, "masked").latency
    assert record is not None
    assert sparsities == SPARSITIES[1:], "masked was not measured at 0"
    assert times[2] == pytest.approx(1000 * record.pruned_seconds)
    assert record.low is not None
    assert record.high is not None
    assert _bars(axes, "masked")[2] == pytest.approx((5.0 / record.high, 5.0 / record.low))
    assert _level(axes, "not pruned") == pytest.approx(5.0)
    assert axes.figure.axes[0].get_ylabel() == "time per forward pass (ms)"


def test_time_above_a_second_is_in_seconds() -> None:
    alone: dict[str, Any] = {"speedup": None, "low": None, "high": None, "dense_seconds": None}
    record = builders.latency(pruned_seconds=2.0, pruned_q1=1.9, pruned_q3=2.2, **alone)
    axes = _panel(figures.required_time([record]))
    assert axes.get_ylabel() == "time per forward pass (s)"
    assert _heights(axes, "masked") == ([0.9], [2.0])
    assert _bars(axes, "masked")[0] == pytest.approx((1.9, 2.2))


def test_a_machine_that_slows_down_meanwhile_moves_no_point() -> None:
    paired: dict[str, Any] = {"speedup": 0.8, "low": 0.75, "high": 0.85}
    early = builders.latency("bert", 0.5, pruned_seconds=0.005, dense_seconds=0.004, **paired)
    late = builders.latency("bert", 0.9, pruned_seconds=0.010, dense_seconds=0.008, **paired)
    axes = _panel(figures.required_time([early, late]))
    assert _heights(axes, "masked")[1] == pytest.approx([6.0 / 0.8] * 2)
    assert _level(axes, "not pruned") == pytest.approx(6.0)


def test_without_a_control_the_reference_is_the_dense_side_of_the_records() -> None:
    times = [builders.latency("bert", s, dense_seconds=d) for s, d in ((0.1, 0.003), (0.5, 0.004), (0.9, 0.008))]
    assert _level(_panel(figures.required_time(times)), "not pruned") == pytest.approx(4.0)
    assert _level(_panel(figures.required_memory([builders.memory()])), "not pruned") == pytest.approx(9e6 / 2**20)


def test_the_unpruned_model_in_a_format_without_lines_is_drawn_beside_the_control() -> None:
    bf16 = builders.latency("bert", 0.0, "bf16", speedup=2.0, low=1.9, high=2.1)
    fp32 = [builders.latency("bert", s, "dense") for s in (0.0, 0.9)]
    axes = _panel(figures.required_time([*fp32, bf16]))
    assert _level(axes, "not pruned \u00b7 bf16") == pytest.approx(2.0)
    assert _level(axes, "not pruned") == pytest.approx(4.0)
    without_control = _panel(figures.required_time([fp32[1], bf16]))
    assert _level(without_control, "not pruned \u00b7 bf16") == pytest.approx(2.0)
    assert _level(without_control, "not pruned") == pytest.approx(4.0)


def test_the_reference_of_another_dtype_is_drawn_too() -> None:
    bf16 = builders.latency("bert", 0.0, "dense", pruned_seconds=0.002, dense_seconds=0.002)
    bf16 = dataclasses.replace(bf16, cell=dataclasses.replace(bf16.cell, dtype="bfloat16"))
    fp32 = [builders.latency("bert", s, "dense") for s in (0.0, 0.9)]
    axes = _panel(figures.required_time([*fp32, bf16]))
    assert _level(axes, "not pruned · bfloat16") == pytest.approx(2.0)
    assert _level(axes, "not pruned · float32") == pytest.approx(4.0)
    assert _heights(axes, "dense")[1][0] == pytest.approx(4.0)


def test_perplexity_bars_are_formed_in_nats() -> None:
    axes = _panel(figures.perplexity(RECORDS))
    sparsities, values = _heights(axes, "l1 · layer")
    quality = builders.nll("bert", "l1", "layer", 0.9).quality
    assert quality is not None
    low, high = (math.exp(quality.value + sign * 1.96 * quality.stderr) for sign in (-1, 1))
    assert sparsities == SPARSITIES
    assert values[3] == pytest.approx(math.exp(quality.value))
    assert _bars(axes, "l1 · layer")[3] == pytest.approx((low, high))
    assert _level(axes, "not pruned") == pytest.approx(math.exp(2.1))
    assert _level(axes, "exact floor") == pytest.approx(math.exp(1.9))
    assert axes.get_yscale() == "log"


def test_perplexities_of_models_never_share_an_axis() -> None:
    figure = figures.perplexity(RECORDS)
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == list(builders.MODELS)
    for axes in figure.axes:
        assert axes.get_shared_y_axes().get_siblings(axes) == [axes]


def test_seeds_are_one_line_with_mean_in_nats_and_range() -> None:
    axes = _panel(figures.perplexity(RECORDS))
    values = [q.value for seed in range(3) if (q := builders.nll("bert", "random", "layer", 0.5, seed).quality)]
    assert _heights(axes, "random · layer")[1][2] == pytest.approx(math.exp(statistics.fmean(values)))
    expected = (math.exp(min(values)), math.exp(max(values)))
    assert _bars(axes, "random · layer")[2] == pytest.approx(expected)


def test_a_perplexity_beyond_floats_is_left_out_and_said() -> None:
    broken = builders.nll("bert", "l1", "layer", 0.99, value=5000.0, perplexity=None)
    figure = figures.perplexity([builders.nll("bert", "l1", "layer", 0.5), broken])
    assert _heights(_panel(figure), "l1 · layer")[0] == [0.5]
    assert figure is not None
    assert "1 perplexities too large" in " ".join(text.get_text() for text in figure.texts)


def test_accuracy_with_chance_and_best() -> None:
    axes = _panel(figures.text_classification_accuracy(RECORDS), "bart")
    quality = builders.accuracy("bart", "l1", "global", 0.95).quality
    assert quality is not None
    assert _heights(axes, "l1 · global")[1][4] == pytest.approx(quality.value)
    low, high = _bars(axes, "l1 · global")[4]
    assert high - low == pytest.approx(2 * 1.96 * quality.stderr)
    assert _level(axes, "chance") == 0.5
    assert _level(axes, "best possible") == 0.956
    assert _level(axes, "not pruned") == 0.92


@pytest.mark.parametrize(
    "draw",
    [figures.required_memory, figures.required_time, figures.perplexity, figures.text_classification_accuracy],
)
def test_no_figure_without_data(draw: Draw) -> None:
    assert draw([], "") is None
    assert draw([builders.weights(), builders.pruned("bert", "l1", "layer", 0.5)], "") is None
    control = [r for r in RECORDS if r.cell.method == "none"]
    assert draw(control, "") is None, "a control alone is no curve"


def test_failed_records_are_not_drawn(tmp_path: Path) -> None:
    failed = [(name, dataclasses.replace(record, outcome="failed")) for name, record in builders.all_records()]
    run = read([builders.write(tmp_path / "r.json", builders.run_json(failed))])
    assert figures.draw(run) == {}


def test_the_sparsity_axis_keeps_high_sparsities_apart() -> None:
    axes = _panel(figures.required_time(RECORDS))
    places = [axes.transData.transform((s, 1.0))[0] for s in SPARSITIES]
    width = axes.get_window_extent().width
    assert min(b - a for a, b in pairwise(places)) > 0.07 * width
    assert [axes.xaxis.get_major_formatter()(tick, 0) for tick in axes.get_xticks()] == [
        "0",
        "0.1",
        "0.5",
        "0.9",
        "0.95",
        "0.99",
    ]


def test_lines_differ_in_colour_and_marker_and_dash() -> None:
    looks = [canvas.line_look(i) for i in range(12)]
    assert len({(look["color"], look["marker"], str(look["linestyle"])) for look in looks}) == 12
    assert len({look["marker"] for look in looks[:7]}) == 7
    assert {to_hex(colour) for colour in canvas.COLOURS}.isdisjoint({canvas.INK})


def test_every_figure_says_what_and_where(tmp_path: Path) -> None:
    run = read([builders.write(tmp_path / "r.json", builders.run_json())])
    drawn = figures.draw(run)
    per_model = [f"{model}-{kind}" for model in builders.MODELS for kind in ("num-dist", "layer-dist")]
    shared = ["required-memory", "required-time", "perplexity", "text-classification-accuracy"]
    assert list(drawn) == ["frontier", *per_model, *shared, "formats-on-one-mask", "speedup-against-limits"]
    for stem, each in drawn.items():
        figure = each.figure
        below = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
        assert figure.get_suptitle()
        assert all(axes.get_ylabel() for axes in figure.axes[:1])
        assert all(axes.get_xlabel() for axes in figure.axes if axes.get_title())
        assert "AMD EPYC 7763" in below, stem
        assert "BertForMaskedLM, embedded, demonstration model" in below or not stem.startswith("bert")
    assert "bart: " in " ".join(text.get_text() for text in drawn["perplexity"].figure.texts)


def test_every_figure_names_the_cells_behind_it(tmp_path: Path) -> None:
    run = read([builders.write(tmp_path / "r.json", builders.run_json())])
    cells = {stem: each.cells for stem, each in figures.draw(run).items()}
    order = list(dict.fromkeys(str(record.cell) for record in run.drawn))
    for stem, own in cells.items():
        assert own, stem
        assert list(own) == sorted(own, key=order.index), "in the order of the run, each once"
    assert cells["bert-num-dist"] == ("bert",)
    costs = [str(builders.cost_cell(model, s, fmt)) for model in builders.MODELS for s, fmt in _formats()]
    assert cells["required-time"] == cells["required-memory"] == cells["speedup-against-limits"] == tuple(costs)
    judged = [str(r.cell) for r in run.drawn if r.quality and r.quality.metric == "mean_nll"]
    assert cells["perplexity"] == tuple(judged)
    assert set(cells["frontier"]) > {*costs, str(builders.nll("bert", "l1", "layer", 0.5).cell)}
    assert str(builders.pruned("bert", "l1", "layer", 0.5).cell) not in cells["frontier"]


def _formats() -> list[tuple[float, str]]:
    dense = [(s, "dense") for s in (0.0, *builders.SPARSITIES)]
    return [*dense, *((s, "masked") for s in builders.SPARSITIES)]


@pytest.mark.parametrize("name", ["whole", "hostile"])
def test_no_letter_is_cut(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [record for _, record in builders.all_records() if record.cell.model == "bert"]
    records += [timed(s, 0.4 / (1 - s), workload, "csr") for s in (0.5, 0.9) for workload in ("1x16", "8x64")]
    records += [builders.recovered(sparsity=s) for s in (0.8, 0.9)]
    if name == "hostile":
        long = "m" * 70 + "/$\\frac{1}$\n\u4e2d<b>"
        records = [dataclasses.replace(r, cell=dataclasses.replace(r.cell, model=long)) for r in records]
    named = [(str(i), record) for i, record in enumerate(records)]
    drawn = figures.draw(read([builders.write(tmp_path / "r.json", builders.run_json(named))]))
    assert len(drawn) == 12
    shown: list[Text] = []
    monkeypatch.setattr(Text, "draw", lambda text, _: shown.append(text))
    for stem, each in drawn.items():
        shown.clear()
        canvas.save(each.figure, tmp_path, stem)
        outer = each.figure.get_tightbbox().padded(0.12)
        assert len(shown) > 10
        for text in shown:
            box = text.get_window_extent().transformed(each.figure.dpi_scale_trans.inverted())
            inside = (outer.x0 <= box.x0, box.x1 <= outer.x1, outer.y0 <= box.y0, box.y1 <= outer.y1)
            assert all(inside), f"{stem}: {text.get_text()!r}"


def test_lines_stand_beside_each_other_with_their_data_in_place() -> None:
    figure = figures.required_time(RECORDS)
    assert figure is not None
    axes = _panel(figure)
    lines = [each[0] for each in axes.containers]
    places = [line.get_transform().transform((0.5, 5.0))[0] for line in lines]
    assert places[1] - places[0] == pytest.approx(canvas.APART / 72 * figure.dpi)
    assert sum(places) / 2 == pytest.approx(axes.transData.transform((0.5, 5.0))[0])
    assert canvas.asides(1) == [0.0]
    assert canvas.asides(30)[-1] - canvas.asides(30)[0] == pytest.approx(canvas.ASIDE)


def test_a_figure_is_laid_out_once_and_drawn_once_for_each_kind_of_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    layouts, drawings = Mock(wraps=ConstrainedLayoutEngine.execute), Mock(wraps=Figure.draw)
    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda *given: layouts(*given))
    monkeypatch.setattr(Figure, "draw", lambda *given: drawings(*given))
    figure = figures.required_time(RECORDS)
    assert figure is not None
    svg.inline(figure, "once", "", canvas.save(figure, tmp_path, "once"))
    assert layouts.call_count == 1
    assert drawings.call_count == 2, "as PNG and as SVG, and not once more to measure"


def test_names_from_outside_are_drawn_literally(tmp_path: Path) -> None:
    name = "a/$\\frac{1}$\n\u4e2d"
    record = builders.latency()
    record = dataclasses.replace(record, cell=dataclasses.replace(record.cell, model=name))
    run = read([builders.write(tmp_path / "r.json", builders.run_json([("t", record)]))])
    drawn = figures.draw(run)
    assert list(drawn) == ["required-time", "speedup-against-limits"]
    for stem, each in drawn.items():
        canvas.save(each.figure, tmp_path, stem)
        assert (tmp_path / f"{stem}.png").stat().st_size > 10_000


def test_both_files_are_the_same_twice(tmp_path: Path) -> None:
    written = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        with canvas.style():
            drawn = [figures.perplexity(RECORDS, "f"), layer_dist("bert", [builders.weights(layers=2)], "f")]
        for i, figure in enumerate(drawn):
            assert figure is not None
            canvas.save(figure, folder, str(i))
            (folder / f"{i}.svg").write_text(svg.alone(svg.inline(figure, str(i), "")), encoding="utf-8")
        written.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert written[0] == written[1]
    assert len(written[0]) == 4
