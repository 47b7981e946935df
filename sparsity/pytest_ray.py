"""The pytest plugin by which the cells of a run are measured by the nodes of a Ray cluster: `--ray[=ADDRESS]`.

The process that was started collects, sends groups of tests, and keeps what comes back, as if it had run them itself:
the same reports, journal and result file, each record with the node that measured it. Without the option it does
nothing, and Ray is not imported.

Refuses: `-n` beside it, a baseline (times of other machines), a debugger and what else shows tests as they run, an
empty address, and what `cluster.engine` does. A sweep has a `--cell-timeout`, of an hour unless given: a machine that
hangs must not hold it for ever.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING, Any, cast

import pytest

from sparsity import pytest_entry, pytest_workers
from sparsity.cells import STATE, RunState, axes_of, budget_spent
from sparsity.errors import SparsityError
from sparsity.pytest_baseline import BASELINE
from sparsity.pytest_guard import GRACE
from sparsity.record import Cell

if TYPE_CHECKING:
    from sparsity.cluster.engine import Engine
    from sparsity.cluster.ledger import GivenUp
    from sparsity.pytest_journal import Keeper

CELL_TIMEOUT = 3600.0
"""Seconds of a cell, unless given."""
MARGIN = 30.0
"""Seconds after which a cell that its own process should have given up is taken for lost with that process."""
ENVIRONMENT = ("HF_", "TRANSFORMERS_", "PYTEST_", "OMP_", "MKL_", "TOKENIZERS_", "CUBLAS_")
"""Beginnings of the variables that nodes get from here."""
SECRET = ("TOKEN", "KEY")
"""Those with such a word in their name stay: a node logs in by itself."""
HERE = {"usepdb": "--pdb", "trace": "--trace", "setupplan": "--setup-plan", "setuponly": "--setup-only",
        "setupshow": "--setup-show"}  # fmt: skip
"""Options of pytest, by where it keeps them, that a process without a terminal would follow without a word."""


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Whatever cannot go together, before anything happens."""
    state = config.stash.get(STATE, None)
    if config.getoption("sparsity_ray", None) == "":
        raise pytest.UsageError("--ray=: the address is empty; without = nodes are started on this machine")
    if state is None or state.options.ray is None or pytest_workers.is_worker(config) or config.option.collectonly:
        return
    if getattr(config.option, "dist", "no") != "no":
        raise pytest.UsageError("--ray: the cluster runs cells side by side already; run without -n")
    if config.stash.get(BASELINE, None) is not None:
        way = "python -m reports compare BASE.json HEAD.json compares when it is finished"
        raise pytest.UsageError(f"--ray: a run on several machines has no --sparsity-baseline; {way}")
    if here := [option for name, option in HERE.items() if getattr(config.option, name, False)]:
        raise pytest.UsageError(f"--ray: {here[0]} needs tests in this process; run without one of them")
    if state.options.device_map is not None:
        raise pytest.UsageError("--ray: a cell gets one GPU, so --device-map has nothing to spread over")
    config.pluginmanager.register(Sweep(config), "sparsity-ray")


