"""Reports of a run on several nodes: seconds apart, ratios pooled in sight, nodes named."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports import across, break_even, exports, figures, maps, markdown, measures, speedups, tables
from reports.__main__ import report
from reports.document import Document, Part
from reports.page import page
from reports.read import read
from reports.run import APART, Run
from reports.series import Point
from reports.step_summary import summary as short
from reports.verdicts import verdicts
from sparsity import answers, summary
from sparsity.frontier import candidates
from sparsity.nodes import over_nodes
from sparsity.record import Record
from sparsity.timing import WITHHELD
from tests.reports import builders, several_nodes
from tests.reports.several_nodes import NODES, described, timed


def run(tmp_path: Path, records: Sequence[Record], **ours: Any) -> Run:
    return read([builders.write(tmp_path / "run.json", several_nodes.json(records, **ours))])


def parts(found: Sequence[Part]) -> Iterator[Part]:
    for each in found:
        yield each
        yield from parts(each.parts)


def titled(document: Document, title: str) -> Part:
    return next(part for part in parts(document.parts) if part.title == title)


SPREAD = [timed("a", 2.0, dense=0.004), timed("b", 2.2, dense=0.005), timed("c", 2.1, dense=0.050)]
"""One cell on all nodes; the third is a slower machine."""


# -- seconds ---------------------------------------------------------------------------------------------


def test_seconds_stand_apart_for_each_machine(tmp_path: Path) -> None:
    document = page(run(tmp_path, SPREAD))
    titles = [part.title for part in parts(document.parts)]
    assert "Memory and time" not in titles
    (ours,) = titled(document, "Memory and time, on a, b").table.rows  # type: ignore[union-attr]  # it has one
    (other,) = titled(document, "Memory and time, on c").table.rows  # type: ignore[union-attr]  # it has one
    mean = (0.004 / 2.0 + 0.005 / 2.2) / 2
    assert ours[2] == f"– / {mean:.6f}"
    assert other[2] == "– / 0.02381"


def test_the_page_says_which_nodes_differ_in_what(tmp_path: Path) -> None:
    document = page(run(tmp_path, SPREAD))
    (said,) = [each for each in document.caveats if each.startswith("The nodes differ")]
    assert said.startswith("The nodes differ in cpu (a, b: AMD EPYC 7763; c: Intel Xeon 6140), threads (")
    assert said.endswith(APART)
    alike = page(run(tmp_path, SPREAD[:2], nodes=described(a=builders.FINGERPRINT, b=builders.FINGERPRINT)))
    assert not any("differ in" in each for each in alike.caveats)
    assert "Memory and time" in [part.title for part in parts(alike.parts)]  # one machine


def test_the_page_lists_the_nodes_and_claims_no_single_machine(tmp_path: Path) -> None:
    document = page(run(tmp_path, [*SPREAD, timed("c", 2.0, 0.5)]))
    nodes = titled(document, "Nodes").table
    assert nodes is not None
    assert nodes.rows == (
        ("a", "AMD EPYC 7763, 2 threads", "1", "2.0%"),
        ("b", "AMD EPYC 7763, 2 threads", "1", "2.0%"),
        ("c", "Intel Xeon 6140, 4 threads", "2", "2.0%"),
    )
    what = titled(document, "What was run").table
    assert what is not None
    facts = {row[0]: row[1] for row in what.rows}
    assert facts["torch"] == builders.FINGERPRINT["torch"]
    assert not {"cpu", "threads"} & facts.keys()


def test_a_figure_of_seconds_is_one_for_each_machine_and_names_its_nodes(tmp_path: Path) -> None:
    records = [
        replace(each, node=name) for name in ("a", "c") for each in (timed(None, 2.0, 0.5), timed(None, 3.0, 0.9))
    ]
    drawn = figures.draw(run(tmp_path, records))
    assert {"required-time-a-b", "required-time-c"} <= drawn.keys()
    assert "required-time" not in drawn
    assert drawn["required-time-c"].nodes == ("c",)
    assert drawn["speedup-against-limits"].nodes == ()
    text = " ".join(each.get_text() for each in drawn["required-time-c"].figure.texts)
    title = drawn["required-time-c"].figure.get_suptitle()
    assert title == "Required time, on c"
    assert "node: c; cpu Intel Xeon 6140" in " ".join(text.split())


def test_footers_name_the_nodes_and_what_they_have_in_common(tmp_path: Path) -> None:
    found = run(tmp_path, SPREAD)
    assert figures.provenance(found, []).startswith(
        "3 nodes: a, b, c; cpu differs; threads differs; system Linux 6.1; "
    )
    assert figures.provenance(found, [], nodes=["a", "b"]).startswith("2 nodes: a, b; cpu AMD EPYC 7763; threads 2; ")


def test_the_time_of_a_point_is_steadied_by_its_own_machine_alone(tmp_path: Path) -> None:
    found = run(tmp_path, SPREAD)
    drawn = figures.required_time(found.machines["c"])
    assert drawn is not None
    heights = {round(float(y), 3) for line in drawn.axes[0].lines for y in np.atleast_1d(line.get_ydata())}
    assert round(50 / 2.1, 3) in heights


def test_the_table_to_sort_holds_no_seconds_of_machines_that_differ(tmp_path: Path) -> None:
    found = run(tmp_path, SPREAD)
    table = verdicts(found.drawn, len(found.machines))
    headings = [column.heading for column in table.columns]
    assert "ms" not in headings
    assert "unpruned ms" not in headings
    assert [row.values[headings.index("node")].text for row in table.rows] == ["a", "b", "c"]
    assert table.notes
    alike = verdicts(found.machines["a, b"])
    assert "ms" in [column.heading for column in alike.columns]
    assert alike.notes == ()


def test_bytes_that_another_node_measured_stand_in_the_row(tmp_path: Path) -> None:
    held = replace(builders.memory("bert", 0.9, "packed"), node="b")
    (row,) = verdicts(run(tmp_path, [timed("a", 2.0), held]).drawn).rows
    assert all(value.text for value in row.values)
    assert "2.86" in [value.text for value in row.values]  # MiB


def test_an_absolute_ratio_is_to_a_control_of_the_same_node() -> None:
    record = timed("a", 2.0)
    assert record.latency is not None
    unpaired = replace(record.latency, dense_seconds=None, speedup=None, low=None, high=None)
    bare = replace(record, latency=unpaired)
    own, other = (replace(builders.latency("bert", 0.0, "dense"), node=name) for name in ("a", "c"))
    assert measures.ratio_of_time(bare, [other, own]) == pytest.approx(0.5)
    assert measures.ratio_of_time(bare, [other]) is None


def test_pruning_cost_and_recoveries_stand_apart_too(tmp_path: Path) -> None:
    cost = builders.pruned("bert", "l1", "layer", 0.5)
    records = [replace(each, node=name) for name in ("a", "c") for each in (cost, builders.recovered())]
    titles = {part.title for part in parts(page(run(tmp_path, records)).parts)}
    assert {f"{what}, on {where}" for what in ("Pruning cost", "Recovery") for where in ("a, b", "c")} <= titles


# -- ratios ----------------------------------------------------------------------------------------------


def test_pooled_ratios_are_shown_with_their_spread_and_the_number_of_nodes(tmp_path: Path) -> None:
    found = run(tmp_path, SPREAD)
    table = titled(page(found), "Times faster over several nodes").table
    assert table is not None
    (row,) = table.rows
    assert row == ("bert", "l1 0.9 unstructured · packed", "2.10", "1.86 to 2.36", "faster", "0.047", "3")
    kept = [*(timed(name, 2.0, 0.1) for name in "abc"), builders.accuracy("bert", "l1", "layer", 0.1)]
    (told,) = answers.sentences(candidates(kept))
    assert "2.0x faster [2.0, 2.0] over 3 nodes, τ 0.000, " in told
    text = short(found)
    assert "over 3 nodes, τ 0.047" in text
    assert "3 nodes: a, b, c" in text
    assert "AMD" not in text.split("The nodes differ")[0]


def test_figures_and_tables_of_ratios_show_the_pooled_one() -> None:
    point = Point(0.9, tuple(SPREAD))
    over = over_nodes(SPREAD)
    assert over is not None
    pooled = measures.height(point, measures.speedup, geometric=True)
    assert pooled == measures.Height(over.value, over.low, over.high)
    (row,) = tables.memory_and_time(SPREAD[:2]).rows
    assert "over 2 nodes, τ 0.0" in row[3]


def test_the_break_even_takes_the_pooled_interval() -> None:
    slow = [timed(name, speed, 0.5) for name, speed in (("a", 0.80), ("b", 0.82), ("c", 0.81))]
    fast = [timed(name, 2.0, 0.9) for name in "abc"]
    (told,) = break_even.crossings([*slow, *fast])
    assert (told.low, told.high) == (0.5, 0.9)
    apart = [
        timed("a", 0.80, 0.5),
        timed("b", 0.5, 0.5),
    ]  # each slower for certain, and of two nodes the spread unknown
    (open_,) = break_even.crossings([*apart, *fast])
    assert (open_.low, open_.high) == (None, 0.9)


def test_limits_of_several_machines_are_no_limit_and_their_ceilings_are_named() -> None:
    bounds = {"ideal_seconds": 0.001, "ceiling": 4.0}
    several = [timed("a", 2.0, **bounds), timed("b", 2.0, **{**bounds, "ceiling": 5.0})]
    drawn = speedups.speedup_against_limits(several)
    assert drawn is not None
    labels = [line.get_label() for line in drawn.axes[0].lines]
    assert "at the roofline" not in labels
    assert {"Amdahl's ceiling · a", "Amdahl's ceiling · b"} <= set(labels)
    alone = speedups.speedup_against_limits(several[:1])
    assert alone is not None
    assert {"at the roofline", "Amdahl's ceiling"} <= {line.get_label() for line in alone.axes[0].lines}


def test_the_map_doubts_what_the_pooled_interval_does_not_tell() -> None:
    records = [
        replace(record, cell=replace(record.cell, workload=workload))
        for workload in ("8x64", "1x64")
        for record in [timed("a", 1.1, 0.5), timed("b", 3.0, 0.5), *(timed(name, 2.0) for name in "ab")]
    ]
    drawn = maps.speed_map(records)
    assert drawn is not None
    assert sorted(text.get_text() for text in drawn.axes[0].texts) == ["1.82?", "1.82?", "2.00", "2.00"]


def test_a_run_of_one_machine_says_nothing_of_nodes(tmp_path: Path) -> None:
    document = page(read([builders.write(tmp_path / "run.json", builders.run_json())]))
    text = markdown.render(document)
    assert "several nodes" not in text
    assert "\u03c4" not in text
    assert "### Nodes" not in text


def test_the_terminal_lists_the_nodes_and_each_time_beside_its_own(tmp_path: Path) -> None:
    found = run(tmp_path, SPREAD)
    text = summary.text(found.drawn, [], nodes=found.nodes)
    lines = text.splitlines()
    assert lines[0].split() == ["node", "machine", "cells", "measured", "noise", "floor"]
    assert "The nodes differ in cpu" in text
    rows = [line.split("8x64")[1].split() for line in lines if line.startswith("bert · l1 · layer")]
    assert [row[:3] for row in rows] == [["a", "4.00", "2.00"], ["b", "5.00", "2.27"], ["c", "50.00", "23.81"]]
    assert "timed on" in text
    loud = timed("c", 2.0, verdict="inconclusive", reason=f"{WITHHELD}so much", noise_floor=0.2, ceiling=4.0)
    doubts = summary.text([SPREAD[0], loud], [], nodes=found.nodes)
    assert "noisy, on c: a model seems to differ from its own copy by up to 20%" in doubts
    assert "with every prunable layer free: bert 8x64 on c 4.00x" in doubts
    assert "timed on" not in summary.text([replace(each, node=None) for each in SPREAD[:1]], [])


def test_exports_name_the_node_where_several_measured_a_cell(tmp_path: Path) -> None:
    found = run(tmp_path, [*SPREAD, timed("c", 3.0, 0.5)])
    files = exports.files(found)
    rows = list(csv.DictReader(io.StringIO(files["cells.csv"])))
    assert [row["node"] for row in rows] == ["a", "b", "c", "c"]
    names = [entry["name"] for entry in json.loads(files["github-action-benchmark.json"])]
    assert [name.rpartition(" · ")[2] for name in names] == ["node a", "node b", "node c", "float32"]
    assert not any("latency" in measures for measures in json.loads(files["bencher.json"]).values())
    one = run(tmp_path, SPREAD[:2], nodes=described(a=builders.FINGERPRINT, b=builders.FINGERPRINT))
    assert any("latency" in each for each in json.loads(exports.files(one)["bencher.json"]).values())


def test_runs_side_by_side_keep_absolute_times_of_machines_apart(tmp_path: Path) -> None:
    first = builders.write(tmp_path / "one.json", several_nodes.json(SPREAD))
    second = builders.write(tmp_path / "two.json", several_nodes.json([timed("a", 2.0, dense=0.004)]))
    sides = across.side_by_side([first, second])
    times = next(part for part in across.document(sides).parts if part.title.startswith("Absolute"))
    assert times.table is not None
    assert times.table.headers[3:] == ("one, a, b: ms", "one, c: ms", "two, a, b: ms")
    assert times.table.rows[0][3:] == ("4.50", "50.0", "4.00")
    seen = next(iter(sides[0].cells.values()))
    assert seen.over is not None
    assert seen.over.nodes == 3
    rows = list(csv.DictReader(io.StringIO(across.table(sides))))
    assert [row["pruned seconds"] for row in rows] == ["", "0.002"]  # of a pooled ratio there are none


def test_nothing_of_a_node_becomes_markup_or_a_path(tmp_path: Path) -> None:
    evil = builders.EVIL
    nodes = described(**{evil: {"cpu": evil, evil: evil}, f"../{evil}": {"cpu": f"{evil}{evil}"}})
    records = [timed(name, 2.0, dense=dense) for name, dense in zip(nodes, (0.004, 0.05), strict=True)]
    written = report([builders.write(tmp_path / "run.json", several_nodes.json(records, nodes=nodes))])
    text = written.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert {path.parent for path in tmp_path.rglob("*.*")} == {tmp_path, written.parent}
    assert "<script>" not in (written.parent / "report.md").read_text(encoding="utf-8")


def test_the_whole_report_is_written(tmp_path: Path) -> None:
    records = [replace(each, node=name) for name in NODES for each in (timed(None, 2.0, 0.5), timed(None, 3.0, 0.9))]
    written = report([builders.write(tmp_path / "run.json", several_nodes.json(records))])
    text = written.read_text(encoding="utf-8")
    assert "Times faster over several nodes" in text
    assert "Milliseconds are left out" in text
    assert (written.parent / "required-time-c.svg").is_file()
