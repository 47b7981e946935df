"""`--ray`: the file of a plain run, cell by cell, whatever is lost on the way; on nodes that Ray simulates here."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import faults
from sparsity.record import run_from_json
from tests.journaled import ON_NODES, SUITE, deterministic, ran, suite
from tests.test_pytest_journal import data

pytest.importorskip("ray", reason="Ray is not installed, so there is no cluster")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[faults.Cluster, str]]:
    with faults.cluster() as found:
        yield found


@pytest.fixture
def address(nodes: tuple[faults.Cluster, str]) -> str:
    return f"--ray={nodes[1]}"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return suite(tmp_path, ON_NODES)


def without_nodes(file: Any) -> Any:
    """What must be as in a plain run."""
    found = deterministic(file)
    nodes = found["part"].pop("nodes", {})
    for cell in found["cells"].values():
        assert cell["record"].pop("node", None) in {None, *nodes}
    return found


def edited(folder: Path, extra: str) -> None:
    """The suite with something before a cell is measured."""
    (folder / "test_cells.py").write_text(SUITE.replace("    benchmark.pedantic", f"{extra}\n    benchmark.pedantic"))


def missed(folder: Path) -> dict[str, str]:
    """Why cells left no number, but for those that leave none in any run."""
    part = run_from_json(data(folder)["sparsity"])
    odd = [each for each in part.not_measured if each.outcome != "skipped" and each.cell.method != "worse"]
    return {f"{each.cell.model}-{each.cell.method}": each.reason for each in odd}


def test_nodes_give_the_same_file_as_a_plain_run(tmp_path: Path, run: Run, address: str) -> None:
    assert run("--benchmark-json=one.json").returncode == 1
    log = ran(tmp_path)
    (tmp_path / "log").unlink()
    result = run("--benchmark-json=two.json", address)
    assert result.returncode == 1, result.stdout + result.stderr
    one, two = data(tmp_path, "one.json"), data(tmp_path, "two.json")
    assert without_nodes(one) == without_nodes(two)
    assert [each["fullname"] for each in one["benchmarks"]] == [each["fullname"] for each in two["benchmarks"]]
    assert sorted(ran(tmp_path)) == sorted(log)
    used = {each["extra_info"]["sparsity"]["node"] for each in two["benchmarks"]}
    assert used <= two["sparsity"]["nodes"].keys()
    assert len(used) > 1, "three nodes, and one did it all"
    common = two["sparsity"]["fingerprint"]
    assert common["torch"] == "none was needed"
    assert all(common.items() <= node["fingerprint"].items() for node in two["sparsity"]["nodes"].values())
    assert "1 failed, 8 passed, 3 skipped" in result.stdout
    assert not list(tmp_path.glob("*.journal*"))


def test_a_cell_that_kills_its_process_and_one_that_hangs_are_recorded(tmp_path: Path, run: Run, address: str) -> None:
    os.mkfifo(tmp_path / "pipe")  # a file that never comes
    dies = '    if place == "bert-l1":\n        import os\n        os.kill(os.getpid(), 9)\n'
    edited(tmp_path, f'{dies}    if place == "gpt2-l1":\n        Path("pipe").read_bytes()')
    assert run("--benchmark-json=run.json", address, "--cell-timeout=1").returncode == 1
    reasons = missed(tmp_path)
    assert reasons.keys() == {"bert-l1", "gpt2-l1"}
    assert "ended by SIGKILL" in reasons["bert-l1"]
    assert "so it went 3 times" in reasons["bert-l1"]
    assert reasons["gpt2-l1"] == "gave up after 1 s (--cell-timeout)"
    assert len(data(tmp_path)["benchmarks"]) == 7


def test_a_process_that_is_killed_once_costs_nothing(tmp_path: Path, run: Run, address: str) -> None:
    dying = '    import os\n    if place == "gpt2-l1" and not Path("dead").exists():\n        Path("dead").touch()\n'
    edited(tmp_path, dying + "        os.kill(os.getppid(), 9)\n        time.sleep(30)")  # its Ray worker
    run("--benchmark-json=run.json", address)
    assert (tmp_path / "dead").exists()
    assert missed(tmp_path) == {}
    assert len(data(tmp_path)["benchmarks"]) == 9


def test_a_lost_node_and_a_killed_run_lose_nothing(
    tmp_path: Path, run: Run, nodes: tuple[faults.Cluster, str], address: str
) -> None:
    (tmp_path / "wait").write_text("gpt2-random")
    command = [sys.executable, "-m", "pytest", "--benchmark-json=run.json", "--resume", address]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as running:
        until = time.monotonic() + 60
        while not (tmp_path / "waiting").exists():
            assert running.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        for _ in range(faults.NODES - 1):
            nodes[0].lose(random.Random(0))
        running.send_signal(signal.SIGKILL)
    (tmp_path / "wait").unlink()
    run("--benchmark-json=run.json", "--resume", address)
    run("--benchmark-json=whole.json")
    assert without_nodes(data(tmp_path)) == without_nodes(data(tmp_path, "whole.json"))


def test_a_run_that_is_interrupted_is_gone_on_with(tmp_path: Path, run: Run, address: str) -> None:
    (tmp_path / "wait").write_text("gpt2-random")
    command = [sys.executable, "-m", "pytest", "--benchmark-json=run.json", address]

    def heed() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, preexec_fn=heed) as running:
        while not (tmp_path / "waiting").exists():
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=60)
    assert "KeyboardInterrupt" in output
    assert (tmp_path / "run.json.journal").exists()
    (tmp_path / "wait").unlink()
    assert run("--benchmark-json=run.json", address, "--resume").returncode == 1
    assert missed(tmp_path) == {}
    assert len(data(tmp_path)["benchmarks"]) == 9


def test_what_a_spent_budget_leaves_is_told_and_gone_on_with(tmp_path: Path, run: Run, address: str) -> None:
    result = run("--benchmark-json=run.json", address, "--budget=0.001")
    assert result.returncode == 0, result.stdout
    assert "12 skipped" in result.stdout
    assert "12 not measured: the run's budget of 0.001 s was spent; --budget gives it more" in result.stdout
    assert run("--benchmark-json=run.json", address, "--resume", "--budget=600").returncode == 1
    assert missed(tmp_path) == {}
    assert len(data(tmp_path)["benchmarks"]) == 9


def test_a_plain_run_is_not_gone_on_with_by_nodes(tmp_path: Path, run: Run, address: str) -> None:
    run("--benchmark-json=run.json", "-x")
    result = run("--benchmark-json=run.json", "--resume", address)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "run.json.journal: the run was 'without --ray' and is 'with --ray'" in result.stdout + result.stderr


def test_files_that_cannot_be_imported_stop_no_run_that_goes_on_past_them(
    tmp_path: Path, run: Run, address: str
) -> None:
    (tmp_path / "test_bad.py").write_text("import nothing_of_this_name")
    result = run("--benchmark-json=run.json", address, "--continue-on-collection-errors")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "1 failed, 8 passed, 3 skipped, 1 error" in result.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("-n", "2"), "--ray: the cluster runs cells side by side already; run without -n"),
        (("--pdb",), "--ray: --pdb needs tests in this process; run without one of them"),
        (("--trace",), "--ray: --trace needs tests in this process"),
        (("--setup-plan",), "--ray: --setup-plan needs tests in this process"),
        (("--ray=",), "--ray=: the address is empty"),
        (("--device=cuda", "--device-map=auto"), "--ray: a cell gets one GPU, so --device-map has nothing"),
        (("--ray=127.0.0.1:1",), "--ray=127.0.0.1:1: no Ray cluster can be reached there"),
        (("--ray=ray://127.0.0.1:1",), "a client's address; start the run on a node of the cluster"),
        (("--ray", "test_cells.py"), "the address follows an equals sign, --ray=ADDRESS"),
        (("--device=cuda",), "no node of the cluster has 1 cores and 1 GPU, which a cell needs; there are: "),
        (("--threads=99",), "no node of the cluster has 99 cores, which a cell needs; there are: "),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, run: Run, address: str, options: tuple[str, ...], told: str
) -> None:
    given = (address, *options) if not any("ray" in each for each in options) else options
    result = run("--benchmark-json=run.json", *given)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR, result.stdout
    output = result.stdout + result.stderr
    (line,) = (line for line in output.splitlines() if told in line)
    assert line.startswith("ERROR: ")
    assert "Traceback" not in output


def test_nodes_with_other_files_are_refused(tmp_path: Path, run: Run, address: str) -> None:
    models = "['bert'] if 'sparsity.pytest_ray_worker' in sys.modules else ['bert', 'gpt2']"
    (tmp_path / "test_cells.py").write_text("import sys\n" + SUITE.replace('["bert", "gpt2"]', models))
    result = run("--benchmark-json=run.json", address)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "has other tests (6); share the same files with it" in result.stdout + result.stderr


def test_a_plain_run_does_not_know_ray(tmp_path: Path, run: Run) -> None:
    asking = "import atexit, sys\natexit.register(lambda: print('ray' in sys.modules))"
    (tmp_path / "conftest.py").write_text(f"{ON_NODES}\n{asking}")
    assert run("--benchmark-json=run.json").stdout.rstrip().endswith("False")


def test_without_ray_the_extra_is_named(tmp_path: Path, run: Run) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError")
    result = run("--ray", "-p", "no:xdist")
    assert "ERROR: --ray needs Ray; pip install 'sparsity-bench[cluster]'" in result.stdout + result.stderr
