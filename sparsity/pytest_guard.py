"""The pytest plugin by which a bad cell is one bad cell: no memory, a broken kernel, `--cell-timeout`.

Whatever ends the setup or the test of a cell, other than an outcome, a claim that failed or an error of ours, is one
line, by which the cell is recorded as failed; a second line says where. With `--tb=…` its traceback follows, with
`--pdb` it is left as it is. Then nothing is taken for granted that may be half changed, memory is given back, and the
run goes on; but when CUDA can run nothing any more, it stops, and `--resume` goes on.

`--cell-timeout` bounds setup and test of each cell (`time_limit`); to load a model is part of the first cell that
needs it. A cell that does not return from native code ends the process with status `HUNG`, once every
`pytest_cell_hung` was called. pytest-timeout is not what does it: it has either a failure by SIGALRM, which what
catches failures may swallow, or an end of the process without a word to other plugins, and it knows nothing of what
is half changed. It may be used beside this.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import traceback
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import pytest

from sparsity import failures, time_limit
from sparsity.cells import STATE, axes_of
from sparsity.compositions import Compositions
from sparsity.errors import SparsityError
from sparsity.failures import Failure
from sparsity.recoveries import Recoveries
from sparsity.time_limit import GaveUp, TimeLimit

HUNG = 70
"""Exit status of a run that ended because a cell did not return; EX_SOFTWARE of sysexits.h."""
GRACE = 30.0
"""Seconds, at least, in which a cell must return to Python when its time is over."""
TOLD_BY_PYTEST = (SparsityError, AssertionError, pytest.FixtureLookupError)
"""What is no failure of the cell's work: refusals, claims, and a test that is written wrongly."""


class CellGaveUp(GaveUp, pytest.fail.Exception):  # type: ignore[name-defined,misc]  # pytest sets it on a function
    """An outcome too: after any other exception that is no `Exception`, pytest cannot set the fixture up again."""


@dataclass
class Guard:
    """Of one run."""

    stderr: int
    """A file descriptor that reaches the terminal while pytest captures."""
    limit: TimeLimit | None = None
    """Of the cell that runs."""
    failed: bool = False
    """Whether the test that runs has failed, however."""
    broken: type[BaseException] | None = None
    """What the cell that runs was broken by: the kind, since an exception holds on to what it went through."""
    holders: dict[type, Any] = field(default_factory=dict)
    """The run's recoveries and compositions, as soon as a cell has asked for them."""

    def begin(self) -> None:
        """Another test runs."""
        self.failed, self.broken = False, None


GUARD = pytest.StashKey[Guard]()


class Hooks:
    """What other plugins may implement."""

    @pytest.hookspec
    def pytest_cell_hung(self, item: pytest.Item, reason: str) -> None:
        """A cell does not return; the process ends when this does. Called outside the main thread."""


# -- the run ------------------------------------------------------------------------------------


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """`pytest_cell_hung`."""
    pluginmanager.add_hookspecs(Hooks)


def pytest_configure(config: pytest.Config) -> None:
    """While nothing is captured yet."""
    config.stash[GUARD] = Guard(os.dup(2))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leaves nothing open."""
    if (guard := config.stash.get(GUARD, None)) is not None:  # another plugin may have ended the run before
        os.close(guard.stderr)


def pytest_sessionstart(session: pytest.Session) -> None:
    """A time-out that was asked for and cannot be had is told."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    why = time_limit.unavailable()
    if _timeout(session.config) and why and reporter is not None:
        reporter.write_line(f"--cell-timeout is not available: {why}; cells may take as long as they like")


def _timeout(config: pytest.Config) -> float | None:
    state = config.stash.get(STATE, None)
    return state.options.cell_timeout if state is not None else None


# -- a cell --------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """When all is over, fixtures too, and so nothing holds on to anything: memory is given back."""
    guard = item.config.stash[GUARD]
    guard.begin()
    try:
        return (yield)
    finally:
        _stop(guard)
        if guard.broken is not None:
            _forget(item.config, guard)
        if guard.failed and axes_of(item):
            give_back()


