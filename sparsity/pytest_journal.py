"""What a finished test left, kept at once and merged into one result file, whichever process or run it was in.

A report carries what its test left (`pytest_entry`); here it is written to the journal beside the result file,
counted in, and at the end put into pytest-benchmark's JSON beside what that has of this process. With
`--resume` the tests that the journal holds are not run again. `pytest_workers` brings the reports of
several processes here.

Refuses, before anything is measured: a journal of other settings, one that was left behind and is not to
be gone on with, and a baseline beside either.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import warnings
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sparsity import journal, pytest_entry, pytest_workers
from sparsity.cells import STATE, RunState, axes_of
from sparsity.errors import BadValue, ResultNotReadable, SparsityError
from sparsity.journal import Entry
from sparsity.record import KEY, Scalar, to_json

if TYPE_CHECKING:
    from sparsity.journal import Journal, Journaled

TRIES = 3
"""A test that ended the whole process so often is not begun again."""


class Keeper:
    """Of one run: its journal, and what is in it from before."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.state: RunState = config.stash[STATE]
        self.earlier: Journaled | None = None
        self.order: dict[str, int] = {}
        """Place of each test that was collected."""
        self.entries: dict[str, Entry] = {}
        """By test, of this run and earlier ones."""
        self.outcomes: dict[str, str] = {}
        """Of tests whose last report has not come yet."""
        self.axes: dict[str, dict[str, Any]] = {}
        """Of tests that have begun."""
        self.postponed: set[str] = set()
        """Tests that were not tried, so that another run may."""
        self.session: pytest.Session | None = None
        self.written = False
        """Whether pytest-benchmark writes the result file."""
        self._journal: Journal | None = None

    @property
    def result(self) -> Path | None:
        """The result file, where one was asked for; a worker has none of its own."""
        path = getattr(self.config.option, "benchmark_json", None)
        if path is None or self.config.option.collectonly or pytest_workers.is_worker(self.config):
            return None
        return Path(path)

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Whom to stop when a journal takes no more."""
        self.session = session

    # -- before tests run -------------------------------------------------------------------------

    def look(self) -> None:
        """Reads the journal of an earlier run. Raises `UsageError` as the module says."""
        if self.state.options.resume and self.result is None and not self.config.option.collectonly:
            raise pytest.UsageError("--resume: needs the --benchmark-json of the run that is to be gone on with")
        if self.result is None:
            return
        path = journal.beside(self.result)
        try:
            found = journal.read(path)
        except SparsityError as error:
            raise pytest.UsageError(str(error)) from None
        resume, entries = self.state.options.resume, found.entries if found else ()
        if resume and found is None:
            self._begin_anew(path)
        if entries and not resume:
            what = f"{path}: holds {len(entries)} finished tests of an interrupted run"
            raise pytest.UsageError(f"{what}; --resume goes on with them, or remove it to begin anew")
        if found is None or not resume or not (entries or found.died):
            return  # nothing is lost by beginning anew
        if getattr(self.config.option, "sparsity_baseline", None):
            way = "python -m reports compare BASE.json HEAD.json compares when it is finished"
            raise pytest.UsageError(f"--resume: a run that is gone on with has no --sparsity-baseline; {way}")
        self.earlier = found

    def _begin_anew(self, path: Path) -> None:
        """Nothing to go on with: fine for a run that has not begun yet, not for one that is finished."""
        assert self.result is not None  # asked before
        if self.result.exists():
            what = f"--resume: {self.result} is there and {path.name} is not, so that run is finished"
            raise pytest.UsageError(f"{what}; give another --benchmark-json to measure anew")
        self.tell(f"--resume: no {path} to go on with, so the run begins anew")

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        """Tests that are done are not run again; the last word, when all others have chosen and sorted."""
        yield
        if pytest_workers.is_worker(self.config):
            done = set(self.config.workerinput[pytest_workers.DONE])  # type: ignore[attr-defined]  # xdist's own
        else:
            try:
                self.look()
            except pytest.UsageError as error:  # here it would be told after the tests that it keeps from running
                self.state.unspanned = BadValue(str(error))
            self.order = {item.nodeid: place for place, item in enumerate(items)}
            done = {entry.test for entry in self.earlier.entries} if self.earlier else set()
        finished = [item for item in items if item.nodeid in done]
        if finished:
            self.config.hook.pytest_deselected(items=finished)
            items[:] = [item for item in items if item.nodeid not in done]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """The journal is begun once nothing is left to refuse; what an earlier run measured is counted in."""
        if self.result is not None and (self.earlier or any(axes_of(item) for item in session.items)):
            self.begin()

    def begin(self) -> None:
        """Opens the journal. Raises `UsageError` for one of other settings, or that cannot be written."""
        assert self.result is not None  # asked before
        path, earlier = journal.beside(self.result), self.earlier
        settings = self.settings()
        try:
            if earlier is not None:
                journal.refuse_other_settings(path, earlier.settings, settings)
            self._journal = journal.Journal(path, settings, earlier.whole if earlier else 0)
            self._take_up(path, earlier.entries if earlier else ())
            self._journal.ask(self.order)
            self.state.sittings = earlier.again + 1 if earlier else 0
        except SparsityError as error:
            self.state.progress = None  # nothing is run
            raise pytest.UsageError(str(error)) from None

    def _take_up(self, path: Path, entries: Iterable[Entry]) -> None:
        try:
            for entry in entries:
                self._take(entry)
        except ResultNotReadable as error:
            raise ResultNotReadable(f"{path}: {error}; mend that line, or remove the file to begin anew") from None

    def settings(self) -> dict[str, Scalar]:
        """What two runs must share for their cells to stand in one file."""
        options = self.state.options
        found: dict[str, Scalar] = {"profile": options.profile, "documents": options.documents}
        where: dict[str, Scalar] = {"the run": "with --ray" if options.ray else "without --ray"}  # first, as it is told
        return where | self.state.fingerprint | found | {"time per cell": options.time_per_cell or "the profile's"}

    # -- while tests run --------------------------------------------------------------------------

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins, here or in another process; one that a cluster's node runs cannot end this process."""
        if self._journal is not None and not pytest_workers.sends(self.config):
            with self._stopping():
                self._journal.begin(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """A test that ended the process again and again is an error, and is told as one."""
        died = self.earlier.died.get(item.nodeid, 0) if self.earlier else 0
        if died >= TRIES:
            raise BadValue(f"it was begun {died} times and each time the whole process ended; it is not tried again")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A phase of a test is over; with the last one, what the test left is kept."""
        known = self.outcomes.get(report.nodeid, "passed")
        if not report.passed and known != "failed":
            self.outcomes[report.nodeid] = known = report.outcome
        if report.when == "setup":
            self.axes[report.nodeid] = pytest_entry.axes(report)
        entry = pytest_entry.handed(report, known) or pytest_entry.broken_off(report, self.axes.get(report.nodeid, {}))
        if entry is None:
            return
        self.outcomes.pop(report.nodeid, None)
        self.axes.pop(report.nodeid, None)
        if self._of_other_weights(entry):
            return
        self._take(entry)
        if pytest_entry.postponed(report):
            self.postponed.add(entry.test)
        elif self._journal is not None:
            with self._stopping():
                self._journal.append(entry)
        self._advance(pytest_entry.shown(report))

    @pytest.hookimpl(optionalhook=True)
    def pytest_cell_hung(self, item: pytest.Item, reason: str) -> None:
        """The process is about to be ended: what a cell hung in is kept, so that the run can go on past it."""
        if self._journal is not None:
            entry = pytest_entry.without_number(item.nodeid, axes_of(item), "failed", reason)
            self._journal.append(dataclasses.replace(entry, run=self.state.learnt()))

    def _of_other_weights(self, entry: Entry) -> bool:
        """Whether a model is another than it was under the same name: then the run ends, and this is not kept."""
        for name, model in entry.run.get("models", {}).items():
            before = self.state.models.get(name)
            if before is not None and before.digest != model.get("digest"):
                assert self.session is not None  # tests run
                what = f"{name}: its weights or config.json are not those that the run began with"
                self.session.shouldstop = f"{what}; restore them, or remove the journal to begin anew"
                return True
        return False

    def _advance(self, what: str) -> None:
        """Every few seconds, a line that says how far the run is and how long it still takes."""
        if self.state.progress is None:
            return
        line = self.state.progress.advance(what)
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if line and reporter is not None:
            reporter.ensure_newline()
            if self.config.get_terminal_writer().width_of_current_line:  # dots, of which ensure_newline does not know
                reporter.line("")
            reporter.write_line(line)

    def _take(self, entry: Entry) -> None:
        self.entries[entry.test] = entry
        self.state.absorb(entry)

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        """A journal that takes no more ends the run: what could not be kept should not be measured."""
        try:
            yield
        except SparsityError as error:
            assert self.session is not None  # tests run
            self.session.shouldstop = str(error)

    # -- when the run is over -----------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        """pytest-benchmark writes the result file; where it has nothing of its own, it is written here."""
        if self.state.running is not None:  # interrupted: it has no times, and pytest-benchmark would stumble over it
            self.state.running.benchmark.has_error = True
        elsewhere = any(entry.benchmark for entry in self.entries.values())
        try:
            with warnings.catch_warnings():
                # As an error, where a suite makes warnings errors, it would bury why nothing was run.
                silent = elsewhere or self.state.unspanned is not None
                warnings.filterwarnings(
                    "ignore" if silent else "default", "Not saving anything, no benchmarks have been run"
                )
                yield
            if not self.written and self.result is not None and elsewhere:
                self._write(self.result)
        except OSError as error:
            self._unwritten(session, error)
            return
        self._count_in(session)
        if self._journal is not None:
            self._journal.close(finished=self.finished())

    def finished(self) -> bool:
        """Whether the result file has all that any run was to measure into it, so that the journal may go."""
        asked = self.order.keys() | (self.earlier.left if self.earlier else frozenset())
        left = asked - (self.entries.keys() - self.postponed)
        if others := left - self.order.keys():
            what = f"{len(others)} tests of the run that this went on with are still to be done"
            self.tell(f"{what}; --resume without -k does")
        return not left

    def _unwritten(self, session: pytest.Session, error: OSError) -> None:
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        if self.result is not None and self.result.is_file() and not _whole(self.result):
            self.result.unlink()  # what the disk took of it is no result file
        kept = ""
        if self._journal is not None:
            self._journal.close(finished=False)
            kept = f"; all that was measured is in {self._journal.path}: make room, then go on with --resume"
        self.tell(f"error: {self.result}: cannot be written ({error.strerror}){kept}")

    def _count_in(self, session: pytest.Session) -> None:
        """What failed earlier fails the run; that all was done before is no lack of tests."""
        earlier = self.earlier.entries if self.earlier else ()
        if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and earlier:
            failed = any(entry.outcome == "failed" for entry in earlier)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED if failed else pytest.ExitCode.OK

    def tell(self, line: str) -> None:
        """A line in the terminal."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(line)

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        """Beside the benchmarks of this process those of others, all in the order they were collected in."""
        self.written = True
        own = {entry["fullname"]: entry for entry in output_json["benchmarks"]}
        others = {
            e.benchmark["fullname"]: pytest_entry.whole(e) for e in self.entries.values() if e.benchmark is not None
        }
        merged = others | own
        last = len(self.order)
        output_json["benchmarks"][:] = sorted(merged.values(), key=lambda each: self.order.get(each["fullname"], last))
        output_json[KEY] = to_json(self.state.part())

    def _write(self, path: Path) -> None:
        """The result file, through pytest-benchmark's own hooks, at once or not at all."""
        hook = self.config.hook
        machine = hook.pytest_benchmark_generate_machine_info(config=self.config)
        hook.pytest_benchmark_update_machine_info(config=self.config, machine_info=machine)
        commit = hook.pytest_benchmark_generate_commit_info(config=self.config)
        hook.pytest_benchmark_update_commit_info(config=self.config, commit_info=commit)
        data = hook.pytest_benchmark_generate_json(
            config=self.config, benchmarks=[], include_data=True, machine_info=machine, commit_info=commit
        )
        hook.pytest_benchmark_update_json(config=self.config, benchmarks=[], output_json=data)
        unfinished = path.with_name(path.name + ".part")
        try:
            unfinished.write_text(json.dumps(data, indent=4, allow_nan=False), encoding="utf-8")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        self.tell(f"Wrote benchmark data in: {path}")


def _whole(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except ValueError:
        return False
    return True
