"""Does the measurement of latency find what is there, and nothing else?

    python -m benchmarks.measurement --processes 20 --cells 0:10 0.05:3 --threads 1 [--load]

A cell times an embedded model's own copy, which really does a given fraction of work more, beside the
model: in turns, as the suite does, and by plain pytest-benchmark, one after the other, in as much time.
Each process is a fresh run of pytest on this file. The table says how often each way calls it what: at
0 more work every `faster` and `slower` is a false alarm, above the margin every other verdict is a miss.

Not among the benchmarks that `pytest benchmarks` collects: it measures the suite, not a model.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from tabulate import tabulate
from tqdm import tqdm

from sparsity.measure import duet, latency, ratio
from sparsity.record import LATENCY_VERDICTS

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from sparsity.bench import Bench
    from sparsity.measure.duet import Call

WORKLOAD = "8x64"
ASKED: dict[str, Any] = json.loads(os.environ.get("MEASUREMENT", '{"model": "bert", "cells": [[0.0, 1], [0.05, 1]]}'))
CELLS = [(more, trial) for more, trials in ASKED["cells"] for trial in range(trials)]
CALIBRATED_AT = 0.2
"""The fraction of work more at which a unit's share is measured."""
WAYS = {"in turns": "in turns (this suite)"} | {
    stat: f"one after the other, {stat} beyond {ratio.MARGIN:.0%}" for stat in ("median", "mean", "min")
}
WORST: dict[str, Callable[[list[float]], float]] = {"noise_floor": max, "half_width": max, "forward_share": min}
"""Which end of each of the duet's own numbers is the bad one."""


# -- one process: pytest runs this file ----------------------------------------------------------------


class Arms(NamedTuple):
    """A model and its own copy, and what a process must know to judge them."""

    dense: Call
    copy: Call
    unit: Call
    share: float
    """Of a unit, in a forward pass."""
    noise_floor: Callable[[], float]
    budget: float

    def slowed(self, more: float) -> Call:
        """The copy with so much more work: small matrix products after its forward pass."""
        return followed(self.copy, self.unit, round(more / self.share))


@pytest.fixture(scope="module")
def arms(pytestconfig: pytest.Config) -> Arms:
    """The arms of this process's model, and the noise floor that its control gives."""
    import torch

    from benchmarks import axes
    from sparsity.cells import STATE

    bench: Bench = pytestconfig.stash[STATE].bench
    subject = bench.subject(ASKED["model"], "lm")
    copy, dense = bench.control_arms(subject, WORKLOAD)
    matrix = torch.ones(64, 64)

    def unit() -> object:
        with torch.inference_mode():
            return matrix @ matrix

    budget = axes.time_per_cell(bench.options)
    share = share_of_a_unit(dense, copy, unit, budget)

    def noise_floor() -> float:
        return bench.noise_floor(subject, WORKLOAD, budget)

    return Arms(dense, copy, unit, share, noise_floor, budget)


def share_of_a_unit(dense: Call, copy: Call, unit: Call, budget: float) -> float:
    """By which fraction of a forward pass a unit of work right after one makes it longer, as the duet itself sees it.

    A unit costs more there than in a loop of its own, so it is not timed alone.
    """
    alone, single = (statistics.median(duet.seconds(each) for _ in range(50)) for each in (copy, unit))
    units = max(1, round(CALIBRATED_AT * alone / single))
    longer = latency.timed_in_turns(followed(copy, unit, units), dense, 2 * budget).ratio.value
    return max(longer - 1, 0.1 * CALIBRATED_AT) / units


def followed(forward: Call, unit: Call, units: int) -> Call:
    """A forward pass and so many units of work."""

    def call() -> object:
        result = forward()
        for _ in range(units):
            unit()
        return result

    return call


@pytest.mark.parametrize(("more", "trial"), CELLS)
def test_in_turns(benchmark: BenchmarkFixture, arms: Arms, more: float, trial: int) -> None:
    """As the suite times every cell."""
    noise_floor = arms.noise_floor()
    pair = latency.paired(benchmark, arms.slowed(more), arms.dense, arms.budget)
    assert pair is not None, "timing is off"
    found = latency.described(pair, noise_floor)
    assert found.speedup is not None
    benchmark.extra_info["measurement"] = {
        "more": more,
        "verdict": found.verdict,
        "ratio": 1 / found.speedup,
        "half_width": (pair.ratio.high / pair.ratio.low) ** 0.5 - 1,
        "noise_floor": noise_floor,
        "forward_share": pair.forward_share,
    }


@pytest.mark.parametrize("arm", ["dense", "copy"])  # the two of a cell right after each other
@pytest.mark.parametrize(("more", "trial"), CELLS)
def test_one_after_the_other(benchmark: BenchmarkFixture, arms: Arms, more: float, trial: int, arm: str) -> None:
    """As pytest-benchmark times by itself, a second for each arm."""
    benchmark(arms.dense if arm == "dense" else arms.slowed(more))
    benchmark.extra_info["measurement"] = {"more": more, "trial": trial, "arm": arm}


# -- all processes: the command line -------------------------------------------------------------------


