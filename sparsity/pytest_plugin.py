"""The pytest plugin: options → frozen settings, fixtures, records, progress, summary.

It knows pytest and pytest-benchmark (through public hooks and the `benchmark` fixture only) and no
benchmark in particular: which cells exist is the business of whoever parametrizes the axes. A test
that asks for `record` becomes a cell: what it puts there goes to `extra_info["sparsity"]`, stamped
with its outcome.

What a cell is, and how its errors become one line, is in `cells`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sparsity import options, pytest_entry, pytest_journal, pytest_workers, summary
from sparsity.bench import Bench
from sparsity.cells import (
    RECORDER,
    STATE,
    UNFINISHED,
    Recorder,
    RunState,
    Unfinished,
    axes_of,
    budget_spent,
    one_line_errors,
    reason_of,
)
from sparsity.cluster.engine import LOCAL
from sparsity.compositions import Compositions
from sparsity.errors import Refused, SparsityError
from sparsity.models import hub
from sparsity.progress import Progress
from sparsity.record import KEY, Cell, NotMeasured, Record, to_json
from sparsity.recoveries import Recoveries

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

OPTIONS = options.SETTINGS | {name: f"comma list: {axis.help}" for name, axis in options.AXES.items()}
"""Each option with its help."""
SWITCHES = ("compile", "resume")
ALIASES = {"tasks": ("--task",)}
"""Other spellings of an option."""
"""Options that take no value on the command line."""
SHOWN_BY_PYTEST_BENCHMARK = (
    "benchmark_compare",
    "benchmark_compare_fail",
    "benchmark_save",
    "benchmark_autosave",
    "benchmark_histogram",
    "benchmark_cprofile",
    "benchmark_verbose",
)
"""Options whose result pytest-benchmark tells in the terminal, so that it must not be quiet."""


# -- options ------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Every option is also a key of pytest.ini with the prefix `sparsity_`."""
    group = parser.getgroup("sparsity", "benchmarks of pruned transformers")
    for name, text in OPTIONS.items():
        kind: dict[str, Any] = {"action": "store_const", "const": "yes"} if name in SWITCHES else {}
        kind |= {"nargs": "?", "const": LOCAL, "metavar": "ADDRESS"} if name == "ray" else {}
        group.addoption(f"--{name}", *ALIASES.get(name, ()), dest=_key(name), help=text, **kind)
        parser.addini(_key(name), text)


def _key(name: str) -> str:
    """Under which pytest keeps an option, and reads it from pytest.ini."""
    return f"sparsity_{name.replace('-', '_')}"


def pytest_configure(config: pytest.Config) -> None:
    """The settings, checked before anything else happens."""
    texts = {name: config.getoption(_key(name)) or config.getini(_key(name)) for name in OPTIONS}
    try:
        parsed = options.parse(texts)
        parsed = dataclasses.replace(parsed, device=pytest_workers.own_device(config, parsed.device))
    except SparsityError as error:
        raise pytest.UsageError(str(error)) from None
    _check_result_file(config)
    if not any(getattr(config.option, name, None) for name in SHOWN_BY_PYTEST_BENCHMARK):
        config.option.benchmark_quiet = True  # its table has a row for each test; `summary` says it more briefly
    config.stash[STATE] = RunState(parsed, Bench(parsed, showing=lambda: uncaptured(config)))
    keeper = pytest_journal.Keeper(config)
    config.pluginmanager.register(keeper, "sparsity-journal")
    if pytest_workers.distributes(config):
        config.pluginmanager.register(pytest_workers.Distributor(keeper), "sparsity-workers")


def _check_result_file(config: pytest.Config) -> None:
    """A result file that cannot be written is told before anything is measured, not after."""
    file = getattr(config.option, "benchmark_json", None)
    if file is None:
        return
    folder = Path(file).absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise pytest.UsageError(f"--benchmark-json {file}: the folder {folder} is not there or may not be written to")


def run_options(config: pytest.Config) -> options.Options:
    """The settings of this run."""
    return config.stash[STATE].options