class Sweep:
    """Of the process that sends tests."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.state: RunState = config.stash[STATE]
        self.items: dict[str, pytest.Item] = {}

    @property
    def keeper(self) -> Keeper:
        """Who keeps what tests leave."""
        found = self.config.pluginmanager.get_plugin("sparsity-journal")
        return cast("Keeper", found)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Sends the tests instead of running them."""
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            return None  # pytest's own loop says so
        if not session.items:
            return True
        self.items = {item.nodeid: item for item in session.items}
        engine = self._engine()
        try:
            engine.start()
            for event in engine.events():
                self._take(event)
                if session.shouldfail:
                    raise session.Failed(session.shouldfail)
                if session.shouldstop:
                    raise session.Interrupted(session.shouldstop)
            if self.state.options.budget is not None:
                self._postpone(budget_spent(self.state.options.budget))
        except SparsityError as error:
            if engine.begun:  # what was measured stays
                raise session.Interrupted(str(error)) from None
            raise pytest.UsageError(str(error)) from None
        finally:
            engine.stop()
        return True

    def _engine(self) -> Engine:
        from sparsity.cluster.child import Order
        from sparsity.cluster.engine import Engine, Needs
        from sparsity.cluster.ledger import TOGETHER, Ledger, grouped
        from sparsity.pytest_ray_worker import digest

        options, earlier = self.state.options, self.keeper.earlier
        timeout = options.cell_timeout or CELL_TIMEOUT
        arguments = [str(each) for each in self.config.invocation_params.args]
        if options.cell_timeout is None:
            arguments.append(f"--cell-timeout={CELL_TIMEOUT:g}")
        on_gpu = options.device.startswith("cuda")
        assert options.ray is not None  # else there were no sweep
        tests = []
        for item in self.items.values():
            axes = axes_of(item)
            key = (str(item.path), *(axes.get(name) for name in TOGETHER))
            tests.append((item.nodeid, key, item.get_closest_marker("timed") is not None))
        order = Order(
            key=uuid.uuid4().hex,
            arguments=tuple(arguments),
            folder=str(self.config.invocation_params.dir),
            environment=_environment(),
            settings={"turns": f"of-{os.getuid() if hasattr(os, 'getuid') else 'all'}"},
            tests=(),
            silence=timeout + max(timeout, GRACE) + MARGIN,
            forget=on_gpu,
        )
        return Engine(
            address=options.ray,
            needs=Needs(options.threads or (1 if on_gpu else None), int(on_gpu)),
            order=order,
            ledger=Ledger(grouped(tests), earlier.died if earlier else {}),
            digest=digest(self.keeper.order),
            until=float("inf") if options.budget is None else time.monotonic() + options.budget,
        )

    def _take(self, event: Any) -> None:
        from sparsity.cluster.ledger import GivenUp

        if isinstance(event, GivenUp):
            self._give_up(event)
        elif "begun" in event:
            item = self.items[event["begun"]]
            self.config.hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        elif "hung" in event:
            self._report(self.items[event["hung"]], f"{event['reason']} (node {event['node']})")
        elif "ended" in event:
            self._replay(event)

    def _replay(self, event: dict[str, Any]) -> None:
        """The reports of a test, as if it had run here; once, whatever a worker that was thought lost still sent."""
        hook, test = self.config.hook, event["ended"]
        if test in self.keeper.entries:
            return
        for data in event["reports"]:
            report = hook.pytest_report_from_serializable(config=self.config, data=data)
            hook.pytest_runtest_logreport(report=report)
        item = self.items[test]
        hook.pytest_runtest_logfinish(nodeid=test, location=item.location)

    def _give_up(self, lost: GivenUp) -> None:
        self._report(self.items[lost.test], lost.reason)

    def _postpone(self, reason: str) -> None:
        """What was not sent when the budget was spent, as a plain run tells it."""
        for item in self.items.values():
            self._report(item, reason, postponed=True)

    def _report(self, item: pytest.Item, reason: str, postponed: bool = False) -> None:
        """A test that left nothing, as one that failed, or that was not tried."""
        if item.nodeid in self.keeper.entries:
            return
        axes, outcome = axes_of(item), "skipped" if postponed else "error"
        entry = pytest_entry.without_number(item.nodeid, axes, outcome, reason)
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", reason, "call")
        if postponed:
            report.outcome, report.longrepr = "skipped", (str(item.path), (item.location[1] or 0) + 1, reason)
        pytest_entry.carry(report, entry, str(Cell(**axes)) if axes else item.name, postponed)
        self.config.hook.pytest_runtest_logreport(report=report)


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(ENVIRONMENT) and not any(word in name for word in SECRET)
    }
