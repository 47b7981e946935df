"""A warm pytest process: what it answers, how its end is told, and that it stays for the next group."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparsity.cluster import child
from sparsity.cluster.child import Order
from tests.journaled import ON_NODES, suite

CELL = "test_cells.py::test_cell[{}]"


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    child._end_all()


def order(folder: Path, *cells: str, **settings: Any) -> Order:
    chosen: dict[str, Any] = {"key": "one", "arguments": (), "environment": {}, "silence": 60.0} | settings
    names = tuple(CELL.format(cell) for cell in cells)
    return Order(folder=str(folder), tests=names, settings={"node": "n1", "turns": f"test-{os.getpid()}"}, **chosen)


def answers(folder: Path, *cells: str, **settings: Any) -> list[dict[str, Any]]:
    return list(child.run(order(folder, *cells, **settings)))


def test_groups_go_to_one_process_one_after_the_other(tmp_path: Path) -> None:
    suite(tmp_path, ON_NODES)
    first = answers(tmp_path, "bert-none", "bert-l1")
    assert [next(iter(event)) for event in first] == ["ready", "begun", "ended", "begun", "ended", "end"]
    assert first[0]["tests"] == 12
    (report,) = (each for each in first[2]["reports"] if each["when"] == "teardown")
    assert report["sparsity_entry"]["record"]["node"] == "n1"
    assert report["sparsity_entry"]["run"]["node"]["name"] == "n1"
    second = answers(tmp_path, "gpt2-l1")
    assert [next(iter(event)) for event in second] == ["begun", "ended", "end"]  # it had collected already
    other = answers(tmp_path, "gpt2-last", key="another run")
    assert "ready" in other[0]


@pytest.mark.parametrize(
    ("last_act", "told"),
    [
        ("os.kill(os.getpid(), 9)", "its process was ended by SIGKILL (out of memory, or killed from outside)"),
        ("os.kill(os.getpid(), 11)", "its process was ended by SIGSEGV"),
        ("os._exit(5)", "its process ended with status 5"),
    ],
)
def test_how_it_ended_is_told_and_another_takes_its_place(tmp_path: Path, last_act: str, told: str) -> None:
    suite(tmp_path, ON_NODES)
    once = 'if place == "bert-l1" and not Path("dead").exists():'
    dying = f'    import os\n    {once}\n        Path("dead").touch()\n        {last_act}\n'
    cells = tmp_path / "test_cells.py"
    cells.write_text(cells.read_text().replace("    benchmark.pedantic", dying + "    benchmark.pedantic"))
    found = answers(tmp_path, "bert-none", "bert-l1", "bert-last")
    assert [next(iter(event)) for event in found[-2:]] == ["begun", "died"]
    assert found[-1]["died"].startswith(told)
    assert "ended" in answers(tmp_path, "bert-l1")[2]


def test_one_that_says_nothing_is_ended(tmp_path: Path) -> None:
    suite(tmp_path, ON_NODES)
    (tmp_path / "wait").write_text("bert-none")
    found = answers(tmp_path, "bert-none", silence=0.5)
    assert found[-1] == {"died": "nothing was heard of it for 0.5 s"}


@pytest.mark.parametrize(
    ("arguments", "folder", "told"),
    [
        (("--no-such-option",), ".", "unrecognized arguments: --no-such-option"),
        ((), "nowhere", "the folder of the run is not there; share it with this node"),
    ],
)
def test_one_that_cannot_begin_says_why(tmp_path: Path, arguments: tuple[str, ...], folder: str, told: str) -> None:
    suite(tmp_path, ON_NODES)
    (event,) = answers(tmp_path / folder, "bert-none", arguments=arguments)
    assert told in event["died"]


def test_a_test_that_it_does_not_know_is_refused(tmp_path: Path) -> None:
    suite(tmp_path, ON_NODES)
    assert "it has no test test_cells.py::test_cell[bert-other]" in answers(tmp_path, "bert-other")[-1]["refused"]


def test_it_ends_with_whoever_hears_it(tmp_path: Path) -> None:
    suite(tmp_path, ON_NODES)
    (tmp_path / "wait").write_text("bert-none")
    running = child.run(order(tmp_path, "bert-none"))
    assert [next(iter(next(running))) for _ in range(2)] == ["ready", "begun"]
    process = child._warm[0].process
    child._warm[0].orders.close()  # as when the Ray worker dies
    assert process.wait(30) == 75


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    assert child._told(-63, "") == "its process was ended by signal 63"
    assert child._told(-signal.SIGTERM, "") == "its process was ended by SIGTERM"
    assert child._told(None, "") == "its process had to be killed"
