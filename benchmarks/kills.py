"""Is anything lost, or measured twice, when a run is killed again and again? Kills one at random moments, and goes on.

    python -m benchmarks.kills --kills 30 --out kills -- --profile smoke --threads 1

What follows `--` goes to `pytest benchmarks`. One run is left alone; then runs are killed with SIGKILL, each time
after some more tests and a moment at random, sometimes while it still loads, and gone on with by `--resume` until the
run ends by itself. Its file must have every cell of the run that was left alone, with the same numbers wherever
numbers repeat exactly, and the very times that stood in the journal before each kill. Exit status 0 only then.

Not among the benchmarks: it measures the suite, not a model. Needs a system with SIGKILL.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tabulate import tabulate
from tqdm import tqdm

from benchmarks.alternate import empty, positive, split
from reports.command import Parser, guarded
from sparsity import journal
from sparsity.comparison import Rules, compare
from sparsity.gate import FINE
from sparsity.result_file import load

ROOT = Path(__file__).parent.parent
MOST_TESTS, EARLY, LOADING, MOMENT = 20, 0.2, 6.0, 1.0
"""Tests before a kill, at most; the share of kills before any, and seconds within which those come; of the others."""
HEADERS = ("run", "kills", "tests done before each", "cells", "lost", "twice", "times kept", "numbers that differ")
Times = dict[str, list[float]]


@dataclass
class Run:
    """One run, killed until it was let through."""

    number: int
    done_before: list[int] = field(default_factory=list)
    """Tests in the journal at each kill."""
    cells: int = 0
    lost: int = 0
    """Cells of the run that was left alone, and not of this one."""
    twice: int = 0
    """Tests that were done before a kill, and again after it."""
    kept: int = 0
    """Cells whose times in the file are those of the journal before a kill."""
    differing: list[str] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        """Whether it was as if it had not been killed."""
        return not (self.lost or self.twice or self.differing)

    def row(self) -> list[object]:
        """Of the table."""
        before = ", ".join(map(str, self.done_before)) or "-"
        told = "; ".join(self.differing[:2]) or "none"
        return [self.number, len(self.done_before), before, self.cells, self.lost, self.twice, self.kept, told]


def command(file: Path, given: Sequence[str]) -> list[str]:
    """What starts or goes on with a run."""
    return [sys.executable, "-m", "pytest", str(ROOT / "benchmarks"), "-q", f"--benchmark-json={file}", *given]


def _started(words: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """A program of its own group, so that what it starts in its turn can be killed with it."""
    return subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)  # noqa: S603  # our own words


def done_in(file: Path) -> Counter[str]:
    """How often each test stands in a run's journal as done."""
    path = journal.beside(file)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return Counter(line["done"]["test"] for line in map(json.loads, lines) if "done" in line)


def times_in(file: Path) -> Times:
    """The times in a run's journal, by test."""
    found = journal.read(journal.beside(file))
    return {each.test: each.benchmark["stats"]["data"] for each in (found.entries if found else ()) if each.benchmark}


def killed(file: Path, given: Sequence[str], chance: random.Random) -> bool:
    """Whether a run was killed; not, where it ended before. A program that it started is killed with it."""
    more = 0 if chance.random() < EARLY else chance.randint(1, MOST_TESTS)
    moment = chance.uniform(0, LOADING if not more else MOMENT)
    wanted = done_in(file).total() + more
    with file.with_suffix(".log").open("ab") as log, _started([*command(file, given), "--resume"], log) as p:
        while p.poll() is None and done_in(file).total() < wanted:
            time.sleep(0.05)
        try:
            p.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            return True
    return False


def until_through(number: int, file: Path, given: Sequence[str], kills: int, chance: random.Random) -> Run:
    """One run, killed so often at most, then let through."""
    run, before = Run(number), dict[str, list[float]]()
    doubled: Counter[str] = Counter()
    while len(run.done_before) < kills and killed(file, given, chance):
        found = done_in(file)
        run.done_before.append(found.total())
        doubled |= found
        before |= times_in(file)
    if not file.exists() or journal.beside(file).exists():
        with file.with_suffix(".log").open("ab") as log, _started([*command(file, given), "--resume"], log) as p:
            p.wait()
    run.twice = sum(count > 1 for count in doubled.values())
    run.kept, run.cells = held_against(file, before, run)
    return run


def held_against(file: Path, before: Times, run: Run) -> tuple[int, int]:
    """Cells whose times are those that the journal had, and all cells; what was measured anew counts as twice."""
    entries = json.loads(file.read_text())["benchmarks"]
    after = Counter(entry["fullname"] for entry in entries)
    run.twice += sum(count > 1 for count in after.values())
    now = {entry["fullname"]: entry["stats"]["data"] for entry in entries}
    run.twice += sum(name in now and now[name] != times for name, times in before.items())
    return sum(now.get(name) == times for name, times in before.items()), len(entries)


def beside_whole(whole: Path, file: Path, run: Run) -> None:
    """What the run that was left alone has, and this one has not, or otherwise."""
    names = [
        {each["fullname"] for each in json.loads(each_file.read_text())["benchmarks"]} for each_file in (whole, file)
    ]
    run.lost = len(names[0] - names[1])
    found = compare([(load(whole), load(file))], Rules(time=False))
    run.differing = [str(each) for each in found.findings if each.status != FINE]


def report(runs: Sequence[Run]) -> str:
    """The table, and the sum of it."""
    kills, lost, twice = (
        sum(each) for each in zip(*((len(r.done_before), r.lost, r.twice) for r in runs), strict=True)
    )
    differing = sum(len(run.differing) for run in runs)
    table = tabulate([run.row() for run in runs], HEADERS, disable_numparse=True)
    return f"{table}\n\n{kills} kills: {lost} cells lost, {twice} measured twice, {differing} numbers differ."


def main(arguments: Sequence[str] | None = None) -> int:
    """Kills and prints the table; 0 where nothing was lost, 1 where something was, 2 after an error line."""
    own, given = split(arguments)
    options = _parser().parse_args(own)

    def all_of_it() -> int:
        empty(options.out)
        whole, chance = options.out / "whole.json", random.Random(options.seed)
        with whole.with_suffix(".log").open("ab") as log, _started(command(whole, given), log) as p:
            p.wait()
        runs: list[Run] = []
        with tqdm(total=options.kills, desc="kills", unit="kill") as bar:
            while bar.n < options.kills:
                file = options.out / f"run-{len(runs) + 1}.json"
                left = options.kills - bar.n
                runs.append(until_through(len(runs) + 1, file, given, left, chance))
                beside_whole(whole, file, runs[-1])
                bar.update(len(runs[-1].done_before))
        print(report(runs))
        return int(not all(run.fine for run in runs))

    return guarded(all_of_it)


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.kills", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=positive, default=30, help="how often (30)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="an empty folder for files and logs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
