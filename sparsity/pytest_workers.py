"""Several workers of pytest-xdist (`-n`): quality side by side, time alone, all in one result file.

Tests that are marked `timed` have the machine to themselves: no other worker runs a test meanwhile. Each
worker takes the next CUDA device where the run asks for `cuda` without a number. What the workers'
tests left comes with their reports, to the one process that keeps it (`pytest_journal`).

A worker that refuses the run ends it with that one line.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sparsity.methods import METHODS
from sparsity.progress import Progress

if TYPE_CHECKING:
    from sparsity.pytest_journal import Keeper

WORKER = "PYTEST_XDIST_WORKER"
"""How pytest-xdist tells a process that it is one of several; without it, whoever measures time may."""
RAY = "ray"
"""The name of a worker whose engine has given it its device; those of pytest-xdist are numbered."""
DONE, REFUSED = "sparsity_done", "sparsity_refused"
CURVE = re.compile(rf"(.*?\[.*?-(?:{'|'.join(METHODS)}))(?=[-\]])")
"""The beginning of a test's id that it shares with the other points of its curve."""
_HIDDEN = pytest.StashKey[str]()
_TURNS = pytest.StashKey[Any]()


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is one of several workers."""
    return hasattr(config, "workerinput")


def distributes(config: pytest.Config) -> bool:
    """Whether this process hands tests to workers, and runs none."""
    return not is_worker(config) and getattr(config.option, "dist", "no") != "no"


def sends(config: pytest.Config) -> bool:
    """Whether this process sends its tests to the nodes of a cluster."""
    return config.pluginmanager.has_plugin("sparsity-ray")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """pytest-benchmark times nothing in a worker, since it cannot know that the others wait."""
    config.addinivalue_line("markers", "timed: has the machine to itself where tests run side by side")
    if is_worker(config):
        config.stash[_HIDDEN] = os.environ.pop(WORKER, "")
        config.option.benchmark_json = None  # the process that distributes writes it


def pytest_sessionstart(session: pytest.Session) -> None:
    """A worker is one again, and waits its turn; its device is its own."""
    config = session.config
    if not is_worker(config):
        return
    os.environ[WORKER] = config.stash[_HIDDEN]
    config.stash[_TURNS] = _turns(config.workerinput["testrunuid"])  # type: ignore[attr-defined]  # xdist's own


def _turns(run: str) -> Any:
    """Shared by tests that may run side by side, taken alone by those that are timed; freed when a worker dies."""
    import filelock

    if not hasattr(filelock, "ReadWriteLock"):
        raise pytest.UsageError("-n: workers take turns by filelock 3.21 or newer; pip install -U filelock")
    return filelock.ReadWriteLock(_turns_file(run))


def _turns_file(run: str) -> Path:
    return Path(tempfile.gettempdir()) / f"sparsity-{run}.turns"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test waits until it may run: beside others, or with none beside it."""
    turns = item.config.stash.get(_TURNS, None)
    if turns is None:
        return (yield)
    alone = item.get_closest_marker("timed") is not None
    with turns.write_lock() if alone else turns.read_lock(), _alone() if alone else contextlib.nullcontext():
        return (yield)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    name = os.environ.pop(WORKER, "")
    try:
        yield
    finally:
        os.environ[WORKER] = name


def own_device(config: pytest.Config, device: str) -> str:
    """The CUDA device of this worker: `cuda` is the next of those that there are."""
    if device != "cuda" or not is_worker(config) or config.workerinput["workerid"] == RAY:  # type: ignore[attr-defined]  # xdist's own
        return device
    import torch

    number = int(re.sub(r"\D", "", config.workerinput["workerid"]) or 0)  # type: ignore[attr-defined]  # xdist's own
    return f"cuda:{number % max(torch.cuda.device_count(), 1)}"


class Distributor:
    """Of the process that hands tests to workers."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.refused: str | None = None
        self.runs: set[str] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """What an earlier run measured is known before workers are."""
        self.keeper.look()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Each worker is told what need not be run."""
        self.runs.add(node.workerinput["testrunuid"])
        earlier = self.keeper.earlier
        node.workerinput[DONE] = [entry.test for entry in earlier.entries] if earlier else []

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """All that workers refuse was asked by now."""
        del node
        if ids and not self.keeper.order:
            self.keeper.order = {test: place for place, test in enumerate(ids)}
            if self.keeper.result is not None:
                self.keeper.begin()
            self.keeper.state.progress = Progress(len(ids))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """The points of a curve go to one worker, which loads, calibrates and scores dense once for all."""
        if config.option.dist != "load":
            return None
        from xdist.scheduler import LoadScopeScheduling

        class ByCurve(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
            """Tests of one curve stay together; one that ended its worker is not handed out again."""

            def remove_node(self, node: Any) -> Any:
                units = self.assigned_work[node].values()
                crashed = next((test for unit in units for test, done in unit.items() if not done), None)
                for unit in units:
                    if crashed in unit:
                        unit[crashed] = True
                super().remove_node(node)
                if not self.workqueue:  # else a worker with one test would wait for a second for ever
                    for other in self.assigned_work:
                        other.shutdown()
                return crashed

            def _split_scope(self, nodeid: str) -> str:
                found = CURVE.match(nodeid)
                return found[1] if found else nodeid

        return ByCurve(config, log)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker that refused the run said why."""
        del error
        self.refused = self.refused or getattr(node, "workeroutput", {}).get(REFUSED)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        """The file by which turns were taken goes; a refusal is told as in a run without workers."""
        yield
        for run in self.runs:
            for file in _turns_file(run).parent.glob(f"{_turns_file(run).name}*"):
                file.unlink(missing_ok=True)
        if self.refused is not None:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            self.keeper.tell(f"ERROR: {self.refused}")


def refuse(session: pytest.Session, error: Exception) -> None:
    """A worker that cannot take part runs nothing, and says why to the process that distributes."""
    session.items.clear()
    session.config.workeroutput[REFUSED] = str(error)  # type: ignore[attr-defined]  # xdist's own