def main() -> int:
    """Runs the processes and prints the tables; 1 when a process failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.measurement", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--models", default="bert,gpt2,bart", help="embedded models, by turns (default: all three)")
    parser.add_argument("--cells", nargs="+", default=["0:10", "0.05:3"], metavar="MORE:TRIALS", help="in each process")
    parser.add_argument("--threads", type=int, help="as of pytest benchmarks")
    parser.add_argument("--time-per-cell", type=float, help="as of pytest benchmarks")
    parser.add_argument("--in-turns", action="store_true", help="leave plain pytest-benchmark out")
    parser.add_argument("--load", action="store_true", help="keep the last core busy meanwhile")
    parser.add_argument("--out", type=Path, help="keep the result files in this folder")
    options = parser.parse_args()
    cells = [(float(more), int(trials)) for more, _, trials in (each.partition(":") for each in options.cells)]
    models = options.models.split(",")
    with contextlib.ExitStack() as stack:
        folder = options.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        if options.load:
            stack.enter_context(busy_core())
        files = []
        for process in tqdm(range(options.processes), desc="processes", unit="process"):
            asked = {"model": models[process % len(models)], "cells": cells}
            files.append(run_process(folder / f"{'load' if options.load else 'idle'}-{process}.json", asked, options))
        print(report([json.loads(file.read_text(encoding="utf-8")) for file in files]))
    return 0


def run_process(file: Path, asked: dict[str, Any], options: argparse.Namespace) -> Path:
    """One fresh process of pytest; its result file."""
    command = [sys.executable, "-m", "pytest", __file__, f"--benchmark-json={file}", "-q", "-p", "no:cacheprovider"]
    if options.in_turns:
        command += ["-k", "in_turns"]
    command += [f"--{name}={value}" for name in ("threads", "time-per-cell") if (value := _given(options, name))]
    environment = os.environ | {"MEASUREMENT": json.dumps(asked)}
    root = Path(__file__).parent.parent
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603  # our own file
    if done.returncode:
        sys.exit(f"error: a process failed:\n{done.stdout}{done.stderr}")
    return file


def _given(options: argparse.Namespace, name: str) -> object:
    return getattr(options, name.replace("-", "_"))


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    """A process that computes all the time, on the last core where the system lets it be placed; it ends with us."""
    code = "import os\nif hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})\n"
    code += f"import numpy\na = numpy.ones((300, 300))\nwhile os.getppid() == {os.getpid()}: a @ a"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as running:  # noqa: S603  # the code above
        try:
            yield
        finally:
            running.kill()


def report(runs: list[dict[str, Any]]) -> str:
    """How often each way gave each verdict, and what the duet's own numbers were."""
    said: dict[tuple[float, str], Counter[str]] = {}
    shown: dict[float, list[dict[str, float]]] = {}
    for run in runs:
        for more, way, verdict in verdicts(run["benchmarks"]):
            said.setdefault((more, way), Counter())[verdict] += 1
        for entry in run["benchmarks"]:
            if "ratio" in (found := entry["extra_info"]["measurement"]):
                shown.setdefault(found["more"], []).append(found)
    rows = [
        [f"{more:+.0%}", WAYS[way], counts.total(), *(counts[verdict] for verdict in LATENCY_VERDICTS)]
        for (more, way), counts in sorted(said.items(), key=lambda item: (item[0][0], list(WAYS).index(item[0][1])))
    ]
    own = [
        [
            f"{more:+.0%}",
            len(found),
            f"{statistics.median(each['ratio'] for each in found):.3f}",
            *(usual_and_worst([each[name] for each in found], worst) for name, worst in WORST.items()),
        ]
        for more, found in sorted(shown.items())
    ]
    return "\n\n".join(
        [
            tabulate(rows, ["work", "measured", "cells", *LATENCY_VERDICTS]),
            tabulate(own, ["work", "cells", "median ratio", "noise floor", "half-width", "time inside the models"]),
        ]
    )


def usual_and_worst(values: list[float], worst: Callable[[list[float]], float]) -> str:
    """`0.014 (to 0.056)`: the median, and the worst of all."""
    return f"{statistics.median(values):.3f} (to {worst(values):.3f})"


def verdicts(entries: list[dict[str, Any]]) -> Iterator[tuple[float, str, str]]:
    """(more work, way, verdict) of each cell of a process."""
    arms: dict[tuple[float, int], dict[str, dict[str, float]]] = {}
    for entry in entries:
        found = entry["extra_info"]["measurement"]
        if "verdict" in found:
            yield found["more"], "in turns", found["verdict"]
        else:
            arms.setdefault((found["more"], found["trial"]), {})[found["arm"]] = entry["stats"]
    for (more, _), stats in arms.items():
        for stat in ("median", "mean", "min"):
            times = stats["copy"][stat] / stats["dense"][stat]
            alone = ratio.Ratio(times, times, times, blocks=1, scatter=0.0)  # one number has no interval
            yield more, stat, ratio.judge(alone, noise_floor=0.0).verdict


if __name__ == "__main__":
    sys.exit(main())
