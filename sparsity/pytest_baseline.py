"""The pytest plugin that holds a run against an earlier one: `pytest benchmarks --sparsity-baseline=BASE.json`.

A cell that has become worse fails its test, with what has become worse as the message. Its record stays as it was
measured, so that the result file of such a run can be a baseline in its turn. What is missing, new, too noisy or not to
be compared fails no test; the terminal lists it. A cell that the baseline has, of a file that was run, and that left no
number in this run, fails the run as a whole. What is compared, and how, is said in `comparison`.

Refuses, before anything is measured: a baseline that cannot be read, or that the run itself would write over, and a run
that measures no time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sparsity.cells import RECORDER, STATE, RunState
from sparsity.comparison import Chances, Comparison, Rules, compare, margin
from sparsity.errors import SparsityError
from sparsity.gate import REGRESSION, Finding
from sparsity.gate_time import MARGIN
from sparsity.record import KEY, RunPart, from_json
from sparsity.result_file import Key, Measured, ResultFile, load

OPTION = "--sparsity-baseline"
SHOWN = 20
"""Findings of one kind that the terminal lists before the rest is counted."""
WHOLE = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
"""How a run ends that ran all its tests."""


@dataclass
class Baseline:
    """An earlier run, and what this one has measured so far."""

    file: ResultFile
    rules: Rules
    keys: dict[Key, list[Measured]]
    """What was measured then, on each of its nodes."""
    measured: list[Measured] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    """Test files whose tests are run."""
    partial: bool = False
    """Whether only some tests of a file are run, so that none of the others is missing."""
    found: Comparison | None = None
    """Of the whole run, at its end."""

    def head(self, state: RunState, entries: Sequence[Measured], part: RunPart) -> ResultFile:
        """What this run has measured, as if it were read from its result file."""
        part = dataclasses.replace(part, fingerprint=state.fingerprint, models=state.models, nodes=state.nodes or None)
        return ResultFile(Path("this run"), tuple(entries), part)

    def of(self, measured: Measured, state: RunState) -> list[Finding]:
        """What one cell has become."""
        before = _each_once(self._before(measured))
        if not before:
            return []
        base = dataclasses.replace(self.file, entries=before)
        head = self.head(state, [measured], RunPart(state.options.profile, {}, {}, []))
        return list(compare([(base, head)], self.rules).findings)

    def whole(self, state: RunState, complete: bool) -> Comparison | None:
        """The run beside the part of the baseline that is of the same files; None where there is none."""
        own = tuple(entry for entry in self.file.entries if entry.fullname.split("::")[0] in self.files)
        if not own and not self.measured:
            return None
        listed = RunPart(state.options.profile, {}, {}, state.not_measured, not_run=state.not_run or None)
        known = [entry for item in self.measured for entry in self._before(item)]
        base = dataclasses.replace(self.file, entries=_each_once([*known, *own]))
        found = compare([(base, self.head(state, self.measured, listed))], self.rules)
        if complete and not self.partial:
            return found
        return dataclasses.replace(found, findings=tuple(each for each in found.findings if each.kind != "missing"))

    def _before(self, measured: Measured) -> list[Measured]:
        return [entry for key in measured.keys for entry in self.keys.get(key, ())]


def _each_once(entries: Iterable[Measured]) -> tuple[Measured, ...]:
    return tuple({id(entry): entry for entry in entries}.values())


BASELINE = pytest.StashKey[Baseline]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Both options are also keys of pytest.ini, without the dashes in front."""
    group = parser.getgroup("sparsity")
    texts = {
        OPTION: "a result file of an earlier run: a cell that has become worse fails its test",
        f"{OPTION}-margin": f"slower by up to this fraction is not slower; at least the noise floors ({MARGIN:g})",
    }
    for option, text in texts.items():
        group.addoption(option, dest=_key(option), help=text)
        parser.addini(_key(option), text)


