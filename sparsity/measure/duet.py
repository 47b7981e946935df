"""The alternating block duet: two callables timed in turns, so that whatever the machine does meets both.

A block is two calls of one arm and then two of the other. Which arm begins is balanced over the blocks
and shuffled, because a fixed order favours one arm; the first call after each switch is not counted,
because it pays for the other arm's traces in the caches. A pilot, thrown away, fixes how many blocks there
are, so that the number does not depend on what they show.

Blocks are short because the noise of shared machines is: a model of a few milliseconds scatters by 4 %
from one switch to the next, and by as much whether one call or eight stand between two switches, so it is
the number of switches that narrows the interval.

Duets: Bulej, Horký, Tůma, Farquet, Prokopec: Duet Benchmarking, ICPE 2020 (arXiv 2001.05811). Random
interleaving: Abedi, Brecht: Conducting Repeatable Experiments in Highly Variable Cloud Computing
Environments, ICPE 2017.

Knows callables, nothing of pruning. Each must return only when its work is done.
"""

from __future__ import annotations

import contextlib
import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sparsity.measure import ratio

Call = Callable[[], object]

WARM_CALLS, WARM_SECONDS = 3, 0.05
"""The least of both, for each arm, before anything counts: allocator, caches, threads, kernel choices."""
PILOT_BLOCKS = 8
BLOCK_CALLS = 2
"""Counted calls of an arm in a block, where the budget allows them."""
SHORTEST_BLOCK = 4
"""Calls in the shortest block: of each arm one that counts, and one after the switch."""
FEWEST, MOST = 32, 400
"""Blocks, where the budget allows them."""
CAUTION = 1.5
"""By which the scatter of so small a pilot is multiplied: it often shows too little."""
TICK = 1e-9
"""No call takes less than a tick of the clock, whatever the clock says."""
TARGET = 0.005
"""The half-width of the interval that the number of blocks aims at."""


@dataclass(frozen=True)
class Plan:
    """How a duet is played."""

    calls: int
    """Timed calls of each arm in a block."""
    reference_first: tuple[bool, ...]
    """For each block, whether the reference begins."""

    @property
    def blocks(self) -> int:
        """How many there are."""
        return len(self.reference_first)

    @property
    def rounds(self) -> int:
        """Timed calls of the subject."""
        return self.blocks * self.calls


@dataclass
class Duet:
    """A duet in play. Whoever times the subject calls `setup` before each timed call of it and `teardown` after."""

    subject: Call
    reference: Call
    plan: Plan
    at_block: Callable[[], None] | None = None
    """Called before each block, untimed."""
    counted: Callable[[Call], None] | None = None
    """Called with an arm after each counted call of it."""
    reference_seconds: list[float] = field(default_factory=list)
    """Of each timed call, block by block."""
    uncounted_seconds: float = 0.0
    """Spent inside the two callables without being counted: first calls after a switch."""
    round: int = 0
    last: Call | None = None
    """The arm that was called last."""

    def setup(self) -> None:
        """Before a timed call of the subject: at the start of a block, whatever stands before it."""
        block, call = divmod(self.round, self.plan.calls)
        if call or block >= self.plan.blocks:
            return
        if self.at_block is not None:
            self.at_block()
        if self.plan.reference_first[block]:
            self._play_reference()
        self._turn_to(self.subject)

    def teardown(self) -> None:
        """After a timed call of the subject: at the end of a block, the reference where it comes second."""
        block, call = divmod(self.round, self.plan.calls)
        self.round += 1
        if self.counted is not None:
            self.counted(self.subject)
        if call == self.plan.calls - 1 and block < self.plan.blocks and not self.plan.reference_first[block]:
            self._play_reference()

    def _turn_to(self, arm: Call) -> None:
        """A call that is not counted, unless the arm was called last already."""
        if self.last is not arm:
            self.uncounted_seconds += seconds(arm)
            self.last = arm

    def _play_reference(self) -> None:
        self._turn_to(self.reference)
        for _ in range(self.plan.calls):
            self.reference_seconds.append(seconds(self.reference))
            if self.counted is not None:
                self.counted(self.reference)

    def inside(self, own: Sequence[float]) -> float:
        """Seconds spent inside the two callables; `own` are those of the subject's timed calls."""
        return sum(own) + sum(self.reference_seconds) + self.uncounted_seconds


