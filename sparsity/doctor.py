"""Can this machine tell a difference of 3 % in latency, and if not, why not?

    python -m sparsity.doctor [--threads N] [--device cuda] [--time-per-cell S]

Times an embedded model in turns with its own copy, a few times, as every run does once for each model:
whatever differs there is noise. Beside it stand what usually makes the noise: load, time stolen by a
hypervisor, more threads than cores, a clock that is governed. Takes under half a minute, changes
nothing, and ends with status 0 where 3 % can be told, else 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from sparsity import options
from sparsity.bench import Bench
from sparsity.errors import SparsityError
from sparsity.measure import latency, machine, ratio

MODEL, WORKLOAD = "bert", "8x64"
TRIALS, SECONDS = 5, 2.0
BUSY = 0.25
"""Load for each core, besides this program, above which others disturb it."""
STOLEN = 0.01
"""Share of time taken by a hypervisor that is worth a word."""


@dataclass(frozen=True)
class Findings:
    """What was found of the machine; what could not be read is None."""

    floors: Sequence[float]
    """Noise floor of each trial, a fraction."""
    threads: int
    cores: int
    load: float | None
    """Processes that wanted to run in the last minute, before anything was measured."""
    stolen: float | None
    """Share of the cores' time while it was measured."""
    governor: str | None


def resolves(found: Findings) -> bool:
    """Whether every trial stayed within the margin."""
    return max(found.floors) <= ratio.MARGIN


def complaints(found: Findings) -> list[str]:
    """What probably makes the noise, each with what would help; empty where nothing was seen."""
    said = []
    busy = found.load is not None and found.load / found.cores > BUSY
    if busy:
        said.append(f"load {found.load:.2f} on {found.cores} cores before anything was measured: stop what else runs")
    if found.stolen is not None and found.stolen > STOLEN:
        said.append(f"the hypervisor took {found.stolen:.1%} of the time: take a machine of your own")
    if found.threads > found.cores:
        said.append(f"{found.threads} threads on {found.cores} cores: ask for at most {found.cores} (--threads)")
    elif busy and found.threads == found.cores > 1:
        said.append(f"all {found.cores} cores are computed with, so whatever else runs is in the way: try --threads 1")
    if found.governor not in (None, "performance"):
        said.append(f"the clock is governed by {found.governor!r}: performance is steadier")
    return said


def report(found: Findings) -> str:
    """The findings as lines, the verdict last."""
    worst, best = max(found.floors), min(found.floors)
    unknown = "not told here"
    lines = [
        f"cores     {found.cores}, computing with {found.threads} threads",
        f"load      {unknown if found.load is None else f'{found.load:.2f} over the last minute'}",
        f"stolen    {unknown if found.stolen is None else f'{found.stolen:.1%} of the time, by a hypervisor'}",
        f"governor  {found.governor or unknown}",
        f"noise     {best:.1%} to {worst:.1%}, {MODEL} beside its own copy, {len(found.floors)} times at {WORKLOAD}",
    ]
    if resolves(found):
        return "\n".join([*lines, f"This machine can tell a difference of {ratio.MARGIN:.0%}."])
    noisy = " Above 5 % a run withholds its latency verdicts." if worst > ratio.NOISY else ""
    reasons = complaints(found) or ["nothing that is seen from here; a neighbour on the same machine, or heat"]
    verdict = f"This machine cannot tell a difference of {ratio.MARGIN:.0%} now: its noise reaches {worst:.1%}.{noisy}"
    return "\n".join([*lines, verdict, "Probably because of:", *(f"- {reason}" for reason in reasons)])


def examine(bench: Bench, seconds: float) -> Findings:
    """Measures; about `TRIALS` times `seconds`, and the time to load a small model."""
    import psutil

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    bench.check_device()
    copy, dense = bench.control_arms(bench.subject(MODEL, "lm"), WORKLOAD)
    before = psutil.cpu_times()
    floors = [latency.timed_in_turns(copy, dense, seconds).ratio.floor for _ in range(TRIALS)]
    after = psutil.cpu_times()
    stolen = None
    if hasattr(after, "steal"):
        stolen = (after.steal - before.steal) / max(sum(after) - sum(before), 1e-9)
    return Findings(floors, bench.threads(), machine.physical_cores(), load, stolen, machine.governor())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 where the margin can be told, 1 where it cannot, 2 after an error line."""
    parser = argparse.ArgumentParser(prog="python -m sparsity.doctor", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--threads", default="", help="that torch computes with (physical cores)")
    parser.add_argument("--device", default="", help="cpu or cuda (cpu)")
    parser.add_argument("--time-per-cell", default="", help=f"seconds for each trial ({SECONDS:g})")
    given = {name.replace("_", "-"): text for name, text in vars(parser.parse_args(arguments)).items()}
    try:
        settings = options.parse(given)
        found = examine(Bench(settings), settings.time_per_cell or SECONDS)
    except SparsityError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report(found))
    return 0 if resolves(found) else 1


if __name__ == "__main__":
    sys.exit(main())