@pytest.hookimpl(wrapper=True, trylast=True)  # innermost: nothing but fixtures and test is interrupted
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """The time of a cell begins; what goes wrong is one line."""
    guard, seconds = item.config.stash[GUARD], _timeout(item.config)
    if axes_of(item) and seconds is not None and time_limit.unavailable() is None:
        guard.limit = _limit(item, guard, seconds)
        guard.limit.start()
    return (yield from _guarded(item))


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """The same of the test itself; with it the time of a cell ends."""
    result = yield from _guarded(item)
    _stop(item.config.stash[GUARD])
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes that a test has failed, since its exception may hold on to memory; and what holds on to models anyway."""
    report = yield
    guard = item.config.stash[GUARD]
    guard.failed |= report.failed
    if report.failed and axes_of(item) and (benchmark := _fixtures(item).get("benchmark")) is not None:
        benchmark.skipped = True  # else pytest-benchmark warns of a fixture that had no chance to be used
    guard.holders |= {type(each): each for each in _fixtures(item).values() if type(each) in (Recoveries, Compositions)}
    return report


def _fixtures(item: pytest.Item) -> dict[str, Any]:
    return getattr(item, "funcargs", None) or {}


def _guarded(item: pytest.Item) -> Generator[None, object, object]:
    """What is waited for, with everything that goes wrong in a cell turned into a failure of one line."""
    guard = item.config.stash[GUARD]
    if not axes_of(item):
        return (yield)
    try:
        with guard.limit.raising() if guard.limit else contextlib.nullcontext():
            return (yield)
    except BaseException as error:
        _stop(guard)
        text = _line(item, guard, error)
        if text is None:
            raise
    raise pytest.fail.Exception(text, pytrace=False)  # here, where it holds on to no other exception


def _line(item: pytest.Item, guard: Guard, error: BaseException) -> str | None:
    """What is told of an exception; None for one that pytest and the other plugins tell as it is."""
    if isinstance(error, TOLD_BY_PYTEST) or not isinstance(error, Exception | GaveUp):
        return None  # the latter is an outcome, or the user's interrupt
    guard.broken = type(error)
    if isinstance(error, GaveUp):
        if (benchmark := _fixtures(item).get("benchmark")) is not None:
            benchmark.has_error = True  # its times are not whole, which pytest-benchmark sees of an Exception alone
        place = failures.place(error, above=time_limit.__file__)
        return _told(item, error, Failure(f"{error} (--cell-timeout)", place))
    if item.config.getoption("usepdb", False):
        return None
    found = failures.failure(error)
    if found.lost or (failures.of_cuda(error) and _cuda_is_lost()):
        where = "--resume goes on behind this cell"
        item.session.shouldstop = f"nothing can run on the GPU any more ({failures.first_line(error)}); {where}"
    return _told(item, error, found)


def _told(item: pytest.Item, error: BaseException, found: Failure) -> str:
    """The reason, then what is for the terminal alone."""
    lines = [found.reason]
    if item.config.getoption("tbstyle", "auto") not in ("auto", "line", "no"):  # someone wants to see it
        lines += "".join(traceback.format_exception(error)).splitlines()
    elif found.place:
        lines.append(f"  {found.place}")
    return "\n".join(lines)


# -- the end of a bad cell ----------------------------------------------------------------------------


def _forget(config: pytest.Config, guard: Guard) -> None:
    """What may be half changed is made anew when it is asked for.

    An exception leaves a half pruned workspace and half converted models. An interruption may have come anywhere,
    such as before a hook was removed from a model: of those none is kept.
    """
    state = config.stash.get(STATE, None)
    if state is None:
        return
    interrupted = guard.broken is CellGaveUp
    state.bench.forget(models=interrupted)
    if not interrupted:
        return
    if (recoveries := guard.holders.get(Recoveries)) is not None:
        recoveries.last = None
    if (composed := guard.holders.get(Compositions)) is not None:
        composed.made.clear()


def give_back() -> None:
    """Nothing that only an exception holds on to stays: Python keeps the last one for debuggers."""
    for name in ("last_exc", "last_value", "last_type", "last_traceback"):
        if hasattr(sys, name):
            delattr(sys, name)
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        with contextlib.suppress(RuntimeError):  # of a context that is lost
            torch.cuda.empty_cache()


def _cuda_is_lost() -> bool:
    """Whether even the smallest thing fails. Some errors of CUDA are over once they were told, others are not."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
        return float(torch.ones(1, device="cuda").item()) != 1.0
    except RuntimeError:
        return True


# -- time ------------------------------------------------------------------------------------------


def _limit(item: pytest.Item, guard: Guard, seconds: float) -> TimeLimit:
    grace = max(seconds, GRACE)
    reason = f"gave up after {seconds:g} s (--cell-timeout); {grace:g} s later it had not returned from native code"

    def hung() -> NoReturn:
        line = f"\n{item.nodeid}: {reason}. The run ends with status {HUNG}; --resume goes on behind this cell.\n"
        try:
            os.write(guard.stderr, line.encode())
            item.config.hook.pytest_cell_hung(item=item, reason=reason)
        finally:
            os._exit(HUNG)

    stderr = None if _faulthandler_is_used(item.config) else guard.stderr
    return TimeLimit(seconds, grace, hung, stderr, CellGaveUp)


def _stop(guard: Guard) -> None:
    if guard.limit is not None:
        guard.limit.stop()
        guard.limit = None


def _faulthandler_is_used(config: pytest.Config) -> bool:
    """Whether pytest's own plugin has the one timer that there is."""
    return config.pluginmanager.has_plugin("faulthandler") and float(config.getini("faulthandler_timeout") or 0) > 0