# -- before and while tests run --------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, object, object]:
    """An axis that whoever parametrizes does not know: kept, to end the run with one line, not one traceback a file."""
    try:
        return (yield)
    except SparsityError as error:
        metafunc.config.stash[STATE].unspanned = error
        return None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cells of one pruned model stand together, so that it is loaded and pruned once."""
    order: dict[tuple[Any, ...], int] = {}

    def place(item: pytest.Item) -> tuple[int, int]:
        axes = axes_of(item)
        model = order.setdefault((axes.get("model"),), len(order))
        recipe = tuple(axes.get(name) for name in ("model", "method", "pattern", "scope", "seed", "sparsity"))
        return model, order.setdefault(recipe, len(order)) if "sparsity" in axes else len(items) + len(order)

    items.sort(key=place)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """An unknown axis, a model or device that is not there: the run ends with one line, before anything is measured."""
    try:
        _check(session)
    except pytest.UsageError as error:
        if not pytest_workers.is_worker(session.config):
            raise
        pytest_workers.refuse(session, error)


def _check(session: pytest.Session) -> None:
    state = session.config.stash[STATE]
    if state.unspanned is not None:
        raise pytest.UsageError(str(state.unspanned))
    models = dict.fromkeys(axes.get("model") for axes in map(axes_of, session.items))
    references = [model for model in models if model]
    if not references or session.config.option.collectonly:
        return
    try:
        with uncaptured(session.config):
            if not pytest_workers.sends(session.config):
                state.bench.check_device()
            state.bench.check_data()
            _ = state.bench.harness_tasks  # raises what cannot be had of them
            for reference in references:
                hub.check(reference)
            if not state.options.ray:
                first = [axes for axes in map(axes_of, session.items) if axes.get("model") == references[0]]
                quality = any("task" in axes for axes in first)
                state.bench.check_model(references[0], quality)  # the one that is measured first, and is loaded now
    except SparsityError as error:
        raise pytest.UsageError(str(error)) from None
    state.progress = Progress(len(session.items))
    if threading.current_thread() is threading.main_thread():  # else what was measured would be lost, without a word
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.showfspath = False  # cells of one model stand together, so the file changes at every test


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Errors of ours inside a fixture of a cell are one line; no cell is begun once the budget is spent."""
    state = item.config.stash[STATE]
    with one_line_errors(item):
        budget = state.options.budget
        if budget is not None and state.progress is not None and state.progress.seconds > budget and axes_of(item):
            item.stash.setdefault(UNFINISHED, Unfinished()).postponed = True
            raise Refused(budget_spent(budget))
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Errors of ours inside the test of a cell are one line."""
    with one_line_errors(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Stamps the record of a finished cell, lists a cell that gave none, and hands on what a test left as it ends."""
    report = yield
    recorder, state = item.stash.get(RECORDER, None), item.config.stash[STATE]
    unfinished = item.stash.setdefault(UNFINISHED, Unfinished())
    reason = reason_of(report)
    if report.when == "call" and recorder is not None and not report.skipped:
        try:
            unfinished.record = to_json(recorder.finished(report.outcome, reason, state.node))
        except (TypeError, ValueError) as error:  # a number that is not finite, or no number, was not measured
            if report.passed:  # else the test's own reason says more
                report.outcome, report.longrepr, reason = "failed", str(error), str(error)
            unfinished.record = to_json(Record(recorder.cell, outcome="failed", reason=reason, node=state.node))
        recorder.benchmark.extra_info[KEY] = unfinished.record
    axes = axes_of(item)
    if axes and not report.passed:
        outcome = report.outcome if report.skipped or report.when == "call" else "error"
        unfinished.not_measured.append(NotMeasured(Cell(**axes), item.nodeid, outcome, reason or "no reason given"))
    if report.when == "setup":
        pytest_entry.begin(report, item)
    if report.when == "teardown":
        pytest_entry.hand_on(report, item, unfinished, recorder)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Nothing runs between tests."""
    result = yield
    item.config.stash[STATE].running = None
    return result


@contextlib.contextmanager
def uncaptured(config: pytest.Config) -> Iterator[None]:
    """Lets the progress bars of a download reach the terminal."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    if capture is None:
        yield
        return
    with capture.global_and_fixture_disabled():
        yield


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Bench:
    """What the run keeps between tests: models, scores."""
    return request.config.stash[STATE].bench


@pytest.fixture(scope="session")
def recoveries(pytestconfig: pytest.Config) -> Recoveries:
    """What the run has recovered."""
    return Recoveries(pytestconfig.stash[STATE].bench)


@pytest.fixture(scope="session")
def composed(recoveries: Recoveries) -> Compositions:
    """What the run has composed."""
    return Compositions(recoveries)


@pytest.fixture
def record(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Recorder:
    """Where a test puts what it measured; asking for it makes the test a cell."""
    cell = Cell(**axes_of(request.node), dtype=run_options(request.config).dtype)
    benchmark.group = f"{request.node.path.stem.removeprefix('test_')} {cell.model}"
    recorder = request.node.stash[RECORDER] = Recorder(cell, benchmark)
    request.config.stash[STATE].running = recorder
    return recorder


# -- the result file and the end of the run --------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Drops the clock of the moment: it would make two identical runs differ."""
    del config
    for name in [n for n in machine_info.get("cpu", {}) if n.startswith("hz_actual")]:
        del machine_info["cpu"][name]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What was measured, in two compact tables, and what was not."""
    state = config.stash[STATE]
    for note in state.notes:
        terminalreporter.write_line(f"note: {note}")
    if found := summary.text(state.records, state.not_measured, state.not_run, state.roofline, state.nodes):
        terminalreporter.section("sparsity")
        terminalreporter.write_line(found)
