"""Does the gate catch regressions? Plants some, and shows what `python -m reports compare` says of each.

    python -m benchmarks.mutations --out mutations.md
    python -m benchmarks.mutations --base run.json --kind file
    python -m benchmarks.mutations --only "a bias dropped"

Those of result files (`mutated_files`) take seconds once there is a file to change: that of `--base`, or one that is
measured now. Those of the source (`mutated_sources`) are measured in copies of the working tree, in fresh processes:
minutes. The table says who caught each: the comparison alone, or already a claim of the suite, which the mutated source
no longer keeps. Exit status 0 only if each got the answer that it must get.

Not among the benchmarks: it measures the suite, not a model.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

from benchmarks.alternate import Arm, ProcessFailed, measured, turns
from benchmarks.mutated_files import MUTATIONS as FILES
from benchmarks.mutated_files import FileMutation
from benchmarks.mutated_sources import MUTATIONS as SOURCES
from benchmarks.mutated_sources import ROOT, SMOKE, SourceMutation, copied
from reports.command import Parser, guarded
from reports.words import escape
from sparsity.errors import ResultNotReadable, UnknownName
from sparsity.gate import NOISY

MISSED = 1
"""Exit status when an answer was not the expected one."""
PAIRS = 3
"""Of fresh processes, where times are compared."""
CELLS = ("--models=bert", "--formats=csr", "--patterns=unstructured", "--sparsities=0.5", "--methods=l1")
BASE = (*SMOKE, *CELLS, "-ktest_forward or test_metric")
"""Of pytest: what a file to be changed is measured by."""
HEADERS = ("mutation", "of", "expected", "got", "caught by", "what is said")
CRASHED = -1
MISSED_BY = {NOISY: "too noisy to tell", CRASHED: "CRASHED"}
"""What is told of a mutation that was not caught; of no other answer is there more to say."""


@dataclass(frozen=True)
class Answer:
    """What a comparison said."""

    status: int
    output: str

    @property
    def finding(self) -> str:
        """The first line that is worth telling."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return next((line for line in lines if ": " in line), lines[0] if lines else "")


@dataclass(frozen=True)
class Result:
    """A mutation, and the answer that it got."""

    name: str
    kind: str
    """`file` or `source`."""
    expected: int
    answer: Answer
    caught_by: str
    caught: bool

    def row(self) -> list[object]:
        """Of the table."""
        by = self.caught_by if self.caught else MISSED_BY.get(self.answer.status, "NOT CAUGHT")
        return [self.name, self.kind, self.expected, self.answer.status, by, self.answer.finding]