def seconds(function: Call) -> float:
    """What one call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def play(duet: Duet) -> list[float]:
    """Plays a duet without a benchmark fixture; the seconds of each timed call of the subject."""
    times = []
    for _ in range(duet.plan.rounds):
        duet.setup()
        times.append(seconds(duet.subject))
        duet.teardown()
    return times


def block_logarithms(
    subject: Sequence[float], reference: Sequence[float], calls: int, of: Callable[[Sequence[float]], float] = min
) -> list[float]:
    """log(subject / reference) of each block, by the fastest of its calls or whatever `of` makes of them.

    The fastest call is the one that was disturbed least: another process that takes the core for a
    time slice makes a call longer by several times its length, and never shorter.
    """
    starts = range(0, len(subject), calls)
    blocks = ((of(subject[i : i + calls]), of(reference[i : i + calls])) for i in starts)
    return [math.log(max(own, TICK) / max(other, TICK)) for own, other in blocks]


def prepare(subject: Call, reference: Call, budget: float, seed: int = 0) -> tuple[Plan, float]:
    """Warms both arms, plays a pilot, and plans the rest so that all of it takes `budget` seconds.

    At least `ratio.LEAST_BLOCKS` blocks of one call are planned, even where they take longer; where the pilot alone
    would take the budget, as of models of a second a call, so many are planned without it. Returns the plan, and the
    seconds that were spent inside the two callables.
    """
    started = time.perf_counter()
    per_call = max(warm_up(subject), warm_up(reference), 1e-6)
    warmed = time.perf_counter() - started
    if SHORTEST_BLOCK * per_call * PILOT_BLOCKS >= budget - warmed:
        return order(ratio.LEAST_BLOCKS, 1, seed), warmed
    calls = _calls_of_a_block(per_call, budget - warmed, PILOT_BLOCKS + FEWEST)
    pilot = Duet(subject, reference, order(PILOT_BLOCKS, calls, seed + 1))
    own = play(pilot)
    spent = time.perf_counter() - started
    scatter = ratio.scatter(block_logarithms(own, pilot.reference_seconds, calls))
    wanted = min(max(math.ceil((ratio.MEDIAN_ERROR * CAUTION * scatter / TARGET) ** 2), FEWEST), MOST)
    affordable = int((budget - spent) / ((spent - warmed) / PILOT_BLOCKS))
    plan = order(max(min(wanted, affordable), ratio.LEAST_BLOCKS), calls, seed)
    return plan, warmed + pilot.inside(own)


def order(blocks: int, calls: int, seed: int = 0) -> Plan:
    """A plan whose blocks, made even, begin with either arm equally often, in shuffled order."""
    half = math.ceil(blocks / 2)
    reference_first = [True, False] * half
    random.Random(seed).shuffle(reference_first)
    return Plan(calls, tuple(reference_first))


def order_effect(logarithms: Sequence[float], plan: Plan) -> float:
    """Median of the blocks that the reference began, less that of the others; 0 where the order does not matter."""
    by_order: dict[bool, list[float]] = {True: [], False: []}
    for first, value in zip(plan.reference_first, logarithms, strict=True):
        by_order[first].append(value)
    return statistics.median(by_order[True]) - statistics.median(by_order[False])


def warm_up(function: Call) -> float:
    """Call the function until it is warm; returns the seconds of its last call."""
    started = time.perf_counter()
    calls = 0
    while True:
        before = time.perf_counter()
        function()
        calls += 1
        now = time.perf_counter()
        if calls >= WARM_CALLS and now - started >= WARM_SECONDS:
            return now - before


def _calls_of_a_block(per_call: float, budget: float, blocks: int) -> int:
    """Counted calls of an arm in a block: two, or one where `blocks` blocks in the budget leave no room for two."""
    room = int(budget / (2 * per_call * blocks)) - 1  # the first call after each switch is not counted
    return max(1, min(BLOCK_CALLS, room))


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """A collection in the middle of a call would be timed with it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
