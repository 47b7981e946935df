"""What does sending cells to a cluster cost? The same sweep by a plain run and by `--ray` with one worker, in turns.

    python -m benchmarks.overhead --rounds 2 --out overhead -- -k metric --threads 1 …

What follows `--` goes to `pytest benchmarks`. The cluster is one node of one core on this machine, so that both compute
with one process at a time; Ray is started and ended with each run, as `--ray` without an address does, and counts. Exit
status 0 where the cost is at most `--most`, 1 where it is more, 2 after an error line.

Not among the benchmarks: it measures the suite, not a model.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate
from tqdm import tqdm

from benchmarks.alternate import empty, positive, split
from benchmarks.equality import beside
from benchmarks.kills import command
from reports.command import Parser, guarded
from sparsity.errors import BadValue

CORES = "RAY_OVERRIDE_RESOURCES"
"""The variable by which Ray is told how many cores a machine has."""
HEADERS = ("run", "seconds", "cells", "cells per minute", "fields that differ from the first run")


def timed(file: Path, given: Sequence[str], cores: int) -> float:
    """Seconds of one run, from its start to its end, plain or on a cluster of so many cores.

    Raises `BadValue` where it left no file.
    """
    words = command(file, [*given, "--ray"] if cores else given)
    environment = os.environ | ({CORES: json.dumps({"CPU": cores})} if cores else {})
    begun = time.monotonic()
    with file.with_suffix(".log").open("wb") as log:
        subprocess.run(words, stdout=log, stderr=log, env=environment, check=False)  # noqa: S603  # our own words
    seconds = time.monotonic() - begun
    if not file.exists():
        raise BadValue(f"{file}: the run left no file; {file.with_suffix('.log')} says why")
    return seconds


def report(seconds: dict[str, list[float]], rows: Sequence[Sequence[object]], most: float) -> tuple[str, bool]:
    """The table and what follows from it: the median of each kind, and whether the cost is within `most`."""
    plain, sent = (statistics.median(seconds[kind]) for kind in ("plain", "cluster"))
    cost = sent / plain - 1
    told = f"plain {plain:.1f} s, cluster {sent:.1f} s: the engine costs {100 * cost:+.1f} % (at most {100 * most:g} %)"
    return f"{tabulate(rows, HEADERS, disable_numparse=True)}\n\n{told}", cost <= most


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs in turns and prints the table."""
    own, given = split(arguments)
    options = _parser().parse_args(own)

    def all_of_it() -> int:
        empty(options.out)
        seconds: dict[str, list[float]] = {"plain": [], "cluster": []}
        rows, first = [], options.out / "plain-1.json"
        turns = [(kind, number) for number in range(1, options.rounds + 1) for kind in seconds]
        for kind, number in tqdm(turns, desc="runs", unit="run"):
            file = options.out / f"{kind}-{number}.json"
            taken = timed(file, given, cores=int(kind == "cluster"))
            found = beside(first, file)
            seconds[kind].append(taken)
            per_minute = f"{60 * found.cells / taken:.1f}"
            rows.append([f"{kind} {number}", f"{taken:.1f}", found.cells, per_minute, len(found.different)])
        table, within = report(seconds, rows, options.most)
        print(table)
        return int(not within)

    return guarded(all_of_it)


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.overhead", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=positive, default=2, help="runs of each kind (2)")
    parser.add_argument("--most", type=float, default=0.05, help="cost that is allowed, a fraction (0.05)")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="an empty folder for files and logs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
