"""Is a cell lost, or measured twice, when workers, nodes and the run itself are lost under a sweep on a cluster?

    python -m benchmarks.faults --faults 20 --out faults -- --profile smoke --threads 1 -k metric

What follows `--` goes to `pytest benchmarks`. The same cells are measured three times: by a plain run, by `--ray` on
three nodes that Ray's own cluster utility simulates on this machine, and by such a sweep under faults at random
moments: a worker killed, its pytest process killed (as a system out of memory does), that process stopped (as a file
system that stalls does), a node removed and another added, the run itself killed and gone on with by `--resume`. Each
file must have every cell of the plain run once, equal in every number that is not a time. Exit status 0 only then.

Not among the benchmarks: it measures the suite, not a model. Needs Ray, and a system with SIGKILL.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil
from tabulate import tabulate
from tqdm import tqdm

from benchmarks.alternate import empty, positive, split
from benchmarks.equality import Beside, beside
from benchmarks.kills import command, done_in
from reports.command import Parser, guarded
from sparsity.errors import Refused

NODES = 3
WORKER, CHILD = "ray::serve", "sparsity.pytest_ray_worker"
"""By what the processes of a sweep are known among all of the machine."""
TIMEOUT = 60
"""Seconds of a cell under faults: a process that was stopped must be missed soon."""
DECK = {"worker killed": 6, "process killed": 6, "process stopped": 1, "node lost": 4, "run killed": 3}
"""How often each kind comes among twenty."""
PAUSE = (2.0, 12.0)
"""Seconds between two faults: a worker needs some to begin anything."""


@dataclass
class Cluster:
    """Nodes on this machine, by Ray's own utility."""

    nodes: list[Any] = field(default_factory=list)
    whole: Any = None

    def start(self) -> str:
        """Its address."""
        from ray.cluster_utils import Cluster as Simulated

        # The node that keeps the cluster together has no cores: it is never lost.
        self.whole = Simulated(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.nodes = [self.whole.add_node(num_cpus=1) for _ in range(NODES)]
        return str(self.whole.address)

    def lose(self, chance: random.Random) -> None:
        """One node goes, without a word, and another comes."""
        node = self.nodes.pop(chance.randrange(len(self.nodes)))
        self.whole.remove_node(node, allow_graceful=False)
        self.nodes.append(self.whole.add_node(num_cpus=1))


@contextmanager
def cluster() -> Iterator[tuple[Cluster, str]]:
    """A cluster, while it is needed. Raises `Refused` where Ray is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    found = Cluster()
    try:
        yield found, found.start()
    except ImportError:
        raise Refused("faults need Ray; pip install 'sparsity-bench[cluster]'") from None
    finally:
        if found.whole is not None:
            found.whole.shutdown()


def processes(words: str) -> list[psutil.Process]:
    """Those whose command line has the words."""
    found = []
    for process in psutil.process_iter():
        try:
            if words in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:  # it has just ended
            continue
    return found


def _signalled(words: str, number: int, chance: random.Random) -> bool:
    found = processes(words)
    if not found:
        return False
    try:
        chance.choice(found).send_signal(number)
    except psutil.Error:
        return False
    return True


@dataclass
class Sweep:
    """A run on the cluster, under faults."""

    file: Path
    given: Sequence[str]
    nodes: Cluster
    chance: random.Random
    run: subprocess.Popen[bytes] | None = None
    faults: Counter[str] = field(default_factory=Counter)
    deck: list[str] = field(default_factory=list)
    """Kinds that are still to come before all come again."""
    done: Counter[str] = field(default_factory=Counter)
    """How often each test stood in the journal as done, at each fault."""

    def through(self, faults: int) -> None:
        """Runs to the end, with so many faults on the way."""
        with self.file.with_suffix(".log").open("ab") as log, tqdm(total=faults, desc="faults", unit="fault") as bar:
            self._begin(log)
            while self.running():
                self._wait(self.chance.uniform(*PAUSE))
                if self.running() and bar.n < faults:
                    bar.update(self._fault(log))

    def running(self) -> bool:
        """Whether it has not ended by itself."""
        return self.run is not None and self.run.poll() is None

    def _begin(self, log: IO[bytes]) -> None:
        words = [*command(self.file, self.given), "--resume"]
        self.run = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)  # noqa: S603  # our own words

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self.running() and time.monotonic() < until:
            time.sleep(0.1)

    def _fault(self, log: IO[bytes]) -> bool:
        kinds: dict[str, Callable[[], bool]] = {
            "worker killed": lambda: _signalled(WORKER, signal.SIGKILL, self.chance),
            "process killed": lambda: _signalled(CHILD, signal.SIGKILL, self.chance),
            "process stopped": lambda: _signalled(CHILD, signal.SIGSTOP, self.chance),
            "node lost": self._lose,
            "run killed": lambda: self._kill(log),
        }
        if not self.deck:
            self.deck = [kind for kind, count in DECK.items() for _ in range(count)]
            self.chance.shuffle(self.deck)
        if not kinds[kind := self.deck[-1]]():
            return False
        self.deck.pop()
        self.faults[kind] += 1
        self.done |= done_in(self.file)
        return True

    def _lose(self) -> bool:
        self.nodes.lose(self.chance)
        return True

    def _kill(self, log: IO[bytes]) -> bool:
        assert self.run is not None  # it runs
        os.killpg(self.run.pid, signal.SIGKILL)
        self.run.wait()
        self._begin(log)
        return True


def report(rows: Sequence[tuple[str, Beside, str]]) -> str:
    """The table."""
    headers = ("run", "cells", "lost", "doubled", "fields equal", "fields different", "nodes", "faults")
    body = [
        [name, found.cells, len(found.lost), len(found.doubled), found.equal, len(found.different), found.nodes, faults]
        for name, found, faults in rows
    ]
    told = [f"{name}: {line}" for name, found, _ in rows for line in (*found.lost, *found.doubled, *found.different)]
    return "\n".join([tabulate(body, headers, disable_numparse=True), *told[:20]])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs thrice and prints the table; 0 where all are equal, 1 where not, 2 after an error line."""
    own, given = split(arguments)
    options = _parser().parse_args(own)

    def all_of_it() -> int:
        empty(options.out)
        plain, clean, faulty = (options.out / f"{name}.json" for name in ("plain", "cluster", "faults"))
        with plain.with_suffix(".log").open("ab") as log:
            subprocess.run(command(plain, given), stdout=log, stderr=log, check=False)  # noqa: S603  # our own words
        with cluster() as (nodes, address):
            on_it = [*given, f"--ray={address}"]
            with clean.with_suffix(".log").open("ab") as log:
                subprocess.run(command(clean, on_it), stdout=log, stderr=log, check=False)  # noqa: S603  # our own words
            rows = [("cluster", beside(plain, clean), "none")]
            sweep = Sweep(faulty, [*on_it, f"--cell-timeout={TIMEOUT}"], nodes, random.Random(options.seed))
            sweep.through(options.faults)
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(sweep.faults.items()))
        rows.append(("under faults", beside(plain, faulty, sweep.done), told or "none"))
        print(report(rows))
        if (came := sweep.faults.total()) < options.faults:
            print(f"The sweep ended after {came} of {options.faults} faults; more cells take more.")
        return int(not all(found.fine for _, found, _ in rows) or came < options.faults)

    return guarded(all_of_it)


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.faults", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--faults", type=positive, default=20, help="how many (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and kinds (0)")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="an empty folder for files and logs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