def compared(arguments: Sequence[str], folder: Path) -> Answer:
    """What `python -m reports compare` says of files in a folder; a crash is no answer that anything expects."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = int(importlib.import_module("reports.compare").main(list(arguments)))
        except SystemExit as ended:
            status = int(str(ended.code or 0))
        except Exception as error:  # whatever it is, it is to be told in the table
            return Answer(CRASHED, f"{type(error).__name__}: {error}")
    return Answer(status, said.getvalue().replace(f"{folder}{os.sep}", ""))


def of_file(mutation: FileMutation, base: dict[str, Any], folder: Path) -> Result:
    """The answer to one mutation of a result file."""
    paths = [folder / "base.json", folder / "head.json"]
    for path, text in zip(paths, mutation.files(base), strict=True):
        path.write_text(text, encoding="utf-8")
    answer = compared([*map(str, paths), *([] if mutation.timed else ["--no-time"])], folder)
    caught = answer.status == mutation.expected and mutation.word.lower() in answer.output.lower()
    return Result(
        mutation.name, "file", mutation.expected, answer, "compare" if mutation.expected else "let through", caught
    )


def of_source(mutation: SourceMutation, base: Path, folder: Path) -> Result:
    """The answer to one mutation of the source; `base` is the unchanged copy."""
    head = folder / "head"
    shutil.copytree(base, head, ignore=shutil.ignore_patterns("__pycache__"))
    mutation.apply(head)
    arms = Arm("base", base, sys.executable), Arm("head", head, sys.executable)
    files: dict[str, Path] = {}
    claim = False
    for turn in turns(*arms, PAIRS if mutation.timed else 1):
        files[turn.name] = folder / f"{turn.name}.json"
        try:
            measured(turn.arm, turn.pair, files[turn.name], mutation.options)
        except ProcessFailed as error:
            if turn.arm.name == "base" or not error.status:
                raise
            claim = True
    answer = compared(_arguments(list(files.values()), mutation.timed), folder)
    by = "the suite's own claim" if claim else "compare"
    return Result(mutation.name, "source", mutation.expected, answer, by, answer.status == mutation.expected)


def _arguments(files: Sequence[Path], timed: bool) -> list[str]:
    """Of the comparison: the first pair, and the others again."""
    named = {file.stem: str(file) for file in files}
    pairs = [[named[f"{arm}-{pair}"] for arm in ("base", "head")] for pair in range(1, len(files) // 2 + 1)]
    again = [text for pair in pairs[1:] for text in ("--again", *pair)]
    return [*pairs[0], *again, *([] if timed else ["--no-time"])]


def base_data(given: Path | None, folder: Path) -> dict[str, Any]:
    """The file to be changed: that which is given, or one that is measured now."""
    path = given or measured(Arm("base", ROOT, sys.executable), 0, folder / "measured.json", BASE)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if "benchmarks" in data and "sparsity" in data:
            return dict(data)
    except (OSError, ValueError, TypeError) as error:
        raise ResultNotReadable(f"{path}: cannot be read ({error})") from None
    raise ResultNotReadable(f"{path}: no result file of this suite")


def run(only: Sequence[str], kinds: Sequence[str], base: Path | None) -> list[Result]:
    """Every mutation of these names and kinds, one after the other."""
    files = [each for each in FILES if "file" in kinds]
    sources = [each for each in SOURCES if "source" in kinds]
    known = [*(each.name for each in files), *(each.name for each in sources)]
    for asked in only:
        if asked not in known:
            raise UnknownName("mutation", asked, known)
    jobs: list[Callable[[Path], Result]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if files := [each for each in files if not only or each.name in only]:
            data = base_data(base, folder)
            jobs += [functools.partial(of_file, each, data) for each in files]
        if sources := [each for each in sources if not only or each.name in only]:
            unchanged = copied(folder / "base")
            jobs += [functools.partial(of_source, each, unchanged) for each in sources]
        return [_alone(job, folder) for job in tqdm(jobs, desc="mutations", unit="mutation")]


def _alone(job: Callable[[Path], Result], folder: Path) -> Result:
    """In a folder of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        return job(Path(own))


def table(results: Sequence[Result]) -> str:
    """One line for each mutation, for the terminal."""
    return tabulate([result.row() for result in results], HEADERS, disable_numparse=True)


def markdown(results: Sequence[Result]) -> str:
    """The same as a Markdown table."""
    rows = [[escape(value) for value in result.row()] for result in results]
    return tabulate(rows, HEADERS, tablefmt="github", disable_numparse=True)


def summary(results: Sequence[Result]) -> str:
    """How many got their answer."""
    caught = sum(result.caught for result in results)
    return f"{caught} of {len(results)} mutations got the answer that they must get."


def main(arguments: Sequence[str] | None = None) -> int:
    """Plants the mutations and prints the table; 0 if each got its answer, 1 if not, 2 after an error line."""
    options = _parser().parse_args(arguments)

    def plant() -> int:
        results = run(options.only, options.kind.split("+"), options.base)
        print(f"{table(results)}\n\n{summary(results)}")
        if options.out:
            options.out.write_text(f"{markdown(results)}\n\n{summary(results)}\n", encoding="utf-8")
        return 0 if all(result.caught for result in results) else MISSED

    return guarded(plant)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m benchmarks.mutations", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these mutations alone")
    parser.add_argument("--kind", choices=("file", "source", "file+source"), default="file+source", help="both")
    parser.add_argument(
        "--base", type=Path, metavar="BASE.json", help="the result file to change; measured if not given"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="also write the table there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