def _key(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def pytest_configure(config: pytest.Config) -> None:
    """The baseline, read before anything is measured."""
    path = _path(config)
    if path is None:
        return
    _check_run(config, path)
    text = _text(config, f"{OPTION}-margin")
    try:
        file = load(path)
        rules = Rules(margin(text)) if text else Rules()
    except SparsityError as error:
        raise pytest.UsageError(f"{OPTION}: {' '.join(str(error).split())}") from None
    keys: dict[Key, list[Measured]] = {}
    for entry in file.entries:
        for key in entry.keys:
            keys.setdefault(key, []).append(entry)
    config.stash[BASELINE] = Baseline(file, dataclasses.replace(rules, chances=Chances.of(keys)), keys)


def _text(config: pytest.Config, option: str) -> str:
    return str(config.getoption(_key(option)) or config.getini(_key(option)))


def _path(config: pytest.Config) -> Path | None:
    """Of the command line beside where it was given, of pytest.ini beside that file."""
    if given := config.getoption(_key(OPTION)):
        return Path(given)
    text = config.getini(_key(OPTION))
    return config.rootpath / text if text else None


def _check_run(config: pytest.Config, path: Path) -> None:
    """A run that can be held against nothing."""
    if getattr(config.option, "dist", "no") != "no":
        raise pytest.UsageError(f"{OPTION}: pytest-xdist runs tests side by side, times nothing; run without -n")
    if getattr(config.option, "benchmark_disable", False):
        raise pytest.UsageError(f"{OPTION}: with --benchmark-disable nothing is timed; run without it")
    written = getattr(config.option, "benchmark_json", None)
    if written is not None and Path(written).resolve() == path.resolve():
        raise pytest.UsageError(f"{OPTION} {path}: --benchmark-json would write over it; name another file there")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Which files are run, and whether as a whole."""
    baseline = session.config.stash.get(BASELINE, None)
    if baseline is not None:
        baseline.files = {item.nodeid.split("::")[0] for item in session.items}
        baseline.partial |= any("::" in argument for argument in session.config.args)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Cells that were not asked for are not missing."""
    for item in items[:1]:
        if (baseline := item.config.stash.get(BASELINE, None)) is not None:
            baseline.partial = True


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outermost, so that the record is made when it returns
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fails a cell that has become worse, and leaves its record as it is."""
    report = yield
    baseline, recorder = item.config.stash.get(BASELINE, None), item.stash.get(RECORDER, None)
    if baseline is None or recorder is None or report.when != "call" or report.skipped:
        return report
    if (data := recorder.benchmark.extra_info.get(KEY)) is None:
        return report
    measured = Measured(item.nodeid, from_json(data, item.nodeid))
    baseline.measured.append(measured)
    if report.passed:
        found = baseline.of(measured, item.config.stash[STATE])
        if worse := [finding for finding in found if finding.status == REGRESSION]:
            report.outcome, report.longrepr = "failed", "\n".join(map(str, worse))
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int | pytest.ExitCode) -> None:
    """A cell that is missing, or a claim that failed as it did not before, fails the run."""
    baseline, state = session.config.stash.get(BASELINE, None), session.config.stash.get(STATE, None)
    if baseline is None or state is None or session.config.option.collectonly:
        return
    complete = exitstatus in WHOLE and not session.shouldfail and not session.shouldstop
    baseline.found = baseline.whole(state, complete)
    if baseline.found is not None and exitstatus == pytest.ExitCode.OK:
        kinds = {finding.kind for finding in baseline.found.findings}
        if kinds & {"missing", "regression"}:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What has become of the run, the worst first; of each kind so many lines and no more."""
    baseline = config.stash.get(BASELINE, None)
    if baseline is None or baseline.found is None:
        return
    terminalreporter.section("baseline")
    kinds: dict[str, list[Finding]] = {}
    for finding in baseline.found.findings:
        kinds.setdefault(finding.kind, []).append(finding)
    for kind, findings in kinds.items():
        for finding in findings[:SHOWN]:
            terminalreporter.write_line(str(finding))
        if len(findings) > SHOWN:
            terminalreporter.write_line(f"{kind}: {len(findings) - SHOWN} more")
    terminalreporter.write_line(f"{baseline.found} [{baseline.file.path}]")
