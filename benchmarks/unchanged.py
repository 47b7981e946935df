"""How often does the gate call unchanged code worse? The same benchmarks again and again, each beside the one before.

    python -m benchmarks.unchanged --runs 20 --out unchanged -- --profile smoke --threads 1 --models bert

What follows `--` goes to `pytest benchmarks`, in one fresh process more than there are runs, each with a PYTHONHASHSEED
of its own. Every regression that the table shows is a false alarm, and so is every cell that cannot be compared. Too
noisy to tell is no alarm, but the share of such cells says whether the gate can see anything on this machine. Exit
status 0 only without any false alarm.

Not among the benchmarks: it measures the suite, not a model.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tabulate import tabulate
from tqdm import tqdm

from benchmarks.alternate import Arm, measured, positive, split
from reports.command import Parser, guarded
from reports.compare import margin_option
from sparsity.comparison import Comparison, Rules, compare
from sparsity.gate import FINE, INCOMPLETE, NOISY, REGRESSION
from sparsity.gate_time import MARGIN
from sparsity.result_file import load

ROOT = Path(__file__).parent.parent
ALARMS = (REGRESSION, INCOMPLETE)
HEADERS = ("run", "beside", "exact", "with time", "cells timed", "regressions", "too noisy", "what is said first")


@dataclass(frozen=True)
class Beside:
    """A run beside the one before it."""

    run: int
    exact: Comparison
    """Without time."""
    whole: Comparison

    @property
    def alarm(self) -> bool:
        """Whether unchanged code was called worse, or not to be compared."""
        return self.whole.status in ALARMS or self.exact.status in ALARMS

    def row(self) -> list[object]:
        """Of the table."""
        counts = [self.whole.count(status) for status in (REGRESSION, NOISY)]
        first = next((str(each) for each in self.whole.findings if each.status != FINE), "")
        return [self.run, self.run - 1, self.exact.status, self.whole.status, self.whole.timed, *counts, first]


def beside(files: Sequence[Path], least_margin: float) -> list[Beside]:
    """Each file beside the one before."""
    loaded = [load(file) for file in files]
    rules = Rules(margin=least_margin, time=False), Rules(margin=least_margin)
    return [
        Beside(run, *(compare([pair], rule) for rule in rules)) for run, pair in enumerate(pairwise(loaded), start=2)
    ]


def report(found: Sequence[Beside]) -> str:
    """The table, and how many alarms there were."""
    alarms, noisy = sum(each.alarm for each in found), sum(each.whole.count(NOISY) for each in found)
    timed = sum(each.whole.timed for each in found)
    table = tabulate([each.row() for each in found], HEADERS, disable_numparse=True)
    return (
        f"{table}\n\n{alarms} of {len(found)} comparisons raise a false alarm; {noisy} of {timed} times are too noisy."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the processes and prints the table; 0 without a false alarm, 1 with one, 2 after an error line."""
    own, given = split(arguments)
    options = _parser().parse_args(own)

    def again() -> int:
        with contextlib.ExitStack() as stack:
            folder = options.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.mkdir(parents=True, exist_ok=True)
            arm = Arm("run", options.checkout, options.python)
            runs = tqdm(range(1, options.runs + 2), desc="processes", unit="process")
            files = [measured(arm, run, folder / f"run-{run}.json", given) for run in runs]
            found = beside(files, options.margin)
        print(report(found))
        return int(any(each.alarm for each in found))

    return guarded(again)


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.unchanged", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=positive, default=20, help="comparisons; one process more is run (20)")
    parser.add_argument(
        "--margin", type=margin_option, default=MARGIN, help=f"as of python -m reports compare ({MARGIN:g})"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the result files in this folder")
    parser.add_argument("--checkout", type=Path, default=ROOT, metavar="DIR", help="what to run (this one)")
    parser.add_argument("--python", default=sys.executable, help="its interpreter (the one that runs this)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
