"""Does the cost model of a sweep hold? Unit costs from small sweeps, then the time of a larger one told before it runs.

    python -m benchmarks.scale --out scale

Three small sweeps of quality cells of the embedded BERT give the three unit costs that their seconds can tell apart (a
worker's start, a group, a cell); then larger ones, plain and on a cluster of this machine, are told by
`sparsity.cost` and measured. Prints both, and the relative error.

Not among the benchmarks: it measures the suite, not a model.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from benchmarks.alternate import empty, positive, split
from benchmarks.overhead import timed
from reports.command import Parser, guarded
from sparsity.cost import Costs, Sweep, estimate
from sparsity.errors import BadValue
from sparsity.result_file import load

METHODS = ("l1", "l2", "random", "wanda")
SPARSITIES = tuple(round(0.1 + 0.04 * step, 2) for step in range(20))
HEADERS = ("sweep", "groups", "cells", "devices", "told s", "measured s", "error")


@dataclass(frozen=True)
class Plan:
    """A sweep of some methods and sparsities."""

    name: str
    methods: int
    sparsities: int
    devices: int = 0
    """Of a cluster; 0: a plain run."""

    @property
    def words(self) -> list[str]:
        """For pytest."""
        chosen = [f"--methods={','.join(METHODS[: self.methods])}"]
        return [*chosen, f"--sparsities={','.join(map(str, SPARSITIES[: self.sparsities]))}"]


SMALL = (Plan("one group, one cell", 1, 1), Plan("one group, more cells", 1, 12), Plan("more groups", 3, 4))
LARGER = (Plan("larger, plain", 4, 20), Plan("larger, one worker", 4, 20, 1), Plan("larger, two workers", 4, 20, 2))


def measured(plan: Plan, out: Path, given: Sequence[str]) -> tuple[Sweep, float, float]:
    """What the sweep had, its seconds, and bytes of its file a cell."""
    file = out / f"{plan.name.replace(' ', '-').replace(',', '')}.json"
    words = ["-k", "test_metric and lm", "--models=bert", "--tasks=lm", "--threads=1", *plan.words, *given]
    seconds = timed(file, words, cores=plan.devices)
    cells = load(file).entries
    groups = {(entry.record.cell.method, entry.record.cell.seed) for entry in cells}
    size = file.stat().st_size / len(cells)
    return Sweep(len(groups), len(cells), devices=max(1, plan.devices)), seconds, size


def solved(known: Sequence[tuple[Sweep, float, float]]) -> Costs:
    """Unit costs that fit best; `prune` and `evaluate` cannot be told apart here, and stand together."""
    system = np.array([[1, sweep.groups, sweep.cells] for sweep, _, _ in known], dtype=float)
    found, _, rank, _ = np.linalg.lstsq(system, np.array([seconds for _, seconds, _ in known]), rcond=None)
    if rank < 3:
        raise BadValue("the small sweeps do not tell the unit costs apart; they need different groups and cells")
    start, group, cell = (float(each) for each in found)
    return Costs(start, group, 0.0, cell, record=known[-1][2])


def report(costs: Costs, rows: Sequence[tuple[str, Sweep, float]]) -> str:
    """The unit costs, and each sweep beside what was told of it."""
    table = []
    for name, sweep, seconds in rows:
        told = estimate(costs, sweep).seconds
        error = f"{100 * (told / seconds - 1):+.0f} %"
        table.append([name, sweep.groups, sweep.cells, sweep.devices, f"{told:.1f}", f"{seconds:.1f}", error])
    units = f"start {costs.start:.2f} s, a group {costs.load:.2f} s, a cell {costs.evaluate:.3f} s"
    return f"{units}, {costs.record:.0f} bytes a cell in the file\n\n{tabulate(table, HEADERS, disable_numparse=True)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    own, given = split(arguments)
    options = _parser().parse_args(own)

    def all_of_it() -> int:
        empty(options.out)
        words = [f"--documents={options.documents}", *given]
        plans = [*SMALL, *LARGER]
        found = [measured(plan, options.out, words) for plan in tqdm(plans, desc="sweeps", unit="sweep")]
        costs = solved(found[: len(SMALL)])
        print(report(costs, [(plan.name, *each[:2]) for plan, each in zip(plans, found, strict=True)]))
        return 0

    return guarded(all_of_it)


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--documents", type=positive, default=1000, help="of each quality cell (1000)")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="an empty folder for files and logs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
