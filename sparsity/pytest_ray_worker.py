"""The pytest plugin of a process that runs tests for a sweep on a cluster: it waits for tests, runs them, tells.

Loaded by `cluster.child` alone. The process looks to every other plugin like a worker of pytest-xdist
(`workerinput`), so what a worker must not do (write files, time beside others) it does not do. It ends when the pipe
closes by which it hears, even in the middle of a test: then nobody waits for its answers any more.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import threading
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

from sparsity.cells import STATE
from sparsity.cluster.child import SETTINGS

CUT_OFF = 75
"""Exit status of a process whose pipe was closed; EX_TEMPFAIL of sysexits.h."""


class Worker:
    """Of the whole process."""

    def __init__(self, config: pytest.Config, settings: dict[str, Any]) -> None:
        self.config = config
        self.node = str(settings["node"])
        self.hears, self.tells = int(settings["hears"]), int(settings["tells"])
        self.orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.reports: list[dict[str, Any]] = []
        self.collected: list[str] = []

    def tell(self, **event: Any) -> None:
        """An event to whoever sent the tests."""
        data = json.dumps(event).encode() + b"\n"
        while data:
            data = data[os.write(self.tells, data) :]

    def listen(self) -> None:
        """Puts what is heard into the queue; ends the process when the pipe closes."""
        with os.fdopen(self.hears, "rb") as lines:
            for line in lines:
                self.orders.put(json.loads(line))
        os._exit(CUT_OFF)  # whatever runs: nobody waits for it

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Which tests there are, before any are left out."""
        self.collected = [item.nodeid for item in items]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Runs what is sent, until there is nothing more."""
        from sparsity.pytest_workers import REFUSED  # a plugin, which pytest must be the first to import

        self.config.stash[STATE].node = self.node
        threading.Thread(target=self.listen, daemon=True).start()
        refused = self.config.workeroutput.get(REFUSED)  # type: ignore[attr-defined]  # set below
        if session.testsfailed and not refused and not session.config.option.continue_on_collection_errors:
            refused = "the tests cannot be collected there"
        if refused:
            self.tell(refused=refused)
            return True
        self.tell(ready=self.node, tests=len(self.collected), digest=digest(self.collected))
        items = {item.nodeid: item for item in session.items}
        while not (session.shouldstop or session.shouldfail):
            order = self.orders.get()
            self._allow(order["budget"])
            unknown = [test for test in order["tests"] if test not in items]
            if unknown:
                self.tell(refused=f"it has no test {unknown[0]}; it must have the same files as the others")
                return True
            self._run(session, [items[test] for test in order["tests"]])
            if order["forget"]:
                self._forget()
            self.tell(end=str(session.shouldstop or session.shouldfail or ""))
        return True

    def _allow(self, seconds: float | None) -> None:
        """The budget of the whole run, as far as it is not spent."""
        state = self.config.stash[STATE]
        if seconds is not None and state.progress is not None and state.options.budget is not None:
            state.progress.begun = state.progress.clock() - (state.options.budget - seconds)

    def _run(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        between = Between.from_parent(session, name="between groups")
        for item, following in pairwise([*items, between]):
            if session.shouldstop or session.shouldfail:
                return
            self.tell(begun=item.nodeid)
            self.config.hook.pytest_runtest_protocol(item=item, nextitem=following)

    def _forget(self) -> None:
        """Gives memory back: the next group of this process may be long in coming, and others need it."""
        from sparsity.pytest_guard import give_back  # a plugin, as above

        self.config.stash[STATE].bench.forget(models=True)
        give_back()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test's reports go together, when it is over."""
        hook = self.config.hook
        self.reports.append(hook.pytest_report_to_serializable(config=self.config, report=report))
        if report.when == "teardown":
            self.tell(ended=report.nodeid, reports=self.reports)
            self.reports = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_cell_hung(self, item: pytest.Item, reason: str) -> None:
        """The process is about to be ended by a cell that does not return."""
        self.tell(hung=item.nodeid, reason=reason)


class Between(pytest.Item):
    """What pytest is told comes after the last test of a group, when nobody knows yet what does.

    It belongs to the session alone, so all is torn down but what lasts a session (trained models), which the next
    group may need.
    """

    def runtest(self) -> None:
        """It is never run."""
        raise NotImplementedError


def digest(tests: Iterable[str]) -> str:
    """Of the names of tests, whatever their order."""
    return hashlib.sha256("\n".join(sorted(tests)).encode()).hexdigest()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Before any plugin is configured: this is a worker."""
    from sparsity import pytest_workers  # a plugin, which pytest must be the first to import

    settings = json.loads(os.environ.pop(SETTINGS))
    os.environ[pytest_workers.WORKER] = settings["node"]
    config.workerinput = {  # type: ignore[attr-defined]  # as pytest-xdist sets it
        "workerid": pytest_workers.RAY,
        "testrunuid": settings["turns"],
        pytest_workers.DONE: [],
    }
    config.workeroutput = {}  # type: ignore[attr-defined]  # the same
    config.pluginmanager.register(Worker(config, settings), "sparsity-ray-worker")
