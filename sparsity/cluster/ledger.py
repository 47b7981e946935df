"""What of a sweep is still to do, and what becomes of tests whose process, machine or memory was lost.

Pure: it knows names of tests, and nothing of Ray or pytest. Tests that belong together (one model, pruned one way)
are a `Group`; a group whose worker dies is sent again without the tests that are done. A test that was running when
its worker died has died once; one that died `TRIES` times is given up.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace

TRIES = 3
"""A test whose worker ended so often, or a group that could not be begun so often, is given up."""
MOVES = 10
"""A test that so many machines were lost under is given up too: it may be what they were lost by."""


@dataclass(frozen=True)
class Group:
    """Tests that one worker runs, one after the other."""

    tests: tuple[str, ...]
    timed: bool
    """Whether it has its machine to itself."""
    not_begun: int = 0
    """How often its worker was lost before it had begun anything."""


def grouped(tests: Iterable[tuple[str, Hashable, bool]]) -> list[Group]:
    """Groups out of (test, what it shares with others, whether it is timed), in the order in which each first comes."""
    found: dict[tuple[Hashable, bool], list[str]] = {}
    for test, key, timed in tests:
        found.setdefault((key, timed), []).append(test)
    return [Group(tuple(members), timed) for (_, timed), members in found.items()]


@dataclass(frozen=True)
class GivenUp:
    """A test that will not be tried again, and why."""

    test: str
    reason: str


@dataclass
class Job:
    """A group that was sent to a worker."""

    group: Group
    running: str | None = None
    """The test that has begun and is not done."""
    done: set[str] = field(default_factory=set)

    def begun(self, test: str) -> None:
        """A test begins."""
        self.running = test

    def ended(self, test: str) -> None:
        """A test is over, however it went."""
        self.done.add(test)
        self.running = None

    @property
    def left(self) -> tuple[str, ...]:
        """Tests that are not done, in order."""
        return tuple(test for test in self.group.tests if test not in self.done)


@dataclass
class Ledger:
    """Groups that wait, those that time first: while they last, nothing else is begun beside them."""

    groups: Iterable[Group]
    died: Mapping[str, int]
    """How often each test's worker had ended in an earlier run of the same journal."""
    deaths: Counter[str] = field(init=False)
    moves: Counter[str] = field(default_factory=Counter)
    timed: deque[Group] = field(default_factory=deque)
    others: deque[Group] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.deaths = Counter(self.died)
        for group in self.groups:
            self._wait(group)

    def _wait(self, group: Group, first: bool = False) -> None:
        queue = self.timed if group.timed else self.others
        (queue.appendleft if first else queue.append)(group)

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self.timed or self.others)

    def refused(self) -> list[GivenUp]:
        """Tests that had died often enough before this run began; they are taken out of their groups."""
        bad = {test: count for test, count in self.deaths.items() if count >= TRIES}
        for queue in (self.timed, self.others):
            for group in [queue.popleft() for _ in range(len(queue))]:
                if rest := tuple(test for test in group.tests if test not in bad):
                    queue.append(replace(group, tests=rest))
        why = "its worker ended in it {} times; it is not tried again"
        return [GivenUp(test, why.format(count)) for test, count in bad.items()]

    def lost(self, job: Job, reason: str, blame: bool = True) -> list[GivenUp]:
        """The worker of a job is gone; what it has not done waits again, before all else, or is given up.

        Args:
            job: as far as it had come.
            reason: one line.
            blame: whether what was running is the likely cause; not where the whole machine went.
        """
        left = job.left
        if job.running is None:
            times = job.group.not_begun + (blame and not job.done)
            if times >= TRIES:
                return [GivenUp(test, f"{reason}; it could not be begun {times} times") for test in left]
            self._requeue(job.group, left, times)
            return []
        counter, most = (self.deaths, TRIES) if blame else (self.moves, MOVES)
        counter[job.running] += 1
        if counter[job.running] < most:
            self._requeue(job.group, left, 0)
            return []
        self._requeue(job.group, tuple(test for test in left if test != job.running), 0)
        return [GivenUp(job.running, f"{reason}; so it went {counter[job.running]} times")]

    def _requeue(self, group: Group, left: tuple[str, ...], not_begun: int) -> None:
        if left:
            self._wait(Group(left, group.timed, not_begun), first=True)


TOGETHER = ("model", "task", "method", "pattern", "scope", "seed")
"""Axes by which the tests of one file stay together: a model with one head, pruned one way, to any sparsity."""
